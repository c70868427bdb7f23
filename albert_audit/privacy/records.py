"""The records that membership is tested on: members, non-members and, where given, a pool."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from albert_audit.packs import Given
from albert_audit.types import UsageError

SETS = ("member", "non-member", "pool")
Bools = NDArray[np.bool_]


@dataclass(frozen=True)
class Records:
    """All records in one order: members first, then non-members, then the pool.

    Attributes
    ----------
    ids : tuple of str
        The set and the auditor's id, ``member/17``: unique over the sets.
    texts, labels, persons : tuple of str
        Labels are empty where none was given. A record without a person is a person of its own.
    sets : array of str, shape (n,)
        Of `SETS`.
    groups : dict
        For each axis the group of each record; empty where there is none.
    labelled : bool
    """

    ids: tuple[str, ...]
    texts: tuple[str, ...]
    labels: tuple[str, ...]
    persons: tuple[str, ...]
    sets: NDArray[np.str_]
    groups: dict[str, tuple[str, ...]]
    labelled: bool

    @property
    def member(self) -> Bools:
        """Whether each record was trained on, shape (n,)."""
        return np.asarray(self.sets == "member")

    @property
    def judged(self) -> Bools:
        """Whether each record is a member or a non-member, and not of the pool."""
        return np.asarray(self.sets != "pool")

    @property
    def has_pool(self) -> bool:
        """Whether further records were given to train reference models on."""
        return bool((self.sets == "pool").any())

    @property
    def repeated_persons(self) -> bool:
        """Whether some person has several of the judged records."""
        own = [p for p, j in zip(self.persons, self.judged, strict=True) if j]
        return len(set(own)) < len(own)

    def pick(self, values: Sequence[str], where: Bools) -> list[str]:
        """Return the values of some records."""
        return [v for v, keep in zip(values, where, strict=True) if keep]


def gather(members: Given, non_members: Given, pool: Given | None = None) -> Records:
    """Join the sets.

    Raises
    ------
    UsageError
        When one set is labelled and another is not, or they name other columns of groups.
    """
    given = [members, non_members, *([pool] if pool is not None else [])]
    if len({g.labelled for g in given}) > 1:
        raise UsageError(
            "labels were found in one set of records and not in another", "name the column in all of them"
        )
    if set(members.axes) != set(non_members.axes):
        raise UsageError(
            "members and non-members name other columns of groups", "name the same columns for both"
        )
    ids, texts, labels, persons, sets = [], [], [], [], []
    groups: dict[str, list[str]] = {axis: [] for axis in members.axes}
    for name, one in zip(SETS, given, strict=False):
        for text in one.texts:
            ids.append(f"{name}/{text.id}")
            texts.append(text.text)
            labels.append(text.label)
            persons.append(f"person {text.person}" if text.person else f"{name} {text.id}")
            sets.append(name)
            own = dict(text.groups)
            for axis, found in groups.items():
                found.append(own.get(axis, ""))
    return Records(
        tuple(ids), tuple(texts), tuple(labels), tuple(persons), np.asarray(sets),
        {axis: tuple(found) for axis, found in groups.items()}, members.labelled,
    )  # fmt: skip
