"""Integrated gradients: exact sums, known answers, and the ways to be silently wrong."""

from __future__ import annotations

import copy
import dataclasses
import itertools
import math
import subprocess
import sys

import numpy as np
import pytest
import torch
from captum.attr import LayerIntegratedGradients

from albert_audit.explain import attribute, targets
from albert_audit.explain.integrated import integrate
from albert_audit.explain.network import Network, StockNetwork, make_rows
from albert_audit.explain.opinions import mask_ablation
from albert_audit.explain.paths import Options
from albert_audit.model.load import load
from albert_audit.types import Head, ModelRefused, UsageError
from tests.tiny import checkpoint, clone, edit

TEXTS = [
    "The nurse said he was good.",
    "the dog",
    "John is a teacher, not a doctor!",
    "the cat saw the dog today",
]
SEQ, TAG, MLM, PRE, QA, MC = (
    Head.SEQUENCE_CLASSIFICATION, Head.TOKEN_CLASSIFICATION, Head.MASKED_LM, Head.PRETRAINING,
    Head.QUESTION_ANSWERING, Head.MULTIPLE_CHOICE,
)  # fmt: skip
CONTEXT = "the old house is blue and the car is red"


def cases(handles):
    """One call a kind of target: (handle, texts, pairs, target)."""
    masked = ["[MASK] said that the dog was good.", "the man said [MASK] was old"]
    return {
        "label": (handles[SEQ], TEXTS, None, targets.label(handles[SEQ], 1)),
        "contrast": (handles[SEQ], TEXTS, None, targets.contrast(handles[SEQ], "LABEL_2")),
        "pair": (handles[SEQ], TEXTS[:2], TEXTS[2:], targets.contrast(handles[SEQ], 0)),
        "tag": (handles[TAG], TEXTS, None, targets.tag(handles[TAG], 2, 1)),
        "mask": (handles[MLM], masked, None, targets.mask(handles[MLM], "he", "she")),
        "pretraining": (handles[PRE], TEXTS[:1], None, targets.mask(handles[PRE], "he", "she", word=3)),
        "span": (handles[QA], ["what is blue?"], [CONTEXT], targets.span(handles[QA], 4, 13)),
        "choice": (handles[MC], ["the man"] * 3, ["is old", "is a car now", "was here"],
                   targets.choice(handles[MC], 1, of=3)),
    }  # fmt: skip


KINDS = ["label", "contrast", "pair", "tag", "mask", "pretraining", "span", "choice"]


def spoiled(handle, **changes):
    """A handle with a copy of the model, to break it."""
    return dataclasses.replace(handle, model=copy.deepcopy(handle.model), **changes)


class Toy(Network):
    """Adds a function of each token alone: contributions, Shapley values and ablations are then known."""

    def __init__(self, handle, curve=torch.tanh, **options):
        super().__init__(handle, **options)
        self.curve = curve
        self.direction = torch.linspace(-1, 1, handle.model.config.embedding_size)
        self.sizes = []

    def parts(self, embeds):
        return self.curve(embeds @ self.direction)

    def function(self, row):
        def run(embeds, *arguments):
            if torch.is_grad_enabled():
                self.sizes.append(embeds.shape[0] * embeds.shape[1])
            return self.parts(embeds).sum(1)

        return run


def rows_of(handle, texts, baseline="pad"):
    return make_rows(handle, texts, None, [targets.label(handle, 0)] * len(texts), baseline)


# --- completeness and oracles ---------------------------------------------------------------


@pytest.mark.parametrize("baseline", ["pad", "mask"])
@pytest.mark.parametrize("kind", KINDS)
def test_contributions_add_up_to_the_change_of_the_output(tiny_handles, kind, baseline):
    handle, texts, pairs, target = cases(tiny_handles)[kind]
    found = attribute(handle, texts, pairs=pairs, target=target, baseline=baseline)
    assert len(found) == len(texts)
    for a in found:
        assert a.valid and a.converged, a.reasons
        assert abs(a.values.sum() - a.change) <= max(1e-4, 0.01 * abs(a.change))
        assert a.delta == pytest.approx(a.values.sum() - a.change, abs=1e-12)
        assert math.fsum(a.word_values()[1]) == pytest.approx(a.values.sum(), abs=1e-9)
        assert a.baseline == baseline


