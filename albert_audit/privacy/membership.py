"""Membership inference: which scores are formed, for the audited model and for each control model.

A control model is one that the tool trained by the same recipe, from the same base, on other
records. What an attack finds in it is not due to the audited model's training: the leak is the
excess over it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from albert_audit.model.scorer import Scorer
from albert_audit.privacy import attacks
from albert_audit.privacy.records import Bools, Records
from albert_audit.types import Decision, Head

Array = NDArray[np.float64]
NAME = "membership"
TARGET, BASE = "target", "base"
LEAST_UNSEEN = 2
"""Unseen reference models a record that an estimate of spread needs."""


@dataclass(frozen=True)
class Attack:
    """One score and what it is called.

    Attributes
    ----------
    unseen : int
        Reference models that did not see a record which the score needs for it.
    """

    name: str
    title: str
    source: str
    unseen: int = 0
    seen: int = 0
    base: bool = False


_YEOM = "Yeom et al. (2018), Privacy Risk in Machine Learning, CSF"
_SONG = "Song and Mittal (2021), Systematic Evaluation of Privacy Risks, USENIX Security"
_WATSON = "Watson et al. (2022), On the Importance of Difficulty Calibration, ICLR"
_LIRA = "Carlini et al. (2022), Membership Inference Attacks From First Principles, IEEE S&P"
_RMIA = "Zarifzadeh et al. (2024), Low-Cost High-Power Membership Inference Attacks, ICML"
_RATIO = "Mireshghallah et al. (2022), Quantifying Privacy Risks of Masked Language Models, EMNLP"

CLASSIFIER = (
    Attack("loss", "the loss", _YEOM),
    Attack("modified_entropy", "the modified entropy", _SONG),
    Attack("calibrated", "the loss less that of reference models", _WATSON, unseen=1),
    Attack("rmia", "the likelihood relative to reference models (RMIA)", _RMIA, unseen=1),
    Attack("lira_offline", "the offline likelihood ratio (LiRA)", _LIRA, unseen=LEAST_UNSEEN),
    Attack("lira_online", "the online likelihood ratio (LiRA)", _LIRA, unseen=LEAST_UNSEEN, seen=LEAST_UNSEEN),
)  # fmt: skip
MASKED = (
    Attack("loss", "the masked loss", _YEOM),
    Attack("ratio", "the masked likelihood ratio against the base", _RATIO, base=True),
    Attack("calibrated", "the masked loss less that of reference models", _WATSON, unseen=1),
    Attack("rmia", "the masked likelihood relative to reference models (RMIA)", _RMIA, unseen=1),
)


@dataclass(frozen=True)
class Scored:
    """One attack's scores; higher means member.

    Attributes
    ----------
    target : array, shape (n,)
    controls : array, shape (k, n)
        The same score of each control model in the audited model's place; k may be 0.
    seen : array of bool, shape (k, n)
        Whether the control model was trained on the record.
    """

    attack: Attack
    target: Array
    controls: Array
    seen: Bools


def known(head: Head, references: int, *, pool: bool, base: bool) -> list[Attack]:
    """Return the attacks that can be made, with so many reference models; known before anything is trained.

    A control model is attacked with the other references but its complement, so that every record has
    equally many that did not see it.
    """
    family = CLASSIFIER if head is Head.SEQUENCE_CLASSIFICATION else MASKED
    unseen, seen = (references, 0) if pool else (references // 2, references // 2)
    return [
        a
        for a in family
        if a.unseen <= unseen and a.seen <= seen and (base or not a.base)
        # An attack with a spread takes part only where the control models can be attacked in the same way.
        and (a.unseen < LEAST_UNSEEN or a.unseen <= _beside(references, pool))
        and (a.seen < LEAST_UNSEEN or a.seen <= _beside(references, pool))
    ]  # fmt: skip


def primary(attacks_: Sequence[Attack]) -> Attack:
    """Return the attack whose figures by group and rates are told, and which the positive control is of.

    For a classifier RMIA where it can be made; for a masked language model the loss less that of
    reference models, or less the base's.
    """
    by_name = {a.name: a for a in attacks_}
    # Of mean masked log-probabilities RMIA's constant leaves little; the plain difference sees more.
    order = (
        ("calibrated", "ratio", "loss") if by_name["loss"] in MASKED else ("rmia", "modified_entropy", "loss")
    )
    return next(by_name[n] for n in order if n in by_name)


def _beside(references: int, pool: bool) -> int:
    """Return how many references did not see a record when one of them is attacked."""
    return max(references - 1, 0) if pool else max(references // 2 - 1, 0)


# --- what the models answer -----------------------------------------------------------------


def class_log_probs(scorer: Scorer, records: Records) -> Array:
    """Return the log-probability of each label, shape (n, labels); NaN where a text is too long."""
    encoded = scorer.encode(records.texts)
    fits = [len(e.ids) <= scorer.id.max_tokens for e in encoded]
    out = np.full((len(encoded), len(scorer.id.labels)), np.nan)
    logits = scorer.class_logits([t for t, ok in zip(records.texts, fits, strict=True) if ok])
    wide = logits.astype(np.float64)
    if len(wide):
        wide -= wide.max(axis=1, keepdims=True)
        out[fits] = wide - np.log(np.exp(wide).sum(axis=1, keepdims=True))
    return out


def label_codes(records: Records, decision: Decision) -> NDArray[np.intp]:
    """Return the index of each record's label."""
    place = {name: i for i, name in enumerate(decision.labels)}
    return np.array([place[label] for label in records.labels], dtype=np.intp)


