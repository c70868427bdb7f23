"""Where the shipped packs, templates and policies lie, in a wheel or in a checkout.

Nothing else in the package looks for them. Both places resolve beside this file, never by search.
"""

from __future__ import annotations

import csv
from pathlib import Path

_PACKAGE = Path(__file__).resolve().parent


def root() -> Path:
    """Return the folder that holds ``probes/`` and ``reports/``."""
    shipped = _PACKAGE / "_data"
    return shipped if shipped.is_dir() else _PACKAGE.parent


def probes() -> Path:
    """Return the folder of the shipped probe packs."""
    return root() / "probes"


def reports() -> Path:
    """Return the folder of the shipped templates, styles and policies."""
    return root() / "reports"


def known_answer_models() -> Path:
    """Return the folder of the bundled known-answer pair."""
    return _PACKAGE / "known_answer" / "models"


def reference_sentences(language: str) -> tuple[str, ...]:
    """Return the shipped plain sentences of a language (``en`` or ``zh``)."""
    path = probes() / f"floor-{language}" / "sentences.csv"
    with path.open(encoding="utf-8", newline="") as file:
        return tuple(row["text"] for row in csv.DictReader(file))
