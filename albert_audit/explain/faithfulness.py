"""Whether the tokens that an attribution puts first matter more to the model than tokens drawn at random.

Tokens are taken out of the ids that were explained, never out of text: text that is decoded and
tokenised again can fall into other pieces. An edited sentence is one that the model was not made for
(a row of masks, half a sentence); so two edits are tried, each beside random orders that are edited in
the same way, and what is judged is the difference from those.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from albert_audit.explain.edits import EDITS, Asked, Edit, Outputs
from albert_audit.explain.types import Attribution
from albert_audit.stats import Design, estimate
from albert_audit.types import Estimate, UsageError

Array = NDArray[np.float64]
Metric = Literal["comprehensiveness", "sufficiency"]

FRACTIONS = (0.1, 0.2, 0.5)
METRICS: tuple[Metric, ...] = ("comprehensiveness", "sufficiency")
ORDERS = 10
LEAST = 4
"""Content tokens below which the fractions fall together and an order says next to nothing."""
FLOOR = 1e-3
"""In the target's unit: below it an output did not move, or no order differs from another."""


@dataclass(frozen=True)
class Faithfulness:
    """What was found over a corpus.

    Attributes
    ----------
    rows : DataFrame
        One a text, edit and metric: ``at_10`` and so on, their mean ``value``; the same mean of the
        random orders (``random``), of the worst and the best order known; ``normalised``, 0 for the worst
        and 1 for the best, outside of which it may fall; ``gain``, how much better than random, in the
        target's unit; ``skipped``, why there is no figure.
    gain, normalised : dict
        Of (edit, metric): the mean over texts, its interval by clusters.
    reasons : tuple of str
        Why the attributions cannot be called faithful; empty when every gain is above 0.
    """

    rows: pd.DataFrame = field(repr=False)
    gain: dict[tuple[Edit, Metric], Estimate]
    normalised: dict[tuple[Edit, Metric], Estimate]
    reasons: tuple[str, ...]

    @property
    def valid(self) -> bool:
        """Whether the order beat random ones by every edit and metric."""
        return not self.reasons


def faithfulness(
    attributions: Sequence[Attribution],
    outputs: Outputs,
    *,
    mask_id: int,
    clusters: Sequence[str] | None = None,
    fixed: Sequence[Collection[int]] | None = None,
    fractions: Sequence[float] = FRACTIONS,
    edits: Sequence[Edit] = EDITS,
    orders: int = ORDERS,
    seed: int = 0,
) -> Faithfulness:
    """Measure comprehensiveness and sufficiency of a corpus' attributions, in two calls of the model.

    Parameters
    ----------
    attributions : sequence of Attribution
        Of one method and baseline, their targets in one unit.
    outputs : callable
        The model; see `edits.outputs_of`. It is called twice.
    mask_id : int
    clusters : sequence of str, optional
        The template or text each belongs to; each its own when left out.
    fixed : sequence of collections of int, optional
        For each the positions that must stay, such as the one a target is read at. Special tokens and
        masks stay in any case.
    fractions : sequence of float
        Shares of the content tokens that are taken out, or left in; one token at least.
    orders : int
        Random orders a text, drawn by `seed` and the place of the text: every method meets the same.

    Returns
    -------
    Faithfulness

    Raises
    ------
    UsageError
        When the lists disagree in length, methods or baselines are mixed, or a fraction is not between
        0 and 1.

    Notes
    -----
    Comprehensiveness is F(x) - F(x without the first k), sufficiency F(x) - F(only the first k), each
    the mean over `fractions`, and counted in the direction in which the content moves the output:
    by the sign of F(x) - F(no content), and tokens ordered by their values times this sign. Equal values
    are put in a random order.

    The worst and the best order known are, by text and edit, among that of the single-token effects
    F(x) - F(x without i), its reverse and the random ones. They are bounds found, not bounds proved.

    The verdict asks for an interval (95 %, by clusters) above 0 for every edit and metric. All must hold,
    so that no correction is needed.

    Source: DeYoung et al. (2020), ERASER, for the two metrics; Edin et al. (2024), Normalized AOPC, for
    limits by input; Hase et al. (2021) for inputs that the model was not made for.
    """
    names = [str(i) for i in range(len(attributions))] if clusters is None else list(clusters)
    held: list[Collection[int]] = [()] * len(attributions) if fixed is None else list(fixed)
    _check(attributions, names, held, fractions, orders)
    content = [_content(a, mask_id, f) for a, f in zip(attributions, held, strict=True)]
    asked = Asked(attributions, outputs, mask_id)
    usable = [
        i for i, (a, c) in enumerate(zip(attributions, content, strict=True)) if a.valid and len(c) >= LEAST
    ]
    asked.ask(
        (i, edit, removed)
        for i in usable
        for edit in edits
        for removed in [(), tuple(content[i]), *((t,) for t in content[i])]
    )
    plans = {(i, edit): _plan(i, edit, attributions[i], content[i], asked, orders, seed)
             for i in usable for edit in edits}  # fmt: skip
    asked.ask(
        (i, edit, removed)
        for (i, edit), plan in plans.items()
        for order in plan.orders
        for cut in _cuts(len(order), fractions)
        for removed in (order[:cut], order[cut:])
    )
    rows = []
    for i, a in enumerate(attributions):
        for edit in edits:
            found = plans.get((i, edit))
            why = "; ".join(a.reasons) if not a.valid else _too_few(content[i])
            for metric in METRICS:
                row = {"text": i, "cluster": names[i], "edit": edit, "metric": metric}
                scores = _scored(i, edit, metric, found, asked, fractions) if found else {"skipped": why}
                rows.append(row | scores)
    return _judged(pd.DataFrame(rows), edits, fractions)


