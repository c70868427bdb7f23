"""The Chinese packs: minimal in characters, matched, balanced, and whole under both kinds of tokenizer."""

from __future__ import annotations

import json
import re
from collections import Counter, defaultdict
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, trainers

from albert_audit import packs, resources
from albert_audit.bias.masked import pair_preference, template_gap
from albert_audit.model.cache import FakeScorer
from albert_audit.model.load import load
from albert_audit.model.scorer import TorchScorer
from albert_audit.model.text import find_word, shared_positions
from albert_audit.packcheck import report
from albert_audit.packs import Pack
from tests import tiny
from tests.fakes import chance

PAIRS, PLAIN = "minimal-pairs-zh", "control-pairs-zh"
PRONOUN, PLACEBO = "pronoun-occupation-zh", "placebo-occupation-zh"
NAMES = (PAIRS, PLAIN, PRONOUN, PLACEBO)
# Interim Measures for the Management of Generative AI Services (2023), Art. 4(2), in its order.
AXES = {"ethnicity", "belief", "nationality", "region", "gender", "age", "occupation", "health"}
# Without the pair of unequal terms, distrust of this group against the majority would go unasked.
UNEQUAL = {("维吾尔", "汉"), ("汉", "维吾尔")}
MARKS = "，。？！：“”"
ACROSS = "across the border"
GLUED = "她昨天"  # a piece of one pronoun and the word after it; there is none of the other pronoun


@cache
def pack(name: str) -> Pack:
    return packs.load(resources.probes() / name)


def changed(more: str, less: str) -> tuple[int, str, str]:
    """Where two sentences begin to differ, and what is left of each between what they share at the ends."""
    head = next(i for i, (a, b) in enumerate(zip(more, less, strict=False)) if a != b)
    tail = 0
    while tail < min(len(more), len(less)) - head and more[-1 - tail] == less[-1 - tail]:
        tail += 1
    return head, more[head : len(more) - tail], less[head : len(less) - tail]


@cache
def texts() -> tuple[str, ...]:
    """Every sentence of the four packs, with both pronouns."""
    return tuple(
        t for name in NAMES for p in [pack(name)]
        for t in (*p.texts(), *(s.replace("他", "她") for s in p.texts() if p.templates))
    )  # fmt: skip


# --- the files ----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
def test_a_pack_loads_checks_and_says_what_it_cannot_show(name):
    said = "\n".join(report(name, None))
    assert "no mistakes found" in said and "NO INTERVAL" not in said and "note:" not in said
    assert pack(name).spec.language == "zh-Hans"
    assert "## What it cannot show" in (resources.probes() / name / "README.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", NAMES)
def test_simplified_characters_and_full_width_marks_only(name):
    """GB 2312 holds the simplified characters and, with a few exceptions, no traditional ones."""
    for text in {*pack(name).texts(), *(f.form for f in pack(name).fillers)}:
        text.encode("gb2312")  # raises on a character outside
        odd = re.sub(rf"[\u4e00-\u9fff{MARKS}]", "", text)
        assert not odd, (text, odd)
    with pytest.raises(UnicodeEncodeError):
        "護士說".encode("gb2312")


# --- pairs --------------------------------------------------------------------------------------


def test_the_axes_are_the_eight_grounds_and_each_has_enough_clusters():
    clusters = defaultdict(list)
    for p in pack(PAIRS).pairs:
        clusters[p.axis].append(p.cluster)
        assert p.cluster.startswith(f"{p.axis}-")
    assert set(clusters) == AXES
    for axis, found in clusters.items():
        assert len(set(found)) == len(found) >= 24, axis  # each pair a scenario of its own


@pytest.mark.parametrize("name", [PAIRS, PLAIN])
def test_pairs_differ_in_one_span_of_equal_length(name):
    unequal = set()
    for p in pack(name).pairs:
        at, more, less = changed(p.more, p.less)
        assert more and less, p.id
        assert p.more[:at] + less + p.more[at + len(more) :] == p.less, p.id
        assert not set(more + less) & set(MARKS), p.id
        if len(more) != len(less):
            unequal.add((more, less))
    assert unequal == UNEQUAL


def test_each_pair_of_terms_stands_as_often_in_both_orientations():
    """What a term's frequency and its number of pieces do then cancels out of an axis' mean."""
    for axis in AXES:
        ways = Counter(changed(p.more, p.less)[1:] for p in pack(PAIRS).pairs if p.axis == axis)
        assert all(ways[m, n] == ways[n, m] for m, n in ways), axis
        assert len({term for way in ways for term in way}) >= 8, f"few groups: {axis}"


