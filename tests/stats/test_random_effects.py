"""DerSimonian and Laird against a plain re-implementation, and where it must be exact."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from albert_audit.stats.random_effects import random_effects, two_sided, variance_of_d


def plain(effects: list[float], variances: list[float]) -> tuple[float, float, float]:
    """By loops, as the paper writes it."""
    k = len(effects)
    w = [1 / v for v in variances]
    mean = sum(a * y for a, y in zip(w, effects, strict=True)) / sum(w)
    q = sum(a * (y - mean) ** 2 for a, y in zip(w, effects, strict=True))
    between = max(0.0, (q - (k - 1)) / (sum(w) - sum(a * a for a in w) / sum(w)))
    w = [1 / (v + between) for v in variances]
    return sum(a * y for a, y in zip(w, effects, strict=True)) / sum(w), 1 / math.sqrt(sum(w)), between


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.floats(-2, 2), st.floats(0.01, 3)), min_size=2, max_size=12))
def test_it_is_the_published_formula(studies):
    d, v = [a for a, _ in studies], [b for _, b in studies]
    found, (value, se, between) = random_effects(d, v), plain(d, v)
    assert found.value == pytest.approx(value, abs=1e-9) and found.se == pytest.approx(se)
    assert found.between == pytest.approx(between, abs=1e-9) and min(d) - 1e-9 <= found.value <= max(d) + 1e-9
    assert found.p == pytest.approx(math.erfc(abs(value) / se / math.sqrt(2)), abs=1e-9)


def test_equal_variances_give_the_mean_and_agreement_no_variance_between():
    found = random_effects([0.1, 0.5, 0.9], [0.001] * 3)
    assert found.value == pytest.approx(0.5) and found.between == pytest.approx(0.16 - 0.001)
    assert random_effects([0.3, 0.3], [0.1, 0.2]).between == 0


def test_the_variance_of_d_is_that_of_a_standardised_difference():
    """Against simulation: the spread of d over samples of two normal groups of 30."""
    rng = np.random.default_rng(0)
    x, y = rng.normal(0.8, 1, (20_000, 30)), rng.normal(0, 1, (20_000, 30))
    d = (x.mean(1) - y.mean(1)) / np.sqrt((x.var(1, ddof=1) + y.var(1, ddof=1)) / 2)
    assert variance_of_d(0.8, 30, 30) == pytest.approx(d.var(), rel=0.06)
    assert variance_of_d([0.0, 2.0], 10, 15).tolist() == pytest.approx([25 / 150, 25 / 150 + 4 / 50])


def test_what_cannot_be_combined_is_refused():
    with pytest.raises(ValueError, match="two or more"):
        random_effects([1.0], [1.0])
    with pytest.raises(ValueError, match="positive variances"):
        random_effects([1.0, 2.0], [1.0, 0.0])
    with pytest.raises(ValueError, match="positive variances"):
        random_effects([1.0, math.nan], [1.0, 1.0])
    assert two_sided(-1.959964, 1.0) == pytest.approx(0.05, abs=1e-6)
