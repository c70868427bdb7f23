"""Random-effects combination of estimates, as meta-analysis does it."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Combined:
    """A combined effect; its standard error and p hold only when the effects are independent.

    Attributes
    ----------
    value, se : float
    between : float
        Variance between the true effects (tau squared), at least 0.
    p : float
        Two-sided, by the normal distribution.
    """

    value: float
    se: float
    between: float
    p: float


def variance_of_d(d: ArrayLike, n_first: int, n_second: int) -> Array:
    """Return the large-sample variance of standardised mean differences `d`, any shape.

    ``(n1 + n2) / (n1 n2) + d^2 / (2 (n1 + n2))``.

    Source: Hedges and Olkin (1985), Statistical Methods for Meta-Analysis, ch. 5.
    """
    total = n_first + n_second
    out: Array = total / (n_first * n_second) + np.asarray(d, np.float64) ** 2 / (2 * total)
    return out


def random_effects(effects: ArrayLike, variances: ArrayLike) -> Combined:
    """Combine `effects` (k,) with sampling variances (k,) by DerSimonian and Laird.

    Raises
    ------
    ValueError
        When there are fewer than two effects, or a variance is not positive.

    Source: DerSimonian and Laird (1986), Controlled Clinical Trials 7(3).
    """
    d, v = np.asarray(effects, np.float64), np.asarray(variances, np.float64)
    if d.shape != v.shape or d.ndim != 1 or len(d) < 2:
        raise ValueError(f"expected two or more effects, each with its variance, found {d.shape}, {v.shape}")
    if not (np.isfinite(d).all() and (v > 0).all()):
        raise ValueError("expected finite effects and positive variances")
    w = 1 / v
    fixed = float((w * d).sum() / w.sum())
    spread = float((w * (d - fixed) ** 2).sum())  # Cochran's Q
    scale = float(w.sum() - (w**2).sum() / w.sum())
    between = max(0.0, (spread - (len(d) - 1)) / scale)
    w = 1 / (v + between)
    value, se = float((w * d).sum() / w.sum()), math.sqrt(1 / float(w.sum()))
    return Combined(value, se, between, two_sided(value, se))


def two_sided(value: float, se: float) -> float:
    """Return the two-sided p of a normal deviate ``value / se``."""
    return float(2 * stats.norm.sf(abs(value) / se))
