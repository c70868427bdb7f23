"""Measurements become findings: estimates beside their controls, floors, and what was not tested."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from fnmatch import fnmatchcase

import numpy as np
import pandas as pd

from albert_audit.bias import MEASURES, Floor, Statistic
from albert_audit.bias.classifier.counterfactual_rows import PLACEBO
from albert_audit.bias.masked.concordance import concordance
from albert_audit.estimates import Sample, counts, details_of, estimate_of, odds, rates, sample_of, select
from albert_audit.packs import Pack
from albert_audit.selfcheck import self_check
from albert_audit.stats import (
    MIN_DF,
    Design,
    estimate,
    holm,
    independent_difference,
    rate_estimate,
    recovered_difference,
    resolvability,
    share_estimate,
)
from albert_audit.stats.linear import Array
from albert_audit.types import (
    Clusters,
    Control,
    Estimate,
    Example,
    Finding,
    Head,
    Interval,
    ModelId,
    Policy,
    RowSelector,
    Status,
)

_LINEAR = ("mean", "slope", "contrast", "linear")  # what the self-check can copy
EXAMPLES = 10
"""The auditor's items that a finding names."""
_FLOOR_NAMES = {"sentence_floor": "floor"}  # of packs not named after their measure
MOST_SKIPPED = 0.10
"""Above this share of skipped items the rest no longer speaks for the pack."""

