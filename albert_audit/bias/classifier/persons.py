"""Persons in templates: who is compared with whom, in which sentences.

A person of a group names in `match` the person of the reference group it is compared with. A person
of the reference group that names another one of it is that person's twin: the control. Kinds
(kinship words, names of women) are only compared with their like. A context names the one template
that it is for.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from albert_audit.packs import Pack, Template
from albert_audit.types import PackError


@dataclass(frozen=True, slots=True)
class Person:
    """Who stands in the slot ``{person}``."""

    id: str
    group: str
    form: str
    kind: str


@dataclass(frozen=True, slots=True)
class Swap:
    """A person, the person of the reference group it is compared with, and which contrast it serves."""

    contrast: str
    role: str
    person: Person
    reference: Person


@dataclass(frozen=True, slots=True)
class Sentence:
    """A template with one of its contexts."""

    template: Template
    context: str
    form: str

    def fill(self, person: Person) -> tuple[str, tuple[int, int]]:
        """Return the text and the (start, end) of the person in it."""
        text, spans = self.template.fill(person=person.form, context=self.form)
        return text, spans["person"]


def contrasts(pack: Pack) -> list[tuple[str, str]]:
    """Return (axis, "group-vs-reference") for each group but the reference.

    Raises
    ------
    PackError
        Listing every person that is matched to nobody fit, and every context that fits no template.
    """
    mistakes = [*_unmatched(pack), *_misplaced(pack)]
    if mistakes:
        raise PackError(
            f"the pack {pack.name} has {len(mistakes)} mistake{'s' * (len(mistakes) != 1)}:\n"
            + "\n".join(f"  {m}" for m in mistakes),
            "the format is described in docs/reference/packs.md",
        )
    groups = dict.fromkeys(row["group"] for row in pack.tables["persons"])
    return [(pack.spec.axis, f"{g}-vs-{pack.spec.reference}") for g in groups if g != pack.spec.reference]


def _unmatched(pack: Pack) -> Iterator[str]:
    """Say which persons have no fit partner in the reference group."""
    file, reference = pack.spec.files.get("persons", "persons"), pack.spec.reference
    rows = {row["id"]: row for row in pack.tables["persons"]}
    base = {i for i, row in rows.items() if row["group"] == reference and not row.get("match")}
    for i, row in rows.items():
        match = row.get("match", "")
        if match and match not in base:
            yield (
                f"{file}: {i}: match: expected a person of {reference} that itself matches nobody, "
                f"found {match!r}"
            )
        elif match and rows[match]["kind"] != row["kind"]:
            yield f"{file}: {i}: is of the kind {row['kind']!r}, but its match {match} of {rows[match]['kind']!r}"
        elif not match and row["group"] != reference:
            yield f"{file}: {i}: match is empty; name the person of {reference} it is compared with"
    used = Counter((row["group"], row["match"]) for row in rows.values() if row.get("match"))
    for (group, match), count in used.items():
        if count > 1:
            yield f"{file}: {match} is the match of {count} persons of {group}; expected one"
    if all(row["group"] == reference for row in rows.values()):
        yield f"{file}: expected a group beside {reference}, the reference"
    if not any(group == reference for group, _ in used):
        yield f"{file}: no person of {reference} matches another one of it; such twins are the control"


def _misplaced(pack: Pack) -> Iterator[str]:
    """Say which contexts fit no template, and which templates lack one."""
    file = pack.spec.files.get("contexts", "contexts")
    wanting = {t.id for t in pack.templates if "{context}" in t.text}
    contexts = pack.tables.get("contexts", ())
    for row in contexts:
        if row["template"] not in wanting:
            yield f"{file}: {row['id']}: template: {row['template']!r} is no template with {{context}}"
    for t in sorted(wanting - {row["template"] for row in contexts}):
        yield f"{file}: no context names the template {t!r}, which has {{context}}"


def sentences(pack: Pack) -> list[Sentence]:
    """Return every template with each of its contexts; ``-`` is the context of one without any."""
    contexts = pack.tables.get("contexts", ())
    return [
        Sentence(t, c["id"], c["form"])
        for t in pack.templates
        for c in (
            [row for row in contexts if row["template"] == t.id]
            if "{context}" in t.text
            else [{"id": "-", "form": ""}]
        )
    ]


def swaps(pack: Pack) -> list[Swap]:
    """Return every swap of every contrast: probes, and twins of the kinds that the contrast has."""
    rows = [(row.get("match", ""), _person(row)) for row in pack.tables["persons"]]
    known = {p.id: p for _, p in rows}
    out = []
    for _, contrast in contrasts(pack):
        group = contrast.partition("-vs-")[0]
        pairs = [(p, known[m]) for m, p in rows if p.group == group]
        kinds = {p.kind for p, _ in pairs}
        twins = [(p, known[m]) for m, p in rows if m and p.group == pack.spec.reference and p.kind in kinds]
        out += [Swap(contrast, "probe", p, r) for p, r in pairs]
        out += [Swap(contrast, "control", p, r) for p, r in twins]
    return out


def _person(row: Mapping[str, str]) -> Person:
    return Person(row["id"], row["group"], row["form"], row["kind"])
