"""The Chinese packs of persons for classifiers: matched, of equal length, whole, and able to find a lean."""

from __future__ import annotations

import csv
import re
from collections import Counter, defaultdict
from dataclasses import replace
from functools import cache

import numpy as np
import pandas as pd
import pytest

from albert_audit import packs, resources
from albert_audit.bias.classifier import class_floor, persons, template_score
from albert_audit.findings import Measured, build
from albert_audit.model.cache import FakeScorer
from albert_audit.packcheck import report
from albert_audit.packs import Pack
from albert_audit.stats import MIN_DF
from albert_audit.types import Decision, Head, Status
from tests.fakes import one, policy

# Interim Measures for the Management of Generative AI Services (2023), Art. 4(2), in its order.
GROUNDS = ("ethnicity", "belief", "nationality", "region", "gender", "age", "occupation", "health")
BINARY = Decision(labels=("negative", "positive"), positive=1)
# Words without an equally long counterpart; the READMEs say why.
LONGER = {"维吾尔族": "汉族", "清真寺": "寺庙"}
MARKS = "，。"


@cache
def pack(ground: str) -> Pack:
    return replace(packs.load(packs.find(f"persons-{ground}-zh")), decision=BINARY)


def people(ground: str) -> list[dict[str, str]]:
    return [dict(row) for row in pack(ground).tables["persons"]]


@cache
def texts(ground: str) -> tuple[str, ...]:
    p = pack(ground)
    return tuple(s.fill(persons._person(r))[0] for s in persons.sentences(p) for r in p.tables["persons"])


def classifier(logit) -> FakeScorer:
    """A binary classifier from the log-odds of *positive*, given the characters of the text."""
    return FakeScorer(
        answers={"class": lambda tokens: [0.0, logit("".join(tokens[1:-1]))]},
        head=Head.SEQUENCE_CLASSIFICATION,
        labels=BINARY.labels,
    )


def run(ground: str, logit) -> pd.DataFrame:
    return template_score.run(classifier(logit), pack(ground), np.random.default_rng(0))


# --- the files ----------------------------------------------------------------------------------


@pytest.mark.parametrize("ground", GROUNDS)
def test_a_pack_loads_and_says_what_it_is_for(ground):
    p, spec = pack(ground), pack(ground).spec
    assert (spec.language, spec.axis, spec.measure) == ("zh-Hans", ground, "template_score")
    assert spec.may_gate == (Head.SEQUENCE_CLASSIFICATION,) and spec.licence == "CC-BY-4.0"
    assert spec.profile == ("quick" if ground == "gender" else "standard")
    assert set(spec.margins) == {"score_gap", "score_net_flips"}
    readme = (resources.probes() / p.name / "README.md").read_text(encoding="utf-8")
    for heading in ("Why each list is as it is", "The control", "What it cannot show", "Licence"):
        assert f"\n## {heading}\n" in readme


@pytest.mark.parametrize("ground", GROUNDS)
def test_a_pack_has_few_contrasts_and_each_enough_clusters(ground):
    p = pack(ground)
    found = template_score.contrasts(p)  # raises on a match that is none
    assert 1 <= len(found) <= 3 and all(axis == ground for axis, _ in found)
    counts = Counter((s.contrast, s.role) for s in persons.swaps(p))
    assert all(n >= 12 for n in counts.values()) and len(counts) == 2 * len(found)
    families = Counter(t.family for t in p.templates)
    assert len(p.templates) >= 12 and families.keys() == {"plain", "feeling"}
    said = list(report(p.name, None))
    degrees = [float(m[1]) for line in said if (m := re.search(r"([\d.]+) degrees of freedom", line))]
    assert degrees and min(degrees) >= MIN_DF
    assert not any("note:" in line or "NO INTERVAL" in line for line in said)


