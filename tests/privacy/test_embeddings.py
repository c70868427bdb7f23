"""What stored vectors give away: encoders that encode a word, a person, or nothing; oracles; one tiny real model."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given as each
from hypothesis import settings
from hypothesis import strategies as st

from albert_audit import resources
from albert_audit.bias.measure import COLUMNS
from albert_audit.model.baseline import random_init
from albert_audit.model.cache import FakeScorer
from albert_audit.model.scorer import TorchScorer
from albert_audit.packs import Given, Text
from albert_audit.privacy import embedding_findings, embeddings
from albert_audit.privacy.embedding_estimates import area, by_person, person_gap
from albert_audit.privacy.embedding_findings import AUTHOR_ID, LEAST_TEXTS, WORDS_ID, ids, lost, run
from albert_audit.privacy.embedding_writers import MOST_WRITTEN, Writers, alike, writers
from albert_audit.privacy.embeddings import FOLDS, MODEL, RANDOM, TEXT, Cells, chosen, deal, rare_words
from albert_audit.redact import Key
from albert_audit.stats.placements import area_of
from albert_audit.stats.roc import auc
from albert_audit.types import Finding, Head, Status
from tests.fakes import chance, selected
from tests.tiny import tiny_folders, tiny_handles  # noqa: F401 (fixtures)

KEY = Key(bytes(range(32)))
VOCABULARY = [f"wort{i}" for i in range(40)]
Vector = Callable[[tuple[str, ...]], Any]


def noise(seed: int, width: int = 12) -> Vector:
    """A vector that has nothing to do with the text but being always the same for it."""
    return lambda tokens: np.random.default_rng(int(-1e6 * chance(seed, tokens)) + 10_000_000 * seed).normal(
        size=width
    )


def exact(tokens: tuple[str, ...]) -> Any:
    """A vector with a place for each word."""
    return np.array([float(w in tokens) for w in VOCABULARY])


def encoder(vector: Vector, max_tokens: int = 128) -> FakeScorer:
    return FakeScorer(answers={"mean": vector}, head=Head.ENCODER, max_tokens=max_tokens)


def sentence(rng: np.random.Generator, share: float = 0.05) -> str:
    return " ".join([*(w for w in VOCABULARY if rng.random() < share), "and", "so", "on"])


def bring(count: int = 240, seed: int = 0, per: int = 0, **groups: Sequence[str]) -> Given:
    """Texts of words drawn apart; `per` texts each of persons, or no persons."""
    rng = np.random.default_rng(seed)
    texts = [
        Text(
            f"t{i}", f"{sentence(rng)} n{i}", "", tuple((a, g[i]) for a, g in groups.items() if g[i]),
            f"Person {i // per}" if per else "",
        )
        for i in range(count)
    ]  # fmt: skip
    return Given(tuple(texts), "0" * 64, axes=tuple(groups))


def found(
    identity: str, given: Given, model: Vector, control: Vector | None = None, seed: int = 0
) -> Finding:
    _, findings = run(encoder(model), encoder(control or noise(99)), given, KEY, seed)
    return next(f for f in findings if f.id == identity)


def interval(estimate: Any) -> Any:
    return estimate.intervals["0.95"]


# --- rare words -------------------------------------------------------------------------------


def test_a_vector_with_a_place_for_each_word_gives_every_word_away():
    f = found(WORDS_ID, bring(), exact)
    assert f.status is Status.ESTIMATED and not f.gates
    assert f.effect.value > 0.999 and interval(f.effect).high - interval(f.effect).low > 0.0
    assert interval(f.difference).low > 0.3
    # Calls are as many as the other folds let expect, not as many as there are: exact vectors fall short of 1.
    assert f.details["f1"] > 0.6 > 0.3 > f.details["f1_chance"]
    assert abs(f.details["f1_random_encoder"] - f.details["f1_chance"]) < 0.1


def test_vectors_of_noise_give_no_word_away():
    f = found(WORDS_ID, bring(), noise(1))
    assert f.status is Status.ESTIMATED
    assert interval(f.effect).low < 0.5 < interval(f.effect).high
    assert interval(f.difference).low < 0.0 < interval(f.difference).high
    assert interval(f.control.effect).low < 0.5 < interval(f.control.effect).high


def test_a_person_who_is_known_again_gives_no_word_away():
    """Trap 10: probes over single texts would learn each person's habits; over whole persons they cannot."""
    rng = np.random.default_rng(3)
    people = np.repeat(np.arange(80), 5)
    habits = [list(rng.choice(VOCABULARY[:24], 2, replace=False)) for _ in range(80)]
    texts = [" ".join(w for w in habits[p] if rng.random() < 0.9) + f" n{i}" for i, p in enumerate(people)]
    vectors = {MODEL: rng.normal(size=(80, 80))[people], RANDOM: rng.normal(size=(400, 80))}
    named = [f"p{p}" for p in people]
    apart = area(rare_words(texts, vectors, named, 0), named, [MODEL], 1)
    assert interval(apart).low < 0.5 < interval(apart).high
    single = [f"t{i}" for i in range(400)]
    assert area(rare_words(texts, vectors, single, 0), single, [MODEL], 1).value > 0.8


