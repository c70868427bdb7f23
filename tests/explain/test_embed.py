"""Vectors to parquet: those of stock transformers, in order, resumed to the same bytes, for the owner alone."""

from __future__ import annotations

import csv
import io
import json
import os
import signal
import stat
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
import transformers
import typer
from typer.testing import CliRunner

from albert_audit import cli_explain
from albert_audit.config import Texts
from albert_audit.explain import embed as work
from albert_audit.explain import embed_files
from albert_audit.model.load import load
from albert_audit.model.scorer import TorchScorer
from albert_audit.types import EvidenceError, Head, UsageError
from tests import tiny

EPOCH = "1700000000"
LONG, BLANK = "the nurse " * 60, "\u0301"  # 122 tokens where the model takes 96; an accent alone has none
SENTENCES = [
    "He is a nurse.", "she", "The doctor and the teacher went home at night.", LONG, "A carpenter, who said what?",
    BLANK, "They are good.", "she works", "Anna and Peter have a red car and a blue house.", "I",
]  # fmt: skip
CLOSE = {"rtol": 1e-5, "atol": 1e-5}


@pytest.fixture(scope="module", autouse=True)
def _one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(autouse=True)
def _small_parts(monkeypatch):
    monkeypatch.setattr(work, "PART_TOKENS", 24)
    monkeypatch.setattr(work, "_WINDOW", 3)
    monkeypatch.setattr("albert_audit.model.scorer.CPU_BUDGET", 16)
    monkeypatch.setenv("SOURCE_DATE_EPOCH", EPOCH)


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """An encoder of four layers, with a pooler."""
    return tiny.checkpoint(tmp_path_factory.mktemp("m") / "model", Head.ENCODER, num_hidden_layers=4)


@pytest.fixture(scope="module")
def handle(folder):
    return load(folder, device="cpu")


def write(path: Path, sentences=SENTENCES) -> Path:
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([("key", "text"), *((f"t{i}", s) for i, s in enumerate(sentences))])
    return path


@pytest.fixture
def given(tmp_path) -> Texts:
    return Texts(path=str(write(tmp_path / "texts.csv")), id="key")


def provenance(path: Path) -> dict:
    return json.loads(pq.read_schema(path).metadata[embed_files.METADATA])


def stock_states(folder: Path, sentences, layer: int):
    """Return states, which tokens are there and which are special: all texts in one padded, masked batch."""
    model = transformers.AutoModel.from_pretrained(folder).eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    inputs = tokenizer(
        list(sentences), padding=True, return_tensors="pt", return_special_tokens_mask=True, return_offsets_mapping=True
    )  # fmt: skip
    with torch.no_grad():
        out = model(
            input_ids=inputs["input_ids"], attention_mask=inputs["attention_mask"], output_hidden_states=True
        )
    there, special = inputs["attention_mask"].numpy() == 1, inputs["special_tokens_mask"].numpy() == 1
    return out.hidden_states[layer].numpy(), out.pooler_output.numpy(), there, special, inputs


# --- the numbers ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("pool", "layer"),
    [("cls", -1), ("cls", 2), ("mean", -1), ("mean", 2), ("mean", 0), ("pooler", -1), ("mean", -3)],
)
def test_vectors_of_texts_are_those_of_stock(folder, handle, given, tmp_path, pool, layer):
    """Row by row in the order of the file; the mean leaves special tokens and padding out."""
    done = work.embed(handle, given, tmp_path / "o.parquet", pool=pool, layer=layer)
    table = pq.read_table(done.out)
    assert table["id"].to_pylist() == [f"t{i}" for i in range(len(SENTENCES))]
    fine = [i for i, s in enumerate(SENTENCES) if s not in (LONG, BLANK)]
    states, pooled, there, special, _ = stock_states(folder, [SENTENCES[i] for i in fine], layer)
    for row, i in enumerate(fine):
        own = states[row][there[row] & ~special[row]]
        expected = {"cls": states[row][0], "mean": own.mean(axis=0), "pooler": pooled[row]}[pool]
        np.testing.assert_allclose(table["embedding"][i].as_py(), expected, **CLOSE)
    assert str(table.schema.field("embedding").type) == "fixed_size_list<element: float>[24]"


