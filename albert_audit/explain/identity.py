"""How much of an attribution lies on words for a group of people, beside what a matched word gets.

A share alone says nothing: it depends on the length of the sentence, on the pieces of the word and on
where it stands. So each share has a null: what other content words of the same sentence get, matched on
pieces and nearness (``words``), or what neutral words get in the same slot (``variants``). The two answer
different questions. A slot can weigh more than the words around it whoever stands in it: an excess over
``words`` says that the slot matters, and only an excess over ``variants`` speaks of the group.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from functools import cache
from importlib.resources import files
from typing import Literal

import numpy as np
import pandas as pd
import yaml
from numpy.typing import NDArray

from albert_audit.explain.types import BASELINES, Attribution
from albert_audit.types import UsageError

Array = NDArray[np.float64]
Metric = Literal["share", "signed", "contribution"]
Null = Literal["words", "variants"]

METRICS: tuple[Metric, ...] = ("share", "signed", "contribution")
NULLS: tuple[Null, ...] = ("words", "variants")
FLOOR = 0.1
"""In the target's unit: a share of less than this is a division by next to nothing, and is not told."""
COLUMNS = ("case", "group", "template", "term", "metric", "null", "observed", "expected", "value", "skipped")


@dataclass(frozen=True, eq=False)
class Case:
    """A sentence with a word for a group, explained.

    Attributes
    ----------
    attribution : Attribution
    words : tuple of int
        The indices of the term's words in ``attribution.words``; see `words_at`.
    group, template, term : str
        Ids. Sentences of one template, and of one term, are not independent.
    variants : tuple of (Attribution, tuple of int)
        The same sentence with neutral words in the slot, and their word indices.
    """

    attribution: Attribution
    words: tuple[int, ...]
    group: str
    template: str
    term: str
    variants: tuple[tuple[Attribution, tuple[int, ...]], ...] = field(default=(), repr=False)


def words_at(attribution: Attribution, start: int, end: int, *, second: bool = False) -> tuple[int, ...]:
    """Return the indices of the words that touch the characters [start, end).

    Parameters
    ----------
    second : bool
        Of the pair's second text.

    Raises
    ------
    UsageError
        When no word stands there.
    """
    a = attribution
    segment = int(second and a.pair is not None)
    found = {
        w
        for w, (s, e), t in zip(a.words, a.offsets, a.type_ids, strict=True)
        if w >= 0 and s < end and e > start and (a.pair is None or t == segment)
    }
    if not found:
        raise UsageError(f"expected a word at characters {start}-{end}, found none", "check the span")
    return tuple(sorted(found))


@cache
def function_words(language: str) -> frozenset[str]:
    """Return the listed words of closed classes, in lower case; none for a language without a list."""
    lists = yaml.safe_load(files(__package__).joinpath("function_words.yaml").read_text(encoding="utf-8"))
    return frozenset(lists.get(language, "").split())


# --- one sentence ----------------------------------------------------------------------------


@dataclass(frozen=True)
class _Word:
    index: int
    place: int
    pieces: int
    value: float
    function: bool


def _words(a: Attribution, language: str) -> list[_Word]:
    """Return the words in order; punctuation is none."""
    names, values = a.word_values()
    closed = function_words(language)
    out: list[_Word] = []
    for name, value, group in zip(names, values, a.groups(), strict=True):
        index = a.words[group[0]]
        if index >= 0 and any(c.isalnum() for c in name):
            out.append(_Word(index, len(out), len(group), float(value), name.lower() in closed))
    return out


def _matched(term: Sequence[_Word], words: Sequence[_Word]) -> list[list[_Word]]:
    """Return for each word of the term the nearest others of as many pieces; empty where one has none.

    A function word (a pronoun) is matched with function words, any other with content words. Two that
    are equally near both serve. A word serves once.
    """
    free = [w for w in words if w not in term]
    out = []
    for t in term:
        fit = [w for w in free if w.pieces == t.pieces and w.function == t.function]
        if not fit:
            return []
        near = min(abs(w.place - t.place) for w in fit)
        chosen = [w for w in fit if abs(w.place - t.place) == near]
        free = [w for w in free if w not in chosen]
        out.append(chosen)
    return out


def _denominator(words: Sequence[_Word], term: Sequence[_Word]) -> float:
    return sum(abs(w.value) for w in words if not w.function or w in term)


def _score(a: Attribution, indices: Collection[int], metric: Metric, language: str, floor: float) -> float:
    """Return one sentence's figure; raises ValueError with the reason there is none."""
    if not a.valid:
        raise ValueError("; ".join(a.reasons))
    words = _words(a, language)
    term = [w for w in words if w.index in indices]
    if len(term) < len(set(indices)):
        raise ValueError("the term holds a word without letters, or one that is not there")
    return _part(term, words, a, metric, floor)


