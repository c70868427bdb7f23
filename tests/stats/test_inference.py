"""Intervals, p-values and corrections, against scipy, statsmodels and the degenerate cases."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose
from scipy import stats
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.proportion import proportion_confint

from albert_audit.stats import MIN_DF, Design, Fit, clopper_pearson, estimate, holm, share_estimate

steady = settings(max_examples=60, deadline=None, derandomize=True, database=None)
LEVELS = {"0.90", "0.95", "simultaneous_0.95"}


def fit(value, se, df):
    return Fit(np.asarray(value), np.asarray(se), df)


def ends(found, level="0.95"):
    return found.intervals[level].low, found.intervals[level].high


# --- t intervals --------------------------------------------------------------------------------


@pytest.mark.parametrize("df", [8.0, 23.0, 71.4, 5000.0])
@pytest.mark.parametrize("null", [0.0, 0.2])
def test_t_intervals_and_p_against_scipy(df, null):
    found = estimate(fit(0.7, 0.25, df), null=null)
    for level, confidence in (("0.90", 0.90), ("0.95", 0.95), ("simultaneous_0.95", 0.95)):
        assert_allclose(ends(found, level), stats.t.interval(confidence, df, loc=0.7, scale=0.25))
    assert_allclose(found.p, 2 * stats.t.sf((0.7 - null) / 0.25, df))
    assert (found.value, found.se, found.df, found.null) == (0.7, 0.25, df, null)


def test_a_mean_of_independent_rows_is_the_one_sample_t_test_at_one_row_less():
    """CR3 divides by n - 1 where the t-test divides by n: the jackknife's known, small caution."""
    y = np.random.default_rng(0).normal(0.3, 1, size=40)
    found, expected = estimate(Design.mean([np.arange(40)]).fit(y)), stats.ttest_1samp(y, 0.0)
    assert_allclose(found.value / found.se, expected.statistic * np.sqrt(39 / 40))
    assert_allclose(found.p, 2 * stats.t.sf(abs(found.value / found.se), 39))
    low, high = expected.confidence_interval(0.95)
    assert_allclose(np.subtract(*ends(found)), (low - high) * np.sqrt(40 / 39))


@pytest.mark.parametrize("comparisons", [1, 2, 3, 9, 50])
def test_the_simultaneous_interval_is_bonferroni(comparisons):
    found = estimate(fit(0.7, 0.25, 20.0), comparisons=comparisons)
    expected = stats.t.interval(1 - 0.05 / comparisons, 20.0, loc=0.7, scale=0.25)
    assert_allclose(ends(found, "simultaneous_0.95"), expected)
    assert_allclose(ends(found), ends(estimate(fit(0.7, 0.25, 20.0))))
    if comparisons > 1:
        low, high = ends(found)
        wide_low, wide_high = ends(found, "simultaneous_0.95")
        assert wide_low < low < high < wide_high


@steady
@given(
    value=st.floats(-10, 10), se=st.floats(1e-6, 10), df=st.floats(8, 2000), comparisons=st.integers(1, 40)
)
def test_intervals_nest_and_agree_with_p(value, se, df, comparisons):
    found = estimate(fit(value, se, df), comparisons=comparisons)
    (l90, h90), (l95, h95), (ls, hs) = (ends(found, k) for k in ("0.90", "0.95", "simultaneous_0.95"))
    assert ls <= l95 < l90 < h90 < h95 <= hs
    if abs(found.p - 0.05) > 1e-9:
        assert (found.p < 0.05) == (not l95 <= 0 <= h95)


@pytest.mark.parametrize("df", [0.0, 1.0, 7.9, MIN_DF - 1e-9])
def test_below_eight_degrees_of_freedom_there_is_no_interval(df):
    for found in (estimate(fit(0.7, 0.1, df)), share_estimate(fit(0.7, 0.1, df), n=50, clusters=df + 1)):
        assert found.intervals == {}
        assert found.p is None
        assert found.resolvability is None
        assert (found.value, found.se, found.df) == (0.7, 0.1, df)


