"""The gate: every state and verdict, their order, and what can never be relaxed."""

from __future__ import annotations

from itertools import product
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from albert_audit.gate import check_policy, decide, default_policy, judge, load_policy
from albert_audit.types import (
    EXIT_CODES,
    Estimate,
    Finding,
    Head,
    Interval,
    PolicyError,
    Rule,
    State,
    Status,
    Verdict,
    VerdictWord,
)
from tests.builders import estimate, finding, findings, full_findings, full_policy, model, policy, rule

# One finding for each state, against a limit of 0.25.
MADE: dict[State, dict[str, Any]] = {
    State.PASS: {"effect": estimate(0.02, 0.03)},
    State.FAIL: {"effect": estimate(-0.60, 0.05)},
    State.INCONCLUSIVE: {"effect": estimate(0.20, 0.10)},
    State.INVALID: {"status": Status.INVALID, "reason": "the control moved"},
    State.NOT_RUN: {"status": Status.NOT_RUN, "reason": "no such head", "effect": None},
    State.ERROR: {"status": Status.ERROR, "reason": "it crashed", "effect": None},
}
MISSING = {State.INVALID, State.NOT_RUN, State.ERROR}


def of(state: State, name: str | None = None) -> Finding:
    return finding(f"{name or state.replace('_', '-')}/m/a/c", **MADE[state])


def judged(*items: Finding, rules: tuple[Rule, ...] = ()) -> Verdict:
    return judge(findings(*items), policy(*rules), post_hoc=False)


# --- states ---------------------------------------------------------------------------------


@pytest.mark.parametrize("state", list(State))
def test_every_state_is_provoked(state: State) -> None:
    (result,) = judged(of(state)).results
    assert result.state is state
    assert result.reason
    assert result.limit == 0.25


@pytest.mark.parametrize("state", list(State))
def test_the_result_carries_the_numbers_it_was_judged_by(state: State) -> None:
    item = of(state)
    (result,) = judged(item).results
    if item.effect is None:
        assert result.value is None
        return
    assert result.value == item.effect.value
    assert result.interval_pass == item.effect.intervals["0.90"]
    assert result.interval_fail == item.effect.intervals["simultaneous_0.95"]
    assert item.effect.resolvability is not None
    assert result.passable_limit == item.effect.resolvability.passable_limit
    assert result.fail_resolvable_at == 0.25 + item.effect.resolvability.fail_excess


@pytest.mark.parametrize(
    ("inner", "outer", "state"),
    [
        ((-0.25, 0.25), (-0.3, 0.3), State.PASS),  # the limit itself is within
        ((-0.2501, 0.2), (-0.3, 0.3), State.INCONCLUSIVE),
        ((0.3, 0.4), (0.25, 0.5), State.INCONCLUSIVE),  # it touches the limit
        ((0.3, 0.4), (0.2501, 0.5), State.FAIL),
        ((-0.4, -0.3), (-0.5, -0.2501), State.FAIL),
        ((0.3, 0.4), (0.2, 0.5), State.INCONCLUSIVE),  # the 0.90 interval alone never fails
    ],
)
def test_the_limits_of_pass_and_fail(
    inner: tuple[float, float], outer: tuple[float, float], state: State
) -> None:
    assert decide(_with(inner, outer), 0.25) is state


def test_distance_is_from_the_null() -> None:
    assert decide(estimate(0.52, 0.01, null=0.5), 0.1) is State.PASS
    assert decide(estimate(0.02, 0.01, null=0.5), 0.1) is State.FAIL


def test_without_intervals_nothing_is_concluded() -> None:
    assert decide(estimate(0.0, 0.0, intervals={}), 0.25) is State.INCONCLUSIVE
    item = finding(
        status=Status.INSUFFICIENT, reason="5 degrees of freedom", effect=estimate(9, 1, intervals={})
    )
    (result,) = judged(item).results
    assert (result.state, result.reason) == (State.INCONCLUSIVE, "5 degrees of freedom")


def test_insufficient_evidence_is_never_judged_even_with_intervals() -> None:
    for effect in (MADE[State.PASS]["effect"], MADE[State.FAIL]["effect"]):
        (result,) = judged(finding(status=Status.INSUFFICIENT, reason="few", effect=effect)).results
        assert result.state is State.INCONCLUSIVE


def test_the_difference_is_judged_when_asked_for() -> None:
    item = finding(effect=estimate(0.9, 0.01), difference=estimate(0.01, 0.01))
    verdict = judged(item, rules=(rule("a"), rule("b", metric="difference")))
    assert [r.state for r in verdict.results] == [State.FAIL, State.PASS]


