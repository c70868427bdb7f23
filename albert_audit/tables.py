"""Tables that hold the auditor's texts: CSV, TSV, JSONL, parquet, and folders saved by ``datasets``.

Nothing that is read is run: files that can hold code (pickles, ``.npy``, ``.pt``) are refused.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from albert_audit.types import UsageError

FORMATS = ".csv, .tsv, .jsonl, .parquet, or a folder saved by datasets"
_CODE = (".npy", ".npz", ".pkl", ".pickle", ".pt", ".bin", ".joblib")
Table = tuple[list[str], Sequence[Sequence[Any]]]
"""The header, and the rows: text where the format knows nothing else."""


def read(path: Path) -> tuple[Table, str]:
    """Return the header and the rows, and the SHA-256 of the bytes that were read.

    Raises
    ------
    UsageError
        When the file cannot be read as what its name says, or could hold code.
    """
    try:
        if path.is_dir():
            return _saved(path)
        if path.suffix.lower() in _CODE:
            raise UsageError(
                f"{path.name} is of a kind that can run code when it is read", f"save it as {FORMATS}"
            )
        raw = path.read_bytes()
        match path.suffix.lower():
            case ".csv":
                table = _csv(path, raw, ",")
            case ".tsv":
                table = _csv(path, raw, "\t")
            case ".jsonl" | ".ndjson":
                table = _jsonl(path, raw)
            case ".parquet":
                table = _parquet(path, raw)
            case _:
                raise UsageError(f"{path.name}: expected {FORMATS}", "save the texts as one of these")
    except OSError as exc:
        raise UsageError(
            f"cannot read the texts {path}: {exc.strerror or exc}", "give the path of a file"
        ) from None
    return table, hashlib.sha256(raw).hexdigest()


def _decoded(path: Path, raw: bytes) -> str:
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as exc:
        raise UsageError(f"{path} is not UTF-8: byte {exc.start}", "save it as UTF-8") from None


def _csv(path: Path, raw: bytes, delimiter: str) -> Table:
    text = _decoded(path, raw)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    rows: list[list[str]] = []
    blank = blank_at = 0
    limit = csv.field_size_limit(max(len(text), 1))  # a cell may be as long as the file
    try:
        for cells in reader:
            if not cells:
                blank, blank_at = blank + bool(rows), reader.line_num
                continue
            # Blank lines at the end are none of the table; before a row they are rows with an empty cell.
            if blank and len(rows[0]) > 1:
                raise UsageError(
                    f"{path}: line {blank_at} is blank, with rows after it", "take blank lines out"
                )
            rows += [[""] for _ in range(blank)]
            blank = 0
            if rows and len(cells) != len(rows[0]):
                raise UsageError(
                    f"{path}: line {reader.line_num}: expected {len(rows[0])} cells, found {len(cells)}",
                    "a cell with a delimiter, a quote or a line break stands in double quotes",
                )
            rows.append(cells)
    except csv.Error as exc:
        raise UsageError(
            f"{path}: line {reader.line_num}: {exc}",
            "a cell with a delimiter, a quote or a line break stands in double quotes, a quote in it twice",
        ) from None
    finally:
        csv.field_size_limit(limit)
    return (rows[0], rows[1:]) if rows else ([], [])


def _jsonl(path: Path, raw: bytes) -> Table:
    records: list[dict[str, Any]] = []
    for number, line in enumerate(_decoded(path, raw).split("\n"), 1):
        if not line.strip():
            continue
        try:
            record = json.loads(line)
        except (ValueError, RecursionError) as exc:
            raise UsageError(f"{path}: line {number} is not JSON: {exc}", "write one object a line") from None
        if not isinstance(record, dict):
            raise UsageError(f"{path}: line {number}: expected an object", "write one object a line")
        records.append(record)
    header = list(dict.fromkeys(key for record in records for key in record))
    return header, [[record.get(key) for key in header] for record in records]


def _parquet(path: Path, raw: bytes) -> Table:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        return _arrow([pq.read_table(pa.BufferReader(raw))])
    except pa.ArrowException as exc:
        raise UsageError(f"{path} is not parquet: {' '.join(str(exc).split())}", "save it again") from None


def _saved(folder: Path) -> tuple[Table, str]:
    """Read a folder written by ``save_to_disk``: Arrow streams, in the order of its state.json."""
    import pyarrow as pa

    if (folder / "dataset_dict.json").is_file():
        splits = sorted(p.parent.name for p in folder.glob("*/state.json"))
        raise UsageError(
            f"{folder} holds several splits: {', '.join(splits)}", f"name one split, e.g. {folder / splits[0]}"
            if splits else "name one split"
        )  # fmt: skip
    try:
        state = json.loads((folder / "state.json").read_text(encoding="utf-8"))
        names = [str(entry["filename"]) for entry in state["_data_files"]]
    except FileNotFoundError:
        raise UsageError(
            f"{folder} has no state.json", "give a file, or a folder saved by datasets"
        ) from None
    except (ValueError, KeyError, TypeError, RecursionError):
        raise UsageError(f"{folder}/state.json is not what datasets writes", "save the data again") from None
    digest, tables = hashlib.sha256(), []
    for name in names:
        if PurePosixPath(name).name != name or "\\" in name or not name.endswith(".arrow"):
            raise UsageError(
                f"{folder}/state.json names {name!r}, no .arrow file of the folder", "save it again"
            )
        raw = (folder / name).read_bytes()
        digest.update(raw)
        try:
            tables.append(pa.ipc.open_stream(pa.BufferReader(raw)).read_all())
        except pa.ArrowException as exc:
            raise UsageError(f"{folder / name} is no Arrow stream: {exc}", "save the data again") from None
    return _arrow(tables), digest.hexdigest()


def _arrow(tables: Sequence[Any]) -> Table:
    header = list(tables[0].column_names) if tables else []
    return header, [
        row for table in tables for row in zip(*(column.to_pylist() for column in table.columns), strict=True)
    ]
