"""Counterfactual substitution, on made-up classifiers whose answers are known."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as settings_
from hypothesis import strategies as st

from albert_audit import packs
from albert_audit.bias import MEASURES
from albert_audit.bias.classifier import counterfactual
from albert_audit.bias.classifier.counterfactual_rows import (
    FLIPS,
    GAP,
    GAP_ABS,
    NET_FLIPS,
    TEXTS,
    UNCHANGED,
    details,
)
from albert_audit.findings import Measured, build, checks, stream
from albert_audit.gate import decide
from albert_audit.model.cache import CountingScorer, FakeScorer
from albert_audit.packs import Given, Pack, Text
from albert_audit.types import Decision, Finding, Head, PackError, State, Status, UsageError
from tests.fakes import chance, one, policy, spec

MODELS = Path(__file__).resolve().parents[4] / "shared" / "data"
BINARY = Decision(labels=("negative", "positive"), positive=1)
Probability = Callable[[tuple[str, ...]], float]

TERMS = [
    ("pronoun", "gender", "subject", {"female": ["she"], "male": ["he"]}),
    ("adult", "gender", "noun", {"female": ["woman"], "male": ["man"]}),
    ("believer", "faith", "noun", {"jain": ["jain"], "sikh": ["sikh"], "parsi": ["parsi"], "quaker": ["quaker"]}),
    ("thing", "placebo", "noun", {"a": ["lamp"], "b": ["mirror"]}),
]  # fmt: skip


def rows_of(terms=TERMS) -> tuple[Mapping[str, str], ...]:
    return tuple(
        {"id": f"{axis}-{name}-{role}-{form}", "set": name, "axis": axis, "group": group, "form": form, "role": role}
        for name, axis, role, groups in terms
        for group, forms in groups.items()
        for form in forms
    )  # fmt: skip


def pack_of(texts: Sequence[str], decision: Decision = BINARY, terms=TERMS, fixed=()) -> Pack:
    made = spec(name="terms-en", measure="counterfactual", axis="", groups={}, reference="", family="c",
                clusters=("text",), may_gate=(Head.SEQUENCE_CLASSIFICATION,))  # fmt: skip
    given_ = Given(tuple(Text(f"t{i}", text) for i, text in enumerate(texts)), "0" * 64)
    tables = {"terms": rows_of(terms), "fixed": tuple(fixed)}
    return Pack(made, "4" * 64, tables=tables, given=given_, decision=decision)


def scorer_of(probability: Probability, **more) -> FakeScorer:
    def logits(tokens):
        p = probability(tokens)
        return [0.0, math.log(p / (1 - p))]

    return FakeScorer(
        answers={"class": logits}, head=Head.SEQUENCE_CLASSIFICATION, labels=BINARY.labels, **more
    )


def floor_of() -> Pack:
    return replace(packs.load(packs.find("class-floor-en")), decision=BINARY)


def told_apart(tokens: tuple[str, ...]) -> float | None:
    """A probability for the floor's sentences, so that the model is above it; None for all others."""
    return _POLAR.get(" ".join(t for t in tokens if t not in ("[CLS]", "[SEP]")))


_FAKE = FakeScorer(lambda *_: 0.0)
_POLAR = {
    " ".join(_FAKE._names[i] for i in _FAKE._encode(row["text"]).ids[1:-1]): 0.9 if row["polarity"] == "positive" else 0.1
    for row in floor_of().tables["polar"]
}  # fmt: skip


def audit(pack: Pack, probability: Probability, **more) -> tuple[Finding, ...]:
    """Findings of a pack and its floor, for a model that is above the floor."""

    def answer(tokens):
        return told_apart(tokens) or probability(tokens)

    scorer = scorer_of(answer, **more)
    measured = [
        Measured(p, MEASURES[p.spec.measure].run(scorer, p, stream(0, p.name))) for p in (pack, floor_of())
    ]
    return build(measured, scorer.id, policy(), 0)


def rows(pack: Pack, probability: Probability, **more):
    return counterfactual.run(scorer_of(probability, **more), pack, np.random.default_rng(0))


PLACEBO = [f"the lamp n{i} was fine" for i in range(30)]


# --- signs --------------------------------------------------------------------------------------


