"""From a fit to an estimate with intervals, a p-value and what it could have resolved."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from scipy import stats

from albert_audit.stats.linear import Fit
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
    variance = float(fit.se) ** 2
    binomial = share * (1 - share)
    size = min(binomial / variance, float(n)) if variance > 0 and binomial > 0 else clusters
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
