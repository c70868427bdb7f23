"""Template scores: what is compared with what, what is left out, and what a null model gives."""

from __future__ import annotations

import math
import sys
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from albert_audit import packs
from albert_audit.bias.classifier import class_floor, persons, template_score
from albert_audit.findings import Measured, build
from albert_audit.model.cache import CountingScorer, FakeScorer
from albert_audit.packs import Pack, Template
from albert_audit.stats import Design, estimate
from albert_audit.types import Decision, Head, PackError, Status, UsageError
from tests.fakes import one, policy, rule, spec

BINARY = Decision(labels=("negative", "positive"), positive=1)
PERSONS = sorted(p for p in packs.shipped() if p.startswith("persons-"))
MEASURES = ("score_gap", "score_gap_abs", "score_flips", "score_net_flips")


def persons_pack(templates=12, pairs=12, *, contexts=2, decision=BINARY, rows=None, **changes):
    """Templates t0, t1, ...; persons a0 of the group, r0 matched with it, w0 the twin of r0."""
    made = [
        Template(f"t{i}", "even" if i % 2 == 0 else "odd", f"{{person}} t{i} sat.") for i in range(templates)
    ]
    spoken = []
    if contexts:  # the last template has contexts of its own
        made[-1] = Template(made[-1].id, "odd", f"{{person}} t{templates - 1} was {{context}}.")
        spoken = [
            {"id": f"c{k}", "template": made[-1].id, "kind": "joy", "form": f"c{k}"} for k in range(contexts)
        ]
    people = rows or [
        row
        for j in range(pairs)
        for row in (
            {"id": f"r{j}", "group": "ref", "form": f"r{j}", "kind": "noun", "match": ""},
            {"id": f"w{j}", "group": "ref", "form": f"w{j}", "kind": "noun", "match": f"r{j}"},
            {"id": f"a{j}", "group": "grp", "form": f"a{j}", "kind": "noun", "match": f"r{j}"},
        )
    ]
    base = {
        "name": "persons-x-en", "measure": "template_score", "axis": "x", "family": "persons",
        "clusters": ("template", "person"), "groups": {}, "reference": "ref",
        "may_gate": (Head.SEQUENCE_CLASSIFICATION,), "margins": {"score_gap": 0.1},
    }  # fmt: skip
    return Pack(
        spec(**(base | changes)), "4" * 64, templates=tuple(made), decision=decision,
        tables={"persons": tuple(people), "contexts": tuple(spoken)},
    )  # fmt: skip


def floor_pack(decision=BINARY):
    rows = [
        {"id": f"{side}{i}", "kind": "review", "polarity": side, "text": f"{word} n{i}."}
        for side, word in (("positive", "good"), ("negative", "bad"))
        for i in range(30)
    ]
    made = spec(
        name="class-floor-en", measure="class_floor", axis="", groups={}, reference="", clusters=(), family=""
    )
    return Pack(made, "5" * 64, decision=decision, tables={"polar": tuple(rows)})


def scorer(logit, **options):
    """A binary classifier from the log-odds of *positive*, given the words of the text."""

    def answer(tokens):
        x = logit([t for t in tokens[1:-1] if t != "."])
        return [0.0, x]

    return FakeScorer(
        answers={"class": answer},
        head=Head.SEQUENCE_CLASSIFICATION,
        labels=("negative", "positive"),
        **options,
    )


def effects(
    seed, templates, pairs, *, person=0.6, template=0.4, cell=0.3, shift=0.0, group=lambda p: p[0] == "a"
):
    """Log-odds with random effects of templates and persons and no effect of the group, but `shift`."""
    rng = np.random.default_rng(seed)
    of_template = {f"t{i}": template * rng.normal() for i in range(templates)}
    of_person = {f"{g}{j}": person * rng.normal() for g in "arw" for j in range(pairs)}
    of_cell = {(t, p): cell * rng.normal() for t in of_template for p in of_person}
    polar = {"good": 3.0, "bad": -3.0}

    def logit(words):
        if words[0] in polar:
            return polar[words[0]]
        p, t = words[0], words[1]
        return of_template[t] + of_person[p] + of_cell[t, p] + shift * group(p) + (words[-1][0] == "c") * 0.1

    return logit


