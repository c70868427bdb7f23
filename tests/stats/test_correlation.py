"""Correlations against scipy, and their intervals by simulation."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.testing import assert_allclose
from scipy import stats

from albert_audit.stats.correlation import correlation


def pair(seed, n=40, r=0.5, heavy=False):
    rng = np.random.default_rng(seed)
    x = rng.standard_t(5, size=n) if heavy else rng.normal(size=n)
    return x, r * x + np.sqrt(1 - r**2) * rng.normal(size=n)


@pytest.mark.parametrize(("ranks", "oracle"), [(False, stats.pearsonr), (True, stats.spearmanr)])
def test_the_value_is_that_of_scipy(ranks, oracle):
    for seed in range(5):
        x, y = pair(seed)
        y = np.round(y, 1)  # ties
        assert_allclose(correlation(x, y, ranks=ranks).value, oracle(x, y)[0], rtol=1e-9)


@pytest.mark.parametrize("r", [0.0, 0.6])
def test_the_interval_covers(r):
    inside = 0
    for seed in range(250):
        found = correlation(*pair(seed, r=r)).intervals["0.95"]
        assert -1 <= found.low <= found.high <= 1
        inside += found.low <= r <= found.high
    assert 0.91 < inside / 250 <= 0.985


def test_units_and_direction():
    x, y = pair(1)
    one, two, three = correlation(x, y), correlation(3 * x + 1, y / 7), correlation(x, -y)
    assert_allclose([one.value, one.se], [two.value, two.se])
    assert_allclose(one.value, -three.value)
    assert_allclose(one.intervals["0.95"].low, -three.intervals["0.95"].high)
    assert one.resolvability.detectable < 1


@pytest.mark.parametrize(
    ("x", "y"),
    [(np.arange(20.0), np.arange(20.0)), (np.arange(20.0), np.zeros(20)), (np.arange(2.0), np.arange(2.0))],
)
def test_what_has_no_interval(x, y):
    found = correlation(x, y)
    assert not found.intervals and found.p is None and found.value in (0.0, 1.0)