@pytest.mark.parametrize("layer", [-1, 2])
def test_vectors_of_tokens_are_those_of_stock(folder, handle, given, tmp_path, layer):
    """Special tokens are rows without offsets; an offset gives the characters of the text that was read."""
    done = work.embed(handle, given, tmp_path / "o.parquet", pool="tokens", layer=layer, with_text=True)
    rows = pq.read_table(done.out).to_pylist()
    fine = [i for i, s in enumerate(SENTENCES) if s not in (LONG, BLANK)]
    states, _, there, special, inputs = stock_states(folder, [SENTENCES[i] for i in fine], layer)
    for row, i in enumerate(fine):
        own = [r for r in rows if r["id"] == f"t{i}"]
        assert [r["position"] for r in own] == list(range(there[row].sum()))
        assert [r["special"] for r in own] == special[row][there[row]].tolist()
        np.testing.assert_allclose([r["embedding"] for r in own], states[row][there[row]], **CLOSE)
        for r, (a, b) in zip(own, inputs["offset_mapping"][row].tolist(), strict=False):
            covered = None if r["special"] else SENTENCES[i][r["start"] : r["end"]]
            assert covered == (None if r["special"] else SENTENCES[i][a:b].strip())
            assert r["special"] == (r["token"] in ("[CLS]", "[SEP]"))
            assert r["special"] or r["token"].strip("▁") == covered.lower()
    assert [r["id"] for r in rows] == sorted((r["id"] for r in rows), key=lambda k: int(k[1:]))


def test_a_layer_is_one_pass_where_groups_hold_several(tmp_path, given):
    made = tiny.checkpoint(tmp_path / "m", Head.ENCODER, num_hidden_layers=2, inner_group_num=2)
    handle = load(made, device="cpu")
    assert handle.id.depth == 4
    done = work.embed(handle, given, tmp_path / "o.parquet", pool="cls", layer=3)
    states, *_ = stock_states(made, [SENTENCES[0]], 3)
    np.testing.assert_allclose(pq.read_table(done.out)["embedding"][0].as_py(), states[0][0], **CLOSE)


# --- what is skipped ------------------------------------------------------------------------


@pytest.mark.parametrize("pool", work.POOLS)
def test_what_is_skipped_has_a_row_a_reason_and_no_vector(handle, given, tmp_path, pool):
    """Nothing is truncated: a long text cut to the model's length would have a vector of its beginning."""
    done = work.embed(handle, given, tmp_path / "o.parquet", pool=pool)
    rows = [r for r in pq.read_table(done.out).to_pylist() if r["skipped"] is not None]
    too_long = "too long: the model takes 96 tokens"
    assert [(r["id"], r["skipped"]) for r in rows] == [("t3", too_long), ("t5", work.NO_TOKEN)]
    assert all(r["embedding"] is None for r in rows)
    assert done.skipped == {work.NO_TOKEN: 1, too_long: 1}
    assert (done.texts, done.embedded) == (10, 8)
    assert provenance(done.out)["counted"]["skipped"] == done.skipped


def test_numbers_that_are_not_finite_are_no_vector(handle, given, tmp_path, monkeypatch):
    states = TorchScorer._states_batch
    monkeypatch.setattr(
        TorchScorer, "_states_batch",
        lambda self, layer, batch: [s * (np.nan if len(s) == 3 else 1) for s in states(self, layer, batch)],
    )  # fmt: skip
    done = work.embed(handle, given, tmp_path / "o.parquet")
    rows = {r["id"]: r for r in pq.read_table(done.out).to_pylist()}
    assert rows["t1"]["skipped"] == rows["t9"]["skipped"] == work.NOT_FINITE
    assert rows["t1"]["embedding"] is None and done.embedded == 6


def test_tokens_that_the_vocabulary_lacks_are_counted(handle, tmp_path):
    path = write(tmp_path / "t.csv", ["she 护 士", "he is"])
    done = work.embed(handle, Texts(path=str(path), id="key"), tmp_path / "o.parquet")
    encoded = TorchScorer(handle).encode(["she 护 士", "he is"])
    own = [e.ids[i] for e in encoded for i in e.positions]
    assert (done.tokens, done.unknown) == (len(own), own.count(1)) and done.unknown > 0