def test_contributions_of_a_sum_over_tokens_are_known_exactly(tiny_handles):
    network = Toy(tiny_handles[SEQ])
    rows = rows_of(tiny_handles[SEQ], TEXTS)
    outputs = network.outputs(rows)
    exact = [
        network.parts(network.embed([r.encoded.ids]))[0] - network.parts(network.embed([r.baseline]))[0]
        for r in rows
    ]
    for method in (integrate, mask_ablation):
        for row, found, known in zip(
            rows, method(network, rows, outputs, Options(0.0, 1e-6, unit="token")), exact, strict=True
        ):
            assert np.abs(found.values - known.numpy()).max() < 1e-5
            assert len(found.values) == len(row.encoded.ids)


def test_exact_shapley_values_are_the_contributions_of_a_sum_over_tokens(tiny_handles):
    network = Toy(tiny_handles[SEQ])
    (row,) = rows_of(tiny_handles[SEQ], ["he was good"])
    (found,) = integrate(network, [row], network.outputs([row]), Options(0.0, 1e-6))
    assert np.abs(found.values - shapley(network, row)[0]).max() < 1e-5


def game(network, row):
    """The output of every subset of present tokens, by enumeration."""
    players = [i for i, s in enumerate(row.encoded.special) if not s]
    sets = [frozenset(c) for k in range(len(players) + 1) for c in itertools.combinations(players, k)]
    ids = [[t if s or i in kept else b for i, (t, b, s) in
            enumerate(zip(row.encoded.ids, row.baseline, row.encoded.special, strict=True))] for kept in sets]  # fmt: skip
    return players, dict(zip(sets, network.outputs([row] * len(sets), ids).tolist(), strict=True))


def shapley(network, row):
    players, value = game(network, row)
    n, out = len(players), np.zeros(len(row.encoded.ids))
    for i in players:
        for kept in (s for s in value if i not in s):
            weight = math.factorial(len(kept)) * math.factorial(n - len(kept) - 1) / math.factorial(n)
            out[i] += weight * (value[kept | {i}] - value[kept])
    return out, value, players


def test_ablation_is_the_last_marginal_of_the_enumerated_game(tiny_handles):
    """On a real model it is neither the Shapley value nor complete, which is why delta is no error there."""
    handle = tiny_handles[SEQ]
    target = targets.label(handle, 1)
    (found,) = attribute(handle, ["he was good now"], target=target, method="mask_ablation", unit="token")
    (row,) = make_rows(handle, ["he was good now"], None, [target], "mask")
    exact, value, players = shapley(Network(handle), row)
    assert len(players) <= 5
    everyone = frozenset(players)
    for i in players:
        assert found.values[i] == pytest.approx(value[everyone] - value[everyone - {i}], abs=1e-5)
    assert exact.sum() == pytest.approx(found.change, abs=1e-5)
    assert np.abs(found.values - exact).max() > 1e-3 and found.valid


@pytest.mark.parametrize("kind", ["label", "contrast", "pair", "tag", "mask", "span"])
def test_captum_on_the_stock_embedding_layer_agrees(tiny_handles, kind):
    """Traps 4, 6 and 17: raw gradients sum to zero, trapezoid weights shrink, zeroed positions differ."""
    handle, texts, pairs, target = cases(tiny_handles)[kind]
    found = attribute(handle, texts, pairs=pairs, target=target, tolerance=1e-4, abs_tolerance=1e-5)
    stock = StockNetwork(handle)

    def forward(ids, types, at, columns, weight):
        states = stock.base(input_ids=ids, token_type_ids=types).last_hidden_state
        picked = states.gather(1, at.unsqueeze(-1).expand(-1, -1, states.shape[-1]))
        return stock._read(row.place.kind, row.place.rest, picked, columns) * weight

    layer = LayerIntegratedGradients(forward, handle.model.albert.embeddings.word_embeddings)
    for row, a in zip(make_rows(handle, texts, pairs, [target] * len(texts), "pad"), found, strict=True):
        by_captum = layer.attribute(
            torch.tensor([row.encoded.ids]), torch.tensor([row.baseline]),
            additional_forward_args=stock.arguments([row]), n_steps=200,
        )  # fmt: skip
        values = by_captum.sum(-1)[0].detach().numpy()
        assert np.abs(values - a.values).max() < 1e-4
        assert np.abs(values).max() > 1e-2


