"""The wheel: built from the sdist, installed alone, nothing but the package in site-packages."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import zipfile
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).parent.parent
SOURCES = (
    "albert_audit",
    "probes",
    "reports",
    "tests",
    "docs",
    "bench",
    "pyproject.toml",
    "README.md",
    "LICENSE",
)


def call(*command: object, cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    env = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"} | {"PIP_NO_INDEX": "1"} | environment
    return subprocess.run(
        list(map(str, command)), cwd=cwd, env=env, capture_output=True, text=True, check=False
    )


def build(kind: str, source: Path, into: Path) -> Path:
    done = call(
        sys.executable, "-m", "build", f"--{kind}", "--no-isolation", "--outdir", into, source, cwd=into
    )
    assert done.returncode == 0, done.stdout + done.stderr
    (made,) = into.glob("*.tar.gz" if kind == "sdist" else "*.whl")
    return made


@pytest.fixture(scope="module")
def sdist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An sdist of a clean copy: what lies about in a checkout must not decide what is shipped."""
    source = tmp_path_factory.mktemp("source") / "checkout"
    source.mkdir()
    dirt = shutil.ignore_patterns("__pycache__", "_data", ".*_cache", "*.pyc")
    for path in (*SOURCES, "CHANGELOG.md", "CONTRIBUTING.md", "Makefile", "constraints.txt", ".gitignore"):
        if (CHECKOUT / path).is_dir():
            shutil.copytree(CHECKOUT / path, source / path, ignore=dirt)
        elif (CHECKOUT / path).is_file():
            shutil.copy(CHECKOUT / path, source / path)
    return build("sdist", source, tmp_path_factory.mktemp("sdist"))


@pytest.fixture(scope="module")
def wheel(sdist: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built from the sdist and from nothing else."""
    root = tmp_path_factory.mktemp("unpacked")
    with tarfile.open(sdist) as archive:
        archive.extractall(root, filter="data")
    (source,) = root.iterdir()
    return build("wheel", source, tmp_path_factory.mktemp("wheel"))


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that holds the wheel alone."""
    target = tmp_path_factory.mktemp("site")
    done = call(
        sys.executable, "-m", "pip", "install", "--no-deps", "--no-index", "--no-compile", "--target", target, wheel,
        cwd=target,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return target


def files(root: Path) -> set[str]:
    return {
        p.relative_to(root).as_posix()
        for p in root.rglob("*")
        if p.is_file() and "__pycache__" not in p.parts
    }


def test_nothing_else_lands_in_site_packages(installed: Path) -> None:
    tops = {p.name for p in installed.iterdir()} - {"bin"}
    (info,) = (t for t in tops if t.endswith(".dist-info"))
    assert tops == {"albert_audit", info}
    assert not [p for p in (installed / "bin").iterdir() if p.name != "albert-audit"]


def test_packs_and_templates_travel_inside(installed: Path) -> None:
    data = installed / "albert_audit" / "_data"
    for room in ("probes", "reports"):
        assert files(data / room) == files(CHECKOUT / room)
    assert {p.name for p in data.iterdir()} == {"probes", "reports"}
    models = "albert_audit/known_answer/models"
    assert files(installed / models) == files(CHECKOUT / models)
    assert (installed / "albert_audit" / "py.typed").is_file()


def test_neither_tests_nor_docs_do(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
    assert len(names) == len(set(names)), "a file is packed twice"
    for name in names:
        parts = Path(name).parts
        assert parts[0] == "albert_audit" or parts[0].endswith(".dist-info"), name
        assert not {"tests", "docs", "bench", "__pycache__"} & set(parts), name
        assert not Path(name).name.startswith("test_"), name
    assert any(n.endswith("licenses/LICENSE") for n in names)


def test_the_sdist_can_be_tested(sdist: Path) -> None:
    with tarfile.open(sdist) as archive:
        names = {n.partition("/")[2] for n in archive.getnames()}
    assert {"pyproject.toml", "README.md", "LICENSE", "Makefile", "constraints.txt"} <= names
    assert {
        "tests/test_wheel.py",
        "probes/floor-en/pack.yaml",
        "docs/reference/findings.schema.json",
    } <= names
    assert not [n for n in names if "__pycache__" in n or n.endswith(".pyc")]


def alone(installed: Path, cwd: Path, *arguments: object) -> subprocess.CompletedProcess[str]:
    """Run with the wheel first and the suite's libraries behind it; no ``.pth``, so no checkout."""
    path = os.pathsep.join(
        [str(installed), sysconfig.get_paths()["purelib"], sysconfig.get_paths()["platlib"]]
    )
    return call(sys.executable, "-S", *arguments, cwd=cwd, PYTHONPATH=path, PYTHONDONTWRITEBYTECODE="1")


def test_the_wheel_works_where_no_checkout_is(installed: Path, tmp_path: Path, failed: Path) -> None:
    code = (
        "import albert_audit, sys; from albert_audit import resources;"
        "print(albert_audit.__file__, resources.probes(), sep='\\n'); print(sys.path)"
    )
    said = alone(installed, tmp_path, "-c", code)
    assert said.returncode == 0, said.stderr
    module, probes, paths = said.stdout.splitlines()
    assert Path(module).is_relative_to(installed)
    assert Path(probes) == installed / "albert_audit" / "_data" / "probes"
    assert repr(str(CHECKOUT)) not in paths
    listed = alone(installed, tmp_path, "-m", "albert_audit", "packs", "list")
    assert listed.returncode == 0, listed.stderr
    for pack in (CHECKOUT / "probes").iterdir():
        assert pack.name in listed.stdout
    out = Path(shutil.copytree(failed, tmp_path / "audit"))
    before = (out / "card.en.html").read_bytes()
    judged = alone(installed, tmp_path, "-m", "albert_audit", "gate", out)
    assert judged.returncode == 1, judged.stderr
    assert judged.stdout.startswith("FAIL")
    assert (out / "card.en.html").read_bytes() == before, "the wheel's templates are the checkout's"