@settings(max_examples=60, deadline=None)
@each(st.lists(st.integers(0, 30), min_size=1, max_size=150), st.integers(2, 6), st.integers(0, 9))
def test_a_person_lies_in_one_fold_and_folds_are_alike(numbers, folds, seed):
    persons = [f"p{k}" for k in numbers]
    where = deal(persons, folds, seed)
    assert all(len(set(where[np.array(persons) == p])) == 1 for p in set(persons))
    sizes = np.bincount(where, minlength=folds)
    assert sizes.max() - sizes.min() <= max(map(persons.count, persons))


def test_words_are_chosen_by_persons_and_the_rarest_come_first():
    people = [f"p{i}" for i in range(200)]
    counts = {"never": 4, "barely": 5, "rare": 9, "often": 20, "common": 21}
    words = [frozenset(w for w, c in counts.items() if i < c) for i in range(200)]
    assert chosen(words, people, 0) == ["barely", "rare", "often"]
    one = ["same" if i < 9 else p for i, p in enumerate(people)]
    assert chosen(words, one, 0) == ["often"]  # the others stand in texts of one person only
    crowd = [f"q{i}" for i in range(1000)]
    assert chosen([*words, *[frozenset()] * 800], crowd, 0) == ["often", "common"]  # 1 % of the persons
    many = [frozenset({f"w{i % 40}", f"v{i % 40}"}) for i in range(200)]
    assert len(chosen(many, people, 0)) == embeddings.WORDS
    assert chosen(many, people, 0) == chosen(many, people, 0) != chosen(many, people, 1)


def test_the_words_of_a_fold_and_their_probes_never_see_it():
    """Trap 10: what the held-out fold says changes neither what is asked of it nor the scores."""
    given = bring(300)
    texts, people = [t.text for t in given.texts], [f"p{i}" for i in range(300)]
    rng = np.random.default_rng(0)
    vectors = {MODEL: rng.normal(size=(300, 8)), RANDOM: rng.normal(size=(300, 8))}
    before = rare_words(texts, vectors, people, 0)
    where = deal(people, FOLDS, 0)
    changed = [" ".join(VOCABULARY[:7]) if k == 2 else t for t, k in zip(texts, where, strict=True)]
    after = rare_words(changed, vectors, people, 0)
    one, two = (np.isin(c.texts, np.flatnonzero(where == 2)) for c in (before, after))
    assert [before.targets[i] for i in np.flatnonzero(one)] == [after.targets[i] for i in np.flatnonzero(two)]
    assert np.array_equal(before.scores[MODEL][one], after.scores[MODEL][two])
    assert not np.array_equal(before.holds[one], after.holds[two])


def test_ideographs_are_words_and_marks_are_none():
    assert embeddings.words_of("Don't 你好，你 — Été!") == {"dont", "你", "好", "été"}


# --- areas ------------------------------------------------------------------------------------


def cells(seed: int, strata: int, size: int, ties: bool = False) -> Cells:
    rng = np.random.default_rng(seed)
    n = strata * size
    scores = rng.normal(size=n)
    holds = rng.random(n) < 0.3
    holds[:size] = False  # nothing to tell apart in the first stratum
    return Cells(
        np.tile(np.arange(size), strata), np.repeat(np.arange(strata), size),
        tuple(f"w{k}" for k in range(strata) for _ in range(size)), holds,
        {MODEL: np.round(scores) if ties else scores}, np.full(n, 0.3),
    )  # fmt: skip


@pytest.mark.parametrize("ties", [False, True])
def test_texts_are_compared_within_one_probe_only(ties):
    """Oracle: two loops. A probe whose scores are all higher than another's changes nothing."""
    c = cells(0, 6, 20, ties)
    shares = []
    for i in np.flatnonzero(c.holds):
        mine = c.scores[MODEL][(c.strata == c.strata[i]) & ~c.holds]
        s = c.scores[MODEL][i]
        shares.append(((mine < s) + 0.5 * (mine == s)).mean())
    holds = c.holds[c.compared]
    values = c.placements(MODEL)
    assert values[holds] == pytest.approx(shares) and values[~holds].mean() == pytest.approx(np.mean(shares))
    assert c.compared.sum() == 100
    shifted = replace(c, scores={MODEL: c.scores[MODEL] + 100 * c.strata})
    assert np.allclose(shifted.placements(MODEL), values)


