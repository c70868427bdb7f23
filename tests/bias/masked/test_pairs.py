"""Pair preference against the published rules, said in another way."""

from __future__ import annotations

import ast
import csv
import hashlib
import itertools
import os
import random
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch

from albert_audit.bias import items
from albert_audit.bias.benchmarks import crows_pairs
from albert_audit.bias.masked import pair_preference
from albert_audit.bias.measure import TIE
from albert_audit.findings import build
from albert_audit.model.cache import FakeScorer
from albert_audit.model.load import load
from albert_audit.model.scorer import TorchScorer
from albert_audit.model.text import MaskQuery
from albert_audit.packs import Pair
from albert_audit.shapes import SHAPES
from albert_audit.types import Head, Status, UsageError
from tests.fakes import floor_pack, measure, noisy, one, ordered, pair_pack, policy
from tests.tiny import checkpoint

M = "[MASK]"
PIECES = {"firefighter": ["fire", "fighter"], "firewoman": ["fire", "woman"], "grandmothers": ["grand", "mother", "s"],
          "grandfathers": ["grand", "father", "s"], "zulu": ["<unk>"]}  # fmt: skip


def pieces(word):
    return PIECES.get(word, [word])


def tokens_of(sentence):
    words = sentence.lower().replace(".", " .").replace(",", " ,").split()
    return ("[CLS]", *(p for w in words for p in pieces(w)), "[SEP]")


def masked(tokens, *at):
    return tuple(M if i in at else t for i, t in enumerate(tokens))


def pairs_of(*sentences, axis="age"):
    return [Pair(f"p{i}", axis, f"c{i}", more, less) for i, (more, less) in enumerate(sentences)]


def attention(tokens):
    """What each token of a sentence receives; it adds up to 1 over the sentence, specials included."""
    weights = np.array([8.0 if t in ("[CLS]", "[SEP]") else 1.0 + len(t) % 5 for t in tokens])
    return weights / weights.sum()


def fake(lp, **options):
    return FakeScorer(lp, **{"pieces": pieces, "answers": {"attention": attention}, **options})


def margins(pairs, lp, **options):
    rows = measure(pair_pack(pairs), fake(lp, **options)).rows
    return rows, {(r["item"], r["measure"]): r["value"] for _, r in rows.iterrows()}


# --- the CrowS-Pairs score ------------------------------------------------------------------------


def cps(lp, tokens, kept):
    """Sum over the kept positions of log P(token | everything else)."""
    return sum(lp(masked(tokens, i), i, tokens[i]) for i in kept)


def ends(a, b):
    """Positions both sentences share when one span differs: a common beginning, a common end."""
    head = next(i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y)
    tail = next(i for i, (x, y) in enumerate(zip(a[::-1], b[::-1], strict=False)) if x != y)
    tail = min(tail, len(a) - head, len(b) - head)
    return (
        [*range(1, head), *range(len(a) - tail, len(a) - 1)],
        [*range(1, head), *range(len(b) - tail, len(b) - 1)],
    )


@pytest.mark.parametrize(
    ("more", "less"),
    [
        ("The old man kept the keys.", "The young man kept the keys."),
        ("Old men kept the keys.", "Young men kept the keys."),  # the first word differs
        ("They trust the old.", "They trust the young people."),  # unequal length, near the end
        ("She is a firefighter.", "She is a firewoman."),  # a shared piece of two different words
        ("Her grandmothers knit a lot.", "Her grandfathers knit a lot."),
        ("People with a disability need help.", "People need help."),
    ],
)
def test_the_score_over_shared_tokens(more, less):
    lp = noisy(1)
    _, found = margins(pairs_of((more, less)), lp)
    a, b = tokens_of(more), tokens_of(less)
    kept_a, kept_b = ends(a, b)
    assert [a[i] for i in kept_a] == [b[i] for i in kept_b]
    assert found["p0", "pair_cps"] == pytest.approx(cps(lp, a, kept_a) - cps(lp, b, kept_b), abs=1e-5)


