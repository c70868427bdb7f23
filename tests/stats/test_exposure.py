"""Exposure by ranks and by a fitted tail, against counting, exact distributions and simulation."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from albert_audit.stats.exposure import (
    _log_tail,
    exposure_gap,
    exposure_slope,
    extrapolated_exposure,
    fisher,
    rank_exposure,
    rank_p,
    rerandomised,
)

steady = settings(max_examples=60, deadline=None, derandomize=True, database=None)


# --- ranks ----------------------------------------------------------------------------------


@steady
@given(
    st.lists(st.integers(0, 9), min_size=1, max_size=20), st.lists(st.integers(0, 9), min_size=1, max_size=30)
)
def test_the_rank_counts_references_that_score_as_high(scores, references):
    """Trap 11: ties put the references first."""
    rank = np.array([1 + sum(r >= s for r in references) for s in scores])
    np.testing.assert_allclose(rank_exposure(scores, references), np.log2(len(references)) - np.log2(rank))
    np.testing.assert_allclose(rank_p(scores, references), rank / (len(references) + 1))


def test_the_cap_and_a_constant_score():
    references = np.zeros(1024)
    assert rank_exposure(1.0, references) == 10
    assert rank_exposure(0.0, references) == pytest.approx(0, abs=0.01)
    assert rank_p(1.0, references) == 1 / 1025


def test_without_memory_exposure_has_the_known_distribution():
    rng = np.random.default_rng(0)
    found = np.concatenate([rank_exposure(rng.normal(size=40), rng.normal(size=1000)) for _ in range(500)])
    assert found.mean() == pytest.approx(1.44, abs=0.05)
    for share, bits in ((0.5, 1.0), (0.95, 4.32), (0.99, 6.64)):
        assert np.quantile(found, share) == pytest.approx(bits, abs=0.25)


def test_scores_that_are_not_finite_or_no_reference_are_refused():
    for score, references in (([np.nan], [1.0]), ([1.0], [np.inf]), ([1.0], [])):
        for function in (rank_exposure, rank_p, extrapolated_exposure):
            with pytest.raises(ValueError, match="finite scores and a list of references"):
                function(score, references)


# --- the fitted tail ------------------------------------------------------------------------


def test_the_tail_is_the_normal_ones_however_far():
    """Where the plain probability underflows, its logarithm must not."""
    for x in (-2.0, 0.0, 3.0, 6.0, 37.0, 60.0, 500.0):
        assert _log_tail(x, 0.0) == pytest.approx(stats.norm.logsf(x), rel=1e-9)


@pytest.mark.parametrize("a", [-20.0, -3.0, -0.5, 0.5, 3.0, 20.0])
@pytest.mark.parametrize("x", [-1.0, 0.5, 3.0, 4.5])
def test_the_tail_is_scipys_where_that_is_exact(x, a):
    expected = stats.skewnorm.sf(x, a)
    if expected > 1e-10:
        assert _log_tail(x, a) == pytest.approx(math.log(expected), rel=1e-6)
    else:
        assert -1e4 < _log_tail(x, a) < math.log(1e-9)


def test_a_short_tail_is_integrated_exactly():
    """By quadrature with 40 digits; scipy's own is 0.0016 off here."""
    assert _log_tail(0.5, -20.0) == pytest.approx(-58.902095848072875, rel=1e-9)


def test_a_very_exposed_secret_is_finite():
    bits, _, beyond = extrapolated_exposure([50.0, 400.0], np.random.default_rng(0).normal(size=1000))
    assert np.isfinite(bits).all() and bits[1] > bits[0] > 300 and beyond.all()


def test_the_log_scale_finds_the_truth_that_raw_perplexity_understates():
    """A secret six standard deviations out has 29.9 bits."""
    logs = np.random.default_rng(1).normal(0, 0.5, 20_000)
    truth = -stats.norm.logsf(6) / math.log(2)
    bits, ks_p, beyond = extrapolated_exposure(3.0, logs)
    assert truth == pytest.approx(29.9, abs=0.05)
    assert bits == pytest.approx(truth, abs=1.5) and ks_p > 0.05 and beyond
    # Perplexity exp(-score), lower = likelier, so that -perplexity is the score.
    raw, raw_p, _ = extrapolated_exposure(-math.exp(-3.0), -np.exp(-logs))
    assert raw < bits - 3 and raw_p < 0.001


def test_within_the_references_both_exposures_agree():
    rng = np.random.default_rng(2)
    references = stats.skewnorm.rvs(3, size=4000, random_state=rng)
    scores = np.array([0.2, 1.0, 2.0])
    bits, _, beyond = extrapolated_exposure(scores, references)
    np.testing.assert_allclose(bits, rank_exposure(scores, references), atol=0.2)
    assert not beyond.any() and bits.shape == (3,)


def test_the_fit_does_not_depend_on_the_unit():
    references = np.random.default_rng(3).normal(size=500)
    one, other = (
        extrapolated_exposure(s, r)[0] for s, r in ((4.0, references), (400 - 1e4, 100 * references - 1e4))
    )
    assert one == pytest.approx(other, rel=1e-3)


@pytest.mark.parametrize("references", [np.arange(99.0), np.full(200, -7.3)])
def test_few_or_constant_references_are_not_fitted(references):
    with pytest.raises(ValueError, match="100 references that vary"):
        extrapolated_exposure(0.0, references)


# --- together -------------------------------------------------------------------------------


@steady
@given(st.lists(st.floats(0.001, 1), min_size=1, max_size=30))
def test_independent_p_values_are_combined_as_scipy_does(p):
    assert fisher(p) == pytest.approx(stats.combine_pvalues(p, "fisher").pvalue)


