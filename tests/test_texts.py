"""The auditor's own texts: every format gives the same, nothing is dropped, nothing is run."""

from __future__ import annotations

import csv
import hashlib
import json
import os
import pickle
import re

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given as draw
from hypothesis import strategies as st

from albert_audit import texts
from albert_audit.config import Texts
from albert_audit.packs import Given, Text
from albert_audit.types import Decision, UsageError

ROWS = [
    {"name": "r1", "body": 'She said "good".', "right": "1", "Gender": "Female", "age group": "old"},
    {"name": "r2", "body": "Two\nlines, one text.", "right": "0", "Gender": "Male", "age group": "young"},
    {"name": "r3", "body": "好电影", "right": "", "Gender": "Non-binary", "age group": ""},
    {"name": "r4", "body": "Fine.", "right": "1", "Gender": "Male", "age group": "old"},
]
TWO = Decision(labels=("negative", "positive"), positive=1)
STARS = Decision(labels=("1", "2", "3", "4", "5"), positive=4)
SEVERAL = Decision(labels=("rude", "threat", "slur"), kind="multi", positive=0)


def columns(path, **changes):
    base = {"text": "body", "id": "name", "label": "right", "groups": ("Gender", "age group")}
    return Texts(path=str(path), **(base | changes))


def write(folder, kind, rows=ROWS):
    header = list(rows[0])
    if kind in ("csv", "tsv", "bom.csv"):
        mark = "\t" if kind == "tsv" else ","
        cells = [header, *([r[c] for c in header] for r in rows)]
        lines = [mark.join('"' + c.replace('"', '""') + '"' for c in row) for row in cells]
        path = folder / f"t.{kind}"
        path.write_text("\n".join(lines) + "\n", encoding="utf-8-sig" if kind == "bom.csv" else "utf-8")
    elif kind == "jsonl":
        path = folder / "t.jsonl"
        records = [
            {k: (None if v == "" else int(v) if k == "right" else v) for k, v in r.items()} for r in rows
        ]
        path.write_text("\n".join(json.dumps(r) for r in records), encoding="utf-8")
    else:
        table = pa.table(
            {c: [(int(r[c]) if c == "right" else r[c]) if r[c] else None for r in rows] for c in header}
            | {"picture": [{"bytes": b"x"}] * len(rows)}  # a column that nobody asked for
        )
        if kind == "parquet":
            path = folder / "t.parquet"
            pq.write_table(table, path)
        else:
            path = folder / "saved"
            path.mkdir()
            names = ["data-00000-of-00002.arrow", "data-00001-of-00002.arrow"]
            for name, part in zip(names, (table.slice(0, 2), table.slice(2)), strict=True):
                with pa.OSFile(str(path / name), "wb") as sink, pa.ipc.new_stream(sink, table.schema) as out:
                    out.write_table(part)
            (path / "state.json").write_text(json.dumps({"_data_files": [{"filename": n} for n in names]}))
            (path / "dataset_info.json").write_text("{}")
    return path


# --- reading ----------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["csv", "bom.csv", "tsv", "jsonl", "parquet", "datasets"])
def test_every_format_gives_the_same(tmp_path, kind):
    found = texts.load(columns(write(tmp_path, kind)))
    assert found.texts == (
        Text("r1", 'She said "good".', "1", (("gender", "female"), ("age-group", "old"))),
        Text("r2", "Two\nlines, one text.", "0", (("gender", "male"), ("age-group", "young"))),
        Text("r3", "好电影", "", (("gender", "non-binary"),)),
        Text("r4", "Fine.", "1", (("gender", "male"), ("age-group", "old"))),
    )
    assert found.axes == ("gender", "age-group") and found.labelled
    assert found.brings == {"texts", "labels", "groups"}


def test_the_hash_is_of_the_bytes(tmp_path):
    path = write(tmp_path, "csv")
    before = texts.load(columns(path)).sha256
    assert before == hashlib.sha256(path.read_bytes()).hexdigest()
    folder = write(tmp_path, "datasets")
    saved = texts.load(columns(folder)).sha256
    last = folder / "data-00001-of-00002.arrow"
    table = pa.ipc.open_stream(last.read_bytes()).read_all()
    changed = table.set_column(1, "body", pa.array(["好电影", "Bad."]))
    with pa.OSFile(str(last), "wb") as sink, pa.ipc.new_stream(sink, changed.schema) as out:
        out.write_table(changed)
    assert texts.load(columns(folder)).sha256 != saved


