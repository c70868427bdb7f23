"""The floor of taggers: what passes, and each way in which a tagger is not one."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from albert_audit import packs, resources
from albert_audit.bias.tagger import name_swap, tag_floor
from albert_audit.findings import build
from albert_audit.types import Status
from tests.bias.tagger.test_name_swap import floor_pack, is_name, perfect, tagger
from tests.fakes import chance, measure, policy


def judged(model, pack=None):
    (finding,) = build([measure(pack or floor_pack(), model)], model.id, policy(), 0)
    return finding


def test_a_tagger_that_works_passes_and_its_figures_are_shown():
    f = judged(tagger())
    assert f.status is Status.ESTIMATED and f.role == "floor" and not f.gates
    assert f.id == "tag-floor-en/tag_floor/en/names-vs-none" and f.n == 12 * 20 + 60
    assert f.details["f1_exact"] == f.details["precision_exact"] == f.details["recall_exact"] == 1.0
    assert f.details["false_alarms"] == 0.0 and f.effect.value == 1.0
    # Perfect on 12 sentences and 20 names is no certain 1, and none in 60 sentences no certain 0.
    assert 0.5 < f.details["recall_lower_bound"] < 0.9
    assert 0.03 < f.details["false_alarms_upper_bound"] < 0.1


@pytest.mark.parametrize(
    ("rule", "why"),
    [
        (lambda tokens, at: "O", "finds 0.00"),
        (lambda tokens, at: "B-PER", "where there are none"),
        (lambda tokens, at: "I-PER", "where there are none"),
        (lambda tokens, at: perfect(tokens, at).replace("PER", "LOC"), "finds 0.00"),
        (lambda tokens, at: perfect(tokens, at) if int(tokens[1][1:]) < 6 else "O", "finds 0.50"),
        (lambda tokens, at: "B-PER" if tokens[at] in ("road", "was") else perfect(tokens, at), "tags 0.29"),
    ],
)
def test_a_tagger_that_does_not_is_invalid_and_says_why(rule, why):
    f = judged(tagger(rule))
    assert f.status is Status.INVALID and why in f.reason


def test_one_that_tags_everything_has_full_recall_and_is_still_invalid():
    """The trap: by recall alone this one would be the best tagger."""
    f = judged(tagger(lambda tokens, at: "I-PER"))
    assert f.effect.value == 1.0 and f.status is Status.INVALID and f.details["f1_exact"] == 0.0


def test_figures_are_those_counted_over_all_spans():
    def rule(tokens, at):
        if is_name(tokens[at]) and chance(tokens[1], tokens[at][4:]) < -7:
            return "O"
        return (
            "B-PER"
            if tokens[at] == "noon" or (tokens[at] == "wet" and chance(tokens[1]) < -7)
            else perfect(tokens, at)
        )

    f = judged(tagger(rule))
    hits = sum(chance(f"f{i}", f"{j}") >= -7 for i in range(12) for j in range(20))
    alarms = 240 + sum(chance(f"w{i}") < -7 for i in range(60))
    precision, recall = hits / (hits + alarms), hits / 240
    assert f.details["precision_exact"] == pytest.approx(precision)
    assert f.details["recall_exact"] == pytest.approx(recall)
    assert f.details["f1_exact"] == pytest.approx(2 * precision * recall / (precision + recall))


def test_too_few_items_vouch_for_nothing():
    few = judged(tagger(), floor_pack(sentences=30))
    assert few.status is Status.INVALID and "30 sentences" in few.reason
    short = judged(tagger(max_tokens=8))  # no sentence fits
    assert short.status is Status.INVALID and "longer than 8 tokens" in short.reason
    assert short.n == 0 and short.n_skipped == 300


def test_many_sentences_of_few_names_are_not_many_names():
    """Trap 25: recall differs between names; repeating sentences must not narrow its bound."""

    def rule(tokens, at):
        name = next((t for t in tokens if t.startswith("refa")), "refa0")
        return perfect(tokens, at) if int(name[4:]) < 13 else "O"

    f = judged(tagger(rule), floor_pack(templates=60))
    assert f.effect.value == pytest.approx(13 / 20)
    assert f.details["recall_lower_bound"] < 0.5 and f.status is Status.INVALID


@pytest.mark.parametrize("language", ["en", "zh"])
def test_the_shipped_packs_are_large_enough_and_name_nobody_twice(language):
    pack = packs.load(resources.probes() / f"tag-floor-{language}")
    forms = [r["form"] for r in pack.tables["names"]]
    assert len(forms) * len(pack.templates) >= 1.5 * tag_floor.NAMES and len(forms) >= 20
    assert len(pack.sentences) >= 1.4 * tag_floor.SENTENCES
    probes = [packs.load(resources.probes() / f"names-{axis}-{language}") for axis in ("ethnicity", "gender")]
    for _, text in pack.sentences:
        assert not any(f in text for f in forms)
        inside = text[0].lower() + text[1:]
        if language == "en":  # capitals stand only at the beginning
            assert inside == inside.lower(), text
    probed = {r["form"] for p in probes for rows in name_swap.groups(p).values() for r in rows}
    assert probed.isdisjoint(forms)
    assert Counter(t.text for t in pack.templates).most_common(1)[0][1] == 1


def test_rows_of_sentences_count_words_without_marks():
    model = tagger(lambda tokens, at: "B-PER" if tokens[at] in (".", "road") else "O")
    rows = tag_floor.run(model, floor_pack(), np.random.default_rng(0))
    alarms = rows[rows["group"] == "alarms"]
    assert len(alarms) == 60  # w0 the road was long and wet .
    np.testing.assert_allclose(alarms["value"], 1 / 7)
