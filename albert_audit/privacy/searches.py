"""How each kind of personal data is looked for, in text that has been folded.

A search yields (start, end, score, valid). It is written for text as people write it and as a
tokenizer leaves it: lower case, with spaces around signs and inside numbers.
"""

from __future__ import annotations

import datetime
import functools
import ipaddress
import re
from collections.abc import Iterator

Found = tuple[int, int, float, bool | None]

_ALONE, _END = r"(?<![A-Za-z0-9])", r"(?![A-Za-z0-9])"
# Known endings only: in "example . com . we left" the last full stop is the sentence's.
_TLD = (
    r"(?:com|org|net|edu|gov|mil|int|info|biz|name|io|co|ai|me|app|dev|cn|hk|tw|uk|us|ca|au|nz|ie|de|fr|nl|"
    r"be|ch|at|it|es|pt|se|no|dk|fi|pl|cz|ru|ua|tr|il|in|jp|kr|sg|my|th|vn|id|br|mx|ar|za|ng|ke|eu)"
)
_LABEL = r"[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
_AT, _DOT = r"(?: ?@ ?| ?[\[(] ?at ?[\])] ?)", r"(?: ?\. ?| ?[\[(] ?dot ?[\])] ?)"
_EMAIL = re.compile(
    rf"(?<![A-Za-z0-9._%+'-])[A-Za-z0-9_%+'-][A-Za-z0-9._%+'-]{{0,63}}@(?:{_LABEL}\.){{1,4}}[A-Za-z]{{2,24}}{_END}"
)
_EMAIL_SPACED = re.compile(
    # Possessive, and never begun inside: a long row of underscores would take cubic time.
    rf"(?<![A-Za-z0-9_%+'-])[A-Za-z0-9_%+'-]{{1,64}}+(?: ?[._+-] ?[A-Za-z0-9_]{{1,64}}+){{0,2}}{_AT}"
    rf"{_LABEL}(?:{_DOT}{_LABEL}){{0,3}}{_DOT}{_TLD}{_END}",
    re.IGNORECASE,
)
_USER_IN_URL = re.compile(r"\b[A-Za-z][A-Za-z0-9+.-]{1,9}://[^\s/@]+@[^\s/]+")
_PROFILE = re.compile(
    rf"{_ALONE}(?:twitter|x|facebook|instagram|linkedin|github|weibo|tiktok|reddit|t) ?\. ?(?:com|me) ?/ ?"
    r"(?:(?:in|u|user) ?/ ?)?@?[A-Za-z0-9_][\w.-]+",
    re.IGNORECASE,
)

_MANY_DIGITS = re.compile(r"\d(?:[^A-Za-z0-9\u3400-\u9fff]{0,4}\d){6}")
_NUMBER = re.compile(rf"{_ALONE}\d(?:[ -]?\d){{5,18}}{_END}")
_SSN = re.compile(rf"{_ALONE}(?<!\d[ -])\d{{3}}( ?- ?| )\d{{2}}\1\d{{4}}{_END}(?! ?-? ?\d)")
_NINE = re.compile(rf"{_ALONE}\d{{9}}{_END}")
_LONG = re.compile(rf"{_ALONE}(?<!\d\.)\d(?:(?: ?- ?| )?\d){{12,}}{_END}")
_CARD = re.compile(
    r"4(?:\d{12}|\d{15}|\d{18})|5[1-5]\d{14}|2(?:22[1-9]|2[3-9]\d|[3-6]\d\d|7[01]\d|720)\d{12}|3[47]\d{13}|"
    r"3(?:0[0-5]|[68]\d)\d{11}|6(?:011|5\d\d|4[4-9]\d)\d{12}|35(?:2[89]|[3-8]\d)\d{12}|62\d{14,17}"
)
_CARD_LAYOUTS = {(4, 4, 4, 4), (4, 6, 5), (4, 6, 4), (4, 4, 4, 4, 3), (6, 13)}
_MOST_BESIDE = 4  # groups of digits beside a card: a second card, a date, a code
_IBAN = re.compile(rf"{_ALONE}([A-Za-z] ?[A-Za-z]) ?\d ?\d")
_RESIDENT = re.compile(rf"{_ALONE}(?:\d ?){{17}}[\dXx]{_END}")
_USCC = re.compile(
    rf"{_ALONE}[159AYay] ?[1239] ?(?:\d ?){{6}}(?:[0-9A-HJ-NPQRTUWXYa-hj-npqrtuwxy] ?){{9}}[0-9A-Za-z]{_END}"
)
_PROVINCES = {
    str(n)
    for n in (
        *range(10, 16),
        *range(21, 24),
        *range(31, 38),
        *range(41, 47),
        *range(50, 55),
        *range(61, 66),
        71,
        81,
        82,
    )
}
_IPV4 = re.compile(r"(?<![A-Za-z0-9.])(?:\d{1,3} ?\. ?){3}\d{1,3}(?![A-Za-z0-9])(?! ?\. ?\d)")
_IPV6 = re.compile(r"(?<![A-Za-z0-9:])(?:[0-9A-Fa-f]{0,4}:){2,7}[0-9A-Fa-f]{0,4}(?![A-Za-z0-9:])")