def run(pack, asked, seed=0):
    return template_score.run(asked, pack, np.random.default_rng(seed))


def findings(pack, asked, *rules):
    floor = floor_pack(pack.decision)
    floors = template_floor(floor, asked)
    return build([floors, Measured(pack, run(pack, asked))], asked.id, policy(*rules), 0)


def template_floor(floor, asked):
    return Measured(floor, class_floor.run(asked, floor, np.random.default_rng(0)))


# --- what is compared ---------------------------------------------------------------------------


def test_each_item_is_the_difference_of_two_probabilities():
    logit = effects(1, 12, 12, shift=0.8)
    rows = run(persons_pack(), scorer(logit))

    def p(*words):
        return 1 / (1 + math.exp(-np.float32(logit(list(words)))))

    gaps = rows[rows["measure"] == "score_gap"].set_index(["role", "item"])["value"]
    assert gaps["probe", "t3/-/a5"] == pytest.approx(p("a5", "t3", "sat") - p("r5", "t3", "sat"), abs=1e-6)
    assert gaps["control", "t3/-/w5"] == pytest.approx(p("w5", "t3", "sat") - p("r5", "t3", "sat"), abs=1e-6)
    assert gaps["probe", "t11/c1/a0"] == pytest.approx(
        p("a0", "t11", "was", "c1") - p("r0", "t11", "was", "c1"), abs=1e-6
    )


def test_the_four_rows_of_an_item_agree():
    rows = run(persons_pack(), scorer(effects(2, 12, 12)))
    assert Counter(rows["measure"]) == dict.fromkeys(MEASURES, 2 * 12 * 13)
    wide = rows.pivot(index=["role", "item"], columns="measure", values="value")
    assert np.allclose(wide["score_gap_abs"], wide["score_gap"].abs())
    assert np.allclose(wide["score_flips"], wide["score_net_flips"].abs())
    flipped = wide[wide["score_flips"] == 1]
    assert len(flipped) > 10 and (np.sign(flipped["score_gap"]) == flipped["score_net_flips"]).all()
    assert set(rows["unit"]) == {"probability", "share of sentences"}
    assert not rows.duplicated(["measure", "contrast", "role", "item"]).any()


def test_a_pair_and_the_twin_of_one_person_share_a_cluster():
    """Else gap and control would be taken as independent though they share that person."""
    rows = run(persons_pack(), scorer(effects(2, 12, 12)))
    assert set(rows["cluster_a"]) == {f"t{i}" for i in range(12)}
    assert (rows["cluster_b"] == "r" + rows["item"].str.rsplit("/").str[-1].str[1:]).all()


def test_the_control_holds_the_kinds_of_its_contrast_only():
    rows = [
        {"id": f"{p}{j}", "group": "ref" if p != "a" else "grp", "form": f"{p}{j}",
         "kind": "noun" if j < 10 else "name", "match": "" if p == "r" else f"r{j}"}
        for j in range(15) for p in "rwa" if not (p == "a" and j >= 10)
    ]  # fmt: skip
    found = run(persons_pack(rows=rows), scorer(effects(2, 12, 15)))
    twins = set(found.loc[found["role"] == "control", "cluster_b"])
    assert twins == {f"r{j}" for j in range(10)}


def test_everything_is_asked_in_one_call_and_each_text_once(monkeypatch):
    asked, calls = scorer(effects(3, 12, 12)), []
    inner = asked.class_logits
    monkeypatch.setattr(asked, "class_logits", lambda texts: calls.append(list(texts)) or inner(texts))
    run(persons_pack(), asked)
    assert len(calls) == 1
    assert len(calls[0]) == len(set(calls[0])) == 13 * 36  # swaps within the group cost nothing more


