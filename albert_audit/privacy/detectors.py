"""Personal data in texts: what can be looked for, what each search finds and misses, and where it found it.

A hit holds places and no text. That nothing was found never shows that nothing is there.
"""

from __future__ import annotations

import functools
import itertools
import re
import unicodedata
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass

from albert_audit.privacy import searches
from albert_audit.privacy.searches import Found

LEAST = 0.5
"""Hits below this score are left out unless they are asked for: most are no personal data."""
NAME = "person_name"


@dataclass(frozen=True, slots=True)
class Hit:
    """One place in a text.

    Attributes
    ----------
    kind : str
        A key of `DETECTORS`.
    start, end : int
        Characters of the text as it was given.
    score : float
        From 0 to 1, set by hand: how much speaks for it. It orders hits, it is no probability.
    valid : bool or None
        Whether a check digit or the numbering plan confirms it; None where there is no such check. That
        it is valid does not show that it belongs to anyone.
    """

    kind: str
    start: int
    end: int
    score: float
    valid: bool | None


@dataclass(frozen=True, slots=True)
class Detector:
    """One kind of personal data.

    Attributes
    ----------
    finds, misses : str
        What the search can find, and what it cannot.
    check : str
        What ``valid`` rests on; empty when nothing can be checked.
    search : callable or None
        None for names, which need a list.
    """

    finds: str
    misses: str
    check: str
    search: Callable[[str, str], Iterator[Found]] | None


DETECTORS: dict[str, Detector] = {
    "email": Detector(
        "e-mail addresses, also with spaces around the signs or with (at) and (dot)",
        "addresses outside ASCII; spaced addresses with an ending that is not among the common ones",
        "",
        searches.email,
    ),
    "phone": Detector(
        "numbers of the United States, the United Kingdom and mainland China, and any with + and a country code",
        "numbers of other countries without +; local numbers without area code; bare digits no word calls a phone "
        "number score 0.4, mobile numbers excepted",
        "the numbering plan (phonenumbers)",
        searches.phone,
    ),
    "iban": Detector(
        "IBANs of every country in the register, in either case, with single spaces",
        "countries that joined after the register was made",
        "check digits, length and structure of the country (stdnum)",
        searches.iban,
    ),
    "payment_card": Detector(
        "numbers of eight networks, in one piece, in groups, or with spaces anywhere when nothing else stands beside",
        "Maestro and store cards; cards split in an unusual way inside a longer row of numbers",
        "the Luhn check digit; one in ten random numbers has it",
        searches.payment_card,
    ),
    "us_ssn": Detector(
        "three, two and four digits with dashes; with spaces or none where the text speaks of social security",
        "nine digits that no word explains",
        "that the range is issued; there is no check digit",
        searches.us_ssn,
    ),
    "cn_resident_id": Detector(
        "resident identity numbers of 18 characters with a date of birth",
        "the old numbers of 15 digits; passports and permits",
        "the check digit; a higher score where the county is known too (stdnum)",
        searches.cn_resident_id,
    ),
    "cn_uscc": Detector(
        "unified social credit codes of Chinese firms and traders",
        "codes with a wrong check digit",
        "the check digit (stdnum)",
        searches.cn_uscc,
    ),
    "ip_address": Detector(
        "IPv4 and IPv6 addresses; private and reserved ones, and version numbers, score 0.3",
        "whether a person stands behind it",
        "",
        searches.ip_address,
    ),
    "url_user": Detector(
        "addresses with user@ in them, pages of persons on a few networks",
        "handles alone; other sites; user names in queries",
        "",
        searches.url_user,
    ),
    "birth_date": Detector(
        "dates with day, month and a year of four digits, beside a word for birth",
        "dates that no word calls a birth; ages; two-digit years; dates in words",
        "",
        searches.birth_date,
    ),
    "address": Detector(
        "a house number with its street, town, state and code (US), with its street (English, Chinese), a British "
        "postcode with its space",
        "other countries and layouts; streets in lower case without town and code score 0.3; boxes; towns alone",
        "",
        searches.address,
    ),
    "bank_account": Detector(
        "6 to 19 digits that the text calls an account",
        "account numbers that no word explains; most are plain digits",
        "",
        searches.bank_account,
    ),
    NAME: Detector("the names of a list that you give", "every other name, and nicknames and slips", "", None),
}  # fmt: skip


