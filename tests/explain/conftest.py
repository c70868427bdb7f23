"""Tiny checkpoints to explain: every parameter random, the pad row too, or a wrong baseline goes unseen."""

from __future__ import annotations

import pytest
import torch

from albert_audit.model.load import load
from albert_audit.types import Head
from tests.tiny import checkpoint, tiny_folders, tiny_handles, tiny_mlm, tiny_scorers, tiny_zh

__all__ = ["tiny_folders", "tiny_handles", "tiny_mlm", "tiny_scorers", "tiny_zh"]


@pytest.fixture(autouse=True, scope="session")
def _one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def deep(tmp_path_factory):
    """A binary classifier with four passes through one layer."""
    folder = tmp_path_factory.mktemp("deep")
    return load(
        checkpoint(folder, Head.SEQUENCE_CLASSIFICATION, seed=7, num_labels=2, num_hidden_layers=4),
        device="cpu",
    )