def _part(
    part: Sequence[_Word], words: Sequence[_Word], a: Attribution, metric: Metric, floor: float
) -> float:
    signed = sum(w.value for w in part)
    if metric == "contribution":
        return signed
    if metric == "signed":
        if abs(a.change) < floor:
            raise ValueError(
                f"the output moves by less than {floor:g} from the baseline: no share of it is told"
            )
        return signed / a.change
    if not any(not w.function for w in words if w not in part):
        raise ValueError("no other content word in the sentence: the share is 1 by construction")
    total = _denominator(words, part)
    if total < max(floor, 1e-12):
        raise ValueError(f"content words contribute less than {floor:g} in all: no share of it is told")
    return sum(abs(w.value) for w in part) / total


def _pair(case: Case, metric: Metric, null: Null, language: str, floor: float) -> tuple[float, float]:
    """Return observed and expected; raises ValueError with the reason there are none."""
    a = case.attribution
    observed = _score(a, case.words, metric, language, floor)
    if null == "variants":
        if not case.variants:
            raise ValueError("no neutral words were given for the slot")
        found, why = [], ""
        for variant, at in case.variants:
            try:
                found.append(_score(variant, at, metric, language, floor))
            except ValueError as reason:
                why = f"with every neutral word in the slot: {reason}"
        if not found:
            raise ValueError(why)
        return observed, float(np.mean(found))
    words = _words(a, language)
    term = [w for w in words if w.index in case.words]
    matches = _matched(term, words)
    if not matches:
        raise ValueError("no other word of the sentence has as many pieces")
    if metric == "share":
        total = _denominator(words, term)
        return observed, sum(float(np.mean([abs(w.value) for w in m])) for m in matches) / total
    total = a.change if metric == "signed" else 1.0
    return observed, sum(float(np.mean([w.value for w in m])) for m in matches) / total


# --- a corpus -----------------------------------------------------------------------------------


def shares(cases: Sequence[Case], *, language: str, floor: float = FLOOR) -> pd.DataFrame:
    """Return the shares of the terms beside both nulls, one row a case, metric and null.

    Parameters
    ----------
    cases : sequence of Case
        Of one target, method and baseline.
    language : str
        Whose function words are no content words: ``en``, ``zh``; all words are content for others.
    floor : float
        See `FLOOR`; ``contribution`` has none.

    Returns
    -------
    DataFrame
        `COLUMNS`. ``observed`` is, for ``share``, the term's part of the sum of |word attribution| over
        content words and the term; for ``signed``, the sum of the term's values over F(x) - F(baseline);
        for ``contribution``, that sum itself, in the target's unit. Sentences and variants below the floor
        have no shares, which is a choice by outcome; ``contribution`` is there for every sentence.
        ``value`` is observed minus expected. Nothing is dropped: ``skipped`` holds the reason.

    Raises
    ------
    UsageError
        When methods or baselines are mixed, or a baseline is another sentence: then all mass lies on the
        words in which the two differ, whatever the model does.
    """
    check_baselines(a for c in cases for a in (c.attribution, *(v for v, _ in c.variants)))
    rows = []
    for i, case in enumerate(cases):
        for metric in METRICS:
            for null in NULLS:
                observed = expected = float("nan")
                why = ""
                try:
                    observed, expected = _pair(case, metric, null, language, floor)
                except ValueError as reason:
                    why = str(reason)
                rows.append(
                    (i, case.group, case.template, case.term, metric, null, observed, expected,
                     observed - expected, why)
                )  # fmt: skip
    return pd.DataFrame(rows, columns=list(COLUMNS))


def check_baselines(attributions: Iterable[Attribution]) -> None:
    """Refuse attributions that are not of one method, or whose baseline is not pads or masks.

    Raises
    ------
    UsageError
    """
    found = {(a.method, a.baseline) for a in attributions}
    strange = sorted({str(b) for _, b in found} - set(BASELINES))
    if strange:
        raise UsageError(
            f"expected a baseline among {', '.join(BASELINES)}, found {', '.join(strange)}",
            "from another sentence as baseline all mass lies on the words in which the two differ, by "
            "construction; explain both sentences from the same neutral baseline",
        )
    if len(found) > 1:
        named = "; ".join(sorted(f"{m}, baseline {b}" for m, b in found))
        raise UsageError(f"expected one method and baseline, found {named}", "compare like with like")
