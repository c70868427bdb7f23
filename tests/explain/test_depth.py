"""Conductance by depth: the copy with separate layers against hooks that count calls."""

from __future__ import annotations

import copy
import dataclasses

import numpy as np
import pytest
import torch
from captum.attr import LayerConductance

from albert_audit.explain import conductance, targets
from albert_audit.explain.depth import layer_conductance, require_own_layer, unshared
from albert_audit.explain.network import StockNetwork, make_rows
from albert_audit.model.load import load
from albert_audit.types import Head, UsageError
from tests.tiny import checkpoint

TEXTS = ["the man said he was good", "the dog"]


def row_of(handle, text, baseline="pad"):
    return make_rows(handle, [text], None, [targets.contrast(handle, 1)], baseline)[0]


def by_counter(handle, row, steps=256):
    """Conductance at every depth on the shared model: a hook that appends, and the trapezoid rule by hand."""
    network, states = StockNetwork(handle), []
    start, end = network.embed([row.baseline]), network.embed([row.encoded.ids])
    points = torch.linspace(0, 1, steps + 1)[:, None, None]
    embeds = (start + points * (end - start)).requires_grad_()
    layer = handle.model.albert.encoder.albert_layer_groups[0]
    hook = layer.register_forward_hook(lambda module, args, out: states.append(out))
    arguments = [t.expand(steps + 1, *t.shape[1:]) for t in network.arguments([row])]
    try:
        out = network.function(row)(embeds, *arguments).sum()
    finally:
        hook.remove()
    grads = torch.autograd.grad(out, states)
    return np.stack([
        ((g[1:] + g[:-1]) / 2 * (h[1:] - h[:-1])).double().sum((0, 2)).detach().numpy()
        for g, h in zip(grads, states, strict=True)
    ])  # fmt: skip


def test_the_copy_answers_exactly_as_the_model(deep):
    apart = unshared(deep.model)
    ids = torch.randint(5, 100, (3, 9), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        assert torch.equal(deep.model(ids).logits, apart(ids).logits)
    groups = apart.albert.encoder.albert_layer_groups
    assert len({id(g) for g in groups}) == 4 and deep.model.config.num_hidden_groups == 1
    assert len(deep.model.albert.encoder.albert_layer_groups) == 1


def test_the_copy_keeps_the_order_of_several_groups(tmp_path):
    handle = load(
        checkpoint(
            tmp_path, Head.SEQUENCE_CLASSIFICATION, num_labels=2, num_hidden_layers=4, num_hidden_groups=2
        ),
        device="cpu",
    )
    (found,) = conductance(handle, TEXTS[:1])
    assert found.valid and found.values.shape[0] == 4


@pytest.mark.parametrize("baseline", ["pad", "mask"])
def test_each_depth_is_that_of_a_counted_call_and_adds_up(deep, baseline):
    """Trap 1: Captum on the shared layer gives the last depth for every depth, and its delta looks well."""
    found = conductance(deep, TEXTS, baseline=baseline)
    for text, a in zip(TEXTS, found, strict=True):
        assert a.valid and a.converged, a.reasons
        change = a.output - a.output_baseline
        assert np.abs(a.values.sum(axis=1) - change).max() <= max(1e-4, 0.01 * abs(change))
        reference = by_counter(deep, row_of(deep, text, baseline))
        assert np.abs(a.values - reference).max() < 0.02 * np.abs(reference).max()
        assert min(np.abs(a.values[d] - a.values[-1]).max() for d in range(3)) > 0.05 * abs(change)
        assert np.abs(a.values[-1][1:]).max() < 1e-6  # a pooled head reads [CLS]


def test_captum_on_the_shared_layer_is_the_last_depth_and_is_refused(deep):
    row, network = row_of(deep, TEXTS[0]), StockNetwork(deep)
    layer = deep.model.albert.encoder.albert_layer_groups[0]
    naive = LayerConductance(network.function(row), layer).attribute(
        network.embed([row.encoded.ids]), network.embed([row.baseline]),
        additional_forward_args=network.arguments([row]), n_steps=200, method="riemann_trapezoid",
    )  # fmt: skip
    reference = by_counter(deep, row)
    silently = naive.sum(-1)[0].detach().numpy()
    assert np.abs(silently - reference[-1]).max() < 1e-3
    assert np.abs(silently - reference[0]).max() > 0.05
    ends = network.embed([row.baseline]), network.embed([row.encoded.ids])
    for module in (layer, layer.albert_layers[0], layer.albert_layers[0].attention.dense):
        with pytest.raises(UsageError, match="runs 4 times"):
            layer_conductance(network, module, row, ends, 8)
    require_own_layer(network, deep.model.albert.embeddings, row)


def test_a_copy_that_answers_otherwise_is_an_error(deep):
    handle = dataclasses.replace(deep, model=copy.deepcopy(deep.model))
    first = handle.model.albert.encoder.albert_layer_groups[0]
    calls = []

    def shift(module, args, out):
        calls.append(module)
        return out + len({id(m) for m in calls}) * 0.1  # more modules, another answer

    first.register_forward_hook(shift)
    with pytest.raises(RuntimeError, match="exactly as the model"):
        conductance(handle, TEXTS[:1])


def test_the_path_from_another_text_shows_where_a_difference_goes(deep):
    """Trap 21: at the embeddings all of it is on the swapped word by construction; at depth it is not."""
    (a,) = conductance(deep, ["the man said he was good"], counterfactuals=["the man said she was good"])
    swapped = a.tokens.index("▁he")
    change = a.output - a.output_baseline
    assert a.baseline == "counterfactual" and a.valid
    assert np.allclose(a.values.sum(axis=1), change, atol=max(1e-4, 0.01 * abs(change)))
    assert np.abs(np.delete(a.values[0], swapped)).sum() > 0.05 * np.abs(a.values[0]).sum()
    with pytest.raises(UsageError, match="as many tokens"):
        conductance(deep, ["he was good"], counterfactuals=["the woman was good"])


def test_chunks_of_the_path_change_nothing(deep):
    one, two = (conductance(deep, TEXTS[:1], budget=b)[0] for b in (None, 20))
    assert np.abs(one.values - two.values).max() < 1e-5


def test_training_mode_and_too_few_steps_are_not_valid(deep):
    """Trap 10."""
    handle = dataclasses.replace(deep, model=copy.deepcopy(deep.model))
    handle.model.albert.embeddings.dropout.p = 0.0
    handle.model.albert.embeddings.dropout.train()
    (a,) = conductance(handle, TEXTS[:1], tolerance=0, abs_tolerance=0, first_steps=3, most_steps=3)
    assert "eval mode" in a.reasons[0] and "not converged" in a.reasons[1] and not a.valid
    assert "man" not in repr(a)