@pytest.mark.parametrize("metric", ["effect", "difference"])
def test_a_missing_estimate_is_not_run(metric: str) -> None:
    item = finding(effect=None, difference=None)
    (result,) = judged(item, rules=(rule(metric=metric),)).results
    assert result.state is State.NOT_RUN


def test_too_few_items_are_inconclusive() -> None:
    item = finding(n=99, **MADE[State.PASS])
    (few,) = judged(item, rules=(rule(min_n=100),)).results
    (enough,) = judged(item, rules=(rule(min_n=99),)).results
    assert (few.state, enough.state) == (State.INCONCLUSIVE, State.PASS)
    assert "99" in few.reason and "100" in few.reason


def test_a_finding_that_only_informs_is_not_judged() -> None:
    verdict = judged(finding(gates=False, **MADE[State.FAIL]))
    assert [r.state for r in verdict.results] == [State.NOT_RUN]
    assert verdict.verdict is VerdictWord.INCOMPLETE


@pytest.mark.parametrize("role", ["control", "floor"])
def test_controls_and_floors_are_not_judged(role: str) -> None:
    (result,) = judged(finding(role=role, **MADE[State.FAIL])).results
    assert (result.finding, result.state) == (None, State.NOT_RUN)


def test_a_rule_without_a_finding_is_not_run() -> None:
    verdict = judged(of(State.PASS), rules=(rule("a", "pass/*"), rule("b", "absent/*")))
    assert verdict.results[1].finding is None
    assert verdict.verdict is VerdictWord.INCOMPLETE


# --- verdicts -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("states", "word"),
    [
        ([State.PASS], VerdictWord.PASS),
        ([State.PASS, State.INCONCLUSIVE], VerdictWord.INCONCLUSIVE),
        ([State.PASS, State.INCONCLUSIVE, State.NOT_RUN], VerdictWord.INCOMPLETE),
        ([State.PASS, State.INCONCLUSIVE, State.INVALID], VerdictWord.INCOMPLETE),
        ([State.PASS, State.INCONCLUSIVE, State.ERROR], VerdictWord.INCOMPLETE),
        ([State.PASS, State.INCONCLUSIVE, State.ERROR, State.FAIL], VerdictWord.FAIL),
    ],
)
def test_order_of_verdicts(states: list[State], word: VerdictWord) -> None:
    items = [of(s) for s in states]
    for order in (items, items[::-1]):
        verdict = judged(*order)
        assert verdict.verdict is word
        assert verdict.exit_code == EXIT_CODES[word]


def test_every_combination_of_states_follows_the_order() -> None:
    for states in product(State, repeat=3):
        word = judged(*(of(s, f"n{i}") for i, s in enumerate(states))).verdict
        if State.FAIL in states:
            assert word is VerdictWord.FAIL
        elif MISSING & set(states):
            assert word is VerdictWord.INCOMPLETE
        elif State.INCONCLUSIVE in states:
            assert word is VerdictWord.INCONCLUSIVE
        else:
            assert word is VerdictWord.PASS


def test_exit_codes() -> None:
    codes = {judged(of(s)).exit_code for s in State}
    assert codes == {0, 1, 3, 4}


def test_counts_and_identity() -> None:
    documents, rules = full_findings(), full_policy()
    verdict = judge(documents, rules, post_hoc=True)
    assert sum(verdict.counts.values()) == len(verdict.results)
    assert verdict.model_sha256 == documents.model.sha256
    assert verdict.policy.sha256 == rules.sha256
    assert verdict.policy.post_hoc


@pytest.mark.parametrize("status", [Status.INSUFFICIENT, Status.ESTIMATED])
def test_inconclusive_can_be_counted_as_a_fail(status: Status) -> None:
    item = finding(status=status, reason="few", **MADE[State.INCONCLUSIVE])
    verdict = judged(item, rules=(rule(on_inconclusive="fail"),))
    assert verdict.verdict is VerdictWord.FAIL
    assert "counts this as a fail" in verdict.results[0].reason
    assert verdict.results[0].counted_as_fail
    assert (
        not judged(finding(**MADE[State.FAIL]), rules=(rule(on_inconclusive="fail"),))
        .results[0]
        .counted_as_fail
    )