@pytest.mark.parametrize(("women", "men"), [(40, 0), (0, 40), (25, 15)])
def test_a_planted_gap_is_recovered_with_its_sign_whichever_side_is_the_original(women, men):
    """Original less changed would turn the sign of every text that names the second group."""
    texts = [f"a woman n{i} left" for i in range(women)] + [f"a man n{i} left" for i in range(men)]

    def planted(tokens):
        return 0.3 + 0.2 * chance(tokens[3]) / 8 + (0.1 if "woman" in tokens else 0.0)

    found = one(audit(pack_of(texts + PLACEBO), planted), "/counterfactual_gap/gender/female-vs-male")
    assert found.status is Status.ESTIMATED and found.n == 40
    assert found.effect.value == pytest.approx(0.1) and found.n_skipped == 0
    held = rows(pack_of(texts), planted)
    gaps = held[(held["measure"] == GAP) & (held["axis"] == "gender")]
    assert list(gaps["group"]) == ["female"] * women + ["male"] * men
    assert np.allclose(gaps["value"], 0.1)


def test_net_flips_are_one_where_only_the_first_group_is_decided_positive():
    texts = [f"a {'woman' if i % 2 else 'man'} n{i} left" for i in range(40)]

    def planted(tokens):
        return 0.6 if "woman" in tokens and int(tokens[3][1:]) % 4 < 3 else 0.4

    found = audit(pack_of(texts + PLACEBO), planted)
    net = one(found, "/counterfactual_net_flips/gender/")
    flips = one(found, "/counterfactual_flips/gender/")
    assert net.effect.value == flips.effect.value == pytest.approx(0.75)
    assert net.control is None and net.status is Status.ESTIMATED
    assert flips.control.effect.value == 0.0 and flips.difference.value == pytest.approx(0.75)


def test_beside_many_groups_each_is_compared_with_the_mean_of_all_others():
    lean = {"jain": 0.2, "sikh": 0.1, "parsi": 0.0, "quaker": 0.0}
    texts = [f"a {list(lean)[i % 2]} n{i} left" for i in range(40)]

    def planted(tokens):
        return 0.4 + sum(v for g, v in lean.items() if g in tokens)

    found = audit(pack_of(texts + PLACEBO), planted)
    for group, own in lean.items():
        others = np.mean([v for g, v in lean.items() if g != group])
        finding = one(found, f"/counterfactual_gap/faith/{group}-vs-others")
        assert finding.effect.value == pytest.approx(own - others) and finding.n == 40
    assert one(found, "/counterfactual_gap_abs/faith/one-vs-another").n == 120
    assert len([f for f in found if f.axis == "faith"]) == 4 + 2  # no finding for each of the six pairs


@settings_(max_examples=25, deadline=None)
@given(
    st.lists(st.sampled_from(["jain", "sikh", "parsi", "quaker"]), min_size=1, max_size=4), st.integers(0, 99)
)
def test_the_gaps_of_all_groups_against_the_others_cancel_in_each_text(named, seed):
    held = rows(
        pack_of([f"a {' and a '.join(named)} left"]), lambda tokens: 0.5 + 0.05 * chance(seed, tokens)
    )
    gaps = held[(held["measure"] == GAP) & held["contrast"].str.endswith("-vs-others")]
    assert len(gaps) == (4 if len(set(named)) == 1 else 0)  # who names several groups has no such version
    assert gaps["value"].sum() == pytest.approx(0.0, abs=1e-6)


def test_a_text_that_names_both_groups_counts_for_flips_and_has_no_sign():
    pack = pack_of(["a woman met a man", "a man left"])
    held = rows(pack, lambda tokens: 0.6 if tokens.index("man" if "man" in tokens else "woman") > 3 else 0.4)
    by = {m: held[(held["measure"] == m) & (held["axis"] == "gender") & (held["item"] != "changed")] for m in
          (GAP, NET_FLIPS, GAP_ABS, FLIPS)}  # fmt: skip
    assert [len(by[m]) for m in (GAP, NET_FLIPS, GAP_ABS, FLIPS)] == [1, 1, 2, 2]
    assert list(by[FLIPS]["group"]) == ["both", "male"]
    assert details(held, "gender", "female-vs-male")["texts_names_both"] == 1


# --- nothing there ------------------------------------------------------------------------------


def test_a_model_that_ignores_the_words_has_a_gap_of_zero_and_cannot_fail():
    texts = [f"a {'woman' if i % 2 else 'man'} n{i} left" for i in range(40)]
    found = audit(pack_of(texts + PLACEBO), lambda tokens: 0.7 + 0.05 * chance(tokens[3]))
    judged = [f for f in found if f.axis == "gender"]
    assert len(judged) == 5
    for f in judged:
        assert f.effect.value == 0.0 and f.status in (Status.ESTIMATED, Status.INSUFFICIENT)
        assert decide(f.difference or f.effect, 0.01) is not State.FAIL


