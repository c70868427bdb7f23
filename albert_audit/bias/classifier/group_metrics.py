"""Group metrics: what a classifier decides about the texts of one group, less another's.

For each column of groups, and each two columns crossed, every group is compared with the largest:
rates of decisions and errors, calibration, and the area under the ROC curve. Each is a signed
difference with an interval. The largest gap among all groups (max - min) is never tested against zero:
it is positive by noise alone.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
import pandas as pd

from albert_audit.bias.classifier import own_texts
from albert_audit.bias.classifier.own_texts import Answers, Array, Axis, sides
from albert_audit.bias.measure import Measure, Outcome, Statistic, frame
from albert_audit.model.scorer import Scorer
from albert_audit.packs import Given, Pack
from albert_audit.stats import estimate, rate_difference
from albert_audit.stats.auc import auc
from albert_audit.stats.groups import bounded_difference, rate_ratio
from albert_audit.stats.mover import recovered_difference
from albert_audit.types import Ability, Decision

_HARDT = "Hardt, Price and Srebro 2016, Equality of Opportunity in Supervised Learning (error rates)"
_CHOULDECHOVA = (
    "Chouldechova 2017, Fair Prediction with Disparate Impact: where groups differ in how often the label is "
    "true, equal error rates and equal precision cannot both hold"
)
_TRUSTED = "Labels are taken as the truth: what is wrong in them for one group is not seen here."
_UNKNOWN = "No labels were given: whether decisions are right was not looked at."
_ABOUT = (
    "A difference may come from what the groups' texts are about, not from how the model treats the groups."
)
_BINS = 10


def contrasts(pack: Pack) -> list[tuple[str, str]]:
    """Return each group against the largest, for each column and each two columns crossed."""
    return own_texts.contrasts(pack, crossed=True)


def statistics(pack: Pack) -> list[Statistic]:
    """Return every metric for every axis; without labels the selection rate alone.

    On two columns crossed a metric is called ``crossed_...``: many small groups, which have a family of
    their own and no part in a rule for the single columns.
    """
    labelled = pack.given is None or pack.given.labelled
    found = own_texts.axes(pack, crossed=True)
    return [s for axis in found for s in _of_axis(pack.decision, pack.given, axis, labelled=labelled)]


def _of_axis(
    decision: Decision | None, given: Given | None, axis: Axis, *, labelled: bool
) -> list[Statistic]:
    label = f"{decision.name!r}" if decision is not None else "the positive label"
    label = label.replace("{", "{{").replace("}", "}}")
    against = "{first} texts less that of {second} texts, the largest group of this column"
    made: list[tuple[str, str, str, str, Callable[..., Outcome], tuple[str, ...]]] = [
        ("selection_rate_difference", "selection", f"is {label} decided as often for {{first}} as for {{second}}?",
         f"share decided {label}: that of {against}", partial(_rates, more=_parity), ()),
    ]  # fmt: skip
    if labelled:
        made += [
            ("true_positive_rate_difference", "positives",
             f"where {label} is true, is it found as often for {{first}} as for {{second}}?",
             f"share decided {label} among texts where it is true (recall): that of {against}", _rates, (_HARDT,)),
            ("false_negative_rate_difference", "positives",
             f"where {label} is true, is it missed as often for {{first}} as for {{second}}?",
             f"share not decided {label} among texts where it is true: that of {against}; "
             "the true positive rate with its sign turned", partial(_rates, missed=True), (_HARDT,)),
            ("false_positive_rate_difference", "negatives",
             f"where {label} is not true, is it decided as often for {{first}} as for {{second}}?",
             f"share decided {label} among texts where it is not true: that of {against}", _rates, (_HARDT,)),
            ("precision_difference", "decisions",
             f"where {label} is decided, is it true as often for {{first}} as for {{second}}?",
             f"share where {label} is true among texts where it is decided: that of {against}", _rates,
             (_CHOULDECHOVA,)),
            ("accuracy_difference", "accuracy", "is the model right as often for {first} as for {second}?",
             f"share of right decisions: that of {against}", _rates, ()),
            ("calibration_difference", "evidence", "does the model promise too much more for {first} than for {second}?",
             f"mean score less the share where {label} is true (0 when calibrated in the large): that of {against}",
             partial(_calibration, decision), (_CHOULDECHOVA,)),
            ("auc_difference", "evidence", f"does the score order texts by {label} as well for {{first}} as for {{second}}?",
             f"chance that a text where {label} is true scores above one where it is not, within the group: that of {against}",
             partial(_areas, decision), ()),
        ]  # fmt: skip
    return [
        Statistic(
            name=f"crossed_{name}" if axis.crossed else name, rows=rows, kind="custom", estimator=estimator,
            title=title, estimand=estimand, unit="share of texts", only=(axis.name,), sources=sources,
            told=partial(_alike, axis.name) if rows != "evidence" else None,
            caveats=(*axis.note, *own_texts.odd_texts(given), _TRUSTED if labelled else _UNKNOWN, _ABOUT),
        )
        for name, rows, title, estimand, estimator, sources in made
    ]  # fmt: skip


def _alike(axis: str, rows: pd.DataFrame) -> tuple[str, ...]:
    """Say between which groups nothing can differ, since all their texts are decided alike."""
    mine = rows[(rows["axis"] == axis) & (rows["measure"] == "selection") & rows["value"].notna()]
    return tuple(
        f"{contrast}: all {len(part)} texts of both groups are decided alike; what is the same for everybody "
        "says little of how others would be treated."
        for contrast, part in mine.groupby("contrast", sort=False)["value"]
        if part.min() == part.max()
    )


# --- rows ---------------------------------------------------------------------------------------


def run(scorer: Scorer, pack: Pack, rng: np.random.Generator) -> pd.DataFrame:
    """Score every text once. See `Measure`.

    Rows, for each contrast one a text and kind: ``selection``, ``positives`` and ``negatives`` (whether
    the positive label is decided; over all texts, over those where it is true, where it is not),
    ``decisions`` (whether it is true, where it is decided), ``accuracy``, ``evidence`` (log-odds of the
    positive label). `covariate` of selection and evidence is the label, 1 where it is the positive one. A text without a label
    is skipped in every kind that needs one, and one that could not be scored in all it may belong to.
    Where all texts are decided alike, every rate of decisions is skipped; see `decision.settled`.
    """
    del rng  # nothing is drawn
    found = own_texts.answers(scorer, pack)
    labelled = pack.given is not None and pack.given.labelled
    kinds = [_kinds(found, i, labelled=labelled) for i in range(len(found.texts))]
    rows: list[dict[str, Any]] = []
    for axis in own_texts.axes(pack, crossed=True):
        for name, contrast in axis.contrasts:
            for group in contrast.split("-vs-"):
                for i in axis.groups[group]:
                    base = own_texts.row(pack, name, contrast, group, found.texts[i].id, found.clusters[i])
                    rows += [base | kind for kind in kinds[i]]
    return frame(rows)


def _kinds(found: Answers, i: int, *, labelled: bool) -> list[dict[str, Any]]:
    """Return what differs between the rows of one text."""
    reason, chosen, positive = found.reasons[i], found.chosen[i], found.positive[i]
    undecided = reason or ("" if np.isfinite(chosen) else "a regression without a threshold decides nothing")
    out = [_kind("selection", chosen, undecided or found.settled, positive)]
    if not labelled:
        return out
    if not found.texts[i].label:
        reason = undecided = reason or "has no label"
    # A text that may belong to a kind and cannot be placed is skipped in it, never left out.
    if undecided or positive == 1:
        out.append(_kind("positives", chosen, undecided or found.settled))
    if undecided or positive == 0:
        out.append(_kind("negatives", chosen, undecided or found.settled))
    if chosen == 1 or not np.isfinite(chosen):
        out.append(_kind("decisions", positive, undecided or found.settled))
    # Other labels may be told apart though the compared one is decided always or never.
    out.append(_kind("accuracy", found.correct[i], undecided))
    unit = "log-odds"
    return [*out, _kind("evidence", found.evidence[i], reason, found.truth[i]) | {"unit": unit}]


def _kind(name: str, value: float, reason: str, covariate: float | None = None) -> dict[str, Any]:
    return {
        "measure": name, "value": None if reason else float(value), "unit": "share of texts",
        "skipped": reason, "covariate": covariate,
    }  # fmt: skip


# --- statistics -----------------------------------------------------------------------------------


def _rates(
    rows: pd.DataFrame,
    comparisons: int,
    rng: np.random.Generator,
    *,
    missed: bool = False,
    more: Callable[[pd.DataFrame], dict[str, float]] | None = None,
) -> Outcome:
    """Return the difference of two rates, with their ratio in the details."""
    del rng
    both = sides(rows)
    y = rows["value"].to_numpy(np.float64)
    y = 1 - y if missed else y
    first, second = (d.fit(y[s]) for d, s in zip(both.parts, (both.first, both.second), strict=True))
    n = (int(both.first.sum()), int(both.second.sum()))
    found = rate_difference(
        first, second, n=n, clusters=both.worth, df=both.design.df, comparisons=comparisons
    )
    details = _named(n, {"rate": (float(first.value), float(second.value))})
    if (ratio := rate_ratio(first, second, n=n, clusters=both.worth)) is not None:
        details |= {"ratio": ratio[0], "ratio_low": ratio[1].low, "ratio_high": ratio[1].high}
    return Outcome(found, both.design.counts, details | (more(rows) if more is not None else {}))


def _named(n: Sequence[int], figures: dict[str, tuple[float, float]]) -> dict[str, float]:
    out = {f"n_{side}": float(k) for side, k in zip(("first", "second"), n, strict=True)}
    for name, values in figures.items():
        out |= {f"{name}_first": values[0], f"{name}_second": values[1]}
    return out


def _parity(rows: pd.DataFrame) -> dict[str, float]:
    """Return fairlearn's summaries for the two groups: unsigned, and never tested against zero."""
    from fairlearn import metrics

    y, chosen, group = (rows[c].to_numpy() for c in ("covariate", "value", "group"))
    out = {
        "demographic_parity_difference": metrics.demographic_parity_difference(
            chosen, chosen, sensitive_features=group
        )
    }
    if (chosen > 0).any():
        out["demographic_parity_ratio"] = metrics.demographic_parity_ratio(
            chosen, chosen, sensitive_features=group
        )
    known = np.isin(y, (0.0, 1.0))
    held = {(g, t) for g, t in zip(group[known], y[known], strict=True)}
    if len(held) == 4:  # each rate exists in each group
        y, chosen, group = y[known], chosen[known], group[known]
        out["equalized_odds_difference"] = metrics.equalized_odds_difference(
            y, chosen, sensitive_features=group
        )
    return {k: float(v) for k, v in out.items()}


