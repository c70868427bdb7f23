"""Numbers, sentences and hostile strings, as a reader should see them.

A number is never typed: it is taken from its document by its path, so that what is printed and
what ``data-ref`` points to cannot differ.
"""

from __future__ import annotations

import math
import re
import unicodedata
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

MINUS = "\u2212"
NOTHING = "–"
_MARKS_IN_A_ROW = 3
_SPACES = re.compile(r"[\t\n\r ]+")
_PLAIN = re.compile(r"[A-Za-z0-9_.-]{1,80}")
_DAY = re.compile(r"\d{4}-\d{2}-\d{2}")
_HIDDEN = {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}


# --- strings of models, packs and policies --------------------------------------------------


def visible(text: str, cap: int = 600) -> str:
    """Return `text` in one line, with everything that could deceive a reader made visible.

    Controls, bidi overrides, zero-width and unassigned characters become ``⟨U+202E⟩``; runs of
    white space become one space; more than three combining marks in a row are spelled out; what
    is longer than `cap` characters is cut, and says so.
    """
    head = _SPACES.sub(" ", text[: 4 * cap]).strip(" ")
    if len(head) <= cap and len(text) <= 4 * cap:
        shown, note = head, ""
    else:
        shown, note = head[:cap].rstrip(" "), f"… [{len(text):,} characters]"
    if not (shown.isascii() and shown.isprintable()):
        shown = "".join(_seen(shown))
    return shown + note


def _seen(text: str) -> Iterable[str]:
    marks = 0
    for char in text:
        category = unicodedata.category(char)
        marks = marks + 1 if category in ("Mn", "Me") else 0
        hidden = category in _HIDDEN or marks > _MARKS_IN_A_ROW
        yield f"⟨U+{ord(char):04X}⟩" if hidden else char


def lines(text: str, width: int, most: int) -> tuple[str, ...]:
    """Break `text` at spaces into at most `most` lines of `width` columns; Han characters take two.

    >>> lines("one two three four", 9, 2)
    ('one two', 'three…')
    """
    left, out = visible(text, 4 * width * most), list[str]()
    while left and len(out) < most:
        used = space = 0
        for end, char in enumerate(left):
            used += 2 if unicodedata.east_asian_width(char) in "WF" else 1
            space = end if char == " " else space
            if used > width:
                break
        else:
            return (*out, left)
        cut = max(space or end, 1)
        out.append(left[:cut].rstrip(" "))
        left = left[cut:].lstrip(" ")
    if left:
        out[-1] = out[-1].rstrip(" ,;:.") + "…"
    return tuple(out)


def day(timestamp: str) -> str:
    """Return the day of an ISO timestamp, or words when there is none."""
    found = _DAY.match(timestamp)
    return found.group() if found else "not recorded"


# --- numbers --------------------------------------------------------------------------------


def number(value: float, digits: int) -> str:
    """Format with a fixed number of decimals, a true minus sign, no negative zero.

    >>> number(-0.1234, 2), number(-0.001, 2), number(11683584, 0)
    ('−0.12', '0.00', '11,683,584')
    """
    printed = f"{value:,.{digits}f}"
    if not printed.strip("-0.,"):
        printed = printed.lstrip("-")
    return printed.replace("-", MINUS)


def significant(value: float, digits: int = 3) -> str:
    """Format with `digits` significant digits, integers in full.

    >>> significant(0.25), significant(40.0), significant(1234.5678), significant(1.2345e-7)
    ('0.25', '40', '1,235', '1.23e−7')
    """
    if value == int(value) and abs(value) < 1e15:
        return number(value, 0)
    if abs(value) >= 1e15 or abs(value) < 1e-4:
        mantissa, _, exponent = f"{value:.{digits - 1}e}".partition("e")
        return f"{mantissa}e{int(exponent)}".replace("-", MINUS)
    decimals = max(digits - 1 - math.floor(math.log10(abs(value))), 0)
    printed = f"{value:,.{decimals}f}"
    if "." in printed:
        printed = printed.rstrip("0").rstrip(".")
    return printed.replace("-", MINUS)


def probability(value: float) -> str:
    """Format a p value: three decimals, or ``< 0.001``."""
    return "< 0.001" if value < 0.001 else f"{value:.3f}"


