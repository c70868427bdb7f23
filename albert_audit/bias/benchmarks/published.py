"""Reading published data sets that are not shipped: the file must be the published one."""

from __future__ import annotations

import csv
import hashlib
import io
from collections.abc import Collection, Mapping
from pathlib import Path

from albert_audit.types import UsageError


def read(path: Path, sha256: Mapping[str, str], *, title: str, source: str) -> dict[str, str]:
    """Return the text of each file of a data set.

    Parameters
    ----------
    path : Path
        The folder where the files lie, or one of the files: the others lie beside it.
    sha256 : mapping
        Of the name of each file to the SHA-256 of what was published, lines ending in LF. A checkout
        may end them in CR LF; that changes no sentence and is put right before the comparison.

    Raises
    ------
    UsageError
        When `path` is neither, or a file cannot be read or is not the published one.
    """
    folder = _folder(path, sha256, title, source)
    out = {}
    for name, expected in sha256.items():
        try:
            raw = (folder / name).read_bytes()
        except OSError as exc:
            raise UsageError(
                f"cannot read the {title} file {folder / name}: {exc.strerror}",
                f"give a folder that holds {', '.join(sha256)} of {source}",
            ) from None
        raw = raw.replace(b"\r\n", b"\n")
        found = hashlib.sha256(raw).hexdigest()
        if found != expected:
            raise UsageError(
                f"{name} is not the published {title} file: expected SHA-256 {expected[:12]}… (with LF line "
                f"ends), found {found[:12]}…",
                f"give the file of {source}, unchanged; an edited set is a pack of its own "
                "(albert-audit packs new)",
            )
        out[name] = raw.decode("utf-8")
    return out


def _folder(path: Path, names: Collection[str], title: str, source: str) -> Path:
    """Return where the files lie; what is neither a folder nor one of them is never passed over in silence."""
    if path.is_dir():
        return path
    if path.is_file() and path.name in names:
        return path.parent
    expected = f"one of {', '.join(names)}, or the folder that holds them"
    if len(names) == 1:
        expected = f"{next(iter(names))}, or the folder that holds it"
    found = f"a file called {path.name}" if path.exists() else "nothing there"
    raise UsageError(
        f"cannot read the {title} data {path}: expected {expected}; found {found}",
        f"give the file or folder of {source}",
    )


def kind(value: object) -> str:
    """Return what a JSON value is, in words."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return "a number"
    return "a text" if isinstance(value, str) else "a list" if isinstance(value, list) else "an object"


def together(sha256: Mapping[str, str]) -> str:
    """Return one SHA-256 for a set of files: that of its only file, or of all names and hashes."""
    if len(sha256) == 1:
        return next(iter(sha256.values()))
    return hashlib.sha256("".join(f"{n}\0{h}\n" for n, h in sorted(sha256.items())).encode()).hexdigest()


def table(text: str) -> list[dict[str, str]]:
    """Return the rows of a table separated by tabs."""
    return list(csv.DictReader(io.StringIO(text), delimiter="\t"))
