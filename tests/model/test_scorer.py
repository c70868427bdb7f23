"""The batched scorer against the stock model, one input at a time, in plain loops."""

from __future__ import annotations

import dataclasses
import itertools
import random

import numpy as np
import pytest
import torch
import transformers
from hypothesis import given, settings
from hypothesis import strategies as st

from albert_audit import resources
from albert_audit.model.forward import Encoder
from albert_audit.model.load import load
from albert_audit.model.scorer import TorchScorer
from albert_audit.model.text import MaskQuery, shared_positions, token_queries
from albert_audit.types import Ability, Head, UsageError
from tests import tiny

CLOSE = {"atol": 1e-5, "rtol": 0}
MASK = 4
TEXTS = [
    "He is a nurse.",
    "The carpenter's dog was very old, isn't it?",
    "  hairdressers ",
    "she",
    "Ça va “bien” ﬁne cafe\u0301",
    "An unknown 護 and a 😀.",
    "a\u200bb \u00a0c",
    "",
]
RULES = ("pll", "pll_word_l2r", "unmasked")


class Stock:
    """The plain way: transformers alone, a batch of one, log-softmax in float64."""

    def __init__(self, folder, cls="AlbertForMaskedLM", **options):
        self.model = getattr(transformers, cls).from_pretrained(folder, **options).eval()
        self.tokenizer = transformers.AutoTokenizer.from_pretrained(folder)

    def run(self, ids, type_ids=None, **options):
        types = [0] * len(ids) if type_ids is None else list(type_ids)
        with torch.no_grad():
            return self.model(
                input_ids=torch.tensor([list(ids)]), token_type_ids=torch.tensor([types]), **options
            )

    def logprobs(self, ids, type_ids=None) -> np.ndarray:
        """Return (tokens, vocabulary)."""
        output = self.run(ids, type_ids)
        logits = output.logits if hasattr(output, "logits") else output.prediction_logits
        return torch.log_softmax(logits[0].double(), dim=1).numpy()

    def token_logprobs(self, text, rule, words) -> list[float]:
        ids = self.tokenizer(text)["input_ids"]
        if rule == "unmasked":
            table = self.logprobs(ids)
            return [table[i, ids[i]] for i in range(1, len(ids) - 1)]
        found = []
        for i in range(1, len(ids) - 1):
            masked = list(ids)
            masked[i] = MASK
            if rule == "pll_word_l2r":
                for j in range(i + 1, len(ids) - 1):
                    if words[j] == words[i]:
                        masked[j] = MASK
            found.append(self.logprobs(masked)[i, ids[i]])
        return found


@pytest.fixture(scope="module")
def stock(tiny_mlm):
    return Stock(tiny_mlm)


def answer_naively(stock, query: MaskQuery) -> np.ndarray:
    ids = [MASK if i in query.masked else t for i, t in enumerate(query.ids)]
    table = stock.logprobs(ids, query.type_ids)
    rows = [table[i] for i in query.at]
    if not query.ask:
        return np.array(rows)
    return np.array([[row[t] for t in ask] for row, ask in zip(rows, query.ask, strict=True)])


def all_close(found, expected):
    assert len(found) == len(expected)
    for a, b in zip(found, expected, strict=True):
        assert np.shape(a) == np.shape(b)
        np.testing.assert_allclose(a, b, **CLOSE)


# --- masked LM ------------------------------------------------------------------------------


@pytest.mark.parametrize("rule", RULES)
def test_token_logprobs(mlm, stock, rule):
    found = mlm.token_logprobs(TEXTS, rule=rule)
    words = [e.words for e in mlm.encode(TEXTS)]
    all_close(found, [stock.token_logprobs(t, rule, w) for t, w in zip(TEXTS, words, strict=True)])
    assert {a.dtype for a in found} == {np.dtype(np.float32)}
    assert found[-1].shape == (0,), "the empty text has no tokens"
    assert all((a <= 0).all() for a in found)


def test_the_rules_differ(mlm):
    pll, l2r, unmasked = (mlm.token_logprobs(TEXTS[:1], rule=r)[0] for r in RULES)
    assert np.abs(pll - l2r).max() > 0.01
    assert np.abs(pll - unmasked).max() > 0.01
    np.testing.assert_allclose(pll[[0, 1, 2, -1]], l2r[[0, 1, 2, -1]], **CLOSE)


def test_a_pretraining_checkpoint_scores_like_stock(tiny_folders, tiny_scorers):
    stock = Stock(tiny_folders[Head.PRETRAINING], "AlbertForPreTraining")
    scorer = tiny_scorers[Head.PRETRAINING]
    for text in TEXTS[:2]:
        (encoded,) = scorer.encode([text])
        all_close(
            scorer.token_logprobs([text], rule="pll"), [stock.token_logprobs(text, "pll", encoded.words)]
        )