# --- privacy --------------------------------------------------------------------------------


def test_files_are_for_the_owner_alone_and_hold_no_text(handle, given, tmp_path):
    modes = {}

    def look(_: int) -> None:
        for path in (out.with_name(".o.parquet.parts"), *out.with_name(".o.parquet.parts").iterdir()):
            modes[path.name] = stat.S_IMODE(path.stat().st_mode)

    out = tmp_path / "o.parquet"
    before = os.umask(0)
    try:
        work.embed(handle, given, out, pool="tokens", progress=look)
    finally:
        os.umask(before)
    assert stat.S_IMODE(out.stat().st_mode) == 0o600
    assert modes.pop(".o.parquet.parts") == 0o700
    assert len(modes) > 2 and set(modes.values()) == {0o600}
    assert pq.read_schema(out).names == ["id", "position", "start", "end", "special", "skipped", "embedding"]
    assert sorted(p.name for p in tmp_path.iterdir()) == ["o.parquet", "texts.csv"]


def test_texts_are_written_when_asked_for(handle, given, tmp_path):
    plain = pq.read_table(work.embed(handle, given, tmp_path / "a.parquet").out)
    asked = pq.read_table(work.embed(handle, given, tmp_path / "b.parquet", with_text=True).out)
    assert plain.column_names == ["id", "skipped", "embedding"]
    assert asked["text"].to_pylist() == SENTENCES
    assert asked.drop_columns("text") == plain


# --- parts ----------------------------------------------------------------------------------


class Stop(KeyboardInterrupt):
    """Ctrl-C in the middle of a run."""


@pytest.mark.parametrize("pool", ["mean", "tokens"])
def test_an_interrupted_run_goes_on_to_the_same_bytes(handle, given, tmp_path, pool):
    """What was committed is not embedded again, and the unfinished part alone is lost."""
    whole = work.embed(handle, given, tmp_path / "whole.parquet", pool=pool)
    out, seen = tmp_path / "o.parquet", 0

    def stop(n: int) -> None:
        nonlocal seen
        seen += n
        if seen >= 7:
            raise Stop

    with pytest.raises(Stop):
        work.embed(handle, given, out, pool=pool, progress=stop)
    assert not out.exists()
    ticks = []
    planned = work.plan(handle, given, out, pool=pool)
    assert 0 < planned.done <= 7
    done = planned.done
    again = work.execute(planned, progress=ticks.append)
    assert sum(ticks) == len(SENTENCES) - done
    assert out.read_bytes() == whole.out.read_bytes()
    assert again.skipped == whole.skipped and again.tokens == whole.tokens
    assert not planned.folder.exists()


KILLED = """
import sys, time
from albert_audit.config import Texts
from albert_audit.explain import embed
from albert_audit.model import scorer
from albert_audit.model.load import load
import torch
torch.set_num_threads(1)
embed.PART_TOKENS, embed._WINDOW, scorer.CPU_BUDGET = 24, 3, 16
embed.embed(load(sys.argv[1], device="cpu"), Texts(path=sys.argv[2], id="key"), sys.argv[3], progress=lambda n: time.sleep(0.1))
"""


def test_a_killed_run_goes_on_to_the_same_bytes(folder, handle, given, tmp_path):
    out = tmp_path / "o.parquet"
    process = subprocess.Popen([sys.executable, "-c", KILLED, str(folder), given.path, str(out)])
    parts = out.with_name(".o.parquet.parts")
    try:
        deadline = time.monotonic() + 60
        while len(list(parts.glob("part-*"))) < 2:
            assert process.poll() is None and time.monotonic() < deadline
            time.sleep(0.02)
        process.send_signal(signal.SIGKILL)
    finally:
        process.kill()
        process.wait()
    (parts / ".part-left.1").write_bytes(b"half")  # what a kill in the middle of writing leaves
    planned = work.plan(handle, given, out)
    assert planned.done > 0
    work.execute(planned)
    whole = work.embed(handle, given, tmp_path / "whole.parquet")
    assert out.read_bytes() == whole.out.read_bytes()


