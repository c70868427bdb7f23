"""Words in the auditor's texts: whole words only, each text for one word, words and not draws as evidence."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from albert_audit import packs
from albert_audit.bias.encoder import context_association as measured
from albert_audit.bias.encoder import word_contexts, word_sets
from albert_audit.bias.encoder.association_estimates import effect
from albert_audit.findings import build, forecasts
from albert_audit.model.cache import CountingScorer, FakeScorer
from albert_audit.model.load import load
from albert_audit.model.scorer import TorchScorer
from albert_audit.model.text import find_word
from albert_audit.packs import Given, Pack, Text
from albert_audit.types import Head, Status
from tests.fakes import chance, measure, policy, spec
from tests.tiny import checkpoint

FLOOR = "encoder-floor-en"


def pack_of(sizes=(8, 8, 8, 8), contexts=4, *, texts: list[str] | None = None) -> Pack:
    """Words x0, x1, ..., b7, each in `contexts` texts of its own."""
    rows = tuple(
        {"id": f"{s}{i}", "test": "t", "axis": "gender", "set": s, "form": f"{s}{i}", "label": s}
        for s, n in zip("xyab", sizes, strict=True)
        for i in range(n)
    )
    made = spec(
        name="words-in-context-en", measure="context_association", axis="", groups={}, reference="", family="w",
        clusters=("target", "attribute"), may_gate=(),
    )  # fmt: skip
    if texts is None:
        texts = [f"Then c{k} saw {r['form'].upper()}, of c{k}." for r in rows for k in range(contexts)]
    return with_texts(Pack(made, "6" * 64, tables={"words": rows}), texts)


def with_texts(pack: Pack, texts: list[str]) -> Pack:
    return replace(pack, given=Given(tuple(Text(f"r{i}", t) for i, t in enumerate(texts)), "7" * 64))


class States:
    """Four numbers a token: the word's own, those of its context, and what groups and topics share."""

    def __init__(self, seed: int = 0, lean: float = 0.0, noise: float = 0.3) -> None:
        self.seed, self.lean, self.noise = seed, lean, noise

    def one(self, tokens: tuple[str, ...], token: str) -> np.ndarray:
        def draw(*parts: object) -> np.ndarray:
            return np.array([(chance(self.seed, *parts, k) + 4.05) / 3.95 for k in range(4)])

        out = 1.5 + 0.6 * draw("word", token) + self.noise * draw("context", tokens, token)
        out[0] += self.lean * {"x": 1, "a": 1, "y": -1, "b": -1}.get(token[0], 0)
        return out

    def __call__(self, tokens: tuple[str, ...]) -> np.ndarray:
        return np.array([self.one(tokens, t) for t in tokens])


def scorer(states: Any, **options: Any) -> FakeScorer:
    answers = {"states": states, "mean": lambda tokens: np.asarray(states(tokens))[1:-1].mean(axis=0)}
    return FakeScorer(answers=answers, head=Head.ENCODER, **options)


def findings(pack: Pack, states: Any, seed: int = 0, **options: Any):
    m = measure(pack, scorer(states, **options), seed)
    return m.rows, {f.measure: f for f in build([m], scorer(states).id, policy(), 0) if f.role == "probe"}


@pytest.fixture(autouse=True)
def _few_draws(monkeypatch):
    monkeypatch.setattr(measured, "DRAWS", 200)


# --- which words stand where ------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "forms", "found"),
    [
        ("A Woman, a woman.", ["woman", "man"], ["Woman", "woman"]),
        ("Womanhood, man-made, woman's, semen", ["woman", "man", "men"], ["man"]),
        ("The old man is old", ["old man", "old", "man"], ["old man", "old"]),
        ("old, man", ["old man"], []),
        ("农民工和农民在城市", ["农民", "农民工"], ["农民工", "农民"]),
        ("女人说", ["人", "女人"], ["女人"]),
        ("", ["woman"], []),
    ],
)
def test_whole_words_only_and_the_longest_form_first(text, forms, found):
    keys = {word_contexts.form_of(f) for f in forms}
    assert [text[a:b] for _, a, b in word_contexts.occurrences(text, keys)] == found