_MONTHS = ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"]
_MONTH = r"(?P<m>jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec)[a-z]* ?\.?"
_DATES = tuple(
    re.compile(rf"{_ALONE}{p}{_END}", re.IGNORECASE)
    for p in (
        r"(?P<y>(?:19|20)\d\d) ?(?P<s>[-/.]) ?(?P<m>\d{1,2}) ?(?P=s) ?(?P<d>\d{1,2})",
        r"(?P<a>\d{1,2}) ?(?P<s>[-/.]) ?(?P<b>\d{1,2}) ?(?P=s) ?(?P<y>(?:19|20)\d\d)",
        rf"(?P<d>\d{{1,2}})(?: ?(?:st|nd|rd|th))?(?: of)? {_MONTH} ?,? ?(?P<y>(?:19|20)\d\d)",
        rf"{_MONTH} (?P<d>\d{{1,2}})(?: ?(?:st|nd|rd|th))? ?,? ?(?P<y>(?:19|20)\d\d)",
        r"(?P<y>(?:19|20)\d\d) ?年 ?(?P<m>\d{1,2}) ?月 ?(?P<d>\d{1,2}) ?[日号]",
    )
)
_STREET = re.compile(
    rf"{_ALONE}\d{{1,5}}[A-Za-z]? (?P<name>(?:[A-Za-z][A-Za-z'-]* ){{1,3}}?)(?P<type>street|st|avenue|ave|road|rd|lane|ln|"
    r"drive|dr|boulevard|blvd|court|ct|crescent|terrace|close|square|way|place)(?![A-Za-z])",
    re.IGNORECASE,
)
_US_LINE = re.compile(
    rf"{_ALONE}\d{{1,6}} [A-Za-z][^,\n]{{2,50}} ?, ?[A-Za-z][^,\n\d]{{1,30}} ?, ?(?:a[aeklprsz]|c[aot]|d[ce]|f[lm]|g[au]|hi|i[adln]|k[sy]|"
    r"la|m[adehinopst]|n[cdehjmvy]|o[hkr]|p[arw]|ri|s[cd]|t[nx]|ut|v[ait]|w[aivy]) ?,? ?\d{5}(?:-\d{4})?(?!\d)",
    re.IGNORECASE,
)
_POSTCODE = re.compile(
    rf"{_ALONE}(?:a[bl]|b[abdhlnrst]?|c[abfhmortvw]|d[adeghlnty]|e[chnx]?|f[ky]|g[luy]?|h[adgprsux]|i[gmpv]|je|"
    r"k[atwy]|l[adelnsu]?|m[ekl]?|n[egnprw]?|o[lx]|p[aehlor]|r[ghm]|s[aegk-pr-tswy]?|t[adfnqrsw]|ub|w[acdfnrsv]?|yo|ze)"
    rf"\d[\da-z]? \d[abd-hjlnp-uw-z]{{2}}{_END}",
    re.IGNORECASE,
)
_CHINESE_ADDRESS = re.compile(
    r"(?P<town>[\u3400-\u9fff]{1,10}[省市区县镇乡] ?)?[\u3400-\u9fff]{1,8}(?:路|街|大道|巷|胡同|弄) ?(?:\d{1,5}|[A-Za-z]) ?(?:[号弄座栋幢](?!线))"
)

_PHONE_NEAR = re.compile(
    r"\b(?:tel|telephone|phone|mobile|cell|call|fax|whatsapp)\b|电话|手机|联系|致电|微信", re.I
)
_SSN_NEAR = re.compile(r"\bssn\b|social security", re.I)
_BANK_NEAR = re.compile(r"\b(?:account|acct|routing|aba|sort code)\b|a/c|账号|账户|帐号|卡号", re.I)
# No digit between: in "born in 1980, paid on 2 May 1999" the second is no birth.
_BIRTH_NEAR = re.compile(
    r"(?:\b(?:born|birth|birthday|birthdate|dob)\b|d ?\. ?o ?\. ?b|出生|生日|生于)[^\d;]*$", re.I
)
_ID_NEAR = re.compile(r"身份证|resident id", re.I)
_VERSION_NEAR = re.compile(r"(?:\bv|version|release|版本)\s*[.:]?\s*$", re.I)
_REGIONS = {"en": ("US", "GB"), "zh": ("CN",)}
_MOBILE = re.compile(r"(?:\+?86)?1[3-9]\d{9}|(?:\+?44|0)7\d{9}")


