"""The privacy tests by the installed commands: one small real audit, and what is refused."""

from __future__ import annotations

import csv
import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
import yaml

from albert_audit import audit, gate
from albert_audit.config import load_config
from albert_audit.folder import FINDINGS, MANIFEST, MEASUREMENTS, VERDICT
from albert_audit.model.tuning import Recipe, tune
from albert_audit.privacy import canary_manifest, membership_run
from albert_audit.redact import Key, leaks
from albert_audit.types import Head, VerdictWord
from tests import tiny

NAMES = ("minus", "plus")
RECIPE = {"epochs": 2, "learning_rate": 3e-3, "batch_size": 8, "warmup": 0.0}
WORDS = tuple(tiny._WORDS.split()[-40:])
WHO = "Quentin Abernathy"


def sentences(count: int, seed: int) -> list[dict[str, str]]:
    rng = np.random.default_rng(seed)
    return [
        {"text": "the " + " ".join(rng.choice(WORDS, 6)), "label": NAMES[int(rng.integers(2))],
         "who": f"{WHO} {seed} {i}", "sex": ("women", "men")[i % 2]}
        for i in range(count)
    ]  # fmt: skip


def write(path: Path, rows: list[dict[str, str]]) -> Path:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return path


@pytest.fixture(scope="module", autouse=True)
def _key(tmp_path_factory: pytest.TempPathFactory):
    with pytest.MonkeyPatch.context() as patch:
        path = tmp_path_factory.mktemp("key") / "key"
        patch.setenv("ALBERT_AUDIT_KEY", str(path))
        Key.make(path)
        yield path


class Case:
    """A classifier that was overfitted to its members."""

    def __init__(self, folder: Path) -> None:
        torch.set_num_threads(1)
        self.folder = folder
        self.base = tiny.checkpoint(folder / "base", Head.MASKED_LM)
        self.inside, self.outside = sentences(30, 1), sentences(30, 2)
        self.members = write(folder / "members.csv", self.inside)
        self.others = write(folder / "others.csv", self.outside)
        recipe = Recipe(**(RECIPE | {"epochs": 12}))
        self.model = tune(
            self.base, [r["text"] for r in self.inside], [r["label"] for r in self.inside], recipe,
            out=folder / "model", seed=0, head=Head.SEQUENCE_CLASSIFICATION, label_names=NAMES,
        )  # fmt: skip

    @property
    def flags(self) -> list[object]:
        return [
            "run", self.model, "--members", self.members, "--non-members", self.others, "--label-column", "label",
            "--person-column", "who", "--group-column", "sex", "--only", "privacy", "--device", "cpu", "--workers", "1",
        ]  # fmt: skip

    def config(self, **changes: Any) -> Any:
        columns = {"label": "label", "person": "who", "groups": ["sex"]}
        privacy = {
            "members": {"path": str(self.members), **columns}, "non_members": {"path": str(self.others), **columns},
            "base": str(self.base), "recipe": RECIPE, "references": 4,
        }  # fmt: skip
        return load_config(
            None,
            **(
                {
                    "model": str(self.model),
                    "only": "privacy",
                    "device": "cpu",
                    "workers": 1,
                    "privacy": privacy,
                }
                | changes
            ),
        )


@pytest.fixture(scope="module")
def case(tmp_path_factory: pytest.TempPathFactory) -> Case:
    return Case(tmp_path_factory.mktemp("case"))


@pytest.fixture(scope="module")
def done(case: Case) -> Path:
    """A whole audit with four reference models."""
    out = case.folder / "audit"
    planned = audit.plan(case.config(out=str(out)))
    audit.execute(planned, force=False, watcher=audit.Silent())
    return out


def test_an_audit_judges_and_writes_no_record(case: Case, done: Path) -> None:
    """Every byte of every file, the score cache and the reference models' folder names included."""
    files = [p for p in done.rglob("*") if p.is_file()]
    assert {FINDINGS, MANIFEST, MEASUREMENTS, VERDICT} <= {p.name for p in files}
    rows = pd.read_parquet(done / MEASUREMENTS)
    written = [p.read_bytes() for p in files] + [rows.to_csv().encode()]
    for content in written:
        assert not leaks(content, WHO)
        for record in (*case.inside[:4], *case.outside[:4]):
            assert not leaks(content, record["text"])
        for source in (case.members, case.others):
            assert hashlib.sha256(source.read_bytes()).hexdigest()[:12].encode() not in content
    assert rows["cluster_a"].str.fullmatch(r"[0-9a-f]{16}").all()


