"""Joint scores of words under masks: what the masked-LM measures that compare words share."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from albert_audit.model.scorer import Scorer
from albert_audit.model.text import Encoded, MaskQuery, find_word

BORDER = "a piece reaches across the border of a word, which so cannot be masked alone"
Step = tuple[tuple[Any, ...], int]


@dataclass
class Asks:
    """Queries under construction: one input is sent once, whatever is asked of it."""

    mask_id: int
    wanted: dict[tuple[Any, ...], dict[int, int]] = field(default_factory=dict)

    def add(self, encoded: Encoded, masked: Sequence[int], at: int) -> Step:
        """Ask for the token at one position, some positions masked."""
        ids = list(encoded.ids)
        for i in masked:
            ids[i] = self.mask_id
        key = (tuple(ids), encoded.type_ids, tuple(masked), at)
        asked = self.wanted.setdefault(key, {})
        token = encoded.ids[at]
        asked.setdefault(token, len(asked))
        return key, token

    def word(self, encoded: Encoded, target: Sequence[int], also: Sequence[int] = ()) -> list[Step]:
        """Ask for all pieces of a word jointly: all masked, read left to right, each uncovered once read.

        `also` stays masked throughout.
        """
        return [self.add(encoded, sorted({*target[k:], *also}), at) for k, at in enumerate(target)]

    def answer(self, scorer: Scorer) -> dict[Step, float]:
        """Send every input once and return the log-probability of each step."""
        keys = list(self.wanted)
        queries = [
            MaskQuery(ids, type_ids, masked, (at,), (tuple(self.wanted[ids, type_ids, masked, at]),))
            for ids, type_ids, masked, at in keys
        ]
        found = scorer.mask_logprobs(queries)
        return {
            (key, token): float(row[0, place])
            for key, row in zip(keys, found, strict=True)
            for token, place in self.wanted[key].items()
        }


def unfit(scorer: Scorer, encoded: Encoded) -> str:
    """Return the reason why a text cannot be scored, or nothing."""
    if len(encoded.ids) > scorer.id.max_tokens:
        return f"longer than {scorer.id.max_tokens} tokens"
    if scorer.unknown_id in encoded.ids:
        return "holds a piece the vocabulary lacks"
    return ""


def locate(
    texts: Sequence[str], encoded: Sequence[Encoded], spans: Sequence[Sequence[tuple[int, int]]]
) -> list[tuple[int, ...]] | None:
    """Return the positions of the pieces of the same words in several versions of one sentence.

    Some vocabularies hold pieces such as "him.", in which a word and the mark after it are one. Where
    one version has such a piece, every version's word is taken with the marks that follow it, so that
    all of them are scored over the same characters. None when a word is glued to another word.

    Parameters
    ----------
    spans : sequence of sequences of (int, int)
        For each text the (start, end) of its words.
    """
    wider = [[_with_marks(t, *span) for span in own] for t, own in zip(texts, spans, strict=True)]
    for taken in (spans, wider):
        try:
            return [
                tuple(i for span in own for i in find_word(e, *span))
                for e, own in zip(encoded, taken, strict=True)
            ]
        except ValueError:
            continue
    return None


def _with_marks(text: str, start: int, end: int) -> tuple[int, int]:
    while end < len(text) and not (text[end].isspace() or text[end].isalnum()):
        end += 1
    return start, end


def total(logprobs: Sequence[float]) -> float:
    """Return the logarithm of a sum of probabilities."""
    return float(np.logaddexp.reduce(list(logprobs)))