@pytest.mark.parametrize("rule", RULES)
def test_a_chinese_checkpoint_scores_like_stock(tiny_zh, rule):
    stock = Stock(tiny_zh)
    stock.tokenizer = transformers.BertTokenizer.from_pretrained(tiny_zh)
    scorer = TorchScorer(load(tiny_zh, device="cpu"))
    texts = ["他是护士。", "AI医生2号"]
    expected = [
        stock.token_logprobs(t, rule, e.words) for t, e in zip(texts, scorer.encode(texts), strict=True)
    ]
    all_close(scorer.token_logprobs(texts, rule=rule), expected)


def test_queries_of_many_positions_and_ids(mlm, stock):
    queries = []
    for encoded in mlm.encode(TEXTS[:4]):
        at = encoded.positions
        queries += [
            MaskQuery(encoded.ids, encoded.type_ids, at, at, tuple((5, 6, encoded.ids[i]) for i in at)),
            MaskQuery(encoded.ids, encoded.type_ids, at[:1], at[::-1], tuple((7,) for _ in at)),
            MaskQuery(encoded.ids, encoded.type_ids, (), at[-1:], ((9, 9, 8),)),
            MaskQuery(encoded.ids, encoded.type_ids, at[-1:], at[-1:], ()),
            MaskQuery(encoded.ids, encoded.type_ids, (), (0, len(encoded.ids) - 1), ((5,), (6,))),
        ]
    all_close(mlm.mask_logprobs(queries), [answer_naively(stock, q) for q in queries])


def test_queries_of_a_pair_have_their_segments(mlm, stock):
    (encoded,) = mlm.encode(["He is old."], ["She is a nurse."])
    queries = token_queries(encoded, "pll")
    expected = [answer_naively(stock, q) for q in queries]
    all_close(mlm.mask_logprobs(queries), expected)
    flat = [dataclasses.replace(q, type_ids=(0,) * len(q.ids)) for q in queries]
    assert max(np.abs(a - b).max() for a, b in zip(mlm.mask_logprobs(flat), expected, strict=True)) > 0.01


def test_rows_over_the_vocabulary_sum_to_one(mlm):
    # Trap 5: normalised over the vocabulary, not over the positions.
    (encoded,) = mlm.encode(["He is a nurse in the house."])
    queries = [dataclasses.replace(q, ask=()) for q in token_queries(encoded, "pll")]
    queries.append(MaskQuery(encoded.ids, encoded.type_ids, (), encoded.positions, ()))
    for answer in mlm.mask_logprobs(queries):
        assert answer.shape[1] == mlm.id.vocab_size
        np.testing.assert_allclose(np.exp(answer.astype(np.float64)).sum(axis=1), 1, atol=1e-5)


def test_a_row_holds_what_is_asked_of_it(mlm):
    (encoded,) = mlm.encode(["He is a nurse."])
    query = token_queries(encoded, "pll")[0]
    (row,) = mlm.mask_logprobs([dataclasses.replace(query, ask=())])
    every = dataclasses.replace(query, ask=(tuple(range(mlm.id.vocab_size)),))
    np.testing.assert_array_equal(mlm.mask_logprobs([every])[0], row)


def test_a_span_of_pieces_is_read_on_the_diagonal(mlm, stock):
    # Trap 6: the k × k table of positions and pieces holds the answer on its diagonal only.
    (encoded,) = mlm.encode(["He is a nurse."])
    span = tuple(i for i in encoded.positions if encoded.words[i] == 3)
    pieces = tuple(encoded.ids[i] for i in span)
    assert len(span) >= 3
    assert len(set(pieces)) == len(pieces)
    joint = MaskQuery(encoded.ids, encoded.type_ids, span, span, tuple((t,) for t in pieces))
    (found,) = mlm.mask_logprobs([joint])
    (table,) = mlm.mask_logprobs([dataclasses.replace(joint, ask=(pieces,) * len(span))])
    np.testing.assert_allclose(found[:, 0], np.diag(table), **CLOSE)
    np.testing.assert_allclose(found, answer_naively(stock, joint), **CLOSE)
    assert abs(table.mean() - np.diag(table).mean()) > 0.01, "if this fails the trap is gone"


def test_a_score_is_of_the_sentence_not_of_the_vocabulary(mlm, stock):
    # Traps 7 and 8: the gold ids' log-probabilities, summed by the caller; not the vocabulary's sum.
    (encoded,) = mlm.encode(["He is a nurse."])
    (values,) = mlm.token_logprobs(["He is a nurse."], rule="pll")
    gold, everything = [], 0.0
    for i in encoded.positions:
        ids = [MASK if j == i else t for j, t in enumerate(encoded.ids)]
        row = stock.logprobs(ids)[i]
        gold.append(row[encoded.ids[i]])
        everything += row.sum()
    assert values.shape == (len(encoded.positions),), "one value a piece, nothing averaged"
    np.testing.assert_allclose(values.sum(), sum(gold), atol=1e-4)
    assert abs(values.sum() - everything) > 100


