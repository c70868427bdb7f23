"""Nothing prints, copies to disk or hashes a secret; digests need the key; a planted leak is found."""

from __future__ import annotations

import base64
import copy
import dataclasses
import hashlib
import hmac
import html
import json
import logging
import os
import pickle
import pprint
import string
import subprocess
import sys
import traceback
import urllib.parse

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from albert_audit.redact import (
    KEY_BYTES,
    REDACTED,
    Key,
    Redacted,
    Secret,
    canonical,
    describe,
    leaks,
    reveal_to,
)
from albert_audit.types import UsageError

TEXT = "Zoë Q. Fernsby-Okonkwo, 202-555-0188"
KEY = Key(bytes(range(KEY_BYTES)))


@dataclasses.dataclass
class Finding:
    secret: Secret


# --- Secret -----------------------------------------------------------------------------------


def test_no_way_of_printing_shows_a_secret(caplog):
    s = Secret(TEXT)
    finding = Finding(s)
    logging.getLogger("x").warning("found %s %r %s", s, s, finding)
    shown = [
        str(s), repr(s), f"{s}", f"{s!r:>60}", f"{s:.4}", "%s" % s, "{}".format(s),  # noqa: UP031, UP032
        repr(finding), repr([s]), repr({s: 1}), pprint.pformat({"a": [s]}), caplog.text, json.dumps(s, default=str),
        str(dataclasses.asdict(finding)), str(copy.deepcopy([s])), str(copy.copy(s)), repr(Key(b"k" * KEY_BYTES)),
    ]  # fmt: skip
    assert all(REDACTED in text for text in shown[:-1])
    assert not any(leaks(text.encode(), TEXT) for text in shown)
    assert "kkkk" not in shown[-1]
    assert s.reveal() == TEXT


def test_an_error_about_a_secret_does_not_show_it():
    for wrong in (
        lambda s: s + "x", lambda s: "".join([s]), lambda s: len(s), lambda s: list(s), lambda s: s < s,
        lambda s: bytes(s), lambda s: json.dumps(s), lambda s: pickle.dumps(s), lambda s: vars(s), lambda s: s.reveal(1),
        lambda s: setattr(s, "value", 1), lambda s: s[:3], lambda s: s.__getstate__(), lambda s: s.__reduce__(), lambda s: copy.copy(s).__reduce_ex__(0),
    ):  # fmt: skip
        with pytest.raises((TypeError, AttributeError)) as caught:
            wrong(Secret(TEXT))
        assert not leaks("".join(traceback.format_exception(caught.value)).encode(), TEXT)


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize("hidden", [Secret(TEXT), KEY])
def test_no_pickle_holds_a_secret(hidden, protocol):
    with pytest.raises(TypeError, match="not written to disk"):
        pickle.dumps({"a": hidden}, protocol)


def test_secrets_compare_and_stand_in_sets():
    assert Secret("a") == Secret("a") != Secret("b")
    assert Secret("a") != "a"
    assert len({Secret("a"), Secret("a"), Secret("b")}) == 2
    assert Secret("\udc80") == Secret("\udc80")
    with pytest.raises(TypeError, match="found int"):
        Secret(123456789)  # type: ignore[arg-type]


def test_the_hash_of_a_secret_is_of_no_use_to_another_process():
    """With PYTHONHASHSEED set, Python's hash of a text is the same everywhere and could be looked up."""
    code = "from albert_audit.redact import Secret; print(hash(Secret('123456789')))"
    env = {**os.environ, "PYTHONHASHSEED": "0"}
    seen = {
        subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, check=True).stdout
        for _ in "12"
    }
    assert len(seen) == 2


# --- Key --------------------------------------------------------------------------------------


def test_a_key_is_made_private_and_read_back(tmp_path):
    path = tmp_path / "new" / "key"
    made = Key.make(path)
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.parent.stat().st_mode & 0o077 == 0
    assert len(path.read_bytes()) == KEY_BYTES
    assert Key.load(path) == made != Key.make(tmp_path / "other")
    with pytest.raises(UsageError, match="there already"):
        Key.make(path)
    assert Key.load(path) == made


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o602, 0o610, 0o644])
def test_a_key_that_others_can_reach_is_refused(tmp_path, mode):
    Key.make(tmp_path / "key")
    (tmp_path / "key").chmod(mode)
    with pytest.raises(UsageError, match=f"mode {mode:o}.*\n.*chmod 600"):
        Key.load(tmp_path / "key")


@pytest.mark.parametrize("content", [b"", b"short", bytes(KEY_BYTES), bytes(range(33)), b"password" * 4])
def test_what_is_no_key_is_refused(tmp_path, content):
    path = tmp_path / "key"
    path.write_bytes(content)
    path.chmod(0o600)
    with pytest.raises(UsageError, match="is no key") as caught:
        Key.load(path)
    assert "password" not in str(caught.value)


def test_a_missing_key_says_what_to_do(tmp_path):
    with pytest.raises(UsageError, match="ALBERT_AUDIT_KEY"):
        Key.load(tmp_path / "none")
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match="cannot write the key"):
        Key.make(tmp_path / "file" / "key")


