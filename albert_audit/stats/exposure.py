"""Exposure: how far above never-inserted candidates a model ranks a secret that it was shown.

Scores are log-probabilities, or differences of such: a higher one is likelier. Exposure is in bits.
Ranks rest on chance too: without any memory the exposure of a canary is 1.44 bits on average and above
4.32 for one in twenty, so that one canary's exposure alone says little.

References
----------
Carlini, Liu, Erlingsson, Kos and Song (2019), USENIX Security, The Secret Sharer.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import integrate, special, stats

from albert_audit.stats.inference import MIN_DF, estimate
from albert_audit.stats.linear import Design
from albert_audit.stats.one_run import fair_coins
from albert_audit.types import Estimate

Array = NDArray[np.float64]
Labels = Sequence[object] | NDArray[np.generic]

LEAST_REFERENCES = 100
"""With fewer references no distribution is fitted to their scores."""


def rank_exposure(score: ArrayLike, references: ArrayLike) -> Array:
    """Return log2 |R| - log2 rank, where the rank is 1 + the references that score as high or higher.

    Parameters
    ----------
    score : array, any shape
        Of inserted secrets.
    references : array, shape (r,)
        Scores of candidates of the same form and number of pieces, none of them ever inserted.

    Returns
    -------
    ndarray, of `score`'s shape
        At most log2 |R|, which a secret that beats every reference has: it may lie anywhere above. Ties
        put the references first, so that a model that scores all alike exposes nothing.

    Raises
    ------
    ValueError
        When a score is not finite or there is no reference (so do all functions here).
    """
    s, r = _scores(score, references)
    return np.asarray(math.log2(len(r)) - np.log2(_ranks(s, r)))


def rank_p(score: ArrayLike, references: ArrayLike) -> Array:
    """Return rank / (|R| + 1), the p-value of a secret that is one more candidate."""
    s, r = _scores(score, references)
    return np.asarray(_ranks(s, r) / (len(r) + 1))


def extrapolated_exposure(score: ArrayLike, references: ArrayLike) -> tuple[Array, float, NDArray[np.bool_]]:
    """Return the exposure by a skew-normal distribution fitted to the references' log scores.

    Parameters
    ----------
    score : array, any shape
    references : array, shape (r,)
        Scores on the log scale. On the scale of perplexity the fit understates exposure.

    Returns
    -------
    bits : ndarray, of `score`'s shape
        -log2 of the probability beyond the score.
    ks_p : float
        Of a Kolmogorov-Smirnov test of the fit. The parameters come from the same scores, so that it is
        too large: a small one speaks against the fit, a large one not for its tail.
    beyond : ndarray of bool
        Where no reference scores as high: the figure is extrapolated.

    Raises
    ------
    ValueError
        Also with fewer than `LEAST_REFERENCES` references, or where they do not vary.
    """
    s, r = _scores(score, references)
    centre, scale = float(r.mean()), float(r.std())
    if len(r) < LEAST_REFERENCES or scale <= 1e-9 * max(abs(centre), 1.0):
        raise ValueError(f"expected {LEAST_REFERENCES} references that vary, found {len(r)}")
    z = (r - centre) / scale  # the fit does not depend on the unit
    a, location, width = _fit(z)
    ks_p = float(stats.kstest(z, lambda x: stats.skewnorm.cdf(x, a, location, width)).pvalue)
    flat = ((s - centre) / scale - location).ravel() / width
    bits = np.array([-_log_tail(float(x), a) / math.log(2) for x in flat]).reshape(s.shape)
    return np.maximum(bits, 0.0), ks_p, np.asarray(s > r.max())


def fisher(p: ArrayLike, *, shared: int | None = None) -> float:
    """Return one p-value for whether all canaries, taken together, rank above candidates.

    Parameters
    ----------
    p : array, shape (n,)
        Of `rank_p`, each from 0, excluded, to 1.
    shared : int, optional
        How many references all of them were ranked among. Then they are dependent, and the variance
        is (1 + n / references) times that of independent ones. Leave it out only where each canary
        had references of its own.

    Notes
    -----
    Sources: Fisher (1932), Statistical Methods for Research Workers; Brown (1975), Biometrics 31(4),
    for a scaled chi-square under dependence. The factor is that of the Savage scores, -log(1 - rank),
    of two samples: the references' part of the variance is 1 / references, as the canaries' is 1 / n.
    """
    values = np.asarray(p, np.float64)
    if values.ndim != 1 or not len(values) or not ((values > 0) & (values <= 1)).all():
        raise ValueError("expected p-values above 0 and at most 1")
    if shared is not None and shared < 1:
        raise ValueError(f"expected at least one shared reference, found {shared}")
    inflation = 1 + (len(values) / shared if shared else 0.0)
    statistic = -2 * float(np.log(values).sum())
    return float(stats.chi2.sf(statistic / inflation, 2 * len(values) / inflation))


def exposure_slope(
    exposures: ArrayLike, repetitions: ArrayLike, clusters: Labels | None = None, *, comparisons: int = 1
) -> Estimate:
    """Return how many bits exposure rises with each doubling of how often a secret was inserted.

    Parameters
    ----------
    exposures, repetitions : array, shape (n,)
        Canaries inserted at least once; those never inserted have no place on a log scale.
    clusters : sequence of n labels, optional
        Canaries that depend on each other, such as those in one template.
    comparisons : int

    Notes
    -----
    Exposures at the cap of `rank_exposure` flatten the slope.
    """
    y, k = np.asarray(exposures, np.float64), np.asarray(repetitions, np.float64)
    if y.ndim != 1 or y.shape != k.shape or not np.isfinite(y).all() or not (np.isfinite(k) & (k >= 1)).all():
        raise ValueError(
            "expected for each canary a finite exposure and how often it was inserted, 1 or more"
        )
    groups = range(len(y)) if clusters is None else clusters
    return estimate(Design.slope(np.log2(k), [list(groups)]).fit(y), comparisons=comparisons)


def exposure_gap(
    included: ArrayLike,
    left_out: ArrayLike,
    clusters: tuple[Labels, Labels] | None = None,
    *,
    comparisons: int = 1,
) -> Estimate:
    """Return the mean exposure of inserted canaries less that of canaries made alike and never inserted.

    Parameters
    ----------
    included, left_out : array, shapes (m,) and (n,)
        Exposures among the same references, whose luck thus cancels.
    clusters : tuple of two sequences of labels, optional
        Of `included` and of `left_out`; those that share a template carry the same label.
    comparisons : int
    """
    a, b = (np.asarray(v, np.float64) for v in (included, left_out))
    if a.ndim != 1 or b.ndim != 1 or not len(a) or not len(b) or not np.isfinite([*a, *b]).all():
        raise ValueError(f"expected finite exposures on both sides, found {a.shape} and {b.shape}")
    groups = (range(len(a)), range(len(a), len(a) + len(b))) if clusters is None else clusters
    first, second = (Design.mean([list(g)]) for g in groups)
    if (len(first.x), len(second.x)) != (len(a), len(b)):
        raise ValueError("expected one cluster label for each exposure")
    if min(first.df, second.df) < MIN_DF:
        return Estimate(value=float(a.mean() - b.mean()), se=0.0, df=min(first.df, second.df))
    design = Design.difference(first, second, [[*groups[0], *groups[1]]])
    return estimate(design.fit(np.concatenate([a, b])), comparisons=comparisons)


def rerandomised(
    scores: ArrayLike, included: ArrayLike, rng: np.random.Generator, runs: int = 10_000
) -> float:
    """Return the p-value of flipping the coins of all canaries again, one-sided.

    Parameters
    ----------
    scores : array, shape (m,)
        Higher = more likely included. Only their ranks count.
    included : array, shape (m,)
        How the coins fell, fair and independent.
    rng : numpy Generator
    runs : int

    Returns
    -------
    float
        How often the included ones rank as high together, at least 1 / (runs + 1). Exact whatever the
        scores' distribution and however the canaries depend on each other.

    Source: Fisher (1935), The Design of Experiments; Phipson and Smyth (2010) for the added one.
    """
    s, coins = np.asarray(scores, np.float64), fair_coins(included)
    if s.shape != coins.shape or not np.isfinite(s).all() or runs < 1:
        raise ValueError(f"expected one finite score a canary and a run, found {s.shape} for {coins.shape}")
    ranks = stats.rankdata(s) - (len(s) + 1) / 2
    observed = float((coins - 0.5) @ ranks)
    reached = 0
    for done in range(0, runs, 1000):
        flips = rng.integers(0, 2, (min(1000, runs - done), len(s))) - 0.5
        reached += int((flips @ ranks >= observed - 1e-9).sum())
    return (1 + reached) / (runs + 1)


def _scores(score: ArrayLike, references: ArrayLike) -> tuple[Array, Array]:
    s, r = np.asarray(score, np.float64), np.asarray(references, np.float64)
    if r.ndim != 1 or not len(r) or not np.isfinite(r).all() or not np.isfinite(s).all():
        raise ValueError(f"expected finite scores and a list of references, found {s.shape} and {r.shape}")
    return s, r


def _ranks(s: Array, r: Array) -> Array:
    return np.asarray(1.0 + len(r) - np.searchsorted(np.sort(r), s, "left"))


def _log_tail(x: float, a: float) -> float:
    """Return the log of the probability beyond x; scipy's is -inf where the probability underflows."""
    plain = float(stats.skewnorm.sf(x, a))
    if plain > 1e-4:
        return math.log(plain)

    def log_density(t: float) -> float:
        return float(math.log(2) + stats.norm._logpdf(t) + special.log_ndtr(a * t))

    start = log_density(x)
    # The log density is concave: from here on it falls at least as fast as it does here.
    slope = x - a * math.exp(-0.5 * (a * x) ** 2 - float(special.log_ndtr(a * x))) / math.sqrt(2 * math.pi)
    rest, _ = integrate.quad(lambda u: math.exp(log_density(x + u / slope) - start), 0, 60, limit=200)
    return start + math.log(rest / slope)


def _fit(z: Array) -> tuple[float, float, float]:
    a, location, width = stats.skewnorm.fit(z)
    return float(a), float(location), float(width)