def test_without_an_id_column_rows_are_numbered_from_one(tmp_path):
    found = texts.load(columns(write(tmp_path, "csv"), id="", label="", groups=(), language="zh-Hans"))
    assert [t.id for t in found.texts] == ["1", "2", "3", "4"]
    assert (found.labelled, found.axes, found.language) == (False, (), "zh")
    assert found.brings == {"texts"}


def test_numbers_and_dates_stay_as_they_are(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text("text,id\n2024-01-02,007\n1e5,1.50\nNA,x\n", encoding="utf-8")
    found = texts.load(Texts(path=str(path), id="id"))
    assert [(t.id, t.text) for t in found.texts] == [("007", "2024-01-02"), ("1.50", "1e5"), ("x", "NA")]


def test_an_empty_text_in_a_file_of_one_column_is_no_blank_line(tmp_path):
    """It was passed over, and all ids after it belonged to other texts."""
    path = tmp_path / "t.csv"
    for end in ("\n", "\r\n"):
        path.write_bytes(end.join(["text", "one", "", "two", "", "three", ""]).encode())
        refused(path, r"2 of 5 texts are empty \(row 2, 4", text="text", id="", label="", groups=())
        path.write_bytes(end.join(["", "text", "one", "two", "", "", ""]).encode())
        found = texts.load(Texts(path=str(path)))
        assert [(t.id, t.text) for t in found.texts] == [("1", "one"), ("2", "two")]


def test_a_blank_line_between_rows_is_named(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text('text,a\n"two\nlines",1\n\nx,2\n', encoding="utf-8")
    refused(path, "line 4 is blank", text="text", id="", label="", groups=())
    path.write_text("text,a\nx,2\n\n\n", encoding="utf-8")
    assert len(texts.load(Texts(path=str(path))).texts) == 1


@pytest.mark.parametrize("kind", ["csv", "tsv"])
def test_a_long_text_is_read(tmp_path, kind):
    before = csv.field_size_limit()
    path = write(tmp_path, kind, [{**ROWS[0], "body": "word " * 60_000}, *ROWS[1:]])
    assert len(texts.load(columns(path)).texts[0].text) == 300_000
    assert csv.field_size_limit() == before
    (tmp_path / "open.csv").write_text('text\n"' + "x" * 200_000, encoding="utf-8")
    refused(tmp_path / "open.csv", "line 2", text="text", id="", label="", groups=())
    assert csv.field_size_limit() == before


@pytest.mark.parametrize("word", ["nan", "NaN", "<NA>", "NaT", "NULL", "null", " nan "])
def test_what_programs_write_for_nothing_is_no_text_and_no_group(tmp_path, word):
    value = refused(
        write(tmp_path, "csv", [ROWS[0], {**ROWS[1], "body": word}, *ROWS[2:]]), r"nothing but .*\(row 2\)"
    )
    assert "full stop" in value.hint
    value = refused(
        write(tmp_path, "csv", [*ROWS, {**ROWS[0], "name": "x", "Gender": word}]), "a group of 'Gender'"
    )
    assert "leave the cell empty" in value.hint


def test_what_people_write_for_nothing_may_be_meant(tmp_path):
    """ "NA" is a country and "none" a belief; Python's None is neither."""
    rows = [
        {**ROWS[0], "name": f"r{k}", "body": w, "Gender": w}
        for k, w in enumerate(("NA", "none", "Nan", "N/A"))
    ]
    found = texts.load(columns(write(tmp_path, "csv", rows), groups=("Gender",)))
    assert [dict(t.groups)["gender"] for t in found.texts] == ["na", "none", "nan", "n-a"]
    assert [texts.may_be_nothing(t.text) for t in found.texts] == [True, True, False, True]
    refused(write(tmp_path, "csv", [*ROWS, {**ROWS[0], "name": "x", "Gender": "None"}]), "called 'None'")


def test_no_row_is_left_out(tmp_path):
    rows = [{**ROWS[0], "name": f"i{k}", "right": "" if k % 3 else "1", "Gender": "" if k % 4 else "fm"[k % 8 > 3]}
            for k in range(40)]  # fmt: skip
    found = texts.load(columns(write(tmp_path, "csv", rows), groups=("Gender",)))
    assert len(found.texts) == 40
    assert sum(not t.label for t in found.texts) == sum(k % 3 > 0 for k in range(40))
    assert sum(not t.groups for t in found.texts) == sum(k % 4 > 0 for k in range(40))


# --- refusals ---------------------------------------------------------------------------------


def refused(path, match, **changes):
    with pytest.raises(UsageError, match=match) as caught:
        texts.load(columns(path, **changes))
    return caught.value


def test_a_missing_column_is_named_with_the_nearest(tmp_path):
    path = write(tmp_path, "csv")
    error = refused(path, "no column 'gender'; did you mean 'Gender'", groups=("gender",))
    assert "name, body, right, Gender, age group" in error.hint
    refused(path, "no column 'text'", text="text")
    refused(path, "'right' is named for two things", groups=("right",))
    refused(path, "'body' is named for two things", id="body")


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"body": " "}, r"1 of 4 texts are empty \(row 3"),
        ({"name": "r1"}, "1 ids stand more than once, the first in row 1"),
        ({"name": " "}, "row 3 has no id"),
        ({"Gender": "female"}, "'Female' and 'female' of 'Gender' would have one name, 'female'"),
        ({"Gender": "a vs b"}, "a group cannot be called 'a vs b'"),
        ({"Gender": "a x b"}, "a group cannot be called 'a x b'"),
    ],
)
def test_what_is_wrong_in_a_row(tmp_path, change, match):
    refused(write(tmp_path, "csv", [*ROWS[:2], {**ROWS[2], **change}, ROWS[3]]), match)


