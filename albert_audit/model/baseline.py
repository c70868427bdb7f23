"""Scorers that know nothing: what a probe finds in them comes from its words and their pieces alone.

A model of the same shape with random weights, and one that knows only how frequent each piece is.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np

from albert_audit.model.cache import Delegating
from albert_audit.model.load import ModelHandle
from albert_audit.model.scorer import Array, Scorer
from albert_audit.model.text import MaskQuery
from albert_audit.types import Ability


def random_init(handle: ModelHandle, seed: int) -> ModelHandle:
    """Return a model of the same configuration whose weights are drawn anew.

    The draw leaves torch's own generator as it was.
    """
    import torch

    name = f"random weights, seed {seed}"
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = type(handle.model)(handle.model.config).eval().to(handle.device)
    # The score cache tells models apart by these.
    digest = hashlib.sha256(f"{name}/{handle.id.config_sha256}".encode()).hexdigest()
    identity = handle.id.model_copy(update={"name": name, "sha256": digest, "weights_sha256": digest})
    return replace(handle, model=model, id=identity, folder=None)


def unigrams(handle: ModelHandle) -> Array | None:
    """Return the log-probability of each piece, shape (vocabulary,), or None where it is not known.

    A sentencepiece vocabulary of the unigram kind holds them: they were fitted to the text that the
    vocabulary was learnt from. A WordPiece vocabulary does not.
    """
    model = json.loads(handle.tokenizer._tokenizer.to_str())["model"]
    if model.get("type") != "Unigram":
        return None
    scores = np.array([score for _, score in model["vocab"]], np.float64)
    found = np.full(handle.id.vocab_size, scores.min())
    found[: len(scores)] = scores[: handle.id.vocab_size]
    out: Array = (found - np.logaddexp.reduce(found)).astype(np.float32)
    return out


class UnigramScorer(Delegating):
    """A masked language model that answers with the frequency of a piece, whatever stands around it.

    Parameters
    ----------
    inner : Scorer
        For its tokenizer only.
    logp : array, shape (vocabulary,)
        From `unigrams`.
    """

    def __init__(self, inner: Scorer, logp: Array) -> None:
        super().__init__(inner)
        self._logp = logp
        self.can = frozenset({Ability.MASK_LOGPROBS, Ability.TOKEN_LOGPROBS})

    def mask_batches(self, batches: Sequence[Sequence[MaskQuery]]) -> Iterator[list[Array]]:
        """See `Scorer`."""
        for batch in batches:
            yield [
                np.stack([self._logp[list(ask)] for ask in q.ask])
                if q.ask
                else np.tile(self._logp, (len(q.at), 1))
                for q in batch
            ]
