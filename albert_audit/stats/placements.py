"""What each record adds to an area under a ROC curve, and the variance over persons.

References
----------
DeLong, DeLong and Clarke-Pearson (1988), Biometrics 44(3); Obuchowski (1997), Biometrics 53(2), for
records that share a person.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from albert_audit.stats.auc import _placements
from albert_audit.stats.linear import Design

Array = NDArray[np.float64]
Bools = NDArray[np.bool_]
Codes = NDArray[np.intp]
Persons = Sequence[object] | NDArray[np.generic] | None


@dataclass(frozen=True)
class Area:
    """An area under a ROC curve, or a difference of such areas.

    Attributes
    ----------
    value, se : float
        With DeLong's or, where persons have several records, Obuchowski's standard error.
    df : float
        The effective number of persons on the smaller side, less one.
    sizes : tuple of two int
        How many independent members and non-members would have the same variance, rounded down; at
        most as many as there are records, and the effective persons where the records do not vary.
    """

    value: float
    se: float
    df: float
    sizes: tuple[int, int]


def checked(scores: ArrayLike, member: ArrayLike, persons: Persons) -> tuple[Array, Bools, Codes]:
    """Return scores, membership and person numbers (n,); each record its own person without `persons`.

    Raises
    ------
    ValueError
        When lengths disagree, a score is not finite, membership is not yes or no, or a side is empty.
    """
    s, given = np.asarray(scores, np.float64), np.asarray(member)
    if s.ndim != 1 or s.shape != given.shape or not np.isfinite(s).all():
        raise ValueError(
            f"expected finite scores and membership of one length, found {s.shape}, {given.shape}"
        )
    if not np.isin(given, (0, 1)).all():
        raise ValueError("expected membership as true and false, or 1 and 0")
    inside = given.astype(bool)
    if inside.all() or not inside.any():
        raise ValueError(f"expected members and non-members, found {inside.sum()} and {(~inside).sum()}")
    codes = np.arange(len(s)) if persons is None else np.unique(np.asarray(persons), return_inverse=True)[1]
    if codes.shape != s.shape:
        raise ValueError(f"expected one person a record, found {codes.shape} for {s.shape}")
    return s, inside, codes


def effective_persons(codes: Codes) -> float:
    """Return how many persons with equally many records these are worth."""
    return Design.mean([codes]).counts[0][1]


def by_record(scores: Array, inside: Bools) -> Array:
    """Return for each record the share of the other side that it is placed rightly against, ties half."""
    out = np.empty(len(scores))
    out[inside], out[~inside] = _placements(scores[inside], scores[~inside], 0.0)
    return out


def area_of(placements: Array, inside: Bools, codes: Codes) -> Area:
    """Return an area, or a difference of areas, from what each record adds to it."""
    people = int(codes.max()) + 1
    sums, variances, sizes, effective = [], [], [], []
    for side in (inside, ~inside):
        centred, m = placements[side] - placements[side].mean(), int(side.sum())
        centred[np.abs(centred) < 1e-12] = 0.0
        total = np.bincount(codes[side], centred, people) / m
        count = len(np.unique(codes[side]))
        variance = float((total**2).sum()) * count / max(count - 1, 1)
        alone = float((centred**2).sum()) / m / max(m - 1, 1)
        effective.append(effective_persons(codes[side]))
        sums.append(total)
        variances.append(variance)
        size = m * alone / variance if variance > 0 else effective[-1]
        sizes.append(max(int(min(size, m) + 1e-6), 1))
    crossed = 2 * float(sums[0] @ sums[1]) * people / max(people - 1, 1)
    plain = float(((sums[0] + sums[1]) ** 2).sum())  # cannot be negative, as the sum below can
    se = math.sqrt(max(sum(variances) + crossed, plain))
    return Area(float(placements[inside].mean()), se, min(effective) - 1, (sizes[0], sizes[1]))
