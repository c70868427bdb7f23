"""From rows to estimates: which rows a finding rests on, its design, its figures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from albert_audit.bias import Outcome, Statistic, items
from albert_audit.packs import Pack
from albert_audit.stats import (
    Design,
    Fit,
    estimate,
    net_estimate,
    rate_difference,
    rate_estimate,
    share_estimate,
)
from albert_audit.stats.linear import Array
from albert_audit.types import Estimate


@dataclass(frozen=True)
class Sample:
    """What one estimate is made of."""

    statistic: Statistic
    rows: pd.DataFrame
    values: Array
    clusters: tuple[list[str], ...]
    design: Design | None
    parts: tuple[tuple[Array, Design], ...] = ()
    """Of a contrast: the values and the design of each of its two groups."""


def select(
    rows: pd.DataFrame, statistic: Statistic, axis: str, contrast: str, *, role: str = ""
) -> pd.DataFrame:
    """Return the rows of one statistic, axis and contrast: the control's where `role` says so, else the others."""
    mine = rows[(rows["measure"] == statistic.rows) & (rows["contrast"] == contrast)]
    mine = mine[(mine["role"] == role) if role else (mine["role"] != "control")]
    if axis != "all":
        mine = mine[mine["axis"] == axis]
    if statistic.min_covariate is not None:
        mine = mine[mine["covariate"] >= statistic.min_covariate]
    return mine


def counts(rows: pd.DataFrame) -> tuple[int, int]:
    """Return how many items were scored, and how many were skipped."""
    scored = len(items(rows, prior=bool((rows["role"] == "prior").any())))
    return scored, rows.loc[rows["role"] == "probe", "item"].size - scored


def sample_of(rows: pd.DataFrame, statistic: Statistic) -> Sample:
    """Return the values, clusters and design of a statistic.

    Raises
    ------
    ValueError
        When the rows cannot carry it: a group without an item, a covariate that does not vary.
    """
    mine = items(rows, prior=bool((rows["role"] == "prior").any()))
    y = mine["value"].to_numpy(np.float64)
    if statistic.kind == "share":
        y = np.where(y > 0, 1.0, np.where(y == 0, 0.5, 0.0))
    clusters = [list(mine["cluster_a"])]
    if statistic.crossed:
        clusters.append(list(mine["cluster_b"]))
    design: Design | None = None
    parts: tuple[tuple[Array, Design], ...] = ()
    if statistic.kind == "slope":
        design = Design.slope(mine["covariate"].to_numpy(np.float64), clusters)
    elif statistic.kind in ("contrast", "rate_contrast"):
        first, _, second = str(mine["contrast"].iloc[0]).partition("-vs-")
        sides = [(mine["group"] == g).to_numpy() for g in (first, second)]
        for name, side in zip((first, second), sides, strict=True):
            if not side.any():
                raise ValueError(f"the group {name} has no item for this check")
        parts = tuple(
            (y[side], Design.mean([[c for c, k in zip(own, side, strict=True) if k] for own in clusters]))
            for side in sides
        )
        indicators = np.column_stack(sides).astype(np.float64)
        least = min(part.df for _, part in parts)  # a difference has no more than either part
        design = Design(indicators, [1.0, -1.0], clusters, limit=least)
    elif statistic.kind == "linear":
        assert statistic.design is not None  # noqa: S101 (a linear statistic has one)
        design = statistic.design(mine)
    elif statistic.kind != "custom":
        design = Design.mean(clusters)
    return Sample(statistic, mine, y, tuple(clusters), design, parts)


