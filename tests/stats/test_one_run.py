"""The one-run bound on epsilon, against the published algorithm's known answers and fair coins."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from albert_audit.stats.one_run import best_epsilon, epsilon_ceiling, epsilon_lower_bound, fair_coins

steady = settings(max_examples=25, deadline=None, derandomize=True, database=None)


@pytest.mark.parametrize(
    ("guesses", "correct", "epsilon"),
    [(100, 60, 0.052), (100, 75, 0.702), (100, 100, 3.493), (500, 500, 5.114), (1000, 600, 0.297)],
)
def test_known_answers(guesses, correct, epsilon):
    found = epsilon_lower_bound(guesses, correct, canaries=guesses)
    assert found == pytest.approx(epsilon, abs=5e-4)


def published(m, r, v, delta, p):
    """The algorithm as published: sums in a loop, whole steps, then bisection."""

    def p_value(eps):
        q = 1 / (1 + math.exp(-eps))
        beta, alpha, total = stats.binom.sf(v - 1, r, q), 0.0, 0.0
        for i in range(1, v + 1):
            total += stats.binom.pmf(v - i, r, q)
            alpha = max(alpha, total / i)
        return min(beta + alpha * delta * 2 * m, 1.0)

    low, high = 0.0, 1.0
    while p_value(high) < p:
        high += 1
    for _ in range(40):
        middle = (low + high) / 2
        low, high = (middle, high) if p_value(middle) < p else (low, middle)
    return low


@steady
@given(st.integers(10, 120), st.integers(0, 60), st.data(), st.sampled_from([0.0, 1e-6, 1e-4, 1e-2]))
def test_it_is_the_published_algorithm_with_delta_too(guesses, abstained, data, delta):
    correct = data.draw(st.integers(0, guesses))
    m = guesses + abstained
    expected = published(m, guesses, correct, delta, 0.05)
    assert epsilon_lower_bound(guesses, correct, canaries=m, delta=delta) == pytest.approx(expected, abs=1e-6)


@steady
@given(st.integers(20, 150), st.data())
def test_more_right_guesses_more_epsilon_and_less_with_delta_or_confidence(guesses, data):
    correct = data.draw(st.integers(1, guesses))
    found = epsilon_lower_bound(guesses, correct, canaries=guesses)
    assert epsilon_lower_bound(guesses, correct - 1, canaries=guesses) <= found
    assert epsilon_lower_bound(guesses, correct, canaries=guesses, delta=1e-3) <= found + 1e-9
    assert epsilon_lower_bound(guesses, correct, canaries=guesses, confidence=0.99) <= found
    assert found <= epsilon_ceiling(guesses)


@pytest.mark.parametrize(("canaries", "ceiling"), [(100, 3.493), (500, 5.114)])
def test_the_ceiling_is_all_guesses_right(canaries, ceiling):
    assert epsilon_ceiling(canaries) == pytest.approx(ceiling, abs=5e-4)
    assert epsilon_ceiling(canaries, guesses=50) == epsilon_lower_bound(50, 50, canaries=canaries)


@pytest.mark.parametrize(
    ("numbers", "extra"),
    [((10, 11), {"canaries": 20}), ((30, 11), {"canaries": 20}), ((0, 0), {"canaries": 0})],
)
def test_impossible_counts_are_refused(numbers, extra):
    with pytest.raises(ValueError, match="correct <= guesses <= canaries"):
        epsilon_lower_bound(*numbers, **extra)


@pytest.mark.parametrize("wrong", [{"delta": -0.1}, {"delta": 1.0}, {"confidence": 1.0}, {"confidence": 0.0}])
def test_impossible_probabilities_are_refused(wrong):
    with pytest.raises(ValueError, match="delta and confidence"):
        epsilon_lower_bound(10, 5, canaries=10, **wrong)


# --- from scores ----------------------------------------------------------------------------


def coins_and_scores(rng, m, shift=0.0):
    coins = rng.random(m) < 0.5
    return coins, rng.normal(size=m) + shift * coins


def test_one_declared_number_guesses_the_top_and_the_bottom():
    coins = np.array([True, True, False, True, False, False, True, False, True, False])
    scores = np.array([9.0, 8, 7, 6, 5, 4, 3, 2, 1, 0])
    found = best_epsilon(scores, coins, rng=np.random.default_rng(0), guesses=[5])
    # Top three: in, in, out. Bottom two: out, in. Three of five are right.
    assert (found.guesses, found.correct, found.tried) == (5, 3, 1)
    assert found.value == epsilon_lower_bound(5, 3, canaries=10)
    assert found.ceiling == epsilon_lower_bound(5, 5, canaries=10)


def test_each_declared_number_has_its_part_of_the_error():
    coins, scores = coins_and_scores(np.random.default_rng(1), 200, 3.0)
    three = best_epsilon(scores, coins, rng=np.random.default_rng(0), guesses=[20, 60, 200])
    alone = best_epsilon(scores, coins, rng=np.random.default_rng(0), guesses=[three.guesses])
    each = epsilon_lower_bound(three.guesses, three.correct, canaries=200, confidence=1 - 0.05 / 3)
    assert 1 < three.value == each < alone.value
    assert three.value <= three.ceiling < epsilon_ceiling(200)


def test_nothing_given_away_is_above_0_in_at_most_one_of_twenty_runs():
    """The best of all thresholds without a correction would be above 0 in far more."""
    rng = np.random.default_rng(2)
    above = free = 0
    for _ in range(500):
        coins, scores = coins_and_scores(rng, 200)
        above += best_epsilon(scores, coins, rng=rng).value > 0
        ordered = coins[np.argsort(-scores)]
        half = np.arange(1, 101)
        right = np.cumsum(ordered)[:100] + np.cumsum(~ordered[::-1])[:100]
        free += bool((stats.binom.sf(right - 1, 2 * half, 0.5) < 0.05).any())
    assert stats.binom.sf(above - 1, 500, 0.05) > 0.001
    assert free > 75


def test_a_real_difference_stays_below_the_true_epsilon():
    """Randomised response with epsilon 1: the best attack has it, the bound exceeds it rarely."""
    rng = np.random.default_rng(3)
    found = []
    for _ in range(300):
        coins = rng.random(400) < 0.5
        told = np.where(rng.random(400) < math.e / (1 + math.e), coins, ~coins)
        found.append(best_epsilon(told.astype(float), coins, rng=rng, guesses=[400]).value)
    assert np.mean(found) > 0.5
    # Reading the answers themselves guesses all 400 as they were told, up to ties at the cut.
    assert stats.binom.sf(np.sum(np.array(found) > 1) - 1, 300, 0.05) > 0.001


def test_ties_are_not_broken_by_the_order_of_the_file():
    """Trap 11: a constant score and canaries sorted by inclusion would otherwise be perfect guesses."""
    coins = np.arange(100) < 50
    found = best_epsilon(np.zeros(100), coins, rng=np.random.default_rng(0), guesses=[100])
    assert found.correct < 70 and found.value < 0.5


def test_canaries_that_no_fair_coin_chose_are_refused():
    with pytest.raises(ValueError, match="90 of 100 canaries"):
        fair_coins(np.arange(100) < 90)
    with pytest.raises(ValueError, match="true or false"):
        fair_coins([0.0, 0.5])
    assert fair_coins([1, 0, 1]).tolist() == [True, False, True]


@pytest.mark.parametrize("guesses", [[], [0], [11]])
def test_a_number_of_guesses_lies_among_the_canaries(guesses):
    with pytest.raises(ValueError, match="from 1 to 10"):
        best_epsilon(np.arange(10), np.arange(10) % 2, rng=np.random.default_rng(0), guesses=guesses)


def test_scores_that_are_not_finite_are_refused():
    with pytest.raises(ValueError, match="one finite score a canary"):
        best_epsilon([1.0, np.nan], [1, 0], rng=np.random.default_rng(0))