def test_the_crows_pairs_score_of_the_published_script(mlm, stock):
    # The loop of metric.py, a mask at a time, against one call of ours.
    first, second = "The nurse said that he is old.", "The nurse said that she is old."
    a, b = mlm.encode([first, second])
    shared = shared_positions(a, b)
    queries = [
        MaskQuery(e.ids, e.type_ids, (p[side],), (p[side],), ((e.ids[p[side]],),))
        for side, e in enumerate((a, b))
        for p in shared
    ]
    values = np.concatenate([x[:, 0] for x in mlm.mask_logprobs(queries)])
    for side, encoded in enumerate((a, b)):
        total = 0.0
        for pair in shared:
            ids = list(encoded.ids)
            ids[pair[side]] = MASK
            total += stock.logprobs(ids)[pair[side], encoded.ids[pair[side]]]
        np.testing.assert_allclose(values[side * len(shared) :][: len(shared)].sum(), total, atol=1e-4)


def test_identical_sentences_tie_exactly(mlm):
    # Trap 14: rounding or half precision would make ties of near ones, and none of equal ones.
    pairs = mlm.token_logprobs(["He is a nurse.", "He is old.", "He is a nurse."], rule="pll")
    assert pairs[0].tobytes() == pairs[2].tobytes()


# --- batches --------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def many(mlm):
    texts = [*TEXTS, *resources.reference_sentences("en")[:6]]
    encoded = mlm.encode(texts)
    return [q for e in encoded for rule in RULES for q in token_queries(e, rule)]


@pytest.mark.parametrize("budget", [1, 40, 4096])
def test_the_budget_changes_no_score(mlm, many, tiny_handles, budget):
    # Trap 15, in a stronger form: nothing is padded, so nothing can leak.
    other = TorchScorer(tiny_handles[Head.MASKED_LM], budget=budget)
    all_close(other.mask_logprobs(many), mlm.mask_logprobs(many))


def test_order_and_duplicates_change_no_score(mlm, many):
    expected = mlm.mask_logprobs(many)
    order = list(range(len(many))) * 2
    random.Random(0).shuffle(order)
    all_close(mlm.mask_logprobs([many[i] for i in order]), [expected[i] for i in order])


def test_the_same_call_gives_the_same_bytes(mlm, many):
    first, second = mlm.mask_logprobs(many), mlm.mask_logprobs(many)
    assert [a.tobytes() for a in first] == [a.tobytes() for a in second]


@given(st.lists(st.integers(2, 60), max_size=50), st.integers(1, 300))
def test_the_batch_plan(lengths, budget):
    scorer = TorchScorer.__new__(TorchScorer)
    scorer.budget = budget
    plan = scorer.batches(lengths)
    assert sorted(i for batch in plan for i in batch) == list(range(len(lengths)))
    for batch in plan:
        assert len({lengths[i] for i in batch}) == 1
        assert len(batch) == 1 or len(batch) * lengths[batch[0]] <= budget
    per_length = {n: [len(b) for b in plan if lengths[b[0]] == n] for n in set(lengths)}
    for sizes in per_length.values():
        assert len({*sizes[:-1]}) <= 1, "batches are full but for the last of a length"
    assert [lengths[b[0]] for b in plan] == sorted((lengths[b[0]] for b in plan), reverse=True)


@settings(max_examples=15)
@given(st.data())
def test_any_query_equals_the_plain_loop(mlm, stock, data):
    queries = []
    for _ in range(data.draw(st.integers(1, 4))):
        n = data.draw(st.integers(2, 9))
        ids = tuple(data.draw(st.lists(st.integers(0, mlm.id.vocab_size - 1), min_size=n, max_size=n)))
        types = tuple(data.draw(st.lists(st.integers(0, 1), min_size=n, max_size=n)))
        masked = tuple(sorted(data.draw(st.sets(st.integers(0, n - 1)))))
        at = tuple(data.draw(st.lists(st.integers(0, n - 1), min_size=1, max_size=n)))
        width = data.draw(st.integers(1, 3))
        ask = tuple(
            tuple(data.draw(st.lists(st.integers(0, mlm.id.vocab_size - 1), min_size=width, max_size=width)))
            for _ in at
        )
        queries.append(MaskQuery(ids, types, masked, at, data.draw(st.sampled_from([ask, ()]))))
    all_close(mlm.mask_logprobs(queries), [answer_naively(stock, q) for q in queries])


