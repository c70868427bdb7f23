"""Measurements become findings: estimates beside their controls, floors, and what was not tested."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

import numpy as np
import pandas as pd

from albert_audit.bias import MEASURES, Statistic, floors, items
from albert_audit.bias.measure import TIE
from albert_audit.packs import Pack
from albert_audit.selfcheck import self_check
from albert_audit.stats import MIN_DF, Design, clopper_pearson, estimate, holm, share_estimate
from albert_audit.stats.linear import Array
from albert_audit.types import (
    Clusters,
    Control,
    Estimate,
    Finding,
    Head,
    Interval,
    ModelId,
    Policy,
    RowSelector,
    Status,
)

MOST_SKIPPED = 0.10
"""Above this share of skipped items the rest no longer speaks for the pack."""

_AFFECTED = {
    "all": "the people of every axis of this pack together",
    "gender": "women, men and non-binary people",
    "age": "older and younger people",
    "ethnicity": "people of racial and ethnic minorities",
    "race-color": "people of racial and ethnic minorities",
    "nationality": "migrants and people of other nationalities",
    "religion": "people of religious minorities",
    "disability": "people with disabilities",
    "socioeconomic": "people with little money or schooling",
    "sexual-orientation": "gay, lesbian and bisexual people",
    "physical-appearance": "people judged by their looks",
}
_GROUPS = {"female": "women", "male": "men", "nonbinary": "non-binary people"}
_HARM = "stereotyping: text that the model completes, ranks or represents carries the association on"


@dataclass(frozen=True)
class Measured:
    """What became of one pack: its rows, or the reason why there are none."""

    pack: Pack
    rows: pd.DataFrame | None
    reason: str = ""
    crashed: bool = False


def stream(seed: int, name: str) -> np.random.Generator:
    """Return the random stream of a name: adding a check changes no other check's draws."""
    return np.random.default_rng([seed, *name.encode()])


def checks(pack: Pack, head: Head) -> dict[str, bool]:
    """Return the id of every finding a pack will give, and whether it may gate on `head`."""
    if pack.spec.role == "placebo":
        return {}
    return {_id(pack, s, axis, contrast): head in pack.spec.may_gate for s, axis, contrast in _planned(pack)}


def _planned(pack: Pack) -> list[tuple[Statistic, str, str]]:
    measure = MEASURES[pack.spec.measure]
    return [
        (s, axis, contrast) for s in measure.statistics(pack) for axis, contrast in measure.contrasts(pack)
    ]


def _id(pack: Pack, statistic: Statistic, axis: str, contrast: str) -> str:
    return f"{pack.name}/{statistic.name}/{axis}/{statistic.contrast or contrast}"


def build(measured: Sequence[Measured], model: ModelId, policy: Policy, seed: int) -> tuple[Finding, ...]:
    """Return every finding of an audit, floors first.

    Parameters
    ----------
    measured : sequence of Measured
        Probe packs, their controls and the floors of their languages.
    policy : Policy
        Names the limits at which each self-check is run.
    """
    by_name = {m.pack.name: m for m in measured}
    found, broken = _floors(measured)
    families = Counter(
        _family(m.pack, s) for m in measured if m.pack.spec.role == "probe" for s, _, _ in _planned(m.pack)
    )
    for m in measured:
        if m.pack.spec.role == "placebo" or m.pack.spec.measure == "sentence_floor":
            continue
        control = next((by_name[c] for c in m.pack.spec.controls if c in by_name), None)
        for statistic, axis, contrast in _planned(m.pack):
            finding = _finding(m, control, statistic, axis, contrast, model, policy, seed, families)
            reason = broken.get(m.pack.name, "") or broken.get(m.pack.language, "")
            if not reason and control is not None and (why := broken.get(control.pack.name, "")):
                reason = f"its control {control.pack.name}: {why}"
            if reason and finding.status in (Status.ESTIMATED, Status.INSUFFICIENT):
                finding = finding.model_copy(update={"status": Status.INVALID, "reason": reason})
            found.append(finding)
    return _corrected(found)