def test_no_variation_off_the_null_gives_no_interval():
    found = estimate(fit(0.3, 0.0, 20.0))
    assert found.intervals == {}
    assert found.p is None


def test_no_variation_at_the_null_is_the_null():
    found = estimate(fit(0.0, 0.0, 20.0))
    assert set(found.intervals) == LEVELS
    assert ends(found) == (0.0, 0.0)
    assert found.p == 1.0


@pytest.mark.parametrize("tied", [0.1, 1 / 3, -7.3])
def test_tied_scores_are_no_evidence_however_many(tied):
    design = Design.mean([np.repeat(np.arange(24), 72), np.tile(np.arange(72), 24)])
    found = estimate(design.fit(np.full(1728, tied)))
    assert found.intervals == {}
    assert found.p is None
    at_null = estimate(design.fit(np.full(1728, tied)), null=tied)
    assert at_null.p == 1.0


# --- shares -------------------------------------------------------------------------------------


@pytest.mark.parametrize(("hits", "n"), [(5, 20), (10, 20), (60, 100), (77, 80), (1, 40)])
def test_wilson_at_independent_pairs_against_statsmodels(hits, n):
    """With a binomial variance the effective size is n; many df make t normal."""
    share = hits / n
    found = share_estimate(fit(share, np.sqrt(share * (1 - share) / n), 1e9), n=n, clusters=n)
    for level, alpha in (("0.90", 0.10), ("0.95", 0.05)):
        assert_allclose(ends(found, level), proportion_confint(hits, n, alpha, method="wilson"), rtol=1e-6)


@pytest.mark.parametrize(("hits", "n", "factor"), [(30, 40, 4), (50, 100, 2), (90, 100, 5)])
def test_wilson_at_the_effective_size(hits, n, factor):
    """A variance `factor` times the binomial one is that of n / factor independent pairs."""
    share = hits / n
    se = np.sqrt(factor * share * (1 - share) / n)
    found = share_estimate(fit(share, se, 1e9), n=n, clusters=12)
    expected = proportion_confint(hits / factor, n / factor, 0.05, method="wilson")
    assert_allclose(ends(found), expected, rtol=1e-6)


def test_the_critical_value_of_a_share_is_that_of_t():
    found = share_estimate(fit(0.6, 0.08, 9.0), n=500, clusters=10)
    size, t = 0.6 * 0.4 / 0.08**2, stats.t.ppf(0.975, 9.0)
    alpha = 2 * stats.norm.sf(t)
    assert_allclose(ends(found), proportion_confint(0.6 * size, size, alpha, method="wilson"))
    assert_allclose(found.p, 2 * stats.t.sf(0.1 / np.sqrt(0.25 / size), 9.0))


def test_less_than_binomial_variance_earns_no_more_than_n():
    """Clusters that happen to agree are not worth more pairs than there are."""
    narrow = share_estimate(fit(0.6, 1e-6, 20.0), n=100, clusters=21)
    binomial = share_estimate(fit(0.6, np.sqrt(0.24 / 100), 20.0), n=100, clusters=21)
    assert_allclose(ends(narrow), ends(binomial))


@pytest.mark.parametrize("share", [0.0, 0.5, 1.0])
@pytest.mark.parametrize(("clusters", "size"), [(9, 7), (12, 5), (24, 72), (77, 20)])
def test_without_variation_the_clusters_are_the_pairs(share, clusters, size):
    """All on one side, or all tied: as wide as one pair a cluster, and never without width."""
    design = Design.mean([np.repeat(np.arange(clusters), size)])
    found = share_estimate(
        design.fit(np.full(clusters * size, share)), n=clusters * size, clusters=design.df + 1
    )
    alpha = 2 * stats.t.sf(stats.t.ppf(0.975, clusters - 1), clusters - 1)
    assert alpha == pytest.approx(0.05)
    critical = stats.t.ppf(0.975, clusters - 1)
    expected = proportion_confint(share * clusters, clusters, 2 * stats.norm.sf(critical), method="wilson")
    assert_allclose(ends(found), expected, atol=1e-9)
    low, high = ends(found)
    assert 0.0 <= low <= found.value <= high <= 1.0
    assert high - low > 0.04
    assert found.p < 0.05 if share != 0.5 else found.p == pytest.approx(1.0)
    assert found.resolvability.detectable > 0


