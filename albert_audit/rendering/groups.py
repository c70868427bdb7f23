"""Findings that stand together: in one table a pack, or under one reason.

Only what no rule judges is told here. What is the same for a group is said once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from albert_audit.rendering import cells, charts
from albert_audit.rendering.text import Part, Sentence, say, theirs
from albert_audit.types import Finding, Status

if TYPE_CHECKING:
    from albert_audit.rendering.view import Shown

_ALIKE = 3  # findings without a result, and with the same reason, that are told together
_SINGLES = 12  # findings without a result that are told one by one before they are told by pack


@dataclass(frozen=True, slots=True)
class Row:
    """One finding as a row. `judged` ones stand in full elsewhere and are here to compare."""

    label: Part
    anchor: str
    judged: bool
    cells: cells.Pairs
    mark: charts.Row | None


@dataclass(frozen=True, slots=True)
class Group:
    """One statistic of a pack."""

    title: Part
    unit: Part
    null: Part
    rows: tuple[Row, ...]
    plot: charts.Plot | None
    estimands: tuple[Part, ...]
    caveats: tuple[Part, ...]
    sources: tuple[Part, ...]
    evidence: Sentence


@dataclass(frozen=True, slots=True)
class Table:
    """One pack."""

    title: Part
    name: str
    count: int
    informs: bool
    groups: tuple[Group, ...]
    harms: tuple[Part, ...]
    affected: tuple[tuple[Part, Part], ...]
    caveats: tuple[Part, ...]
    sources: tuple[Part, ...]


@dataclass(frozen=True, slots=True)
class Alike:
    """Findings without a usable result: for one reason, or else of one pack."""

    shown: tuple[Shown, ...]
    one_reason: bool


def brief(shown: Shown) -> bool:
    """Whether a finding is told as a row: a plain estimate that no rule judges."""
    return shown.finding.status is Status.ESTIMATED and not shown.judged


def tables(probes: Sequence[Shown], titles: Mapping[str, str]) -> tuple[Table, ...]:
    """Return a table for each pack that holds a finding which no rule judges.

    Parameters
    ----------
    titles : mapping
        Name of a pack → its title.
    """
    estimated = [s for s in probes if s.finding.status is Status.ESTIMATED]
    packs = dict.fromkeys(s.finding.pack for s in estimated if brief(s))
    return tuple(_table([s for s in estimated if s.finding.pack == p], titles.get(p, p)) for p in packs)


def _table(shown: Sequence[Shown], title: str) -> Table:
    found = [s.finding for s in shown]
    statistics: dict[tuple[str, str], list[Shown]] = {}
    for s in shown:
        statistics.setdefault((s.finding.measure, _stem(s.finding)), []).append(s)
    parts = [members for members in statistics.values() if any(map(brief, members))]
    told = [s.finding for members in parts for s in members if brief(s)]
    caveats, sources = _shared(told, lambda f: f.caveats), _shared(told, lambda f: f.sources)
    return Table(
        title=theirs(title, 160), name=found[0].pack, count=len(told),
        informs=not any(f.gates for f in told),
        groups=tuple(_group(members, set(caveats), set(sources), told) for members in parts),
        harms=_distinct(told, lambda f: (f.harm,)), caveats=tuple(theirs(c) for c in caveats),
        affected=tuple(dict.fromkeys((_axis(f.axis), theirs(f.affected, 300)) for f in told if f.affected)),
        sources=tuple(theirs(c, 300) for c in sources),
    )  # fmt: skip


def _group(members: Sequence[Shown], caveats: set[str], sources: set[str], told: Sequence[Finding]) -> Group:
    differences, ties = any(f.difference for f in told), any("ties" in f.details for f in told)
    found = [s.finding for s in members]
    digits = max(s.source.digits for s in members)
    effects = [f.effect for f in found if f.effect]
    plot = None
    if effects and len({e.null for e in effects}) == 1:
        lines = [charts.line((), "informs", f.effect) for f in found if f.effect]
        plot = charts.plot(lines, null=effects[0].null, limit=None, width=150, axis=False)
    marks = iter(plot.rows if plot else ())
    rows = tuple(
        Row(
            _axis(s.finding.axis), s.anchor, not brief(s),
            cells.compact(replace(s.source, digits=digits), differences=differences, ties=ties),
            next(marks, None) if s.finding.effect else None,
        )
        for s in members
    )  # fmt: skip
    return Group(
        title=theirs(_stem(found[0]), 200), unit=theirs(found[0].unit, 60),
        null=members[0].source.figure("effect", "null", form="exact"), rows=rows, plot=plot,
        estimands=_distinct(found, lambda f: (f.estimand,)),
        caveats=_distinct(found, lambda f: (c for c in f.caveats if c not in caveats)),
        sources=_distinct(found, lambda f: (c for c in f.sources if c not in sources)),
        evidence=_evidence(found),
    )  # fmt: skip


def _stem(finding: Finding) -> str:
    """Return a title without the axis that it begins with, since the row names it."""
    stem = finding.title.removeprefix(f"{finding.axis.capitalize()}: ")
    return stem[:1].upper() + stem[1:]


def _axis(axis: str) -> Part:
    return Part("all together") if axis == "all" else theirs(axis.replace("-", " "), 60)


def _evidence(found: Sequence[Finding]) -> Sentence:
    """Say which rows a group was computed from: what is the same for all, and what differs."""
    selectors = [dict(e.where, file=e.file) for f in found for e in f.evidence]
    if not selectors:
        return ()
    same = {k: v for k, v in selectors[0].items() if all(s.get(k) == v for s in selectors)}
    differ = sorted({k for s in selectors for k in s} - set(same))
    pairs = [theirs(f"{k}={same[k]}", 120) for k in sorted(same) if k != "file"]
    pairs += [theirs(f"{k} as in the row", 120) for k in differ if k != "file"]
    listed = say(*(p for pair in pairs for p in (Part(", "), pair)))[1:]
    return say(theirs(same.get("file", "several files"), 80), " where " if listed else "", listed)


def _shared(found: Sequence[Finding], pick: Callable[[Finding], Iterable[str]]) -> list[str]:
    first = list(dict.fromkeys(pick(found[0])))
    return [text for text in first if all(text in pick(f) for f in found)]


def _distinct(found: Sequence[Finding], pick: Callable[[Finding], Iterable[str]]) -> tuple[Part, ...]:
    return tuple(theirs(t) for t in dict.fromkeys(t for f in found for t in pick(f) if t))


def alike(shown: Sequence[Shown]) -> tuple[Shown | Alike, ...]:
    """Gather what no rule judges and what lacks a result for one reason; where many are left, by pack."""
    home: dict[str, Alike] = {}

    def gather(found: Sequence[Shown], key: Callable[[Finding], str], one_reason: bool) -> list[Shown]:
        groups: dict[tuple[str, str], list[Shown]] = {}
        for s in found:
            groups.setdefault((s.tone, key(s.finding)), []).append(s)
        together = [g for g in groups.values() if len(g) >= _ALIKE]
        home.update({s.anchor: Alike(tuple(g), one_reason) for g in together for s in g})
        return [s for g in groups.values() if len(g) < _ALIKE for s in g]

    left = gather([s for s in shown if not s.judged and s.finding.reason], lambda f: f.reason, True)
    if len(left) > _SINGLES:
        gather(left, lambda f: f.pack, False)
    out: list[Shown | Alike] = []
    for s in shown:
        group = home.get(s.anchor)
        if group is None:
            out.append(s)
        elif group.shown[0] is s:
            out.append(group)
    return tuple(out)
