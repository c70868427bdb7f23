"""Trainings side by side, in processes of one thread each."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import (
    FIRST_COMPLETED,
    Executor,
    Future,
    ProcessPoolExecutor,
    ThreadPoolExecutor,
    wait,
)
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from albert_audit.model.pool import _outlive_not
from albert_audit.model.tuning.job import Job
from albert_audit.model.tuning.one import run
from albert_audit.model.tuning.training import Progress
from albert_audit.types import AuditError, UsageError


def tune_many(
    jobs: Sequence[Job],
    *,
    workers: int = 1,
    executor: Executor | None = None,
    progress: Progress | None = None,
) -> list[Path]:
    """Carry out jobs side by side, each on one thread; who does which changes no byte.

    After an interrupt the finished folders stay, and those under way go on from their last epoch
    when they are asked for again. When one fails the others are still made.

    Parameters
    ----------
    workers : int
        Processes; 1 trains in this one. A script that asks for more needs the
        ``if __name__ == "__main__"`` guard.
    executor : Executor, optional
        In place of processes of ours. Its workers must be processes, as torch's threads and
        generator belong to a process.
    progress : callable, optional
        Told how many texts were seen; in all the sum of ``len(texts) * epochs``.

    Returns
    -------
    list of Path
        In the order of `jobs`.

    Raises
    ------
    UsageError
        When two jobs share a folder, or as `tune`: the first job's error, once the others are done.
    """
    outs = [job.out.absolute() for job in jobs]
    if twice := next((o for o in outs if outs.count(o) > 1), None):
        raise UsageError(f"two trainings would write to {twice}", "give each a folder of its own")
    if executor is not None:
        if isinstance(executor, ThreadPoolExecutor):
            raise UsageError("expected an executor of processes, found one of threads")
        return _gather([executor.submit(run, job) for job in jobs], jobs, progress)
    if workers <= 1 or len(jobs) < 2:
        return _one_by_one(jobs, progress)
    context = get_context("spawn")
    stop, seen = context.Event(), context.Value("q", 0)
    pool = ProcessPoolExecutor(
        min(workers, len(jobs)), context, initializer=_begin, initargs=(stop, seen, os.getpid())
    )
    try:
        return _gather([pool.submit(_run, job) for job in jobs], jobs, progress, lambda: seen.value)
    finally:
        stop.set()
        pool.shutdown(wait=True, cancel_futures=True)


def _one_by_one(jobs: Sequence[Job], progress: Progress | None) -> list[Path]:
    failed: AuditError | None = None
    for job in jobs:
        try:
            run(job, progress=progress)
        except AuditError as exc:
            failed = failed or exc
    if failed is not None:
        raise failed
    return [job.out for job in jobs]


def _gather(
    futures: Sequence[Future[Path]],
    jobs: Sequence[Job],
    progress: Progress | None,
    seen: Callable[[], int] | None = None,
) -> list[Path]:
    """Wait for all, telling progress from a shared count, or else from the jobs that ended."""
    due = {f: len(job.texts) * job.recipe.epochs for f, job in zip(futures, jobs, strict=True)}
    pending, told = set(futures), 0
    while pending:
        done, pending = wait(pending, timeout=0.5, return_when=FIRST_COMPLETED)
        now = seen() if seen is not None else told + sum(due[f] for f in done)
        if progress is not None and now > told:
            progress(now - told)
        told = now
    return [f.result() for f in futures]


_stop: Any = None
_seen: Any = None


def _begin(stop: Any, seen: Any, parent: int) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent decides what an interrupt means
    threading.Thread(target=_outlive_not, args=(parent,), daemon=True).start()
    global _stop, _seen
    _stop, _seen = stop, seen


def _run(job: Job) -> Path:
    def count(texts: int) -> None:
        with _seen.get_lock():
            _seen.value += texts

    return run(job, progress=count, stop=_stop.is_set)
