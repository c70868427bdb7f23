"""Rates, net changes and jackknives: against statsmodels, against plain formulas, and by simulation."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose
from scipy import stats
from statsmodels.stats.proportion import confint_proportions_2indep, proportion_confint

from albert_audit.stats import (
    Design,
    effective_size,
    estimate,
    independent_difference,
    jackknife,
    net_estimate,
    rate_difference,
    rate_estimate,
)

steady = settings(max_examples=60, deadline=None, derandomize=True, database=None)
MANY = 1_000_000.0  # degrees of freedom at which t is normal, as in the textbooks' formulas


def rate(hits, n, df=None):
    """The fit of `hits` ones among n independent zeros and ones."""
    design = Design.mean([np.arange(n)])
    fit = design.fit((np.arange(n) < hits) * 1.0)
    return fit if df is None else type(fit)(fit.value, fit.se, df)


def ends(found, level="0.95"):
    return found.intervals[level].low, found.intervals[level].high


@steady
@given(st.integers(20, 400), st.data())
def test_a_rate_of_independent_items_has_wilsons_interval(n, data):
    hits = data.draw(st.integers(0, n))
    found = rate_estimate(rate(hits, n, MANY), n=n, clusters=n)
    size = effective_size(rate(hits, n), n, n)
    # CR3 is a little wider than the binomial variance: n items count as (n - 1)^2 / n.
    assert_allclose(size, (n - 1) ** 2 / n if 0 < hits < n else n)
    assert_allclose(ends(found), proportion_confint(hits / n * size, size, method="wilson"), atol=1e-4)
    assert found.p is None, "a rate is never below 0: there is nothing to test"


def test_no_flip_is_no_proof_of_none():
    found = rate_estimate(rate(0, 30), n=30, clusters=30)
    low, high = ends(found, "0.90")
    assert low == 0 and 0.05 < high < 0.15
    assert found.resolvability.passable_limit == pytest.approx(high)
    assert found.resolvability.detectable == pytest.approx(1 - 0.2 ** (1 / 30))


def test_flips_of_one_text_are_one_cluster():
    """A hundred swaps of each of ten texts are ten texts."""
    values = np.repeat([0, 0, 0, 1, 0, 0, 0, 0, 1, 0], 100) * 1.0
    texts = np.repeat(np.arange(10), 100)
    design = Design.mean([texts])
    wide = rate_estimate(design.fit(values), n=1000, clusters=design.counts[0][1])
    alone = rate_estimate(rate(2, 10), n=10, clusters=10)
    assert_allclose(ends(wide), ends(alone), atol=1e-9)


@steady
@given(st.integers(30, 300), st.integers(30, 300), st.data())
def test_a_difference_of_rates_has_newcombes_interval(n, m, data):
    a, b = data.draw(st.integers(0, n)), data.draw(st.integers(0, m))
    found = rate_difference(rate(a, n), rate(b, m), n=(n, m), clusters=(n, m), df=MANY)
    expected = confint_proportions_2indep(a, n, b, m, compare="diff", method="newcomb")
    assert_allclose(ends(found), expected, atol=0.01)  # the size of an item is (n - 1) / n
    assert found.value == pytest.approx(a / n - b / m)
    assert ends(found)[0] <= found.value <= ends(found)[1]


def test_two_groups_without_one_event_still_have_a_width():
    found = rate_difference(rate(0, 25), rate(0, 25), n=(25, 25), clusters=(25.0, 25.0), df=24)
    low, high = ends(found, "0.90")
    assert found.value == 0 and low < -0.05 and high > 0.05 and found.p == pytest.approx(1.0)


def test_net_changes_have_bonett_and_prices_interval():
    n, up, down = 200, 9, 4
    values = np.array([1.0] * up + [-1.0] * down + [0.0] * (n - up - down))
    fit = Design.mean([np.arange(n)]).fit(values)
    found = net_estimate(type(fit)(fit.value, fit.se, MANY), up=up / n, down=down / n, n=n, clusters=n)
    more, less = (up + 1) / (n + 2), (down + 1) / (n + 2)
    half = stats.norm.ppf(0.975) * math.sqrt((more + less - (more - less) ** 2) / (n + 2))
    assert_allclose(ends(found), (more - less - half, more - less + half), atol=1e-3)


def test_no_change_either_way_still_has_a_width():
    fit = Design.mean([np.arange(40)]).fit(np.zeros(40))
    found = net_estimate(fit, up=0, down=0, n=40, clusters=40)
    assert found.value == 0 and found.p == 1
    low, high = ends(found)
    assert low == pytest.approx(-high) and high > 0.04


def test_the_jackknife_of_a_mean_over_equal_clusters_is_the_clustered_fit():
    rng = np.random.default_rng(1)
    clusters = np.repeat(np.arange(15), 4)
    y = rng.normal(size=60) + rng.normal(size=15)[clusters]
    found, count, effective = jackknife(lambda keep: float(y[keep].mean()), clusters)
    expected = estimate(Design.mean([clusters]).fit(y))
    assert (count, found.df) == (15, pytest.approx(14)) and effective == pytest.approx(15)
    assert_allclose([found.value, found.se, *ends(found)], [expected.value, expected.se, *ends(expected)])


def test_a_few_large_clusters_do_not_count_as_many():
    clusters = np.concatenate([np.repeat([0, 1, 2], 200), np.arange(3, 20)])
    y = np.random.default_rng(2).normal(size=len(clusters))
    found, count, effective = jackknife(lambda keep: float(y[keep].mean()), clusters)
    assert count == 20 and effective < 6 and not found.intervals


def test_a_statistic_that_needs_a_cluster_has_no_interval():
    clusters = np.arange(12)

    def ratio(keep):
        return float("nan") if not keep[3] else 1.0

    found, _, _ = jackknife(ratio, clusters)
    assert found.value == 1.0 and not found.intervals


def test_independent_estimates_subtract():
    rng = np.random.default_rng(3)
    a, b = (estimate(Design.mean([np.arange(n)]).fit(rng.normal(size=n))) for n in (30, 12))
    found = independent_difference(a, b, comparisons=3)
    assert found.df == min(a.df, b.df) and found.se == pytest.approx(math.hypot(a.se, b.se))
    assert found.value == pytest.approx(a.value - b.value)


# --- by simulation ------------------------------------------------------------------------------


def _covered(draw, truth, runs=600, level="0.95"):
    rng = np.random.default_rng(20)
    found = [draw(rng) for _ in range(runs)]
    return np.mean([f.intervals[level].low <= truth <= f.intervals[level].high for f in found])


@pytest.mark.parametrize(("truth", "texts", "swaps"), [(0.02, 150, 3), (0.1, 60, 4), (0.3, 40, 6)])
def test_rates_of_clustered_flips_are_covered(truth, texts, swaps):
    """Flips of one text hang together; the interval of a rate must know it."""

    def draw(rng):
        own = rng.beta(truth * 4, (1 - truth) * 4, texts)  # intra-cluster correlation 0.2
        flips = (rng.random((texts, swaps)) < own[:, None]) * 1.0
        design = Design.mean([np.repeat(np.arange(texts), swaps)])
        return rate_estimate(
            design.fit(flips.ravel()), n=texts * swaps, clusters=design.counts[0][1]
        )  # fmt: skip

    assert _covered(draw, truth) >= 0.93


@pytest.mark.parametrize(
    ("a", "b", "n", "m"), [(0.5, 0.5, 150, 150), (0.05, 0.05, 80, 20), (0.9, 0.6, 40, 30)]
)
def test_differences_of_rates_are_covered(a, b, n, m):
    def draw(rng):
        x, y = rng.binomial(n, a), rng.binomial(m, b)
        return rate_difference(rate(x, n), rate(y, m), n=(n, m), clusters=(n, m), df=min(n, m) - 1)

    assert _covered(draw, a - b) >= 0.94


def test_net_changes_are_covered():
    def draw(rng):
        v = rng.choice([1.0, -1.0, 0.0], size=120, p=[0.05, 0.03, 0.92])
        fit = Design.mean([np.arange(120)]).fit(v)
        return net_estimate(fit, up=(v > 0).mean(), down=(v < 0).mean(), n=120, clusters=120)

    assert _covered(draw, 0.02) >= 0.93