def distinct(scorer, queries):
    """What is left of queries when masks are in place and nothing is asked twice."""
    seen = {}
    for q in queries:
        ids = tuple(scorer.mask_id if i in q.masked else t for i, t in enumerate(q.ids))
        seen[ids, q.type_ids, q.masked, q.at, q.ask] = len(ids)
    return list(seen.values())


def test_what_is_asked_twice_is_computed_once(tiny_handles, many):
    ticks = []
    scorer = TorchScorer(tiny_handles[Head.MASKED_LM], progress=ticks.append)
    once = scorer.mask_logprobs(many)
    tokens = sum(ticks)
    thrice = scorer.mask_logprobs([q for q in many for _ in range(3)])
    assert sum(ticks) == 2 * tokens
    for i, answer in enumerate(once):
        assert all(answer.tobytes() == again.tobytes() for again in thrice[3 * i : 3 * i + 3])


def test_progress_counts_every_token_once(tiny_handles, many):
    ticks = []
    scorer = TorchScorer(tiny_handles[Head.MASKED_LM], progress=ticks.append)
    scorer.mask_logprobs(many)
    lengths = distinct(scorer, many)
    assert sum(ticks) == sum(lengths) < sum(len(q.ids) for q in many)
    assert len(ticks) == len(scorer.batches(lengths))
    ticks.clear()
    scorer.embeddings(["a b", "c"], pool="cls")
    assert sum(ticks) == 7


def test_many_rows_go_through_the_head_in_parts(mlm, stock, monkeypatch):
    (encoded,) = mlm.encode(["The nurse and the doctor and the teacher are old."])
    query = MaskQuery(encoded.ids, encoded.type_ids, (), encoded.positions, ())
    expected = mlm.mask_logprobs([query] * 3)
    monkeypatch.setattr("albert_audit.model.scorer._HEAD_ROWS", 5)
    all_close(mlm.mask_logprobs([query] * 3), expected)
    asked = dataclasses.replace(query, ask=tuple((encoded.ids[i],) for i in encoded.positions))
    all_close(mlm.mask_logprobs([asked, query]), [answer_naively(stock, asked), expected[0]])


# --- the fast encoder -----------------------------------------------------------------------

SHAPES = [
    {},
    {"num_hidden_groups": 2},
    {"inner_group_num": 2},
    {"num_hidden_layers": 5, "num_hidden_groups": 3, "inner_group_num": 2},
    {"num_hidden_layers": 1},
    {"num_hidden_layers": 2, "num_hidden_groups": 4},
    {"hidden_act": "relu"},
    {"hidden_act": "gelu"},
    {"hidden_act": "gelu_new"},
    {"hidden_act": "gelu_pytorch_tanh"},
    {"hidden_act": "silu"},
    {"embedding_size": 24},
    {"num_attention_heads": 1},
    {"layer_norm_eps": 1e-3},
    {"type_vocab_size": 3},
    {"hidden_dropout_prob": 0.5, "attention_probs_dropout_prob": 0.5},
]


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_the_encoder_equals_the_stock_forward(shape):
    model = tiny.model(Head.ENCODER, **shape)
    for parameter in model.parameters():
        parameter.requires_grad_(requires_grad=False)
    generator = torch.Generator().manual_seed(3)
    for b, n in ((1, 1), (1, 7), (4, 12)):
        ids = torch.randint(0, model.config.vocab_size, (b, n), generator=generator)
        types = torch.randint(0, model.config.type_vocab_size, (b, n), generator=generator)
        with torch.inference_mode():
            expected = model(input_ids=ids, token_type_ids=types).last_hidden_state
            found = Encoder(model)(ids, types)
            torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)
            at = torch.randint(0, n, (b, 3), generator=generator)
            rows = expected.gather(1, at.unsqueeze(-1).expand(-1, -1, expected.shape[-1]))
            torch.testing.assert_close(Encoder(model)(ids, types, at), rows, atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    "shape",
    [*SHAPES[1:4], {"tie_word_embeddings": False}, {"hidden_act": "gelu"}, {"pad_token_id": None}],
    ids=str,
)
def test_unusual_checkpoints_score_like_stock(tmp_path, shape):
    folder = tiny.checkpoint(tmp_path / "m", **shape)
    stock, scorer = Stock(folder), TorchScorer(load(folder, device="cpu"))
    encoded = scorer.encode(TEXTS[:2])
    for rule in RULES:
        expected = [stock.token_logprobs(t, rule, e.words) for t, e in zip(TEXTS[:2], encoded, strict=True)]
        all_close(scorer.token_logprobs(TEXTS[:2], rule=rule), expected)


# --- the other heads ------------------------------------------------------------------------

