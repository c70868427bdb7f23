"""The difference of two estimates from their own intervals, where no common fit has an honest width."""

from __future__ import annotations

import math

from scipy import stats

from albert_audit.stats.inference import MIN_DF
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
        return bare if df < MIN_DF else bare.model_copy(update={"df": 0.0})
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
