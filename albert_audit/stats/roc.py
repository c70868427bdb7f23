"""How well scores tell members of a training set from non-members: areas, rates, families of attacks.

A higher score says "member". Records of one person are dependent: where `persons` are given, every
variance is clustered by person and every count is an effective one. Areas below one half are shown
as they are: turning them round would make a leak out of noise.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats

from albert_audit.stats.auc import _newcombe
from albert_audit.stats.families import benjamini_hochberg, empirical_p, permutation_max
from albert_audit.stats.inference import MIN_DF, effective_size, rate_difference
from albert_audit.stats.linear import Design, Fit
from albert_audit.stats.placements import (
    Area,
    Array,
    Bools,
    Codes,
    Persons,
    area_of,
    by_record,
    checked,
    effective_persons,
)
from albert_audit.stats.power import resolvability
from albert_audit.types import Estimate, Interval, Level

__all__ = [
    "HALVES",
    "Rate",
    "Roc",
    "TprAt",
    "advantage",
    "auc",
    "auc_difference",
    "benjamini_hochberg",
    "empirical_p",
    "permutation_max",
    "roc",
    "tpr_at",
]

HALVES = 1.2
"""Variance of a two-fold rate over that of independent halves.

Each half chooses the other's threshold. In simulated scores that leak nothing their advantages
correlate by 0.17 to 0.19, so the plain interval lay above 0 in 3.5 % of runs instead of 2.5 %.
"""
EDGE = 3.0
"""Where an area lies fewer effective records than this from 0 or 1, a paired t interval is too narrow.