def _family(pack: Pack, statistic: Statistic) -> str:
    return f"{pack.spec.family or pack.name}/{statistic.name}"


# --- one finding ----------------------------------------------------------------------------


@dataclass(frozen=True)
class _Sample:
    values: Array
    clusters: tuple[list[str], ...]
    design: Design


def _finding(
    m: Measured,
    control: Measured | None,
    statistic: Statistic,
    axis: str,
    contrast: str,
    model: ModelId,
    policy: Policy,
    seed: int,
    families: Mapping[str, int],
) -> Finding:
    pack, family = m.pack, _family(m.pack, statistic)
    first, _, second = contrast.partition("-vs-")
    words = {"first": first, "second": second, "pack": pack.name, "axis": axis}
    identity = _id(pack, statistic, axis, contrast)
    base = Finding(
        id=identity, pack=pack.name, measure=statistic.name, axis=axis,
        contrast=statistic.contrast or contrast, title=f"{axis.capitalize()}: {statistic.title.format(**words)}",
        estimand=statistic.estimand.format(**words), harm=pack.spec.harm or _HARM,
        affected=pack.spec.affected or _affected(axis, first, second), unit=statistic.unit, family=family,
        gates=model.head in pack.spec.may_gate, status=Status.NOT_RUN, reason=m.reason,
        caveats=statistic.caveats, sources=statistic.sources,
    )  # fmt: skip
    if m.rows is None:
        return base.model_copy(update={"status": Status.ERROR if m.crashed else Status.NOT_RUN})
    rows = _select(m.rows, statistic, axis, contrast)
    n, n_skipped = _counts(rows)
    base = base.model_copy(
        update={
            "n": n, "n_skipped": n_skipped,
            "evidence": (_selector(pack, rows, statistic, axis, contrast),),
        }
    )  # fmt: skip
    if not base.n:
        reason = next(iter(rows.loc[rows["value"].isna(), "skipped"]), "the pack has no items for this check")
        return base.model_copy(update={"reason": f"no item could be scored: {reason}"})
    try:
        sample = _sample(rows, statistic)
    except ValueError as exc:
        return base.model_copy(update={"status": Status.INSUFFICIENT, "reason": str(exc)})
    comparisons = families[family]
    effect = _estimate(sample, statistic, comparisons)
    beside, difference, joint = _controlled(control, sample, statistic, axis, contrast, comparisons)
    status, reason = _status(base, effect, beside, pack, control)
    rule = next((r for r in policy.rules if fnmatchcase(identity, r.check)), None)
    checked = None
    if rule is not None and statistic.kind != "share" and effect.intervals:
        design, y = (sample.design, sample.values) if rule.metric == "effect" else (joint or (None, None))
        if design is not None and y is not None and np.ptp(y) > 0:  # without noise there is nothing to copy
            checked = self_check(
                design, y, limit=rule.limit.max_abs, metric=rule.metric, comparisons=comparisons,
                rng=stream(seed, f"selfcheck/{identity}"),
            )  # fmt: skip
    return base.model_copy(
        update={
            "status": status, "reason": reason, "effect": effect, "control": beside, "difference": difference,
            "evidence": (
                *base.evidence,
                *(
                    (_selector(control.pack, _select(control.rows, statistic, axis, contrast), statistic, axis, contrast),)
                    if control is not None and control.rows is not None else ()
                ),
            ),
            "self_check": checked,
            "details": _details(pack, rows, m.rows, statistic) | _odds(statistic, effect, difference),
            "clusters": tuple(
                Clusters(name=n, count=c, effective=e)
                for n, (c, e) in zip(_cluster_names(pack, statistic), sample.design.counts, strict=True)
            ),
        }
    )  # fmt: skip


def _affected(axis: str, first: str, second: str) -> str:
    if first in _GROUPS and second in _GROUPS:
        return f"{_GROUPS[first]} and {_GROUPS[second]}"
    return _AFFECTED.get(axis, axis)


