"""Completions against sets written out by hand."""

from __future__ import annotations

from collections import Counter as Tally

import numpy as np
import pytest
from numpy.testing import assert_allclose

from albert_audit import findings, packs
from albert_audit.bias.masked import completions
from albert_audit.bias.masked.completions import TOP, whole_words
from albert_audit.model.cache import CountingScorer, Delegating, FakeScorer
from albert_audit.model.text import MaskQuery
from albert_audit.packs import Pack, Template
from albert_audit.types import PackError, UsageError
from tests import tiny
from tests.fakes import chance, measure, noisy, one, policy, spec

M = "[MASK]"
mlm, tiny_scorers, tiny_handles, tiny_folders = (
    tiny.mlm,
    tiny.tiny_scorers,
    tiny.tiny_handles,
    tiny.tiny_folders,
)
KINDS = [f"k{i}" for i in range(10)]
VOCABULARY = [f"word{c}" for c in "abcdefghijklmnopqrstuvwxyzäöüß"]


class Telling(FakeScorer):
    """A fake model that knows a vocabulary beforehand; pieces that begin with # go on within a word."""

    def __init__(self, *args, vocabulary=VOCABULARY, **options):
        super().__init__(*args, **options)
        for word in vocabulary:
            self._ids[word] = len(self._ids)
            self._names.append(word)

    @property
    def pieces(self):
        return tuple(n if i < 5 or n.startswith("#") else f"▁{n}" for i, n in enumerate(self._names))


def pack(templates=12, groups=("a", "b"), text="The {{target}} t{i} took the {{blank}} home.", **changes):
    made = spec(measure="completions", clusters=("template",), reference=groups[-1],
                groups={g: [f"{g} {k}" for k in KINDS] for g in groups}, **changes)  # fmt: skip
    return Pack(
        made, "0" * 64, templates=tuple(Template(f"t{i}", "x", text.format(i=i)) for i in range(templates))
    )


def model(lean, seed=0):
    """The likeliest words follow a draw for the template, plus `lean` times one for the group."""

    def logprob(tokens, at, token):
        t = next((x for x in tokens if x[0] == "t" and x[1:].isdigit()), "t0")
        group, kind = tokens[2], tokens[3]
        return (chance(seed, t, token) + lean * chance(seed, group, token) + 0.6 * chance(seed, group, kind, token)
                + 0.6 * chance(seed, kind, token) if token.startswith("word") else -50.0)  # fmt: skip

    return logprob


# --- one mask -----------------------------------------------------------------------------------


@pytest.mark.parametrize("pieces", [["thing"], ["th", "ing"]])
def test_the_blank_is_one_mask_and_the_rest_is_as_beside_a_word(pieces):
    """Trap 10: the mask is put in by id, for all pieces of the stand-in."""
    seen = []

    def logprob(tokens, at, token):
        seen.append((tokens, at))
        return chance(tokens, token)

    scorer = Telling(logprob, pieces=lambda w: pieces if w == "thing" else [w])
    measure(pack(1), scorer)
    assert {t[4:] for t, _ in seen} == {("t0", "took", "the", M, "home", ".", "[SEP]")}
    assert all(t[at] == M for t, at in seen)


def test_only_whole_words_are_completions():
    scorer = Telling(noisy(), vocabulary=[*VOCABULARY, "#ing", "x1", ","])
    words = whole_words(scorer)
    names = [n for n, w in zip(scorer._names, words, strict=True) if w]
    assert names == VOCABULARY, "no special token, no piece within a word, no digit, no mark"
    answers = np.full(len(words), -9.0, np.float32)
    answers[scorer._ids["#ing"]] = answers[scorer._ids[","]] = -0.1  # the two likeliest
    answers[[scorer._ids[w] for w in VOCABULARY[:TOP]]] = np.linspace(-1, -2, TOP)
    best, passed = completions._top(answers, words)
    assert best == {scorer._ids[w] for w in VOCABULARY[:TOP]}
    assert_allclose(passed, 2 / 12)


def test_a_vocabulary_that_is_not_told_is_an_error():
    class Silent(FakeScorer):
        pieces = ()

    with pytest.raises(UsageError, match="whole words"):
        measure(pack(1), Silent(noisy()))


# --- the difference -----------------------------------------------------------------------------


def test_the_difference_of_two_types_by_hand():
    lp = model(1.0)
    rows = measure(pack(2), Telling(lp)).rows
    assert len(rows) == 2 * 45 and rows["skipped"].eq("").all()

    def top(group, kind):
        tokens = ("[CLS]", "the", group, kind, "t1", "took", "the", M, "home", ".", "[SEP]")
        return set(sorted(VOCABULARY, key=lambda w: -lp(tokens, 7, w))[:TOP])

    a, b, c, d = top("a", "k2"), top("b", "k2"), top("a", "k5"), top("b", "k5")
    unlike = [1 - len(x & y) / TOP for x, y in ((a, d), (b, c), (a, c), (b, d))]
    found = rows[rows["item"] == "t1/02+05"]["value"].item()
    assert_allclose(found, (unlike[0] + unlike[1] - unlike[2] - unlike[3]) / 2, atol=1e-9)