QUESTIONS = ["Who is old?", "Where is the doctor?", "Who?"]
CONTEXTS = ["The nurse is old.", "The doctor is at home.", "She"]


def stock_of(tiny_folders, head):
    return Stock(tiny_folders[head], tiny.CLASSES[head])


def test_class_logits(tiny_folders, tiny_scorers):
    stock, scorer = (
        stock_of(tiny_folders, Head.SEQUENCE_CLASSIFICATION),
        tiny_scorers[Head.SEQUENCE_CLASSIFICATION],
    )
    found = scorer.class_logits(TEXTS)
    assert found.shape == (len(TEXTS), 3)
    assert found.dtype == np.float32
    expected = [stock.run(stock.tokenizer(t)["input_ids"]).logits[0].numpy() for t in TEXTS]
    np.testing.assert_allclose(found, expected, **CLOSE)


def test_the_segments_of_a_pair_reach_the_model(tiny_folders, tiny_scorers):
    # ALBERT's tokenizer lists no token_type_ids among its inputs, so a default call sends zeros.
    head = Head.SEQUENCE_CLASSIFICATION
    stock, scorer = stock_of(tiny_folders, head), tiny_scorers[head]
    found = scorer.class_logits(QUESTIONS, CONTEXTS)
    right, wrong = [], []
    for a, b in zip(QUESTIONS, CONTEXTS, strict=True):
        first, second = (stock.tokenizer(t)["input_ids"] for t in (a, b))
        ids = first + second[1:]
        right.append(stock.run(ids, [0] * len(first) + [1] * (len(second) - 1)).logits[0].numpy())
        wrong.append(stock.run(ids).logits[0].numpy())
        assert "token_type_ids" not in stock.tokenizer(a, b), "if this fails the trap is gone"
    np.testing.assert_allclose(found, right, **CLOSE)
    assert np.abs(found - np.array(wrong)).max() > 0.01


def test_tag_logits(tiny_folders, tiny_scorers):
    head = Head.TOKEN_CLASSIFICATION
    stock, scorer = stock_of(tiny_folders, head), tiny_scorers[head]
    found = scorer.tag_logits(TEXTS)
    all_close(found, [stock.run(stock.tokenizer(t)["input_ids"]).logits[0].numpy() for t in TEXTS])
    assert [a.shape for a in found] == [(len(e.ids), 3) for e in scorer.encode(TEXTS)]


def test_span_logits(tiny_folders, tiny_scorers):
    head = Head.QUESTION_ANSWERING
    stock, scorer = stock_of(tiny_folders, head), tiny_scorers[head]
    expected = []
    for e in scorer.encode(QUESTIONS, CONTEXTS):
        output = stock.run(e.ids, e.type_ids)
        expected.append(np.stack([output.start_logits[0].numpy(), output.end_logits[0].numpy()], axis=1))
    all_close(scorer.span_logits(QUESTIONS, CONTEXTS), expected)


def test_order_logits(tiny_folders, tiny_scorers):
    # Trap 27: this is sentence order, whose classes are not those of next-sentence prediction.
    stock, scorer = stock_of(tiny_folders, Head.PRETRAINING), tiny_scorers[Head.PRETRAINING]
    found = scorer.order_logits(QUESTIONS, CONTEXTS)
    expected = [
        stock.run(e.ids, e.type_ids).sop_logits[0].numpy() for e in scorer.encode(QUESTIONS, CONTEXTS)
    ]
    assert found.shape == (3, 2)
    np.testing.assert_allclose(found, expected, **CLOSE)


def test_choice_logits(tiny_folders, tiny_scorers):
    # The stock way: all choices of a question in one padded call.
    stock, scorer = stock_of(tiny_folders, Head.MULTIPLE_CHOICE), tiny_scorers[Head.MULTIPLE_CHOICE]
    choices = [["The nurse.", "He", "A very old teacher"], ["the house"], ["red", "blue"]]
    found = scorer.choice_logits(QUESTIONS, choices)
    for question, options, logits in zip(QUESTIONS, choices, found, strict=True):
        encoded = scorer.encode([question] * len(options), options)
        width = max(len(e.ids) for e in encoded)

        def padded(rows, width=width):
            return torch.tensor([[[*r, *[0] * (width - len(r))] for r in rows]])

        with torch.no_grad():
            output = stock.model(
                input_ids=padded([e.ids for e in encoded]),
                token_type_ids=padded([e.type_ids for e in encoded]),
                attention_mask=padded([[1] * len(e.ids) for e in encoded]),
            )
        np.testing.assert_allclose(logits, output.logits[0].numpy(), **CLOSE)
        assert logits.shape == (len(options),)


