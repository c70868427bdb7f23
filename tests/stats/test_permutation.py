"""The permutation test of two groups of clusters: against brute force and against scipy."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from albert_audit.stats.permutation import permute_groups

RNG = np.random.default_rng(0)


def brute(values, first, clusters):
    """Every choice of clusters for the first group, by plain loops."""
    names = sorted(set(clusters))
    own = {c for c, f in zip(clusters, first, strict=True) if f}

    def gap(chosen):
        a = [v for v, c in zip(values, clusters, strict=True) if c in chosen]
        b = [v for v, c in zip(values, clusters, strict=True) if c not in chosen]
        return abs(sum(a) / len(a) - sum(b) / len(b))

    observed = gap(own)
    gaps = [gap(set(chosen)) for chosen in combinations(names, len(own))]
    return sum(g >= observed - 1e-9 for g in gaps) / len(gaps)


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_all_partitions_are_those_of_brute_force(data):
    """Trap 23: the groups need not be of one size."""
    left, right = data.draw(st.integers(1, 4)), data.draw(st.integers(1, 5))
    sizes = data.draw(st.lists(st.integers(1, 3), min_size=left + right, max_size=left + right))
    clusters = [i for i, n in enumerate(sizes) for _ in range(n)]
    values = data.draw(st.lists(st.integers(-9, 9), min_size=len(clusters), max_size=len(clusters)))
    first = [c < left for c in clusters]
    found = permute_groups(values, first, clusters, RNG)
    assert found.exact and found.p == pytest.approx(brute(values, first, clusters))
    assert found.p > 0


def test_single_values_agree_with_scipy():
    y = np.random.default_rng(3).normal(size=11)
    first = np.arange(11) < 4
    theirs = stats.permutation_test(
        (y[first], y[~first]),
        lambda a, b: abs(a.mean() - b.mean()),
        alternative="greater",
        n_resamples=np.inf,
    )
    found = permute_groups(y, first, range(11), RNG)
    assert found.p == pytest.approx(theirs.pvalue) and found.partitions == 330


def test_p_is_never_zero_and_two_sided():
    """Trap 22: two equal sets far apart have two extreme partitions of 12,870; drawn ones have the +1."""
    y = np.r_[np.arange(8.0) + 100, np.arange(8.0)]
    for sign in (1, -1):
        found = permute_groups(sign * y, np.arange(16) < 8, range(16), RNG)
        assert found == permute_groups(-sign * y, np.arange(16) < 8, range(16), RNG)
        assert found.p == pytest.approx(2 / 12_870) and found.exact
    wide = np.r_[np.arange(20.0) + 100, np.arange(20.0)]
    drawn = permute_groups(wide, np.arange(40) < 20, range(40), np.random.default_rng(1))
    assert not drawn.exact and drawn.p == pytest.approx(1 / 20_001)


def test_drawn_partitions_agree_with_all_of_them():
    y = np.random.default_rng(8).normal(size=16) + 0.5 * (np.arange(16) < 8)
    full = permute_groups(y, np.arange(16) < 8, range(16), RNG)
    drawn = permute_groups(y, np.arange(16) < 8, range(16), np.random.default_rng(2), exact=5_000)
    assert full.exact and not drawn.exact
    assert drawn.p == pytest.approx(full.p, abs=4 * np.sqrt(full.p / 5_000))


def test_sentences_of_a_word_move_together():
    """Trap 22: ten copies of each value are no evidence more; permuting sentences would say they are."""
    y = np.array([1.0, 0.8, 0.3, 0.6, 0.1, 0.2, 0.4, 0.0])
    first = np.arange(8) < 4
    once = permute_groups(y, first, range(8), RNG)
    copied = permute_groups(np.repeat(y, 10), np.repeat(first, 10), np.repeat(np.arange(8), 10), RNG)
    apart = permute_groups(np.repeat(y, 10), np.repeat(first, 10), range(80), np.random.default_rng(1))
    assert copied.p == pytest.approx(once.p) and once.p > 0.05 > apart.p


def test_equal_values_reach_the_observed_difference():
    assert permute_groups(np.ones(8), np.arange(8) < 4, range(8), RNG).p == 1.0
    # A constant far from 0 must not be told apart by rounding.
    assert permute_groups(np.full(8, 1e6 + 0.1), np.arange(8) < 4, range(8), RNG).p == 1.0


@pytest.mark.parametrize(
    ("values", "first", "clusters", "said"),
    [
        ([1.0, 2.0], [True], [0, 1], "one length"),
        ([1.0, 2.0], [True, False], [0, 0], "both groups"),
        ([1.0, 2.0], [True, True], [0, 1], "two groups"),
        ([1.0, 2.0], [False, False], [0, 1], "two groups"),
    ],
)
def test_what_cannot_be_permuted_is_refused(values, first, clusters, said):
    with pytest.raises(ValueError, match=said):
        permute_groups(values, first, clusters, RNG)


def test_under_the_null_small_p_values_are_rare():
    """Random effects of words, many sentences each: about 5 % below 0.05."""
    rng = np.random.default_rng(5)
    word = np.repeat(np.arange(12), 6)
    hits = 0
    for _ in range(400):
        y = rng.normal(size=12)[word] + rng.normal(size=72)
        hits += permute_groups(y, word < 6, word, rng).p <= 0.05
    assert 0.02 <= hits / 400 <= 0.085
