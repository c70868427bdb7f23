"""What a measure is: rows, one number each, and the statistics that are made of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import pandas as pd

from albert_audit.model.scorer import Scorer
from albert_audit.packs import Pack
from albert_audit.stats import Design
from albert_audit.types import Ability, Estimate

COLUMNS = (
    "pack", "measure", "axis", "contrast", "group", "item", "cluster_a", "cluster_b", "role",
    "covariate", "value", "unit", "skipped",
)  # fmt: skip
TIE = 1e-4
"""Differences up to this are ties: batching and devices may change a score by as much."""


Kind = Literal["mean", "slope", "share", "rate", "net", "contrast", "rate_contrast", "linear", "custom"]


@dataclass(frozen=True)
class Outcome:
    """What an estimator of its own returns.

    Attributes
    ----------
    estimate : Estimate
    counts : tuple of (int, float)
        For each clustering the number of clusters, and how many equal ones they are worth.
    details : dict
        Supporting figures.
    """

    estimate: Estimate
    counts: tuple[tuple[int, float], ...]
    details: dict[str, float] = field(default_factory=dict)


Estimator = Callable[[pd.DataFrame, int, np.random.Generator], Outcome]
"""``estimator(rows, comparisons, rng)``: from the probe's scored rows, for what has no closed form."""


@dataclass(frozen=True)
class Statistic:
    """One finding for each axis and contrast that a measure's rows hold.

    Attributes
    ----------
    name : str
        The finding's measure.
    rows : str
        The measure of the rows it is made of.
    kind : str
        Of the items' values: ``mean``; ``slope`` on the covariate; ``share`` above zero (ties one
        half, null 0.5); ``rate`` of ones (null 0); ``net`` of -1, 0 and 1; ``contrast``, the mean of
        the rows whose group is the contrast's first less those of its second; ``rate_contrast``, the
        same for zeros and ones; ``linear``, by `design`; ``custom``, by `estimator`.
    crossed : bool
        Whether `cluster_a` and `cluster_b` are crossed; else only `cluster_a` clusters.
    estimand, title : str
        Formatted with `axis`, `first` and `second` (the contrast's two sides) and `pack`.
    min_covariate : float
        Only items whose covariate reaches this; names another contrast, see `contrast`.
    only : tuple of str
        The axes, or the contrasts, it is formed for; all when empty.
    upward : bool
        Whether noise alone makes it positive (absolute gaps): then only its difference from a
        control can be judged.
    design : callable, optional
        Of the scored rows: the linear contrast that is estimated.
    estimator : callable, optional
    told : callable, optional
        ``told(rows)``: caveats that hold for this model, from all rows of the pack.
    details : callable, optional
        ``details(rows, axis, contrast)``: figures beside the estimate, from all rows of the pack.
    """

    name: str
    rows: str
    kind: Kind
    unit: str
    title: str
    estimand: str
    crossed: bool = False
    contrast: str = ""
    min_covariate: float | None = None
    caveats: tuple[str, ...] = ()
    sources: tuple[str, ...] = ()
    only: tuple[str, ...] = ()
    upward: bool = False
    design: Callable[[pd.DataFrame], Design] | None = None
    estimator: Estimator | None = None
    told: Callable[[pd.DataFrame], tuple[str, ...]] | None = None
    details: Callable[[pd.DataFrame, str, str], dict[str, float]] | None = None


@dataclass(frozen=True)
class Vouch:
    """What a floor found: a reason why the model is below it, or none.

    Attributes
    ----------
    n, skipped : int
        Items that count, and items that could not be scored.
    """

    n: int
    reason: str = ""
    effect: Estimate | None = None
    details: dict[str, float] = field(default_factory=dict)
    skipped: int = 0


@dataclass(frozen=True)
class Floor:
    """What a model must be able to do before its gaps mean anything.

    Attributes
    ----------
    rows : str
        The measure of the rows it reads.
    contrast : str
        The last part of the finding's id.
    title : str
        Formatted with `pack`.
    judge : callable
        ``judge(pack, rows) -> Vouch``.
    """

    rows: str
    contrast: str
    title: str
    estimand: str
    unit: str
    judge: Callable[[Pack, pd.DataFrame], Vouch]


@dataclass(frozen=True)
class Measure:
    """A built-in measure.

    Attributes
    ----------
    needs : tuple of Ability
        A model that can answer one of these can be measured.
    run : callable
        ``run(scorer, pack, rng) -> DataFrame`` with the columns `COLUMNS`, one number a row. Rows
        have the role ``probe``, ``prior`` (subtracted item by item) or ``control`` (the same
        contrast where there should be no effect; then no placebo pack is needed).
    contrasts : callable
        ``contrasts(pack)``: the (axis, contrast) pairs that the rows will have, known beforehand.
    statistics : callable
        ``statistics(pack)``: what is estimated from the rows.
    floor : Floor, optional
        Of a pack that is a floor: what it vouches for. Of a probe: what must hold for it alone.
    floored_by : str
        The floor measure that must hold in the pack's language; none when empty.
    """

    name: str
    needs: tuple[Ability, ...]
    run: Callable[[Scorer, Pack, np.random.Generator], pd.DataFrame]
    contrasts: Callable[[Pack], list[tuple[str, str]]]
    statistics: Callable[[Pack], Sequence[Statistic]]
    floor: Floor | None = None
    floored_by: str = "sentence_floor"

    def fits(self, can: frozenset[Ability]) -> bool:
        """Whether a model with these abilities can answer it."""
        return not can.isdisjoint(self.needs)


def frame(rows: list[dict[str, Any]]) -> pd.DataFrame:
    """Return rows as a frame with all columns and stable types; a value that is not finite is skipped."""
    out = pd.DataFrame(rows, columns=list(COLUMNS))
    text = [c for c in COLUMNS if c not in ("covariate", "value")]
    out = out.astype({**dict.fromkeys(text, "str"), "covariate": "float64", "value": "float64"})
    finite = np.isfinite(out["value"].to_numpy())
    out["value"] = out["value"].where(finite)
    out["skipped"] = out["skipped"].where(finite | (out["skipped"] != ""), "the model gave no finite score")
    return out


def items(rows: pd.DataFrame, *, prior: bool) -> pd.DataFrame:
    """Return one value an item: the probe's, less the prior's where the measure has one.

    Values within `TIE` of zero are zero. Skipped rows have no value and are left out.
    """
    probe = rows[(rows["role"] == "probe") & rows["value"].notna()].set_index("item")
    if prior:
        before = rows[(rows["role"] == "prior") & rows["value"].notna()].set_index("item")["value"]
        probe = probe[probe.index.isin(before.index)].copy()
        probe["value"] = probe["value"] - before.reindex(probe.index)
    out = probe.reset_index()
    out["value"] = out["value"].where(out["value"].abs() > TIE, 0.0)
    return out
