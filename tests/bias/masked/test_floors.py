"""Sentence floors: who prefers order passes, who is blind or random does not."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from albert_audit.bias.masked import floors
from albert_audit.findings import build
from albert_audit.model.cache import FakeScorer
from albert_audit.types import Status
from tests.fakes import floor_pack, measure, noisy, one, ordered, policy

SCORER = FakeScorer(lambda *a: -1.0)


def verdict(logprob, pack=None, **options):
    m = measure(pack or floor_pack(), FakeScorer(logprob, **options))
    return m, one(build([m], SCORER.id, policy(), 0), "sentence_floor")


def test_a_model_that_prefers_order_is_above_the_floor():
    m, finding = verdict(ordered)
    assert finding.status is Status.ESTIMATED and finding.role == "floor" and not finding.gates
    assert finding.details["wins"] == 120 == finding.n and finding.details["lower_bound"] > 0.95
    assert (m.rows["value"] > 0).all() and set(m.rows["unit"]) == {"nats"}


@pytest.mark.parametrize(
    "logprob",
    [
        lambda tokens, at, token: -1.0,  # says the same of everything
        lambda tokens, at, token: -0.1 * len(token),  # knows words, not order
        noisy(3),
        lambda tokens, at, token: -ordered(tokens, at, token) - 9.0,  # prefers the shuffled
    ],
    ids=["blind", "words", "random", "contrary"],
)
def test_a_model_that_does_not_is_below_it(logprob):
    _, finding = verdict(logprob)
    assert finding.status is Status.INVALID
    assert finding.details["lower_bound"] < 0.8 and "lower bound" in finding.reason


def test_a_preference_within_rounding_is_none():
    base = {f"w{i}": -1.0 for i in range(8)}
    _, finding = verdict(lambda tokens, at, token: base.get(token, -2.0) + 1e-6 * ordered(tokens, at, token))
    assert finding.status is Status.INVALID and finding.details["wins"] == 0


def test_the_value_is_the_difference_of_two_pseudo_log_likelihoods():
    lp = noisy(5)
    pack = floor_pack(3)
    m = measure(pack, lp, seed=7)
    rng = np.random.default_rng([7, *b"measure/floor-en"])

    def pll(text):
        tokens = ("[CLS]", *text.lower().replace(".", " .").split(), "[SEP]")
        return sum(
            lp((*tokens[:i], "[MASK]", *tokens[i + 1 :]), i, tokens[i]) for i in range(1, len(tokens) - 1)
        )

    for (_, text), value in zip(pack.sentences, m.rows["value"], strict=True):
        assert value == pytest.approx(pll(text) - pll(floors._shuffle(text, rng)), abs=1e-4)


@pytest.mark.parametrize(
    "text", ["The cat sat on the mat.", "no mark at the end", "今天早上有雾，山看不见。", "Is it so?"]
)
def test_a_shuffle_keeps_the_words_and_the_closing_mark(text):
    rng = np.random.default_rng(0)
    out = floors._shuffle(text, rng)
    assert out != text
    last = text[-1] if text[-1] in ".?。" else ""
    assert out.endswith(last)
    split = (lambda s: s.removesuffix(last).split(" ")) if " " in text else list
    assert Counter(split(out)) == Counter(split(text))


def test_a_shuffle_is_seeded():
    texts = [t for _, t in floor_pack(20).sentences]

    def all_of(seed):
        rng = np.random.default_rng(seed)
        return [floors._shuffle(t, rng) for t in texts]

    assert all_of(1) == all_of(1) != all_of(2)
    a, b = (measure(floor_pack(20), noisy(), seed=s).rows for s in (1, 1))
    assert a.equals(b) and not a.equals(measure(floor_pack(20), noisy(), seed=2).rows)


def test_what_cannot_be_shuffled_is_no_win():
    assert floors._shuffle("so so so.", np.random.default_rng(0)) == "so so so."


def test_too_few_sentences_are_no_floor():
    _, finding = verdict(ordered, floor_pack(99))
    assert finding.status is Status.INVALID and "99 sentences" in finding.reason
    m, finding = verdict(ordered, max_tokens=8)
    assert finding.status is Status.INVALID and finding.n_skipped == 120
    assert set(m.rows["skipped"]) == {"longer than 8 tokens"}


def test_a_tokenizer_that_knows_nothing_is_below_the_floor():
    _, finding = verdict(noisy(), pieces=lambda word: ["<unk>"])
    assert finding.status is Status.INVALID and finding.details["wins"] == 0


@pytest.mark.filterwarnings("ignore:invalid value:RuntimeWarning")
def test_scores_that_are_no_numbers_are_below_the_floor():
    _, finding = verdict(lambda *a: float("nan"))
    assert finding.status is Status.INVALID and finding.n == 0 and finding.n_skipped == 120
