"""Template gaps against sums written out by hand."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose
from scipy.special import logsumexp

from albert_audit import findings
from albert_audit.bias import COLUMNS, items
from albert_audit.bias.masked import template_gap
from albert_audit.model.cache import FakeScorer
from albert_audit.packs import Filler, Pack, Template
from tests.fakes import gap_pack, leaning, measure, noisy, one, policy, spec, towards

PIECES = {"nurse": ["nur", "se"], "themself": ["them", "self"], "zebra": ["<unk>"], "okapi": ["<unk>", "api"]}
GROUPS = {"female": ["she"], "male": ["he"], "nonbinary": ["they", "themself"]}
M = "[MASK]"


def pieces(word):
    return PIECES.get(word, [word])


def pack(*forms, text="The {filler} said {target} left.", **changes):
    fillers = tuple(Filler(f, f, "g", i / 10) for i, f in enumerate(forms))
    return Pack(
        spec(groups=GROUPS, **changes), "0" * 64, templates=(Template("t", "a", text),), fillers=fillers
    )


def rows_of(pack, logprob=None, **options):
    scorer = FakeScorer(logprob or noisy(), pieces=options.pop("pieces", pieces), **options)
    return measure(pack, scorer).rows


def value(rows, filler, contrast, role):
    found = rows[(rows["item"] == f"t/{filler}") & (rows["contrast"] == contrast) & (rows["role"] == role)
                 & (rows["measure"] == "template_gap")]  # fmt: skip
    assert len(found) == 1
    return found["value"].item()


# --- by hand ------------------------------------------------------------------------------------


def by_hand(lp, filler):
    """log P of every word where the filler is seen, or masked by as many masks as it has pieces."""

    def sentence(*middle):
        return ("[CLS]", "the", *filler, "said", *middle, "left", ".", "[SEP]")

    at = 3 + len(filler)
    one = {w: lp(sentence(M), at, w) for w in ("she", "he", "they")}
    # Two pieces: both masked, then the second with the first uncovered.
    one["themself"] = lp(sentence(M, M), at, "them") + lp(sentence("them", M), at + 1, "self")
    return one


@pytest.mark.parametrize(("form", "seen"), [("cook", ("cook",)), ("nurse", ("nur", "se"))])
def test_words_of_one_and_more_pieces(form, seen):
    lp = noisy(1)
    rows = rows_of(pack("cook", "nurse"), lp)
    for role, shown in (("probe", seen), ("prior", (M,) * len(seen))):
        p = by_hand(lp, shown)
        groups = {"female": p["she"], "male": p["he"], "nonbinary": logsumexp([p["they"], p["themself"]])}
        for group in ("female", "nonbinary"):
            found = value(rows, form, f"{group}-vs-male", role)
            assert_allclose(found, groups[group] - groups["male"], atol=1e-5)
        if role == "probe":
            mass = rows[(rows["measure"] == "target_mass") & (rows["item"] == f"t/{form}")]["value"].item()
            assert_allclose(mass, sum(math.exp(g) for g in groups.values()), rtol=1e-5)


def test_the_prior_masks_as_many_pieces_as_the_filler_has():
    asked = []

    def lp(tokens, at, token):
        asked.append(tokens)
        return -1.0

    rows_of(pack("cook", "nurse"), lp)
    priors = {t for t in asked if t[2] == M}
    assert ("[CLS]", "the", M, "said", M, "left", ".", "[SEP]") in priors
    assert ("[CLS]", "the", M, M, "said", M, "left", ".", "[SEP]") in priors
    assert not any(t[2] == "nur" and t[3] == M for t in asked), "half a word was left visible"
    assert not any(t[2] == M and t[3] == "se" for t in asked)


def test_the_prior_is_that_of_its_own_template():
    two = Pack(spec(), "0" * 64, fillers=(Filler("f1", "f1", "g", None), Filler("f2", "f2", "g", None)),
               templates=(Template("t1", "a", "The {filler} t1 said {target} left."),
                          Template("t2", "a", "The {filler} t2 said {target} left.")))  # fmt: skip
    lp = noisy(2)
    rows = measure(two, lp).rows
    for t in ("t1", "t2"):
        tokens = ("[CLS]", "the", M, t, "said", M, "left", ".", "[SEP]")
        prior = lp(tokens, 5, "she") - lp(tokens, 5, "he")
        found = rows[(rows["role"] == "prior") & (rows["cluster_a"] == t)]["value"]
        assert_allclose(found, [prior, prior], atol=1e-5)


def test_the_word_is_asked_for_as_it_stands_in_the_sentence():
    # "He" begins a word, "he" goes on within one: two pieces, as ▁he and he are.
    made = {"he": ["He"], "she": ["She"], "they": ["They"], "the": ["T", "he"], "themself": ["Them", "self"]}

    def lp(tokens, at, token):
        assert token in {"He", "She", "They", "Them", "self"}, token
        return {"He": -2.0, "She": -1.0}.get(token, -3.0)

    rows = rows_of(pack("cook"), lp, pieces=lambda w: made.get(w, [w]))
    assert value(rows, "cook", "female-vs-male", "probe") == 1.0


def test_each_input_is_sent_once():
    calls = []

    class Scorer(FakeScorer):
        def mask_logprobs(self, queries):
            calls.append(queries)
            return super().mask_logprobs(queries)

    measure(gap_pack(3, 5), Scorer(leaning(towards(lambda i, j: 0.0))))
    assert len(calls) == 1
    sent = [(q.ids, q.masked, q.at) for q in calls[0]]
    assert len(sent) == len(set(sent)) == 3 * 5 + 3  # one a cell, and one prior a template
    assert all(len(q.ask[0]) == 2 for q in calls[0])


# --- planted ------------------------------------------------------------------------------------


def test_a_planted_gap_is_found_exactly():
    planted = np.random.default_rng(0).normal(size=(4, 6))
    rows = measure(gap_pack(4, 6), leaning(towards(lambda i, j: planted[i, j]))).rows
    found = items(rows[rows["measure"] == "template_gap"], prior=True)
    assert_allclose(found["value"].to_numpy().reshape(4, 6), planted, atol=1e-5)
    assert list(found["item"][:2]) == ["t0/f0", "t0/f1"]
    assert_allclose(found["covariate"][:6], np.linspace(0, 1, 6))


def test_changing_the_sides_changes_the_sign():
    lean = leaning(towards(lambda i, j: 0.1 * i + 0.05 * j))
    one = measure(gap_pack(3, 4), lean).rows
    two = measure(gap_pack(3, 4, reference="female"), lean).rows
    three = measure(gap_pack(3, 4, groups={"female": ["he"], "male": ["she"]}), lean).rows
    pick = [r[r["measure"] == "template_gap"] for r in (one, two, three)]
    assert set(pick[0]["contrast"]) == set(pick[2]["contrast"]) == {"female-vs-male"}
    assert set(pick[1]["contrast"]) == {"male-vs-female"}
    assert_allclose(pick[0]["value"].to_numpy(), -pick[1]["value"].to_numpy(), atol=1e-6)
    assert_allclose(pick[0]["value"].to_numpy(), -pick[2]["value"].to_numpy(), atol=1e-6)


@pytest.mark.parametrize("mass", [0.9, 1e-3, 1e-7])
def test_the_mass_of_the_words(mass):
    rows = measure(gap_pack(2, 2), leaning(towards(lambda i, j: 1.0), mass=mass)).rows
    found = rows[rows["measure"] == "target_mass"]
    assert_allclose(found["value"], [mass] * 4, rtol=1e-4)
    assert set(found["contrast"]) == {"all"} and set(found["role"]) == {"probe"}


def test_differences_within_rounding_are_ties():
    rows = measure(gap_pack(2, 3), leaning(towards(lambda i, j: [0.0, 5e-5, 5e-4][j]))).rows
    found = items(rows[rows["measure"] == "template_gap"], prior=True)["value"]
    assert list(found[:2]) == [0.0, 0.0] and found[2] == pytest.approx(5e-4, abs=1e-6)


# --- what could not be scored ---------------------------------------------------------------------


def test_every_item_has_its_rows_with_a_value_or_a_reason():
    rows = rows_of(pack("cook", "zebra", "nurse", "okapi"))
    assert tuple(rows.columns) == COLUMNS
    gaps = rows[rows["measure"] == "template_gap"]
    assert len(gaps) == 4 * 2 * 2 and not gaps.duplicated(["item", "contrast", "role"]).any()
    unknown = gaps["item"].isin(["t/zebra", "t/okapi"])
    assert set(gaps[unknown]["skipped"]) == {"holds a piece the vocabulary lacks"}
    assert gaps[unknown]["value"].isna().all() and gaps[~unknown]["value"].notna().all()
    assert set(gaps[~unknown]["skipped"]) == {""}
    assert len(rows[rows["measure"] == "target_mass"]) == 2, "no mass is claimed where nothing was scored"


@pytest.mark.parametrize("word", ["she", "he", "they", "said"])
def test_an_unknown_word_of_a_group_or_a_template_is_never_scored(word):
    rows = rows_of(pack("cook"), lambda *a: -1.0, pieces=lambda w: ["<unk>"] if w == word else [w])
    rows = rows[rows["measure"] != "single_piece"]
    assert rows["value"].isna().all() and set(rows["skipped"]) == {"holds a piece the vocabulary lacks"}


def test_too_long_is_a_reason_and_nothing_is_cut():
    rows = rows_of(pack("cook", "nurse"), max_tokens=9)  # "themself" makes it 9 with cook, 10 with nurse
    gaps = rows[rows["measure"] == "template_gap"]
    assert set(gaps[gaps["item"] == "t/nurse"]["skipped"]) == {"longer than 9 tokens"}
    assert gaps[gaps["item"] == "t/cook"]["value"].notna().all()


def test_a_piece_across_the_border_of_a_word_costs_one_item():
    class Gluing(FakeScorer):
        def _encode(self, text):
            e = super()._encode(text)
            if "nurse" not in text:
                return e
            start, end = e.offsets[2]
            offsets = (*e.offsets[:2], (start, end + 3), *e.offsets[3:])
            return type(e)(e.ids, e.type_ids, offsets, e.words, e.special)

    rows = measure(pack("cook", "nurse"), Gluing(noisy())).rows
    gaps = rows[rows["measure"] == "template_gap"]
    assert gaps[gaps["item"] == "t/cook"]["value"].notna().all()
    assert gaps[gaps["item"] == "t/nurse"]["value"].isna().all()
    assert "border" in gaps[gaps["item"] == "t/nurse"]["skipped"].iloc[0]


@pytest.mark.filterwarnings("ignore:invalid value:RuntimeWarning")
@pytest.mark.parametrize("score", [-math.inf, math.nan])
def test_a_score_that_is_no_number_is_skipped(score):
    rows = rows_of(pack("cook"), lambda tokens, at, token: score if token == "she" else -1.0)
    gaps = rows[(rows["measure"] == "template_gap") & (rows["contrast"] == "female-vs-male")]
    assert gaps["value"].isna().all() and set(gaps["skipped"]) == {"the model gave no finite score"}


# --- sentences --------------------------------------------------------------------------------------


def test_a_word_at_the_start_is_capitalised():
    template = Template("t", "a", "{target} left when the {filler} came.")
    text, spans = template.fill(target="she", filler="nurse")
    assert text == "She left when the nurse came."
    assert [text[a:b] for a, b in (spans["target"], spans["filler"])] == ["She", "nurse"]
    text, spans = Template("t", "a", "{filler} {target}").fill(target="she", filler="éclair chef")
    assert text == "Éclair chef she" and text[slice(*spans["target"])] == "she"
    assert Template("t", "a", "{filler} {target}").fill(target="Xe", filler="iOS user")[0] == "IOS user Xe"


def test_a_capital_at_the_start_changes_no_contrast():
    lp = noisy(3)
    rows = rows_of(pack("cook", text="{target} said the {filler} left."), lp)
    tokens = ("[CLS]", M, "said", "the", "cook", "left", ".", "[SEP]")
    assert_allclose(
        value(rows, "cook", "female-vs-male", "probe"), lp(tokens, 1, "she") - lp(tokens, 1, "he"), atol=1e-5
    )


def test_words_in_braces_and_several_words_are_text():
    template = Template("t", "a", "A {{brace}} for the {filler} and {target}.")
    assert (
        template.fill(target="she", filler="{target} driver")[0]
        == "A {brace} for the {target} driver and she."
    )
    lp = noisy(4)
    rows = rows_of(pack("truck driver"), lp)
    tokens = ("[CLS]", "the", M, M, "said", M, "left", ".", "[SEP]")
    assert_allclose(
        value(rows, "truck driver", "female-vs-male", "prior"),
        lp(tokens, 5, "she") - lp(tokens, 5, "he"),
        atol=1e-5,
    )


def test_contrasts_and_statistics():
    made = pack("cook")
    pairs = [("gender", "female-vs-male"), ("gender", "nonbinary-vs-male")]
    assert template_gap.contrasts(made) == [*pairs, ("gender", "all-groups")]
    found = {s.name: s.only for s in template_gap.statistics(made)}
    assert found == {"template_gap": ("female-vs-male", "nonbinary-vs-male"),
                     "template_gap_slope": ("female-vs-male", "nonbinary-vs-male"),
                     "template_gap_spread": ("all-groups",)}  # fmt: skip
    assert template_gap.contrasts(gap_pack(2, 2)) == pairs[:1]
    assert [s.name for s in template_gap.statistics(gap_pack(2, 2, share=False))] == ["template_gap"]


# --- three groups and more ------------------------------------------------------------------------

WORDS = {"a": "she", "b": "he", "c": "they"}


def three(values):
    """A pack and a model in which a filler moves each group's log-weight by `values`."""
    templates, fillers, _ = values.shape
    made = gap_pack(templates, fillers, share=False, groups={g: [w] for g, w in WORDS.items()}, reference="b")

    def logprob(tokens, at, token):
        if token not in WORDS.values():
            return -5.0
        t = int(next(x for x in tokens if x[0] == "t" and x[1:].isdigit())[1:])
        f = next((int(x[1:]) for x in tokens if x[0] == "f" and x[1:].isdigit()), None)
        g = list(WORDS.values()).index(token)
        return -3.0 + 0.2 * g + (0.0 if f is None else float(values[t, f, g]))

    return made, logprob


