"""Audits without a model: log-probabilities of many made-up classifiers of which it is known what they saw."""

from __future__ import annotations

from typing import Any

import numpy as np

from albert_audit.privacy import membership
from albert_audit.privacy.membership import TARGET
from albert_audit.privacy.membership_findings import Evidence
from albert_audit.privacy.records import Records
from albert_audit.privacy.splits import reference_splits
from albert_audit.types import Head, Limit, Policy, Rule

LIMIT = 0.05
CHECK = "membership/auc_*/all/*"


def policy(*rules: tuple[str, float, str]) -> Policy:
    """A policy of (check, limit, metric); the shipped rule without any."""
    given = rules or ((CHECK, LIMIT, "difference"),)
    return Policy(
        name="p", title="P", heads=(Head.SEQUENCE_CLASSIFICATION,),
        rules=tuple(
            Rule(id=f"r{i}", check=c, limit=Limit(max_abs=m), metric=metric, rationale="for a test", min_n=1)
            for i, (c, m, metric) in enumerate(rules or given)
        ),
    )  # fmt: skip


def answers(
    rng: np.random.Generator, hardness: np.ndarray, seen: np.ndarray, leak: float, noise: float = 0.3
) -> np.ndarray:
    """The log-probabilities of the labels 0 and 1, where 1 is right: margins rise by `leak` on what was seen."""
    z = hardness + noise * rng.normal(size=len(hardness)) + leak * seen
    return np.stack([-np.logaddexp(0, z), -np.logaddexp(0, -z)], axis=1)


def audit(
    seed: int, *, members: int = 200, others: int = 200, k: int = 4, leak: float = 0.0,
    reference_leak: float = 1.0, pool: int = 0, shift: float = 0.0, blind: float = 0.0,
    persons: int = 1, groups: dict[str, tuple[str, ...]] | None = None, **changes: Any,
) -> Evidence:  # fmt: skip
    """What an audit would have found.

    Parameters
    ----------
    leak, reference_leak : float
        Rise of the margin on what the audited model, or a reference model, was trained on.
    pool : int
        Further records, like the members, that the reference models were then trained on.
    shift : float
        How much easier members (and the pool) are than non-members, without any memory.
    blind : float
        How much of it a classifier on texts alone sees.
    persons : int
        Records of each person.
    """
    rng = np.random.default_rng(seed)
    n = members + others + pool
    sets = np.repeat(["member", "non-member", "pool"], [members, others, pool])
    like_members = sets != "non-member"
    judged = sets != "pool"
    who = [f"person {i // persons}" for i in range(n)]
    hardness = 1.0 + rng.normal(size=n) + shift * like_members
    keep = np.zeros((k, n), bool)
    where = sets == "pool" if pool else judged
    if k:
        keep[:, where] = reference_splits(
            (sets == "member")[where], [w for w, j in zip(who, where, strict=True) if j], None, k, seed=seed
        )
    outputs = {TARGET: answers(rng, hardness, sets == "member", leak)}
    outputs |= {f"reference-{i}": answers(rng, hardness, own, reference_leak) for i, own in enumerate(keep)}
    labels = np.ones(n, np.intp)
    made = membership.known(Head.SEQUENCE_CLASSIFICATION, k, pool=bool(pool), base=bool(k))
    main = membership.primary(made)

    def scored(part: np.ndarray, chosen: Any, *, pool: bool) -> list[membership.Scored]:
        of_part = {name: o[part] for name, o in outputs.items()}
        return membership.of_classifier(of_part, labels[part], keep[:, part], chosen, pool=pool)

    known = None
    if k > 2:
        known = (scored(where, [main], pool=False)[0], [w for w, j in zip(who, where, strict=True) if j])
    base: dict[str, Any] = {
        "scored": tuple(scored(judged, made, pool=bool(pool))), "primary": main.name,
        "member": (sets == "member")[judged], "persons": [w for w, j in zip(who, judged, strict=True) if j],
        "blind": rng.normal(size=members + others) + blind * like_members[judged], "reference_only": None,
        "groups": groups or {}, "dosed": known, "pool": bool(pool), "head_only": False, "duplicates": 0,
        "skipped": 0,
    }  # fmt: skip
    return Evidence(**(base | changes))


def records(sets: list[str], **changes: Any) -> Records:
    """Records r0, r1, ... of the given sets, each of a person of its own."""
    n = len(sets)
    base: dict[str, Any] = {
        "ids": tuple(f"{s}/{i}" for i, s in enumerate(sets)), "texts": tuple(f"text {i}" for i in range(n)),
        "labels": ("b",) * n, "persons": tuple(f"person {i}" for i in range(n)), "sets": np.asarray(sets),
        "groups": {}, "labelled": True,
    }  # fmt: skip
    return Records(**(base | changes))
