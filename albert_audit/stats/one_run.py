"""A lower bound on epsilon from one training run with canaries whose inclusion was a coin flip.

The bound is about the *training algorithm*: no algorithm with a smaller epsilon gives as many right
guesses, except with the probability that is left. It holds only where each canary was included by an
independent fair coin. Half of a fixed list, or natural data, break it.

References
----------
Steinke, Nasr and Jagielski (2023), NeurIPS, Privacy auditing with one (1) training run.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special, stats

UNFAIR = 1e-6
"""A share of included canaries that fair coins give less often than this is refused."""
SHARES = (0.1, 0.3, 1.0)
"""Shares of the canaries that are guessed about, unless other numbers of guesses are declared."""


@dataclass(frozen=True)
class Epsilon:
    """A lower bound on epsilon, and what bounds it from above.

    Attributes
    ----------
    value : float
        0 where nothing can be said.
    guesses, correct : int
        Of the number of guesses that gave the bound.
    ceiling : float
        The largest bound that the same design can give, with every guess right.
    tried : int
        Numbers of guesses that were tried; each had its part of the error probability.
    """

    value: float
    guesses: int
    correct: int
    ceiling: float
    tried: int


def epsilon_lower_bound(
    guesses: int, correct: int, *, canaries: int, delta: float = 0.0, confidence: float = 0.95
) -> float:
    """Return the epsilon that the training algorithm exceeds, with the given confidence.

    Parameters
    ----------
    guesses, correct : int
        Guesses whether a canary was included, and the right ones.
    canaries : int
        All canaries whose coin was flipped, also those about which nothing is guessed.
    delta, confidence : float

    Returns
    -------
    float
        0 where the guesses do not rule out an algorithm that gives away nothing.

    Raises
    ------
    ValueError
        When not 0 <= correct <= guesses <= canaries, or a probability is out of range.
    """
    if not 0 <= correct <= guesses <= canaries or canaries < 1:
        raise ValueError(
            f"expected correct <= guesses <= canaries, found {correct}, {guesses} and {canaries}"
        )
    if not (0 <= delta < 1 and 0 < confidence < 1):
        raise ValueError(f"expected delta and confidence below 1, found {delta} and {confidence}")
    level = 1 - confidence

    def p(epsilon: float) -> float:
        return _p(epsilon, guesses, correct, canaries, delta)

    if p(0.0) >= level:
        return 0.0
    low, step = 0.0, 0.25
    # Upwards in small steps: with delta the p-value need not rise everywhere, and the first crossing counts.
    while p(low + step) < level:
        low += step
    high = low + step
    for _ in range(32):
        middle = (low + high) / 2
        low, high = (middle, high) if p(middle) < level else (low, middle)
    return low


def epsilon_ceiling(
    canaries: int, *, guesses: int | None = None, delta: float = 0.0, confidence: float = 0.95
) -> float:
    """Return the bound that all guesses right would give: no audit of this size can show more."""
    r = canaries if guesses is None else guesses
    return epsilon_lower_bound(r, r, canaries=canaries, delta=delta, confidence=confidence)


def best_epsilon(
    scores: ArrayLike,
    included: ArrayLike,
    *,
    rng: np.random.Generator,
    guesses: Sequence[int] | None = None,
    delta: float = 0.0,
    confidence: float = 0.95,
) -> Epsilon:
    """Return the best bound over numbers of guesses that were declared before the scores were seen.

    Parameters
    ----------
    scores : array, shape (m,)
        Higher = more likely included.
    included : array, shape (m,)
        How the coins fell.
    rng : numpy Generator
        Breaks ties. In the order of the file, canaries listed by inclusion would be told apart by a
        score that is the same for all.
    guesses : sequence of int, optional
        By default `SHARES` of the canaries. The error probability is split evenly over them
        (Bonferroni); one number keeps all of it.
    delta, confidence : float

    Raises
    ------
    ValueError
        When a score is not finite, lengths disagree, a number of guesses is out of range, or the coins
        cannot have been fair.

    Notes
    -----
    Of r guesses the ceil(r / 2) highest scores are guessed as included and the floor(r / 2) lowest as
    left out. Taking the best of all thresholds without a correction gives a bound above 0 for models
    that give away nothing, the more often the more canaries there are.
    """
    s, coins = np.asarray(scores, np.float64), fair_coins(included)
    m = len(coins)
    if s.shape != coins.shape or not np.isfinite(s).all():
        raise ValueError(f"expected one finite score a canary, found {s.shape} for {m} canaries")
    declared = sorted(
        {max(1, math.floor(share * m)) for share in SHARES} if guesses is None else set(guesses)
    )
    if not declared or declared[0] < 1 or declared[-1] > m:
        raise ValueError(f"expected numbers of guesses from 1 to {m}, found {declared}")
    shuffled = rng.permutation(m)
    highest = coins[shuffled[np.argsort(-s[shuffled], kind="stable")]]
    each = 1 - (1 - confidence) / len(declared)
    best: Epsilon | None = None
    for r in declared:
        up, down = (r + 1) // 2, r // 2
        right = int(highest[:up].sum() + (~highest[m - down :]).sum())
        value = epsilon_lower_bound(r, right, canaries=m, delta=delta, confidence=each)
        if best is None or value > best.value:
            best = Epsilon(value, r, right, 0.0, len(declared))
    assert best is not None  # noqa: S101 - at least one number is declared
    ceiling = max(epsilon_ceiling(m, guesses=r, delta=delta, confidence=each) for r in declared)
    return Epsilon(best.value, best.guesses, best.correct, ceiling, best.tried)


def fair_coins(included: ArrayLike) -> NDArray[np.bool_]:
    """Return the coins (m,) as booleans.

    Raises
    ------
    ValueError
        When they are not yes or no, or so uneven that no fair coins fell like this (`UNFAIR`).
    """
    given = np.asarray(included)
    if given.ndim != 1 or not len(given) or not np.isin(given, (0, 1)).all():
        raise ValueError("expected for each canary whether it was included, true or false")
    coins = given.astype(bool)
    if stats.binomtest(int(coins.sum()), len(coins)).pvalue < UNFAIR:
        raise ValueError(
            f"{coins.sum()} of {len(coins)} canaries were included, which fair coins do not give: "
            "flip one coin for each canary and leave none out afterwards"
        )
    return coins


def _p(epsilon: float, r: int, v: int, m: int, delta: float) -> float:
    """Return how likely v or more right guesses are under (epsilon, delta), at most."""
    q = float(special.expit(epsilon))
    beta = float(special.betainc(v, r - v + 1, q)) if v else 1.0  # P[Bin >= v], faster than scipy.stats
    if delta == 0 or v == 0:
        return beta
    i = np.arange(1, v + 1)
    # P[v > Bin >= v - i], summed from the top.
    within = np.cumsum(stats.binom.pmf(v - i, r, q))
    return min(beta + 2 * m * delta * float((within / i).max()), 1.0)