def test_the_spread_of_three_groups_is_found():
    """Ahn and Oh's variance, prior included: each group's row is log P / P_prior."""
    rng = np.random.default_rng(1)
    planted = rng.normal(scale=0.4, size=(1, 15, 3)) + rng.normal(scale=0.1, size=(12, 15, 3))
    found = findings.build(
        [measure(*three(planted))], FakeScorer(noisy()).id, policy(), seed=0
    )  # fmt: skip
    spread = one(found, "template_gap_spread")
    assert spread.id == "probe-en/template_gap_spread/gender/all-groups" and spread.n == 12 * 15 * 3
    c = planted - planted.mean(axis=2, keepdims=True)
    c = c - c.mean(axis=1, keepdims=True)
    by_hand = np.mean(
        [(c[s] * c[t]).sum() / (14 * 2) for s in range(12) for t in range(12) if s != t]
    )  # pairs of different templates, one by one
    assert_allclose(spread.effect.value, by_hand, rtol=1e-4)
    assert_allclose(spread.details["plain_variance"], planted.var(axis=2, ddof=1).mean(), rtol=1e-4)
    assert spread.effect.p == 1 / 2000 and spread.effect.intervals["0.95"].low > 0
    assert len([f for f in found if "all-groups" in f.id]) == 1, "no mean and no slope of all groups at once"


