"""What the card shows, decided here and only drawn by the template.

Order, wording and weight of every statement live in this file; it reads documents and computes
no statistic.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from albert_audit.render import charts
from albert_audit.render.text import (
    Part,
    Sentence,
    Source,
    decimals_for,
    short,
    theirs,
    visible,
)
from albert_audit.render.words import MISSING, Judged, because, design, not_shown, spelled, told
from albert_audit.types import (
    Estimate,
    EvidenceError,
    Finding,
    Findings,
    Head,
    Manifest,
    Policy,
    RunInfo,
    State,
    Status,
    Verdict,
)

LABELS = {
    "fail": "Fail",
    "invalid": "Invalid",
    "error": "Error",
    "not_run": "Not run",
    "inconclusive": "Inconclusive",
    "insufficient": "Insufficient",
    "pass": "Pass",
    "informs": "Not judged",
    "informs_only": "Informs only",
}
_WEIGHT = {"fail": 0, "invalid": 1, "error": 1, "not_run": 1, "inconclusive": 2, "insufficient": 2}
_UNUSABLE = (*MISSING, "insufficient")
_SLUG = re.compile(r"[A-Za-z0-9][A-Za-z0-9._/-]{2,199}")
_BOX = 6  # lines of the "Not tested" box on the first screen


@dataclass(frozen=True, slots=True)
class Shown:
    """One finding, as the card tells it."""

    finding: Finding
    source: Source
    anchor: str
    tone: str
    judged: tuple[Judged, ...]
    told: Sentence
    not_shown: Sentence
    estimates: tuple[tuple[str, Source], ...]
    plot: charts.Plot | None
    strip: charts.Plot | None
    curve: charts.Curve | None
    design: Sentence | None
    control: str

    @property
    def label(self) -> str:
        """The state in words."""
        return LABELS[self.tone]

    @property
    def key(self) -> tuple[int, float, str]:
        """Heaviest first."""
        return (_WEIGHT.get(self.tone, 3), -max((j.ratio for j in self.judged), default=0.0), self.anchor)


@dataclass(frozen=True, slots=True)
class Open:
    """One thing that was not tested."""

    tone: str
    label: str
    what: Part
    why: Part | None
    anchor: str


@dataclass(frozen=True, slots=True)
class Card:
    """Everything the template draws, beside the documents themselves."""

    title: str
    word: str
    tone: str
    sentence: str
    counts: tuple[tuple[str, str, Part], ...]
    open: tuple[Open, ...]
    open_first: tuple[Open, ...]
    top: tuple[Shown, ...]
    judged: tuple[Judged, ...]
    unusable: tuple[Shown, ...]
    estimated: tuple[Shown, ...]
    floors: tuple[Shown, ...]
    controls: tuple[Shown, ...]
    forest: tuple[charts.Plot, charts.Plot] | None
    forest_rows: tuple[Judged, ...]
    everything: tuple[Shown, ...]


def card_view(manifest: Manifest, findings: Findings, verdict: Verdict, policy: Policy, run: RunInfo) -> Card:
    """Decide what the card shows, and refuse documents that do not belong together."""
    _belong_together(manifest, findings, verdict, policy)
    del run  # the template prints its day; nothing is decided by it
    rules = {r.id: r for r in policy.rules}
    anchors = {f.id: _anchor(f.id, i) for i, f in enumerate(findings.findings)}
    sources = {f.id: Source(anchors[f.id], f, _digits(f)) for f in findings.findings}
    titles = {f.id: visible(f.title, 160) for f in findings.findings}
    judged = tuple(
        Judged(
            r, rules[r.rule],
            Source("verdict.json", verdict, sources[r.finding].digits if r.finding else 3, ("results", i)),
            sources[r.finding] if r.finding else None,
            anchors[r.finding] if r.finding else "", titles[r.finding] if r.finding else "",
        )
        for i, r in enumerate(verdict.results)
    )  # fmt: skip
    shown = [
        _show(
            f,
            sources[f.id],
            tuple(j for j in judged if j.result.finding == f.id),
            anchors,
            findings.model.head,
        )
        for f in findings.findings
    ]
    probes = sorted((s for s in shown if s.finding.role == "probe"), key=lambda s: s.key)
    floors = tuple(s for s in shown if s.finding.role == "floor")
    weighty = sorted((s for s in shown if s.finding.role != "control"), key=lambda s: s.key)
    missing = _open(shown, judged, findings)
    inside = tuple(
        j for j in judged if j.tone not in MISSING and j.source and j.source.get(j.result.metric, "intervals")
    )
    word = verdict.verdict
    return Card(
        title=f"{spelled(word)} · {visible(findings.model.name, 80)} · audit card",
        word=spelled(word),
        tone={"PASS_WITH_WAIVERS": "pass"}.get(word, word.lower()),
        sentence=because(verdict),
        counts=_counts(verdict),
        open=missing,
        open_first=_first(missing),
        top=tuple(weighty[:3]),
        judged=judged,
        unusable=tuple(s for s in probes if s.tone in _UNUSABLE or s.finding.status != Status.ESTIMATED),
        estimated=tuple(
            s for s in probes if s.finding.status == Status.ESTIMATED and s.tone not in _UNUSABLE
        ),
        floors=floors,
        controls=tuple(s for s in shown if s.finding.role == "control"),
        forest=_forest(inside),
        forest_rows=inside,
        everything=tuple(shown),
    )


def _belong_together(manifest: Manifest, findings: Findings, verdict: Verdict, policy: Policy) -> None:
    hint = "render the documents of one audit folder; `albert-audit gate DIR` judges it again"
    if not manifest.model.sha256 == findings.model.sha256 == verdict.model_sha256:
        raise EvidenceError("manifest, findings and verdict are of different models", hint)
    if (policy.name, policy.version) != (verdict.policy.name, verdict.policy.version):
        raise EvidenceError(
            f"expected the policy {verdict.policy.name}@{verdict.policy.version} that judged, "
            f"found {policy.name}@{policy.version}",
            hint,
        )
    ids, rules = {f.id for f in findings.findings}, {r.id for r in policy.rules}
    for result in verdict.results:
        if result.rule not in rules or (result.finding is not None and result.finding not in ids):
            raise EvidenceError(
                f"the verdict names {result.rule!r} on {result.finding!r}, which these documents lack", hint
            )


def _anchor(finding_id: str, index: int) -> str:
    """Return the id itself where it is a slug, since links and ``data-ref`` carry it."""
    return finding_id if _SLUG.fullmatch(finding_id) else f"finding:{index}"


def _estimates(finding: Finding) -> list[tuple[str, tuple[str, ...], Estimate]]:
    known: list[tuple[str, tuple[str, ...], Estimate | None]] = [
        ("Effect", ("effect",), finding.effect),
        ("Control", ("control", "effect"), finding.control.effect if finding.control else None),
        ("Effect minus control", ("difference",), finding.difference),
    ]
    return [(name, path, e) for name, path, e in known if e is not None]


def _digits(finding: Finding) -> int:
    return decimals_for(e.se for _, _, e in _estimates(finding))


# --- one finding ----------------------------------------------------------------------------


def _show(
    finding: Finding, source: Source, judged: tuple[Judged, ...], anchors: Mapping[str, str], head: Head
) -> Shown:
    tone = _tone(finding, judged)
    lead = min(judged, key=lambda j: (_WEIGHT.get(j.tone, 3), -j.ratio)) if judged else None
    metric = lead.result.metric if lead else "effect"
    limit = lead.result.limit if lead else None
    estimates = _estimates(finding)
    plot = strip = None
    main = getattr(finding, metric)
    if main is not None and main.intervals:
        same = [(n, e) for n, _, e in estimates if e.null == main.null]
        lines = [
            charts.line(
                n.replace("Effect minus control", "Difference"), "control" if n == "Control" else tone, e
            )
            for n, e in same
        ]
        plot = charts.plot(lines, null=main.null, limit=limit, width=360, gutter=74)
        strip = charts.plot([charts.line("", tone, main)], null=main.null, limit=limit, width=320, step=22)
    return Shown(
        finding=finding, source=source, anchor=source.key, tone=tone, judged=judged,
        told=told(finding, source, lead, tone), not_shown=not_shown(finding, head),
        estimates=tuple((n, source.at(*p)) for n, p, _ in estimates), plot=plot, strip=strip,
        curve=charts.curve(finding.self_check) if finding.self_check and finding.self_check.curve else None,
        design=design(source, metric),
        control=anchors.get(finding.control.finding, "") if finding.control else "",
    )  # fmt: skip


def _tone(finding: Finding, judged: Sequence[Judged]) -> str:
    if finding.status in (Status.INVALID, Status.NOT_RUN, Status.ERROR):
        return finding.status.value
    states = {j.tone for j in judged}
    if State.FAIL in states:
        return "fail"
    if finding.status is Status.INSUFFICIENT:
        return "insufficient"
    for state in ("not_run", "inconclusive", "pass"):
        if state in states:
            return state
    return "informs" if finding.gates else "informs_only"


# --- the whole ------------------------------------------------------------------------------


def _counts(verdict: Verdict) -> tuple[tuple[str, str, Part], ...]:
    order = [s for s in LABELS if s in {k.value for k in verdict.counts}]
    source = Source("verdict.json", verdict)
    return tuple((s, LABELS[s], source.figure("counts", s, form="count")) for s in order)


def _open(shown: Sequence[Shown], judged: Sequence[Judged], findings: Findings) -> tuple[Open, ...]:
    items = [
        Open(s.tone, s.label, theirs(s.finding.title, 160), theirs(s.finding.reason, 300), s.anchor)
        for s in sorted(shown, key=lambda s: s.key)
        if s.tone in MISSING
    ]
    items += [
        Open("not_run", "Not run", theirs(f"Rule {j.rule.id}", 160), theirs(j.result.reason, 300), "decision")
        for j in judged
        if j.result.finding is None
    ]
    items += [Open("untested", "Not covered", theirs(text, 300), None, "") for text in findings.not_tested]
    return tuple(items)


def _first(items: tuple[Open, ...]) -> tuple[Open, ...]:
    """Choose what the first screen names: checks that failed to run first, but never those alone."""
    if len(items) <= _BOX:
        return items
    checks = [o for o in items if o.tone != "untested"]
    rest = [o for o in items if o.tone == "untested"]
    few = max(_BOX - 1 - len(rest), _BOX // 2)
    chosen = checks[:few]
    return (*chosen, *rest[: _BOX - 1 - len(chosen)])


def _forest(judged: Sequence[Judged]) -> tuple[charts.Plot, charts.Plot] | None:
    def lines(cap: int) -> list[charts.Line]:
        drawn = []
        for j in judged:
            estimate = j.source.get(j.result.metric) if j.source else None
            label = short(j.title, cap) + (" (diff.)" if j.result.metric == "difference" else "")
            if estimate is not None:
                drawn.append(charts.line(label, j.tone, estimate, unit=j.result.limit))
        return drawn

    if not judged:
        return None
    wide = charts.plot(lines(52), null=0.0, limit=1.0, width=1000, gutter=380, step=30, multiples=True)
    narrow = charts.plot(lines(36), null=0.0, limit=1.0, width=340, step=46, stacked=True, multiples=True)
    return wide, narrow
