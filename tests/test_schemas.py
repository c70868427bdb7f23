"""The published JSON Schemas are current, and real documents validate against them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from jsonschema import Draft202012Validator

from albert_audit import schemas
from albert_audit.types import UsageError
from tests.builders import bundle, passing_bundle

REFERENCE = Path(__file__).parent.parent / "docs" / "reference"
KINDS = [d.kind for d in schemas.DOCUMENTS]


def test_the_reference_is_current(tmp_path: Path) -> None:
    for path in schemas.write(tmp_path):
        published = REFERENCE / path.name
        assert published.read_text(encoding="utf-8") == path.read_text(encoding="utf-8"), (
            f"{path.name} is out of date: python -m albert_audit.schemas docs/reference"
        )


@pytest.mark.parametrize("kind", KINDS)
def test_samples_validate(kind: str) -> None:
    schema = json.loads((REFERENCE / f"{kind}.schema.json").read_text(encoding="utf-8"))
    Draft202012Validator.check_schema(schema)
    validator = Draft202012Validator(schema)
    for documents in (bundle(), bundle(post_hoc=True), passing_bundle()):
        document = next(d for d in documents if type(d).kind == kind)
        data = json.loads(document.model_dump_json(by_alias=True))
        validator.validate(data)
        assert not validator.is_valid(data | {"surprise": 1})
        assert not validator.is_valid(data | {"schema": f"albert-audit/{kind}@2"})


def test_the_command_writes_and_refuses(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert schemas.main([str(tmp_path / "new")]) == 0
    assert len(capsys.readouterr().out.splitlines()) == len(KINDS)
    with pytest.raises(UsageError, match="one folder"):
        schemas.main([])
