"""The command line: every exit code, every refusal with a next step, and odd input."""

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
import yaml
from huggingface_hub.errors import LocalEntryNotFoundError

import albert_audit
from albert_audit import folder, packs
from albert_audit.model.cache import ScoreStore, cache_path
from albert_audit.types import Head
from tests.tiny import checkpoint, clone, edit, tiny_folders

__all__ = ["tiny_folders"]

CHECKOUT = Path(__file__).parent.parent
Cli = Callable[..., Any]


def never(*_: object, **__: object) -> Any:
    raise AssertionError("this must not be called")


# --- exit codes -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("limit", "rule", "code", "word"),
    [
        (50.0, {}, 0, "PASS"),
        (0.7, {}, 1, "FAIL"),
        (0.0, {}, 4, "INCONCLUSIVE"),
        (0.0, {"on_inconclusive": "fail"}, 1, "FAIL"),
        (50.0, {"min_n": 100_000}, 4, "INCONCLUSIVE"),
        (50.0, {"check": "pronoun-occupation-en/template_gap/gender/female-vs-male"}, 3, "INCOMPLETE"),
    ],
)
def test_every_verdict_and_its_exit_code(
    cli: Cli, tmp_path: Path, failed: Path, write_policy: Cli,
    limit: float, rule: dict[str, Any], code: int, word: str,
) -> None:  # fmt: skip
    out = Path(shutil.copytree(failed, tmp_path / "audit"))
    if not limit:  # the estimate itself, which no interval can lie beside
        finding = next(f for f in folder.load(out).findings.findings if f.measure == "template_gap_slope")
        assert finding.effect is not None
        limit = abs(finding.effect.value)
    policy = write_policy(tmp_path / "policy.yaml", {"limit": {"max_abs": limit}} | rule)
    done = cli("gate", out, "--policy", policy)
    assert done.code == code, done
    assert done.out.split()[0] == word
    assert json.loads((out / "verdict.json").read_text(encoding="utf-8"))["exit_code"] == code


def test_run_itself_exits_with_3_and_4(
    cli: Cli, tmp_path: Path, planted: Path, small: Path, failed: Path, write_policy: Cli
) -> None:
    finding = next(f for f in folder.load(failed).findings.findings if f.measure == "template_gap_slope")
    assert finding.effect is not None
    close = write_policy(tmp_path / "close.yaml", {"limit": {"max_abs": abs(finding.effect.value)}})
    assert cli("run", planted, "--pack", small, "--policy", close, "--out", tmp_path / "4").code == 4
    done = cli("run", planted, "--pack", small, "--out", tmp_path / "3")
    assert done.code == 3, "the shipped policy requires checks of packs that were not chosen"
    assert done.out.startswith("INCOMPLETE")


