"""What a design can resolve: three distances from the null, each at 80 % power."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy import optimize, stats

from albert_audit.types import Resolvability

POWER = 0.80


@lru_cache(maxsize=64)
def _scale(df: float) -> NDArray[np.float64]:
    """4,000 equally likely values of estimated over true standard error.

    Averaging over them integrates the noncentral t, whose library tail is NaN for large effects.
    """
    out: NDArray[np.float64] = np.sqrt(stats.chi2.ppf((np.arange(4000) + 0.5) / 4000, df) / df)
    return out


@lru_cache(maxsize=256)
def _reach(df: float, critical: float) -> float:
    """Effect, in standard errors, that a t statistic exceeds `critical` with 80 % power."""
    s = critical * _scale(df)
    return float(optimize.brentq(lambda e: stats.norm.cdf(e - s).mean() - POWER, 0.0, 10 * critical + 10))


@lru_cache(maxsize=64)
def _passable(df: float) -> float:
    """Limit, in standard errors, that holds the 0.90 interval of a null effect with 80 % power."""
    s = float(stats.t.ppf(0.95, df)) * _scale(df)

    def lacking(limit: float) -> float:
        return float(np.maximum(2 * stats.norm.cdf(limit - s) - 1, 0).mean()) - POWER

    return float(optimize.brentq(lacking, 0.5, 60.0))


def resolvability(se: float, df: float, critical_simultaneous: float) -> Resolvability:
    """Return what an estimate with this precision could have seen.

    Parameters
    ----------
    se, df : float
        Standard error in the finding's unit, and its degrees of freedom (at least 8).
    critical_simultaneous : float
        The critical value of the interval that FAIL is judged by.
    """
    df = round(df, 2)  # one entry of the cache for designs that differ by rounding
    return Resolvability(
        # The far tail adds less than 1e-4 at this power and is left out: the figure errs upwards.
        detectable=_reach(df, float(stats.t.ppf(0.975, df))) * se,
        fail_excess=_reach(df, round(critical_simultaneous, 6)) * se,
        passable_limit=_passable(df) * se,
    )
