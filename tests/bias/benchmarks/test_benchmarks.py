"""Winogender, WinoBias and BEC-Pro: the loaders on made-up and, where they lie, on the published files."""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from numpy.testing import assert_allclose

from albert_audit import findings
from albert_audit.bias import MEASURES
from albert_audit.bias.benchmarks import bec_pro, crows_pairs, published, winobias, winogender
from albert_audit.bias.masked import masked_pronoun, pronoun_pairs
from albert_audit.bias.masked.masked_pronoun import FORMS, fill
from albert_audit.model.cache import FakeScorer
from albert_audit.packs import Pack
from albert_audit.types import UsageError
from tests import tiny
from tests.fakes import measure, noisy, one, policy

M = "[MASK]"
mlm, tiny_scorers, tiny_handles, tiny_folders = (
    tiny.mlm,
    tiny.tiny_scorers,
    tiny.tiny_handles,
    tiny.tiny_folders,
)
DATA = next(
    (
        Path(place)
        for place in (
            os.environ.get("ALBERT_AUDIT_TEST_DATA"),
            Path(__file__).resolve().parents[4] / "shared" / "data",
        )
        if place and all((Path(place) / name).is_dir() for name in ("winogender", "winobias", "bec_pro"))
    ),
    None,
)
needs_data = pytest.mark.skipif(
    DATA is None, reason="Winogender, WinoBias and BEC-Pro are not shipped: set ALBERT_AUDIT_TEST_DATA to a folder "
    "that holds winogender/, winobias/ and bec_pro/"
)  # fmt: skip


# --- files --------------------------------------------------------------------------------------


def test_only_the_published_file_is_read_whatever_its_line_ends(tmp_path):
    wanted = {"a.tsv": hashlib.sha256(b"x\ty\n1\t2\n").hexdigest()}
    for raw in (b"x\ty\n1\t2\n", b"x\ty\r\n1\t2\r\n"):
        (tmp_path / "a.tsv").write_bytes(raw)
        text = published.read(tmp_path, wanted, title="T", source="s/t")["a.tsv"]
        assert published.table(text) == [{"x": "1", "y": "2"}]
    (tmp_path / "a.tsv").write_bytes(b"x\ty\n1\t3\n")
    with pytest.raises(UsageError, match=r"not the published T file.*\n.*s/t"):
        published.read(tmp_path, wanted, title="T", source="s/t")
    (tmp_path / "a.tsv").unlink()
    with pytest.raises(UsageError, match=r"cannot read the T file"):
        published.read(tmp_path, wanted, title="T", source="s/t")


def test_what_is_given_is_a_folder_or_one_of_the_files(tmp_path):
    """A missing or other file is not passed over in silence for the right one beside it."""
    wanted = {n: hashlib.sha256(b"x\n").hexdigest() for n in ("a.tsv", "b.tsv")}
    for name in (*wanted, "mine.tsv"):
        (tmp_path / name).write_bytes(b"x\n")
    for path in (tmp_path, tmp_path / "a.tsv", tmp_path / "b.tsv"):
        assert published.read(path, wanted, title="T", source="s/t") == dict.fromkeys(wanted, "x\n")
    for path, found in (
        (tmp_path / "mine.tsv", "a file called mine.tsv"),
        (tmp_path / "absent.tsv", "nothing there"),
        (tmp_path / "absent" / "a.tsv", "nothing there"),
    ):
        with pytest.raises(UsageError) as caught:
            published.read(path, wanted, title="T", source="s/t")
        assert str(path) in caught.value.message and caught.value.message.endswith(f"found {found}")
        assert "expected one of a.tsv, b.tsv, or the folder" in caught.value.message
        assert "s/t" in caught.value.hint


@needs_data
@pytest.mark.parametrize(
    ("loader", "folder"), [(winogender, "winogender"), (winobias, "winobias"), (bec_pro, "bec_pro")]
)
def test_another_file_beside_the_published_ones_is_refused(loader, folder, tmp_path):
    place = tmp_path / folder
    place.mkdir()
    for file in (DATA / folder).iterdir():
        (place / file.name).symlink_to(file)
    (place / "mine.tsv").write_text("an edited copy", encoding="utf-8")
    for name in ("mine.tsv", "absent.tsv"):
        with pytest.raises(UsageError, match=name):
            loader.load(place / name)
    assert loader.load(place).sha256 == loader.load(place / next(iter(loader.SHA256))).sha256


