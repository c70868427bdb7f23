"""The lists behind counterfactual swaps: terms, fixed forms, and the checks that a swap relies on."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from albert_audit.bias.swap import chinese as swap_chinese
from albert_audit.bias.swap import english as swap_english
from albert_audit.types import PackError

PRONOUNS = frozenset({"subject", "object", "possessive-determiner", "possessive-pronoun", "reflexive"})
CASED = frozenset({"name", "title", "proper"})
"""Roles whose forms match as written or in all capitals; all others match in any capitals."""
_FIXED = re.compile(r"(phrase|meaning)(?:\(([a-z-]+(?:, ?[a-z-]+)*)\))?: \S")
_Resolver = Callable[[str, int, int], tuple[str, bool]]
RESOLVERS: dict[str, dict[frozenset[str], _Resolver]] = {
    "en": {
        frozenset({"object", "possessive-determiner"}): swap_english.her,
        frozenset({"possessive-determiner", "possessive-pronoun"}): swap_english.his,
        frozenset({"adjective", "noun"}): swap_english.demonym,
    },
    "zh": {frozenset({"noun", "title"}): swap_chinese.title},
}


@dataclass(frozen=True, slots=True)
class Term:
    """A row of ``terms.csv``."""

    id: str
    set: str
    axis: str
    group: str
    form: str
    role: str


@dataclass(frozen=True, slots=True)
class Entry:
    """A form to look for: a word of its one axis, or (no `terms`) a fixed form on its axes.

    A fixed form that `excludes` takes the whole text off these axes; any other only itself.
    """

    form: str
    axes: tuple[str, ...]
    terms: tuple[Term, ...] = ()
    excludes: bool = False


def term_of(row: Mapping[str, str]) -> Term:
    """Return a row of the terms; `PackError` where a cell is empty."""
    cells = {name: str(row.get(name, "") or "").strip() for name in Term.__slots__}
    if empty := [name for name, cell in cells.items() if not cell]:
        raise PackError(f"terms: the row {cells['id'] or dict(row)}: {', '.join(empty)} is empty; fill it")
    return Term(**cells)


def axes_of(terms: list[Term]) -> dict[str, tuple[str, ...]]:
    """Return each axis and its groups, in the order of the list; `PackError` for an axis of one group."""
    groups: dict[str, dict[str, None]] = defaultdict(dict)
    for t in terms:
        groups[t.axis][t.group] = None
    for axis, found in groups.items():
        if len(found) < 2:
            raise PackError(f"terms: axis {axis}: expected two groups or more, found {', '.join(found)}")
    return {axis: tuple(found) for axis, found in groups.items()}


def counterparts_of(terms: list[Term]) -> dict[tuple[str, str, str, str], Term]:
    """Return the form that is put in, the first, for each axis, set, role and group."""
    first: dict[tuple[str, str, str, str], Term] = {}
    for t in terms:
        first.setdefault((t.axis, t.set, t.role, t.group), t)
    return first


def names_of(terms: list[Term]) -> dict[tuple[str, str, str], list[Term]]:
    """Return the names of each axis, set and group; `PackError` where the groups' numbers differ."""
    names: dict[tuple[str, str, str], list[Term]] = defaultdict(list)
    for t in terms:
        if t.role == "name":
            names[t.axis, t.set, t.group].append(t)
    sizes: dict[tuple[str, str], set[int]] = defaultdict(set)
    for (axis, kind, _), found in names.items():
        sizes[axis, kind].add(len(found))
    for (axis, kind), counts in sizes.items():
        if len(counts) > 1:
            raise PackError(f"terms: axis {axis}, set {kind}: expected as many names in each group, found "
                            f"{sorted(counts)}; add or remove some")  # fmt: skip
    return names


def entries_of(terms: list[Term], language: str) -> list[Entry]:
    """One entry an axis and form, with its roles; of one role's rows the first."""
    forms: dict[tuple[str, str], list[Term]] = defaultdict(list)
    for t in terms:
        forms[t.axis, t.form if t.role in CASED else t.form.lower()].append(t)
    entries = []
    for (axis, form), found in forms.items():
        if len(groups := {t.group for t in found}) > 1:
            raise PackError(
                f"terms: axis {axis}: {form!r} stands in several groups: {', '.join(sorted(groups))}"
            )
        roles = {t.role: t for t in reversed(found)}
        if len(roles) > 1 and frozenset(roles) not in RESOLVERS[language]:
            raise PackError(
                f"terms: axis {axis}: {form!r}: no rule tells its roles apart: {', '.join(sorted(roles))}"
            )
        entries.append(Entry(found[0].form, (axis,), tuple(roles.values())))
    return entries


def fixed_of(rows: Iterable[Mapping[str, str]], axes: Mapping[str, object]) -> list[Entry]:
    """Return the fixed forms, those that exclude a text first; `PackError` for a reason or axis unknown."""
    entries = []
    for row in rows:
        form, reason = str(row.get("form") or "").strip(), str(row.get("reason") or "")
        kind = _FIXED.match(reason)
        if not form or not kind or (kind[1] == "meaning" and not kind[2]):
            raise PackError(
                f"fixed: the row {row.get('id')!r}: expected a form and a reason that begins with 'phrase: ', "
                f"'phrase(axis): ' or 'meaning(axis): ', found {form!r} and {reason!r}"
            )
        named = tuple(a.strip() for a in (kind[2] or "").split(",") if a.strip())
        if unknown := [a for a in named if a not in axes]:
            raise PackError(f"fixed: the row {row.get('id')!r}: no terms on the axis {', '.join(unknown)}")
        entries.append(Entry(form, named or tuple(axes), excludes=kind[1] == "meaning"))
    return sorted(entries, key=lambda e: not e.excludes)
