"""The tiny checkpoints of `tests.tiny`, one thread, no network."""

from __future__ import annotations

import pytest
import torch

from tests.tiny import mlm, tiny_folders, tiny_handles, tiny_mlm, tiny_scorers, tiny_zh

__all__ = ["mlm", "tiny_folders", "tiny_handles", "tiny_mlm", "tiny_scorers", "tiny_zh"]


@pytest.fixture(autouse=True, scope="session")
def _one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
