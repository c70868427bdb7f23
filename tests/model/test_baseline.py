"""Scorers that know nothing: random weights, and the frequency of each piece."""

from __future__ import annotations

import numpy as np
import torch

from albert_audit.model.baseline import UnigramScorer, random_init, unigrams
from albert_audit.model.load import load
from albert_audit.model.scorer import Scorer, TorchScorer
from albert_audit.types import Head

TEXTS = ["the nurse said he left", "she is a doctor"]


def test_random_weights_are_other_weights_of_the_same_shape(tiny_folders):
    handle = load(tiny_folders[Head.MASKED_LM], device="cpu")
    before = torch.random.get_rng_state()
    blank = random_init(handle, 0)
    assert torch.equal(before, torch.random.get_rng_state()), "the draw is its own"
    assert not blank.model.training and blank.folder is None
    assert blank.id.parameters == handle.id.parameters and blank.id.weights_sha256 != handle.id.weights_sha256
    ours, theirs, again, other = (
        np.concatenate(TorchScorer(h).token_logprobs(TEXTS, rule="pll"))
        for h in (handle, blank, random_init(handle, 0), random_init(handle, 1))
    )
    assert np.abs(ours - theirs).max() > 1e-3
    np.testing.assert_array_equal(theirs, again)
    assert np.abs(theirs - other).max() > 1e-5 and random_init(handle, 1).id.sha256 != blank.id.sha256


def test_frequencies_are_a_distribution_and_know_no_context(tiny_folders):
    handle = load(tiny_folders[Head.MASKED_LM], device="cpu")
    logp = unigrams(handle)
    assert logp is not None and logp.shape == (handle.id.vocab_size,)
    np.testing.assert_allclose(np.exp(logp.astype(np.float64)).sum(), 1, atol=1e-4)
    scorer = UnigramScorer(TorchScorer(handle), logp)
    assert isinstance(scorer, Scorer)
    a, b = scorer.token_logprobs(["he said she", "she said he"], rule="pll")
    assert sorted(a.tolist()) == sorted(b.tolist())
    (e,) = scorer.encode(["he said she"])
    np.testing.assert_array_equal(a, logp[[e.ids[i] for i in e.positions]])
    (whole,) = scorer.mask_logprobs([_whole(scorer)])
    assert whole.shape == (1, handle.id.vocab_size)


def _whole(scorer):
    from albert_audit.model.text import MaskQuery

    (e,) = scorer.encode(["he left"])
    return MaskQuery(e.ids, e.type_ids, (1,), (1,))


def test_a_wordpiece_vocabulary_holds_no_frequencies(tiny_zh):
    assert unigrams(load(tiny_zh, device="cpu")) is None