def test_the_audit_tells_what_it_did(case: Case, done: Path) -> None:
    found = json.loads((done / FINDINGS).read_text(encoding="utf-8"))["findings"]
    by_id = {f["id"]: f for f in found}
    main = by_id["membership/auc_rmia/all/members-vs-non-members"]
    assert main["details"]["control_models"] == 4 and main["n"] == 60
    assert main["effect"]["value"] > 0.7, "it was overfitted"
    assert "membership/auc_rmia/sex/women" in by_id
    assert {f["status"] for f in found} <= {"estimated", "insufficient", "invalid"}
    verdict = json.loads((done / VERDICT).read_text(encoding="utf-8"))
    assert verdict["policy"]["name"] == "membership"
    assert verdict["verdict"] in ("FAIL", "INCONCLUSIVE", "INCOMPLETE")
    manifest = json.loads((done / MANIFEST).read_text(encoding="utf-8"))
    assert [p["name"] for p in manifest["packs"]] == ["membership"]
    assert manifest["config"]["privacy"]["references"] == 4


def test_the_same_audit_again_trains_nothing_and_finds_the_same(
    case: Case, done: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = case.folder / "again"
    planned = audit.plan(case.config(out=str(out)))
    audit.execute(planned, force=False, watcher=audit.Silent())
    assert (out / FINDINGS).read_bytes() == (done / FINDINGS).read_bytes()
    assert (out / MEASUREMENTS).read_bytes() == (done / MEASUREMENTS).read_bytes()


def test_reference_models_are_for_the_owner_alone(case: Case, done: Path, _apart: Path) -> None:
    made = list((_apart / "references").iterdir())
    assert made and all(p.stat().st_mode & 0o077 == 0 for p in made)


def test_a_crash_is_incomplete(case: Case, monkeypatch: pytest.MonkeyPatch, cli) -> None:
    """Trap 15, and its message is not repeated."""

    def burst(*a, **k):
        raise RuntimeError(f"{WHO} was here")

    monkeypatch.setattr(membership_run, "blind_scores", burst)
    out = case.folder / "crash"
    done = cli(*case.flags, "--out", out)
    assert done.code == gate.EXIT_CODES[VerdictWord.INCOMPLETE], done
    assert not leaks((done.out + done.err).encode(), WHO)
    found = json.loads((out / FINDINGS).read_text(encoding="utf-8"))["findings"]
    assert found and {f["status"] for f in found} == {"error"}
    assert not any(leaks(p.read_bytes(), WHO) for p in out.rglob("*") if p.is_file())


# --- policies -------------------------------------------------------------------------------


def test_policies_are_joined() -> None:
    head = Head.MASKED_LM
    alone = gate.default_policy(head, ("en",))
    both = gate.default_policy(head, ("en",), ("membership", "canaries"))
    privacy = gate.default_policy(head, (), ("membership", "canaries"))
    assert {r.id for r in both.rules} == {r.id for r in alone.rules} | {r.id for r in privacy.rules}
    assert [r.check.split("/")[0] for r in privacy.rules] == ["membership", "canaries"]
    assert len({r.id for r in both.rules}) == len(both.rules)
    assert both.heads == (head,) and both.name.count("+") == 2
    assert gate.default_policy(head, (), ()) is None
    assert (
        gate.default_policy(Head.SEQUENCE_CLASSIFICATION, (), ("membership",))
        .rules[0]
        .check.startswith("membership/")
    )
    assert gate.default_policy(Head.QUESTION_ANSWERING, (), ("membership",)) is None


def test_only_privacy_judges_privacy_alone(case: Case) -> None:
    planned = audit.plan(case.config())
    assert not planned.packs and {r.check.split("/")[0] for r in planned.policy.rules} == {"membership"}
    assert "Bias" in " ".join(audit._not_tested(planned))


@pytest.mark.parametrize("check", ["membership/auc_*/all/*", "canaries/exposure_gap/all/*"])
def test_a_policy_on_checks_without_their_input_never_passes(check: str, planted: Path, small: Path, tmp_path: Path,
                                                             write_policy, cli) -> None:  # fmt: skip
    path = write_policy(tmp_path / "p.yaml", {"check": check, "limit": {"max_abs": 100.0}})
    out = cli("run", planted, "--pack", small, "--policy", path, "--out", tmp_path / "out")
    assert out.code in (2, gate.EXIT_CODES[VerdictWord.INCOMPLETE]), out
    assert out.code != 0


def test_a_policy_on_an_unknown_privacy_check_is_refused(
    case: Case, tmp_path: Path, write_policy, cli
) -> None:
    path = write_policy(
        tmp_path / "p.yaml", {"check": "membership/auc_lossy/all/x"}, heads=["sequence_classification"]
    )
    cli(*case.flags, "--policy", path, "--out", tmp_path / "out").refused("membership/auc_lossy")


# --- refused --------------------------------------------------------------------------------


def test_half_of_what_is_needed_is_refused(case: Case, tmp_path: Path, cli) -> None:
    cli(
        "run", case.model, "--members", case.members, "--label-column", "label", "--out", tmp_path / "o"
    ).refused("non-members")
    cli("run", case.model, "--only", "privacy", "--out", tmp_path / "o").refused("privacy")
    cli(
        "run", case.model, "--members", case.members, "--non-members", case.others, "--out", tmp_path / "o"
    ).refused("label")
    cli("run", case.model, "--person-column", "who").refused("columns")
    assert not (tmp_path / "o").exists()


def test_a_recipe_that_is_none_is_refused(case: Case, tmp_path: Path, cli) -> None:
    recipe = tmp_path / "recipe.yaml"
    for text, word in (("- a\n", "mapping"), ("epochs: nine\n", "epochs"), ("{", "recipe")):
        recipe.write_text(text, encoding="utf-8")
        cli(*case.flags, "--recipe", recipe, "--out", tmp_path / "o").refused(word)


def test_flags_are_laid_over_the_file(case: Case, tmp_path: Path) -> None:
    path = tmp_path / "audit.yaml"
    path.write_text(yaml.safe_dump({"privacy": {"references": 8, "canaries": "a.json"}}), encoding="utf-8")
    found = load_config(path, model="m", privacy={"references": 2})
    assert found.privacy.references == 2 and found.privacy.canaries == "a.json"
    assert load_config(path, model="m", privacy=None).privacy.references == 8


# --- the other commands ---------------------------------------------------------------------


def test_canaries_are_made_once_and_shown_never(case: Case, tmp_path: Path, cli) -> None:
    manifest, lines = tmp_path / "canaries.json", tmp_path / "lines.csv"
    command = [
        "canaries",
        "make",
        case.base,
        "--out",
        manifest,
        "--lines",
        lines,
        "--coins",
        12,
        "--kind",
        "pin",
    ]
    done = cli(*command)
    assert done.code == 0, done
    made = canary_manifest.load(manifest)
    assert manifest.stat().st_mode & 0o077 == lines.stat().st_mode & 0o077 == 0
    assert made.sha256 in done.out
    for canary in made.canaries:
        if len(canary.secret) > 6:
            assert not leaks((done.out + done.err).replace(made.sha256, "").encode(), canary.secret)
    with lines.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == sum(c.repetitions for c in made.canaries) and set(rows[0]) == {"text"}
    before = manifest.read_bytes()
    cli(*command).refused("there already")
    assert manifest.read_bytes() == before
    cli(
        "canaries", "make", case.base, "--out", tmp_path / "x", "--lines", tmp_path / "y", "--language", "fr"
    ).refused("fr")


def test_a_key_is_made_once(tmp_path: Path, cli) -> None:
    path = tmp_path / "own"
    done = cli("key", path)
    assert done.code == 0 and path.stat().st_mode & 0o077 == 0
    assert path.read_bytes().hex()[:16] not in done.out and Key.load(path).name in done.out
    cli("key", path).refused("there already")


def test_a_scan_counts_and_shows_nothing(tmp_path: Path, cli) -> None:
    rows = [{"text": f"write to quentin.abernathy{i}@example.org today"} for i in range(3)] + [
        {"text": "nothing here"}
    ]
    path = write(tmp_path / "t.csv", rows)
    done = cli("scan", path, "--rows")
    assert done.code == 0 and "email" in done.out.lower() and "4 texts" in done.out
    assert not leaks((done.out + done.err).encode(), "quentin.abernathy1@example.org")
    cli("scan", path, "--names", tmp_path / "none.txt").refused("names")
