"""What a swapped word does to the attribution of the words that stay.

F(a) - F(b) of two sentences that differ in one word falls into two parts, each the difference of two
ordinary attributions from the same neutral baseline: what lies on the swapped word, and what lies on
the words that stay. To explain one sentence with the other as baseline would tell nothing: all of it
falls on the swapped word, whatever the model does, and such attributions are refused.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from albert_audit.explain.identity import check_baselines
from albert_audit.explain.types import Attribution
from albert_audit.types import UsageError

SAME = 1e-3
"""How far the outputs at the two baselines may lie apart, as a part of the larger change."""


@dataclass(frozen=True, eq=False)
class Pair:
    """Two sentences that differ in a term, explained in the same way.

    Attributes
    ----------
    first, second : Attribution
    contrast : str
        Which groups, such as ``female-vs-male``; `first` holds the first.
    template, term : str
        Ids; `term` is of the pair of terms.
    """

    first: Attribution
    second: Attribution
    contrast: str
    template: str
    term: str


@dataclass(frozen=True)
class Kept:
    """A word that stays.

    Attributes
    ----------
    word : str
    first, second : float
        Its value in either sentence.
    leads : tuple of (bool, bool)
        Whether no other word of the first, of the second sentence has a larger |value|.
    """

    word: str = field(repr=False)
    first: float
    second: float
    leads: tuple[bool, bool]


@dataclass(frozen=True)
class Shift:
    """What became of one pair.

    Attributes
    ----------
    change : float
        F(first) - F(second), in the target's unit.
    swapped, kept : float
        Sums of first minus second over the swapped words' tokens, and over all others; for an
        attribution that sums to the output they add up to `change`.
    absolute : float
        Sum over the words that stay of |first minus second|; never below 0, so it has no null of 0.
    words : tuple of Kept
        The words that stay; punctuation is none.
    skipped : str
        Why there is none of it; empty when there is.
    """

    change: float = math.nan
    swapped: float = math.nan
    kept: float = math.nan
    absolute: float = math.nan
    words: tuple[Kept, ...] = field(default=(), repr=False)
    skipped: str = ""


def _positions(pair: Pair) -> tuple[list[int], str]:
    """Return the positions of the swapped words' tokens, or the reason that the two cannot be aligned."""
    a, b = pair.first, pair.second
    if len(a.ids) != len(b.ids):
        return [], f"not alignable: {len(a.ids)} and {len(b.ids)} pieces"
    if a.type_ids != b.type_ids or a.special != b.special:
        return [], "not alignable: segments or special tokens stand at other places"
    differ = [i for i, (x, y) in enumerate(zip(a.ids, b.ids, strict=True)) if x != y]
    if not differ:
        return [], "the two sentences have the same pieces"
    # A piece that the two words share belongs to the swapped word all the same.
    ours = {a.words[i] for i in differ}
    theirs = {b.words[i] for i in differ}
    swapped = [
        i for i in range(len(a.ids)) if not a.special[i] and (a.words[i] in ours or b.words[i] in theirs)
    ]
    if len(swapped) == len(a.ids) - sum(a.special):
        return [], "not alignable: no word stays"
    return swapped, ""


def shifts(pairs: Sequence[Pair]) -> list[Shift]:
    """Return what the swap does in each pair, in their order.

    Raises
    ------
    UsageError
        When methods or baselines are mixed, or the baseline of a pair is not one and the same: its two
        outputs at the baseline differ by more than `SAME` of the larger change, as they do where each
        sentence is the other's baseline.

    Notes
    -----
    Sentences are aligned by their ids, place by place. Terms of unequal piece counts move what stands
    behind them to other positions, so that a shift there would be one of positions: they are skipped
    with the reason.
    """
    check_baselines(x for p in pairs for x in (p.first, p.second))
    return [_shift(p) for p in pairs]


def _shift(pair: Pair) -> Shift:
    a, b = pair.first, pair.second
    if reasons := dict.fromkeys((*a.reasons, *b.reasons)):
        return Shift(skipped="; ".join(reasons))
    if a.target != b.target:
        return Shift(skipped="the two explain different targets")
    swapped, why = _positions(pair)
    if why:
        return Shift(skipped=why)
    apart = abs(a.output_baseline - b.output_baseline)
    if apart > SAME * max(abs(a.change), abs(b.change), 1e-3):
        raise UsageError(
            f"expected one baseline for both sentences of a pair, found outputs at the baseline "
            f"{apart:.3g} apart",
            "with the other sentence as baseline all mass lies on the swapped word by construction; "
            "explain both from pads, or both from masks",
        )
    difference = np.asarray(a.values, np.float64) - np.asarray(b.values, np.float64)
    out = np.isin(np.arange(len(difference)), swapped)
    words = _kept(a, b, out)
    return Shift(
        change=a.output - b.output,
        swapped=float(difference[out].sum()),
        kept=float(difference[~out].sum()),
        absolute=math.fsum(abs(w.first - w.second) for w in words),
        words=words,
    )


def _kept(a: Attribution, b: Attribution, swapped: NDArray[np.bool_]) -> tuple[Kept, ...]:
    largest = [max(abs(v) for n, v in _letters(x)) for x in (a, b)]
    out = []
    for name, group in zip(a.word_values()[0], a.groups(), strict=True):
        at = list(group)
        if a.words[at[0]] < 0 or swapped[at].any() or not any(c.isalnum() for c in name):
            continue
        first, second = (math.fsum(x.values[at]) for x in (a, b))
        leads = (abs(first) >= largest[0] > 0, abs(second) >= largest[1] > 0)
        out.append(Kept(name.lower(), first, second, leads))
    return tuple(out)


def _letters(a: Attribution) -> list[tuple[str, float]]:
    names, values = a.word_values()
    return [
        (n, float(v))
        for n, v, g in zip(names, values, a.groups(), strict=True)
        if a.words[g[0]] >= 0 and any(c.isalnum() for c in n)
    ] or [("", 0.0)]