def test_of_one_probe_the_area_is_delongs():
    c = cells(1, 2, 60)
    there = c.compared
    mine = area_of(c.placements(MODEL), c.holds[there], np.arange(60))
    theirs = auc(c.scores[MODEL][there], c.holds[there])
    assert (mine.value, mine.se) == pytest.approx((theirs.value, theirs.se))
    widened = area(c, [f"p{i}" for i in range(60)], [MODEL], 1)
    assert widened.se == pytest.approx(2**0.5 * mine.se) and widened.null == 0.5


def test_texts_of_one_person_widen_the_interval():
    c = cells(2, 30, 40)
    alone = area(c, [f"p{i}" for i in range(40)], [MODEL], 1)
    assert area(c, [f"p{i // 2}" for i in range(40)], [MODEL], 1).df < alone.df < 40


def test_the_interval_covers_the_null_as_often_as_it_says():
    """Also the difference of two encoders; persons have three texts, which the vectors know."""
    hits = []
    for seed in range(40):
        rng = np.random.default_rng(seed)
        person = np.arange(180) // 3
        people = [f"p{k}" for k in person]
        habits = rng.integers(0, 60, (60, 2))
        texts = [
            " ".join([f"w{h}" for h in habits[p] if rng.random() < 0.5] + [f"w{rng.integers(60)}"])
            for p in person
        ]
        vectors = {s: rng.normal(size=(180, 10)) + rng.normal(size=(60, 10))[person] for s in (MODEL, RANDOM)}
        c = rare_words(texts, vectors, people, seed)
        one, gap = area(c, people, [MODEL], 1), area(c, people, [MODEL, RANDOM], 1)
        hits += [
            interval(one).low <= 0.5 <= interval(one).high,
            interval(gap).low <= 0.0 <= interval(gap).high,
        ]
    assert np.mean(hits) >= 0.9


# --- groups -----------------------------------------------------------------------------------


def test_a_group_that_the_vector_holds_is_told():
    given = bring(220)
    groups = ["a" if "wort1" in t.text.split() or "wort2" in t.text.split() or i % 3 == 0 else "b"
              for i, t in enumerate(given.texts)]  # fmt: skip
    texts = [replace(t, text=f"{t.text} {'ja' if g == 'a' else 'nein'}", groups=(("axis", g),))
             for t, g in zip(given.texts, groups, strict=True)]  # fmt: skip
    given = replace(given, texts=tuple(texts), axes=("axis",))
    assert [i for i in ids(given) if "attribute" in i] == ["embeddings/attribute/axis/a"]
    f = found(
        "embeddings/attribute/axis/a",
        given,
        lambda tokens: np.append(noise(1)(tokens), 5.0 * ("ja" in tokens)),
    )
    assert f.status is Status.ESTIMATED and f.effect.value == 1.0 and interval(f.effect).low < 1.0
    assert interval(f.difference).low > 0.3
    assert f.details["text"] > 0.9 and abs(f.details["less_text"]) < 0.1  # the text itself tells as much
    quiet = found("embeddings/attribute/axis/a", given, noise(1))
    assert (
        interval(quiet.effect).low < 0.5 < interval(quiet.effect).high and quiet.details["less_text_high"] < 0
    )


def test_small_groups_are_not_judged_and_texts_without_a_group_are_left_out():
    groups = ["x" if i < 9 else "y" if i < 120 else "z" if i < 220 else "" for i in range(240)]
    rows, findings = run(encoder(noise(1)), encoder(noise(2)), bring(240, axis=groups), KEY, 0)
    by_group = {f.contrast: f for f in findings if f.measure == "attribute"}
    assert sorted(by_group) == ["x", "y", "z"] and by_group["y"].n == 220
    assert by_group["x"].status is Status.INSUFFICIENT and "9 persons in the group" in by_group["x"].reason
    mine = rows[(rows["measure"] == "attribute") & (rows["contrast"] == "y") & (rows["cluster_b"] == TEXT)]
    assert len(mine) == 220 and set(mine["group"]) == {"in the group", "outside"}


# --- writers ----------------------------------------------------------------------------------


def of_persons(count: int, per: int, seed: int = 0) -> Given:
    given = bring(max(count * per, LEAST_TEXTS), seed)
    texts = [
        replace(t, text=f"{t.text} by{i // per}" if i < count * per else t.text,
                person=f"Person {i // per}" if i < count * per else "")
        for i, t in enumerate(given.texts)
    ]  # fmt: skip
    return replace(given, texts=tuple(texts))


