"""Word sets: the tests of a table ``words``, two groups against two topics each, and neutral topics."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NoReturn

from albert_audit.packs import SLUG, Pack
from albert_audit.types import PackError

Row = Mapping[str, str]
SETS = ("x", "y", "a", "b")


@dataclass(frozen=True)
class WordTest:
    """Two groups' words and two topics' words; `sets` holds the rows of x, y, a and b."""

    name: str
    axis: str
    contrast: str
    sets: Mapping[str, tuple[Row, ...]]


def tests(pack: Pack) -> list[WordTest]:
    """Return the tests of the table ``words``, in its order.

    Raises
    ------
    PackError
        When a set lacks words, a word stands in two places, or labels cannot name the finding.
    """
    grouped: dict[str, list[Row]] = {}
    for row in pack.tables["words"]:
        if row["set"] != "n":
            grouped.setdefault(row["test"], []).append(row)
    found = [_test(name, rows) for name, rows in grouped.items()]
    ids = [(t.axis, t.contrast) for t in found]
    for twice in {i for i in ids if ids.count(i) > 1}:
        _wrong(f"two tests are called {' '.join(twice)}", "give their words other labels")
    neutral = topics(pack)
    if neutral and (len(neutral) < 4 or min(map(len, neutral.values())) < 2):
        _wrong("expected four neutral topics of two words or more, or none", f"found {sorted(neutral)}")
    return found


def _test(name: str, rows: Sequence[Row]) -> WordTest:
    sets = {s: tuple(r for r in rows if r["set"] == s) for s in SETS}
    if odd := sorted({r["set"] for r in rows} - set(SETS)):
        _wrong(
            f"test {name}: unknown set {odd[0]!r}",
            "a set is x or y (groups), a or b (topics), n (neutral topics)",
        )
    if short := [s for s in SETS if len(sets[s]) < 2]:
        _wrong(
            f"test {name}: the set {short[0]} has {len(sets[short[0]])} words",
            "give two or more, better twelve",
        )
    for one, other in (("x", "y"), ("a", "b")):
        forms = [" ".join(r["form"].lower().split()) for s in (one, other) for r in sets[s]]
        if twice := next((f for f in forms if forms.count(f) > 1), ""):
            _wrong(f"test {name}: {twice!r} stands twice in {one} and {other}", "keep it once")
    axes = {r["axis"] for r in rows}
    if len(axes) > 1 or not SLUG.fullmatch(rows[0]["axis"]):
        _wrong(f"test {name}: expected one axis, in lower-case words with hyphens", f"found {sorted(axes)}")
    labels = {}
    for s in SETS:
        given = {r.get("label") or s for r in sets[s]}
        labels[s] = next(iter(given))
        if len(given) > 1 or not SLUG.fullmatch(labels[s]) or "-vs-" in labels[s]:
            _wrong(
                f"test {name}: expected one label for the set {s}, in lower-case words with hyphens, without '-vs-'",
                f"found {sorted(given)}",
            )
    contrast = "{x}-{a}-vs-{y}-{b}".format(**labels)
    return WordTest(name, rows[0]["axis"], contrast, sets)


def topics(pack: Pack) -> dict[str, list[Row]]:
    """Return the neutral topics' words by label."""
    out: dict[str, list[Row]] = {}
    for row in pack.tables["words"]:
        if row["set"] == "n":
            out.setdefault(row.get("label") or row["test"], []).append(row)
    return out


def _wrong(what: str, remedy: str) -> NoReturn:
    raise PackError(f"words: {what}", remedy)
