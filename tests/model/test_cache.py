"""The score cache, the cost of an audit, and the scorer without a model."""

from __future__ import annotations

import dataclasses
import sqlite3
import stat
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pytest

from albert_audit import resources
from albert_audit.model import cache
from albert_audit.model.cache import CachedScorer, CountingScorer, FakeScorer, ScoreStore, cache_path
from albert_audit.model.scorer import Scorer, TorchScorer
from albert_audit.model.text import MaskQuery, token_queries
from albert_audit.types import Ability, Head, UsageError

TEXTS = ["He is a nurse.", "She is a doctor.", "They said that the house is old.", "He", "a b c d e f g h"]


class Recorder(CountingScorer):
    """Hands everything on, and remembers what was asked in each call."""

    def __init__(self, inner):
        super().__init__(inner)
        self.calls: list[list[MaskQuery]] = []
        self.fail_after: int | None = None

    def mask_batches(self, batches):
        for batch in batches:
            if self.fail_after is not None and len(self.calls) >= self.fail_after:
                raise KeyboardInterrupt
            self.calls.append(list(batch))
            yield from self.inner.mask_batches([batch])


def pll_queries(scorer, texts=TEXTS, rule="pll"):
    return [q for e in scorer.encode(texts) for q in token_queries(e, rule)]


def masked(scorer, q):
    """The query with masks in place, as it reaches the model."""
    ids = tuple(scorer.mask_id if i in q.masked else t for i, t in enumerate(q.ids))
    return dataclasses.replace(q, ids=ids)


def same_bytes(a, b) -> bool:
    return [x.tobytes() for x in a] == [y.tobytes() for y in b] and [x.shape for x in a] == [
        y.shape for y in b
    ]


@pytest.fixture
def path(tmp_path):
    return tmp_path / "folder" / "scores.sqlite"


@pytest.fixture
def store(path):
    made = ScoreStore(path)
    yield made
    made.close()


def rows(path: Path) -> dict[bytes, bytes]:
    with sqlite3.connect(path) as db:
        found = dict(db.execute("SELECT key, value FROM scores"))
    db.close()
    return found


# --- the cached scorer ----------------------------------------------------------------------


@pytest.mark.parametrize("rule", ["pll", "pll_word_l2r", "unmasked"])
def test_cached_equals_uncached_to_the_byte(mlm, store, rule):
    inner = Recorder(mlm)
    cached = CachedScorer(inner, store, device="cpu")
    expected = mlm.token_logprobs(TEXTS, rule=rule)
    first = cached.token_logprobs(TEXTS, rule=rule)
    calls = len(inner.calls)
    second = cached.token_logprobs(TEXTS, rule=rule)
    assert same_bytes(first, expected)
    assert same_bytes(second, expected)
    assert len(inner.calls) == calls > 0, "the second time nothing reaches the model"
    tokens = sum(len(q.ids) for q in pll_queries(mlm, rule=rule))
    assert (cached.scored, cached.cached) == (tokens, tokens)


def test_answers_from_the_cache_can_be_written_to(mlm, store):
    cached = CachedScorer(mlm, store, device="cpu")
    queries = pll_queries(mlm)
    for _ in range(2):
        for answer in cached.mask_logprobs(queries):
            assert answer.dtype == np.float32
            answer += 1
    assert same_bytes(cached.mask_logprobs(queries), mlm.mask_logprobs(queries))


def test_the_batches_are_those_of_an_uncached_run(mlm, store):
    inner = Recorder(mlm)
    queries = pll_queries(mlm, list(resources.reference_sentences("en")[:20]))
    CachedScorer(inner, store, device="cpu").mask_logprobs(queries)
    bare = [masked(mlm, q) for q in queries]
    assert len(set(bare)) == len(bare)
    plan = [[bare[i] for i in batch] for batch in mlm.batches([len(q.ids) for q in queries])]
    assert inner.calls == plan
    assert max(map(len, plan)) > 1