# --- one text ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Plan:
    """The orders of a text: the attribution's own, random ones, by single-token effects both ways."""

    sign: float
    orders: list[tuple[int, ...]]


def _content(a: Attribution, mask_id: int, fixed: Collection[int]) -> list[int]:
    return [
        i
        for i, (t, s) in enumerate(zip(a.ids, a.special, strict=True))
        if not s and t != mask_id and i not in fixed
    ]


def _too_few(content: Sequence[int]) -> str:
    return f"{len(content)} content tokens: an order of fewer than {LEAST} says next to nothing"


def _cuts(n: int, fractions: Sequence[float]) -> list[int]:
    return [max(1, int(f * n + 0.5)) for f in fractions]


def _plan(
    text: int, edit: Edit, a: Attribution, content: list[int], asked: Asked, orders: int, seed: int
) -> _Plan:
    rng = np.random.default_rng([seed, text])
    at, full = np.array(content), asked.answer(text, edit, ())
    shuffled = [tuple(rng.permutation(at).tolist()) for _ in range(orders)]
    moved = full - asked.answer(text, edit, content)
    sign = 1.0 if moved > 0 else -1.0
    if abs(moved) < FLOOR:
        return _Plan(0.0, [])
    single = sign * np.array([full - asked.answer(text, edit, (t,)) for t in content])
    ties = rng.random(len(at))  # an order by position would favour what stands first

    def descending(values: Array) -> tuple[int, ...]:
        return tuple(at[np.lexsort((ties, -values))].tolist())

    own = descending(sign * np.asarray(a.values, np.float64)[at])
    return _Plan(sign, [own, *shuffled, descending(single), descending(-single)])


def _scored(
    text: int, edit: Edit, metric: Metric, plan: _Plan, asked: Asked, fractions: Sequence[float]
) -> dict[str, float | str]:
    if not plan.orders:
        return {"skipped": f"taking all content out moves the output by less than {FLOOR}"}
    full, cuts = asked.answer(text, edit, ()), _cuts(len(plan.orders[0]), fractions)
    first = metric == "comprehensiveness"
    table = plan.sign * np.array(
        [[full - asked.answer(text, edit, o[:c] if first else o[c:]) for c in cuts] for o in plan.orders]
    )
    means = table.mean(axis=1)
    rest, random = means[1:], float(means[1:-2].mean())
    best, worst = (rest.max(), rest.min()) if first else (rest.min(), rest.max())
    out: dict[str, float | str] = {
        f"at_{round(100 * f)}": float(v) for f, v in zip(fractions, table[0], strict=True)
    }
    spread = float(best - worst)
    return out | {
        "value": float(means[0]), "random": random, "worst": float(worst), "best": float(best),
        "normalised": float((means[0] - worst) / spread) if abs(spread) >= FLOOR else float("nan"),
        "gain": float(means[0] - random) if first else float(random - means[0]), "skipped": "",
    }  # fmt: skip


# --- the corpus ------------------------------------------------------------------------------------


def _judged(rows: pd.DataFrame, edits: Sequence[Edit], fractions: Sequence[float]) -> Faithfulness:
    at = [f"at_{round(100 * f)}" for f in fractions]
    columns = ["text", "cluster", "edit", "metric", *at, "value", "random", "worst", "best", "normalised"]
    table = rows.reindex(columns=[*columns, "gain", "skipped"])
    gain, normalised, reasons = {}, {}, []
    for edit in edits:
        for metric in METRICS:
            part = table[(table["edit"] == edit) & (table["metric"] == metric)]
            scored = part.dropna(subset=["gain"])
            if scored.empty:
                reasons.append(f"{metric} by {edit}: no text could be scored")
                continue
            gain[edit, metric] = _mean(scored, "gain")
            if len(ranged := scored.dropna(subset=["normalised"])):
                normalised[edit, metric] = _mean(ranged, "normalised")
            if why := _doubt(gain[edit, metric], scored["cluster"].nunique()):
                reasons.append(f"{metric} by {edit}: {why}")
    return Faithfulness(table, gain, normalised, tuple(reasons))


def _mean(rows: pd.DataFrame, column: str) -> Estimate:
    return estimate(Design.mean([rows["cluster"].to_numpy()]).fit(rows[column].to_numpy(np.float64)))


def _doubt(found: Estimate, clusters: int) -> str:
    if not found.intervals:
        return f"{clusters} templates or texts give no interval; at least 9 are needed"
    interval = found.intervals["0.95"]
    if interval.low > 0:
        return ""
    return (
        f"not better than random orders: gain {found.value:+.3g}, "
        f"95 % interval {interval.low:+.3g} to {interval.high:+.3g}"
    )


def _check(
    attributions: Sequence[Attribution],
    names: Sequence[str],
    held: Sequence[Collection[int]],
    fractions: Sequence[float],
    orders: int,
) -> None:
    if not attributions or not len(names) == len(held) == len(attributions):
        raise UsageError(
            f"expected a cluster and fixed positions for each of {len(attributions)} attributions, "
            f"found {len(names)} and {len(held)}",
            "give lists of one length, not empty",
        )
    kinds = sorted({f"{a.method}, baseline {a.baseline}" for a in attributions})
    if len(kinds) > 1:
        raise UsageError(
            f"expected one method and baseline, found {'; '.join(kinds)}",
            "judge each by itself",
        )
    if orders < 2 or not fractions or not all(0 < f < 1 for f in fractions):
        raise UsageError(
            f"expected fractions between 0 and 1 and two random orders at least, found {tuple(fractions)} "
            f"and {orders}",
            "the defaults serve",
        )
