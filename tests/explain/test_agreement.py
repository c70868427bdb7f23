"""Agreement by hand and by scipy; random weights stage by stage; a test that needs a corpus."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import kendalltau

from albert_audit.explain.agreement import agreement, kendall
from albert_audit.explain.randomisation import randomisation, randomise, stages
from albert_audit.types import Head, UsageError
from tests.explain.made import made
from tests.tiny import tiny_folders, tiny_handles  # noqa: F401 (fixtures)

TEXT = " ".join(f"w{i}" for i in range(10))


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(-4, 4), st.integers(-4, 4)), min_size=3, max_size=12))
def test_kendall_is_scipys_tau_b(pairs):
    x, y = (np.array(v, float) for v in zip(*pairs, strict=True))
    ours = kendall(x, y)
    if np.ptp(x) == 0 or np.ptp(y) == 0:
        assert np.isnan(ours)
    else:
        assert ours == pytest.approx(kendalltau(x, y).statistic)


def test_top_words_chance_and_signs():
    """Of ten words two are the top; one is common, with opposite signs."""
    a = made(TEXT, [5.0, -4.0, 1, 0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3])
    b = made(TEXT, [1.0, 4.0, -6.0, 0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3], method="mask_ablation")
    found = agreement([a], [b])
    row = found.rows.iloc[0]
    assert (row["overlap"], row["chance"], row["same_sign"]) == (0.5, 0.2, 0.0)
    assert row["tau"] == pytest.approx(kendalltau(a.values[1:-1], b.values[1:-1]).statistic)
    assert (found.first, found.second) == (
        "integrated_gradients, baseline pad",
        "mask_ablation, baseline pad",
    )
    assert found.overlap.value == 0.5 and not found.overlap.intervals  # one sentence is no corpus


def test_words_are_compared_not_pieces_and_not_specials():
    """A word's value may lie on either of its pieces."""
    a = made("red nurse saw blue lamp", [1, 3, 2, 0.5, 0], pieces={"nurse": 2})
    values = a.values.copy()
    values[2], values[3] = values[3], values[2]
    b = made(a.text, [1, 3, 2, 0.5, 0], pieces={"nurse": 2}, values=values, baseline="mask")
    found = agreement([a], [b])
    assert found.tau.value == pytest.approx(1.0) and found.overlap.value == 1.0


def test_a_corpus_has_an_interval_by_cluster():
    rng = np.random.default_rng(0)
    first = [made(TEXT, rng.normal(size=10)) for _ in range(40)]
    near = [made(TEXT, a.values[1:-1] + rng.normal(0, 0.3, 10), baseline="mask") for a in first]
    far = [made(TEXT, rng.normal(size=10), baseline="mask") for _ in range(40)]
    names = [f"t{i % 20}" for i in range(40)]
    one, two = agreement(first, near, clusters=names), agreement(first, far, clusters=names)
    assert one.tau.intervals["0.95"].low > 0.5 > two.tau.intervals["0.95"].high
    assert two.tau.intervals["0.95"].low < 0 < two.tau.intervals["0.95"].high
    assert one.overlap.df == pytest.approx(19) and one.n == 40


def test_what_cannot_be_compared_is_listed_or_refused():
    good = made(TEXT, range(10))
    short, flat = made("a b c", [1, 2, 3]), made(TEXT, [1.0] * 10)
    broken = made(TEXT, range(10), reasons=("not converged",))
    found = agreement([good, short, flat, broken], [good, short, good, good])
    assert found.n == 1 and sum(found.skipped.values()) == 3 and "not converged" in found.skipped
    with pytest.raises(UsageError, match="same input"):
        agreement([good], [short])
    with pytest.raises(UsageError, match="equally many"):
        agreement([good], [])


# --- random weights -----------------------------------------------------------------------------


def sentences(n, rng):
    return [" ".join(rng.permutation([f"v{i}" for i in range(30)])[:10]) for _ in range(n)]


def test_a_single_sentence_says_nothing_a_corpus_does():
    """The similarity of one sentence may be anything; over a corpus it stands beside its null."""
    rng = np.random.default_rng(1)
    texts = sentences(60, rng)
    learnt = [made(t, rng.normal(size=10)) for t in texts]
    blind = [made(a.text, a.values[1:-1] + rng.normal(0, 0.5, 10)) for a in learnt]
    unlike = [made(t, rng.normal(size=10)) for t in texts]
    same, new = randomisation(learnt, {"classifier": blind, "embeddings": unlike}, rng)
    assert (
        same.found.n == 60 and same.found.observed > 0.6 > abs(same.found.expected) and same.found.p < 0.001
    )
    assert new.found.low < new.found.observed < new.found.high
    single = randomisation(learnt[:1], {"classifier": blind[:1]}, rng)[0]
    assert single.found is None and single.alone == 1


def test_what_comes_of_position_alone_stands_in_the_null():
    """Every model puts most on the first words: alike, but not more than for other sentences."""
    rng = np.random.default_rng(2)
    slope = np.arange(10, 0, -1)
    first, second = (
        [made(t, slope + rng.normal(0, 0.5, 10)) for t in texts] for texts in [sentences(40, rng)] * 2
    )
    (found,) = randomisation(first, {"pooler": second}, rng)
    assert found.found.observed > 0.9 and found.found.expected > 0.9 and found.found.p > 0.01


def test_near_copies_of_one_template_take_part_once():
    rng = np.random.default_rng(3)
    texts = sentences(8, rng)
    a = [made(t, rng.normal(size=10)) for t in texts for _ in range(5)]
    (found,) = randomisation(a, {"pooler": a}, rng, clusters=[f"t{i // 5}" for i in range(40)])
    assert found.found.n == 8 and sum(found.skipped.values()) == 32
    with pytest.raises(UsageError, match="same inputs"):
        randomisation(a, {"pooler": a[::-1]}, rng)


ALL = ("classifier", "pooler", "shared block", "embeddings")


def test_the_stages_of_a_head(tiny_handles):  # noqa: F811
    assert stages(tiny_handles[Head.SEQUENCE_CLASSIFICATION]) == ALL
    assert stages(tiny_handles[Head.MASKED_LM]) == ("classifier", "shared block", "embeddings")
    with pytest.raises(UsageError, match="expected a stage"):
        randomise(tiny_handles[Head.MASKED_LM], "pooler", 0)


@pytest.mark.parametrize("head", [Head.SEQUENCE_CLASSIFICATION, Head.MASKED_LM])
def test_weights_are_drawn_from_the_output_down_and_the_model_is_left_alone(head, tiny_handles):  # noqa: F811
    handle = tiny_handles[head]
    before = {k: v.clone() for k, v in handle.model.state_dict().items()}
    changed = []
    for stage in stages(handle):
        drawn = randomise(handle, stage, 3)
        assert not drawn.model.training and drawn.id.sha256 != handle.id.sha256
        changed.append({n for n, p in drawn.model.named_parameters() if not torch.equal(p, before[n])})
    assert all(a < b for a, b in pairwise(changed))
    assert changed[-1] == {n for n, _ in handle.model.named_parameters()}
    assert not any(n.startswith("albert.") for n in changed[0])
    if head is Head.MASKED_LM:  # the decoder is the embeddings: drawn anew with them, and still tied
        assert drawn.model.predictions.decoder.weight is drawn.model.albert.embeddings.word_embeddings.weight
    assert all(torch.equal(v, before[k]) for k, v in handle.model.state_dict().items())
    assert all(
        torch.equal(p, q)
        for p, q in zip(
            randomise(handle, "embeddings", 3).model.parameters(), drawn.model.parameters(), strict=True
        )
    )
