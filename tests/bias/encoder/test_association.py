"""Associations between word sets: against plain loops, their permutations, intervals and placebos."""

from __future__ import annotations

import csv
import itertools
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from albert_audit import packs
from albert_audit.bias.encoder import association, word_sets
from albert_audit.findings import build, forecasts
from albert_audit.model.cache import CountingScorer, FakeScorer
from albert_audit.model.load import load
from albert_audit.model.scorer import TorchScorer
from albert_audit.packs import Pack, Template
from albert_audit.types import Head, PackError, Status
from tests.fakes import chance, measure, one, policy, spec
from tests.tiny import checkpoint

CALM = ("This is {word}.", "Here is {word}.", "They saw {word}.")
AXIS, CONTRAST = "gender", "x-a-vs-y-b"


# --- packs and encoders -----------------------------------------------------------------------


def words_pack(sizes=(10, 10, 10, 10), *, templates=CALM, neutral=0, **changes: Any) -> Pack:
    """Words x0, x1, ..., b9; neutral topics n0, n1, ... of four words each."""
    rows = [
        {"id": f"{s}{i}", "test": "t", "axis": AXIS, "set": s, "form": f"{s}{i}", "label": s}
        for s, n in zip("xyab", sizes, strict=True)
        for i in range(n)
    ]
    rows += [
        {
            "id": f"n{k}w{i}",
            "test": "neutral",
            "axis": "none",
            "set": "n",
            "form": f"n{k}w{i}",
            "label": f"n{k}",
        }
        for k in range(neutral)
        for i in range(4)
    ]
    base = {"name": "words-en", "measure": "association", "axis": "", "groups": {}, "reference": "",
            "clusters": ("target", "attribute"), "may_gate": (Head.ENCODER,), "family": "words"}  # fmt: skip
    made = tuple(Template(f"t{i}", "plain", text) for i, text in enumerate(templates))
    return Pack(spec(**(base | changes)), "5" * 64, templates=made, tables={"words": tuple(rows)})


def with_rows(pack: Pack, change: Callable[[dict[str, str]], dict[str, str] | None]) -> Pack:
    rows = [change(dict(r)) for r in pack.tables["words"]]
    return Pack(
        pack.spec, pack.sha256, templates=pack.templates, tables={"words": tuple(r for r in rows if r)}
    )


class Encoder:
    """A vector of four numbers: that of the tokens of the words, plus noise of the whole sentence."""

    def __init__(self, seed: int = 0, lean: float = 0.0, noise: float = 0.05, width: int = 4) -> None:
        self.seed, self.lean, self.noise, self.width = seed, lean, noise, width

    def draw(self, *parts: object) -> np.ndarray:
        return np.array([(chance(self.seed, *parts, k) + 4.05) / 3.95 for k in range(self.width)])

    def __call__(self, tokens: tuple[str, ...]) -> np.ndarray:
        out = 1.5 + self.noise * self.draw("sentence", tokens)
        for t in tokens:
            if t[0] in "xyabn" and t[1:2].isdigit():
                out = out + 0.6 * self.draw("word", t)
                # What the groups and the topics share.
                out[0] += self.lean * {"x": 1, "a": 1, "y": -1, "b": -1}.get(t[0], 0)
        return out


def scorer(mean: Callable[[tuple[str, ...]], np.ndarray], **options: Any) -> FakeScorer:
    answers = dict.fromkeys(("mean", "cls", "pooler"), mean)
    return FakeScorer(answers=answers, head=Head.ENCODER, **options)


def findings(pack: Pack, encoder: Callable[[tuple[str, ...]], np.ndarray], **options: Any):
    m = measure(pack, scorer(encoder, **options))
    return m, {f.measure: f for f in build([m], scorer(encoder).id, policy(), 0)}


def leans(pack: Pack, encoder: Encoder) -> tuple[np.ndarray, np.ndarray]:
    """s of X and of Y by plain loops over words, sentences and cosines (Caliskan et al. 2017)."""

    def tokens(text: str) -> tuple[str, ...]:
        return ("[CLS]", *text.lower().replace(".", " .").split(), "[SEP]")

    def vector(form: str) -> np.ndarray:
        texts = [t.text.replace("{word}", form) for t in pack.templates] or [form]
        return sum(encoder(tokens(t)).astype(np.float32).astype(float) for t in texts) / len(texts)

    def cos(u, v):
        return sum(u * v) / math.sqrt(sum(u * u) * sum(v * v))

    own = {s: [vector(r["form"]) for r in pack.tables["words"] if r["set"] == s] for s in "xyab"}

    def s(w):
        return np.mean([cos(w, a) for a in own["a"]]) - np.mean([cos(w, b) for b in own["b"]])

    return np.array([s(w) for w in own["x"]]), np.array([s(w) for w in own["y"]])