def test_columns_that_are_no_groups(tmp_path):
    one = [{**r, "Gender": "x"} for r in ROWS]
    refused(write(tmp_path, "csv", one), "'Gender' holds 1 group; two are needed")
    many = [{**ROWS[0], "name": f"r{k}", "Gender": f"person {k}"} for k in range(60)]
    refused(write(tmp_path, "csv", many), "holds 60 groups, at most 50")
    renamed = [{("all" if k == "Gender" else k): v for k, v in r.items()} for r in ROWS]
    refused(write(tmp_path, "csv", renamed), "cannot be called 'all'", groups=("all",))
    alike = [{**r, "gender": r["Gender"]} for r in ROWS]
    refused(
        write(tmp_path, "csv", alike),
        "'Gender' and 'gender' would have one name",
        groups=("Gender", "gender"),
    )
    bare = [{**r, "right": ""} for r in ROWS]
    refused(write(tmp_path, "csv", bare), "'right' has no label")


@pytest.mark.parametrize(
    ("name", "content", "match"),
    [
        ("t.csv", b'text\n"open\n', "line"),
        ("t.csv", b"text,a\nx\n", "line 2: expected 2 cells, found 1"),
        ("t.csv", b"text,text\nx,y\n", "'text' is there twice"),
        ("t.csv", b"", "no column 'text'"),
        ("t.csv", b"text\n", "has no rows"),
        ("t.csv", b"text\n\xff\n", "not UTF-8"),
        ("t.jsonl", b"{text}\n", "line 1 is not JSON"),
        ("t.jsonl", b"[1]\n", "line 1: expected an object"),
        ("t.jsonl", b'{"text": ["a", "b"]}\n', "found a list"),
        ("t.parquet", b"PAR1", "not parquet"),
        ("t.xlsx", b"PK", "expected .csv"),
    ],
)
def test_files_that_cannot_be_read(tmp_path, name, content, match):
    (tmp_path / name).write_bytes(content)
    refused(tmp_path / name, match, text="text", id="", label="", groups=())


def test_places_that_are_no_texts(tmp_path):
    refused(tmp_path / "missing.csv", "cannot read the texts")
    refused(tmp_path, "has no state.json")
    (tmp_path / "train").mkdir()
    (tmp_path / "train" / "state.json").write_text("{}")
    (tmp_path / "dataset_dict.json").write_text('{"splits": ["train"]}')
    assert refused(tmp_path, "holds several splits: train").hint.endswith("train")
    refused(tmp_path / "train", "not what datasets writes")
    (tmp_path / "train" / "state.json").write_text('{"_data_files": [{"filename": "../../secret.arrow"}]}')
    refused(tmp_path / "train", "no .arrow file of the folder")


class Spy:
    """Makes a folder when it is unpickled."""

    def __init__(self, folder):
        self.folder = folder

    def __reduce__(self):
        return os.mkdir, (str(self.folder),)


