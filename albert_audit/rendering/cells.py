"""What stands in the tables and lists of numbers: (label, content) pairs for the template to draw.

Kept out of the templates, since compiling those is the longest part of drawing a card.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

from albert_audit.rendering.text import Part, Sentence, Source, say, theirs
from albert_audit.rendering.words import detail
from albert_audit.types import Finding, Manifest, Verdict

Pairs: TypeAlias = tuple[tuple[str, Sentence], ...]

_LEVELS = (("90\u00a0%", "0.90"), ("95\u00a0%", "0.95"), ("Simultaneous 95\u00a0%", "simultaneous_0.95"))
_CHECKS = (
    ("false_fail", "Copies without an effect that failed"),
    ("false_fail_at_limit", "Copies with an effect of just the limit that failed"),
    ("false_pass_at_limit", "Copies with an effect of just the limit that passed"),
)


def estimate(source: Source) -> Pairs:
    """Return the figures of one estimate."""
    return (
        ("Value", say(source.figure("value"))),
        ("Std. error", say(source.figure("se"))),
        *((label, source.interval("intervals", level)) for label, level in _LEVELS),
        ("p", say(source.figure("p", form="p"))),
        ("Holm\u00a0p", say(source.figure("p_holm", form="p"))),
        ("df", say(source.figure("df", form="tenth"))),
    )


def compact(source: Source, *, differences: bool, ties: bool) -> Pairs:
    """Return the figures of a finding that is told as a row."""
    skipped = (
        say(" (", source.figure("n_skipped", form="count"), " skipped)") if source.get("n_skipped") else ()
    )
    beyond = (
        ("Beyond control", say(source.figure("difference", "value"))),
        ("its 95\u00a0%", source.interval("difference", "intervals", "0.95")),
    )
    return (
        ("Effect", say(source.figure("effect", "value"))),
        ("95\u00a0% interval", source.interval("effect", "intervals", "0.95")),
        ("Simultaneous 95\u00a0%", source.interval("effect", "intervals", "simultaneous_0.95")),
        ("Holm\u00a0p", say(source.figure("effect", "p_holm", form="p"))),
        *(beyond if differences else ()),
        ("Items", say(source.figure("n", form="count"), skipped)),
        *([("Ties", say(source.figure("details", "ties", form="count")))] if ties else []),
    )


def facts(finding: Finding, source: Source) -> tuple[tuple[Sentence, Sentence], ...]:
    """Return design and supporting figures of a finding."""
    used, skipped = (source.figure(k, form="count") for k in ("n", "n_skipped"))
    found = [(say("Items"), say(used, " used, ", skipped, " skipped"))]
    for i, cluster in enumerate(finding.clusters):
        count = source.figure("clusters", i, "count", form="count")
        effective = source.figure("clusters", i, "effective", form="tenth")
        found.append((say("Clusters: ", theirs(cluster.name, 40)), say(count, ", effectively ", effective)))
    if control := finding.control:
        state = ", exceeded" if control.exceeded else ", kept" if control.margin else ""
        note = say(". ", theirs(control.note, 300)) if control.note else ()
        margin = source.figure("control", "margin", form="exact")
        found.append((say("Control"), say(theirs(control.finding, 200), ", margin ", margin, state, note)))
    if finding.examples:
        named = [
            part
            for i, example in enumerate(finding.examples)
            for part in (
                Part("; "), theirs(example.item, 80), Part("\u00a0"), source.figure("examples", i, "value")
            )
        ]  # fmt: skip
        found.append((say("Largest in your own items"), say(*named[1:])))
    for key in sorted(finding.details):
        form = "factor" if key.startswith("factor_") else "short"
        found.append((say(detail(key)), say(source.figure("details", key, form=form))))
    return (*found, (say("Corrected within"), say(theirs(finding.family, 60))))


def checks(source: Source) -> tuple[Sentence, ...]:
    """Return the error rates of a self-check."""

    def line(key: str, words: str) -> Sentence:
        rate, low, high = (
            source.figure("self_check", key, k, form="percent") for k in ("rate", "low", "high")
        )
        hits, runs = (source.figure("self_check", key, k, form="count") for k in ("hits", "runs"))
        ends = say("; 95\u00a0% interval ", low, " to ", high, ")")
        return say(words, ": ", rate, " (", hits, " of ", runs, ends)

    return tuple(line(key, words) for key, words in _CHECKS)


def curve(source: Source, points: int) -> tuple[Pairs, ...]:
    """Return the detection curve, point by point."""
    at = [source.at("self_check", "curve", i) for i in range(points)]
    return tuple(
        (
            ("Planted", say(p.figure("planted", form="exact"), " ×")),
            ("Pass", say(p.figure("passed", "rate", form="percent"))),
            ("Fail", say(p.figure("failed", "rate", form="percent"))),
        )
        for p in at
    )


def evidence(finding: Finding, source: Source) -> tuple[Sentence, ...]:
    """Return the rows that a finding was computed from."""
    found = [say(theirs(finding.id, 200))]
    for i, e in enumerate(finding.evidence):
        where = say(*(p for k, v in sorted(e.where.items()) for p in (Part(", "), theirs(f"{k}={v}", 120))))[
            1:
        ]
        rows = source.figure("evidence", i, "rows", form="count")
        found.append(say(theirs(e.file, 80), ": ", rows, " rows", " where " if where else "", where))
    return tuple(found)


def model(manifest: Manifest) -> Pairs:
    """Return what the model is."""
    m, source = manifest.model, Source("manifest.json", manifest, base=("model",))

    def count(key: str, unit: str = "") -> Sentence:
        return say(source.figure(key, form="count"), unit)

    shown, labels = m.labels[:24], say()
    if shown:
        more = f" and {len(m.labels) - 24} more" if len(m.labels) > len(shown) else ""
        labels = say(*[p for label in shown for p in (Part(", "), theirs(label, 60))][1:], more)
    return (
        ("Name", say(theirs(m.name, 200))),
        ("Revision", say(theirs(m.revision, 200) if m.revision else "none given")),
        ("Head", say(m.head.value.replace("_", " "))),
        ("Parameters stored", count("parameters")),
        ("FLOPs a token", count("flops_per_token")),
        ("Depth", count("depth", " layers")),
        ("Vocabulary", count("vocab_size")),
        ("Longest input", count("max_tokens", " tokens")),
        ("Tokenizer", say(theirs(m.tokenizer, 120))),
        ("Computed in", say(theirs(m.dtype, 40), ", attention ", theirs(m.attention, 40))),
        *([("Labels", labels)] if labels else []),
    )


def fingerprints(manifest: Manifest, verdict: Verdict) -> Pairs:
    """Return the digests that tie the card to its audit."""
    m = manifest.model
    known: Sequence[tuple[str, str]] = (
        ("Audit", manifest.identity),
        ("Model", m.sha256),
        ("Weights", m.weights_sha256),
        ("Configuration", m.config_sha256),
        ("Tokenizer", m.tokenizer_sha256),
        ("Policy that judged", verdict.policy.sha256),
        ("Policy locked before scoring", manifest.policy_sha256),
    )
    return tuple((name, say(theirs(digest, 200))) for name, digest in known)
