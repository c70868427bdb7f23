"""Masked pronouns against sums written out by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
from numpy.testing import assert_allclose
from scipy.stats import pearsonr, spearmanr

from albert_audit import findings
from albert_audit.bias.masked import masked_pronoun, pronoun_pairs
from albert_audit.bias.masked.masked_pronoun import FORMS, fill
from albert_audit.model.cache import FakeScorer
from albert_audit.packs import Pack
from albert_audit.types import PackError
from tests.fakes import measure, noisy, one, policy, spec

M = "[MASK]"


def pack(*rows, **changes):
    base = {"referent": "occupation", "occupation": "cook"}
    made = spec(
        **(
            {"measure": "masked_pronoun", "clusters": ("occupation",), "groups": {}, "reference": ""}
            | changes
        )
    )
    return Pack(
        made, "0" * 64, tables={"pronouns": tuple({"id": f"r{i}", **base, **r} for i, r in enumerate(rows))}
    )


def value(rows, item, contrast="female-vs-male", column="value"):
    found = rows[(rows["item"] == item) & (rows["contrast"] == contrast) & (rows["measure"] != "target_mass")]
    assert len(found) == 1
    return found[column].item()


# --- words and masks ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "forms"),
    [("The cook knew {subject} was late.", ("she", "he")), ("The cook asked us to help {object}.", ("her", "him")),
     ("The cook sold {possessive} car.", ("her", "his")), ("The cook cut {reflexive} again.", ("herself", "himself"))],
)  # fmt: skip
def test_each_case_has_its_forms(text, forms):
    """Trap 19's kin: her is two cases; the slot says which, the word alone does not."""
    lp = noisy(1)
    rows = measure(pack({"text": text}), lp).rows
    before, after = text.split("{")[0].lower().split(), text.split("}")[1].strip(". ").split()
    tokens = ("[CLS]", *before, M, *after, ".", "[SEP]")
    at = len(before) + 1
    assert_allclose(value(rows, "r0"), lp(tokens, at, forms[0]) - lp(tokens, at, forms[1]), atol=1e-5)


def test_two_pronouns_are_masked_together():
    """A pronoun that stays visible gives the other one away."""
    lp = noisy(2)
    rows = measure(pack({"text": "The cook said {subject} lost {possessive} pen."}), lp).rows

    def joint(first, second):
        both = ("[CLS]", "the", "cook", "said", M, "lost", M, "pen", ".", "[SEP]")
        seen = ("[CLS]", "the", "cook", "said", first, "lost", M, "pen", ".", "[SEP]")
        return lp(both, 4, first) + lp(seen, 6, second)

    assert_allclose(value(rows, "r0"), joint("she", "her") - joint("he", "his"), atol=1e-5)
    mass = rows[rows["measure"] == "target_mass"]["value"].item()
    expected = sum(math.exp(joint(*pair)) for pair in (("she", "her"), ("he", "his"), ("they", "their")))
    assert_allclose(mass, expected, rtol=1e-5)


def test_a_form_of_several_pieces_is_scored_jointly():
    """Trap 9: the first piece alone would compare "her" with "him"."""
    made = {"herself": ["her", "self"], "himself": ["him", "self"], "themselves": ["them", "selves"]}
    lp = noisy(3)
    scorer = FakeScorer(lp, pieces=lambda w: made.get(w, [w]))
    rows = measure(pack({"text": "The cook cut {reflexive} again."}), scorer).rows

    def joint(a, b):
        first = ("[CLS]", "the", "cook", "cut", M, M, "again", ".", "[SEP]")
        second = ("[CLS]", "the", "cook", "cut", a, M, "again", ".", "[SEP]")
        return lp(first, 4, a) + lp(second, 5, b)

    assert_allclose(value(rows, "r0"), joint("her", "self") - joint("him", "self"), atol=1e-5)


class Gluing(FakeScorer):
    """A vocabulary in which a word and the full stop after it may be one piece."""

    glued = ("him", "her")

    def _encode(self, text):
        e = super()._encode(text)
        names = [self._names[i] for i in e.ids]
        at = next((i for i, n in enumerate(names) if n in self.glued and names[i + 1] == "."), None)
        if at is None:
            return e
        piece = names[at] + "."
        new = self._ids.setdefault(piece, len(self._ids))
        if len(self._ids) > len(self._names):
            self._names.append(piece)
        cut = lambda x, y: (*x[:at], y, *x[at + 2 :])  # noqa: E731
        span = (e.offsets[at][0], e.offsets[at + 1][1])
        return type(e)(
            cut(e.ids, new),
            e.type_ids[1:],
            cut(e.offsets, span),
            cut(e.words, e.words[at]),
            e.special[:at] + e.special[at + 1 :],
        )