_AFFECTED = {
    "all": "the people of every axis of this pack together",
    "gender": "women, men and non-binary people",
    "age": "older and younger people",
    "ethnicity": "people of racial and ethnic minorities",
    "race": "people of racial and ethnic minorities",
    "profession": "people of the professions named",
    "race-color": "people of racial and ethnic minorities",
    "nationality": "migrants and people of other nationalities",
    "religion": "people of religious minorities",
    "disability": "people with disabilities",
    "socioeconomic": "people with little money or schooling",
    "sexual-orientation": "gay, lesbian and bisexual people",
    "physical-appearance": "people judged by their looks",
    "belief": "people of a faith, and people of none",
    "region": "people from certain regions",
    "occupation": "people in certain occupations",
    "health": "people with an illness or a disability",
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


@dataclass(frozen=True)
class Forecast:
    """What a check will rest on, known before anything is scored.

    Attributes
    ----------
    df : float
        Degrees of freedom; below `MIN_DF` there will be no interval.
    passable : float, optional
        Of a rate or share: the smallest limit that a model without effect passes 8 times in 10.
    """

    id: str
    n: int
    clusters: float
    df: float
    passable: float | None = None

    def largest_se(self, limit: float) -> float:
        """Return the standard error up to which a model without effect passes a limit 8 times in 10."""
        return limit / resolvability(1.0, self.df, 2.0).passable_limit


def forecasts(pack: Pack, rows: pd.DataFrame) -> list[Forecast]:
    """Return what each check of a pack will rest on; `rows` need no real values."""
    found = []
    for statistic, axis, contrast in _planned(pack):
        mine = select(rows, statistic, axis, contrast)
        n, _ = counts(mine)
        try:
            sample = sample_of(mine, statistic) if n else None
        except ValueError:
            sample = None
        design = sample.design if sample else None
        if sample is not None and design is None:
            design = Design.mean([sample.clusters[0]])
        clusters = min((e for _, e in design.counts), default=0.0) if design else 0.0
        df, passable = design.df if design else 0.0, None
        if design is not None and df >= MIN_DF and statistic.kind in ("rate", "share"):
            half = np.full(n, 0.5 if statistic.kind == "share" else 0.0)
            fit = design.fit(half)
            make = share_estimate if statistic.kind == "share" else rate_estimate
            power = make(fit, n=n, clusters=clusters).resolvability
            passable = power.passable_limit if power else None
        found.append(Forecast(_id(pack, statistic, axis, contrast), n, clusters, df, passable))
    return found


def upward(packs: Sequence[Pack]) -> list[str]:
    """Return the ids of the findings that noise alone makes positive: only their difference judges."""
    return [_id(p, s, axis, contrast) for p in packs for s, axis, contrast in _planned(p) if s.upward]


def _planned(pack: Pack) -> list[tuple[Statistic, str, str]]:
    measure = MEASURES[pack.spec.measure]
    return [
        (s, axis, contrast)
        for s in measure.statistics(pack)
        for axis, contrast in measure.contrasts(pack)
        if not s.only or axis in s.only or contrast in s.only
    ]


def _id(pack: Pack, statistic: Statistic, axis: str, contrast: str) -> str:
    return f"{pack.name}/{statistic.name}/{axis}/{statistic.contrast or contrast}"


def build(
    measured: Sequence[Measured],
    model: ModelId,
    policy: Policy,
    seed: int,
    baselines: Mapping[str, Sequence[Measured]] | None = None,
) -> tuple[Finding, ...]:
    """Return every finding of an audit, floors first.

    Parameters
    ----------
    measured : sequence of Measured
        Probe packs, their controls and the floors of their languages.
    policy : Policy
        Names the limits at which each self-check is run.
    baselines : mapping, optional
        By name, the probes measured in a scorer that knows nothing: their effects stand beside ours.
    """
    by_name = {m.pack.name: m for m in measured}
    found, broken = _floors(measured)
    families = Counter(
        _family(m.pack, s) for m in measured if m.pack.spec.role == "probe" for s, _, _ in _planned(m.pack)
    )
    for m in measured:
        if m.pack.spec.role == "placebo" or m.pack.is_floor:
            continue
        control = next((by_name[c] for c in m.pack.spec.controls if c in by_name), None)
        for statistic, axis, contrast in _planned(m.pack):
            finding = _finding(m, control, statistic, axis, contrast, model, policy, seed, families)
            reason = broken.get(m.pack.name, "")
            if not reason and control is not None and (why := broken.get(control.pack.name, "")):
                reason = f"its control {control.pack.name}: {why}"
            if reason and finding.status in (Status.ESTIMATED, Status.INSUFFICIENT):
                finding = finding.model_copy(update={"status": Status.INVALID, "reason": reason})
            if finding.effect is not None and baselines:
                beside = _beside(baselines, m.pack, statistic, axis, contrast, seed)
                finding = finding.model_copy(update={"details": finding.details | beside})
            found.append(finding)
    return concordance(corrected(found))


def _beside(
    baselines: Mapping[str, Sequence[Measured]],
    pack: Pack,
    statistic: Statistic,
    axis: str,
    contrast: str,
    seed: int,
) -> dict[str, float]:
    """Return the same statistic of scorers that know nothing."""
    out = {}
    for name, measured in baselines.items():
        rows = next((m.rows for m in measured if m.pack.name == pack.name and m.rows is not None), None)
        mine = select(rows, statistic, axis, contrast) if rows is not None else None
        if mine is None or not mine["value"].notna().any():
            continue
        with suppress(ValueError):  # a reference figure: the finding stands without it
            estimate = estimate_of(
                sample_of(mine, statistic), 1, stream(seed, f"{name}/{pack.name}")
            ).estimate
            out[f"{name}_effect"] = estimate.value
            if estimate.intervals:
                out[f"{name}_low"], out[f"{name}_high"] = (
                    getattr(estimate.intervals["0.95"], end) for end in ("low", "high")
                )
    return out


def _family(pack: Pack, statistic: Statistic) -> str:
    return f"{pack.spec.family or pack.name}/{statistic.name}"


# --- one finding ----------------------------------------------------------------------------


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
    rows = select(m.rows, statistic, axis, contrast)
    n, n_skipped = counts(rows)
    base = base.model_copy(
        update={
            "n": n, "n_skipped": n_skipped,
            "caveats": statistic.caveats + (statistic.told(m.rows) if statistic.told else ()),
            "evidence": (_selector(pack, rows, statistic, axis, contrast),),
        }
    )  # fmt: skip
    if not base.n:
        reason = next(iter(rows.loc[rows["value"].isna(), "skipped"]), "the pack has no items for this check")
        return base.model_copy(update={"reason": f"no item could be scored: {reason}"})
    comparisons = families[family]
    rng = stream(seed, f"estimate/{identity}")
    try:
        sample = sample_of(rows, statistic)
        outcome = estimate_of(sample, comparisons, rng)
    except ValueError as exc:
        return base.model_copy(update={"status": Status.INSUFFICIENT, "reason": str(exc)})
    effect = outcome.estimate
    beside, difference, joint = _controlled(m, control, sample, effect, axis, contrast, comparisons, rng)
    status, reason = _status(base, effect, beside, pack, control)
    rule = next((r for r in policy.rules if fnmatchcase(identity, r.check)), None)
    checked = None
    if rule is not None and statistic.kind in _LINEAR and effect.intervals:
        own = (sample.design, sample.values)
        design, y = own if rule.metric == "effect" else (joint or (None, None))
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
                    (_selector(control.pack, select(control.rows, statistic, axis, contrast), statistic, axis, contrast),)
                    if control is not None and control.rows is not None else ()
                ),
            ),
            "self_check": checked, "examples": _examples(pack, sample),
            "details": details_of(pack, rows, m.rows, statistic) | odds(statistic, effect, difference)
            | outcome.details
            | (statistic.details(m.rows, axis, contrast) if statistic.details else {}),
            "clusters": tuple(
                Clusters(name=n, count=c, effective=e)
                for n, (c, e) in zip(_cluster_names(pack, statistic), outcome.counts, strict=False)
            ),
        }
    )  # fmt: skip


