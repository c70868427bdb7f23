"""What the card says of a finding and of the verdict, in plain words.

A sentence claims no more than was measured: it names the interval it rests on, and a fail that the
policy decreed for lack of evidence is not called beyond the limit.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from albert_audit.rendering.text import Part, Sentence, Source, say, theirs
from albert_audit.types import Finding, Head, Rule, RuleResult, State, Status, Verdict, VerdictWord

NATS = "A nat is a step of the natural logarithm: 0.7 nats double the odds."
MISSING = ("invalid", "error", "not_run")
_FILLER = ("naming the filler", "a filler whose real-world share is 0", "one whose share is 1")
_FILLERS = {
    "pronoun-occupation-": ("naming an occupation", "an occupation without women", "one with only women")
}
"""What a template's filler does, and what the ends of a slope are, by how a shipped pack's name begins."""
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
    def ratio(self) -> float:
        """Distance from the null in multiples of the limit; 0 when there is no value."""
        return (
            0.0
            if self.result.value is None
            else abs(self.result.value - self.result.null) / self.result.limit
        )

    @property
    def reach(self) -> float:
        """The farther end of the 90 % interval, in multiples of the limit; 0 when there is none."""
        inner, r = self.result.interval_pass, self.result
        return max(abs(inner.low - r.null), abs(inner.high - r.null)) / r.limit if inner else 0.0


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
    unit = _unit(finding.unit)
    null: Sentence = ()
    if estimate.null:
        null = say(", where ", source.figure(metric, "null", form="exact"), " means no effect")
    means, value = meaning(finding, source, metric), source.figure(metric, "value")
    if means:
        size = say(means, ": ", value, unit)
    else:
        what = "The effect" if metric == "effect" else "Beyond the matched control, the effect"
        size = say(what.replace("effect", "value") if estimate.null else what, " is ", value, unit)
    usual = source.interval(metric, "intervals", "0.95")
    around = say(size, " (95\u00a0% interval ", usual, ")", null) if estimate.intervals else say(size, null)
    if lead is None:
        return say(around, ". No rule of the policy judges it.")
    limit = lead.ruling.figure("limit", form="exact")
    if tone == "pass":
        beyond = "" if metric == "effect" else " beyond the matched control"
        return say(
            "No effect larger than ", limit, unit, beyond, " was found among ", source.figure("n", form="count"),
            " items: the 90\u00a0% interval runs from ", source.interval(metric, "intervals", "0.90"), null, ".",
            say(" ", means, ".") if means else (),
        )  # fmt: skip
    if tone == "fail" and not lead.result.counted_as_fail:
        return say(around, ". That lies beyond the limit of ", limit, ".")
    if tone == "not_run":
        return say(around, ". The rule could not be applied: ", theirs(lead.result.reason, 200), ".")
    if finding.n < lead.rule.min_n:
        ask = say("These are too few items for the policy")
    else:
        ask = say("Whether that lies beyond the limit of ", limit, " is uncertain")
    tail = "; the policy counts this as a fail." if tone == "fail" else "."
    return say(around, ". ", ask, tail)


def _unit(unit: str) -> Sentence:
    """Return a unit as it follows a number: ``0.5 nats``, but ``0.5 (share of pairs)``."""
    return say("\u00a0", theirs(unit, 60)) if unit.startswith("nats") else say(" (", theirs(unit, 60), ")")


def meaning(finding: Finding, source: Source, metric: str) -> Sentence:
    """Say what an estimate in nats means as a factor, or nothing where the finding holds no factor."""
    key = f"factor_{metric}"
    if key not in finding.details:
        return ()
    times = source.figure("details", key, form="factor")
    first, versus, second = (theirs(t, 40) for t in finding.contrast.partition("-vs-"))
    odds = say("the odds of ", first, " over ", second)
    if finding.measure.startswith("template_gap") and versus.text:
        naming, start, end = next((v for k, v in _FILLERS.items() if finding.pack.startswith(k)), _FILLER)
        if finding.measure.endswith("_slope"):
            said = say(f"from {start} to {end}, ", odds, " multiply by ", times)
        else:
            said = say(f"{naming} multiplies ", odds, " by ", times, " on average")
    elif finding.measure.startswith("pair_"):
        each = "a token of the stereotyping" if "per token" in finding.unit else "the stereotyping"
        said = say(f"{each} sentence is typically ", times, " times as likely as the other")
    else:
        said = say("as a factor this is ", times)
    if metric == "difference":
        return say("Beyond the matched control, ", said)
    first_word, *rest = said
    return (Part(first_word.text[0].upper() + first_word.text[1:]), *rest)


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


# --- names ----------------------------------------------------------------------------------

_DETAILS = {
    "factor_effect": "Effect as a factor",
    "factor_difference": "Difference as a factor",
    "items": "Items in the estimate",
    "sd": "Standard deviation of the items",
    "ties": "Ties",
    "median_target_mass": "Median probability of the compared words",
    "median": "Median",
    "median_margin": "Median margin",
    "lower_bound": "Lower bound",
    "wins": "Won",
    "floor": "Floor",
    "random_init_effect": "Same probe, random weights",
    "random_init_low": "Same probe, random weights: lower end",
    "random_init_high": "Same probe, random weights: upper end",
    "unigram_effect": "Same probe, word frequencies alone",
    "unigram_low": "Same probe, word frequencies alone: lower end",
    "unigram_high": "Same probe, word frequencies alone: upper end",
}
_FRAMEWORKS = {"eu_ai_act": "EU AI Act", "nist_ai_rmf": "NIST AI RMF"}


def detail(key: str) -> Part:
    """Return the name of a supporting figure."""
    if key in _DETAILS:
        return Part(_DETAILS[key])
    if (kind := key.removeprefix("context_")) != key:
        return theirs(f"Sentences of the kind “{kind}”", 80)
    family = key.removeprefix("family_")
    return theirs(f"Templates of the family “{family}”" if family != key else key.replace("_", " "), 80)


def clause(text: str) -> Part:
    """Return a clause that a rule maps to as people write it.

    >>> clause("eu_ai_act:10.2.f").text, clause("nist_ai_rmf:MEASURE-2.11").text
    ('EU AI Act, Article 10(2)(f)', 'NIST AI RMF, MEASURE-2.11')
    """
    framework, _, place = text.partition(":")
    if framework not in _FRAMEWORKS or not place:
        return theirs(text, 80)
    if framework == "eu_ai_act" and place[0].isdigit():
        article, *rest = place.split(".")
        place = f"Article {article}" + "".join(f"({r})" for r in rest)
    return theirs(f"{_FRAMEWORKS[framework]}, {place}", 80)


# --- the verdict ----------------------------------------------------------------------------


def spelled(word: VerdictWord) -> str:
    """Return a verdict as a reader sees it."""
    return word.value.replace("_", " ")


def _count(n: int, thing: str = "check") -> str:
    return f"{n} {thing}" if n == 1 else f"{n} {thing}s"


def grounds(judged: Sequence[Judged]) -> tuple[Judged, ...]:
    """Return what keeps the verdict from a plain pass, heaviest first."""
    order = {State.FAIL: 0, State.INCONCLUSIVE: 2}

    def weight(j: Judged) -> tuple[int, float]:
        return order.get(j.result.state, 1 if j.result.required else 3), -j.ratio

    return tuple(sorted((j for j in judged if j.result.state is not State.PASS), key=weight))


def sure(judged: Sequence[Judged]) -> Sentence:
    """Say how sure the verdict is: limit and interval of the check that decided it."""
    worst = next(iter(grounds(judged)), None)
    if worst is None:
        nearest = max(judged, key=lambda j: j.reach, default=None)
        if nearest is None or nearest.source is None:
            return ()
        of = say("Nearest to its limit: ", theirs(nearest.title, 200), ". ") if len(judged) > 1 else ()
        inside = ", lies inside the limit of "
        return say(of, "Its 90\u00a0% interval, ", _ends(nearest, "0.90"), inside, _limit(nearest), ".")
    result, source = worst.result, worst.source
    if worst.tone in MISSING:
        return say("Nothing is known about the size of the effect: no usable number exists.")
    if source is None or source.get("status") is Status.INSUFFICIENT or result.interval_fail is None:
        return say("Too little evidence for an interval, so nothing is known about its size.")
    ends = _ends(worst, "simultaneous_0.95")
    if source.get("n") < worst.rule.min_n:
        return say(
            source.figure("n", form="count"), f" items; the policy asks for {worst.rule.min_n:,}. The simultaneous "
            "95\u00a0% interval is ", ends, ", the limit ", _limit(worst), ".",
        )  # fmt: skip
    if worst.tone == "fail" and not result.counted_as_fail:
        even = "Even the" if len(judged) > 1 else "The"
        lies = f"{even} simultaneous 95\u00a0% interval, "
        return say(lies, ends, ", lies wholly beyond the limit of ", _limit(worst), ".")
    tail = " The policy counts such doubt as a fail." if result.counted_as_fail else ""
    return say(
        "The simultaneous 95\u00a0% interval, ", ends, ", lies neither inside the limit of ", _limit(worst),
        " nor wholly beyond it.", tail,
    )  # fmt: skip


def _ends(judged: Judged, level: str) -> Sentence:
    source = judged.source
    return source.interval(judged.result.metric, "intervals", level) if source else ()


def _limit(judged: Judged) -> Sentence:
    unit = judged.source.get("unit") if judged.source else ""
    null = judged.ruling.figure("null", form="exact")
    around = say(" around ", null) if judged.result.null else ()
    return say("±", judged.ruling.figure("limit", form="exact"), around, _unit(unit))


def because(verdict: Verdict) -> str:
    """Say why, in our words alone: nothing that a model, pack or policy named can stand here."""
    total = len(verdict.results)
    failed = sum(r.state is State.FAIL for r in verdict.results)
    unsettled = sum(r.state is State.INCONCLUSIVE for r in verdict.results)
    required = sum(r.state.value in MISSING and r.required for r in verdict.results)
    optional = sum(r.state.value in MISSING and not r.required for r in verdict.results)
    rest = f" Also {optional} optional not tested." if optional else ""
    match verdict.verdict:
        case VerdictWord.FAIL:
            return f"{failed} of {_count(total)} failed."
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
