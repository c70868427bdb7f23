"""One training: what it needs, checked, and what tells it from another."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch

from albert_audit.model.tuning.recipe import Recipe
from albert_audit.types import Head, UsageError

_VERSION = 1  # of the training itself: a change that gives other weights counts it up


@dataclass(frozen=True)
class Job:
    """One checkpoint to make; the arguments of `tune`.

    Attributes
    ----------
    base : Path
        A checkpoint of any head.
    out : Path
        A folder that is not there yet, or that an earlier run of the same job made.
    texts : sequence of str
    labels : sequence, optional
        One a text, for a classifier: a name; a collection of names with ``kind="multi"``; a number
        with ``kind="regression"``.
    label_names : sequence of str
        In the order of the logits, that of the audited model.
    head : {Head.MASKED_LM, Head.SEQUENCE_CLASSIFICATION}
    kind : {"single", "multi", "regression"}
    init_head : {"auto", "fresh", "keep"}
        Whether a classifier's head is drawn anew. ``auto`` keeps that of the base where it has the
        same labels. A masked language model's head is only drawn anew with ``fresh``.
    device : {"auto", "cpu", "cuda", "mps"}
    """

    base: Path
    out: Path
    texts: Sequence[str]
    recipe: Recipe
    seed: int
    head: Head
    labels: Sequence[Any] | None = None
    label_names: Sequence[str] = ()
    kind: Literal["single", "multi", "regression"] = "single"
    init_head: Literal["auto", "fresh", "keep"] = "auto"
    device: str = "cpu"


def key_of(job: Job, base: str) -> str:
    """Return what tells jobs apart: everything that decides the weights, but machine and versions."""
    told = [
        _VERSION, base, job.recipe.model_dump(mode="json"), job.seed, job.head, job.kind, job.init_head,
        list(job.label_names), list(job.texts),
        [sorted(y) if job.kind == "multi" else y for y in job.labels] if job.labels is not None else None,
    ]  # fmt: skip
    return hashlib.sha256(json.dumps(told).encode()).hexdigest()


def targets_of(job: Job) -> torch.Tensor | None:
    """Check texts and labels against each other; return what the loss compares with."""
    if job.head not in (Head.MASKED_LM, Head.SEQUENCE_CLASSIFICATION):
        raise UsageError(f"expected the head masked_lm or sequence_classification, found {job.head}")
    if not job.texts:
        raise UsageError("there are no texts to train on")
    if job.head is Head.MASKED_LM:
        if job.labels is not None:
            raise UsageError("a masked language model is trained without labels, and labels were given")
        return None
    if job.labels is None or len(job.labels) != len(job.texts):
        found = "none" if job.labels is None else str(len(job.labels))
        raise UsageError(f"expected {len(job.texts)} labels, one a text, found {found}")
    if job.kind == "regression":
        if len(job.label_names) != 1:
            raise UsageError(f"a regression has one label name, found {len(job.label_names)}")
        return torch.tensor([[float(y)] for y in job.labels])
    code = {name: i for i, name in enumerate(job.label_names)}
    given: list[Collection[str]] = list(job.labels) if job.kind == "multi" else [[y] for y in job.labels]
    if unknown := sorted({str(y) for ys in given for y in ys if y not in code}):
        raise UsageError(
            f"expected labels among {', '.join(job.label_names)}, found {', '.join(map(repr, unknown[:3]))}",
            "write the labels as the model's own",
        )
    if len(code) < 2 and job.kind == "single":
        raise UsageError("one label cannot be told from itself", 'give more label names, or kind="multi"')
    if job.kind == "single":
        return torch.tensor([code[y] for (y,) in given])
    many = torch.zeros(len(given), len(code))
    for i, ys in enumerate(given):
        many[i, [code[y] for y in ys]] = 1.0
    return many


def encode(tokenizer: Any, job: Job, most: int) -> tuple[list[list[int]], int]:
    """Return the ids of each text, cut to the recipe's length, and how many were cut."""
    longest = job.recipe.max_length or most
    if longest > most:
        raise UsageError(f"max_length is {longest}, and the model takes {most} tokens", "lower max_length")
    ids = [list(e.ids) for e in tokenizer._tokenizer.encode_batch(list(job.texts))]
    cut = sum(len(row) > longest for row in ids)
    ids = [row if len(row) <= longest else [*row[: longest - 1], row[-1]] for row in ids]
    if job.head is Head.MASKED_LM:
        special = set(tokenizer.all_special_ids)
        if empty := [i for i, row in enumerate(ids) if not set(row) - special]:
            raise UsageError(
                f"{len(empty)} texts have no token that could be masked, the first is number {empty[0] + 1}",
                "leave them out of every set",
            )
    return ids, cut
