"""The loaders of BBQ and CBBQ: who is stereotyped is read, never guessed; what is odd is skipped and counted."""

from __future__ import annotations

import csv
import hashlib
import io
import json

import numpy as np
import pytest

from albert_audit.bias.benchmarks import bbq
from albert_audit.bias.choices import choice_bias, questions
from albert_audit.findings import build, checks
from albert_audit.model.cache import FakeScorer
from albert_audit.types import Head, Status, UsageError
from tests.fakes import measure, one, policy


def item(number=0, *, index="1", polarity="neg", condition="ambig", category="Age", answers=None, groups=("old",),
         label=2, **changes):  # fmt: skip
    """One line in the shape of BBQ's files, of words of our own."""
    answers = answers or (("The old baker", "old baker", "old"), ("The young baker", "young baker", "nonOld"),
                          ("Unknown", "unknown", "unknown"))  # fmt: skip
    return {
        "example_id": number, "question_index": index, "question_polarity": polarity,
        "context_condition": condition, "category": category,
        "answer_info": {f"ans{i}": [text, kind] for i, (_, text, kind) in enumerate(answers)},
        "additional_metadata": {"subcategory": "None", "stereotyped_groups": list(groups), "version": "a"},
        "context": "An old baker and a young baker met.", "question": "Who was late?",
        **{f"ans{i}": whole for i, (whole, _, _) in enumerate(answers)}, "label": label, **changes,
    }  # fmt: skip


def write(path, items):
    path.write_text("".join(json.dumps(i) + "\n" for i in items), encoding="utf-8")
    return path


def rows_of(tmp_path, *items):
    return bbq.load(write(tmp_path / "Age.jsonl", items)).tables["questions"]


# --- BBQ ------------------------------------------------------------------------------------------


def test_an_item_of_bbq(tmp_path):
    path = write(tmp_path / "Age.jsonl", [item(7), item(8, condition="disambig", polarity="nonneg", label=1)])
    pack = bbq.load(path)
    a, b = pack.tables["questions"]
    assert {k: a[k] for k in ("id", "template", "axis", "condition", "polarity", "first", "second", "unknown",
                              "stereotyped", "answer", "unusable", "first_mention")} == {
        "id": "age-ambiguous-7", "template": "age-1", "axis": "age", "condition": "ambiguous",
        "polarity": "negative", "first": "The old baker", "second": "The young baker", "unknown": "Unknown",
        "stereotyped": "first", "answer": "unknown", "unusable": "", "first_mention": "old baker",
    }  # fmt: skip
    assert (b["condition"], b["polarity"], b["answer"]) == ("disambiguated", "nonnegative", "second")
    assert pack.sha256 == hashlib.sha256(path.read_bytes()).hexdigest() and pack.name == bbq.NAME
    assert pack.spec.licence == "CC-BY-4.0" and pack.language == "en"
    assert set(pack.spec.may_gate) == {Head.QUESTION_ANSWERING, Head.MULTIPLE_CHOICE}


@pytest.mark.parametrize(
    ("groups", "kinds", "texts", "hit"),
    [
        (["old"], ["old", "nonOld"], ["a", "b"], "first"),  # not the "old" inside "nonOld"
        (["nonOld"], ["old", "nonOld"], ["a", "b"], "second"),
        (["F"], ["woman", "man"], ["a", "b"], "first"),
        (["Women"], ["M", "F"], ["a", "b"], "second"),
        (["man"], ["M", "F"], ["a", "b"], "first"),
        (["Transgender women", "trans"], ["trans_F", "nonTrans_F"], ["a", "b"], "first"),
        (["low SES"], ["highSES", "lowSES"], ["a", "b"], "second"),
        (["Black", "African American"], ["F-Black", "F-White"], ["a", "b"], "first"),
        (["African American"], ["African", "African American"], ["a", "b"], "second"),
        (["disabled", "D/deaf"], ["nonDisabled", "disabled"], ["a", "b"], "second"),
        (["Nigerian", "Kenyan"], ["Africa", "Europe"], ["Kenyan", "Dutch"], "first"),  # named by the text
        (["British"], ["Europe", "Europe"], ["Irish", "British"], "second"),
        (["Nigerian", "Kenyan"], ["Africa", "Africa"], ["Kenyan", "Nigerian"], ""),  # both
        (["Black"], ["M-Black", "F-Black"], ["a", "b"], ""),
        (["gay"], ["bisexual", "lesbian"], ["a", "b"], ""),  # neither
        ([], ["old", "nonOld"], ["a", "b"], ""),
    ],
)
def test_the_stereotyped_person_is_told_by_groups(tmp_path, groups, kinds, texts, hit):
    answers = [("X", texts[0], kinds[0]), ("Y", texts[1], kinds[1]), ("Unknown", "unknown", "unknown")]
    (row,) = rows_of(tmp_path, item(groups=groups, answers=answers))
    assert row["stereotyped"] == hit and row["unusable"] == ("" if hit else bbq.UNCLEAR)