def test_a_sentence_begins_with_a_capital():
    pack = replace(persons_pack(), templates=(Template("t0", "f", "{person} t0 sat."),))
    sentence = persons.Sentence(pack.templates[0], "-", "")
    person = persons.Person("m", "grp", "my mother", "noun")
    assert sentence.fill(person) == ("My mother t0 sat.", (0, 9))


# --- decisions ----------------------------------------------------------------------------------


def test_a_regression_without_threshold_has_gaps_and_no_flips():
    one_number = FakeScorer(
        answers={"class": lambda tokens: [float(tokens[1][0] == "a")]},
        head=Head.SEQUENCE_CLASSIFICATION, labels=("score",),
    )  # fmt: skip
    pack = persons_pack(decision=Decision(labels=("score",), kind="regression", positive=0))
    rows = run(pack, one_number)
    gaps = rows[(rows["measure"] == "score_gap") & (rows["role"] == "probe")]
    assert (gaps["value"] == 1).all() and set(gaps["unit"]) == {"score"}
    flips = rows[rows["measure"].isin(["score_flips", "score_net_flips"])]
    assert len(flips) and flips["value"].isna().all() and set(flips["skipped"]) == {template_score.UNDECIDED}


def test_a_threshold_and_several_labels_decide_flips():
    logit = effects(4, 12, 12)
    high = persons_pack(decision=BINARY.model_copy(update={"threshold": 0.9}))
    plain, strict = run(persons_pack(), scorer(logit)), run(high, scorer(logit))

    def flips(rows):
        return rows.loc[rows["measure"] == "score_flips", "value"].mean()

    assert flips(strict) < flips(plain)
    multi = persons_pack(decision=BINARY.model_copy(update={"kind": "multi"}))
    assert np.allclose(run(multi, scorer(logit))["value"], plain["value"], atol=1e-6)  # other label at 0


@pytest.mark.parametrize("threshold", [0.99999, 0.00001])
def test_where_all_is_decided_alike_flips_are_no_evidence(threshold):
    pack = persons_pack(decision=BINARY.model_copy(update={"threshold": threshold}))
    asked = scorer(effects(4, 12, 12))
    rows = run(pack, asked)
    flips = rows[rows["measure"].isin(["score_flips", "score_net_flips"])]
    assert len(flips) and flips["value"].isna().all()
    how = "none" if threshold > 0.5 else "each"
    assert flips["skipped"].str.startswith(f"the model decides 'positive' for {how} of the 468 texts").all()
    assert rows.loc[rows["measure"] == "score_gap", "value"].notna().all()
    counted = run(pack, CountingScorer(asked))  # a plan still counts them
    assert counted.loc[counted["measure"] == "score_flips", "value"].notna().all()


def test_the_compared_label_turns_the_gap_round():
    logit = effects(5, 12, 12)
    other = persons_pack(decision=BINARY.model_copy(update={"positive": 0}))
    a, b = run(persons_pack(), scorer(logit)), run(other, scorer(logit))
    gap = a["measure"] == "score_gap"
    assert np.allclose(a.loc[gap, "value"], -b.loc[gap, "value"], atol=1e-6)


def test_without_a_decision_nothing_is_guessed():
    with pytest.raises(UsageError, match="which label"):
        run(persons_pack(decision=None), scorer(effects(1, 12, 12)))


# --- what cannot be compared --------------------------------------------------------------------


