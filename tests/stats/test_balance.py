"""The balance of two answers against its share, and what it says where nothing varies."""

from __future__ import annotations

import numpy as np
import pytest

from albert_audit.stats import Design, share_estimate
from albert_audit.stats.balance import balance_estimate


def test_it_is_the_share_on_another_scale_and_zeros_do_not_count():
    rng = np.random.default_rng(1)
    y = rng.choice([-1.0, 0.0, 1.0], 200, p=[0.2, 0.3, 0.5])
    clusters = np.repeat(np.arange(20), 10)
    found, counts = balance_estimate(y, clusters, comparisons=3)
    named = y != 0
    design = Design.mean([clusters[named]])
    share = share_estimate(
        design.fit((y[named] > 0) * 1.0), n=int(named.sum()), clusters=design.counts[0][1], comparisons=3
    )
    assert found.value == pytest.approx(((y > 0).sum() - (y < 0).sum()) / named.sum())
    assert (found.null, found.df, found.p) == (0, share.df, share.p) and found.se == 2 * share.se
    for level, ends in share.intervals.items():
        assert found.intervals[level].low == pytest.approx(2 * ends.low - 1)
        assert found.intervals[level].high == pytest.approx(2 * ends.high - 1)
    assert found.resolvability.detectable == 2 * share.resolvability.detectable
    assert counts == design.counts and counts[0][0] == 20
    assert balance_estimate(-y, clusters)[0].value == pytest.approx(-found.value)


@pytest.mark.parametrize("value", [1.0, -1.0])
def test_all_one_way_and_all_even_have_a_width(value):
    clusters = np.repeat(np.arange(12), 4)
    one_way, _ = balance_estimate(np.full(48, value), clusters)
    even, _ = balance_estimate(np.tile([1.0, 1.0, -1.0, -1.0], 12), clusters)
    ends = one_way.intervals["0.95"]
    assert one_way.value == value and ends.high - ends.low > 0.2 and -1 <= ends.low <= ends.high <= 1
    assert even.intervals["0.95"].low == pytest.approx(-even.intervals["0.95"].high)
    assert even.p == pytest.approx(1)
    assert even.intervals["0.95"].high > 0.2


def test_nothing_either_way_is_undefined():
    with pytest.raises(ValueError, match="undefined"):
        balance_estimate(np.zeros(20), np.arange(20))


def test_too_few_clusters_have_no_interval():
    found, counts = balance_estimate(np.tile([1.0, -1.0, 1.0], 5), np.repeat(np.arange(5), 3))
    assert not found.intervals and found.resolvability is None and counts[0][0] == 5


def test_it_covers_with_clusters_that_lean():
    """Clusters with a lean of their own: few intervals miss, where independent items would miss many."""
    rng = np.random.default_rng(5)
    clusters, missed, naive = np.repeat(np.arange(16), 6), 0, 0
    for _ in range(200):
        y = np.where(rng.random(96) < np.repeat(rng.beta(1.5, 1.5, 16), 6), 1.0, -1.0)
        y[rng.random(96) < 0.2] = 0.0
        ends = balance_estimate(y, clusters)[0].intervals["0.95"]
        missed += not ends.low <= 0 <= ends.high
        naive += abs(y.sum()) > 1.96 * np.sqrt((y != 0).sum())
    assert 1 <= missed <= 18 < 30 < naive, (missed, naive)
