"""Trainings side by side are those of one process, and an interrupt loses no finished one."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import pytest

from albert_audit.model.tuning import Job, Recipe, tune_many
from albert_audit.model.tuning.many import run
from albert_audit.types import Head, UsageError

TEXTS = ["a good day", "a bad day", "good work", "bad work"] * 3
RECIPE = Recipe(epochs=2, learning_rate=5e-3, batch_size=4)


def job(base: Path, out: Path, seed: int, **changes) -> Job:
    given = {"labels": ["plus", "minus"] * 6, "label_names": ("minus", "plus"), "recipe": RECIPE} | changes
    return Job(base=base, out=out, texts=TEXTS, seed=seed, head=Head.SEQUENCE_CLASSIFICATION, **given)


class AtOnce:
    """An executor that computes when asked, in this process."""

    def submit(self, function, *arguments):
        future = Future()
        try:
            future.set_result(function(*arguments))
        except UsageError as exc:
            future.set_exception(exc)
        return future


@pytest.mark.parametrize("executor", [None, AtOnce()])
def test_folders_come_in_order_and_progress_adds_up(executor, tiny_mlm, tmp_path):
    seen: list[int] = []
    jobs = [job(tiny_mlm, tmp_path / f"{s}", s) for s in (2, 1)]
    assert tune_many(jobs, executor=executor, progress=seen.append) == [j.out for j in jobs]
    assert sum(seen) == 2 * 2 * len(TEXTS)
    assert [json.loads((j.out / "tuning.json").read_text())["seed"] for j in jobs] == [2, 1]


@pytest.mark.parametrize("executor", [None, AtOnce()])
def test_a_failure_stops_no_other_and_is_told(executor, tiny_mlm, tmp_path):
    wrong = [job(tiny_mlm, tmp_path / f"wrong-{y}", 3, labels=["plus", y] * 6) for y in ("other", "third")]
    right = job(tiny_mlm, tmp_path / "right", 1)
    with pytest.raises(UsageError, match="'other'"):
        tune_many([*wrong, right], executor=executor)
    assert (right.out / "model.safetensors").is_file()


def test_threads_and_shared_folders_are_refused(tiny_mlm, tmp_path):
    jobs = [job(tiny_mlm, tmp_path / "a", 1), job(tiny_mlm, tmp_path / "a", 2)]
    with pytest.raises(UsageError, match="two trainings"):
        tune_many(jobs)
    with ThreadPoolExecutor(1) as threads, pytest.raises(UsageError, match="of threads"):
        tune_many(jobs[:1], executor=threads)


@pytest.mark.skipif(os.name == "nt", reason="POSIX signals")
def test_processes_make_the_bytes_of_one_and_an_interrupt_keeps_what_is_finished(tiny_mlm, tmp_path):
    script = tmp_path / "many.py"
    script.write_text(
        textwrap.dedent(
            f"""
            import sys
            from pathlib import Path
            from albert_audit.model.tuning import Recipe, tune_many
            from tests.model.tuning.test_many import job
            if __name__ == "__main__":
                base, out, seen = Path({str(tiny_mlm)!r}), Path({str(tmp_path)!r}), []
                long = Recipe(epochs=1000, batch_size=1)
                jobs = [
                    job(base, out / "wrong", 1, labels=["other"] * 12),
                    job(base, out / "short", 1),
                    job(base, out / "long", 2, recipe=long),
                ]
                try:
                    tune_many(jobs, workers=2, progress=seen.append)
                except KeyboardInterrupt:
                    sys.exit(42 if sum(seen) >= 24 else 1)
            """
        ),
        encoding="utf-8",
    )
    paths = os.pathsep.join([str(Path.cwd()), *filter(None, sys.path)])
    state, short = tmp_path / "long.part" / "epoch.safetensors", tmp_path / "short"
    with subprocess.Popen([sys.executable, str(script)], env=os.environ | {"PYTHONPATH": paths}) as parent:
        try:
            deadline = time.monotonic() + 120
            while not (short.exists() and state.exists()):
                assert parent.poll() is None and time.monotonic() < deadline
                time.sleep(0.05)
            time.sleep(1)  # the parent hears of it each half second
            parent.send_signal(signal.SIGINT)
            assert parent.wait(timeout=30) == 42
        finally:
            parent.kill()
    assert not (tmp_path / "long").exists() and state.exists()
    again = run(job(tiny_mlm, tmp_path / "again", 1))
    assert (short / "model.safetensors").read_bytes() == (again / "model.safetensors").read_bytes()
