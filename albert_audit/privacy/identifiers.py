"""Secrets that look like personal data and belong to nobody.

A canary is put into training data and may come out of a model, so what it holds must not be anybody's
number. Each kind says why its secrets cannot be, and `Identifier.validates` proves it for one secret
without knowing how it was made. Names are the exception, see `Identifier.nobody`.

Numbers alone are often few: 100 fictitious numbers to an American area code. Telephone numbers
therefore carry an extension, without which their space would be too small to rank anything in.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

import numpy as np
import yaml

from albert_audit.types import UsageError

SMALLEST_SPACE = 10**5
"""Secrets of a kind, at least: with fewer, references run out and a secret is guessed by chance."""

# Geographic codes; toll-free ones have a single fictitious number each.
_US_AREAS = [
    "202", "212", "213", "214", "215", "216", "303", "305", "312", "313", "314", "315", "402", "404",
    "405", "406", "407", "408", "412", "414", "415", "501", "502", "503", "504", "505", "512", "513",
    "515", "601", "602", "603", "605", "608", "612", "614", "615", "616", "617", "701", "702", "703",
    "704", "713", "716", "717", "718", "801", "802", "803", "804", "808", "816", "817", "901", "904",
    "907", "913", "915", "916", "918",
]  # fmt: skip
# Ofcom, Telephone numbers for use in TV and radio drama programmes: the last three digits are free.
_UK_RANGES = (
    "0113 496 0", "0114 496 0", "0115 496 0", "0116 496 0", "0117 496 0", "0118 496 0", "0121 496 0",
    "0131 496 0", "0141 496 0", "0151 496 0", "0161 496 0", "0191 498 0", "020 7946 0", "029 2018 0",
    "01632 960", "07700 900",
)  # fmt: skip
_CN_PREFIXES = ("154", "164")
_MAIL_HOSTS = ("example.com", "example.net", "example.org")
# First two digits of an address code that GB/T 2260 gives to no province; none begins with 9, which
# the permanent residence cards of foreigners do.
_NO_PROVINCE = (
    *range(16, 21), *range(24, 31), *range(38, 41), *range(47, 50), *range(55, 61), *range(66, 71), *range(72, 81),
)  # fmt: skip
_RIC_WEIGHTS = (7, 9, 10, 5, 8, 4, 2, 1, 6, 3, 7, 9, 10, 5, 8, 4, 2)  # GB 11643-1999
_RIC_CHECKS = "10X98765432"
_EXTENSION = 10**4


@dataclass(frozen=True)
class Identifier:
    """A kind of secret.

    Attributes
    ----------
    name : str
    language : str
        ``en`` or ``zh``; empty where it serves any language.
    why : str
        Why a secret of this kind is nobody's, with the source.
    space : int
        How many secrets there are; each is equally likely.
    generate : callable
        ``generate(rng) -> str``, determined by the generator's state alone.
    validates : callable
        ``validates(secret) -> bool``: whether it is proven to be invalid or reserved.
    nobody : bool
        False for names: somebody may bear one, whatever is combined. They are used only when asked for.
    """

    name: str
    language: str
    why: str
    space: int
    generate: Callable[[np.random.Generator], str]
    validates: Callable[[str], bool]
    nobody: bool = True


@cache
def materials() -> dict[str, Any]:
    """Return the word lists and templates of ``canaries.yaml``."""
    text = files(__package__).joinpath("canaries.yaml").read_text(encoding="utf-8")
    loaded: dict[str, Any] = yaml.safe_load(text)
    return loaded


def identifier(name: str) -> Identifier:
    """Return the kind of that name.

    Raises
    ------
    UsageError
        When there is none.
    """
    found = identifiers().get(name)
    if found is None:
        raise UsageError(f"there is no identifier {name!r}", f"there are {', '.join(identifiers())}")
    return found


@cache
def identifiers() -> dict[str, Identifier]:
    """Return every kind by its name."""
    data = materials()
    en, zh, parts = data["words"]["en"], data["words"]["zh"], data["syllables"]
    given, surnames = data["given"], data["surnames_zh"]
    kinds = (
        Identifier(
            "us-phone", "en",
            "555-0100 to 555-0199 are set aside for fiction in every geographic area code (North American "
            "Numbering Plan Administration, 555 line number assignment guidelines)",
            len(_US_AREAS) * 100 * _EXTENSION, _us_phone, _is_us_fiction,
        ),
        Identifier(
            "uk-phone", "en",
            "Ofcom sets these ranges aside for television and radio drama and allocates none of them",
            len(_UK_RANGES) * 1000 * _EXTENSION, _uk_phone, _is_uk_fiction,
        ),
        Identifier(
            "cn-phone", "zh",
            "no operator has been given these prefixes, by the numbering data of phonenumbers; they could be "
            "given out in later years",
            len(_CN_PREFIXES) * 10**8, _cn_phone, _is_cn_unassigned,
        ),
        Identifier(
            "email", "",
            "example.com, example.net and example.org take no mail (RFC 2606, section 3)",
            len(parts) ** 3 * 1000 * len(_MAIL_HOSTS), lambda rng: _mail(rng, parts), _is_example_mail,
        ),
        Identifier(
            "us-ssn", "en",
            "the area number 000 is never given out (Social Security Administration, SSN randomization). The other "
            "impossible ones are not used: taxpayer numbers of real persons (ITIN) begin with 9, and 66 begins "
            "employers' numbers (EIN)",
            99 * 9999, _us_ssn, _is_no_ssn,
        ),
        Identifier(
            "cn-resident-id", "zh",
            "three reasons, each enough: no province has the address code (GB/T 2260), the date of birth has a "
            "13th or later month and a 32nd or later day, and the check character is wrong (GB 11643-1999)",
            len(_NO_PROVINCE) * 10**4 * 70 * 87 * 68 * 10**3 * 10, _cn_resident, _is_no_resident,
        ),
        Identifier(
            "pin", "", "eight random digits, which by themselves point to nobody",
            10**8, lambda rng: _digits(rng, 8), lambda s: re.fullmatch(r"\d{8}", s) is not None,
        ),
        Identifier(
            "words-en", "en", "three random words, which point to nobody",
            len(en) ** 3, lambda rng: " ".join(_some(rng, en, 3)), lambda s: _all_in(s.split(" "), en, 3),
        ),
        Identifier(
            "words-zh", "zh", "four random characters, which point to nobody",
            len(zh) ** 4, lambda rng: "".join(_some(rng, zh, 4)), lambda s: _all_in(list(s), zh, 4),
        ),
        Identifier(
            "name-en", "en",
            "the surname is made of random syllables; that nobody bears it cannot be proven",
            len(given["en"]) * len(parts) ** 3, lambda rng: _name(rng, given["en"], parts), lambda _: False,
            nobody=False,
        ),
        Identifier(
            "name-zh", "zh",
            "two surnames and two characters of given names, put together at random; that nobody bears it "
            "cannot be proven",
            len(surnames) ** 2 * len(given["zh"]) ** 2,
            lambda rng: "".join((*_some(rng, surnames, 2), *_some(rng, given["zh"], 2))), lambda _: False,
            nobody=False,
        ),
    )  # fmt: skip
    return {kind.name: kind for kind in kinds}


# --- drawing --------------------------------------------------------------------------------


def _digits(rng: np.random.Generator, count: int) -> str:
    return f"{int(rng.integers(10**count)):0{count}d}"


def _some(rng: np.random.Generator, among: list[str], count: int) -> list[str]:
    return [among[int(i)] for i in rng.integers(len(among), size=count)]


def _us_phone(rng: np.random.Generator) -> str:
    return f"{_some(rng, _US_AREAS, 1)[0]}-555-01{_digits(rng, 2)} ext. {_digits(rng, 4)}"


def _uk_phone(rng: np.random.Generator) -> str:
    return f"{_some(rng, list(_UK_RANGES), 1)[0]}{_digits(rng, 3)} ext. {_digits(rng, 4)}"


def _cn_phone(rng: np.random.Generator) -> str:
    return _some(rng, list(_CN_PREFIXES), 1)[0] + _digits(rng, 8)


def _mail(rng: np.random.Generator, parts: list[str]) -> str:
    host = _some(rng, list(_MAIL_HOSTS), 1)[0]
    return f"{''.join(_some(rng, parts, 3))}{_digits(rng, 3)}@{host}"


def _us_ssn(rng: np.random.Generator) -> str:
    return f"000-{int(rng.integers(1, 100)):02d}-{int(rng.integers(1, 10000)):04d}"


def _ric_check(number: str) -> str:
    """Return the right check character of the first 17 digits (ISO 7064, MOD 11-2)."""
    return _RIC_CHECKS[sum(int(d) * w for d, w in zip(number, _RIC_WEIGHTS, strict=False)) % 11]


def _cn_resident(rng: np.random.Generator) -> str:
    province = _NO_PROVINCE[int(rng.integers(len(_NO_PROVINCE)))]
    year, month, day = rng.integers(1940, 2010), rng.integers(13, 100), rng.integers(32, 100)
    body = f"{province}{_digits(rng, 4)}{int(year)}{int(month)}{int(day)}{_digits(rng, 3)}"
    wrong = [c for c in "0123456789X" if c != _ric_check(body)]
    return body + wrong[int(rng.integers(10))]


def _name(rng: np.random.Generator, given: list[str], parts: list[str]) -> str:
    return f"{_some(rng, given, 1)[0]} {''.join(_some(rng, parts, 3)).capitalize()}"


# --- proving --------------------------------------------------------------------------------


def _national(secret: str, region: str) -> str:
    """Return the national number of what is a telephone number, or nothing."""
    import phonenumbers

    try:
        return str(phonenumbers.parse(secret, region).national_number)
    except phonenumbers.NumberParseException:
        return ""


def _is_us_fiction(secret: str) -> bool:
    return re.fullmatch(r"[2-9](?!00|22|33|44|55|66|77|88)\d\d55501\d\d", _national(secret, "US")) is not None


def _is_uk_fiction(secret: str) -> bool:
    ranges = [r.replace(" ", "").removeprefix("0") for r in _UK_RANGES]
    number = _national(secret, "GB")
    return any(number.startswith(r) and len(number) == len(r) + 3 for r in ranges)


def _is_cn_unassigned(secret: str) -> bool:
    import phonenumbers

    number = _national(secret, "CN")
    return (
        re.fullmatch(r"1[3-9]\d{9}", number) is not None  # not a number with a short service code in front
        and not phonenumbers.is_valid_number(phonenumbers.parse(secret, "CN"))
    )


def _is_example_mail(secret: str) -> bool:
    return re.fullmatch(r"[a-z0-9.]+@example\.(com|net|org)", secret.lower()) is not None


def _is_no_ssn(secret: str) -> bool:
    from stdnum.us import ein, itin, ssn

    if re.fullmatch(r"\d{3}-\d{2}-\d{4}", secret) is None or secret.startswith("9"):
        return False
    bare = secret.replace("-", "")
    return not (ssn.is_valid(bare) or itin.is_valid(bare) or ein.is_valid(bare))


def _is_no_resident(secret: str) -> bool:
    from stdnum import numdb
    from stdnum.cn import ric

    if re.fullmatch(r"\d{17}[\dX]", secret) is None:
        return False
    place = numdb.get("cn/loc").info(secret[:6])
    known = any(properties for _, properties in place)
    month, day = int(secret[10:12]), int(secret[12:14])
    wrong = ric.calc_check_digit(secret) != secret[-1]
    return not known and not 1 <= month <= 12 and not 1 <= day <= 31 and wrong


def _all_in(found: list[str], among: list[str], count: int) -> bool:
    return len(found) == count and set(found) <= set(among)
