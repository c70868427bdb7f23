"""From logits to the probability that is compared, and to decisions."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from albert_audit.types import Decision

Array = NDArray[np.float64]


def scores(logits: ArrayLike, decision: Decision) -> Array:
    """Return what is compared: the probability of the positive label, or a regression's number.

    Parameters
    ----------
    logits : array, shape (n, labels)

    Returns
    -------
    array, shape (n,)
    """
    x = np.asarray(logits, np.float64)
    at = x[:, decision.positive]
    if decision.kind == "regression":
        return at
    if decision.kind == "multi":
        return np.asarray(np.exp(-np.logaddexp(0.0, -at)))
    return np.asarray(np.exp(at - np.logaddexp.reduce(x, axis=1)))


def decided(logits: ArrayLike, decision: Decision) -> NDArray[np.bool_] | None:
    """Return whether each decision is the positive label, shape (n,); None where nothing is decided.

    Without a threshold the likeliest label decides; of equally likely ones the first.
    """
    x = np.asarray(logits, np.float64)
    if decision.kind == "regression" and decision.threshold is None:
        return None
    if decision.kind == "single" and decision.threshold is None:
        return np.asarray(x.argmax(axis=1) == decision.positive)
    threshold = 0.5 if decision.threshold is None else decision.threshold
    return np.asarray(scores(x, decision) >= threshold)


def settled(logits: ArrayLike, decision: Decision) -> str:
    """Return why decisions on these texts can tell nothing: all are the same; empty where they are not.

    Where the scores themselves are all the same nothing is said here: a model that answers so is below
    its floor, and a plan that only counts texts has no scores.

    Parameters
    ----------
    logits : array, shape (n, labels)
        Of the texts that are compared; those with NaN do not count.
    """
    x = np.asarray(logits, np.float64)
    x = x[np.isfinite(x).all(axis=1)]
    chosen = decided(x, decision) if len(x) else None
    if chosen is None or 0 < chosen.sum() < len(chosen) or np.ptp(x, axis=0).max() == 0:
        return ""
    how = "none" if not chosen.any() else "each"
    return f"the model decides {decision.name!r} for {how} of the {len(chosen)} texts: nothing could differ"


def unit(decision: Decision) -> str:
    """Return the unit of `scores`."""
    return "score" if decision.kind == "regression" else "probability"