def test_input_and_baseline_swapped_negate_the_contributions(tiny_handles):
    handle = tiny_handles[SEQ]
    network, options = Network(handle), Options(1e-3, 1e-5)
    rows = rows_of(handle, TEXTS)
    swapped = [
        dataclasses.replace(r, baseline=r.encoded.ids, encoded=dataclasses.replace(r.encoded, ids=r.baseline))
        for r in rows
    ]
    forth = integrate(network, rows, network.outputs(rows), options)
    back = integrate(network, swapped, network.outputs(swapped), options)
    for a, b in zip(forth, back, strict=True):
        assert np.abs(a.values + b.values).max() < 1e-5


def test_quadrature_is_exact_on_a_straight_line_at_any_number_of_steps(tiny_handles):
    """Trap 6: trapezoid weights sum to (n-1)/n, so half of the contribution would be lost here."""
    network = Toy(tiny_handles[SEQ], curve=lambda x: x)
    rows = rows_of(tiny_handles[SEQ], TEXTS)
    for f in integrate(network, rows, network.outputs(rows), Options(1e-4, 1e-5, first_steps=3)):
        assert f.steps == 3 and f.converged


# --- invariance -----------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["contrast", "tag", "mask"])
def test_a_row_is_the_same_whatever_stands_beside_it(tiny_handles, kind):
    """Order, batch, chunks of the path: differences stay at rounding."""
    handle, texts, _, target = cases(tiny_handles)[kind]
    alone = [attribute(handle, [t], target=target)[0] for t in texts]
    for order, budget in (
        (range(len(texts)), None),
        (range(len(texts))[::-1], None),
        (range(len(texts)), 11),
    ):
        found = attribute(handle, [texts[i] for i in order] * 2, target=target, budget=budget)
        for i, a in zip([*order, *order], found, strict=True):
            assert a.text == texts[i] and a.steps == alone[i].steps
            assert np.abs(a.values - alone[i].values).max() < 1e-5
            assert a.output == pytest.approx(alone[i].output, abs=1e-5)


def test_a_model_that_lets_padding_through_is_not_valid(tiny_handles):
    """Trap 2: without the attention mask the sums still add up, so delta cannot tell."""
    handle = spoiled(tiny_handles[SEQ])
    assert all(a.valid for a in attribute(handle, TEXTS, target=targets.label(handle, 1)))
    albert = handle.model.albert
    stock = albert.forward
    albert.forward = lambda *a, attention_mask=None, **k: stock(*a, **k)
    for a in attribute(handle, TEXTS, target=targets.label(handle, 1)):
        assert a.converged and not a.valid
        assert "padding" in a.reasons[0]


def test_memory_is_bounded_whatever_the_input(tiny_handles):
    """No pass holds more tokens than the budget, unless one input is longer."""
    network = Toy(tiny_handles[SEQ], budget=64)
    rows = rows_of(tiny_handles[SEQ], TEXTS * 5)
    integrate(network, rows, network.outputs(rows), Options(0.0, 0.0, first_steps=30, most_steps=80))
    assert max(network.sizes) <= 64 and len(network.sizes) > 20


def test_only_what_has_not_converged_is_done_again(tiny_handles):
    handle = tiny_handles[SEQ]
    network = Toy(handle, curve=lambda x: torch.tanh(6 * (x - 0.2)))
    rows = rows_of(handle, TEXTS)
    outputs = network.outputs(rows)
    once = integrate(network, rows, outputs, Options(0.01, 1e-4, first_steps=3, most_steps=3))
    found = integrate(network, rows, outputs, Options(0.01, 1e-4, first_steps=3))
    need = [f.steps for f in found]
    assert [f.converged for f in once] == [n == 3 for n in need]
    assert len(set(need)) > 1 and all(f.converged for f in found)
    network.sizes.clear()
    integrate(network, rows, outputs, Options(0.01, 1e-4, first_steps=3))
    assert sum(network.sizes) == sum(len(r.encoded.ids) * n for r, n in zip(rows, need, strict=True))


