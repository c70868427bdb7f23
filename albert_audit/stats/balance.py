"""The balance of two answers: how far one prevails over the other, among those that were given."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from albert_audit.stats.inference import share_estimate
from albert_audit.stats.linear import Design
from albert_audit.types import Estimate, Interval, Resolvability


def balance_estimate(
    values: ArrayLike, clusters: Sequence[object], *, comparisons: int = 1
) -> tuple[Estimate, tuple[tuple[int, float], ...]]:
    """Return ups less downs over ups and downs together, with an interval; zeros are left out.

    Parameters
    ----------
    values : array, shape (n,)
        Positive, negative or 0.
    clusters : sequence of n labels

    Returns
    -------
    estimate, counts
        Between -1 and 1, null 0; the number of clusters, and how many equal ones they are worth.

    Raises
    ------
    ValueError
        When all values are 0: the balance is then undefined, not 0.

    Notes
    -----
    It is 2 p - 1 of the share p of ups, a ratio of two sums over clusters. The interval is that of
    the share, Wilson's at the effective size (see `share_estimate`): a jackknife has no width when
    every cluster is balanced alike, as with a model that is right everywhere.
    """
    y = np.asarray(values, np.float64)
    counted = y != 0
    if not counted.any():
        raise ValueError("no value is above or below zero: the balance is undefined")
    design = Design.mean([[c for c, k in zip(clusters, counted, strict=True) if k]])
    share = share_estimate(
        design.fit((y[counted] > 0) * 1.0),
        n=int(counted.sum()),
        clusters=design.counts[0][1],
        comparisons=comparisons,
    )
    power = share.resolvability
    found = share.model_copy(
        update={
            "value": 2 * share.value - 1,
            "se": 2 * share.se,
            "null": 0.0,
            "intervals": {
                k: Interval(low=2 * i.low - 1, high=2 * i.high - 1) for k, i in share.intervals.items()
            },
            "resolvability": power
            and Resolvability(
                detectable=2 * power.detectable,
                fail_excess=2 * power.fail_excess,
                passable_limit=2 * power.passable_limit,
            ),
        }
    )
    return found, design.counts