def _calibration(
    decision: Decision | None, rows: pd.DataFrame, comparisons: int, rng: np.random.Generator
) -> Outcome:
    """Return the difference of mean score less observed share; the bins' mean error is a detail."""
    del rng
    both = sides(rows)
    score, truth = _scored(decision, rows)
    fit = both.design.fit(score - truth)
    if decision is not None and decision.kind == "regression":
        found = estimate(fit, comparisons=comparisons)
    else:
        found = bounded_difference(fit, clusters=both.worth, comparisons=comparisons)
    masks = (both.first, both.second)
    n = (int(both.first.sum()), int(both.second.sum()))

    def each(make: Callable[[Array, Array], float]) -> tuple[float, float]:
        return make(score[masks[0]], truth[masks[0]]), make(score[masks[1]], truth[masks[1]])

    figures = {
        "mean_score": each(lambda s, _: float(s.mean())),
        "observed": each(lambda _, t: float(t.mean())),
    }
    if decision is None or decision.kind != "regression":
        figures["ece"] = each(expected_calibration_error)
    return Outcome(found, both.design.counts, _named(n, figures))


def _scored(decision: Decision | None, rows: pd.DataFrame) -> tuple[Array, Array]:
    evidence, truth = rows["value"].to_numpy(np.float64), rows["covariate"].to_numpy(np.float64)
    return (evidence if decision is None else own_texts.probability(evidence, decision)), truth


