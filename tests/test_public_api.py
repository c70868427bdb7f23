"""What ``import albert_audit`` promises: its names, their docstrings, and how little it loads."""

from __future__ import annotations

import inspect
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

import albert_audit

CHECKOUT = Path(__file__).parent.parent
HEAVY = ("torch", "transformers", "numpy", "pandas", "scipy", "statsmodels", "pyarrow", "fairlearn")


def python(code: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=CHECKOUT, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return done.stdout.strip()


@pytest.mark.parametrize("name", albert_audit.__all__)
def test_every_public_name_is_there_and_documented(name: str) -> None:
    found = getattr(albert_audit, name)
    assert callable(found), f"albert_audit.{name} is {found!r}"
    assert inspect.getdoc(found)
    assert name in dir(albert_audit)


def test_the_names_are_the_promised_ones() -> None:
    promised = {"run", "load", "judge", "render", "Audit", "Finding", "Policy"}
    assert promised <= set(albert_audit.__all__)
    assert sorted(albert_audit.__all__) == list(albert_audit.__all__)
    with pytest.raises(AttributeError, match="nothing"):
        albert_audit.nothing  # noqa: B018


@pytest.mark.parametrize(
    "code",
    [
        "import albert_audit",
        "import albert_audit; dir(albert_audit); albert_audit.__version__",
        "from albert_audit import Finding, Policy, judge, load, render",
        "from albert_audit import Audit",
        "import albert_audit.cli",
        "import albert_audit.gate, albert_audit.folder, albert_audit.rendering.html, albert_audit.config, albert_audit.packs",
    ],
)
def test_importing_loads_nothing_heavy(code: str) -> None:
    assert python(f"{code}\nimport sys; print([m for m in {HEAVY!r} if m in sys.modules])") == "[]"


@pytest.mark.parametrize(
    "code",
    [
        "import albert_audit; albert_audit.load; f = albert_audit.render",
        "from albert_audit import render as f",
        "import albert_audit.rendering.html; from albert_audit import render as f",
        "from albert_audit import judge, load, render as f",
    ],
)
def test_render_can_be_called_whatever_was_imported_first(code: str) -> None:
    """The package has a room of the same name, which must not hide the function."""
    tail = "from albert_audit.types import UsageError\ntry: f('/nowhere')\nexcept UsageError as e: print('refused', e.exit_code)"
    assert python(f"{code}\n{tail}") == "refused 2"


def test_importing_does_nothing() -> None:
    code = (
        "import os, socket, sys, threading\n"
        "before = dict(os.environ), threading.active_count(), os.getcwd()\n"
        "import albert_audit, albert_audit.cli, albert_audit.folder\n"
        "print((dict(os.environ), threading.active_count(), os.getcwd()) == before)"
    )
    assert python(code) == "True"


def modules() -> list[str]:
    root = CHECKOUT / "albert_audit"
    return sorted(
        ".".join(p.relative_to(CHECKOUT).with_suffix("").parts).removesuffix(".__init__")
        for p in root.rglob("*.py")
        if "_data" not in p.parts
    )


@pytest.mark.parametrize("name", modules())
def test_every_module_says_what_it_is_for(name: str) -> None:
    module = import_module(name)
    assert module.__doc__
    assert module.__doc__.strip().splitlines()[0].endswith((".", ":", "?", "``")), module.__doc__
    for public, thing in vars(module).items():
        mine = getattr(thing, "__module__", "") == name and not public.startswith("_")
        if mine and (inspect.isfunction(thing) or inspect.isclass(thing)):
            assert thing.__doc__, f"{name}.{public} has no docstring"
