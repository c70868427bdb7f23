"""The demo: two models whose answer is known, and a demo that notices when the answer is wrong."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from albert_audit import demo, folder, resources

Cli = Callable[..., Any]


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory, cli: Cli) -> Path:
    """A demo that ran once; its output lies beside it."""
    room = tmp_path_factory.mktemp("demo") / "demo-audit"
    done = cli("demo", "--out", room)
    assert done.code == 0, done
    (room.parent / "out.txt").write_text(done.out, encoding="utf-8")
    return room


def truth(name: str) -> float:
    path = resources.known_answer_models() / "truth.json"
    values = json.loads(path.read_text(encoding="utf-8"))["values"]
    return float(values[name]["occupation"]["female-vs-male"]["slope"])


def test_both_are_judged_as_planted(out: Path) -> None:
    printed = (out.parent / "out.txt").read_text(encoding="utf-8")
    assert printed.count("as planted: expected") == 2
    assert "NOT AS PLANTED" not in printed
    assert {p.name for p in out.iterdir()} == {"planted", "twin"}
    assert folder.load(out / "planted").verdict.verdict == "FAIL"
    assert folder.load(out / "twin").verdict.verdict == "PASS"


@pytest.mark.parametrize("name", ["planted", "twin"])
def test_the_interval_covers_the_truth(out: Path, name: str) -> None:
    finding = next(f for f in folder.load(out / name).findings.findings if f.id == demo.FINDING)
    assert finding.effect is not None
    ends = finding.effect.intervals["0.95"]
    assert ends.low <= truth(name) <= ends.high


def test_the_card_names_the_gap(out: Path) -> None:
    done = folder.load(out / "planted")
    finding = next(f for f in done.findings.findings if f.id == demo.FINDING)
    assert finding.effect is not None
    ends = finding.effect.intervals["0.95"]
    card = (out / "planted" / "card.en.html").read_text(encoding="utf-8")
    first = card[: card.index("</section>")] if "</section>" in card else card
    assert "FAIL" in first
    for number in (finding.effect.value, ends.low, ends.high):
        assert f"{number:.2f}" in card or f"{number:.3g}" in card, number


def _again(monkeypatch: pytest.MonkeyPatch, out: Path, **places: str) -> None:
    """Let the demo find the audits that it made before instead of making them again."""
    found = {str(out / name): folder.load(out / place) for name, place in places.items()}
    monkeypatch.setattr(demo.audit, "plan", lambda config: config)
    monkeypatch.setattr(demo.audit, "execute", lambda config, **_: found[config.out])


@pytest.mark.parametrize(("slope", "code"), [(None, 0), (9.0, 3)])
def test_a_wrong_truth_is_noticed(
    cli: Cli, out: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, slope: float | None, code: int
) -> None:
    models = Path(shutil.copytree(resources.known_answer_models(), tmp_path / "models"))
    document = json.loads((models / "truth.json").read_text(encoding="utf-8"))
    if slope is not None:
        document["values"]["planted"]["occupation"]["female-vs-male"]["slope"] = slope
    (models / "truth.json").write_text(json.dumps(document), encoding="utf-8")
    monkeypatch.setattr(resources, "known_answer_models", lambda: models)
    _again(monkeypatch, out, planted="planted", twin="twin")
    done = cli("demo", "--out", out)
    assert done.code == code
    assert done.out.count("NOT AS PLANTED") == (slope is not None)
    assert slope is None or "9.000" in done.out


def test_a_wrong_verdict_is_noticed(cli: Cli, out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _again(monkeypatch, out, planted="twin", twin="planted")
    done = cli("demo", "--out", out)
    assert done.code == 3
    assert done.out.count("NOT AS PLANTED") == 2


def test_the_demo_keeps_what_is_not_its_own(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "planted").mkdir()
    (tmp_path / "planted" / "notes.txt").write_text("mine", encoding="utf-8")
    cli("demo", "--out", tmp_path).refused("not empty")
    assert (tmp_path / "planted" / "notes.txt").read_text(encoding="utf-8") == "mine"
