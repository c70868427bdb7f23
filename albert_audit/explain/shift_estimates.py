"""From the shifts of single pairs to estimates by contrast and by word, tested by turning signs."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from albert_audit.explain.identity_estimates import clusters_of
from albert_audit.explain.shift import Pair, Shift
from albert_audit.stats import Design, estimate
from albert_audit.stats.exchange import sign_flip
from albert_audit.types import Estimate


@dataclass(frozen=True)
class Moved:
    """The mean of one part of the change over the pairs of a contrast.

    Attributes
    ----------
    part : str
        ``change``, ``swapped`` or ``kept``.
    estimate : Estimate or None
        Its p-value is that of `stats.exchange.sign_flip`; None where no pair could be aligned.
    n : int
        Pairs.
    skipped : dict
        Reasons and how often.
    """

    contrast: str
    part: str
    estimate: Estimate | None
    n: int
    skipped: dict[str, int]


@dataclass(frozen=True)
class WordMoved:
    """What a word that stays contributes in the sentences of one group and of the other.

    Attributes
    ----------
    word : str
        In lower case; not shown by ``repr``.
    estimate : Estimate
        Mean of first minus second over pairs.
    first, second : float
        Means.
    leads : tuple of (int, int)
        In how many pairs it has the largest |value| of the first sentence but not of the second, and the
        other way round: what decides for one group and not for the other.
    n, templates : int
    """

    contrast: str
    word: str = field(repr=False)
    estimate: Estimate
    first: float
    second: float
    leads: tuple[int, int]
    n: int
    templates: int


def moved(
    pairs: Sequence[Pair],
    found: Sequence[Shift],
    rng: np.random.Generator,
    *,
    clusters: Sequence[str] = ("template", "term"),
    comparisons: int = 1,
) -> list[Moved]:
    """Estimate by contrast how far the swap changes the output, and on which words that lies.

    Parameters
    ----------
    pairs, found : sequences of one length
        `found` of `shift.shifts`.
    clusters : sequence of str
        As in `identity_estimates.excess`. The test turns the signs of whole clusters; with two clusterings the
        larger of the two p-values counts. Holm's correction is the caller's.
    """
    rows = _table(pairs, found)
    out = []
    for contrast, part in rows.groupby("contrast", sort=True):
        scored = part[part["skipped"] == ""]
        why = {str(k): int(v) for k, v in part.loc[part["skipped"] != "", "skipped"].value_counts().items()}
        for name in ("change", "swapped", "kept"):
            value = _tested(scored, name, clusters, comparisons, rng) if len(scored) else None
            out.append(Moved(str(contrast), name, value, len(scored), why))
    return out


def words_moved(
    pairs: Sequence[Pair],
    found: Sequence[Shift],
    rng: np.random.Generator,
    *,
    least: int = 2,
    clusters: Sequence[str] = ("template", "term"),
) -> list[WordMoved]:
    """Estimate by contrast and word that stays how its contribution differs between the groups.

    Parameters
    ----------
    least : int
        Pairs that a word must stand in; rarer ones are left out.

    Returns
    -------
    list of WordMoved
        By contrast, the largest difference first. So many words are looked at that only p-values
        corrected for all of them say anything.
    """
    seen: dict[tuple[str, str], list[dict[str, object]]] = defaultdict(list)
    for pair, shift in zip(pairs, found, strict=True):
        for k in shift.words:
            seen[pair.contrast, k.word].append(
                {"template": pair.template, "term": pair.term, "first": k.first, "second": k.second,
                 "value": k.first - k.second, "one": k.leads[0] and not k.leads[1],
                 "two": k.leads[1] and not k.leads[0]}
            )  # fmt: skip
    out = []
    for (contrast, word), listed in seen.items():
        if len(listed) < least:
            continue
        t = pd.DataFrame(listed)
        out.append(
            WordMoved(
                contrast, word, _tested(t, "value", clusters, 1, rng), float(t["first"].mean()),
                float(t["second"].mean()), (int(t["one"].sum()), int(t["two"].sum())), len(t),
                int(t["template"].nunique()),
            )
        )  # fmt: skip
    return sorted(out, key=lambda w: (w.contrast, -abs(w.estimate.value), w.word))


def _table(pairs: Sequence[Pair], found: Sequence[Shift]) -> pd.DataFrame:
    return pd.DataFrame(
        [
            {"contrast": p.contrast, "template": p.template, "term": p.term, "change": s.change,
             "swapped": s.swapped, "kept": s.kept, "skipped": s.skipped}
            for p, s in zip(pairs, found, strict=True)
        ]
    )  # fmt: skip


def _tested(
    rows: pd.DataFrame, column: str, clusters: Sequence[str], comparisons: int, rng: np.random.Generator
) -> Estimate:
    values, sides = rows[column].to_numpy(np.float64), clusters_of(rows, clusters)
    bare = estimate(Design.mean(sides).fit(values), comparisons=comparisons)
    p = max(sign_flip(values, side, rng).p for side in sides)
    return bare.model_copy(update={"p": p})
