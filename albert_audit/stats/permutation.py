"""Permutation of whole clusters between two groups: exact where it can be, never p = 0."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from math import comb

import numpy as np
from numpy.typing import ArrayLike, NDArray

Array = NDArray[np.float64]

EXACT = 20_000
"""Up to so many partitions all of them are looked at; C(16, 8) is 12,870."""


@dataclass(frozen=True)
class Permuted:
    """A two-sided permutation test.

    Attributes
    ----------
    p : float
        Share of partitions whose difference is at least as far from 0 as the observed one.
    partitions : int
        How many were looked at.
    exact : bool
        Whether those are all there are.
    """

    p: float
    partitions: int
    exact: bool


def permute_groups(
    values: ArrayLike,
    first: Sequence[bool] | NDArray[np.bool_],
    clusters: Sequence[object] | NDArray[np.generic],
    rng: np.random.Generator,
    *,
    exact: int = EXACT,
) -> Permuted:
    """Test the difference of two groups' means by exchanging whole clusters between them.

    Parameters
    ----------
    values : array, shape (n,)
    first : sequence of n bool
        Whether a value belongs to the first group; a cluster lies in one group.
    clusters : sequence of n labels
        What is exchanged: values of one cluster (the sentences of one word) stay together.
    rng : numpy Generator
        Draws the partitions where there are more than `exact`.
    exact : int

    Raises
    ------
    ValueError
        When shapes disagree, a group is empty, or a cluster lies in both groups.

    Notes
    -----
    The groups may differ in size. All partitions hold the observed one; drawn ones are joined by it
    (the "+1"), so that p is never 0. Two-sided by the absolute difference; a difference equal to the
    observed one up to rounding counts as reached.

    Source: Phipson and Smyth (2010), Stat. Appl. Genet. Mol. Biol. 9(1), Permutation p-values should
    never be zero; Caliskan et al. (2017) for the test of word sets, there one-sided.
    """
    y, group = np.asarray(values, np.float64), np.asarray(first, bool)
    names, codes = np.unique(np.asarray(clusters), return_inverse=True)
    if not y.shape == group.shape == codes.shape or y.ndim != 1:
        raise ValueError(
            f"expected three vectors of one length, found {y.shape}, {group.shape}, {codes.shape}"
        )
    sums, counts = np.bincount(codes, y - y.mean()), np.bincount(codes)
    inside = np.bincount(codes, group)
    if ((inside > 0) & (inside < counts)).any():
        raise ValueError("a cluster lies in both groups: nothing can be exchanged")
    mine = inside > 0
    k, total = int(mine.sum()), len(names)
    if not 0 < k < total:
        raise ValueError(f"expected two groups, found {k} of {total} clusters in the first")

    def far(members: NDArray[np.intp]) -> Array:
        """Return the absolute difference of each row of members, shape (r,)."""
        s, n = sums[members].sum(axis=1), counts[members].sum(axis=1)
        out: Array = np.abs(s / n - (sums.sum() - s) / (counts.sum() - n))
        return out

    observed = float(far(np.flatnonzero(mine)[None])[0])
    # Relative to the spread, as cosines of a narrow encoder differ in their last digits only.
    reach = observed - 1e-9 * max(observed, float(np.ptp(y)))
    ways = comb(total, k)
    if ways <= exact:
        rows = np.array(list(combinations(range(total), k)), np.intp)
        return Permuted(float((far(rows) >= reach).mean()), ways, True)
    hits = 0
    for start in range(0, exact, 2_000):  # in blocks: a draw of all at once may not fit into memory
        size = min(2_000, exact - start)
        rows = np.argsort(rng.random((size, total)), axis=1)[:, :k]
        hits += int((far(rows) >= reach).sum())
    return Permuted((hits + 1) / (exact + 1), exact, False)