def test_the_control_has_the_same_terms_at_the_same_place():
    probe, control = pack(PAIRS), pack(PLAIN)
    assert probe.spec.controls == (PLAIN,) and control.spec.role == "placebo"
    for field in ("measure", "language", "axis", "clusters", "family"):
        assert getattr(control.spec, field) == getattr(probe.spec, field), field
    for a, b in zip(probe.pairs, control.pairs, strict=True):
        assert (a.id, a.axis, a.cluster) == (b.id, b.axis, b.cluster)
        assert changed(a.more, a.less) == changed(b.more, b.less), a.id
        assert abs(len(a.more) - len(b.more)) <= 1, a.id
        assert {a.more, a.less}.isdisjoint({b.more, b.less})
    assert len({p.more for p in (*probe.pairs, *control.pairs)}) == 2 * len(probe.pairs)


# --- templates ----------------------------------------------------------------------------------


def test_the_placebo_has_the_same_templates_and_words_of_the_same_length():
    probe, control = pack(PRONOUN), pack(PLACEBO)
    assert probe.spec.controls == (PLACEBO,) and control.spec.role == "placebo"
    for field in ("measure", "language", "axis", "groups", "reference", "clusters", "family"):
        assert getattr(control.spec, field) == getattr(probe.spec, field), field
    assert control.templates == probe.templates
    assert [f.match for f in control.fillers] == [f.id for f in probe.fillers]
    assert [len(f.form) for f in control.fillers] == [len(f.form) for f in probe.fillers]
    assert not {f.form for f in control.fillers} & {f.form for f in probe.fillers}
    words = [f.form for f in (*probe.fillers, *control.fillers)]
    assert not [w for w in words if set(w) & set("男女他她父母夫妻")], "a word marks a gender"
    assert {f.covariate for f in (*probe.fillers, *control.fillers)} == {None}
    # Without shares the mean alone is estimated; a margin for a slope would promise more.
    assert [s.name for s in template_gap.statistics(probe)] == ["template_gap"] == list(control.spec.margins)


def test_the_pronoun_stands_between_marks_in_one_family_and_after_a_comma_in_the_other():
    families = Counter(t.family for t in pack(PRONOUN).templates)
    assert len(families) == 2 and min(families.values()) >= 10
    for t in pack(PRONOUN).templates:
        text, spans = t.fill(filler="护士", target="她")
        (a, b), after = spans["target"], spans["filler"] < spans["target"]
        assert text[a - 1] in MARKS, t.id
        if t.family == "before":
            assert text[b] in MARKS, t.id
        else:
            assert after and text[b] not in "们的是在", f"{t.id}: these often form one piece with the pronoun"


# --- two tokenizers -----------------------------------------------------------------------------


class Recorder(TorchScorer):
    """A real tokenizer; the model is not asked, the queries are kept."""

    def mask_logprobs(self, queries: Any) -> Any:
        self.queries = list(queries)
        return [np.zeros((len(q.at), len(q.ask[0])), np.float32) for q in queries]


@pytest.fixture(scope="module")
def characters(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint with BERT's ``vocab.txt``: one piece a character."""
    folder = tmp_path_factory.mktemp("zh") / "characters"
    vocabulary = list(dict.fromkeys([*tiny.word_pieces(), *sorted({c for t in texts() for c in t})]))
    tiny.checkpoint(folder, vocab_size=len(vocabulary), tokenizer=False)
    (folder / "vocab.txt").write_text("\n".join(vocabulary) + "\n", encoding="utf-8")
    return folder


def unigram(size: int = 2000) -> list[tuple[str, float]]:
    """Pieces trained on the packs, never across scripts, as sentencepiece trains them."""
    trainer = Tokenizer(models.Unigram())
    trainer.normalizer = normalizers.NFKD()
    trainer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.WhitespaceSplit(), pre_tokenizers.UnicodeScripts()]
    )
    trainer.train_from_iterator(
        texts(),
        trainers.UnigramTrainer(vocab_size=size, max_piece_length=4, unk_token="<unk>", show_progress=False),
    )
    trained = {p: s for p, s in json.loads(trainer.to_str())["model"]["vocab"] if p not in tiny.SPECIAL}
    alphabet = {c: -14.0 for t in texts() for c in trainer.normalizer.normalize_str(t)}
    first = tiny.unigram_pieces()
    known = {p for p, _ in first}
    more = alphabet | trained | {GLUED: -1.0}
    return first + sorted((p, s) for p, s in more.items() if p not in known)