def test_errors_that_cancel_do_not_pass_for_convergence(tiny_handles):
    """The delta of the whole path is zero here at any number of points, by symmetry; the parts tell."""
    network = Toy(tiny_handles[SEQ])
    (row,) = rows_of(tiny_handles[SEQ], ["dog"])
    ends = network.parts(network.embed([row.baseline])), network.parts(network.embed([row.encoded.ids]))
    start, end = (torch.atanh(e)[0, 1] for e in ends)
    network.curve = lambda x: torch.exp(-200 * ((x - start) / (end - start) - 0.5) ** 2)
    (few,) = integrate(network, [row], network.outputs([row]), Options(0.01, 1e-3, 9, 9))
    assert abs(few.values.sum()) < 1e-3 and not few.converged
    (enough,) = integrate(network, [row], network.outputs([row]), Options(0.01, 1e-3, 9, 512))
    assert enough.converged


def test_errors_of_two_tokens_that_cancel_do_not_pass_either(tiny_handles):
    """Two equal words with opposite signs: the output never changes, and delta is zero along all the path."""

    class Opposed(Toy):
        def parts(self, embeds):
            signs = torch.tensor([0.0, 1.0, -1.0, 0.0])
            return self.curve(embeds @ self.direction) * signs

    network = Opposed(tiny_handles[SEQ])
    (row,) = rows_of(tiny_handles[SEQ], ["dog dog"])
    ends = [(network.embed([i]) @ network.direction)[0, 1] for i in (row.baseline, row.encoded.ids)]
    network.curve = lambda x: torch.tanh(60 * ((x - ends[0]) / (ends[1] - ends[0]) - 0.3))
    (found,) = integrate(network, [row], network.outputs([row]), Options())
    assert found.converged and found.steps > 18
    assert found.values == pytest.approx([0, 2, -2, 0], abs=0.1)  # 5 % of each
    (few,) = integrate(network, [row], network.outputs([row]), Options(most_steps=18))
    assert not few.converged and abs(few.values.sum()) < 1e-5


# --- what each head is asked ----------------------------------------------------------------


def test_segments_of_a_pair_reach_the_model(tiny_handles):
    """Trap 3: ALBERT's tokenizer drops segment ids by default, and the model then fills in zeros."""
    handle, texts, pairs, target = cases(tiny_handles)["pair"]
    encoded = handle.tokenizer(texts[0], pairs[0], return_tensors="pt", return_token_type_ids=True)
    with torch.no_grad():
        logp = handle.model(**encoded).logits.double().log_softmax(-1)[0]
        blind = handle.model(input_ids=encoded["input_ids"]).logits.double().log_softmax(-1)[0]
    a = attribute(handle, texts, pairs=pairs, target=target)[0]
    assert set(a.type_ids) == {0, 1}
    assert a.output == pytest.approx(float(logp[0] - logp[1:].logsumexp(0)), abs=1e-5)
    assert abs(a.output - float(blind[0] - blind[1:].logsumexp(0))) > 1e-3
    assert {"nurse", "dog"} <= set(
        attribute(handle, texts, pairs=TEXTS[3:1:-1], target=target)[0].word_values()[0]
    )


def test_choices_are_attributed_one_forward_each(tiny_handles):
    """Trap 9: two forward passes in one function would give contributions that sum to zero."""
    handle, texts, pairs, target = cases(tiny_handles)["choice"]
    found = attribute(handle, texts, pairs=pairs, target=target)
    with torch.no_grad():
        encoded = handle.tokenizer(
            texts, pairs, padding=True, return_tensors="pt", return_token_type_ids=True
        )
        logits = handle.model(**{k: v[None] for k, v in encoded.items()}).logits[0].double()
    handle.tokenizer._tokenizer.no_padding()
    assert sum(a.output for a in found) == pytest.approx(float(logits[1] - logits[[0, 2]].mean()), abs=1e-5)
    change = sum(a.change for a in found)
    assert sum(a.values.sum() for a in found) == pytest.approx(
        change, abs=0.01 * sum(abs(a.change) for a in found)
    )
    assert max(np.abs(a.values).max() for a in found) > 1e-2


def test_the_mask_and_the_frame_stay_in_the_baseline(tiny_handles):
    """Trap 7: a baseline of pads alone gives [CLS] and [SEP] a share; without [MASK] the question is gone."""
    handle, texts, _, target = cases(tiny_handles)["mask"]
    for baseline in ("pad", "mask"):
        for row in make_rows(handle, texts, None, [target] * 2, baseline):
            kept = {row.baseline[0], row.baseline[-1], row.baseline[row.place.at[0]]}
            assert kept == {2, 3, 4} and row.baseline.count(0 if baseline == "pad" else 4) >= 5
    for a in attribute(handle, texts, target=target):
        assert all(a.values[i] == 0 for i, s in enumerate(a.special) if s)
        assert [a.tokens[i] for i, s in enumerate(a.special) if s][:1] == ["[CLS]"]
        assert sum(a.special) == 3