def expected_calibration_error(score: Array, truth: Array, bins: int = _BINS) -> float:
    """Return the mean distance of score and observed share over bins of equal width, by their size.

    It is positive by noise alone, the more so the smaller the group, and so is only shown.

    Source: Naeini, Cooper and Hauskrecht (2015), AAAI 29, with equal widths as Guo et al. (2017).
    """
    place = np.minimum((score * bins).astype(int), bins - 1)
    gaps = np.bincount(place, score - truth, bins)
    return float(np.abs(gaps).sum() / len(score))


def _areas(
    decision: Decision | None, rows: pd.DataFrame, comparisons: int, rng: np.random.Generator
) -> Outcome:
    """Return the difference of two areas under the curve; a text that is there twice counts once."""
    del rng
    once = rows.drop_duplicates(["group", "cluster_a", "covariate"])
    both = sides(once)
    score = once["value"].to_numpy(np.float64)
    truth = once["covariate"].to_numpy(np.float64)
    if decision is not None and decision.kind == "regression":
        if decision.threshold is None:
            raise ValueError("a regression without a threshold has no positive texts")
        truth = (truth >= decision.threshold) * 1.0
    areas = []
    for name, side in zip(both.names, (both.first, both.second), strict=True):
        high, low = score[side & (truth == 1)], score[side & (truth == 0)]
        if not len(high) or not len(low):
            raise ValueError(
                f"the group {name} has {len(high)} texts with the label and {len(low)} without it"
            )
        areas.append(auc(high, low, comparisons=comparisons))
    found = recovered_difference(areas[0], areas[1], comparisons=comparisons)
    n = (int(both.first.sum()), int(both.second.sum()))
    details = _named(n, {"auc": (areas[0].value, areas[1].value)})
    return Outcome(found, both.design.counts, details)


MEASURE = Measure(
    "group_metrics", (Ability.CLASS_LOGITS,), run, contrasts, statistics, floored_by="class_floor"
)
