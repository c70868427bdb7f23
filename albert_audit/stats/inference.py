"""From a fit to an estimate with intervals, a p-value and what it could have resolved."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from albert_audit.stats.linear import Design, Fit
from albert_audit.stats.power import resolvability
from albert_audit.types import Estimate, Interval, Level

MIN_DF = 8.0
"""Below these degrees of freedom no interval is given: none would be honest."""


@lru_cache(maxsize=1024)
def _criticals(df: float, comparisons: int) -> dict[Level, float]:
    return {
        "0.90": float(stats.t.ppf(0.95, df)),
        "0.95": float(stats.t.ppf(0.975, df)),
        # Bonferroni over the family: simultaneous whatever the dependence.
        "simultaneous_0.95": float(stats.t.ppf(1 - 0.025 / comparisons, df)),
    }


def estimate(fit: Fit, *, null: float = 0.0, comparisons: int = 1) -> Estimate:
    """Turn a scalar fit into an estimate with t intervals.

    Parameters
    ----------
    comparisons : int
        Findings in the family; widens only the simultaneous interval.
    """
    value, se, df = float(fit.value), float(fit.se), float(fit.df)
    bare = Estimate(value=value, se=se, df=df, null=null)
    tied = math.isclose(value, null, rel_tol=1e-9, abs_tol=1e-12)
    if df < MIN_DF or (se == 0.0 and not tied):
        return bare  # no variation between clusters at a non-null value: nothing to base a width on
    criticals = _criticals(df, comparisons)
    return bare.model_copy(
        update={
            "intervals": {k: Interval(low=value - c * se, high=value + c * se) for k, c in criticals.items()},
            "p": float(2 * stats.t.sf(abs(value - null) / se, df)) if se > 0 else 1.0,
            "resolvability": resolvability(se, df, criticals["simultaneous_0.95"]),
        }
    )


def share_estimate(fit: Fit, *, n: int, clusters: float, null: float = 0.5, comparisons: int = 1) -> Estimate:
    """Turn the fit of a share into an estimate with Wilson intervals at the effective sample size.

    A t interval has no width when every pair agrees; the score interval does. The effective sample
    size is the one at which independent pairs would have the fit's clustered variance, at most
    `n`; where the shares give no variance, it is the effective number of clusters.

    Source: Korn and Graubard (1998), Survey Methodology 24(2), for the effective sample size;
    Dean and Pagano (2015), Stat. Methods Med. Res. 24(4), for Wilson's interval with it.
    """
    share, df = min(max(float(fit.value), 0.0), 1.0), float(fit.df)
    size = effective_size(fit, n, clusters)
    se0 = float(np.sqrt(null * (1 - null) / size)) if size > 0 else 0.0
    bare = Estimate(value=share, se=float(fit.se), df=df, null=null)
    if df < MIN_DF:
        return bare
    criticals = _criticals(df, comparisons)
    return bare.model_copy(
        update={
            "intervals": {k: _wilson(share, size, c) for k, c in criticals.items()},
            "p": float(2 * stats.t.sf(abs(share - null) / se0, df)),
            "resolvability": resolvability(se0, df, criticals["simultaneous_0.95"]),
        }
    )


def effective_size(fit: Fit, n: int, clusters: float) -> float:
    """Return the number of independent items that would give a share's clustered variance.

    At most `n`; where the items do not vary, the effective number of clusters, which errs downwards.
    """
    share, variance = min(max(float(fit.value), 0.0), 1.0), float(fit.se) ** 2
    binomial = share * (1 - share)
    return min(binomial / variance, float(n)) if variance > 0 and binomial > 0 else min(clusters, float(n))


def rate_estimate(fit: Fit, *, n: int, clusters: float, comparisons: int = 1) -> Estimate:
    """Turn the fit of a rate, whose null is 0, into an estimate with Wilson intervals.

    No p-value: a rate is never below 0, so that testing it against 0 says nothing. With no event
    in `n` items the upper end still is what so few items allow.
    """
    share, df = min(max(float(fit.value), 0.0), 1.0), float(fit.df)
    size = effective_size(fit, n, clusters)
    bare = Estimate(value=share, se=float(fit.se), df=df)
    if df < MIN_DF:
        return bare
    criticals = _criticals(df, comparisons)
    typical = max(share, 1 / (size + 2))
    power = resolvability(math.sqrt(typical * (1 - typical) / size), df, criticals["simultaneous_0.95"])
    return bare.model_copy(
        update={
            "intervals": {k: _wilson(share, size, c) for k, c in criticals.items()},
            "resolvability": power.model_copy(
                update={
                    "detectable": 1 - 0.2 ** (1 / size),  # the rate at which one event is seen 8 times in 10
                    "passable_limit": _wilson(0.0, size, criticals["0.90"]).high,
                }
            ),
        }
    )


def rate_difference(
    first: Fit,
    second: Fit,
    *,
    n: tuple[int, int],
    clusters: tuple[float, float],
    df: float,
    comparisons: int = 1,
) -> Estimate:
    """Return the difference of two rates with Newcombe's hybrid score interval.

    Each rate has Wilson's interval at its effective size, so that a rate of 0 or 1 has a width.
    What the two have in common (the same texts) is not subtracted: the interval errs to the wide side.

    Source: Newcombe (1998), Stat. Med. 17(8), method 10, with the effective sizes of
    Korn and Graubard (1998).
    """
    a, b = (min(max(float(f.value), 0.0), 1.0) for f in (first, second))
    sizes = tuple(effective_size(f, m, c) for f, m, c in zip((first, second), n, clusters, strict=True))
    value = a - b
    pooled = (a * sizes[0] + b * sizes[1] + 1) / (sum(sizes) + 2)
    se = math.sqrt(pooled * (1 - pooled) * (1 / sizes[0] + 1 / sizes[1]))
    bare = Estimate(value=value, se=math.hypot(float(first.se), float(second.se)), df=df)
    if df < MIN_DF:
        return bare
    criticals = _criticals(df, comparisons)

    def ends(critical: float) -> Interval:
        i, j = _wilson(a, sizes[0], critical), _wilson(b, sizes[1], critical)
        low = value - math.hypot(a - i.low, j.high - b)
        return Interval(low=max(low, -1.0), high=min(value + math.hypot(i.high - a, b - j.low), 1.0))

    return bare.model_copy(
        update={
            "intervals": {k: ends(c) for k, c in criticals.items()},
            "p": float(2 * stats.t.sf(abs(value) / se, df)),
            "resolvability": resolvability(se, df, criticals["simultaneous_0.95"]),
        }
    )


def net_estimate(
    fit: Fit, *, up: float, down: float, n: int, clusters: float, comparisons: int = 1
) -> Estimate:
    """Return a net rate, the share of changes one way less the share of changes the other way.

    Parameters
    ----------
    fit : Fit
        Of the values -1, 0 and 1.
    up, down : float
        The shares of 1 and -1.

    Notes
    -----
    Half a change is added each way, so that no change at all still has a width (Bonett and Price
    2012, J. Educ. Behav. Stat. 37(4), for the difference of paired proportions), at the effective
    number of items. The p-value is that of the clustered fit; without any change it is 1.
    """
    value, df = min(max(float(fit.value), -1.0), 1.0), float(fit.df)
    plain = up + down - value**2
    variance = float(fit.se) ** 2
    size = min(plain / variance, float(n)) if variance > 0 and plain > 0 else min(clusters, float(n))
    bare = Estimate(value=value, se=float(fit.se), df=df)
    if df < MIN_DF:
        return bare
    criticals = _criticals(df, comparisons)
    more, less = (up * size + 1) / (size + 2), (down * size + 1) / (size + 2)
    centre = more - less
    se = math.sqrt(max(more + less - centre**2, 0.0) / (size + 2))

    def ends(critical: float) -> Interval:
        # The raw value is always inside.
        low, high = max(centre - critical * se, -1.0), min(centre + critical * se, 1.0)
        return Interval(low=min(low, value), high=max(high, value))

    return bare.model_copy(
        update={
            "intervals": {k: ends(c) for k, c in criticals.items()},
            "p": float(2 * stats.t.sf(abs(value) / float(fit.se), df)) if variance > 0 else 1.0,
            "resolvability": resolvability(se, df, criticals["simultaneous_0.95"]),
        }
    )


def independent_difference(first: Estimate, second: Estimate, *, comparisons: int = 1) -> Estimate:
    """Return the difference of two estimates that share no data, with the smaller degrees of freedom."""
    df = min(first.df, second.df)
    value, se = first.value - second.value, math.hypot(first.se, second.se)
    return estimate(Fit(np.asarray(value), np.asarray(se), df), comparisons=comparisons)


def jackknife(
    statistic: Callable[[NDArray[np.bool_]], float],
    clusters: Sequence[object],
    *,
    null: float = 0.0,
    comparisons: int = 1,
) -> tuple[Estimate, int, float]:
    """Return a statistic without a closed form, with the delete-one-cluster jackknife's t interval.

    Parameters
    ----------
    statistic : callable
        Of a mask over the rows (n,): the statistic over the rows that are kept.
    clusters : sequence of n labels

    Returns
    -------
    estimate, clusters, effective
        With how many clusters there are, and how many equal ones they are worth.

    Notes
    -----
    Centred at the estimate and not shrunk by (G - 1) / G, so that of a mean it is CR3 (see
    `Design`). The degrees of freedom are those of a mean over the same clusters: a few large clusters
    do not count as many. A statistic that is not finite when a cluster is left out has no interval.

    Source: Tukey (1958), Ann. Math. Stat. 29(2); MacKinnon, Nielsen and Webb (2023) for clusters.
    """
    names, codes = np.unique(np.asarray(clusters), return_inverse=True)
    value = float(statistic(np.ones(len(codes), bool)))
    count, effective = Design.mean([codes]).counts[0]
    left = np.array([statistic(codes != g) for g in range(len(names))]) if count > 1 else np.array([np.nan])
    if not np.isfinite(left).all():
        return Estimate(value=value, se=0.0, df=0.0, null=null), count, effective
    se = math.sqrt(float(((left - value) ** 2).sum()))
    fit = Fit(np.asarray(value), np.asarray(se), max(effective - 1, 0.0))
    return estimate(fit, null=null, comparisons=comparisons), count, effective


def _wilson(share: float, n: float, critical: float) -> Interval:
    k = critical**2 / n
    centre = (share + k / 2) / (1 + k)
    half = np.sqrt(k * (share * (1 - share) + k / 4)) / (1 + k)
    # In exact arithmetic the interval holds the share, stays between 0 and 1, and nests by level.
    low, high = max(round(float(centre - half), 12), 0.0), min(round(float(centre + half), 12), 1.0)
    return Interval(low=min(low, share), high=max(high, share))


def clopper_pearson(hits: int, runs: int, level: float = 0.95) -> Interval:
    """Return the exact binomial interval for `hits` of `runs`."""
    if not 0 <= hits <= runs or runs == 0:
        raise ValueError(f"expected 0 <= hits <= runs and runs > 0, found {hits} of {runs}")
    tail = (1 - level) / 2
    beta = stats.beta.ppf
    low = float(beta(tail, hits, runs - hits + 1)) if hits else 0.0
    high = float(beta(1 - tail, hits + 1, runs - hits)) if hits < runs else 1.0
    return Interval(low=low, high=high)


def holm(p: Sequence[float | None]) -> list[float | None]:
    """Return Holm-corrected p-values; None stays None and still counts as a comparison.

    A finding that could not be tested was planned all the same: leaving it out would make the
    correction depend on what failed.
    """
    filled = np.array([1.0 if q is None else q for q in p])
    if not len(filled):
        return []
    # statsmodels' multipletests gives the same and a full garbage collection with every call.
    order = np.argsort(filled, kind="stable")
    steps = np.maximum.accumulate(filled[order] * np.arange(len(filled), 0, -1))
    corrected = np.empty_like(filled)
    corrected[order] = np.minimum(steps, 1.0)
    return [None if q is None else float(c) for q, c in zip(p, corrected, strict=True)]