@pytest.mark.parametrize("name", ["t.npy", "t.pkl", "t.pickle", "t.pt", "t.bin"])
def test_what_can_run_code_is_never_opened(tmp_path, name):
    """Trap 30: data that run code when they are read; the last lines are the wrong way."""
    path, ran = tmp_path / name, tmp_path / "ran"
    if name == "t.npy":
        np.save(path, np.array([Spy(ran)], dtype=object), allow_pickle=True)
    else:
        path.write_bytes(pickle.dumps(Spy(ran)))
    refused(path, "can run code")
    assert not ran.exists()
    np.load(path, allow_pickle=True) if name == "t.npy" else pickle.loads(path.read_bytes())
    assert ran.exists()


# --- names ------------------------------------------------------------------------------------


@draw(st.lists(st.text(min_size=1, max_size=60).filter(str.strip), min_size=2, max_size=6, unique=True))
def test_slugs_are_parts_of_a_finding_id(values):
    slugs = [texts._slug(v.strip(), 22) for v in values]
    for slug in slugs:
        assert re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", slug) and len(slug) <= 35


def test_names_in_other_scripts_and_long_ones():
    assert texts._slug("Zoë & Co.", 22) == "zoe-co"
    assert texts._slug("女", 22) == "u5973"
    long = texts._slug("Native Hawaiian or other Pacific Islander", 22)
    assert long.startswith("native-hawaiian") and len(long) <= 22
    assert long != texts._slug("Native Hawaiian or other Pacific Islanders", 22)


# --- labels -----------------------------------------------------------------------------------


def labelled(labels):
    return Given(tuple(Text(str(i), "t", label) for i, label in enumerate(labels)), "0" * 64, labelled=True)


@pytest.mark.parametrize(
    ("decision", "written", "meant"),
    [
        (TWO, ["positive", "negative", ""], ["positive", "negative", ""]),
        (TWO, ["Positive", "NEGATIVE"], ["positive", "negative"]),
        (TWO, ["1", "0", ""], ["positive", "negative", ""]),
        (TWO, ["1.0", "0.0"], ["positive", "negative"]),
        (TWO, ["LABEL_1", "label_0"], ["positive", "negative"]),
        (STARS, ["1", "5"], ["1", "5"]),
        (STARS, ["0", "4"], ["1", "5"]),
        (SEVERAL, ["rude;slur", "none", "", "threat"], ["rude;slur", "none", "", "threat"]),
        (SEVERAL, ["0; 2", "none"], ["rude;slur", "none"]),
    ],
)
def test_labels_in_the_models_words(decision, written, meant):
    found = texts.matched(labelled(written), decision)
    assert [t.label for t in found.texts] == meant
    assert [t.label for t in texts.matched(found, decision).texts] == meant, "twice is once"


@pytest.mark.parametrize(
    ("decision", "written", "wrong"),
    [
        (TWO, ["positive", "1"], "1"),
        (TWO, ["2", "0"], "2"),
        (STARS, ["0", "5"], "0"),  # half names, half indices: 1 to 5 are names, 0 to 4 indices
        (SEVERAL, ["rude;nice"], "nice"),
        (TWO, ["neutral", "positive"], "neutral"),
    ],
)
def test_labels_that_the_model_does_not_have(decision, written, wrong):
    with pytest.raises(UsageError, match=f"the label '{wrong}'") as caught:
        texts.matched(labelled(written), decision)
    assert ", ".join(decision.labels) in caught.value.hint


@pytest.mark.parametrize("written", ["rude;none", "none; slur", "none;none"])
def test_none_stands_alone(written):
    with pytest.raises(UsageError, match=f"the label '{written}' names labels and says that there are none"):
        texts.matched(labelled(["rude", written]), SEVERAL)


def test_true_and_false_are_no_labels():
    for written in (["True", "False"], ["true", "false"]):
        with pytest.raises(UsageError, match="not one of the model's"):
            texts.matched(labelled(written), TWO)


def test_a_regression_takes_numbers():
    rating = Decision(labels=("score",), kind="regression", positive=0)
    assert texts.matched(labelled(["-1.5", "2", ""]), rating).texts[0].label == "-1.5"
    for wrong in ("good", "nan"):
        with pytest.raises(UsageError, match=f"the label '{wrong}' is not one"):
            texts.matched(labelled(["1", wrong]), rating)


def test_no_labels_need_no_matching():
    bare = Given((Text("1", "t", "anything"),), "0" * 64)
    assert texts.matched(bare, TWO) is bare
    assert texts.labels_of(Text("1", "t", "rude; slur")) == {"rude", "slur"}
    assert texts.labels_of(Text("1", "t", "none")) == frozenset()