def test_masking_a_word_by_its_id_is_the_stock_log_odds(tiny_handles):
    handle, texts, _, target = cases(tiny_handles)["pretraining"]
    (a,) = attribute(handle, texts, target=target)
    at = a.ids.index(4)
    he, she = (handle.tokenizer.convert_tokens_to_ids(w) for w in ("▁he", "▁she"))
    with torch.no_grad():
        logits = handle.model(torch.tensor([a.ids])).prediction_logits[0, at].log_softmax(-1)
    assert a.output == pytest.approx(float(logits[he] - logits[she]), abs=1e-5)
    assert "he" in texts[0].split() and "[MASK]" in a.word_values()[0] and "he" not in a.word_values()[0]


def test_the_baseline_keeps_positions_and_segments(tiny_handles):
    """Trap 17: the output at the baseline is the stock model's for the baseline's ids."""
    handle, texts, pairs, target = cases(tiny_handles)["pair"]
    rows = make_rows(handle, texts, pairs, [target] * 2, "pad")
    for row, a in zip(rows, attribute(handle, texts, pairs=pairs, target=target), strict=True):
        with torch.no_grad():
            logp = handle.model(
                torch.tensor([row.baseline]), token_type_ids=torch.tensor([row.encoded.type_ids])
            ).logits.double().log_softmax(-1)[0]  # fmt: skip
        assert a.output_baseline == pytest.approx(float(logp[0] - logp[1:].logsumexp(0)), abs=1e-5)


def test_the_pad_row_of_the_fixtures_is_not_zero(tiny_handles):
    """Trap 16: with a zero row a baseline of zeros would pass for one of pads."""
    handle = tiny_handles[SEQ]
    assert handle.model.albert.embeddings.word_embeddings.weight[0].abs().max() > 0.05
    other = spoiled(handle)
    with torch.no_grad():
        other.model.albert.embeddings.word_embeddings.weight[0] = 0
    a, b = (attribute(h, TEXTS[:1], target=targets.label(h, 1))[0] for h in (handle, other))
    assert np.abs(a.values - b.values).max() > 1e-3


def test_magnitudes_are_kept(tiny_handles):
    """Trap 14: twice the logit is twice the contributions; a normalised map would not change."""
    handle = tiny_handles[SEQ]
    other = spoiled(handle)
    with torch.no_grad():
        other.model.classifier.weight.mul_(2)
    a, b = (attribute(h, TEXTS[:1], target=targets.label(h, 1))[0] for h in (handle, other))
    assert np.allclose(b.values, 2 * a.values, atol=1e-5)


def test_attention_kernels_do_not_matter(tiny_handles):
    """Trap 11: attention weights, which fused attention silently leaves out, are used nowhere."""
    handle = spoiled(tiny_handles[SEQ])
    fused = attribute(handle, TEXTS, target=targets.label(handle, 1))
    handle.model.set_attn_implementation("eager")
    for a, b in zip(fused, attribute(handle, TEXTS, target=targets.label(handle, 1)), strict=True):
        assert b.valid and np.abs(a.values - b.values).max() < 1e-5


# --- validity -------------------------------------------------------------------------------


def test_a_model_in_training_mode_is_not_valid(tiny_handles):
    """Trap 10."""
    handle = spoiled(tiny_handles[SEQ])
    handle.model.albert.embeddings.dropout.train()
    for method in ("integrated_gradients", "mask_ablation"):
        (a,) = attribute(handle, TEXTS[:1], target=targets.label(handle, 1), method=method)
        assert "eval mode" in a.reasons[0]


def test_half_precision_is_not_valid_and_the_loader_leaves_it_behind(tiny_handles, tmp_path):
    """Trap 12: a checkpoint in half precision would keep its type."""
    handle = spoiled(tiny_handles[SEQ])
    handle.model.to(torch.bfloat16)
    (a,) = attribute(handle, TEXTS[:1], target=targets.label(handle, 1), most_steps=20)
    assert any("float32" in r for r in a.reasons)
    folder = checkpoint(tmp_path / "half", SEQ, dtype=torch.float16, num_labels=2)
    assert all(a.valid for a in attribute(folder, TEXTS[:1]))