# --- the figures ------------------------------------------------------------------------------


@pytest.mark.parametrize("sizes", [(10, 10, 10, 10), (12, 9, 11, 14), (2, 10, 9, 3)])
@pytest.mark.parametrize("clusters", [("target", "attribute"), ("target",)])
def test_both_figures_are_those_of_plain_loops(sizes, clusters):
    """Trap 23: sets of different sizes; the spread over X and Y together, with ddof 1."""
    pack = words_pack(sizes, clusters=clusters)
    encoder = Encoder(1, lean=0.1)
    _, found = findings(pack, encoder)
    x, y = leans(pack, encoder)
    spread = np.r_[x, y].std(ddof=1)
    assert found["association"].effect.value == pytest.approx(x.mean() - y.mean(), abs=1e-6)
    assert found["association_d"].effect.value == pytest.approx((x.mean() - y.mean()) / spread, abs=1e-4)
    assert found["association_d"].id == f"words-en/association_d/{AXIS}/{CONTRAST}"


def test_words_alone_when_there_are_no_templates():
    pack, encoder = words_pack(templates=()), Encoder(2)
    _, found = findings(pack, encoder)
    x, y = leans(pack, encoder)
    assert found["association"].effect.value == pytest.approx(x.mean() - y.mean(), abs=1e-6)


def test_an_association_is_found_and_its_sign_is_the_pairing():
    _, found = findings(words_pack(), Encoder(3, lean=0.6))
    raw, d = found["association"].effect, found["association_d"].effect
    assert raw.intervals["0.95"].low > 0 and d.intervals["0.95"].low > 0.8 and d.p < 0.001
    _, found = findings(words_pack(), Encoder(3, lean=0.6, noise=0.0))
    swapped = with_rows(words_pack(), lambda r: r | {"set": {"x": "y", "y": "x"}.get(r["set"], r["set"])})
    swapped = with_rows(swapped, lambda r: r | {"label": r["set"]})
    _, other = findings(swapped, Encoder(3, lean=0.6, noise=0.0))
    assert other["association_d"].effect.value == pytest.approx(
        -found["association_d"].effect.value, abs=1e-9
    )
    assert other["association_d"].effect.p == pytest.approx(found["association_d"].effect.p, abs=0.002)


def test_the_permutation_exchanges_words():
    """Trap 22: two-sided and exact over words; with nine words a side C(18, 9) is too many, with eight it is not."""
    pack, encoder = words_pack((8, 8, 10, 10)), Encoder(4, lean=0.12)
    _, found = findings(pack, encoder)
    x, y = leans(pack, encoder)
    both = np.r_[x, y]
    seen = [
        abs(both[list(c)].mean() - np.delete(both, list(c)).mean())
        for c in itertools.combinations(range(16), 8)
    ]
    d = found["association_d"]
    assert d.effect.p == pytest.approx(np.mean(np.array(seen) >= abs(x.mean() - y.mean()) - 1e-7), abs=2e-4)
    assert d.details["partitions"] == 12_870 and d.details["partitions_exact"] == 1
    _, found = findings(words_pack(), encoder)
    assert found["association_d"].details["partitions_exact"] == 0 and found["association_d"].effect.p > 0


def test_more_sentences_of_a_word_are_no_more_evidence():
    """Traps 22 and 25: the same template ten times changes no figure, no interval and no p."""
    few, many = words_pack((8, 8, 8, 8)), words_pack((8, 8, 8, 8), templates=CALM * 10)
    encoder = Encoder(5, lean=0.1)
    for name in ("association", "association_d"):
        once, ten = findings(few, encoder)[1][name], findings(many, encoder)[1][name]
        assert ten.effect.value == pytest.approx(once.effect.value, abs=1e-6)
        assert ten.effect.se == pytest.approx(once.effect.se, rel=1e-3)
        assert ten.effect.p == pytest.approx(once.effect.p, abs=1e-3) and ten.n == once.n