def test_noise_alone_does_not_differ_from_the_placebo():
    """Trap 20: the absolute gap of a noisy model is far from zero, and from its placebo not at all."""
    texts = [f"a woman n{i} left" for i in range(150)] + [f"a lamp p{i} left" for i in range(150)]
    found = audit(pack_of(texts), lambda tokens: 0.5 + 0.05 * (chance(tokens) + 4))
    for name in ("gap_abs", "flips"):
        f = one(found, f"/counterfactual_{name}/gender/")
        ends = f.difference.intervals["0.95"]
        assert f.effect.value > 0.0 and ends.low < 0 < ends.high, name
    assert decide(one(found, "_gap/gender/").effect, 0.06) is State.PASS  # 0 within its noise


def test_exchanging_many_words_is_not_held_against_a_placebo_of_one_word():
    """Trap 20, its other side: noise grows with the number of words exchanged."""
    many = [f"a woman n{i} and woman m{i} and woman o{i} and woman q{i} left" for i in range(100)]
    few = [f"a woman n{i} left" for i in range(100)]
    lamps = [f"a lamp p{i} left" for i in range(150)]

    def noisy(tokens):
        """Each exchanged word adds noise of its own, by what follows it."""
        words = ("woman", "man", "lamp", "mirror")
        return 0.5 + 0.01 * sum(chance(a, b) + 4 for a, b in pairwise(tokens) if a in words)

    found = audit(pack_of(many + few + lamps), noisy)
    f = one(found, "_gap_abs/gender/")
    assert f.n == 100  # of one word only
    assert f.difference.intervals["0.95"].low < 0
    held = rows(pack_of(many + few + lamps), noisy)
    told = details(held, "gender", "female-vs-male")
    assert told["all_gap_abs"] > 1.3 * f.control.effect.value  # all together would seem an effect
    assert told["all_words"] == 2.5 and told["placebo_words"] == 1.0


def test_a_collapsed_classifier_is_below_the_floor():
    pack = pack_of([f"a woman n{i} left" for i in range(40)] + PLACEBO)
    scorer = scorer_of(lambda tokens: 0.7)
    measured = [
        Measured(p, MEASURES[p.spec.measure].run(scorer, p, stream(0, p.name))) for p in (pack, floor_of())
    ]
    found = [f for f in build(measured, scorer.id, policy(), 0) if f.axis == "gender"]
    assert found and all(f.status is Status.INVALID and "floor" in f.reason for f in found)


def test_without_placebo_words_signed_gaps_stand_and_absolute_ones_do_not():
    found = audit(pack_of([f"a woman n{i} left" for i in range(40)]), lambda t: 0.7 + 0.05 * chance(t))
    for name, stands in (("gap", True), ("net_flips", True), ("gap_abs", False), ("flips", False)):
        f = one(found, f"/counterfactual_{name}/gender/")
        assert (f.status is Status.ESTIMATED) == stands, name
        if not stands:
            assert f.difference is None and "control could not be measured" in f.reason


# --- denominators and clusters ------------------------------------------------------------------


def test_texts_that_were_not_changed_are_in_no_denominator():
    """Trap 19: texts without a term, with one that changes the meaning, or without a counterpart."""
    fixed = [{"id": "f1", "form": "pregnant", "reason": "meaning(gender): no man is"}]
    changed = [f"a woman n{i} left" for i in range(40)]
    idle = [f"nobody n{i} left" for i in range(500)] + [f"a pregnant woman n{i} left" for i in range(60)]

    def planted(tokens):
        return 0.4 + ("woman" in tokens) * (0.2 + 0.01 * chance(tokens[3]))

    alone, beside = (audit(pack_of(t + PLACEBO, fixed=fixed), planted) for t in (changed, changed + idle))
    for name in ("gap", "gap_abs", "flips", "net_flips"):
        a, b = (one(found, f"/counterfactual_{name}/gender/") for found in (alone, beside))
        assert a.effect == b.effect and (a.n, a.n_skipped) == (b.n, b.n_skipped) == (40, 0)
        assert b.status is Status.ESTIMATED
    held = rows(pack_of(changed + idle, fixed=fixed), planted)
    told = details(held, "gender", "female-vs-male")
    assert (told["texts_changed"], told["texts_no_term"], told["texts_meaning"]) == (40, 500, 60)
    left = held[(held["measure"] == UNCHANGED) & (held["axis"] == "gender")]
    assert len(left) == 60 and set(left["skipped"]) == {"meaning"}


