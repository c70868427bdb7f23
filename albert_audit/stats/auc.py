"""How well a score tells two classes apart, how well labels are hit, how well a rating is followed."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import optimize, stats

from albert_audit.types import Estimate, Interval, Level

LEAST = 10
"""Below this many items a side no interval is given."""
Array = NDArray[np.float64]


def auc(high: ArrayLike, low: ArrayLike, *, tolerance: float = 0.0, comparisons: int = 1) -> Estimate:
    """Return the area under the ROC curve: how often an item of `high` scores above one of `low`.

    Parameters
    ----------
    high, low : array, shapes (m,) and (n,)
        Scores of independent items.
    tolerance : float
        Scores that differ by no more are ties, which count one half.
    comparisons : int
        Areas that are looked at together; widens only the simultaneous interval.

    Returns
    -------
    Estimate
        With the null 0.5. Each interval is the wider, end by end, of DeLong's, which knows the scores,
        and Newcombe's score interval, which has a width even when the classes do not overlap.

    Raises
    ------
    ValueError
        When a side is empty or a score is not finite.

    Notes
    -----
    Sources: DeLong, DeLong and Clarke-Pearson (1988), Biometrics 44(3); Newcombe (2006), Stat. Med.
    25(4), method 5, with the variance of Hanley and McNeil (1982), Radiology 143(1).
    """
    x, y = np.asarray(high, np.float64), np.asarray(low, np.float64)
    if not len(x) or not len(y) or not (np.isfinite(x).all() and np.isfinite(y).all()):
        raise ValueError(f"expected finite scores on both sides, found {len(x)} and {len(y)} scores")
    above, over = _placements(x, y, tolerance)
    area, m, n = float(above.mean()), len(x), len(y)
    if min(m, n) < LEAST:
        return Estimate(value=area, se=0.0, df=0.0, null=0.5)
    se = math.sqrt(float(above.var(ddof=1)) / m + float(over.var(ddof=1)) / n)

    def ends(critical: float) -> Interval:
        low_, high_ = _newcombe(area, m, n, critical)
        return Interval(
            low=max(min(area - critical * se, low_), 0.0), high=min(max(area + critical * se, high_), 1.0)
        )

    return _with(area, se, float(m + n - 2), 0.5, ends, comparisons)


def macro_recall(hits: Sequence[int], totals: Sequence[int]) -> Estimate:
    """Return the mean recall over labels (balanced accuracy), each label counting the same.

    Parameters
    ----------
    hits, totals : sequence of int
        For each label the items that were found, and all of them.

    Returns
    -------
    Estimate
        With the null 1 / labels, which is what any constant answer gets. The interval joins Wilson's of
        each label by the method of variance estimates recovery, and so has a width at 0 and 1.

    Raises
    ------
    ValueError
        When there is no label, or one without items.

    Notes
    -----
    Source: Zou and Donner (2008), Stat. Med. 27(10).
    """
    h, t = np.asarray(hits, np.float64), np.asarray(totals, np.float64)
    if h.shape != t.shape or not len(t) or (t < 1).any() or (h < 0).any() or (h > t).any():
        raise ValueError(f"expected 0 <= hits <= totals for each label, found {list(hits)} of {list(totals)}")
    recall, k = h / t, len(t)
    value, se = float(recall.mean()), float(np.sqrt((recall * (1 - recall) / t).sum())) / k
    if t.min() < LEAST:
        return Estimate(value=value, se=se, df=0.0, null=1 / k)

    def ends(critical: float) -> Interval:
        z = critical**2 / t
        centre = (recall + z / 2) / (1 + z)
        half = np.sqrt(z * (recall * (1 - recall) + z / 4)) / (1 + z)
        down = math.sqrt(float(((recall - np.maximum(centre - half, 0)) ** 2).sum())) / k
        up = math.sqrt(float(((np.minimum(centre + half, 1) - recall) ** 2).sum())) / k
        return Interval(low=max(value - down, 0.0), high=min(value + up, 1.0))

    return _with(value, se, float(t.sum() - k), 1 / k, ends, 1)


def rank_correlation(x: ArrayLike, y: ArrayLike) -> Estimate:
    """Return Spearman's rank correlation; 0 where one of the two does not vary.

    Parameters
    ----------
    x, y : array, shape (n,)

    Raises
    ------
    ValueError
        When the lengths differ or a number is not finite.

    Notes
    -----
    Interval by Fisher's z with the standard error of Bonett and Wright (2000), Psychometrika 65(1).
    """
    a, b = np.asarray(x, np.float64), np.asarray(y, np.float64)
    if a.shape != b.shape or not (np.isfinite(a).all() and np.isfinite(b).all()):
        raise ValueError(f"expected two lists of finite numbers of one length, found {len(a)} and {len(b)}")
    n = len(a)
    varies = n > 1 and bool(np.ptp(a) > 0 and np.ptp(b) > 0)
    r = float(np.corrcoef(stats.rankdata(a), stats.rankdata(b))[0, 1]) if varies else 0.0
    r = min(max(r, -1.0), 1.0)
    if n < 2 * LEAST:
        return Estimate(value=r, se=0.0, df=0.0)
    width = math.sqrt((1 + r**2 / 2) / (n - 3))
    z = math.atanh(min(max(r, -1 + 1e-12), 1 - 1e-12))

    def ends(critical: float) -> Interval:
        low, high = math.tanh(z - critical * width), math.tanh(z + critical * width)
        return Interval(low=min(low, r), high=max(high, r))

    return _with(r, (1 - r**2) * width, float(n - 2), 0.0, ends, 1)


def _placements(x: Array, y: Array, tolerance: float) -> tuple[Array, Array]:
    """Return for each item the share of the other side that the high side exceeds, ties one half."""
    if tolerance == 0:
        low, high = np.sort(y), np.sort(x)
        above = (np.searchsorted(low, x, "left") + np.searchsorted(low, x, "right")) / (2 * len(y))
        over = 1 - (np.searchsorted(high, y, "left") + np.searchsorted(high, y, "right")) / (2 * len(x))
        return above, over
    gap = x[:, None] - y[None, :]
    wins = np.where(np.abs(gap) <= tolerance, 0.5, (gap > 0) * 1.0)
    return wins.mean(axis=1), wins.mean(axis=0)


def _newcombe(area: float, m: float, n: float, critical: float) -> tuple[float, float]:
    """Return the areas that lie `critical` of their own standard errors from the one found."""
    size = (m + n) / 2

    def beyond(t: float) -> float:
        spread = t * (1 - t) * (1 + (size - 1) * ((1 - t) / (2 - t) + t / (1 + t))) / (m * n)
        return (area - t) ** 2 - critical**2 * spread

    edge = 1e-9  # at 0 and 1 the variance is 0, which would be a root of its own
    low = float(optimize.brentq(beyond, 0.0, min(area, 1 - edge))) if area > edge else 0.0
    high = float(optimize.brentq(beyond, max(area, edge), 1.0)) if area < 1 - edge else 1.0
    return low, high


def _with(
    value: float, se: float, df: float, null: float, ends: Callable[[float], Interval], comparisons: int
) -> Estimate:
    tails: dict[Level, float] = {"0.90": 0.05, "0.95": 0.025, "simultaneous_0.95": 0.025 / comparisons}
    return Estimate(
        value=value,
        se=se,
        df=df,
        null=null,
        intervals={level: ends(float(stats.norm.isf(tail))) for level, tail in tails.items()},
    )
