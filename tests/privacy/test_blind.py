"""The classifier that never sees the model, and copies across the two sets."""

from __future__ import annotations

import csv
import os
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from albert_audit.privacy import blind
from albert_audit.privacy.blind import blind_scores, copies, duplicates
from albert_audit.stats.auc import auc

FOLDERS = (os.environ.get("ALBERT_AUDIT_TEST_DATA"), Path(__file__).resolve().parents[3] / "shared" / "data")
WORDS = np.array([f"w{i}" for i in range(60)])
HAN = np.array(list("的一是了我不人在他有这个上们来到时大地为子中你说生国年着就那和要她出也得里后自以会"))


def area(scores: np.ndarray, member: np.ndarray) -> float:
    return auc(scores[member], scores[~member]).value


def sentences(
    rng: np.random.Generator, count: int, words: np.ndarray = WORDS, between: str = " "
) -> list[str]:
    return [between.join(rng.choice(words, size=12)) for _ in range(count)]


def halves(count: int) -> np.ndarray:
    return np.arange(count) < count // 2


# --- what it finds ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "change",
    [
        lambda t: t + " film of 2019",
        lambda t: t.replace("w1", "W1"),
        lambda t: " ".join(t.split()[:8]),
        lambda t: t + "!",
        lambda t: t.replace("w3", "v3"),
    ],
)
def test_sets_that_differ_are_told_apart(change):
    """Dates, capitals, length, marks, words."""
    rng = np.random.default_rng(0)
    texts, member = sentences(rng, 160), halves(160)
    texts = [change(t) if m else t for t, m in zip(texts, member, strict=True)]
    assert area(blind_scores(texts, None, member).scores, member) > 0.9


def test_chinese_needs_no_words():
    rng = np.random.default_rng(1)
    texts, member = sentences(rng, 240, HAN, ""), halves(240)
    changed = [
        t[:5] + "医院" + t[5:] if m else t[:5] + "学校" + t[5:] for t, m in zip(texts, member, strict=True)
    ]
    assert area(blind_scores(changed, None, member).scores, member) > 0.9
    assert 0.35 < area(blind_scores(texts, None, member).scores, member) < 0.65


def test_labels_and_further_numbers_count():
    rng = np.random.default_rng(2)
    texts, member = sentences(rng, 200), halves(200)
    labels = np.where(rng.random(200) < np.where(member, 0.9, 0.1), "good", "bad").tolist()
    assert area(blind_scores(texts, labels, member).scores, member) > 0.75
    unknown = (member + 0.3 * rng.normal(size=200))[:, None]
    assert area(blind_scores(texts, None, member, extra=unknown).scores, member) > 0.9
    assert area(blind_scores(texts, None, member).scores, member) < 0.7


# --- what it must not find --------------------------------------------------------------------


def test_equal_sets_are_not_told_apart():
    """Trap 10: fitted and scored on the same texts, the area would be 1."""
    areas = []
    for seed in range(16):
        rng = np.random.default_rng(seed)
        texts, member = sentences(rng, 120), rng.permutation(120) < 60
        areas.append(area(blind_scores(texts, None, member, seed=seed).scores, member))
    assert abs(np.mean(areas) - 0.5) < 0.05
    assert max(areas) < 0.75


@pytest.mark.slow
def test_areas_under_the_null_spread_as_declared():
    """Each pair of records counts twice: DeLong's error alone is too small, and that times the square root of 2 is not."""
    areas, errors = [], []
    for seed in range(200):
        rng = np.random.default_rng(seed)
        texts, member = sentences(rng, 160), rng.permutation(160) < 80
        made = blind_scores(texts, None, member, seed=seed)
        found = auc(made.scores[member], made.scores[~member])
        areas.append(found.value)
        errors.append(found.se)
    assert abs(np.mean(areas) - 0.5) < 0.015
    ratio = np.std(areas) / np.mean(errors)
    assert 1.1 < ratio < 1.1 * blind.DEPENDENCE, ratio
    covered = np.abs(np.array(areas) - 0.5) < 1.96 * blind.DEPENDENCE * np.array(errors)
    assert covered.mean() >= 0.92, covered.mean()


def test_a_person_in_two_folds_would_give_the_side_away():
    """Trap 10: persons have words of their own; only folds of whole persons leave the sets alike."""
    whole, split = [], []
    for seed in range(6):
        rng = np.random.default_rng(seed)
        persons = np.repeat(np.arange(40), 6)
        member = (rng.permutation(40) < 20)[persons]
        own = rng.choice(900, size=(40, 3)) + 100
        texts = [
            f"{t} " + " ".join(f"w{rng.choice(own[p])}" for _ in range(4))
            for t, p in zip(sentences(rng, 240), persons, strict=True)
        ]
        found = blind_scores(texts, None, member, persons.tolist())
        assert all(len(set(found.folds[persons == p])) == 1 for p in range(40))
        whole.append(area(found.scores, member))
        split.append(area(blind_scores(texts, None, member).scores, member))
    assert abs(np.mean(whole) - 0.5) < 0.08, whole
    assert min(split) > 0.85, split


