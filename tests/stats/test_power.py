"""What a design can resolve, against simulation and against scipy's noncentral t."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.testing import assert_allclose
from scipy import stats

from albert_audit.stats import Design, estimate, resolvability

RUNS = 200_000
ERROR = 4 * np.sqrt(0.8 * 0.2 / RUNS)  # four standard errors of a simulated 80 %
DFS = [8.0, 11.5, 23.0, 71.0, 400.0]


def simultaneous(df, comparisons):
    return float(stats.t.ppf(1 - 0.025 / comparisons, df))


def draws(df, effect, seed):
    """Estimates of an effect whose standard error is 1, and their estimated standard errors."""
    rng = np.random.default_rng(seed)
    return rng.normal(effect, 1, RUNS), np.sqrt(rng.chisquare(df, RUNS) / df)


@pytest.mark.parametrize("df", DFS)
def test_detectable_is_detected_in_80_percent(df):
    found = resolvability(1.0, df, simultaneous(df, 3))
    value, se = draws(df, found.detectable, 1)
    assert np.mean(np.abs(value) / se > stats.t.ppf(0.975, df)) == pytest.approx(0.8, abs=ERROR)


@pytest.mark.parametrize("df", DFS)
@pytest.mark.parametrize("limit", [0.0, 0.7, 5.0])
def test_fail_excess_fails_any_limit_in_80_percent(df, limit):
    critical = simultaneous(df, 3)
    found = resolvability(1.0, df, critical)
    value, se = draws(df, limit + found.fail_excess, 2)
    assert np.mean(value - critical * se > limit) == pytest.approx(0.8, abs=ERROR)


@pytest.mark.parametrize("df", DFS)
def test_no_effect_passes_the_passable_limit_in_80_percent(df):
    limit = resolvability(1.0, df, simultaneous(df, 3)).passable_limit
    value, se = draws(df, 0.0, 3)
    assert np.mean(np.abs(value) + stats.t.ppf(0.95, df) * se < limit) == pytest.approx(0.8, abs=ERROR)


def test_no_effect_passes_the_passable_limit_on_real_designs():
    """End to end: the design's own intervals, a model without effect, 80 % PASS."""
    rng = np.random.default_rng(4)
    design = Design.mean([np.repeat(np.arange(20), 4)])
    y = rng.normal(size=(20, 6000)).repeat(4, axis=0) + rng.normal(size=(80, 6000))
    fits = design.fit(y)
    true = np.sqrt((1 + 1 / 4) / 20)
    limit = resolvability(true, design.df, simultaneous(design.df, 1)).passable_limit
    inside = np.abs(fits.value) + stats.t.ppf(0.95, design.df) * fits.se < limit
    assert inside.mean() == pytest.approx(0.8, abs=4 * np.sqrt(0.16 / 6000))


@pytest.mark.parametrize("df", [8.0, 23.0, 71.0])
@pytest.mark.parametrize("comparisons", [1, 3])
def test_against_the_noncentral_t_where_it_is_stable(df, comparisons):
    critical = simultaneous(df, comparisons)
    found = resolvability(1.0, df, critical)
    assert stats.nct.sf(critical, df, found.fail_excess) == pytest.approx(0.8, abs=2e-3)
    assert stats.nct.sf(stats.t.ppf(0.975, df), df, found.detectable) == pytest.approx(0.8, abs=2e-3)


def test_many_degrees_of_freedom_are_the_normal_case():
    found = resolvability(1.0, 1e6, simultaneous(1e6, 1))
    z80 = stats.norm.ppf(0.8)
    assert found.detectable == pytest.approx(stats.norm.ppf(0.975) + z80, abs=1e-3)
    assert found.fail_excess == pytest.approx(found.detectable, abs=1e-6)
    assert found.passable_limit == pytest.approx(stats.norm.ppf(0.95) + stats.norm.ppf(0.9), abs=1e-3)


def test_more_degrees_of_freedom_resolve_more():
    grid = [8.0, 9.0, 12.0, 20.0, 40.0, 100.0, 1000.0]
    found = [resolvability(1.0, df, simultaneous(df, 3)) for df in grid]
    for name in ("detectable", "fail_excess", "passable_limit"):
        figures = [getattr(r, name) for r in found]
        assert figures == sorted(figures, reverse=True)
        assert len(set(figures)) == len(figures)


def test_more_comparisons_make_it_harder_to_fail_and_change_nothing_else():
    one, many = (
        resolvability(1.0, 20.0, simultaneous(20.0, 1)),
        resolvability(1.0, 20.0, simultaneous(20.0, 9)),
    )
    assert many.fail_excess > one.fail_excess
    assert (many.detectable, many.passable_limit) == (one.detectable, one.passable_limit)


def test_figures_are_in_the_unit_of_the_estimate():
    one, ten = resolvability(1.0, 20.0, 2.5), resolvability(10.0, 20.0, 2.5)
    assert_allclose(list(ten.model_dump().values()), [10 * v for v in one.model_dump().values()])


@pytest.mark.parametrize("comparisons", [1, 100, 100_000])
def test_extreme_families_are_finite(comparisons):
    assert np.isfinite(resolvability(1.0, 8.0, simultaneous(8.0, comparisons)).fail_excess)


def test_an_estimate_carries_the_figures_of_its_own_design():
    y = np.random.default_rng(5).normal(size=60)
    fit = Design.mean([np.repeat(np.arange(15), 4)]).fit(y)
    found = estimate(fit, comparisons=4)
    expected = resolvability(float(fit.se), fit.df, simultaneous(fit.df, 4))
    assert_allclose(list(found.resolvability.model_dump().values()), list(expected.model_dump().values()))