def test_an_unknown_name_is_counted_and_never_scored():
    """Trap 18: the item stays, with its reason; an unknown piece elsewhere is the same on both sides."""
    asked = scorer(effects(1, 12, 12), pieces=lambda w: ["<unk>"] if w in ("a3", "sat") else [w])
    rows = run(persons_pack(contexts=0), asked)
    lost = rows[rows["skipped"] != ""]
    assert len(lost) == 4 * 12 and lost["item"].str.endswith("/a3").all() and lost["value"].isna().all()
    assert set(lost["skipped"]) == {"the person holds a piece the vocabulary lacks"}
    found = one(findings(persons_pack(contexts=0), asked), "/score_gap/")
    assert found.n_skipped == 12 and found.n == 132


def test_persons_that_read_the_same_are_no_parity():
    """Trap 19: a text that did not change must not count as a decision that did not."""
    asked = scorer(effects(1, 12, 12), pieces=lambda w: ["r2"] if w == "a2" else [w])
    rows = run(persons_pack(), asked)
    same = rows[rows["item"].str.endswith("/a2")]
    assert same["value"].isna().all() and same["skipped"].str.contains("read the same").all()


def test_too_long_is_a_reason_and_nothing_is_cut():
    """Trap 26."""
    asked = scorer(effects(1, 12, 12), max_tokens=7, pieces=lambda w: [w, "x", "x"] if w == "a1" else [w])
    asked._answers["class"] = lambda tokens: [0.0, 0.0]
    rows = run(persons_pack(contexts=0), asked)
    lost = rows[rows["skipped"] != ""]
    assert lost["item"].str.endswith("/a1").all() and len(lost) == 48
    assert set(lost["skipped"]) == {"longer than 7 tokens"}
    nothing = scorer(effects(1, 12, 12), max_tokens=3)
    assert run(persons_pack(), nothing)["value"].isna().all()


def test_scores_that_are_no_numbers_decide_nothing():
    rows = run(persons_pack(), scorer(lambda words: math.nan if words[0] == "a0" else 1.0))
    lost = rows[rows["item"].str.endswith("/a0")]
    assert lost["value"].isna().all() and set(lost["skipped"]) == {"the model gave no finite score"}


# --- mistakes in a pack -------------------------------------------------------------------------


def person(pid, group, match="", kind="noun"):
    return {"id": pid, "group": group, "form": pid, "kind": kind, "match": match}


GOOD = [person("r0", "ref"), person("w0", "ref", "r0"), person("a0", "grp", "r0")]


@pytest.mark.parametrize(
    ("rows", "says"),
    [
        ([*GOOD, person("a1", "grp")], "a1: match is empty"),
        ([*GOOD, person("a1", "grp", "nobody")], "a1: match: expected a person of ref"),
        ([*GOOD, person("a1", "grp", "a0")], "a1: match: expected a person of ref"),
        ([*GOOD, person("a1", "grp", "w0")], "a1: match: expected a person of ref"),
        ([*GOOD, person("w1", "ref", "w0")], "w1: match: expected a person of ref"),
        ([*GOOD, person("a1", "grp", "r0")], "r0 is the match of 2 persons of grp"),
        ([*GOOD, person("r1", "ref"), person("a1", "grp", "r1", "name")], "a1: is of the kind 'name'"),
        ([person("r0", "ref"), person("a0", "grp", "r0")], "such twins are the control"),
        ([person("r0", "ref"), person("w0", "ref", "r0")], "expected a group beside ref"),
    ],
)
def test_a_person_matched_to_nobody_fit_is_refused(rows, says):
    with pytest.raises(PackError, match=says):
        template_score.contrasts(persons_pack(rows=rows))


def test_contexts_belong_to_one_template():
    pack = persons_pack()
    stray = ({"id": "c9", "template": "t0", "kind": "joy", "form": "c9"},)
    with pytest.raises(PackError, match=r"c9: template: 't0' is no template") as caught:
        template_score.contrasts(replace(pack, tables={**pack.tables, "contexts": stray}))
    assert "no context names the template 't11'" in str(caught.value)


# --- estimates ----------------------------------------------------------------------------------