def test_a_text_serves_one_word_the_rarest_first_and_a_copy_is_no_second_context():
    texts = ["x0 met y0.", "x0 met y0.", "x0 met y1.", "x0 left.", "y0 came.", "x0 and Y1 ran."]
    pack = pack_of((2, 2, 2, 2), texts=texts)
    keys = [(f,) for f in ("x0", "x1", "y0", "y1")]
    found = word_contexts.contexts(scorer(States()), pack, keys)
    assert found.texts == ["x0 met y0.", "x0 met y1.", "x0 left.", "y0 came.", "x0 and Y1 ran."]
    assert found.holding == {("x0",): 4, ("x1",): 0, ("y0",): 2, ("y1",): 2}
    given = word_contexts.allotted(found.places, np.random.default_rng(0), fewest=2, most=50)
    assert {k[0]: [p[0] for p in v] for k, v in given.items()} == {
        "x1": [], "y0": [0, 3], "y1": [1, 4], "x0": [2],
    }  # fmt: skip
    # A form that remains too rare takes nothing away from the others.
    given = word_contexts.allotted(found.places, np.random.default_rng(0), fewest=3, most=50)
    assert len(given["x0",]) == 4


def test_at_most_so_many_contexts_drawn_by_the_seed():
    places = {("a",): [(i, (1,)) for i in range(200)], ("b",): [(i, (2,)) for i in range(100, 120)]}

    def drawn(seed):
        return word_contexts.allotted(places, np.random.default_rng(seed), fewest=2, most=50)

    one = drawn(0)
    assert (
        len(one["a",]) == 50 and len(one["b",]) == 20 and not {p[0] for p in one["a",]} & set(range(100, 120))
    )
    assert drawn(0) == one and drawn(1) != one


def test_a_vector_is_the_mean_over_the_words_own_pieces():
    texts = ["no x0 here", "x0 again, and x0"]
    pack = pack_of((2, 2, 2, 2), texts=texts)
    model = scorer(States(), pieces=lambda w: ["x", "zero", "th"] if w == "x0" else [w], max_tokens=20)
    found = word_contexts.contexts(model, pack, [("x0",)])
    read = word_contexts.vectors(model, found.texts, found.places["x0",])
    for (i, positions), vector in read.items():
        tokens = ("[CLS]", *_tokens(texts[i]), "[SEP]")
        own = [tokens.index(p) for p in ("x", "zero", "th")]
        assert positions == tuple(own)
        expected = States()(tokens)[own].mean(axis=0)
        np.testing.assert_allclose(vector, expected / np.linalg.norm(expected), atol=1e-6)


def _tokens(text: str) -> list[str]:
    return [p for w in text.replace(",", " ,").split() for p in (["x", "zero", "th"] if w == "x0" else [w])]


def test_states_are_asked_for_in_blocks_and_nothing_changes(monkeypatch):
    rows, _ = findings(pack_of((3, 3, 3, 3)), States(1))
    monkeypatch.setattr(word_contexts, "_BLOCK", 20)
    again, _ = findings(pack_of((3, 3, 3, 3)), States(1))
    assert rows.equals(again)


# --- the figures ------------------------------------------------------------------------------


def plain(pack: Pack, states: States) -> dict[str, list[np.ndarray]]:
    """Unit vectors of every word in its texts, by plain loops over texts."""
    out: dict[str, list[np.ndarray]] = {r["id"]: [] for r in pack.tables["words"]}
    for t in pack.given.texts:
        tokens = ("[CLS]", *t.text.lower().replace(",", " ,").replace(".", " .").split(), "[SEP]")
        for i, token in enumerate(tokens):
            if token in out:
                v = states(tokens)[i].astype(np.float32).astype(float)
                out[token].append(v / math.sqrt(v @ v))
    return out


@pytest.mark.parametrize("sizes", [(8, 8, 8, 8), (4, 6, 5, 9)])
def test_the_raw_association_is_that_of_plain_loops(sizes):
    pack, states = pack_of(sizes), States(2, lean=0.2)
    rows, found = findings(pack, states)
    own = plain(pack, states)

    def side(target: str, topic: str) -> float:
        pairs = [
            np.mean([u @ v for u in own[t] for v in own[a]])
            for t in own if t[0] == target for a in own if a[0] == topic
        ]  # fmt: skip
        return float(np.mean(pairs))

    expected = side("x", "a") - side("x", "b") - side("y", "a") + side("y", "b")
    assert found["context_association"].effect.value == pytest.approx(expected, abs=1e-6)
    assert (rows["item"] == "x0/a0").sum() == 1 and rows["covariate"].min() > 0
    assert found["context_association"].id == "words-in-context-en/context_association/gender/x-a-vs-y-b"