def writer(tokens: tuple[str, ...]) -> Any:
    who = next((int(t[2:]) for t in tokens if t[:2] == "by"), 99)
    return np.random.default_rng(who).normal(size=12) + 0.01 * noise(5)(tokens)


def test_a_vector_that_holds_the_writer_tells_writers_and_noise_does_not():
    given = of_persons(20, 5)
    f = found(AUTHOR_ID, given, writer)
    assert f.status is Status.ESTIMATED and f.effect.value == 1.0 and f.n == 100
    assert interval(f.effect).low < 1.0 and interval(f.difference).low > 0.3 and f.clusters[0].count == 20
    quiet = found(AUTHOR_ID, given, noise(1))
    assert interval(quiet.effect).low < 0.5 < interval(quiet.effect).high
    assert interval(quiet.difference).low < 0.0 < interval(quiet.difference).high


def test_few_writers_have_no_interval_and_fewer_no_finding():
    assert AUTHOR_ID not in ids(of_persons(4, 5)) and AUTHOR_ID not in ids(of_persons(40, 3))
    f = found(AUTHOR_ID, of_persons(5, 5), writer)
    assert f.status is Status.INSUFFICIENT and f.effect.value == 1.0 and not f.effect.intervals


def test_copies_make_no_writer():
    texts = ["One text.", "one TEXT", "two", "three", "four", "shared", "five", "six", "seven", "shared"]
    places, persons = writers(texts, ["a"] * 6 + ["b"] * 4, 0)
    assert sorted(texts[i] for i in places) == ["One text.", "four", "three", "two"] and set(persons) == {0}
    many, _ = writers([f"t{i}" for i in range(30)], ["a"] * 30, 0)
    assert len(many) == MOST_WRITTEN


def compared(seed: int = 0, writers_: int = 6) -> tuple[Writers, dict[str, np.ndarray]]:
    rng = np.random.default_rng(seed)
    persons = np.repeat(np.arange(writers_), rng.integers(4, 8, writers_))
    n = len(persons)
    vectors = {s: rng.normal(size=(n, 4)) + rng.normal(size=(writers_, 4))[persons] for s in (MODEL, RANDOM)}
    texts = [" ".join(rng.choice(VOCABULARY, 5)) for _ in range(n)]
    return alike(np.arange(n), persons, texts, vectors), vectors


def test_writers_are_compared_as_two_loops_would():
    w, vectors = compared()
    v = vectors[MODEL] - vectors[MODEL].mean(axis=0)
    v /= np.linalg.norm(v, axis=1, keepdims=True)
    cosine = v @ v.T

    def oracle(kept: Sequence[int]) -> float:
        means = []
        for p in kept:
            mine = [i for i in range(len(v)) if w.persons[i] == p]
            others = [j for j in range(len(v)) if w.persons[j] != p and w.persons[j] in kept]
            wins = [
                np.mean([cosine[i, s] > cosine[i, j] for s, j in itertools.product(mine, others) if s != i])
                for i in mine
            ]
            means.append(np.mean(wins))
        return float(np.mean(means))

    assert w.area(MODEL) == pytest.approx(oracle(range(6)))
    keep = np.arange(6) != 2
    assert w.area(MODEL, keep) == pytest.approx(oracle([0, 1, 3, 4, 5]))


def test_the_writers_interval_is_the_jackknife_over_persons():
    w, _ = compared(1, 14)
    left = np.array([w.area(MODEL, np.arange(14) != k) for k in range(14)])
    assert by_person(w, MODEL, 1).se == pytest.approx(np.sqrt(((left - w.area(MODEL)) ** 2).sum()))
    gap = person_gap(w, RANDOM, 1)
    assert gap.value == pytest.approx(w.area(MODEL) - w.area(RANDOM)) and gap.df == pytest.approx(13)


# --- the whole --------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def whole() -> tuple[Given, Any, tuple[Finding, ...]]:
    given = bring(240, per=5, axis=["left" if i % 10 < 5 else "right" for i in range(240)])
    long = Text("long", "and " * 200 + "wort1", "", (("axis", "left"),), "Person 1")
    copy = Text("copy", given.texts[0].text.upper() + "!", "", (("axis", "left"),), "Somebody Else")
    given = replace(given, texts=(*given.texts, long, copy))
    return given, *run(encoder(exact), encoder(noise(2)), given, KEY, 0)


