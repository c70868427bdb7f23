"""Findings and a policy give a verdict. Reads documents only and computes no statistic.

A limit tolerates a distance from the null. PASS needs the 0.90 interval inside the limit (two
one-sided 5 % tests: every check must pass, so no correction for multiplicity is due); FAIL needs
the simultaneous 0.95 interval wholly outside it. Anything else is INCONCLUSIVE. A check that did
not run, crashed or is invalid never passes.
"""

from __future__ import annotations

import difflib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from fnmatch import fnmatchcase
from pathlib import Path

import yaml

from albert_audit import resources
from albert_audit.types import (
    EXIT_CODES,
    Estimate,
    Finding,
    Findings,
    Head,
    Policy,
    PolicyError,
    PolicyRef,
    Rule,
    RuleResult,
    State,
    Status,
    Verdict,
    VerdictWord,
)

_UNJUDGEABLE = {
    Status.INVALID: State.INVALID,
    Status.NOT_RUN: State.NOT_RUN,
    Status.ERROR: State.ERROR,
}
_MISSING = (State.INVALID, State.NOT_RUN, State.ERROR)


# --- policies -------------------------------------------------------------------------------


def load_policy(path: Path) -> Policy:
    """Read and validate a policy file.

    Raises
    ------
    PolicyError
        When the file is missing, is not YAML, or is not a valid policy; lists every mistake.
    """
    try:
        data = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as exc:
        raise PolicyError(
            f"cannot read the policy {path}: {exc.strerror}",
            "give the path of a policy file; reports/policies/ holds the shipped ones to start from",
        ) from None
    except (yaml.YAMLError, UnicodeDecodeError) as exc:
        raise PolicyError(f"{path} is not YAML: {exc}") from None
    if not isinstance(data, dict):
        raise PolicyError(f"{path}: expected a mapping with 'name' and 'rules', found {type(data).__name__}")
    policy: Policy = Policy.read(data, where=str(path), error=PolicyError)
    return policy


def shipped_policy_files() -> list[Path]:
    """Return the files of the shipped policies."""
    return sorted((resources.reports() / "policies").glob("*.yaml"))


def default_policy(
    head: Head, languages: Sequence[str] = ("en",), tests: Sequence[str] = ()
) -> Policy | None:
    """Return the shipped policy of a head, joined with those of the privacy tests; None where there is none.

    The file of a head is named after it, and after the language where that is not English:
    ``masked-lm.yaml``, ``masked-lm-zh.yaml``. The first of `languages` that has one decides; without
    languages only the tests' policies count.

    Parameters
    ----------
    tests : sequence of str
        Privacy tests whose input was brought: ``membership`` stands in ``privacy/membership.yaml``.
    """
    parts = [*filter(None, [_of_head(head, languages)])]
    folder = resources.reports() / "policies" / "privacy"
    parts += [load_policy(path) for name in tests if (path := folder / f"{name}.yaml").is_file()]
    parts = [p for p in parts if head in p.heads]
    return _joined(parts, head) if len(parts) > 1 else parts[0] if parts else None


def _of_head(head: Head, languages: Sequence[str]) -> Policy | None:
    known = {path.stem: path for path in shipped_policy_files()}
    for language in languages:
        suffix = "" if language == "en" else f"-{language}"
        for other in [head, *Head]:
            path = known.get(other.replace("_", "-") + suffix)
            if path is not None and head in (policy := load_policy(path)).heads:
                return policy
    return None


def _joined(parts: Sequence[Policy], head: Head) -> Policy:
    """Return one policy with the rules of all: that is what is locked and judged by."""
    return Policy(
        name="+".join(p.name for p in parts),
        version=max(p.version for p in parts),
        title="; ".join(p.title for p in parts),
        heads=(head,),
        owner=parts[0].owner,
        rules=tuple(rule for p in parts for rule in p.rules),
        note=" ".join(p.note for p in parts if p.note),
    )


