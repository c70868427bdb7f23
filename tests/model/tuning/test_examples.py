"""Batches, masks and losses: nothing depends on padding, and no special piece is ever masked."""

from __future__ import annotations

import pytest
import torch

from albert_audit.model.load import load
from albert_audit.model.tuning.examples import (
    Examples,
    Losses,
    Vocabulary,
    batches,
    corrupt,
    generator,
    padded,
)
from albert_audit.types import Head

TEXTS = ["he went home", "the doctor and the nurse were there all day", "no", "a red car", "what is this ?"]


def test_each_text_is_in_one_batch_of_like_lengths_and_the_order_is_drawn():
    lengths = [int(x) for x in torch.randint(3, 60, (500,), generator=generator(0, "lengths"))]
    made = batches(lengths, 16, generator(1, "order"))
    assert sorted(i for batch in made for i in batch) == list(range(500))
    assert sorted(map(len, made)) == [4] + [16] * 31
    assert max(max(lengths[i] for i in b) - min(lengths[i] for i in b) for b in made) < 12
    assert made == batches(lengths, 16, generator(1, "order")) != batches(lengths, 16, generator(2, "order"))
    means = [sum(lengths[i] for i in b) / len(b) for b in made]
    assert means not in (sorted(means), sorted(means, reverse=True))


def test_masks_fall_on_words_alone_and_on_one_at_least(tiny_handles):
    """Trap 6: a share of 15 % of a short text is none, and its loss would be no number."""
    tokenizer = tiny_handles[Head.MASKED_LM].tokenizer
    words = Vocabulary.of(tokenizer)
    ids, attention = padded([e.ids for e in tokenizer._tokenizer.encode_batch(TEXTS * 200)], words.pad)
    shown, chosen = corrupt(ids, attention, words, 0.15, generator(0, "masks"))
    special = torch.isin(ids, torch.tensor(tokenizer.all_special_ids))
    assert not (chosen & (special | (attention == 0))).any()
    assert chosen.any(dim=1).all()
    assert (shown == ids)[~chosen].all()
    assert not torch.isin(shown[chosen], torch.tensor([0, 2, 3])).any()
    masked = (shown[chosen] == tokenizer.mask_token_id).float().mean()
    kept = (shown[chosen] == ids[chosen]).float().mean()
    assert 0.76 < masked < 0.84 and 0.07 < kept < 0.14
    long = attention.sum(dim=1) > 9
    assert 0.12 < chosen[long].sum() / (~special)[long].sum() < 0.19
    again, _ = corrupt(ids, attention, words, 0.15, generator(0, "masks of another epoch"))
    assert (again != shown).any()


@pytest.mark.parametrize("head", [Head.MASKED_LM, Head.SEQUENCE_CLASSIFICATION])
def test_padding_changes_no_loss(head, tiny_folders):
    """Trap 3: without an attention mask a text's loss would depend on its neighbours."""
    handle = load(tiny_folders[head], device="cpu")
    ids = [e.ids for e in handle.tokenizer._tokenizer.encode_batch(TEXTS)]
    targets = torch.tensor([0, 1, 2, 0, 1]) if head is Head.SEQUENCE_CLASSIFICATION else None
    examples = Examples(ids, targets)
    losses = Losses(handle.model, Vocabulary.of(handle.tokenizer), 1e-9, handle.device)
    if targets is None:  # one mask a text, always the same
        losses = OneMask(handle.model, losses.words, 1e-9, handle.device)
    together, terms = losses(examples, range(len(ids)), generator(0, ""))
    alone = [losses(examples, [i], generator(0, ""))[0] for i in range(len(ids))]
    assert terms == len(ids)
    torch.testing.assert_close(together, torch.stack(alone).mean(), atol=1e-5, rtol=1e-5)


class OneMask(Losses):
    def __call__(self, examples, batch, draw):
        from unittest import mock

        def second(ids, attention, words, share, draw):
            chosen = torch.zeros_like(ids, dtype=torch.bool)
            chosen[:, 1] = True
            return ids.masked_fill(chosen, words.mask), chosen

        with mock.patch("albert_audit.model.tuning.examples.corrupt", second):
            return super().__call__(examples, batch, draw)
