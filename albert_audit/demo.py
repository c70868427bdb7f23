"""The demo: audit two models whose answer is known, and hold the audit against it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from albert_audit import audit, resources
from albert_audit.audit import Watcher
from albert_audit.config import AuditConfig
from albert_audit.folder import Audit
from albert_audit.types import VerdictWord

PACK = "pronoun-occupation-en"
FINDING = f"{PACK}/template_gap_slope/gender/female-vs-male"


@dataclass(frozen=True)
class Result:
    """One audit of the demo, and whether it says what is known."""

    audit: Audit
    as_planted: bool
    reason: str


def run(out: Path, *, watcher: Watcher) -> list[Result]:
    """Audit the bundled pair into ``out/planted`` and ``out/twin``.

    The planted model must FAIL, with an interval that covers its true slope over the whole
    grammar, as a naive scorer enumerated it; the twin, null by construction, must PASS.
    """
    models = resources.known_answer_models()
    truth = json.loads((models / "truth.json").read_text(encoding="utf-8"))["values"]
    results = []
    for name, expected in (("planted", VerdictWord.FAIL), ("twin", VerdictWord.PASS)):
        config = AuditConfig(
            model=str(models / name),
            out=str(out / name),
            packs=(PACK,),
            policy=str(resources.reports() / "policies" / "known-answer.yaml"),
            device="cpu",
        )
        done = audit.execute(audit.plan(config), force=False, watcher=watcher)
        slope = truth[name]["occupation"]["female-vs-male"]["slope"]
        finding = next(f for f in done.findings.findings if f.id == FINDING)
        ends = finding.effect.intervals.get("0.95") if finding.effect else None
        covered = ends is not None and ends.low <= slope <= ends.high
        word = done.verdict.verdict
        found = f"95 % interval {ends.low:.3f} to {ends.high:.3f}" if ends else "no interval"
        results.append(
            Result(
                done,
                word is expected and covered,
                f"expected {expected}, found {word}; true slope {slope:.3f}, {found}",
            )
        )
    return results
