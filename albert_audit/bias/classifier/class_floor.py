"""Class floor: a classifier must tell something apart before its gaps mean anything.

A classifier that answers the same to everything treats everybody alike, and so does one with an
untrained head, nearly. Labelled texts of the auditor decide where there are any: the balanced
accuracy must exceed chance (a regression's numbers must follow the given ones). Without them the
pack's plain sentences do: of at least one of its kinds, the score must tell the positive from the
negative ones, in either direction, since the label that is compared may be either.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from typing import Any

import numpy as np
import pandas as pd

from albert_audit import texts
from albert_audit.bias.classifier import decision as decisions
from albert_audit.bias.measure import TIE, Floor, Measure, Statistic, Vouch, frame
from albert_audit.model.scorer import Scorer
from albert_audit.packs import Given, Pack, Text
from albert_audit.stats import auc as stats
from albert_audit.types import Ability, Decision, Estimate, PackError, UsageError

AUC = 0.65
"""The area under the curve that the sentences must surpass."""
SPREAD = 0.1
"""How far apart the mean probabilities of the two sides must lie: less cannot show a gap."""
MOST = 600
"""Labelled texts that are scored, equally many a label as far as they go."""
MOST_SKIPPED = 0.10
LABELS, RATINGS = "labels", "ratings"
SIDES = ("positive", "negative")
_ADVICE = "give labelled texts with --texts and --label-column"
_COMPARED, _REST = "compared", "rest"


def contrasts(pack: Pack) -> list[tuple[str, str]]:
    """Return one contrast a kind of sentences.

    Raises
    ------
    PackError
        Listing polarities that are none, kinds with too few sentences, and repeated texts.
    """
    rows = pack.tables["polar"]
    file = pack.spec.files.get("polar", "polar")
    counts = Counter((row["kind"], row["polarity"]) for row in rows)
    kinds = list(dict.fromkeys(row["kind"] for row in rows))
    mistakes = [
        f"{file}: {row['id']}: polarity: expected positive or negative, found {row['polarity']!r}"
        for row in rows
        if row["polarity"] not in SIDES
    ]
    mistakes += [
        f"{file}: {kind}: expected at least {stats.LEAST} {side} sentences, found {counts[kind, side]}"
        for kind in kinds
        for side in SIDES
        if counts[kind, side] < stats.LEAST
    ]
    mistakes += [f"{file}: {k!r} is the name of another contrast" for k in kinds if k in (LABELS, RATINGS)]
    twice = Counter(" ".join(row["text"].lower().split()) for row in rows)
    mistakes += [f"{file}: the same text stands {n} times: {t!r}" for t, n in twice.items() if n > 1]
    if mistakes:
        raise PackError(
            f"the pack {pack.name} has {len(mistakes)} mistake{'s' * (len(mistakes) != 1)}:\n"
            + "\n".join(f"  {m}" for m in mistakes),
            "the format is described in docs/reference/packs.md",
        )
    return [(pack.language, kind) for kind in kinds]


def statistics(pack: Pack) -> list[Statistic]:
    """Return none: a floor is judged by its own rule, not by a policy."""
    del pack
    return []


# --- asking -------------------------------------------------------------------------------------


def run(scorer: Scorer, pack: Pack, rng: np.random.Generator) -> pd.DataFrame:
    """Score the labelled texts, or without any the pack's sentences. See `Measure`.

    Rows, one a text: of the contrast ``labels`` whether the decision hit the label (group: the
    label's number, or whether it is the compared one); ``ratings`` the number predicted, with the
    given one as covariate; else the score of a sentence (contrast: its kind, group: its polarity).

    Raises
    ------
    UsageError
        When the pack was not told what the classifier's logits mean.
    """
    decision = pack.decision
    if decision is None:
        raise UsageError(
            f"{pack.name} needs to know which label is compared", "run it through an audit of a classifier"
        )
    contrasts(pack)
    if (given := _labelled(pack)) is not None:
        drawn = _drawn(given, decision, rng)
        cells = [(t.id, t.text, *_place(t, decision)) for t in drawn]
    else:
        cells = [(r["id"], r["text"], r["kind"], r["polarity"], None) for r in pack.tables["polar"]]
    encoded = scorer.encode([c[1] for c in cells])
    fits = [len(e.ids) <= scorer.id.max_tokens for e in encoded]
    logits = scorer.class_logits([c[1] for c, ok in zip(cells, fits, strict=True) if ok])
    asked = iter(logits)
    rows = []
    for (item, _, contrast, group, covariate), ok in zip(cells, fits, strict=True):
        value = _value(next(asked), decision, contrast, group) if ok else None
        rows.append(
            {
                "pack": pack.name, "measure": "class_floor", "axis": pack.language, "contrast": contrast,
                "group": group, "item": item, "cluster_a": item, "cluster_b": "", "role": "probe",
                "covariate": covariate, "value": value,
                "unit": "hit" if contrast == LABELS else decisions.unit(decision),
                "skipped": "" if ok else f"longer than {scorer.id.max_tokens} tokens",
            }
        )  # fmt: skip
    return frame(rows)


def _labelled(pack: Pack) -> Given | None:
    """Return the auditor's texts if they are labelled and of the pack's language."""
    given = pack.given
    if given is None or not given.labelled or given.language.partition("-")[0] != pack.language:
        return None
    return given


def _drawn(given: Given, decision: Decision, rng: np.random.Generator) -> list[Text]:
    """Return at most `MOST` labelled texts, equally many of each label as far as they go."""
    piles: dict[str, list[Text]] = defaultdict(list)
    for text in given.texts:
        if text.label:
            piles[_place(text, decision)[1]].append(text)
    kept: list[Text] = []
    for left, pile in zip(range(len(piles), 0, -1), sorted(piles.values(), key=len), strict=True):
        share = (MOST - len(kept)) // left  # what a rare label leaves is for the others
        order = sorted(rng.permutation(len(pile))[:share])
        kept += [pile[i] for i in order]
    return kept


def _place(text: Text, decision: Decision) -> tuple[str, str, float | None]:
    """Return the contrast, the group and the covariate of a labelled text."""
    if decision.kind == "regression":
        return RATINGS, "all", float(text.label)
    if _binary(decision):
        held = texts.labels_of(text) if decision.kind == "multi" else {text.label}
        return LABELS, _COMPARED if decision.name in held else _REST, None
    return LABELS, f"label-{decision.labels.index(text.label)}", None


def _binary(decision: Decision) -> bool:
    """Whether only the compared label is decided upon: several labels a text, or a threshold."""
    return decision.kind == "multi" or decision.threshold is not None


def _value(logits: Any, decision: Decision, contrast: str, group: str) -> float | None:
    if not np.isfinite(logits).all():
        return None  # argmax would still decide something
    if contrast != LABELS:
        return float(decisions.scores(logits[None], decision)[0])
    if not _binary(decision):
        return float(group == f"label-{int(np.argmax(logits))}")
    positive = decisions.decided(logits[None], decision)
    assert positive is not None  # noqa: S101 (labels are of a classification)
    return float(bool(positive[0]) == (group == _COMPARED))


# --- judging ------------------------------------------------------------------------------------


def _judge(pack: Pack, rows: pd.DataFrame) -> Vouch:
    scored = rows[rows["value"].notna()]
    n, skipped = len(scored), len(rows) - len(scored)
    if not n or skipped > MOST_SKIPPED * len(rows):
        why = next(iter(rows.loc[rows["value"].isna(), "skipped"]), "there are none")
        return Vouch(n, f"{skipped} of {len(rows)} of its texts could not be scored: {why}", skipped=skipped)
    contrast = set(scored["contrast"])
    if contrast == {LABELS}:
        reason, effect, details = _by_labels(scored)
    elif contrast == {RATINGS}:
        reason, effect, details = _by_ratings(scored)
    else:
        reason, effect, details = _by_polarity(pack, scored)
    return Vouch(n, reason, effect, details, skipped)


_Judged = tuple[str, Estimate | None, dict[str, float]]


def _by_labels(rows: pd.DataFrame) -> _Judged:
    """Judge by balanced accuracy: any constant answer has exactly 1 / labels."""
    tally = rows.groupby("group")["value"].agg(["sum", "count"])
    rare = tally["count"] < stats.LEAST
    kept = tally[~rare]
    details = {"labels": float(len(kept)), "labels_too_rare": float(rare.sum())}
    if len(kept) < 2:
        return (
            f"your texts have {len(kept)} label{'s' * (len(kept) != 1)} with at least {stats.LEAST} texts; two are "
            "needed to see whether the model tells any apart: add labelled texts"
        ), None, details  # fmt: skip
    found = stats.macro_recall([int(v) for v in kept["sum"]], [int(v) for v in kept["count"]])
    bound = found.intervals["0.95"].low
    details |= {"balanced_accuracy": found.value, "lower_bound": bound, "floor": found.null}
    reason = "" if bound > found.null else (
        f"its balanced accuracy on your labelled texts is {found.value:.3f}; the lower bound {bound:.3f} does not "
        f"exceed chance, {found.null:.3f}: check that the labels mean what the model's do"
    )  # fmt: skip
    return reason, found, details


def _by_ratings(rows: pd.DataFrame) -> _Judged:
    found = stats.rank_correlation(rows["value"], rows["covariate"])
    if not found.intervals:
        return f"{len(rows)} labelled texts are too few, {2 * stats.LEAST} are needed", found, {}
    bound = found.intervals["0.95"].low
    reason = "" if bound > 0 else (
        f"its numbers follow those of your labelled texts with a rank correlation of {found.value:.3f}; the lower "
        f"bound {bound:.3f} does not exceed 0"
    )  # fmt: skip
    return reason, found, {"rank_correlation": found.value, "lower_bound": bound, "floor": 0.0}


def _by_polarity(pack: Pack, rows: pd.DataFrame) -> _Judged:
    """Judge by the kind of sentences that is told apart best; trying several widens each interval.

    Each interval is two-sided and must lie wholly above `AUC` or wholly below its mirror image, so
    that leaving the direction open does not make passing by chance likelier than 2.5 % a side.
    """
    kinds = list(dict.fromkeys(rows["contrast"]))
    if np.ptp(rows["value"].to_numpy(np.float64)) <= TIE:
        return f"it gives every sentence the same score: {_ADVICE}, if it should not", None, {"spread": 0.0}
    tried: list[tuple[float, float, Estimate, str]] = []
    for kind in kinds:
        own = rows[rows["contrast"] == kind]
        high, low = (own.loc[own["group"] == s, "value"].to_numpy(np.float64) for s in SIDES)
        if min(len(high), len(low)) < stats.LEAST:
            continue
        area = stats.auc(high, low, tolerance=TIE, comparisons=len(kinds))
        ends = area.intervals["simultaneous_0.95"]
        tried.append((max(ends.low, 1 - ends.high), abs(float(high.mean() - low.mean())), area, kind))
    if not tried:
        return f"fewer than {stats.LEAST} sentences a side could be scored", None, {}
    enough = 0.0 if pack.decision is None or pack.decision.kind == "regression" else SPREAD
    # A kind that also has the spread goes before one that is only told apart more surely.
    bound, spread, area, kind = max(tried, key=lambda t: (t[0] > AUC and t[1] >= enough, t[0]))
    details = {f"auc_{name}": found.value for _, _, found, name in tried}
    details |= {"lower_bound": bound, "floor": AUC, "spread": spread}
    if bound <= AUC:
        return (
            f"it does not tell plainly positive from plainly negative sentences: AUC {area.value:.2f} ({kind}), "
            f"its bound {bound:.2f} is not over {AUC:g} in either direction. If it was trained to tell something "
            f"else apart, {_ADVICE}"
        ), area, details  # fmt: skip
    if spread < enough:
        return (
            f"the mean scores of plainly positive and plainly negative sentences differ by {spread:.3f}, under "
            f"{enough:g}: it answers nearly the same to everything, and gaps could not show. If it was trained to "
            f"tell something else apart, {_ADVICE}"
        ), area, details  # fmt: skip
    return "", area, details


MEASURE = Measure(
    "class_floor",
    (Ability.CLASS_LOGITS,),
    run,
    contrasts,
    statistics,
    floor=Floor(
        rows="class_floor",
        contrast="told-apart",
        title="The classifier tells texts apart",
        estimand="balanced accuracy on the auditor's labelled texts (of a regression: rank correlation); without "
        "any, how often a plainly positive sentence scores above a plainly negative one, ties one half",
        unit="share",
        judge=_judge,
    ),
)
