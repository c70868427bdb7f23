"""The variance between groups with its baseline, against sums by hand and by simulation."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.testing import assert_allclose

from albert_audit.stats import spread
from albert_audit.stats.spread import group_spread, plain_spread


def noise(seed, shape, scale=(1.0, 1.0, 1.0)):
    return np.random.default_rng(seed).normal(size=shape) * np.asarray(scale)[: shape[2]]


def test_the_baseline_is_the_mean_over_permutations():
    """The closed form against permutations that are drawn."""
    values, rng = noise(0, (6, 7, 3)), np.random.default_rng(1)

    def variance(v):  # of each attribute's mean over templates, around the mean of all
        m = v.mean(axis=0)
        return ((m - m.mean(axis=0)).var(axis=1, ddof=1)).sum() / (len(m) - 1)

    shuffled = [
        variance(np.stack([t[rng.permutation(7)] for t in values])) for _ in range(4000)
    ]  # fmt: skip
    value = group_spread(values, rng).value
    se = np.std(shuffled) / np.sqrt(len(shuffled))
    assert_allclose(value * 5 / 6, variance(values) - np.mean(shuffled), atol=4 * se)


@pytest.mark.parametrize("scale", [(1, 1, 1), (1, 1, 3)])
def test_without_a_common_effect_one_in_twenty_is_called(scale, monkeypatch):
    """Trap 20: a variance tested against 0 without its baseline would always be called."""
    monkeypatch.setattr(spread, "DRAWS", 99)
    rng, runs = np.random.default_rng(3), 250
    called = out = 0
    values = []
    for i in range(runs):
        level = noise(1000 + i, (10, 1, 3))  # every template has its own lean
        found = group_spread(level + noise(i, (10, 12, 3), scale), rng)
        values.append(found.value)
        called += found.p <= 0.05
        out += not found.intervals["0.95"].low <= 0 <= found.intervals["0.95"].high
    assert 0.02 < called / runs < 0.085
    assert out / runs <= 0.05
    assert abs(np.mean(values)) < 3.5 * np.std(values) / np.sqrt(runs)
    assert min(plain_spread(noise(i, (10, 12, 3))) for i in range(20)) > 0.5, (
        "what is tested when one forgets"
    )


def test_a_planted_spread_is_recovered_and_covered(monkeypatch):
    monkeypatch.setattr(spread, "DRAWS", 19)
    rng, runs, inside, values = np.random.default_rng(4), 200, 0, []
    for i in range(runs):
        effect = 0.5 * noise(5000 + i, (1, 20, 3)) * (1 + 0.3 * noise(9000 + i, (12, 1, 1)))
        found = group_spread(effect + noise(i, (12, 20, 3)), rng)
        values.append(found.value)
        inside += found.intervals["0.95"].low <= 0.25 <= found.intervals["0.95"].high
    assert_allclose(np.mean(values), 0.25, atol=4 * np.std(values) / np.sqrt(runs))
    assert inside / runs > 0.92


def test_permutation_never_gives_zero():
    """Trap 22: the observed order counts."""
    found = group_spread(
        noise(0, (1, 12, 3)).repeat(10, axis=0) + 0.01 * noise(1, (10, 12, 3)), np.random.default_rng(0)
    )
    assert found.p == 1 / 2000


def test_a_general_lean_and_a_shift_of_all_groups_change_nothing():
    values = noise(0, (9, 10, 3))
    moved = values + noise(1, (9, 1, 3)) + noise(2, (9, 10, 1))
    a, b = (group_spread(v, np.random.default_rng(0)) for v in (values, moved))
    assert_allclose([a.value, a.se], [b.value, b.se])


def test_little_or_nothing():
    zeros = group_spread(np.zeros((9, 10, 3)), np.random.default_rng(0))
    assert (zeros.value, zeros.se, zeros.p) == (0.0, 0.0, 1.0)
    few = group_spread(noise(0, (8, 20, 3)), np.random.default_rng(0))
    assert few.df == 7 and not few.intervals and few.p is None
    two = group_spread(noise(0, (2, 20, 3)), np.random.default_rng(0))
    assert two.df == 0
    with pytest.raises(ValueError, match="two templates"):
        group_spread(noise(0, (1, 20, 3)), np.random.default_rng(0))
