"""Template score: how a classifier's score moves when only the person of a sentence changes.

For a template, one of its contexts and a matched pair of persons (my mother, my father)::

    gap = f(text with the person of the group) - f(text with the matched person of the reference)

f is the probability of the label that is compared, or a regression's number. The reference group
also has twins: a second person for each matched one (my uncle for my father). Twin against matched
person is the control: the same sentences, a swap within one group. It says how far scores move when
any name or noun is exchanged, which an absolute gap or a flip needs to be read at all.

Kiritchenko and Mohammad (2018) compare the same sentences with a paired t-test over all of them.
Sentences that share a template or a person are not independent: here both are clusters. A context
belongs to one template, so that the template's cluster carries it; the pair and the twin of one
matched person share a cluster, so that no two clusters share a person.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from albert_audit.bias.classifier import decision as decisions
from albert_audit.bias.classifier.persons import Person, Sentence, Swap, contrasts, sentences, swaps
from albert_audit.bias.measure import Kind, Measure, Statistic, frame
from albert_audit.model.scorer import Scorer
from albert_audit.model.text import Encoded
from albert_audit.packs import Pack
from albert_audit.types import Ability, Decision, UsageError

GAP, GAP_ABS, FLIPS, NET_FLIPS = "score_gap", "score_gap_abs", "score_flips", "score_net_flips"
UNDECIDED = "a regression without a threshold decides nothing"
_EEC = (
    "Kiritchenko and Mohammad 2018, Examining Gender and Race Bias in Two Hundred Sentiment Analysis Systems"
)
_GARG = "Garg et al. 2019, Counterfactual Fairness in Text Classification through Robustness"
_CAVEATS = (
    "The sentences are written for the purpose; texts of your own (--texts) show what happens in yours.",
    "Where every sentence scores near 0 or near 1, gaps are small whatever the model holds.",
)
_OVER = (
    "over templates (each with its contexts) and matched persons like those of the pack, with only the "
    "person exchanged, {first} for {second}"
)


def statistics(pack: Pack) -> list[Statistic]:
    """Return the mean gap, the mean absolute gap, the rate of flips and their net direction."""
    decision = pack.decision
    label = (decision.name if decision else "the positive label").replace("{", "{{").replace("}", "}}")
    unit = decisions.unit(decision) if decision else "probability"
    score = "predicted score" if unit == "score" else f"probability of {label}"

    def made(
        name: str, kind: Kind, unit: str, title: str, estimand: str, *, upward: bool = False
    ) -> Statistic:
        return Statistic(
            name=name, rows=name, kind=kind, unit=unit, title=title, crossed=True, upward=upward,
            estimand=f"{estimand}, {_OVER}", caveats=_CAVEATS, sources=(_EEC, _GARG),
        )  # fmt: skip

    return [
        made(GAP, "mean", unit, "does the score rise or fall when {first} stands for {second}?",
             f"mean change in the {score}"),
        made(GAP_ABS, "mean", unit, "how far does the score move when {first} stands for {second}?",
             f"mean absolute change in the {score}", upward=True),
        made(FLIPS, "rate", "share of sentences", "how often does the decision change when {first} stands for {second}?",
             f"share of sentences whose decision on {label} changes", upward=True),
        made(NET_FLIPS, "net", "share of sentences", "which way do decisions change when {first} stands for {second}?",
             f"share of sentences that become {label} less the share that cease to be"),
    ]  # fmt: skip


# --- what the model answers ---------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Answer:
    """What became of one text."""

    ids: tuple[int, ...]
    skipped: str
    score: float = float("nan")
    positive: bool | None = None
    undecided: str = ""


def run(scorer: Scorer, pack: Pack, rng: np.random.Generator) -> pd.DataFrame:
    """Score every sentence with every person, all in one call. See `Measure`.

    Rows: four an item (gap, absolute gap, flip, net flip), an item being a template, a context and
    a person; role probe for a person of the group against its match, role control for a twin
    against its match within the reference group. Where all texts are decided alike, flips are skipped.

    Raises
    ------
    UsageError
        When the pack was not told what the classifier's logits mean.
    """
    del rng  # nothing is drawn
    if pack.decision is None:
        raise UsageError(
            f"{pack.name} needs to know which label is compared", "run it through an audit of a classifier"
        )
    spoken, compared = sentences(pack), swaps(pack)
    answers = _ask(scorer, pack.decision, spoken, compared)
    rows: list[dict[str, Any]] = []
    for swap in compared:
        for s in spoken:
            base = {
                "pack": pack.name, "axis": pack.spec.axis, "contrast": swap.contrast, "group": swap.person.group,
                "item": f"{s.template.id}/{s.context}/{swap.person.id}", "cluster_a": s.template.id,
                "cluster_b": swap.reference.id, "role": swap.role, "skipped": "",
            }  # fmt: skip
            first, second = answers[s, swap.person], answers[s, swap.reference]
            rows += [{**base, **values} for values in _compared(first, second, decisions.unit(pack.decision))]
    return frame(rows)


def _ask(
    scorer: Scorer, decision: Decision, spoken: list[Sentence], compared: list[Swap]
) -> dict[tuple[Sentence, Person], _Answer]:
    persons = dict.fromkeys(p for swap in compared for p in (swap.person, swap.reference))
    cells = [(s, p) for s in spoken for p in persons]
    filled = [s.fill(p) for s, p in cells]
    encoded = scorer.encode([text for text, _ in filled])
    most, unknown = scorer.id.max_tokens, scorer.unknown_id
    reasons = [_unfit(e, span, most, unknown) for e, (_, span) in zip(encoded, filled, strict=True)]
    asked = list(dict.fromkeys(text for (text, _), why in zip(filled, reasons, strict=True) if not why))
    logits = scorer.class_logits(asked)
    undecided = decisions.settled(logits, decision)
    finite = np.asarray(np.isfinite(logits).all(axis=1))
    logits = np.where(finite[:, None], logits, 0.0)  # else argmax would still decide something
    scores, positive = decisions.scores(logits, decision), decisions.decided(logits, decision)
    undecided = UNDECIDED if positive is None else undecided
    place = {text: i for i, text in enumerate(asked)}
    out = {}
    for cell, (text, _), e, why in zip(cells, filled, encoded, reasons, strict=True):
        if why:
            out[cell] = _Answer(e.ids, why)
            continue
        i = place[text]
        out[cell] = _Answer(
            e.ids, "" if finite[i] else "the model gave no finite score", float(scores[i]),
            None if positive is None else bool(positive[i]), undecided,
        )  # fmt: skip
    return out


def _unfit(encoded: Encoded, person: tuple[int, int], most: int, unknown: int) -> str:
    if len(encoded.ids) > most:
        return f"longer than {most} tokens"
    start, end = person
    if any(
        encoded.ids[i] == unknown and encoded.offsets[i][0] < end and encoded.offsets[i][1] > start
        for i in encoded.positions
    ):
        return "the person holds a piece the vocabulary lacks"
    return ""


def _compared(first: _Answer, second: _Answer, unit: str) -> list[dict[str, Any]]:
    """Return value, unit and reason of each statistic for one pair of texts."""
    skipped = first.skipped or second.skipped
    if not skipped and first.ids == second.ids:
        skipped = "both persons read the same to the tokenizer"  # a gap of 0 that says nothing
    share = "share of sentences"
    if skipped:
        return [
            {"measure": m, "unit": u, "skipped": skipped}
            for m, u in ((GAP, unit), (GAP_ABS, unit), (FLIPS, share), (NET_FLIPS, share))
        ]
    gap = first.score - second.score
    out: list[dict[str, Any]] = [
        {"measure": GAP, "unit": unit, "value": gap}, {"measure": GAP_ABS, "unit": unit, "value": abs(gap)}
    ]  # fmt: skip
    if first.positive is None or second.positive is None or first.undecided:
        return out + [{"measure": m, "unit": share, "skipped": first.undecided} for m in (FLIPS, NET_FLIPS)]
    net = float(first.positive) - float(second.positive)
    return [
        *out,
        {"measure": FLIPS, "unit": share, "value": abs(net)},
        {"measure": NET_FLIPS, "unit": share, "value": net},
    ]


MEASURE = Measure(
    "template_score", (Ability.CLASS_LOGITS,), run, contrasts, statistics, floored_by="class_floor"
)