def test_the_combined_effect_size_is_near_the_mean_of_d_over_draws(monkeypatch):
    """Its published variance is that of d: (nx + ny) / (nx ny) + d^2 / (2 (nx + ny)), over the draws."""
    monkeypatch.setattr(measured, "DRAWS", 2_000)
    pack, states = pack_of((8, 7, 6, 9)), States(3, lean=0.1)
    found = findings(pack, states)[1]["context_association_ces"]
    own, rng, d = plain(pack, states), np.random.default_rng(1), []
    for _ in range(2_000):
        v = {w: vs[rng.integers(len(vs))] for w, vs in own.items()}
        s = [
            np.mean([v[w] @ v[a] for a in v if a[0] == "a"]) - np.mean([v[w] @ v[b] for b in v if b[0] == "b"])
            for w in v if w[0] in "xy"
        ]  # fmt: skip
        d.append(effect(np.array(s), np.arange(15) < 8))
    assert found.effect.value == pytest.approx(np.mean(d), abs=0.03)
    within = 15 / 56 + np.mean(np.square(d)) / 30
    # Draws of the same words differ less than independent samples would, so that tau is 0.
    assert found.details["published_se"] == pytest.approx(math.sqrt(within / 2_000), rel=0.02)


def test_a_planted_association_is_found_and_turned_round():
    _, found = findings(pack_of(), States(4, lean=0.6))
    for name in ("context_association", "context_association_ces"):
        assert found[name].status is Status.INVALID  # no floor pack was run beside it
        assert found[name].effect.intervals["0.95"].low > 0 and found[name].effect.p < 0.001
    _, other = findings(pack_of(), States(4, lean=-0.6))
    assert other["context_association"].effect.value > 0  # both signs turn: x lies with a still
    pack = pack_of()
    swapped = tuple(r | {"set": {"x": "y", "y": "x"}.get(r["set"], r["set"])} for r in pack.tables["words"])
    turned = replace(pack, tables={"words": tuple(r | {"label": r["set"]} for r in swapped)})
    _, other = findings(turned, States(4, lean=0.6))
    assert other["context_association_ces"].effect.intervals["0.95"].high < 0


def test_intervals_hold_when_nothing_is_there():
    """Words and contexts drawn anew without an effect: 95 % cover, and the published p does not hold."""
    runs, missed, published = 40, {"context_association": 0, "context_association_ces": 0}, 0
    for seed in range(runs):
        _, found = findings(pack_of((6, 6, 6, 6), 3), States(seed + 50), seed)
        for name in missed:
            ends = found[name].effect.intervals["0.95"]
            missed[name] += not ends.low <= 0 <= ends.high
        published += found["context_association_ces"].details["published_p"] < 0.05
    assert all(k <= 0.05 * runs + 2.6 * math.sqrt(runs * 0.05 * 0.95) for k in missed.values()), missed
    assert published > runs / 2


def test_more_draws_narrow_nothing(monkeypatch):
    """Trap 25: draws of the same words and contexts are no new evidence; the published error takes them for it."""
    found = {}
    for draws in (100, 1_600):
        monkeypatch.setattr(measured, "DRAWS", draws)
        found[draws] = findings(pack_of(), States(5))[1]
    few, many = (found[n]["context_association_ces"] for n in (100, 1_600))
    assert many.effect.se == pytest.approx(few.effect.se, rel=0.1) and many.effect.df == few.effect.df
    assert many.details["published_se"] == pytest.approx(few.details["published_se"] / 4, rel=0.05)
    assert many.effect.se > 5 * many.details["published_se"]
    raw = [found[n]["context_association"].effect for n in (100, 1_600)]
    assert raw[0] == raw[1]


def test_more_texts_of_the_same_words_add_no_clusters():
    """Trap 25: ten times the contexts leave the words' own differences, which is what the interval is of."""
    few, many = (findings(pack_of(contexts=n), States(6))[1]["context_association"].effect for n in (4, 40))
    assert many.df == few.df == pytest.approx(14) and many.se > 0.7 * few.se


def test_forms_of_one_word_are_one_cluster():
    pack = pack_of((16, 8, 8, 8))
    joined = replace(pack, tables={"words": tuple(
        r | {"word": f"w{int(r['id'][1:]) // 2}" if r["set"] == "x" else r["id"]} for r in pack.tables["words"]
    )})  # fmt: skip
    for name in ("context_association", "context_association_ces"):
        counts = [[c.count for c in findings(p, States(7))[1][name].clusters] for p in (pack, joined)]
        assert counts == [[24, 16], [16, 16]]


# --- what cannot be served --------------------------------------------------------------------