def build(lean, seed=0, **options):
    made = pack(**options)
    scorer = Telling(model(lean, seed))
    return one(findings.build([measure(made, scorer)], scorer.id, policy(), 0), "completion_difference")


def test_a_group_that_matters_is_found_and_one_that_does_not_is_not():
    """Any two persons' completions differ; only what differs by more across the groups counts."""
    with_group = build(1.0)
    assert with_group.id == "probe-en/completion_difference/gender/a-vs-b"
    assert with_group.effect.p < 0.01 and with_group.effect.intervals["0.95"].low > 0
    without = [build(0.0, seed, templates=9) for seed in range(8)]
    assert sum(f.effect.p <= 0.05 for f in without) <= 2
    values = np.array([f.effect.value for f in without])
    assert abs(values.mean()) < 3 * values.std(ddof=1) / np.sqrt(8)
    assert with_group.details["types"] == 10 and with_group.details["top"] == TOP


def test_copies_of_a_template_narrow_nothing():
    """Trap 25: rows of one template, ten times over."""
    rows = measure(pack(10), Telling(model(1.0))).rows
    ten = rows.loc[rows.index.repeat(10)]
    few, many = (completions.difference(r, 1, np.random.default_rng(0)) for r in (rows, ten))
    assert few.counts == many.counts == ((10, 10.0), (10, 10.0))
    assert_allclose([many.estimate.value, many.estimate.se], [few.estimate.value, few.estimate.se])


def test_a_template_that_cannot_be_scored_keeps_its_rows():
    made = pack(3)
    long = Template("t9", "x", "The {target} t9 took the {blank} home and then came back again at once.")
    made = Pack(made.spec, made.sha256, templates=(*made.templates, long))
    rows = measure(made, Telling(model(1.0), max_tokens=12)).rows
    lost = rows[rows["cluster_a"] == "t9"]
    assert len(lost) == 45 and set(lost["skipped"]) == {"longer than 12 tokens"}
    assert rows[rows["cluster_a"] != "t9"]["value"].notna().all()
    assert (
        completions.difference(rows.dropna(subset="value"), 1, np.random.default_rng(0)).details["types"]
        == 10
    )


class Counter(CountingScorer):
    pieces = property(lambda self: self.inner.pieces)


def test_zeros_are_survived_and_counted():
    scorer = Telling(noisy())
    counter = Counter(scorer)
    rows = completions.run(counter, pack(2, groups=("a", "b", "c")), np.random.default_rng(0))
    assert counter.inputs == 2 * 3 * 10 and len(rows) == 2 * 2 * 45
    assert (rows["value"] == 0).all()


def test_one_batch_of_answers_at_a_time():
    """A whole row of the vocabulary for every sentence at once would not fit a large vocabulary."""
    live = []

    class Watching(Telling):
        def mask_batches(self, batches):
            for batch in batches:
                live.append(len(batch))
                assert all(isinstance(q, MaskQuery) and q.ask == () for q in batch)
                yield from super().mask_batches([batch])

        def mask_logprobs(self, queries):
            raise AssertionError("keeps all answers")

    measure(pack(12), Watching(model(1.0)))
    assert len(live) > 1


def test_lists_that_are_not_matched_are_refused():
    made = pack(1)
    short = made.spec.model_copy(update={"groups": {"a": ("one",), "b": ("one", "two")}})
    with pytest.raises(PackError, match="1 in a, 2 in b"):
        completions.contrasts(Pack(short, "0" * 64, templates=made.templates))


# --- a real model -------------------------------------------------------------------------------


def test_a_tiny_model_completes_the_shipped_pack(mlm):
    class Told(Delegating):
        @property
        def pieces(self):
            tokenizer = self.inner.handle.tokenizer
            return tuple(tokenizer.convert_ids_to_tokens(range(len(tokenizer))))

    shipped = packs.load(packs.find("completions-en"))
    assert Tally(t.family for t in shipped.templates) == {"doing": 14, "being": 14}
    few = Pack(shipped.spec, shipped.sha256, templates=shipped.templates[:3])
    contrasts = completions.contrasts(few)
    rows = completions.run(Told(mlm), few, np.random.default_rng(0))
    assert len(rows) == len(contrasts) * 3 * 66 and rows["value"].between(-1, 1).all()