@pytest.mark.parametrize("state", sorted(MISSING))
@pytest.mark.parametrize("on_inconclusive", ["inconclusive", "fail"])
def test_missing_evidence_is_never_relaxed(state: State, on_inconclusive: str) -> None:
    verdict = judged(of(state), of(State.PASS), rules=(rule(on_inconclusive=on_inconclusive),))
    assert verdict.verdict is VerdictWord.INCOMPLETE
    alone = judged(of(state), rules=(rule(on_inconclusive=on_inconclusive, required=False),))
    assert alone.verdict is VerdictWord.INCOMPLETE
    assert alone.exit_code == 3


def test_optional_and_missing_is_shown_but_does_not_count() -> None:
    verdict = judged(of(State.PASS), rules=(rule("a", "pass/*"), rule("b", "absent/*", required=False)))
    assert verdict.verdict is VerdictWord.PASS
    assert verdict.counts == {State.PASS: 1, State.NOT_RUN: 1}


@pytest.mark.parametrize("state", [State.FAIL, State.INCONCLUSIVE])
def test_an_optional_rule_that_ran_counts(state: State) -> None:
    assert judged(of(state), rules=(rule(required=False),)).exit_code == EXIT_CODES[VerdictWord(state.name)]


def test_deleting_a_required_check_never_passes() -> None:
    rules = (rule("a", "one/*"), rule("b", "two/*"))
    both = [of(State.PASS, "one"), of(State.PASS, "two")]
    assert judged(*both, rules=rules).verdict is VerdictWord.PASS
    for left in both:
        assert judged(left, rules=rules).exit_code == 3


def test_judging_is_deterministic() -> None:
    first, second = (judge(full_findings(), full_policy(), post_hoc=False) for _ in range(2))
    assert first.model_dump_json(by_alias=True) == second.model_dump_json(by_alias=True)


# --- properties -----------------------------------------------------------------------------

_number = st.floats(-3, 3)
_width = st.floats(0, 2)


def _with(inner: tuple[float, float], outer: tuple[float, float], null: float = 0.0) -> Estimate:
    return Estimate(
        value=(inner[0] + inner[1]) / 2,
        se=0.1,
        df=20,
        null=null,
        intervals={
            "0.90": Interval(low=inner[0], high=inner[1]),
            "0.95": Interval(low=min(inner[0], outer[0]), high=max(inner[1], outer[1])),
            "simultaneous_0.95": Interval(low=outer[0], high=outer[1]),
        },
    )


@settings(deadline=None)
@given(
    at=_number,
    null=st.sampled_from([0.0, 0.5]),
    low=_width,
    high=_width,
    more=_width,
    wider_low=_width,
    wider_high=_width,
    limit=st.floats(0.01, 2),
)
def test_less_certainty_never_decides(
    at: float,
    null: float,
    low: float,
    high: float,
    more: float,
    wider_low: float,
    wider_high: float,
    limit: float,
) -> None:
    before = _with((at - low, at + high), (at - low - more, at + high + more), null)
    after = _with(
        (at - low - wider_low, at + high + wider_high),
        (at - low - more - wider_low, at + high + more + wider_high),
        null,
    )
    was, now = decide(before, limit), decide(after, limit)
    assert now in (was, State.INCONCLUSIVE)


@settings(deadline=None)
@given(at=_number, low=_width, high=_width, more=_width, limit=st.floats(0.01, 2), looser=_width)
def test_a_looser_limit_never_turns_a_pass_into_a_fail(
    at: float, low: float, high: float, more: float, limit: float, looser: float
) -> None:
    item = _with((at - low, at + high), (at - low - more, at + high + more))
    order = [State.FAIL, State.INCONCLUSIVE, State.PASS]
    assert order.index(decide(item, limit + looser)) >= order.index(decide(item, limit))


@settings(deadline=None)
@given(at=_number, low=_width, high=_width, more=_width, limit=st.floats(0.01, 2))
def test_the_sign_of_an_effect_does_not_matter(
    at: float, low: float, high: float, more: float, limit: float
) -> None:
    item = _with((at - low, at + high), (at - low - more, at + high + more))
    mirror = _with((-at - high, -at + low), (-at - high - more, -at + low + more))
    assert decide(item, limit) is decide(mirror, limit)


@settings(deadline=None)
@given(
    states=st.lists(st.sampled_from(list(State)), min_size=1, max_size=5), extra=st.sampled_from(list(State))
)
def test_more_results_never_make_a_verdict_better(states: list[State], extra: State) -> None:
    order = [VerdictWord.FAIL, VerdictWord.INCOMPLETE, VerdictWord.INCONCLUSIVE, VerdictWord.PASS]
    items = [of(s, f"n{i}") for i, s in enumerate(states)]
    before, after = judged(*items).verdict, judged(*items, of(extra, "more")).verdict
    assert order.index(after) <= order.index(before)