def test_sentences_that_are_elements_stay_with_their_word():
    """Trap 22: each target ten times over, as elements of one word, narrows nothing; as words of their own they would."""
    base = words_pack((8, 8, 8, 8), clusters=("target",), templates=())

    def copied(word: bool) -> Pack:
        rows = []
        for r in base.tables["words"]:
            for k in range(10 if r["set"] in "xy" else 1):
                own = f"{r['id']}k{k}"
                rows.append(
                    {**r, "id": own, "form": f"{r['form']} {'z' * (k + 1)}", "word": r["id"] if word else own}
                )
        return Pack(base.spec, base.sha256, tables={"words": tuple(rows)})

    encoder = Encoder(6, lean=0.05, noise=0.0)
    once, joined, apart = (
        findings(p, encoder)[1]["association_d"] for p in (base, copied(True), copied(False))
    )
    assert [c.count for c in joined.clusters] == [16] and [c.count for c in apart.clusters] == [160]
    # d itself moves a little: ddof 1 over 160 elements, not over 16.
    assert joined.effect.value == pytest.approx(once.effect.value * math.sqrt(159 / 160 * 16 / 15), rel=1e-3)
    assert joined.effect.p == pytest.approx(once.effect.p, abs=1e-3)
    assert joined.effect.se > 0.9 * once.effect.se and apart.effect.se < 0.5 * once.effect.se
    assert joined.effect.df == pytest.approx(once.effect.df)


def test_attribute_words_count_as_drawn_unless_held_fixed():
    """Pre-averaged attributes make lists look surer than they are (the critique of WEAT's uncertainty)."""
    encoder = Encoder(7)
    crossed = findings(words_pack((14, 14, 4, 4)), encoder)[1]
    held = findings(words_pack((14, 14, 4, 4), clusters=("target",)), encoder)[1]
    for name in ("association", "association_d"):
        assert crossed[name].effect.value == pytest.approx(held[name].effect.value, abs=1e-4)
        assert (
            crossed[name].effect.se > held[name].effect.se and crossed[name].effect.df < held[name].effect.df
        )
    # Eight attribute words leave six degrees of freedom, and so no interval.
    assert (
        crossed["association"].effect.df == pytest.approx(6) and not crossed["association"].effect.intervals
    )
    assert [c.name for c in crossed["association"].clusters] == ["target", "attribute"]


def test_intervals_hold_when_nothing_is_there():
    """Both intervals under the null, words and attributes drawn anew: 95 % cover, within simulation error."""
    missed = {"association": 0, "association_d": 0}
    runs = 80
    for seed in range(runs):
        _, found = findings(words_pack((6, 6, 6, 6), templates=()), Encoder(seed + 100))
        for name in missed:
            ends = found[name].effect.intervals["0.95"]
            missed[name] += not ends.low <= 0 <= ends.high
    assert all(hits <= 0.05 * runs + 2.6 * math.sqrt(runs * 0.05 * 0.95) for hits in missed.values()), missed


# --- variants and neutral topics --------------------------------------------------------------


def test_every_other_pooling_and_each_template_is_written_down():
    pack, encoder = words_pack(), Encoder(8, lean=0.2)
    m, found = findings(pack, encoder)
    variants = m.rows[m.rows["measure"] == "association_variant"].set_index("item")["value"]
    assert set(variants.index) == {
        "cls-1", "mean-0", "cls-0", "pooler-1", "template-t0", "template-t1", "template-t2",
    }  # fmt: skip
    # In this fake all poolings answer alike.
    assert variants["cls-1"] == pytest.approx(found["association_d"].effect.value, abs=1e-6)
    alone = words_pack(templates=CALM[1:2])
    x, y = leans(alone, encoder)
    assert variants["template-t1"] == pytest.approx((x.mean() - y.mean()) / np.r_[x, y].std(ddof=1), abs=1e-4)


def test_only_the_mean_over_the_last_layer_makes_the_findings():
    """No forking paths: other poolings may say anything."""
    encoder = Encoder(9, lean=0.2)
    other = FakeScorer(
        answers={"mean": encoder, "cls": Encoder(10, lean=-2.0), "pooler": Encoder(11)}, head=Head.ENCODER
    )
    m = measure(words_pack(), other)
    found = one(build([m], other.id, policy(), 0), "/association_d/")
    assert found.effect.value == pytest.approx(
        findings(words_pack(), encoder)[1]["association_d"].effect.value
    )


