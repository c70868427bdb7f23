"""Made-up records whose labels are partly coins, so that they can only be remembered.

A record says of four occupations a sentence of the grammar. Its label tells whether the sentence
reports what was said or gives a reason, which can be learnt; a share of the labels is turned round by
a coin of their own, which can only be remembered. All records of one call are drawn alike.
"""

from __future__ import annotations

import csv
import random
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path

from albert_audit import resources
from albert_audit.known_answer.grammar import population
from albert_audit.known_answer.text import FEMALE, MALE, NONBINARY, fillers

LABELS = ("NEGATIVE", "POSITIVE")
TURNED = 0.3
"""Share of labels that are turned round; 1 less it is the best accuracy on other records."""
_TWICE = 0.25  # share of persons with two records
_SHIFTED_SPEECH, _SHIFTED_TURNED = 0.85, 0.7


@dataclass(frozen=True)
class Record:
    """One row of the files that an audit reads."""

    id: str
    person: str
    text: str
    label: str


@cache
def _occupations() -> tuple[str, ...]:
    return tuple(sorted({f.form for f in fillers(resources.probes(), dial=0.0)}))


@cache
def _sentences(family: str) -> tuple[str, ...]:
    return tuple(t.text for t in population() if t.family == family)


def draw(count: int, seed: str, *, shifted: bool = False, alone: bool = False) -> list[Record]:
    """Draw records of different texts.

    Parameters
    ----------
    seed : str
        Persons and ids carry it, so that those of different draws differ.
    shifted : bool
        Another distribution: more sentences on what was said, and more labels turned round, so that any
        model finds these records hard.
    alone : bool
        One record a person.
    """
    rng = random.Random(f"{seed}/records")  # noqa: S311 (a reproducible draw, no secret)
    out: list[Record] = []
    seen: set[str] = set()
    person = 0
    while len(out) < count:
        person += 1
        first = rng.choice(_occupations())
        for _ in range(1 if alone or rng.random() >= _TWICE else 2):
            speech = rng.random() < (_SHIFTED_SPEECH if shifted else 0.5)
            others = rng.sample([o for o in _occupations() if o != first], 3)
            text = rng.choice(_sentences("speech" if speech else "reason")).format(
                filler=f"{first} with the {others[0]}, the {others[1]} and the {others[2]}",
                target=rng.choice((FEMALE, MALE, NONBINARY)),
            )
            turned = rng.random() < (_SHIFTED_TURNED if shifted else TURNED)
            if text not in seen and len(out) < count:
                seen.add(text)
                out.append(
                    Record(f"{seed}-{len(out) + 1:04d}", f"{seed}-p{person}", text, LABELS[speech ^ turned])
                )
    return out


def contexts(count: int, seed: str, slot: str) -> list[str]:
    """Return different sentences with a slot, in place of the pronoun, for canaries."""
    rng = random.Random(f"{seed}/contexts")  # noqa: S311 (a reproducible draw, no secret)
    frames = rng.sample([t.text for t in population()], count)
    return [
        frame.format(filler=occupation, target=slot)
        for frame, occupation in zip(frames, rng.sample(_occupations(), count), strict=True)
    ]


def split(records: Sequence[Record], seed: str) -> tuple[list[Record], list[Record]]:
    """Return two random halves of whole persons; they differ by the records of a person at most."""
    rng = random.Random(f"{seed}/halves")  # noqa: S311 (a reproducible draw, no secret)
    whose: dict[str, list[Record]] = {}
    for record in records:
        whose.setdefault(record.person, []).append(record)
    halves: tuple[list[Record], list[Record]] = ([], [])
    for person in sorted(rng.sample(sorted(whose), len(whose)), key=lambda p: -len(whose[p])):
        halves[
            len(halves[0]) > len(halves[1]) or (len(halves[0]) == len(halves[1]) and rng.random() < 0.5)
        ].extend(whose[person])
    return halves


def write(records: Iterable[Record], path: Path) -> Path:
    """Write records as CSV."""
    with path.open("w", encoding="utf-8", newline="") as file:
        rows = csv.DictWriter(file, ["id", "person", "text", "label"], lineterminator="\n")
        rows.writeheader()
        rows.writerows(asdict(r) for r in records)
    return path
