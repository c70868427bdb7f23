"""The audited model as a function from word embeddings to one number, with gradients and in batches.

Batches have one length, so that nothing is padded and no attention mask can be forgotten; segment ids
are always passed. The numbers are those of the stock model, which `validity` verifies row by row.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from albert_audit.explain.targets import Place, place
from albert_audit.explain.types import Baseline, Floats, Target
from albert_audit.model.forward import Encoder, activation
from albert_audit.model.load import ModelHandle
from albert_audit.model.scorer import TorchScorer
from albert_audit.model.text import Encoded
from albert_audit.types import Head, UsageError

CPU_BUDGET, GPU_BUDGET = 512, 32_768
"""Tokens of a batch that gradients are taken of; about 1 MB each in the shape of albert-base."""


@dataclass(frozen=True)
class Row:
    """One input with its baseline and its target.

    Attributes
    ----------
    text, pair : str
    encoded : Encoded
        `special` is true and `words` is -1 for every token that the baseline keeps.
    baseline : tuple of int, (tokens,)
    target : Target
    place : Place
    """

    text: str
    pair: str | None
    encoded: Encoded
    baseline: tuple[int, ...]
    target: Target
    place: Place

    @property
    def kind(self) -> tuple[int, str, bool]:
        """What the rows of a batch have in common."""
        return len(self.encoded.ids), self.place.kind, self.place.rest


def make_rows(
    handle: ModelHandle,
    texts: Sequence[str],
    pairs: Sequence[str] | None,
    targets: Sequence[Target],
    baseline: Baseline,
) -> list[Row]:
    """Encode texts, find their targets and make their baselines.

    Raises
    ------
    UsageError
        When a text is too long, a target is not in its text, or the model takes no pairs.
    """
    if pairs is not None and len(pairs) != len(texts):
        raise UsageError(f"expected a second text for each of {len(texts)}, found {len(pairs)}")
    if pairs is not None and handle.model.config.type_vocab_size < 2:
        raise UsageError("this model has one segment: it takes no text pairs")
    fill = fill_id(handle, baseline)
    out = []
    for i, encoded in enumerate(TorchScorer(handle).encode(texts, pairs)):
        if len(encoded.ids) > handle.id.max_tokens:
            raise UsageError(
                f"text {i} has {len(encoded.ids)} tokens, the model takes {handle.id.max_tokens}; "
                "nothing is truncated",
                "leave the text out and count it as skipped",
            )
        where = place(handle, targets[i], encoded)
        kept = _keep_masks(handle, encoded, where)
        filled = tuple(t if s else fill for t, s in zip(kept.ids, kept.special, strict=True))
        out.append(Row(texts[i], pairs[i] if pairs is not None else None, kept, filled, targets[i], where))
    return out


def fill_id(handle: ModelHandle, baseline: Baseline) -> int:
    """Return the id that stands for an absent token."""
    if baseline not in ("pad", "mask"):
        raise UsageError(f"expected a baseline among pad, mask, found {baseline!r}")
    tokenizer = handle.tokenizer
    found = tokenizer.mask_token_id if baseline == "mask" else tokenizer.pad_token_id
    if found is None or found == tokenizer.unk_token_id:
        raise UsageError(f"the tokenizer has no {baseline} token", "choose the other baseline")
    return int(found)


def _keep_masks(handle: ModelHandle, encoded: Encoded, where: Place) -> Encoded:
    """Mask what the target masks, and count every mask among the tokens that the baseline keeps."""
    mask = handle.tokenizer.mask_token_id
    ids = tuple(mask if i == where.masked else t for i, t in enumerate(encoded.ids))
    special = tuple(s or t == mask for s, t in zip(encoded.special, ids, strict=True))
    words = tuple(-1 if s else w for s, w in zip(special, encoded.words, strict=True))
    return replace(encoded, ids=ids, special=special, words=words)


class Network:
    """A model as a differentiable function of word embeddings.

    Parameters
    ----------
    handle : ModelHandle
    budget : int, optional
        Most tokens of one forward pass; what bounds the memory, whatever the number of inputs and steps.
    """

    def __init__(self, handle: ModelHandle, *, budget: int | None = None) -> None:
        if handle.id.head is Head.ENCODER:
            raise UsageError("an encoder without a head answers nothing that could be explained")
        if budget is not None and budget < 1:
            raise UsageError(f"expected a budget of at least one token, found {budget}")
        self.handle, self.model, self.device = handle, handle.model, handle.device
        self.base = handle.model.albert
        self.budget = budget or (CPU_BUDGET if handle.device.type == "cpu" else GPU_BUDGET)
        with torch.no_grad():
            self.encoder = Encoder(self.base)

    def embed(self, ids: Sequence[Sequence[int]]) -> Tensor:
        """Return word embeddings, (b, n, embedding)."""
        with torch.no_grad():
            out: Tensor = self.base.embeddings.word_embeddings(self._long(ids))
        return out

    def arguments(self, rows: Sequence[Row]) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Return what `__call__` takes after the embeddings, each with one entry a row.

        Tensors in a tuple: Captum repeats tensors for its steps, lists it passes on as they are.
        """
        return (
            self._long([r.encoded.type_ids for r in rows]),
            self._long([r.place.at for r in rows]),
            self._long([r.place.columns for r in rows]),
            torch.tensor([r.place.weight for r in rows], device=self.device),
        )

    def function(self, row: Row) -> Any:
        """Return the function of embeddings and `arguments` for rows of this row's kind."""
        kind, rest = row.place.kind, row.place.rest

        def run(embeds: Tensor, types: Tensor, at: Tensor, columns: Tensor, weight: Tensor) -> Tensor:
            return self._read(kind, rest, self.hidden(embeds, types, at), columns) * weight

        return run

    def hidden(self, embeds: Tensor, types: Tensor, at: Tensor) -> Tensor:
        """Return the last hidden states at two positions a row, (b, 2, hidden)."""
        encoder = self.encoder
        states = encoder.mapping(encoder.embeddings(inputs_embeds=embeds, token_type_ids=types))
        for layer in encoder.layers[:-1]:
            states = layer(states, None)
        out: Tensor = encoder.layers[-1](states, at)
        return out

    def _read(self, kind: str, rest: bool, states: Tensor, columns: Tensor) -> Tensor:
        model = self.model
        if kind == "mask":
            head = model.predictions
            last = head.LayerNorm(activation(model.config, head.activation)(head.dense(states[:, 0])))
            weight, bias = head.decoder.weight[columns], head.decoder.bias[columns]
            out: Tensor = (last * (weight[:, 0] - weight[:, 1])).sum(-1) + bias[:, 0] - bias[:, 1]
            return out
        if kind == "span":
            logits: Tensor = model.qa_outputs(states)
            return logits[:, 0, 0] + logits[:, 1, 1]
        if kind == "tag":
            return logit_or_odds(model.classifier(states[:, 0]), columns[:, :1], rest)
        pooled = self.base.pooler_activation(self.base.pooler(states[:, 0]))
        return logit_or_odds(model.classifier(pooled), columns[:, :1], rest)

    # --- batches ----------------------------------------------------------------------------

    def batches(self, rows: Sequence[Row], each: int = 1) -> Iterator[list[int]]:
        """Yield the indices of batches of one kind; `each` is how many inputs a row becomes."""
        order = sorted(range(len(rows)), key=lambda i: (rows[i].kind, i))
        batch: list[int] = []
        for i in order:
            full = batch and (len(batch) + 1) * each > self.most(rows[i])
            if batch and (full or rows[batch[0]].kind != rows[i].kind):
                yield batch
                batch = []
            batch.append(i)
        if batch:
            yield batch

    def most(self, row: Row) -> int:
        """Return how many inputs of this length a forward pass may hold."""
        return max(1, self.budget // len(row.encoded.ids))

    def outputs(self, rows: Sequence[Row], ids: Sequence[Sequence[int]] | None = None) -> Floats:
        """Return the target of each row, or of other ids in the row's place, (rows,)."""
        wanted = ids if ids is not None else [r.encoded.ids for r in rows]
        found = np.empty(len(rows), np.float64)
        with torch.no_grad():
            for batch in self.batches(rows):
                part = [rows[i] for i in batch]
                embeds = self.embed([wanted[i] for i in batch])
                values = self.function(part[0])(embeds, *self.arguments(part))
                found[batch] = values.double().cpu().numpy()
        return found

    def _long(self, values: Sequence[Sequence[int]]) -> Tensor:
        array: NDArray[np.int64] = np.array(values, np.int64)
        return torch.as_tensor(array, device=self.device)


class StockNetwork(Network):
    """The same function by the stock forward pass of a model, whose modules Captum can hook.

    Parameters
    ----------
    handle : ModelHandle
    model : transformers.PreTrainedModel, optional
        Used in place of the handle's: a copy of it.
    """

    def __init__(self, handle: ModelHandle, model: Any = None, *, budget: int | None = None) -> None:
        super().__init__(handle if model is None else replace(handle, model=model), budget=budget)

    def hidden(self, embeds: Tensor, types: Tensor, at: Tensor) -> Tensor:
        """See `Network`."""
        states = self.base(inputs_embeds=embeds, token_type_ids=types).last_hidden_state
        out: Tensor = states.gather(1, at.unsqueeze(-1).expand(-1, -1, states.shape[-1]))
        return out


def logit_or_odds(logits: Tensor, column: Tensor, rest: bool) -> Tensor:
    """Return a column of logits, or its log-odds against all other columns, (b,)."""
    own = logits.gather(1, column)[:, 0]
    if not rest:
        return own
    return own - logits.scatter(1, column, -torch.inf).logsumexp(1)
