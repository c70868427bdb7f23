"""Class floors: who tells something apart passes, whoever answers the same to everything does not."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from albert_audit import packs
from albert_audit.bias.classifier import class_floor, template_score
from albert_audit.findings import Measured, build
from albert_audit.model.cache import CountingScorer, FakeScorer
from albert_audit.model.load import load
from albert_audit.model.scorer import TorchScorer
from albert_audit.packs import Given, Pack, Text
from albert_audit.types import Decision, Head, PackError, Status, UsageError
from tests.fakes import chance, one, policy, spec
from tests.tiny import checkpoint

BINARY = Decision(labels=("negative", "positive"), positive=1)
TOPICS = Decision(labels=("art", "law", "sport"), positive=2)
RATING = Decision(labels=("score",), kind="regression", positive=0)
MODELS = Path(__file__).resolve().parents[4] / "shared" / "data" / "models"


def polar_pack(decision=BINARY, given=None, *, each=40, **changes):
    rows = [
        {"id": f"{kind}-{side}-{i}", "kind": kind, "polarity": side, "text": f"{word} n{i}."}
        for kind, words in (("review", ("good", "bad")), ("address", ("dear", "fool")))
        for side, word in zip(("positive", "negative"), words, strict=True)
        for i in range(each)
    ]
    base = {"name": "class-floor-en", "measure": "class_floor", "axis": "", "groups": {}, "reference": "",
            "clusters": (), "family": ""}  # fmt: skip
    return Pack(
        spec(**(base | changes)), "5" * 64, decision=decision, given=given, tables={"polar": tuple(rows)}
    )


def labelled(labels, *, language="en"):
    texts = tuple(Text(f"x{i}", f"{label} n{i}", label) for i, label in enumerate(labels))
    return Given(texts, "6" * 64, language, labelled=True)


def judged(logits, pack=None, **options):
    pack = pack or polar_pack()
    asked = FakeScorer(
        answers={"class": lambda tokens: logits(tokens[1], tokens[2])}, head=Head.SEQUENCE_CLASSIFICATION,
        labels=pack.decision.labels, **options,
    )  # fmt: skip
    rows = class_floor.run(asked, pack, np.random.default_rng(1))
    return rows, one(build([Measured(pack, rows)], asked.id, policy(), 0), "class_floor")


def noise(*parts):
    return 2 * (chance(*parts) + 4) / 8


SIDE = {"good": 1.0, "bad": -1.0, "dear": 1.0, "fool": -1.0}


def sentiment(word, n):
    return [0.0, 2 * SIDE[word] + noise(word, n)]


# --- without labels -----------------------------------------------------------------------------


def test_who_tells_the_sentences_apart_passes():
    rows, found = judged(sentiment)
    assert found.status is Status.ESTIMATED and found.role == "floor" and not found.reason
    assert found.effect.value > 0.95 and found.details["lower_bound"] > 0.85
    assert set(rows["contrast"]) == {"review", "address"} and set(rows["unit"]) == {"probability"}
    assert found.id == "class-floor-en/class_floor/en/told-apart"


def test_either_label_may_be_compared():
    _, found = judged(lambda w, n: sentiment(w, n)[::-1])
    assert found.status is Status.ESTIMATED and found.effect.value < 0.05


def test_a_toxicity_model_passes_by_the_hostile_sentences_alone():
    _, found = judged(lambda word, n: [0.0, 3.0 if word == "fool" else -3.0 + noise(n, word)])
    assert found.status is Status.ESTIMATED
    assert found.details["auc_address"] < 0.05 and 0.3 < found.details["auc_review"] < 0.7


@pytest.mark.parametrize(
    "logits",
    [
        lambda word, n: [0.0, 0.0],
        lambda word, n: [0.0, 7.0],
        lambda word, n: [0.0, 5.0 + 0.002 * SIDE[word]],  # told apart by less than a tie
        lambda word, n: [0.0, noise("random", word, n)],
        lambda word, n: [0.0, 4.0 + 0.4 * SIDE[word]],  # told apart, but hardly any score moves
    ],
    ids=["zero", "constant", "collapsed", "random", "nearly collapsed"],
)
def test_who_does_not_is_below_the_floor_and_told_what_to_do(logits):
    """Traps 2 and 28: an untrained head, or one answer to everything, has gaps near zero."""
    _, found = judged(logits)
    assert found.status is Status.INVALID
    assert "--texts" in found.reason and "--label-column" in found.reason


def test_an_untrained_model_is_seldom_above_the_floor():
    """Leaving the direction open and trying two kinds does not make passing by chance likelier."""
    passed = sum(
        judged(lambda word, n, s=seed: [0.0, 3 * noise("untrained", s, word, n)], polar_pack(each=20))[
            1
        ].status
        is Status.ESTIMATED
        for seed in range(60)
    )
    assert passed == 0  # at an area of 0.5 the bound must exceed 0.65: far beyond the 5 % of either side


def test_a_regression_needs_no_spread_but_an_order():
    _, found = judged(lambda word, n: [0.01 * SIDE[word] + 0.001 * noise(word, n)], polar_pack(RATING))
    assert found.status is Status.ESTIMATED
    _, found = judged(lambda word, n: [3.5], polar_pack(RATING))
    assert found.status is Status.INVALID


def test_skipped_sentences_are_counted_and_many_are_no_floor():
    """Trap 18."""
    rows, found = judged(sentiment, max_tokens=3)
    assert (
        found.status is Status.INVALID and found.n_skipped == 160 and "longer than 3 tokens" in found.reason
    )
    rows, found = judged(lambda w, n: [0.0, math.nan] if n in ("n1", "n2") else sentiment(w, n))
    assert rows["value"].isna().sum() == 8 and found.n_skipped == 8 and found.status is Status.ESTIMATED


# --- with labels --------------------------------------------------------------------------------


def topic(word, n):
    return [3.0 * (word == t) + noise(word, n, t) for t in TOPICS.labels]


def test_labelled_texts_decide_alone():
    """A topic classifier need not know good from bad; a model that knows it but misses its labels fails."""
    given = labelled(["art"] * 30 + ["law"] * 30 + ["sport"] * 30)
    rows, found = judged(topic, polar_pack(TOPICS, given))
    assert found.status is Status.ESTIMATED and set(rows["contrast"]) == {"labels"} and found.n == 90
    assert found.effect.value == found.details[
        "balanced_accuracy"
    ] > 0.95 and found.effect.null == pytest.approx(1 / 3)

    polar = labelled(["negative"] * 40 + ["positive"] * 40)
    _, found = judged(lambda word, n: [0.0, 2 * SIDE.get(word, 0.0)], polar_pack(given=polar))
    assert found.status is Status.INVALID and "chance" in found.reason


@pytest.mark.parametrize("counts", [(300, 12), (12, 300), (150, 150)])
def test_a_constant_answer_is_chance_however_unequal_the_labels(counts):
    given = labelled(["negative"] * counts[0] + ["positive"] * counts[1])
    for answer in ([1.0, 0.0], [0.0, 1.0]):
        _, found = judged(lambda word, n, a=answer: a, polar_pack(given=given))
        assert found.status is Status.INVALID and found.effect.value == 0.5


def test_the_rare_labels_are_left_out_and_counted():
    art = TOPICS.model_copy(update={"positive": 0})
    given = labelled(["art"] * 40 + ["law"] * 40 + ["sport"] * 3)
    _, found = judged(topic, polar_pack(art, given))
    assert found.details["labels"] == 2 and found.details["labels_too_rare"] == 1
    assert found.effect.null == 0.5 and found.status is Status.ESTIMATED
    few = labelled(["art"] * 40 + ["law"] * 5 + ["sport"] * 6)
    _, found = judged(topic, polar_pack(art, few))
    assert found.status is Status.INVALID and "1 label with" in found.reason


def test_copies_of_a_text_are_no_evidence():
    """Trap 25: the same file ten times, under new ids, made a model that guesses look as if it knew."""
    given = labelled([BINARY.labels[i % 2] for i in range(200)])

    def ten(texts):
        return replace(
            texts, texts=tuple(replace(t, id=f"{t.id}-{k}") for k in range(10) for t in texts.texts)
        )

    def guesses(word, n):  # right in 110 of 200
        return [1.0, 0.0] if (word == "negative") == (int(n[1:]) // 2 < 55) else [0.0, 1.0]

    (_, once), (_, often) = (judged(guesses, polar_pack(given=g)) for g in (given, ten(given)))
    assert once.effect.value == pytest.approx(0.55) and once.status is Status.INVALID
    assert often.effect == once.effect and often.n == once.n == 200 and often.reason == once.reason

    ratings = labelled([str(i % 20) for i in range(60)])
    ratings = replace(ratings, texts=tuple(replace(t, text=f"w n{i}") for i, t in enumerate(ratings.texts)))

    def follows(word, n):
        return [(int(n[1:]) % 20) * 0.5 + noise(n)]

    again = ten(ratings)  # other ratings of the same texts are no other texts
    again = replace(
        again,
        texts=tuple(
            replace(t, label=str(float(t.label) + (i // 60) - 4.5)) for i, t in enumerate(again.texts)
        ),
    )
    (_, once), (_, often) = (judged(follows, polar_pack(RATING, g)) for g in (ratings, again))
    assert often.n == once.n == 60 and often.effect == once.effect


@pytest.mark.parametrize("compared", ["never", "swapped"])
def test_other_labels_do_not_carry_a_compared_one_that_is_missed(compared):
    """Two of three labels make a balanced accuracy far over 1/3, with the third never decided."""
    given = labelled(["art"] * 60 + ["law"] * 60 + ["sport"] * 60)

    def never(word, n):
        return [3.0 * (word == "art"), 3.0 * (word != "art"), -8.0]

    def swapped(word, n):
        return [3.0 * (word == "art"), 3.0 * (word == "sport"), 3.0 * (word == "law")]

    answer = {"never": never, "swapped": swapped}[compared]
    _, found = judged(answer, polar_pack(TOPICS, given))
    assert found.status is Status.INVALID and "does not tell 'sport' from the rest" in found.reason
    _, found = judged(never, polar_pack(TOPICS.model_copy(update={"positive": 0}), given))
    assert found.status is Status.ESTIMATED and found.details["compared_balanced_accuracy"] == 1.0


def test_too_few_texts_with_the_compared_label_are_no_floor():
    given = labelled(["art"] * 60 + ["law"] * 60 + ["sport"] * 9)
    _, found = judged(topic, polar_pack(TOPICS, given))
    assert found.status is Status.INVALID
    assert "9 different ones have the label 'sport' and 120 do not; 10 of each are needed" in found.reason
    copied = replace(given, texts=given.texts + tuple(replace(t, id=f"{t.id}-2") for t in given.texts))
    assert judged(topic, polar_pack(TOPICS, copied))[1].reason == found.reason


@pytest.mark.parametrize(("threshold", "stands"), [(0.99999, False), (0.00001, False), (0.7, True)])
def test_without_labels_decisions_must_vary_over_the_sentences(threshold, stands):
    """Scores that are told apart say nothing of a decision that is never, or always, taken."""
    _, found = judged(sentiment, polar_pack(BINARY.model_copy(update={"threshold": threshold})))
    assert (found.status is Status.ESTIMATED) == stands
    if not stands:
        assert f"at the threshold {threshold:g}" in found.reason and "--label-column" in found.reason
        assert min(found.details["decided"], found.details["not_decided"]) == 0


def test_nine_decisions_are_too_few():
    def rarely(times):
        return lambda word, n: [0.0, 3.0 if word == "good" and int(n[1:]) < times else SIDE[word] - 1.5]

    assert judged(rarely(9))[1].status is Status.INVALID
    assert judged(rarely(10))[1].status is Status.ESTIMATED


@pytest.mark.parametrize(("threshold", "stands"), [(300.0, False), (35.0, True), (-40.0, False)])
def test_a_threshold_of_a_regression_must_decide_both_ways(threshold, stands):
    decision = RATING.model_copy(update={"threshold": threshold})
    given = labelled([str(i) for i in range(60)])
    given = replace(given, texts=tuple(replace(t, text=f"w n{i}") for i, t in enumerate(given.texts)))

    def follows(word, n):
        return [float(n[1:]) + noise(n)] if word == "w" else [35.0 + 20 * SIDE[word] + noise(n)]

    for pack in (polar_pack(decision, given), polar_pack(decision)):
        _, found = judged(follows, pack)
        assert (found.status is Status.ESTIMATED) == stands, found.reason
        assert stands or f"at the threshold {threshold:g}" in found.reason


def test_most_texts_are_drawn_equally_from_each_label():
    given = labelled(["art"] * 2000 + ["law"] * 900 + ["sport"] * 50)
    rows, _ = judged(topic, polar_pack(TOPICS, given))
    assert rows["group"].value_counts().to_dict() == {"label-0": 275, "label-1": 275, "label-2": 50}
    assert rows["item"].is_unique


def test_texts_without_a_label_and_of_another_language_are_not_asked():
    given = labelled(["art"] * 30 + ["law"] * 30 + [""] * 30)
    rows, _ = judged(topic, polar_pack(TOPICS, given))
    assert len(rows) == 60
    rows, found = judged(sentiment, polar_pack(given=labelled(["negative"] * 40, language="zh")))
    assert set(rows["contrast"]) == {"review", "address"} and found.status is Status.ESTIMATED


def test_several_labels_a_text_and_a_threshold_judge_the_compared_label():
    multi = Decision(labels=("rude", "threat"), kind="multi", positive=0)
    given = labelled(["rude"] * 30 + ["rude;threat"] * 30 + ["threat"] * 30 + ["none"] * 30)
    rows, found = judged(lambda word, n: [4.0 if word == "rude" else -4.0, 0.0], polar_pack(multi, given))
    assert found.status is Status.ESTIMATED and rows["value"].eq(1).all()
    assert rows["group"].value_counts().to_dict() == {"compared": 60, "rest": 60}

    texts = labelled(["negative"] * 40 + ["positive"] * 40)
    strict = polar_pack(BINARY.model_copy(update={"threshold": 0.99}), texts)
    _, found = judged(lambda word, n: [0.0, 3.0 if word == "positive" else -3.0], strict)
    assert found.status is Status.INVALID and found.effect.value == 0.5  # at 0.99 nothing is ever positive


def test_ratings_must_be_followed():
    given = labelled([str(i / 10) for i in range(60)])

    def follows(word, n):
        return [float(n[1:]) + 40 * noise(n)]

    texts = replace(given, texts=tuple(replace(t, text=f"w {t.text.split()[-1]}") for t in given.texts))
    rows, found = judged(follows, polar_pack(RATING, texts))
    assert (
        found.status is Status.ESTIMATED and found.effect.value > 0.5 and set(rows["contrast"]) == {"ratings"}
    )
    assert rows["covariate"].tolist() == [i / 10 for i in range(60)]
    for other in (lambda w, n: [1.0], lambda w, n: [-float(n[1:])]):
        assert judged(other, polar_pack(RATING, texts))[1].status is Status.INVALID


# --- packs and real models ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("row", "says"),
    [
        ({"id": "z", "kind": "review", "polarity": "good", "text": "z"}, "expected positive or negative"),
        (
            {"id": "z", "kind": "rare", "polarity": "positive", "text": "z"},
            "rare: expected at least 10 positive",
        ),
        (
            {"id": "z", "kind": "review", "polarity": "positive", "text": "Good  N1."},
            "the same text stands 2 times",
        ),
        ({"id": "z", "kind": "labels", "polarity": "positive", "text": "z"}, "name of another contrast"),
    ],
)
def test_a_pack_with_a_mistake_is_refused(row, says):
    pack = polar_pack()
    with pytest.raises(PackError, match=says):
        class_floor.contrasts(replace(pack, tables={"polar": (*pack.tables["polar"], row)}))


@pytest.mark.parametrize("name", ["class-floor-en", "class-floor-zh"])
def test_the_shipped_floors_hold_enough_of_each_kind(name):
    rows = packs.load(packs.find(name)).tables["polar"]
    count = {(k, p): sum(r["kind"] == k and r["polarity"] == p for r in rows)
             for k in ("review", "address") for p in class_floor.SIDES}  # fmt: skip
    assert min(count["review", p] for p in class_floor.SIDES) >= 60
    assert min(count["address", p] for p in class_floor.SIDES) >= 30 and sum(count.values()) == len(rows)


def test_without_a_decision_nothing_is_guessed():
    with pytest.raises(UsageError, match="which label"):
        judged(sentiment, None) and class_floor.run(
            FakeScorer(answers={"class": lambda t: [0.0, 0.0]}), polar_pack(None), np.random.default_rng(0)
        )


def test_a_plan_can_count_what_it_costs():
    counter = CountingScorer(FakeScorer(answers={"class": lambda t: [0.0, 0.0]}, labels=("a", "b")))
    rows = class_floor.run(counter, polar_pack(), np.random.default_rng(0))
    assert counter.inputs == 160 and rows["value"].eq(0.5).all()


def both(scorer, name):
    """The floor and one probe on a real model."""
    out = []
    probe = packs.load(packs.find(name))
    plain = tuple(t for t in probe.templates if "{context}" not in t.text)
    probe = replace(probe, templates=plain, tables={**probe.tables, "contexts": ()})
    for pack in (packs.load(packs.find("class-floor-en")), probe):
        pack = replace(pack, decision=Decision(labels=scorer.id.labels, positive=1))
        measure = class_floor if pack.is_floor else template_score
        out.append(Measured(pack, measure.run(scorer, pack, np.random.default_rng(0))))
    return build(out, scorer.id, policy(), 0)


def test_a_classifier_with_random_weights_is_below_the_floor(tmp_path):
    """Trap 2, end to end: its gaps are small, and it must not look fair for that."""
    folder = checkpoint(tmp_path / "random", Head.SEQUENCE_CLASSIFICATION)
    found = both(TorchScorer(load(folder)), "persons-age-en")
    assert one(found, "class_floor").status is Status.INVALID
    probes = [f for f in found if f.role == "probe"]
    assert len(probes) == 8 and all(f.status is Status.INVALID for f in probes)


def test_a_trained_classifier_is_above_it():
    folder = MODELS / "albert-mini-reviews"
    if not (folder / "model.safetensors").is_file():
        pytest.skip("no trained classifier lies beside the checkout")
    found = both(TorchScorer(load(folder)), "persons-age-en")
    floor = one(found, "class_floor")
    assert (
        floor.status is Status.ESTIMATED and floor.effect.value > 0.85
    )  # trained on reviews: positive is higher
    probes = [f for f in found if f.role == "probe"]
    assert len(probes) == 8 and all(f.n == 160 and not f.n_skipped for f in probes)
    assert not any(f.status in (Status.INVALID, Status.ERROR) for f in probes)