def test_canaries_among_the_same_references_are_dependent():
    """Taken as independent, six hundred canaries among 200 references reject too often."""
    rng = np.random.default_rng(4)
    plain, shared = [], []
    for _ in range(800):
        p = rank_p(rng.normal(size=600), rng.normal(size=200))
        plain.append(fisher(p))
        shared.append(fisher(p, shared=200))
    assert np.mean(np.array(plain) <= 0.05) > 0.09
    assert stats.binom.sf(np.sum(np.array(shared) <= 0.05) - 1, 800, 0.05) > 0.001
    assert np.mean(np.array(shared) <= 0.05) > 0.02


def test_p_values_out_of_range_are_refused():
    for wrong in ([], [0.0], [1.1], [np.nan]):
        with pytest.raises(ValueError, match="above 0 and at most 1"):
            fisher(wrong)
    with pytest.raises(ValueError, match="at least one shared"):
        fisher([0.5], shared=0)


# --- slope, gap, coins ----------------------------------------------------------------------


def test_the_slope_is_in_bits_a_doubling():
    k = np.repeat([1, 2, 4, 8, 16, 32], 4)
    found = exposure_slope(2 + 1.5 * np.log2(k) + np.tile([-0.1, 0.1], 12), k)
    assert found.value == pytest.approx(1.5) and found.intervals["0.95"].low > 1.4
    line = stats.linregress(np.log2(k), np.log2(k) * 1.5 + np.tile([-0.1, 0.1], 12))
    assert found.se == pytest.approx(line.stderr, rel=0.2)


def test_canaries_of_one_template_count_together():
    templates = np.repeat(np.arange(30), 4)
    k = np.array([1, 4, 16])[templates % 3]
    y = np.log2(k) + np.random.default_rng(5).normal(size=30)[templates]
    found, alone = exposure_slope(y, k, templates), exposure_slope(y, k)
    assert found.df < 30 and found.se > 1.8 * alone.se


@pytest.mark.parametrize("k", [[0, 1, 2], [1, 2], [1, 2, np.nan]])
def test_the_slope_wants_secrets_that_were_inserted(k):
    with pytest.raises(ValueError, match="how often it was inserted, 1 or more"):
        exposure_slope([1.0, 2.0, 3.0], k)


def test_the_gap_is_the_difference_of_the_means_with_welchs_error():
    rng = np.random.default_rng(6)
    a, b = rng.exponential(3, 40), rng.exponential(1.44, 60)
    found = exposure_gap(a, b)
    welch = stats.ttest_ind(a, b, equal_var=False)
    assert found.value == pytest.approx(a.mean() - b.mean())
    assert found.se == pytest.approx(abs(a.mean() - b.mean()) / welch.statistic, rel=0.03)
    assert found.df == 39


def test_the_gap_has_no_interval_with_few_canaries():
    found = exposure_gap([5.0] * 8, [1.0, 2.0] * 20)
    assert found.value == pytest.approx(3.5) and not found.intervals
    assert not exposure_gap([5.0], [1.0]).intervals


def test_the_gap_counts_templates_not_canaries():
    rng = np.random.default_rng(7)
    a, b = np.repeat(rng.exponential(3, 12), 5), np.repeat(rng.exponential(1.44, 12), 5)
    labels = (np.repeat(np.arange(12), 5), np.repeat(np.arange(12, 24), 5))
    assert exposure_gap(a, b, labels).se > 1.8 * exposure_gap(a, b).se
    with pytest.raises(ValueError, match="one cluster label"):
        exposure_gap(a, b, (labels[0], labels[1][:-1]))


def test_exposures_that_are_not_finite_are_refused():
    for wrong in ([], [np.nan]):
        with pytest.raises(ValueError, match="finite exposures on both sides"):
            exposure_gap(wrong, [1.0])


def test_the_gap_covers_0_where_nothing_is_remembered():
    rng = np.random.default_rng(8)
    missed = []
    for _ in range(200):
        references = rng.normal(size=1000)
        one, two = (rank_exposure(rng.normal(size=n), references) for n in (60, 60))
        i = exposure_gap(one, two).intervals["0.95"]
        missed.append(not i.low <= 0 <= i.high)
    assert stats.binom.sf(np.sum(missed) - 1, 200, 0.05) > 0.001


def test_coins_flipped_again_give_the_exact_p():
    scores = np.array([3.0, 1.0, 2.0, 2.0, 0.5, 4.0])
    coins = np.array([True, False, True, False, False, True])
    ranks = stats.rankdata(scores) - 3.5
    all_flips = (np.arange(64)[:, None] >> np.arange(6)) & 1
    exact = ((all_flips - 0.5) @ ranks >= (coins - 0.5) @ ranks - 1e-9).mean()
    assert rerandomised(scores, coins, np.random.default_rng(0), 40_000) == pytest.approx(exact, abs=0.005)


def test_coins_flipped_again_reject_as_often_as_they_should():
    rng = np.random.default_rng(9)
    p = [rerandomised(rng.standard_cauchy(40), rng.random(40) < 0.5, rng, 199) for _ in range(300)]
    assert stats.kstest(p, "uniform").pvalue > 0.001
    coins = rng.random(100) < 0.5
    assert rerandomised(rng.normal(size=100) + coins, coins, rng, 999) == pytest.approx(0.001, abs=0.001)
    assert rerandomised(rng.normal(size=100) - coins, coins, rng, 999) > 0.95  # one-sided
    assert rerandomised(np.ones(50), np.arange(50) % 2, rng, 99) == 1


def test_coins_and_scores_have_one_length():
    with pytest.raises(ValueError, match="one finite score a canary"):
        rerandomised([1.0, 2.0], [1, 0, 1], np.random.default_rng(0))