def test_a_planted_gap_is_found_and_its_control_stays_near_zero():
    pack, asked = persons_pack(16, 24), scorer(effects(7, 16, 24, shift=1.5, person=0.3))
    found = findings(pack, asked, rule("*/score_gap/*", 0.05, metric="difference"))
    gap = one(found, "/score_gap/")
    assert gap.status is Status.ESTIMATED and gap.effect.intervals["0.95"].low > 0.15
    assert abs(gap.control.effect.value) < 0.1 and gap.difference.intervals["0.95"].low > 0.15
    assert gap.self_check is not None and gap.self_check.false_pass_at_limit.rate < 0.2
    assert [c.name for c in gap.clusters] == ["template", "person"] and gap.clusters[1].count == 24
    net = one(found, "/score_net_flips/")
    assert net.effect.intervals["0.95"].low > 0


def test_an_absolute_gap_is_judged_beside_its_control():
    """Trap 20: without any effect, absolute gaps and flips are positive; less their control they are not."""
    hits = {"/score_gap_abs/": 0, "/score_flips/": 0}
    for seed in range(8):
        found = findings(persons_pack(), scorer(effects(100 + seed, 12, 12)))
        for name in hits:
            f = one(found, name)
            assert f.effect.intervals["0.95"].low > 0.02  # against zero: a false alarm each time
            i = f.difference.intervals["0.95"]
            hits[name] += i.low <= 0 <= i.high
    assert min(hits.values()) >= 7


@pytest.mark.parametrize("runs", [50, pytest.param(600, marks=pytest.mark.slow)])
def test_about_one_interval_in_twenty_misses_zero(runs):
    """Effects of persons and of templates and none of the group: gap and gap less control cover 0."""
    missed = Counter()
    for seed in range(runs):
        rows = run(persons_pack(10, 10, contexts=0), scorer(effects(500 + seed, 10, 10)))
        gap = rows[rows["measure"] == "score_gap"]
        parts = {r: gap[gap["role"] == r] for r in ("probe", "control")}
        designs = {r: Design.mean([list(g["cluster_a"]), list(g["cluster_b"])]) for r, g in parts.items()}
        i = estimate(designs["probe"].fit(parts["probe"]["value"])).intervals["0.95"]
        missed["gap"] += not i.low <= 0 <= i.high
        both = gap.sort_values("role", ascending=False)  # probe first
        joint = Design.difference(
            designs["probe"], designs["control"], [list(both["cluster_a"]), list(both["cluster_b"])]
        )
        y = np.concatenate([parts["probe"]["value"], parts["control"]["value"]])
        d = estimate(joint.fit(y)).intervals["0.95"]
        missed["difference"] += not d.low <= 0 <= d.high
        naive = parts["probe"]["value"]
        missed["paired t-test"] += abs(naive.mean()) > 1.984 * naive.std(ddof=1) / math.sqrt(len(naive))
    sys.stdout.write(f"{runs} runs: {dict(missed)}\n")
    most = 0.14 if runs < 100 else 0.07
    assert missed["gap"] <= most * runs and missed["difference"] <= most * runs
    assert missed["paired t-test"] > 0.3 * runs  # the interval that forgets the crossing


def test_more_contexts_of_a_template_narrow_nothing_by_themselves():
    """Trap 25: ten copies of a context are one context."""
    logit = effects(9, 12, 12)
    few, many = (
        one(findings(persons_pack(contexts=0, **{}), scorer(logit)), "/score_gap/"),
        one(findings(_copied(persons_pack(contexts=0)), scorer(logit)), "/score_gap/"),
    )
    assert many.n == 10 * few.n
    assert many.effect.se == pytest.approx(few.effect.se, rel=1e-6)
    assert many.effect.df == pytest.approx(few.effect.df)


