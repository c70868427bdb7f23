"""What membership scores may be called: a leak, none, or nothing that these sets can tell."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from albert_audit.gate import judge
from albert_audit.privacy import dose, membership_findings
from albert_audit.privacy.membership_findings import CONTRAST, Evidence, build, ids
from albert_audit.types import Finding, Findings, Policy, State, Status, Verdict, VerdictWord
from tests import builders
from tests.fakes import one
from tests.privacy.simulated import CHECK, LIMIT, audit, policy

PRIMARY = f"membership/auc_rmia/all/{CONTRAST}"


@pytest.fixture(autouse=True)
def _fast(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> None:
    """Fewer draws, and a positive control only where it is asked for: they are tested where they are made."""
    monkeypatch.setattr(dose, "RUNS", 10)
    if not {"leak_free", "controlled"} & set(request.fixturenames):
        monkeypatch.setattr(membership_findings, "dosed", lambda *a, **k: None)
    monkeypatch.setattr(membership_findings, "permutation_max", lambda *a, **k: (1.0, np.zeros(1)))


def found(e: Evidence, by: Policy | None = None) -> tuple[Finding, ...]:
    return build(e, by or policy(), 0)


def verdict(e: Evidence, by: Policy | None = None) -> Verdict:
    head = builders.model(head="sequence_classification")
    return judge(Findings(model=head, findings=found(e, by)), by or policy(), post_hoc=False)


def states(e: Evidence, by: Policy | None = None) -> dict[str, State]:
    return {r.finding: r.state for r in verdict(e, by).results if r.finding}


@pytest.fixture
def controlled() -> None:
    """The positive control is made."""


@pytest.fixture(scope="module")
def leak_free() -> Evidence:
    """A target that remembers nothing, references that do, and records enough to pass."""
    return audit(11, members=900, others=900, reference_leak=2.0)


# --- leak or not ----------------------------------------------------------------------------


def test_a_leak_free_model_does_not_fail() -> None:
    """Of 200 audits at most 1 fails, by the plainest or the strongest attack."""
    failed = 0
    for seed in range(200):
        e = audit(seed, members=40, others=40, k=4)
        for scored in (s for s in e.scored if s.attack.name in ("loss", "rmia")):
            difference = membership_findings.auc_difference(
                scored.target, scored.controls, e.member, e.persons, comparisons=len(e.scored)
            )
            failed += membership_findings.decide(difference, LIMIT) is State.FAIL
    assert failed <= 1


@pytest.mark.parametrize("options", [{}, {"k": 0}, {"k": 2}, {"pool": 300}, {"persons": 4}])
def test_a_leak_free_model_neither_fails_nor_passes_where_records_are_few(options: dict) -> None:
    for seed in range(3):
        got = set(states(audit(seed, members=100, others=100, **options)).values())
        assert State.FAIL not in got and State.INCONCLUSIVE in got, (seed, got)


@pytest.mark.parametrize("options", [{}, {"k": 0}, {"k": 2}, {"pool": 400}, {"persons": 4}, {"k": 8}])
def test_a_leak_fails(options: dict) -> None:
    e = audit(1, members=300, others=300, leak=1.5, **options)
    assert verdict(e).verdict is VerdictWord.FAIL
    assert all(f.effect.value > 0.6 for f in found(e) if f.id.startswith("membership/auc_"))


def test_excess_is_the_leak_that_was_planted() -> None:
    """With records alike but for membership the excess is the attack's own area above one half."""
    e = audit(2, members=1200, others=1200, leak=1.0)
    got = found(e)
    for f in (f for f in got if f.id.startswith("membership/auc_")):
        assert f.control.effect.value == pytest.approx(0.5, abs=0.02)
        assert f.difference.value == pytest.approx(f.effect.value - f.control.effect.value, abs=1e-9)
    by_loss = one(got, "auc_loss/")
    # Margins N(1, 1 + .3²) and N(2, 1 + .3²): their area is Phi(1 / sqrt(2 * 1.09)).
    assert by_loss.difference.value == pytest.approx(0.751 - 0.5, abs=0.03)