def test_a_general_lean_is_no_spread():
    """A variance over groups is positive even where every filler does the same (trap 20's kin)."""
    lean = np.broadcast_to(np.array([1.0, 0.0, -1.0]), (10, 12, 3))
    level = np.random.default_rng(0).normal(size=(10, 1, 3))
    spread = one(
        findings.build([measure(*three(lean + level))], FakeScorer(noisy()).id, policy(), 0), "spread"
    )
    assert spread.details["plain_variance"] > 1
    assert abs(spread.effect.value) < 1e-6


def test_a_copy_of_every_template_is_no_new_evidence():
    """Trap 25: rows of one template and filler, ten times over, narrow nothing."""
    values = np.random.default_rng(2).normal(size=(10, 12, 3))
    rows = items(measure(*three(values)).rows.query("measure == 'group_logratio'"), prior=True)
    ten = pd.concat([rows.assign(item=rows["item"] + f"/{i}") for i in range(10)])
    one_, more = (template_gap.spread(r, 1, np.random.default_rng(0)) for r in (rows, ten))
    assert more.counts == one_.counts == ((10, 10.0), (12, 12.0))
    assert_allclose(more.estimate.value, one_.estimate.value)
    assert_allclose(more.estimate.se, one_.estimate.se)
    assert_allclose(more.estimate.p, one_.estimate.p)


def test_a_filler_that_is_not_scored_everywhere_leaves_the_spread():
    values = np.random.default_rng(3).normal(size=(10, 12, 3))
    rows = items(measure(*three(values)).rows.query("measure == 'group_logratio'"), prior=True)
    short = template_gap.spread(rows[rows["item"] != "t0/f0/a"], 1, np.random.default_rng(0))
    assert short.details["fillers"] == 11 and short.details["fillers_incomplete"] == 1
    none = template_gap.spread(rows[rows["cluster_b"] == "f0"], 1, np.random.default_rng(0))
    assert none.estimate.df == 0 and not none.estimate.intervals


def test_words_of_one_piece_and_unknown_words_are_counted():
    """Trap 9: a word of several pieces is told, not cut to its first."""
    rows = rows_of(pack("cook", "nurse", "zebra")).query("measure == 'single_piece'").set_index("item")
    assert rows.loc["filler/cook", "value"] == 1 and rows.loc["filler/nurse", "value"] == 0
    assert rows["value"].isna()["filler/zebra"] and rows.loc["filler/zebra", "skipped"]
    assert rows.loc["nonbinary/0", "value"] == 1 and rows.loc["nonbinary/1", "value"] == 0
    assert len(rows) == 3 + 4