# --- policies -------------------------------------------------------------------------------

CHECKS = {
    "words/gap/gender/she-he": True,
    "words/gap/gender/they-he": True,
    "vectors/cos/gender/she-he": False,
}
KNOWN = [*CHECKS, "pairs/share/race/more-less"]


def _file(tmp_path: Path, **changes: object) -> Path:
    data: dict[str, object] = {
        "schema": "albert-audit/policy@1",
        "name": "mine",
        "title": "Mine",
        "heads": ["masked_lm"],
        "rules": [{"id": "gap", "check": "words/*", "limit": {"max_abs": 0.1}, "rationale": "because"}],
    }
    path = tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump(data | changes), encoding="utf-8")
    return path


def _rule(**changes: object) -> dict[str, object]:
    return {"id": "gap", "check": "words/*", "limit": {"max_abs": 0.1}, "rationale": "because"} | changes


def test_a_policy_is_read(tmp_path: Path) -> None:
    read = load_policy(_file(tmp_path))
    assert (read.name, read.version, read.rules[0].limit.max_abs) == ("mine", 1, 0.1)
    check_policy(read, Head.MASKED_LM, CHECKS, KNOWN)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"confidence": 0.99}, "confidence"),
        ({"rules": [_rule(metric="p_value")]}, "metric"),
        ({"rules": [_rule(level=0.8)]}, "level"),
        ({"rules": [_rule(limit={"max": 0.1})]}, "limit.max"),
        ({"rules": [_rule(on_not_run="pass")]}, "on_not_run"),
        ({"rules": []}, "without rules"),
        ({"rules": [_rule(), _rule()]}, "two rules"),
        ({"schema": "albert-audit/policy@2"}, "upgrade albert-audit"),
        ({"schema": "albert-audit/findings@1"}, "expected schema"),
        ({"heads": ["masked_language"]}, "heads"),
        ({"waivers": []}, "waivers"),
    ],
)
def test_a_policy_that_asks_for_the_impossible_is_refused(
    tmp_path: Path, changes: dict[str, object], said: str
) -> None:
    with pytest.raises(PolicyError, match=said) as caught:
        load_policy(_file(tmp_path, **changes))
    assert caught.value.exit_code == 2


@pytest.mark.parametrize(
    "content", [b"- a\n- b\n", b"name: [", b"", b"\xff\xfe\x00", b"!!python/object:os.system {}"]
)
def test_a_file_that_is_no_policy_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "p.yaml"
    path.write_bytes(content)
    with pytest.raises(PolicyError) as caught:
        load_policy(path)
    assert caught.value.exit_code == 2
    assert str(path) in str(caught.value)


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(PolicyError, match="cannot read") as caught:
        load_policy(tmp_path / "none.yaml")
    assert "policy" in caught.value.hint


def test_all_problems_of_a_policy_are_told_at_once() -> None:
    asked = policy(rule("typo", "wrods/gap/gender/she-he"), rule("informs", "vectors/*"))
    with pytest.raises(PolicyError) as caught:
        check_policy(asked, Head.SEQUENCE_CLASSIFICATION, CHECKS, KNOWN)
    text = str(caught.value)
    assert "sequence_classification" in text
    assert "nearest: 'words/gap/gender/she-he'" in text
    assert "only informs" in text
    assert caught.value.exit_code == 2


def test_a_known_check_that_this_audit_leaves_out_is_no_mistake() -> None:
    check_policy(policy(rule("pairs", "pairs/*")), Head.MASKED_LM, CHECKS, KNOWN)


def test_a_policy_for_another_head_judges_nothing() -> None:
    with pytest.raises(PolicyError, match="encoder"):
        judge(findings(model=model(head=Head.ENCODER)), policy(), post_hoc=False)


def test_the_hash_is_of_the_content(tmp_path: Path) -> None:
    path = _file(tmp_path)
    before = load_policy(path)
    path.write_text("# a comment\n" + path.read_text(encoding="utf-8"), encoding="utf-8")
    assert load_policy(path).sha256 == before.sha256
    assert load_policy(_file(tmp_path, version=2)).sha256 != before.sha256


@pytest.mark.parametrize("head", list(Head))
def test_a_default_policy_is_for_its_head(head: Head) -> None:
    shipped = default_policy(head)
    assert shipped is None or head in shipped.heads