def _examples(pack: Pack, sample: Sample) -> tuple[Example, ...]:
    """Return the auditor's own items that differ most, by their ids: never a text."""
    if "texts" not in pack.shape.brings or sample.statistic.kind != "mean" or sample.statistic.upward:
        return ()
    values = sample.rows[["item", "value"]].assign(size=sample.rows["value"].abs())
    largest = values[values["size"] > 0].sort_values(["size", "item"], ascending=[False, True])
    return tuple(
        Example(item=str(i), value=float(v))
        for i, v in largest[["item", "value"]].head(EXAMPLES).itertuples(index=False)
    )


def _affected(axis: str, first: str, second: str) -> str:
    if first in _GROUPS and second in _GROUPS:
        return f"{_GROUPS[first]} and {_GROUPS[second]}"
    return _AFFECTED.get(axis, axis)


def _selector(pack: Pack, rows: pd.DataFrame, statistic: Statistic, axis: str, contrast: str) -> RowSelector:
    return RowSelector(
        where={"pack": pack.name, "measure": statistic.rows, "contrast": contrast}
        | ({"axis": axis} if axis != "all" else {}),
        at_least={} if statistic.min_covariate is None else {"covariate": statistic.min_covariate},
        rows=len(rows),
    )


def _controlled(
    m: Measured,
    control: Measured | None,
    sample: Sample,
    effect: Estimate,
    axis: str,
    contrast: str,
    comparisons: int,
    rng: np.random.Generator,
) -> tuple[Control | None, Estimate | None, tuple[Design, Array] | None]:
    """Return the control, the effect minus it, and the design and scores of that difference."""
    statistic = sample.statistic
    rows, pack, why = _control_rows(m, control, statistic, axis, contrast)
    if pack is None:
        return None, None, None
    identity = _id(pack, statistic, axis, contrast)
    margin = pack.spec.margins.get(statistic.name, 0.0)
    other = None
    if rows is not None and rows["value"].notna().any():
        scored, skipped = counts(rows)
        if skipped > MOST_SKIPPED * (scored + skipped):
            why = f"{skipped} of {scored + skipped} of its items were skipped"
        else:
            try:
                other = sample_of(rows, statistic)
            except ValueError as exc:
                why = str(exc)
    if other is None:
        return Control(finding=identity, effect=None, margin=margin, exceeded=True, note=why), None, None
    beside = estimate_of(other, 1, rng).estimate
    ends = beside.intervals.get("0.95") or Interval(low=beside.value, high=beside.value)
    exceeded = margin > 0 and (ends.low > beside.null + margin or ends.high < beside.null - margin)
    note = "" if margin > 0 else "the control pack declares no margin for this statistic; it cannot veto"
    shown = Control(finding=identity, effect=beside, margin=margin, exceeded=exceeded, note=note)
    if sample.design is None or other.design is None:
        return shown, independent_difference(effect, beside, comparisons=comparisons), None
    # The same template, the same text or the same pair is one cluster on both sides.
    joined = [a + b for a, b in zip(sample.clusters, other.clusters, strict=True)]
    design = Design.difference(sample.design, other.design, joined)
    if statistic.kind == "rate":
        both = [(s.design.fit(s.values), len(s.values), s.design) for s in (sample, other) if s.design]
        return shown, rates(both, design.df, comparisons), None
    if statistic.kind in ("rate_contrast", "net"):  # two gaps of 0 have a linear fit without variance
        again = estimate_of(other, comparisons, rng).estimate
        return shown, recovered_difference(effect, again, comparisons=comparisons, bound=2.0), None
    y = np.concatenate([sample.values, other.values])
    return shown, estimate(design.fit(y), comparisons=comparisons), (design, y)