def test_findings_are_those_announced_and_none_gates(whole):
    given, rows, findings = whole
    assert [f.id for f in findings] == ids(given)
    assert [f.id for f in findings] == [WORDS_ID, "embeddings/attribute/axis/left", AUTHOR_ID]
    assert not any(f.gates for f in findings) and all("training data" in f.caveats[0] for f in findings)
    assert list(rows.columns) == list(COLUMNS)
    for f in findings:
        assert [len(selected(rows, e)) for e in f.evidence] == [e.rows for e in f.evidence]
        assert all(e.rows for e in f.evidence)
    crashed = [lost(i, "crashed: ValueError") for i in ids(given)]
    assert [f.id for f in crashed] == ids(given) and {f.status for f in crashed} == {Status.ERROR}


def test_a_text_too_long_is_counted_and_said(whole):
    _, rows, findings = whole
    assert {f.n_skipped for f in findings} == {1}
    skipped = rows[rows["skipped"] != ""]
    assert sorted(skipped["measure"]) == ["attribute", "author", "rare_words"] and set(skipped["item"]) == {
        "long"
    }
    assert skipped["value"].isna().all()


def test_the_figure_can_be_made_of_the_rows_and_the_rows_hold_no_word(whole):
    given, rows, findings = whole
    for f in (findings[0], findings[2]):
        for selector, estimate in zip(f.evidence, (f.effect, f.control.effect), strict=True):
            mine = selected(rows, selector)
            if f.id == AUTHOR_ID:
                mine = mine[mine["cluster_b"] != TEXT].groupby("cluster_a")["value"].mean().to_frame()
            assert mine["value"].mean() == pytest.approx(estimate.value)
    written = rows.drop(columns=["value", "covariate"]).to_csv()
    secret = {w for t in given.texts for w in embeddings.words_of(t.text) if len(w) > 3} | {
        "Person",
        "Somebody",
    }
    assert not [w for w in secret if w in written]
    known = {KEY.digest(w, purpose="word") for w in VOCABULARY}
    assert set(rows.loc[(rows["measure"] == "rare_words") & (rows["skipped"] == ""), "cluster_b"]) <= known


def test_a_copy_of_a_persons_text_is_the_persons(whole):
    """Else a probe would have been fitted on the very text that it is asked about."""
    _, rows, _ = whole
    mine = rows[
        (rows["measure"] == "attribute") & (rows["role"] == "probe") & rows["item"].isin(["t0", "copy"])
    ]
    assert len(mine) == 2 and mine["cluster_a"].nunique() == 1


def test_few_texts_make_no_finding_and_two_runs_are_equal(whole):
    few = bring(LEAST_TEXTS - 1)
    rows, findings = run(encoder(exact), encoder(noise(1)), few, KEY, 0)
    assert ids(few) == [] and findings == () and rows.empty
    given, first, told = whole
    again, same = run(encoder(exact), encoder(noise(2)), given, KEY, 0)
    assert again.equals(first) and same == told


def test_few_persons_are_not_judged():
    f = found(WORDS_ID, bring(240, per=30), exact)
    assert f.status is Status.INSUFFICIENT and "too few persons" in f.reason


def test_vectors_that_are_not_finite_are_refused():
    with pytest.raises(ValueError, match="finite vectors from the model"):
        run(encoder(lambda tokens: np.array([np.nan])), encoder(noise(1)), bring(), KEY, 0)


def test_a_tiny_real_model(tiny_handles):  # noqa: F811
    handle = tiny_handles[Head.MASKED_LM]
    sentences = resources.reference_sentences("en")
    rng = np.random.default_rng(0)
    made = tuple(
        Text(f"s{i}", " ".join(rng.choice(sentences, 2)) + f" {i}", "", (("coin", "ab"[int(rng.integers(2))]),),
             f"p{i // 6}")
        for i in range(LEAST_TEXTS)
    )  # fmt: skip
    given = Given(made, "0" * 64, axes=("coin",))
    scorer, other = TorchScorer(handle), TorchScorer(random_init(handle, 0))
    rows, findings = run(scorer, other, given, KEY, 0)
    by_id = {f.id: f for f in findings}
    assert list(by_id) == ids(given) and {f.status for f in findings} == {Status.ESTIMATED}
    assert interval(by_id[WORDS_ID].effect).low > 0.5  # even random weights carry words
    for identity in (
        "embeddings/attribute/coin/a",
        AUTHOR_ID,
    ):  # nobody wrote these, and coins are in no text
        assert interval(by_id[identity].effect).low < 0.5 < interval(by_id[identity].effect).high
    assert rows["value"].notna().all() and rows["pack"].unique()[0] == embedding_findings.NAME
