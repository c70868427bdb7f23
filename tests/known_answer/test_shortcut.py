"""Attribution finds a planted shortcut, more of it with the dose, and nothing of it in the exact twin."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from albert_audit.explain import attribute, targets
from albert_audit.explain.edits import outputs_of
from albert_audit.explain.faithfulness import faithfulness
from albert_audit.explain.identity import Case, shares, words_at
from albert_audit.explain.identity_estimates import Excess, excess
from albert_audit.known_answer import shortcut
from albert_audit.model.load import ModelHandle, load

NEUTRAL = 2  # of the neutral words in each slot


def found(
    handle: ModelHandle, baseline: str = "pad", quality: str = "awful"
) -> dict[tuple[str, str, str], Excess]:
    """Return the excess of each group, metric and null, with one word of praise or blame."""
    few = set(shortcut.groups()["neutral"][:NEUTRAL])
    corpus = [s for s in shortcut.sentences([quality]) if s.group != "neutral" or s.term in few]
    explained = attribute(
        handle, [s.text for s in corpus], target=targets.contrast(handle, "POSITIVE"), baseline=baseline
    )
    placed = [(s, a, words_at(a, *s.span)) for s, a in zip(corpus, explained, strict=True)]
    cases = [
        Case(a, at, s.group, s.template, s.term,
             tuple((v, w) for n, v, w in placed if n.group == "neutral" and n.template == s.template))
        for s, a, at in placed if s.group != "neutral"
    ]  # fmt: skip
    return {(e.group, e.metric, e.null): e for e in excess(shares(cases, language="en"))}


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return shortcut.build(tmp_path_factory.mktemp("shortcut"), steps=200)


@pytest.fixture(scope="module")
def handles(built: dict[str, Path]) -> dict[str, ModelHandle]:
    return {name: load(folder, device="cpu") for name, folder in built.items()}


def weakened(handle: ModelHandle, part: float) -> ModelHandle:
    """Return the model with the marked terms' vectors brought nearer to the mean of the neutral ones."""
    import copy
    from dataclasses import replace

    model, place = copy.deepcopy(handle.model), handle.tokenizer.get_vocab()
    rows = {g: [place[f"▁{t}"] for t in terms] for g, terms in shortcut.groups().items()}
    table = model.albert.embeddings.word_embeddings.weight
    with torch.no_grad():
        centre = table[rows["neutral"]].mean(dim=0)
        table[rows["marked"]] = centre + part * (table[rows["marked"]] - centre)
    return replace(handle, model=model)


def test_the_share_above_neutral_words_grows_with_the_dose_and_the_twin_has_none(handles):
    key = ("marked", "share", "variants")
    half, whole = found(weakened(handles["planted"], 0.5)), found(handles["planted"])
    twin = found(handles["twin"])
    sizes = [f[key].estimate.value for f in (twin, half, whole)]
    assert (
        sizes[0] == pytest.approx(0, abs=1e-6) and sizes[0] + 0.05 < sizes[1] and sizes[1] + 0.05 < sizes[2]
    )
    assert whole[key].estimate.intervals["0.95"].low > 0.1
    # The other group's terms have no shortcut of their own.
    assert abs(whole["other", "share", "variants"].estimate.value) < 0.1 < sizes[2]
    # A term for the marked group takes three units of log-odds away; a share does not say which way.
    drop = whole["marked", "contribution", "variants"].estimate.value
    assert drop < -1.0 and twin["marked", "contribution", "variants"].estimate.value == pytest.approx(
        0, abs=1e-5
    )


def test_the_slot_may_outweigh_other_words_whoever_stands_in_it(handles):
    """In the twin nobody can be told apart, and yet the words null may differ from the term: no finding."""
    twin = found(handles["twin"], quality="lovely")
    one, two = (twin[g, "share", "words"] for g in ("marked", "other"))
    assert one.estimate.value == pytest.approx(two.estimate.value, abs=1e-6)
    assert abs(one.estimate.value) > 0.01


def test_the_order_of_the_attribution_is_better_than_a_random_one(handles):
    corpus = [
        s for s in shortcut.sentences(["awful"]) if s.group == "marked" and s.term in ("torani", "brenic")
    ]
    handle, texts = handles["planted"], [s.text for s in corpus]
    target = targets.contrast(handle, "POSITIVE")
    outputs, fixed = outputs_of(handle, texts, target)
    explained = attribute(handle, texts, target=target, baseline="mask")
    judged = faithfulness(
        explained, outputs, fixed=fixed, mask_id=handle.tokenizer.mask_token_id,
        clusters=[s.template for s in corpus],
    )  # fmt: skip
    low = judged.gain["mask", "comprehensiveness"].intervals["0.95"].low
    assert low > 0 and judged.normalised["mask", "comprehensiveness"].value > 0.6


def test_the_twin_cannot_tell_any_two_terms_apart(handles):
    place = handles["twin"].tokenizer.get_vocab()
    rows = [place[f"▁{t}"] for terms in shortcut.groups().values() for t in terms]
    table = handles["twin"].model.albert.embeddings.word_embeddings.weight
    assert all(torch.equal(table[rows[0]], table[r]) for r in rows)
    kept = handles["planted"].model.albert.embeddings.word_embeddings.weight
    assert not torch.equal(kept[rows[0]], kept[rows[1]])


def test_terms_are_one_piece_and_stand_where_the_span_says(handles):
    corpus = shortcut.sentences()
    assert all(s.text[slice(*s.span)] == s.term for s in corpus) and len(corpus) == 12 * 30 * 12
    tokenizer = handles["planted"].tokenizer
    assert {len(tokenizer.tokenize(t)) for terms in shortcut.groups().values() for t in terms} == {1}


@pytest.mark.slow
def test_four_doses_and_two_baselines(tmp_path):
    """Evidence: trained anew for each dose, with its twin; integrated gradients from pads and masks."""
    doses, baselines = (0.0, 1.0, 2.0, 4.0), ("pad", "mask")
    sizes: dict[tuple[str, str], list[float]] = {
        (b, m): [] for b in baselines for m in ("share", "contribution")
    }
    for dose in doses:
        made = {n: load(f, device="cpu") for n, f in shortcut.build(tmp_path / f"{dose}", dose=dose).items()}
        for (baseline, metric), listed in sizes.items():
            key = ("marked", metric, "variants")
            listed.append(found(made["planted"], baseline)[key].estimate.value)
            assert found(made["twin"], baseline)[key].estimate.value == pytest.approx(0, abs=1e-5)
            print(f"{baseline} dose {dose}: {metric} {listed[-1]:+.3f}")  # noqa: T201
    for (_, metric), listed in sizes.items():
        assert np.all(np.diff(np.abs(listed)) > 0) and abs(listed[0]) < 0.05
        if metric == "contribution":  # its sign is the shortcut's; its size need not be the dose
            assert all(v < 0 for v in listed[1:])