@pytest.mark.parametrize("ground", GROUNDS)
def test_good_and_bad_contexts_weigh_the_same(ground):
    kinds = Counter(row["kind"] for row in pack(ground).tables["contexts"])
    assert kinds.keys() >= {"joy", "anger", "fear", "sadness"}
    assert (
        kinds["joy"] + kinds["praise"]
        == kinds["anger"] + kinds["fear"] + kinds["sadness"] + kinds["complaint"]
    )


def test_all_packs_have_the_same_sentences():
    """So that gaps of two packs differ by the persons only."""
    for name in ("templates.csv", "contexts.csv"):
        assert len({(resources.probes() / f"persons-{g}-zh" / name).read_bytes() for g in GROUNDS}) == 1


@pytest.mark.parametrize("ground", GROUNDS)
def test_sentences_are_simplified_full_width_whole_and_distinct(ground):
    """GB 2312 holds the simplified characters and, with a few exceptions, no traditional ones."""
    for text in texts(ground):
        text.encode("gb2312")  # raises on a character outside
        assert re.fullmatch(rf"[\u4e00-\u9fff{MARKS}]+[。！？]", text), text
    assert len(set(texts(ground))) == len(texts(ground))


def test_all_packs_together_stay_within_their_cost():
    assert 6_000 < len({t for g in GROUNDS for t in texts(g)}) <= 10_000


# --- persons ------------------------------------------------------------------------------------


@pytest.mark.parametrize("ground", GROUNDS)
def test_matched_persons_have_equal_length(ground):
    """Else a gap could be one of length; the exceptions have no shorter name."""
    rows = {row["id"]: row for row in people(ground)}
    exceptions = set()
    for row in rows.values():
        if row["match"] and len(row["form"]) != len(rows[row["match"]]["form"]):
            exceptions.add(next((w for w in LONGER if w in row["form"]), row["form"]))
    assert exceptions == {"ethnicity": {"维吾尔族"}, "belief": {"清真寺"}}.get(ground, set())


@pytest.mark.parametrize("ground", GROUNDS)
def test_a_person_of_each_group_and_a_twin_for_each_matched_one(ground):
    p, reference = pack(ground), pack(ground).spec.reference
    groups = defaultdict(set)
    for row in people(ground):
        groups[row["group"]].add(row["match"])
    base = {r["id"] for r in people(ground) if not r["match"]}
    for group, matched in groups.items():
        if group != reference:
            assert matched == base, group
    assert base - groups[reference] == ({"he"} if ground == "gender" else set())  # no other word says only he
    assert {s.person.group for s in persons.swaps(p) if s.role == "control"} == {reference}


@pytest.mark.parametrize("ground", [g for g in GROUNDS if g not in ("gender", "occupation")])
def test_a_swap_leaves_noun_and_frame_as_they_are(ground):
    """What differs lies in one span, and what both forms share at the end is at least a character."""
    rows = {row["id"]: row for row in people(ground)}
    for row in rows.values():
        if row["match"]:
            a, b = row["form"], rows[row["match"]]["form"]
            assert a[-2:] == b[-2:], (a, b)  # the noun
            assert a[:2] == b[:2], (a, b)  # 我的, 那位, 我那


def test_names_share_their_surname_and_pronouns_stand_alone():
    rows = {row["id"]: row for row in people("gender")}
    kinds = Counter(row["kind"] for row in rows.values() if row["group"] == "female")
    assert kinds == {"name": 12, "kin": 10, "title": 6, "pronoun": 1}
    for row in rows.values():
        if row["kind"] == "name" and row["match"]:
            assert row["form"][0] == rows[row["match"]]["form"][0]
    assert {r["form"] for r in rows.values() if r["kind"] == "pronoun"} == {"她", "他"}
    assert "她坐早班车进城了。" in texts("gender")


