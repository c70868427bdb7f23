"""What is trained on: random batches of like lengths, masked pieces, and the loss of a batch."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

_CHUNK = 50  # batches that are sorted by length together: little padding, and still a random order
_TO_MASK, _TO_RANDOM = 0.8, 0.1


def stream(seed: int, *names: object) -> int:
    """Return the seed of one kind of draw."""
    digest = hashlib.sha256(json.dumps([seed, *map(str, names)]).encode()).digest()
    return int.from_bytes(digest[:7], "big")


def generator(seed: int, *names: object) -> torch.Generator:
    """Return a generator of its own for one kind of draw."""
    return torch.Generator().manual_seed(stream(seed, *names))


@dataclass(frozen=True)
class Vocabulary:
    """The ids that masking and padding need.

    Attributes
    ----------
    words : Tensor
        Ids of all pieces but the special ones.
    """

    pad: int
    mask: int | None
    words: Tensor

    @classmethod
    def of(cls, tokenizer: Any) -> Vocabulary:
        """Read them from a tokenizer."""
        special = set(tokenizer.all_special_ids)
        words = sorted(i for i in set(tokenizer.get_vocab().values()) if i not in special)
        return cls(tokenizer.pad_token_id or 0, tokenizer.mask_token_id, torch.tensor(words))


@dataclass(frozen=True)
class Examples:
    """Encoded texts.

    Attributes
    ----------
    ids : list of list of int
        [CLS] and [SEP] included.
    targets : Tensor, optional
        (n,) long, or (n, c) float for several labels, or (n, 1) float for a number; None for a
        masked language model.
    """

    ids: list[list[int]]
    targets: Tensor | None


def batches(lengths: Sequence[int], size: int, draw: torch.Generator) -> list[list[int]]:
    """Return the texts of each step of an epoch: random, but of like lengths within a batch."""
    order: list[int] = torch.randperm(len(lengths), generator=draw).tolist()
    out: list[list[int]] = []
    for i in range(0, len(order), size * _CHUNK):
        near = sorted(order[i : i + size * _CHUNK], key=lambda j: lengths[j])
        out += [near[j : j + size] for j in range(0, len(near), size)]
    return [out[i] for i in torch.randperm(len(out), generator=draw).tolist()]


def padded(rows: Sequence[Sequence[int]], pad: int) -> tuple[Tensor, Tensor]:
    """Return ids and attention mask, both (b, longest)."""
    ids = torch.full((len(rows), max(map(len, rows))), pad)
    mask = torch.zeros_like(ids)
    for i, row in enumerate(rows):
        ids[i, : len(row)] = torch.tensor(row)
        mask[i, : len(row)] = 1
    return ids, mask


def corrupt(
    ids: Tensor, attention: Tensor, words: Vocabulary, share: float, draw: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Hide a share of the pieces, at least one of a text (Devlin et al. 2019: 80/10/10).

    Returns
    -------
    shown : (b, n) long
    chosen : (b, n) bool
        What the model is asked for; never a special piece or padding.
    """
    may = torch.isin(ids, words.words) & (attention == 1)
    ticket = torch.rand(ids.shape, generator=draw)
    lowest = ticket.masked_fill(~may, 2.0).amin(dim=1, keepdim=True)
    chosen = may & ((ticket < share) | (ticket == lowest))
    how = torch.rand(ids.shape, generator=draw)
    anything = words.words[torch.randint(len(words.words), ids.shape, generator=draw)]
    shown = ids.masked_fill(chosen & (how < _TO_MASK), words.mask or 0)
    return torch.where(chosen & (how >= 1 - _TO_RANDOM), anything, shown), chosen


@dataclass(frozen=True)
class Losses:
    """The mean loss of a batch, in nats a text or a masked piece (squared error for a number).

    Attributes
    ----------
    model : transformers.PreTrainedModel
        With a masked language model's head where the examples have no targets, else a classifier's.
    """

    model: Any
    words: Vocabulary
    share: float
    device: torch.device

    def __call__(self, examples: Examples, batch: Sequence[int], draw: torch.Generator) -> tuple[Tensor, int]:
        """Return the mean and how many terms it has."""
        ids, attention = padded([examples.ids[i] for i in batch], self.words.pad)
        if examples.targets is None:
            shown, chosen = corrupt(ids, attention, self.words, self.share, draw)
            hidden = self.model.albert(
                self._here(shown), attention_mask=self._here(attention)
            ).last_hidden_state
            asked = self.model.predictions(hidden[self._here(chosen)])
            return functional.cross_entropy(asked, self._here(ids[chosen])), int(chosen.sum())
        logits = self.model(self._here(ids), attention_mask=self._here(attention)).logits
        target = self._here(examples.targets[list(batch)])
        if target.ndim == 1:
            loss = functional.cross_entropy(logits, target)
        elif self.model.config.problem_type == "regression":
            loss = functional.mse_loss(logits, target)
        else:
            loss = functional.binary_cross_entropy_with_logits(logits, target)
        return loss, len(batch)

    def _here(self, tensor: Tensor) -> Tensor:
        return tensor.to(self.device)