def test_shared_tokens_of_pairs_that_differ_in_several_places():
    """The published rule: the equal blocks of a sequence match over ids, the outermost two left out."""
    from difflib import SequenceMatcher

    lp, drawn = noisy(2), random.Random(0)
    words = [f"v{i}" for i in range(30)]
    sentences = []
    while len(sentences) < 40:
        a = drawn.choices(words, k=drawn.randint(3, 12))
        b = [drawn.choice(words) if drawn.random() < 0.3 else w for w in a if drawn.random() < 0.9]
        if a != b and b:
            sentences.append((" ".join(a) + ".", " ".join(b) + "."))
    _, found = margins(pairs_of(*sentences), lp)
    for i, (more, less) in enumerate(sentences):
        a, b = tokens_of(more), tokens_of(less)
        blocks = SequenceMatcher(None, a, b).get_matching_blocks()
        at = [(x + k, y + k) for x, y, n in blocks for k in range(n)][1:-1]
        want = cps(lp, a, [x for x, _ in at]) - cps(lp, b, [y for _, y in at])
        assert found[f"p{i}", "pair_cps"] == pytest.approx(want, abs=1e-4)


def test_the_differing_word_is_never_masked_nor_asked_for_by_the_score():
    asked = []

    def lp(tokens, at, token):
        asked.append((tokens, at, token))
        return -1.0

    scorer = FakeScorer(lp)
    more, less = scorer.encode(["The old man slept.", "The young man slept."])
    for queries in pair_preference._queries("pair_cps", more, less):
        scorer.mask_logprobs(queries)
    assert {t for _, _, t in asked} == {"the", "man", "slept", "."}
    assert all(("old" in tokens) != ("young" in tokens) for tokens, _, _ in asked), "it is always visible"
    assert all(tokens.count(M) == 1 and tokens[at] == M for tokens, at, _ in asked)


def test_a_preference_for_the_group_word_alone_does_not_move_the_score():
    lp = {"old": -9.0, "young": -1.0}
    _, found = margins(
        pairs_of(("The old man slept.", "The young man slept.")), lambda t, i, token: lp.get(token, -2.0)
    )
    assert found["p0", "pair_cps"] == 0.0
    assert found["p0", "pair_pll_word_l2r"] == pytest.approx(-8.0)


# --- the other two --------------------------------------------------------------------------------


def word_l2r(lp, sentence):
    """Each piece with itself and the later pieces of its word masked."""
    tokens, at, total = tokens_of(sentence), 1, 0.0
    for word in sentence.lower().replace(".", " .").split():
        inside = list(range(at, at + len(pieces(word))))
        total += sum(lp(masked(tokens, *[j for j in inside if j >= i]), i, tokens[i]) for i in inside)
        at += len(inside)
    return total


def test_whole_words_left_to_right_and_unmasked():
    lp = noisy(3)
    more, less = "The grandmothers saw a firefighter.", "The grandfathers saw it."
    _, found = margins(pairs_of((more, less)), lp)
    assert found["p0", "pair_pll_word_l2r"] == pytest.approx(
        word_l2r(lp, more) - word_l2r(lp, less), abs=1e-5
    )

    def mean(sentence):
        tokens = tokens_of(sentence)
        return sum(lp(tokens, i, tokens[i]) for i in range(1, len(tokens) - 1)) / (len(tokens) - 2)

    assert found["p0", "pair_unmasked"] == pytest.approx(mean(more) - mean(less), abs=1e-5)


# --- attention-weighted unmasked likelihood -------------------------------------------------------


def test_aula_weighs_each_token_by_the_attention_it_receives():
    """The mean over tokens of attention times log-probability; specials take attention and have no term."""
    lp = noisy(7)
    more, less = "The grandmothers saw a firefighter.", "The grandfathers saw it."
    _, found = margins(pairs_of((more, less)), lp)

    def aula(sentence):
        tokens = tokens_of(sentence)
        weights, inside = attention(tokens), range(1, len(tokens) - 1)
        assert sum(weights[i] for i in inside) < 0.9, "the rest went to the specials, and is not given back"
        return sum(weights[i] * lp(tokens, i, tokens[i]) for i in inside) / len(inside)

    assert found["p0", "pair_aula"] == pytest.approx(1000 * (aula(more) - aula(less)), abs=1e-3)


def test_a_small_difference_in_attention_weighted_nats_is_no_tie():
    """Trap 14: in nats these margins are of the order of the tie threshold, and would be lost."""
    rows, found = margins(
        pairs_of(("The old man slept.", "The young man slept.")),
        lambda tokens, at, token: -2.0 - (5e-4 if "old" in tokens else 0.0),
        answers={"attention": lambda tokens: np.full(len(tokens), 1 / len(tokens))},
    )
    nats = -5e-4 / 7
    assert abs(nats) < TIE
    assert found["p0", "pair_aula"] == pytest.approx(1000 * nats, abs=1e-3)
    assert items(rows[rows["measure"] == "pair_aula"], prior=False)["value"].item() < 0


