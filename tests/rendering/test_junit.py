"""The JUnit report: never greener than the exit code, always well formed."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from typing import Any

import pytest

from albert_audit.rendering.junit import junit
from albert_audit.types import State, Status
from tests.builders import (
    HOSTILE,
    Bundle,
    bundle,
    estimate,
    finding,
    findings,
    hostile_bundle,
    passing_bundle,
    policy,
    rule,
)


def read(of: Bundle) -> ET.Element:
    (suite,) = ET.fromstring(junit(of[2], of[1]))
    for key in ("tests", "failures", "errors", "skipped"):
        tag = {"tests": "testcase", "failures": "failure", "errors": "error", "skipped": "skipped"}[key]
        assert int(suite.attrib[key]) == len(list(suite.iter(tag)))
    return suite


def outcome(state: State, *, required: bool = True) -> list[tuple[str, str | None]]:
    made: dict[State, dict[str, Any]] = {
        State.PASS: {"effect": estimate(0.02, 0.03)},
        State.FAIL: {"effect": estimate(-0.60, 0.05)},
        State.INCONCLUSIVE: {"effect": estimate(0.20, 0.10)},
        State.INVALID: {"status": Status.INVALID},
        State.NOT_RUN: {"status": Status.NOT_RUN},
        State.ERROR: {"status": Status.ERROR},
    }
    items = findings(finding("a/b/c/d", **made[state]), finding("pass/b/c/d", effect=estimate(0.02, 0.03)))
    of = bundle(items, policy(rule("a", "a/*", required=required), rule("pass", "pass/*")))
    case, *_ = read(of).iter("testcase")
    return [(e.tag, e.get("type")) for e in case if e.tag != "system-out"]


@pytest.mark.parametrize("state", list(State))
def test_a_required_check(state: State) -> None:
    expected = {
        State.PASS: [],
        State.FAIL: [("failure", "fail")],
        State.INCONCLUSIVE: [("failure", "inconclusive")],
    }
    assert outcome(state) == expected.get(state, [("error", state.value)])


@pytest.mark.parametrize("state", list(State))
def test_an_optional_check(state: State) -> None:
    expected = {
        State.PASS: [],
        State.FAIL: [("failure", "fail")],
        State.INCONCLUSIVE: [("failure", "inconclusive")],
    }
    assert outcome(state, required=False) == expected.get(state, [("skipped", None)])


def test_the_report_is_green_only_when_the_verdict_passes() -> None:
    for state in State:
        for required in (True, False):
            item = finding("a/b/c/d", status=Status.NOT_RUN) if state is State.NOT_RUN else finding("a/b/c/d")
            of = bundle(findings(item), policy(rule("a", "a/*", required=required)))
            suite = read(of)
            red = int(suite.attrib["failures"]) + int(suite.attrib["errors"])
            assert bool(red) == (of[2].exit_code != 0)


def test_a_verdict_that_only_skips_is_an_error() -> None:
    of = bundle(findings(finding(status=Status.ERROR)), policy(rule(required=False)))
    cases = {c.get("name"): [e.tag for e in c] for c in read(of).iter("testcase")}
    assert cases["verdict"] == ["error"]
    assert of[2].exit_code == 3


def test_missing_findings_without_a_rule_are_skipped() -> None:
    items = findings(
        finding("a/b/c/d", effect=estimate(0, 0.03)), finding("x/b/c/d", status=Status.ERROR, reason="boom")
    )
    (_, case) = read(bundle(items, policy(rule("a", "a/*")))).iter("testcase")
    assert [(e.tag, e.get("message")) for e in case] == [("skipped", "error: boom (no rule judges it)")]


@pytest.mark.parametrize("text", [*HOSTILE, "\ud7ff\ue000\ufffe\uffff", "\x00", "\x85\u2028"])
def test_hostile_text_stays_text(text: str) -> None:
    of = hostile_bundle(text)
    assert int(read(of).attrib["tests"]) >= len(of[2].results)
    assert junit(of[2], of[1]) == junit(of[2], of[1])
    assert len(junit(of[2], of[1])) < 200_000


def test_no_clock() -> None:
    of = passing_bundle()
    text = junit(of[2], of[1])
    assert "timestamp" not in text and "2026" not in text
    properties = {p.get("name"): p.get("value") for p in ET.fromstring(text).iter("property")}
    assert properties["verdict"] == "PASS"
    assert properties["exit_code"] == "0"
