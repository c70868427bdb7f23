"""The documents name only what exists: tests, links, finding ids, packs; each silent mistake has a test."""

from __future__ import annotations

import ast
import functools
import itertools
import re
from pathlib import Path

import pytest

from albert_audit import packs
from albert_audit.audit import LOADERS
from albert_audit.findings import checks
from albert_audit.types import Head

ROOT = Path(__file__).parent.parent
DOCUMENTS = [
    p.relative_to(ROOT).as_posix() for p in sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
]
TRAPS = {"silent-mistakes": 30, "silent-mistakes-privacy": 18}
_CODE = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"\]\(([^)\s]+)\)")
_TEST = re.compile(r"`(?P<file>tests/[\w/]+\.py|…)(?:::(?P<test>\w+))?`")


@functools.cache
def text_of(document: str) -> str:
    return (ROOT / document).read_text(encoding="utf-8")


@functools.cache
def functions_of(file: str) -> frozenset[str]:
    tree = ast.parse((ROOT / file).read_text(encoding="utf-8"))
    return frozenset(n.name for n in ast.walk(tree) if isinstance(n, ast.FunctionDef))


def missing_tests(text: str) -> list[str]:
    """Return the tests named in a text that are not there; ``…::test`` is of the file named before."""
    wrong, file = [], ""
    for match in _TEST.finditer(text):
        file = file if match["file"] == "…" else match["file"]
        if not (ROOT / file).is_file():
            wrong.append(file)
        elif match["test"] and match["test"] not in functions_of(file):
            wrong.append(f"{file}::{match['test']}")
    return wrong


def anchors(document: str) -> set[str]:
    """Return the names that the headings of a document have in a link."""
    headings = re.findall(r"^#+ +(.+?) *$", _CODE.sub("", text_of(document)), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", h.lower()).replace(" ", "-") for h in headings}


def broken_links(document: str) -> list[str]:
    wrong = []
    for link in _LINK.findall(_CODE.sub("", text_of(document))):
        if link.startswith(("http://", "https://", "mailto:")):
            continue
        name, _, anchor = link.partition("#")
        target = (ROOT / document).parent / name if name else ROOT / document
        if not target.exists() or (
            anchor and anchor not in anchors(target.resolve().relative_to(ROOT).as_posix())
        ):
            wrong.append(link)
    return wrong


def expanded(pattern: str) -> list[str]:
    """Return what a shell makes of braces: ``a{b,c}`` is ab and ac."""
    parts = [p[1:-1].split(",") if p[:1] == "{" else [p] for p in re.split(r"(\{[^}]*\})", pattern)]
    return ["".join(p) for p in itertools.product(*parts)]


@pytest.mark.parametrize("document", DOCUMENTS)
def test_every_test_that_is_named_exists(document):
    assert missing_tests(text_of(document)) == []


@pytest.mark.parametrize("document", DOCUMENTS)
def test_every_relative_link_leads_somewhere(document):
    assert broken_links(document) == []


def test_a_wrong_name_and_a_wrong_link_would_be_noticed(monkeypatch):
    assert missing_tests("`tests/test_docs.py::test_nothing`") and missing_tests("`tests/test_nothing.py`")
    assert missing_tests("`tests/test_docs.py`, `…::test_nothing`")
    monkeypatch.setattr(f"{__name__}.text_of", lambda _: "[a](docs/README.md#nowhere) [b](nowhere.md)")
    assert broken_links("README.md") == ["docs/README.md#nowhere", "nowhere.md"]


@pytest.mark.parametrize("name", TRAPS)
def test_every_silent_mistake_names_its_tests(name):
    rows = re.findall(r"^\| (\d+) \|(.*)\|$", text_of(f"docs/reference/{name}.md"), re.MULTILINE)
    assert [int(n) for n, _ in rows] == list(range(1, TRAPS[name] + 1))
    assert [n for n, row in rows if not _TEST.search(row.split("|")[-1])] == []


def test_the_list_of_finding_ids_is_that_of_the_shipped_packs():
    (block,) = re.findall(r"^```text\n(.*?)^```$", text_of("docs/reference/finding-ids.md"), re.M | re.S)
    named = [i for line in block.split() for i in expanded(line)]
    shipped = [packs.load(packs.find(n)) for n in packs.shipped()]
    assert sorted(named) == sorted(i for p in shipped if not p.is_floor for i in checks(p, Head.MASKED_LM))


def test_every_shipped_pack_and_benchmark_is_named_in_the_reference():
    named = {
        i for w in re.findall(r"`([\w{},*-]+)`", text_of("docs/reference/packs.md")) for i in expanded(w)
    }
    known = [re.compile(n.replace("*", r"[\w-]+")) for n in named]
    assert [n for n in packs.shipped() if not any(k.fullmatch(n) for k in known)] == []
    benchmarks = text_of("docs/how-to/audit-a-benchmark.md")
    assert [n for n in LOADERS if f"`{n}`" not in benchmarks] == []
