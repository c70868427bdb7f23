"""How far an attribution depends on the method, and on the baseline.

Methods that disagree leave open which is right; methods that agree may share a mistake. Agreement is
shown as uncertainty, never as proof.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from albert_audit.explain.types import Attribution
from albert_audit.stats import Design, estimate
from albert_audit.types import Estimate, UsageError

Array = NDArray[np.float64]
SHARE = 0.2
LEAST = 4
"""Words below which ranks say next to nothing."""


@dataclass(frozen=True)
class Agreement:
    """How alike two attributions of the same sentences are, over a corpus.

    Attributes
    ----------
    first, second : str
        Method and baseline.
    overlap : Estimate or None
        Share of the top words, by |value|, that the two have in common.
    chance : float
        What two random orders would have in common.
    tau : Estimate or None
        Kendall's tau-b of the signed word values.
    same_sign : Estimate or None
        Share of the common top words with the same sign.
    n : int
        Sentences.
    skipped : dict
        Reasons and how often.
    rows : DataFrame
        One a sentence: ``text, overlap, chance, tau, same_sign, skipped``.
    """

    first: str
    second: str
    overlap: Estimate | None
    chance: float
    tau: Estimate | None
    same_sign: Estimate | None
    n: int
    skipped: dict[str, int]
    rows: pd.DataFrame


def agreement(
    first: Sequence[Attribution],
    second: Sequence[Attribution],
    *,
    clusters: Sequence[str] | None = None,
    share: float = SHARE,
) -> Agreement:
    """Compare two methods, or one method from two baselines, on the same sentences.

    Parameters
    ----------
    first, second : sequences of Attribution, of one length and order
    clusters : sequence of str, optional
        The template or text of each; each its own when left out.
    share : float
        Part of the words that are the top; at least one.

    Raises
    ------
    UsageError
        When the two are not of the same inputs and targets.

    Notes
    -----
    Whole words, as methods spread a word's value differently over its pieces. Special tokens and
    punctuation take no part. Source of the two measures: Krishna et al. (2022), The Disagreement Problem;
    of the warning not to take them for quality: Neely et al. (2021), Order in the Court.
    """
    names = [str(i) for i in range(len(first))] if clusters is None else list(clusters)
    if not first or not len(first) == len(second) == len(names):
        raise UsageError(
            f"expected equally many attributions and clusters, found {len(first)}, {len(second)}, {len(names)}",
            "explain the same texts in the same order",
        )
    for i, (a, b) in enumerate(zip(first, second, strict=True)):
        if (a.ids, a.type_ids, a.target) != (b.ids, b.type_ids, b.target):
            raise UsageError(
                f"expected the same input and target, found two others at place {i}",
                "explain the same texts in the same order",
            )
    rows = pd.DataFrame(
        [_compared(i, a, b, share) for i, (a, b) in enumerate(zip(first, second, strict=True))]
    ).reindex(columns=["text", "overlap", "chance", "tau", "same_sign", "skipped"])
    rows["cluster"] = names

    def mean(column: str) -> Estimate | None:
        part = rows.dropna(subset=[column])
        if part.empty:
            return None
        return estimate(Design.mean([part["cluster"].to_numpy()]).fit(part[column].to_numpy(np.float64)))

    scored = rows[rows["skipped"] == ""]
    return Agreement(
        _label(first[0]), _label(second[0]), mean("overlap"),
        float(scored["chance"].mean()) if len(scored) else float("nan"), mean("tau"), mean("same_sign"),
        len(scored), dict(Counter(r for r in rows["skipped"] if r)), rows,
    )  # fmt: skip


def kendall(x: Array, y: Array) -> float:
    """Return Kendall's tau-b of two vectors (n,); NaN where one does not vary."""
    i, j = np.triu_indices(len(x), 1)
    dx, dy = np.sign(x[i] - x[j]), np.sign(y[i] - y[j])
    scale = float(np.sqrt((dx**2).sum() * (dy**2).sum()))
    return float((dx * dy).sum() / scale) if scale > 0 else float("nan")


def _label(a: Attribution) -> str:
    return f"{a.method}, baseline {a.baseline}"


def _values(a: Attribution) -> Array:
    """Return the signed values of the words, punctuation and special tokens left out."""
    names, values = a.word_values()
    kept = [
        a.words[g[0]] >= 0 and any(c.isalnum() for c in n) for n, g in zip(names, a.groups(), strict=True)
    ]
    return np.asarray(values, np.float64)[kept]


def _compared(text: int, a: Attribution, b: Attribution, share: float) -> dict[str, object]:
    x, y = _values(a), _values(b)
    why = "; ".join(dict.fromkeys((*a.reasons, *b.reasons)))
    if not why and len(x) < LEAST:
        why = f"{len(x)} words: ranks of fewer than {LEAST} say next to nothing"
    if not why and (np.ptp(x) == 0 or np.ptp(y) == 0):
        why = "all words have the same value"
    if why:
        return {"text": text, "skipped": why}
    k = max(1, int(share * len(x) + 0.5))
    tops = [set(np.argsort(-np.abs(v), kind="stable")[:k].tolist()) for v in (x, y)]
    common = sorted(tops[0] & tops[1])
    same = float(np.mean(np.sign(x[common]) == np.sign(y[common]))) if common else float("nan")
    return {
        "text": text, "overlap": len(common) / k, "chance": k / len(x), "tau": kendall(x, y),
        "same_sign": same, "skipped": "",
    }  # fmt: skip
