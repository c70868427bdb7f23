"""Several attacks together and many records one by one, against enumeration and statsmodels."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from statsmodels.stats.multitest import multipletests

from albert_audit.stats.roc import auc, benjamini_hochberg, empirical_p, permutation_max

steady = settings(max_examples=60, deadline=None, derandomize=True, database=None)


def test_the_p_value_is_that_of_all_permutations():
    rng = np.random.default_rng(0)
    member = np.arange(10) < 5
    scores = rng.normal(size=(2, 10)) + [[1.0], [0.3]] * member
    scores[1] = scores[1].round()  # on another scale, lest the two attacks tie with each other
    far = []
    for chosen in combinations(range(10), 5):
        inside = np.isin(np.arange(10), chosen)
        far.append([abs(stats.mannwhitneyu(s[inside], s[~inside]).statistic / 25 - 0.5) for s in scores])
    far = np.array(far)
    standard = far / np.sqrt((far**2).mean(axis=0))
    seen = [abs(auc(s, member).value - 0.5) for s in scores] / np.sqrt((far**2).mean(axis=0))
    exact = (standard.max(axis=1) >= seen.max() - 1e-9).mean()
    p, statistics = permutation_max(scores, member, None, rng, runs=4000)
    assert p == pytest.approx(exact, abs=4 * np.sqrt(exact / 4000) + 0.001)
    np.testing.assert_allclose(statistics, seen, rtol=0.05)


def test_one_attack_that_works_is_seen_among_many_and_p_is_never_0():
    rng = np.random.default_rng(1)
    member = np.arange(200) < 100
    scores = rng.normal(size=(9, 200))
    scores[3] += 2 * member
    p, statistics = permutation_max(scores, member, None, rng, runs=500)
    assert p == pytest.approx(1 / 501) and statistics.argmax() == 3 and statistics.shape == (9,)


def test_a_constant_score_counts_for_nothing():
    """Trap 11."""
    p, statistics = permutation_max(np.ones((2, 40)), np.arange(40) < 20, None, np.random.default_rng(0), 50)
    assert p == 1 and (statistics == 0).all()


@pytest.mark.parametrize("both", [False, True])
def test_whole_persons_are_exchanged(both):
    """Trap 17: rows exchanged one by one reject far too often, persons as often as they should."""
    rng = np.random.default_rng(2)
    persons = np.repeat(np.arange(30), 8)
    people, rows = [], []
    for _ in range(150):
        member = persons < 15
        if both:  # ten persons on both sides
            member = np.where(persons >= 20, rng.random(240) < 0.5, persons < 10)
        scores = 2 * rng.normal(size=(2, 30))[:, persons] + rng.normal(size=(2, 240))
        people.append(permutation_max(scores, member, persons, rng, 99)[0])
        rows.append(permutation_max(scores, member, None, rng, 99)[0])
    assert stats.binom.sf(np.sum(np.array(people) <= 0.05) - 1, 150, 0.05) > 0.001
    assert np.mean(np.array(rows) <= 0.05) > 0.3


def test_who_is_on_both_sides_keeps_how_many_records_are_members():
    """Two persons with half of their records each: only the order within a person is drawn."""
    persons = np.repeat([0, 1], 6)
    member = np.tile([True, True, True, False, False, False], 2)
    scores = np.concatenate([np.arange(6.0)[::-1] + 100, np.arange(6.0)[::-1]])
    p, _ = permutation_max(scores, member, persons, np.random.default_rng(3), 20_000)
    assert p == pytest.approx(2 / 20**2, abs=0.002)


def test_the_same_seed_gives_the_same_p():
    rng = np.random.default_rng(4)
    scores, member = rng.normal(size=(3, 60)), np.arange(60) < 30
    first, second = (permutation_max(scores, member, None, np.random.default_rng(9), 300) for _ in range(2))
    assert first[0] == second[0] and (first[1] == second[1]).all()


def test_no_attack_or_no_run_is_refused():
    with pytest.raises(ValueError, match="at least one"):
        permutation_max(np.ones((1, 4)), [1, 1, 0, 0], None, np.random.default_rng(0), 0)
    with pytest.raises(ValueError, match="at least one"):
        permutation_max(np.ones((0, 4)), [1, 1, 0, 0], None, np.random.default_rng(0))


@steady
@given(st.lists(st.floats(0, 1), min_size=1, max_size=30))
def test_adjusted_values_are_statsmodels(p):
    np.testing.assert_allclose(benjamini_hochberg(p), multipletests(p, method="fdr_bh")[1])


def test_no_p_value_gives_none_and_a_wrong_one_is_refused():
    assert benjamini_hochberg([]).shape == (0,)
    for wrong in ([0.1, np.nan], [1.1], [[0.1]]):
        with pytest.raises(ValueError, match="from 0 to 1"):
            benjamini_hochberg(wrong)


@steady
@given(
    st.lists(st.integers(0, 5), min_size=1, max_size=15), st.lists(st.integers(0, 5), min_size=1, max_size=15)
)
def test_a_members_p_value_counts_non_members_who_score_as_high(high, low):
    found = empirical_p([*high, *low], [1] * len(high) + [0] * len(low))
    assert found.tolist() == [(1 + sum(y >= x for y in low)) / (len(low) + 1) for x in high]