def test_neutral_topics_vouch_for_the_lists():
    _, found = findings(words_pack(neutral=6), Encoder(12))
    floor = found["association_neutral"]
    assert floor.role == "floor" and floor.status is Status.ESTIMATED and floor.n == 15
    assert 0 < floor.details["median"] < 0.8
    assert floor.details["quantile_95"] > floor.details["median"] and "median_gender" in floor.details

    def prone(tokens):  # topics of even number are of the first group, odd ones of the second
        out = Encoder(13)(tokens)
        for t in tokens:
            out[1] += 2.0 * {"x": 1, "y": -1, "n": 1 if t[1:2] in "024" else -1}.get(
                t[0] if t[1:2].isdigit() else "", 0
            )
        return out

    _, found = findings(words_pack(neutral=6), prone)
    assert found["association_neutral"].status is Status.INVALID
    assert found["association"].status is Status.INVALID and "neutral topics" in found["association"].reason


# --- what cannot be scored --------------------------------------------------------------------


@pytest.mark.parametrize("vector", [np.ones(4), np.zeros(4)], ids=["constant", "zero"])
def test_a_constant_encoder_has_no_effect_and_is_stopped_by_its_floor(vector):
    """Trap 29, for encoders: no difference between any two texts must not pass as no association."""
    asked = scorer(lambda tokens: vector)
    floor = packs.load(packs.find("encoder-floor-en"))
    built = build([measure(words_pack(), asked), measure(floor, asked)], asked.id, policy(), 0)
    found = {f.measure: f for f in built}
    assert found["encoder_floor"].status is Status.INVALID
    for name in ("association", "association_d"):
        assert found[name].status is Status.INVALID and "below its floor" in found[name].reason
    assert found["association_d"].effect.value == 0 and not found["association_d"].effect.intervals


def test_a_plan_knows_what_the_checks_will_rest_on():
    """The rows of zero answers have the shape of real ones, so that clusters can be counted beforehand."""
    pack = words_pack(neutral=4)
    rows = association.run(CountingScorer(scorer(Encoder())), pack, np.random.default_rng(0))
    cells = rows[rows["measure"] == "association"]
    assert len(cells) == 400 and (cells["value"] == 0).all()
    single = rows[rows["measure"] != "association"]
    assert single["value"].isna().all() and set(single["skipped"]) == {"the words do not differ"}
    assert {f.clusters for f in forecasts(pack, rows)} == {19.0, 20.0}


@pytest.mark.parametrize("clusters", [("target", "attribute"), ("target",)])
def test_a_word_that_cannot_be_scored_is_skipped_with_its_reason(clusters):
    pack = words_pack(clusters=clusters)
    long = with_rows(pack, lambda r: r | {"form": "very " * 40 + "long"} if r["id"] in ("x3", "a2") else r)
    m, found = findings(long, Encoder(14), max_tokens=20)
    rows = m.rows[m.rows["measure"] == "association"]
    lost = rows[rows["value"].isna()]
    assert set(lost["skipped"]) == {"longer than 20 tokens"}
    assert len(lost) == (39 if len(clusters) == 2 else 2) == found["association"].n_skipped
    assert np.isfinite(found["association_d"].effect.value)
    everything = with_rows(pack, lambda r: r | {"form": r["form"] + " very" * 40})
    _, found = findings(everything, Encoder(14), max_tokens=20)
    assert found["association"].status is Status.NOT_RUN and "longer than 20" in found["association"].reason


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda r: None if r["set"] == "b" else r, "the set b has 0 words"),
        (lambda r: r | {"set": "q"} if r["id"] == "x3" else r, "unknown set 'q'"),
        (lambda r: r | {"form": "X1"} if r["id"] == "y3" else r, "stands twice in x and y"),
        (lambda r: r | {"axis": "age"} if r["id"] == "y3" else r, "expected one axis"),
        (lambda r: r | {"label": "Old Women"} if r["set"] == "x" else r, "expected one label"),
        (lambda r: r | {"label": "other"} if r["id"] == "x3" else r, "expected one label"),
    ],
)
def test_lists_that_cannot_be_compared_are_refused(change, said):
    with pytest.raises(PackError, match=said):
        association.contrasts(with_rows(words_pack(), change))


