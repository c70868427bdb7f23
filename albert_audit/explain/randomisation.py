"""Whether an attribution depends on what the model learnt: a test over a corpus, with random weights.

An attribution that stays when the weights are drawn anew tells of the sentence, not of the model. One
that changes is no proof that it is right.
"""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from albert_audit.explain.agreement import LEAST
from albert_audit.explain.types import Attribution
from albert_audit.model.baseline import random_init
from albert_audit.stats.exchange import Partners, partners
from albert_audit.types import UsageError

if TYPE_CHECKING:
    from albert_audit.model.load import ModelHandle

Array = NDArray[np.float64]
STAGES = ("classifier", "pooler", "shared block", "embeddings")
"""From the output to the input. All depths of ALBERT are one block, so that there are no more stages."""


@dataclass(frozen=True)
class Randomised:
    """How alike |attributions| stay when stages of the model have weights drawn anew.

    Attributes
    ----------
    stage : str
        This stage and all between it and the output were drawn anew.
    found : Partners or None
        Mean rank correlation of a sentence's |attribution| with that of the random model for the same
        sentence, beside that for other sentences of as many tokens. None where no two have equally many.
        A high value with a low p says that the picture comes of the sentence, not of what was learnt.
    alone : int
        Sentences that no other one equals in length; they take no part.
    skipped : dict
        Reasons and how often.
    """

    stage: str
    found: Partners | None
    alone: int
    skipped: dict[str, int]


def stages(handle: ModelHandle) -> tuple[str, ...]:
    """Return which of `STAGES` a model has; the head of any kind counts as the classifier."""
    present = {_stage(name) for name, _ in handle.model.named_parameters()}
    return tuple(s for s in STAGES if s in present)


def randomise(handle: ModelHandle, stage: str, seed: int) -> ModelHandle:
    """Return a copy of a model whose weights are drawn anew from the output down to `stage`.

    Raises
    ------
    UsageError
        When the model has no such stage.

    Notes
    -----
    The draw is that of a model of the same configuration before any training. ALBERT's depths share
    one block: they cannot be drawn anew one after the other. Source: Adebayo et al. (2018), Sanity Checks
    for Saliency Maps.
    """
    there = stages(handle)
    if stage not in there:
        raise UsageError(f"expected a stage among {', '.join(there)}, found {stage!r}")
    import torch

    chosen = set(there[: there.index(stage) + 1])
    fresh = random_init(handle, seed)
    drawn = dict(fresh.model.named_parameters())
    model = copy.deepcopy(handle.model)
    with torch.no_grad():
        # A tied matrix is named once, with the embeddings.
        for name, parameter in model.named_parameters():
            if _stage(name) in chosen:
                parameter.copy_(drawn[name])
    identity = fresh.id.model_copy(update={"name": f"{stage} drawn anew, seed {seed}"})
    return replace(handle, model=model.eval(), id=identity, folder=None)


def _stage(name: str) -> str:
    name = name.removeprefix("albert.")
    for prefix, stage in (
        ("embeddings.", "embeddings"), ("encoder.embedding_hidden_mapping_in.", "embeddings"),
        ("encoder.", "shared block"), ("pooler.", "pooler"),
    ):  # fmt: skip
        if name.startswith(prefix):
            return stage
    return "classifier"


def randomisation(
    trained: Sequence[Attribution],
    random: Mapping[str, Sequence[Attribution]],
    rng: np.random.Generator,
    *,
    clusters: Sequence[str] | None = None,
) -> list[Randomised]:
    """Compare attributions of a model with those of copies whose stages have random weights.

    Parameters
    ----------
    trained : sequence of Attribution
    random : mapping
        Stage to the attributions of the same inputs in the same order, by models of `randomise`.
    clusters : sequence of str, optional
        Templates: sentences of one template are near copies, so that one of each length and cluster,
        drawn by `rng`, takes part.

    Raises
    ------
    UsageError
        When inputs differ.

    Notes
    -----
    Spearman's correlation of |value| over the tokens that are not special. A figure for one sentence is
    noise: with ten tokens it may be anything. Sentences are compared with those of as many tokens, so
    that what comes of position alone stands in the null.
    """
    labels = [str(i) for i in range(len(trained))] if clusters is None else list(clusters)
    out = []
    for stage, others in random.items():
        same = len(others) == len(trained) == len(labels) and all(
            a.ids == b.ids for a, b in zip(trained, others, strict=True)
        )
        if not same:
            raise UsageError(
                f"expected attributions of the same inputs for the stage {stage!r}", "explain the same texts"
            )
        out.append(_randomised(stage, trained, others, labels, rng))
    return out


def _randomised(
    stage: str,
    trained: Sequence[Attribution],
    others: Sequence[Attribution],
    labels: Sequence[str],
    rng: np.random.Generator,
) -> Randomised:
    skipped: Counter[str] = Counter()
    ranks: dict[int, tuple[Array, Array]] = {}
    for i, (a, b) in enumerate(zip(trained, others, strict=True)):
        first, second = _ranks(a), _ranks(b)
        why = "; ".join(a.reasons)  # a random model need not be explained well, only in the same way
        if not why and (len(first) < LEAST or not first.any() or not second.any()):
            why = f"fewer than {LEAST} tokens, or all with one value"
        if why:
            skipped[why] += 1
        else:
            ranks[i] = first, second
    order = [i for i in rng.permutation(len(trained)).tolist() if i in ranks]
    one_each = {(labels[i], len(ranks[i][0])): i for i in order}
    skipped["another sentence of its template and length takes part"] += len(ranks) - len(one_each)
    taking = sorted(one_each.values())
    lengths = [len(ranks[i][0]) for i in taking]
    table = np.full((len(taking), len(taking)), np.nan)
    for n in set(lengths):
        at = [k for k, m in enumerate(lengths) if m == n]
        x, y = (np.stack([ranks[taking[k]][side] for k in at]) for side in (0, 1))
        table[np.ix_(at, at)] = x @ y.T
    counted = Counter(lengths)
    alone = sum(1 for n in lengths if counted[n] == 1)
    found = partners(table, lengths, rng) if taking else None
    return Randomised(stage, found, alone, {k: v for k, v in skipped.items() if v})


def _ranks(a: Attribution) -> Array:
    """Return the centred ranks of |value| over tokens that are not special, of length 1; 0 if constant."""
    values = np.abs(np.asarray(a.values, np.float64))[~np.asarray(a.special, bool)]
    ranked = pd.Series(values).rank().to_numpy(np.float64)
    centred = ranked - ranked.mean() if len(ranked) else ranked
    norm = float(np.linalg.norm(centred))
    return centred / norm if norm > 0 else np.zeros_like(centred)
