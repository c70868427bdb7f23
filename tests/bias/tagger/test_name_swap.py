"""Name swap: taggers whose treatment of each group is known, and what must not be taken for it."""

from __future__ import annotations

import dataclasses
from collections import Counter
from functools import cache

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from albert_audit import packs, resources
from albert_audit.bias.measure import items
from albert_audit.bias.tagger import name_swap, tag_floor
from albert_audit.bias.tagger.name_swap import UNKNOWN, outcome
from albert_audit.bias.tagger.tagging import PERSON, Span, Tagged, words_of
from albert_audit.findings import Measured, build
from albert_audit.model.cache import CountingScorer, FakeScorer
from albert_audit.model.text import Encoded
from albert_audit.packs import Pack, Template
from albert_audit.types import Head, PackError, Status
from tests.fakes import chance, measure, one, policy, spec

LABELS = ("O", "B-PER", "I-PER", "B-LOC", "I-LOC")
PROBES = ("names-ethnicity-en", "names-gender-en", "names-ethnicity-zh", "names-gender-zh")
KINDS = "recall_exact", "recall_overlap", "type_confusion", "boundary"


# --- packs and taggers --------------------------------------------------------------------------


def swap_pack(names=20, templates=12, groups=("ref", "far"), **changes):
    """First names a0 ... and surnames z0 ..., whose letters begin with the group's."""
    made = tuple(
        {"id": f"{g}-{i}", "group": g, "form": f"{g}a{i} {g}z{i}"} for g in groups for i in range(names)
    )
    sentences = tuple(
        Template(f"t{i}", "even" if i % 2 else "odd", f"t{i} said {{name}} left." + " soon" * (i % 4))
        for i in range(templates)
    )
    base = spec(**{
        "name": "names-en", "measure": "name_swap", "axis": "ethnicity", "clusters": ("template", "name"),
        "groups": {}, "reference": "ref", "family": "names", "may_gate": (Head.TOKEN_CLASSIFICATION,), **changes,
    })  # fmt: skip
    return Pack(base, "0" * 64, templates=sentences, tables={"names": made})


def floor_pack(names=20, templates=12, sentences=60):
    made = tuple({"id": f"n{i}", "group": "common", "form": f"refa{i} refz{i}"} for i in range(names))
    texts = tuple(Template(f"f{i}", "plain", f"f{i} met {{name}} at noon.") for i in range(templates))
    base = spec(
        name="tag-floor-en", measure="tag_floor", axis="", clusters=(), groups={}, reference="", family=""
    )
    plain = tuple((f"s{i}", f"w{i} the road was long and wet.") for i in range(sentences))
    return Pack(base, "1" * 64, templates=texts, sentences=plain, tables={"names": made})


def is_name(token):
    return token[:4] in ("refa", "refz", "fara", "farz")


def perfect(tokens, at):
    token = tokens[at]
    return "O" if not is_name(token) else "B-PER" if token[3] == "a" else "I-PER"


def tagger(rule=perfect, labels=LABELS, **options):
    """``rule(tokens, at) -> label``."""

    def answer(tokens):
        return np.eye(len(labels))[[labels.index(rule(tokens, i)) for i in range(len(tokens))]]

    return FakeScorer(answers={"tags": answer}, head=Head.TOKEN_CLASSIFICATION, labels=labels, **options)


def far(answer):
    """Perfect, but for the names of the group far."""
    return lambda tokens, at: answer(tokens, at) if tokens[at].startswith("far") else perfect(tokens, at)


def found(model, pack=None, floor=None):
    pack = pack or swap_pack()
    measured = [measure(pack, model), measure(floor or floor_pack(), model)]
    return build(measured, model.id, policy(), 0), measured[0].rows


def effects(model):
    """The gaps in exact and partial recall, in confusion and in borders."""
    out, _ = found(model)
    return [one(out, f"/name_{name}/").effect.value for name in KINDS]


# --- outcomes ---------------------------------------------------------------------------------


def test_a_tagger_that_finds_all_has_no_gap_and_no_certain_one_either():
    """Nothing varies: the interval must still have the width that 12 sentences and 20 names give."""
    out, _ = found(tagger())
    for name in KINDS:
        f = one(out, f"/name_{name}/")
        assert f.status is Status.ESTIMATED and f.effect.value == 0.0
        assert f.effect.intervals["0.90"].high > 0.1
        assert f.control.effect.value == 0.0 and not f.control.exceeded
        assert f.id == f"names-en/name_{name}/ethnicity/far-vs-ref" and f.gates
    assert one(out, "tag-floor").status is Status.ESTIMATED
    assert one(out, "/name_recall_adjusted/").status is Status.INSUFFICIENT  # no width, no interval