def test_a_half_filled_batch_is_computed_again_whole(mlm, store, path):
    inner = Recorder(mlm)
    cached = CachedScorer(inner, store, device="cpu")
    queries = [masked(mlm, q) for q in pll_queries(mlm, ["He is here", "She is there"])]
    assert len(set(queries)) == len(queries)
    assert len(mlm.batches([len(q.ids) for q in queries])) == 1
    expected = cached.mask_logprobs(queries)
    with sqlite3.connect(path) as db:
        db.execute("DELETE FROM scores WHERE key = (SELECT key FROM scores LIMIT 1)")
    db.close()
    assert same_bytes(cached.mask_logprobs(queries), expected)
    assert inner.calls == [queries, queries]
    assert len(rows(path)) == len(queries)


def test_scores_of_other_batches_are_not_taken(mlm, store):
    # They agree to 1e-5 or so, but the bytes of an audit must not depend on what was audited before.
    queries = pll_queries(mlm, list(resources.reference_sentences("en")[:20]))
    cached = CachedScorer(mlm, store, device="cpu")
    for query in queries:
        cached.mask_logprobs([query])
    assert same_bytes(cached.mask_logprobs(queries), mlm.mask_logprobs(queries))


def test_a_question_that_stands_in_two_batches(mlm, store):
    queries = pll_queries(mlm, list(resources.reference_sentences("en")[:20])) * 3
    cached = CachedScorer(mlm, store, device="cpu")
    expected = mlm.mask_logprobs(queries)
    for _ in range(2):
        assert same_bytes(cached.mask_logprobs(queries), expected)
    assert cached.cached == cached.scored


def test_a_killed_run_goes_on_with_the_same_bytes(mlm, path):
    queries = pll_queries(mlm, list(resources.reference_sentences("en")[:12]))
    expected = mlm.mask_logprobs(queries)
    inner = Recorder(mlm)
    inner.fail_after = 3
    store = ScoreStore(path)
    with pytest.raises(KeyboardInterrupt):
        CachedScorer(inner, store, device="cpu").mask_logprobs(queries)
    assert len(rows(path)) == sum(map(len, inner.calls)), "whole batches only"
    done = len(inner.calls)
    store.close()
    inner.fail_after = None
    store = ScoreStore(path)
    assert same_bytes(CachedScorer(inner, store, device="cpu").mask_logprobs(queries), expected)
    store.close()
    assert len(inner.calls) == len(mlm.batches([len(q.ids) for q in queries]))
    assert done == 3


def test_rows_over_the_vocabulary_are_not_kept(mlm, store, path):
    cached = CachedScorer(Recorder(mlm), store, device="cpu")
    whole = [dataclasses.replace(q, ask=()) for q in pll_queries(mlm)]
    for _ in range(2):
        assert same_bytes(cached.mask_logprobs(whole), mlm.mask_logprobs(whole))
    assert rows(path) == {}
    assert cached.cached == 0


def test_every_part_of_a_query_is_part_of_the_key(mlm, store):
    inner = Recorder(mlm)
    cached = CachedScorer(inner, store, device="cpu")
    base = MaskQuery((2, 10, 11, 12, 3), (0,) * 5, (1,), (1,), ((10,),))
    others = [
        dataclasses.replace(base, ids=(2, 10, 11, 13, 3)),
        dataclasses.replace(base, type_ids=(0, 0, 0, 1, 1)),
        dataclasses.replace(base, masked=(1, 2)),
        dataclasses.replace(base, masked=()),
        dataclasses.replace(base, at=(2,)),
        dataclasses.replace(base, ask=((11,),)),
        dataclasses.replace(base, ask=((10, 11),)),
    ]
    found = {cached.mask_logprobs([q])[0].tobytes() for q in [base, *others]}
    assert len(inner.calls) == len(found) == 8
    for q in [base, *others]:
        assert same_bytes(cached.mask_logprobs([q]), mlm.mask_logprobs([q]))
    assert len(inner.calls) == 8


@pytest.mark.parametrize(
    "change",
    [
        {"weights_sha256": "1" * 64},
        {"config_sha256": "1" * 64},
        {"tokenizer_sha256": "1" * 64},
        {"head": Head.PRETRAINING},
        {"dtype": "bfloat16"},
        {"attention": "eager"},
    ],
    ids=lambda c: next(iter(c)),
)
def test_another_model_has_other_keys(mlm, store, change):
    queries = pll_queries(mlm)
    CachedScorer(mlm, store, device="cpu").mask_logprobs(queries)
    other = Recorder(mlm)
    other.id = mlm.id.model_copy(update=change)
    CachedScorer(other, store, device="cpu").mask_logprobs(queries)
    assert other.calls