def test_no_province_weighs_more_than_another():
    """Each stands once as matched person and once as twin, so that none leans the control."""
    reference = [row for row in people("region") if row["group"] == "other-provinces"]
    of = {
        side: Counter(r["id"].split("-")[0] for r in reference if bool(r["match"]) == side) for side in (0, 1)
    }
    assert of[0] == of[1] and set(of[0].values()) == {1} and len(of[0]) == 14


def test_no_occupation_stands_in_two_groups():
    groups = defaultdict(set)
    for row in people("occupation"):
        groups[re.sub("^那位|^我那位当|的..$", "", row["form"])].add(row["group"])
    assert len(groups) == 56 and all(len(g) == 1 for g in groups.values())


def test_files_are_plain_utf_8_without_a_mark():
    for ground in GROUNDS:
        for file in (resources.probes() / f"persons-{ground}-zh").glob("*.csv"):
            raw = file.read_bytes()
            assert not raw.startswith(b"\xef\xbb\xbf") and b"\r" not in raw
            assert all(
                None not in row and None not in row.values()
                for row in csv.DictReader(raw.decode().splitlines())
            )


# --- what a model's lean gives --------------------------------------------------------------------


def test_a_planted_lean_is_found_with_its_sign_and_only_where_it_is():
    """One group scores lower; the other groups and the control show nothing."""
    floor = replace(packs.load(packs.find("class-floor-zh")), decision=BINARY)
    polar = {row["text"]: 3.0 if row["polarity"] == "positive" else -3.0 for row in floor.tables["polar"]}

    def lean(text: str) -> float:  # not the same everywhere, else there would be nothing to estimate
        return (1.5 + sum(map(ord, text)) % 11 / 10) * ("回族" in text)

    asked = classifier(lambda text: polar.get(text, 1.0 - lean(text)))
    rows = template_score.run(asked, pack("ethnicity"), np.random.default_rng(0))
    gaps = rows[rows["measure"] == "score_gap"]
    probe = gaps[gaps["role"] == "probe"]
    drop = probe.loc[probe["group"] == "hui", "value"]
    assert (drop < -0.3).all() and len(drop) == 14 * 16
    assert (probe.loc[probe["group"] != "hui", "value"] == 0).all()
    assert (gaps.loc[gaps["role"] == "control", "value"] == 0).all()
    floors = Measured(floor, class_floor.run(asked, floor, np.random.default_rng(0)))
    found = build([floors, Measured(pack("ethnicity"), rows)], asked.id, policy(), 0)
    hui = one(found, "/score_gap/ethnicity/hui-vs-han")
    assert hui.status is Status.ESTIMATED and hui.gates
    assert hui.effect.value == pytest.approx(drop.mean())
    assert hui.effect.intervals["0.95"].high < 0 and hui.difference.intervals["0.95"].high < 0
    net = one(found, "/score_net_flips/ethnicity/hui-vs-han")
    other = one(found, "/score_net_flips/ethnicity/tibetan-vs-han")
    assert net.effect.value == pytest.approx(-1) and other.effect.value == 0


@pytest.mark.parametrize("ground", GROUNDS)
def test_a_model_that_reads_only_the_sentence_has_gaps_of_exactly_zero(ground):
    """And nothing is skipped: no two forms of a pair read the same to a tokenizer of characters."""
    in_persons = set("".join(row["form"] for row in people(ground)))

    def logit(text: str) -> float:
        return sum(ord(c) % 7 - 3 for c in text if c not in in_persons) / 5

    rows = run(ground, logit)
    assert (rows["skipped"] == "").all() and (rows["value"] == 0).all()
    scores = {round(logit(t), 6) for t in texts(ground)}
    assert len(scores) > 5  # it does read the sentence


def test_a_lean_on_the_pronoun_shows_in_gender():
    rows = run("gender", lambda text: 1.0 * ("她" in text))
    gap = rows[(rows["measure"] == "score_gap") & (rows["value"] != 0)]
    assert set(gap["item"].str.rsplit("/").str[-1]) == {"she"} and (gap["value"] > 0).all() and len(gap) == 16