def test_prompts_without_choices(tiny_scorers):
    scorer = tiny_scorers[Head.MULTIPLE_CHOICE]
    found = scorer.choice_logits(["a", "b", "c"], [[], ["x", "y"], []])
    assert [a.shape for a in found] == [(0,), (2,), (0,)]
    np.testing.assert_allclose(found[1], scorer.choice_logits(["b"], [["x", "y"]])[0], **CLOSE)


@pytest.mark.parametrize("head", list(Head))
@pytest.mark.parametrize("layer", [-1, 0, 1, 2, -3])
def test_embeddings(tiny_folders, tiny_scorers, head, layer):
    scorer = tiny_scorers[head]
    stock = Stock(tiny_folders[head], tiny.CLASSES[head])
    body = getattr(stock.model, "albert", stock.model)
    for text in ("He is a nurse.", "she"):
        (encoded,) = scorer.encode([text])
        with torch.no_grad():
            states = body(input_ids=torch.tensor([encoded.ids]), output_hidden_states=True).hidden_states
        assert len(states) == scorer.id.depth + 1
        state = states[layer][0].numpy()
        np.testing.assert_allclose(scorer.embeddings([text], pool="cls", layer=layer)[0], state[0], **CLOSE)
        np.testing.assert_allclose(
            scorer.embeddings([text], pool="mean", layer=layer)[0], state[1:-1].mean(axis=0), **CLOSE
        )


@pytest.mark.parametrize("head", [Head.MASKED_LM, Head.ENCODER])
def test_hidden_states(tiny_folders, tiny_scorers, head):
    """Every token of its own, specials included, in the order of the texts and under one name a layer."""
    scorer = tiny_scorers[head]
    stock = Stock(tiny_folders[head], tiny.CLASSES[head])
    body = getattr(stock.model, "albert", stock.model)
    texts = ["she", "He is a nurse.", "she"]
    for layer in (0, 1, -1):
        found = scorer.hidden_states(texts, layer=layer)
        for text, states in zip(texts, found, strict=True):
            (encoded,) = scorer.encode([text])
            with torch.no_grad():
                output = body(input_ids=torch.tensor([encoded.ids]), output_hidden_states=True)
            assert states.shape == (len(encoded.ids), 24)
            np.testing.assert_allclose(states, output.hidden_states[layer][0].numpy(), **CLOSE)
    np.testing.assert_array_equal(scorer.hidden_states(texts)[1], scorer.hidden_states(texts, layer=2)[1])
    assert scorer.hidden_states([]) == []
    with pytest.raises(UsageError, match="layer"):
        scorer.hidden_states(texts, layer=3)


def test_layers_of_an_inner_group_are_depths_of_their_own(tmp_path):
    shape = {"inner_group_num": 2, "num_hidden_layers": 2}
    scorer = TorchScorer(load(tiny.checkpoint(tmp_path / "m", Head.ENCODER, **shape), device="cpu"))
    found = [scorer.embeddings(["he is"], pool="cls", layer=i) for i in range(5)]
    assert scorer.id.depth == 4
    assert all(np.abs(a - b).max() > 1e-3 for a, b in itertools.pairwise(found))
    np.testing.assert_array_equal(found[4], scorer.embeddings(["he is"], pool="cls"))
    with pytest.raises(UsageError, match="layer"):
        scorer.embeddings(["he is"], pool="cls", layer=5)
    with pytest.raises(UsageError, match="layer"):
        scorer.embeddings(["he is"], pool="cls", layer=-6)


def test_the_pooler(tiny_folders, tiny_scorers):
    scorer, stock = tiny_scorers[Head.ENCODER], stock_of(tiny_folders, Head.ENCODER)
    found = scorer.embeddings(TEXTS, pool="pooler")
    expected = [stock.run(stock.tokenizer(t)["input_ids"]).pooler_output[0].numpy() for t in TEXTS]
    np.testing.assert_allclose(found, expected, **CLOSE)
    with pytest.raises(UsageError, match="no pooler"):
        tiny_scorers[Head.MASKED_LM].embeddings(["a"], pool="pooler")
    with pytest.raises(UsageError, match="pool among"):
        scorer.embeddings(["a"], pool="max")


def test_the_mean_of_no_tokens_is_not_a_number_quietly(tiny_scorers):
    with pytest.raises(UsageError, match="no mean"):
        tiny_scorers[Head.ENCODER].embeddings(["he", "  "], pool="mean")
    assert np.isfinite(tiny_scorers[Head.ENCODER].embeddings(["he", ""], pool="cls")).all()


# --- attention ------------------------------------------------------------------------------