@pytest.mark.parametrize(
    ("answer", "gaps"),
    [
        (lambda tokens, at: "O", (-1, -1, 0, 0)),
        (lambda tokens, at: perfect(tokens, at).replace("PER", "LOC"), (-1, -1, 1, 0)),
        (lambda tokens, at: "B-PER", (-1, 0, 0, 1)),  # two people instead of one
        (lambda tokens, at: "B-PER" if tokens[at][3] == "a" else "O", (-1, 0, 0, 1)),
        (lambda tokens, at: "B-LOC" if tokens[at][3] == "a" else "B-PER", (-1, 0, 0, 1)),
        (lambda tokens, at: "I-PER", (0, 0, 0, 0)),  # a bare I starts a span
    ],
)
def test_each_kind_of_error_against_one_group(answer, gaps):
    model = tagger(far(answer))
    assert effects(model) == [pytest.approx(g) for g in gaps]


def test_a_span_that_runs_past_the_name_is_a_boundary_error():
    def rule(tokens, at):
        past = tokens[at] == "left" and tokens[at - 1].startswith("far")
        return "I-PER" if past else perfect(tokens, at)

    model = tagger(rule)
    assert effects(model) == [-1.0, 0.0, 0.0, 1.0]


def test_recall_gap_is_that_of_the_cells_counted_by_hand():
    missed = far(lambda tokens, at: "O" if chance(tokens[1], tokens[at][4:]) < -5 else perfect(tokens, at))
    out, rows = found(tagger(missed))
    f = one(out, "/name_recall_exact/")
    hits = [chance(f"t{i}", f"{j}") >= -5 for i in range(12) for j in range(20)]
    assert f.effect.value == pytest.approx(np.mean(hits) - 1.0) and 0.2 < np.mean(hits) < 0.9
    mine = rows[(rows["measure"] == "name_recall_exact") & (rows["role"] == "probe")]
    assert mine.groupby("group")["value"].agg(["size", "mean"]).loc["ref"].tolist() == [240, 1.0]
    assert f.n == 480 and f.effect.df <= 11  # of the templates, the fewer
    assert [(c.name, c.count) for c in f.clusters] == [("template", 12), ("name", 40)]


TYPES = st.sampled_from([PERSON, "loc"])


@given(
    st.lists(st.tuples(st.integers(0, 1), st.integers(0, 2), TYPES), max_size=4),
    st.integers(0, 5),
    st.integers(0, 2),
)
def test_outcomes_exclude_each_other(layout, first, more):
    spans, at = [], 0
    for gap, size, kind in layout:
        spans.append(Span(at + gap, at + gap + size, kind))
        at += gap + size + 1
    tagged = Tagged(Encoded((), (), (), (), ()), (), tuple(spans))
    got = outcome(tagged, first, first + more)
    touched = any(s.first <= first + more and s.last >= first for s in spans)
    assert got["name_recall_exact"] + got["name_boundary"] == got["name_recall_overlap"]
    assert got["name_recall_overlap"] + got["name_type_confusion"] == float(touched)


# --- what must not pass -----------------------------------------------------------------------


@pytest.mark.parametrize("label", ["O", "B-PER", "I-PER", "B-LOC"])
def test_a_tagger_with_one_answer_is_below_the_floor(label):
    """Trap 29 for taggers: all groups are treated alike, and nothing works."""
    out, _ = found(tagger(lambda tokens, at: label))
    assert one(out, "tag-floor").status is Status.INVALID
    for name in KINDS:
        f = one(out, f"/name_{name}/")
        assert f.effect.value == 0.0 and f.status is Status.INVALID and "floor" in f.reason


def test_a_random_tagger_is_below_the_floor():
    out, _ = found(tagger(lambda tokens, at: LABELS[int(-chance(tokens, at) * 100) % 5]))
    assert {f.status for f in out} <= {Status.INVALID, Status.INSUFFICIENT}


def test_without_a_label_for_persons_no_finding_is_fine():
    model = tagger(lambda tokens, at: "LABEL_0", labels=("LABEL_0", "LABEL_1"))
    out, rows = found(model)
    assert rows.loc[rows["measure"] != "uncased", "value"].isna().all()
    for f in out:
        assert f.status is (Status.INVALID if f.role == "floor" else Status.NOT_RUN)
        assert "no label of the model means a person" in f.reason


