"""Concordance: whether the scores of pair preference agree in sign, axis by axis.

Each score answers the same question in its own way, and each can be fooled in its own way. Where
they disagree in sign, none of them can be read alone.
"""

from __future__ import annotations

from collections.abc import Sequence

from albert_audit.bias.masked.pair_preference import SCORES
from albert_audit.types import Finding, Status

_NUMBERS = ("no", "one", "two", "three", "four")
_MARGINS = {f"{name}_margin": label for name, (label, _, _) in SCORES.items()}
_ALL = {f"{name}_{figure}" for name in SCORES for figure in ("margin", "share")}


def concordance(findings: Sequence[Finding]) -> tuple[Finding, ...]:
    """Say in every pair-preference finding whether the scores agree in sign.

    Parameters
    ----------
    findings : sequence of Finding
        Those of an audit, with their statuses.

    Returns
    -------
    tuple of Finding
        In the same order. Findings of one pack, axis and contrast get one more caveat, and the details
        ``scores_compared`` and ``scores_agreeing``: how many scores have a margin, and how many
        have the sign that more of them have. A margin whose 0.95 interval holds 0 has no sign; nor has one
        without an interval.

    Notes
    -----
    The margins themselves are compared, not their differences from a control. Findings that are
    not ``estimated`` or ``insufficient`` are left out: a model below its floor agrees with itself by accident.
    Where fewer than two scores are left, nothing is said.
    """
    groups: dict[tuple[str, str, str], dict[str, Finding]] = {}
    for f in findings:
        if f.measure in _MARGINS and f.effect is not None and _told(f):
            groups.setdefault((f.pack, f.axis, f.contrast), {})[f.measure] = f
    out = []
    for f in findings:
        group = groups.get((f.pack, f.axis, f.contrast), {})
        if f.measure in _ALL and _told(f) and len(group) > 1:
            sentence, agreeing = _compare({m: group[m] for m in _MARGINS if m in group})
            counts = {"scores_compared": float(len(group)), "scores_agreeing": float(agreeing)}
            f = f.model_copy(update={"caveats": (*f.caveats, sentence), "details": f.details | counts})
        out.append(f)
    return tuple(out)


def _told(finding: Finding) -> bool:
    return finding.status in (Status.ESTIMATED, Status.INSUFFICIENT)


def sign(finding: Finding) -> int:
    """Return 1 or -1 where the 0.95 interval of the effect lies on one side of its null, else 0."""
    effect = finding.effect
    ends = effect.intervals.get("0.95") if effect is not None else None
    if effect is None or ends is None:
        return 0
    return int(ends.low > effect.null) - int(ends.high < effect.null)


def _compare(group: dict[str, Finding]) -> tuple[str, int]:
    """Return a sentence, and how many scores have the sign that more of them have."""
    signs = {measure: sign(f) for measure, f in group.items()}
    ahead, behind = (sum(s == way for s in signs.values()) for way in (1, -1))
    number = _NUMBERS[len(group)]
    if ahead and behind:
        values = ", ".join(
            f"{_MARGINS[m]} {_value(group[m])}{'' if s else ' (undecided)'}" for m, s in signs.items()
        )
        return f"The scores disagree in sign ({values}): read none of them alone.", max(ahead, behind)
    if not ahead and not behind:
        return (
            f"None of the {number} scores says which of the two sentences is ahead: no 0.95 interval excludes 0.",
            0,
        )
    way, agreeing = ("ahead", ahead) if ahead else ("behind", behind)
    if agreeing == len(group):
        return f"The {number} scores agree: each puts the stereotyping sentence {way}.", agreeing
    decided = ", ".join(_MARGINS[m] for m, s in signs.items() if s)
    puts = "puts" if agreeing == 1 else "put"
    return (
        f"{_NUMBERS[agreeing].capitalize()} of the {number} scores {puts} the stereotyping sentence {way} "
        f"({decided}); the others are undecided."
    ), agreeing


def _value(finding: Finding) -> str:
    assert finding.effect is not None  # noqa: S101 (it was chosen for having one)
    return f"{finding.effect.value:+.2g}"