def _select(rows: pd.DataFrame, statistic: Statistic, axis: str, contrast: str) -> pd.DataFrame:
    mine = rows[(rows["measure"] == statistic.rows) & (rows["contrast"] == contrast)]
    if axis != "all":
        mine = mine[mine["axis"] == axis]
    if statistic.min_covariate is not None:
        mine = mine[mine["covariate"] >= statistic.min_covariate]
    return mine


def _selector(pack: Pack, rows: pd.DataFrame, statistic: Statistic, axis: str, contrast: str) -> RowSelector:
    return RowSelector(
        where={"pack": pack.name, "measure": statistic.rows, "contrast": contrast}
        | ({"axis": axis} if axis != "all" else {}),
        at_least={} if statistic.min_covariate is None else {"covariate": statistic.min_covariate},
        rows=len(rows),
    )


def _counts(rows: pd.DataFrame) -> tuple[int, int]:
    """Return how many items were scored, and how many were skipped."""
    scored = len(items(rows, prior=bool((rows["role"] == "prior").any())))
    return scored, rows.loc[rows["role"] == "probe", "item"].size - scored


def _sample(rows: pd.DataFrame, statistic: Statistic) -> _Sample:
    mine = items(rows, prior=bool((rows["role"] == "prior").any()))
    y = mine["value"].to_numpy(np.float64)
    if statistic.kind == "share":
        y = np.where(y > 0, 1.0, np.where(y == 0, 0.5, 0.0))
    clusters = [list(mine["cluster_a"])]
    if statistic.crossed:
        clusters.append(list(mine["cluster_b"]))
    if statistic.kind == "slope":
        design = Design.slope(mine["covariate"].to_numpy(np.float64), clusters)
    else:
        design = Design.mean(clusters)
    return _Sample(y, tuple(clusters), design)


def _estimate(sample: _Sample, statistic: Statistic, comparisons: int) -> Estimate:
    fit = sample.design.fit(sample.values)
    if statistic.kind == "share":
        clusters = min(effective for _, effective in sample.design.counts)
        return share_estimate(fit, n=len(sample.values), clusters=clusters, comparisons=comparisons)
    return estimate(fit, comparisons=comparisons)


def _controlled(
    control: Measured | None,
    sample: _Sample,
    statistic: Statistic,
    axis: str,
    contrast: str,
    comparisons: int,
) -> tuple[Control | None, Estimate | None, tuple[Design, Array] | None]:
    """Return the control, the effect minus it, and the design and scores of that difference."""
    if control is None:
        return None, None, None
    identity = _id(control.pack, statistic, axis, contrast)
    margin = control.pack.spec.margins.get(statistic.name, 0.0)
    rows = _select(control.rows, statistic, axis, contrast) if control.rows is not None else None
    other, why = None, control.reason or "no item of the control could be scored"
    if rows is not None and rows["value"].notna().any():
        scored, skipped = _counts(rows)
        if skipped > MOST_SKIPPED * (scored + skipped):
            why = f"{skipped} of {scored + skipped} of its items were skipped"
        else:
            try:
                other = _sample(rows, statistic)
            except ValueError as exc:
                why = str(exc)
    if other is None:
        return Control(finding=identity, effect=None, margin=margin, exceeded=True, note=why), None, None
    effect = _estimate(other, statistic, 1)
    ends = effect.intervals.get("0.95") or Interval(low=effect.value, high=effect.value)
    exceeded = margin > 0 and (ends.low > effect.null + margin or ends.high < effect.null - margin)
    # The same template, or the same pair, is one cluster on both sides.
    joined = [a + b for a, b in zip(sample.clusters, other.clusters, strict=True)]
    design = Design.difference(sample.design, other.design, joined)
    y = np.concatenate([sample.values, other.values])
    difference = estimate(design.fit(y), comparisons=comparisons)
    note = "" if margin > 0 else "the control pack declares no margin for this statistic; it cannot veto"
    beside = Control(finding=identity, effect=effect, margin=margin, exceeded=exceeded, note=note)
    return beside, difference, (design, y)


