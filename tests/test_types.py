"""Every document is frozen, refuses what it does not know, and carries a schema."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
from pydantic import ValidationError

from albert_audit.types import (
    EXIT_CODES,
    AuditError,
    Document,
    Estimate,
    EvidenceError,
    Findings,
    Interval,
    Limit,
    Manifest,
    ModelRefused,
    PackError,
    Policy,
    PolicyError,
    RunInfo,
    UsageError,
    Verdict,
    VerdictWord,
)
from tests.builders import bundle, estimate, finding, full_findings, policy, rule

DOCUMENTS = {type(d).kind: d for d in bundle()}


@pytest.mark.parametrize("kind", sorted(DOCUMENTS))
def test_a_document_survives_its_file(kind: str) -> None:
    document = DOCUMENTS[kind]
    again = type(document).model_validate_json(document.model_dump_json(by_alias=True))
    assert again == document
    assert json.loads(document.model_dump_json(by_alias=True))["schema"] == f"albert-audit/{kind}@1"


@pytest.mark.parametrize("kind", sorted(DOCUMENTS))
def test_a_document_is_frozen(kind: str) -> None:
    document = DOCUMENTS[kind]
    for name in type(document).model_fields:
        with pytest.raises(ValidationError, match="frozen"):
            setattr(document, name, None)


@pytest.mark.parametrize("kind", sorted(DOCUMENTS))
def test_a_document_refuses_unknown_keys(kind: str) -> None:
    document = DOCUMENTS[kind]
    data = document.model_dump(by_alias=True) | {"surprise": 1}
    with pytest.raises(UsageError, match="surprise"):
        type(document).read(data, where="x.json")


@pytest.mark.parametrize("kind", sorted(DOCUMENTS))
@pytest.mark.parametrize(
    ("schema", "said"),
    [
        ("albert-audit/{kind}@2", "upgrade albert-audit"),
        ("albert-audit/{kind}@0", "expected schema"),
        ("albert-audit/{kind}@one", "expected schema"),
        ("albert-audit/{kind}", "expected schema"),
        ("albert-audit/other@1", "expected schema"),
    ],
)
def test_a_document_refuses_other_and_newer_schemas(kind: str, schema: str, said: str) -> None:
    document = DOCUMENTS[kind]
    data = document.model_dump(by_alias=True) | {"schema": schema.format(kind=kind)}
    with pytest.raises(EvidenceError, match=said):
        type(document).read(data, where="x.json", error=EvidenceError)


def test_older_numbers_are_read() -> None:
    class Newer(Document):
        kind = "thing"
        number = 3

    assert Newer.model_validate({"schema": "albert-audit/thing@2"}).schema_ == "albert-audit/thing@2"
    assert Newer().schema_ == "albert-audit/thing@3"


def test_every_mistake_is_listed_with_its_place() -> None:
    data = policy().model_dump(by_alias=True)
    data["rules"][0]["limit"] = {"max_abs": -1}
    data["heads"] = ["masked_ml"]
    with pytest.raises(PolicyError) as caught:
        Policy.read(data, where="p.yaml", error=PolicyError)
    assert "rules.0.limit.max_abs" in str(caught.value)
    assert "heads.0" in str(caught.value)


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_numbers_are_finite(bad: float) -> None:
    with pytest.raises(ValidationError, match="finite"):
        Estimate(value=bad, se=1.0, df=10.0)
    with pytest.raises(ValidationError, match="finite"):
        Interval(low=bad, high=1.0)
    with pytest.raises(ValidationError, match="finite"):
        finding(details={"share": bad})
    with pytest.raises(ValidationError):
        Limit(max_abs=bad)


def test_intervals_have_the_right_order_and_level() -> None:
    with pytest.raises(ValidationError, match="reversed"):
        Interval(low=1.0, high=0.0)
    with pytest.raises(ValidationError, match=r"0\.99"):
        estimate(0, 1, intervals={"0.99": Interval(low=0, high=1)})


@pytest.mark.parametrize("limit", [0, -0.1])
def test_a_limit_is_positive(limit: float) -> None:
    with pytest.raises(ValidationError, match="greater than 0"):
        Limit(max_abs=limit)


def test_a_policy_has_rules_with_names_of_their_own() -> None:
    with pytest.raises(ValidationError, match="without rules"):
        Policy(name="p", title="P", heads=(), rules=())
    with pytest.raises(ValidationError, match="two rules are called 'gap'"):
        policy(rule("gap"), rule("gap"))


@pytest.mark.parametrize(
    "change", [{"on_inconclusive": "pass"}, {"on_not_run": "pass"}, {"min_n": 0}, {"metric": "p"}]
)
def test_a_rule_cannot_be_loosened_beyond_its_options(change: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        rule(**change)


def test_exit_codes_mean_one_thing() -> None:
    assert {w.value: c for w, c in EXIT_CODES.items()} == {
        "PASS": 0,
        "PASS_WITH_WAIVERS": 0,
        "FAIL": 1,
        "INCOMPLETE": 3,
        "INCONCLUSIVE": 4,
    }
    assert set(EXIT_CODES) == set(VerdictWord)
    assert [
        e.exit_code for e in (AuditError, UsageError, PackError, PolicyError, ModelRefused, EvidenceError)
    ] == [
        3,
        2,
        2,
        2,
        2,
        3,
    ]


def test_an_error_says_what_to_do() -> None:
    assert str(AuditError("expected a, found b", "do c")) == "expected a, found b\n  → do c"
    assert str(AuditError("expected a, found b")) == "expected a, found b"


def test_documents_are_the_five_of_an_audit_folder() -> None:
    assert set(DOCUMENTS) == {Findings.kind, Policy.kind, Verdict.kind, Manifest.kind, RunInfo.kind}


def test_the_sample_holds_every_status() -> None:
    assert {f.status.value for f in full_findings().findings} == {
        "estimated",
        "insufficient",
        "invalid",
        "not_run",
        "error",
    }


# --- what a finding, a rule and a file must hold --------------------------------------------


@pytest.mark.parametrize("left", [("0.90",), ("0.90", "0.95"), ("simultaneous_0.95",)])
def test_intervals_are_all_three_or_none(left: tuple[str, ...]) -> None:
    whole = estimate(0, 1).intervals
    assert set(whole) == {"0.90", "0.95", "simultaneous_0.95"}
    assert estimate(0, 1, intervals={}).intervals == {}
    with pytest.raises(ValidationError, match="or none"):
        estimate(0, 1, intervals={k: whole[k] for k in left})


@pytest.mark.parametrize(
    "bad",
    [
        "a/b/c",
        "a/b/c/d/e",
        "A/b/c/d",
        "a b/b/c/d",
        "a/b-c/c/d",
        "../b/c/d",
        "a/b/c/<d>",
        "",
        "a/b/c/" + "d" * 200,
    ],
)
def test_a_finding_has_a_slug_of_four_parts(bad: str) -> None:
    with pytest.raises(ValidationError):
        finding(bad)


def test_findings_differ() -> None:
    with pytest.raises(ValidationError, match="two findings have the id 'a/b/c/d'"):
        Findings(model=full_findings().model, findings=(finding("a/b/c/d"), finding("a/b/c/d")))


@pytest.mark.parametrize("bad", ["", "Gap", "a_b", "a b", "-a", "a--b", "<a>", "a" * 61])
def test_a_rule_has_a_slug(bad: str) -> None:
    with pytest.raises(ValidationError):
        rule(bad)


@pytest.mark.parametrize("kind", sorted(DOCUMENTS))
def test_only_what_people_write_may_lack_its_schema(kind: str) -> None:
    document = DOCUMENTS[kind]
    data = {k: v for k, v in document.model_dump(by_alias=True).items() if k != "schema"}
    if kind == "policy":
        assert type(document).read(data, where="p.yaml") == document
        return
    with pytest.raises(EvidenceError, match=f"has no schema: expected 'albert-audit/{kind}@1'"):
        type(document).read(data, where="x.json", error=EvidenceError)


def test_a_policy_has_one_hash_for_one_content() -> None:
    assert policy().sha256 == policy().sha256
    assert policy(version=3).sha256 != policy().sha256
    assert len(policy().sha256) == 64
