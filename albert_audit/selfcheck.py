"""Every audit calibrates itself: statistics and gate, run on copies of this model's own scores.

Null copies keep the scores' dependence: what templates, fillers and single cells add to each
coefficient of the fit is separated and its sign flipped cluster by cluster (a wild cluster
bootstrap), which is what swapping the two groups' labels there would do. Spiked copies add a known effect. No forward pass is needed.
It tests statistics and gate; the known-answer models test the scoring.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from albert_audit.gate import decide
from albert_audit.stats import Design, Fit, clopper_pearson, estimate
from albert_audit.stats.linear import Array
from albert_audit.types import Rate, SelfCheck, SelfCheckPoint, State

RUNS = 400
MULTIPLES = (0.0, 0.5, 1.0, 2.0)


def self_check(
    design: Design, y: Array, *, limit: float, metric: str, comparisons: int, rng: np.random.Generator
) -> SelfCheck:
    """Return this design's error rates at a limit.

    Parameters
    ----------
    design : Design
    y : array, shape (n,)
        The real scores, of which the copies keep the dependence.
    limit : float
        Tolerated distance from a null of 0.
    """
    noise = null_copies(design, y, RUNS, rng)
    spike = design.x @ design.contrast / (design.contrast @ design.contrast)  # contrast of 1
    points = []
    for multiple in MULTIPLES:
        fit = design.fit(noise + (multiple * limit * spike)[:, None])
        states = [
            decide(estimate(Fit(v, s, fit.df), comparisons=comparisons), limit)
            for v, s in zip(fit.value, fit.se, strict=True)
        ]
        points.append(
            SelfCheckPoint(
                planted=multiple,
                passed=_rate(states.count(State.PASS)),
                failed=_rate(states.count(State.FAIL)),
            )
        )
    return SelfCheck(
        limit=limit,
        metric=metric,
        false_fail=points[0].failed,
        false_fail_at_limit=points[MULTIPLES.index(1.0)].failed,
        false_pass_at_limit=points[MULTIPLES.index(1.0)].passed,
        curve=tuple(points),
    )


def null_copies(design: Design, y: Array, runs: int, rng: np.random.Generator) -> Array:
    """Return `runs` copies of `y` without its effect and with its dependence, shape (n, runs)."""
    rest = design.residuals(y)
    copies = np.zeros((len(y), runs))
    for codes in design.clusters:
        count = int(codes.max()) + 1
        # Within one clustering everything flips together. Of two, each has what it adds to every
        # coefficient: its mean, its own slope, its own mean beside the control.
        part = rest if len(design.clusters) == 1 else _within(design.x, rest, codes)
        rest = rest - part
        # Estimated parts are shrunk by what the fit took away; give it back.
        copies += (part * np.sqrt(count / max(count - 1, 1)))[:, None] * _signs(count, runs, rng)[codes]
    return copies + rest[:, None] * _signs(len(y), runs, rng)


def _within(x: Array, y: Array, codes: NDArray[np.intp]) -> Array:
    """Return the fit of `y` on `x` within each cluster alone."""
    out: Array = np.zeros(len(y))
    order = np.argsort(codes, kind="stable")
    for rows in np.split(order, np.flatnonzero(np.diff(codes[order])) + 1):
        out[rows] = x[rows] @ np.linalg.lstsq(x[rows], y[rows], rcond=1e-10)[0]
    return out


def _signs(count: int, runs: int, rng: np.random.Generator) -> Array:
    return 2 * rng.integers(0, 2, (count, runs)).astype(np.float64) - 1


def _rate(hits: int) -> Rate:
    bounds = clopper_pearson(hits, RUNS)
    return Rate(hits=hits, runs=RUNS, rate=hits / RUNS, low=bounds.low, high=bounds.high)
