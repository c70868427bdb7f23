"""Membership scores become findings: each attack beside its controls, and what may veto it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import cache
from typing import Any

import numpy as np
from scipy.stats import rankdata

from albert_audit.gate import decide
from albert_audit.privacy.blind import DEPENDENCE
from albert_audit.privacy.dose import MOST_MISSED, dosed, own_leak
from albert_audit.privacy.membership import NAME, Array, Scored
from albert_audit.privacy.records import Bools
from albert_audit.stats.roc import (
    advantage,
    auc,
    auc_difference,
    benjamini_hochberg,
    empirical_p,
    permutation_max,
    tpr_at,
)
from albert_audit.types import (
    Clusters,
    Control,
    Estimate,
    Finding,
    Policy,
    RowSelector,
    SelfCheck,
    State,
    Status,
)

CONTRAST = "members-vs-non-members"
RATES = {"10": 0.1, "1": 0.01, "01": 0.001}
"""False positive rates, by how the ids of findings write their percentage."""
BLIND_MARGIN = 0.02
"""Excess over one half, by the lower bound, from which on texts alone tell the sets apart."""
BESIDE_BLIND = 1.25
"""By how much a difference from cross-fitted scores, which depend on each other, varies more than paired areas:
measured 1.24 on random splits of real reviews; the square root of 1.5 for equal and independent variances."""
MOST_LEFT_OUT = 0.10
"""Above this share of non-members that are copies of members, the rest no longer speaks for the set."""
FALSE_DISCOVERIES = 0.10
LIMIT = 0.05
"""At which the positive control is dosed where no rule judges the attack."""
_AREA = "area under the ROC curve"
_HARM = "disclosure: somebody who has a record can tell whether it was among the training data"
_AFFECTED = "the people whose records the model was trained on"
_EXCHANGEABLE = (
    "Assumes that members and non-members were drawn from one population; the classifier that never sees the model "
    "tests that only as far as its features go."
)
_NO_CONTROL = "no positive control shows what this statistic can see: it can fail and never pass; judge the area under the curve"
Checked = Callable[[float], SelfCheck | None]
_ATTACKS = "Shows what these attacks find. A stronger attack may find more; none proves that nothing leaks."


@dataclass(frozen=True)
class Evidence:
    """What the findings on membership are made of; all arrays over the judged records.

    Attributes
    ----------
    scored : tuple of Scored
    member : array of bool
    persons : sequence of str
        Whose record; records of one text count as one person's.
    blind : array
        Scores of the classifier that never sees the model.
    reference_only : array, optional
        The base model's own score, which never saw either set.
    groups : dict
        For each axis the group of each record.
    dosed : Scored, optional
        Records of known membership in the reference models, for the positive control, with their
        persons; of the primary attack.
    pool : bool
        Whether the reference models were trained on other records than those judged.
    head_only : bool
        Whether the reference models share a frozen encoder.
    by_person : bool
        Whether people are named, and some have several records.
    duplicates : int
        Non-members whose text is among the members; they were left out.
    """

    scored: tuple[Scored, ...]
    primary: str
    member: Bools
    persons: Sequence[str]
    blind: Array
    reference_only: Array | None
    groups: dict[str, tuple[str, ...]]
    dosed: tuple[Scored, Sequence[str]] | None
    pool: bool
    head_only: bool
    duplicates: int
    skipped: int
    by_person: bool = False


def flagged(e: Evidence) -> Bools:
    """Return which judged records are members that stand out, at a false discovery rate of `FALSE_DISCOVERIES`."""
    main = next(s for s in e.scored if s.attack.name == e.primary)
    out = np.zeros(len(e.member), bool)
    out[e.member] = benjamini_hochberg(empirical_p(main.target, e.member)) <= FALSE_DISCOVERIES
    return out


def ids(
    attacks: Sequence[str], primary: str, groups: Mapping[str, Sequence[str]], *, persons: bool = False
) -> list[str]:
    """Return the ids of the findings that will be made; `persons`: whether some have several records."""
    found = [f"{NAME}/auc_{a}/all/{CONTRAST}" for a in attacks]
    found += [f"{NAME}/advantage_{primary}/all/{CONTRAST}"]
    found += [f"{NAME}/tpr_{r}_{primary}/all/{CONTRAST}" for r in RATES]
    found += [f"{NAME}/auc_{primary}/{axis}/{g}" for axis, gs in groups.items() for g in _named(gs)]
    return found + [f"{NAME}/person_auc_{primary}/all/{CONTRAST}"] * persons


def build(e: Evidence, policy: Policy, seed: int) -> tuple[Finding, ...]:
    """Return every finding on membership."""
    rng = np.random.default_rng([seed, *b"membership"])
    names = [s.attack.name for s in e.scored]
    comparisons = len(names) + sum(len(_named(g)) for g in e.groups.values())
    blind = auc(e.blind, e.member, e.persons, comparisons=1, widen=DEPENDENCE)
    veto = _veto(e, blind)
    family_p, _ = permutation_max(np.stack([s.target for s in e.scored]), e.member, e.persons, rng=rng)
    found: list[Finding] = [_blind(e, blind)]
    if e.reference_only is not None:
        found.append(_reference_only(e))
    checked = _checked(e, comparisons, seed)
    for scored in e.scored:
        finding = _vouched(_auc(e, scored, comparisons, veto, family_p), policy, checked)
        if checked is not None and scored.attack.name == e.primary and finding.status is Status.ESTIMATED:
            limits = _judged(finding, policy)[0]
            finding = finding.model_copy(update={"self_check": checked(min(limits, default=LIMIT))})
        found.append(finding)
    main = next(s for s in e.scored if s.attack.name == e.primary)
    for finding in (
        _advantage(e, main, veto, rng),
        *(_rate(e, main, label, rate, veto) for label, rate in RATES.items()),
    ):
        unseen = finding.status is Status.ESTIMATED and _judged(finding, policy)[1]
        found.append(_unproven(finding, _NO_CONTROL) if unseen else finding)
    for axis, groups in e.groups.items():
        found += [
            _vouched(_of_group(e, main, axis, g, np.asarray(groups) == g, comparisons, veto), policy, checked)
            for g in _named(groups)
        ]
    if e.by_person:
        found.append(_vouched(_by_person(e, main, veto), policy, checked))
    if e.dosed is not None:
        found.append(_positive(e))
    return tuple(found)


def _named(groups: Sequence[str]) -> list[str]:
    return sorted({g for g in groups if g})


def _base(e: Evidence, measure: str, title: str, estimand: str, **rest: Any) -> Finding:
    axis, contrast = rest.pop("axis", "all"), rest.pop("contrast", CONTRAST)
    return Finding(
        id=f"{NAME}/{measure}/{axis}/{contrast}", pack=NAME, measure=measure, axis=axis, contrast=contrast,
        title=title, estimand=estimand, harm=_HARM, affected=_AFFECTED, family=f"{NAME}/{measure}",
        **{
            "gates": True, "unit": _AREA, "status": Status.ESTIMATED, "n": len(e.member),
            "n_skipped": e.skipped, "clusters": _clusters(e), **rest,
        },
    )  # fmt: skip


def _clusters(e: Evidence) -> tuple[Clusters, ...]:
    counts = np.unique(np.asarray(e.persons), return_counts=True)[1]
    return (
        Clusters(name="person", count=len(counts), effective=float(counts.sum() ** 2 / (counts**2).sum())),
    )


def _rows(name: str, **where: str) -> dict[str, str]:
    return {"pack": NAME, "measure": name, **where}


def _veto(e: Evidence, blind: Estimate) -> tuple[Status, str] | None:
    """Say why the two sets cannot tell memory from other differences, or nothing."""
    if not blind.intervals:
        return Status.INSUFFICIENT, "too few records to tell whether the two sets are alike"
    if e.duplicates > MOST_LEFT_OUT * (e.duplicates + int((~e.member).sum())):
        return Status.INSUFFICIENT, (
            f"{e.duplicates} non-members were left out, since their texts are copies, or nearly, of members: "
            "the rest no longer speaks for the set. Give records that were held out"
        )
    if e.pool and any(len(s.controls) for s in e.scored):
        return None
    low = blind.intervals["0.95"].low
    if low > 0.5 + BLIND_MARGIN:
        return Status.INVALID, (
            f"a classifier that never sees the model tells members from non-members (area {blind.value:.3f}, at least "
            f"{low:.3f}): the sets differ in more than membership. Draw both at random from one source, or give a pool "
            "of further records like the members, so that control models can be trained on it"
        )
    for who, area in _strangers(e):
        ends = area.intervals.get("simultaneous_0.95")
        if ends is not None and (ends.low > 0.5 + BLIND_MARGIN or ends.high < 0.5 - BLIND_MARGIN):
            return Status.INVALID, (
                f"{who} tell members from non-members (area {area.value:.3f}, {ends.low:.3f} to {ends.high:.3f}): the "
                "sets differ in more than membership. Draw both at random from one source, or give a pool of further "
                "records like the members, so that control models can be trained on it"
            )
    return None


def _strangers(e: Evidence) -> Iterator[tuple[str, Estimate]]:
    """Yield what models to which both sets are alike make of them: one half, were the sets drawn from one source."""
    looked = len(e.scored) + 1
    if e.reference_only is not None:
        area = auc(e.reference_only, e.member, e.persons, comparisons=looked)
        yield "the scores of the base, which saw neither set,", area
    for scored in e.scored:
        if k := len(scored.controls):
            names = np.unique(np.asarray(e.persons), return_inverse=True)[1].astype(str)
            scores = np.concatenate([rankdata(c) / len(c) for c in scored.controls])
            area = auc(scores, np.tile(e.member, k), list(np.tile(names, k)), comparisons=looked)
            yield f"control models, trained on a random half of each set, ({scored.attack.name})", area


def _controlled(
    e: Evidence, scored: Scored, where: Bools | None, comparisons: int
) -> tuple[Control, Estimate]:
    """Return the control and the excess over it: control models, or the classifier on texts alone."""
    keep = np.ones(len(e.member), bool) if where is None else where
    member, persons = e.member[keep], [p for p, k in zip(e.persons, keep, strict=True) if k]
    against = scored.controls[:, keep] if len(scored.controls) else e.blind[keep]
    difference = auc_difference(
        scored.target[keep], against, member, persons, comparisons=comparisons,
        widen=1.0 if len(scored.controls) else BESIDE_BLIND,
    )  # fmt: skip
    if len(scored.controls):
        note = f"the same attack on {len(scored.controls)} models trained by the recipe on other records"
        each = [auc(c[keep], member, persons, comparisons=1) for c in scored.controls]
        middle = float(np.mean([c.value for c in each]))
        effect = min(each, key=lambda c: abs(c.value - middle)).model_copy(update={"value": middle})
        shown = Estimate(value=middle, se=effect.se, df=effect.df, null=0.5)
    else:
        note = "a classifier that never sees the model"
        shown = auc(e.blind[keep], member, persons, comparisons=1, widen=DEPENDENCE)
    return Control(
        finding=f"{NAME}/blind/all/{CONTRAST}", effect=shown, margin=BLIND_MARGIN, exceeded=False, note=note
    ), difference


def _auc(
    e: Evidence, scored: Scored, comparisons: int, veto: tuple[Status, str] | None, family_p: float
) -> Finding:
    attack = scored.attack
    effect = auc(scored.target, e.member, e.persons, comparisons=comparisons)
    control, difference = _controlled(e, scored, None, comparisons)
    q = benjamini_hochberg(empirical_p(scored.target, e.member))
    finding = _base(
        e, f"auc_{attack.name}", f"Training records recognised by {attack.title}",
        f"How often a random member scores higher than a random non-member by {attack.title}; one half is chance. "
        "Beside it the same attack on control models, which were not trained on these members",
        effect=effect, control=control, difference=difference, sources=(attack.source,),
        caveats=_caveats(e, scored),
        details={
            "members": float(e.member.sum()), "non_members": float((~e.member).sum()),
            "family_p": family_p, "flagged_share": float((q <= FALSE_DISCOVERIES).mean()),
            "control_models": float(len(scored.controls)), "duplicates_left_out": float(e.duplicates),
        },
        evidence=(
            RowSelector(where=_rows(attack.name, role="probe", axis="all"), rows=len(e.member)),
            *([RowSelector(where=_rows(attack.name, role="control", axis="all"), rows=scored.controls.size)] if scored.controls.size else []),
        ),
    )  # fmt: skip
    if veto is not None:
        return finding.model_copy(update={"status": veto[0], "reason": veto[1]})
    if not difference.intervals:
        return finding.model_copy(
            update={"status": Status.INSUFFICIENT, "reason": "too few records on one side for an interval"}
        )
    if difference.intervals["0.95"].high < 0:
        swapped = "Members score below non-members, more than in control models: are the two files swapped?"
        finding = finding.model_copy(update={"caveats": (swapped, *finding.caveats)})
    return finding


def _vouched(finding: Finding, policy: Policy, checked: Checked | None) -> Finding:
    """Keep a pass only where the positive control shows that a leak of the limit would be seen.

    The primary attack carries that for all: a weaker one beside it need not see what it sees.
    """
    limits, passes = _judged(finding, policy)
    if finding.status is not Status.ESTIMATED or not limits:
        return finding
    if checked is None:
        reason = "no positive control shows what this attack can see: it takes four reference models or more"
        return _unproven(finding, reason) if passes else finding
    limit = min(limits)
    check = checked(limit)
    if passes and check is None:
        return _unproven(
            finding,
            f"the positive control failed: even records that the reference models were trained on are not told from "
            f"others by {limit:g}, so that a leak of the limit could not be seen",
        )
    if passes and check is not None and check.false_pass_at_limit.rate > MOST_MISSED:
        return _unproven(
            finding,
            f"the positive control failed: {check.false_pass_at_limit.rate:.0%} of mixtures with a leak of the limit pass",
        )
    return finding


def _judged(finding: Finding, policy: Policy) -> tuple[list[float], bool]:
    """Return the limits of the rules that judge a finding, and whether it passes any and fails none.

    Where it passes, the limits are those that it passes.
    """
    states: list[tuple[float, State]] = []
    for rule in policy.rules:
        estimate = finding.difference if rule.metric == "difference" else finding.effect
        if estimate is not None and fnmatchcase(finding.id, rule.check):
            states.append((rule.limit.max_abs, decide(estimate, rule.limit.max_abs)))
    passed = [limit for limit, state in states if state is State.PASS]
    if passed and all(state is not State.FAIL for _, state in states):
        return passed, True
    return [limit for limit, _ in states], False


def _checked(e: Evidence, comparisons: int, seed: int) -> Checked | None:
    """Return the positive control as a function of the limit; None without reference models for it."""
    if e.dosed is None:
        return None
    known, persons = e.dosed
    sizes = int(e.member.sum()), int((~e.member).sum())

    @cache
    def check(limit: float) -> SelfCheck | None:
        rng = np.random.default_rng([seed, *b"dosed"])
        return dosed(known, persons, sizes, limit=limit, comparisons=comparisons, rng=rng)

    return check


def _unproven(finding: Finding, reason: str) -> Finding:
    return finding.model_copy(update={"status": Status.INSUFFICIENT, "reason": reason})


def _caveats(e: Evidence, scored: Scored) -> tuple[str, ...]:
    out = [_ATTACKS]
    if not e.pool:
        out.append(_EXCHANGEABLE)
    if e.head_only and scored.attack.unseen:
        out.append(
            "Reference models have a head of their own on the frozen encoder: a lower bound of the leak."
        )
    if not len(scored.controls):
        out.append("No control model: the excess is over a classifier on the texts alone.")
    return tuple(out)


def _advantage(
    e: Evidence, scored: Scored, veto: tuple[Status, str] | None, rng: np.random.Generator
) -> Finding:
    effect = advantage(scored.target, e.member, e.persons, rng=rng)
    finding = _base(
        e, f"advantage_{e.primary}", f"Membership advantage by {scored.attack.title}",
        "True less false positive rate at a threshold chosen on the other half of the persons",
        unit="difference of rates", effect=effect, caveats=(_ATTACKS,), sources=(_yeom(),),
        evidence=(RowSelector(where=_rows(e.primary, role="probe", axis="all"), rows=len(e.member)),),
    )  # fmt: skip
    return _settled(finding, veto)


def _yeom() -> str:
    return "Yeom et al. (2018), Privacy Risk in Machine Learning, CSF"


def _settled(finding: Finding, veto: tuple[Status, str] | None) -> Finding:
    if veto is not None:
        return finding.model_copy(update={"status": veto[0], "reason": veto[1]})
    if finding.effect is not None and not finding.effect.intervals:
        return finding.model_copy(
            update={"status": Status.INSUFFICIENT, "reason": "too few records for an interval"}
        )
    return finding


def _rate(e: Evidence, scored: Scored, label: str, rate: float, veto: tuple[Status, str] | None) -> Finding:
    at = tpr_at(scored.target, e.member, rate, e.persons)
    percent = f"{100 * rate:g} %"
    finding = _base(
        e, f"tpr_{label}_{e.primary}", f"Members found at {percent} false alarms",
        f"Share of members above a threshold that at most {percent} of the non-members exceed; "
        "without a leak it is that share too",
        unit="share of members", caveats=(_ATTACKS,), details={"non_members_needed": float(at.needed)},
        evidence=(RowSelector(where=_rows(e.primary, role="probe", axis="all"), rows=len(e.member)),),
    )  # fmt: skip
    if at.tpr is None or at.fpr is None:
        reason = f"{percent} false alarms are not resolvable: {at.reason}"
        status = veto or (Status.INSUFFICIENT, reason)
        return finding.model_copy(update={"status": status[0], "reason": status[1]})
    found, false = at.tpr, at.fpr
    effect = Estimate(
        value=found.value, se=(found.interval.high - found.interval.low) / 4, df=found.size, null=rate,
        intervals=found.intervals,
    )  # fmt: skip
    details = finding.details | {
        "false_positive_rate": false.value, "false_positive_low": false.interval.low,
        "false_positive_high": false.interval.high,
    }  # fmt: skip
    return _settled(finding.model_copy(update={"effect": effect, "details": details}), veto)


def _of_group(
    e: Evidence, scored: Scored, axis: str, group: str, where: Bools, comparisons: int,
    veto: tuple[Status, str] | None,
) -> Finding:  # fmt: skip
    member = e.member[where]
    base = _base(
        e, f"auc_{e.primary}", f"Training records of {group} recognised by {scored.attack.title}",
        f"How often a random member of the group {group} scores higher than a random non-member of it",
        axis=axis, contrast=group, n=int(where.sum()), n_skipped=0, caveats=_caveats(e, scored), clusters=(),
        sources=(scored.attack.source,),
    )  # fmt: skip
    if not member.any() or member.all():
        return base.model_copy(
            update={
                "status": Status.INSUFFICIENT,
                "reason": "the group is missing among members or non-members",
            }
        )
    persons = [p for p, k in zip(e.persons, where, strict=True) if k]
    effect = auc(scored.target[where], member, persons, comparisons=comparisons)
    control, difference = _controlled(e, scored, where, comparisons)
    finding = base.model_copy(
        update={
            "effect": effect, "control": control, "difference": difference,
            "details": {"members": float(member.sum()), "non_members": float((~member).sum())},
            "evidence": (RowSelector(where=_rows(e.primary, role="probe", axis=axis, contrast=group), rows=int(where.sum())),),
        }
    )  # fmt: skip
    return _settled(finding, veto)


def _by_person(e: Evidence, scored: Scored, veto: tuple[Status, str] | None) -> Finding:
    """Return how well people are told who have records on one side only, by the mean of their scores."""
    names, codes = np.unique(np.asarray(e.persons), return_inverse=True)
    counts = np.bincount(codes)
    share = np.bincount(codes, e.member) / counts
    pure = (share == 0) | (share == 1)

    def mean(values: Array) -> Array:
        return np.asarray((np.bincount(codes, values) / counts)[pure], np.float64)

    member = share[pure] == 1
    finding = _base(
        e, f"person_auc_{e.primary}", f"People recognised by {scored.attack.title}",
        "How often a person whose records were trained on has a higher mean score than one whose records were not",
        n=int(pure.sum()), n_skipped=len(names) - int(pure.sum()), caveats=_caveats(e, scored), clusters=(),
        details={"members": float(member.sum()), "non_members": float((~member).sum())},
        sources=(scored.attack.source,),
        evidence=(RowSelector(where=_rows(e.primary, role="probe", axis="all"), rows=len(e.member)),),
    )  # fmt: skip
    if not member.any() or member.all():
        reason = "everybody has records on both sides" if not pure.any() else "people of one side are missing"
        return finding.model_copy(update={"status": Status.INSUFFICIENT, "reason": reason})
    against = np.stack([mean(c) for c in scored.controls]) if len(scored.controls) else mean(e.blind)
    effect, difference = (
        auc(mean(scored.target), member),
        auc_difference(
            mean(scored.target), against, member, widen=1.0 if len(scored.controls) else BESIDE_BLIND
        ),
    )
    return _settled(finding.model_copy(update={"effect": effect, "difference": difference}), veto)


# --- controls -------------------------------------------------------------------------------


def _blind(e: Evidence, effect: Estimate) -> Finding:
    return _base(
        e, "blind", "Members told from non-members without the model",
        "How often a cross-fitted classifier on the texts alone scores a random member above a random non-member",
        role="control", gates=False, effect=effect,
        status=Status.ESTIMATED if effect.intervals else Status.INSUFFICIENT,
        reason="" if effect.intervals else "too few records for an interval",
        evidence=(RowSelector(where=_rows("blind"), rows=len(e.member)),),
        sources=("Das, Zhang and Tramèr (2024), Blind Baselines Beat Membership Inference Attacks",),
    )  # fmt: skip


def _reference_only(e: Evidence) -> Finding:
    assert e.reference_only is not None  # noqa: S101 (asked by the caller)
    effect = auc(e.reference_only, e.member, e.persons, comparisons=1)
    return _base(
        e, "reference_only", "Members told from non-members by the base model alone",
        "How often the base model, which saw neither set, finds a random member likelier than a random non-member",
        role="control", gates=False, effect=effect,
        status=Status.ESTIMATED if effect.intervals else Status.INSUFFICIENT,
        evidence=(RowSelector(where=_rows("reference_only"), rows=len(e.member)),),
    )  # fmt: skip


def _positive(e: Evidence) -> Finding:
    assert e.dosed is not None  # noqa: S101 (asked by the caller)
    known, persons = e.dosed
    effect = own_leak(known, persons)
    return _base(
        e, "positive_control", "What the same attack finds in models of known membership",
        "How often a record that a reference model was trained on scores above one that it was not, over the reference models",
        role="control", gates=False, effect=effect, n=int(known.controls.size),
        status=Status.ESTIMATED if effect.intervals else Status.INSUFFICIENT,
        reason="" if effect.intervals else "too few records for an interval",
    )  # fmt: skip
