"""Class floor: a classifier must tell something apart before its gaps mean anything.

A classifier that answers the same to everything treats everybody alike, and so does one with an
untrained head, nearly. Labelled texts of the auditor decide where there are any: the balanced
accuracy must exceed chance, for the compared label against the rest and for all labels (a regression's
numbers must follow the given ones). Without them the pack's plain sentences do: of at least one of its
kinds, the score must tell the positive from the negative ones, in either direction, since the label
that is compared may be either; and what is decided on them must vary. A text that is there several
times counts once.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from albert_audit import texts
from albert_audit.bias.classifier import decision as decisions
from albert_audit.bias.classifier import own_texts
from albert_audit.bias.classifier.class_floor_judge import (
    COMPARED,
    LABELS,
    RATINGS,
    REST,
    SIDES,
    judge,
    one_against_rest,
)
from albert_audit.bias.measure import Floor, Measure, Statistic, frame
from albert_audit.model.scorer import Scorer
from albert_audit.packs import Given, Pack, Text
from albert_audit.stats import auc as stats
from albert_audit.types import Ability, Decision, PackError, UsageError

MOST = 600
"""Labelled texts that are scored, equally many a label as far as they go."""


class _Cell(NamedTuple):
    """A text to score, and where its row belongs."""

    item: str
    text: str
    contrast: str
    group: str
    rating: float | None = None


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
    label's number, or whether it is the compared one), with whether the compared label was decided as
    covariate; ``ratings`` the number predicted, with the given one as covariate; else the score of a
    sentence (contrast: its kind, group: its polarity), with the decision on it as covariate.

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
        cells = _drawn(given, decision, rng)
    else:
        cells = [_Cell(r["id"], r["text"], r["kind"], r["polarity"]) for r in pack.tables["polar"]]
    asked = own_texts.ask(scorer, [c.text for c in cells])
    chosen = own_texts.choices(asked.logits, decision)
    rows = []
    for i, cell in enumerate(cells):
        value = None if asked.reasons[i] else _value(asked.logits[i], decision, cell)
        rows.append(
            {
                "pack": pack.name, "measure": "class_floor", "axis": pack.language, "contrast": cell.contrast,
                "group": cell.group, "item": cell.item, "cluster_a": cell.item, "cluster_b": "", "role": "probe",
                "covariate": chosen[i] if cell.rating is None else cell.rating, "value": value,
                "unit": "hit" if cell.contrast == LABELS else decisions.unit(decision),
                "skipped": asked.reasons[i],
            }
        )  # fmt: skip
    return frame(rows)


def _labelled(pack: Pack) -> Given | None:
    """Return the auditor's texts if they are labelled and of the pack's language."""
    given = pack.given
    if given is None or not given.labelled or given.language.partition("-")[0] != pack.language:
        return None
    return given


def _drawn(given: Given, decision: Decision, rng: np.random.Generator) -> list[_Cell]:
    """Return at most `MOST` different labelled texts, equally many of each label as far as they go.

    Copies of a text add nothing: it is there once for each label that it was given, and once with
    the mean of its ratings.
    """
    held: dict[tuple[str, str], list[Text]] = defaultdict(list)
    for text, cluster in zip(given.texts, own_texts.clusters(given.texts), strict=True):
        if text.label:
            held[cluster, _group(text, decision)].append(text)
    piles: dict[str, list[_Cell]] = defaultdict(list)
    for (_, group), copies in held.items():
        first, ratings = copies[0], decision.kind == "regression"
        rating = float(np.mean([float(t.label) for t in copies])) if ratings else None
        piles[group].append(_Cell(first.id, first.text, RATINGS if ratings else LABELS, group, rating))
    kept: list[_Cell] = []
    for left, pile in zip(range(len(piles), 0, -1), sorted(piles.values(), key=len), strict=True):
        share = (MOST - len(kept)) // left  # what a rare label leaves is for the others
        order = sorted(rng.permutation(len(pile))[:share])
        kept += [pile[i] for i in order]
    return kept


def _group(text: Text, decision: Decision) -> str:
    """Return which texts a labelled text is counted among."""
    if decision.kind == "regression":
        return "all"
    if one_against_rest(decision):
        held = texts.labels_of(text) if decision.kind == "multi" else {text.label}
        return COMPARED if decision.name in held else REST
    return f"label-{decision.labels.index(text.label)}"


def _value(logits: Any, decision: Decision, cell: _Cell) -> float | None:
    if not np.isfinite(logits).all():
        return None  # argmax would still decide something
    if cell.contrast != LABELS:
        return float(decisions.scores(logits[None], decision)[0])
    if not one_against_rest(decision):
        return float(cell.group == f"label-{int(np.argmax(logits))}")
    positive = decisions.decided(logits[None], decision)
    assert positive is not None  # noqa: S101 (labels are of a classification)
    return float(bool(positive[0]) == (cell.group == COMPARED))


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
        judge=judge,
    ),
)
