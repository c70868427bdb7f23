"""Why a model answered as it did: contributions of words, with a gate on their validity.

>>> from albert_audit.explain import attribute, targets   # doctest: +SKIP

Importing this package loads neither torch nor captum; calling `attribute` does.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from albert_audit.explain.types import BASELINES, METHODS, Attribution, Baseline, Method, Target

if TYPE_CHECKING:
    from albert_audit.explain import targets
    from albert_audit.explain.depth import DepthAttribution, conductance
    from albert_audit.explain.integrated import attribute

__all__ = [
    "BASELINES",
    "METHODS",
    "Attribution",
    "Baseline",
    "DepthAttribution",
    "Method",
    "Target",
    "attribute",
    "conductance",
    "targets",
]

_HOMES = {"attribute": "integrated", "conductance": "depth", "DepthAttribution": "depth"}


def __getattr__(name: str) -> Any:
    from importlib import import_module

    if name == "targets":
        return import_module("albert_audit.explain.targets")
    if name not in _HOMES:
        raise AttributeError(f"module 'albert_audit.explain' has no attribute {name!r}")
    return getattr(import_module(f"albert_audit.explain.{_HOMES[name]}"), name)