def test_swapped_sets_are_not_turned_round() -> None:
    """Trap 5: one less the area is shown as it is."""
    e = audit(3, leak=1.5)
    back = replace(e, member=~e.member)
    assert one(found(back), "auc_rmia/all").effect.value == pytest.approx(
        1 - one(found(e), "auc_rmia/all").effect.value
    )


def test_permuted_persons_and_members_are_chance() -> None:
    e = audit(4, leak=2.0, members=300, others=300)
    rng = np.random.default_rng(0)
    got = found(replace(e, member=rng.permutation(e.member), persons=list(rng.permutation(e.persons))))
    assert abs(one(got, "auc_rmia/all").effect.value - 0.5) < 0.08
    assert all(f.status is not Status.ESTIMATED or f.effect.value < 0.6 for f in got if "auc_" in f.id)


def test_order_of_records_changes_no_area() -> None:
    e = audit(5, leak=0.5, groups={"sex": tuple("ab" * 200)})
    order = np.random.default_rng(1).permutation(len(e.member))

    def ordered(scored):
        return replace(
            scored, target=scored.target[order], controls=scored.controls[:, order], seen=scored.seen[:, order]
        )  # fmt: skip

    other = replace(
        e, scored=tuple(map(ordered, e.scored)), member=e.member[order], persons=[e.persons[i] for i in order],
        blind=e.blind[order], groups={"sex": tuple(e.groups["sex"][i] for i in order)},
    )  # fmt: skip
    for one_, two in zip(found(e), found(other), strict=True):
        assert one_.id == two.id and one_.status == two.status
        if "advantage" not in one_.id and one_.effect is not None:
            assert one_.effect.value == pytest.approx(two.effect.value)
            assert (one_.difference is None) or one_.difference.value == pytest.approx(two.difference.value)


# --- sets that differ in more than membership -----------------------------------------------


@pytest.mark.parametrize("leak", [0.0, 2.0])
@pytest.mark.parametrize("k", [0, 2, 4])
def test_shifted_sets_are_invalid(leak: float, k: int) -> None:
    """Trap 2.6: neither fail nor pass, whatever the attack finds."""
    e = audit(6, members=300, others=300, leak=leak, k=k, shift=1.0, blind=1.0)
    assert set(
        states(e, policy(("membership/*", LIMIT, "difference"), ("membership/*", 0.4, "effect"))).values()
    ) == {State.INVALID}
    assert verdict(e).verdict is VerdictWord.INCOMPLETE
    assert "never sees the model" in one(found(e), "auc_loss/").reason


@pytest.mark.parametrize("seed", range(3))
def test_a_shift_that_only_models_see_is_invalid(seed: int) -> None:
    """Control models saw half of each set: what they make of it is no memory, and RMIA's excess is none either."""
    e = audit(seed, members=200, others=200, shift=1.0, blind=0.0)
    assert set(states(e).values()) == {State.INVALID}
    assert "control models" in one(found(e), "auc_rmia/all").reason


@pytest.mark.parametrize("sign", [1, -1])
def test_a_base_that_tells_the_sets_apart_makes_them_invalid(sign: int) -> None:
    """The field's headline number fails this: the reference alone separates its sets, by .19 or .81."""
    e = audit(7, members=300, others=300, k=0, leak=1.0)
    rng = np.random.default_rng(0)
    base = rng.normal(size=600) + sign * 0.8 * e.member
    apart = replace(e, reference_only=base)
    assert set(states(apart).values()) == {State.INVALID}
    assert "base" in one(found(apart), "auc_loss/").reason
    alike = replace(e, reference_only=rng.normal(size=600))
    assert set(states(alike).values()) == {State.FAIL}
    assert one(found(alike), "reference_only").role == "control"


