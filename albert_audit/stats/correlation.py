"""Correlations with an interval that the data's own spread decides."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from albert_audit.stats.inference import jackknife
from albert_audit.types import Estimate, Interval

Array = NDArray[np.float64]


def correlation(x: Array, y: Array, *, ranks: bool = False, comparisons: int = 1) -> Estimate:
    """Return the correlation of two columns of independent units, shape (n,).

    Parameters
    ----------
    ranks : bool
        Spearman's instead of Pearson's.

    Notes
    -----
    The delete-one jackknife of Fisher's z with a t interval, carried back to the scale of the
    correlation, so that it stays within -1 and 1 and needs no normal distribution. A correlation that
    is 1, or not defined (a column that does not vary), has no interval.

    Source: Fisher (1921); Hinkley (1978), Biometrika 65(1), for the jackknife of z.
    """

    def z(kept: NDArray[np.bool_]) -> float:
        a, b = x[kept], y[kept]
        if ranks:
            a, b = stats.rankdata(a), stats.rankdata(b)
        if len(a) < 3 or np.ptp(a) == 0 or np.ptp(b) == 0:
            return math.nan
        r = round(float(np.corrcoef(a, b)[0, 1]), 12)
        return math.atanh(r) if abs(r) < 1 else math.copysign(math.inf, r)

    whole = z(np.ones(len(x), bool))
    if not math.isfinite(whole):
        return Estimate(value=0.0 if math.isnan(whole) else math.copysign(1.0, whole), se=0.0, df=0.0)
    found, _, _ = jackknife(z, range(len(x)), comparisons=comparisons)
    r = math.tanh(found.value)
    return found.model_copy(
        update={
            "value": r,
            "se": found.se * (1 - r**2),
            "intervals": {
                k: Interval(low=min(math.tanh(i.low), r), high=max(math.tanh(i.high), r))
                for k, i in found.intervals.items()
            },
            "resolvability": found.resolvability and found.resolvability.model_copy(
                # From 0, where z and r have the same scale near by: tanh brings them into range.
                update={k: math.tanh(v) for k, v in found.resolvability.model_dump().items()}
            ),
        }
    )  # fmt: skip