def test_without_the_floor_pack_nothing_is_estimated():
    pack, model = swap_pack(), tagger()
    out = build([measure(pack, model)], model.id, policy(), 0)
    assert {f.status for f in out} <= {Status.INVALID, Status.INSUFFICIENT}


def test_a_reference_whose_halves_differ_makes_the_findings_invalid():
    """The control: half of the reference's own names missed. Then names differ, whatever the group."""

    def rule(tokens, at):
        lost = tokens[at].startswith("ref") and int(tokens[at][4:]) % 2
        return "O" if lost else perfect(tokens, at)

    out, _ = found(tagger(rule), pack=swap_pack(margins={"name_recall_exact": 0.1}))
    f = one(out, "/name_recall_exact/")
    assert f.control.effect.value == pytest.approx(1.0) and f.control.exceeded
    assert f.status is Status.INVALID


# --- names of several pieces, and unknown ones ------------------------------------------------


def split(word):
    """Surnames of the group far have three more pieces."""
    return [word, "+a", "+b", "+c"] if word.startswith("farz") else [word]


@pytest.mark.parametrize("later", ["O", "B-LOC", "B-PER"])
def test_what_the_model_says_of_later_pieces_does_not_count(later):
    """Trap 9 turned round: spans over pieces would make every name of many pieces a boundary error."""
    model = tagger(lambda tokens, at: later if tokens[at][0] == "+" else perfect(tokens, at), pieces=split)
    out, _ = found(model)
    assert [one(out, f"/name_{n}/").effect.value for n in KINDS] == [0.0, 0.0, 0.0, 0.0]
    assert one(out, "/name_pieces/").effect.value == 3.0


def test_a_gap_that_is_all_pieces_is_seen_to_be_so():
    """Recall falls with the number of pieces and with nothing else; one group has longer names."""

    def pieces(word):
        if not is_name(word) or word[3] == "a":
            return [word]
        more = int(word[4:]) % 4 + (2 if word.startswith("far") else 0)
        return [word] + ["+"] * more

    def rule(tokens, at):
        if not is_name(tokens[at]) or tokens[at][3] == "z":
            return perfect(tokens, at)
        return "B-PER" if int(tokens[1][1:]) % 6 >= sum(t == "+" for t in tokens) else "O"

    out, _ = found(tagger(rule, pieces=pieces))
    raw, same = one(out, "/name_recall_exact/"), one(out, "/name_recall_adjusted/")
    assert raw.effect.value == pytest.approx(-2 / 6)
    assert same.status is Status.ESTIMATED and same.effect.value == pytest.approx(0.0)
    assert same.details["gap_unadjusted"] == pytest.approx(raw.effect.value)
    assert same.details["pieces_first"] - same.details["pieces_second"] == pytest.approx(2.0)
    assert one(out, "/name_pieces/").effect.value == pytest.approx(2.0)


def test_where_no_piece_count_is_shared_there_is_no_adjusted_gap():
    flaky = lambda tokens, at: perfect(tokens, at) if chance(tokens, at) < -2 else "O"  # noqa: E731
    out, _ = found(tagger(flaky, pieces=split))
    assert one(out, "/name_recall_adjusted/").status in (Status.INSUFFICIENT, Status.INVALID)
    assert not one(out, "/name_recall_adjusted/").effect.intervals


def test_the_adjusted_gap_is_that_of_least_squares():
    rows = measure(swap_pack(), tagger(far(lambda t, i: "O" if chance(t, i) < -4 else perfect(t, i)))).rows
    mine = items(rows[(rows["measure"] == "name_recall_adjusted") & (rows["role"] == "probe")], prior=False)
    mine["covariate"] = [2.0 + (len(i) + k) % 3 for k, i in enumerate(mine["item"])]
    got = name_swap.adjusted_gap(mine, 1, np.random.default_rng(0))
    x = np.column_stack([np.ones(len(mine)), mine["group"] == "far", mine["covariate"]]).astype(float)
    expected = np.linalg.lstsq(x, mine["value"].to_numpy(), rcond=None)[0][1]
    assert got.estimate.value == pytest.approx(expected) and got.estimate.intervals
    assert got.estimate.df <= 11


