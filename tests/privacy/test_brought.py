"""What is brought decides what runs; half of it is refused before a model is loaded, and files are told by keyed digests."""

from __future__ import annotations

import csv
import hashlib
import json
from pathlib import Path

import pytest

from albert_audit.config import Privacy, Texts
from albert_audit.privacy import brought as bringing
from albert_audit.privacy import canaries
from albert_audit.redact import Key, leaks
from albert_audit.types import Decision, Head, UsageError
from tests import tiny

CLASSIFIER = Head.SEQUENCE_CLASSIFICATION


@pytest.fixture
def key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A key of this test's own; nobody's is touched."""
    path = tmp_path / "key"
    monkeypatch.setenv("ALBERT_AUDIT_KEY", str(path))
    Key.make(path)
    return path


def table(path: Path, rows: int = 6, *, start: int = 0, **columns: str) -> Texts:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["text", "label", "sex", "who"])
        writer.writerows(
            [
                f"Harriet Quimby wrote line {i}",
                "ab"[i % 2],
                ["women", "men"][i % 2],
                f"Harriet Quimby {i // 2}",
            ]
            for i in range(start, start + rows)
        )
    return Texts(path=str(path), **columns)


def sets(folder: Path, **columns: object) -> dict[str, Texts]:
    given = {"label": "label", **columns}
    return {
        "members": table(folder / "m.csv", 8, **given), "non_members": table(folder / "n.csv", start=8, **given)
    }  # fmt: skip


def read(head: Head = CLASSIFIER, **config: object) -> bringing.Brought:
    return bringing.read(Privacy(**config), head)


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.checkpoint(tmp_path_factory.mktemp("base") / "m", Head.MASKED_LM)


# --- refused --------------------------------------------------------------------------------


@pytest.mark.parametrize("which", ["members", "non_members"])
def test_one_set_alone_is_refused(key: Path, tmp_path: Path, which: str) -> None:
    """Nothing can be told from members only."""
    with pytest.raises(UsageError, match="missing"):
        read(**{which: sets(tmp_path)[which]})


def test_nothing_is_refused(key: Path) -> None:
    for head in (CLASSIFIER, Head.MASKED_LM):
        with pytest.raises(UsageError, match="nothing was brought"):
            read(head)


def test_a_classifier_needs_labels_in_every_set(key: Path, tmp_path: Path) -> None:
    given = sets(tmp_path)
    with pytest.raises(UsageError, match="labels"):
        read(**given, pool=table(tmp_path / "p.csv"))
    assert read(Head.MASKED_LM, **sets(tmp_path, label="")).tests == ("membership",)


@pytest.mark.parametrize("head", [Head.TOKEN_CLASSIFICATION, Head.QUESTION_ANSWERING, Head.ENCODER])
def test_other_heads_are_refused(key: Path, tmp_path: Path, head: Head) -> None:
    with pytest.raises(UsageError, match="head"):
        read(head, **sets(tmp_path))


@pytest.mark.parametrize("kind", ["multi", "regression"])
def test_other_decisions_are_refused(key: Path, tmp_path: Path, kind: str) -> None:
    given = read(**sets(tmp_path))
    with pytest.raises(UsageError, match="one label"):
        bringing.check(given, Decision(kind=kind, labels=("a", "b"), positive=1))
    bringing.check(given, Decision(labels=("a", "b"), positive=1))


def test_canaries_of_another_head_are_refused(key: Path, tmp_path: Path) -> None:
    path = tmp_path / "canaries.json"
    canaries.save(canaries.make(coins=4, seed=1), path)
    with pytest.raises(UsageError, match="head"):
        read(canaries=str(path))
    assert read(Head.MASKED_LM, canaries=str(path)).tests == ("canaries",)


def test_a_recipe_with_a_mistake_is_refused(key: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="epoch"):
        read(**sets(tmp_path), recipe={"epoch": 3})


@pytest.mark.parametrize("references", [1, 3, -2, 66])
def test_an_odd_number_of_references_is_refused(references: int) -> None:
    with pytest.raises(ValueError, match="references"):
        Privacy(references=references)


# --- what will run --------------------------------------------------------------------------


def test_references_need_a_base(key: Path, tmp_path: Path, base: Path) -> None:
    assert read(**sets(tmp_path)).references == 0
    assert {a.name for a in read(**sets(tmp_path)).attacks} == {"loss", "modified_entropy"}
    assert read(**sets(tmp_path), base=str(base)).references == 4
    assert read(**sets(tmp_path), base=str(base), references=0).references == 0
    assert read(**sets(tmp_path), recipe={"method": "head"}, references=6).references == 6


def test_announced_checks_are_unique_and_gate(key: Path, tmp_path: Path, base: Path) -> None:
    given = read(**sets(tmp_path, groups=("sex",), person="who"), base=str(base))
    found = given.ids()
    assert "membership/auc_rmia/sex/women" in found and "membership/auc_rmia/sex/men" in found
    assert any("person_auc" in i for i in found) and all(found.values())
    assert not any("person_auc" in i for i in read(**sets(tmp_path), base=str(base)).ids())


def test_a_policy_may_name_every_check_that_an_audit_could_make(
    key: Path, tmp_path: Path, base: Path
) -> None:
    for head in (CLASSIFIER, Head.MASKED_LM):
        for more in ({}, {"base": str(base)}, {"base": str(base), "references": 16}):
            made = set(read(head, **sets(tmp_path), **more).ids())
            assert made <= set(bringing.known(head)), made - set(bringing.known(head))
    assert not bringing.known(Head.QUESTION_ANSWERING)


def test_what_was_not_tested_is_said(key: Path, tmp_path: Path) -> None:
    everything = " ".join(bringing.not_tested(None, Head.MASKED_LM))
    assert all(word in everything for word in ("Membership", "Canaries", "Extraction"))
    without = bringing.not_tested(read(**sets(tmp_path)), CLASSIFIER)
    assert any("reference models" in w for w in without)
    assert bringing.not_tested(None, Head.QUESTION_ANSWERING)


# --- what is told ---------------------------------------------------------------------------


def test_nothing_told_holds_a_text_a_person_a_path_or_a_plain_hash(
    key: Path, tmp_path: Path, base: Path
) -> None:
    given = read(**sets(tmp_path, person="who"), base=str(base))
    written = json.dumps(given.told).encode() + repr(given.refs()).encode() + repr(given.counts).encode()
    assert not leaks(written, "Harriet Quimby") and str(tmp_path).encode() not in written
    for file in ("m.csv", "n.csv"):
        content = (tmp_path / file).read_bytes()
        for name in ("sha256", "sha1", "md5"):
            assert hashlib.new(name, content).hexdigest()[:12].encode() not in written
    assert Key.load(key).name.encode() in written


def test_another_key_gives_other_digests(key: Path, tmp_path: Path) -> None:
    one = read(**sets(tmp_path)).told
    Key.make(tmp_path / "other")
    two = read(**sets(tmp_path), key=str(tmp_path / "other")).told
    assert one["members"]["rows"] == two["members"]["rows"] == 8
    assert one["members"]["digest"] != two["members"]["digest"] and one["key"] != two["key"]


@pytest.mark.parametrize(
    "change",
    [{"person": "who"}, {"groups": ("sex",)}, {"label": "sex"}, {"text": "who"}, {"language": "zh"}],
    ids=str,
)  # fmt: skip
def test_other_columns_of_the_same_file_are_another_audit(key: Path, tmp_path: Path, change: dict) -> None:
    """Else a folder of the one would be taken for the other, and its reference models too."""
    assert read(**sets(tmp_path)).told != read(**sets(tmp_path, **change)).told


def test_a_missing_key_is_made_for_its_owner_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "new" / "key"
    monkeypatch.setenv("ALBERT_AUDIT_KEY", str(path))
    assert read(**sets(tmp_path)).key.name == Key.load(path).name
    assert path.stat().st_mode & 0o077 == 0
    with pytest.raises(UsageError, match="cannot read the key"):
        read(**sets(tmp_path), key=str(tmp_path / "none"))
