"""Paired decisions: whether both directions of change are equally frequent."""

from __future__ import annotations

from scipy import stats


def mcnemar(gained: int, lost: int) -> float:
    """Return the exact two-sided p-value of McNemar's test.

    Pairs whose two decisions agree say nothing about the direction and do not enter. With no pair
    that disagrees the value is 1.

    Parameters
    ----------
    gained, lost : int
        Pairs in which only the first, and only the second, is decided positive.

    Raises
    ------
    ValueError
        When a count is negative.

    Notes
    -----
    McNemar (1947), Psychometrika 12(2); the exact form is the binomial test of `gained` in
    ``gained + lost`` against one half. Pairs must be independent.
    """
    if gained < 0 or lost < 0:
        raise ValueError(f"expected two counts, found {gained} and {lost}")
    if gained + lost == 0:
        return 1.0
    return float(stats.binomtest(gained, gained + lost, 0.5).pvalue)