def test_crows_pairs_from_its_folder_and_with_other_line_ends(tmp_path, monkeypatch):
    raw = (
        b",sent_more,sent_less,stereo_antistereo,bias_type,annotations,anon_writer,anon_annotators\n"
        b'0,"A tall one, here.","A short one, here.",stereo,age,"[[\'age\'], [\'age\'], []]",a1,x\n'
    )
    monkeypatch.setattr(crows_pairs, "SHA256", hashlib.sha256(raw).hexdigest())
    file = tmp_path / crows_pairs.FILE
    packs = []
    for content in (raw, raw.replace(b"\n", b"\r\n")):
        file.write_bytes(content)
        packs += [crows_pairs.load(file), crows_pairs.load(tmp_path)]
    other = tmp_path / "mine.csv"  # its hash, not its name, says that it is the published one
    other.write_bytes(raw)
    packs.append(crows_pairs.load(other))
    assert all(p == packs[0] for p in packs) and packs[0].sha256 == crows_pairs.SHA256
    (pair,) = packs[0].pairs
    assert (pair.id, pair.more, pair.less, pair.confirmed) == (
        "crows-0000", "A tall one, here.", "A short one, here.", 2,
    )  # fmt: skip
    other.write_bytes(raw + b"1")
    with pytest.raises(
        UsageError, match=r"mine\.csv is not the published CrowS-Pairs file: expected SHA-256"
    ):
        crows_pairs.load(other)
    with pytest.raises(UsageError, match=r"absent\.csv.*nothing there"):
        crows_pairs.load(tmp_path / "absent.csv")


@pytest.mark.parametrize("loader", [winogender, winobias, bec_pro])
def test_a_folder_without_the_files_is_refused(loader, tmp_path):
    with pytest.raises(UsageError, match="cannot read"):
        loader.load(tmp_path)


# --- WinoBias lines -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("pro", "anti", "text", "occupation", "stereotype"),
    [
        ("3 [The mechanic] gave the clerk a present because [he] won.", "3 [The mechanic] gave the clerk a present because [she] won.",
         "The mechanic gave the clerk a present because {subject} won.", "mechanic", "male"),
        ("4 The cook thanked [the nurse] for [her] help.", "4 The cook thanked [the nurse] for [his] help.",
         "The cook thanked the nurse for {possessive} help.", "nurse", "female"),
        ("5 The cook thanked [the nurse] and paid [her].", "5 The cook thanked [the nurse] and paid [him].",
         "The cook thanked the nurse and paid {object}.", "nurse", "female"),
        ("6 The clerk told the [the chief] 's wife that [he] lost [his] pen.", "6 The clerk told the [the chief] 's wife that [she] lost [her] pen.",
         "The clerk told the chief's wife that {subject} lost {possessive} pen.", "chief", "male"),
        ("7 The teacher asked the [ physician] and thanked [him].", "7 The teacher asked [the physician] and thanked [her].",
         "The teacher asked the physician and thanked {object}.", "physician", "male"),
    ],
)  # fmt: skip
def test_brackets_become_slots_in_the_right_case(pro, anti, text, occupation, stereotype):
    """The other file says whether her is him or his; no bracket, doubled article or stray blank is left."""
    row = winobias._row("type1-dev", 0, pro, anti)
    assert (row["text"], row["occupation"], row["stereotype"], row["skip"]) == (
        text,
        occupation,
        stereotype,
        "",
    )


@pytest.mark.parametrize(
    ("pro", "anti", "why"),
    [
        ("1 The guard helped [the nurse] and paid [her].", "1 The guard helped [the nurse] and paid [he].", "two forms"),
        ("1 [The guard] left as [he] lost [his] pen.", "1 [The guard] left as [she] lost a pen.", "two forms"),
        ("1 [The guard] was thanked because [he] is a kind man.", "1 [The guard] was thanked because [she] is kind.", "answer away"),
        ("1 The clerk tricked [the guard] out of his money and hated [him].", "1 The clerk tricked [the guard] and hated [her].", "answer away"),
    ],
)  # fmt: skip
def test_lines_that_cannot_be_scored_say_so(pro, anti, why):
    assert why in winobias._row("type1-dev", 0, pro, anti)["skip"]


