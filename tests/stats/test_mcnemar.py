"""McNemar's exact test, against the binomial sum and the published example."""

from __future__ import annotations

from math import comb

import pytest
from hypothesis import given
from hypothesis import strategies as st

from albert_audit.stats.mcnemar import mcnemar


@given(st.integers(0, 60), st.integers(0, 60))
def test_it_is_the_doubled_tail_of_the_binomial_distribution(gained, lost):
    n = gained + lost
    tail = sum(comb(n, k) for k in range(min(gained, lost) + 1)) / 2**n
    assert mcnemar(gained, lost) == pytest.approx(min(1.0, 2 * tail))
    assert mcnemar(gained, lost) == mcnemar(lost, gained)


def test_pairs_that_agree_say_nothing():
    assert mcnemar(0, 0) == 1.0
    assert mcnemar(6, 0) == pytest.approx(2 / 64)


def test_a_negative_count_is_refused():
    with pytest.raises(ValueError, match="-1"):
        mcnemar(-1, 3)
