"""From cosines between words to the raw association and the effect size d, with their uncertainty."""

from __future__ import annotations

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from albert_audit.bias.measure import Outcome
from albert_audit.stats import Design, Fit, estimate, jackknife
from albert_audit.stats.permutation import permute_groups
from albert_audit.types import Estimate

Array = NDArray[np.float64]

NARROW = 1e-6
"""Standard deviation of s below which the words do not differ: float32 says no more."""


def effect(s: Array, first: NDArray[np.bool_]) -> float:
    """Return d of leans `s` (n,), of which `first` belong to X; nan when the words do not differ."""
    if first.all() or not first.any() or len(s) < 3:
        return float("nan")
    spread = float(s.std(ddof=1))
    return float((s[first].mean() - s[~first].mean()) / spread) if spread > NARROW else float("nan")


def association_design(rows: pd.DataFrame) -> Design:
    """Return the difference of differences over the cells, or the difference of the groups' leans."""
    groups = rows["group"].to_numpy()
    crossed = bool((groups != "x").any() and len(groups[0]) == 2)
    names, weights = (("xa", "xb", "ya", "yb"), [1, -1, -1, 1]) if crossed else (("x", "y"), [1, -1])
    columns = np.column_stack([groups == n for n in names]).astype(np.float64)
    clusters = [list(rows["cluster_a"])] + ([list(rows["cluster_b"])] if crossed else [])
    return Design(columns, weights, clusters)


def effect_size(rows: pd.DataFrame, comparisons: int, rng: np.random.Generator) -> Outcome:
    """Return d with a jackknife over words and a permutation p-value.

    The variances of deleting a target word and of deleting an attribute word are added; what both
    hold is counted twice, so that the interval errs to the wide side.
    """
    try:
        design = association_design(rows)
    except ValueError:
        return Outcome(Estimate(value=0.0, se=0.0, df=0.0), ())
    if len(design.clusters) == 2:
        sides = rows["item"].str.partition("/")
        table = rows.assign(target=sides[0], attribute=sides[2]).pivot_table(
            index=["target", "cluster_a"], columns=["attribute", "cluster_b"], values="value", sort=False
        )
        cosines = table.to_numpy(np.float64)
        targets = table.index.get_level_values("cluster_a").to_numpy(str)
        attributes = table.columns.get_level_values("cluster_b").to_numpy(str)
        topic = np.array([c.startswith("a:") for c in attributes])
    else:  # one column of leans, in which nothing is left to delete
        cosines = rows["value"].to_numpy(np.float64)[:, None]
        targets, attributes, topic = rows["cluster_a"].to_numpy(str), np.array(["a:"]), np.array([True])
    first = np.array([c.startswith("x:") for c in targets])

    def leans(kept: NDArray[np.bool_]) -> Array:
        one, other = cosines[:, kept & topic], cosines[:, kept & ~topic]
        out: Array = one.mean(axis=1) - (other.mean(axis=1) if len(design.clusters) == 2 else 0.0)
        return out

    s = leans(np.ones(len(attributes), bool))
    d = effect(s, first)
    if not np.isfinite(d):
        return Outcome(Estimate(value=0.0, se=0.0, df=0.0), design.counts)
    by_target = jackknife(lambda kept: effect(s[kept], first[kept]), targets)[0]
    parts = [by_target]
    if len(design.clusters) == 2:
        parts.append(jackknife(lambda kept: effect(leans(kept), first), attributes)[0])
    fit = Fit(
        np.asarray(d), np.hypot.reduce([p.se for p in parts]), min(design.df, *(p.df for p in parts), np.inf)
    )
    found = estimate(fit, comparisons=comparisons)
    tested = permute_groups(s, first, targets, rng)
    if found.intervals:
        found = found.model_copy(update={"p": tested.p})
    details = {
        "partitions": float(tested.partitions),
        "partitions_exact": float(tested.exact),
        "sd_lean": float(s.std(ddof=1)),
    }
    return Outcome(found, design.counts, details)
