"""The difference of two estimates from their own intervals, where no common fit has an honest width."""

from __future__ import annotations

import math

from scipy import stats

from albert_audit.stats.inference import MIN_DF
from albert_audit.stats.power import resolvability
from albert_audit.types import Estimate, Interval, Level


def interval_difference(first: Estimate, second: Estimate, *, comparisons: int = 1) -> Estimate:
    """Return `first` less `second` with limits recovered from theirs.

    Two rates that are both 0, or two gaps that are both 0, have a linear fit without variance, and so a
    difference that looks certain. Their own score intervals have a width, and so has this one.

    Parameters
    ----------
    first, second : Estimate
        Taken as independent; what they share and moves both the same way makes the interval too wide.
        Both were made with the same `comparisons`.

    Returns
    -------
    Estimate
        With the smaller degrees of freedom; without intervals where either has none.

    Notes
    -----
    The method of variance estimates recovery: Zou and Donner (2008), Stat. Med. 27(10). Of two Wilson
    intervals it gives Newcombe's. The p-value rests on the same recovered variances.
    """
    value, df = first.value - second.value, min(first.df, second.df)
    bare = Estimate(value=value, se=math.hypot(first.se, second.se), df=df)
    if df < MIN_DF or not first.intervals or not second.intervals:
        return bare
    ends: dict[Level, Interval] = {}
    levels: tuple[Level, ...] = ("0.90", "0.95", "simultaneous_0.95")
    for level in levels:
        a, b = first.intervals[level], second.intervals[level]
        low = value - math.hypot(first.value - a.low, b.high - second.value)
        high = value + math.hypot(a.high - first.value, second.value - b.low)
        ends[level] = Interval(low=low, high=high)
    # The half-widths of the two at their own critical values are standard errors again.
    halves = [
        (e.intervals["0.95"].high - e.intervals["0.95"].low) / 2 / float(stats.t.ppf(0.975, e.df))
        for e in (first, second)
    ]
    se = math.hypot(*halves)
    critical = float(stats.t.ppf(1 - 0.025 / comparisons, df))
    return bare.model_copy(
        update={
            "intervals": ends,
            "p": float(2 * stats.t.sf(abs(value) / se, df)) if se > 0 else 1.0,
            "resolvability": resolvability(se, df, critical),
        }
    )