def test_two_tests_of_one_name_and_too_few_neutral_topics_are_refused():
    pack = words_pack()
    twice = tuple(
        r | {"id": "z" + r["id"], "test": "u", "form": "z" + r["form"]} for r in pack.tables["words"]
    )
    double = Pack(pack.spec, pack.sha256, tables={"words": pack.tables["words"] + twice})
    with pytest.raises(PackError, match="two tests are called gender x-a-vs-y-b"):
        association.contrasts(double)
    with pytest.raises(PackError, match="four neutral topics"):
        association.contrasts(words_pack(neutral=2))


# --- the effect size --------------------------------------------------------------------------


@settings(max_examples=50, deadline=None)
@given(
    st.lists(st.floats(-1, 1), min_size=2, max_size=8), st.lists(st.floats(-1, 1), min_size=2, max_size=8),
    st.floats(0.1, 10), st.floats(-1, 1),
)  # fmt: skip
def test_d_has_no_unit_and_a_bound(x, y, scale, shift):
    s, first = np.array(x + y), np.arange(len(x) + len(y)) < len(x)
    d = association.effect(s, first)
    if s.std(ddof=1) < 1e-4:
        return
    n, k = len(s), len(x)
    assert abs(d) <= math.sqrt((n - 1) * n / (k * (n - k))) + 1e-9
    assert association.effect(scale * s + shift, first) == pytest.approx(d, abs=1e-6)
    assert association.effect(s, ~first) == pytest.approx(-d, abs=1e-9)


# --- the shipped lists ------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["words-en", "words-zh"])
def test_the_shipped_lists_are_long_enough_and_apart(name):
    pack = packs.load(packs.find(name))
    for test in word_sets.tests(pack):
        assert all(len(rows) == 14 for rows in test.sets.values())
        forms = [r["form"].lower() for rows in test.sets.values() for r in rows]
        targets, topics = forms[:28], forms[28:]
        assert not set(targets) & set(topics), test.name
    for rows in word_sets.topics(pack).values():
        assert len(rows) == 8
    neutral = {r["form"].lower() for r in pack.tables["words"] if r["set"] == "n"}
    assert not neutral & {r["form"].lower() for r in pack.tables["words"] if r["set"] != "n"}


def test_the_shipped_lists_leave_enough_degrees_of_freedom():
    pack = packs.load(packs.find("words-en"))

    def encoder(tokens):
        return 2 + np.array([chance(tokens[-3], k) for k in range(4)]) / 8

    m = measure(pack, scorer(encoder))
    for f in build([m], scorer(encoder).id, policy(), 0):
        if f.measure.startswith("association") and f.role == "probe":
            assert f.effect.df >= 25 and f.effect.intervals, f.id


def test_ids_are_plain_and_the_orientation_is_that_of_the_stereotype():
    with (packs.find("words-en") / "words.csv").open(encoding="utf-8") as file:
        labels = {(r["test"], r["set"]): r["label"] for r in csv.DictReader(file)}
    assert labels["gender-science", "x"] == "women" and labels["gender-science", "a"] == "arts"
    found = association.contrasts(packs.load(packs.find("words-en")))
    assert ("gender", "women-family-vs-men-career") in found and len(set(found)) == 6


@pytest.mark.parametrize("head", [Head.MASKED_LM, Head.ENCODER])
def test_on_a_real_checkpoint(head, tmp_path):
    """A masked LM has no pooler, an encoder has one."""
    real = TorchScorer(load(checkpoint(tmp_path / "model", head), device="cpu"))
    pack = words_pack((4, 4, 4, 4), templates=CALM[:2])
    forms = dict(
        zip(
            [r["form"] for r in pack.tables["words"]],
            [
                "she",
                "woman",
                "her",
                "girl",
                "he",
                "man",
                "him",
                "boy",
                "home",
                "school",
                "work",
                "job",
                "red",
                "blue",
                "dog",
                "cat",
            ],
            strict=True,
        )
    )
    pack = with_rows(pack, lambda r: r | {"form": forms[r["form"]]})
    rows = association.run(real, pack, np.random.default_rng(0))
    assert not rows["value"].isna().any()
    assert ("pooler-2" in set(rows["item"])) is (head is Head.ENCODER)
    cells = rows[rows["measure"] == "association"]
    she, home = (
        real.embeddings([t.fill(word=w)[0] for t in pack.templates], pool="mean").mean(axis=0)
        for w in ("she", "home")
    )
    expected = she @ home / np.linalg.norm(she) / np.linalg.norm(home)
    assert cells.set_index("item")["value"]["x0/a0"] == pytest.approx(expected, abs=1e-5)