def percent(value: float) -> str:
    """Format a share as a percentage with one decimal."""
    return f"{100 * value:.1f}\u00a0%"


def factor(value: float) -> str:
    """Format a factor: whole from 10 on, two decimals from 1 on, two significant digits below.

    >>> factor(32.797), factor(1.0755), factor(0.0304)
    ('33', '1.08', '0.03')
    """
    return number(value, 0 if value >= 10 else 2) if 1 <= value < 1e6 else significant(value, 2)


def decimals_for(errors: Iterable[float]) -> int:
    """Return how many decimals show the smallest standard error with two significant digits."""
    known = [e for e in errors if e > 0]
    if not known:
        return 3
    return min(max(1 - math.floor(math.log10(min(known))), 0), 6)


# --- sentences ------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Part:
    """A piece of a sentence: our words, a number with where it stands, or a string of others."""

    text: str
    ref: str = ""
    data: bool = False


Sentence: TypeAlias = tuple[Part, ...]


def say(*pieces: str | Part | Sentence) -> Sentence:
    """Join our words, numbers and strings of others into one sentence."""
    parts: list[Part] = []
    for piece in pieces:
        if isinstance(piece, str):
            parts.append(Part(piece))
        elif isinstance(piece, Part):
            parts.append(piece)
        else:
            parts.extend(piece)
    return tuple(parts)


def theirs(text: str, cap: int = 600) -> Part:
    """Return a string that a model, a pack or a policy chose."""
    return Part(visible(text, cap), data=True)


def plain(sentence: Sentence) -> str:
    """Return a sentence as a plain string."""
    return "".join(part.text for part in sentence)


@dataclass(frozen=True, slots=True)
class Source:
    """A document to quote numbers from.

    Parameters
    ----------
    key : str
        What stands before ``#`` in ``data-ref``: a finding id, or a file of the audit.
    document : object
        The model that the paths start from.
    digits : int
        Decimals of the estimates.
    base : tuple
        The path that all paths of this source start with.
    """

    key: str
    document: Any
    digits: int = 3
    base: tuple[str | int, ...] = ()

    def at(self, *path: str | int) -> Source:
        """Return the part of this source that lies at `path`."""
        return replace(self, base=(*self.base, *path))

    def get(self, *path: str | int) -> Any:
        """Return what lies at `path`, or None when some step of it is absent."""
        here = self.document
        for step in (*self.base, *path):
            if here is None:
                return None
            if isinstance(here, Mapping):
                here = here.get(step)
            elif isinstance(step, int):
                here = here[step]
            else:
                here = getattr(here, step)
        return here

    def figure(self, *path: str | int, form: str = "estimate") -> Part:
        """Return the number at `path`, in one of eight forms.

        ``estimate`` (the decimals of this source), ``exact`` (limits), ``short`` (supporting
        figures), ``factor``, ``p``, ``percent``, ``tenth`` and ``count``.
        """
        value = self.get(*path)
        if value is None:
            return Part(NOTHING)
        if form == "estimate":
            printed = number(value, self.digits)
        elif form == "p":
            printed = probability(value)
        elif form == "percent":
            printed = percent(value)
        elif form == "factor":
            printed = factor(value)
        elif form == "tenth":
            printed = number(value, 1)
        elif form == "count":
            printed = number(value, 0)
        else:
            printed = significant(value, {"exact": 6, "short": 4}[form])
        return Part(printed, ref=f"{self.key}#{self._name((*self.base, *path))}")

    def _name(self, path: tuple[str | int, ...]) -> str:
        """Join a path; a key that a pack chose and that is no plain word stands as ``@position``."""
        if all(isinstance(step, int) or _PLAIN.fullmatch(step) for step in path):
            return ".".join(map(str, path))
        names, here = [], Source("", self.document)
        for step in path:
            if isinstance(step, str) and not _PLAIN.fullmatch(step):
                names.append(f"@{list(here.get()).index(step)}")
            else:
                names.append(str(step))
            here = here.at(step)
        return ".".join(names)

    def interval(self, *path: str | int) -> Sentence:
        """Return the interval at `path` as ``low to high``."""
        if self.get(*path) is None:
            return (Part(NOTHING),)
        return say(self.figure(*path, "low"), " to ", self.figure(*path, "high"))