def test_where_the_key_lies(tmp_path, monkeypatch):
    monkeypatch.delenv("ALBERT_AUDIT_KEY", raising=False)
    monkeypatch.delenv("XDG_CONFIG_HOME", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert Key.path() == tmp_path / ".config/albert-audit/key"
    monkeypatch.setenv("XDG_CONFIG_HOME", "relative")  # the standard says to ignore it
    assert Key.path() == tmp_path / ".config/albert-audit/key"
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "c"))
    assert Key.make() == Key.load(tmp_path / "c/albert-audit/key")
    monkeypatch.setenv("ALBERT_AUDIT_KEY", "~/k")
    assert Key.path() == tmp_path / "k"


def test_a_digest_is_the_hmac_of_the_canonical_form():
    value = hmac.new(bytes(range(KEY_BYTES)), b"\0\0\0\x05phone2025550188", hashlib.sha256).hexdigest()
    assert KEY.digest("(202) 555–0188", purpose="phone") == value[:16]
    assert KEY.digest(Secret("２０２ 555 0188"), purpose="phone") == value[:16]


def test_a_digest_needs_the_key_and_the_purpose():
    """A plain hash, or one with a salt that is published, is undone by hashing every number."""
    other = Key(bytes(range(1, KEY_BYTES + 1)))
    digests = {k.digest("202-555-0188", purpose=p) for k in (KEY, other) for p in ("phone", "us_ssn", "phon")}
    assert len(digests) == 6
    for plain in ("202-555-0188", "2025550188"):
        assert hashlib.sha256(plain.encode()).hexdigest()[:16] not in digests
    assert KEY.digest("ab", purpose="c") != KEY.digest("b", purpose="ca")
    assert KEY.name != other.name
    with pytest.raises(ValueError, match="purpose"):
        KEY.digest("a", purpose="")
    with pytest.raises(ValueError, match="no letter or digit"):
        KEY.digest("--- !", purpose="x")


# --- what a report may say ----------------------------------------------------------------------


def test_a_description_holds_no_part_of_the_secret():
    described = describe("phone", Secret("(202) 555-0188"), KEY)
    assert described == Redacted("phone", "9-16", KEY.digest("2025550188", purpose="phone"))
    assert "0188" not in repr(dataclasses.replace(described, digest=""))
    lengths = [describe("x", "a" * n, KEY).length for n in (1, 4, 5, 8, 9, 16, 17, 32, 33, 99)]
    assert lengths == [
        "1-4",
        "1-4",
        "5-8",
        "5-8",
        "9-16",
        "9-16",
        "17-32",
        "17-32",
        "33 or more",
        "33 or more",
    ]


@given(st.text())
def test_the_canonical_form_is_stable_and_blind_to_signs_around(text):
    form = canonical(text)
    assert canonical(form) == form
    assert canonical(f"▁{text} .") == form


def test_the_canonical_form():
    assert canonical("Ｊｏｈｎ ▁Do\u200be’s: Straße ①") == "johndoesstrasse1"
    assert canonical("e\u0301") == canonical("é") != canonical("e")
    assert canonical("…!") == ""


def test_revealing_writes_a_private_file_elsewhere(tmp_path, monkeypatch):
    monkeypatch.delenv("CI", raising=False)
    audit = tmp_path / "audit"
    audit.mkdir()
    path = tmp_path / "clear.jsonl"
    reveal_to(path, {"c-1": Secret(TEXT), "c-2": "plain"}, outside=audit)
    assert path.stat().st_mode & 0o777 == 0o600
    lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    assert lines == [{"id": "c-1", "text": TEXT}, {"id": "c-2", "text": "plain"}]
    with pytest.raises(UsageError, match="there already"):
        reveal_to(path, {}, outside=audit)
    (tmp_path / "link").symlink_to(audit)
    for inside in (audit / "x", audit / "deep" / ".." / "x", tmp_path / "link" / "x"):
        with pytest.raises(UsageError, match="in the audit folder"):
            reveal_to(inside, {"c": "x"}, outside=audit)
    with pytest.raises(UsageError, match="cannot write"):
        reveal_to(tmp_path / "none" / "x", {}, outside=audit)
    assert list(audit.iterdir()) == []


@pytest.mark.parametrize("value", ["true", "1", "woodpecker"])
def test_nothing_is_revealed_in_ci(tmp_path, monkeypatch, value):
    monkeypatch.setenv("CI", value)
    with pytest.raises(UsageError, match="CI is set"):
        reveal_to(tmp_path / "clear", {"c": "x"}, outside=tmp_path / "audit")
    assert list(tmp_path.iterdir()) == []


# --- leaks --------------------------------------------------------------------------------------

