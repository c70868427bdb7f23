"""The files of `embed`: parts that are committed whole, and the output that joins them.

All are readable by their owner alone, and the same rows and provenance give the same bytes.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq

from albert_audit.types import EvidenceError, UsageError

METADATA = b"albert_audit"
"""The key of the parquet file's metadata under which its provenance stands, as JSON."""
_JOB = "job.json"
_OURS = (_JOB, "part-", ".")


def check_target(out: Path, source: Path, *, force: bool) -> None:
    """Refuse an output that cannot be written, or that would replace something unasked.

    Raises
    ------
    UsageError
    """
    if out.suffix != ".parquet":
        raise UsageError(
            f"expected a file that ends in .parquet, found {out.name!r}", "give --out FILE.parquet"
        )
    if out.is_dir() or (out.exists() and source.exists() and out.samefile(source)):
        what = "a folder" if out.is_dir() else "the file of texts"
        raise UsageError(f"{out} is {what}", "give a new file")
    if not out.parent.is_dir():
        raise UsageError(f"there is no folder {out.parent}", "make it, or give another --out")
    if out.exists() and not force:
        raise UsageError(f"{out} is there already", "give another --out, or --force to replace it")


def resumed(folder: Path, job: Mapping[str, object], *, force: bool) -> dict[int, tuple[int, Path]]:
    """Return the committed parts of this job, by the place of their first text.

    Raises
    ------
    UsageError
        When `folder` holds parts of another job and not `force`, or something that is no part.
    """
    names = sorted(p.name for p in folder.iterdir()) if folder.is_dir() else []
    if foreign := [n for n in names if not n.startswith(_OURS)]:
        raise UsageError(
            f"{folder} is where parts go, and holds {foreign[0]!r}", "move it, or give another --out"
        )
    if _JOB not in names:
        return {}
    before = _record(folder)
    if before == _plain(job):
        named = (n.removesuffix(".parquet").split("-") for n in names if n.startswith("part-"))
        return {int(a): (int(b), part(folder, int(a), int(b))) for _, a, b in named}
    if not force:
        raise UsageError(
            f"an interrupted run of something else lies in {folder}: {_difference(before, _plain(job))}",
            "give that run's model, texts and flags to go on, another --out, or --force to drop it",
        )
    return {}


def begin(folder: Path, job: Mapping[str, object]) -> None:
    """Make the folder of the parts, and drop what another job left there.

    Raises
    ------
    EvidenceError
        When it cannot be written.
    """
    if folder.is_dir():
        if _record(folder) == _plain(job):
            return
        shutil.rmtree(folder)
    try:
        folder.mkdir(mode=0o700)
    except OSError as exc:
        raise EvidenceError(
            f"cannot make {folder}: {exc.strerror}", "give an --out in a folder that you can write to"
        ) from None
    with committed(folder / _JOB) as file:
        file.write(as_json(job))


def part(folder: Path, start: int, stop: int) -> Path:
    """Return the file of the texts from `start` to `stop`."""
    return folder / f"part-{start:012d}-{stop:012d}.parquet"


def counts(path: Path) -> dict[str, Any]:
    """Return what was counted in a part."""
    with _whole(path):
        found: dict[str, Any] = json.loads(pq.read_schema(path).metadata[METADATA])
    return found


def read(path: Path) -> pa.Table:
    """Return the rows of a part, its checksums verified.

    Raises
    ------
    EvidenceError
        When it was damaged.
    """
    with _whole(path):
        return pq.read_table(path, page_checksum_verification=True)


def write(file: BinaryIO, tables: Iterator[pa.Table], provenance: Mapping[str, object]) -> None:
    """Write each table as a row group, one at a time; the first decides the columns."""
    first = next(tables)
    schema = first.schema.with_metadata({METADATA: as_json(provenance)})
    names = [n for n in schema.names if n != "embedding"]
    with pq.ParquetWriter(
        file, schema, compression="zstd", use_dictionary=names, write_statistics=names, write_page_checksum=True
    ) as writer:  # fmt: skip
        table: pa.Table | None = first
        while table is not None:
            writer.write_table(table.replace_schema_metadata(schema.metadata), row_group_size=len(table))
            table = next(tables, None)


@contextmanager
def committed(path: Path, folder: Path | None = None) -> Iterator[BinaryIO]:
    """Write a file of mode 0600, which appears when it is whole; until then it lies in `folder`.

    Raises
    ------
    EvidenceError
        When it cannot be written.
    """
    temporary = (folder or path.parent) / f".{path.name}.{os.getpid()}"
    try:
        with suppress(FileNotFoundError):
            temporary.unlink()
        with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as exc:
        raise EvidenceError(
            f"cannot write {path}: {exc.strerror or exc}",
            "make room, then run the same command again; it goes on",
        ) from None
    finally:
        with suppress(OSError):
            temporary.unlink()


def as_json(value: Mapping[str, object]) -> bytes:
    """Return a mapping as JSON with sorted keys."""
    return json.dumps(value, sort_keys=True, ensure_ascii=False).encode()


@contextmanager
def _whole(path: Path) -> Iterator[None]:
    try:
        yield
    # ArrowInvalid is a ValueError, and a wrong checksum an OSError.
    except (pa.ArrowException, OSError, ValueError, KeyError, TypeError) as exc:
        raise EvidenceError(
            f"the part {path} cannot be read: {' '.join(str(exc).split())}",
            "delete it and run the same command again: it alone is embedded anew",
        ) from None


def _plain(job: Mapping[str, object]) -> object:
    return json.loads(as_json(job))


def _record(folder: Path) -> object:
    try:
        return json.loads((folder / _JOB).read_bytes())
    except (OSError, ValueError):
        return None


def _difference(before: object, now: object) -> str:
    """Say which entries of two jobs differ."""
    old, new = dict(_flat(before)), dict(_flat(now))
    differ = [k for k in new if old.get(k) != new[k]]
    said = [f"{k} {str(old.get(k))[:12]}, now {str(new[k])[:12]}" for k in differ[:4]]
    return "; ".join(said + ["..."] * (len(differ) > 4)) or "its record cannot be read"


def _flat(value: object, name: str = "") -> Iterator[tuple[str, object]]:
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from _flat(inner, f"{name}.{key}".strip("."))
    else:
        yield name, value
