"""At which depth, and at which positions, an effect travels: conductance through ALBERT's depths.

ALBERT runs one layer again and again. Captum's layer methods keep what a module returned last, so on the
shared layer they silently answer for the last depth only, and completeness does not show it: conductance
sums to the change of the output at every depth. So they run on a copy in which each depth has a layer of
its own, with the same weights; that its answers are the same is checked each time.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from torch import Tensor, nn

from albert_audit.explain import validity
from albert_audit.explain.integrated import each_target, token_values
from albert_audit.explain.network import Row, StockNetwork, make_rows
from albert_audit.explain.paths import ABS_TOLERANCE, MOST_STEPS, Options
from albert_audit.explain.types import Baseline, Floats, Target
from albert_audit.model.load import ModelHandle
from albert_audit.types import UsageError

FIRST_STEPS = 16


@dataclass(frozen=True, eq=False)
class DepthAttribution:
    """Conductance of each position at the output of each depth.

    Attributes
    ----------
    text, pair, ids, type_ids, tokens, words, special
        As in `Attribution`. At depth, [CLS], [SEP] and [MASK] carry effects too.
    target : str
    baseline : str
        ``pad``, ``mask``, or ``counterfactual`` for the path from another text.
    values : array, (depths, tokens)
        Row 0 is the output of the first depth. A pooled head reads [CLS] alone, so its last depth has
        everything there.
    output, output_baseline : float
    deltas : array, (depths,)
        Sum of a depth's values less the change of the output.
    steps : int
        Most steps that a depth took.
    converged : bool
        Whether every depth is within the tolerance.
    reasons : tuple of str
        Why this is not to be relied on; empty when it is valid.
    """

    text: str = field(repr=False)
    pair: str | None = field(repr=False)
    ids: tuple[int, ...] = field(repr=False)
    type_ids: tuple[int, ...] = field(repr=False)
    tokens: tuple[str, ...] = field(repr=False)
    words: tuple[int, ...] = field(repr=False)
    special: tuple[bool, ...] = field(repr=False)
    target: str
    baseline: str
    values: Floats
    output: float
    output_baseline: float
    deltas: Floats
    steps: int
    converged: bool
    reasons: tuple[str, ...] = ()

    @property
    def valid(self) -> bool:
        """Whether no check of validity failed."""
        return not self.reasons


def unshared(model: Any) -> Any:
    """Return a copy of a model in which every depth has a layer of its own, with the same weights.

    It takes the memory of the layer once a depth.
    """
    made = copy.deepcopy(model)
    base, config = made.albert, made.config
    groups, depths = base.encoder.albert_layer_groups, config.num_hidden_layers
    per_group = depths / config.num_hidden_groups
    base.encoder.albert_layer_groups = nn.ModuleList(
        copy.deepcopy(groups[int(i / per_group)]) for i in range(depths)
    )
    for part in (made, base, base.encoder):
        part.config.num_hidden_groups = depths
    return made


def require_own_layer(network: StockNetwork, layer: nn.Module, row: Row) -> None:
    """Refuse a module that does not run exactly once in a forward pass.

    Raises
    ------
    UsageError
        For ALBERT's shared layer and everything in it: Captum would answer for its last call.
    """
    calls = 0

    def count(*_: Any) -> None:
        nonlocal calls
        calls += 1

    handle = layer.register_forward_hook(count)
    try:
        network.outputs([row])
    finally:
        handle.remove()
    if calls != 1:
        raise UsageError(
            f"expected a module that runs once in a forward pass, found one that runs {calls} times: its "
            "conductance would be that of the last time alone",
            "use albert_audit.explain.depth.unshared to give each depth a layer of its own",
        )


def layer_conductance(
    network: StockNetwork, layer: nn.Module, row: Row, ends: tuple[Tensor, Tensor], steps: int
) -> Floats:
    """Return the conductance of each position through a module's output, (tokens,).

    Parameters
    ----------
    network : StockNetwork
    layer : torch.nn.Module
        One that runs once in a forward pass.
    row : Row
    ends : tuple of two Tensor, (1, tokens, embedding)
        Word embeddings of the baseline and of the input.
    steps : int

    Notes
    -----
    Captum pairs the gradient at each point with the way to the next. The mean of the path and of its
    reverse pairs it with both neighbours: the trapezoid rule, whose error falls with the square of the
    steps. Only this grid holds both ends of the path.
    """
    from captum.attr import LayerConductance

    require_own_layer(network, layer, row)
    conductor = LayerConductance(network.function(row), layer)
    most = max(2, network.most(row))

    def one_way(start: Tensor, end: Tensor) -> Floats:
        found = conductor.attribute(
            end,
            start,
            additional_forward_args=network.arguments([row]),
            n_steps=steps,
            method="riemann_trapezoid",
            internal_batch_size=min(most, steps + 1),
        )
        values: Floats = token_values(found)[0]
        return values

    out: Floats = (one_way(*ends) - one_way(ends[1], ends[0])) / 2
    return out


def conductance(
    handle: ModelHandle,
    texts: Sequence[str],
    *,
    pairs: Sequence[str] | None = None,
    target: Target | Sequence[Target] | None = None,
    baseline: Baseline = "pad",
    counterfactuals: Sequence[str] | None = None,
    tolerance: float = 0.01,
    abs_tolerance: float = ABS_TOLERANCE,
    first_steps: int = FIRST_STEPS,
    most_steps: int = MOST_STEPS,
    budget: int | None = None,
) -> list[DepthAttribution]:
    """Say of each text which positions carry the effect at each depth (Dhamdhere et al. 2018).

    Parameters
    ----------
    handle : ModelHandle
    texts, pairs, target, baseline, tolerance, abs_tolerance, first_steps, most_steps, budget
        As for `albert_audit.explain.attribute`.
    counterfactuals : sequence of str, optional
        A second version of each text, with as many tokens; the path then runs from it to the text. At the
        embeddings such a path puts everything on the words that differ, by construction; at depth it shows
        where the difference goes.

    Raises
    ------
    UsageError
        As `attribute`; when two versions differ in their number of tokens.
    RuntimeError
        When the copy with separate layers does not answer as the model does.
    """
    options = Options(tolerance, abs_tolerance, first_steps, most_steps)
    rows = make_rows(handle, texts, pairs, each_target(handle, target, len(texts)), baseline)
    name = baseline if counterfactuals is None else "counterfactual"
    if counterfactuals is not None:
        rows = _facing(handle, rows, counterfactuals)
    network = StockNetwork(handle, unshared(handle.model), budget=budget)
    outputs = StockNetwork(handle, budget=budget).outputs(rows)
    if not np.array_equal(outputs, network.outputs(rows), equal_nan=True):
        raise RuntimeError(
            "expected the copy with separate layers to answer exactly as the model, found a difference; the "
            "model has hooks or buffers that do not survive a copy: load it anew"
        )
    references = validity.stock_outputs(StockNetwork(handle, budget=budget), rows)
    bases = network.outputs(rows, [r.baseline for r in rows])
    about = validity.model_reasons(handle)
    return [
        _explained(network, row, (base, output, reference), name, options, about)
        for row, base, output, reference in zip(
            rows, bases.tolist(), outputs.tolist(), references.tolist(), strict=True
        )
    ]


def _facing(handle: ModelHandle, rows: Sequence[Row], counterfactuals: Sequence[str]) -> list[Row]:
    """Give each row another text's ids for a baseline."""
    second = [r.pair for r in rows if r.pair is not None]
    others = make_rows(handle, counterfactuals, second or None, [r.target for r in rows], "pad")
    out = []
    for i, (row, other) in enumerate(zip(rows, others, strict=True)):
        if len(row.encoded.ids) != len(other.encoded.ids) or row.place != other.place:
            raise UsageError(
                f"expected two versions of text {i} with as many tokens and the target at one place, found "
                f"{len(row.encoded.ids)} and {len(other.encoded.ids)} tokens",
                "count the pair as not alignable",
            )
        out.append(replace(row, baseline=other.encoded.ids))
    return out