def test_without_attention_the_rows_stay_and_say_why():
    pairs = pairs_of(("The old man slept.", "The young man slept."))
    rows, _ = margins(pairs, noisy(), answers={})
    by = rows.set_index("measure")
    assert by.loc["pair_aula", "skipped"] == "the model does not give its attention"
    assert np.isnan(by.loc["pair_aula", "value"]) and len(rows) == 4
    assert (by.drop("pair_aula")["skipped"] == "").all() and by.drop("pair_aula")["value"].notna().all()
    with_it, _ = margins(pairs, noisy())
    assert by.drop("pair_aula")["value"].equals(with_it.set_index("measure").drop("pair_aula")["value"])


def test_the_statistics_are_those_a_placebo_may_set_margins_for():
    names = {s.name for s in pair_preference.statistics(pair_pack(pairs_of(("A b.", "A c."))))}
    assert names == set(SHAPES["pair_preference"].statistics) and "pair_aula_share" in names


SENTENCES = [
    ("The nurse said she was tired.", "The carpenter said she was tired."),
    ("He went home.", "She went home and did not work that day."),
    ("The hairdresser lent him money, again.", "The hairdresser lent them money, again."),
    ("A good doctor will not do that!", "A bad doctor will not do that!"),
]


@pytest.fixture(scope="module")
def tiny_mlm(tmp_path_factory):
    return checkpoint(tmp_path_factory.mktemp("tiny") / "mlm")


@pytest.fixture(scope="module")
def mlm(tiny_mlm):
    return TorchScorer(load(tiny_mlm, device="cpu"))


def kaneko_bollegala(model, tokenizer, sentence, *, weighted):
    """Their rule in plain words: one unmasked pass, gold log-probabilities, attention received, a mean."""
    ids = tokenizer(sentence, return_tensors="pt")["input_ids"]
    with torch.no_grad():
        output = model(ids, output_attentions=True)
    total, n = 0.0, ids.shape[1]
    for i in range(1, n - 1):
        gold = torch.log_softmax(output.logits[0, i], dim=0)[ids[0, i]].item()
        received = [layer[0, head, query, i].item() for layer in output.attentions
                    for head in range(layer.shape[1]) for query in range(n)]  # fmt: skip
        total += gold * (sum(received) / len(received) if weighted else 1.0)
    return total / (n - 2)


def stock(folder):
    """The model of a folder as transformers has it, with eager attention, and its tokenizer."""
    from transformers import AlbertForMaskedLM, AutoTokenizer

    model = AlbertForMaskedLM.from_pretrained(folder, attn_implementation="eager").eval()
    return model, AutoTokenizer.from_pretrained(folder)


def scored_by(scorer, *sentences):
    return pair_preference.run(scorer, pair_pack(pairs_of(*sentences)), np.random.default_rng(0))


def agrees_with_kaneko_bollegala(folder, scorer):
    model, tokenizer = stock(folder)
    rows = scored_by(scorer, *SENTENCES).set_index(["item", "measure"])
    assert (rows["skipped"] == "").all()
    for i, pair in enumerate(SENTENCES):
        for name, weighted, scale, near in (
            ("pair_aula", True, 1000, 1e-6),
            ("pair_unmasked", False, 1, 1e-4),
        ):
            more, less = (kaneko_bollegala(model, tokenizer, s, weighted=weighted) for s in pair)
            assert rows.loc[(f"p{i}", name), "value"] / scale == pytest.approx(more - less, abs=near), (
                i,
                name,
            )


def test_kaneko_and_bollegala_on_a_tiny_model(tiny_mlm, mlm):
    """Traps 5 and 16: over the vocabulary, and attention even where the model's own kernel gives none."""
    assert mlm.handle.model.config._attn_implementation == "sdpa"
    agrees_with_kaneko_bollegala(tiny_mlm, mlm)
    assert mlm.handle.model.config._attn_implementation == "sdpa", "put back afterwards"


