"""The rows of `embed`: one a text, or one a token."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pyarrow as pa

from albert_audit.model.scorer import Array, TorchScorer
from albert_audit.model.text import Encoded
from albert_audit.packs import Text


def of_texts(
    scorer: TorchScorer, with_text: bool, of: Sequence[Text], encoded: Sequence[Encoded], vectors: Mapping[int, Array],
    reasons: Sequence[str | None],
) -> pa.Table:  # fmt: skip
    """Return one row a text.

    Parameters
    ----------
    scorer : TorchScorer
    with_text : bool
    of, encoded, reasons : sequences of length n
        The texts, as the model sees them, and why one is skipped; None where it is not.
    vectors : mapping
        (hidden,) by place; those that are skipped have none.

    Returns
    -------
    pyarrow.Table
        Columns id, text where it is asked for, skipped, embedding.
    """
    width = scorer.hidden_size
    rows = np.zeros((len(encoded), width), np.float32)
    for i, vector in vectors.items():
        rows[i] = vector
    columns = {"id": pa.array([t.id for t in of], pa.string())}
    if with_text:
        columns["text"] = pa.array([t.text for t in of], pa.string())
    columns["skipped"] = pa.array(reasons, pa.string())
    columns["embedding"] = _lists(rows, [r is not None for r in reasons])
    return pa.table(columns)


def of_tokens(
    scorer: TorchScorer, with_text: bool, of: Sequence[Text], encoded: Sequence[Encoded], vectors: Mapping[int, Array],
    reasons: Sequence[str | None],
) -> pa.Table:  # fmt: skip
    """Return one row a token, specials included; a text that was skipped has one row.

    Parameters
    ----------
    scorer, with_text, of, encoded, reasons
        See `of_texts`.
    vectors : mapping
        (tokens, hidden) by place.

    Returns
    -------
    pyarrow.Table
        Columns id, position, start, end, special, token where it is asked for, skipped, embedding.
    """
    places = [(i, k) for i, e in enumerate(encoded) for k in (range(len(e.ids)) if i in vectors else (None,))]
    width = scorer.hidden_size
    nothing = np.zeros((1, width), np.float32)
    states = np.concatenate([vectors.get(i, nothing) for i in range(len(encoded))])
    # A special token covers no characters; an offset of (0, 0) would read as an empty first one.
    inside = [None if k is None or encoded[i].special[k] else encoded[i].offsets[k] for i, k in places]
    columns = {
        "id": pa.array([of[i].id for i, _ in places], pa.string()),
        "position": pa.array([k for _, k in places], pa.int32()),
        "start": pa.array([o and o[0] for o in inside], pa.int32()),
        "end": pa.array([o and o[1] for o in inside], pa.int32()),
        "special": pa.array([None if k is None else encoded[i].special[k] for i, k in places], pa.bool_()),
    }
    if with_text:
        pieces = scorer.handle.tokenizer.convert_ids_to_tokens
        names = [None if k is None else pieces(encoded[i].ids[k]) for i, k in places]
        columns["token"] = pa.array(names, pa.string())
    columns["skipped"] = pa.array([reasons[i] for i, _ in places], pa.string())
    columns["embedding"] = _lists(states, [k is None for _, k in places])
    return pa.table(columns)


def _lists(rows: Array, missing: Sequence[bool]) -> pa.Array:
    """Return rows (n, d) as an array of lists of d numbers; null where it is `missing`."""
    flat = pa.array(np.ascontiguousarray(rows, np.float32).reshape(-1))
    return pa.FixedSizeListArray.from_arrays(flat, rows.shape[1], mask=pa.array(missing, pa.bool_()))