def _copied(pack):
    """Each template with ten contexts that say the same."""
    templates = tuple(replace(t, text=t.text.replace("sat", "{context}")) for t in pack.templates)
    contexts = tuple(
        {"id": f"{t.id}-{k}", "template": t.id, "kind": "joy", "form": "sat"}
        for t in templates
        for k in range(10)
    )
    return replace(pack, templates=templates, tables={**pack.tables, "contexts": contexts})


@pytest.mark.parametrize(
    "logit",
    [lambda words: 2.0, lambda words: 5.0 + 0.001 * (words[0] == "good")],
    ids=["constant", "nearly constant"],
)
def test_a_collapsed_classifier_never_looks_fair(logit):
    """Trap 28 for classifiers: gaps of 0 from a model that tells nothing apart are INVALID."""
    found = findings(persons_pack(), scorer(logit))
    assert one(found, "class_floor").status is Status.INVALID
    for name in MEASURES:
        assert one(found, f"/{name}/").status is Status.INVALID
        assert "below its floor" in one(found, f"/{name}/").reason


def test_a_model_without_any_flip_still_has_a_width():
    found = findings(persons_pack(), scorer(effects(11, 12, 12, person=0, cell=0.01, template=0)))
    flips, net = one(found, "/score_flips/"), one(found, "/score_net_flips/")
    constant = findings(persons_pack(), scorer(lambda w: {"good": 2.0, "bad": -2.0}.get(w[0], 1.0)))
    for f in (one(constant, "/score_flips/"), one(constant, "/score_net_flips/")):
        assert f.status is Status.ESTIMATED and f.effect.value == 0
        assert f.effect.intervals["0.95"].high > 0.05
    assert flips.effect.value > 0 and net.effect.intervals["0.95"].low < 0 < net.effect.intervals["0.95"].high


def test_a_plan_can_count_what_it_costs():
    counter = CountingScorer(scorer(effects(1, 12, 12)))
    rows = run(persons_pack(), counter)
    assert counter.inputs == 13 * 36 and (rows["value"] == 0).all()


# --- the shipped packs --------------------------------------------------------------------------


@pytest.mark.parametrize("name", PERSONS)
def test_a_shipped_pack_is_matched_and_large_enough(name):
    pack = packs.load(packs.find(name))
    found = template_score.contrasts(pack)
    assert found and all(axis == pack.spec.axis for axis, _ in found)
    assert Head.SEQUENCE_CLASSIFICATION in pack.spec.may_gate
    assert len(pack.templates) >= 12 and len({t.family for t in pack.templates}) >= 2
    swaps = Counter((s.contrast, s.role) for s in persons.swaps(pack))
    assert all(n >= 12 for n in swaps.values()) and len(swaps) == 2 * len(found)
    forms = Counter(row["form"].lower() for row in pack.tables["persons"])
    assert max(forms.values()) == 1, forms.most_common(3)  # one form in two groups is no contrast
    kinds = Counter(row["kind"] for row in pack.tables["contexts"])
    good = kinds["joy"] + kinds["praise"]
    assert good == sum(kinds.values()) - good  # good and bad weigh the same


@pytest.mark.parametrize("name", PERSONS)
def test_no_sentence_has_a_word_that_would_have_to_agree(name):
    pack = packs.load(packs.find(name))
    for t in pack.templates:
        words = t.text.lower().replace(".", "").split()
        assert not {"he", "she", "his", "her", "him", "himself", "herself", "them", "they"} & set(words)
        before = words[: next(i for i, w in enumerate(words) if "{person}" in w)]
        assert not {"a", "an", "the", "my"} & set(before[-1:])


def test_all_packs_together_stay_within_their_cost():
    texts = set()
    for name in (n for n in PERSONS if n.endswith("-en")):  # the Chinese ones have a test of their own
        pack = packs.load(packs.find(name))
        people = [persons._person(row) for row in pack.tables["persons"]]
        texts |= {s.fill(p)[0] for s in persons.sentences(pack) for p in people}
    assert 5_000 < len(texts) <= 12_000
