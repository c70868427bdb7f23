"""What lessens the memory of the known-answer classifier, and what it costs: a worked example.

The training data hold 400 records of as many persons; every tenth stands there eight times, as in data
that were gathered without care. Each remedy is applied to the same data, and its model is asked for
the same records and for 1,600 others. Every figure is the mean over seeds that draw data and model anew.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from albert_audit.known_answer import memory
from albert_audit.known_answer.memory_records import LABELS, Record, draw
from albert_audit.known_answer.private import tune_privately
from albert_audit.model.load import load
from albert_audit.model.scorer import TorchScorer
from albert_audit.model.tuning import Recipe
from albert_audit.privacy import attacks
from albert_audit.stats.roc import auc

RECORDS, EVERY, COPIES = 400, 10, 8
OTHERS = 1600
SEEDS = 3
DELTA = 1e-4
_USUAL: dict[str, object] = {"learning_rate": 1e-3, "batch_size": 32}
_PRIVATE: dict[str, object] = {"learning_rate": 1e-3, "batch_size": 64, "epochs": 6}


@dataclass(frozen=True)
class Remedy:
    """One way to train.

    Attributes
    ----------
    once : bool
        Whether copies of a record are removed first.
    epsilon : float, optional
        By DP-SGD with so much privacy loss.
    """

    name: str
    recipe: dict[str, object]
    once: bool = False
    epsilon: float | None = None


REMEDIES = (
    Remedy("none: 10 epochs, copies left in", {"epochs": 10, **_USUAL}),
    Remedy("copies removed", {"epochs": 10, **_USUAL}, once=True),
    Remedy("3 epochs", {"epochs": 3, **_USUAL}),
    Remedy("3 epochs, copies removed", {"epochs": 3, **_USUAL}, once=True),
    Remedy("copies removed, DP-SGD, ε = 8", _PRIVATE, once=True, epsilon=8.0),
    Remedy("copies removed, DP-SGD, ε = 1", _PRIVATE, once=True, epsilon=1.0),
)


@dataclass(frozen=True)
class Outcome:
    """What a remedy left, one number a seed.

    Attributes
    ----------
    area : tuple of float
        Of the loss attack on all members, under the ROC curve.
    copied : tuple of float
        The same on the members that stood in the data several times.
    accuracy : tuple of float
        On records that the model was not trained on; at best 0.7.
    """

    remedy: Remedy
    area: tuple[float, ...]
    copied: tuple[float, ...]
    accuracy: tuple[float, ...]


def compare(
    remedies: Sequence[Remedy] = REMEDIES,
    *,
    seeds: int = SEEDS,
    told: Callable[[str], object] = sys.stderr.write,
) -> list[Outcome]:
    """Try remedies on the same data.

    Those by DP-SGD are left out where opacus is not installed.

    Parameters
    ----------
    told : callable
        Told of progress.
    """
    able = [r for r in remedies if r.epsilon is None or find_spec("opacus") is not None]
    for left in (r for r in remedies if r not in able):
        told(f"left out, as opacus is not installed: {left.name}\n")
    out = []
    for remedy in able:
        told(f"{remedy.name}\n")
        found = [_one(remedy, seed) for seed in range(seeds)]
        out.append(Outcome(remedy, *zip(*found, strict=True)))
    return out


def table(outcomes: Sequence[Outcome]) -> str:
    """Return the outcomes as a Markdown table: means, and the range over the seeds."""
    lines = [
        "| Remedy | AUC, all members | AUC, records that stood 8 times | accuracy on other records |",
        "|---|---|---|---|",
    ]
    for o in outcomes:
        lines.append(f"| {o.remedy.name} | {_span(o.area)} | {_span(o.copied)} | {_span(o.accuracy)} |")
    return "\n".join(lines) + "\n"


def _span(numbers: Sequence[float]) -> str:
    return f"{np.mean(numbers):.2f} ({min(numbers):.2f} to {max(numbers):.2f})"


def trained_on(members: Sequence[Record], *, once: bool) -> list[tuple[str, str]]:
    """Return the rows of the training data; every tenth record several times unless `once`."""
    rows = [(r.text, r.label) for r in members]
    return rows if once else [row for i, row in enumerate(rows) for _ in range(1 if i % EVERY else COPIES)]


def _one(remedy: Remedy, seed: int) -> tuple[float, float, float]:
    drawn = draw(RECORDS + OTHERS, f"r{seed}", alone=True)
    members, recipe = drawn[:RECORDS], Recipe.read(remedy.recipe)
    rows = trained_on(members, once=remedy.once)
    with TemporaryDirectory() as folder:
        model = Path(folder) / "model"
        if remedy.epsilon is not None:
            base = memory.base_of("members")
            tune_privately(
                base, rows, recipe, epsilon=remedy.epsilon, delta=DELTA, labels=LABELS, out=model, seed=seed
            )
        else:
            memory.fit("members", rows, recipe, model, seed)
        logits = TorchScorer(load(model, device="cpu")).class_logits([r.text for r in drawn])
    truth = np.array([LABELS.index(r.label) for r in drawn])
    scores = attacks.loss(attacks.log_softmax(logits), truth)
    member = np.arange(len(drawn)) < RECORDS
    copied = (np.arange(len(drawn)) % EVERY == 0) | ~member
    right = logits.argmax(axis=1) == truth
    return auc(scores, member).value, auc(scores[copied], member[copied]).value, float(right[~member].mean())
