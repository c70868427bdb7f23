"""``packs check`` and ``packs new``: what a pack holds, what it can resolve, and one to start from."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from albert_audit import audit, packs, resources
from albert_audit.bias import MEASURES
from albert_audit.config import AuditConfig
from albert_audit.packcheck import create, report
from albert_audit.types import Head, PackError, Status, UsageError, VerdictWord
from tests.tiny import tiny_folders

__all__ = ["tiny_folders"]


def text(folder: Path | str, model: Path | None = None) -> str:
    return "\n".join(report(str(folder), str(model) if model else None))


@pytest.mark.parametrize("name", packs.shipped())
def test_every_shipped_pack_passes_and_resolves(name: str) -> None:
    said = text(name)
    assert f"{name} version" in said
    assert "no mistakes found" in said
    assert "its name ends in" not in said


STARTERS = sorted(p.name for p in (resources.reports() / "starters").iterdir())


def test_the_help_names_every_starter() -> None:
    from albert_audit import cli

    source = Path(cli.__file__).read_text(encoding="utf-8")
    assert f"{', '.join(STARTERS[:-1])} or {STARTERS[-1]}." in source


@pytest.mark.parametrize("measure", STARTERS)
def test_a_new_pack_passes_and_has_enough_clusters(tmp_path: Path, measure: str) -> None:
    files = create(tmp_path / "new-en", measure)
    assert all(p.is_file() for p in files)
    assert {"pack.yaml", "README.md"} < {p.name for p in files}
    pack = packs.load(tmp_path / "new-en")
    assert (pack.name, pack.spec.measure) == ("new-en", measure)
    assert "NO INTERVAL" not in text(tmp_path / "new-en")


HEADS = {
    "association": Head.ENCODER, "choice_bias": Head.MULTIPLE_CHOICE, "name_swap": Head.TOKEN_CLASSIFICATION,
    "pair_preference": Head.MASKED_LM, "template_gap": Head.MASKED_LM,
    "template_score": Head.SEQUENCE_CLASSIFICATION,
}  # fmt: skip


@pytest.mark.parametrize("measure", STARTERS)
def test_a_new_pack_is_audited_on_a_model_of_its_head(tmp_path: Path, tiny_folders, measure: str) -> None:
    """Random weights are below every floor, or give what they give; nothing crashes and nothing passes."""
    create(tmp_path / "new-en", measure)
    positive = {"positive": "LABEL_1"} if HEADS[measure] is Head.SEQUENCE_CLASSIFICATION else {}
    config = AuditConfig(
        model=str(tiny_folders[HEADS[measure]]), out=str(tmp_path / "audit"), packs=(str(tmp_path / "new-en"),),
        device="cpu", **positive,
    )  # fmt: skip
    done = audit.execute(audit.plan(config), force=False, watcher=audit.Silent())
    mine = [f for f in done.findings.findings if f.pack == "new-en"]
    assert mine and all(f.status is not Status.ERROR for f in mine), [f.reason for f in mine]
    assert done.verdict.verdict is VerdictWord.INCOMPLETE, "the shipped policy asks for the shipped packs"


@pytest.mark.parametrize("measure", STARTERS)
@pytest.mark.parametrize(
    ("name", "language"),
    [("new-fr", "fr"), ("new-zh", "zh"), ("new-en", "en"), ("new", "en"), ("new-tv", "en"), ("fr", "en"),
     ("new-fra", "en")],
)  # fmt: skip
def test_a_new_pack_speaks_the_language_of_its_name(
    tmp_path: Path, measure: str, name: str, language: str
) -> None:
    """Else a French pack is checked, and floored, as English."""
    create(tmp_path / name, measure)
    pack = packs.load(tmp_path / name)
    assert pack.language == language
    raw = (tmp_path / name / "pack.yaml").read_text(encoding="utf-8")
    assert ("write your own in this language" in raw) is (language != "en")
    said = text(tmp_path / name)
    assert "its name ends in" not in said
    assert ("without a floor every finding is INVALID" in said) is (
        language == "fr" and MEASURES[measure].floored_by != ""
    )


def test_a_name_that_ends_in_another_language_is_noted(tmp_path: Path) -> None:
    create(tmp_path / "new-fr", "template_gap")
    path = tmp_path / "new-fr" / "pack.yaml"
    path.write_text(
        path.read_text(encoding="utf-8").replace("language: fr", "language: en"), encoding="utf-8"
    )
    assert "note: its name ends in -fr, its language is en" in text(tmp_path / "new-fr")


def test_the_control_beside_a_pack_is_compared(small: Path) -> None:
    said = text(small)
    assert "control small-placebo-en: 12 of 12 templates shared" in said
    assert "slope" in said


def test_too_few_clusters_are_told(tmp_path: Path) -> None:
    create(tmp_path / "few-en", "template_gap")
    path = tmp_path / "few-en" / "templates.csv"
    path.write_text("\n".join(path.read_text(encoding="utf-8").splitlines()[:5]) + "\n", encoding="utf-8")
    assert "NO INTERVAL" in text(tmp_path / "few-en")


def test_one_family_is_told(tmp_path: Path) -> None:
    create(tmp_path / "one-en", "template_gap")
    path = tmp_path / "one-en" / "templates.csv"
    lines = [line.split(",", 2) for line in path.read_text(encoding="utf-8").splitlines()]
    path.write_text(
        "\n".join(f"{a},{'family' if a == 'id' else 'x'},{c}" for a, _, c in lines), encoding="utf-8"
    )
    assert "one family" in text(tmp_path / "one-en")


def test_pieces_unknown_tokens_and_cost_under_a_model(tmp_path: Path, planted: Path) -> None:
    create(tmp_path / "odd-en", "template_gap")
    path = tmp_path / "odd-en" / "fillers.csv"
    first = path.read_text(encoding="utf-8").splitlines()[1]
    cells = first.split(",")
    path.write_text(
        path.read_text(encoding="utf-8").replace(first, ",".join([cells[0], "护士", *cells[2:]])),
        encoding="utf-8",
    )
    said = text(tmp_path / "odd-en", planted)
    assert "under planted (" in said
    assert "护士" in said
    assert "UNKNOWN PIECE" in next(line for line in said.splitlines() if "护士" in line)
    assert "unknown tokens: 0.00%" not in said
    assert "TFLOP" in said


def test_mistakes_are_listed(tmp_path: Path, small: Path) -> None:
    broken = Path(shutil.copytree(small.parent, tmp_path / "packs")) / small.name
    (broken / "templates.csv").write_text(
        "id,family,text\na,b,No slot.\na,b,{filler} {target} {x}\n", encoding="utf-8"
    )
    with pytest.raises(PackError) as caught:
        text(broken)
    for word in ("templates.csv:2", "templates.csv:3", "{x}", "already used"):
        assert word in str(caught.value)


@pytest.mark.parametrize("name", ["Upper", "two words", "代词", "under_score", "-a"])
def test_a_new_pack_needs_a_slug(tmp_path: Path, name: str) -> None:
    with pytest.raises(UsageError, match="lower-case"):
        create(tmp_path / name, "template_gap")
    assert list(tmp_path.iterdir()) == []


def test_nothing_is_overwritten(tmp_path: Path) -> None:
    (tmp_path / "a-en").mkdir()
    (tmp_path / "a-en" / "mine.txt").touch()
    (tmp_path / "b-en").touch()
    for name in ("a-en", "b-en"):
        with pytest.raises(UsageError, match="not empty"):
            create(tmp_path / name, "template_gap")
    with pytest.raises(UsageError, match="cannot write"):
        create(tmp_path / "b-en" / "c-en", "template_gap")
    (tmp_path / "d-en").mkdir()
    assert create(tmp_path / "d-en", "template_gap"), "an empty folder will do"
