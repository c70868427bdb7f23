"""Words in the auditor's own texts: where they stand, which text serves which word, and their vectors."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from albert_audit.bias.encoder.association import unit
from albert_audit.bias.encoder.association_estimates import Array
from albert_audit.model.scorer import Scorer
from albert_audit.model.text import Encoded, find_word, word_spans
from albert_audit.packs import Pack

_BLOCK = 32_768  # tokens whose states are held at a time: 100 MB of a base model

Form = tuple[str, ...]
Place = tuple[int, tuple[int, ...]]
"""A text, and the positions of a form's pieces in it."""


def form_of(text: str) -> Form:
    """Return the words of a form in lower case; each Chinese character is one."""
    return tuple(text[a:b].lower() for a, b in word_spans(text))


def occurrences(text: str, forms: Collection[Form]) -> list[tuple[Form, int, int]]:
    """Return each form that stands in `text` as whole words, with its first and last character's end.

    From left to right, the longest form first; what has been matched is not matched again. Chinese
    has no word borders, so that there a form may be a part of a longer word that is no form.
    """
    spans = word_spans(text)
    words = form_of(text)
    longest = max(map(len, forms), default=0)
    out, i = [], 0
    while i < len(words):
        for k in range(min(longest, len(words) - i), 0, -1):
            if words[i : i + k] in forms:
                out.append((words[i : i + k], spans[i][0], spans[i + k - 1][1]))
                i += k
                break
        else:
            i += 1
    return out


@dataclass(frozen=True)
class Contexts:
    """Texts without repetition, how many hold a form, and where a form can be read (its first place in each)."""

    texts: list[str]
    holding: dict[Form, int]
    places: dict[Form, list[Place]]


def contexts(scorer: Scorer, pack: Pack, forms: Collection[Form]) -> Contexts:
    """Return where the auditor's texts hold each form; a text that is too long for the model serves none."""
    given = pack.given.texts if pack.given is not None else ()
    # A text given twice is one context.
    found = {t.text: hits for t in given if (hits := occurrences(t.text, forms))}
    out = Contexts(list(found), dict.fromkeys(forms, 0), {f: [] for f in forms})
    for i, (encoded, hits) in enumerate(zip(scorer.encode(out.texts), found.values(), strict=True)):
        for form, start, end in {h[0]: h for h in reversed(hits)}.values():
            out.holding[form] += 1
            if len(encoded.ids) <= scorer.id.max_tokens and (at := _pieces(scorer, encoded, start, end)):
                out.places[form].append((i, at))
    return out


def _pieces(scorer: Scorer, encoded: Encoded, start: int, end: int) -> tuple[int, ...]:
    """Return the positions of a word's own pieces; none when it has no vector of its own."""
    try:
        at = find_word(encoded, start, end)
    except ValueError:  # a piece reaches into the next word
        return ()
    return () if any(encoded.ids[i] == scorer.unknown_id for i in at) else at


def allotted(
    places: Mapping[Form, Sequence[Place]], rng: np.random.Generator, *, fewest: int, most: int
) -> dict[Form, list[Place]]:
    """Give each form at most `most` texts of its own, drawn at random, the rarest form first.

    A form that would have fewer than `fewest` keeps none from the others.
    """
    taken: set[int] = set()
    out = {}
    for form in sorted(places, key=lambda f: len(places[f])):
        free = [p for p in places[form] if p[0] not in taken]
        drawn = sorted(rng.permutation(len(free))[:most])
        out[form] = [free[k] for k in drawn]
        if len(drawn) >= fewest:
            taken.update(p[0] for p in out[form])
    return out


def vectors(scorer: Scorer, texts: Sequence[str], places: Iterable[Place]) -> dict[Place, Array]:
    """Return the unit vector (hidden,) of each place; the states of some texts at a time."""
    wanted: dict[int, list[Place]] = {}
    for place in places:
        wanted.setdefault(place[0], []).append(place)
    lengths = {i: len(e.ids) for i, e in zip(wanted, scorer.encode([texts[i] for i in wanted]), strict=True)}
    out: dict[Place, Array] = {}
    block: list[int] = []

    def read() -> None:
        for i, states in zip(block, scorer.hidden_states([texts[i] for i in block]), strict=True):
            for place in wanted[i]:
                out[place] = unit(np.asarray(states, np.float64)[list(place[1])].mean(axis=0))
        block.clear()

    for i in sorted(wanted, key=lambda i: lengths[i]):
        if block and (len(block) + 1) * lengths[i] > _BLOCK:
            read()
        block.append(i)
    if block:
        read()
    return out
