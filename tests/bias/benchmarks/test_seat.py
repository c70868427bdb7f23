"""The loader of sent-bias files: d as published, words found again, clear errors."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest

from albert_audit.bias.benchmarks import seat
from albert_audit.bias.encoder import word_sets
from albert_audit.findings import build
from albert_audit.model.cache import FakeScorer
from albert_audit.types import Head, UsageError
from tests.fakes import chance, measure, policy

FRAMES = ("This is {}.", "That is {}.", "{} is here.", "The person's name is {}.")
SETS = {
    "targ1": ("OldNames", ["Agda", "Bodil", "Cato", "Dagny", "Egil", "Frode"]),
    "targ2": ("NewNames", ["Ames", "Bix", "Cody", "Dex", "Enzo"]),
    "attr1": ("Stone", ["a slab", "a cobble", "gravel"]),
    "attr2": ("Water", ["a brook", "a pond", "rain", "foam"]),
}  # fmt: skip


def write(folder, name="sent-toy1", **changes):
    folder.mkdir(exist_ok=True)
    data = {
        k: {"category": c, "examples": [f.format(w) for w in words for f in FRAMES]}
        for k, (c, words) in SETS.items()
    }
    path = folder / f"{name}.jsonl"
    path.write_text(json.dumps(data | changes), encoding="utf-8")
    return path


def _all(value):
    return dict.fromkeys(SETS, value)


def vector(tokens):
    return np.array(
        [2.5 + sum(chance(t, k) / 8 for t in tokens) / len(tokens) + chance(tokens, k) / 40 for k in range(5)]
    )


SCORER = FakeScorer(answers=dict.fromkeys(("mean", "cls", "pooler"), vector), head=Head.ENCODER)


def published(path):
    """d as sent-bias computes it: every sentence an element, cosines in double, ddof 1 over X and Y."""
    data = json.loads(path.read_text())
    encs = {
        k: {text: SCORER.embeddings([text], pool="mean")[0].astype(float) for text in data[k]["examples"]}
        for k in SETS
    }

    def cossim(x, y):
        return np.dot(x, y) / math.sqrt(np.dot(x, x) * np.dot(y, y))

    def s(w):
        a, b = (np.mean([cossim(w, v) for v in encs[k].values()]) for k in ("attr1", "attr2"))
        return a - b

    x, y = ([s(w) for w in encs[k].values()] for k in ("targ1", "targ2"))
    return (np.mean(x) - np.mean(y)) / np.std(x + y, ddof=1)


def test_d_is_that_of_sent_bias_and_the_words_are_the_clusters(tmp_path):
    """Traps 22 and 23: unequal sets; sentences are the elements of d, words the clusters of its interval."""
    path = write(tmp_path)
    pack = seat.load(path)
    m = measure(pack, SCORER)
    found = {f.measure: f for f in build([m], SCORER.id, policy(), 0)}
    d = found["association_d"]
    assert d.effect.value == pytest.approx(published(path), abs=1e-4)
    assert d.id == "seat/association_d/sent-toy1/old-names-stone-vs-new-names-water"
    assert d.n == 44 and [c.count for c in d.clusters] == [11] and d.effect.df < 10 and not d.gates
    assert d.details["partitions"] == math.comb(11, 6)  # words are exchanged, not 44 sentences


def test_a_folder_is_one_test_a_file_and_repeated_sentences_count_once(tmp_path):
    folder = tmp_path / "tests"
    one = write(folder)
    doubled = json.loads(one.read_text())["targ1"]
    doubled["examples"] = doubled["examples"] * 2
    write(folder, "weat1+3-", targ1=doubled)
    write(folder, "weat1")
    pack = seat.load(folder)
    assert [t.axis for t in word_sets.tests(pack)] == ["sent-toy1", "weat1-plus-3-minus", "weat1"]
    assert len({r["id"] for r in pack.tables["words"]}) == len(pack.tables["words"]) == 3 * 72
    assert pack.sha256 != seat.load(one).sha256
    assert pack.spec.title == "SEAT and WEAT: 216 examples of 3 files, not compared with the published"
    assert seat.load(one).spec.title.startswith("SEAT and WEAT: 72 examples of 1 file, not compared")


@pytest.mark.parametrize(
    ("sentence", "expected"),
    [
        ("This is a rose.", "rose"),
        ("Those are roses.", "rose"),
        ("The person's name is Amy.", "amy"),
        ("African Americans are people.", "african american"),
        ("There is a pansy.", "pansy"),
        ("Pansies are things.", "pansy"),
        ("Here is a cockroach.", "cockroach"),
        ("The cockroaches are here.", "cockroach"),
        ("This is a person.", "this is a person"),
        ("brother", "brother"),
    ],
)
def test_the_word_of_a_sentence_is_what_its_frame_leaves(sentence, expected):
    assert seat.word(sentence) == expected


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{", "not one JSON object"),
        ("[]", "lacks some of"),
        (json.dumps({"targ1": {}, "targ2": {}, "attr1": {}}), "lacks some of"),
        (json.dumps(_all({"category": "x", "examples": [1]})), "examples that are texts"),
        (json.dumps(_all({"category": "", "examples": ["a"]})), "a category and a list"),
        (
            json.dumps(_all({"category": "x", "examples": ["[MASK]"]})),
            "token of the model",
        ),
        (json.dumps(_all(["a"])), "a category and a list"),
    ],
)
def test_other_files_are_refused(tmp_path, text, said):
    path = tmp_path / "x.jsonl"
    path.write_text(text)
    with pytest.raises(UsageError, match=said) as caught:
        seat.load(path)
    assert "Error" not in caught.value.message, "words of Python"


def test_a_file_or_folder_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(UsageError, match="cannot read"):
        seat.load(tmp_path / "none.jsonl")
    with pytest.raises(UsageError, match="holds no"):
        seat.load(tmp_path)
    write(tmp_path, "a+b")
    write(tmp_path, "a-plus-b")
    with pytest.raises(UsageError, match="two files"):
        seat.load(tmp_path)