# --- scores ---------------------------------------------------------------------------------


def of_classifier(
    outputs: Mapping[str, Array], labels: NDArray[np.intp], seen: Bools, made: Sequence[Attack], *, pool: bool
) -> list[Scored]:
    """Return every attack's scores from the log-probabilities of the models.

    Parameters
    ----------
    outputs : mapping
        ``target`` and ``reference-0`` to ``reference-{k-1}``, each (n, labels).
    labels : array of int, shape (n,)
    seen : array of bool, shape (k, n)
        What each reference was trained on; in complementary pairs unless there is a pool.
    """
    references = [outputs[f"reference-{i}"] for i in range(len(seen))]
    n = len(labels)
    truth = np.stack([o[np.arange(n), labels] for o in (outputs[TARGET], *references)])
    odds = np.stack([attacks.logit(o, labels) for o in (outputs[TARGET], *references)])

    def score(name: str, t: int, others: list[int]) -> Array:
        own, refs, where = outputs[TARGET] if t == 0 else references[t - 1], truth[others], _of(seen, others)
        match name:
            case "loss":
                return attacks.loss(own, labels)
            case "modified_entropy":
                return attacks.modified_entropy(own, labels)
            case "calibrated":
                return attacks.calibrated(truth[t], refs, where)
            case "rmia":
                return attacks.rmia(truth[t], refs, where)
            case "lira_offline":
                return attacks.lira_offline(odds[t], odds[others], where)
            case _:
                return attacks.lira_online(odds[t], odds[others], where)

    return _all(score, seen, made, pool=pool)


def of_masked(
    outputs: Mapping[str, Array], seen: Bools, made: Sequence[Attack], *, pool: bool
) -> list[Scored]:
    """Return every attack's scores from mean masked log-probabilities (n,), with one set of masks."""
    everyone = np.stack([outputs[TARGET], *(outputs[f"reference-{i}"] for i in range(len(seen)))])

    def score(name: str, t: int, others: list[int]) -> Array:
        match name:
            case "loss":
                return np.asarray(everyone[t])
            case "ratio":
                return np.asarray(everyone[t] - outputs[BASE])
            case "calibrated":
                return attacks.calibrated(everyone[t], everyone[others], _of(seen, others))
            case _:
                return attacks.rmia(everyone[t], everyone[others], _of(seen, others))

    return _all(score, seen, made, pool=pool)


def _of(seen: Bools, others: list[int]) -> Bools:
    """Return what some models saw; model 0 is the target, reference i is i + 1."""
    return seen[[i - 1 for i in others]]


def _all(score: Any, seen: Bools, made: Sequence[Attack], *, pool: bool) -> list[Scored]:
    count = len(seen)
    out = []
    for attack in made:
        controls = []
        if attack.unseen <= _beside(count, pool):
            for i in range(count):
                # The complement of i saw just what i did not: with it, records would differ in how many saw them.
                without = {i} if pool else {i, i ^ 1}
                controls.append(score(attack.name, i + 1, [j + 1 for j in range(count) if j not in without]))
        target = score(attack.name, 0, list(range(1, count + 1)))
        n = len(target)
        out.append(
            Scored(
                attack, target, np.array(controls).reshape(-1, n),
                seen if controls else np.zeros((0, n), bool),
            )
        )  # fmt: skip
    return out