@settings(max_examples=60)
@given(st.lists(st.tuples(st.integers(0, 12), st.booleans()), min_size=20, max_size=80), st.integers(0, 9))
def test_folds_hold_whole_persons_and_both_sides(records, seed):
    records = [*records, *((100 + i, i % 2 == 0) for i in range(20))]
    persons, member = [p for p, _ in records], np.array([m for _, m in records])
    folds = blind._fold(member, persons, 5, seed)
    assert len({(p, f) for p, f in zip(persons, folds.tolist(), strict=True)}) == len(set(persons))
    # Ten persons of one record a side are dealt last, so no fold stays without.
    assert set(folds) == set(range(5))
    np.testing.assert_array_equal(folds, blind._fold(member, persons, 5, seed))


def test_records_of_their_own_are_dealt_evenly():
    member = np.arange(103) < 60
    folds = blind._fold(member, list(range(103)), 5, 0)
    assert set(np.bincount(folds[member])) == {12}
    assert set(np.bincount(folds[~member])) <= {8, 9}
    assert not np.array_equal(folds, blind._fold(member, list(range(103)), 5, 1))


def test_nothing_is_estimated_on_the_fold_it_scores():
    """Trap 10: a record's own side must not change the weights it is scored with."""
    rng = np.random.default_rng(4)
    texts, member = sentences(rng, 60), halves(60)
    words, numbers = blind._counts(texts), blind._numbers(texts, None, None)
    held = np.arange(60) % 5 == 0
    flipped = np.where(held, ~member, member)
    np.testing.assert_array_equal(
        blind._fitted(words, numbers, member, held), blind._fitted(words, numbers, flipped, held)
    )
    # Nor other records of the fold: scored alone, a record has the same odds.
    one = np.flatnonzero(held)[:1]
    kept = np.concatenate([np.flatnonzero(~held), one])
    alone = blind._fitted([w[kept] for w in words], numbers[kept], member[kept], np.isin(kept, one))
    np.testing.assert_allclose(alone, blind._fitted(words, numbers, member, held)[:1], rtol=1e-6)


def test_the_same_twice():
    rng = np.random.default_rng(5)
    texts, member = sentences(rng, 60), halves(60)
    one, two = (blind_scores(texts, None, member, seed=7) for _ in range(2))
    np.testing.assert_array_equal(one.scores, two.scores)
    np.testing.assert_array_equal(one.folds, two.folds)


def test_scores_are_mid_ranks_within_folds_and_equal_texts_tie():
    """Trap 11: texts that are all alike are tied, and the area is one half."""
    member = halves(40)
    made = blind_scores(["the same text"] * 40, None, member)
    np.testing.assert_array_equal(made.scores, 0.5)
    rng = np.random.default_rng(6)
    found = blind_scores(sentences(rng, 50), None, halves(50))
    for k in range(5):
        np.testing.assert_allclose(np.sort(found.scores[found.folds == k]), (np.arange(10) + 0.5) / 10)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"labels": ["a"]}, "one length"),
        ({"persons": ["a"]}, "one length"),
        ({"member": np.ones(12)}, "float64"),
        ({"member": np.arange(12) < 3}, "3 persons among members"),
        ({"persons": [0] * 6 + list(range(6))}, "1 persons among members"),
        ({"folds": 1}, "at least 2 folds"),
        ({"extra": np.full((12, 1), np.nan)}, "finite numbers"),
        ({"extra": np.ones(12)}, "finite numbers"),
    ],
)
def test_what_cannot_be_classified_is_refused(changes, message):
    given_ = {"texts": ["a b"] * 12, "labels": None, "member": np.arange(12) < 6, "persons": None} | changes
    with pytest.raises(ValueError, match=message):
        blind_scores(**given_)


# --- copies -----------------------------------------------------------------------------------


def test_copies_are_found_through_case_marks_spaces_and_width():
    members = [
        "The nurse, of all people, left.",
        "Nothing alike here",
        "ＡＢＣ　１２３ and more",
        "!!!",
        "医生说他很累。",
    ]
    others = ["医生 说他很累", "abc 123 and more!", "the NURSE of all people left", "???", "an other thing"]
    found = [(d.member, d.non_member, d.similarity, d.exact) for d in duplicates(members, others)]
    assert found == [(0, 2, 1.0, True), (2, 1, 1.0, True), (4, 0, 1.0, True)]