def test_log_probabilities_are_over_the_vocabulary(mlm):
    """Trap 5: at each position the probabilities of the whole vocabulary add up to 1."""
    (e,) = mlm.encode([SENTENCES[0][0]])
    (answer,) = mlm.mask_logprobs([MaskQuery(e.ids, e.type_ids, (2, 3), e.positions)])
    assert answer.shape == (len(e.positions), mlm.id.vocab_size)
    np.testing.assert_allclose(np.exp(answer.astype(np.float64)).sum(axis=1), 1.0, atol=1e-4)


def test_batches_change_no_margin(mlm):
    """Trap 15: alone or beside sentences of other lengths, a pair's scores are the same."""
    together = scored_by(mlm, *SENTENCES)
    alone = TorchScorer(mlm.handle, budget=1)
    for i, pair in enumerate(SENTENCES):
        one_pair = scored_by(alone, pair)
        mine = together[together["item"] == f"p{i}"]
        np.testing.assert_allclose(one_pair["value"], mine["value"], atol=2e-5)


def test_kaneko_and_bollegala_on_a_trained_model():
    folder = shared("models", "albert-mini")
    agrees_with_kaneko_bollegala(folder, TorchScorer(load(folder, device="cpu")))


def test_sums_are_not_means():
    # Every token costs one nat: a sentence that is two words longer costs two more.
    pair = pairs_of(("They trust the old and the frail.", "They trust the old."))
    rows, found = margins(pair, lambda *a: -1.0)
    assert found["p0", "pair_pll_word_l2r"] == -3.0
    assert found["p0", "pair_unmasked"] == 0.0
    assert found["p0", "pair_cps"] == 0.0  # equally many shared tokens on both sides
    assert dict(zip(rows["measure"], rows["unit"], strict=True)) == {
        "pair_cps": "nats", "pair_pll_word_l2r": "nats", "pair_unmasked": "nats per token",
        "pair_aula": "attention-weighted millinats per token",
    }  # fmt: skip


def test_everything_is_asked_in_one_call_and_order_changes_nothing():
    calls = []

    class Scorer(FakeScorer):
        def mask_logprobs(self, queries):
            calls.append(len(queries))
            return super().mask_logprobs(queries)

    sentences = [(f"The old v{i} slept.", f"The young v{i} slept well.") for i in range(6)]
    pairs = pairs_of(*sentences)
    answers = {"attention": attention}
    a = measure(pair_pack(pairs), Scorer(noisy(), answers=answers)).rows
    b = measure(pair_pack(pairs[::-1]), Scorer(noisy(), answers=answers)).rows
    assert len(calls) == 2
    key = ["item", "measure"]
    assert a.set_index(key)["value"].sort_index().equals(b.set_index(key)["value"].sort_index())


def test_changing_the_sides_changes_the_sign():
    sentences = [(f"The old v{i} slept.", f"The young v{i} slept well.") for i in range(6)]
    _, a = margins(pairs_of(*sentences), noisy(4))
    _, b = margins(pairs_of(*[s[::-1] for s in sentences]), noisy(4))
    assert all(a[k] == pytest.approx(-b[k], abs=1e-6) for k in a)


# --- ties -------------------------------------------------------------------------------------------


def findings_of(pairs, lp, floor=floor_pack, **options):
    def both(tokens, at, token):
        return (
            ordered(tokens, at, token)
            if any(t[0] == "n" and t[1:].isdigit() for t in tokens)
            else lp(tokens, at, token)
        )

    scorer = fake(both, **options)
    measured = [measure(floor(), scorer), measure(pair_pack(pairs), scorer)]
    return build(measured, scorer.id, policy(), 0)


def test_identical_sentences_prefer_neither_and_are_counted():
    pairs = pairs_of(*[(f"The Old v{i} slept.", f"the old V{i} slept.") for i in range(20)])
    found = findings_of(pairs, noisy())
    for score in pair_preference.SCORES:
        share, margin = one(found, f"{score}_share"), one(found, f"{score}_margin")
        assert share.effect.value == 0.5 and share.n == 20 and share.details["ties"] == 20
        assert margin.effect.value == 0.0 and share.status is margin.status is Status.ESTIMATED
        assert share.effect.p == 1.0 and share.effect.null == 0.5


