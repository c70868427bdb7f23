"""Several attacks looked at together, and many records looked at one by one."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats

from albert_audit.stats.placements import Array, Bools, Codes, Persons, checked


def permutation_max(
    scores: ArrayLike, member: ArrayLike, persons: Persons, rng: np.random.Generator, runs: int = 2000
) -> tuple[float, Array]:
    """Test whether any of k attacks works, by exchanging the membership of whole persons.

    Parameters
    ----------
    scores : array, shape (k, n) or (n,)
    member : array, shape (n,)
    persons : sequence of n labels, or None
        Who is on one side only changes sides with all records; who is on both keeps how many records
        are members, and which they are is drawn.
    rng : numpy Generator
    runs : int

    Returns
    -------
    p : float
        Of the largest statistic, never below 1 / (runs + 1); two-sided.
    statistics : ndarray, shape (k,)
        For each attack the area's distance from one half, in units of its root mean square over the
        permutations, the observed one among them; 0 for a score that never varies.

    Notes
    -----
    Exact for the hypothesis that membership was drawn without regard to the records. Where members and
    non-members differ by where they come from, a small p-value is no sign of a leak.

    Source: Westfall and Young (1993), Resampling-Based Multiple Testing, for the maximum; Phipson and
    Smyth (2010), Stat. Appl. Genet. Mol. Biol. 9(1), for the observed one being counted.
    """
    many = np.atleast_2d(np.asarray(scores, np.float64))
    parts = [checked(row, member, persons) for row in many]
    if not parts or runs < 1:
        raise ValueError(f"expected at least one attack and one run, found {len(parts)} and {runs}")
    _, inside, codes = parts[0]
    ranks = stats.rankdata(many, axis=1).T - (len(inside) + 1) / 2
    drawn = [_sums(ranks, inside, codes, rng, min(256, runs - done)) for done in range(0, runs, 256)]
    sums = np.vstack([ranks[inside].sum(axis=0), *(sums for sums, _ in drawn)])
    sizes = np.concatenate([[float(inside.sum())], *(sizes for _, sizes in drawn)])
    # Of centred ranks: area - 1/2 is their sum over members, divided by members times non-members.
    far = np.abs(sums) / (sizes * (len(inside) - sizes))[:, None]
    far[far < 1e-12] = 0.0
    scale = np.sqrt((far**2).mean(axis=0))
    standard = np.divide(far, scale, out=np.zeros_like(far), where=scale > 0)
    largest = standard.max(axis=1)
    return float((largest >= largest[0] * (1 - 1e-9)).mean()), standard[0]


def benjamini_hochberg(p: ArrayLike) -> Array:
    """Return p-values (n,) adjusted so that a share q of those at most q is false, on average.

    Source: Benjamini and Hochberg (1995), J. R. Stat. Soc. B 57(1).
    """
    values = np.asarray(p, np.float64)
    if values.ndim != 1 or not ((values >= 0) & (values <= 1)).all():
        raise ValueError("expected a list of p-values from 0 to 1")
    order = np.argsort(values)[::-1]
    n = len(values)
    adjusted = np.empty(n)
    adjusted[order] = np.minimum.accumulate(np.minimum(values[order] * n / np.arange(n, 0, -1), 1.0))
    return adjusted


def empirical_p(scores: ArrayLike, member: ArrayLike) -> Array:
    """Return for each member, in their order, the share of non-members who score as high or higher.

    One is added above and below, so that p is never 0 and ties count against the attack. All members
    share the same non-members: the p-values are positively dependent.
    """
    s, inside, _ = checked(scores, member, None)
    outside = np.sort(s[~inside])
    reached = len(outside) - np.searchsorted(outside, s[inside], "left")
    return np.asarray((1 + reached) / (len(outside) + 1), np.float64)


def _sums(
    ranks: Array, inside: Bools, codes: Codes, rng: np.random.Generator, runs: int
) -> tuple[Array, Array]:
    """Return the members' rank sums (runs, k) and how many members there are (runs,), permuted."""
    yes, no = np.bincount(codes, inside), np.bincount(codes, ~inside)
    whole = (yes == 0) | (no == 0)
    people = np.zeros((len(yes), ranks.shape[1]))
    np.add.at(people, codes, ranks)
    drawn = rng.permuted(np.tile(yes[whole] > 0, (runs, 1)), axis=1).astype(np.float64)
    sums, sizes = drawn @ people[whole], drawn @ (yes + no)[whole]
    mixed = np.flatnonzero(~whole[codes])
    if len(mixed):
        mixed = mixed[np.argsort(codes[mixed], kind="stable")]
        # Sorted by person and then at random: the places of the members stay, the records move.
        order = np.argsort(codes[mixed] + rng.random((runs, len(mixed))), axis=1)
        chosen = mixed[order[:, inside[mixed]]]
        sums, sizes = sums + ranks[chosen].sum(axis=1), sizes + chosen.shape[1]
    return sums, sizes