# --- usage ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "arguments",
    [
        ["frobnicate"], ["run", "x", "--nope"], ["run", "x", "y"], ["run", "x", "--seed", "-1"], ["gate"],
        ["run", "x", "--seed", "one"], ["packs", "show"], ["packs", "nope"],
    ],
)  # fmt: skip
def test_wrong_flags(cli: Cli, arguments: list[str]) -> None:
    done = cli(*arguments)
    assert done.code == 2
    assert "-h" in done.err
    assert "Traceback" not in done.err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["run"], ["no model"]),
        (["run", ""], ["no model"]),
        (["run", "./nowhere"], ["./nowhere"]),
        (["run", "no/such/model"], ["no/such/model"]),
        (["run", "FILE"], ["expected a folder"]),
        (["run", "EMPTY"], ["config.json"]),
        (["inspect", "EMPTY"], ["config.json"]),
        (["run", "MODEL", "--device", "tpu"], ["device", "cpu"]),
        (["run", "MODEL", "--pack", ""], ["empty"]),
        (["run", "MODEL", "--pack", "pronoun-ocupation-en"], ["did you mean 'pronoun-occupation-en'"]),
        (["run", "MODEL", "--pack", "placebo-occupation-en"], ["control"]),
        (["run", "MODEL", "--pack", "floor-en"], ["control"]),
        (["run", "MODEL", "--pack", "EMPTY"], ["no pack.yaml"]),
        (["run", "MODEL", "--pack", "FILE"], ["there is no pack"]),
        (["run", "MODEL", "--data", "crows-pairs"], ["NAME=PATH"]),
        (["run", "MODEL", "--data", "=x"], ["NAME=PATH"]),
        (["run", "MODEL", "--data", "crows=x"], ["no loader", "crows-pairs"]),
        (["run", "MODEL", "--data", "crows-pairs=none.csv"], ["none.csv"]),
        (["run", "MODEL", "--data", "crows-pairs=FILE"], ["SHA-256"]),
        (["run", "MODEL", "--data", "crows-pairs=a", "--data", "crows-pairs=b"], ["twice"]),
        (["run", "MODEL", "--policy", "none.yaml"], ["none.yaml"]),
        (["run", "MODEL", "--policy", "EMPTY"], ["directory"]),
        (["run", "--config", "none.yaml"], ["none.yaml"]),
        (["packs", "show", "nothing"], ["packs list"]),
        (["packs", "check", "EMPTY"], ["no pack.yaml"]),
        (["packs", "check", "floor-en", "--model", "EMPTY"], ["config.json"]),
        (["packs", "new", "FILE"], ["not empty"]),
        (["packs", "new", "FILE/pack-en"], ["FILE/pack-en"]),
        (["packs", "new", "Bad Name"], ["lower-case"]),
        (["packs", "new", "代词"], ["lower-case"]),
        (["packs", "new", "new-en", "--measure", "guess"], ["template_gap", "pair_preference"]),
        (["demo", "--out", "FILE"], ["FILE"]),
    ],
)
def test_a_usage_error_names_the_next_step(
    cli: Cli,
    tmp_path: Path,
    planted: Path,
    monkeypatch: pytest.MonkeyPatch,
    arguments: list[str],
    words: list[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "FILE").write_text("x", encoding="utf-8")
    (tmp_path / "EMPTY").mkdir()
    done = cli(*[str(planted) if a == "MODEL" else a for a in arguments])
    done.refused(*words)
    assert {p.name for p in tmp_path.iterdir()} == {"FILE", "EMPTY"}, "nothing was written"
    assert list((tmp_path / "EMPTY").iterdir()) == []


@pytest.mark.parametrize("out", ["FILE", "FILE/sub", "/proc/none"])
def test_an_out_that_cannot_be_a_folder(
    cli: Cli,
    tmp_path: Path,
    planted: Path,
    small: Path,
    limits: Path,
    out: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "FILE").write_text("x", encoding="utf-8")
    cli("run", planted, "--pack", small, "--policy", limits, "--out", out).refused("cannot write", "--out")
    assert (tmp_path / "FILE").read_text(encoding="utf-8") == "x"


def test_a_hub_that_cannot_be_reached(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    def away(*_: object, **__: object) -> str:
        raise LocalEntryNotFoundError("offline")

    monkeypatch.setattr("huggingface_hub.snapshot_download", away)
    cli("inspect", "nobody/nothing").refused("nobody/nothing", "hub")
    cli("run", "nobody/nothing").refused("nobody/nothing", "hub")


def test_debug_shows_a_traceback_and_keeps_the_exit_code(cli: Cli, tmp_path: Path) -> None:
    for arguments in (["--debug", "run", "./none"], ["run", "./none", "--debug"]):
        done = cli(*arguments)
        assert done.code == 2
        assert "Traceback" in done.err
        assert "there is no folder ./none" in done.err
    assert "Traceback" not in cli("run", "./none").err


def test_a_wrong_clock_and_a_wrong_cache(
    cli: Cli, tmp_path: Path, planted: Path, small: Path, limits: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    command = ("run", planted, "--pack", small, "--policy", limits, "--out", tmp_path / "audit")
    with monkeypatch.context() as patch:
        patch.setenv("SOURCE_DATE_EPOCH", "yesterday")
        cli(*command).refused("SOURCE_DATE_EPOCH")
    (tmp_path / "file").touch()
    with monkeypatch.context() as patch:
        patch.setenv("ALBERT_AUDIT_CACHE", str(tmp_path / "file"))
        cli(*command).refused("cache", "ALBERT_AUDIT_CACHE")
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache" / "scores.sqlite").write_bytes(b"no database" * 100)
    with monkeypatch.context() as patch:
        patch.setenv("ALBERT_AUDIT_CACHE", str(tmp_path / "cache"))
        cli(*command).refused("cache", "delete")
    assert cli(*command).code == 1, "what was refused left nothing that stands in the way"


def test_a_reader_that_goes_away_is_no_fail(passed: Path, tmp_path: Path) -> None:
    out = Path(shutil.copytree(passed, tmp_path / "audit"))
    read, write = os.pipe()
    os.close(read)
    try:
        done = subprocess.run(
            [sys.executable, "-m", "albert_audit", "gate", str(out)],
            stdout=write, stderr=subprocess.PIPE, text=True, cwd=CHECKOUT, check=False,
        )  # fmt: skip
    finally:
        os.close(write)
    assert done.returncode == 3, "1 would read as: the model failed"
    assert "Traceback" not in done.stderr


# --- help -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "command", ["", "run", "inspect", "gate", "report", "demo", "packs", "packs list", "packs show", "packs check", "packs new"]
)  # fmt: skip
def test_help(cli: Cli, command: str) -> None:
    done = cli(*command.split(), "--help")
    assert done.code == 0
    assert "Usage:" in done.out
    assert cli(*command.split(), "-h").out == done.out
    if command == "run":
        assert "Examples" in done.out
        for flag in (
            "--out",
            "--config",
            "--policy",
            "--pack",
            "--data",
            "--plan",
            "--force",
            "--device",
            "--seed",
        ):
            assert flag in done.out
    if not command:
        assert "130 interrupted" in done.out


def test_version_and_nothing(cli: Cli) -> None:
    assert cli("--version").out.strip() == f"albert-audit {albert_audit.__version__}"
    bare = cli()
    assert bare.code == 2
    assert "run" in bare.out + bare.err


# --- plan -----------------------------------------------------------------------------------


def test_plan_scores_nothing_and_writes_nothing(
    cli: Cli, tmp_path: Path, planted: Path, small: Path, limits: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ALBERT_AUDIT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("albert_audit.model.scorer.TorchScorer.mask_logprobs", never)
    monkeypatch.setattr("albert_audit.model.scorer.TorchScorer.mask_batches", never)
    monkeypatch.setattr("albert_audit.audit.execute", never)
    done = cli("run", planted, "--pack", small, "--policy", limits, "--plan")
    assert done.code == 0, done
    assert list(tmp_path.iterdir()) == []
    for word in ("small-occupation-en", "small-placebo-en", "floor-en", "tokens", "together", "limits"):
        assert word in done.out


def test_the_plan_costs_what_the_run_costs(
    failed: Path, cli: Cli, planted: Path, small: Path, limits: Path
) -> None:
    planned = cli("run", planted, "--pack", small, "--policy", limits, "--plan").out.splitlines()
    line = next(part for part in planned if part.startswith("together"))
    run = json.loads((failed / "run.json").read_text(encoding="utf-8"))
    spent = run["scored"]["tokens"] + run["cached"]["tokens"]
    assert line.split()[:3][-1].replace(",", "") == str(spent), line


# --- inspect --------------------------------------------------------------------------------


@pytest.mark.parametrize("head", list(Head))
def test_inspect_knows_every_head(cli: Cli, tiny_folders: dict[Head, Path], head: Head) -> None:
    done = cli("inspect", tiny_folders[head], "--device", "cpu")
    assert done.code == 0, done
    lines = dict(line.split(maxsplit=1) for line in done.out.splitlines() if len(line.split()) > 1)
    assert lines["head"] == head.value
    assert "MFLOP a token" in lines["compute"]
    assert "passes" in lines["compute"]
    for key in ("parameters", "vocabulary", "answers", "weights", "model", "packs"):
        assert lines[key]
    answers = head in (Head.MASKED_LM, Head.PRETRAINING)
    assert ("mask_logprobs" in lines["answers"]) is answers
    assert ("pronoun-occupation-en" in lines["packs"]) is answers


def test_a_classifier_of_three_labels_must_say_which_is_compared(
    cli: Cli, tiny_folders: dict[Head, Path], tmp_path: Path
) -> None:
    folder = tiny_folders[Head.SEQUENCE_CLASSIFICATION]
    cli("run", folder, "--out", tmp_path / "audit").refused("3 labels", "--positive", "LABEL_2")
    cli("run", folder, "--positive", "none", "--out", tmp_path / "audit").refused(
        "no label 'none'", "LABEL_2"
    )
    cli("run", tiny_folders[Head.ENCODER], "--threshold", "0.5").refused("for classifiers", "encoder")
    assert not (tmp_path / "audit").exists()
    planned = cli("run", folder, "--positive", "label_1", "--plan")
    assert planned.code == 0 and "'LABEL_1'" in planned.out, planned


def test_columns_without_texts_and_benchmarks_in_a_small_profile_are_refused(
    cli: Cli, planted: Path, tmp_path: Path
) -> None:
    cli("run", planted, "--label-column", "label").refused("--texts FILE")
    cli("run", planted, "--pack", "counterfactual-en").refused("no pack")
    cli("run", planted, "--pack", "identity-terms-en").refused("your own texts")
    cli("run", planted, "--profile", "quick", "--data", "crows-pairs=x.csv").refused("--profile full")


def test_a_pack_that_the_head_cannot_answer_never_passes(
    cli: Cli, tiny_folders: dict[Head, Path], small: Path, tmp_path: Path, write_policy: Cli
) -> None:
    policy = write_policy(tmp_path / "p.yaml", heads=["encoder"])
    done = cli(
        "run", tiny_folders[Head.ENCODER], "--pack", small, "--policy", policy, "--out", tmp_path / "audit"
    )
    assert done.code in (2, 3), done
    if done.code == 2:
        done.refused("only informs")


# --- refused models -------------------------------------------------------------------------


def _spoil(how: str, source: Path, into: Path) -> Path:
    model = clone(source, into)
    weights = model / "model.safetensors"
    if how == "pickled":
        weights.rename(model / "pytorch_model.bin")
    elif how == "foreign":
        edit(model / "config.json", model_type="bert")
    elif how == "headless":
        edit(model / "config.json", architectures=["AlbertForQuestionAnswering"])
    elif how == "truncated":
        weights.write_bytes(weights.read_bytes()[:-1000])
    elif how == "remote code":
        edit(model / "config.json", auto_map={"AutoModel": "x.Y"})
    elif how == "no tokenizer":
        (model / "tokenizer.json").unlink()
    elif how == "other shapes":
        edit(model / "config.json", hidden_size=32)
    return model


@pytest.mark.parametrize(
    "how", ["pickled", "foreign", "headless", "truncated", "remote code", "no tokenizer", "other shapes"]
)
def test_a_refused_model_is_2_and_says_why(
    cli: Cli, tiny_folders: dict[Head, Path], small: Path, limits: Path, tmp_path: Path, how: str
) -> None:
    model = _spoil(how, tiny_folders[Head.MASKED_LM], tmp_path / "model")
    cli("inspect", model).refused()
    if how != "headless":
        out = tmp_path / "audit"
        cli("run", model, "--pack", small, "--policy", limits, "--out", out).refused()
        assert not out.exists()


# --- packs ----------------------------------------------------------------------------------


def test_packs_list_and_show(cli: Cli) -> None:
    listed = cli("packs", "list")
    assert listed.code == 0
    for name in packs.shipped():
        assert name in listed.out
        shown = cli("packs", "show", name)
        assert shown.code == 0
        assert "licence" in shown.out
    shown = cli("packs", "show", "pronoun-occupation-en").out
    assert "pronoun-occupation-en/template_gap_slope/gender/female-vs-male" in shown


@pytest.mark.parametrize("measure", ["template_gap", "pair_preference"])
def test_a_new_pack_passes_its_check_and_runs(
    cli: Cli, tmp_path: Path, planted: Path, write_policy: Cli, measure: str
) -> None:
    new = tmp_path / "我的 packs" / "my-own-en"
    made = cli("packs", "new", new, "--measure", measure)
    assert made.code == 0
    assert "packs check" in made.out
    checked = cli("packs", "check", new, "--model", planted)
    assert checked.code == 0
    for word in ("no mistakes", "degrees of freedom", "unknown tokens", "cost"):
        assert word in checked.out
    assert "NO INTERVAL" not in checked.out
    text = (new / "pack.yaml").read_text(encoding="utf-8")
    (new / "pack.yaml").write_text(text.replace("may_gate: []", "may_gate: [masked_lm]"), encoding="utf-8")
    name = "template_gap" if measure == "template_gap" else "pair_cps_margin"
    policy = write_policy(tmp_path / "p.yaml", {"check": f"my-own-en/{name}/*", "limit": {"max_abs": 1e3}})
    done = cli("run", planted, "--pack", new, "--policy", policy, "--out", tmp_path / "出 力")
    assert done.code == 0, done
    assert cli("packs", "new", new).code == 2, "a pack is never overwritten"


def test_a_pack_with_mistakes_lists_them(cli: Cli, tmp_path: Path) -> None:
    cli("packs", "new", tmp_path / "bad-en")
    (tmp_path / "bad-en" / "templates.csv").write_text("id,famly,text\n", encoding="utf-8")
    text = (tmp_path / "bad-en" / "pack.yaml").read_text(encoding="utf-8")
    (tmp_path / "bad-en" / "pack.yaml").write_text(text + "verzion: 3\n", encoding="utf-8")
    cli("packs", "check", tmp_path / "bad-en").refused(
        "famly", "did you mean 'family'", "verzion", "'version'"
    )


def test_a_pack_given_twice_is_refused(
    cli: Cli, tmp_path: Path, planted: Path, small: Path, limits: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(small.parent)
    for again in (small.name, small, f"./{small.name}/"):
        cli("run", planted, "--pack", small.name, "--pack", again, "--policy", limits).refused(
            small.name, "twice"
        )


def test_a_pack_that_is_called_like_a_control_is_refused(cli: Cli, tmp_path: Path, planted: Path) -> None:
    """Else a probe would stand in for the control of another."""
    fake = tmp_path / "placebo-occupation-en"
    cli("packs", "new", fake)
    cli("run", planted, "--pack", "pronoun-occupation-en", "--pack", fake).refused("placebo-occupation-en")


def test_a_shipped_name_means_the_shipped_pack(
    cli: Cli, tmp_path: Path, small: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A folder that happens to lie in the working directory stands for nothing shipped."""
    expected = cli("packs", "show", "floor-en").out
    fake = Path(shutil.copytree(small, tmp_path / "floor-en"))
    edit_name = (fake / "pack.yaml").read_text(encoding="utf-8").replace("small-occupation-en", "floor-en")
    (fake / "pack.yaml").write_text(edit_name, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    assert cli("packs", "show", "floor-en").out == expected
    assert "sentence_floor" in cli("packs", "list").out


# --- configuration --------------------------------------------------------------------------


def test_flags_override_the_configuration(
    cli: Cli, tmp_path: Path, planted: Path, twin: Path, small: Path, limits: Path
) -> None:
    config = tmp_path / "audit.yaml"
    settings = {"model": twin, "out": tmp_path / "a", "policy": limits}
    config.write_text(
        yaml.safe_dump({k: str(v) for k, v in settings.items()} | {"packs": [str(small)], "seed": 3}),
        encoding="utf-8",
    )
    planned = cli("run", "--config", config, "--plan")
    assert planned.code == 0
    for word in ("twin", str(tmp_path / "a"), small.name, "limits"):
        assert word in planned.out
    assert cli("run", planted, "--config", config, "--out", tmp_path / "b", "--seed", "0").code == 1
    done = folder.load(tmp_path / "b")
    assert (done.findings.model.name, done.manifest.seed) == ("planted", 0)
    assert not (tmp_path / "a").exists()


# --- odd paths ------------------------------------------------------------------------------


def test_paths_with_spaces_and_han_characters(
    cli: Cli, tmp_path: Path, planted: Path, small: Path, limits: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    room = tmp_path / "审 计 & <b>"
    shutil.copytree(planted, room / "模 型")
    shutil.copytree(small.parent, room / "词 包")
    shutil.copy(limits, room / "政 策.yaml")
    monkeypatch.chdir(room)
    command = ("run", "模 型", "--pack", f"词 包/{small.name}", "--policy", "政 策.yaml", "--out", "结 果")
    done = cli(*command)
    assert done.code == 1, done
    assert "结 果/card.en.html" in done.out
    assert cli("gate", "结 果").code == 1
    assert cli("report", "结 果").out.strip() == "结 果/card.en.html"
    assert folder.load(Path("结 果")).findings.model.name == "模 型"
    monkeypatch.setenv("ALBERT_AUDIT_CACHE", "缓 存")
    ScoreStore(cache_path()).close()
    assert Path("缓 存/scores.sqlite").stat().st_mode & 0o077 == 0


def test_an_untrained_model_is_not_fair(cli: Cli, tmp_path: Path, small: Path, write_policy: Cli) -> None:
    model = checkpoint(tmp_path / "model")
    policy = write_policy(tmp_path / "p.yaml", {"limit": {"max_abs": 1e3}})
    done = cli("run", model, "--pack", small, "--policy", policy, "--out", tmp_path / "audit")
    assert done.code == 3, done
    assert "floor" in done.out


def test_a_floor_beside_a_pack_never_replaces_the_shipped_one(
    cli: Cli, tmp_path: Path, planted: Path, small: Path, limits: Path, failed: Path
) -> None:
    room = Path(shutil.copytree(small.parent, tmp_path / "packs"))
    shutil.copytree(packs.find("floor-en"), room / "floor-en")
    easy = room / "floor-en" / "sentences.csv"
    lines = easy.read_text(encoding="utf-8").splitlines()
    easy.write_text("\n".join(lines[:21]) + "\n", encoding="utf-8")
    done = cli("run", planted, "--pack", room / small.name, "--policy", limits, "--out", tmp_path / "audit")
    assert done.code == 1, done
    assert (tmp_path / "audit" / "findings.json").read_bytes() == (failed / "findings.json").read_bytes()


def test_workers_of_the_configuration_are_kept(
    cli: Cli, tmp_path: Path, planted: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []
    monkeypatch.setattr("albert_audit.audit.plan", lambda config: seen.append(config.workers))
    monkeypatch.setattr("albert_audit.cli._show_plan", lambda _: None)
    config = tmp_path / "audit.yaml"
    config.write_text(f"model: {planted}\nworkers: 1\n", encoding="utf-8")
    cli("run", "--config", config, "--plan")
    cli("run", "--config", config, "--workers", "2", "--plan")
    cli("run", planted, "--plan")
    assert seen == [1, 2, "auto"]
