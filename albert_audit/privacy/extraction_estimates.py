"""What the rows on extraction say: two sides of secrets, their contrast, and its excess over the base's."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from albert_audit.privacy.extraction_contexts import ANY, OWN
from albert_audit.stats import Design, estimate, net_estimate, rate_difference, recovered_difference
from albert_audit.types import Estimate

NAME = "extraction"
SIDES = ("trained", "untrained")
HARM = "disclosure: somebody who knows the words around a secret can have the model complete it"
AFFECTED = "the people whose data the model was trained on"
SEARCHED = "Shows what these prompts and this search find. Others may find more; none proves that nothing can be extracted."
SOURCES = (
    "Lukas et al. (2023), Analyzing Leakage of Personally Identifiable Information in Language Models, S&P",
    "Carlini et al. (2019), The Secret Sharer, USENIX Security",
)
DOCUMENTS = "documents"


@dataclass(frozen=True)
class Side:
    """The secrets of one side that count, in one order."""

    items: tuple[str, ...]
    persons: tuple[str, ...]
    target: NDArray[np.float64]
    base: NDArray[np.float64] | None

    @property
    def design(self) -> Design:
        """The design of a mean over persons."""
        return Design.mean([self.persons])


def selected(rows: pd.DataFrame, where: dict[str, str]) -> NDArray[np.bool_]:
    """Return which rows have these texts."""
    keep = np.ones(len(rows), bool)
    for column, text in where.items():
        keep &= np.asarray(rows[column] == text)
    return keep


def side_of(rows: pd.DataFrame, measure: str, prompt: str, side: str, *, based: bool) -> Side:
    """Return the secrets of a side that have a value, and where `based` one of the base too."""
    where = {"measure": measure, "cluster_b": prompt, "group": side}
    target = rows[selected(rows, where | {"role": "probe"})].dropna(subset="value").set_index("item")
    if not based:
        return Side(tuple(target.index), tuple(target["cluster_a"]), target["value"].to_numpy(float), None)
    base = rows[selected(rows, where | {"role": "control"})].dropna(subset="value").set_index("item")["value"]
    target = target[target.index.isin(base.index)]
    return Side(
        tuple(target.index), tuple(target["cluster_a"]), target["value"].to_numpy(float),
        base.reindex(target.index).to_numpy(float),
    )  # fmt: skip


def contrast(first: Side, second: Side, measure: str, comparisons: int, *, base: bool) -> Estimate:
    """Return trained less never trained, of the model or of its base."""
    a, b = ((s.base if base else s.target) for s in (first, second))
    assert a is not None and b is not None  # noqa: S101 (asked for where there is a base)
    designs = first.design, second.design
    if measure == "rank":
        return _means(first, second, a, b, comparisons)
    return rate_difference(
        designs[0].fit(a), designs[1].fit(b), n=(len(a), len(b)),
        clusters=(designs[0].counts[0][1], designs[1].counts[0][1]), df=min(d.df for d in designs),
        comparisons=comparisons,
    )  # fmt: skip


def excess(first: Side, second: Side, measure: str, comparisons: int) -> Estimate:
    """Return by how much more the model sets the two sides apart than its base does, secret by secret."""
    gains = [s.target - s.base for s in (first, second) if s.base is not None]
    if measure == "rank":
        return _means(first, second, gains[0], gains[1], comparisons)
    # No hit at all leaves no variance: each side has a width by half a change more each way.
    sides = [
        net_estimate(
            s.design.fit(g), up=float((g > 0).mean()), down=float((g < 0).mean()), n=len(g),
            clusters=s.design.counts[0][1], comparisons=comparisons,
        )
        for s, g in zip((first, second), gains, strict=True)
    ]  # fmt: skip
    return recovered_difference(sides[0], sides[1], comparisons=comparisons, bound=2.0)


def _means(
    first: Side, second: Side, a: NDArray[np.float64], b: NDArray[np.float64], comparisons: int
) -> Estimate:
    design = Design.difference(first.design, second.design, [[*first.persons, *second.persons]])
    made = estimate(design.fit(np.concatenate([a, b])), comparisons=comparisons)
    if made.se > 0:
        return made
    return Estimate(
        value=made.value, se=0.0, df=made.df
    )  # all alike: an interval without width would be a claim


def details(
    rows: pd.DataFrame, measure: str, first: Side, second: Side, checked: set[str]
) -> dict[str, float]:
    """Return the figures beside the estimate: both sides apart, the spread over prompts, chance, documents."""
    out = {"trained": float(len(first.items)), "untrained": float(len(second.items))}
    for name, side in zip(SIDES, (first, second), strict=True):
        out[f"{name}_target"] = float(side.target.mean())
        if side.base is not None:
            out[f"{name}_base"] = float(side.base.mean())
    probe = rows[(rows["role"] == "probe") & (rows["measure"] == measure) & rows["value"].notna()]
    means = probe[probe["cluster_b"] != ANY].pivot_table("value", "cluster_b", "group")
    if set(SIDES) <= set(means.columns):
        spread = (means["trained"] - means["untrained"]).dropna()
        out |= {
            "prompts": float(len(spread)), "prompts_min": float(spread.min()),
            "prompts_median": float(spread.median()), "prompts_max": float(spread.max()),
        }  # fmt: skip
        if OWN in spread.index:
            out["own_record"] = float(spread[OWN])
    if measure == "rank":
        bits = rows[(rows["measure"] == "exposure") & (rows["role"] == "probe") & (rows["cluster_b"] == OWN)]
        for side, values in bits.dropna(subset="value").groupby("group")["value"]:
            out[f"{side}_bits"] = float(values.mean())
        return out
    chance = rows[(rows["measure"] == f"accidental_{measure}")]["value"].dropna()
    if len(chance):
        out["accidental"] = float(chance.mean())
    hit = [i for i, v in zip(first.items, first.target, strict=True) if v > 0]
    if first.base is not None:
        missed = {i for i, v in zip(first.items, first.base, strict=True) if v == 0}
        out["checked_hits_base_misses"] = float(sum(i in missed and i in checked for i in hit))
    held = rows[rows["measure"] == DOCUMENTS].set_index("item")["value"]
    if len(held):
        out["trained_not_in_corpus"] = float((held.reindex(list(first.items)) == 0).sum())
        if hit:
            out["documents_min"], out["documents_max"] = float(held[hit].min()), float(held[hit].max())
            out["hits_in_one_document"] = float((held[hit] == 1).sum())
    return out
