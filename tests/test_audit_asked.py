"""What was asked for by name: its language must be that of the audit, and its silence is told."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from albert_audit.packcheck import create
from albert_audit.types import Head
from tests.tiny import tiny_folders

__all__ = ["tiny_folders"]

Cli = Callable[..., Any]


def triples(path: Path) -> Path:
    """A file in the shape of StereoSet's with too few target terms for any interval."""
    words = {"stereotype": "kind", "anti-stereotype": "rude", "unrelated": "blue"}
    items = [
        {
            "id": f"i{k}", "target": "nurse", "bias_type": "profession", "context": f"The nurse {k} is BLANK.",
            "sentences": [
                {"sentence": f"The nurse {k} is {word}.", "gold_label": label} for label, word in words.items()
            ],
        }
        for k in range(4)
    ]  # fmt: skip
    path.write_text(json.dumps({"data": {"intrasentence": items}}), encoding="utf-8")
    return path


# --- language -------------------------------------------------------------------------------


def test_a_chosen_pack_of_another_language_is_refused(
    cli: Cli, tmp_path: Path, planted: Path, small: Path
) -> None:
    """--language narrowed the default choice only, and said nothing of what was named."""
    for arguments in (
        ("--pack", small, "--language", "zh"),
        ("--pack", small, "--pack", "minimal-pairs-zh", "--language", "en"),
        ("--data", f"stereoset={triples(tmp_path / 'dev.json')}", "--language", "zh"),
    ):
        cli("run", planted, *arguments, "--plan").refused("--language", "is in the language")
    done = cli("run", planted, "--pack", small, "--language", "en", "--plan")
    assert done.code == 0, done.err
    assert cli("run", planted, "--pack", small, "--language", "EN-Latn", "--plan").code == 0


def test_no_shipped_pack_of_a_language_is_said_with_the_language(cli: Cli, planted: Path) -> None:
    """There are shipped packs for this head, in other languages."""
    cli("run", planted, "--language", "fr", "--plan").refused(
        "no shipped pack in the language 'fr' can test a model with the head masked_lm", "--pack", "--policy"
    )


def test_no_shipped_policy_of_a_language_is_said_with_the_language(
    cli: Cli, tmp_path: Path, planted: Path
) -> None:
    """There is a shipped policy for this head, in other languages."""
    create(tmp_path / "new-fr", "template_gap")
    cli("run", planted, "--pack", tmp_path / "new-fr", "--language", "fr", "--plan").refused(
        "no policy is shipped for the head masked_lm and the language fr", "--policy FILE"
    )


# --- what gave nothing ----------------------------------------------------------------------


def silent(out: str) -> list[str]:
    return [line for line in out.splitlines() if line.startswith("nothing was estimated from ")]


def test_a_benchmark_without_an_estimate_is_named_after_the_verdict(
    cli: Cli, tmp_path: Path, planted: Path, small: Path, limits: Path
) -> None:
    """The policy names the pack alone: the verdict says nothing of the benchmark beside it."""
    done = cli(
        "run", planted, "--pack", small, "--data", f"stereoset={triples(tmp_path / 'dev.json')}", "--policy", limits,
        "--out", tmp_path / "audit",
    )  # fmt: skip
    (line,) = silent(done.out)
    assert line.startswith("nothing was estimated from stereoset (") and ": " in line
    assert done.out.index(line) > done.out.index("card: ")


@pytest.mark.parametrize("measure", ["choice_bias", "template_gap"])
def test_a_chosen_pack_that_the_head_cannot_answer_is_named(
    cli: Cli, tmp_path: Path, tiny_folders: dict[Head, Path], measure: str
) -> None:
    create(tmp_path / "new-en", measure)
    done = cli(
        "run", tiny_folders[Head.MASKED_LM], "--pack", tmp_path / "new-en", "--out", tmp_path / "audit"
    )
    (line,) = silent(done.out)
    why = "cannot answer" if measure == "choice_bias" else "floor"
    assert line.startswith("nothing was estimated from new-en (") and why in line


def test_nothing_is_said_where_all_is_estimated(
    cli: Cli, tmp_path: Path, planted: Path, small: Path, limits: Path
) -> None:
    done = cli("run", planted, "--pack", small, "--policy", limits, "--out", tmp_path / "audit")
    assert silent(done.out) == []
