"""What every test may rely on: a cache of its own, no colours, one width; and small real audits."""

from __future__ import annotations

import contextlib
import csv
import io
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from albert_audit import resources

os.environ.setdefault("OMP_NUM_THREADS", "1")

CHECKOUT = Path(__file__).parent.parent
SLOPE = "small-occupation-en/template_gap_slope/gender/female-vs-male"
MEAN = "small-occupation-en/template_gap/gender/female-vs-male"


@pytest.fixture(autouse=True, scope="session")
def _apart(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The user's cache is never touched, and output does not depend on the terminal."""
    cache = tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ALBERT_AUDIT_CACHE", str(cache))
        patch.setenv("NO_COLOR", "1")
        patch.setenv("COLUMNS", "200")
        patch.setenv("TERM", "dumb")
        for name in (
            "FORCE_COLOR",
            "ALBERT_AUDIT_DEBUG",
            "SOURCE_DATE_EPOCH",
            "PYTHONWARNINGS",
            "TTY_COMPATIBLE",
        ):
            patch.delenv(name, raising=False)
        yield cache


# --- the command line -----------------------------------------------------------------------


@dataclass(frozen=True)
class Done:
    """How a command ended."""

    code: Any
    out: str
    err: str

    def refused(self, *words: str) -> None:
        """It is a usage error that names `words` and the next step, without a traceback."""
        assert self.code == 2, (self.code, self.out, self.err)
        assert self.err.startswith("error: "), self.err
        assert "→" in self.err, f"no next step: {self.err}"
        assert "Traceback" not in self.err
        for word in words:
            assert word in self.err, self.err


def _cli(*arguments: object) -> Done:
    from albert_audit.__main__ import main

    out, err = io.StringIO(), io.StringIO()
    before, debug = sys.argv, os.environ.get("ALBERT_AUDIT_DEBUG")
    sys.argv = ["albert-audit", *map(str, arguments)]
    code: Any = 0
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            try:
                main()
            except SystemExit as exc:
                code = exc.code
    finally:
        sys.argv = before
        if debug is None:
            os.environ.pop("ALBERT_AUDIT_DEBUG", None)
    return Done(code, out.getvalue(), err.getvalue())


@pytest.fixture(scope="session")
def cli() -> Callable[..., Done]:
    """Run ``albert-audit`` in this process, by the same road as the installed command."""
    return _cli


# Slows every batch down, so that a signal can be sent in the middle of scoring.
SLOW = """
import sys, time
from albert_audit.model.cache import ScoreStore
put = ScoreStore.put
def slow(self, keys, values):
    put(self, keys, values)
    time.sleep(0.05)
ScoreStore.put = slow
from albert_audit.__main__ import main
sys.argv = ["albert-audit", *sys.argv[1:]]
main()
"""


@pytest.fixture(scope="session")
def interrupt() -> Callable[..., subprocess.CompletedProcess[str]]:
    """Start a command in a process of its own and send it a signal once batches are scored."""

    def start(
        *arguments: object, number: int, cache: Path, epoch: str = ""
    ) -> subprocess.CompletedProcess[str]:
        environment = os.environ | {"ALBERT_AUDIT_CACHE": str(cache), "PYTHONPATH": str(CHECKOUT)}
        if epoch:
            environment["SOURCE_DATE_EPOCH"] = epoch
        process = subprocess.Popen(
            [sys.executable, "-c", SLOW, *map(str, arguments)],
            env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        try:
            deadline = time.monotonic() + 60
            while _batches(cache) < 5:
                assert process.poll() is None, process.communicate()
                assert time.monotonic() < deadline, "no batch was scored in a minute"
                time.sleep(0.02)
            process.send_signal(number)
            out, err = process.communicate(timeout=30)
        finally:
            if process.poll() is None:
                process.kill()
                process.communicate()
        return subprocess.CompletedProcess(process.args, process.returncode, out, err)

    return start


def _batches(cache: Path) -> int:
    """Scores in a cache, in units of about a batch."""
    import sqlite3

    if not (cache / "scores.sqlite").is_file():
        return 0
    db = sqlite3.connect(f"file:{cache / 'scores.sqlite'}?mode=ro", uri=True)
    try:
        return int(db.execute("SELECT count(*) FROM scores").fetchone()[0]) // 40
    except sqlite3.OperationalError:
        return 0  # being created
    finally:
        db.close()


# --- models, packs, policies ----------------------------------------------------------------


@pytest.fixture(scope="session")
def planted() -> Path:
    """The bundled model with the planted association."""
    return resources.known_answer_models() / "planted"


@pytest.fixture(scope="session")
def twin() -> Path:
    """Its twin, null by construction."""
    return resources.known_answer_models() / "twin"


def _subset(
    name: str, into: Path, *, templates: int, fillers: set[str], key: str, **changes: Any
) -> set[str]:
    """Write some rows of a shipped template pack as a pack of its own; return the fillers' ids."""
    source = resources.probes() / name
    into.mkdir(parents=True)
    spec = yaml.safe_load((source / "pack.yaml").read_text(encoding="utf-8"))
    text = yaml.safe_dump(spec | {"name": into.name} | changes)
    (into / "pack.yaml").write_text(text, encoding="utf-8")
    (into / "README.md").write_text("A few rows of a shipped pack.\n", encoding="utf-8")
    ids = set()
    for file in ("templates.csv", "fillers.csv"):
        with (source / file).open(encoding="utf-8", newline="") as stream:
            rows = list(csv.DictReader(stream))
        if file == "templates.csv":
            by_family: dict[str, list[dict[str, str]]] = {}
            for row in rows:
                by_family.setdefault(row["family"], []).append(row)
            kept = [row for family in by_family.values() for row in family[: templates // 2]]
        else:
            kept = [row for row in rows if row[key] in fillers]
            ids = {row["id"] for row in kept}
        with (into / file).open("w", encoding="utf-8", newline="") as stream:
            writer = csv.DictWriter(stream, list(rows[0]))
            writer.writeheader()
            writer.writerows(kept)
    return ids


@pytest.fixture(scope="session")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a small pronoun pack; its control lies beside it."""
    root = tmp_path_factory.mktemp("packs")
    with (resources.probes() / "pronoun-occupation-en" / "fillers.csv").open(encoding="utf-8") as stream:
        rows = sorted(csv.DictReader(stream), key=lambda row: float(row["covariate"]))
    chosen = {row["id"] for row in rows[:: len(rows) // 24]}
    _subset(
        "pronoun-occupation-en", root / "small-occupation-en", templates=12, fillers=chosen, key="id",
        controls=["small-placebo-en"],
    )  # fmt: skip
    _subset("placebo-occupation-en", root / "small-placebo-en", templates=12, fillers=chosen, key="match")
    return root / "small-occupation-en"


def _policy(path: Path, *rules: dict[str, Any], **changes: Any) -> Path:
    made = [
        {"id": f"rule-{i}", "check": SLOPE, "limit": {"max_abs": 0.7}, "rationale": "a test"} | rule
        for i, rule in enumerate(rules or ({},))
    ]
    base = {
        "schema": "albert-audit/policy@1", "name": path.stem, "title": "For tests", "heads": ["masked_lm"],
        "rules": made,
    }  # fmt: skip
    path.write_text(yaml.safe_dump(base | changes, allow_unicode=True), encoding="utf-8")
    return path


@pytest.fixture(scope="session")
def write_policy() -> Callable[..., Path]:
    """Write a policy file: keywords change the policy, dicts change its rules."""
    return _policy


@pytest.fixture(scope="session")
def limits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A policy on the slope of the small pack, which the planted model fails and the twin passes."""
    return _policy(tmp_path_factory.mktemp("policy") / "limits.yaml")


# --- audits ---------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def failed(tmp_path_factory: pytest.TempPathFactory, planted: Path, small: Path, limits: Path) -> Path:
    """An audit of the planted model that FAILs; copy it to change it."""
    out = tmp_path_factory.mktemp("audits") / "planted"
    done = _cli("run", planted, "--pack", small, "--policy", limits, "--out", out)
    assert done.code == 1, done
    return out


@pytest.fixture(scope="session")
def passed(tmp_path_factory: pytest.TempPathFactory, twin: Path, small: Path, limits: Path) -> Path:
    """An audit of the twin that PASSes; copy it to change it."""
    out = tmp_path_factory.mktemp("audits") / "twin"
    done = _cli("run", twin, "--pack", small, "--policy", limits, "--out", out)
    assert done.code == 0, done
    return out
