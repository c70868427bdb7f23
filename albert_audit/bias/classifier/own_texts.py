"""The auditor's own texts as measures see them: who is compared with whom, and what the model answers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from albert_audit import texts
from albert_audit.bias.classifier.decision import decided, scores, settled
from albert_audit.model.scorer import Scorer
from albert_audit.model.text import Encoded
from albert_audit.packs import Given, Pack, Text
from albert_audit.stats import Design
from albert_audit.types import Decision, PackError

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Axis:
    """One column of groups, or two columns crossed.

    Attributes
    ----------
    reference : str
        The largest group; of equally large ones the first by name.
    groups : dict
        Group → places of its texts, by name.
    missing : int
        Texts without a group here.
    crossed : bool
        Whether it is two columns.
    """

    name: str
    reference: str
    groups: dict[str, list[int]]
    missing: int = 0
    crossed: bool = False

    @property
    def contrasts(self) -> list[tuple[str, str]]:
        """The (axis, contrast) pairs, each group against the reference."""
        return [(self.name, f"{g}-vs-{self.reference}") for g in self.groups if g != self.reference]

    @property
    def note(self) -> tuple[str, ...]:
        """What to say of texts that are in no group, and of groups that may mean as much."""
        out = [f"{self.missing} texts have no group here and are not compared."] if self.missing else []
        doubtful = [g for g in self.groups if not texts.MAYBE_NOTHING.isdisjoint(g.split("-x-"))]
        out += [
            f"The group {g} may stand for texts without one; if so, leave their cells empty."
            for g in doubtful
        ]
        return tuple(out)


NOT_GIVEN = (
    Axis("your-column", "reference", {"group": [], "reference": []}),
    Axis("one-column-x-another", "reference", {"group": [], "reference": []}, crossed=True),
)
"""Stand for the columns of texts that are not there yet, so that a policy can name their checks."""


def axes(pack: Pack, *, crossed: bool) -> list[Axis]:
    """Return the columns of groups and, when `crossed`, each two of them together.

    No group is left out for being small: its findings then say that the evidence does not suffice.
    """
    given = pack.given
    if given is None:
        return [axis for axis in NOT_GIVEN if crossed or not axis.crossed]
    members = [dict(t.groups) for t in given.texts]
    found = [_axis(a, [m.get(a, "") for m in members]) for a in given.axes]
    pairs = combinations(given.axes, 2) if crossed else ()
    for a, b in pairs:
        both = [f"{m[a]}-x-{m[b]}" if a in m and b in m else "" for m in members]
        found.append(_axis(f"{a}-x-{b}", both, crossed=True))
    return found


def _axis(name: str, groups: Sequence[str], *, crossed: bool = False) -> Axis:
    places: dict[str, list[int]] = {g: [] for g in sorted(set(groups) - {""})}
    for place, group in enumerate(groups):
        if group:
            places[group].append(place)
    reference = min(places, key=lambda g: (-len(places[g]), g), default="")
    return Axis(name, reference, places, sum(not g for g in groups), crossed)


def contrasts(pack: Pack, *, crossed: bool) -> list[tuple[str, str]]:
    """Return the (axis, contrast) pairs; a stand-in where there are no texts yet."""
    return [c for axis in axes(pack, crossed=crossed) for c in axis.contrasts]


def clusters(given: Sequence[Text]) -> list[str]:
    """Return the cluster of each text: the id of the first text with the same words."""
    first: dict[str, str] = {}
    return [first.setdefault(" ".join(t.text.lower().split()), t.id) for t in given]


def odd_texts(given: Given | None) -> tuple[str, ...]:
    """Say how many texts are nothing but a word for a missing value."""
    odd = sum(texts.may_be_nothing(t.text) for t in given.texts) if given is not None else 0
    return (
        f"{odd} texts are nothing but a word like 'None' or 'NA': if it stands for no text, take them out.",
    ) * bool(odd)


# --- answers ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Asked:
    """Texts and the model's logits for them; NaN where a text could not be scored, for a reason.

    Attributes
    ----------
    logits : array, shape (n, labels)
    """

    encoded: list[Encoded]
    logits: Array
    reasons: list[str]


def ask(scorer: Scorer, contents: Sequence[str]) -> Asked:
    """Score texts in one call; a text that is too long is not cut but has a reason."""
    encoded = scorer.encode(contents)
    most = scorer.id.max_tokens
    reasons = ["" if len(e.ids) <= most else f"longer than {most} tokens" for e in encoded]
    fit = [i for i, reason in enumerate(reasons) if not reason]
    logits = np.full((len(contents), len(scorer.id.labels)), np.nan)
    if fit:
        logits[fit] = scorer.class_logits([contents[i] for i in fit])
    return Asked(encoded, logits, reasons)


@dataclass(frozen=True)
class Answers:
    """What the model says of each text, beside its label. All arrays have shape (n,); NaN is unknown.

    Attributes
    ----------
    evidence : array
        Log-odds of the positive label, which keep their order where probabilities round to 0 or 1;
        a regression's number.
    chosen : array of 0, 1
        Whether the positive label is decided.
    truth : array
        1 where the text has the positive label, else 0; a regression's number.
    positive : array of 0, 1
        Whether `truth` is the positive label, for a regression: reaches the threshold.
    correct : array of 0, 1
        Whether the model's label is the text's; with a threshold, whether the decision is right.
    settled : str
        Why decisions can tell nothing, when all are the same; see `decision.settled`.
    """

    texts: tuple[Text, ...]
    clusters: list[str]
    reasons: list[str]
    evidence: Array
    chosen: Array
    truth: Array
    positive: Array
    correct: Array
    settled: str = ""


def answers(scorer: Scorer, pack: Pack) -> Answers:
    """Score every text of the auditor.

    Raises
    ------
    PackError
        When there are no texts, or no classifier.
    UsageError
        When a label is not one of the model's.
    """
    if pack.given is None or pack.decision is None:
        raise PackError(f"{pack.name} needs your own texts and a classifier", "give --texts FILE")
    given = texts.matched(pack.given, pack.decision)
    asked = ask(scorer, [t.text for t in given.texts])
    decision = pack.decision
    truth, positive = truths(given.texts, decision)
    chosen = choices(asked.logits, decision)
    return Answers(
        given.texts, clusters(given.texts), asked.reasons, _evidence(asked.logits, decision), chosen,
        truth, positive, correctness(asked.logits, given.texts, decision), settled(asked.logits, decision),
    )  # fmt: skip


def truths(given: Sequence[Text], decision: Decision) -> tuple[Array, Array]:
    """Return `truth` and `positive` of `Answers` for texts with matched labels."""
    known = np.array([bool(t.label) for t in given])
    if decision.kind == "regression":
        truth = np.array([float(t.label) if t.label else np.nan for t in given])
        threshold = np.nan if decision.threshold is None else decision.threshold
        return truth, np.where(known & np.isfinite(threshold), truth >= threshold, np.nan)
    truth = np.where(known, [decision.name in texts.labels_of(t) for t in given], np.nan)
    return truth, truth


def choices(logits: Array, decision: Decision) -> Array:
    """Return whether the positive label is decided, as 0, 1 or NaN."""
    chosen = decided(np.nan_to_num(logits), decision)
    if chosen is None:
        return np.full(len(logits), np.nan)
    return np.where(np.isnan(logits).any(axis=1), np.nan, chosen)


def correctness(logits: Array, given: Sequence[Text], decision: Decision) -> Array:
    """Return whether each decision is right, as 0, 1 or NaN.

    Where the likeliest of several labels decides, it must be the text's own label; else the decision
    for or against the positive label must be right.
    """
    _, positive = truths(given, decision)
    chosen = choices(logits, decision)
    right = np.where(np.isnan(chosen) | np.isnan(positive), np.nan, chosen == positive)
    if decision.kind == "single" and decision.threshold is None:
        likeliest = np.nan_to_num(logits).argmax(axis=1)
        same = np.array([decision.labels[k] == t.label for k, t in zip(likeliest, given, strict=True)], bool)
        right = np.where(np.isnan(right), np.nan, same)
    return right


def _evidence(logits: Array, decision: Decision) -> Array:
    x = logits[:, decision.positive]
    if decision.kind != "single":
        return x
    others = np.nan_to_num(np.delete(logits, decision.positive, axis=1))
    return np.asarray(x - np.logaddexp.reduce(others, axis=1))


def probability(evidence: Array, decision: Decision) -> Array:
    """Return the probability of the positive label, or a regression's number."""
    if decision.kind == "regression":
        return evidence
    zeros = np.zeros_like(evidence)
    both = Decision(labels=("other", "positive"), positive=1)
    return scores(np.column_stack([zeros, evidence]), both)