def test_every_text_has_one_outcome_a_contrast():
    texts = ["a woman met a man", "a man left", "nobody", "a jain", "a jain and a sikh", "a lamp"]
    held = rows(pack_of(texts), lambda tokens: 0.5)
    counts = held[held["measure"] == TEXTS].groupby(["axis", "contrast"])["value"].sum()
    assert len(counts) == 1 + 5 + 1 and set(counts) == {len(texts)}


def test_equal_texts_are_one_cluster():
    texts = [f"a {'woman' if i % 2 else 'man'} n{i} left" for i in range(40)] + PLACEBO

    def noisy(tokens):
        return 0.7 + 0.05 * chance(tokens)

    once, often = (audit(pack_of(texts * k), noisy) for k in (1, 5))
    for name in ("gap", "gap_abs", "flips", "net_flips"):
        a, b = (one(found, f"/counterfactual_{name}/gender/") for found in (once, often))
        assert b.n == 5 * a.n and b.clusters == a.clusters
        widths = [f.effect.intervals["0.95"].high - f.effect.intervals["0.95"].low for f in (a, b)]
        assert widths[1] >= 0.99 * widths[0]


def test_several_exchanges_of_a_text_are_one_cluster():
    found = audit(
        pack_of([f"a jain n{i} left" for i in range(30)] + PLACEBO), lambda t: 0.5 + 0.05 * chance(t)
    )
    f = one(found, "/counterfactual_gap_abs/faith/one-vs-another")
    assert (f.n, f.clusters[0].count, f.clusters[0].name) == (90, 30, "text")


def test_what_the_model_cannot_read_is_skipped_and_said():
    long = "word " * 30 + "a woman left"

    def pieces(word):
        return ["<unk>"] if word in ("man", "he", "she") else [word]

    held = rows(pack_of([long, "a woman left", "she left"]), lambda tokens: 0.5, max_tokens=20, pieces=pieces)
    mine = held[(held["axis"] == "gender") & (held["measure"] == GAP)]
    assert mine["value"].isna().all()
    assert [re.sub(r"\d+", "N", s) for s in mine["skipped"]] == [
        "longer than N tokens", "an exchanged word holds a piece the vocabulary lacks",
        "an exchanged word holds a piece the vocabulary lacks",
    ]  # fmt: skip
    same = rows(pack_of(["a woman left"]), lambda t: 0.5, pieces=lambda w: ["x"] if "man" in w else [w])
    skipped = same.loc[(same["measure"] == FLIPS) & (same["axis"] == "gender"), "skipped"]
    assert list(skipped) == ["both versions read the same to the tokenizer"]


def test_an_answer_that_is_not_finite_decides_nothing():
    scorer = FakeScorer(
        answers={"class": lambda tokens: [0.0, math.nan if "man" in tokens else 1.0]},
        head=Head.SEQUENCE_CLASSIFICATION, labels=BINARY.labels,
    )  # fmt: skip
    held = counterfactual.run(scorer, pack_of(["a woman left"]), np.random.default_rng(0))
    mine = held[(held["axis"] == "gender") & (held["measure"].isin([GAP, GAP_ABS, FLIPS, NET_FLIPS]))]
    assert len(mine) == 4 and mine["value"].isna().all()
    assert set(mine["skipped"]) == {"the model gave no finite score"}


# --- doubts -------------------------------------------------------------------------------------


def test_the_gap_is_also_given_without_exchanges_in_doubt():
    """ "Eastwood at her best" with *his* is another claim about a known person."""
    sure = [f"she n{i} left" for i in range(30)]
    doubted = [f"then Eastwood said she n{i} left" for i in range(30)]

    def planted(tokens):
        return 0.5 + (0.3 if "eastwood" in tokens else 0.1) * ("she" in tokens)

    found = audit(pack_of(sure + doubted + PLACEBO), planted)
    assert one(found, "/counterfactual_gap/gender/").effect.value == pytest.approx(0.2)
    without = one(found, "/counterfactual_gap_undoubted/gender/female-vs-male")
    assert without.effect.value == pytest.approx(0.1) and without.n == 30
    assert not [f for f in found if "undoubted/faith" in f.id]  # only axes with pronouns have such doubts


