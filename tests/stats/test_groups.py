"""Differences and ratios of two groups: coverage by simulation, and widths that never vanish."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from albert_audit.stats import Design, net_estimate, rate_difference
from albert_audit.stats.auc import auc
from albert_audit.stats.groups import bounded_difference, rate_ratio
from albert_audit.stats.mover import recovered_difference


def design(n):
    return Design.mean([np.arange(n)])


def net(values, comparisons=1):
    d = design(len(values))
    return net_estimate(d.fit(values), up=(values > 0).mean(), down=(values < 0).mean(), n=len(values),
                        clusters=d.counts[0][1], comparisons=comparisons)  # fmt: skip


def two_areas(rng, m, n, shift):
    made = []
    for _ in range(2):
        made.append(auc(rng.normal(size=m) + shift, rng.normal(size=n)))
    return recovered_difference(*made)


@pytest.mark.parametrize(("m", "n", "shift"), [(12, 60, 1.0), (40, 40, 2.5), (100, 100, 0.0)])
def test_equal_areas_are_told_apart_about_once_in_twenty(m, n, shift):
    rng = np.random.default_rng(m)
    found = [two_areas(rng, m, n, shift) for _ in range(150)]
    outside = [not e.intervals["0.95"].low <= 0 <= e.intervals["0.95"].high for e in found]
    assert np.mean(outside) < 0.10
    assert outside == [e.p < 0.05 for e in found], "the p-value and the interval say the same"


def test_net_drops_that_are_equal():
    rng = np.random.default_rng(0)
    values = rng.choice([-1.0, 0.0, 1.0], (300, 2, 80), p=[0.05, 0.85, 0.1])
    found = [recovered_difference(net(a), net(b)) for a, b in values]
    assert (
        0.01 < np.mean([not e.intervals["0.95"].low <= 0 <= e.intervals["0.95"].high for e in found]) < 0.09
    )


def test_nothing_at_all_has_a_width():
    """A t interval over texts that never change has none, and would pass any limit."""
    same = recovered_difference(net(np.zeros(12)), net(np.zeros(12)))
    assert same.value == 0 and same.intervals["0.95"].high > 0.15 and same.p == 1.0
    joint = Design(np.repeat(np.eye(2), 12, axis=0), [1.0, -1.0], [np.arange(24)])
    flat = bounded_difference(joint.fit(np.zeros(24)), clusters=(12, 12))
    assert flat.intervals["0.95"].high > 0.15
    many = Design(np.repeat(np.eye(2), 2000, axis=0), [1.0, -1.0], [np.arange(4000)])
    noise = np.random.default_rng(0).normal(size=4000) * 0.3
    wide = bounded_difference(many.fit(noise), clusters=(2000, 2000))
    assert wide.se == pytest.approx(float(many.fit(noise).se), rel=0.02), "among many texts it costs nothing"


@settings(max_examples=40, deadline=None)
@given(st.integers(10, 60), st.integers(10, 60), st.integers(1, 30))
def test_levels_nest_and_hold_the_value(n, m, comparisons):
    rng = np.random.default_rng(n * 61 + m)
    found = recovered_difference(
        net(rng.choice([-1.0, 0, 1], n), comparisons), net(rng.choice([0.0, 1], m), comparisons),
        comparisons=comparisons, bound=2.0,
    )  # fmt: skip
    inner, middle, outer = (found.intervals[k] for k in ("0.90", "0.95", "simultaneous_0.95"))
    assert (
        -2
        <= outer.low
        <= middle.low
        <= inner.low
        <= found.value
        <= inner.high
        <= middle.high
        <= outer.high
        <= 2
    )
    assert (found.p < 0.05) == (not middle.low <= 0 <= middle.high)


def test_without_an_interval_there_is_no_difference_to_judge():
    found = recovered_difference(net(np.zeros(5)), net(np.zeros(50)))
    assert not found.intervals and found.df < 8


def test_the_ratio_by_hand_and_where_there_is_none():
    values = [np.repeat([1.0, 0.0], k) for k in ((30, 70), (60, 40))]
    fits = [design(100).fit(v) for v in values]
    ratio, interval = rate_ratio(*fits, n=(100, 100), clusters=(100, 100))
    assert ratio == pytest.approx(0.5)
    katz = math.sqrt(0.7 / 30 + 0.4 / 60) * 1.984
    assert interval.low == pytest.approx(0.5 * math.exp(-katz), rel=0.06)
    assert interval.high == pytest.approx(0.5 * math.exp(katz), rel=0.06)
    never = design(100).fit(np.zeros(100))
    assert rate_ratio(never, fits[1], n=(100, 100), clusters=(100, 100)) is None
    always = design(100).fit(np.ones(100))
    one, around = rate_ratio(always, always, n=(100, 100), clusters=(100, 100))
    assert one == 1 and around.low < 0.98 and around.high > 1.02


def test_ratio_and_difference_agree_on_equal_rates():
    rng = np.random.default_rng(1)
    outside, same = 0, 0
    for _ in range(300):
        fits = [design(80).fit((rng.random(80) < 0.4) * 1.0) for _ in range(2)]
        _, interval = rate_ratio(*fits, n=(80, 80), clusters=(80, 80))
        apart = not interval.low <= 1 <= interval.high
        ends = rate_difference(*fits, n=(80, 80), clusters=(80, 80), df=79).intervals["0.95"]
        outside, same = outside + apart, same + (apart == (not ends.low <= 0 <= ends.high))
    assert 0.01 < outside / 300 < 0.09 and same > 290
