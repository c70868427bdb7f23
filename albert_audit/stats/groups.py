"""Two groups compared: a difference made of two intervals, and a ratio of two rates."""

from __future__ import annotations

import math

import numpy as np
from scipy import stats

from albert_audit.stats.inference import estimate, rate_estimate
from albert_audit.stats.linear import Fit
from albert_audit.stats.power import resolvability
from albert_audit.types import Estimate, Interval


def recovered_difference(
    first: Estimate, second: Estimate, *, comparisons: int = 1, bound: float = 1.0
) -> Estimate:
    """Return the difference of two estimates that share no data, from their intervals.

    The distance from each estimate to the end of its interval stands for its uncertainty on that
    side. So the difference has a width even where neither estimate has a variance (no error at all).

    Parameters
    ----------
    first, second : Estimate
        Their simultaneous intervals are for the same number of `comparisons`.
    bound : float
        The largest difference there can be: 1 between shares, 2 between net shares.

    Notes
    -----
    The p-value takes the standard error from the end that lies towards 0, so that it is below 5 %
    exactly where the interval excludes 0.

    Source: Zou and Donner (2008), Stat. Med. 27(10), the method of variance estimates recovery.
    """
    value, df = first.value - second.value, min(first.df, second.df)
    bare = Estimate(value=value, se=math.hypot(first.se, second.se), df=df)
    if not first.intervals or not second.intervals:
        return bare.model_copy(update={"df": 0.0})
    ends = {
        level: Interval(
            low=max(value - math.hypot(first.value - a.low, second.intervals[level].high - second.value), -bound),
            high=min(value + math.hypot(a.high - first.value, second.value - second.intervals[level].low), bound),
        )
        for level, a in first.intervals.items()
    }  # fmt: skip
    two_sided = float(stats.t.ppf(0.975, df))
    middle = ends["0.95"]
    inner = (value - middle.low if value > 0 else middle.high - value) / two_sided
    typical = (middle.high - middle.low) / (2 * two_sided)
    simultaneous = float(stats.t.ppf(1 - 0.025 / comparisons, df))
    return bare.model_copy(
        update={
            "intervals": ends,
            "p": float(2 * stats.t.sf(abs(value) / inner, df)) if inner > 0 else 1.0,
            "resolvability": resolvability(typical, df, simultaneous) if typical > 0 else None,
        }
    )


def bounded_difference(fit: Fit, *, clusters: tuple[float, float], comparisons: int = 1) -> Estimate:
    """Return the difference of two means of values between -1 and 1, with a width even where none varies.

    As if each group had one cluster more at 1 and one at -1: scores of 0 and 1 that were right about ten
    texts do not prove that they are right about all (after Bonett and Price 2012, see `net_estimate`).

    Parameters
    ----------
    fit : Fit
        Of the difference.
    clusters : tuple of float
        How many equal clusters each group is worth.
    """
    more = sum(2 / (k + 2) ** 2 for k in clusters)
    wider = Fit(fit.value, np.sqrt(np.square(fit.se) + more), fit.df)
    return estimate(wider, comparisons=comparisons)


def rate_ratio(
    first: Fit, second: Fit, *, n: tuple[int, int], clusters: tuple[float, float]
) -> tuple[float, Interval] | None:
    """Return the ratio of two rates and its 0.95 interval, made on the log scale.

    None where a rate is 0 or has no interval. The ends are recovered from Wilson's interval of each
    rate at its effective size.

    Source: Zou and Donner (2008), as `recovered_difference`.
    """
    rates = [rate_estimate(f, n=m, clusters=c) for f, m, c in zip((first, second), n, clusters, strict=True)]
    if any(r.value <= 0 or not r.intervals for r in rates):
        return None
    logs = [
        (math.log(i.low / r.value), math.log(i.high / r.value)) for r in rates for i in [r.intervals["0.95"]]
    ]
    (a_down, a_up), (b_down, b_up) = logs
    ratio = rates[0].value / rates[1].value
    return ratio, Interval(
        low=ratio * math.exp(-math.hypot(a_down, b_up)), high=ratio * math.exp(math.hypot(a_up, b_down))
    )
