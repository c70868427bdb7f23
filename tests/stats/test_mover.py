"""Differences from intervals: against Newcombe's, against the normal case, and where nothing varies."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from albert_audit.stats import Design, estimate, independent_difference, rate_difference, rate_estimate
from albert_audit.stats.mover import recovered_difference


def rate(values, comparisons=1):
    y = np.asarray(values, float)
    design = Design.mean([np.arange(len(y))])
    fit = design.fit(y)
    return rate_estimate(fit, n=len(y), clusters=len(y), comparisons=comparisons), fit, len(y)


@given(st.integers(0, 40), st.integers(0, 40), st.integers(1, 6))
def test_of_two_rates_it_is_newcombes_interval(hits, others, comparisons):
    (a, fa, n), (b, fb, m) = (
        rate([1.0] * h + [0.0] * (40 - h), comparisons) for h in (hits, others)
    )  # fmt: skip
    got = recovered_difference(a, b, comparisons=comparisons)
    oracle = rate_difference(fa, fb, n=(n, m), clusters=(n, m), df=39, comparisons=comparisons)
    assert got.value == pytest.approx(oracle.value) and got.df == 39
    for level, ends in oracle.intervals.items():
        assert got.intervals[level].low == pytest.approx(ends.low, abs=1e-9)
        assert got.intervals[level].high == pytest.approx(ends.high, abs=1e-9)


def test_of_two_means_it_is_the_independent_difference():
    rng = np.random.default_rng(0)
    first, second = (
        estimate(Design.mean([np.arange(30)]).fit(rng.normal(size=30)), comparisons=3) for _ in "ab"
    )
    got, plain = (f(first, second, comparisons=3) for f in (recovered_difference, independent_difference))
    assert got.se == plain.se and got.p == pytest.approx(plain.p)
    for level, ends in plain.intervals.items():
        assert got.intervals[level].low == pytest.approx(ends.low)
    assert got.resolvability.detectable == pytest.approx(plain.resolvability.detectable)


def test_two_gaps_of_zero_have_no_certain_difference():
    fit = Design.mean([np.arange(24)]).fit(np.ones(24))
    gap = rate_difference(fit, fit, n=(24, 24), clusters=(24, 24), df=23)
    got = recovered_difference(gap, gap)
    assert got.value == 0 and got.p == 1
    assert got.intervals["0.90"].high == pytest.approx(gap.intervals["0.90"].high * math.sqrt(2))


def test_without_an_interval_of_either_there_is_none():
    few = estimate(Design.mean([np.arange(5)]).fit(np.arange(5.0)))
    many = estimate(Design.mean([np.arange(30)]).fit(np.arange(30.0)))
    for pair in ((few, many), (many, few)):
        got = recovered_difference(*pair)
        assert not got.intervals and got.p is None and got.df == 4