@pytest.mark.parametrize("place", range(3))
def test_the_place_of_the_answers_does_not_matter(tmp_path, place):
    old, young, unknown = (("The old baker", "old baker", "old"), ("The young baker", "young baker", "nonOld"),
                           ("Not known", "Not known", "Unknown"))  # fmt: skip
    answers = [young, old]
    answers.insert(place, unknown)
    label = answers.index(young)
    (row,) = rows_of(tmp_path, item(answers=answers, label=label, condition="disambig"))
    assert row[row["stereotyped"]] == "The old baker" and row[row["answer"]] == "The young baker"
    assert row["unknown"] == "Not known"


def test_proper_names_are_an_axis_of_their_own(tmp_path):
    rows = rows_of(tmp_path, item(0, index="25"), item(1, index="26"), item(2, index="x"))
    assert [r["axis"] for r in rows] == ["age", "age-names", "age"]


def test_what_cannot_be_asked_stays_and_is_counted(tmp_path):
    """Trap 18: it becomes a skipped row, and more than a tenth of them speak for nothing."""
    odd = [item(90, groups=["nobody"]), item(91, label=0), item(92, condition="disambig", label=2)]
    good = [item(i, index=str(i), polarity=p) for i in range(12) for p in ("neg", "nonneg")]
    pack = bbq.load(write(tmp_path / "Age.jsonl", [*good, *odd]))
    assert {r["unusable"] for r in pack.tables["questions"]} == {
        "", bbq.UNCLEAR, "its label contradicts its condition",
    }  # fmt: skip
    scorer = FakeScorer(answers={"choice": lambda t: [0.3 * len(t)]}, head=Head.MULTIPLE_CHOICE)
    done = measure(pack, scorer)
    assert len(done.rows) == 2 * len(pack.tables["questions"])
    finding = one(build([done], scorer.id, policy(), 0), "/choice_margin/")
    assert (finding.n, finding.n_skipped) == (24, 2) and finding.id in checks(pack, Head.MULTIPLE_CHOICE)


def test_an_extractive_model_marks_what_names_the_person(tmp_path):
    """ "a slim one": the whole answer is not in the text, the word that names the person is."""
    answers = [
        ("The slim guy", "slim", "nonObese"),
        ("The big guy", "big", "obese"),
        ("Unknown", "unknown", "unknown"),
    ]
    context = "I saw a big guy and a slim one."
    pack = bbq.load(write(tmp_path / "x.jsonl", [item(answers=answers, groups=["obese"], context=context)]))

    def logits(tokens):
        out = np.zeros((len(tokens), 2))
        out[tokens.index("slim"), 0] = out[tokens.index("one"), 1] = 5.0
        return out

    scorer = FakeScorer(answers={"spans": logits}, head=Head.QUESTION_ANSWERING)
    (reply,) = questions.ask(scorer, pack)
    assert reply.said == "first" and reply.skipped == ""


def test_a_folder_is_all_its_files(tmp_path):
    (tmp_path / "data").mkdir()
    write(tmp_path / "data" / "Age.jsonl", [item(0), item(1)])
    write(tmp_path / "data" / "Religion.jsonl", [item(0, category="Religion")])
    (tmp_path / "data" / "README.md").write_text("no data")
    pack = bbq.load(tmp_path / "data")
    assert [r["id"] for r in pack.tables["questions"]] == [
        "age-ambiguous-0",
        "age-ambiguous-1",
        "religion-ambiguous-0",
    ]
    assert {a for a, _ in choice_bias.contrasts(pack)} == {"all", "age", "religion"}
    again = bbq.load(tmp_path / "data").sha256
    write(tmp_path / "data" / "Religion.jsonl", [item(1, category="Religion")])
    assert pack.sha256 == again != bbq.load(tmp_path / "data").sha256
    twice = [item(0), item(0, question="Who was early?")]
    assert len({r["id"] for r in bbq.load(write(tmp_path / "a.jsonl", twice)).tables["questions"]}) == 2


def test_the_title_says_what_was_read_and_that_nobody_compared_it(tmp_path):
    """A cut or edited file is read like any other, so that no title may say "as published"."""
    one = bbq.load(write(tmp_path / "Age.jsonl", [item(i) for i in range(3)]))
    assert one.spec.title == "BBQ: 3 items of 1 file, not compared with the published"
    write(tmp_path / "Religion.jsonl", [item(0, category="Religion")])
    assert bbq.load(tmp_path).spec.title == "BBQ: 4 items of 2 files, not compared with the published"
    pack = bbq.load_cbbq(cbbq(tmp_path / "ambiguous.json", entry(4)))
    assert pack.spec.title == "CBBQ: 1 item of 1 file, not compared with the published"