def test_names_that_the_vocabulary_lacks_are_skipped_and_counted_by_group():
    """Trap 18: dropped without a count, the names that remain would speak for all."""
    model = tagger(pieces=lambda w: ["<unk>"] if w.startswith("fara") and int(w[4:]) < 10 else [w])
    out, rows = found(model)
    gap = one(out, "/name_unknown/")
    assert gap.effect.value == pytest.approx(0.5) and gap.status is Status.ESTIMATED and gap.n_skipped == 0
    recall = one(out, "/name_recall_exact/")
    assert recall.n_skipped == 10 * 12 and recall.status is Status.INSUFFICIENT
    assert set(rows.loc[rows["value"].isna(), "skipped"]) == {UNKNOWN}


def test_an_unknown_piece_elsewhere_skips_the_sentence_and_blames_no_name():
    out, rows = found(tagger(pieces=lambda w: ["<unk>"] if w == "t3" else [w]))
    assert one(out, "/name_unknown/").effect.value == 0.0
    assert one(out, "/name_recall_exact/").n_skipped == 40
    lost = rows[rows["skipped"].str.contains("sentence")]
    assert set(lost["cluster_a"]) == {"t3"} and "name_pieces" not in set(lost["measure"])


def test_an_uncased_tokenizer_is_told_in_a_row():
    rows = measure(swap_pack(), tagger()).rows
    assert (rows["measure"] == "uncased").sum() == 0  # no name here has a capital
    pack = swap_pack()
    capital = tuple({**n, "form": n["form"].title()} for n in pack.tables["names"])
    rows = measure(dataclasses.replace(pack, tables={"names": capital}), tagger()).rows
    assert rows.loc[rows["measure"] == "uncased", "value"].tolist() == [1.0]  # the fake lower-cases
    assert len(rows) > 1


# --- rows -------------------------------------------------------------------------------------


def test_batches_and_skipped_texts_do_not_move_answers():
    """Trap 15: a small budget gives other batches and the same rows."""
    rule = lambda tokens, at: LABELS[int(-chance(tokens, at) * 100) % 5]  # noqa: E731
    small, large = tagger(rule, max_tokens=9), tagger(rule, max_tokens=9)
    small.budget, large.budget = 9, 10_000
    pack = swap_pack()
    a, b = measure(pack, small).rows, measure(pack, large).rows
    assert a.equals(b)
    skipped = a[a["skipped"].str.contains("9 tokens")]
    assert set(skipped["cluster_a"]) == {"t2", "t3", "t6", "t7", "t10", "t11"}


def test_rows_are_one_a_measure_template_and_name_with_the_control_beside():
    rows = measure(swap_pack(names=4, templates=3), tagger()).rows
    per = rows.groupby(["measure", "role", "group"]).size().unstack("group")
    assert (per.loc[(slice(None), "probe"), :] == 12).all().all()
    assert (per.loc[(slice(None), "control"), :] == 6).all().all()
    control = rows[(rows["role"] == "control") & (rows["measure"] == "name_pieces")]
    halves = control.groupby("group")["cluster_b"].unique()
    assert set(halves["far"]) == {"ref-0", "ref-2"} and set(halves["ref"]) == {"ref-1", "ref-3"}
    assert not rows.duplicated(["measure", "contrast", "role", "group", "item"]).any()


def test_it_survives_answers_of_zeros():
    counting = CountingScorer(tagger())
    rows = name_swap.run(counting, swap_pack(), np.random.default_rng(0))
    assert counting.inputs == 12 * 40 and rows["value"].notna().all()
    tag_floor.run(counting, floor_pack(), np.random.default_rng(0))


@pytest.mark.parametrize(
    ("names", "match"),
    [
        ([("ref", "anna"), ("far", "Anna")], "two groups"),
        ([("ref", "anna")], "another group"),
        ([("far", "anna"), ("near", "emma")], "'ref'"),
    ],
)
def test_lists_that_cannot_be_compared_are_refused(names, match):
    rows = tuple({"id": f"n{i}", "group": g, "form": f} for i, (g, f) in enumerate(names))
    with pytest.raises(PackError, match=match):
        name_swap.contrasts(dataclasses.replace(swap_pack(), tables={"names": rows}))


# --- the shipped packs ------------------------------------------------------------------------


@cache
def shipped(name):
    return packs.load(resources.probes() / name)


@pytest.mark.parametrize("name", PROBES)
def test_shipped_lists_are_balanced_and_distinct(name):
    pack = shipped(name)
    assert len(pack.templates) == 24 and Counter(t.family for t in pack.templates) == {
        "person": 12,
        "weak": 12,
    }
    named = name_swap.groups(pack)
    forms = [r["form"] for rows in named.values() for r in rows]
    assert len(set(forms)) == len(forms)
    sep = " " if pack.language == "en" else "·"
    for group, rows in named.items():
        assert len(rows) == 24, group
        own = [r["form"].split(sep)[0] for r in rows]
        assert len(set(own)) == 24, group
        if pack.spec.axis == "ethnicity":  # as many women as men, in both halves of the control
            for half in (rows[::2], rows[1::2]):
                assert Counter(r["id"].removeprefix(group)[1] for r in half) == {"f": 6, "m": 6}


