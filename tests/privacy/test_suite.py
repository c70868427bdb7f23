"""From files to findings with fake models: nobody lost, nothing given away, and a crash is never a pass."""

from __future__ import annotations

import csv
import hashlib
import json
from collections import Counter
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from albert_audit.config import Privacy, Texts
from albert_audit.gate import default_policy, judge
from albert_audit.model.cache import FakeScorer
from albert_audit.privacy import brought as bringing
from albert_audit.privacy import canaries, dose, membership_findings, membership_run, suite
from albert_audit.redact import Key, leaks
from albert_audit.types import Decision, Findings, Head, Status, UsageError, VerdictWord
from tests import builders
from tests.fakes import chance, one, selected

CLASSIFIER = Head.SEQUENCE_CLASSIFICATION
DECISION = Decision(labels=("bad", "good"), positive=1)
SECRET = "Ottilie Marwood"


@pytest.fixture(autouse=True)
def _fast(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("ALBERT_AUDIT_KEY", str(tmp_path / "key"))
    Key.make(tmp_path / "key")
    monkeypatch.setattr(dose, "RUNS", 10)
    monkeypatch.setattr(membership_findings, "permutation_max", lambda *a, **k: (1.0, np.zeros(1)))


def row(i: int, text: str = "", person: str = "") -> dict[str, str]:
    about = text or f"{SECRET} signed letter w{1000 + 2 * (i * 37 % 450) + i % 2} about it"
    return {
        "text": about,
        "label": ("bad", "good")[i % 2],
        "sex": ("women", "men")[i // 2 % 2],
        "who": person or f"{SECRET} {i}",
    }


def write(path: Path, rows: list[dict[str, str]]) -> Texts:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return Texts(path=str(path), label="label", groups=("sex",), person="who")


class World:
    """Models that know by heart, by `leak`, the texts they were trained on."""

    def __init__(self, folder: Path, leak: float, monkeypatch: pytest.MonkeyPatch) -> None:
        self.leak, self.seen = leak, {}
        self.folder = folder / "base"
        self.folder.mkdir()
        (self.folder / "config.json").write_text("{}", encoding="utf-8")
        self.records = self.keep = None
        monkeypatch.setattr(membership_run, "_train", self.train)
        monkeypatch.setattr(membership_run, "scorer_of", lambda path, handle: self.scorer(path.name))

    def train(self, brought, handle, scorer, records, keep, *rest) -> list[Path]:
        self.records, self.keep = records, keep
        for i, own in enumerate(keep):
            self.seen[f"reference-{i}"] = set(records.pick(records.texts, own))
        return [Path(f"reference-{i}") for i in range(len(keep))]

    def scorer(self, name: str) -> FakeScorer:
        def logits(tokens: tuple[str, ...]) -> np.ndarray:
            text = " ".join(t for t in tokens if not t.startswith(("[", "<")))
            known = self.leak * (text in {t.lower() for t in self.seen[name]})
            right = (
                int(hashlib.sha256(text.encode()).digest()[0]) % 2
                if "letter" not in text
                else int(text.split()[4][1:]) % 2
            )
            margin = 2 + chance(name, text) / 8 + chance(text) / 4 + known
            return np.array([0.0, margin if right else -margin])

        return FakeScorer(answers={"class": logits}, head=CLASSIFIER, labels=DECISION.labels, max_tokens=20)


def brought(folder: Path, members, others, pool=None, **config) -> bringing.Brought:
    given = {
        "members": write(folder / "m.csv", members), "non_members": write(folder / "n.csv", others),
        "base": str(folder / "base"), **({"pool": write(folder / "p.csv", pool)} if pool else {}),
    }  # fmt: skip
    return bringing.read(Privacy(**given | config), CLASSIFIER)


def run(of: bringing.Brought, world: World, members) -> suite.Found:
    world.seen["target"] = {r["text"] for r in members}
    warned: list[str] = []
    policy = default_policy(CLASSIFIER, (), of.tests)
    handle = SimpleNamespace(
        device=SimpleNamespace(type="cpu"), id=builders.model(head=CLASSIFIER), unknown_rate={}
    )
    found = suite.run(
        of, handle, world.scorer("target"), DECISION, policy, 3, task=lambda *a: nullcontext(), warn=warned.append,
        workers=1,
    )  # fmt: skip
    world.warned, world.policy = warned, policy
    return found


def rows_of(start: int, stop: int) -> list[dict[str, str]]:
    return [row(i) for i in range(start, stop)]


def everything(found: suite.Found, of: bringing.Brought) -> bytes:
    """All that an audit would write of it."""
    return b"\n".join(
        [
            found.rows.to_csv().encode(), repr(found).encode(), json.dumps(of.told).encode(), repr(of.refs()).encode(),
            *(f.model_dump_json().encode() for f in found.findings),
        ]
    )  # fmt: skip


def test_a_leak_is_found_and_nothing_is_given_away(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    world = World(tmp_path, 3.0, monkeypatch)
    members, others = rows_of(0, 120), rows_of(120, 240)
    of = brought(tmp_path, members, others)
    found = run(of, world, members)
    head = builders.model(head=CLASSIFIER)
    assert one(found.findings, "auc_rmia/all").effect.value > 0.9
    verdict = judge(Findings(model=head, findings=found.findings), world.policy, post_hoc=False)
    assert verdict.verdict is VerdictWord.FAIL
    written = everything(found, of) + verdict.model_dump_json().encode()
    assert not leaks(written, SECRET) and not leaks(written, "signed letter")
    for file in ("m.csv", "n.csv"):
        assert hashlib.sha256((tmp_path / file).read_bytes()).hexdigest()[:12].encode() not in written
    assert leaks(written + f"x{SECRET.upper()}x".encode(), SECRET), "else the test sees nothing"
    assert found.rows["cluster_a"].str.fullmatch(r"[0-9a-f]{16}").all()


def test_no_leak_is_no_fail_and_every_record_has_its_row(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = World(tmp_path, 0.0, monkeypatch)
    members, others = rows_of(0, 80), rows_of(80, 180)
    of = brought(tmp_path, members, others)
    found = run(of, world, members)
    verdict = judge(
        Findings(model=builders.model(head=CLASSIFIER), findings=found.findings), world.policy, post_hoc=False
    )
    assert verdict.verdict not in (VerdictWord.FAIL, VerdictWord.PASS)
    for attack in of.attacks:
        mine = found.rows[(found.rows["measure"] == attack.name) & (found.rows["axis"] == "all")]
        assert Counter(mine.loc[mine["role"] == "probe", "group"]) == {"member": 80, "non-member": 100}
        assert mine["item"].nunique() == 180
    assert sorted(f.id for f in found.findings if f.role == "probe") == sorted(of.ids())
    for f in found.findings:
        for selector in f.evidence:
            assert len(selected(found.rows, selector)) == selector.rows, f.id


def test_texts_of_both_sets_are_left_out_and_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Trap 8: a non-member whose text is a member's is a member, however it is written."""
    world = World(tmp_path, 1.0, monkeypatch)
    members, others = rows_of(0, 60), rows_of(60, 120)
    copies = [row(i, f"  {members[i]['text'].upper()}!") for i in (3, 9)]
    found = run(brought(tmp_path, members, [*others, *copies, row(7, members[5]["text"])]), world, members)
    of = one(found.findings, "auc_loss/")
    assert (
        of.details["duplicates_left_out"] == 3
        and of.details["non_members"] == 60
        and of.details["members"] == 60
    )


def test_near_copies_of_members_are_left_out_and_too_many_leave_nothing_to_say(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With them as non-members a model that remembers every record passed: it knows those as well."""
    world = World(tmp_path, 1.0, monkeypatch)
    members, others = rows_of(0, 60), rows_of(60, 120)
    long = [
        dict(
            m,
            text=f"{m['text']}: {' '.join(hashlib.sha256(f'{i} {k}'.encode()).hexdigest()[:24] for k in range(4))}",
        )
        for i, m in enumerate(members)
    ]
    near = [dict(m, text=m["text"].replace(" signed", ""), who=f"other {i}") for i, m in enumerate(long)]
    found = run(brought(tmp_path, long, [*others, *near[:4]]), world, long)
    of = one(found.findings, "auc_loss/")
    assert of.details["duplicates_left_out"] == 4 and of.details["non_members"] == 60
    found = run(brought(tmp_path, long, [*others, *near]), world, long)
    of = one(found.findings, "auc_loss/")
    assert of.status is Status.INSUFFICIENT and "copies" in of.reason


def test_sets_of_the_same_texts_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    world = World(tmp_path, 1.0, monkeypatch)
    with pytest.raises(UsageError, match="also a member") as refused:
        run(brought(tmp_path, rows_of(0, 9), rows_of(0, 9)), world, rows_of(0, 9))
    assert not leaks(str(refused.value).encode(), SECRET)


def test_too_long_texts_are_skipped_with_a_reason(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Trap 12: nothing is cut, and nothing is dropped in silence."""
    world = World(tmp_path, 1.0, monkeypatch)
    members = [*rows_of(0, 60), *(row(i, f"{SECRET} " * 15) for i in (60, 61))]
    found = run(brought(tmp_path, members, rows_of(70, 130)), world, members)
    of = one(found.findings, "auc_rmia/all")
    assert of.n_skipped == 2 and of.n == 120
    lost = found.rows[found.rows["skipped"] != ""]
    assert len(lost) == 2 and lost["value"].isna().all() and "too long" in lost["skipped"].iloc[0]


@pytest.mark.parametrize("pool", [False, True])
def test_no_reference_is_trained_on_what_it_may_not_see(
    pool: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Trap 8: in whole persons; with a pool on no judged person's record and no judged text, however it is written."""
    world = World(tmp_path, 1.0, monkeypatch)
    members = [row(i, person=f"p{i // 2}") for i in range(60)]
    others = [row(i, person=f"p{i // 2}") for i in range(60, 120)]
    extra = [row(i) for i in range(200, 260)]
    shared = [row(300, person="p1"), row(301, f"{members[7]['text'].upper()} ?"), row(302, person="p40")]
    found = run(brought(tmp_path, members, others, [*extra, *shared] if pool else None), world, members)
    assert not world.warned and Status.ERROR not in {f.status for f in found.findings}
    records, keep = world.records, world.keep
    if pool:
        assert not keep[:, records.judged].any()
        used = records.pick(records.ids, keep.any(axis=0))
        assert used == [f"pool/{i}" for i in range(1, 61)]
    else:
        assert (keep.sum(axis=0) == 2).all() and (keep[0] ^ keep[1]).all()
        for own in keep:
            trained = set(records.pick(records.persons, own))
            assert not trained & set(records.pick(records.persons, ~own))
            assert abs(own[records.member].sum() - 30) <= 2 and abs(own[~records.member].sum() - 30) <= 2


def test_order_of_the_files_changes_no_finding_of_the_target(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = World(tmp_path, 1.0, monkeypatch)
    members, others = rows_of(0, 60), rows_of(60, 120)
    first = run(brought(tmp_path, members, others), world, members)
    again = run(brought(tmp_path, members[::-1], others[::-1]), world, members)
    for name in ("auc_loss/", "auc_modified_entropy/"):
        before, after = one(first.findings, name).effect, one(again.findings, name).effect
        assert after.value == pytest.approx(before.value) and after.se == pytest.approx(before.se)


# --- crashes --------------------------------------------------------------------------------


def test_a_crash_becomes_errors_and_hides_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Trap 15: never a score of 0, never a pass; and its words, which may hold a record, are not repeated."""
    world = World(tmp_path, 1.0, monkeypatch)
    path = tmp_path / "canaries.json"
    canaries.save(
        canaries.make(head=CLASSIFIER, labels=DECISION.labels, coins=4, random_templates=0, seed=1), path
    )

    def burst(*a, **k):
        raise RuntimeError(f"cannot read {SECRET}")

    monkeypatch.setattr(membership_run, "blind_scores", burst)
    monkeypatch.setattr(suite.canaries, "score", burst)
    of = brought(tmp_path, rows_of(0, 40), rows_of(40, 80), canaries=str(path))
    found = run(of, world, rows_of(0, 40))
    assert {f.status for f in found.findings} == {Status.ERROR}
    assert sorted(f.id for f in found.findings) == sorted(of.ids())
    assert world.warned == [
        "the test membership crashed: RuntimeError",
        "the test canaries crashed: RuntimeError",
    ]
    assert not leaks(everything(found, of) + repr(world.warned).encode(), SECRET)
    verdict = judge(
        Findings(model=builders.model(head=CLASSIFIER), findings=found.findings), world.policy, post_hoc=False
    )
    assert verdict.verdict is VerdictWord.INCOMPLETE and not leaks(verdict.model_dump_json().encode(), SECRET)


def test_a_crash_of_one_test_leaves_the_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    world = World(tmp_path, 3.0, monkeypatch)
    path = tmp_path / "canaries.json"
    canaries.save(
        canaries.make(head=CLASSIFIER, labels=DECISION.labels, coins=4, random_templates=0, seed=1), path
    )
    monkeypatch.setattr(suite.canaries, "score", lambda *a, **k: 1 / 0)
    members = rows_of(0, 60)
    found = run(brought(tmp_path, members, rows_of(60, 120), canaries=str(path)), world, members)
    of = Counter((f.pack, f.status is Status.ERROR) for f in found.findings)
    assert (
        of["membership", True] == 0
        and of["canaries", False] == 0
        and of["membership", False]
        and of["canaries", True]
    )
    assert len(found.rows) and set(found.rows["pack"]) == {"membership"}
