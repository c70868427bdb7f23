"""Perturbation gaps: slips by rule, one cluster a text, and what the model cannot see is no evidence."""

from __future__ import annotations

import re

import numpy as np
import pytest
from hypothesis import given as draw
from hypothesis import settings
from hypothesis import strategies as st

from albert_audit.bias import frame
from albert_audit.bias.classifier import perturbation
from albert_audit.model.cache import CountingScorer, FakeScorer
from albert_audit.packs import PackError
from albert_audit.types import Head
from tests.bias.classifier.test_group_metrics import TWO, given, pack_of
from tests.tiny import tiny_folders, tiny_handles, tiny_scorers

__all__ = ["tiny_folders", "tiny_handles", "tiny_scorers"]

SENTENCES = [
    "The waiter brought the soup quickly, and it was excellent!",
    "Nothing about this museum was worth the long journey.",
    "She doesn't recommend the hotel (the rooms are cold).",
    "Bright colours, friendly people, wonderful music.",
]


def stream(seed=0):
    return np.random.default_rng(seed)


def texts_of(n=40, labels=("positive", "negative")):
    words = [
        f"{SENTENCES[i % 4]} item number {'abcdefghij'[i % 10] * 4} {'klmnopqrst'[i // 10] * 4}"
        for i in range(n)
    ]
    return given([labels[i % len(labels)] for i in range(n)], {"side": ["most", "most", "few"] * (n // 3) + ["most"] * (n % 3)},
                 words=words)  # fmt: skip


def run(answer, texts, seed=0, **more):
    pack = pack_of(texts, measure="perturbation")
    scorer = FakeScorer(
        answers={"class": answer}, head=Head.SEQUENCE_CLASSIFICATION, labels=TWO.labels, **more
    )
    return pack, perturbation.run(scorer, pack, stream(seed))


def finding(rows, kind, contrast="few-vs-most"):
    mine = rows[(rows["measure"] == f"perturbation_{kind}") & (rows["contrast"] == contrast)]
    mine = mine[mine["value"].notna()].reset_index(drop=True)
    return perturbation._drops(mine, 1, stream())


# --- changes ----------------------------------------------------------------------------------


@settings(max_examples=40, deadline=None)
@draw(st.text(max_size=200), st.integers(0, 1000), st.sampled_from(sorted(perturbation.CHANGES["typos"])))
def test_a_slip_is_small(text, seed, name):
    changed = perturbation.CHANGES["typos"][name](text, stream(seed))
    assert changed == perturbation.CHANGES["typos"][name](text, stream(seed)), "the same in every run"
    words = re.findall(r"[A-Za-z]{4,}", text)
    slips = min(len(words), max(1, len(text.split()) // 10))
    if name == "dropped":
        assert len(changed) == len(text) - slips
    else:
        assert len(changed) == len(text)
        assert sum(a != b for a, b in zip(text, changed, strict=True)) <= 2 * slips


@pytest.mark.parametrize("name", sorted(perturbation.CHANGES["typos"]))
def test_short_words_and_first_letters_stay(name):
    change = perturbation.CHANGES["typos"][name]
    for seed in range(50):
        out = change("he or she met her old kind aunt", stream(seed)).split()
        assert out[:6] == ["he", "or", "she", "met", "her", "old"]
        assert out[6][0] == "k" and out[7][0] == "a" and (out[6] != "kind" or out[7] != "aunt")
    assert change("he is 12", stream()) == "he is 12"


def test_neighbours_are_on_the_keyboard():
    assert perturbation.neighbours("q") == "w" and perturbation.neighbours("m") == "n"
    assert set(perturbation.neighbours("g")) == {"f", "h"}
    out = perturbation.CHANGES["typos"]["beside"]("HELLO", stream(1))
    assert out.isupper() and sum(a != b for a, b in zip("HELLO", out, strict=True)) == 1


def test_punctuation():
    removed, added = (perturbation.CHANGES["punctuation"][k] for k in ("removed", "added"))
    assert removed(SENTENCES[2], stream()) == "She doesn't recommend the hotel the rooms are cold"
    assert removed("no marks", stream()) == "no marks" and removed("!!", stream()) == "!!"
    assert removed("3.5 of 5", stream()) in ("3.5 of 5", "3 5 of 5")
    assert added("Fine", stream()) == "Fine." and added("Fine. ", stream()) == "Fine.!"


# --- rows -------------------------------------------------------------------------------------


def test_case_is_no_test_for_a_model_that_does_not_see_it():
    """The fake lower-cases; a rate over what it cannot see would say it is steady."""
    _, rows = run(lambda tokens: [0.0, 1.0], texts_of())
    casing = rows[rows["measure"] == "perturbation_casing"]
    assert len(casing) and casing["value"].isna().all()
    assert set(casing["skipped"]) == {"the model sees the same tokens"}
    changed = rows[rows["measure"] == "perturbation_typos"]
    assert changed["value"].notna().all() and set(changed["value"]) == {0.0}


def test_unchanged_ones_are_counted_and_not_in_the_denominator():
    labels = ["positive"] * 24
    words = [f"fine place {'abcdefghijkl'[i % 12] * 5}{'' if i % 2 else '!'}" for i in range(24)]
    texts = given(labels, {"side": ["most"] * 12 + ["few"] * 12}, words=words)
    _, rows = run(lambda tokens: [0.0, 1.0 if "!" in tokens else -1.0], texts)
    unseen = rows[(rows["measure"] == "perturbation_unchanged") & rows["item"].str.endswith("/removed")]
    assert len(unseen) == 12 and unseen["value"].isna().all()
    found = finding(rows, "punctuation", "most-vs-few")
    assert found.details["unchanged"] == 12
    assert found.details["n_first"] == found.details["n_second"] == 18, "12 added, 6 removed"
    assert found.details["lost_first"] == pytest.approx(6 / 18), "all that lost their mark are lost"
    assert found.estimate.value == pytest.approx(0.0)


def test_the_drop_is_before_less_after_and_the_sign_first_less_second():
    """The model is right about "!" only, and only the texts of one group have one."""
    words = [
        f"{'!' if i < 20 else ''} some words {'abcdefghij'[i % 10] * 4} {'kl'[i // 10 % 2] * 4}"
        for i in range(40)
    ]
    texts = given(["positive"] * 40, {"side": ["loud"] * 20 + ["most"] * 20}, words=words)
    _, rows = run(lambda tokens: [0.0, 1.0], texts)
    assert finding(rows, "typos", "most-vs-loud").estimate.value == 0.0
    _, rows = run(lambda tokens: [0.0, 1.0 if "!" in tokens or "some" in tokens else -1.0], texts)
    found = finding(rows, "typos", "most-vs-loud")
    typos = rows[(rows["measure"] == "perturbation_typos") & (rows["group"] == "most")]
    hit = typos["value"].mean()
    assert found.estimate.value == pytest.approx(hit) and hit > 0, "the quiet ones lose, the loud ones do not"


def test_changes_of_one_text_are_one_cluster():
    """Trap 25: three slips of one text are not three texts."""
    _, rows = run(lambda tokens: [0.0, 1.0 if "the" in tokens else -1.0], texts_of(60))
    typos = rows[rows["measure"] == "perturbation_typos"]
    assert typos.groupby("cluster_a").size().max() == 3
    assert finding(rows, "typos").counts[0][0] == typos["cluster_a"].nunique()
    alone = typos.assign(cluster_a=typos["item"])
    fixed = typos.assign(value=typos["cluster_a"].str[-1].isin(list("02468")) * 1.0)
    wide = perturbation._drops(fixed.reset_index(drop=True), 1, stream()).estimate
    wrong = perturbation._drops(
        fixed.assign(cluster_a=alone["item"]).reset_index(drop=True), 1, stream()
    ).estimate
    widths = [e.intervals["0.95"].high - e.intervals["0.95"].low for e in (wide, wrong)]
    assert widths[0] > 1.4 * widths[1], "the second is the wrong way"


def test_no_change_at_all_has_a_width():
    _, rows = run(lambda tokens: [0.0, 1.0], texts_of())
    ends = finding(rows, "typos").estimate.intervals["0.95"]
    assert ends.low < -0.05 and ends.high > 0.05


def test_the_same_in_every_run_and_in_other_company():
    texts = texts_of()

    def asked(given_texts, seed=0):
        seen = []
        run(lambda tokens: seen.append(tokens) or [0.0, 1.0], given_texts, seed)
        return set(seen)

    first = asked(texts)
    assert first == asked(texts) and first != asked(texts, seed=1)
    fewer = type(texts)(texts.texts[:30], texts.sha256, labelled=True, axes=texts.axes)
    assert asked(fewer) < first, "another text changes no slip of this one"


def test_large_groups_are_drawn_from_and_small_ones_kept(monkeypatch):
    monkeypatch.setattr(perturbation, "MOST", 10)
    _, rows = run(lambda tokens: [0.0, 1.0], texts_of(60))
    typos = rows[rows["measure"] == "perturbation_typos"]
    assert typos.groupby("group")["cluster_a"].nunique().to_dict() == {"few": 10, "most": 10}


def test_texts_too_long_or_without_label_have_a_reason():
    texts = texts_of(30, labels=("positive", "positive", ""))
    _, rows = run(lambda tokens: [0.0, 1.0], texts, max_tokens=15)
    typos = rows[rows["measure"] == "perturbation_typos"]
    unseen = rows[(rows["measure"] == "perturbation_unchanged") & rows["item"].str.endswith("/swapped")]
    assert len(typos) + len(unseen) == 30 * 3, "aaaa with two letters swapped is aaaa"
    assert set(typos["skipped"]) == {"", "longer than 15 tokens", "has no label"}
    assert (typos["value"].isna() == (typos["skipped"] != "")).all()


def test_contrasts_and_forecast():
    pack = pack_of(texts_of(), measure="perturbation")
    assert perturbation.contrasts(pack) == [("side", "few-vs-most")]
    names = {s.name for s in perturbation.statistics(pack)}
    assert names == {"perturbation_typos", "perturbation_casing", "perturbation_punctuation"}
    scorer = FakeScorer(
        answers={"class": lambda t: [0.0, 1.0]}, head=Head.SEQUENCE_CLASSIFICATION, labels=TWO.labels
    )
    counter = CountingScorer(scorer)
    assert len(perturbation.run(counter, pack, stream())) and counter.inputs > 40
    with pytest.raises(PackError):
        perturbation.run(scorer, pack_of(None, measure="perturbation"), stream())


def test_a_real_classifier_that_lower_cases(tiny_scorers):
    scorer = tiny_scorers[Head.SEQUENCE_CLASSIFICATION]
    decision = TWO.model_copy(update={"labels": scorer.id.labels})
    texts = given([str(i % 3) for i in range(30)], {"side": ["a", "a", "b"] * 10},
                  words=[f"{SENTENCES[i % 4]} {['old', 'new', 'good', 'bad', 'very'][i % 5]}" for i in range(30)])  # fmt: skip
    rows = perturbation.run(scorer, pack_of(texts, decision, measure="perturbation"), stream())
    assert set(rows.loc[rows["measure"] == "perturbation_casing", "skipped"]) == {
        "the model sees the same tokens"
    }
    typos = rows[rows["measure"] == "perturbation_typos"]
    assert typos["value"].isin([-1, 0, 1]).all() and list(frame([]).columns) == list(rows.columns)
