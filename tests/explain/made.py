"""Attributions made by hand: one token a word unless pieces are given; and a linear model to go with them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from albert_audit.explain.types import Attribution

CLS, SEP, MASK = 2, 3, 4


def number(piece: str) -> int:
    """Return an id of a piece, the same each time."""
    return 10 + int.from_bytes(piece.encode(), "big") % 1_000_003


def made(
    text: str,
    values: Sequence[float],
    /,
    *,
    pieces: dict[str, int] | None = None,
    output: float | None = None,
    start: float = 0.0,
    **changes: Any,
) -> Attribution:
    """Return an attribution of a text of words, `values` one a word; a word's first piece holds them all."""
    words = text.split()
    assert len(words) == len(values)
    ids, tokens, offsets, index, per_token = [CLS], ["[CLS]"], [(0, 0)], [-1], [0.0]
    at = 0
    for w, (word, value) in enumerate(zip(words, values, strict=True)):
        n = (pieces or {}).get(word, 1)
        for k in range(n):
            cut = (at + k, at + k + 1 if k < n - 1 else at + len(word))
            ids.append(number(f"{word}/{k}" if n > 1 else word))
            tokens.append(text[cut[0] : cut[1]])
            offsets.append(cut)
            index.append(w)
            per_token.append(value if k == 0 else 0.0)
        at += len(word) + 1
    ids, tokens, offsets = [*ids, SEP], [*tokens, "[SEP]"], [*offsets, (0, 0)]
    index, per_token = [*index, -1], [*per_token, 0.0]
    total = float(np.sum(per_token))
    base: dict[str, Any] = {
        "text": text, "pair": None, "ids": tuple(ids), "type_ids": (0,) * len(ids), "tokens": tuple(tokens),
        "offsets": tuple(offsets), "words": tuple(index), "special": tuple(i < 0 for i in index),
        "target": "log-odds of good", "method": "integrated_gradients", "baseline": "pad",
        "values": np.array(per_token), "output": start + total if output is None else output,
        "output_baseline": start, "delta": 0.0, "steps": 20, "converged": True, "reasons": (),
    }  # fmt: skip
    return Attribution(**(base | changes))
