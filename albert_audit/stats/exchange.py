"""Randomisation tests of paired things: signs of differences, and which two belong together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np
from numpy.typing import ArrayLike, NDArray

from albert_audit.stats.permutation import Permuted

Array = NDArray[np.float64]

RUNS = 9_999
_EXACT = 13  # 2**12 patterns of signs


def sign_flip(
    values: ArrayLike, clusters: Sequence[object] | NDArray[np.generic], rng: np.random.Generator
) -> Permuted:
    """Test whether differences are even around 0, by turning the signs of whole clusters.

    Parameters
    ----------
    values : array, shape (n,)
        Differences of pairs.
    clusters : sequence of n labels
        What is turned at once: the pairs of one template stay together.
    rng : numpy Generator
        Draws the patterns of signs where there are more than 13 clusters.

    Returns
    -------
    Permuted
        Two-sided, by the absolute sum; a pattern equal to the observed one up to rounding counts as
        reached. Drawn patterns are joined by the observed one, so that p is never 0.

    Raises
    ------
    ValueError
        When shapes disagree, or there is nothing to test.

    Notes
    -----
    Exact where the two members of a pair can be exchanged under the hypothesis.

    Source: Fisher (1935), The Design of Experiments; Phipson and Smyth (2010), Stat. Appl. Genet. Mol.
    Biol. 9(1), for the observed one being counted.
    """
    y = np.asarray(values, np.float64)
    codes = np.unique(np.asarray(clusters), return_inverse=True)[1]
    if y.ndim != 1 or y.shape != codes.shape or not len(y):
        raise ValueError(f"expected two vectors of one length, found {y.shape} and {codes.shape}")
    sums = np.bincount(codes, y)
    exact = len(sums) <= _EXACT
    # Turning all signs changes nothing, so the first may stay.
    signs = (
        np.array([(1, *rest) for rest in product((1, -1), repeat=len(sums) - 1)])
        if exact
        else rng.choice(np.array([-1, 1], np.int8), size=(RUNS, len(sums)))
    )
    reach = abs(float(sums.sum())) - 1e-9 * float(np.abs(sums).sum())
    hits = int((np.abs(signs @ sums) >= reach).sum())
    if exact:
        return Permuted(hits / len(signs), len(signs), True)
    return Permuted((hits + 1) / (RUNS + 1), RUNS, False)


@dataclass(frozen=True)
class Partners:
    """Whether two things that belong together are more alike than two that do not.

    Attributes
    ----------
    observed, expected : float
        Mean similarity of those that belong together, and over all ways of putting them together.
    low, high : float
        The 2.5th and 97.5th percentile of the permuted means.
    p : float
        One-sided: share of the ways whose mean is at least as high; never 0.
    n : int
        How many took part.
    """

    observed: float
    expected: float
    low: float
    high: float
    p: float
    n: int


def partners(
    similarity: ArrayLike, strata: Sequence[object] | NDArray[np.generic], rng: np.random.Generator
) -> Partners | None:
    """Test the diagonal of a similarity matrix by exchanging the columns within strata.

    Parameters
    ----------
    similarity : array, shape (n, n)
        Row i of the first kind against column j of the second; only cells within a stratum are looked
        at, the others may be NaN.
    strata : sequence of n labels
        Which can be compared at all. One that is alone in its stratum takes no part.

    Returns
    -------
    Partners or None
        None where nobody has a partner to exchange with.

    Raises
    ------
    ValueError
        When shapes disagree, or a cell that is needed is not a number.

    Source: Mantel (1967), Cancer Research 27(2), for the permuted matrix; the "+1" as in `sign_flip`.
    """
    s = np.asarray(similarity, np.float64)
    codes, counts = np.unique(np.asarray(strata), return_inverse=True, return_counts=True)[1:]
    if s.shape != (len(codes), len(codes)):
        raise ValueError(f"expected a square matrix for {len(codes)} labels, found {s.shape}")
    taking = np.flatnonzero(counts[codes] > 1)
    if not len(taking):
        return None
    groups = [np.flatnonzero(codes == g) for g in np.unique(codes[taking])]
    if not all(np.isfinite(s[np.ix_(g, g)]).all() for g in groups):
        raise ValueError("expected a number in every cell within a stratum")
    drawn = np.zeros(RUNS)
    for g in groups:
        order = np.argsort(rng.random((RUNS, len(g))), axis=1)
        drawn += s[g[None], g[order]].sum(axis=1)
    drawn /= len(taking)
    observed = float(s[taking, taking].mean())
    expected = sum(float(s[np.ix_(g, g)].mean()) * len(g) for g in groups) / len(taking)
    hits = int((drawn >= observed - 1e-12).sum())
    low, high = (float(q) for q in np.quantile(drawn, [0.025, 0.975]))
    return Partners(observed, expected, low, high, (hits + 1) / (RUNS + 1), len(taking))
