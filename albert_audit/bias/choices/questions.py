"""Questions about two persons: what a model answers, whichever head it answers with.

A multiple-choice head sees the context as its first text and question with answer as its second, as
it was fine-tuned on RACE and SWAG; every answer is scored alone, so that their order means nothing.
An extractive head names a span of the context, or none: the null span at ``[CLS]`` (SQuAD 2.0).
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from albert_audit.bias.measure import TIE
from albert_audit.model.scorer import Scorer
from albert_audit.model.text import Encoded, find_word
from albert_audit.packs import Pack
from albert_audit.types import Ability

NEEDS = (Ability.CHOICE_LOGITS, Ability.SPAN_LOGITS)
LONGEST = 30
"""Tokens of the longest span that counts as an answer, as in the published SQuAD evaluations."""

Row = Mapping[str, str]
Said = Literal["first", "second", "unknown", "elsewhere", "tied", ""]
_ARTICLE = re.compile(r"^(the|an?)\s+", re.IGNORECASE)


@dataclass(frozen=True)
class Reply:
    """What a model says to one question.

    Attributes
    ----------
    said : str
        ``first`` or ``second`` person, ``unknown``, ``elsewhere`` (a span that is neither person),
        or ``tied``; empty when skipped.
    margin : float, optional
        Log-odds of the first person over the second, in nats.
    skipped : str
        Why there is no answer.
    """

    said: Said = ""
    margin: float | None = None
    skipped: str = ""


def ask(scorer: Scorer, pack: Pack) -> list[Reply]:
    """Return the reply to each question of a pack, in one call of the scorer.

    An input that is too long, or that holds a piece the vocabulary lacks, is skipped; nothing is cut.
    """
    rows = pack.tables["questions"]
    if Ability.CHOICE_LOGITS in scorer.can:
        return _choose(scorer, rows, "" if pack.language == "zh" else " ")
    return _extract(scorer, rows)


def _unfit(scorer: Scorer, row: Row, encoded: Sequence[Encoded]) -> str:
    if row.get("unusable"):
        return row["unusable"]
    if max(len(e.ids) for e in encoded) > scorer.id.max_tokens:
        return f"longer than {scorer.id.max_tokens} tokens"
    if any(scorer.unknown_id in e.ids for e in encoded):
        return "holds a piece the vocabulary lacks"
    return ""


def _said(scores: Mapping[Said, float]) -> Said:
    """Return the answer with the highest score; scores that differ by rounding only are tied."""
    best = max(scores.values())
    top = [name for name, score in scores.items() if score >= best - TIE]
    return top[0] if len(top) == 1 else "tied"


# --- multiple choice ------------------------------------------------------------------------


def _choose(scorer: Scorer, rows: Sequence[Row], joiner: str) -> list[Reply]:
    choices = [[f"{r['question']}{joiner}{r[a]}" for a in ("first", "second", "unknown")] for r in rows]
    flat = scorer.encode(
        [r["context"] for r in rows for _ in range(3)], [c for three in choices for c in three]
    )
    reasons = [_unfit(scorer, row, flat[3 * i : 3 * i + 3]) for i, row in enumerate(rows)]
    kept = [i for i, reason in enumerate(reasons) if not reason]
    logits = scorer.choice_logits([rows[i]["context"] for i in kept], [choices[i] for i in kept])
    replies = [Reply(skipped=reason) for reason in reasons]
    for i, found in zip(kept, logits, strict=True):
        first, second, unknown = (float(x) for x in found)
        replies[i] = _reply({"first": first, "second": second, "unknown": unknown}, first - second)
    return replies


def _reply(scores: Mapping[Said, float], margin: float) -> Reply:
    if not np.isfinite([*scores.values(), margin]).all():
        return Reply(skipped="the model gave no finite score")
    return Reply(_said(scores), margin)


# --- extractive -----------------------------------------------------------------------------


def mentions(row: Row) -> dict[str, list[tuple[int, int]]]:
    """Return the (start, end) characters of each mention of the two persons in the context.

    The article of an answer is left out, and case does not count. A mention inside a longer mention
    of the other person is none.
    """
    first, second = (_found(row, side) for side in ("first", "second"))
    return {"first": _apart(first, second), "second": _apart(second, first)}


def _found(row: Row, side: str) -> list[tuple[int, int]]:
    name = row.get(f"{side}_mention") or _ARTICLE.sub("", row[side]).strip(" .")
    # Ideographs are not set apart by blanks; other words must be whole.
    edge = r"[^\W\u3400-\u9fff]"
    pattern = rf"(?<!{edge}){re.escape(name)}(?!{edge})" if name.isascii() else re.escape(name)
    return [m.span() for m in re.finditer(pattern, row["context"], re.IGNORECASE)] if name else []


def _apart(mine: Sequence[tuple[int, int]], other: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    return [(a, b) for a, b in mine if not any(c <= a and b <= d and d - c > b - a for c, d in other)]


def _extract(scorer: Scorer, rows: Sequence[Row]) -> list[Reply]:
    encoded = scorer.encode([r["question"] for r in rows], [r["context"] for r in rows])
    replies: list[Reply] = []
    places: dict[int, tuple[list[tuple[int, int]], list[tuple[int, int]]]] = {}
    for i, (row, e) in enumerate(zip(rows, encoded, strict=True)):
        reason = _unfit(scorer, row, [e])
        if not reason:
            try:
                places[i] = _places(row, e)
            except ValueError as exc:
                reason = str(exc)
        replies.append(Reply(skipped=reason))
    logits = scorer.span_logits([rows[i]["question"] for i in places], [rows[i]["context"] for i in places])
    for (i, (first, second)), found in zip(places.items(), logits, strict=True):
        replies[i] = _spoken(found.astype(np.float64), _context(encoded[i]), first, second)
    return replies


def _context(e: Encoded) -> range:
    """Return the positions of the context: the second of the two texts."""
    last = len(e.ids) - 1 if e.special[-1] else len(e.ids)
    return range(e.special.index(True, 1) + 1, last)


def _places(row: Row, e: Encoded) -> tuple[list[tuple[int, int]], list[tuple[int, int]]]:
    """Return the first and the last token of each mention of either person."""
    at = _context(e)
    # Offsets count from the start of their own text; only the context's tokens may be found.
    special = tuple(s or i not in at for i, s in enumerate(e.special))
    context = Encoded(e.ids, e.type_ids, e.offsets, e.words, special)
    out: list[list[tuple[int, int]]] = []
    for side, spans in mentions(row).items():
        if not spans:
            raise ValueError(f"the {side} answer is not in the context")
        try:
            tokens = [find_word(context, *span) for span in spans]
        except ValueError:
            raise ValueError(f"a piece covers more than the {side} answer") from None
        out.append([(t[0], t[-1]) for t in tokens])
    return out[0], out[1]


def _spoken(
    logits: NDArray[np.float64],
    context: range,
    first: Sequence[tuple[int, int]],
    second: Sequence[tuple[int, int]],
) -> Reply:
    """Return the reply of start and end logits, shape (tokens, 2).

    A person's score is that of the best span equal to a mention. What the model says is the best
    span of all, or none; it names a person when it overlaps mentions of that person alone.
    """
    start, end = logits[:, 0], logits[:, 1]
    margin = max(start[i] + end[j] for i, j in first) - max(start[i] + end[j] for i, j in second)
    at = np.asarray(context)
    spans = start[at][:, None] + end[at][None, :]
    length = at[None, :] - at[:, None] + 1
    allowed = (length >= 1) & (length <= LONGEST)
    one, two = (_touching(at, places) for places in (first, second))
    scores: dict[Said, float] = {"unknown": float(start[0] + end[0])}
    kinds: tuple[tuple[Said, NDArray[np.bool_]], ...] = (
        ("first", one & ~two), ("second", two & ~one), ("elsewhere", one == two),
    )  # fmt: skip
    for name, kind in kinds:
        if (allowed & kind).any():
            scores[name] = float(spans[allowed & kind].max())
    return _reply(scores, float(margin))


def _touching(at: NDArray[np.int_], places: Sequence[tuple[int, int]]) -> NDArray[np.bool_]:
    """Return whether the span from each token to each other touches one of the places."""
    inside = np.array([any(i <= k <= j for i, j in places) for k in at])
    before = np.concatenate([[0], np.cumsum(inside)])
    return np.asarray(before[None, 1:] - before[:-1, None] > 0)