def test_words_without_contexts_are_disclosed_and_do_not_stop_the_finding():
    """Trap 18: left-out words are named, with the reason, and counted."""
    pack = pack_of((9, 9, 8, 8))
    lost = ("x0", "y8", "a3")
    texts = [t.text for t in pack.given.texts if not any(f" {w.upper()}," in t.text for w in lost)]
    texts += ["Only x0 is here.", "very " * 40 + "y8", "very " * 41 + "y8", "c0 saw y8 too"]
    rows, found = findings(with_texts(pack, texts), States(8), max_tokens=40)
    told = rows[(rows["measure"] == "context_association_words") & rows["value"].isna()].set_index("item")
    assert dict(told["skipped"]) == {
        "x0": "1 of the 1 texts that hold it can serve it; 2 are needed",
        "y8": "1 of the 3 texts that hold it can serve it; 2 are needed",
        "a3": "0 of the 0 texts that hold it can serve it; 2 are needed",
    }
    for f in found.values():
        assert f.n_skipped == 0 and f.effect.intervals, f.id
        assert f.details["words_left_out"] == 3 and f.details["words"] == 31
    assert not set(lost) & {
        w for i in rows.loc[rows["measure"] == "context_association", "item"] for w in i.split("/")
    }


@pytest.mark.parametrize("texts", [[], ["Nothing of it."], None])
def test_texts_that_hold_too_few_words_give_a_reason_and_no_figure(texts):
    pack = pack_of(texts=texts or []) if texts is not None else replace(pack_of(), given=None)
    _, found = findings(pack, States(9))
    assert len(found) == 2
    for f in found.values():
        assert f.status is Status.NOT_RUN and "can serve 0 of the words for x; two are needed" in f.reason


def test_a_word_with_an_unknown_piece_has_no_vector():
    model = scorer(States(), pieces=lambda w: ["<unk>"] if w == "x0" else [w])
    found = word_contexts.contexts(model, pack_of(), [("x0",), ("x1",)])
    assert not found.places["x0",] and found.holding["x0",] == 4 and len(found.places["x1",]) == 4


def test_an_encoder_that_tells_no_words_apart_has_no_effect():
    """Trap 29: also what a plan sees, whose answers are zeros."""
    pack = pack_of()
    rows, found = findings(pack, lambda tokens: np.ones((len(tokens), 4)))
    assert found["context_association"].effect.value == 0
    assert "the words do not differ" in found["context_association_ces"].reason
    counting = CountingScorer(scorer(States()))
    rows = measured.run(counting, pack, np.random.default_rng(0))
    assert counting.inputs == 128 and (rows.loc[rows["measure"] == "context_association", "value"] == 0).all()
    assert forecasts(pack, rows)[0].clusters == 16


# --- the shipped packs, and a real model ------------------------------------------------------


@pytest.mark.parametrize("name", ["words-in-context-en", "words-in-context-zh"])
def test_the_shipped_words_can_be_found_and_lie_apart(name):
    pack = packs.load(packs.find(name))
    assert pack.spec.may_gate == () and pack.shape.brings == ("texts",)
    for test in word_sets.tests(pack):
        forms = [word_contexts.form_of(r["form"]) for rows in test.sets.values() for r in rows]
        assert len(set(forms)) == len(forms), test.name
        assert all(len({r["word"] for r in rows}) >= 12 for rows in test.sets.values())
        if pack.language == "en":
            assert all(len(f) == 1 for f in forms), test.name
    every = {word_contexts.form_of(r["form"]) for r in pack.tables["words"]}
    for form in every:
        text = "，" + "".join(form) + "。" if pack.language == "zh" else f"So {form[0]}, then."
        assert [f for f, _, _ in word_contexts.occurrences(text, every)] == [form]


def test_on_a_real_checkpoint(tmp_path):
    real = TorchScorer(load(checkpoint(tmp_path / "model", Head.ENCODER), device="cpu"))
    forms = ["she", "woman", "he", "man", "home", "house", "work", "job"]
    pack = pack_of((2, 2, 2, 2), texts=[f"The {w} was {k}." for w in forms for k in ("new", "old", "red")])
    words = tuple(r | {"form": f} for r, f in zip(pack.tables["words"], forms, strict=True))
    rows = measured.run(real, replace(pack, tables={"words": words}), np.random.default_rng(0))
    cells = rows[rows["measure"] == "context_association"].set_index("item")["value"]
    assert len(cells) == 16 and not cells.isna().any()

    def unit(word: str, kind: str) -> np.ndarray:
        text = f"The {word} was {kind}."
        (encoded,) = real.encode([text])
        at = find_word(encoded, 4, 4 + len(word))
        v = real.hidden_states([text])[0][list(at)].mean(axis=0).astype(float)
        return v / np.linalg.norm(v)

    kinds = ("new", "old", "red")
    expected = np.mean([unit("she", i) @ unit("home", j) for i in kinds for j in kinds])
    assert cells["x0/a0"] == pytest.approx(expected, abs=1e-5)
