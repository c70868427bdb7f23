"""The positive control: its mixtures have the leak that they are said to have, and nothing vouches by luck."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from albert_audit.privacy import dose
from albert_audit.privacy.dose import MULTIPLES, dosed, own_leak
from albert_audit.stats.roc import auc
from albert_audit.types import Estimate
from tests.privacy.simulated import LIMIT, audit


@pytest.fixture(autouse=True)
def _few(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dose, "RUNS", 12)


def check(seed: int = 0, *, limit: float = LIMIT, **options):
    e = audit(seed, **options)
    sizes = int(e.member.sum()), int((~e.member).sum())
    return dosed(*e.dosed, sizes, limit=limit, comparisons=4, rng=np.random.default_rng(seed))


@pytest.mark.parametrize("options", [{}, {"pool": 800}, {"persons": 4}, {"members": 300, "others": 500}])
def test_mixtures_have_the_planted_excess(options: dict, monkeypatch: pytest.MonkeyPatch) -> None:
    """The mean over runs lies at the multiple of the limit: the excess is planted, not something like it."""
    seen: list[Estimate] = []

    def spy(estimate: Estimate, limit: float):
        seen.append(estimate)
        return real(estimate, limit)

    real = dose.decide
    monkeypatch.setattr(dose, "decide", spy)
    monkeypatch.setattr(dose, "RUNS", 30)
    found = check(3, **({"members": 400, "others": 400, "reference_leak": 1.5} | options))
    assert found is not None and [p.planted for p in found.curve] == list(MULTIPLES)
    for i, multiple in enumerate(MULTIPLES):
        values = np.array([e.value for e in seen[30 * i : 30 * (i + 1)]])
        error = values.std(ddof=1) / np.sqrt(len(values))
        # Controls that happen to lean to what the model saw add their own hundredth.
        assert abs(values.mean() - multiple * LIMIT) < 4 * error + 0.01, (multiple, values.mean())


def test_sizes_are_those_of_the_audit(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[tuple[int, int]] = []
    real = dose.auc_difference

    def spy(scores, against, member, persons=None, **rest):
        if persons is None:  # of all records, to learn what the model itself gives away
            return real(scores, against, member, persons, **rest)
        sizes.append((int(member.sum()), int((~member).sum())))
        assert len(scores) == len(member) == len(persons) == np.shape(against)[1]
        assert len(against) == 2, "the attacked model and its complement are no controls"
        return real(scores, against, member, persons, **rest)

    monkeypatch.setattr(dose, "auc_difference", spy)
    check(members=150, others=230, persons=3, reference_leak=2.0)
    assert set(sizes) == {(150, 230)}


def test_mixtures_at_the_limit_pass_as_seldom_as_the_interval_says() -> None:
    """Two halves of what a model did not see would differ by more, and mixtures at the limit pass too often."""
    found = check(members=800, others=800, reference_leak=2.0)
    assert (
        found is not None and found.false_pass_at_limit.low <= 0.05 <= 0.16 >= found.false_pass_at_limit.rate
    )


def test_a_leak_of_twice_the_limit_is_seen_and_none_is_not() -> None:
    found = check(members=800, others=800, reference_leak=2.0)
    assert found is not None
    none, twice = found.curve[0], found.curve[-1]
    assert none.failed.hits == 0 and none.passed.hits >= 3
    assert twice.passed.hits == 0 and twice.failed.rate >= 0.3
    assert found.false_pass_at_limit.rate <= 0.2 and found.false_fail_at_limit.rate <= 0.1
    assert found.limit == LIMIT and found.metric == "difference"


def test_references_that_remember_nothing_vouch_for_nothing() -> None:
    """Of many leak-free models some exceed the limit by chance: the mean of all must be sound."""
    found = [check(s, members=250, others=250, k=8, reference_leak=0.0) for s in range(12)]
    assert sum(f is not None for f in found) <= 1


def test_a_leak_below_the_limit_vouches_for_nothing() -> None:
    assert check(members=800, others=800, reference_leak=0.05, limit=0.2) is None


def test_a_multiple_that_no_model_reaches_is_left_out() -> None:
    """It would be called twice the limit and be less."""
    e = audit(1, members=600, others=600, reference_leak=0.35)
    own = own_leak(*e.dosed).value - 0.5
    limit = own / 1.3
    leaks = [auc(c, s).value - 0.5 for c, s in zip(e.dosed[0].controls, e.dosed[0].seen, strict=True)]
    assert max(leaks) < 2 * limit
    found = dosed(*e.dosed, (600, 600), limit=limit, comparisons=4, rng=np.random.default_rng(0))
    assert found is not None and [p.planted for p in found.curve] == [0.0, 0.5, 1.0]


def test_two_references_are_too_few() -> None:
    """Without the attacked one and its complement none is left as a control."""
    e = audit(0, reference_leak=2.0)
    scored, persons = e.dosed
    pair = replace(scored, controls=scored.controls[:2], seen=scored.seen[:2])
    assert dosed(pair, persons, (200, 200), limit=LIMIT, comparisons=1, rng=np.random.default_rng(0)) is None


def test_own_leak_is_the_mean_of_the_models() -> None:
    """However different the levels of their scores are."""
    e = audit(2, reference_leak=1.0)
    scored, persons = e.dosed
    each = np.mean([auc(c, s).value for c, s in zip(scored.controls, scored.seen, strict=True)])
    moved = replace(scored, controls=scored.controls * [[1.0], [10.0], [0.1], [3.0]] + [[0], [5], [-9], [1]])
    assert own_leak(scored, persons).value == pytest.approx(each, abs=0.01)
    assert own_leak(moved, persons).value == pytest.approx(own_leak(scored, persons).value)
    null = audit(2, reference_leak=0.0)
    ends = own_leak(*null.dosed).intervals["0.95"]
    assert ends.low < 0.5 < ends.high


def test_the_same_seed_gives_the_same_control() -> None:
    assert check(5, reference_leak=2.0) == check(5, reference_leak=2.0)