@pytest.fixture(scope="module")
def pieces(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint with a Unigram vocabulary whose pieces may hold several words."""
    folder = tmp_path_factory.mktemp("zh") / "pieces"
    found = unigram()
    tiny.checkpoint(folder, vocab_size=len(found), tokenizer=False)
    tiny.write_unigram(folder, tiny.unigram_backend(found))
    return folder


def cells(p: Pack) -> list[tuple[str, str, str, str, dict[str, tuple[int, int]]]]:
    """(item, family, pronoun, text, spans) of each sentence."""
    return [
        (f"{t.id}/{f.id}", t.family, w, *t.fill(filler=f.form, target=w))
        for t in p.templates for f in p.fillers for ws in p.spec.groups.values() for w in ws
    ]  # fmt: skip


@pytest.mark.parametrize("name", [PRONOUN, PLACEBO])
def test_by_characters_every_word_is_masked_whole_and_alone(name, characters):
    """Traps 9 and 11 (first piece only; a prior with one mask for a word of several pieces).

    Oracle: with one piece a character, a character's position is its index plus one for [CLS].
    """
    scorer = Recorder(load(characters, device="cpu"))
    rows = template_gap.run(scorer, pack(name), np.random.default_rng(0))
    assert (rows["skipped"] == "").all()
    expected = set()
    found = cells(pack(name))
    for (*_, text, spans), e in zip(found, scorer.encode([c[3] for c in found]), strict=True):
        assert scorer.unknown_id not in e.ids and len(e.ids) == len(text) + 2
        at, filler = (tuple(range(a + 1, b + 1)) for a, b in (spans["target"], spans["filler"]))
        assert find_word(e, *spans["target"]) == at and len(at) == 1
        assert find_word(e, *spans["filler"]) == filler and len(filler) in (2, 3)
        for masked in (at, tuple(sorted(at + filler))):
            ids = [scorer.mask_id if i in masked else x for i, x in enumerate(e.ids)]
            expected.add((tuple(ids), at))
    asked = {(scorer._bare(q).ids, q.at) for q in scorer.queries}
    assert asked == expected
    # Both pronouns are read at one input, once with each filler, once without it for each of its lengths.
    lengths = {len(f.form) for f in pack(name).fillers}
    assert len(asked) == len(pack(name).templates) * (len(pack(name).fillers) + len(lengths))


def test_a_piece_across_a_border_is_skipped_with_a_reason_and_never_scored(pieces):
    """Traps 9 and 18: no part of a piece stands for a word, and nothing is dropped without a row."""
    handle = load(pieces, device="cpu")
    scorer, probe = TorchScorer(handle), pack(PRONOUN)
    rows = template_gap.run(scorer, probe, np.random.default_rng(0))
    rows = rows[rows["measure"] == "template_gap"]
    assert len(rows) == 2 * len(probe.templates) * len(probe.fillers)
    # Oracle: the borders of the pieces as the tokenizer itself gives them.
    crossed: dict[str, set[str]] = defaultdict(set)
    found = cells(probe)
    backend = handle.tokenizer._tokenizer
    for (item, family, _, _, spans), e in zip(
        found, backend.encode_batch([c[3] for c in found]), strict=True
    ):
        for slot, span in spans.items():
            if any(a < border < b for a, b in e.offsets for border in span):
                crossed[item].add(f"{family} {slot}")
    skipped = rows[rows["skipped"] != ""]
    assert set(skipped["item"]) == set(crossed)
    assert skipped["value"].isna().all() and skipped["skipped"].str.contains(ACROSS).all()
    scored = rows[rows["skipped"] == ""]
    assert np.isfinite(scored["value"].astype(float)).all()
    share = len(skipped) / len(rows)
    assert 0.1 < share < 0.5, f"both outcomes must occur for this test to say anything; skipped: {share:.1%}"
    # Marks on both sides keep the pronoun whole; that is what this family is for.
    assert "before target" not in set().union(*crossed.values())
    # Where a piece holds only one of the pronouns, the comparison is void for both.
    glued = {
        f"{t.id}/{f.id}" for t in probe.templates for f in probe.fillers if f"{{target}}{GLUED[1:]}" in t.text
    }
    assert glued and glued <= set(crossed) and not glued & set(scored["item"])


def test_what_is_scored_under_a_unigram_vocabulary_is_what_the_stock_model_says(pieces):
    """Trap 10: masks are put on ids; oracle: transformers' own forward pass, sentence by sentence."""
    handle = load(pieces, device="cpu")
    rows = template_gap.run(TorchScorer(handle), pack(PRONOUN), np.random.default_rng(0))
    rows = rows[(rows["measure"] == "template_gap") & (rows["skipped"] == "") & (rows["role"] == "probe")]
    values = rows.set_index("item")["value"]
    by_item = {item: (text, spans) for item, _, word, text, spans in cells(pack(PRONOUN)) if word == "她"}
    tokenizer = handle.tokenizer
    she, he = tokenizer.convert_tokens_to_ids(["她", "他"])
    assert tokenizer.unk_token_id not in (she, he)
    for item in list(values.index)[:: max(1, len(values) // 12)]:
        text, spans = by_item[item]
        e = tokenizer(text, return_offsets_mapping=True, return_tensors="pt")
        (at,) = [
            i for i, (a, b) in enumerate(e.pop("offset_mapping")[0].tolist()) if (a, b) == spans["target"]
        ]
        assert e["input_ids"][0, at] == she
        e["input_ids"][0, at] = tokenizer.mask_token_id
        with torch.inference_mode():
            logits = handle.model(**e)
        logits = getattr(logits, "logits", None)[0, at]
        assert values[item] == pytest.approx(float(logits[she] - logits[he]), abs=1e-3)


@pytest.mark.parametrize("name", [PAIRS, PLAIN])
def test_by_characters_pairs_share_all_but_the_term(name, characters):
    """Trap 4: every character outside the term is shared, and none is matched across the two terms.

    A pair such as 女儿 / 儿子 would fail: its 儿 stands at two places, and would be compared as one.
    """
    scorer = Recorder(load(characters, device="cpu"))
    for p in pack(name).pairs:
        more, less = scorer.encode([p.more, p.less])
        at, a, b = changed(p.more, p.less)
        shared = shared_positions(more, less)
        outside = [i for i in more.positions if not at < i <= at + len(a)]
        assert set(outside) <= {i for i, _ in shared}, p.id
        assert all(j - i in (0, len(b) - len(a)) for i, j in shared), p.id


@pytest.mark.parametrize("kind", ["characters", "pieces"])
def test_every_pair_is_scored_under_both_tokenizers(kind, request):
    scorer = TorchScorer(load(request.getfixturevalue(kind), device="cpu"))
    rows = pair_preference.run(scorer, pack(PAIRS), np.random.default_rng(0))
    assert len(rows) == len(pair_preference.SCORES) * len(pack(PAIRS).pairs)
    assert (rows["skipped"] == "").all() and np.isfinite(rows["value"].astype(float)).all()


# --- what the design is good for ----------------------------------------------------------------


@pytest.mark.parametrize("lean", [0.0, 1.0, -0.5])
def test_a_lean_planted_on_occupations_is_found_and_not_in_the_placebo(lean):
    """The prior takes out what the sentence prefers; the visible occupation alone moves the pronoun."""
    words = {f.form for f in pack(PRONOUN).fillers}

    def logprob(tokens: tuple[str, ...], at: int, token: str) -> float:
        seen = any(w in "".join(tokens) for w in words)
        general = 0.3 * (len(tokens) % 4)
        return -2.0 + ((general + lean * seen) if token == "她" else 0.0)

    for name, expected in ((PRONOUN, lean), (PLACEBO, 0.0)):
        rows = template_gap.run(FakeScorer(logprob), pack(name), np.random.default_rng(0))
        rows = rows[rows["measure"] == "template_gap"]
        mean = rows.groupby("role")["value"].mean()
        assert mean["probe"] - mean["prior"] == pytest.approx(expected, abs=1e-5)


def test_a_model_that_knows_only_frequencies_has_no_mean_preference_on_any_axis():
    """Orientations balance: what a term is worth by itself adds nothing, though single pairs differ."""
    rows = pair_preference.run(
        FakeScorer(lambda t, at, token: chance(token)), pack(PAIRS), np.random.default_rng(0)
    )
    for name in ("pair_cps", "pair_pll_word_l2r"):
        one = rows[rows["measure"] == name]
        assert one.groupby("axis")["value"].mean().abs().max() < 1e-4, name
        assert set(one["axis"]) == AXES
    assert rows[rows["measure"] == "pair_pll_word_l2r"]["value"].abs().median() > 0.5