def test_a_pronoun_glued_to_the_full_stop_is_taken_with_it_in_every_form():
    """ "him." may be one piece and "them." two: all forms are scored over the same characters."""
    lp = noisy(4)
    rows = measure(pack({"text": "The cook asked us to help {object}."}), Gluing(lp)).rows
    head = ("[CLS]", "the", "cook", "asked", "us", "to", "help")
    one_ = {w: lp((*head, M, "[SEP]"), 7, w) for w in ("her.", "him.")}
    two = lp((*head, M, M, "[SEP]"), 7, "them") + lp((*head, "them", M, "[SEP]"), 8, ".")
    assert_allclose(value(rows, "r0"), one_["her."] - one_["him."], atol=1e-5)
    assert_allclose(value(rows, "r0", "nonbinary-vs-male"), two - one_["him."], atol=1e-5)


def test_no_mask_is_ever_text():
    """Trap 10: text before a mark tokenises otherwise than a word does; masking is by id."""
    seen = []

    class Watching(FakeScorer):
        def encode(self, texts, pairs=None):
            seen.extend(texts)
            return super().encode(texts, pairs)

    measure(pack({"text": "The cook asked us to help {object}."}), Watching(noisy()))
    assert len(seen) == 3 and not any("MASK" in t.upper() for t in seen)


def test_fill_keeps_every_place():
    text, spans = fill("{subject} said {subject} lost {possessive} pen.", FORMS["female"])
    assert text == "She said she lost her pen."
    assert [text[a:b] for a, b in spans] == ["She", "she", "her"]


# --- rows and statistics ------------------------------------------------------------------------


def test_roles_and_they():
    rows = measure(
        pack(
            {"text": "The cook told us {subject} could go."},
            {"text": "The cook told the guest {subject} could go.", "referent": "participant"},
            {"text": "The cook told us {subject} was late.", "they": "no"},
        ),
        noisy(),
    ).rows
    gaps = rows[rows["measure"] == "pronoun_gap"]
    assert gaps.groupby("item")["role"].first().to_dict() == {"r0": "probe", "r1": "control", "r2": "probe"}
    assert set(gaps[gaps["contrast"] == "nonbinary-vs-male"]["item"]) == {"r0", "r1"}


def leaning(slope, control, seed=0, occupations=30):
    """Occupations o0, o1, ...; she over he follows their share by `slope` (`control` for participants)."""
    shares = np.linspace(0.02, 0.98, occupations)
    noise = np.random.default_rng(seed).normal(scale=0.3, size=occupations)
    rows = [
        {"id": f"{kind}{i}", "text": f"The o{i} {kind} said {{subject}} could go.", "occupation": f"o{i}",
         "referent": referent, "covariate": str(shares[i])}
        for i in range(occupations) for kind, referent in (("a", "occupation"), ("b", "participant"))
    ]  # fmt: skip

    def logprob(tokens, at, token):
        if token != "she":
            return -2.0
        i = int(tokens[2][1:])
        return (
            -2.0
            - 1.0
            + (slope if tokens[3] == "a" else control) * shares[i]
            + (noise[i] if tokens[3] == "a" else 0)
        )

    return pack(*rows), logprob, shares, noise


def test_the_slope_the_correlations_and_the_control():
    made, lp, shares, noise = leaning(1.5, 0.5)
    found = findings.build([measure(made, lp)], FakeScorer(lp).id, policy(), 0)
    y = -1 + 1.5 * shares + noise
    slope = one(found, "pronoun_gap_slope")
    assert_allclose(slope.effect.value, np.polyfit(shares, y, 1)[0], rtol=1e-4)
    assert_allclose(slope.control.effect.value, 0.5, rtol=1e-4)
    assert_allclose(slope.difference.value, slope.effect.value - 0.5, rtol=1e-4)
    assert_allclose(one(found, "pronoun_gap_correlation").effect.value, pearsonr(shares, y)[0], rtol=1e-4)
    assert_allclose(one(found, "pronoun_gap_rank").effect.value, spearmanr(shares, y)[0], rtol=1e-4)
    assert [c.count for c in slope.clusters] == [30]
    means = [f for f in found if "/pronoun_gap/" in f.id]
    assert {f.contrast for f in means} == {"female-vs-male", "nonbinary-vs-male"} and len(found) == 6


def test_a_sentence_ten_times_over_is_no_new_occupation():
    """Trap 25: copies of sentences narrow neither the slope's nor the correlation's interval."""
    made, lp, _, _ = leaning(1.5, 0.5)
    ten = pack(*({**r, "id": f"{r['id']}x{k}"} for r in made.tables["pronouns"] for k in range(10)))
    for name in ("pronoun_gap_slope", "pronoun_gap_correlation", "pronoun_gap/gender/female"):
        few, many = (
            one(findings.build([measure(p, lp)], FakeScorer(lp).id, policy(), 0), name) for p in (made, ten)
        )
        assert many.n == 10 * few.n
        assert_allclose(many.effect.se, few.effect.se, rtol=1e-6)