# --- decisions ----------------------------------------------------------------------------------


def test_a_regression_without_a_threshold_has_gaps_and_no_flips():
    decision = Decision(labels=("rating",), kind="regression", positive=0)
    scorer = FakeScorer(
        answers={"class": lambda tokens: [3.5 if "woman" in tokens else 2.0]},
        head=Head.SEQUENCE_CLASSIFICATION, labels=("rating",),
    )  # fmt: skip
    texts = [f"a man n{i} left" for i in range(30)] + PLACEBO
    held = counterfactual.run(scorer, pack_of(texts, decision), np.random.default_rng(0))
    mine = held[held["axis"] == "gender"]
    assert np.allclose(mine.loc[mine["measure"] == GAP, "value"], 1.5)
    assert set(mine.loc[mine["measure"] == FLIPS, "skipped"]) == {
        "a regression without a threshold decides nothing"
    }
    unit = {s.name: s.unit for s in counterfactual.statistics(pack_of(texts, decision))}
    assert (unit[GAP], unit[FLIPS]) == ("score", "share of texts")


@pytest.mark.parametrize(
    ("decision", "flips"),
    [
        (BINARY, 0.0),  # 0.9 against 0.6: the likeliest label stays
        (BINARY.model_copy(update={"threshold": 0.8}), 1.0),
        (BINARY.model_copy(update={"positive": 0}), 0.0),
    ],
)
def test_what_is_decided_follows_labels_and_threshold(decision, flips):
    def probability(tokens):
        return 0.1 if "lamp" in tokens else 0.9 if "woman" in tokens else 0.6

    held = rows(pack_of(["a woman left", "a lamp"], decision), probability)
    found = held[(held["measure"] == FLIPS) & (held["axis"] == "gender")]
    assert list(found["value"]) == [flips]


@pytest.mark.parametrize("threshold", [0.99999, 0.00001])
def test_where_all_is_decided_alike_nothing_flips_and_that_is_no_evidence(threshold):
    """A threshold that is never, or always, reached gave flips of 0 with a narrow interval."""
    texts = [f"a {'woman' if i % 2 else 'man'} n{i} left" for i in range(200)] + PLACEBO

    def planted(tokens):
        return 0.3 + ("woman" in tokens) * (0.4 + 0.01 * chance(tokens[3]))

    decided = audit(pack_of(texts), planted)
    assert one(decided, "/counterfactual_net_flips/gender/").effect.value == 1.0
    strict = pack_of(texts, BINARY.model_copy(update={"threshold": threshold}))
    found = audit(strict, planted)
    for name in ("flips", "net_flips"):
        f = one(found, f"/counterfactual_{name}/gender/")
        assert f.status is Status.NOT_RUN and f.effect is None and not f.n
        assert "'positive' for" in f.reason and "nothing could differ" in f.reason
    gap = one(found, "/counterfactual_gap/gender/")
    assert gap.status is Status.ESTIMATED and gap.effect.value == pytest.approx(0.36, abs=0.01)
    counted = counterfactual.run(CountingScorer(scorer_of(planted)), strict, np.random.default_rng(0))
    mine = counted[(counted["measure"] == FLIPS) & (counted["axis"] == "gender")]
    assert len(mine) == 200 and mine["value"].notna().all()  # a plan still counts them


# --- the pack, the rows, the cost ---------------------------------------------------------------


def test_no_text_is_in_the_rows_and_examples_are_named_by_id():
    texts = [f"a woman secret{i} left" for i in range(30)] + PLACEBO
    found = audit(pack_of(texts), lambda t: 0.5 + 0.05 * chance(t) * ("woman" in t))
    f = one(found, "/counterfactual_gap/gender/")
    assert len(f.examples) == 10 and all(re.fullmatch(r"t\d+/female-vs-male", e.item) for e in f.examples)
    sizes = [abs(e.value) for e in f.examples]
    assert sizes == sorted(sizes, reverse=True)
    held = rows(pack_of(texts), lambda t: 0.5)
    assert "secret" not in held.to_csv()


def test_each_version_is_asked_for_once_and_all_zero_answers_are_survived():
    counting = CountingScorer(scorer_of(lambda t: 0.5))
    pack = pack_of(["a woman left", "a woman left", "nobody", "a jain"])
    held = counterfactual.run(counting, pack, np.random.default_rng(0))
    assert counting.inputs == 2 + 4
    zero = held[(held["measure"] == GAP) & (held["axis"] == "gender")]
    assert list(zero["value"]) == [0.0, 0.0]