def test_shifted_sets_with_a_pool_are_judged_by_the_excess() -> None:
    shifted = {"members": 400, "others": 400, "pool": 500, "shift": 1.0, "blind": 1.0}
    e = audit(8, **shifted)
    got = one(found(e), "auc_loss/")
    assert got.effect.value > 0.7 and abs(got.difference.value) < 0.05
    assert not {State.FAIL, State.INVALID} & set(states(e).values())
    assert verdict(audit(8, **shifted, leak=1.5)).verdict is VerdictWord.FAIL


def test_a_pool_without_reference_models_vouches_for_nothing() -> None:
    """Nothing was trained on it: the excess is over the classifier on texts alone."""
    e = audit(9, k=0, pool=300, shift=1.5, blind=0.8)
    assert set(states(e).values()) == {State.INVALID}


def test_a_weak_blind_area_on_few_records_is_no_veto() -> None:
    e = audit(10, members=60, others=60, blind=0.1)
    assert Status.INVALID not in {f.status for f in found(e)}


# --- a pass needs a positive control --------------------------------------------------------


def test_a_leak_free_model_passes_where_the_control_sees_a_leak(leak_free: Evidence) -> None:
    got = verdict(leak_free, policy((PRIMARY, LIMIT, "difference")))
    assert got.verdict is VerdictWord.PASS, got
    check = one(found(leak_free), "auc_rmia/all").self_check
    assert check is not None and check.false_pass_at_limit.rate <= 0.2


RULES = [
    (CHECK, LIMIT, "difference"),
    (f"membership/auc_loss/all/{CONTRAST}", LIMIT, "difference"),
    (PRIMARY, 0.4, "effect"),
    (f"membership/advantage_*/all/{CONTRAST}", 0.9, "effect"),
    (f"membership/tpr_10_*/all/{CONTRAST}", 0.9, "effect"),
    ("membership/auc_*/sex/*", 0.4, "difference"),
    (f"membership/person_auc_*/all/{CONTRAST}", 0.4, "difference"),
]


@pytest.mark.parametrize("rule", RULES, ids=lambda r: r[0])
@pytest.mark.parametrize("k", [0, 2, 4])
def test_nothing_passes_without_references_or_with_forgetful_ones(
    rule: tuple[str, float, str], k: int, controlled: None
) -> None:
    """Whatever a policy asks for, and however loose its limit."""
    e = audit(12, members=450, others=450, k=k, reference_leak=0.0, persons=3, groups={"sex": ("a", "b") * 450},
              by_person=True)  # fmt: skip
    got = verdict(e, policy(rule))
    assert got.verdict is not VerdictWord.PASS, got.results
    assert State.PASS not in {r.state for r in got.results}
    if k == 0 and "rmia" not in rule[0]:
        assert State.INCONCLUSIVE in {r.state for r in got.results}


@pytest.mark.parametrize("rule", RULES[3:5], ids=lambda r: r[0])
def test_a_statistic_without_a_control_of_its_own_can_fail_and_never_pass(
    rule: tuple[str, float, str], leak_free: Evidence
) -> None:
    assert verdict(leak_free, policy(rule)).verdict is VerdictWord.INCONCLUSIVE
    leaky = audit(13, members=300, others=300, leak=3.0)
    assert verdict(leaky, policy((rule[0], 0.05, rule[2]))).verdict is VerdictWord.FAIL


