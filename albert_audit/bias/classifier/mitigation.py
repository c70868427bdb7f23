"""A preview of mitigation: what thresholds of each group's own would leave of a gap, and what they would cost.

fairlearn's ThresholdOptimizer chooses, from the scores of the audit and the labels, thresholds by group
(some of them random between two) that equal the selection rates, or the true and false positive rates,
with the best accuracy. The thresholds for a text are chosen without it: of five parts, from the other
four. Nothing is changed in the model, and the findings only inform.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from albert_audit.bias.classifier import own_texts
from albert_audit.bias.classifier.own_texts import Answers, Array, Axis
from albert_audit.bias.measure import Measure, Statistic, frame
from albert_audit.model.scorer import Scorer
from albert_audit.packs import Pack
from albert_audit.types import Ability

FOLDS = 5
LEAST = 25
"""Texts of each label that a group needs: fewer cannot place its thresholds."""
Constraint = Literal["demographic_parity", "equalized_odds"]
_SHORT: dict[Constraint, str] = {"demographic_parity": "parity", "equalized_odds": "odds"}
_HARDT = "Hardt, Price and Srebro 2016, Equality of Opportunity in Supervised Learning (thresholds by group)"
_CAVEATS = (
    "Thresholds by group need to know each person's group when deciding; in many places and uses that is unlawful.",
    "Near a threshold the decision is drawn at random, so that two equal texts can be treated differently.",
    "The interval takes the chosen thresholds as given; on other texts they would be chosen a little differently.",
)


def contrasts(pack: Pack) -> list[tuple[str, str]]:
    """Return each group against the largest, for each column."""
    return own_texts.contrasts(pack, crossed=False)


def statistics(pack: Pack) -> list[Statistic]:
    """Return for each constraint what is left of the gaps, and the change in accuracy."""
    del pack
    left = "that of {first} texts less that of {second} texts, under thresholds by group"
    gaps = [
        ("mitigated_selection_rate_difference", "parity_selection", "selection rates",
         f"share that would be given the positive label: {left} chosen to equal it"),
        ("mitigated_true_positive_rate_difference", "odds_positives", "true positive rates",
         f"share given the positive label where it is true: {left} chosen to equal both rates"),
        ("mitigated_false_positive_rate_difference", "odds_negatives", "false positive rates",
         f"share given the positive label where it is not true: {left} chosen to equal both rates"),
    ]  # fmt: skip
    costs = [
        ("mitigated_selection_rate_accuracy", "parity_accuracy", "selection rates"),
        ("mitigated_error_rates_accuracy", "odds_accuracy", "error rates"),
    ]
    return [
        Statistic(
            name=name, rows=rows, kind="contrast", unit="share of texts", estimand=estimand,
            title=f"what thresholds by group would leave of the gap in {what}, {{first}} less {{second}}",
            caveats=_CAVEATS, sources=(_HARDT,),
        )
        for name, rows, what, estimand in gaps
    ] + [
        Statistic(
            name=name, rows=rows, kind="mean", unit="share of texts",
            title=f"what equal {what} of {{first}} and {{second}} would cost in right decisions",
            estimand="share of right decisions under thresholds by group less the share under the model's own, "
            "over the texts of both groups, the thresholds being chosen for all groups of the column; right is the decision for or against the positive label",
            caveats=_CAVEATS, sources=(_HARDT,),
        )
        for name, rows, what in costs
    ]  # fmt: skip


def run(scorer: Scorer, pack: Pack, rng: np.random.Generator) -> pd.DataFrame:
    """Score every text once and choose thresholds by group. See `Measure`.

    Rows, for each contrast one a text: ``parity_selection``, ``odds_positives`` and ``odds_negatives``, the
    probability with which the thresholds would give the positive label; ``parity_accuracy`` and
    ``odds_accuracy``, the probability that they are right less whether the model was.
    """
    found = own_texts.answers(scorer, pack)
    order = rng.permutation(len(found.texts))
    rows: list[dict[str, Any]] = []
    for axis in own_texts.axes(pack, crossed=False):
        small = _unfit(found, axis)
        after = {c: crossfitted(*_usable(found, axis, small), order, c) for c in _SHORT}
        for name, contrast in axis.contrasts:
            first, _, second = contrast.partition("-vs-")
            for group in (first, second):
                for i in axis.groups[group]:
                    base = own_texts.row(pack, name, contrast, group, found.texts[i].id, found.clusters[i])
                    reason = small.get(first, "") or small.get(second, "") or _reason(found, i)
                    rows += [base | r for r in _rows(found, i, {c: a[i] for c, a in after.items()}, reason)]
    return frame(rows)


def _rows(found: Answers, i: int, after: Mapping[Constraint, float], reason: str) -> list[dict[str, Any]]:
    positive, chosen = found.positive[i], found.chosen[i]

    def row(name: str, value: float) -> dict[str, Any]:
        return {"measure": name, "unit": "probability", "skipped": reason, "value": None if reason else value}

    out = [row("parity_selection", after["demographic_parity"])]
    # What has no label may belong to either.
    if reason or positive == 1:
        out.append(row("odds_positives", after["equalized_odds"]))
    if reason or positive == 0:
        out.append(row("odds_negatives", after["equalized_odds"]))
    for constraint, short in _SHORT.items():
        right = after[constraint] if positive == 1 else 1 - after[constraint]
        out.append(row(f"{short}_accuracy", right - float(chosen == positive)))
    return out


def _reason(found: Answers, i: int) -> str:
    if found.reasons[i]:
        return found.reasons[i]
    if not found.texts[i].label:
        return "has no label"
    return "" if np.isfinite(found.chosen[i]) else "a regression without a threshold decides nothing"


def _unfit(found: Answers, axis: Axis) -> dict[str, str]:
    """Return why a group cannot have thresholds of its own."""
    out = {}
    for group, places in axis.groups.items():
        usable = [i for i in places if not _reason(found, i)]
        counts = [sum(found.positive[i] == v for i in usable) for v in (1, 0)]
        if min(counts) < LEAST:
            out[group] = (
                f"the group {group} has {counts[0]} texts with the label and {counts[1]} without it; "
                f"{LEAST} of each are needed to place thresholds"
            )
    return out


def _usable(
    found: Answers, axis: Axis, small: Mapping[str, str]
) -> tuple[Array, Array, NDArray[np.str_], Sequence[str]]:
    """Return scores, labels and groups of all texts, with no group where thresholds are not asked for."""
    groups = np.full(len(found.texts), "", dtype=object)
    for group, places in axis.groups.items():
        for i in places:
            if group not in small and not _reason(found, i):
                groups[i] = group
    return found.evidence, found.positive, groups.astype(str), found.clusters


def crossfitted(
    scores: Array,
    positive: Array,
    groups: NDArray[np.str_],
    clusters: Sequence[str],
    order: NDArray[np.int64],
    constraint: Constraint,
) -> Array:
    """Return for each text the probability of the positive label under thresholds chosen without it.

    Parameters
    ----------
    scores, positive : array, shape (n,)
    groups : array of str, shape (n,)
        Empty for texts that take no part.
    clusters : sequence of n str
        A cluster is never on both sides.
    order : array of int, shape (n,)
        A permutation, which deals the clusters of each group and label out to the parts.

    Returns
    -------
    array, shape (n,)
        NaN where a text takes no part.
    """
    out = np.full(len(scores), np.nan)
    part: dict[str, int] = {}
    dealt: dict[tuple[str, float], int] = {}
    for i in order:
        if groups[i] and clusters[i] not in part:
            kind = (str(groups[i]), float(positive[i]))
            dealt[kind] = dealt.get(kind, -1) + 1
            part[clusters[i]] = dealt[kind] % FOLDS
    parts = np.array([part[c] if g else -1 for c, g in zip(clusters, groups, strict=True)])
    if len(set(groups) - {""}) < 2:
        return out
    for fold in range(FOLDS):
        train, test = (parts != fold) & (parts >= 0), parts == fold
        if test.any():
            out[test] = _expected(scores, positive, groups, train, test, constraint)
    return out


def _expected(
    scores: Array,
    positive: Array,
    groups: NDArray[np.str_],
    train: NDArray[np.bool_],
    test: NDArray[np.bool_],
    constraint: Constraint,
) -> Array:
    from fairlearn.postprocessing import ThresholdOptimizer
    from sklearn.base import BaseEstimator

    class Scored(BaseEstimator):  # type: ignore[misc]
        """A model that was asked before: its one feature is its score."""

        def fit(self, x: Array, y: Array) -> Scored:
            del x, y
            return self

        def __sklearn_is_fitted__(self) -> bool:
            return True

        def predict(self, x: Array) -> Array:
            return np.asarray(x)[:, 0]

    optimizer = ThresholdOptimizer(
        estimator=Scored(), constraints=constraint, objective="accuracy_score", prefit=True,
        predict_method="predict",
    )  # fmt: skip
    optimizer.fit(scores[train, None], positive[train].astype(int), sensitive_features=groups[train])
    rules = optimizer.interpolated_thresholder_.interpolation_dict
    # The expectation over its draws, so that the preview does not depend on one of them.
    found = np.empty(int(test.sum()))
    for group, rule in rules.items():
        mine = groups[test] == group
        score = scores[test][mine]
        chance = rule.p0 * rule.operation0(score) + rule.p1 * rule.operation1(score)
        if "p_ignore" in rule:
            chance = rule.p_ignore * rule.prediction_constant + (1 - rule.p_ignore) * chance
        found[mine] = chance
    return found


MEASURE = Measure("mitigation", (Ability.CLASS_LOGITS,), run, contrasts, statistics, floored_by="class_floor")
