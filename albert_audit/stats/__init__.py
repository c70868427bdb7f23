"""Intervals, tests, multiplicity and power: the only room that computes any of them."""

from albert_audit.stats.inference import (
    MIN_DF,
    clopper_pearson,
    effective_size,
    estimate,
    holm,
    independent_difference,
    jackknife,
    net_estimate,
    rate_difference,
    rate_estimate,
    share_estimate,
)
from albert_audit.stats.linear import Design, Fit
from albert_audit.stats.mover import recovered_difference
from albert_audit.stats.power import resolvability

__all__ = [
    "MIN_DF",
    "Design",
    "Fit",
    "clopper_pearson",
    "effective_size",
    "estimate",
    "holm",
    "independent_difference",
    "jackknife",
    "net_estimate",
    "rate_difference",
    "rate_estimate",
    "recovered_difference",
    "resolvability",
    "share_estimate",
]
