"""The card: one page without scripts, that loads nothing and escapes whatever others named."""

from __future__ import annotations

import base64
import hashlib
from functools import cache

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from albert_audit import resources
from albert_audit.rendering import pieces, text, words
from albert_audit.rendering.view import LABELS, card_view
from albert_audit.types import EvidenceError, Findings, Manifest, Policy, RunInfo, Verdict

_POLICY = "default-src 'none'; style-src 'sha256-{}'; img-src data:; base-uri 'none'; form-action 'none'"


def card(manifest: Manifest, findings: Findings, verdict: Verdict, policy: Policy, run: RunInfo) -> str:
    """Return the card of an audit as one self-contained HTML page.

    The same documents give the same bytes. Each number of a finding stands in an element whose
    ``data-ref`` names the finding and the path of the number in ``findings.json``.

    Raises
    ------
    EvidenceError
        When the documents do not belong to one audit.
    """
    style = (resources.reports() / "style.css").read_text(encoding="utf-8")
    if "</" in style or "\r" in style:
        raise EvidenceError("style.css holds '</' or a carriage return and cannot be put into a page")
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    marks = (resources.reports() / "templates" / "marks.svg").read_text(encoding="utf-8")
    page = _environment().get_template("card.html.jinja")
    return page.render(
        card=card_view(manifest, findings, verdict, policy, run),
        manifest=manifest,
        findings=findings,
        verdict=verdict,
        policy=policy,
        run=run,
        labels=LABELS,
        nats=words.NATS,
        csp=_POLICY.format(digest),
        style=Markup(style),  # noqa: S704  # our own file, not data; "</" is refused above
        marks=Markup(marks),  # noqa: S704  # our own file, not data
    )


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(resources.reports() / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        optimized=False,  # constants are few, and looking for them takes a fifth of the start
        trim_blocks=True,
        lstrip_blocks=True,
        auto_reload=False,
    )
    environment.filters.update(day=text.day)
    environment.globals.update(
        data=pieces.data, code=pieces.code, part=pieces.part, say=pieces.say, mark=pieces.mark,
        state=pieces.state, th=pieces.th, td=pieces.td,
        heads=pieces.heads, row=pieces.row, facts=pieces.facts, detail=words.detail, clause=words.clause,
    )  # fmt: skip
    return environment