def test_parts_are_bounded_and_do_not_depend_on_the_window(handle, given, tmp_path, monkeypatch):
    """A row group holds no more tokens than a part may; at most a window of texts is tokenised at a time."""
    asked = []
    encode = TorchScorer.encode
    monkeypatch.setattr(TorchScorer, "encode", lambda s, t, p=None: asked.append(len(t)) or encode(s, t, p))
    done = work.embed(handle, given, tmp_path / "a.parquet", pool="tokens")
    assert max(asked) == 3
    groups = pq.read_metadata(done.out)
    assert groups.num_row_groups > 3
    assert all(groups.row_group(i).num_rows <= 24 for i in range(groups.num_row_groups))
    monkeypatch.setattr(work, "_WINDOW", 100)
    other = work.embed(handle, given, tmp_path / "b.parquet", pool="tokens")
    assert other.out.read_bytes() == done.out.read_bytes()


def test_parts_of_something_else_are_refused(folder, handle, given, tmp_path):
    """Other texts, another model, pool or column would be mixed into one file."""
    out = tmp_path / "o.parquet"

    def stop(_: int) -> None:
        if list(out.with_name(".o.parquet.parts").glob("part-*")):
            raise Stop

    with pytest.raises(Stop):
        work.embed(handle, given, out, progress=stop)
    with pytest.raises(UsageError, match="pool mean, now cls"):
        work.plan(handle, given, out, pool="cls")
    with pytest.raises(UsageError, match="layer 4, now 1"):
        work.plan(handle, given, out, layer=1)
    with pytest.raises(UsageError, match=r"texts\.id_column key, now"):
        work.plan(handle, Texts(path=given.path), out)
    with pytest.raises(UsageError, match="with_text False, now True"):
        work.plan(handle, given, out, with_text=True)
    other = load(tiny.checkpoint(tmp_path / "model", Head.ENCODER, num_hidden_layers=4, seed=9), device="cpu")
    with pytest.raises(UsageError, match=r"model\.sha256"):
        work.plan(other, given, out)
    write(Path(given.path), ["other", *SENTENCES[1:]])
    with pytest.raises(UsageError, match=r"texts\.sha256.*now") as refused:
        work.plan(handle, given, out)
    assert "--force" in str(refused.value)
    forced = work.plan(handle, given, out, force=True)
    assert forced.done == 0
    work.execute(forced)
    fresh = work.embed(handle, given, tmp_path / "fresh.parquet")
    assert out.read_bytes() == fresh.out.read_bytes()


def test_a_folder_that_holds_something_else_is_left_alone(handle, given, tmp_path):
    mine = tmp_path / ".o.parquet.parts" / "mine.txt"
    mine.parent.mkdir()
    mine.write_text("x")
    with pytest.raises(UsageError, match=r"mine\.txt"):
        work.plan(handle, given, tmp_path / "o.parquet", force=True)
    assert mine.read_text() == "x"


def silently_damaged(part: Path) -> bytes:
    """Flip one bit so that the file still reads, to other rows."""
    raw, rows = part.read_bytes(), pq.ParquetFile(part).read()
    for at in range(4, len(raw)):
        damaged = raw[:at] + bytes([raw[at] ^ 1]) + raw[at + 1 :]
        with suppress(Exception):
            if not pq.ParquetFile(io.BytesIO(damaged)).read().equals(rows):
                return damaged
    raise AssertionError("no bit reads to other rows")


def test_a_damaged_part_is_named_and_embedded_anew(handle, given, tmp_path):
    whole = work.embed(handle, given, tmp_path / "whole.parquet")
    out = tmp_path / "o.parquet"

    def stop(_: int) -> None:
        if len(list(out.with_name(".o.parquet.parts").glob("part-*"))) == 2:
            raise Stop

    with pytest.raises(Stop):
        work.embed(handle, given, out, progress=stop)
    part = sorted(out.with_name(".o.parquet.parts").glob("part-*"))[0]
    part.write_bytes(silently_damaged(part))
    with pytest.raises(EvidenceError, match=part.name):
        work.embed(handle, given, out)
    assert not out.exists()
    part.unlink()
    assert work.embed(handle, given, out).out.read_bytes() == whole.out.read_bytes()


