"""Who trains on what: each record is seen by half of the reference models and unseen by the other half."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Hashable, Sequence
from typing import TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

_Counts: TypeAlias = Counter[Hashable]


def reference_splits(
    member: ArrayLike,
    persons: Sequence[Hashable] | None,
    labels: Sequence[Hashable] | None,
    k: int,
    *,
    seed: int,
) -> NDArray[np.bool_]:
    """Draw the training sets of reference models, in complementary pairs.

    One model of a pair trains on a random half of the members and a random half of the
    non-members, the other on the rest; so every record is seen by exactly k/2 models (the design of
    Carlini et al. 2022, *Membership Inference Attacks From First Principles*, and of RMIA, Zarifzadeh
    et al. 2024). Which set a record is in plays no part beyond the halving: no model's training set
    tells members from non-members.

    Parameters
    ----------
    member : array of bool, shape (n,)
        The set that a record is in.
    persons : sequence of n, optional
        Whom a record is about. All records of a person stay together, across the two sets too; None
        takes every record for a person of its own.
    labels : sequence of n, optional
        Halved within each set, as far as whole persons allow.
    k : int
        Models, an even number. The first pairs are the same whatever `k` is, so that more models
        can be added later.
    seed : int

    Returns
    -------
    array of bool, shape (k, n)
        Row i holds what model i trains on; rows 2i and 2i + 1 complete each other. Where every
        person has one record, the two models' shares of a set differ by one record at most, as do
        those of all records together and of a label of a set; else by about the records of a person.

    Raises
    ------
    ValueError
        When `k` is odd or below 2, lengths differ, or there are fewer than two persons.
    """
    sets = np.asarray(member)
    if sets.dtype != np.bool_ or sets.ndim != 1:
        raise ValueError(f"expected member as a bool array of one axis, found {sets.dtype} of {sets.shape}")
    n = len(sets)
    if k < 2 or k % 2:
        raise ValueError(f"expected an even number of reference models, 2 or more, found {k}")
    for name, given in (("persons", persons), ("labels", labels)):
        if given is not None and len(given) != n:
            raise ValueError(f"expected {n} {name}, one a record, found {len(given)}")
    whose: defaultdict[Hashable, list[int]] = defaultdict(list)
    for i in range(n):
        whose[i if persons is None else persons[i]].append(i)
    if len(whose) < 2:
        raise ValueError(f"expected two persons or more to tell apart, found {len(whose)}")
    records = list(whose.values())
    strata: list[_Counts] = []
    for own in records:
        count: _Counts = Counter()
        for i in own:
            count[bool(sets[i])] += 1
            count[bool(sets[i]), None if labels is None else labels[i]] += 1
        strata.append(count)
    keep = np.zeros((k, n), bool)
    for pair in range(k // 2):
        for own, first in zip(records, _halves(strata, np.random.default_rng([seed, pair])), strict=True):
            keep[2 * pair + (0 if first else 1), own] = True
    return keep


def _halves(strata: list[_Counts], rng: np.random.Generator) -> list[bool]:
    """Put each person on one of two sides: where it evens out the sets, then the labels, else by a coin.

    The sides are exchangeable, so that each person falls on either with probability one half.
    Persons with several records go first; those with one then even out what is left, a stratum
    after the other.
    """
    shuffled = [int(i) for i in rng.permutation(len(strata))]
    place: dict[Hashable, int] = {}  # strata in the order of the shuffle, whatever type their names have
    single: dict[int, tuple[int, int]] = {}
    for i in shuffled:
        small = sum(c for key, c in strata[i].items() if not isinstance(key, tuple)) == 1
        key: tuple[Hashable, ...] = next(key for key in strata[i] if isinstance(key, tuple))
        of_set, of_label = place.setdefault(key[0], len(place)), place.setdefault(key, len(place))
        single[i] = (of_set, of_label) if small else (-1, -1)
    ahead: _Counts = Counter()  # records of the first side less those of the second
    total = 0
    first = [False] * len(strata)
    coins = rng.random(len(strata)) < 0.5
    for i in sorted(shuffled, key=lambda i: single[i]):
        sets = {key: c for key, c in strata[i].items() if not isinstance(key, tuple)}
        lean = (
            sum(ahead[key] * c for key, c in sets.items()),
            total,
            sum(ahead[key] * c for key, c in strata[i].items() if isinstance(key, tuple)),
        )
        ruling = next((x for x in lean if x), 0)
        first[i] = bool(coins[i]) if ruling == 0 else ruling < 0
        sign = 1 if first[i] else -1
        for stratum, c in strata[i].items():
            ahead[stratum] += sign * c
        total += sign * sum(sets.values())
    return first
