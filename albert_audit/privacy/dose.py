"""The positive control: whether this audit would see a leak of just the size of the limit.

A reference model was trained by the same recipe, and what it was trained on is known. Records that
it saw and records that it did not are mixed until the attack's area under the curve exceeds one half
by a multiple of the limit; statistics and gate are run on the mixture. No forward pass is needed.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from albert_audit.gate import decide
from albert_audit.privacy.membership import Array, Scored
from albert_audit.stats import clopper_pearson
from albert_audit.stats.roc import auc, auc_difference
from albert_audit.types import Estimate, Rate, SelfCheck, SelfCheckPoint, State

RUNS = 100
MULTIPLES = (0.0, 0.5, 1.0, 2.0)
MOST_MISSED = 0.20
"""A pass counts only if copies with a leak of the limit pass less often than this."""


def own_leak(scored: Scored, persons: Sequence[str]) -> Estimate:
    """Return how well the attack tells what a reference model saw from what it did not.

    The mean over the reference models; the null is one half.
    """
    codes = np.unique(np.asarray(persons), return_inverse=True)[1]
    k = len(scored.controls)
    scores = np.concatenate([_ranks(row) for row in scored.controls])
    return auc(scores, scored.seen.ravel(), [str(c) for c in np.tile(codes, k)])


def dosed(
    scored: Scored,
    persons: Sequence[str],
    sizes: tuple[int, int],
    *,
    limit: float,
    comparisons: int,
    rng: np.random.Generator,
) -> SelfCheck | None:
    """Return how often statistics and gate pass and fail mixtures with a known leak.

    Parameters
    ----------
    scored : Scored
        Records whose membership in each control model is known.
    sizes : (int, int)
        Members and non-members of the audit, whose numbers the mixtures have.

    Returns
    -------
    SelfCheck or None
        None where even the records that the models saw cannot be told by as much as the limit. A
        multiple that no model's own leak reaches is left out of the curve.
    """
    if len(scored.controls) <= 2:
        return None
    per_model = [
        auc_difference(scored.controls[i], _others(scored, i), scored.seen[i]).value
        for i in range(len(scored.controls))
    ]
    own = own_leak(scored, persons)
    # Of models that remember nothing some exceed the limit by chance.
    if max(per_model) <= limit or not own.intervals or own.intervals["0.95"].low <= own.null:
        return None
    points = []
    for multiple in MULTIPLES:
        able = [i for i, leak in enumerate(per_model) if leak > max(multiple, 1.0) * limit]
        if not able:
            continue
        states = []
        for _ in range(RUNS):
            i = int(rng.choice(able))
            share = multiple * limit / per_model[i]
            states.append(decide(_mixture(scored, persons, i, share, sizes, comparisons, rng), limit))
        points.append(
            SelfCheckPoint(
                planted=multiple, passed=_rate(states, State.PASS), failed=_rate(states, State.FAIL)
            )
        )
    at = points[MULTIPLES.index(1.0)]
    return SelfCheck(
        limit=limit, metric="difference", false_fail=points[0].failed, false_fail_at_limit=at.failed,
        false_pass_at_limit=at.passed, curve=tuple(points),
    )  # fmt: skip


def _mixture(
    scored: Scored,
    persons: Sequence[str],
    i: int,
    share: float,
    sizes: tuple[int, int],
    comparisons: int,
    rng: np.random.Generator,
) -> Estimate:
    """Return the excess found among drawn records, a share of the members seen by model `i`.

    Model `i` stands for the audited model; the others are its controls.
    """
    names = np.asarray(persons)
    seen, unseen = (_clusters(names, np.flatnonzero(scored.seen[i] == side)) for side in (True, False))
    members, others = sizes
    trained = round(share * members)
    rows: list[int] = []
    drawn: list[int] = []
    # All that the model did not see is one population: two halves of it would differ by more than the
    # interval allows for.
    for source, count in ((seen, trained), (unseen, members - trained), (unseen, others)):
        picked, who = _draw(source, count, len(drawn), rng)
        rows += picked
        drawn += who
    member = np.arange(len(rows)) < members
    return auc_difference(
        scored.controls[i, rows], _others(scored, i)[:, rows], member, [str(d) for d in drawn],
        comparisons=comparisons,
    )  # fmt: skip


def _others(scored: Scored, i: int) -> Array:
    """Return the scores of a model's controls: not of its complement, which saw just what `i` did not."""
    return np.delete(scored.controls, [i, i ^ 1], axis=0)


def _clusters(names: np.ndarray, rows: np.ndarray) -> list[np.ndarray]:
    order = rows[np.argsort(names[rows], kind="stable")]
    return np.split(order, np.flatnonzero(names[order][1:] != names[order][:-1]) + 1) if len(order) else []


def _draw(
    clusters: list[np.ndarray], count: int, start: int, rng: np.random.Generator
) -> tuple[list[int], list[int]]:
    """Draw whole persons with replacement until there are `count` records; each draw is a person of its own."""
    rows: list[int] = []
    who: list[int] = []
    while len(rows) < count:
        one = clusters[int(rng.integers(len(clusters)))]
        start += 1
        rows += [int(r) for r in one]
        who += [start] * len(one)
    return rows[:count], who[:count]


def _ranks(row: Array) -> Array:
    from scipy.stats import rankdata

    return np.asarray(rankdata(row) / (len(row) + 1), dtype=np.float64)


def _rate(states: list[State], wanted: State) -> Rate:
    hits = states.count(wanted)
    bounds = clopper_pearson(hits, RUNS)
    return Rate(hits=hits, runs=RUNS, rate=hits / RUNS, low=bounds.low, high=bounds.high)
