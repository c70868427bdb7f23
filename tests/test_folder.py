"""An audit on disk: judged again, rendered again, and never trusted when it was altered."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import albert_audit
from albert_audit import folder, gate
from albert_audit.types import EvidenceError, UsageError

CHECKOUT = Path(__file__).parent.parent
HEAVY = ("torch", "transformers", "numpy", "pandas", "scipy", "statsmodels", "pyarrow")
Cli = Callable[..., Any]


@pytest.fixture
def copy(failed: Path, tmp_path: Path) -> Path:
    """A finished audit that may be changed."""
    return Path(shutil.copytree(failed, tmp_path / "audit"))


def everything(out: Path) -> dict[str, bytes]:
    return {p.name: p.read_bytes() for p in out.iterdir()}


def rehash(out: Path) -> None:
    """Make the manifest vouch for the files as they are now, as a forger would."""
    manifest = json.loads((out / "manifest.json").read_text(encoding="utf-8"))
    manifest["files"] = {n: folder.sha256(out / n) for n in manifest["files"]}
    (out / "manifest.json").write_text(json.dumps(manifest), encoding="utf-8")


# --- gate and report ------------------------------------------------------------------------


def test_gate_and_report_change_nothing(cli: Cli, copy: Path) -> None:
    before = everything(copy)
    assert cli("gate", copy).code == 1
    assert cli("report", copy).code == 0
    assert cli("gate", copy).out.startswith("FAIL")
    assert everything(copy) == before


def test_report_writes_the_renderings_again(cli: Cli, copy: Path) -> None:
    before = everything(copy)
    for name in ("card.en.html", "junit.xml"):
        (copy / name).unlink()
    done = cli("report", copy)
    assert (done.code, done.out.strip()) == (0, str(copy / "card.en.html"))
    assert everything(copy) == before


@pytest.mark.parametrize("command", ["gate", "report"])
def test_gate_and_report_load_nothing_heavy(copy: Path, command: str) -> None:
    code = (
        "import sys\n"
        "from albert_audit.__main__ import main\n"
        f"sys.argv = ['albert-audit', {command!r}, {str(copy)!r}]\n"
        "try: main()\n"
        "except SystemExit as e: code = e.code\n"
        f"print('heavy:', [m for m in {HEAVY!r} if m in sys.modules], 'code:', code or 0)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=CHECKOUT, check=True
    )
    assert done.stdout.splitlines()[-1] == f"heavy: [] code: {1 if command == 'gate' else 0}"
    assert done.stderr == ""


def test_another_policy_is_judged_post_hoc_everywhere(
    cli: Cli, copy: Path, write_policy: Cli, tmp_path: Path
) -> None:
    assert "post hoc" not in (copy / "card.en.html").read_text(encoding="utf-8")
    lax = write_policy(tmp_path / "lax.yaml", {"limit": {"max_abs": 50}})
    done = cli("gate", copy, "--policy", lax)
    assert done.code == 0
    assert "judged post hoc" in done.out
    assert json.loads((copy / "verdict.json").read_text(encoding="utf-8"))["policy"]["post_hoc"] is True
    assert "judged post hoc" in (copy / "card.en.html").read_text(encoding="utf-8").lower()
    manifest = folder.load(copy).manifest
    assert manifest.policy_sha256 != folder.load(copy).policy.sha256, "the locked policy is remembered"
    again = cli("gate", copy)
    assert again.code == 0
    assert "judged post hoc" in again.out


def test_the_locked_policy_judges_as_it_did_before(
    cli: Cli, copy: Path, limits: Path, write_policy: Cli, tmp_path: Path
) -> None:
    before = everything(copy)
    lax = write_policy(tmp_path / "lax.yaml", {"limit": {"max_abs": 50}})
    assert cli("gate", copy, "--policy", lax).code == 0
    done = cli("gate", copy, "--policy", limits)
    assert done.code == 1
    assert "post hoc" not in done.out
    assert everything(copy) == before


@pytest.mark.parametrize(
    ("rules", "changes", "word"),
    [
        ({"check": "nothing/*"}, {}, "no known check"),
        ({}, {"heads": ["encoder"]}, "encoder"),
        ({"metric": "p"}, {}, "metric"),
        ({}, {"schema": "albert-audit/policy@3"}, "newer"),
    ],
)
def test_gate_refuses_an_impossible_policy_and_leaves_the_audit(
    cli: Cli,
    copy: Path,
    write_policy: Cli,
    tmp_path: Path,
    rules: dict[str, Any],
    changes: dict[str, Any],
    word: str,
) -> None:
    before = everything(copy)
    cli("gate", copy, "--policy", write_policy(tmp_path / "p.yaml", rules, **changes)).refused(word)
    assert everything(copy) == before


# --- evidence -------------------------------------------------------------------------------


@pytest.mark.parametrize("command", ["gate", "report"])
@pytest.mark.parametrize("name", folder.HASHED)
def test_a_flipped_byte_is_no_verdict(cli: Cli, copy: Path, name: str, command: str) -> None:
    content = bytearray((copy / name).read_bytes())
    content[len(content) // 2] ^= 1
    (copy / name).write_bytes(content)
    done = cli(command, copy)
    assert done.code == 3
    assert name in done.err
    assert "→" in done.err
    assert "Traceback" not in done.err


@pytest.mark.parametrize("name", [*folder.HASHED, "run.json"])
def test_a_missing_file_is_no_verdict(cli: Cli, copy: Path, name: str) -> None:
    (copy / name).unlink()
    done = cli("gate", copy)
    assert done.code == 3
    assert name in done.err


@pytest.mark.parametrize("text", ["", "{", "[]", "null", '{"schema": "albert-audit/manifest@2"}', "\x00"])
def test_a_spoilt_manifest_is_no_verdict(cli: Cli, copy: Path, text: str) -> None:
    (copy / "manifest.json").write_text(text, encoding="utf-8")
    done = cli("gate", copy)
    assert done.code == 3
    assert "manifest.json" in done.err
    assert "Traceback" not in done.err


def test_an_unfinished_audit_is_no_verdict(cli: Cli, copy: Path) -> None:
    manifest = json.loads((copy / "manifest.json").read_text(encoding="utf-8"))
    (copy / "manifest.json").write_text(json.dumps(manifest | {"complete": False}), encoding="utf-8")
    done = cli("gate", copy)
    assert done.code == 3
    assert "did not finish" in done.err


def test_a_manifest_that_vouches_for_nothing_is_no_verdict(cli: Cli, copy: Path) -> None:
    manifest = json.loads((copy / "manifest.json").read_text(encoding="utf-8"))
    for files in ({}, {"findings.json": manifest["files"]["findings.json"]}):
        (copy / "manifest.json").write_text(json.dumps(manifest | {"files": files}), encoding="utf-8")
        assert cli("gate", copy).code == 3


@pytest.mark.parametrize("command", ["gate", "report"])
def test_no_audit_is_a_usage_error(cli: Cli, tmp_path: Path, command: str) -> None:
    (tmp_path / "file").touch()
    for path in (tmp_path / "none", tmp_path, tmp_path / "file"):
        cli(command, path).refused("no audit")


def test_a_required_finding_that_was_deleted_cannot_pass(cli: Cli, passed: Path, tmp_path: Path) -> None:
    out = Path(shutil.copytree(passed, tmp_path / "audit"))
    data = json.loads((out / "findings.json").read_text(encoding="utf-8"))
    data["findings"] = [f for f in data["findings"] if f["measure"] != "template_gap_slope"]
    (out / "findings.json").write_text(json.dumps(data), encoding="utf-8")
    assert cli("gate", out).code == 3, "the manifest knows"
    rehash(out)
    done = cli("gate", out)
    assert done.code == 3
    assert done.out.startswith("INCOMPLETE")
    assert "INCOMPLETE" in (out / "card.en.html").read_text(encoding="utf-8")


def test_a_finding_that_was_never_judged_cannot_pass(cli: Cli, passed: Path, tmp_path: Path) -> None:
    out = Path(shutil.copytree(passed, tmp_path / "audit"))
    data = json.loads((out / "findings.json").read_text(encoding="utf-8"))
    for finding in data["findings"]:
        if finding["measure"] == "template_gap_slope":
            finding["status"] = "not_run"
    (out / "findings.json").write_text(json.dumps(data), encoding="utf-8")
    rehash(out)
    assert cli("gate", out).code == 3


@pytest.mark.skipif(os.name == "nt", reason="POSIX modes")
def test_a_folder_that_cannot_be_written(cli: Cli, copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = Path.open

    def locked(self: Path, mode: str = "r", *args: Any, **kwargs: Any) -> Any:
        if "w" in mode and self.parent == copy:
            raise PermissionError(13, "Permission denied")
        return real(self, mode, *args, **kwargs)

    monkeypatch.setattr(Path, "open", locked)
    assert cli("gate", copy).code == 1, "what would be the same is not written, so reading is enough"
    (copy / "card.en.html").unlink()
    done = cli("gate", copy)
    assert done.code == 3
    assert "Permission denied" in done.err
    assert "→" in done.err
    assert "itself failed" not in done.err


# --- from Python ----------------------------------------------------------------------------


def test_load_judge_and_render(copy: Path, write_policy: Cli, tmp_path: Path) -> None:
    done = albert_audit.load(copy)
    assert done.verdict.verdict == "FAIL"
    judged = albert_audit.judge(done, write_policy(tmp_path / "lax.yaml", {"limit": {"max_abs": 50}}))
    assert judged.verdict.verdict == "PASS"
    assert albert_audit.load(copy).verdict == judged.verdict
    assert albert_audit.judge(copy, gate.load_policy(tmp_path / "lax.yaml")).verdict.policy.post_hoc
    assert albert_audit.render(copy) == copy / "card.en.html"
    assert albert_audit.render(judged) == copy / "card.en.html"
    with pytest.raises(UsageError):
        albert_audit.load(tmp_path)
    (copy / "verdict.json").unlink()
    with pytest.raises(EvidenceError):
        albert_audit.load(copy)


def test_files_are_whole_or_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "x.json"
    folder.write_bytes(path, b"old")

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(EvidenceError, match="No space left"):
        folder.write_bytes(path, b"new")
    assert everything(tmp_path) == {"x.json": b"old"}
