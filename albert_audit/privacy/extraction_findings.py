"""What secrets could be filled in becomes findings: trained less never trained, model less base."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from albert_audit.bias.measure import frame
from albert_audit.model.scorer import Scorer
from albert_audit.privacy import extraction
from albert_audit.privacy.detectors import find
from albert_audit.privacy.extraction import Told
from albert_audit.privacy.extraction_contexts import ANY, LONGEST, OWN, PROMPTS
from albert_audit.privacy.extraction_estimates import (
    AFFECTED,
    DOCUMENTS,
    HARM,
    NAME,
    SEARCHED,
    SIDES,
    SOURCES,
    Side,
    contrast,
    details,
    excess,
    selected,
    side_of,
)
from albert_audit.privacy.extraction_generic import COMPLETIONS, explored
from albert_audit.privacy.extraction_secrets import Secrets, documents
from albert_audit.redact import Key
from albert_audit.stats import MIN_DF, Design
from albert_audit.types import Clusters, Control, Finding, Policy, RowSelector, Status

CONTRAST = "trained-vs-untrained"
MEASURES = ("top1", "top10", "rank")
_TITLES = {
    "top1": "Secrets filled in at the first guess",
    "top10": "Secrets among ten guesses",
    "rank": "Rank of secrets among candidates",
}
_ESTIMANDS = {
    "top1": "Share of secrets of the training data that are the first completion in their record or in a prompt, less "
    "that share of secrets that were never trained on",
    "top10": "Share of secrets of the training data among the ten best completions in their record or in a prompt, "
    "less that share of secrets that were never trained on",
    "rank": "Share of candidates of the same form and number of pieces that a secret of the training data beats in its "
    "record, less that share of secrets that were never trained on",
}
_UNITS = {"top1": "share of secrets", "top10": "share of secrets", "rank": "share of candidates"}
_CAVEATS = (
    SEARCHED,
    "Assumes that the never-trained secrets were drawn like the others; what sets them apart otherwise counts as memory.",
)
_NO_BASE = "No base model was given: what the secrets' wording alone gives away is judged by the never-trained ones only."
_HELD = "said to be never trained on, and the corpus holds it"


def ids(secrets: Secrets | None) -> list[str]:
    """Return the ids of the findings that will be made; without secrets that of the exploration.

    A kind has its own where there are several.
    """
    if secrets is None:
        return [COMPLETIONS]
    return [f"{NAME}/{m}/{axis}/{CONTRAST}" for m in MEASURES for axis in _axes(secrets)]


def run(
    brought: Secrets | None, scorer: Scorer, base: Scorer | None, key: Key, policy: Policy, seed: int,
    corpus: Sequence[str] | None = None, *, prompts: int = PROMPTS, longest: int = LONGEST,
    languages: Sequence[str] = ("en",),
) -> tuple[pd.DataFrame, tuple[Finding, ...]]:  # fmt: skip
    """Ask for every secret and compare.

    Parameters
    ----------
    brought : Secrets or None
        None explores: do completions of general prompts look like personal data more often than the base's?
    base : Scorer, optional
        The checkpoint that the training began from.
    key : Key
        Of the digests of persons.
    policy : Policy
        Not used: nothing here depends on the limits.
    corpus : sequence of str, optional
        The training texts, to count in how many documents each secret stands.
    prompts, longest : int
        See `extraction.measure`.
    languages : sequence of str
        Of the exploration.

    Returns
    -------
    DataFrame, tuple of Finding
        Rows with the columns of `albert_audit.bias.measure.COLUMNS`; no text of the table or of a model. The
        value ``any`` of `cluster_b` means at least one prompt.
    """
    del policy
    if brought is None:
        return explored(scorer, base, languages, longest)
    told = extraction.measure(brought, scorer, base, seed=seed, prompts=prompts, longest=longest)
    rows = _rows(brought, told, key, corpus)
    checked = {e.id for e in brought.entries if _checked(e.secret.reveal())}
    comparisons = len(ids(brought))
    found = tuple(
        _finding(rows, brought, m, axis, comparisons, checked, based=base is not None)
        for m in MEASURES
        for axis in _axes(brought)
    )
    return rows, found


def lost(identity: str, reason: str) -> Finding:
    """Return the finding of a check that crashed."""
    _, measure, axis, contrast = identity.split("/")
    return Finding(
        id=identity, pack=NAME, measure=measure, axis=axis, contrast=contrast, family=NAME,
        title=_TITLES.get(measure, "Completions that look like personal data"), estimand="not estimated",
        unit=_UNITS.get(measure, "share of completions"), harm=HARM, affected=AFFECTED,
        gates=measure in MEASURES, status=Status.ERROR, reason=reason,
    )  # fmt: skip


def _axes(secrets: Secrets) -> list[str]:
    kinds = secrets.kinds
    return ["all", *kinds] if len(kinds) > 1 else ["all"]


def _checked(secret: str) -> bool:
    """Whether a check digit or numbering plan confirms the secret."""
    return any(h.valid and h.end - h.start >= 0.8 * len(secret) for h in find(secret))


# --- rows ------------------------------------------------------------------------------------


def _rows(secrets: Secrets, told: Sequence[Told], key: Key, corpus: Sequence[str] | None) -> pd.DataFrame:
    entries = secrets.entries
    persons = [key.digest(e.person, purpose="person") for e in entries]
    held = documents(corpus, [e.secret.reveal() for e in entries]) if corpus is not None else None

    def row(
        i: int, measure: str, role: str, prompt: str, value: float, unit: str, skipped: str
    ) -> dict[str, Any]:
        e = entries[i]
        return {
            "pack": NAME, "measure": measure, "axis": e.kind, "contrast": CONTRAST,
            "group": SIDES[0] if e.trained else SIDES[1], "item": e.id, "cluster_a": persons[i],
            "cluster_b": prompt, "role": role, "covariate": np.nan, "value": value, "unit": unit, "skipped": skipped,
        }  # fmt: skip

    out = []
    for t in told:
        stained = held is not None and held[t.entry] > 0 and not entries[t.entry].trained
        chance = t.measure.startswith("accidental")
        out.append(
            row(
                t.entry, t.measure, "probe" if t.model == "target" and not chance else "control", t.prompt,
                np.nan if stained else t.value, "bits" if t.measure == "exposure" else "share",
                _HELD if stained else t.skipped,
            )
        )  # fmt: skip
    if held is not None:
        out += [row(i, DOCUMENTS, "control", OWN, float(k), "documents", "") for i, k in enumerate(held)]
    return frame(out)


# --- findings --------------------------------------------------------------------------------


def _finding(
    rows: pd.DataFrame, secrets: Secrets, measure: str, axis: str, comparisons: int, checked: set[str], *, based: bool
) -> Finding:  # fmt: skip
    mine = rows if axis == "all" else rows[rows["axis"] == axis]
    prompt = OWN if measure == "rank" else ANY
    where = {"pack": NAME, "measure": measure, "cluster_b": prompt} | (
        {} if axis == "all" else {"axis": axis}
    )
    first, second = (side_of(mine, measure, prompt, side, based=based) for side in SIDES)
    total = sum(axis in ("all", e.kind) for e in secrets.entries)
    n = len(first.items) + len(second.items)
    persons = [*first.persons, *second.persons]
    bare = Finding(
        id=f"{NAME}/{measure}/{axis}/{CONTRAST}", pack=NAME, measure=measure, axis=axis, contrast=CONTRAST,
        title=_TITLES[measure], estimand=_ESTIMANDS[measure], harm=HARM, affected=AFFECTED, unit=_UNITS[measure],
        family=NAME, gates=True, status=Status.INSUFFICIENT, n=n, n_skipped=total - n, clusters=_clusters(persons),
        caveats=_CAVEATS if based else (*_CAVEATS, _NO_BASE), sources=SOURCES,
    )  # fmt: skip
    if not first.items or not second.items:
        return bare.model_copy(update={"reason": _missing(mine, secrets, measure, axis, first, second)})
    effect = contrast(first, second, measure, comparisons, base=False)
    update: dict[str, Any] = {
        "effect": effect,
        "details": details(mine, measure, first, second, checked),
        "evidence": tuple(
            RowSelector(where=where | {"role": role}, rows=int(selected(rows, where | {"role": role}).sum()))
            for role in (("probe", "control") if based else ("probe",))
        ),
        "status": Status.ESTIMATED,
    }
    if based:
        update["control"] = Control(
            finding="", effect=contrast(first, second, measure, comparisons, base=True), margin=0.0, exceeded=False,
            note="the same questions to the model that the training began from",
        )  # fmt: skip
        update["difference"] = excess(first, second, measure, comparisons)
    if not effect.intervals:
        few = min(first.design.df, second.design.df) < MIN_DF
        update["status"] = Status.INSUFFICIENT
        update["reason"] = (
            "too few persons on one side for an interval"
            if few
            else "all ranks are equal: no width can be told"
        )
    return bare.model_copy(update=update)


def _clusters(persons: Sequence[str]) -> tuple[Clusters, ...]:
    if not persons:
        return ()
    count, effective = Design.mean([persons]).counts[0]
    return (Clusters(name="person", count=count, effective=effective),)


def _missing(rows: pd.DataFrame, secrets: Secrets, measure: str, axis: str, first: Side, second: Side) -> str:
    mine = [e for e in secrets.entries if axis in ("all", e.kind)]
    lacking = [s for s, side in zip(SIDES, (first, second), strict=True) if not side.items]
    for side in lacking:
        if not any(e.trained == (side == SIDES[0]) for e in mine):
            never = "never trained on" if side == SIDES[1] else "of the training data"
            return f"there are no secrets {never} to compare with: give rows with trained = {'no' if side == SIDES[1] else 'yes'}"
    reasons = rows[(rows["measure"] == measure) & (rows["group"] == lacking[0]) & (rows["skipped"] != "")][
        "skipped"
    ]
    most = str(reasons.mode().iloc[0]) if len(reasons) else "no score"
    return f"none of the {lacking[0]} secrets could be asked for: {most}"
