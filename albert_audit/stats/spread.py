"""How far attributes pull several groups apart: a variance with its permutation baseline taken off.

A variance over groups has no sign and is positive for noise alone. What noise cannot do is pull the
same groups the same way in every template. So the baseline is the expectation of the variance when
the attributes are permuted within each template, each template by itself: this keeps every template's
own level for every group (the general lean), unequal noise of the groups and their correlation, and
breaks only what the attributes have in common across templates. It has a closed form.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from albert_audit.stats.inference import estimate
from albert_audit.stats.linear import Fit
from albert_audit.types import Estimate

Array = NDArray[np.float64]
DRAWS = 1999


def group_spread(values: Array, rng: np.random.Generator, *, comparisons: int = 1) -> Estimate:
    """Return the variance between groups that attributes bring about, with its null at 0.

    Parameters
    ----------
    values : array, shape (templates, attributes, groups)
        What each attribute does to each group in each template, e.g. log P(group) less its prior.

    Returns
    -------
    Estimate
        The variance over groups (divisor groups - 1) of each attribute's mean over templates, taken
        around the mean of all attributes, less its permutation expectation, and scaled to estimate
        without bias the variance of what the attributes do in all templates alike. It may be negative.
        The p-value is that of the permutation (two-sided on the distance from 0, with its +1).

    Raises
    ------
    ValueError
        With fewer than two of anything.

    Notes
    -----
    The standard error joins two jackknives, over templates and over attributes, by adding their
    variances: it errs to the wide side, most of all near 0, where the p-value is the sharper answer.
    The degrees of freedom are those of the smaller of the two, less one.

    Source: the variance over groups is that of Ahn and Oh (2021), Mitigating Language-Dependent Ethnic
    Bias in BERT; the jackknife of Tukey (1958); +1 of Phipson and Smyth (2010).
    """
    if min(values.shape) < 2:
        raise ValueError(f"expected two templates, attributes and groups at least, found {values.shape}")
    templates, attributes, _ = values.shape
    value = _spread(values)
    variance = 0.0
    if min(templates, attributes) > 2:
        for axis, count in ((0, templates), (1, attributes)):
            left = np.array([_spread(np.delete(values, i, axis)) for i in range(count)])
            variance += (count - 1) / count * float(((left - left.mean()) ** 2).sum())
    df = float(min(templates, attributes) - 1) if variance > 0 or value == 0 else 0.0
    found = estimate(Fit(np.asarray(value), np.asarray(np.sqrt(variance)), df), comparisons=comparisons)
    if not found.intervals:
        return found
    return found.model_copy(update={"p": _permutation_p(values, rng)})


def plain_spread(values: Array) -> float:
    """Return the mean over cells of the variance over groups: Ahn and Oh's score, noise and all."""
    return float(values.var(axis=2, ddof=1).mean())


def _centred(values: Array) -> Array:
    out = values - values.mean(axis=1, keepdims=True)
    centred: Array = out - out.mean(axis=2, keepdims=True)
    return centred


def _scale(shape: tuple[int, ...]) -> float:
    templates, attributes, groups = shape
    return (attributes - 1) * templates * (templates - 1) * (groups - 1)


def _spread(values: Array) -> float:
    """Sum the products of different templates only: each template's noise has its own square alone."""
    c = _centred(values)
    total, own = (c.sum(axis=0) ** 2).sum(), (c**2).sum()
    found = float(total - own)
    return 0.0 if abs(found) <= 1e-12 * own else found / _scale(values.shape)


def _permutation_p(values: Array, rng: np.random.Generator) -> float:
    c = _centred(values)
    own, observed = float((c**2).sum()), abs(_spread(values)) * _scale(values.shape)
    hits = 0
    for _ in range(DRAWS):
        order = rng.random(c.shape[:2]).argsort(axis=1)
        drawn = np.take_along_axis(c, order[:, :, None], axis=1).sum(axis=0)
        hits += abs(float((drawn**2).sum()) - own) >= observed * (1 - 1e-9)
    return (hits + 1) / (DRAWS + 1)
