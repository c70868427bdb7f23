"""Audit an ALBERT model for bias and print a card that a reviewer can sign.

>>> import albert_audit
>>> audit = albert_audit.run("path/to/model")   # doctest: +SKIP
>>> audit.frame()                               # doctest: +SKIP

Importing this package loads none of torch, transformers, pandas, numpy or scipy.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from albert_audit.audit import run
    from albert_audit.folder import Audit, judge, load, render
    from albert_audit.types import Finding, Policy

__version__ = "0.1.0"
__all__ = ["Audit", "Finding", "Policy", "judge", "load", "render", "run"]

_HOMES = {"Finding": "types", "Policy": "types", "run": "audit"}


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module 'albert_audit' has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"albert_audit.{_HOMES.get(name, 'folder')}"), name)


def __dir__() -> list[str]:
    return sorted([*__all__, "__version__"])