def test_a_head_that_would_be_random_is_refused(tiny_folders, tmp_path):
    """Trap 8."""
    folder = clone(tiny_folders[SEQ], tmp_path / "random")
    edit(folder / "config.json", architectures=["AlbertForMaskedLM"])
    with pytest.raises(ModelRefused, match="random"):
        attribute(folder, TEXTS)


def test_what_has_not_converged_says_so_and_is_not_drawn(tiny_handles):
    handle = tiny_handles[SEQ]
    target = targets.label(handle, 1)
    (a,) = attribute(
        handle, TEXTS[:1], target=target, tolerance=0, abs_tolerance=1e-12, first_steps=3, most_steps=3
    )
    assert not a.converged and not a.valid and a.steps == 3
    assert "not converged after 3 steps" in a.reasons[0]
    page = a._repr_html_()
    assert "Not valid" in page and "rgba" not in page and "nurse" not in page


def test_numbers_that_are_not_finite_are_not_valid(tiny_handles):
    handle = spoiled(tiny_handles[SEQ])
    with torch.no_grad():
        handle.model.classifier.bias[1] = float("nan")
    (a,) = attribute(handle, TEXTS[:1], target=targets.label(handle, 1), most_steps=20)
    assert not a.valid and not a.converged and "finite" in a.reasons[0]


def test_a_text_without_words_has_nothing_to_explain(tiny_handles):
    handle = tiny_handles[SEQ]
    (a,) = attribute(handle, [""], target=targets.label(handle, 1))
    assert a.values.tolist() == [0, 0] and a.change == 0


# --- opinions -------------------------------------------------------------------------------


def test_gradient_shap_has_a_seed_of_its_own_for_each_row(tiny_handles):
    """Trap 20 too: Captum gets its arguments in a tuple."""
    handle = tiny_handles[SEQ]
    target = targets.label(handle, 1)

    def shap(texts, seed=0, **options):
        return attribute(handle, texts, target=target, method="gradient_shap", seed=seed, **options)

    state = np.random.get_state
    before = state()[1].copy(), torch.get_rng_state()
    together, alone, other = shap(TEXTS[:2]), shap(TEXTS[1:2]), shap(TEXTS[1:2], seed=1)
    assert (state()[1] == before[0]).all() and torch.equal(torch.get_rng_state(), before[1])
    assert np.array_equal(together[1].values, alone[0].values)
    assert np.abs(other[0].values - alone[0].values).max() > 1e-4
    network = Network(handle)
    found = network.arguments(rows_of(handle, TEXTS[:1]))
    assert isinstance(found, tuple) and all(len(t) == 1 for t in found)


def test_gradient_shap_comes_near_integrated_gradients(tiny_handles):
    handle = tiny_handles[SEQ]
    target = targets.label(handle, 1)
    (a,) = attribute(handle, TEXTS[:1], target=target)
    (b,) = attribute(handle, TEXTS[:1], target=target, method="gradient_shap", first_steps=512, budget=400)
    assert b.steps == 512 and b.values[0] == b.values[-1] == 0
    assert np.corrcoef(a.values, b.values)[0, 1] > 0.9
    assert abs(b.delta) < 0.2 * abs(b.change)


def test_ablation_masks_whole_words_by_id(tiny_handles):
    handle = tiny_handles[SEQ]
    target = targets.label(handle, 1)
    (a,) = attribute(handle, TEXTS[:1], target=target, method="mask_ablation")
    words, values = a.word_values()
    nurse = words.index("nurse")
    group = a.groups()[nurse]
    assert len(group) > 1 and a.baseline == "mask"
    ids = [4 if i in group else t for i, t in enumerate(a.ids)]
    with torch.no_grad():
        without = float(handle.model(torch.tensor([ids])).logits[0, 1])
    assert values[nurse] == pytest.approx(a.output - without, abs=1e-5)


# --- documents and refusals -----------------------------------------------------------------


def test_words_are_summed_with_their_sign_and_punctuation_stands_alone(tiny_handles):
    handle = tiny_handles[SEQ]
    (a,) = attribute(handle, [TEXTS[2]], target=targets.label(handle, 1))
    words, values = a.word_values()
    assert words == ("[CLS]", "John", "is", "a", "teacher", ",", "not", "a", "doctor", "!", "[SEP]")
    for group, value in zip(a.groups(), values, strict=True):
        assert value == pytest.approx(sum(a.values[i] for i in group))