# --- rows and sides -------------------------------------------------------------------------------


def row(pack: Pack, axis: str, contrast: str, group: str, item: str, cluster: str) -> dict[str, Any]:
    """Return what all rows of one text and contrast have in common."""
    return {
        "pack": pack.name, "axis": axis, "contrast": contrast, "group": group, "item": item,
        "cluster_a": cluster, "cluster_b": "", "role": "probe", "covariate": None, "value": None,
        "skipped": "",
    }  # fmt: skip


@dataclass(frozen=True)
class Sides:
    """The rows of a contrast, told apart by group.

    Attributes
    ----------
    first, second : array of bool, shape (n,)
    design : Design
        Of the difference of the two means.
    """

    names: tuple[str, str]
    first: NDArray[np.bool_]
    second: NDArray[np.bool_]
    clusters: NDArray[np.str_]
    parts: tuple[Design, Design]
    design: Design

    @property
    def worth(self) -> tuple[float, float]:
        """How many equal clusters each side is worth."""
        return self.parts[0].counts[0][1], self.parts[1].counts[0][1]


def sides(rows: pd.DataFrame) -> Sides:
    """Tell the two groups of a contrast's rows apart.

    Raises
    ------
    ValueError
        When one of them has no row.
    """
    first, _, second = str(rows["contrast"].iloc[0]).partition("-vs-")
    held = Counter(rows["group"])
    for name in (first, second):
        if not held[name]:
            raise ValueError(f"the group {name} has no text for this check")
    labels = rows["cluster_a"].to_numpy(str)
    groups = rows["group"].to_numpy(str)
    masks = (groups == first, groups == second)
    parts = (Design.mean([labels[masks[0]]]), Design.mean([labels[masks[1]]]))
    # A difference has no more degrees of freedom than either part.
    design = Design(np.column_stack(masks) * 1.0, [1.0, -1.0], [labels], limit=min(parts[0].df, parts[1].df))
    return Sides((first, second), masks[0], masks[1], labels, parts, design)
