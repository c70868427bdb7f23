"""The auditor's own texts: read from CSV, JSONL, parquet or a folder saved by ``datasets``."""

from __future__ import annotations

from albert_audit.config import Texts
from albert_audit.packs import Given


def load(config: Texts) -> Given:
    """Read the texts."""
    raise NotImplementedError(config)