def email(text: str, _language: str) -> Iterator[Found]:
    """Yield e-mail addresses, with spaces around the signs or with (at) and (dot) too."""
    if "@" in text:
        yield from ((*m.span(), 0.95, None) for m in _EMAIL.finditer(text))
    if "@" in text or "at" in text.casefold():
        yield from ((*m.span(), 0.7, None) for m in _EMAIL_SPACED.finditer(text))


def url_user(text: str, _language: str) -> Iterator[Found]:
    """Yield addresses with a user in them, and pages of persons on a few networks."""
    if "/" in text:
        yield from ((*m.span(), 0.96, None) for m in _USER_IN_URL.finditer(text))
        yield from ((*m.span(), 0.6, None) for m in _PROFILE.finditer(text))


def phone(text: str, language: str) -> Iterator[Found]:
    """Yield numbers that the numbering plan holds, and others that the text calls a phone number."""
    if not _MANY_DIGITS.search(text):
        return
    import phonenumbers

    for region in _REGIONS.get(language, ("US", "GB", "CN")):
        for match in phonenumbers.PhoneNumberMatcher(text, region):
            raw = text[match.start : match.end]
            if _SSN.fullmatch(raw):
                continue
            if raw.startswith("+"):
                score = 0.9
            elif _near(text, match.start, _PHONE_NEAR):
                score = 0.8
            elif _MOBILE.fullmatch(re.sub(r"\D", "", raw)) or not raw.isdigit():
                score = 0.6
            else:  # any ten digits may be one; few other numbers begin with 0
                score = 0.5 if raw.startswith("0") else 0.4
            yield match.start, match.end, score, True
    for found in _NUMBER.finditer(text):
        if 7 <= _digits(found[0]) <= 15 and _near(text, found.start(), _PHONE_NEAR, 12):
            yield *found.span(), 0.5, False


def iban(text: str, _language: str) -> Iterator[Found]:
    """Yield IBANs of the length that their country has."""
    for match in _IBAN.finditer(text):
        end = _after(text, match.start(), _iban_length(re.sub(r"\W", "", match[1]).upper()))
        if not end:
            continue
        from stdnum import iban as standard

        valid = standard.is_valid(text[match.start() : end])
        yield match.start(), end, 1.0 if valid else 0.3, valid


def payment_card(text: str, _language: str) -> Iterator[Found]:
    """Yield card numbers of the known issuers, in their layout or standing alone."""
    for run in _LONG.finditer(text):
        from stdnum import luhn

        groups = [(run.start() + m.start(), run.start() + m.end()) for m in re.finditer(r"\d+", run[0])]
        for i in range(len(groups)):
            digits, sizes = "", list[int]()
            for start, end in groups[i:]:
                digits, sizes = digits + text[start:end], [*sizes, end - start]
                if len(digits) > 19:
                    break
                regular = len(sizes) == 1 or tuple(sizes) in _CARD_LAYOUTS
                whole = i == 0 and end == run.end()
                if not (regular or whole) or not _CARD.fullmatch(digits):
                    continue
                valid = luhn.is_valid(digits)
                # In a table of numbers one row in three holds a card by chance.
                alone = len(sizes) == 1 or len(groups) - len(sizes) <= _MOST_BESIDE
                score = (0.95 if regular else 0.7) if alone else 0.4
                yield groups[i][0], end, score if valid else 0.3, valid


def us_ssn(text: str, _language: str) -> Iterator[Found]:
    """Yield numbers written as a social security number is; there is no check digit."""
    for match in (*_SSN.finditer(text), *_NINE.finditer(text)):
        from stdnum.us import ssn

        called, digits = _near(text, match.start(), _SSN_NEAR), re.sub(r"\D", "", match[0])
        valid = ssn.is_valid(digits)
        if called:
            yield *match.span(), 0.85 if valid else 0.5, valid
        elif match[0] != digits:
            yield *match.span(), (0.6 if "-" in match[0] else 0.4) if valid else 0.3, valid


def cn_resident_id(text: str, _language: str) -> Iterator[Found]:
    """Yield numbers of 18 characters with a date of birth; the last is a check digit."""
    for match in _RESIDENT.finditer(text):
        from stdnum.cn import ric

        number = match[0].replace(" ", "").upper()
        if not _date(number[6:10], number[10:12], number[12:14]):
            continue
        valid = number[-1] == ric.calc_check_digit(number)
        if valid:  # lists of counties, old and new, are never complete
            yield *match.span(), 1.0 if _known_county(number) else 0.92, True
        else:
            yield *match.span(), 0.5 if _near(text, match.start(), _ID_NEAR) else 0.3, False


