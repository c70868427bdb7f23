"""Two groups compared: a difference of means that may not vary, and a ratio of two rates."""

from __future__ import annotations

import math

import numpy as np

from albert_audit.stats.inference import estimate, rate_estimate
from albert_audit.stats.linear import Fit
from albert_audit.types import Estimate, Interval


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
