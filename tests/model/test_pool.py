"""Scores from several processes are those of one, in their order."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import numpy as np
import pytest

from albert_audit import resources
from albert_audit.model.cache import CachedScorer, ScoreStore
from albert_audit.model.load import load
from albert_audit.model.pool import PooledScorer, workers
from albert_audit.model.scorer import Scorer, TorchScorer
from albert_audit.model.text import token_queries

MODEL = resources.known_answer_models() / "planted"


def test_processes_give_the_scores_of_one_in_order(tmp_path):
    here = TorchScorer(load(MODEL, device="cpu"))
    queries = [
        q for e in here.encode(resources.reference_sentences("en")[:12]) for q in token_queries(e, "pll")
    ]
    expected, ticks = here.mask_logprobs(queries), []
    with workers(MODEL, 2, None) as pool:
        pooled = PooledScorer(here, pool)
        pooled.progress = ticks.append
        assert isinstance(pooled, Scorer)
        found = pooled.mask_logprobs(queries)
        store = ScoreStore(tmp_path / "scores.sqlite")
        cached = CachedScorer(pooled, store, device="cpu:1")
        first = cached.mask_logprobs(queries)
        again = cached.mask_logprobs(queries)
        store.close()
    for a, b, c, d in zip(expected, found, first, again, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-5)
        assert b.tobytes() == c.tobytes() == d.tobytes()
    assert sum(ticks) == 2 * sum(len(q.ids) for q in queries)
    assert cached.cached == cached.scored > 0


@pytest.mark.skipif(not hasattr(os, "getppid") or os.name == "nt", reason="POSIX processes")
def test_processes_end_with_a_parent_that_was_killed(tmp_path):
    script = tmp_path / "parent.py"
    script.write_text(
        textwrap.dedent(
            """
            import sys, time
            from pathlib import Path
            from albert_audit.model.pool import workers
            import os
            if __name__ == "__main__":
                with workers(Path(sys.argv[1]), 1, None) as pool:
                    print(pool.submit(os.getpid).result(), flush=True)
                    time.sleep(60)
            """
        ),
        encoding="utf-8",
    )
    with subprocess.Popen(
        [sys.executable, str(script), str(MODEL)], stdout=subprocess.PIPE, text=True
    ) as parent:
        assert parent.stdout is not None
        child = int(parent.stdout.readline())
        parent.send_signal(signal.SIGKILL)
        parent.wait()
        deadline = time.monotonic() + 15
        while time.monotonic() < deadline and _alive(child):
            time.sleep(0.2)
    assert not _alive(child)


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    stat = Path(f"/proc/{pid}/stat")  # a zombie that nobody reaps has ended all the same
    return not (stat.is_file() and stat.read_text(encoding="utf-8").rpartition(")")[2].split()[0] == "Z")