def _explained(
    network: StockNetwork,
    row: Row,
    answers: tuple[float, float, float],
    baseline: str,
    options: Options,
    about: tuple[str, ...],
) -> DepthAttribution:
    base, output, reference = answers
    change, e = output - base, row.encoded
    ends = network.embed([row.baseline]), network.embed([e.ids])
    values, taken, all_done = [], 0, True
    for layer in network.base.encoder.albert_layer_groups:
        for steps in options.schedule():
            found = layer_conductance(network, layer, row, ends, steps)
            done = validity.converged(
                math.fsum(found) - change, change, options.tolerance, options.abs_tolerance
            )
            if done:
                break
        values.append(found)
        taken, all_done = max(taken, steps), all_done and done
    stacked = np.stack(values)
    deltas = stacked.sum(axis=1) - change
    worst = float(np.abs(deltas).max())
    own = validity.row_reasons(
        stacked, output, reference, delta=worst, change=change, converged=all_done, steps=taken
    )
    names = network.handle.tokenizer.convert_ids_to_tokens
    return DepthAttribution(
        row.text, row.pair, e.ids, e.type_ids, tuple(names(list(e.ids))), e.words, e.special,
        target=row.target.name, baseline=baseline, values=stacked, output=output, output_baseline=base,
        deltas=deltas, steps=taken, converged=all_done, reasons=about + own,
    )  # fmt: skip