class Names:
    """A list of names to look for, by whole words; case and accents do not count.

    In Chinese, which has no word borders, a name is also found inside a longer word.

    Parameters
    ----------
    names : iterable of str

    Raises
    ------
    ValueError
        When there is no name, or one has fewer than two letters.
    """

    def __init__(self, names: Iterable[str]) -> None:
        self._by_first: dict[str, list[tuple[str, ...]]] = {}
        for number, name in enumerate(names, 1):
            words = tuple(word for word, _, _ in _words(fold(name)[0]))
            if sum(map(len, words)) < 2:
                raise ValueError(f"name {number} of the list has fewer than two letters")
            self._by_first.setdefault(words[0], []).append(words)
        if not self._by_first:
            raise ValueError("the list of names is empty")
        for entries in self._by_first.values():
            entries.sort(key=len, reverse=True)

    def search(self, text: str) -> Iterator[Found]:
        """Yield the longest name that begins at each word of folded text."""
        words = list(_words(text))
        for i, (first, start, _) in enumerate(words):
            for name in self._by_first.get(first, ()):
                part = words[i : i + len(name)]
                close = all(b[1] - a[2] <= 3 for a, b in itertools.pairwise(part))
                if close and tuple(w for w, _, _ in part) == name:
                    yield start, part[-1][2], 0.5, None
                    break


def searched(kinds: Collection[str] | None = None, names: Names | None = None) -> list[str]:
    """Return the kinds that `find` will look for with these arguments, in the order of `DETECTORS`.

    Raises
    ------
    ValueError
        When a kind is unknown, or names are asked for and no list is given.
    """
    if unknown := sorted(set(kinds or ()) - set(DETECTORS)):
        raise ValueError(f"unknown kind {unknown[0]!r}; known are {', '.join(DETECTORS)}")
    if kinds is not None and NAME in kinds and names is None:
        raise ValueError(f"{NAME} needs a list of names: without one no name can be found")
    asked = DETECTORS if kinds is None else kinds
    return [k for k in DETECTORS if k in asked and (k != NAME or names is not None)]


def find(
    text: str,
    *,
    language: str | None = None,
    kinds: Collection[str] | None = None,
    names: Names | None = None,
    least: float = LEAST,
) -> list[Hit]:
    """Find personal data in one text.

    Parameters
    ----------
    text : str
    language : str, optional
        ``en`` or ``zh`` narrows phone numbers and addresses to their countries. Without it, all are tried.
    kinds : collection of str, optional
        Which to return; all of `DETECTORS` by default.
    names : Names, optional
        Without it no names are looked for.
    least : float
        The smallest score.

    Returns
    -------
    list of Hit
        In the order of the text. No two overlap: the higher score stays, then the valid, then the longer.

    Raises
    ------
    ValueError
        As `searched`.
    """
    returned = searched(kinds, names)
    folded, places = fold(text)
    short = (language or "").partition("-")[0].lower()
    hits = []
    # All kinds compete for a place, whichever are returned: a card is no phone number.
    for kind, detector in DETECTORS.items():
        if detector.search is not None:
            found = detector.search(folded, short)
        else:
            found = names.search(folded) if names is not None else iter(())
        hits += [
            Hit(kind, places[s], places[e - 1] + 1, score, ok) for s, e, score, ok in found if score >= least
        ]
    hits.sort(key=lambda h: (-h.score, h.valid is not True, h.start - h.end, h.start, h.kind))
    kept, taken = [], bytearray(len(text))
    for hit in hits:
        if not any(taken[hit.start : hit.end]):
            taken[hit.start : hit.end] = b"\x01" * (hit.end - hit.start)
            kept.append(hit)
    return sorted((h for h in kept if h.kind in returned), key=lambda h: h.start)


# --- text -------------------------------------------------------------------------------------

_DASH = re.compile(r"[\u2010-\u2015\u2212\ufe58\ufe63\uff0d]")
_ACCENTS = re.compile(r"[\u0300-\u036f]")
_WORD = re.compile(r"[\u3400-\u9fff]|[^\W_\u3400-\u9fff]+")


def fold(text: str) -> tuple[str, list[int] | range]:
    """Return the text in plain signs, and for each of its characters the place in the text given.

    Full-width and other compatible forms become plain (NFKC), dashes ``-``, ▁ and every kind of space a
    space; invisible characters go. Case stays.
    """
    if text.isascii() and not _CONTROL.search(text):
        return text, range(len(text))
    parts = [_folded(c) for c in text]
    return "".join(parts), [i for i, part in enumerate(parts) for _ in part]


_CONTROL = re.compile(r"[\t\v\f]")


@functools.lru_cache(maxsize=65536)
def _folded(character: str) -> str:
    if character == "▁" or (character.isspace() and character not in "\r\n"):
        return " "
    if unicodedata.category(character) == "Cf":
        return ""
    if unicodedata.category(character) == "Nd":
        return str(unicodedata.decimal(character))
    return _DASH.sub("-", unicodedata.normalize("NFKC", character))


def _words(text: str) -> Iterator[tuple[str, int, int]]:
    for match in _WORD.finditer(text):
        yield _ACCENTS.sub("", unicodedata.normalize("NFKD", match[0])).casefold(), *match.span()
