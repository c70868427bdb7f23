"""What the card says of a finding and of the verdict, in plain words.

A sentence claims no more than was measured: it names the interval it rests on, and a fail that the
policy decreed for lack of evidence is not called beyond the limit.
"""

from __future__ import annotations

from dataclasses import dataclass

from albert_audit.render.text import Sentence, Source, say, theirs
from albert_audit.types import Finding, Head, Rule, RuleResult, State, Status, Verdict, VerdictWord

MISSING = ("invalid", "error", "not_run")
INTRINSIC = (Head.MASKED_LM, Head.PRETRAINING, Head.ENCODER)


@dataclass(frozen=True, slots=True)
class Judged:
    """One rule result beside its rule and the numbers it was judged by."""

    result: RuleResult
    rule: Rule
    ruling: Source
    source: Source | None
    anchor: str
    title: str

    @property
    def tone(self) -> str:
        """The state, as a word that names a style."""
        return self.result.state.value

    @property
    def beyond(self) -> bool:
        """Whether the judged interval lies wholly beyond the limit."""
        r = self.result
        return r.interval_fail is not None and (
            r.interval_fail.low > r.null + r.limit or r.interval_fail.high < r.null - r.limit
        )

    @property
    def ratio(self) -> float:
        """Distance from the null in multiples of the limit; 0 when there is no value."""
        return (
            0.0
            if self.result.value is None
            else abs(self.result.value - self.result.null) / self.result.limit
        )


# --- a finding ------------------------------------------------------------------------------


def told(finding: Finding, source: Source, lead: Judged | None, tone: str) -> Sentence:
    """Say in one or two sentences what a finding found, with its interval and limit."""
    why = theirs(finding.reason or "no reason was recorded", 300)
    if tone == "invalid":
        return say("This result cannot be used: ", why, ".")
    if tone == "error":
        return say("The check crashed, so nothing is known: ", why, ".")
    if finding.status is Status.NOT_RUN:
        return say("The check did not run, so nothing is known: ", why, ".")
    if finding.status is Status.INSUFFICIENT:
        tail = " The policy counts this as a fail." if tone == "fail" else ""
        return say("Too little evidence for an interval: ", why, ".", tail)
    metric = lead.result.metric if lead else "effect"
    estimate = getattr(finding, metric)
    if estimate is None:
        return say(
            "There is no ", "effect" if metric == "effect" else "difference from a control", " to judge."
        )
    unit = theirs(finding.unit, 60)
    what = "The effect" if metric == "effect" else "Beyond its matched control, the effect"
    null: Sentence = ()
    if estimate.null:
        what = "The value" if metric == "effect" else "Beyond its matched control, the value"
        null = say(", where ", source.figure(metric, "null", form="exact"), " means no effect")
    size = say(what, " is ", source.figure(metric, "value"), " ", unit)
    usual = source.interval(metric, "intervals", "0.95")
    around = say(size, " (95\u00a0% interval ", usual, ")", null) if estimate.intervals else say(size, null)
    if lead is None:
        return say(around, ". No rule of the policy judges it.")
    limit = lead.ruling.figure("limit", form="exact")
    if tone == "pass":
        beyond = "" if metric == "effect" else " beyond the matched control"
        return say(
            "No effect larger than ", limit, " ", unit, beyond, " was found among ",
            source.figure("n", form="count"), " items: the 90\u00a0% interval runs from ",
            source.interval(metric, "intervals", "0.90"), null, ".",
        )  # fmt: skip
    if tone == "fail" and lead.beyond:
        return say(around, ". That lies beyond the limit of ", limit, ".")
    if tone == "not_run":
        return say(around, ". The rule could not be applied: ", theirs(lead.result.reason, 200), ".")
    if finding.n < lead.rule.min_n:
        ask = say("too few items for the policy")
    else:
        ask = say("too uncertain to say whether it lies beyond the limit of ", limit)
    tail = "; the policy counts this as a fail." if tone == "fail" else "."
    return say(around, ": ", ask, tail)


def not_shown(finding: Finding, head: Head) -> Sentence:
    """Say what a finding does not show: its first caveat, or what no probe of this head shows."""
    if finding.caveats:
        return (theirs(finding.caveats[0], 400),)
    if head in INTRINSIC:
        return say("How an application built on this model would treat people.")
    return say("How the model behaves on texts unlike these, or how its answers are used.")


def design(source: Source, metric: str) -> Sentence | None:
    """Say what the design could have seen, or None where that is not known."""
    path = (metric, "resolvability")
    if source.get(*path) is None:
        return None
    return say(
        "A true effect at least ", source.figure(*path, "detectable"), " away from the null would be noticed "
        "in 8 of 10 such audits. To fail a limit in 8 of 10, an effect must lie ",
        source.figure(*path, "fail_excess"), " beyond it. A model without any effect passes in 8 of 10 only "
        "where the limit is ", source.figure(*path, "passable_limit"), " or larger.",
    )  # fmt: skip


# --- the verdict ----------------------------------------------------------------------------


def spelled(word: VerdictWord) -> str:
    """Return a verdict as a reader sees it."""
    return word.value.replace("_", " ")


def _count(n: int, thing: str = "check") -> str:
    return f"{n} {thing}" if n == 1 else f"{n} {thing}s"


def because(verdict: Verdict) -> str:
    """Say why, in our words alone: nothing that a model, pack or policy named can stand here."""
    total = len(verdict.results)
    failed = sum(r.state is State.FAIL for r in verdict.results)
    unsettled = sum(r.state is State.INCONCLUSIVE for r in verdict.results)
    required = sum(r.state.value in MISSING and r.required for r in verdict.results)
    optional = sum(r.state.value in MISSING and not r.required for r in verdict.results)
    left = []
    if required:
        left.append(f"{required} required without valid evidence")
    if unsettled:
        left.append(f"{unsettled} not settled")
    if optional:
        left.append(f"{optional} optional not tested")
    rest = f" Also {', '.join(left)}." if left else ""
    match verdict.verdict:
        case VerdictWord.FAIL:
            return f"{failed} of {_count(total)} failed.{rest}"
        case VerdictWord.INCOMPLETE if required:
            verbs = ("is", "has") if required == 1 else ("are", "have")
            return (
                f"{required} of {_count(total)} {verbs[0]} required but {verbs[1]} no valid evidence. "
                "A check that did not run never passes."
            )
        case VerdictWord.INCOMPLETE:
            return "No rule of the policy could be judged. A check that did not run never passes."
        case VerdictWord.INCONCLUSIVE:
            return (
                f"The evidence does not settle {unsettled} of {_count(total)}: "
                "neither surely within the limit nor surely beyond it."
            )
    within = sum(r.state is State.PASS for r in verdict.results)
    some = f"{within} of {_count(total)} within the limit." if within < total else ""
    every = (
        "The one check lies within its limit."
        if total == 1
        else f"All {total} checks lie within their limits."
    )
    return f"{some or every}{rest} This says nothing about what was not tested."
