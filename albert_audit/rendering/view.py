"""What the card shows, decided here and only drawn by the template.

Order, wording and weight of every statement live in this file; it reads documents and computes
no statistic.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from albert_audit.rendering import cells, charts, groups
from albert_audit.rendering.text import Part, Sentence, Source, decimals_for, lines, theirs, visible
from albert_audit.rendering.words import (
    MISSING,
    Judged,
    because,
    design,
    grounds,
    not_shown,
    spelled,
    sure,
    told,
)
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
_BOX = 6  # lines of the "Not tested" box on the first screen
_FOREST = 2  # judged findings from which a chart of all of them says more than each alone
_GROUNDS = 3  # checks that the verdict box names


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
    numbers: tuple[tuple[str, cells.Pairs], ...]
    facts: tuple[tuple[Sentence, Sentence], ...]
    checks: tuple[Sentence, ...]
    points: tuple[cells.Pairs, ...]
    evidence: tuple[Sentence, ...]
    plot: charts.Plot | None
    strip: charts.Plot | None
    curve: charts.Curve | None
    design: Sentence | None

    @property
    def label(self) -> str:
        """The state in words."""
        return LABELS[self.tone]

    @property
    def key(self) -> tuple[float, bool, float, str]:
        """Heaviest first; among equals a floor, which explains the others.

        What no rule judges and what only lacks evidence weighs less than any judged doubt.
        """
        ratio = max((j.ratio for j in self.judged), default=0.0)
        weight = float(_WEIGHT.get(self.tone, 3))
        if self.finding.role == "probe" and not self.judged and self.tone in ("not_run", "insufficient"):
            weight = 2.5
        return (weight, self.finding.role != "floor", -ratio, self.anchor)


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
    grounds: tuple[Judged, ...]
    more_grounds: int
    sure: Sentence
    nats: str
    counts: tuple[tuple[str, str, Part], ...]
    open: tuple[Open, ...]
    open_first: tuple[Open, ...]
    open_part: bool
    top: tuple[tuple[Shown, int], ...]
    judged: tuple[Judged, ...]
    forest: tuple[charts.Plot, charts.Plot] | None
    in_full: tuple[Shown, ...]
    unusable: tuple[Shown | groups.Alike, ...]
    unusable_count: int
    tables: tuple[groups.Table, ...]
    floors: tuple[Shown, ...]
    controls: tuple[Shown, ...]
    model: cells.Pairs
    fingerprints: cells.Pairs


def card_view(manifest: Manifest, findings: Findings, verdict: Verdict, policy: Policy, run: RunInfo) -> Card:
    """Decide what the card shows, and refuse documents that do not belong together."""
    _belong_together(manifest, findings, verdict, policy)
    del run  # the template prints its day; nothing is decided by it
    rules = {r.id: r for r in policy.rules}
    sources = {f.id: Source(f.id, f, _digits(f)) for f in findings.findings}
    titles = {f.id: visible(f.title, 160) for f in findings.findings}
    judged = tuple(
        Judged(
            r, rules[r.rule],
            Source("verdict.json", verdict, sources[r.finding].digits if r.finding else 3, ("results", i)),
            sources[r.finding] if r.finding else None,
            r.finding or "decision", titles[r.finding] if r.finding else f"Rule {r.rule}: no finding",
        )
        for i, r in enumerate(verdict.results)
    )  # fmt: skip
    of = {f.id: tuple(j for j in judged if j.result.finding == f.id) for f in findings.findings}
    shown = [_show(f, sources[f.id], of[f.id], findings.model.head) for f in findings.findings]
    probes = sorted((s for s in shown if s.finding.role == "probe"), key=lambda s: s.key)
    unusable = [s for s in probes if s.tone in _UNUSABLE or s.finding.status is not Status.ESTIMATED]
    heavy = groups.alike(sorted((s for s in shown if s.judged or s.tone in _UNUSABLE), key=lambda s: s.key))
    top = [
        (s.shown[0], len(s.shown) - 1 if s.one_reason else 0) if isinstance(s, groups.Alike) else (s, 0)
        for s in heavy[:3]
    ]
    missing = _open(shown, judged, findings)
    first = _first(missing)
    why, how = grounds(judged), sure(judged)
    inside = tuple(
        j for j in judged if j.tone not in MISSING and j.source and j.source.get(j.result.metric, "intervals")
    )
    word = verdict.verdict
    return Card(
        title=f"{spelled(word)} · {visible(findings.model.name, 80)} · audit card",
        word=spelled(word),
        tone={"PASS_WITH_WAIVERS": "pass"}.get(word, word.lower()),
        sentence=because(verdict),
        grounds=why[:_GROUNDS],
        more_grounds=max(len(why) - _GROUNDS, 0),
        sure=how,
        nats=_nats(how, top),
        counts=_counts(verdict),
        open=missing,
        open_first=first,
        open_part=len(first) < len(missing) or any(o.why for o in missing),
        top=tuple(top),
        judged=judged,
        forest=_forest(inside),
        in_full=tuple(s for s in probes if s not in unusable and not groups.brief(s)),
        unusable=groups.alike(unusable),
        unusable_count=len(unusable),
        tables=groups.tables(
            [s for s in shown if s.finding.role == "probe"],
            {p.name: p.title or p.name for p in manifest.packs},
        ),
        floors=tuple(s for s in shown if s.finding.role == "floor"),
        controls=tuple(s for s in shown if s.finding.role == "control"),
        model=cells.model(manifest),
        fingerprints=cells.fingerprints(manifest, verdict),
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


def _show(finding: Finding, source: Source, judged: tuple[Judged, ...], head: Head) -> Shown:
    tone = _tone(finding, judged)
    lead = min(judged, key=lambda j: (_WEIGHT.get(j.tone, 3), -j.ratio)) if judged else None
    metric = lead.result.metric if lead else "effect"
    limit = lead.result.limit if lead else None
    estimates = _estimates(finding)
    plot = strip = None
    main = getattr(finding, metric)
    full, check = bool(judged) or finding.status is not Status.ESTIMATED, finding.self_check
    if main is not None and main.intervals and full:
        same = [(n, e) for n, _, e in estimates if e.null == main.null]
        drawn = [
            charts.line(
                (n.replace("Effect minus control", "Difference"),), "control" if n == "Control" else tone, e
            )
            for n, e in same
        ]
        plot = charts.plot(drawn, null=main.null, limit=limit, width=360, gutter=74)
        strip = charts.plot([charts.line((), tone, main)], null=main.null, limit=limit, width=320, step=22)
    return Shown(
        finding=finding, source=source, anchor=source.key, tone=tone, judged=judged,
        told=told(finding, source, lead, tone), not_shown=not_shown(finding, head),
        numbers=tuple((n, cells.estimate(source.at(*p))) for n, p, _ in estimates) if full else (),
        facts=cells.facts(finding, source) if full else (), checks=cells.checks(source) if check else (),
        points=cells.curve(source, len(check.curve)) if check else (),
        evidence=cells.evidence(finding, source) if full else (), plot=plot, strip=strip,
        curve=charts.curve(check) if check and check.curve else None,
        design=design(source, metric) if full else None,
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


def _nats(how: Sentence, top: Sequence[tuple[Shown, int]]) -> str:
    """Say where the card first speaks of nats, so that it can explain them there."""
    if any(p.text.startswith("nats") for p in how):
        return "verdict"
    return "top" if any(p.text.startswith("nats") for s, _ in top for p in s.told) else ""


def _counts(verdict: Verdict) -> tuple[tuple[str, str, Part], ...]:
    order = [s for s in LABELS if s in {k.value for k in verdict.counts}]
    source = Source("verdict.json", verdict)
    return tuple((s, LABELS[s], source.figure("counts", s, form="count")) for s in order)


def _open(shown: Sequence[Shown], judged: Sequence[Judged], findings: Findings) -> tuple[Open, ...]:
    items = []
    for found in groups.alike(sorted((s for s in shown if s.tone in MISSING), key=lambda s: s.key)):
        s, several = (found.shown[0], len(found.shown)) if isinstance(found, groups.Alike) else (found, 0)
        what = Part(f"{several} findings") if several else theirs(s.finding.title, 160)
        own = isinstance(found, groups.Alike) and not found.one_reason
        why = Part("each for its own reason") if own else theirs(s.finding.reason, 300)
        items.append(Open(s.tone, s.label, what, why, s.anchor))
    items += [
        Open("not_run", "Not run", Part(f"Rule {j.rule.id}"), theirs(j.result.reason, 300), "decision")
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
    def drawn(width: int, most: int) -> list[charts.Line]:
        found = []
        for j in judged:
            estimate = j.source.get(j.result.metric) if j.source else None
            label = j.title + (" (difference)" if j.result.metric == "difference" else "")
            if estimate is not None:
                found.append(charts.line(lines(label, width, most), j.tone, estimate, unit=j.result.limit))
        return found

    if len(judged) < _FOREST:
        return None
    wide = charts.plot(drawn(58, 2), null=0.0, limit=1.0, width=1000, gutter=410, step=42, multiples=True)
    narrow = charts.plot(drawn(44, 3), null=0.0, limit=1.0, width=340, step=78, stacked=True, multiples=True)
    return wide, narrow