def estimate_of(sample: Sample, comparisons: int, rng: np.random.Generator) -> Outcome:
    """Estimate a statistic from its sample, by its kind."""
    y, design, kind = sample.values, sample.design, sample.statistic.kind
    if design is None:
        assert sample.statistic.estimator is not None  # noqa: S101 (a custom statistic has one)
        return sample.statistic.estimator(sample.rows, comparisons, rng)
    fit = design.fit(y)
    clusters = min(effective for _, effective in design.counts)
    match kind:
        case "share":
            found = share_estimate(fit, n=len(y), clusters=clusters, comparisons=comparisons)
        case "rate":
            found = rate_estimate(fit, n=len(y), clusters=clusters, comparisons=comparisons)
        case "net":
            found = net_estimate(
                fit, up=float((y > 0).mean()), down=float((y < 0).mean()), n=len(y), clusters=clusters,
                comparisons=comparisons,
            )  # fmt: skip
        case "rate_contrast":
            found = rates([(d.fit(v), len(v), d) for v, d in sample.parts], design.df, comparisons)
        case _:
            found = estimate(fit, comparisons=comparisons)
    return Outcome(found, design.counts)


def rates(parts: Sequence[tuple[Fit, int, Design]], df: float, comparisons: int) -> Estimate:
    """Return the difference of two rates, each with its items and its design."""
    (a, n, first), (b, m, second) = parts
    worth = [min(effective for _, effective in d.counts) for d in (first, second)]
    return rate_difference(a, b, n=(n, m), clusters=(worth[0], worth[1]), df=df, comparisons=comparisons)


def details_of(
    pack: Pack, rows: pd.DataFrame, everything: pd.DataFrame, statistic: Statistic
) -> dict[str, float]:
    """Return supporting figures: how many items, ties, means by group, by family and by kind of context."""
    mine = items(rows, prior=bool((rows["role"] == "prior").any()))
    values = mine["value"].to_numpy(np.float64)
    details: dict[str, float] = {}
    if statistic.kind != "custom":  # an estimator says itself what its rows are
        details = {"items": float(len(values)), "sd": float(values.std(ddof=1)) if len(values) > 1 else 0.0}
    if statistic.kind in ("share", "mean") and not statistic.crossed:
        details["ties"] = float((values == 0).sum())
    if statistic.kind in ("contrast", "rate_contrast"):
        for place, group in zip(("first", "second"), _sides(mine), strict=True):
            details[f"{place}_mean"] = float(mine.loc[mine["group"] == group, "value"].mean())
    mass = everything[(everything["measure"] == "target_mass") & everything["value"].notna()]
    if len(mass):
        details["median_target_mass"] = float(mass["value"].median())
    words = everything[everything["measure"] == "single_piece"]
    if len(words):
        details["single_piece_share"] = float((words["value"] == 1).mean())
        details["unknown_share"] = float(words["value"].isna().mean())
    if statistic.crossed:
        families = {t.id: t.family for t in pack.templates}
        for family, part in mine.groupby(mine["cluster_a"].map(families)):
            y, z = part["value"].to_numpy(np.float64), part["covariate"].to_numpy(np.float64)
            if statistic.kind in ("mean", "rate", "net"):
                details[f"family_{family}"] = float(y.mean())
            elif statistic.kind in ("contrast", "rate_contrast"):
                sides = [part.loc[part["group"] == g, "value"] for g in _sides(mine)]
                if all(map(len, sides)):
                    details[f"family_{family}"] = float(sides[0].mean() - sides[1].mean())
            elif statistic.kind == "slope" and np.ptp(z) > 0:
                details[f"family_{family}"] = float(np.polyfit(z, y, 1)[0])
        kinds = {c["id"]: c["kind"] for c in pack.tables.get("contexts", ())}
        if kinds and statistic.kind == "mean":
            of = mine["item"].str.split("/").str[1].map(kinds).fillna("none")
            details |= {f"context_{k}": float(part["value"].mean()) for k, part in mine.groupby(of)}
    return details


def _sides(rows: pd.DataFrame) -> tuple[str, str]:
    """Return the two groups of a contrast's rows."""
    first, _, second = str(rows["contrast"].iloc[0]).partition("-vs-")
    return first, second


def odds(statistic: Statistic, effect: Estimate, difference: Estimate | None) -> dict[str, float]:
    """Say log-odds and log-likelihoods as factors, which readers know."""
    if not statistic.unit.startswith("nats"):
        return {}
    out = {"factor_effect": float(np.exp(effect.value))}
    return out | ({"factor_difference": float(np.exp(difference.value))} if difference else {})