def cn_uscc(text: str, _language: str) -> Iterator[Found]:
    """Yield unified social credit codes: of firms, which are persons where one person trades."""
    for match in _USCC.finditer(text):
        from stdnum.cn import uscc

        number = match[0].replace(" ", "").upper()
        if number[2:4] in _PROVINCES and uscc.is_valid(number):
            yield *match.span(), 0.9, True


def ip_address(text: str, _language: str) -> Iterator[Found]:
    """Yield IPv4 and IPv6 addresses; such as are not given to anyone score low."""
    for match in (*_IPV4.finditer(text), *_IPV6.finditer(text)):
        number = match[0].replace(" ", "")
        if ":" in number and sum(map(bool, number.split(":"))) < 3:
            continue
        try:
            address = ipaddress.ip_address(number)
        except ValueError:
            continue
        version = _VERSION_NEAR.search(text[: match.start()][-12:])
        # More than a phone number has that no word names: four groups of at most 255 are rarely one.
        yield *match.span(), 0.65 if address.is_global and not version else 0.3, None


def birth_date(text: str, _language: str) -> Iterator[Found]:
    """Yield dates that the words beside them call a birth."""
    for pattern in _DATES:
        for match in pattern.finditer(text):
            if not (
                _near(text, match.start(), _BIRTH_NEAR) or re.match(r" ?(?:出生|生)", text[match.end() :][:3])
            ):
                continue
            parts = match.groupdict()
            if "a" in parts:  # day and month stand in either order
                real = _date(parts["y"], parts["a"], parts["b"]) or _date(parts["y"], parts["b"], parts["a"])
            else:
                month = parts["m"].casefold()
                real = _date(
                    parts["y"], str(_MONTHS.index(month) + 1) if month in _MONTHS else month, parts["d"]
                )
            if real:
                yield *match.span(), 0.8, None


def address(text: str, language: str) -> Iterator[Found]:
    """Yield a house number with its street, and British postcodes."""
    if language != "zh":
        yield from ((*m.span(), 0.8, None) for m in _US_LINE.finditer(text))
        for match in _STREET.finditer(text):
            capitals = all(word[0].isupper() for word in [*match["name"].split(), match["type"]])
            yield *match.span(), 0.5 if capitals else 0.3, None
        for match in _POSTCODE.finditer(text):
            # "m1 5th" is no postcode, "M1 5TH" may be one.
            ordinal = match[0][-2:] in ("st", "nd", "rd", "th")
            yield *match.span(), 0.3 if ordinal else 0.5, None
    if language != "en":
        for match in _CHINESE_ADDRESS.finditer(text):
            yield *match.span(), 0.7 if match["town"] else 0.5, None


def bank_account(text: str, _language: str) -> Iterator[Found]:
    """Yield numbers of 6 to 19 digits that the text calls an account; nothing about them is checked."""
    for match in _NUMBER.finditer(text):
        if _near(text, match.start(), _BANK_NEAR):
            yield *match.span(), 0.6, None


# --- parts ------------------------------------------------------------------------------------


def _near(text: str, start: int, words: re.Pattern[str], back: int = 24) -> bool:
    return words.search(text[max(0, start - back) : start]) is not None


def _digits(text: str) -> int:
    return sum(c.isdigit() for c in text)


def _date(year: str, month: str, day: str) -> bool:
    try:
        return 1900 <= datetime.date(int(year), int(month), int(day)).year < 2100
    except ValueError:
        return False


def _known_county(number: str) -> bool:
    from stdnum.cn import ric
    from stdnum.exceptions import ValidationError

    try:
        return bool(ric.get_birth_place(number))
    except (ValidationError, KeyError):  # stdnum 2.2 looks for the county of a province without any
        return False


@functools.cache
def _iban_length(country: str) -> int:
    """Return the length of an IBAN of a country, 0 where there are none."""
    from stdnum import numdb

    info = numdb.get("iban").info(country)[0][1]
    return 4 + sum(int(n) for n in re.findall(r"(\d+)!", info["bban"])) if info else 0


def _after(text: str, start: int, count: int) -> int:
    """Return where `count` letters and digits end that have at most one space or dash between them, else 0."""
    seen, gap = 0, False
    for at in range(start, len(text) if count else 0):
        if text[at].isascii() and text[at].isalnum():
            seen, gap = seen + 1, False
            if seen == count:
                follows = text[at + 1 : at + 2]
                return 0 if follows.isascii() and follows.isalnum() else at + 1
        elif text[at] in " -" and not gap:
            gap = True
        else:
            return 0
    return 0
