"""Whether two matched sets differ more across than within: dissimilarities with a null of 0."""

from __future__ import annotations

from itertools import product

import numpy as np
from numpy.typing import NDArray

from albert_audit.stats.inference import estimate
from albert_audit.stats.linear import Fit
from albert_audit.types import Estimate

Array = NDArray[np.float64]
DRAWS = 1999
_EXACT = 12


def across_minus_within(values: Array, rng: np.random.Generator, *, comparisons: int = 1) -> Estimate:
    """Return the mean over templates and pairs of matched types, with its sign-flip p-value.

    Parameters
    ----------
    values : array, shape (templates, types, types), symmetric in the types
        For two types i and j, each with a member in either group: how much more unlike members of
        different groups are than members of the same group, [d(a_i, b_j) + d(b_i, a_j) - d(a_i, a_j) -
        d(b_i, b_j)] / 2. The diagonal is ignored.

    Raises
    ------
    ValueError
        With fewer than two templates or types.

    Notes
    -----
    Where the groups do not matter, the two members of a type may be swapped, and that turns the sign of
    every value that holds the type: the expectation is exactly 0, and the p-value that of all patterns
    of signs (at random above 12 types, with +1). Whole types are swapped in all templates at once.

    The standard error joins two jackknives, over templates and over types, by adding their variances; it
    errs to the wide side near 0, and falls short (0.85 to 0.93 for 0.95, in simulations) where few types
    differ along one direction only. Degrees of freedom are those of the smaller of the two, less one.
    """
    templates, types = values.shape[:2]
    if min(templates, types) < 2:
        raise ValueError(f"expected two templates and two types at least, found {templates} and {types}")
    value = _mean(values)
    variance = 0.0
    if min(templates, types) > 2:
        by_template = np.array([_mean(np.delete(values, t, 0)) for t in range(templates)])
        by_type = np.array([_mean(np.delete(np.delete(values, i, 1), i, 2)) for i in range(types)])
        for left in (by_template, by_type):
            variance += (len(left) - 1) / len(left) * float(((left - left.mean()) ** 2).sum())
    df = float(min(templates, types) - 1) if variance > 0 or value == 0 else 0.0
    found = estimate(Fit(np.asarray(value), np.asarray(np.sqrt(variance)), df), comparisons=comparisons)
    return found.model_copy(update={"p": _flipped(values, rng)}) if found.intervals else found


def _mean(values: Array) -> float:
    n = values.shape[1]
    mean = values.mean(axis=0)
    return float((mean.sum() - np.trace(mean)) / (n * (n - 1)))


def _flipped(values: Array, rng: np.random.Generator) -> float:
    mean = values.mean(axis=0)
    off = mean - np.diag(np.diag(mean))
    n = len(off)
    exact = n <= _EXACT
    # Turning all signs changes nothing, so the first may stay.
    signs = (
        np.array([(1, *rest) for rest in product((1, -1), repeat=n - 1)])
        if exact
        else rng.choice([-1, 1], size=(DRAWS, n))
    )
    drawn = np.abs(np.einsum("si,ij,sj->s", signs, off, signs))
    hits = int((drawn >= abs(float(off.sum())) - 1e-9).sum())
    return float(hits / len(signs) if exact else (hits + 1) / (DRAWS + 1))
