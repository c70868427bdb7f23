"""The same scores from several processes, one thread each: faster on a CPU than threads in one.

The batches are planned in the parent and their answers come back in order, so that the plan, the
cache and a resumed run do not depend on who computed what.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import Executor, ProcessPoolExecutor
from contextlib import contextmanager
from functools import partial
from multiprocessing import get_context
from pathlib import Path

from albert_audit.model.cache import Delegating
from albert_audit.model.scorer import Array, Progress, TorchScorer
from albert_audit.model.text import Encoded, MaskQuery

WORTH = 2e13
"""Floating-point operations from which on starting processes pays on a CPU."""

_scorer: TorchScorer | None = None


def cores() -> int:
    """Return the processors that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@contextmanager
def workers(folder: Path, count: int, budget: int | None) -> Iterator[Executor]:
    """Start processes that hold the model of `folder`; they end with the context, or with us."""
    pool = ProcessPoolExecutor(
        count, get_context("spawn"), initializer=_start, initargs=(folder, budget, os.getpid())
    )
    try:
        yield pool
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _start(folder: Path, budget: int | None, parent: int) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent decides what an interrupt means
    threading.Thread(target=_outlive_not, args=(parent,), daemon=True).start()
    import torch

    from albert_audit.model.load import load

    torch.set_num_threads(1)
    global _scorer
    _scorer = TorchScorer(load(folder, device="cpu"), budget=budget)


def _outlive_not(parent: int) -> None:
    """End with the parent, also when it was killed and could not say so."""
    while os.getppid() == parent:
        time.sleep(1)
    os._exit(1)


def _mask(queries: Sequence[MaskQuery]) -> list[Array]:
    assert _scorer is not None  # noqa: S101 (the initializer ran)
    return next(_scorer.mask_batches([queries]))


def _task(task: str, batch: Sequence[Encoded]) -> list[Array]:
    assert _scorer is not None  # noqa: S101 (the initializer ran)
    return next(_scorer.run_batches(task, [batch]))


class PooledScorer(Delegating):
    """Sends batches to an executor whose processes hold the model; what is no batch it asks `inner`.

    Parameters
    ----------
    inner : TorchScorer
    executor : Executor
        From `workers`.
    """

    def __init__(self, inner: TorchScorer, executor: Executor) -> None:
        super().__init__(inner)
        self._executor = executor
        self.progress: Progress | None = None

    def mask_batches(self, batches: Sequence[Sequence[MaskQuery]]) -> Iterator[list[Array]]:
        """See `Scorer`."""
        yield from self._ticking(batches, self._executor.map(_mask, batches))

    def run_batches(self, task: str, batches: Sequence[Sequence[Encoded]]) -> Iterator[list[Array]]:
        """See `Scorer`."""
        yield from self._ticking(batches, self._executor.map(partial(_task, task), batches))

    def _ticking(
        self, batches: Sequence[Sequence[MaskQuery | Encoded]], answers: Iterator[list[Array]]
    ) -> Iterator[list[Array]]:
        for batch, found in zip(batches, answers, strict=True):
            if self.progress is not None:
                self.progress(sum(len(q.ids) for q in batch))
            yield found
