"""The pack's templates are the seeded draw from a population that always reads naturally."""

import csv
import re

import pytest

from albert_audit import resources
from albert_audit.known_answer.grammar import draw, main, population
from albert_audit.known_answer.text import read_rows

PACKS = ("pronoun-occupation-en", "placebo-occupation-en")


@pytest.mark.parametrize("pack", PACKS)
def test_the_packs_templates_are_the_draw(pack, tmp_path):
    assert main(["--out", str(tmp_path / "templates.csv")]) == 0
    shipped = (resources.probes() / pack / "templates.csv").read_bytes()
    assert shipped == (tmp_path / "templates.csv").read_bytes()


def test_the_population_has_two_equal_families_and_no_template_twice():
    everything = population()
    sizes = [sum(t.family == family for t in everything) for family in ("speech", "reason")]
    assert sizes == [200, 200]
    assert len({t.text for t in everything}) == len({t.id for t in everything}) == 400


def test_another_seed_draws_other_templates_but_as_many_of_each_family():
    ours, theirs = draw(), draw(seed=1)
    assert {t.id for t in ours} != {t.id for t in theirs}
    assert [t.family for t in ours] == [t.family for t in theirs]


def test_every_template_suits_she_he_and_they_alike():
    for template in population():
        assert template.text.startswith("The {filler} ")
        assert template.text.count("{target}") == template.text.count("{filler}") == 1
        assert template.text.endswith(".")
        after = re.search(r"\{target\} (\w+)", template.text)
        assert after and after[1] not in {"was", "were", "is", "are", "has", "have", "does", "do"}
        words = set(re.findall(r"[a-z]+", template.text.lower()))
        assert not words & {"you", "your", "his", "her", "their", "himself", "herself"}


def test_each_placebo_is_matched_to_its_own_occupation_and_carries_its_share():
    occupations = {row["id"]: row for row in read_rows(resources.probes() / PACKS[0] / "fillers.csv")}
    placebo = read_rows(resources.probes() / PACKS[1] / "fillers.csv")
    assert sorted(row["match"] for row in placebo) == sorted(occupations)
    for row in placebo:
        match = occupations[row["match"]]
        assert row["covariate"] == match["covariate"]
        assert len(row["form"].split()) == len(match["form"].split())


@pytest.mark.parametrize(("pack", "count"), [("floor-en", 150), ("floor-zh", 120)])
def test_the_floors_have_enough_sentences_and_none_twice(pack, count):
    with (resources.probes() / pack / "sentences.csv").open(encoding="utf-8", newline="") as handle:
        rows = list(csv.DictReader(handle))
    assert len({row["id"] for row in rows}) == len({row["text"] for row in rows}) == count
