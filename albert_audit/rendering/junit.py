"""The verdict → JUnit XML, for the test report of a CI platform.

A check without valid evidence is an ``<error>`` and never ``<skipped>``, which platforms show as
green. One test case for each rule on each finding, in the order of the policy; no clock.
"""

from __future__ import annotations

from html import escape

from albert_audit.rendering.text import number, significant, visible
from albert_audit.types import Findings, RuleResult, State, Status, Verdict, VerdictWord

_MISSING = (State.INVALID, State.NOT_RUN, State.ERROR)
_UNUSABLE = (Status.INVALID, Status.NOT_RUN, Status.ERROR)


def junit(verdict: Verdict, findings: Findings) -> str:
    """Return a JUnit report of a verdict.

    ``fail`` and ``inconclusive`` are failures of that type; a required check that is invalid, not
    run or crashed is an error; one that is not required, or that no rule judges, is skipped. When
    the verdict does not pass though no case says so, a case ``verdict`` carries it, so that the
    report is never greener than the exit code.
    """
    titles = {f.id: f.title for f in findings.findings}
    suite = visible(f"{verdict.policy.name}@{verdict.policy.version}")
    cases: list[str] = []
    counts = {"failure": 0, "error": 0, "skipped": 0}

    def case(name: str, group: str, tag: str = "", kind: str = "", message: str = "", out: str = "") -> None:
        head = f'    <testcase classname="{_x(group)}" name="{_x(name)}" time="0"'
        body = ""
        if tag:
            counts[tag] += 1
            typed = f' type="{kind}"' if kind else ""
            body += f'\n      <{tag}{typed} message="{_x(message)}"/>'
        if out:
            body += f"\n      <system-out>{_x(out)}</system-out>"
        cases.append(f"{head}>{body}\n    </testcase>" if body else f"{head}/>")

    judged = set()
    for result in verdict.results:
        judged.add(result.finding)
        tag, kind = _tag(result)
        case(
            f"{result.rule}: {result.finding or 'no finding'}", f"{verdict.policy.name}.{result.rule}",
            tag, kind, result.reason, _figures(result, titles.get(result.finding or "", "")),
        )  # fmt: skip
    for finding in findings.findings:
        if finding.status in _UNUSABLE and finding.id not in judged:
            message = f"{finding.status}: {finding.reason or 'no reason was recorded'} (no rule judges it)"
            case(finding.id, f"{verdict.policy.name}.not-judged", "skipped", "", message)
    passed = verdict.verdict in (VerdictWord.PASS, VerdictWord.PASS_WITH_WAIVERS)
    if not passed and not counts["failure"] and not counts["error"]:
        case("verdict", verdict.policy.name, "error", verdict.verdict.lower(), verdict.reason)

    properties = {
        "verdict": verdict.verdict,
        "exit_code": str(verdict.exit_code),
        "model_sha256": verdict.model_sha256,
        "policy_sha256": verdict.policy.sha256,
        "judged_post_hoc": str(verdict.policy.post_hoc).lower(),
    }
    totals = (
        f'tests="{len(cases)}" failures="{counts["failure"]}" '
        f'errors="{counts["error"]}" skipped="{counts["skipped"]}" time="0"'
    )
    return "\n".join(
        [
            '<?xml version="1.0" encoding="UTF-8"?>',
            f'<testsuites name="albert-audit" {totals}>',
            f'  <testsuite name="{_x(suite)}" {totals}>',
            "    <properties>",
            *(f'      <property name="{k}" value="{_x(v)}"/>' for k, v in properties.items()),
            "    </properties>",
            *cases,
            "  </testsuite>",
            "</testsuites>",
            "",
        ]
    )


def _x(text: str) -> str:
    """Make `text` safe for XML: nothing XML 1.0 forbids, nothing that markup could read."""
    return escape(visible(text, 2000), quote=True)


def _tag(result: RuleResult) -> tuple[str, str]:
    if result.state in (State.FAIL, State.INCONCLUSIVE):
        return "failure", result.state.value
    if result.state in _MISSING:
        return ("error", result.state.value) if result.required else ("skipped", "")
    return "", ""


def _figures(result: RuleResult, title: str) -> str:
    if result.value is None:
        return title
    said = f"{title}: {result.metric} {significant(result.value, 4)}, limit {significant(result.limit, 6)}"
    for name, interval in (("90 %", result.interval_pass), ("simultaneous 95 %", result.interval_fail)):
        if interval:
            said += f", {name} interval {number(interval.low, 4)} to {number(interval.high, 4)}"
    return said
