"""What a measure is: rows, one number each, and the statistics that are made of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pandas as pd

from albert_audit.model.scorer import Scorer
from albert_audit.packs import Pack
from albert_audit.types import Ability

COLUMNS = (
    "pack", "measure", "axis", "contrast", "group", "item", "cluster_a", "cluster_b", "role",
    "covariate", "value", "unit", "skipped",
)  # fmt: skip
TIE = 1e-4
"""Differences up to this are ties: batching and devices may change a score by as much."""


@dataclass(frozen=True)
class Statistic:
    """One finding for each axis and contrast that a measure's rows hold.

    Attributes
    ----------
    name : str
        The finding's measure.
    rows : str
        The measure of the rows it is made of.
    kind : {"mean", "slope", "share"}
        Of the items' values: their mean, their slope on the covariate, or the share above zero
        (ties one half).
    crossed : bool
        Whether `cluster_a` and `cluster_b` are crossed; else only `cluster_a` clusters.
    estimand, title : str
        Formatted with `axis`, `first` and `second` (the contrast's two sides) and `pack`.
    min_covariate : float
        Only items whose covariate reaches this; names another contrast, see `contrast`.
    """

    name: str
    rows: str
    kind: Literal["mean", "slope", "share"]
    unit: str
    title: str
    estimand: str
    crossed: bool = False
    contrast: str = ""
    min_covariate: float | None = None
    caveats: tuple[str, ...] = ()
    sources: tuple[str, ...] = ()


@dataclass(frozen=True)
class Measure:
    """A built-in measure.

    Attributes
    ----------
    run : callable
        ``run(scorer, pack, rng) -> DataFrame`` with the columns `COLUMNS`, one number a row.
    contrasts : callable
        ``contrasts(pack)``: the (axis, contrast) pairs that the rows will have, known beforehand.
    statistics : callable
        ``statistics(pack)``: what is estimated from the rows.
    """

    name: str
    needs: Ability
    run: Callable[[Scorer, Pack, np.random.Generator], pd.DataFrame]
    contrasts: Callable[[Pack], list[tuple[str, str]]]
    statistics: Callable[[Pack], Sequence[Statistic]]


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