def _control_rows(
    m: Measured, control: Measured | None, statistic: Statistic, axis: str, contrast: str
) -> tuple[pd.DataFrame | None, Pack | None, str]:
    """Return the rows of the control and its pack: of the pack itself, or of its placebo pack."""
    if m.pack.shape.controls_itself and m.rows is not None:
        shared = m.rows[(m.rows["role"] == "control") & (m.rows["axis"] == PLACEBO)]
        if len(shared):  # one control for all contrasts, of those statistics that need one
            if statistic.rows not in set(shared["measure"]):
                return None, None, ""
            axis, contrast = shared.iloc[0][["axis", "contrast"]]
        mine = select(m.rows, statistic, axis, contrast, role="control")
        return mine.assign(role="probe"), m.pack, "no item of the control could be scored"
    if control is None:
        return None, None, ""
    rows = select(control.rows, statistic, axis, contrast) if control.rows is not None else None
    return rows, control.pack, control.reason or "no item of the control could be scored"


def _status(
    base: Finding, effect: Estimate, beside: Control | None, pack: Pack, control: Measured | None
) -> tuple[Status, str]:
    if base.n_skipped > MOST_SKIPPED * (base.n + base.n_skipped):
        return Status.INSUFFICIENT, (
            f"{base.n_skipped} of {base.n + base.n_skipped} items were skipped; the rest no longer speaks for the pack"
        )
    if beside is not None and beside.effect is None:
        # The auditor's texts may hold too few words of the control: then more of them would help.
        status = Status.INSUFFICIENT if pack.shape.brings else Status.INVALID
        return status, f"its control could not be measured: {beside.note}"
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


# --- floors ---------------------------------------------------------------------------------


def _floors(measured: Sequence[Measured]) -> tuple[list[Finding], dict[str, str]]:
    """Return the floors' findings, and for each pack below one the reason."""
    found: list[Finding] = []
    broken: dict[str, str] = {}
    for m in measured:
        floor = MEASURES[m.pack.spec.measure].floor
        if floor is None or not (
            m.pack.is_floor or (m.rows is not None and (m.rows["measure"] == floor.rows).any())
        ):
            continue
        finding = _vouched(m, floor)
        if finding.status is not Status.ESTIMATED:
            broken[m.pack.name] = f"the model is below its floor: {finding.reason}"
        found.append(finding)
    there = {(m.pack.spec.measure, m.pack.language): m.pack.name for m in measured if m.pack.is_floor}
    for m in measured:
        kind = MEASURES[m.pack.spec.measure].floored_by
        if m.pack.is_floor or m.rows is None or not kind:
            continue
        name = there.get((kind, m.pack.language))
        if name is None:
            broken.setdefault(m.pack.name, f"there is no pack {floor_name(m.pack)} to tell a broken model by")
        elif name in broken:
            broken.setdefault(m.pack.name, broken[name])
    return found, broken


def floor_name(pack: Pack) -> str:
    """Return the name of the floor pack that must hold for a pack; empty when it needs none."""
    kind = MEASURES[pack.spec.measure].floored_by
    return f"{_FLOOR_NAMES.get(kind, kind.replace('_', '-'))}-{pack.language}" if kind else ""


def _vouched(m: Measured, floor: Floor) -> Finding:
    pack = m.pack
    axis = pack.language if pack.is_floor else pack.spec.axis or "all"  # an id is lower-case: zh, not zh-Hans
    base = Finding(
        id=f"{pack.name}/{floor.rows}/{axis}/{floor.contrast}", pack=pack.name, measure=floor.rows, axis=axis,
        contrast=floor.contrast, role="floor", title=floor.title.format(pack=pack.name),
        estimand=floor.estimand, unit=floor.unit, family="floors", gates=False, reason=m.reason,
        status=Status.ERROR if m.crashed else Status.NOT_RUN,
    )  # fmt: skip
    if m.rows is None:
        return base
    rows = m.rows[m.rows["measure"] == floor.rows]
    vouch = floor.judge(pack, rows)
    return base.model_copy(
        update={
            "n": vouch.n, "n_skipped": vouch.skipped, "reason": vouch.reason, "effect": vouch.effect,
            "status": Status.INVALID if vouch.reason else Status.ESTIMATED, "details": vouch.details,
            "evidence": (RowSelector(where={"pack": pack.name, "measure": floor.rows}, rows=len(rows)),),
        }
    )  # fmt: skip


# --- multiplicity ---------------------------------------------------------------------------


def corrected(found: Sequence[Finding]) -> tuple[Finding, ...]:
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
