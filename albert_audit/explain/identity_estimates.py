"""From shares of single sentences to estimates by group, with intervals by templates and terms."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from albert_audit.explain.identity import Metric, Null
from albert_audit.stats import Design, estimate
from albert_audit.types import Estimate, UsageError


@dataclass(frozen=True)
class Excess:
    """Observed minus null for one group, metric and null.

    Attributes
    ----------
    estimate : Estimate or None
        None where nothing could be scored, or where a difference has only one side.
    observed, expected : float
        Means. For a contrast of errors and right answers, those of the errors and of the right answers.
    n : int
        Sentences.
    skipped : dict
        Reasons and how often.
    """

    group: str
    metric: Metric
    null: Null
    estimate: Estimate | None
    observed: float
    expected: float
    n: int
    skipped: dict[str, int]

    @property
    def ratio(self) -> float:
        """`observed` over `expected`; infinite over 0."""
        return self.observed / self.expected if self.expected else float("inf")


def excess(
    rows: pd.DataFrame, *, clusters: Sequence[str] = ("template", "term"), comparisons: int = 1
) -> list[Excess]:
    """Estimate observed minus null by group, metric and null.

    Parameters
    ----------
    rows : DataFrame
        Of `identity.shares`.
    clusters : sequence of str
        What varies in the population meant: ``template``, ``term``, or both, crossed. With both, the
        interval speaks of other terms for the group, too, and needs at least nine of them; a group with
        one term is clustered by template, and the figure is of that term.
    comparisons : int
        Findings in the family. Holm's correction is the caller's (`stats.holm`).

    Returns
    -------
    list of Excess
        Without an interval where clusters are too few.
    """
    out = []
    for (group, metric, null), part in rows.groupby(["group", "metric", "null"], sort=True):
        scored = part.dropna(subset=["value"])
        found = None
        if len(scored):
            sides = clusters_of(scored, clusters)
            found = estimate(
                Design.mean(sides).fit(scored["value"].to_numpy(np.float64)), comparisons=comparisons
            )
        out.append(
            Excess(str(group), metric, null, found, *_means(scored, ("observed", "expected")), len(scored),
                   _reasons(part))
        )  # fmt: skip
    return out


def errors_minus_right(
    rows: pd.DataFrame,
    wrong: Sequence[bool],
    *,
    column: Literal["observed", "value"] = "observed",
    clusters: Sequence[str] = ("template",),
    comparisons: int = 1,
) -> list[Excess]:
    """Estimate how much larger the term's share is where the model errs than where it is right.

    Parameters
    ----------
    rows : DataFrame
        Of `identity.shares`.
    wrong : sequence of bool
        For each case whether the model's answer is wrong.
    column : {"observed", "value"}
        The share, or the share above its null.

    Returns
    -------
    list of Excess
        By group, metric and null; `observed` is the mean of the errors, `expected` that of the right
        answers. The estimate is None where one of them is empty.

    Raises
    ------
    UsageError
        When `wrong` does not cover the cases.

    Notes
    -----
    A difference, not an effect: sentences that are hard may hold other terms, too.
    """
    flags = np.asarray(wrong, bool)
    if len(rows) and int(rows["case"].max()) >= len(flags):
        raise UsageError(
            f"expected one flag a case, found {len(flags)} for {int(rows['case'].max()) + 1}",
            "give whether each answer is wrong, in the order of the cases",
        )
    out = []
    for (group, metric, null), part in rows.groupby(["group", "metric", "null"], sort=True):
        scored = part.dropna(subset=[column])
        bad = flags[scored["case"].to_numpy(int)]
        values = scored[column].to_numpy(np.float64)
        found = None
        if bad.any() and not bad.all():
            design = Design(np.column_stack([bad, ~bad]), [1.0, -1.0], clusters_of(scored, clusters))
            found = estimate(design.fit(values), comparisons=comparisons)
        means = [float(values[m].mean()) if m.any() else float("nan") for m in (bad, ~bad)]
        out.append(Excess(str(group), metric, null, found, means[0], means[1], len(scored), _reasons(part)))
    return out


def clusters_of(rows: pd.DataFrame, names: Sequence[str]) -> list[NDArray[np.generic]]:
    """Return the labels of each clustering that has more than one label; the first if none has."""
    varied = [n for n in names if len(rows[n].unique()) > 1] or list(names[:1])
    return [rows[n].to_numpy() for n in varied]


def _means(rows: pd.DataFrame, columns: Sequence[str]) -> tuple[float, float]:
    first, second = (float(rows[c].mean()) if len(rows) else float("nan") for c in columns)
    return first, second


def _reasons(rows: pd.DataFrame) -> dict[str, int]:
    return dict(Counter(r for r in rows["skipped"] if r))