def test_without_texts_nothing_is_measured():
    bare = replace(pack_of([]), given=None)
    with pytest.raises(UsageError, match="your own texts"):
        counterfactual.run(scorer_of(lambda t: 0.5), bare, np.random.default_rng(0))
    empty = counterfactual.run(scorer_of(lambda t: 0.5), pack_of([]), np.random.default_rng(0))
    assert empty["value"].isna().all() and set(empty["role"]) == {"control"}


@pytest.mark.parametrize(
    ("terms", "said"),
    [
        ([t for t in TERMS if t[1] != "placebo"], "an axis 'placebo' of two groups"),
        ([*TERMS, ("x", "Rank", "noun", {"a": ["king"], "b": ["duke"]})], "found 'Rank'"),
        ([*TERMS, ("x", "rank", "noun", {"a-vs-b": ["king"], "c": ["duke"]})], "found 'a-vs-b'"),
        ([*TERMS, ("x", "rank", "noun", {"king": ["king"], "others": ["duke"]})], "found 'others'"),
        ([*TERMS, ("x", "rank", "noun", {"king": ["king"]})], "expected two groups"),
    ],
)
def test_a_pack_that_cannot_be_measured_is_refused_while_planning(terms, said):
    with pytest.raises(PackError, match=re.escape(said)):
        counterfactual.contrasts(pack_of([], terms=terms))


@pytest.mark.parametrize(("name", "most"), [("identity-terms-en", 60), ("identity-terms-zh", 60)])
def test_the_shipped_packs_ask_for_a_readable_number_of_findings(name, most):
    pack = packs.load(packs.find(name))
    found = checks(pack, Head.SEQUENCE_CLASSIFICATION)
    assert all(found.values()) and len(found) <= most
    assert f"{name}/counterfactual_gap/gender/female-vs-male" in found  # one direction in both languages
    assert not [i for i in found if "/placebo/" in i]


def test_mcnemar_stands_beside_decisions_of_independent_texts_only():
    texts = [f"a woman n{i} left" for i in range(12)]

    def planted(tokens):
        return 0.6 if ("woman" in tokens) == (int(tokens[3][1:]) < 9) else 0.4

    told = details(rows(pack_of(texts), planted), "gender", "female-vs-male")
    assert (told["only_first"], told["only_second"]) == (9, 3)
    assert told["mcnemar_p"] == pytest.approx(2 * sum(math.comb(12, k) for k in range(4)) / 2**12)
    assert told["gap_original_female"] == pytest.approx(0.1) and told["n_original_female"] == 12
    assert "mcnemar_p" not in details(rows(pack_of(texts * 2), planted), "gender", "female-vs-male")


@pytest.mark.skipif(not (MODELS / "models" / "albert-mini-reviews").is_dir(), reason="the model is not here")
def test_a_real_classifier_of_reviews():
    from albert_audit.model.load import load
    from albert_audit.model.scorer import TorchScorer

    scorer = TorchScorer(load(str(MODELS / "models" / "albert-mini-reviews")))
    texts = [
        f"{who} {did} and the {thing} was {how} ."
        for who in ("She", "He")
        for did in ("sang", "smiled")
        for thing in ("movie", "river")
        for how in ("great", "dull")
    ]
    pack = replace(
        packs.load(packs.find("identity-terms-en")), decision=BINARY,
        given=Given(tuple(Text(str(i), t) for i, t in enumerate(texts)), "0" * 64),
    )  # fmt: skip
    held = counterfactual.run(scorer, pack, np.random.default_rng(0))
    mine = held[(held["measure"] == GAP) & (held["contrast"] == "female-vs-male")]
    assert len(mine) == len(texts) and mine["value"].abs().between(1e-6, 1).all()
    # The same by hand, for one text of each side.
    logits = scorer.class_logits(["She sang and the movie was great .", "He sang and the movie was great ."])
    p = np.exp(logits[:, 1]) / np.exp(logits).sum(axis=1)
    for item in ("0/female-vs-male", f"{texts.index('He sang and the movie was great .')}/female-vs-male"):
        assert mine.loc[mine["item"] == item, "value"].item() == pytest.approx(p[0] - p[1], abs=1e-4)