def test_an_item_that_stands_twice_is_refused_also_across_files(tmp_path):
    with pytest.raises(UsageError, match=r"Age\.jsonl:3: the same item as Age\.jsonl:1"):
        bbq.load(write(tmp_path / "Age.jsonl", [item(0), item(1), item(0)]))
    write(tmp_path / "Age.jsonl", [item(0)])
    write(tmp_path / "More.jsonl", [item(0)])
    with pytest.raises(UsageError, match=r"More\.jsonl:1: the same item as Age\.jsonl:1"):
        bbq.load(tmp_path)
    with pytest.raises(UsageError, match="item 2: the same item as"):
        bbq.load_cbbq(cbbq(tmp_path / "ambiguous.json", entry(4), entry(4)))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "holds no item"),
        ("{", "Age.jsonl:1 is not JSON"),
        ("[1]", "expected an item with named fields"),
        (
            json.dumps({k: v for k, v in item().items() if k != "label"}),
            "Age.jsonl:1: the field 'label' is missing",
        ),
        (json.dumps(item(label=3)), "label: expected 0, 1 or 2, found 3"),
        (json.dumps(item(polarity="bad")), "question_polarity: expected neg or nonneg"),
        (json.dumps(item(condition="x")), "context_condition: expected ambig or disambig"),
        (json.dumps(item(answer_info={"ans0": ["a", "b"]})), "answer_info"),
        (
            json.dumps(item(answers=[("a", "a", "x"), ("b", "b", "y"), ("c", "c", "z")])),
            "the group 'unknown'",
        ),
        (json.dumps(item(context="")), "the field 'context' is missing"),
        (json.dumps(item(question="  ")), "the field 'question' is missing or blank"),
        (json.dumps(item(context=None)), "the field 'context' is missing or blank"),
        (json.dumps(item(context=["x"])), "context: expected a text or a number, found a list"),
        (json.dumps(item(label=True)), "label: expected a text or a number, found true"),
        (json.dumps(item(question="Who is [MASK]?")), "question: holds [mask], a token of the model"),
        (json.dumps(item(ans1="The <unk>")), "ans1: holds <unk>"),
        (
            json.dumps(item(answers=[("a", None, "x"), ("b", "b", "y"), ("c", "c", "unknown")])),
            "answer_info: expected a text and a group",
        ),
        (json.dumps(item(groups=[None])), "stereotyped_groups"),
        (b"\xff\xfe", "not UTF-8"),
    ],
)
def test_a_file_that_is_none_is_refused(tmp_path, text, said):
    path = tmp_path / "Age.jsonl"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(UsageError) as caught:
        bbq.load(path)
    assert said in caught.value.message and caught.value.hint


@pytest.mark.parametrize("load", [bbq.load, bbq.load_cbbq])
def test_a_path_that_leads_nowhere_is_refused(tmp_path, load):
    with pytest.raises(UsageError, match="cannot read"):
        load(tmp_path / "absent.jsonl")
    with pytest.raises(UsageError, match=r"holds no C?BBQ data"):
        load(tmp_path)


# --- CBBQ -----------------------------------------------------------------------------------------


def entry(number=1, *, polarity="neg", condition="ambiguous", category="region", target="北城人", answers=("北城人", "南城人"),
          label="2", **changes):  # fmt: skip
    """One entry in the shape of CBBQ's files, with the mark that its first key starts with."""
    return {
        "\ufeffexample_id": str(number), "question_index": "1", "question_polarity": polarity,
        "context_condition": condition, "category": category, "subcategory": "x", "bias_targeted_groups": target,
        "source": "x", "context": f"一个{answers[0]}和一个{answers[1]}来了。", "question": f"谁{polarity}？",
        "ans0": answers[0], "ans1": answers[1], "ans2": "不知道", "label": label, **changes,
    }  # fmt: skip


def cbbq(path, *entries):
    path.write_text(json.dumps(entries, ensure_ascii=False), encoding="utf-8")
    return path


def told(pack):
    return [(r["stereotyped"], r["unusable"]) for r in pack.tables["questions"]]


def test_an_entry_of_cbbq_with_a_mark_in_its_key(tmp_path):
    pack = bbq.load_cbbq(cbbq(tmp_path / "ambiguous.json", entry(4), entry(5, polarity="non_neg")))
    a, b = pack.tables["questions"]
    assert (a["id"], a["stereotyped"], a["polarity"], a["answer"]) == (
        "region-ambiguous-4", "first", "negative", "unknown",
    )  # fmt: skip
    assert b["polarity"] == "nonnegative" and pack.name == bbq.NAME_ZH and pack.language == "zh"
    assert pack.spec.licence == "CC-BY-SA-4.0"