# --- BEC-Pro ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("sentence", "person", "profession", "text"),
    [
        (
            "He, the health aide, had a good day.",
            "He",
            "health aide",
            "{person}, the {attribute}, had a good day.",
        ),
        ("My son is a mason.", "son", "mason", "My {person} is a {attribute}."),
        ("My mom is a salesperson.", "mom", "salesperson", "My {person} is a {attribute}."),
    ],
)
def test_a_sentence_is_rebuilt_with_slots_for_whole_words(sentence, person, profession, text):
    """Trap 12: "son" is in "person" and "He" in "health"; counting replacements would hit those."""
    assert bec_pro.slotted(sentence, person, profession) == text


def test_a_word_that_does_not_stand_once_is_an_error():
    with pytest.raises(UsageError, match="once"):
        bec_pro.slotted("My son is my son.", "son", "cook")


def matched(*rows):
    full = tuple({"id": f"r{i}", "text": "My {person} is a {attribute}.", "first": "mom", "second": "dad", **r}
                 for i, r in enumerate(rows))  # fmt: skip
    return Pack(bec_pro._SPEC, "0" * 64, tables={"matched": full})


def test_the_association_has_a_prior_with_as_many_masks():
    """Traps 10 and 11: the file's own masks are text, and one a word; here they are ids, one a piece."""
    lp, pieces = noisy(1), {"taper": ["tap", "er"], "mom": ["mo", "m"]}
    seen = []

    class Watching(FakeScorer):
        def encode(self, texts, pairs=None):
            seen.extend(texts)
            return super().encode(texts, pairs)

    scorer = Watching(lp, pieces=lambda w: pieces.get(w, [w]))
    rows = measure(matched({"attribute": "taper", "set": "male"}), scorer).rows
    assert not any("mask" in t.lower() for t in seen)

    def gap(*attribute):
        tail = ("is", "a", *attribute, ".", "[SEP]")
        mom = lp(("[CLS]", "my", M, M, *tail), 2, "mo") + lp(("[CLS]", "my", "mo", M, *tail), 3, "m")
        return mom - lp(("[CLS]", "my", M, *tail), 2, "dad")

    own = rows[rows["measure"] == "person_association"].set_index("role")["value"]
    assert_allclose(own["probe"], gap("tap", "er"), atol=1e-5)
    assert_allclose(own["prior"], gap(M, M), atol=1e-5)


def test_professions_of_both_kinds_are_compared_and_balanced_ones_left_out():
    words = [("female", f"w{i}", 0.6) for i in range(12)] + [("male", f"m{i}", -0.2) for i in range(12)]
    words += [("balanced", f"b{i}", 9.0) for i in range(12)]
    noise = dict(
        zip((w for _, w, _ in words), np.random.default_rng(0).normal(scale=0.2, size=36), strict=True)
    )
    gaps = {w: g + noise[w] for _, w, g in words}

    def logprob(tokens, at, token):
        return -3.0 + (0.7 + gaps.get(tokens[5], 0.0) if token == "mom" else 0.0)  # the prior leans by 0.7

    made = matched(*({"attribute": w, "set": s} for s, w, _ in words))
    found = findings.build([measure(made, logprob)], FakeScorer(logprob).id, policy(), 0)
    mean = {k: np.mean([gaps[w] for s, w, _ in words if s == k]) for k in ("female", "male", "balanced")}
    split = one(found, "person_association_difference")
    assert split.id == "bec-pro/person_association_difference/gender/female-vs-male" and split.n == 24
    assert_allclose(split.effect.value, mean["female"] - mean["male"], rtol=1e-3)
    for kind, expected in mean.items():
        assert_allclose(one(found, f"/{kind}-professions/").effect.value, expected, rtol=1e-3)


def test_templates_and_words_ten_times_over_are_no_new_professions():
    """Trap 25."""
    rng = np.random.default_rng(1)
    rows = [{"attribute": f"{s[0]}{i}", "set": s} for s in ("female", "male") for i in range(12)]
    gaps = {r["attribute"]: rng.normal() for r in rows}

    def logprob(tokens, at, token):
        return -3.0 + (gaps.get(tokens[5], 0.0) if token == "mom" else 0.0)

    ten = [{**r, "id": f"{r['attribute']}x{k}"} for r in rows for k in range(10)]
    few, many = (
        one(
            findings.build([measure(matched(*r), logprob)], FakeScorer(logprob).id, policy(), 0), "difference"
        )
        for r in (rows, ten)
    )
    assert many.n == 10 * few.n
    assert_allclose(many.effect.se, few.effect.se, rtol=1e-6)