def test_the_name_of_a_model_is_no_part_of_the_key(mlm, store):
    queries = pll_queries(mlm)
    CachedScorer(mlm, store, device="cpu").mask_logprobs(queries)
    other = Recorder(mlm)
    other.id = mlm.id.model_copy(update={"name": "renamed", "revision": "v2"})
    CachedScorer(other, store, device="cpu").mask_logprobs(queries)
    assert not other.calls


@pytest.mark.parametrize("what", ["torch", "transformers", "scorer", "device"])
def test_another_version_or_device_has_other_keys(mlm, store, monkeypatch, what):
    queries = pll_queries(mlm)
    CachedScorer(mlm, store, device="cpu").mask_logprobs(queries)
    if what == "scorer":
        monkeypatch.setattr(cache, "SCORER_VERSION", cache.SCORER_VERSION + 1)
    elif what != "device":
        monkeypatch.setattr(cache, "version", lambda name: version(name) + ("+x" if name == what else ""))
    other = Recorder(mlm)
    CachedScorer(other, store, device="cuda" if what == "device" else "cpu").mask_logprobs(queries)
    assert other.calls


def test_progress_counts_cached_tokens_too(mlm, store, tiny_handles):
    inner_ticks, ticks = [], []
    inner = TorchScorer(tiny_handles[Head.MASKED_LM], progress=inner_ticks.append)
    cached = CachedScorer(inner, store, device="cpu", progress=ticks.append)
    queries = pll_queries(mlm)
    tokens = sum(len(q.ids) for q in queries)
    cached.mask_logprobs(queries)
    assert (sum(inner_ticks), sum(ticks)) == (tokens, 0)
    cached.mask_logprobs(queries)
    assert (sum(inner_ticks), sum(ticks)) == (tokens, tokens)


def test_the_other_primitives_pass_through(tiny_scorers, store):
    for head, scorer in tiny_scorers.items():
        cached = CachedScorer(scorer, store, device="cpu")
        assert cached.id is scorer.id
        assert cached.can == scorer.can
        assert (cached.mask_id, cached.unknown_id) == (scorer.mask_id, scorer.unknown_id) == (4, 1)
        assert cached.encode(["a"], ["b"]) == scorer.encode(["a"], ["b"])
        np.testing.assert_array_equal(
            cached.embeddings(["a b"], pool="mean", layer=0), scorer.embeddings(["a b"], pool="mean", layer=0)
        )
        np.testing.assert_array_equal(cached.attention_received(["a"]), scorer.attention_received(["a"]))
        for ability, call in {
            Ability.CLASS_LOGITS: lambda s: s.class_logits(["a"], ["b"]),
            Ability.TAG_LOGITS: lambda s: s.tag_logits(["a b"]),
            Ability.SPAN_LOGITS: lambda s: s.span_logits(["a"], ["b"]),
            Ability.CHOICE_LOGITS: lambda s: s.choice_logits(["a"], [["b", "c"]]),
            Ability.ORDER_LOGITS: lambda s: s.order_logits(["a"], ["b"]),
        }.items():
            if ability in scorer.can:
                np.testing.assert_array_equal(call(cached), call(scorer))
            else:
                with pytest.raises(UsageError, match=str(head)):
                    call(cached)


# --- the file -------------------------------------------------------------------------------


def test_the_file_is_its_owners_alone(store, path, mlm):
    CachedScorer(mlm, store, device="cpu").mask_logprobs(pll_queries(mlm))
    for file in path.parent.iterdir():
        assert stat.S_IMODE(file.stat().st_mode) == 0o600, file.name
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700


def test_a_file_that_others_could_read_is_closed_to_them(path):
    ScoreStore(path).close()
    path.chmod(0o644)
    ScoreStore(path).close()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_the_file_tells_no_text_and_no_ids(mlm, store, path):
    texts = ["The carpenter's secret is 48151623."]
    CachedScorer(mlm, store, device="cpu").token_logprobs(texts, rule="pll")
    store.close()
    data = b"".join(p.read_bytes() for p in path.parent.iterdir())
    query = pll_queries(mlm, texts)[0]
    assert b"carpenter" not in data
    assert repr(query.ids).encode() not in data
    assert repr(query.ids[1:-1])[1:-1].encode() not in data
    assert mlm.id.weights_sha256.encode() not in data
    assert all(len(k) == 32 for k in rows(path))


