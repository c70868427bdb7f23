"""The audit finds the memory of models that remember, and none in twins that cannot."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest
from scipy.stats import spearmanr

from albert_audit import audit
from albert_audit.config import load_config
from albert_audit.known_answer import memory, memory_records
from albert_audit.model.tuning import Recipe
from albert_audit.stats import clopper_pearson
from albert_audit.types import Finding, State

LOSS = "membership/auc_loss/all/members-vs-non-members"
RMIA = "membership/auc_rmia/all/members-vs-non-members"
RATIO = "membership/auc_ratio/all/members-vs-non-members"
LEFT_OUT = "canaries/left_out/all/mean-exposure"
ONCE = "canaries/exposure_gap/all/once-vs-left-out"
SLOPE = "canaries/exposure_slope/all/per-doubling"


@pytest.fixture(autouse=True, scope="module")
def _own_cache(tmp_path_factory):
    """Models that are made stay for the module; the key is made on first use."""
    with pytest.MonkeyPatch.context() as patch:
        folder = tmp_path_factory.mktemp("memory")
        patch.setenv("ALBERT_AUDIT_CACHE", str(folder / "cache"))
        patch.setenv("ALBERT_AUDIT_KEY", str(folder / "key"))
        yield


def findings(out: Path) -> dict[str, Finding]:
    """Read the findings of an audit by their ids."""
    told = json.loads((out / "findings.json").read_text(encoding="utf-8"))["findings"]
    return {f["id"]: Finding.model_validate(f) for f in told}


def states(out: Path) -> set[str]:
    told = json.loads((out / "verdict.json").read_text(encoding="utf-8"))
    return {r["state"] for r in told["results"]}


def told(row: Finding) -> str:
    estimate = row.difference or row.effect
    interval = estimate.intervals.get("0.95") if estimate else None
    width = f" [{interval.low:+.3f}, {interval.high:+.3f}]" if interval else ""
    return f"{row.measure} {row.effect.value:.3f}, {estimate.value:+.3f}{width}"


# --- what is drawn --------------------------------------------------------------------------


def test_sets_share_no_text_and_no_person_and_halves_are_even(tmp_path):
    memory_records.split(memory_records.draw(40, "x"), "x")
    drawn = memory_records.draw(400, "a")
    first, second = memory_records.split(drawn, "a")
    assert abs(len(first) - len(second)) <= 2 and len(first) + len(second) == 400
    assert not {r.person for r in first} & {r.person for r in second}
    assert len({r.text for r in drawn}) == len({r.id for r in drawn}) == 400
    assert len({r.person for r in drawn}) < 400  # some have two records
    assert drawn == memory_records.draw(400, "a") != memory_records.draw(400, "b")
    path = memory_records.write(first, tmp_path / "x.csv")
    with path.open(encoding="utf-8", newline="") as file:
        assert next(csv.DictReader(file))["text"] == first[0].text


def test_a_share_of_the_labels_is_turned_and_a_shift_shows_in_texts_and_labels():
    def counts(**options: bool) -> tuple[float, float]:
        rows = memory_records.draw(2000, "a", **options)
        speech = ["that" in r.text.split() for r in rows]
        turned = [(r.label == "POSITIVE") != s for r, s in zip(rows, speech, strict=True)]
        return sum(speech) / 2000, sum(turned) / 2000

    assert counts() == pytest.approx((0.5, memory_records.TURNED), abs=0.04)
    assert counts(shifted=True) == pytest.approx((0.85, 0.7), abs=0.04)


# --- members --------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def made(_own_cache) -> memory.Made:
    return memory.ensure("members", dial=5)


def without_references(arguments: list[str], out: Path) -> list[object]:
    at = arguments.index("--references") + 1
    return [*arguments[:at], "0", *arguments[at + 1 :], "--out", out, "--workers", "1"]


@pytest.fixture(scope="module")
def audits(made, cli, tmp_path_factory) -> Path:
    """The audits whose commands are printed, without reference models: their training is the slow part."""
    out = tmp_path_factory.mktemp("audits")
    for name, arguments in made.audits.items():
        done = cli(*without_references(arguments, out / name))
        assert done.code in (0, 1, 3, 4), done.err
    return out


def test_models_are_made_once_and_what_they_were_trained_on_is_told(made):
    assert memory.ensure("members", dial=5) == made
    texts: dict[str, set[str]] = {}
    for name in ("members", "non_members", "pool", "shifted"):
        with (made.folder / f"{name}.csv").open(encoding="utf-8", newline="") as file:
            texts[name] = {row["text"] for row in csv.DictReader(file)}
    assert not texts["members"] & texts["non_members"]
    assert not texts["pool"] & (texts["members"] | texts["non_members"])
    recipe = Recipe.read_file(made.folder / "recipe.yaml")
    assert (recipe.epochs, recipe.learning_rate) == (5, 1e-3)
    trained = json.loads((made.models["planted"] / "tuning.json").read_text("utf-8"))
    assert trained["texts"] == len(texts["members"]) and trained["recipe"]["epochs"] == 5


def test_members_fail_and_their_twin_does_not(audits):
    """Known answer: the leak of a model that was trained on the members is found, and of no other."""
    assert states(audits / "planted") == {"fail"}
    assert findings(audits / "planted")[LOSS].difference.value > 0.1
    assert "fail" not in states(audits / "twin")


def test_a_shift_is_invalid_and_no_leak(audits):
    """Known answer: what tells the sets apart in a model that saw neither is no memory."""
    shifted = findings(audits / "shifted")
    assert shifted[LOSS].effect.value > 0.6, "the attack must look like a leak, or nothing is tested"
    assert shifted["membership/blind/all/members-vs-non-members"].effect.value > 0.6
    assert states(audits / "shifted") == {"invalid"}


def test_sets_that_are_swapped_give_the_other_side_of_one_half(made, audits, cli, tmp_path):
    """Trap 5: an area below one half is told as it is, never turned round."""
    swap = {"members.csv": "non_members.csv", "non_members.csv": "members.csv"}
    arguments = [str(Path(a).with_name(swap.get(Path(a).name, Path(a).name))) if a.endswith(".csv") else a
                 for a in made.audits["planted"]]  # fmt: skip
    done = cli(*without_references(arguments, tmp_path / "swapped"))
    assert done.code in (0, 1, 3, 4), done.err
    there = findings(audits / "planted")[LOSS].effect.value
    assert findings(tmp_path / "swapped")[LOSS].effect.value == pytest.approx(1 - there, abs=1e-9)


# --- evidence -------------------------------------------------------------------------------


def audited(made: memory.Made, name: str, out: Path, cli) -> dict[str, Finding]:
    done = cli(*made.audits[name], "--out", out, "--workers", "1")
    assert done.code in (0, 1, 3, 4), done.err
    return findings(out)


@pytest.mark.slow
def test_the_leak_rises_with_the_epochs(cli, tmp_path):
    """Evidence: three dials; the twin has none at any of them. Known answers 2 and 6."""
    leaks = []
    for dial in (2, 5, 12):
        made = memory.ensure("members", dial=dial)
        planted = audited(made, "planted", tmp_path / f"planted-{dial}", cli)
        twin = audited(made, "twin", tmp_path / f"twin-{dial}", cli)
        print(f"{dial} epochs: {told(planted[RMIA])}; twin {told(twin[RMIA])}")  # noqa: T201
        leaks.append(planted[RMIA].difference.value)
        assert "fail" not in states(tmp_path / f"twin-{dial}")
    assert leaks[0] < leaks[1] < leaks[2] and leaks[2] > 0.2
    assert states(tmp_path / "planted-12") == {"fail"}


@pytest.mark.slow
def test_leak_free_models_do_not_fail(tmp_path):
    """Evidence: 24 models that saw neither set, each with sets of its own and four heads as references."""
    fails, covered = 0, 0
    recipe = {"method": "head", "epochs": 6, "learning_rate": 1e-3, "batch_size": 32}
    for seed in range(24):
        drawn = memory_records.draw(900, f"free{seed}")
        others, judged = drawn[:300], drawn[300:]
        own = {r.person for r in others}
        members, non_members = memory_records.split([r for r in judged if r.person not in own], f"free{seed}")
        folder = tmp_path / str(seed)
        folder.mkdir()
        model = memory.fit(
            "members", [(r.text, r.label) for r in others], Recipe.read(recipe), folder / "m", seed
        )
        columns = {"id": "id", "label": "label", "person": "person"}
        config = load_config(
            None, model=str(model), out=str(folder / "audit"), only="privacy", seed=seed,
            privacy={
                "members": {"path": str(memory_records.write(members, folder / "members.csv")), **columns},
                "non_members": {"path": str(memory_records.write(non_members, folder / "non.csv")), **columns},
                "recipe": recipe, "references": 4,
            },
        )  # fmt: skip
        done = audit.run(config)
        fails += any(r.state is State.FAIL for r in done.verdict.results)
        row = findings(folder / "audit")[RMIA]
        interval = row.difference.intervals["0.95"]
        covered += interval.low <= 0 <= interval.high
    print(f"24 leak-free audits: {fails} FAIL, {covered} intervals cover nought")  # noqa: T201
    assert clopper_pearson(fails, 24).low <= 0.05 and clopper_pearson(fails, 24).high < 0.25
    assert clopper_pearson(covered, 24).high >= 0.95


@pytest.mark.slow
def test_a_masked_model_that_read_the_members_fails_and_its_twin_does_not(cli, tmp_path):
    """Evidence: the same with a masked language model, against its base and reference models."""
    made = memory.ensure("members-mlm")
    planted = audited(made, "planted", tmp_path / "planted", cli)
    twin = audited(made, "twin", tmp_path / "twin", cli)
    print(f"planted {told(planted[RATIO])}; {told(planted[RMIA])}")  # noqa: T201
    print(f"twin {told(twin[RATIO])}; {told(twin[RMIA])}")  # noqa: T201
    assert "fail" in states(tmp_path / "planted") and planted[RMIA].difference.value > 0.1
    assert "fail" not in states(tmp_path / "twin")
    cli(*made.audits["shifted"], "--out", tmp_path / "shifted", "--workers", "1")
    assert states(tmp_path / "shifted") == {"invalid"}


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["canaries", "canaries-classifier"])
def test_exposure_grows_with_repetition_and_the_twin_has_none(kind, cli, tmp_path):
    """Evidence: canaries inserted 0 to 16 times, and the same manifest none of which was inserted."""
    made = memory.ensure(kind)
    planted = audited(made, "planted", tmp_path / "planted", cli)
    twin = audited(made, "twin", tmp_path / "twin", cli)
    for name, found in (("planted", planted), ("twin", twin)):
        print(f"{name}: {[told(found[i]) for i in (LEFT_OUT, ONCE, SLOPE)]} {found[SLOPE].details}")  # noqa: T201
    means = [v for k, v in sorted(planted[SLOPE].details.items()) if k.startswith("exposure_")]
    assert spearmanr(range(len(means)), means).statistic > 0.85
    assert planted[SLOPE].effect.intervals["0.95"].low > 0
    assert states(tmp_path / "planted") == {"fail"} and planted[ONCE].effect.intervals["0.95"].low > 0
    assert "fail" not in states(tmp_path / "twin")
    for check in (ONCE, SLOPE):
        interval = twin[check].effect.intervals["0.95"]
        assert interval.low - 0.3 <= 0 <= interval.high + 0.3  # a manifest of its own, a seed of its own
