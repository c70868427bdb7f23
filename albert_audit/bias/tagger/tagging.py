"""From a tagger's logits to entity spans over words.

The field's convention (Devlin et al. 2019; CoNLL-2003): a word has the label of its first piece, what
the later pieces say does not count. Words are what taggers are trained on: a run of letters, joined
by hyphens and apostrophes; one ideograph; one mark. Spans are read as the CoNLL script reads
them: B, S or U opens one, so does any other label of a type after nothing, after another type or
after a closed span; E, L, S and U close it. So one rule reads BIO, IOB, BIOES, BILOU and bare labels.
"""

from __future__ import annotations

import re
import unicodedata
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from albert_audit.model.scorer import Array, Scorer
from albert_audit.model.text import Encoded, word_spans

PERSON = "person"
PERSON_TYPES = frozenset(
    {"per", "person", "persons", "people", "nr", "name", "personname", "人名", "人物", "姓名"}
)
"""Types that mean a person: CoNLL and MSRA, OntoNotes, the People's Daily, CLUENER and Resume NER.

Compared without capitals, hyphens and underscores, and up to the first full stop (Weibo's PER.NAM)."""
NO_PERSON = "no label of the model means a person"
_PREFIXED = re.compile(r"([BIOESLUM])[-_](.+)", re.IGNORECASE | re.DOTALL)
_OPENS, _CLOSES = frozenset("BSU"), frozenset("ELSU")
_GOES_ON = "+"  # of a word without a piece of its own
_JOINS = frozenset("-‐‑'’")

Tag = tuple[str, str]
"""Prefix and type; both are empty outside of entities."""


@dataclass(frozen=True, slots=True)
class Span:
    """Words ``first`` to ``last``, both included, of one type."""

    first: int
    last: int
    kind: str


@dataclass(frozen=True, slots=True)
class Tagged:
    """One text as the model tags it.

    Attributes
    ----------
    words : tuple of (int, int)
        Characters of each word.
    spans : tuple of Span
    reason : str
        Why it has no spans, where it could not be scored.
    """

    encoded: Encoded
    words: tuple[tuple[int, int], ...]
    spans: tuple[Span, ...]
    reason: str = ""

    def inside(self, start: int, end: int) -> tuple[int, int]:
        """Return the first and the last word that the characters [start, end) touch."""
        touched = [k for k, (s, e) in enumerate(self.words) if s < end and e > start]
        return touched[0], touched[-1]


def tags_of(labels: Sequence[str]) -> list[Tag]:
    """Return prefix and type of each label; every type that means a person is `PERSON`."""
    found: list[Tag] = []
    for label in labels:
        match = _PREFIXED.fullmatch(label)
        prefix, kind = (match[1].upper(), match[2]) if match else ("I", label)
        plain = re.sub(r"[-_ ]", "", unicodedata.normalize("NFKC", kind).casefold())
        if plain in ("o", "none", "outside") or prefix == "O":
            found.append(("", ""))
        else:
            found.append((prefix, PERSON if plain.partition(".")[0] in PERSON_TYPES else plain))
    return found


def names_persons(labels: Sequence[str]) -> bool:
    """Whether a label means a person."""
    return any(kind == PERSON for _, kind in tags_of(labels))


def words_of(text: str) -> list[tuple[int, int]]:
    """Return (start, end) of each word: as `word_spans`, but "Anne-Marie" is one word."""
    raw = word_spans(text)
    out: list[tuple[int, int]] = []
    joined = False
    for k, (start, end) in enumerate(raw):
        touches = bool(out) and out[-1][1] == start
        after = raw[k + 1][0] == end if k + 1 < len(raw) else False
        joint = (
            touches
            and after
            and text[start:end] in _JOINS
            and _letter(text[start - 1])
            and _letter(text[end])
        )
        if joint or (joined and touches):
            out[-1] = (out[-1][0], end)
        else:
            out.append((start, end))
        joined = joint
    return out


def _letter(character: str) -> bool:
    """Whether it is a letter of a script that joins letters to words; ideographs are not."""
    return character.isalnum() and unicodedata.category(character) != "Lo"


def word_tags(
    text: str, encoded: Encoded, words: Sequence[tuple[int, int]], predicted: Sequence[Tag]
) -> list[Tag]:
    """Return the tag of each word, from the tags (tokens,) that the model predicts.

    A word has the tag of its first piece. A word in which no piece starts goes on with the tag of the piece
    that covers it (two ideographs in one piece); one that no piece covers is outside.
    """
    starts = [start for start, _ in words]
    raw = word_spans(text)
    first: dict[int, int] = {}
    for i in encoded.positions:
        first.setdefault(bisect_right(starts, raw[encoded.words[i]][0]) - 1, i)
    out: list[Tag] = []
    for k, (start, _) in enumerate(words):
        if k in first:
            out.append(predicted[first[k]])
            continue
        covering = [i for i in encoded.positions if encoded.offsets[i][0] < start < encoded.offsets[i][1]]
        kind = predicted[covering[0]][1] if covering else ""
        out.append((_GOES_ON, kind) if kind else ("", ""))
    return out


def spans_of(tags: Sequence[Tag]) -> tuple[Span, ...]:
    """Return the entities of a sequence of word tags."""
    found: list[Span] = []
    before, closed = "", True
    for k, (prefix, kind) in enumerate(tags):
        if kind and (kind != before or (prefix != _GOES_ON and (prefix in _OPENS or closed))):
            found.append(Span(k, k, kind))
        elif kind:
            found[-1] = Span(found[-1].first, k, kind)
        if prefix != _GOES_ON:
            closed = prefix in _CLOSES
        before = kind
    return tuple(found)


def read(scorer: Scorer, texts: Sequence[str]) -> list[Tagged]:
    """Tag texts, all in one call. A text that cannot be scored says why, and is never cut."""
    encoded = scorer.encode(texts)
    split = [tuple(words_of(text)) for text in texts]
    known = tags_of(scorer.id.labels)
    if not names_persons(scorer.id.labels):
        return [Tagged(e, w, (), NO_PERSON) for e, w in zip(encoded, split, strict=True)]
    most = scorer.id.max_tokens
    answers = iter(scorer.tag_logits([t for t, e in zip(texts, encoded, strict=True) if len(e.ids) <= most]))
    out = []
    for text, e, w in zip(texts, encoded, split, strict=True):
        if len(e.ids) > most:
            out.append(Tagged(e, w, (), f"longer than {most} tokens"))
        else:
            out.append(_decoded(text, e, w, next(answers), known))
    return out


def _decoded(
    text: str, encoded: Encoded, words: tuple[tuple[int, int], ...], logits: Array, known: Sequence[Tag]
) -> Tagged:
    if not np.isfinite(logits).all():
        return Tagged(encoded, words, (), "the model gave no finite score")
    predicted = [known[k] for k in logits.argmax(axis=1)]
    return Tagged(encoded, words, spans_of(word_tags(text, encoded, words, predicted)))
