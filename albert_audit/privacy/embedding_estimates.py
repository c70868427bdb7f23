"""From scores of vectors to areas with intervals, findings and rows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from albert_audit.privacy.blind import DEPENDENCE
from albert_audit.privacy.embedding_writers import Writers
from albert_audit.privacy.embeddings import MODEL, RANDOM, Cells
from albert_audit.stats import Fit, estimate, jackknife, share_estimate
from albert_audit.stats.placements import area_of, effective_persons
from albert_audit.types import Clusters, Control, Estimate, Finding, RowSelector, Status

NAME = "embeddings"
_HARM = "disclosure: somebody who holds the stored vector of a text, and not the text, learns what it says or whose it is"
_AFFECTED = "the people who wrote the texts, or whom they are about"
_SONG = "Song and Raghunathan (2020), Information Leakage in Embedding Models, CCS"
_STORED = "Exposure of stored vectors of these texts, not of the model's training data: nothing here says what the model remembers."
CAVEATS = (
    _STORED,
    "What these linear probes and this cosine read; a stronger attack, or one with more texts, may read more.",
    "The random encoder is one draw of weights.",
)
_TITLES = {
    "rare_words": "Rare words read from stored vectors",
    "attribute": "Groups told from stored vectors",
    "author": "Writers told from stored vectors",
}


def area(cells: Cells, persons: Sequence[str], sources: Sequence[str], comparisons: int) -> Estimate:
    """Return the area of one source, or that of the first less that of the second.

    The standard error is widened by `DEPENDENCE`: each text helped to score the others.
    """
    there = cells.compared
    codes = np.unique([persons[i] for i in cells.texts[there]], return_inverse=True)[1]
    parts = [cells.placements(s) for s in sources]
    values = parts[0] if len(parts) == 1 else parts[0] - parts[1]
    holds = cells.holds[there]
    found = area_of(values, holds, codes)
    fit = Fit(np.asarray(found.value), np.asarray(DEPENDENCE * found.se), found.df)
    if len(parts) > 1:
        return estimate(fit, comparisons=comparisons)
    clusters = min(effective_persons(codes[holds]), effective_persons(codes[~holds]))
    return share_estimate(fit, n=len(values), clusters=clusters, comparisons=comparisons)


def by_person(found: Writers, source: str, comparisons: int) -> Estimate:
    """Return how often texts of one person are more alike, with the width of a jackknife over persons."""
    people = range(int(found.persons.max()) + 1)
    bare, _, effective = jackknife(lambda keep: found.area(source, keep), people, null=0.5)
    fit = Fit(np.asarray(bare.value), np.asarray(bare.se), bare.df)
    pairs = len(found.texts) * (len(found.texts) - 1) // 2
    # The jackknife's t interval has no width at 1; the score interval has.
    return share_estimate(fit, n=pairs, clusters=effective, comparisons=comparisons)


def person_gap(found: Writers, source: str, comparisons: int) -> Estimate:
    """Return how far the model's figure exceeds another source's, persons left out of both at once."""
    people = range(int(found.persons.max()) + 1)
    return jackknife(
        lambda keep: found.area(MODEL, keep) - found.area(source, keep), people, comparisons=comparisons
    )[0]


# --- findings and rows ----------------------------------------------------------------------


def bare_finding(
    identity: str, estimand: str, status: Status = Status.INSUFFICIENT, reason: str = "", **rest: Any
) -> Finding:
    """Return a finding without an answer yet."""
    _, measure, axis, contrast = identity.split("/")
    return Finding(
        id=identity, pack=NAME, measure=measure, axis=axis, contrast=contrast, title=_TITLES[measure],
        estimand=estimand, harm=_HARM, affected=_AFFECTED, unit="area under the ROC curve",
        family=f"{NAME}/{measure}", gates=False, status=status, reason=reason, caveats=CAVEATS, sources=(_SONG,), **rest,
    )  # fmt: skip


def told(bare: Finding, cells: Cells, persons: Sequence[str], comparisons: int) -> Finding:
    """Return the finding with the model's area, the random encoder's, and the difference."""
    names = [persons[i] for i in np.unique(cells.texts[cells.compared])]
    codes = np.unique(names, return_inverse=True)[1]
    finding = judged(
        bare, area(cells, persons, [MODEL], comparisons), area(cells, persons, [RANDOM], comparisons),
        area(cells, persons, [MODEL, RANDOM], comparisons),
    )  # fmt: skip
    clusters = Clusters(name="person", count=int(codes.max()) + 1, effective=effective_persons(codes))
    return finding.model_copy(update={"n": len(names), "clusters": (clusters,)})


def judged(bare: Finding, effect: Estimate, control: Estimate, difference: Estimate) -> Finding:
    """Return the finding with its estimates; without both intervals there is no answer."""
    fine = bool(effect.intervals and difference.intervals)
    return bare.model_copy(
        update={
            "effect": effect,
            "control": Control(
                finding="", effect=control, margin=0.0, exceeded=False,
                note="the same question to an encoder of the same shape with random weights",
            ),
            "difference": difference,
            "status": Status.ESTIMATED if fine else Status.INSUFFICIENT,
            "reason": "" if fine else "too few persons for an interval, or no variation between them",
        }
    )  # fmt: skip


def shown(name: str, found: Estimate) -> dict[str, float]:
    """Return an estimate as details."""
    out = {name: found.value}
    if found.intervals:
        ends = found.intervals["0.95"]
        out |= {f"{name}_low": ends.low, f"{name}_high": ends.high}
    return out


def evident(finding: Finding, rows: Sequence[dict[str, Any]]) -> Finding:
    """Return the finding with the rows it was made of."""
    where = {"pack": NAME, "measure": finding.measure, "axis": finding.axis, "contrast": finding.contrast}
    return finding.model_copy(
        update={
            "evidence": tuple(
                RowSelector(where=where | {"role": role, "skipped": ""}, rows=sum(r["role"] == role for r in rows))
                for role in ("probe", "control")
            )
        }
    )  # fmt: skip


def role_of(source: str) -> str:
    """Return the role of a source's rows."""
    return "probe" if source == MODEL else "control"


def row(
    measure: str, axis: str, contrast: str, item: str, value: float = float("nan"), person: str = "",
    beside: str = "", role: str = "probe", group: str = "", skipped: str = "",
) -> dict[str, Any]:  # fmt: skip
    """Return a row of `albert_audit.bias.measure.COLUMNS`."""
    return {
        "pack": NAME, "measure": measure, "axis": axis, "contrast": contrast, "group": group, "item": item,
        "cluster_a": person, "cluster_b": beside, "role": role, "covariate": float("nan"), "value": value,
        "unit": "rank" if measure == "attribute" else "share", "skipped": skipped,
    }  # fmt: skip