PIECES = [
    "▁zo",
    "e",
    "▁q",
    ".",
    "▁fern",
    "s",
    "by",
    "-",
    "ok",
    "onk",
    "wo",
    ",",
    "▁20",
    "2-",
    "555",
    "-01",
    "88",
]
WRITTEN = {
    "plain": TEXT,
    "upper case": TEXT.upper(),
    "canonical": canonical(TEXT),
    "spaced": " ".join(TEXT),
    "as a tokenizer leaves it": "zoe q . fernsby - okonkwo , 202 - 555 - 0188",
    "pieces": " ".join(PIECES),
    "pieces in JSON": json.dumps({"tokens": PIECES}),
    "pieces in coloured tags": "".join(f'<span title="0.{i}">{p}</span>' for i, p in enumerate(PIECES)),
    "reversed": TEXT[::-1],
    "URL": urllib.parse.quote(TEXT, safe=""),
    "URL of a form": urllib.parse.quote_plus(TEXT),
    "HTML names": html.escape(TEXT).replace("ë", "&euml;").replace("-", "&#45;"),
    "HTML numbers": "".join(f"&#{ord(c)};" for c in TEXT),
    "HTML hexadecimal": "".join(f"&#x{ord(c):x};" for c in TEXT),
    "JSON": json.dumps(TEXT),
    "JSON of all characters": "".join(f"\\u{ord(c):04x}" for c in TEXT),
    "JSON in HTML": html.escape(json.dumps({"text": TEXT})),
    "JSON in JSON": json.dumps(json.dumps(TEXT)),
    "HTML in JSON": json.dumps("".join(f"&#{ord(c)};" for c in TEXT)),
    "hexadecimal": TEXT.encode().hex(),
    "HEXADECIMAL": TEXT.encode().hex().upper(),
    "hexadecimal with signs": TEXT.encode().hex(":"),
    "bytes of Python": "".join(f"\\x{b:02x}" for b in TEXT.encode()),
    "bytes of C": ", ".join(f"0x{b:02x}" for b in TEXT.encode()),
    "two lines": TEXT.replace(" ", "\n"),
    "broken lines in JSON": json.dumps(TEXT.replace(" ", "\n")),
    "full width": "".join(chr(ord(c) + 0xFEE0) if c in string.ascii_letters + string.digits else c for c in TEXT),
    "invisible characters between": "\u200b".join(TEXT),
    "decomposed": "e\u0308".join(TEXT.split("ë")),
    "UTF-16": TEXT.encode("utf-16-le").decode("latin-1"),
}  # fmt: skip


@pytest.mark.parametrize("way", WRITTEN)
def test_a_planted_leak_is_found_however_it_is_written(way):
    around = '<p class="x">The model said {}, 0.25</p>\n' * 2
    assert leaks(around.format(WRITTEN[way], "nothing").encode(), TEXT)
    assert leaks(WRITTEN[way].encode(), Secret(TEXT))


@pytest.mark.parametrize("offset", range(6))
@pytest.mark.parametrize("encode", [base64.b64encode, base64.urlsafe_b64encode, base64.encodebytes])
@pytest.mark.parametrize("around", ["{}", '"{}"', "data:image/png;base64,{}", "a/{}", "ab{}=="])
def test_base64_is_found_at_every_offset(offset, encode, around):
    """Three offsets of the secret in what is encoded, and four of the run in the letters around it."""
    blob = encode(b"\xff>?" * 9 + b"x" * offset + TEXT.encode() + b"y" * offset).decode().rstrip("\n")
    assert leaks(around.format(blob).encode(), TEXT)
    assert not leaks(around.format(encode(b"x" * offset + b"nothing of it" * 7).decode()).encode(), TEXT)


def test_ideographs_and_characters_beyond_the_first_plane_are_found():
    for secret in ("欧阳𠮷娜", "张伟"):
        for written in (
            secret,
            json.dumps(secret),
            " ".join(secret),
            secret[::-1],
            html.escape(json.dumps(secret)),
        ):
            assert leaks(f"那个人是{written}。".encode(), secret)
        assert leaks(base64.b64encode(f"x{secret}".encode()), secret)
        assert not leaks("那个人是别人。".encode(), secret)


@pytest.mark.parametrize("short", ["12345", "a-b-c", "伟", "--- ..."])
def test_a_secret_that_chance_would_find_is_refused(short):
    with pytest.raises(ValueError, match="by chance"):
        leaks(b"", short)


@settings(max_examples=40, deadline=None)
@given(
    st.text(min_size=8, max_size=30),
    st.binary(max_size=60),
    st.sampled_from([html.escape, json.dumps, str.upper]),
)
def test_any_secret_in_any_file_is_found(secret, before, write):
    assume(len(canonical(secret)) >= 6)
    assume(
        "&" not in secret and "\\" not in secret and "%" not in secret
    )  # an escape of its own is another text
    try:
        secret.encode()
    except UnicodeEncodeError:
        assume(False)
    try:
        assert leaks(before + b" " + write(secret).encode(), secret)
    except ValueError:
        assume(False)  # combining marks alone


def test_a_file_without_the_secret_is_clean():
    clean = json.dumps(
        [{"kind": "phone", "length": "9-16", "digest": KEY.digest(TEXT, purpose="phone")}] * 50
    )
    assert not leaks((clean + "Zoe has a phone. 202 and 555.").encode(), TEXT)