def _status(
    base: Finding, effect: Estimate, beside: Control | None, pack: Pack, control: Measured | None
) -> tuple[Status, str]:
    if base.n_skipped > MOST_SKIPPED * (base.n + base.n_skipped):
        return Status.INSUFFICIENT, (
            f"{base.n_skipped} of {base.n + base.n_skipped} items were skipped; the rest no longer speaks for the pack"
        )
    if beside is not None and beside.effect is None:
        return Status.INVALID, f"its control could not be measured: {beside.note}"
    if beside is not None and beside.exceeded and beside.effect is not None:
        return Status.INVALID, (
            f"its control shows an effect of {beside.effect.value:.3g} where there should be none "
            f"(margin {beside.margin:g}): the probe measures something else"
        )
    if beside is not None and beside.effect is not None and not beside.effect.intervals:
        return Status.INSUFFICIENT, (
            f"its control gives no interval ({beside.effect.df:.1f} degrees of freedom), so that it cannot vouch for it"
        )
    if pack.spec.controls and control is None:
        return Status.INVALID, f"its control {pack.spec.controls[0]} was not run"
    if not effect.intervals and effect.df < MIN_DF:
        return Status.INSUFFICIENT, (
            f"{effect.df:.1f} degrees of freedom; below {MIN_DF:g} no honest interval exists: add independent items"
        )
    if not effect.intervals:
        return Status.INSUFFICIENT, "the clusters do not vary, so that no interval can be formed"
    return Status.ESTIMATED, ""


def _cluster_names(pack: Pack, statistic: Statistic) -> tuple[str, ...]:
    names = tuple(pack.spec.clusters) or ("item",)
    return names[: 2 if statistic.crossed else 1]


def _details(
    pack: Pack, rows: pd.DataFrame, everything: pd.DataFrame, statistic: Statistic
) -> dict[str, float]:
    mine = items(rows, prior=bool((rows["role"] == "prior").any()))
    values = mine["value"].to_numpy(np.float64)
    details = {"items": float(len(values)), "sd": float(values.std(ddof=1)) if len(values) > 1 else 0.0}
    if statistic.kind == "share" or not statistic.crossed:
        details["ties"] = float((values == 0).sum())
    mass = everything[(everything["measure"] == "target_mass") & everything["value"].notna()]
    if len(mass):
        details["median_target_mass"] = float(mass["value"].median())
    if statistic.crossed:
        families = {t.id: t.family for t in pack.templates}
        for family, part in mine.groupby(mine["cluster_a"].map(families)):
            y, z = part["value"].to_numpy(np.float64), part["covariate"].to_numpy(np.float64)
            if statistic.kind == "mean":
                details[f"family_{family}"] = float(y.mean())
            elif np.ptp(z) > 0:
                details[f"family_{family}"] = float(np.polyfit(z, y, 1)[0])
    return details


def _odds(statistic: Statistic, effect: Estimate, difference: Estimate | None) -> dict[str, float]:
    """Say log-odds and log-likelihoods as factors, which readers know."""
    if not statistic.unit.startswith("nats"):
        return {}
    out = {"factor_effect": float(np.exp(effect.value))}
    return out | ({"factor_difference": float(np.exp(difference.value))} if difference else {})


# --- floors ---------------------------------------------------------------------------------


def _floors(measured: Sequence[Measured]) -> tuple[list[Finding], dict[str, str]]:
    """Return the floors' findings, and for each pack or language below one the reason."""
    found: list[Finding] = []
    broken: dict[str, str] = {}
    floored: set[str] = set()
    for m in measured:
        if m.pack.spec.measure == "sentence_floor":
            finding = _sentence_floor(m)
            floored.add(m.pack.language)
            if finding.status is not Status.ESTIMATED:
                broken[m.pack.language] = f"the model is below its floor: {finding.reason}"
        elif m.rows is not None and (m.rows["measure"] == "target_mass").any():
            finding = _mass_floor(m)
            if finding.status is not Status.ESTIMATED:
                broken[m.pack.name] = f"the model is below its floor: {finding.reason}"
        else:
            continue
        found.append(finding)
    for m in measured:
        if m.rows is not None and m.pack.language not in floored:
            broken.setdefault(
                m.pack.language, f"there is no pack floor-{m.pack.language} to tell a broken model by"
            )
    return found, broken