@steady
@given(
    share=st.floats(0, 1),
    se=st.floats(0, 0.5),
    df=st.floats(8, 500),
    n=st.integers(9, 5000),
    null=st.sampled_from([0.5, 1 / 3, 0.9]),
)
def test_shares_stay_inside_and_agree_with_p(share, se, df, n, null):
    found = share_estimate(fit(share, se, df), n=n, clusters=df + 1, null=null, comparisons=3)
    (l90, h90), (l95, h95), (ls, hs) = (ends(found, k) for k in ("0.90", "0.95", "simultaneous_0.95"))
    assert 0 <= ls <= l95 <= l90 <= share <= h90 <= h95 <= hs <= 1
    if abs(found.p - 0.05) > 1e-6:
        assert (found.p < 0.05) == (not l95 <= null <= h95)


def test_more_rows_of_the_same_pairs_narrow_no_share():
    """`n` counts distinct pairs; scoring each ten times changes nothing."""
    rng = np.random.default_rng(1)
    labels, y = np.repeat(np.arange(15), 6), (rng.uniform(size=90) < 0.7).astype(float)
    one, ten = Design.mean([labels]), Design.mean([np.tile(labels, 10)])
    a = share_estimate(one.fit(y), n=90, clusters=one.df + 1)
    b = share_estimate(ten.fit(np.tile(y, 10)), n=90, clusters=ten.df + 1)
    assert_allclose(ends(a), ends(b))


# --- exact binomial -----------------------------------------------------------------------------


@pytest.mark.parametrize("level", [0.90, 0.95, 0.99])
@pytest.mark.parametrize(("hits", "runs"), [(0, 1), (1, 1), (0, 200), (200, 200), (7, 20), (999, 1000)])
def test_clopper_pearson_against_scipy(hits, runs, level):
    found = clopper_pearson(hits, runs, level)
    expected = stats.binomtest(hits, runs).proportion_ci(level, method="exact")
    assert_allclose([found.low, found.high], [expected.low, expected.high], atol=1e-12)


@pytest.mark.parametrize(("hits", "runs"), [(0, 0), (-1, 5), (6, 5)])
def test_clopper_pearson_refuses(hits, runs):
    with pytest.raises(ValueError, match="hits"):
        clopper_pearson(hits, runs)


# --- multiplicity -------------------------------------------------------------------------------


def test_holm_by_hand():
    assert_allclose(holm([0.01, 0.04, 0.03]), [0.03, 0.06, 0.06])
    assert_allclose(holm([0.6, 0.9]), [1.0, 1.0])
    assert holm([]) == []
    assert holm([0.02]) == [0.02]


@settings(steady, max_examples=10)  # each correction collects garbage, which takes a tenth of a second
@given(p=st.lists(st.floats(0, 1), min_size=1, max_size=30))
def test_holm_against_statsmodels_and_the_definition(p):
    found = holm(p)
    assert_allclose(found, multipletests(p, method="holm")[1])
    order, running, expected = np.argsort(p, kind="stable"), 0.0, [0.0] * len(p)
    for rank, i in enumerate(order):
        running = max(running, min(1.0, (len(p) - rank) * p[i]))
        expected[i] = running
    assert_allclose(found, expected)


def test_holm_counts_what_could_not_be_tested():
    """Three planned, one not testable: the smallest p is still tripled."""
    assert_allclose([q for q in holm([0.01, None, 0.03]) if q is not None], [0.03, 0.06])
    assert holm([0.01, None, 0.03])[1] is None
    assert holm([None, None]) == [None, None]


def test_holm_is_in_the_order_given():
    p = [0.04, 0.001, 0.5, 0.02]
    turned = holm(p[::-1])
    assert_allclose(turned[::-1], holm(p))