def test_csv_is_read_as_json_is(tmp_path):
    entries = [entry(4), entry(5, answers=("南城人", "北城人"))]
    buffer = io.StringIO()
    writer = csv.DictWriter(buffer, [k.strip("\ufeff") for k in entries[0]])
    writer.writeheader()
    writer.writerows({k.strip("\ufeff"): v for k, v in e.items()} for e in entries)
    (tmp_path / "ambiguous.csv").write_text("\ufeff" + buffer.getvalue(), encoding="utf-8")
    a = bbq.load_cbbq(tmp_path / "ambiguous.csv")
    b = bbq.load_cbbq(cbbq(tmp_path / "ambiguous.json", *entries))
    assert a.tables == b.tables and told(a) == [("first", ""), ("second", "")] and a.sha256 != b.sha256


AGES = {"category": "age", "target": "老龄人", "answers": ("20岁的人", "60岁的人")}


def test_facts_against_the_stereotype_tell_whom_it_names(tmp_path):
    """Where no answer holds the group's name: negative and 0 is right, so the stereotype names 1."""
    for kind in ("ambiguous", "disambiguous"):
        (tmp_path / kind).mkdir()
    cbbq(tmp_path / "ambiguous" / "ambiguous.json", entry(1, **AGES), entry(2, polarity="non_neg", **AGES))
    assert [u for _, u in told(bbq.load_cbbq(tmp_path))] == [bbq.UNCLEAR] * 2
    facts = [entry(1, condition="disambiguous", label="0", **AGES),
             entry(2, condition="disambiguous", label="1", polarity="non_neg", **AGES)]  # fmt: skip
    cbbq(tmp_path / "disambiguous" / "disambiguous.json", *facts)
    pack = bbq.load_cbbq(tmp_path)
    assert told(pack) == [("second", "")] * 4
    # Always right would be -1 here: there is no score of the disambiguated ones.
    assert [s.name for s in choice_bias.statistics(pack)] == ["choice_margin", "choice_bias_ambiguous"]


def test_facts_that_disagree_tell_nothing(tmp_path):
    two = [
        entry(1, condition="disambiguous", label="0", **AGES),
        entry(2, condition="disambiguous", label="1", **AGES),
    ]
    pack = bbq.load_cbbq(cbbq(tmp_path / "disambiguous.json", *two, entry(3, **AGES)))
    assert told(pack) == [("", bbq.UNCLEAR)] * 3
    # Nor do they where an answer that holds its group's name says otherwise.
    named = entry(4, **{**AGES, "answers": ("老龄人", "60岁的人")})
    pack = bbq.load_cbbq(cbbq(tmp_path / "disambiguous.json", two[0], named))
    assert told(pack) == [("", bbq.UNCLEAR), ("first", "")]


def test_a_question_with_two_polarities_is_not_asked(tmp_path):
    """The published file of one category marks every ambiguous question as negative."""
    facts = entry(1, condition="disambiguous", label="0", polarity="non_neg", question="谁好？")
    wrong = entry(2, polarity="neg", question="谁好？")
    pack = bbq.load_cbbq(cbbq(tmp_path / "disambiguous.json", facts, wrong, entry(3, question="谁差？")))
    assert [bool(u) for _, u in told(pack)] == [False, True, False]
    assert "polarity contradicts" in told(pack)[1][1]


@pytest.mark.parametrize(
    ("text", "said"),
    [("{", "neither JSON nor CSV"), ('{"a": 1}', "expected a list of items, found an object"), ("[]", "holds no item"),
     ("[3]", "item 1: expected an item"), ('[{"example_id": "1"}]', "the field 'question_index' is missing")],
)  # fmt: skip
def test_an_entry_that_is_none_is_refused(tmp_path, text, said):
    path = tmp_path / "ambiguous.json"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(UsageError) as caught:
        bbq.load_cbbq(path)
    assert said in caught.value.message
    assert not any(word in caught.value.message for word in ("Expecting", "dict", "char ")), "words of Python"


def test_the_status_of_a_benchmark_without_its_floor(tmp_path):
    pack = bbq.load(write(tmp_path / "Age.jsonl", [item(i, index=str(i)) for i in range(12)]))
    scorer = FakeScorer(answers={"choice": lambda t: [0.1 * len(t)]}, head=Head.MULTIPLE_CHOICE)
    findings = build([measure(pack, scorer)], scorer.id, policy(), 0)
    assert {f.status for f in findings} == {Status.INVALID}
    assert all("choice-floor-en" in f.reason for f in findings)
