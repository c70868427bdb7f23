"""Signs and partners: against all that can happen, and against what fewer clusters would say."""

from __future__ import annotations

from itertools import permutations, product

import numpy as np
import pytest
from scipy import stats as oracle

from albert_audit.stats.exchange import RUNS, partners, sign_flip


@pytest.fixture
def rng():
    return np.random.default_rng(5)


def test_all_patterns_of_signs_are_looked_at(rng):
    values = rng.normal(0.4, 1, 9)
    found = sign_flip(values, range(9), rng)
    sums = [abs(np.dot(s, values)) for s in product((1, -1), repeat=9)]
    assert found.exact and found.partitions == 2**8
    assert found.p == pytest.approx(np.mean(np.array(sums) >= abs(values.sum()) - 1e-12))


def test_drawn_patterns_agree_with_scipy_and_p_is_never_zero(rng):
    values = rng.normal(0.35, 1, 30)
    found = sign_flip(values, range(30), rng)
    theirs = oracle.permutation_test(
        (values,), np.sum, permutation_type="samples", n_resamples=9_999, rng=np.random.default_rng(1)
    )
    assert not found.exact and found.p == pytest.approx(theirs.pvalue, abs=0.02)
    assert sign_flip(np.ones(60), range(60), rng).p == pytest.approx(1 / (RUNS + 1))


def test_whole_clusters_are_turned(rng):
    """Forty pairs of four templates that agree within: turned one by one they would look certain."""
    values, template = np.repeat([1.0, 1.1, 0.9, 1.2], 10), np.repeat(range(4), 10)
    assert sign_flip(values, template, rng).p == pytest.approx(2 / 16)
    assert sign_flip(values, range(40), rng).p < 0.001


def test_differences_that_are_all_zero_say_nothing(rng):
    assert sign_flip(np.zeros(30), range(30), rng).p == 1.0


def test_p_is_even_where_nothing_is(rng):
    p = [sign_flip(rng.normal(size=10), range(10), rng).p for _ in range(400)]
    assert np.mean(np.array(p) <= 0.1) == pytest.approx(0.1, abs=0.04)


def test_nothing_to_test_is_refused(rng):
    with pytest.raises(ValueError, match="one length"):
        sign_flip([1.0, 2.0], ["a"], rng)
    with pytest.raises(ValueError, match="one length"):
        sign_flip([], [], rng)


def test_partners_against_all_permutations(rng):
    s = rng.normal(size=(5, 5))
    found = partners(s, ["a"] * 5, rng)
    every = np.array([np.mean([s[i, j] for i, j in enumerate(p)]) for p in permutations(range(5))])
    assert found.n == 5 and found.observed == pytest.approx(np.trace(s) / 5)
    assert found.expected == pytest.approx(every.mean())
    assert found.p == pytest.approx(np.mean(every >= found.observed - 1e-12), abs=0.02)
    assert found.low == pytest.approx(np.quantile(every, 0.025), abs=0.1)


def test_only_those_of_one_stratum_are_exchanged(rng):
    """What is alike for a whole stratum lies in the null, not in the finding; who is alone takes no part."""
    strata = ["a"] * 10 + ["b"] * 10 + ["c"]
    s = np.full((21, 21), np.nan)
    s[:10, :10], s[10:20, 10:20] = 0.9, 0.1
    found = partners(s, strata, rng)
    assert found.n == 20
    assert (found.observed, found.expected, found.p) == pytest.approx((0.5, 0.5, 1.0))
    assert partners(s[20:, 20:], ["c"], rng) is None
    with pytest.raises(ValueError, match="within a stratum"):
        partners(s, ["a"] * 21, rng)
    with pytest.raises(ValueError, match="square"):
        partners(s, ["a"] * 20, rng)