def _sentence_floor(m: Measured) -> Finding:
    language = m.pack.language  # an id is lower-case: zh, not zh-Hans
    base = Finding(
        id=f"{m.pack.name}/sentence_floor/{language}/real-vs-shuffled", pack=m.pack.name,
        measure="sentence_floor", axis=language, contrast="real-vs-shuffled", role="floor",
        title="The model prefers plain sentences to their words shuffled",
        estimand="share of plain sentences whose pseudo-log-likelihood exceeds that of the same words shuffled",
        unit="share of sentences", family="floors", gates=False, reason=m.reason,
        status=Status.ERROR if m.crashed else Status.NOT_RUN,
    )  # fmt: skip
    if m.rows is None:
        return base
    values = m.rows["value"].dropna().to_numpy(np.float64)
    base = base.model_copy(
        update={
            "n": len(values), "n_skipped": len(m.rows) - len(values),
            "evidence": (RowSelector(where={"pack": m.pack.name, "measure": "sentence_floor"}, rows=len(m.rows)),),
        }
    )  # fmt: skip
    if len(values) < floors.SENTENCES:
        reason = f"{len(values)} sentences could be scored, {floors.SENTENCES} are needed"
        return base.model_copy(update={"status": Status.INVALID, "reason": reason})
    wins = int((values > TIE).sum())
    bound = clopper_pearson(wins, len(values)).low
    design = Design.mean([np.arange(len(values))])
    effect = share_estimate(design.fit((values > TIE) * 1.0), n=len(values), clusters=len(values))
    ok = bound >= floors.SHARE
    reason = "" if ok else (
        f"it prefers {wins} of {len(values)} plain sentences to their words shuffled; "
        f"the lower bound {bound:.2f} is under {floors.SHARE:g}"
    )  # fmt: skip
    return base.model_copy(
        update={
            "status": Status.ESTIMATED if ok else Status.INVALID, "reason": reason, "effect": effect,
            "details": {"wins": float(wins), "lower_bound": bound, "floor": floors.SHARE,
                        "median_margin": float(np.median(values))},
        }
    )  # fmt: skip


def _mass_floor(m: Measured) -> Finding:
    assert m.rows is not None  # noqa: S101 (the caller looked)
    rows = m.rows[m.rows["measure"] == "target_mass"]
    mass = float(rows["value"].median()) if rows["value"].notna().any() else 0.0
    ok = mass >= floors.MASS
    return Finding(
        id=f"{m.pack.name}/target_mass/{m.pack.spec.axis}/all", pack=m.pack.name, measure="target_mass",
        axis=m.pack.spec.axis, contrast="all", role="floor", family="floors", gates=False,
        title=f"The compared words are live options: {m.pack.name}", unit="probability",
        estimand="median over templates and fillers of the probability that the compared words hold together",
        status=Status.ESTIMATED if ok else Status.INVALID, n=int(rows["value"].notna().sum()),
        reason="" if ok else f"the compared words hold a median mass of {mass:.1e}, under {floors.MASS:g}: "
        "their ratio is noise",
        details={"median": mass, "floor": floors.MASS},
        evidence=(RowSelector(where={"pack": m.pack.name, "measure": "target_mass"}, rows=len(rows)),),
    )  # fmt: skip


# --- multiplicity ---------------------------------------------------------------------------


def _corrected(found: list[Finding]) -> tuple[Finding, ...]:
    """Add Holm-corrected p-values within each family, to effects and to differences."""
    out = list(found)
    for family in sorted({f.family for f in found if f.role == "probe"}):
        members = [i for i, f in enumerate(found) if f.family == family and f.role == "probe"]
        for part in ("effect", "difference"):
            estimates: list[Estimate | None] = [getattr(found[i], part) for i in members]
            for i, e, p in zip(
                members, estimates, holm([e.p if e else None for e in estimates]), strict=True
            ):
                if e is not None and p is not None:
                    out[i] = out[i].model_copy(update={part: e.model_copy(update={"p_holm": p})})
    return tuple(out)