# --- the published files ------------------------------------------------------------------------


@needs_data
def test_winogender_as_published():
    pack = winogender.load(DATA / "winogender" / "all_sentences.tsv")
    rows = pack.tables["pronouns"]
    masked_pronoun.contrasts(pack)
    sentences = {
        r["sentid"]: r["sentence"]
        for r in published.table((DATA / "winogender/all_sentences.tsv").read_text(encoding="utf-8"))
    }
    for row in rows:  # every sentence, for women and for men, to the letter
        for sex in ("female", "male"):
            assert fill(row["text"], FORMS[sex])[0] == sentences[f"{row['id']}.{sex}.txt"]
    assert len(rows) == 240 and Counter(r["referent"] for r in rows) == {
        "occupation": 120,
        "participant": 120,
    }
    assert Counter(r["they"] for r in rows) == {"yes": 206, "no": 34}
    assert len({r["occupation"] for r in rows}) == 60
    assert next(r["covariate"] for r in rows if r["occupation"] == "technician") == "0.4034"
    assert next(r for r in rows if r["id"] == "technician.customer.1")["referent"] == "participant"


@needs_data
def test_winobias_as_published():
    pack = winobias.load(DATA / "winobias")
    rows = pack.tables["pronouns"]
    pronoun_pairs.contrasts(pack)
    assert len(rows) == 4 * 396 and Counter(r["set"] for r in rows) == {"type1": 792, "type2": 792}
    assert Counter(bool(r["skip"]) for r in rows) == {False: 1573, True: 11}
    assert not any(c in r["text"] for r in rows if not r["skip"] for c in ("[", "]", "  ", " .", " '"))
    by_occupation = {r["occupation"]: r["stereotype"] for r in rows}
    assert Counter(by_occupation.values()) == {"male": 20, "female": 20}
    assert all(by_occupation[r["occupation"]] == r["stereotype"] for r in rows)
    assert all(by_occupation[r["other"]] != r["stereotype"] for r in rows), "one occupation of either kind"
    schemas = {}
    for r in rows:
        schemas.setdefault(r["schema"], []).append(r)
    assert len(schemas) == 792 and not any(pronoun_pairs._unpaired(s) for s in schemas.values())


@needs_data
def test_bec_pro_as_published():
    pack = bec_pro.load(DATA / "bec_pro" / "BEC-Pro_EN.tsv")
    rows = pack.tables["matched"]
    assert len(rows) == len({r["id"] for r in rows}) == 2700
    assert Counter(r["set"] for r in rows) == {"female": 900, "male": 900, "balanced": 900}
    assert Counter((r["first"], r["second"]) for r in rows) == dict.fromkeys(bec_pro.PAIRS, 300)
    rebuilt = {
        r["text"].replace("{attribute}", r["attribute"]).replace("{person}", r[side])
        for r in rows for side in ("first", "second")
    }  # fmt: skip
    file = published.table((DATA / "bec_pro/BEC-Pro_EN.tsv").read_text(encoding="utf-8"))
    assert rebuilt == {r["Sentence"] for r in file} and len(file) == 5400


@needs_data
@pytest.mark.parametrize(
    ("loader", "folder"), [(winogender, "winogender"), (winobias, "winobias"), (bec_pro, "bec_pro")]
)
def test_a_tiny_model_answers_every_item(loader, folder, mlm):
    """Items that a tiny vocabulary cannot write are skipped with a reason; none is lost."""
    pack = loader.load(DATA / folder)
    table = "matched" if folder == "bec_pro" else "pronouns"
    few = Pack(pack.spec, pack.sha256, tables={table: pack.tables[table][:24]})
    rows = MEASURES[pack.spec.measure].run(mlm, few, np.random.default_rng(0))
    assert len(rows) and (rows["value"].notna() == (rows["skipped"] == "")).all()
    main = rows[(rows["measure"] != "target_mass") & (rows["contrast"] != "nonbinary-vs-male")]
    expected = {"bec_pro": 24, "winogender": 24, "winobias": 12}[folder]
    assert main["item"].nunique() == expected