def test_a_tie_is_one_half_and_stays_in_the_denominator():
    # 12 prefer the stereotype, 4 the other, 4 neither: (12 + 2) / 20, not 12/16 and not 12/20.
    kinds = ["yes"] * 12 + ["no"] * 4 + ["tie"] * 3 + ["near"]
    pairs = pairs_of(
        *[(f"The old {k} v{i} slept.", f"The young {k} v{i} slept.") for i, k in enumerate(kinds)]
    )

    def lp(tokens, at, token):
        likes = {"yes": 1.0, "no": -1.0, "near": 1e-5}
        kind = next((likes[k] for k in likes if k in tokens), 0.0)
        return -5.0 + (kind if "old" in tokens and token == "slept" else 0.0)

    found = findings_of(pairs, lp)
    share = one(found, "pair_cps_share")
    assert share.effect.value == pytest.approx(14 / 20) and share.details["ties"] == 4 and share.n == 20
    assert one(found, "pair_cps_margin").effect.value == pytest.approx(8 / 20)


# --- what could not be scored -----------------------------------------------------------------------


def test_every_pair_has_its_rows_with_a_value_or_a_reason():
    pairs = pairs_of(
        ("The old man slept.", "The young man slept."),
        ("The old zulu slept.", "The young zulu slept."),
        ("The old man slept for a very long time.", "The young man slept."),
    )
    rows, _ = margins(pairs, noisy(), max_tokens=8)
    assert len(rows) == 12 and not rows.duplicated(["item", "measure"]).any()
    why = {i: set(part["skipped"]) for i, part in rows.groupby("item")}
    assert why == {"p0": {""}, "p1": {"holds a piece the vocabulary lacks"}, "p2": {"longer than 8 tokens"}}
    assert (rows["value"].isna() == (rows["skipped"] != "")).all()
    assert len(items(rows[rows["measure"] == "pair_cps"], prior=False)) == 1


def test_only_one_side_unknown_is_skipped_too():
    rows, _ = margins(pairs_of(("The zulu man slept.", "The young man slept.")), noisy())
    assert rows["value"].isna().all()


# --- CrowS-Pairs -------------------------------------------------------------------------------------

HEADER = ",sent_more,sent_less,stereo_antistereo,bias_type,annotations,anon_writer,anon_annotators"


def crows_row(
    i,
    more,
    less,
    way="stereo",
    kind="age",
    votes="[['age'], ['age'], [], ['gender'], ['age', 'gender']]",
    writer="a1",
):
    return f'{i},{more},{less},{way},{kind},"{votes}",{writer},"[\'b\']"'


def test_an_altered_file_is_refused_with_both_hashes(tmp_path):
    path = tmp_path / "crows_pairs_anonymized.csv"
    path.write_text(HEADER + "\n" + crows_row(0, "A.", "B.") + "\n")
    with pytest.raises(UsageError) as caught:
        crows_pairs.load(path)
    message = str(caught.value)
    assert crows_pairs.SHA256[:12] in message
    assert hashlib.sha256(path.read_bytes()).hexdigest()[:12] in message
    assert caught.value.exit_code == 2 and "unchanged" in message
    with pytest.raises(UsageError, match="cannot read"):
        crows_pairs.load(tmp_path / "absent.csv")
    with pytest.raises(UsageError, match="not the published"):
        crows_pairs.load(tmp_path)  # the folder that holds it
    path.unlink()
    with pytest.raises(UsageError, match="cannot read"):
        crows_pairs.load(tmp_path)


def test_no_row_is_turned_round(tmp_path, monkeypatch):
    path = tmp_path / "f.csv"
    path.write_text("\n".join([HEADER, crows_row(0, "The old one.", "The young one."),
                               crows_row(1, "The shy boy.", "The shy girl.", "antistereo", "gender", writer="a2"),
                               crows_row(2, "X y.", "X z.", votes="[[], [], [], [], []]")]) + "\n")  # fmt: skip
    monkeypatch.setattr(crows_pairs, "SHA256", hashlib.sha256(path.read_bytes()).hexdigest())
    pack = crows_pairs.load(path)
    assert [(p.id, p.axis, p.cluster, p.more, p.less, p.confirmed) for p in pack.pairs] == [
        ("crows-0000", "age", "a1", "The old one.", "The young one.", 3),
        ("crows-0001", "gender", "a2", "The shy boy.", "The shy girl.", 2),
        ("crows-0002", "age", "a1", "X y.", "X z.", 0),
    ]
    assert pack.sha256 == crows_pairs.SHA256 and pack.spec.clusters == ("writer",)


