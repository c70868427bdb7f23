"""The JSON Schema of every document: ``python -m albert_audit.schemas docs/reference``."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from albert_audit.types import Document, Findings, Manifest, Policy, RunInfo, UsageError, Verdict

DOCUMENTS: tuple[type[Document], ...] = (Findings, Policy, Verdict, Manifest, RunInfo)


def schema(document: type[Document]) -> dict[str, Any]:
    """Return the JSON Schema 2020-12 of a document, with the keys as they stand in its file."""
    body = document.model_json_schema(by_alias=True)
    body["properties"]["schema"] = {
        "description": "kind and number of this document; newer numbers are refused",
        "enum": [f"albert-audit/{document.kind}@{n}" for n in range(1, document.number + 1)],
    }
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": f"urn:albert-audit:{document.kind}:{document.number}",
        **body,
    }


def write(folder: Path) -> list[Path]:
    """Write ``<kind>.schema.json`` for every document into `folder`, and return the paths."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for document in DOCUMENTS:
        path = folder / f"{document.kind}.schema.json"
        text = json.dumps(schema(document), indent=2, sort_keys=True, ensure_ascii=False)
        path.write_text(text + "\n", encoding="utf-8")
        paths.append(path)
    return paths


def main(arguments: list[str]) -> int:
    """Write the schemas into the one folder that is named."""
    if len(arguments) != 1:
        raise UsageError("expected one folder", "python -m albert_audit.schemas docs/reference")
    for path in write(Path(arguments[0])):
        sys.stdout.write(f"{path}\n")
    return 0


if __name__ == "__main__":
    try:
        raise SystemExit(main(sys.argv[1:]))
    except UsageError as exc:
        sys.stderr.write(f"{exc}\n")
        raise SystemExit(exc.exit_code) from None