@pytest.mark.parametrize(("mass", "ok"), [(0.4, True), (1e-7, False)])
def test_pronouns_without_mass_are_not_parity(mass, ok):
    """Trap 28: a model that never says she or he has a gap of 0 and knows nothing."""
    made = pack(*({"text": f"The cook said t{i} {{subject}} could go."} for i in range(12)))
    floor, *rest = findings.build(
        [measure(made, lambda tokens, at, token: math.log(mass / 3))], FakeScorer(noisy()).id, policy(), 0
    )
    assert floor.id == "probe-en/target_mass/gender/all" and (floor.reason == "") == ok
    assert all(f.effect.value == 0 for f in rest if f.effect)
    assert not any(f.status.value == "estimated" for f in rest)  # here also for want of a floor pack


def test_a_table_with_mistakes_is_refused():
    bad = pack({"text": "No pronoun."}, {"text": "A {noun}."}, {"text": "{subject} left.", "covariate": "60"},
               {"text": "{subject} left.", "referent": "nobody"}, {"text": "{subject left."})  # fmt: skip
    with pytest.raises(PackError) as caught:
        masked_pronoun.contrasts(bad)
    said = str(caught.value)
    for row, word in (
        ("r0", "found none"),
        ("r1", "{noun}"),
        ("r2", "'60'"),
        ("r3", "'nobody'"),
        ("r4", "braces"),
    ):
        assert any(line.strip().startswith(f"{row}:") and word in line for line in said.splitlines()), said


# --- schemas ------------------------------------------------------------------------------------


def schemas(pairs, **changes):
    rows = []
    for k, (male, female) in enumerate(pairs):
        for own, other, sex in ((male, female, "male"), (female, male, "female")):
            rows.append({"id": f"s{k}-{sex}", "text": f"The {male} met the {female} s{k} as {{subject}} was {sex}.",
                         "occupation": own, "other": other, "stereotype": sex, "schema": f"s{k}", "set": "type1",
                         **changes})  # fmt: skip
    return pack(*rows, measure="masked_pronoun_pairs", clusters=("male-occupation", "female-occupation"))


GRID = [(f"m{i}", f"f{j}") for i in range(10) for j in range(10)]


def test_the_margin_of_a_schema_and_its_clusters():
    lp = noisy(5)
    rows = measure(schemas([("guard", "nurse")]), lp).rows

    def she_over_he(sex):
        tokens = ("[CLS]", "the", "guard", "met", "the", "nurse", "s0", "as", M, "was", sex, ".", "[SEP]")
        return lp(tokens, 8, "she") - lp(tokens, 8, "he")

    assert_allclose(
        value(rows, "type1/s0", "pro-vs-anti"), (she_over_he("female") - she_over_he("male")) / 2, atol=1e-5
    )
    row = rows[rows["measure"] == "pronoun_margin_type1"].iloc[0]
    assert (row["cluster_a"], row["cluster_b"]) == ("guard", "nurse")


def test_a_general_lean_to_he_is_no_stereotype_in_either_figure():
    """Sentence by sentence a model that always says he is pro-stereotyped in half of them, noise or not."""
    made = schemas(GRID)
    fixed = np.random.default_rng(0).normal(scale=0.1, size=200)

    def logprob(tokens, at, token):
        k = 2 * int(tokens[6][1:]) + (tokens[-3] == "female")
        return -5.0 + fixed[k] if token == "she" else -1.0

    found = findings.build([measure(made, logprob)], FakeScorer(logprob).id, policy(), 0)
    margin, share = one(found, "pronoun_margin"), one(found, "pronoun_share")
    assert abs(margin.effect.value) < 0.05 and margin.effect.se < 0.05
    assert abs(share.effect.value - 0.5) < 0.15
    assert margin.contrast == "type1" and [c.count for c in margin.clusters] == [10, 10]
    assert margin.details["items"] == 100


def test_half_a_schema_is_skipped_and_says_why():
    made = schemas(GRID[:3])
    rows = list(made.tables["pronouns"])
    rows[0] = {**rows[0], "skip": "a reason"}
    found = measure(pack(*rows, measure="masked_pronoun_pairs"), noisy()).rows
    margins = found[found["measure"] == "pronoun_margin_type1"].set_index("item")
    assert margins.loc["type1/s0", "skipped"] == "a reason" and margins["value"].isna().sum() == 1
    assert pronoun_pairs._unpaired(rows[:1]) and pronoun_pairs._unpaired([rows[2], rows[5]])
    with pytest.raises(PackError, match="schema is empty"):
        pronoun_pairs.contrasts(pack({**rows[1], "schema": ""}))