def check_policy(
    policy: Policy,
    head: Head,
    checks: Mapping[str, bool],
    known: Iterable[str],
    *,
    uncontrolled: Iterable[str] = (),
    upward: Iterable[str] = (),
) -> None:
    """Refuse, before anything is scored, a policy that this audit cannot serve.

    Parameters
    ----------
    checks : mapping
        Finding id → whether it may gate on this head, for the packs of this audit.
    known : iterable of str
        Finding ids of every pack that could have been chosen, shipped ones included.
    uncontrolled : iterable of str
        Finding ids of packs without a control: they have no difference to judge.
    upward : iterable of str
        Finding ids that noise alone makes positive: they have only a difference to judge.

    Raises
    ------
    PolicyError
        For another head, a check that no known pack has, a check that only informs, or the
        difference from a control that the pack does not have.
    """
    problems = []
    if head not in policy.heads:
        heads = ", ".join(policy.heads)
        problems.append(f"it is for {heads}; this model has the head {head}")
    everything = sorted({*checks, *known})
    alone = sorted(uncontrolled)
    for rule in policy.rules:
        if not any(fnmatchcase(k, rule.check) for k in everything):
            near = difflib.get_close_matches(rule.check, everything, n=1, cutoff=0.4)
            problems.append(
                f"rule {rule.id!r}: no known check matches {rule.check!r}"
                + (f" (nearest: {near[0]!r})" if near else "")
            )
        informing = [k for k, gates in checks.items() if fnmatchcase(k, rule.check) and not gates]
        if informing:
            problems.append(
                f"rule {rule.id!r}: {informing[0]!r} only informs on the head {head} and cannot gate"
            )
        bare = [k for k in alone if fnmatchcase(k, rule.check)] if rule.metric == "difference" else []
        noisy = [k for k in upward if fnmatchcase(k, rule.check)] if rule.metric == "effect" else []
        if noisy:
            problems.append(
                f"rule {rule.id!r}: metric 'effect': noise alone makes {noisy[0]!r} positive; use 'difference'"
            )
        if bare:
            problems.append(
                f"rule {rule.id!r}: metric 'difference': the pack of {bare[0]!r} names no control; use 'effect'"
            )
    if problems:
        raise PolicyError(
            f"the policy {policy.name!r} cannot judge this audit:\n" + "\n".join(f"  {p}" for p in problems),
            "`albert-audit packs show NAME` lists the checks of a pack",
        )


# --- judging --------------------------------------------------------------------------------


def decide(estimate: Estimate, max_abs: float) -> State:
    """Judge one estimate against a limit. The one place where PASS and FAIL are defined.

    Parameters
    ----------
    estimate : Estimate
        With its intervals; without them nothing can be concluded.
    max_abs : float
        The tolerated distance from the null, in the estimate's unit.
    """
    if not estimate.intervals:
        return State.INCONCLUSIVE
    low, high = estimate.null - max_abs, estimate.null + max_abs
    inner, outer = estimate.intervals["0.90"], estimate.intervals["simultaneous_0.95"]
    if low <= inner.low and inner.high <= high:
        return State.PASS
    if outer.low > high or outer.high < low:
        return State.FAIL
    return State.INCONCLUSIVE