@pytest.mark.parametrize("name", PROBES)
def test_shipped_names_are_words_of_their_own_and_alone_in_their_sentence(name):
    pack = shipped(name)
    forms = [r["form"] for r in pack.tables["names"]]
    for t in pack.templates:
        assert not any(part in t.text for f in forms for part in f.split()), t.text
        for f in forms:
            text, spans = t.fill(name=f)
            start, end = spans["name"]
            inside = [(s, e) for s, e in words_of(text) if s < end and e > start]
            assert inside[0][0] == start and inside[-1][1] == end, text


def test_black_and_white_names_differ_in_the_first_name_only():
    named = name_swap.groups(shipped("names-ethnicity-en"))
    last = {g: Counter(r["form"].split()[1] for r in named[g]) for g in ("white-american", "black-american")}
    assert last["white-american"] == last["black-american"]
    family = name_swap.groups(shipped("names-gender-zh"))
    assert [r["form"][0] for r in family["female"]] == [r["form"][0] for r in family["male"]]


@pytest.mark.parametrize("name", PROBES)
def test_a_tagger_that_finds_all_passes_a_limit_of_a_fifth_on_the_shipped_packs(name):
    pack, floor = shipped(name), shipped("tag-floor-" + name[-2:])
    both = list(name_swap.groups(pack))[:2]  # two groups are enough, and quicker
    few = tuple(r for r in pack.tables["names"] if r["group"] in both)
    pack = dataclasses.replace(pack, tables={"names": few})
    forms = [r["form"] for p in (pack, floor) for r in p.tables["names"]]
    starts = {}
    for f in forms:
        parts = tuple(f[s:e].lower() for s, e in words_of(f))
        starts.setdefault(parts[0], []).append(parts)

    def answer(tokens):
        tags, k = np.zeros(len(tokens), int), 0
        while k < len(tokens):
            hits = [p for p in starts.get(tokens[k], []) if tuple(tokens[k : k + len(p)]) == p]
            size = max(map(len, hits), default=0)
            tags[k : k + size] = 2
            tags[k : k + min(size, 1)] = 1
            k += max(size, 1)
        return np.eye(5)[tags]

    model = FakeScorer(answers={"tags": answer}, head=Head.TOKEN_CLASSIFICATION, labels=LABELS)
    out, _ = found(model, pack=pack, floor=floor)
    judged = [f for f in out if "/name_recall_exact/" in f.id]
    assert judged and all(f.status is Status.ESTIMATED and f.effect.value == 0 for f in judged)
    for f in judged:
        ends = f.effect.intervals["0.90"]
        assert -0.2 < ends.low < 0 < ends.high < 0.2


# --- a real model -----------------------------------------------------------------------------


def test_a_real_model_with_random_weights_is_below_the_floor(tmp_path):
    from albert_audit.model.load import load
    from albert_audit.model.scorer import TorchScorer
    from tests import tiny

    labels = {"id2label": {0: "O", 1: "B-PER", 2: "I-PER"}, "label2id": {"O": 0, "B-PER": 1, "I-PER": 2}}
    folder = tiny.checkpoint(tmp_path, Head.TOKEN_CLASSIFICATION, num_labels=3, **labels)
    scorer = TorchScorer(load(folder, device="cpu"))
    pack = shipped("names-gender-en")
    few = dataclasses.replace(pack, templates=pack.templates[:4])
    rng = np.random.default_rng(0)
    rows, floor = name_swap.run(scorer, few, rng), shipped("tag-floor-en")
    measured = [Measured(few, rows), Measured(floor, tag_floor.run(scorer, floor, rng))]
    out = build(measured, scorer.id, policy(), 0)
    assert one(out, "tag-floor").status is Status.INVALID
    assert {f.status for f in out} <= {Status.INVALID, Status.INSUFFICIENT}
    assert rows.loc[rows["measure"] == "uncased", "value"].tolist() == [1.0]
    assert (rows.loc[rows["measure"] == "name_pieces", "value"] >= 1).all()
    again = name_swap.run(TorchScorer(scorer.handle, budget=16), few, np.random.default_rng(0))
    assert again.equals(rows)
