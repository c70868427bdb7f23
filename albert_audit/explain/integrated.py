"""Integrated gradients on word embeddings, in batches, with as many steps as each input needs.

`attribute` is the one entry to all three methods. The path runs from the word embeddings of a baseline,
in which every word is the pad or the mask token and [CLS], [SEP] and [MASK] stay, to those of the input.
Positions and segments are those of the input all along. Sundararajan, Taly and Yan 2017, through Captum.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch

from albert_audit.explain import validity
from albert_audit.explain.network import Network, Row, make_rows
from albert_audit.explain.paths import (
    ABS_TOLERANCE,
    FIRST_STEPS,
    MOST_STEPS,
    Found,
    Options,
    Part,
    PathOfRow,
    Unit,
)
from albert_audit.explain.targets import default
from albert_audit.explain.types import METHODS, Attribution, Baseline, Floats, Method, Target
from albert_audit.model.load import ModelHandle, load
from albert_audit.types import UsageError


def attribute(
    model: ModelHandle | str | Path,
    texts: Sequence[str],
    *,
    pairs: Sequence[str] | None = None,
    target: Target | Sequence[Target] | None = None,
    method: Method = "integrated_gradients",
    baseline: Baseline = "pad",
    tolerance: float = 0.01,
    abs_tolerance: float = ABS_TOLERANCE,
    first_steps: int = FIRST_STEPS,
    most_steps: int = MOST_STEPS,
    unit: Unit = "word",
    seed: int = 0,
    budget: int | None = None,
) -> list[Attribution]:
    """Say of each text how much each token contributed to one number.

    Parameters
    ----------
    model : ModelHandle, str or Path
        A loaded model, or what `albert_audit.model.load.load` takes.
    texts, pairs : sequence of str
        Texts, and where the model takes pairs a second text for each.
    target : Target or sequence of Target, optional
        From `albert_audit.explain.targets`; one for all texts, or one for each. A classifier with two labels
        can do without: the log-odds of its second label.
    method : {"integrated_gradients", "gradient_shap", "mask_ablation"}
    baseline : {"pad", "mask"}
        What stands for an absent word. Contributions depend on it strongly; try both. ``mask_ablation``
        always uses ``mask``.
    tolerance, abs_tolerance : float
        An input has converged when ``|delta| <= max(abs_tolerance, tolerance * |change of the output|)``.
        Integrated gradients must reach this without errors that cancel, see `integrate`; at tolerances of 0 all
        steps are spent.
    first_steps, most_steps : int
        Points of the path for every input, and the most for those that have not converged. For
        ``gradient_shap`` its samples.
    unit : {"word", "token"}
        What ``mask_ablation`` masks at a time; a word's effect is shared equally by its tokens.
    seed : int
        Of ``gradient_shap``.
    budget : int, optional
        Most tokens of one forward and backward pass, which bounds the memory.

    Returns
    -------
    list of Attribution
        In the order of `texts`; one that failed a check carries its reasons.

    Raises
    ------
    UsageError
        When the model has no such target, a text is too long or lacks the target, or an option is unusable.

    Notes
    -----
    A row is the same whatever stands beside it and in whatever order, up to rounding (1e-5); unless
    its delta lies within rounding of the tolerance, where one more refinement may happen or not.
    """
    if method not in METHODS:
        raise UsageError(f"expected a method among {', '.join(METHODS)}, found {method!r}")
    if isinstance(texts, str) or isinstance(pairs, str):
        raise UsageError("expected a list of texts, found one text", "put it into a list")
    options = Options(tolerance, abs_tolerance, first_steps, most_steps, unit, seed)
    handle = model if isinstance(model, ModelHandle) else load(model)
    network = Network(handle, budget=budget)
    baseline = "mask" if method == "mask_ablation" else baseline
    rows = make_rows(handle, texts, pairs, each_target(handle, target, len(texts)), baseline)
    outputs = network.outputs(rows)
    found = _method(method)(network, rows, outputs, options)
    return judged(network, rows, outputs, found, method, baseline)


def each_target(handle: ModelHandle, target: Target | Sequence[Target] | None, count: int) -> list[Target]:
    """Return one target a text.

    Raises
    ------
    UsageError
        When there are neither one nor `count`, or none is given and none is evident.
    """
    if target is None:
        target = default(handle)
    if isinstance(target, Target):
        return [target] * count
    if len(target) != count:
        raise UsageError(f"expected one target, or one for each of {count} texts, found {len(target)}")
    return list(target)


def _method(method: Method) -> Callable[[Network, Sequence[Row], Floats, Options], list[Found]]:
    if method == "integrated_gradients":
        return integrate
    from albert_audit.explain import opinions

    return opinions.gradient_shap if method == "gradient_shap" else opinions.mask_ablation


def judged(
    network: Network,
    rows: Sequence[Row],
    outputs: Floats,
    found: Sequence[Found],
    method: Method,
    baseline: Baseline,
) -> list[Attribution]:
    """Make the documents, with the reasons against those that fail a check."""
    reasons = validity.model_reasons(network.handle)
    references = validity.stock_outputs(network, rows)
    names = network.handle.tokenizer.convert_ids_to_tokens
    out = []
    for row, output, reference, f in zip(rows, outputs.tolist(), references.tolist(), found, strict=True):
        e, change = row.encoded, output - f.output_baseline
        delta = float(f.values.sum() - change)
        own = validity.row_reasons(
            f.values, output, reference, delta=delta, change=change, converged=f.converged, steps=f.steps
        )
        out.append(
            Attribution(
                row.text, row.pair, e.ids, e.type_ids, tuple(names(list(e.ids))), e.offsets, e.words, e.special,
                target=row.target.name, method=method, baseline=baseline, values=f.values, output=output,
                output_baseline=f.output_baseline, delta=delta, steps=f.steps, converged=f.converged,
                reasons=reasons + own,
            )
        )  # fmt: skip
    return out


# --- integrated gradients -------------------------------------------------------------------


def integrate(network: Network, rows: Sequence[Row], outputs: Floats, options: Options) -> list[Found]:
    """Integrate each path and its two halves by Gauss-Legendre, and halve again what has not converged.

    Each part is an integral of Captum's between two points of the path; the parts add up to that of the
    whole. Delta is the error of a sum: errors of two parts, or of two tokens, can cancel in it. So a row is done
    when the absolute deltas of its parts add up to no more than the tolerance, and halving the parts moved
    the contributions of tokens by no more than `paths.MOVED` tolerances of their absolute sum.
    """
    bases = network.outputs(rows, [r.baseline for r in rows])
    nodes = options.first_steps // 3
    paths = [
        PathOfRow(float(base), float(output), nodes) for base, output in zip(bases, outputs, strict=True)
    ]
    todo = [(i, part) for i in range(len(rows)) for part in ((0.0, 1.0), (0.0, 0.5), (0.5, 1.0))]
    while todo:
        for batch in network.batches([rows[i] for i, _ in todo], nodes):
            wanted = [todo[k] for k in batch]
            new = [k for k, (i, part) in enumerate(wanted) if part[1] not in paths[i].known]
            part_rows, parts = [rows[i] for i, _ in wanted], [part for _, part in wanted]
            values, answers = _between(network, part_rows, parts, nodes, new)
            for k, answer in zip(new, answers, strict=True):
                paths[wanted[k][0]].known[parts[k][1]] = answer
            for (i, part), row in zip(wanted, values, strict=True):
                paths[i].add(part, row)
        touched = dict.fromkeys(i for i, _ in todo)
        todo = [(i, part) for i in touched for part in paths[i].refine(options)]
    return [path.found(options) for path in paths]


def _between(
    network: Network, rows: Sequence[Row], parts: Sequence[Part], nodes: int, ask: Sequence[int]
) -> tuple[Floats, list[float]]:
    """Return contributions (b, n) along parts of paths, and the outputs at the ends of those in `ask`."""
    from captum.attr import IntegratedGradients

    run, arguments = network.function(rows[0]), network.arguments(rows)
    first, last = (network.embed([r.baseline for r in rows]), network.embed([r.encoded.ids for r in rows]))
    share = torch.tensor(parts, device=network.device)[:, :, None, None]
    starts, ends = (torch.lerp(first, last, share[:, k].to(first.dtype)) for k in (0, 1))
    values = IntegratedGradients(run).attribute(
        ends,
        starts,
        additional_forward_args=arguments,
        n_steps=nodes,
        method="gausslegendre",
        internal_batch_size=chunk(len(rows), nodes, network.most(rows[0])),
    )
    if not ask:
        return token_values(values), []
    with torch.no_grad():
        some = list(ask)
        answers = run(ends[some], *(a[some] for a in arguments))
    return token_values(values), answers.double().tolist()


def token_values(contributions: Any) -> Floats:
    """Sum contributions (b, n, width) over the embedding's axis, (b, n)."""
    summed: Floats = contributions.detach().double().sum(-1).cpu().numpy()
    return summed


def chunk(rows: int, steps: int, most: int) -> int:
    """Return how many inputs Captum shall run at a time, so that its passes are about equal."""
    at_once = max(1, most // rows)
    passes = -(-steps // at_once)
    return rows * -(-steps // passes)
