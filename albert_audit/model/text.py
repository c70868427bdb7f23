"""Words, pieces and masks: everything about text that a scorer needs, without a model.

Masking is by id, after encoding the finished sentence. A mask written into the text would change
the pieces around it ("nurse." and "[MASK]." do not tokenise alike).
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

TokenRule = Literal["pll", "pll_word_l2r", "unmasked"]
TOKEN_RULES: tuple[TokenRule, ...] = ("pll", "pll_word_l2r", "unmasked")

# One ideograph is a word; a run of letters and digits is one, with an apostrophe inside; every
# other visible character stands alone. Combining accents and invisible joiners go with their letter.
_IDEOGRAPH = r"[\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff]"
_MARK = r"[\u0300-\u036f\u1ab0-\u1aff\u1dc0-\u1dff\u20d0-\u20ff\ufe00-\ufe0f\ufe20-\ufe2f\u00ad\u200b-\u200d\u2060]"
_LETTERS = rf"(?:(?!{_IDEOGRAPH})\w{_MARK}*)+"
_WORD = re.compile(rf"{_IDEOGRAPH}{_MARK}*|{_LETTERS}(?:['’]{_LETTERS})*|\S{_MARK}*")


@dataclass(frozen=True, slots=True)
class Encoded:
    """One text, or a pair of texts, as the model sees it.

    Attributes
    ----------
    ids, type_ids : tuple of int, length n
    offsets : tuple of (int, int), length n
        Characters of the text each token covers; (0, 0) for special tokens.
    words : tuple of int, length n
        Index of the word a token belongs to; -1 for special tokens.
    special : tuple of bool, length n
    """

    ids: tuple[int, ...]
    type_ids: tuple[int, ...]
    offsets: tuple[tuple[int, int], ...]
    words: tuple[int, ...]
    special: tuple[bool, ...]

    @property
    def positions(self) -> tuple[int, ...]:
        """Positions of the tokens that are not special."""
        return tuple(i for i, s in enumerate(self.special) if not s)


@dataclass(frozen=True, slots=True)
class MaskQuery:
    """One input and what is asked of it.

    Attributes
    ----------
    ids, type_ids : tuple of int, length n
        The sentence, not yet masked.
    masked : tuple of int
        Positions that are replaced by the mask id.
    at : tuple of int
        Positions whose distribution is asked for.
    ask : tuple of tuple of int
        For each of `at` the ids whose log-probability is wanted, equally many each; empty for the
        whole vocabulary.
    """

    ids: tuple[int, ...]
    type_ids: tuple[int, ...]
    masked: tuple[int, ...]
    at: tuple[int, ...]
    ask: tuple[tuple[int, ...], ...] = ()


def word_spans(text: str) -> list[tuple[int, int]]:
    """Return the (start, end) of each word of `text`; punctuation marks are words of their own."""
    return [m.span() for m in _WORD.finditer(text)]


def word_indices(text: str, offsets: Sequence[tuple[int, int]], special: Sequence[bool]) -> tuple[int, ...]:
    """Return for each token the index of the word in which it starts, -1 for special tokens.

    A token without width (a lone ▁) belongs to the word that follows it.
    """
    spans = word_spans(text)
    out, word = [], 0
    for (start, _), is_special in zip(offsets, special, strict=True):
        if is_special:
            out.append(-1)
            continue
        while word < len(spans) - 1 and spans[word][1] <= start:
            word += 1
        out.append(word)
    return tuple(out)


def token_queries(encoded: Encoded, rule: TokenRule) -> list[MaskQuery]:
    """Return the queries whose answers are the log-probabilities of the tokens, in order.

    ``pll`` masks each token alone (Salazar et al. 2020). ``pll_word_l2r`` also masks the later
    pieces of the same word (Kauf and Ivanova 2023). ``unmasked`` masks nothing and reads every
    token in one pass (Kaneko and Bollegala 2022).
    """
    at = encoded.positions
    if not at:
        return []
    if rule == "unmasked":
        return [MaskQuery(encoded.ids, encoded.type_ids, (), at, tuple((encoded.ids[i],) for i in at))]
    queries = []
    for i in at:
        masked: tuple[int, ...] = (i,)
        if rule == "pll_word_l2r":
            masked = tuple(j for j in at if j >= i and encoded.words[j] == encoded.words[i])
        queries.append(MaskQuery(encoded.ids, encoded.type_ids, masked, (i,), ((encoded.ids[i],),)))
    return queries


def shared_positions(a: Encoded, b: Encoded) -> list[tuple[int, int]]:
    """Return the positions of the tokens that two sentences share, by the CrowS-Pairs rule.

    Equal blocks of a sequence match over ids, special tokens left out (Nangia et al. 2020, their
    published script). Both sides therefore have equally many.
    """
    pairs: list[tuple[int, int]] = []
    matcher = difflib.SequenceMatcher(None, list(map(str, a.ids)), list(map(str, b.ids)))
    for op, a0, a1, b0, b1 in matcher.get_opcodes():
        if op == "equal":
            pairs += zip(range(a0, a1), range(b0, b1), strict=True)
    # The script drops the first and last shared position of the sequence, which are [CLS] and [SEP].
    return [(i, j) for i, j in pairs if not (a.special[i] or b.special[j])]


def find_word(encoded: Encoded, start: int, end: int) -> tuple[int, ...]:
    """Return the positions of the tokens that cover the characters [start, end) of the text.

    Raises
    ------
    ValueError
        When a token crosses the border of the span: the word cannot be masked alone.
    """
    inside = []
    for i in encoded.positions:
        s, e = encoded.offsets[i]
        if s < end and e > start:
            if s < start or e > end:
                raise ValueError(f"token {i} covers characters {s}-{e}, across the span {start}-{end}")
            inside.append(i)
    if not inside:
        raise ValueError(f"no token covers the characters {start}-{end}")
    return tuple(inside)
