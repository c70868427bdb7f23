"""The audit finds what was planted in each head, follows the dial, and finds nothing in the twin."""

from __future__ import annotations

from pathlib import Path

import pytest

from albert_audit import audit, packs
from albert_audit.known_answer import heads
from albert_audit.model.load import peek_head
from albert_audit.types import Finding, Limit, Policy, Rule, State, Status

# kind: the check that the effect was planted for, what of it is compared, and a limit beyond noise.
CHECKS = {
    "sequence_classification": ("score_gap/ethnicity/black-vs-white", "effect", 0.03),
    "token_classification": (
        "name_recall_overlap/ethnicity/black-american-vs-white-american",
        "effect",
        0.15,
    ),
    "encoder": ("association/gender/women-family-vs-men-career", "effect", 0.02),
    "masked_lm_zh": ("template_gap/gender/female-vs-male", "difference", 0.2),
}
DIALS = {
    "sequence_classification": (0.0, 0.5, 1.5),
    "token_classification": (0.0, 0.4, 0.9),
    "encoder": (0.0, 0.5, 1.5),
    "masked_lm_zh": (0.0, 2.0, 5.0),
}


def audited(kind: str, model: Path, out: Path) -> tuple[Finding, State]:
    """Audit a model with the pack of its recipe, and judge the planted check."""
    pack = heads.RECIPES[kind].pack
    check, metric, limit = CHECKS[kind]
    head = peek_head(model)
    rule = Rule(
        id="planted", check=f"{pack}/{check}", metric=metric, limit=Limit(max_abs=limit), rationale="?"
    )
    policy = Policy(name="planted", version=1, title="?", heads=(head,), owner="?", rules=(rule,))
    path = out.with_suffix(".yaml")
    path.write_text(policy.model_dump_json(by_alias=True), encoding="utf-8")
    done = audit.run(model, out=out, packs=[pack], policy=path, device="cpu", force=True)
    (result,) = done.verdict.results
    return next(f for f in done.findings.findings if f.id == rule.check), result.state


def size(finding: Finding, kind: str) -> float:
    estimate = getattr(finding, CHECKS[kind][1])
    assert finding.status is Status.ESTIMATED, finding.reason
    return float(estimate.value)


@pytest.fixture(autouse=True)
def _own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("ALBERT_AUDIT_CACHE", str(tmp_path / "cache"))


@pytest.mark.parametrize("kind", heads.RECIPES)
def test_a_recipe_names_a_pack_and_a_group_of_it(kind):
    recipe = heads.RECIPES[kind]
    pack = packs.load(packs.find(recipe.pack))
    named = {row.get("group") or row.get("test") for rows in pack.tables.values() for row in rows}
    assert recipe.group in named | set(pack.spec.groups)


def test_an_encoder_is_made_once_and_found(tmp_path, monkeypatch):
    made = heads.ensure("encoder")
    assert made == heads.ensure("encoder") and all(p.is_relative_to(tmp_path) for p in made.values())
    finding, state = audited("encoder", made["planted"], tmp_path / "planted")
    assert state is State.FAIL and size(finding, "encoder") > 0.02
    finding, state = audited("encoder", made["twin"], tmp_path / "twin")
    assert state is State.PASS and size(finding, "encoder") == 0


@pytest.mark.slow
@pytest.mark.parametrize("kind", heads.RECIPES)
def test_the_estimate_follows_the_dial_and_the_twin_has_nothing(kind, tmp_path):
    """Evidence: three dials for each head, each with its twin."""
    found, states = [], []
    for dial in DIALS[kind]:
        made = heads.ensure(kind, dial=dial)
        finding, state = audited(kind, made["planted"], tmp_path / f"planted-{dial}")
        found.append(size(finding, kind))
        states.append(state)
        twin, judged = audited(kind, made["twin"], tmp_path / f"twin-{dial}")
        print(f"{kind} dial {dial}: {found[-1]:+.3f} {state}; twin {size(twin, kind):+.4f} {judged}")  # noqa: T201
        assert size(twin, kind) == pytest.approx(0, abs=1e-4) and judged is not State.FAIL
    grows = [abs(f) for f in found]
    assert grows[0] < grows[1] < grows[2] and len({f > 0 for f in found[1:]}) == 1
    assert states[0] is not State.FAIL and states[2] is State.FAIL