def test_keys_of_two_files_differ(mlm, tmp_path):
    found = []
    for name in ("a", "b"):
        store = ScoreStore(tmp_path / name)
        CachedScorer(mlm, store, device="cpu").mask_logprobs(pll_queries(mlm))
        store.close()
        found.append(set(rows(tmp_path / name)))
    assert not found[0] & found[1]


def test_the_key_of_a_file_is_kept(path):
    first = ScoreStore(path)
    key = first.key("a", (1, 2))
    first.close()
    second = ScoreStore(path)
    assert second.key("a", (1, 2)) == key
    assert second.key("a", (1, 3)) != key
    assert second.key("a", 1, 2) != second.key("a", (1, 2))
    second.close()


def test_get_is_all_or_nothing_and_keeps_the_order(store):
    keys = [store.key(i) for i in range(1200)]
    store.put(keys, [str(i).encode() for i in range(1200)])
    assert store.get(keys[::-1]) == [str(i).encode() for i in reversed(range(1200))]
    assert store.get([keys[3], keys[3]]) == [b"3", b"3"]
    assert not store.has([*keys, store.key("missing")])
    assert store.get([]) == []


def test_put_is_all_or_nothing(store):
    keys = [store.key(i) for i in range(3)]
    with pytest.raises(ValueError, match="shorter"):
        store.put(keys, [b"1"])
    assert not store.has(keys[:1])
    store.put(keys, [b"1"] * 3)
    assert store.get(keys) == [b"1"] * 3


def test_two_scorers_may_share_a_file(mlm, path):
    first, second = ScoreStore(path), ScoreStore(path)
    queries = pll_queries(mlm)
    CachedScorer(mlm, first, device="cpu").mask_logprobs(queries)
    inner = Recorder(mlm)
    CachedScorer(inner, second, device="cpu").mask_logprobs(queries)
    assert not inner.calls
    first.close()
    second.close()


@pytest.mark.parametrize("data", [b"this is no database " * 300, b"SQLite format 3\x00" + b"\xff" * 5000])
def test_a_corrupt_file(path, data):
    path.parent.mkdir()
    path.write_bytes(data)
    with pytest.raises(UsageError, match="delete the file") as caught:
        ScoreStore(path)
    assert caught.value.exit_code == 2
    assert path.read_bytes() == data, "whatever it is, it is not overwritten"


def test_a_file_that_breaks_later(mlm, path):
    store = ScoreStore(path)
    CachedScorer(mlm, store, device="cpu").mask_logprobs(
        pll_queries(mlm, list(resources.reference_sentences("en")[:30]))
    )
    store.close()
    data = bytearray(path.read_bytes())
    size = int.from_bytes(data[16:18], "big")
    data[3 * size :] = b"\xa5" * (len(data) - 3 * size)
    path.write_bytes(bytes(data))
    store = ScoreStore(path)
    with pytest.raises(UsageError, match="delete the file"):
        for i in range(300):
            store.get([store.key(i)])
            store.put([store.key(i)], [b"x" * 2000])
    store.close()


def test_a_folder_in_place_of_the_file(tmp_path):
    with pytest.raises(UsageError, match="cannot be used"):
        ScoreStore(tmp_path)


def test_a_file_in_place_of_the_folder(tmp_path):
    (tmp_path / "file").write_text("x", encoding="utf-8")
    with pytest.raises(UsageError, match="cannot be used"):
        ScoreStore(tmp_path / "file" / "scores.sqlite")