def test_the_strictest_rule_that_passes_needs_its_control(
    leak_free: Evidence, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two rules on one check: the looser one's control does not speak for the stricter."""
    asked: list[float] = []
    real = membership_findings.dosed

    def spy(*args, limit: float, **rest):
        asked.append(limit)
        return real(*args, limit=limit, **rest) if limit > 0.1 else None

    monkeypatch.setattr(membership_findings, "dosed", spy)
    got = states(leak_free, policy((PRIMARY, 0.3, "difference"), (PRIMARY, 0.06, "difference")))
    assert 0.06 in asked and got == {PRIMARY: State.INCONCLUSIVE}


def test_a_fail_is_not_hidden_by_another_rule_that_passes() -> None:
    e = audit(14, members=300, others=300, leak=1.0, reference_leak=0.0)
    got = verdict(e, policy((PRIMARY, LIMIT, "difference"), (PRIMARY, 0.49, "effect")))
    assert got.verdict is VerdictWord.FAIL


def test_a_control_whose_mixtures_pass_too_often_is_none(
    leak_free: Evidence, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The share itself counts, not a lower bound of it that few runs leave low."""
    check = one(found(leak_free), "auc_rmia/all").self_check
    for rate, word in ((0.15, VerdictWord.PASS), (0.25, VerdictWord.INCONCLUSIVE)):
        blind = check.false_pass_at_limit.model_copy(update={"rate": rate, "low": 0.0, "high": 1.0})
        made = check.model_copy(update={"false_pass_at_limit": blind})
        monkeypatch.setattr(membership_findings, "dosed", lambda *a, made=made, **k: made)
        assert verdict(leak_free, policy((PRIMARY, LIMIT, "difference"))).verdict is word


# --- what cannot be told --------------------------------------------------------------------


def test_small_rates_need_many_non_members() -> None:
    """3,688 for 0.1 %: the number that was needed is told, and nothing is interpolated."""
    got = found(audit(15, members=400, others=400))
    small, middle = one(got, "tpr_01_"), one(got, "tpr_1_")
    assert small.status is Status.INSUFFICIENT and small.effect is None
    assert "not resolvable" in small.reason
    assert small.details["non_members_needed"] == pytest.approx(3688, abs=1)
    assert middle.status is Status.ESTIMATED and middle.details["non_members_needed"] < 400
    assert middle.details["false_positive_rate"] <= 0.01


def test_a_group_on_one_side_only_is_insufficient() -> None:
    groups = {"sex": ("a",) * 100 + ("b",) * 100 + ("b",) * 199 + ("",)}
    got = found(audit(16, groups=groups))
    alone, both = one(got, "/sex/a"), one(got, "/sex/b")
    assert alone.status is Status.INSUFFICIENT and alone.effect is None and "missing" in alone.reason
    assert both.status is Status.ESTIMATED and both.n == 299
    assert not [f for f in got if f.id.endswith("/sex/")], "no group is none"


def test_a_handful_of_records_is_insufficient() -> None:
    got = found(audit(17, members=4, others=4, k=2))
    assert all(f.status in (Status.INSUFFICIENT, Status.INVALID) for f in got if f.role == "probe")


def test_persons_widen_the_interval() -> None:
    """Trap 17: forty records of one person are not forty people."""
    e = audit(18, members=200, others=200)
    own = np.random.default_rng(0).normal(size=20)[np.arange(400) // 20]
    alike = replace(
        e, scored=tuple(replace(s, target=s.target + 5 * own) for s in e.scored), persons=[str(i // 20) for i in range(400)]
    )  # fmt: skip

    def width(of: Evidence) -> float:
        ends = one(found(of), "auc_loss/").effect.intervals["0.95"]
        return ends.high - ends.low

    assert width(alike) > 2 * width(replace(alike, persons=[str(i) for i in range(400)]))


# --- form -----------------------------------------------------------------------------------


def test_announced_ids_are_those_of_the_findings() -> None:
    """A policy is checked against the ids before anything runs."""
    e = audit(
        19, groups={"sex": ("a", "b") * 200, "age": ("x",) * 200 + ("",) * 200}, persons=2, by_person=True
    )
    told = ids([s.attack.name for s in e.scored], e.primary, e.groups, persons=True)
    got = [f.id for f in found(e) if f.role == "probe"]
    assert sorted(got) == sorted(told) and len(set(got)) == len(got)


def test_duplicates_and_skipped_are_told() -> None:
    got = found(audit(20, duplicates=7, skipped=5))
    for f in got:
        if f.id.startswith("membership/auc_"):
            assert f.details["duplicates_left_out"] == 7 and f.n_skipped == 5


def test_what_a_model_without_controls_is_compared_with_is_said() -> None:
    got = one(found(audit(21, k=0)), "auc_loss/")
    assert any("texts alone" in c for c in got.caveats) and "never sees the model" in got.control.note
    assert "4 models" in one(found(audit(21)), "auc_loss/").control.note