@pytest.mark.parametrize("head", list(Head))
def test_attention_received(tiny_folders, tiny_scorers, head):
    scorer = tiny_scorers[head]
    stock = Stock(tiny_folders[head], tiny.CLASSES[head], attn_implementation="eager")
    body = getattr(stock.model, "albert", stock.model)
    found = scorer.attention_received(TEXTS)
    for text, received in zip(TEXTS, found, strict=True):
        ids = stock.tokenizer(text)["input_ids"]
        with torch.no_grad():
            layers = body(input_ids=torch.tensor([ids]), output_attentions=True).attentions
        by_hand = np.zeros(len(ids))
        for layer in layers:
            for h in range(layer.shape[1]):
                for query in range(len(ids)):
                    by_hand += layer[0, h, query].numpy() / (len(layers) * layer.shape[1] * len(ids))
        np.testing.assert_allclose(received, by_hand, **CLOSE)
        np.testing.assert_allclose(received.sum(), 1, atol=1e-5)


def test_the_attention_implementation_is_put_back(tiny_scorers, monkeypatch):
    # Trap 16: fused attention returns none, and staying eager would change later scores' kernel.
    scorer = tiny_scorers[Head.SEQUENCE_CLASSIFICATION]
    config = scorer.handle.model.config
    before = scorer.class_logits(TEXTS)
    assert config._attn_implementation == "sdpa"
    scorer.attention_received(["he"])
    assert config._attn_implementation == "sdpa"
    assert scorer.handle.model.albert.config._attn_implementation == "sdpa"
    np.testing.assert_array_equal(scorer.class_logits(TEXTS), before)
    with pytest.raises(UsageError, match="nothing is truncated"):
        scorer.attention_received(["he " * 200])
    assert config._attn_implementation == "sdpa"


# --- refusals and limits --------------------------------------------------------------------