In simulations of areas such as 0.98 and 0.95 with 20 a side its upper end missed in 10 % of runs, not
in 2.5 %. With this limit, and 100 to 400 a side at areas of 0.90 to 0.98, each end missed in 1.4 to
3.6 % of 500 runs.
"""


@dataclass(frozen=True)
class Roc:
    """The points of a ROC curve; a record with a score of at least the threshold is called a member.

    Attributes
    ----------
    fpr, tpr : ndarray, shape (points,)
        From (0, 0) to (1, 1), one point for each distinct score, so that ties move together.
    thresholds : ndarray, shape (points,)
        Falling, the first infinite.
    """

    fpr: Array
    tpr: Array
    thresholds: Array


@dataclass(frozen=True)
class Rate:
    """A rate with its exact intervals at an effective number of records."""

    value: float
    intervals: dict[Level, Interval]
    size: float

    @property
    def interval(self) -> Interval:
        """The 95 % interval."""
        return self.intervals["0.95"]


@dataclass(frozen=True)
class TprAt:
    """The true positive rate at a small false positive rate.

    Attributes
    ----------
    fpr_wanted : float
    threshold : float or None
        Scores *above* it are called members.
    tpr, fpr : Rate or None
        What was found at the threshold; None where that cannot be resolved.
    needed : int
        Fewest independent non-members of whom none may exceed the threshold and the 95 % upper end
        of the false positive rate still lies below the wanted one.
    resolvable : bool
    members, non_members : int
        Records.
    reason : str
        Why it cannot be resolved.
    """

    fpr_wanted: float
    threshold: float | None
    tpr: Rate | None
    fpr: Rate | None
    needed: int
    resolvable: bool
    members: int
    non_members: int
    reason: str = ""


# --- areas ----------------------------------------------------------------------------------


def roc(scores: ArrayLike, member: ArrayLike) -> Roc:
    """Return the ROC curve of scores (n,) for membership (n,).

    Raises
    ------
    ValueError
        When lengths disagree, a score is not finite, or a side is empty (so do all functions here).
    """
    s, inside, _ = checked(scores, member, None)
    values, index = np.unique(-s, return_inverse=True)
    hits = np.cumsum(np.bincount(index, inside)) / inside.sum()
    false = np.cumsum(np.bincount(index, ~inside)) / (~inside).sum()
    start = np.zeros(1)
    return Roc(np.append(start, false), np.append(start, hits), np.append(np.inf, -values))


def auc(
    scores: ArrayLike, member: ArrayLike, persons: Persons = None, *, comparisons: int = 1, widen: float = 1.0
) -> Estimate:  # fmt: skip
    """Return the area under the ROC curve: how often a member scores above a non-member, ties one half.

    Parameters
    ----------
    scores, member : array, shape (n,)
    persons : sequence of n labels, optional
        Records of one person are dependent, on one side or across both.
    comparisons : int
        Areas that are looked at together; widens only the simultaneous interval.
    widen : float
        A factor of the standard error, for scores that depend on each other: those of a cross-fitted
        classifier have the square root of 2.

    Returns
    -------
    Estimate
        With the null 0.5. Each interval is the wider, end by end, of the t interval with DeLong's or
        Obuchowski's variance and of Newcombe's score interval at the effective sizes, which has a
        width even where the sides do not overlap. The p-value is the larger of the two tests', so
        that it is below 5 % exactly where the interval excludes 0.5. No interval below `stats.MIN_DF`.

    Notes
    -----
    Degrees of freedom: the effective number of persons on the smaller side, less one.

    Sources: DeLong, DeLong and Clarke-Pearson (1988), Biometrics 44(3); Obuchowski (1997), Biometrics
    53(2), for clusters; Newcombe (2006), Stat. Med. 25(4), method 5.
    """
    s, inside, codes = checked(scores, member, persons)
    area = area_of(by_record(s, inside), inside, codes)
    area = replace(area, se=widen * area.se)
    m, n = (size / widen**2 for size in area.sizes)

    def ends(critical: float) -> Interval:
        low, high = _newcombe(area.value, m, n, critical)
        half = critical * area.se
        return Interval(
            low=max(min(area.value - half, low), 0.0), high=min(max(area.value + half, high), 1.0)
        )

    # Hanley and McNeil's variance at one half: the score test that belongs to Newcombe's interval.
    score_se = math.sqrt((1 + ((m + n) / 2 - 1) * 2 / 3) / (4 * m * n))
    tested = max(area.se, score_se)
    return _estimate(area, 0.5, ends, comparisons, tested=tested, typical=tested)


def auc_difference(
    scores: ArrayLike,
    against: ArrayLike,
    member: ArrayLike,
    persons: Persons = None,
    *,
    comparisons: int = 1,
    widen: float = 1.0,
) -> Estimate:
    """Return how far the area of an attack exceeds that of controls, the same records in both.

    Parameters
    ----------
    scores, member : array, shape (n,)
    against : array, shape (n,) or (k, n)
        A control's score, such as a blind classifier's, or the same attack on k control models. Each
        control has its own curve; their areas are averaged.
    persons, comparisons
        As for `auc`.

    Returns
    -------
    Estimate
        With the null 0. The paired t interval; where an area comes near 0 or 1 (`EDGE`), the wider, end
        by end, of that and of the one recovered from both areas' score intervals with their estimated
        correlation, which has a width even at 0 and 1. The p-value takes its standard error from the
        95 % end that lies towards 0.

    Notes
    -----
    The controls are taken as they are: how far other control models would differ is not in the width.

    Sources: DeLong et al. (1988) and Obuchowski (1997) for paired areas; Zou and Donner (2008), Stat.
    Med. 27(10), for the recovery of variances.
    """
    s, inside, codes = checked(scores, member, persons)
    others = np.atleast_2d(np.asarray(against, np.float64))
    if others.ndim != 2 or others.shape[1] != len(s) or not len(others) or not np.isfinite(others).all():
        raise ValueError(f"expected finite control scores ({len(s)},) or (k, {len(s)}), found {others.shape}")
    mine = by_record(s, inside)
    theirs = np.mean([by_record(o, inside) for o in others], axis=0)
    one, two = area_of(mine, inside, codes), area_of(theirs, inside, codes)
    gap = area_of(mine - theirs, inside, codes)
    gap = replace(gap, se=widen * gap.se)
    apart = 2 * one.se * two.se
    shared = (one.se**2 + two.se**2 - (gap.se / widen) ** 2) / apart if apart > 0 else 0.0
    r = min(max(shared, -1.0), 1.0)

    near = min(min(a.value, 1 - a.value) * min(a.sizes) for a in (one, two)) < EDGE

    def ends(critical: float) -> Interval:
        half = critical * gap.se
        if not near:
            return Interval(low=max(gap.value - half, -1.0), high=min(gap.value + half, 1.0))
        (a, b), (c, d) = (
            _newcombe(one.value, *one.sizes, critical),
            _newcombe(two.value, *two.sizes, critical),
        )
        down = _joined(one.value - a, d - two.value, r)
        up = _joined(b - one.value, two.value - c, r)
        return Interval(low=max(gap.value - max(down, half), -1.0), high=min(gap.value + max(up, half), 1.0))

    if gap.df < MIN_DF:
        return Estimate(value=gap.value, se=gap.se, df=gap.df)
    critical = float(stats.t.ppf(0.975, gap.df))
    middle = ends(critical)
    inner = (gap.value - middle.low if gap.value > 0 else middle.high - gap.value) / critical
    typical = (middle.high - middle.low) / (2 * critical)
    return _estimate(gap, 0.0, ends, comparisons, tested=inner, typical=typical)


# --- rates at a threshold -------------------------------------------------------------------


def tpr_at(scores: ArrayLike, member: ArrayLike, fpr: float, persons: Persons = None) -> TprAt:
    """Return the true positive rate at a false positive rate of at most `fpr`.

    Parameters
    ----------
    scores, member : array, shape (n,)
    fpr : float
        Between 0 and 1. The rate achieved never exceeds it; nothing is interpolated.
    persons : sequence of n labels, optional

    Notes
    -----
    The threshold is a score of the non-members: with j records allowed, the (j + 1)th highest. So the
    members' interval is not bent by its choice. The non-members' is exact for it too: the rate beyond
    the (j + 1)th highest of n is a Beta(j + 1, n - j) variable, whose upper quantile is
    Clopper-Pearson's for j hits; with ties fewer than j are hit and the upper end is still that of j.

    With persons the exact intervals are at the effective size: the number of independent records with
    the rate's clustered variance, at most n, times the ratio of squared t quantiles (Korn and Graubard
    1998, Survey Methodology 24(2)); where the rate is 0 or 1, the effective number of persons. Whether
    a rate can be resolved rests on the effective number of non-member *persons*: a few false positives
    cannot tell their design effect.

    Source: Clopper and Pearson (1934), Biometrika 26(4).
    """
    s, inside, codes = checked(scores, member, persons)
    if not 0 < fpr < 1:
        raise ValueError(f"expected a false positive rate between 0 and 1, found {fpr}")
    outside = np.sort(s[~inside])[::-1]
    needed = math.ceil(math.log(0.025) / math.log1p(-fpr))
    needed += 1 - 0.025 ** (1 / needed) >= fpr  # the bound lies *below* the rate
    there, known = effective_persons(codes[~inside]), effective_persons(codes[inside])
    reason = ""
    if there < needed:
        reason = f"{there:.0f} effective non-members, {needed} needed"
    elif known < MIN_DF + 1:
        reason = f"{known:.0f} effective members, {MIN_DF + 1:.0f} needed"
    counts = {"needed": needed, "members": int(inside.sum()), "non_members": len(outside)}
    if reason:
        return TprAt(fpr, None, None, None, resolvable=False, reason=reason, **counts)
    allowed = int(fpr * len(outside)) + 1
    while allowed / len(outside) > fpr:
        allowed -= 1
    threshold = float(outside[allowed])
    above = (s > threshold).astype(np.float64)
    return TprAt(
        fpr,
        threshold,
        _rate(above[inside], codes[inside]),
        _rate(above[~inside], codes[~inside], allowed),
        resolvable=True,
        **counts,
    )


def advantage(
    scores: ArrayLike,
    member: ArrayLike,
    persons: Persons = None,
    *,
    rng: np.random.Generator,
    comparisons: int = 1,
) -> Estimate:
    """Return the true less the false positive rate at a threshold that the other half chose.

    Parameters
    ----------
    scores, member : array, shape (n,)
    persons : sequence of n labels, optional
        A person is never in both halves.
    rng : numpy Generator
        Draws the halves.
    comparisons : int

    Returns
    -------
    Estimate
        With the null 0. Newcombe's interval at effective sizes, divided by `HALVES`, since the halves
        choose each other's thresholds. A half in which no threshold is better than chance calls nobody
        a member.

    Raises
    ------
    ValueError
        Also when the persons do not put members and non-members into both halves.

    Notes
    -----
    The largest difference over all thresholds, which is often shown, is above 0 without any leak.

    Source: Yeom et al. (2018), CSF, for the quantity.
    """
    s, inside, codes = checked(scores, member, persons)
    first = _halves(inside, codes, rng)
    if any(not (half & side).any() for half in (first, ~first) for side in (inside, ~inside)):
        raise ValueError("expected at least two persons among members and among non-members")
    called = np.zeros(len(s))
    for half in (first, ~first):
        curve = roc(s[half], inside[half])
        called[~half] = s[~half] >= curve.thresholds[np.argmax(curve.tpr - curve.fpr)]
    designs = [Design.mean([codes[side]]) for side in (inside, ~inside)]
    fits = [d.fit(called[side]) for d, side in zip(designs, (inside, ~inside), strict=True)]
    wider = [Fit(f.value, f.se * math.sqrt(HALVES), f.df) for f in fits]
    sizes = [d.counts[0][1] / HALVES for d in designs]
    return rate_difference(
        wider[0],
        wider[1],
        n=(int(inside.sum() / HALVES), int((~inside).sum() / HALVES)),
        clusters=(sizes[0], sizes[1]),
        df=min(d.df for d in designs),
        comparisons=comparisons,
    )


# --- parts ----------------------------------------------------------------------------------


def _joined(one: float, two: float, r: float) -> float:
    return math.sqrt(max(one**2 + two**2 - 2 * r * one * two, 0.0))


def _estimate(
    area: Area,
    null: float,
    ends: Callable[[float], Interval],
    comparisons: int,
    *,
    tested: float,
    typical: float,
) -> Estimate:
    bare = Estimate(value=area.value, se=area.se, df=area.df, null=null)
    if area.df < MIN_DF:
        return bare
    tails: dict[Level, float] = {"0.90": 0.05, "0.95": 0.025, "simultaneous_0.95": 0.025 / comparisons}
    criticals = {level: float(stats.t.isf(tail, area.df)) for level, tail in tails.items()}
    p = float(2 * stats.t.sf(abs(area.value - null) / tested, area.df)) if tested > 0 else 1.0
    power = resolvability(typical, area.df, criticals["simultaneous_0.95"]) if typical > 0 else None
    intervals = {level: ends(critical) for level, critical in criticals.items()}
    return bare.model_copy(update={"intervals": intervals, "p": p, "resolvability": power})


def _rate(hits: Array, codes: Codes, allowed: int | None = None) -> Rate:
    """Return a rate with the exact interval; its upper end is that of `allowed` hits where given."""
    design, n = Design.mean([codes]), len(hits)
    fit, effective = design.fit(hits), design.counts[0][1]
    size = float(n) if effective == n else effective_size(fit, n, effective)
    # Fewer persons make the variance, and so the effective size, less certain.
    size *= float(stats.t.ppf(0.975, n - 1) / stats.t.ppf(0.975, effective - 1)) ** 2
    share = float(hits.mean())
    most = share if allowed is None else allowed / n

    def ends(tail: float) -> Interval:
        low = float(stats.beta.ppf(tail, share * size, (1 - share) * size + 1)) if share > 0 else 0.0
        high = float(stats.beta.ppf(1 - tail, most * size + 1, (1 - most) * size)) if most < 1 else 1.0
        return Interval(low=min(low, share), high=max(high, share))

    levels: dict[Level, float] = {"0.90": 0.05, "0.95": 0.025, "simultaneous_0.95": 0.025}
    return Rate(share, {level: ends(tail) for level, tail in levels.items()}, size)


def _halves(inside: Bools, codes: Codes, rng: np.random.Generator) -> Bools:
    """Return which records are in the first half: every second person of each kind."""
    kind = 2 * (np.bincount(codes, inside) > 0) + (np.bincount(codes, ~inside) > 0)
    first = np.zeros(len(kind), bool)
    for which in np.unique(kind):
        people = rng.permutation(np.flatnonzero(kind == which))
        first[people[::2]] = True
    return first[codes]
