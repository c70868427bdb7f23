"""AUC, macro recall and rank correlation, against brute force, scipy and simulation."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from albert_audit.stats import clopper_pearson
from albert_audit.stats.auc import auc, macro_recall, rank_correlation

steady = settings(max_examples=60, deadline=None, derandomize=True, database=None)
few = st.lists(st.integers(0, 4).map(float), min_size=1, max_size=25)


def brute(high, low, tolerance=0.0):
    wins = [1.0 if a - b > tolerance else 0.5 if abs(a - b) <= tolerance else 0.0 for a in high for b in low]
    return sum(wins) / len(wins)


@steady
@given(few, few)
def test_the_area_is_the_share_of_pairs_and_mann_whitneys_u(high, low):
    found = auc(high, low).value
    assert found == pytest.approx(brute(high, low))
    u = stats.mannwhitneyu(high, low).statistic
    assert found == pytest.approx(u / (len(high) * len(low)))


@steady
@given(few, few)
def test_a_tolerance_makes_ties(high, low):
    assert auc(high, low, tolerance=1.0).value == pytest.approx(brute(high, low, 1.0))
    assert auc(high, low, tolerance=5.0).value == 0.5


def test_delongs_standard_error_is_that_of_the_structural_components():
    rng = np.random.default_rng(3)
    x, y = rng.integers(0, 9, 40) + 2.0, rng.integers(0, 9, 25) * 1.0
    above = [np.mean([(a > b) + 0.5 * (a == b) for b in y]) for a in x]
    over = [np.mean([(a > b) + 0.5 * (a == b) for a in x]) for b in y]
    expected = math.sqrt(np.var(above, ddof=1) / 40 + np.var(over, ddof=1) / 25)
    assert auc(x, y).se == pytest.approx(expected)
    assert auc(x, y, tolerance=1e-9).se == pytest.approx(expected)


@steady
@given(st.integers(0, 10_000), st.floats(-2, 3))
def test_intervals_nest_hold_the_value_and_turn_round_with_the_sides(seed, shift):
    rng = np.random.default_rng(seed)
    x, y = rng.normal(shift, 1, 30), rng.normal(0, 2, 22)
    one, other = auc(x, y, comparisons=3), auc(y, x, comparisons=3)
    assert one.value + other.value == pytest.approx(1)
    for level, i in one.intervals.items():
        assert 0 <= i.low <= one.value <= i.high <= 1
        assert other.intervals[level].low == pytest.approx(1 - i.high, abs=1e-6)
    narrow, wide = one.intervals["0.95"], one.intervals["simultaneous_0.95"]
    assert wide.low <= narrow.low and narrow.high <= wide.high


def test_classes_that_do_not_overlap_still_have_a_width():
    found = auc(np.arange(60) + 100.0, np.arange(60))
    assert found.value == 1 and found.se == 0
    i = found.intervals["0.95"]
    assert 0.9 < i.low < 0.99 and i.high == 1
    z, t = stats.norm.isf(0.025), i.low  # the end lies z of its own standard errors away
    spread = t * (1 - t) * (1 + 59 * ((1 - t) / (2 - t) + t / (1 + t))) / 3600
    assert (1 - t) / math.sqrt(spread) == pytest.approx(z)


def test_a_constant_score_is_one_half_with_a_width():
    """Trap 14: equal scores are ties, neither wins nor losses."""
    found = auc(np.ones(60), np.ones(60))
    assert found.value == 0.5
    assert found.intervals["0.95"].low < 0.42 and found.intervals["0.95"].high > 0.58


@pytest.mark.parametrize("area", [0.5, 0.65, 0.92])
def test_the_area_lies_in_the_interval_in_95_percent(area):
    rng = np.random.default_rng(int(area * 100))
    shift = math.sqrt(2) * stats.norm.ppf(area)
    draws = [(rng.normal(shift, 1, 60), rng.normal(0, 1, 60)) for _ in range(800)]
    found = [auc(x, y).intervals["0.95"] for x, y in draws]
    assert np.mean([i.low <= area <= i.high for i in found]) > 0.925
    assert np.mean([i.low > area for i in found]) < 0.04


def test_too_few_items_have_no_interval():
    assert not auc(np.arange(9), np.arange(50)).intervals
    assert not macro_recall([9, 40], [9, 60]).intervals
    assert not rank_correlation(np.arange(19), np.arange(19)).intervals


def test_macro_recall_counts_each_label_the_same():
    """A constant answer gets exactly chance, however unequal the labels."""
    assert macro_recall([900, 0], [900, 30]).value == 0.5 == macro_recall([1, 1], [20, 20]).null * 1.0
    assert macro_recall([900, 0, 0], [900, 30, 20]).value == pytest.approx(1 / 3)
    assert macro_recall([900, 0], [900, 30]).intervals["0.95"].low < 0.5
    assert macro_recall([30, 10], [40, 20]).value == pytest.approx((0.75 + 0.5) / 2)


def test_one_label_gives_wilsons_interval():
    found = macro_recall([15], [20]).intervals["0.95"]
    expected = stats.binomtest(15, 20).proportion_ci(method="wilson")
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high))
    assert macro_recall([20], [20]).intervals["0.95"].low >= clopper_pearson(20, 20).low


@pytest.mark.parametrize("recalls", [(0.5, 0.5), (0.9, 0.1), (0.95, 0.8, 0.6)])
def test_macro_recall_lies_in_its_interval_in_95_percent(recalls):
    rng = np.random.default_rng(5)
    totals = [40, 20, 30][: len(recalls)]
    found = [macro_recall(list(rng.binomial(totals, recalls)), totals).intervals["0.95"] for _ in range(1500)]
    truth = np.mean(recalls)
    assert np.mean([i.low <= truth <= i.high for i in found]) > 0.925
    assert np.mean([i.low > truth for i in found]) < 0.04


@steady
@given(st.integers(0, 10_000))
def test_the_rank_correlation_is_spearmans(seed):
    rng = np.random.default_rng(seed)
    x = rng.integers(0, 6, 40) * 1.0
    y = x + rng.integers(0, 6, 40)
    found = rank_correlation(x, y)
    assert found.value == pytest.approx(stats.spearmanr(x, y).statistic)
    assert all(i.low <= found.value <= i.high for i in found.intervals.values())


def test_a_constant_has_no_rank_correlation():
    found = rank_correlation(np.ones(50), np.arange(50))
    assert found.value == 0 and found.intervals["0.95"].low < 0 < found.intervals["0.95"].high
    assert rank_correlation(np.arange(50), np.arange(50)).value == pytest.approx(1)


def test_the_rank_correlation_lies_in_its_interval_in_95_percent():
    rng, rho = np.random.default_rng(7), 0.5
    truth = 6 / math.pi * math.asin(rho / 2)
    hits = 0
    for _ in range(800):
        x = rng.normal(size=60)
        i = rank_correlation(x, rho * x + math.sqrt(1 - rho**2) * rng.normal(size=60)).intervals["0.95"]
        hits += i.low <= truth <= i.high
    assert hits / 800 > 0.93


@pytest.mark.parametrize(
    "call",
    [
        lambda: auc([], [1.0]),
        lambda: auc([math.nan], [1.0]),
        lambda: macro_recall([], []),
        lambda: macro_recall([1], [0]),
        lambda: macro_recall([3], [2]),
        lambda: rank_correlation([1.0, 2.0], [1.0]),
        lambda: rank_correlation([1.0, math.inf], [1.0, 2.0]),
    ],
)
def test_what_cannot_be_estimated_is_refused(call):
    with pytest.raises(ValueError, match="expected"):
        call()
