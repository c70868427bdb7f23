"""Encoder floors: who tells sentences apart passes; the constant, the random and the collapsed do not."""

from __future__ import annotations

import numpy as np
import pytest

from albert_audit import packs
from albert_audit.bias.encoder import encoder_floor
from albert_audit.findings import build
from albert_audit.model.cache import CountingScorer, FakeScorer
from albert_audit.packs import Pack
from albert_audit.types import Head, PackError, Status
from tests.fakes import chance, floor_pack, measure, one, policy


def pack(name: str = "encoder-floor-en") -> Pack:
    return packs.load(packs.find(name))


def scorer(mean, **options) -> FakeScorer:
    return FakeScorer(answers={"mean": mean}, head=Head.ENCODER, **options)


def bag(tokens):
    """The sum of the words' vectors."""
    return sum(np.array([chance(t, k) + 4 for k in range(60)]) for t in tokens[1:-1])


def noise(tokens):
    return np.array([chance(tokens, k) + 4 for k in range(60)])


def verdict(mean, **options):
    m = measure(pack(), scorer(mean, **options))
    return m, one(build([m], scorer(mean).id, policy(), 0), "encoder_floor")


def test_a_bag_of_words_is_above_the_floor():
    """What the floor cannot see: word order. The README says so."""
    m, finding = verdict(bag)
    assert finding.status is Status.ESTIMATED and finding.role == "floor" and finding.n == 110
    assert finding.effect.value > 0.9 and finding.effect.null == pytest.approx(0.1)
    assert finding.id == "encoder-floor-en/encoder_floor/en/own-vs-other"
    assert m.rows["covariate"].between(-1, 1).all()


@pytest.mark.parametrize(
    ("mean", "said"),
    [
        (lambda tokens: np.ones(60), "collapsed"),
        (lambda tokens: np.zeros(60), "lower bound"),
        (noise, "lower bound"),
        (lambda tokens: 1e4 + bag(tokens), "collapsed"),
        # Far enough apart, but by their length only.
        (lambda tokens: np.eye(60)[len(tokens)], "lower bound"),
    ],
    ids=["constant", "zero", "random", "narrow", "length"],
)
def test_what_cannot_tell_sentences_apart_is_below_it(mean, said):
    """Trap 29, for encoders: a broken model must not look as if it had no association."""
    _, finding = verdict(mean)
    assert finding.status is Status.INVALID and said in finding.reason


def test_random_answers_win_one_time_in_ten():
    _, finding = verdict(noise)
    assert 2 <= finding.details["wins"] <= 24


def test_a_value_is_the_own_paraphrase_less_the_best_of_nine():
    m, _ = verdict(bag)
    made = pack()
    again = {r["id"]: r["text"] for r in made.tables["paraphrases"]}

    def vector(text):
        v = bag(("[CLS]", *text.lower().replace(",", " ,").replace(".", " .").split(), "[SEP]"))
        return (v.astype(np.float32) / np.linalg.norm(v)).astype(float)

    plain = np.array([vector(t) for _, t in made.sentences])
    changed = np.array([vector(again[i]) for i, _ in made.sentences])
    rng = np.random.default_rng([0, *b"measure/encoder-floor-en"])
    for k, value in enumerate(m.rows["value"][:5]):
        others = rng.choice(np.delete(np.arange(110), k), 9, replace=False)
        assert value == pytest.approx(
            plain[k] @ changed[k] - max(plain[k] @ changed[j] for j in others), abs=1e-5
        )


def test_too_few_scored_sentences_vouch_for_nothing():
    m, finding = verdict(bag, max_tokens=14)
    assert finding.status is Status.INVALID and "100 are needed" in finding.reason and finding.n_skipped > 10
    assert set(m.rows.loc[m.rows["value"].isna(), "skipped"]) == {"longer than 14 tokens"}


def test_zero_answers_are_survived():
    rows = encoder_floor.run(CountingScorer(scorer(bag)), pack(), np.random.default_rng(0))
    assert (rows["value"] == 0).all() and len(rows) == 110


def test_a_sentence_without_a_paraphrase_is_refused():
    made = floor_pack(3)
    lone = Pack(
        made.spec, made.sha256, sentences=made.sentences, tables={"paraphrases": ({"id": "s0", "text": "x"},)}
    )
    with pytest.raises(PackError, match="found 's1' in one of them only"):
        encoder_floor.contrasts(lone)


@pytest.mark.parametrize("name", ["encoder-floor-en", "encoder-floor-zh"])
def test_the_shipped_paraphrases_differ_from_their_sentences(name):
    made = pack(name)
    again = {r["id"]: r["text"] for r in made.tables["paraphrases"]}
    assert encoder_floor.contrasts(made) and len(made.sentences) >= encoder_floor.SENTENCES
    assert len({*again.values(), *(t for _, t in made.sentences)}) == 2 * len(again)