def _result(rule: Rule, finding: Finding) -> RuleResult:
    limit = rule.limit.max_abs

    def result(state: State, reason: str, estimate: Estimate | None = None) -> RuleResult:
        extra = {}
        if estimate is not None:
            power = estimate.resolvability
            extra = {
                "value": estimate.value,
                "null": estimate.null,
                "interval_pass": estimate.intervals.get("0.90"),
                "interval_fail": estimate.intervals.get("simultaneous_0.95"),
                "fail_resolvable_at": limit + power.fail_excess if power else None,
                "passable_limit": power.passable_limit if power else None,
            }
        return RuleResult(
            rule=rule.id, finding=finding.id, state=state, reason=reason, required=rule.required,
            metric=rule.metric, limit=limit, **extra,
        )  # fmt: skip

    estimate = finding.effect if rule.metric == "effect" else finding.difference
    if finding.status in _UNJUDGEABLE:
        return result(_UNJUDGEABLE[finding.status], finding.reason or "no reason was recorded", estimate)
    if not finding.gates:
        return result(State.NOT_RUN, "this check only informs on this head and cannot gate", estimate)
    if finding.status is Status.INSUFFICIENT:
        return _inconclusive(rule, result(State.INCONCLUSIVE, finding.reason, estimate))
    if estimate is None:
        missing = "effect" if rule.metric == "effect" else "difference from its control"
        return result(State.NOT_RUN, f"the finding has no {missing}")
    if finding.n < rule.min_n:
        reason = f"{finding.n} items, the policy asks for at least {rule.min_n}"
        return _inconclusive(rule, result(State.INCONCLUSIVE, reason, estimate))
    state = decide(estimate, limit)
    reason = {
        State.PASS: f"the 90 % interval lies within ±{limit:g} of the null",
        State.FAIL: f"the simultaneous 95 % interval lies beyond ±{limit:g} of the null",
        State.INCONCLUSIVE: f"the evidence neither excludes nor confirms a distance beyond ±{limit:g}",
    }[state]
    return _inconclusive(rule, result(state, reason, estimate))


def _inconclusive(rule: Rule, result: RuleResult) -> RuleResult:
    if result.state is State.INCONCLUSIVE and rule.on_inconclusive == "fail":
        return result.model_copy(
            update={
                "state": State.FAIL,
                "reason": result.reason + "; the policy counts this as a fail",
                "counted_as_fail": True,
            }
        )
    return result


def judge(findings: Findings, policy: Policy, *, post_hoc: bool) -> Verdict:
    """Apply every rule to every finding it matches and take the worst.

    Parameters
    ----------
    post_hoc : bool
        Whether another policy was locked before the model was scored.
    """
    if findings.model.head not in policy.heads:
        raise PolicyError(
            f"the policy {policy.name!r} is for {', '.join(policy.heads)}; "
            f"this audit is of a model with the head {findings.model.head}",
            "choose a policy for this head with --policy FILE",
        )
    results: list[RuleResult] = []
    for rule in policy.rules:
        matched = [f for f in findings.findings if fnmatchcase(f.id, rule.check) and f.role == "probe"]
        results += [_result(rule, f) for f in matched]
        if not matched:
            results.append(
                RuleResult(
                    rule=rule.id, finding=None, state=State.NOT_RUN, required=rule.required,
                    metric=rule.metric, limit=rule.limit.max_abs,
                    reason=f"no finding of this audit matches {rule.check!r}",
                )
            )  # fmt: skip
    word, reason = _verdict(results)
    return Verdict(
        verdict=word,
        exit_code=EXIT_CODES[word],
        reason=reason,
        model_sha256=findings.model.sha256,
        policy=PolicyRef(
            name=policy.name, version=policy.version, title=policy.title,
            sha256=policy.sha256, post_hoc=post_hoc,
        ),
        results=tuple(results),
        counts=dict(sorted(Counter(r.state for r in results).items())),
    )  # fmt: skip


def _verdict(results: list[RuleResult]) -> tuple[VerdictWord, str]:
    def among(*states: State, required: bool = False) -> list[str]:
        return [r.rule for r in results if r.state in states and (r.required or not required)]

    if failed := among(State.FAIL):
        return VerdictWord.FAIL, f"beyond its limit: {_names(failed)}"
    if missing := among(*_MISSING, required=True):
        return VerdictWord.INCOMPLETE, f"required but without valid evidence: {_names(missing)}"
    if open_ := among(State.INCONCLUSIVE):
        return VerdictWord.INCONCLUSIVE, f"the evidence does not settle: {_names(open_)}"
    if passed := among(State.PASS):
        return VerdictWord.PASS, f"within its limit: {_names(passed)}"
    return VerdictWord.INCOMPLETE, "no rule of the policy could be judged"


def _names(rules: list[str]) -> str:
    return ", ".join(dict.fromkeys(rules))