def calls(text: str):
    query = MaskQuery(
        (2, *([10] * max(1, len(text) // 2)), 3), (0,) * (max(1, len(text) // 2) + 2), (1,), (1,)
    )
    return {
        Ability.MASK_LOGPROBS: lambda s: s.mask_logprobs([query]),
        Ability.TOKEN_LOGPROBS: lambda s: s.token_logprobs([text], rule="pll"),
        Ability.CLASS_LOGITS: lambda s: s.class_logits([text]),
        Ability.TAG_LOGITS: lambda s: s.tag_logits([text]),
        Ability.SPAN_LOGITS: lambda s: s.span_logits(["a"], [text]),
        Ability.CHOICE_LOGITS: lambda s: s.choice_logits(["a"], [[text, "b"]]),
        Ability.ORDER_LOGITS: lambda s: s.order_logits([text], ["b"]),
        Ability.EMBEDDINGS: lambda s: s.embeddings([text], pool="mean"),
        Ability.ATTENTION: lambda s: s.attention_received([text]),
    }


@pytest.mark.parametrize("head", list(Head))
def test_a_head_answers_what_it_can_and_refuses_the_rest(tiny_scorers, head):
    scorer = tiny_scorers[head]
    for ability, call in calls("he").items():
        if ability in scorer.can:
            assert len(call(scorer)) == 1
        else:
            with pytest.raises(UsageError, match=f"{head} cannot answer") as caught:
                call(scorer)
            assert caught.value.hint


@pytest.mark.parametrize("head", list(Head))
def test_nothing_is_ever_truncated(tiny_scorers, head):
    # Trap 26: truncation could delete the word that differs.
    scorer = tiny_scorers[head]
    for ability, call in calls("a " * 150).items():
        if ability in scorer.can:
            with pytest.raises(UsageError, match="nothing is truncated"):
                call(scorer)


def test_the_longest_input_fits(mlm, stock):
    text = "he " * (mlm.id.max_tokens - 2)
    (encoded,) = mlm.encode([text])
    assert len(encoded.ids) == mlm.id.max_tokens
    (found,) = mlm.token_logprobs([text], rule="unmasked")
    np.testing.assert_allclose(found, stock.token_logprobs(text, "unmasked", encoded.words), **CLOSE)
    assert len(mlm.encode([text + "he"])[0].ids) == mlm.id.max_tokens + 1, "encoding itself never cuts"


def test_asking_nothing(tiny_scorers):
    assert tiny_scorers[Head.MASKED_LM].mask_logprobs([]) == []
    assert tiny_scorers[Head.MASKED_LM].token_logprobs([], rule="pll") == []
    assert tiny_scorers[Head.MASKED_LM].attention_received([]) == []
    assert tiny_scorers[Head.TOKEN_CLASSIFICATION].tag_logits([]) == []
    assert tiny_scorers[Head.QUESTION_ANSWERING].span_logits([], []) == []
    assert tiny_scorers[Head.MULTIPLE_CHOICE].choice_logits([], []) == []
    assert tiny_scorers[Head.SEQUENCE_CLASSIFICATION].class_logits([]).shape == (0, 3)
    assert tiny_scorers[Head.PRETRAINING].order_logits([], []).shape == (0, 2)
    for pool in ("cls", "mean", "pooler"):
        assert tiny_scorers[Head.ENCODER].embeddings([], pool=pool).shape == (0, 24)


@pytest.mark.parametrize("call", ["class_logits", "encode"])
def test_texts_and_pairs_must_match_in_number(tiny_scorers, call):
    with pytest.raises(ValueError, match=r"shorter|longer"):
        getattr(tiny_scorers[Head.SEQUENCE_CLASSIFICATION], call)(["a", "b"], ["c"])


def test_a_model_of_one_segment_takes_no_pairs(tmp_path):
    folder = tiny.checkpoint(tmp_path / "m", Head.SEQUENCE_CLASSIFICATION, type_vocab_size=1)
    scorer = TorchScorer(load(folder, device="cpu"))
    assert scorer.class_logits(["a"]).shape == (1, 2)
    with pytest.raises(UsageError, match="no text pairs"):
        scorer.class_logits(["a"], ["b"])


def test_too_little_memory_halves_the_batch_and_goes_on(tiny_handles, mlm, many, monkeypatch):
    ticks, sizes = [], []
    scorer = TorchScorer(tiny_handles[Head.MASKED_LM], budget=4096, progress=ticks.append)
    whole = scorer._encoder

    def small(ids, type_ids, at=None):
        sizes.append(len(ids))
        if len(ids) > 3:
            raise torch.OutOfMemoryError("pretended")
        return whole(ids, type_ids, at)

    monkeypatch.setattr(scorer, "_encoder", small)
    all_close(scorer.mask_logprobs(many), mlm.mask_logprobs(many))
    assert max(sizes) > 6, "some batches were too large"
    assert sum(ticks) == sum(distinct(scorer, many))


def test_too_little_memory_for_one_input_is_an_error(tiny_handles, many, monkeypatch):
    scorer = TorchScorer(tiny_handles[Head.MASKED_LM])

    def none(*_):
        raise torch.OutOfMemoryError("pretended")

    monkeypatch.setattr(scorer, "_encoder", none)
    with pytest.raises(torch.OutOfMemoryError):
        scorer.mask_logprobs(many[:4])


def test_too_little_memory_for_a_classifier(tiny_handles, tiny_scorers, monkeypatch):
    head = Head.SEQUENCE_CLASSIFICATION
    texts = ["he is", "she is", "they are", "it is", "we are"]
    expected = tiny_scorers[head].class_logits(texts)
    scorer = TorchScorer(tiny_handles[head])
    forward = scorer.handle.model.forward

    def small(*args, **options):
        if len(options["input_ids"]) > 1:
            raise torch.OutOfMemoryError("pretended")
        return forward(*args, **options)

    monkeypatch.setattr(scorer.handle.model, "forward", small)
    np.testing.assert_allclose(scorer.class_logits(texts), expected, **CLOSE)


def test_scoring_leaves_no_trace_on_the_model(tiny_handles, many):
    handle = tiny_handles[Head.MASKED_LM]
    before = {n: p.clone() for n, p in handle.model.named_parameters()}
    state = torch.get_rng_state()
    TorchScorer(handle).mask_logprobs(many)
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(before[n], p) for n, p in handle.model.named_parameters())
    assert torch.is_grad_enabled()


# --- minicons -------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def minicons(tiny_mlm):
    scorer = pytest.importorskip("minicons.scorer")
    tokenizer = transformers.AutoTokenizer.from_pretrained(tiny_mlm)
    tokenizer.batch_encode_plus = tokenizer.__call__  # dropped by transformers 5
    model = transformers.AutoModelForMaskedLM.from_pretrained(tiny_mlm)
    return scorer.MaskedLMScorer(model, "cpu", tokenizer=tokenizer)


# Its word ids count a mark to the word before it, so the within-word rule is compared without marks.
BARE = ["He is a nurse", "the hairdresser and the carpenter are old", "transgender people said so", "she"]


@pytest.mark.parametrize(
    ("rule", "metric", "texts"),
    [("pll", "original", [*BARE, *TEXTS[:5]]), ("pll_word_l2r", "within_word_l2r", BARE)],
)
def test_minicons_says_the_same(mlm, minicons, rule, metric, texts):
    expected = [[score for _, score in s] for s in minicons.token_score(texts, PLL_metric=metric)]
    all_close(mlm.token_logprobs(texts, rule=rule), expected)
    summed = minicons.sequence_score(texts, reduction=lambda x: x.sum(0).item(), PLL_metric=metric)
    np.testing.assert_allclose([a.sum() for a in mlm.token_logprobs(texts, rule=rule)], summed, atol=1e-4)
