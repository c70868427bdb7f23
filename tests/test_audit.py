"""The run, end to end, on real small models: its eight files, resume, refusals and crashes."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import signal
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml
from jsonschema import Draft202012Validator

import albert_audit
from albert_audit import audit, folder
from albert_audit.bias import COLUMNS, MEASURES
from albert_audit.folder import HASHED

FILES = {
    "findings.json", "measurements.parquet", "verdict.json", "policy.lock.yaml",
    "manifest.json", "run.json", "card.en.html", "junit.xml",
}  # fmt: skip
REFERENCE = Path(__file__).parent.parent / "docs" / "reference"
EPOCH = "1700000000"
Cli = Callable[..., Any]


def contents(out: Path) -> dict[str, bytes]:
    """Every file of a folder but run.json, which holds the clock."""
    return {p.name: p.read_bytes() for p in out.iterdir() if p.name != "run.json"}


def names(out: Path) -> set[str]:
    return {p.name for p in out.iterdir()}


def never(*_: object, **__: object) -> Any:
    raise AssertionError("this must not be called")


# --- the folder -----------------------------------------------------------------------------


def test_the_run_leaves_the_eight_files(failed: Path, passed: Path) -> None:
    assert names(failed) == names(passed) == FILES


@pytest.mark.parametrize(
    "file", ["findings.json", "verdict.json", "manifest.json", "run.json", "policy.lock.yaml"]
)
def test_documents_obey_their_published_schemas(failed: Path, passed: Path, file: str) -> None:
    schema = json.loads((REFERENCE / f"{file.partition('.')[0]}.schema.json").read_text(encoding="utf-8"))
    for out in (failed, passed):
        text = (out / file).read_text(encoding="utf-8")
        Draft202012Validator(schema).validate(
            yaml.safe_load(text) if file.endswith("yaml") else json.loads(text)
        )


def test_the_manifest_vouches_for_what_is_there(failed: Path) -> None:
    manifest = json.loads((failed / "manifest.json").read_text(encoding="utf-8"))
    assert manifest["complete"] is True
    assert set(manifest["files"]) == set(HASHED)
    for name, digest in manifest["files"].items():
        assert hashlib.sha256((failed / name).read_bytes()).hexdigest() == digest
    policy = folder.load(failed).policy
    assert manifest["policy_sha256"] == policy.sha256
    assert f"# sha256 {policy.sha256}" in (failed / "policy.lock.yaml").read_text(encoding="utf-8")


def test_exit_code_and_verdict_are_one(failed: Path, passed: Path) -> None:
    for out, word, code in ((failed, "FAIL", 1), (passed, "PASS", 0)):
        verdict = json.loads((out / "verdict.json").read_text(encoding="utf-8"))
        assert (verdict["verdict"], verdict["exit_code"]) == (word, code)
        assert word in (out / "card.en.html").read_text(encoding="utf-8")


def test_every_number_goes_back_to_its_rows(failed: Path) -> None:
    done = folder.load(failed)
    rows = done.measurements()
    assert tuple(rows.columns) == COLUMNS
    for finding in done.findings.findings:
        for selector in finding.evidence:
            mask = pd.Series(True, index=rows.index)
            for column, value in selector.where.items():
                mask &= rows[column] == value
            assert mask.sum() == selector.rows > 0, finding.id


def test_a_control_beside_the_pack_is_found_and_measured(failed: Path) -> None:
    done = folder.load(failed)
    slope = next(f for f in done.findings.findings if f.measure == "template_gap_slope")
    assert slope.control is not None
    assert slope.control.effect is not None
    assert slope.difference is not None
    assert "small-placebo-en" in {p.name for p in done.manifest.packs} | set(done.measurements()["pack"])


def test_nothing_of_this_machine_is_written(failed: Path, planted: Path) -> None:
    for name in FILES - {"measurements.parquet"}:
        text = (failed / name).read_text(encoding="utf-8")
        assert str(planted.parent) not in text, name
        assert str(failed) not in text, name
        assert str(Path.home()) + os.sep not in text, name


# --- run again ------------------------------------------------------------------------------


def test_run_twice_gives_equal_bytes(
    cli: Cli, tmp_path: Path, planted: Path, small: Path, limits: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SOURCE_DATE_EPOCH", EPOCH)
    out = tmp_path / "audit"
    first = cli("run", planted, "--pack", small, "--policy", limits, "--out", out)
    before = contents(out)
    second = cli("run", planted, "--pack", small, "--policy", limits, "--out", out)
    assert first.code == second.code == 1
    assert contents(out) == before
    assert json.loads((out / "run.json").read_text(encoding="utf-8"))["scored"] == {"tokens": 0}


@pytest.fixture
def elsewhere(
    cli: Cli, tmp_path: Path, planted: Path, small: Path, limits: Path, monkeypatch: pytest.MonkeyPatch
) -> Path:
    """An uninterrupted run in another folder with another cache."""
    monkeypatch.setenv("SOURCE_DATE_EPOCH", EPOCH)
    with monkeypatch.context() as patch:
        patch.setenv("ALBERT_AUDIT_CACHE", str(tmp_path / "other-cache"))
        assert cli("run", planted, "--pack", small, "--policy", limits, "--out", tmp_path / "whole").code == 1
    return tmp_path / "whole"


def test_kill_9_and_run_again_gives_equal_bytes(
    cli: Cli, interrupt: Cli, tmp_path: Path, planted: Path, small: Path, limits: Path, elsewhere: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    out, cache = tmp_path / "killed", tmp_path / "cache"
    command = ("run", planted, "--pack", small, "--policy", limits, "--out", out)
    killed = interrupt(*command, number=signal.SIGKILL, cache=cache, epoch=EPOCH)
    assert killed.returncode == -signal.SIGKILL
    assert not json.loads((out / "manifest.json").read_text(encoding="utf-8"))["complete"]
    for unfinished in (cli("gate", out), cli("report", out)):
        assert unfinished.code == 3
        assert "did not finish" in unfinished.err
        assert "→" in unfinished.err
    monkeypatch.setenv("ALBERT_AUDIT_CACHE", str(cache))
    assert cli(*command).code == 1
    assert contents(out) == contents(elsewhere)
    run = json.loads((out / "run.json").read_text(encoding="utf-8"))
    assert run["cached"]["tokens"] > 0, "nothing of the killed run was used"
    assert run["scored"]["tokens"] > 0, "it was killed too late to show anything"


def test_ctrl_c_says_so_exits_130_and_resumes(
    cli: Cli, interrupt: Cli, tmp_path: Path, planted: Path, small: Path, limits: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    out, cache = tmp_path / "stopped", tmp_path / "cache"
    command = ("run", planted, "--pack", small, "--policy", limits, "--out", out)
    stopped = interrupt(*command, number=signal.SIGINT, cache=cache)
    assert stopped.returncode == 130, stopped
    assert "run the same command again" in stopped.stderr
    assert "Traceback" not in stopped.stderr
    monkeypatch.setenv("ALBERT_AUDIT_CACHE", str(cache))
    assert cli(*command).code == 1
    assert json.loads((out / "run.json").read_text(encoding="utf-8"))["cached"]["tokens"] > 0


@pytest.mark.parametrize(
    "left", [["policy.lock.yaml"], [".policy.lock.yaml.part"], ["policy.lock.yaml", "run.json"]]
)
def test_killed_before_the_manifest_was_there(
    cli: Cli, tmp_path: Path, planted: Path, small: Path, limits: Path, failed: Path, left: list[str]
) -> None:
    out = tmp_path / "audit"
    out.mkdir()
    for name in left:
        (out / name).write_bytes((failed / name).read_bytes() if (failed / name).exists() else b"half")
    assert cli("run", planted, "--pack", small, "--policy", limits, "--out", out).code == 1
    assert names(out) - {".policy.lock.yaml.part"} == FILES


def test_a_run_after_another_policy_locks_its_own_again(
    cli: Cli, tmp_path: Path, planted: Path, small: Path, limits: Path, failed: Path, write_policy: Cli
) -> None:
    out = Path(shutil.copytree(failed, tmp_path / "audit"))
    lax = write_policy(tmp_path / "lax.yaml", {"limit": {"max_abs": 50}})
    assert cli("gate", out, "--policy", lax).code == 0
    assert cli("run", planted, "--pack", small, "--policy", limits, "--out", out).code == 1
    assert cli("gate", out).code == 1
    assert "post hoc" not in cli("gate", out).out


def test_run_with_another_policy_is_judged_post_hoc(
    cli: Cli, tmp_path: Path, planted: Path, small: Path, failed: Path, write_policy: Cli
) -> None:
    out = Path(shutil.copytree(failed, tmp_path / "audit"))
    lax = write_policy(tmp_path / "lax.yaml", {"limit": {"max_abs": 50}})
    done = cli("run", planted, "--pack", small, "--policy", lax, "--out", out)
    assert done.code == 0
    assert "judged post hoc" in done.out
    assert folder.load(out).verdict.policy.post_hoc


# --- another audit's folder -----------------------------------------------------------------


@pytest.mark.parametrize("what", ["model", "seed", "pack"])
def test_an_audit_of_something_else_is_kept(
    cli: Cli, tmp_path: Path, planted: Path, twin: Path, small: Path, limits: Path, failed: Path, what: str
) -> None:
    out = Path(shutil.copytree(failed, tmp_path / "audit"))
    before = contents(out)
    other = Path(shutil.copytree(small.parent, tmp_path / "packs")) / small.name
    if what == "pack":
        text = (other / "templates.csv").read_text(encoding="utf-8")
        (other / "templates.csv").write_text(text.replace("{filler}", "old {filler}", 1), encoding="utf-8")
    command = [
        "run", twin if what == "model" else planted, "--pack", other if what == "pack" else small,
        "--policy", limits, "--out", out, "--seed", 7 if what == "seed" else 0,
    ]  # fmt: skip
    cli(*command).refused("audit of something else", "--force")
    assert contents(out) == before
    if what == "model":
        assert cli(*command, "--force").code == 0
        assert folder.load(out).findings.model.name == "twin"


def test_a_foreign_folder_is_kept(cli: Cli, tmp_path: Path, planted: Path, small: Path, limits: Path) -> None:
    (tmp_path / "thesis.txt").write_text("years of work", encoding="utf-8")
    command = ("run", planted, "--pack", small, "--policy", limits, "--out", tmp_path)
    cli(*command).refused("not empty", "--force")
    assert names(tmp_path) == {"thesis.txt"}
    assert cli(*command, "--force").code == 1
    assert (tmp_path / "thesis.txt").read_text(encoding="utf-8") == "years of work"


@pytest.mark.parametrize("spoilt", ["{", '{"schema": "albert-audit/manifest@9"}'])
def test_force_replaces_what_cannot_be_read(
    cli: Cli, tmp_path: Path, planted: Path, small: Path, limits: Path, failed: Path, spoilt: str
) -> None:
    out = Path(shutil.copytree(failed, tmp_path / "audit"))
    (out / "manifest.json").write_text(spoilt, encoding="utf-8")
    command = ("run", planted, "--pack", small, "--policy", limits, "--out", out)
    assert cli(*command).code == 3
    assert cli(*command, "--force").code == 1
    assert names(out) == FILES


def test_the_folder_is_named_after_the_model(
    cli: Cli, tmp_path: Path, planted: Path, small: Path, limits: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert cli("run", planted, "--pack", small, "--policy", limits).code == 1
    (out,) = tmp_path.iterdir()
    assert out.name == f"audit-{folder.load(out).findings.model.sha256[:12]}"


# --- crashes --------------------------------------------------------------------------------


@pytest.fixture
def pairs(cli: Cli, tmp_path: Path) -> Path:
    """A small pack of pairs."""
    assert cli("packs", "new", tmp_path / "pairs-en", "--measure", "pair_preference").code == 0
    return tmp_path / "pairs-en"


def _crash(monkeypatch: pytest.MonkeyPatch, *measures: str) -> None:
    def crash(*_: object) -> Any:
        raise ZeroDivisionError("a defect in the measure")

    for name in measures:
        monkeypatch.setitem(MEASURES, name, replace(MEASURES[name], run=crash))


def test_a_crashing_measure_is_a_finding_and_hides_no_other(
    cli: Cli,
    tmp_path: Path,
    planted: Path,
    small: Path,
    pairs: Path,
    limits: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    _crash(monkeypatch, "template_gap")
    out = tmp_path / "audit"
    done = cli("run", planted, "--pack", small, "--pack", pairs, "--policy", limits, "--out", out)
    assert done.code == 3
    assert done.out.startswith("INCOMPLETE")
    assert "ZeroDivisionError" in done.err
    assert "Traceback" not in done.err
    found = folder.load(out).findings.findings
    states = {
        f.pack: {g.status.value for g in found if g.pack == f.pack and g.role == "probe"} for f in found
    }
    assert states[small.name] == {"error"}
    assert states["pairs-en"] == {"estimated"}
    assert all("a defect in the measure" in f.reason for f in found if f.pack == small.name)
    junit = (out / "junit.xml").read_text(encoding="utf-8")
    assert "<error" in junit
    assert "INCOMPLETE" in (out / "card.en.html").read_text(encoding="utf-8")


def test_all_measures_crash(
    cli: Cli, tmp_path: Path, planted: Path, small: Path, limits: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _crash(monkeypatch, *MEASURES)
    done = cli("run", planted, "--pack", small, "--policy", limits, "--out", tmp_path / "audit")
    assert done.code == 3
    assert done.out.startswith("INCOMPLETE"), done.err
    assert names(tmp_path / "audit") == FILES
    assert len(folder.load(tmp_path / "audit").measurements()) == 0


def test_a_crashing_control_invalidates(
    cli: Cli, tmp_path: Path, planted: Path, small: Path, limits: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = MEASURES["template_gap"]

    def crash(scorer: Any, pack: Any, rng: Any) -> Any:
        if pack.name == "small-placebo-en":
            raise ZeroDivisionError("a defect")
        return real.run(scorer, pack, rng)

    monkeypatch.setitem(MEASURES, "template_gap", replace(real, run=crash))
    done = cli("run", planted, "--pack", small, "--policy", limits, "--out", tmp_path / "audit")
    assert done.code == 3
    probes = [f for f in folder.load(tmp_path / "audit").findings.findings if f.role == "probe"]
    assert {f.status.value for f in probes} == {"invalid"}


def test_an_uncaught_exception_is_3_not_1(
    cli: Cli, tmp_path: Path, planted: Path, small: Path, limits: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def crash(*_: object, **__: object) -> Any:
        raise RuntimeError("out of luck")

    monkeypatch.setattr("albert_audit.findings.build", crash)
    command = ("run", planted, "--pack", small, "--policy", limits, "--out", tmp_path / "audit")
    done = cli(*command)
    assert done.code == 3
    assert "RuntimeError" in done.err and "out of luck" not in done.err  # its words may be of a record
    assert "--debug" in done.err
    assert "Traceback" not in done.err
    debug = cli(*command, "--debug")
    assert debug.code == 3
    assert "Traceback" in debug.err
    assert "out of luck" in debug.err


def test_a_full_disk_is_no_verdict(
    cli: Cli, tmp_path: Path, planted: Path, small: Path, limits: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = os.fsync

    def full(number: int) -> None:
        if Path(f"/proc/self/fd/{number}").readlink().name == ".measurements.parquet.part":
            raise OSError(28, "No space left on device")
        real(number)

    monkeypatch.setattr(os, "fsync", full)
    done = cli("run", planted, "--pack", small, "--policy", limits, "--out", tmp_path / "audit")
    assert done.code == 3
    assert "No space left on device" in done.err
    assert "→" in done.err
    assert not list((tmp_path / "audit").glob(".*.part"))
    monkeypatch.undo()
    assert cli("gate", tmp_path / "audit").code == 3


# --- refused before the weights are read ----------------------------------------------------


@pytest.mark.parametrize(
    ("rules", "changes", "word"),
    [
        ({"check": "small-occupation-en/template_gap_slop/gender/female-vs-male"}, {}, "nearest"),
        ({"check": "nothing/*"}, {}, "no known check"),
        ({"metric": "slope"}, {}, "metric"),
        ({"limit": {"max_abs": 0}}, {}, "max_abs"),
        ({"limit": {"min": 1}}, {}, "min"),
        ({"limt": 3}, {}, "limt"),
        ({}, {"confidence": 0.9}, "confidence"),
        ({}, {"schema": "albert-audit/policy@2"}, "newer"),
        ({}, {"heads": ["sequence_classification"]}, "masked_lm"),
        ({}, {"rules": []}, "without rules"),
        ({}, {"ruels": []}, "did you mean 'rules'"),
        ({"check": "informing-en/*"}, {}, "only informs"),
        ({"check": "alone-en/*", "metric": "difference"}, {}, "names no control"),
    ],
)
def test_an_impossible_policy_is_refused_before_the_weights_are_read(
    cli: Cli, tmp_path: Path, planted: Path, small: Path, write_policy: Cli, monkeypatch: pytest.MonkeyPatch,
    rules: dict[str, Any], changes: dict[str, Any], word: str,
) -> None:  # fmt: skip
    monkeypatch.setattr("albert_audit.model.load.load", never)
    monkeypatch.setattr("albert_audit.model.load._model", never)
    for name in ("informing-en", "alone-en"):
        assert cli("packs", "new", tmp_path / name).code == 0
    text = (tmp_path / "alone-en" / "pack.yaml").read_text(encoding="utf-8")
    (tmp_path / "alone-en" / "pack.yaml").write_text(
        text.replace("may_gate: []", "may_gate: [masked_lm]"), encoding="utf-8"
    )
    policy = write_policy(tmp_path / "policy.yaml", rules, **changes)
    done = cli(
        "run", planted, "--pack", small, "--pack", tmp_path / "informing-en", "--pack", tmp_path / "alone-en",
        "--policy", policy, "--out", tmp_path / "audit",
    )  # fmt: skip
    done.refused(word)
    assert not (tmp_path / "audit").exists()


def test_a_broken_pack_and_a_wrong_file_too(
    cli: Cli, tmp_path: Path, planted: Path, small: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("albert_audit.model.load.load", never)
    broken = Path(shutil.copytree(small.parent, tmp_path / "packs")) / small.name
    (broken / "fillers.csv").write_text("id,form\nx,y\n", encoding="utf-8")
    cli("run", planted, "--pack", broken).refused("fillers.csv", "covariate")
    (tmp_path / "crows.csv").write_text("x\n", encoding="utf-8")
    cli("run", planted, "--data", f"crows-pairs={tmp_path / 'crows.csv'}").refused("SHA-256")


# --- from Python ----------------------------------------------------------------------------


def test_run_from_python(tmp_path: Path, planted: Path, small: Path, limits: Path, failed: Path) -> None:
    done = albert_audit.run(planted, out=tmp_path / "audit", packs=[str(small)], policy=limits)
    assert isinstance(done, albert_audit.Audit)
    assert done.verdict.verdict == "FAIL"
    assert (tmp_path / "audit" / "findings.json").read_bytes() == (failed / "findings.json").read_bytes()
    frame = done.frame()
    assert isinstance(frame, pd.DataFrame)
    assert list(frame["id"]) == [f.id for f in done.findings.findings]
    row = frame.set_index("id").loc["small-occupation-en/template_gap_slope/gender/female-vs-male"]
    assert row["effect_low"] < row["effect"] < row["effect_high"]
    pd.testing.assert_frame_equal(done.measurements(), pd.read_parquet(failed / "measurements.parquet"))
    page = done._repr_html_()
    assert page.startswith("<iframe ")
    assert page.count("<") == 2, "the card is escaped into srcdoc"
    assert " sandbox" in page
    assert "FAIL" in repr(done)


def test_a_model_that_is_refused_leaves_no_folder(tmp_path: Path) -> None:
    with pytest.raises(albert_audit.types.ModelRefused, match=r"config\.json"):
        (tmp_path / "empty").mkdir()
        albert_audit.run(tmp_path / "empty", out=tmp_path / "audit")
    assert not (tmp_path / "audit").exists()


def test_the_watcher_hears_of_every_pack(tmp_path: Path, planted: Path, small: Path, limits: Path) -> None:
    heard: list[tuple[str, int]] = []

    class Watcher(audit.Silent):
        def task(self, label: str, tokens: int) -> Any:
            heard.append((label, tokens))
            return super().task(label, tokens)

    albert_audit.run(planted, out=tmp_path / "audit", packs=[str(small)], policy=limits, watcher=Watcher())
    assert len(heard) == 3
    assert all(tokens > 0 for _, tokens in heard)