def test_where_the_file_lies(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("ALBERT_AUDIT_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    assert cache_path() == tmp_path / ".cache" / "albert-audit" / "scores.sqlite"
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert cache_path() == tmp_path / "xdg" / "albert-audit" / "scores.sqlite"
    monkeypatch.setenv("ALBERT_AUDIT_CACHE", "~/own")
    assert cache_path() == tmp_path / "own" / "scores.sqlite"
    assert list(tmp_path.iterdir()) == [], "asking creates nothing"


# --- counting -------------------------------------------------------------------------------


def test_counting_is_exact(mlm):
    counting = CountingScorer(mlm)
    lengths = [len(e.ids) for e in mlm.encode(TEXTS)]
    answers = counting.token_logprobs(TEXTS, rule="pll")
    assert [a.shape for a in answers] == [a.shape for a in mlm.token_logprobs(TEXTS, rule="pll")]
    assert not any(a.any() for a in answers)
    assert counting.inputs == sum(n - 2 for n in lengths)
    assert counting.tokens == sum(n * (n - 2) for n in lengths)
    counting.token_logprobs(TEXTS, rule="unmasked")
    assert counting.inputs == sum(n - 1 for n in lengths)
    assert counting.tokens == sum(n * (n - 1) for n in lengths)
    assert counting.flops == counting.tokens * mlm.id.flops_per_token


def test_counting_is_what_a_run_then_costs(mlm, store):
    counting, cached = CountingScorer(mlm), CachedScorer(mlm, store, device="cpu")
    for scorer in (counting, cached):
        scorer.token_logprobs(TEXTS, rule="pll_word_l2r")
    assert counting.tokens == cached.scored


def test_counting_answers_in_the_right_shapes(mlm):
    counting = CountingScorer(mlm)
    query = MaskQuery((2, 10, 11, 3), (0,) * 4, (1,), (1, 2), ((5, 6, 7), (5, 6, 7)))
    whole = dataclasses.replace(query, ask=())
    for queries in ([query], [whole], [query, whole], []):
        found, expected = (s.mask_logprobs(queries) for s in (counting, mlm))
        assert [(a.shape, a.dtype) for a in found] == [(a.shape, a.dtype) for a in expected]


# --- the fake -------------------------------------------------------------------------------


def unigram(tokens, position, token):
    """Log-probability by the length of the token, less one for each mask that is seen."""
    return -float(len(token)) - tokens.count("[MASK]") - 0.25 * position


def test_all_scorers_are_scorers(mlm, store):
    for scorer in (mlm, CachedScorer(mlm, store, device="cpu"), CountingScorer(mlm), FakeScorer(unigram)):
        assert isinstance(scorer, Scorer), type(scorer).__name__


def test_the_fake_by_hand():
    fake = FakeScorer(unigram, pieces=lambda w: [w] if len(w) < 4 else [w[:3], w[3:]])
    assert [len(e.ids) for e in fake.encode(["He is a nurse."])] == [8]
    (encoded,) = fake.encode(["He is a nurse."])
    assert encoded.words == (-1, 0, 1, 2, 3, 3, 4, -1)
    assert encoded.offsets[4:7] == ((8, 11), (11, 13), (13, 14))
    # he is a nur se . at positions 1 … 6
    lengths, places = np.array([2, 2, 1, 3, 2, 1]), np.arange(1, 7) * 0.25
    (pll,) = fake.token_logprobs(["He is a nurse."], rule="pll")
    np.testing.assert_allclose(pll, -lengths - 1 - places)
    (l2r,) = fake.token_logprobs(["He is a nurse."], rule="pll_word_l2r")
    np.testing.assert_allclose(l2r, -lengths - [1, 1, 1, 2, 1, 1] - places)
    (unmasked,) = fake.token_logprobs(["He is a nurse."], rule="unmasked")
    np.testing.assert_allclose(unmasked, -lengths - places)


def test_the_fake_sees_masks_and_specials():
    seen = []

    def spy(tokens, position, token):
        seen.append((tokens, position, token))
        return -1.0

    fake = FakeScorer(spy)
    he, she = fake.encode(["he works", "she works"])
    query = MaskQuery(he.ids, he.type_ids, (1,), (1,), ((he.ids[1], she.ids[1]),))
    (answer,) = fake.mask_logprobs([query])
    assert answer.shape == (1, 2)
    assert answer.dtype == np.float32
    assert seen == [
        (("[CLS]", "[MASK]", "works", "[SEP]"), 1, "he"),
        (("[CLS]", "[MASK]", "works", "[SEP]"), 1, "she"),
    ]
    assert he.ids[2] == she.ids[2]


def test_the_fake_goes_through_a_cache(store):
    fake = FakeScorer(unigram)
    cached = CachedScorer(fake, store, device="cpu")
    for _ in range(2):
        for rule in ("pll", "unmasked"):
            assert same_bytes(cached.token_logprobs(TEXTS, rule=rule), fake.token_logprobs(TEXTS, rule=rule))
    assert cached.cached == cached.scored


def test_the_fake_refuses_what_it_cannot():
    fake = FakeScorer(unigram, max_tokens=6)
    assert fake.can == {Ability.MASK_LOGPROBS, Ability.TOKEN_LOGPROBS}
    with pytest.raises(UsageError, match="nothing is truncated"):
        fake.token_logprobs(["a b c d e"], rule="pll")
    for call in (
        lambda: fake.class_logits(["a"]),
        lambda: fake.tag_logits(["a"]),
        lambda: fake.attention_received(["a"]),
        lambda: fake.embeddings(["a"], pool="mean"),
        lambda: fake.span_logits(["a"], ["b"]),
        lambda: fake.choice_logits(["a"], [["b"]]),
        lambda: fake.order_logits(["a"], ["b"]),
    ):
        with pytest.raises(UsageError, match="cannot answer"):
            call()


def test_the_fake_has_empty_texts():
    fake = FakeScorer(unigram)
    for rule in ("pll", "pll_word_l2r", "unmasked"):
        assert [a.shape for a in fake.token_logprobs(["", "he"], rule=rule)] == [(0,), (1,)]


def test_the_fake_answers_for_a_head():
    fake = FakeScorer(
        answers={"class": lambda tokens: [0.0, 1.0 * ("bad" in tokens)], "mean": lambda tokens: [len(tokens)] * 4},
        head=Head.SEQUENCE_CLASSIFICATION, labels=("no", "yes"),
    )  # fmt: skip
    assert fake.class_logits(["good", "bad"]).tolist() == [[0, 0], [0, 1]]
    assert fake.class_logits(["good"], ["so bad"]).tolist() == [[0, 1]]
    (pair,) = fake.encode(["a b"], ["c"])
    assert pair.type_ids == (0, 0, 0, 0, 1, 1) and pair.words == (-1, 0, 1, -1, 2, -1)
    assert fake.embeddings(["a b", "a"], pool="mean").tolist() == [[4.0] * 4, [3.0] * 4]
    with pytest.raises(UsageError, match="cannot answer"):
        fake.token_logprobs(["a"], rule="pll")


def test_hidden_states_are_counted_and_never_written_down(tiny_scorers, store):
    scorer = tiny_scorers[Head.ENCODER]
    texts = ["the nurse said he left", "a b", "a b"]
    cached, counting = CachedScorer(scorer, store, device="cpu"), CountingScorer(scorer)
    expected, first, again, zeros = (s.hidden_states(texts) for s in (scorer, cached, cached, counting))
    for a, b, c, zero in zip(expected, first, again, zeros, strict=True):
        assert a.tobytes() == b.tobytes() == c.tobytes() and a.shape == zero.shape and not zero.any()
    assert counting.inputs == 2 and cached.cached == 0 and cached.scored == 2 * counting.tokens
    assert not store._db.execute("SELECT count(*) FROM scores").fetchone()[0]
    fake = FakeScorer(answers={"states": lambda tokens: [[len(t)] * 4 for t in tokens]}, head=Head.ENCODER)
    assert fake.hidden_states(["ab c"])[0].tolist() == [[5.0] * 4, [2.0] * 4, [1.0] * 4, [5.0] * 4]


@pytest.mark.parametrize("head", [Head.SEQUENCE_CLASSIFICATION, Head.TOKEN_CLASSIFICATION, Head.ENCODER])
def test_every_head_is_cached_and_counted(tiny_scorers, store, head):
    scorer = tiny_scorers[head]
    texts = ["the nurse said he left", "a b", "the nurse said he left"]
    asks = {
        Head.SEQUENCE_CLASSIFICATION: lambda s: s.class_logits(texts),
        Head.TOKEN_CLASSIFICATION: lambda s: s.tag_logits(texts),
        Head.ENCODER: lambda s: s.embeddings(texts, pool="mean", layer=1),
    }
    ask, cached, counting = asks[head], CachedScorer(scorer, store, device="cpu"), CountingScorer(scorer)
    expected, first, again, forecast = ask(scorer), ask(cached), ask(cached), ask(counting)
    for a, b, c, zero in zip(expected, first, again, forecast, strict=True):
        assert a.tobytes() == b.tobytes() == c.tobytes() and a.shape == zero.shape
    assert counting.inputs == 2 and cached.scored == cached.cached == counting.tokens > 0