def test_near_copies_are_found():
    text = "The doctor said that the patient was discharged on the third of May, and that she felt well enough to go home with her sister"
    found = duplicates(
        [text, "something else altogether, not alike at all"], [text.replace("third", "fifth")]
    )
    assert [(d.member, d.non_member, d.exact) for d in found] == [(0, 0, False)]
    assert 0.8 <= found[0].similarity < 1


@settings(max_examples=150, deadline=None)
@given(*(st.lists(st.text("ab", min_size=1, max_size=14), max_size=8) for _ in range(2)))
def test_every_record_with_a_copy_is_in_a_pair_and_no_other(members, others):
    """Against all pairs compared."""
    sets = [[set(blind._shingles(t)) for t in side] for side in (members, others)]
    close = np.array([[len(a & b) / len(a | b) for b in sets[1]] for a in sets[0]]).reshape(
        len(members), len(others)
    )
    found = duplicates(members, others)
    for d in found:
        assert d.similarity == pytest.approx(close[d.member, d.non_member])
        assert d.exact == (members[d.member] == others[d.non_member])
    assert {d.member for d in found} == set(np.flatnonzero((close >= 0.8).any(axis=1)).tolist())
    assert {d.non_member for d in found} == set(np.flatnonzero((close >= 0.8).any(axis=0)).tolist())
    for i, text in enumerate(members):
        if text in others:
            assert any(d.exact for d in found if d.member == i)


def test_no_copy_at_the_border_is_missed():
    """Longer texts cut at the end or changed inside: many of them with an index of just 0.8, or just below."""
    rng = np.random.default_rng(0)
    members, others = [], []
    for _ in range(400):
        text = "".join(rng.choice(list("abcdefghij"), size=rng.integers(8, 60)))
        cut, at = rng.integers(0, len(text) // 3 + 1), rng.integers(0, len(text))
        members.append(text)
        others.append(text[cut:] if rng.random() < 0.7 else text[:at] + "z" + text[at + 1 :])
    sets = [[set(blind._shingles(t)) for t in side] for side in (members, others)]
    close = [len(a & b) / len(a | b) for a, b in zip(*sets, strict=True)]
    assert sum(c == 0.8 for c in close) > 5
    found = {d.member for d in duplicates(members, others)}
    assert found == {i for i, c in enumerate(close) if c >= 0.8}


def test_a_text_that_stands_a_thousand_times_does_not_make_a_million_pairs():
    start = time.monotonic()
    found = duplicates(["The same note."] * 1000, ["the same note"] * 1000)
    assert 1000 <= len(found) <= 2000
    assert time.monotonic() - start < 5


# --- real texts -------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def reviews() -> tuple[list[str], list[str], np.ndarray]:
    """1,200 members and 1,200 non-members, which were drawn at random."""
    for folder in filter(None, FOLDERS):
        if (found := Path(folder) / "models" / "albert-mini-reviews").is_dir():
            rows = []
            for name in ("members", "non_members"):
                with (found / f"{name}.csv").open(encoding="utf-8", newline="") as stream:
                    rows += list(csv.DictReader(stream))[:1200]
            return [r["text"] for r in rows], [r["label"] for r in rows], halves(2400)
    pytest.skip("albert-mini-reviews is not here: set ALBERT_AUDIT_TEST_DATA to a folder that holds it")


def test_random_halves_of_real_reviews_are_not_told_apart(reviews):
    texts, labels, member = reviews
    found = blind_scores(texts, labels, member)
    interval = auc(found.scores[member], found.scores[~member]).intervals["0.95"]
    assert interval.low < 0.5 < interval.high


def test_a_shift_between_real_reviews_is_told(reviews):
    """One set holds the positive reviews: what they say gives them away, without the model or the label."""
    texts, labels, _ = reviews
    pick = np.arange(0, 2400, 2)
    member = np.array([labels[i] == "positive" for i in pick])
    found = blind_scores([texts[i] for i in pick], None, member)
    assert auc(found.scores[member], found.scores[~member]).intervals["0.95"].low > 0.6


def test_copies_within_a_set_are_paired_with_what_stands_before() -> None:
    text = "the quick brown fox jumps over the lazy dog and runs far away from here today"
    other = "something else about films and the music of the nineties that nobody hears"
    assert copies([text, other]) == []
    assert copies([text, other, text.replace("here", "here now"), f"{text.upper()}!"]) == [(0, 2), (0, 3)]
