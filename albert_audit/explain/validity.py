"""Whether an explanation may be relied on: the checks that block, each with its reason in plain words.

That a head is not random is the loader's work, which refuses a checkpoint that lacks weights.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from albert_audit.explain.network import Network, Row
from albert_audit.explain.types import Floats
from albert_audit.model.load import ModelHandle

PADDING = 3
"""Pad tokens that are put behind an input to see whether they change the answer."""
SAME = 1e-3
"""Largest difference of two answers that count as one, relative to the answer where it is above 1."""


def model_reasons(handle: ModelHandle) -> tuple[str, ...]:
    """Return why no explanation of this model would be valid: dropout is on, or it is not fp32."""
    reasons = []
    training = sum(m.training for m in handle.model.modules())
    if training:
        reasons.append(
            f"expected the model in eval mode, found {training} of its modules in training mode, where dropout "
            "is random; call model.eval()"
        )
    kinds = sorted({str(p.dtype).removeprefix("torch.") for p in handle.model.parameters()})
    if kinds != ["float32"]:
        reasons.append(
            f"expected float32 weights, found {', '.join(kinds)}, whose rounding is larger than small "
            "contributions; load the model with albert_audit.model.load"
        )
    return tuple(reasons)


def row_reasons(
    values: Floats,
    output: float,
    reference: float,
    *,
    delta: float,
    change: float,
    converged: bool,
    steps: int,
) -> tuple[str, ...]:
    """Return why an explanation of one input is not valid.

    Parameters
    ----------
    values : array
        Contributions of the tokens.
    output, reference : float
        The target here and by `stock_outputs`.
    delta, change : float
        The sum of `values` less the `change` of the target from the baseline to the input.
    converged : bool
        Whether `delta` is within the tolerance.
    steps : int
    """
    if not (np.isfinite(values).all() and math.isfinite(output) and math.isfinite(change)):
        return ("expected finite numbers, found some that are not; the weights may have diverged",)
    reasons = []
    if not same(output, reference):
        reasons.append(
            f"the stock model with padding and an attention mask answers {reference:.4g} where {output:.4g} is "
            "explained; the model lets padding change its answer, or was altered"
        )
    if not converged:
        reasons.append(
            f"not converged after {steps} steps: contributions still move, or miss the change of the output, "
            f"{change:.3g} (delta {delta:.2g}); allow more steps, or leave this input out"
        )
    return tuple(reasons)


def same(a: float, b: float) -> bool:
    """Return whether two answers are one but for rounding."""
    return abs(a - b) <= SAME * max(1.0, abs(a), abs(b))


def converged(delta: float, change: float, tolerance: float, abs_tolerance: float) -> bool:
    """Return whether `delta` is small beside the `change` that it belongs to; never for NaN."""
    return abs(delta) <= max(abs_tolerance, tolerance * abs(change))


def stock_outputs(network: Network, rows: Sequence[Row]) -> Floats:
    """Return the target of each row by another road: the stock forward pass from ids, padded, (rows,).

    Every input is followed by a few pad tokens under an attention mask, so a model in which padding
    leaks into the answer differs from what is explained. Log-odds come from the softmax.
    """
    out = np.empty(len(rows), np.float64)
    with torch.no_grad():
        for batch in network.batches(rows):
            for i, value in zip(batch, _stock(network, [rows[i] for i in batch]), strict=True):
                out[i] = value
    return out


def _stock(network: Network, rows: Sequence[Row]) -> list[float]:
    handle, n = network.handle, len(rows[0].encoded.ids)
    pad = min(PADDING, handle.id.max_tokens - n)
    fill = handle.tokenizer.pad_token_id or 0
    inputs = {
        "input_ids": [[*r.encoded.ids, *[fill] * pad] for r in rows],
        "token_type_ids": [[*r.encoded.type_ids, *[0] * pad] for r in rows],
        "attention_mask": [[1] * n + [0] * pad for _ in rows],
    }
    tensors = {name: torch.tensor(v, device=handle.device) for name, v in inputs.items()}
    kind = rows[0].place.kind
    if kind == "choice":
        answer = handle.model(**{name: t[:, None] for name, t in tensors.items()})
        return [r.place.weight * float(v) for r, v in zip(rows, answer.logits[:, 0], strict=True)]
    answer = handle.model(**tensors)
    if kind == "span":
        starts, ends = answer.start_logits.double(), answer.end_logits.double()
        return [float(starts[k, r.place.at[0]] + ends[k, r.place.at[1]]) for k, r in enumerate(rows)]
    logits = answer.prediction_logits if "prediction_logits" in answer else answer.logits
    return [_read(logits[k].double(), r) for k, r in enumerate(rows)]


def _read(logits: Tensor, row: Row) -> float:
    """Read the target off the logits of one input, (labels,) or (tokens, columns)."""
    own = logits[row.place.at[0]] if logits.ndim == 2 else logits
    first, second = row.place.columns
    if row.place.kind == "mask":
        return float(own[first] - own[second])
    if not row.place.rest:
        return float(own[first])
    logp = own.log_softmax(-1)
    others = torch.cat([logp[:first], logp[first + 1 :]])
    return float(logp[first] - others.logsumexp(-1))