# --- provenance and refusals ----------------------------------------------------------------


def test_the_metadata_says_what_was_computed(handle, given, tmp_path, monkeypatch):
    out = work.embed(handle, given, tmp_path / "o.parquet", pool="mean", layer=-2).out
    found = provenance(out)
    assert found["model"]["sha256"] == handle.id.sha256
    assert (found["pool"], found["layer"], found["layers"], found["hidden_size"]) == ("mean", 3, 4, 24)
    assert found["texts"]["sha256"] == embed_sha(Path(given.path)) and found["texts"]["count"] == 10
    assert found["versions"]["torch"] and found["computed"]["device"] == "cpu"
    assert found["date"] == "2023-11-14T22:13:20+00:00"
    assert str(tmp_path) not in json.dumps(found)
    monkeypatch.delenv("SOURCE_DATE_EPOCH")
    dated = work.embed(handle, given, tmp_path / "now.parquet", layer=-2).out
    assert provenance(dated) | {"date": ""} == found | {"date": ""}
    assert provenance(dated)["date"] > found["date"]


def embed_sha(path: Path) -> str:
    import hashlib

    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_an_output_is_replaced_only_when_asked(handle, given, tmp_path):
    out = tmp_path / "o.parquet"
    out.write_text("mine")
    with pytest.raises(UsageError, match="is there already"):
        work.embed(handle, given, out)
    assert out.read_text() == "mine"
    assert work.embed(handle, given, out, force=True).embedded == 8
    assert stat.S_IMODE(out.stat().st_mode) == 0o600


def test_what_cannot_be_done_is_refused_before_anything_is_written(handle, given, tmp_path, monkeypatch):
    out = tmp_path / "o.parquet"
    before = sorted(tmp_path.iterdir())
    for match, options in (
        ("pool among", {"pool": "max"}),
        ("layer from -5 to 4", {"layer": 5}),
        ("pooler reads the last layer", {"pool": "pooler", "layer": 2}),
    ):
        with pytest.raises(UsageError, match=match):
            work.plan(handle, given, out, **options)
    with pytest.raises(UsageError, match=r"ends in \.parquet"):
        work.plan(handle, given, tmp_path / "o.csv")
    with pytest.raises(UsageError, match="there is no folder"):
        work.plan(handle, given, tmp_path / "a" / "o.parquet")
    with pytest.raises(UsageError, match="no column"):
        work.plan(handle, given.model_copy(update={"text": "txt"}), out)
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "today")
    with pytest.raises(UsageError, match="SOURCE_DATE_EPOCH"):
        work.plan(handle, given, out)
    assert sorted(tmp_path.iterdir()) == before


def test_the_texts_are_never_replaced(handle, given, tmp_path):
    own = work.embed(handle, given, tmp_path / "own.parquet", with_text=True).out
    with pytest.raises(UsageError, match="is the file of texts"):
        work.plan(handle, Texts(path=str(own)), own, force=True)


def test_a_checkpoint_without_a_pooler_is_refused(tmp_path, given):
    handle = load(tiny.checkpoint(tmp_path / "mlm", Head.MASKED_LM), device="cpu")
    with pytest.raises(UsageError, match="no pooler"):
        work.plan(handle, given, tmp_path / "o.parquet", pool="pooler")


# --- the command ----------------------------------------------------------------------------


def test_the_command(folder, given, tmp_path):
    app = typer.Typer()
    app.command("embed", epilog=cli_explain.EMBED_EXAMPLES)(cli_explain.embed)
    out = tmp_path / "o.parquet"
    done = CliRunner().invoke(
        app, [str(folder), given.path, "--out", str(out), "--id-column", "key", "--pool", "cls"]
    )
    assert done.exit_code == 0, done.exception
    assert "vectors of 8 of 10 texts" in done.output and "skipped 1: too long" in done.output
    assert "keep the file as you keep the texts" in done.output
    assert provenance(out)["pool"] == "cls" and pq.read_table(out)["id"][0].as_py() == "t0"
    again = CliRunner().invoke(app, [str(folder), given.path, "--out", str(out)])
    assert isinstance(again.exception, UsageError)
    assert "stored-embeddings.md" in CliRunner().invoke(app, ["--help"]).output
