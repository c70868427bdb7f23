"""Completions of several pieces by a masked language model, which was trained to fill in single ones.

A gap of L masks is filled in three ways: from left to right, surest piece first (each time the model is
asked again), and by a beam from left to right. How many pieces a secret has is not known to an attacker;
sums of log-probabilities always prefer fewer. So a completion's score is compared with what the same model,
searched in the same way, gives the best completions of as many pieces where nothing in particular is to be
expected: what counts is its excess over that, a piece.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from albert_audit.model.scorer import Scorer
from albert_audit.model.text import MaskQuery
from albert_audit.privacy.canary_scores import Placed
from albert_audit.redact import canonical
from albert_audit.shapes import SPECIAL_TOKENS

WIDTH = 10
"""Completions that a beam keeps, and that count as found."""
_LEFT_TO_RIGHT, _SUREST, _BEAM = "left to right", "surest first", "beam"
WAYS = (_LEFT_TO_RIGHT, _SUREST, _BEAM)
_BYTES = 64 * 2**20
_JOINT = "▁"
_NO_PIECE = ("<s>", "</s>")
Norms = dict[tuple[str, int], float]
"""For each way and number of pieces the mean of the best scores in neutral contexts, in nats."""


@dataclass(frozen=True)
class Gap:
    """A text with a hole."""

    left: tuple[int, ...] = field(repr=False)
    right: tuple[int, ...] = field(repr=False)
    type_id: int = 0

    def query(self, filled: Sequence[int], length: int, mask_id: int, at: Sequence[int] = ()) -> MaskQuery:
        """Return the question for the open places of a gap of `length`, or for those of `at`.

        A piece of `filled` that is negative is open.
        """
        start = len(self.left)
        inside = [i if i >= 0 else mask_id for i in (*filled, *(-1,) * (length - len(filled)))]
        open_ = tuple(
            start + k for k in range(length) if k >= len(filled) or filled[k] < 0
        )  # fmt: skip
        ids = (*self.left, *inside, *self.right)
        asked = tuple(start + k for k in at) if at else open_
        return MaskQuery(ids, (self.type_id,) * len(ids), open_, asked)

    def tokens(self, length: int) -> int:
        """Return the number of tokens with `length` masks."""
        return len(self.left) + length + len(self.right)


def gap_of(placed: Placed, pieces: Sequence[str]) -> tuple[Gap, int]:
    """Return the text without its secret, and how many pieces the secret has.

    A lone ▁ in front of the secret goes with it: left behind, it would tell how the secret begins.
    """
    ids, where = placed.encoded.ids, placed.where
    first = where[0]
    while first > 1 and pieces[ids[first - 1]] == _JOINT:
        first -= 1
    gap = Gap(ids[:first], ids[where[-1] + 1 :], placed.encoded.type_ids[0])
    return gap, where[-1] + 1 - first


@dataclass(frozen=True)
class Completion:
    """What a gap was filled with.

    Attributes
    ----------
    form, text : str
        Canonical, and as the pieces spell it. They may be somebody's data.
    score : float
        Nats a piece above completions of as many pieces in neutral contexts.
    """

    form: str = field(repr=False)
    text: str = field(repr=False)
    score: float


def cost(gaps: Sequence[Gap], longest: int, width: int = WIDTH) -> int:
    """Return the most tokens that `search` scores."""
    per_length = [2 * n + 1 + width * (n - 1) for n in range(1, longest + 1)]
    return sum(g.tokens(n) * per_length[n - 1] for g in set(gaps) for n in range(1, longest + 1))


def norms(scorer: Scorer, neutral: Sequence[Gap], longest: int, width: int = WIDTH) -> Norms:
    """Return what completions of each number of pieces score where nothing is to be expected.

    Where fewer than two contexts have a completion with a finite score there is none.
    """
    words = _words(scorer)
    out: Norms = {}
    for length in range(1, longest + 1):
        for way, found in _fill(scorer, neutral, length, width, words):
            best = np.array([own[0][1] for own in found if own])
            if len(best) > 1:
                out[way, length] = float(best.mean())
    return out


def search(
    scorer: Scorer, gaps: Sequence[Gap], longest: int, yardstick: Norms, width: int = WIDTH
) -> list[list[Completion]]:
    """Fill each gap with 1 to `longest` pieces, in every way.

    Parameters
    ----------
    gaps : sequence of Gap
        Equal ones are searched once.
    yardstick : Norms
        Of `norms`, by the same scorer and width.

    Returns
    -------
    list of list of Completion
        For each gap the best `width`, different in their canonical form; empty where the model gave no
        finite score, there or for the yardstick.
    """
    if any((way, length) not in yardstick for way in WAYS for length in range(1, longest + 1)):
        return [[] for _ in gaps]
    unique = list(dict.fromkeys(gaps))
    words, pieces = _words(scorer), scorer.pieces
    best: list[dict[str, Completion]] = [{} for _ in unique]
    for length in range(1, longest + 1):
        for way, found in _fill(scorer, unique, length, width, words):
            for own, filled in zip(best, found, strict=True):
                for ids, score in filled:
                    text = "".join(pieces[i] for i in ids)
                    form = canonical(text)
                    made = Completion(
                        form, text.replace(_JOINT, " ").strip(), (score - yardstick[way, length]) / length
                    )
                    if form and (form not in own or own[form].score < made.score):
                        own[form] = made
    top = [sorted(own.values(), key=lambda c: (-c.score, c.form))[:width] for own in best]
    at = {gap: i for i, gap in enumerate(unique)}
    return [top[at[gap]] for gap in gaps]


# --- decoding --------------------------------------------------------------------------------

Filled = list[tuple[tuple[int, ...], float]]


def _fill(
    scorer: Scorer, gaps: Sequence[Gap], length: int, width: int, words: NDArray[np.bool_]
) -> Iterator[tuple[str, list[Filled]]]:
    """Yield for each way the completions of each gap, best first."""
    yield _LEFT_TO_RIGHT, beam(scorer, gaps, length, 1, words)
    yield _SUREST, surest_first(scorer, gaps, length, words)
    yield _BEAM, beam(scorer, gaps, length, width, words)


def beam(
    scorer: Scorer, gaps: Sequence[Gap], length: int, width: int, words: NDArray[np.bool_]
) -> list[Filled]:
    """Fill gaps from left to right, keeping the `width` likeliest beginnings; with 1 it is greedy."""
    kept: list[Filled] = [[((), 0.0)] for _ in gaps]
    mask = scorer.mask_id
    for _ in range(length):
        where = [(g, ids, score) for g, own in enumerate(kept) for ids, score in own]
        queries = [gaps[g].query(ids, length, mask, at=(len(ids),)) for g, ids, _ in where]
        grown: list[Filled] = [[] for _ in gaps]
        for (g, ids, score), (found, logp) in zip(where, _top(scorer, queries, width, words), strict=True):
            grown[g] += [((*ids, int(i)), score + float(p)) for i, p in zip(found[0], logp[0], strict=True)
                         if math.isfinite(p)]  # fmt: skip
        kept = [sorted(own, key=lambda f: (-f[1], f[0]))[:width] for own in grown]
    return kept


def surest_first(scorer: Scorer, gaps: Sequence[Gap], length: int, words: NDArray[np.bool_]) -> list[Filled]:
    """Fill the place at which the model is surest, ask again, and so on; one completion a gap."""
    state: list[tuple[list[int], float] | None] = [([-1] * length, 0.0) for _ in gaps]
    mask = scorer.mask_id
    for _ in range(length):
        open_ = [(g, s) for g, s in enumerate(state) if s is not None]
        queries = [gaps[g].query(filled, length, mask) for g, (filled, _) in open_]
        for (g, (filled, score)), (found, logp) in zip(open_, _top(scorer, queries, 1, words), strict=True):
            places = [k for k in range(length) if filled[k] < 0]
            sure = int(np.argmax(logp[:, 0]))
            if not math.isfinite(logp[sure, 0]):
                state[g] = None
                continue
            filled[places[sure]] = int(found[sure, 0])
            state[g] = filled, score + float(logp[sure, 0])
    return [[(tuple(s[0]), s[1])] if s is not None else [] for s in state]


def _words(scorer: Scorer) -> NDArray[np.bool_]:
    """Return which ids may be filled in: no special token."""
    special = (*SPECIAL_TOKENS, *_NO_PIECE)
    out = np.array([p.removeprefix(_JOINT).casefold() not in special for p in scorer.pieces])
    out[[i for i in (scorer.mask_id, scorer.unknown_id) if i < len(out)]] = False
    return out


def _top(
    scorer: Scorer, queries: Sequence[MaskQuery], k: int, words: NDArray[np.bool_]
) -> Iterator[tuple[NDArray[np.intp], NDArray[np.float64]]]:
    """Yield for each question the ids and log-probabilities of the `k` likeliest pieces, both (places, k).

    Answers over the whole vocabulary are large: some questions at a time. What is not finite is -inf.
    """
    most = max((len(q.at) for q in queries), default=1)
    step = max(1, _BYTES // (4 * max(len(words), 1) * most))
    for begin in range(0, len(queries), step):
        for answer in scorer.mask_logprobs(queries[begin : begin + step]):
            yield _best(answer, k, words)


def _best(
    answer: NDArray[Any], k: int, words: NDArray[np.bool_]
) -> tuple[NDArray[np.intp], NDArray[np.float64]]:
    width = min(len(words), answer.shape[1])
    logp = np.where(words[:width], answer[:, :width], -np.inf).astype(np.float64)
    logp[np.isnan(logp)] = -np.inf
    some = (
        np.argpartition(-logp, min(k, width - 1), axis=1)[:, :k]
        if width > k
        else np.tile(np.arange(width), (len(logp), 1))
    )
    order = np.lexsort((some, -np.take_along_axis(logp, some, 1)), axis=1)
    some = np.take_along_axis(some, order, 1)
    return some, np.take_along_axis(logp, some, 1)