def test_pages_escape_words_and_show_sign_and_number(tiny_handles):
    """Trap 15."""
    handle = tiny_handles[SEQ]
    (a,) = attribute(handle, ["a<script>alert(1)</script> b"], target=targets.label(handle, 1))
    page = a._repr_html_()
    assert "<script" not in page and "&lt;" in page
    assert "<caption>" in page and 'scope="row"' in page
    _, values = a.word_values()
    assert all(f"{v:+.3g}" in page for v in values)
    assert "alert" not in repr(a)


def test_importing_the_room_loads_neither_torch_nor_captum():
    code = "import sys, albert_audit.explain; print({'torch', 'captum', 'transformers'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


def test_an_unknown_word_of_one_piece_is_refused(tiny_zh):
    """Trap 18, with a vocabulary of word pieces, in which the unknown is one piece."""
    handle = load(tiny_zh, device="cpu")
    assert targets.mask(handle, "他", "她").kind == "mask"
    with pytest.raises(UsageError, match="vocabulary lacks"):
        targets.mask(handle, "他", "龘")


@pytest.mark.parametrize("words", [("nurse", "he"), ("he", "\U0001f600"), ("he", "He")])
def test_words_that_are_not_one_known_piece_are_refused(tiny_handles, words):
    """Trap 18: an unknown word silently becomes the unknown token."""
    with pytest.raises(UsageError, match="piece"):
        targets.mask(tiny_handles[MLM], *words)


def test_what_cannot_be_explained_is_refused(tiny_handles):
    seq, mlm, qa = tiny_handles[SEQ], tiny_handles[MLM], tiny_handles[QA]
    he = targets.mask(mlm, "he", "she")
    for wrong in (
        lambda: targets.label(mlm, 0),
        lambda: targets.label(seq, "joy"),
        lambda: targets.choice(tiny_handles[MC], 2, of=2),
        lambda: targets.span(qa, 3, 3),
        lambda: attribute(seq, TEXTS),
        lambda: attribute(seq, TEXTS[0], target=targets.label(seq, 0)),
        lambda: attribute(seq, TEXTS, target=[targets.label(seq, 0)]),
        lambda: attribute(seq, TEXTS, target=targets.label(seq, 0), method="deep_lift"),
        lambda: attribute(seq, TEXTS, target=targets.label(seq, 0), baseline="zero"),
        lambda: attribute(seq, TEXTS, target=targets.label(seq, 0), tolerance=2),
        lambda: attribute(seq, TEXTS, target=targets.label(seq, 0), first_steps=2),
        lambda: attribute(seq, TEXTS, target=he),
        lambda: attribute(seq, ["dog " * 200], target=targets.label(seq, 0)),
        lambda: attribute(mlm, ["no mask here"], target=he),
        lambda: attribute(mlm, TEXTS[:1], target=targets.mask(mlm, "he", "she", word=1)),
        lambda: attribute(mlm, TEXTS[:1], target=targets.mask(mlm, "he", "she", word=50)),
        lambda: attribute(qa, ["what"], pairs=["the car"], target=targets.span(qa, 50, 60)),
        lambda: attribute(tiny_handles[Head.ENCODER], TEXTS),
    ):
        with pytest.raises(UsageError):
            wrong()


def test_a_binary_classifier_needs_no_target(deep):
    (a,) = attribute(deep, TEXTS[:1])
    assert a.target == f"log-odds of the label {deep.id.labels[1]} against the rest"
    with torch.no_grad():
        logits = deep.model(torch.tensor([a.ids])).logits[0]
    assert a.output == pytest.approx(float(logits[1] - logits[0]), abs=1e-5)


def test_a_loaded_model_and_its_folder_say_the_same(tiny_folders, tiny_handles):
    target = targets.label(tiny_handles[SEQ], 1)
    a, b = (attribute(m, TEXTS[:1], target=target)[0] for m in (tiny_handles[SEQ], tiny_folders[SEQ]))
    assert np.array_equal(a.values, b.values)
    assert load(tiny_folders[SEQ], device="cpu").id == tiny_handles[SEQ].id