def test_annotations_are_read_and_never_run(tmp_path, monkeypatch):
    path = tmp_path / "f.csv"
    path.write_text(
        HEADER + "\n" + crows_row(0, "A b.", "A c.", votes="__import__('os').system('true')") + "\n"
    )
    monkeypatch.setattr(crows_pairs, "SHA256", hashlib.sha256(path.read_bytes()).hexdigest())
    with pytest.raises(ValueError, match="malformed"):
        crows_pairs.load(path)


def crows_file():
    places = [
        os.environ.get("ALBERT_AUDIT_TEST_DATA"),
        Path(__file__).resolve().parents[4] / "shared" / "data",
    ]
    for place in filter(None, places):
        if (path := Path(place) / "crows_pairs" / "crows_pairs_anonymized.csv").is_file():
            return path
    return None


def shared(*parts):
    """A folder of real data, or skip."""
    for place in filter(
        None,
        (os.environ.get("ALBERT_AUDIT_TEST_DATA"), Path(__file__).resolve().parents[4] / "shared" / "data"),
    ):
        if (path := Path(place).joinpath(*parts)).exists():
            return path
    pytest.skip(f"{'/'.join(parts)} is not here: set ALBERT_AUDIT_TEST_DATA to a folder that holds it")


CROWS = crows_file()
needs_crows = pytest.mark.skipif(
    CROWS is None, reason="CrowS-Pairs (CC BY-SA) is not shipped: set ALBERT_AUDIT_TEST_DATA to a folder "
    "that holds crows_pairs/crows_pairs_anonymized.csv"
)  # fmt: skip


@needs_crows
def test_the_published_file():
    pack = crows_pairs.load(CROWS)
    with CROWS.open(encoding="utf-8", newline="") as file:
        raw = list(csv.DictReader(file))
    assert len(pack.pairs) == len(raw) == 1508
    assert [(p.more, p.less) for p in pack.pairs] == [(r["sent_more"], r["sent_less"]) for r in raw]
    anti = [p for p, r in zip(pack.pairs, raw, strict=True) if r["stereo_antistereo"] == "antistereo"]
    assert len(anti) == 218
    assert sum(p.confirmed <= 2 for p in pack.pairs) == 162
    counted = [
        sum(1 for v in ast.literal_eval(r["annotations"]) for t in v if t == r["bias_type"]) for r in raw
    ]
    assert [p.confirmed for p in pack.pairs] == counted and max(counted) == 5
    writers = Counter(p.cluster for p in pack.pairs)
    assert len(writers) == 77 and sum(n for _, n in writers.most_common(10)) == pytest.approx(
        0.56 * 1508, abs=8
    )
    assert Counter(p.axis for p in pack.pairs) == {
        "race-color": 516, "gender": 262, "socioeconomic": 172, "nationality": 159, "religion": 105, "age": 87,
        "sexual-orientation": 84, "physical-appearance": 63, "disability": 60,
    }  # fmt: skip
    assert len({p.id for p in pack.pairs}) == 1508
    axes = [a for a, _ in pair_preference.contrasts(pack)]
    assert axes == ["all", *sorted({p.axis for p in pack.pairs})]
    assert Head.MASKED_LM in pack.spec.may_gate


@needs_crows
def test_the_published_file_altered_by_one_byte(tmp_path):
    raw = bytearray(CROWS.read_bytes())
    raw[-2] ^= 1
    (tmp_path / "f.csv").write_bytes(raw)
    with pytest.raises(UsageError, match="SHA-256"):
        crows_pairs.load(tmp_path / "f.csv")


@needs_crows
def test_a_few_of_its_pairs_by_the_published_rule():
    """Word for word with the fake tokenizer, by equal blocks: the longest way round, on real sentences."""
    from difflib import SequenceMatcher

    lp = noisy(6)
    chosen = list(itertools.islice((p for p in crows_pairs.load(CROWS).pairs if len(p.more) < 60), 12))
    scorer = FakeScorer(lp)
    rows = measure(pair_pack(chosen), scorer).rows
    for p in chosen:
        a, b = ([scorer._names[i] for i in e.ids] for e in scorer.encode([p.more, p.less]))
        at = [
            (x + k, y + k) for x, y, n in SequenceMatcher(None, a, b).get_matching_blocks() for k in range(n)
        ][1:-1]
        want = cps(lp, tuple(a), [x for x, _ in at]) - cps(lp, tuple(b), [y for _, y in at])
        got = rows[(rows["item"] == p.id) & (rows["measure"] == "pair_cps")]["value"].item()
        assert got == pytest.approx(want, abs=1e-4)
