"""Counts by kind and row; no text, no id, and nothing said of what was not looked for."""

from __future__ import annotations

import time

import pandas as pd
import pytest

from albert_audit.privacy.detectors import DETECTORS, NAME, Names
from albert_audit.privacy.scan import COLUMNS, scan
from albert_audit.redact import leaks

SECRETS = ("john.doe@example.com", "4111 1111 1111 1111", "11010519491231002X", "Anneliese Fernsby")
TEXTS = [
    "write to john.doe@example.com or to John . Doe @ example . com , or to ann@example.org",
    "nothing here",
    f"card {SECRETS[1]}, again {SECRETS[1]}",
    f"号码{SECRETS[2]}，邮箱john.doe@example.com",
    "anneliese fernsby was here",
]


def by_kind(table: pd.DataFrame, kind: str) -> dict[str, object]:
    (row,) = table[table.kind == kind].to_dict("records")
    return row


def test_hits_are_counted_by_kind_row_and_value():
    table = scan(TEXTS, names=Names(["Anneliese Fernsby"]))
    assert list(table.columns) == list(COLUMNS)
    assert list(table.kind) == list(DETECTORS)
    expected = {"rows": 2, "hits": 4, "distinct": 2, "valid": None, "row_numbers": (1, 4), "skipped": ""}
    assert by_kind(table, "email") == {"kind": "email", **expected}
    expected = {"rows": 1, "hits": 2, "distinct": 1, "valid": 2, "row_numbers": (3,), "skipped": ""}
    assert by_kind(table, "payment_card") == {"kind": "payment_card", **expected}
    assert by_kind(table, NAME)["row_numbers"] == (5,)
    assert by_kind(table, "iban")["hits"] == 0


def test_no_text_is_in_the_table():
    table = scan(TEXTS, names=Names(["Anneliese Fernsby"]))
    written = (table.to_csv() + table.to_json(force_ascii=False) + repr(table) + repr(table.attrs)).encode()
    assert not any(leaks(written, secret) for secret in SECRETS)
    assert all(leaks(written + secret.encode(), secret) for secret in SECRETS)


def test_names_that_were_not_looked_for_are_skipped_and_not_counted_as_none():
    """Trap: a search for names that is unavailable, reported as "0 names"."""
    row = by_kind(scan(TEXTS), NAME)
    assert (row["rows"], row["hits"], row["distinct"], row["row_numbers"]) == (None, None, None, ())
    assert "no list of names was given" in str(row["skipped"])


def test_only_the_kinds_asked_for_are_listed():
    assert list(scan(TEXTS, kinds=["phone", "email"]).kind) == ["email", "phone"]
    with pytest.raises(ValueError, match="needs a list of names"):
        scan(TEXTS, kinds=[NAME])
    with pytest.raises(ValueError, match="no texts"):
        scan([])


def test_doubtful_hits_are_counted_when_they_are_asked_for():
    texts = ["order 2025550143 shipped", "987-65-4321"]
    assert scan(texts).hits.dropna().sum() == 0
    table = scan(texts, least=0.3)
    assert (by_kind(table, "phone")["rows"], by_kind(table, "us_ssn")["valid"]) == (1, 0)


def test_the_order_of_the_rows_changes_only_their_numbers():
    there, back = scan(TEXTS), scan(TEXTS[::-1])
    assert there[["hits", "rows", "distinct", "valid"]].equals(back[["hits", "rows", "distinct", "valid"]])
    turned = [tuple(sorted(len(TEXTS) + 1 - n for n in numbers)) for numbers in back.row_numbers]
    assert list(there.row_numbers) == turned


def test_thousands_of_texts_take_seconds():
    texts = [f"{t} and some more words that every text has, number {i}" for i, t in enumerate(TEXTS * 400)]
    begun = time.process_time()
    assert by_kind(scan(texts), "email")["rows"] == 800
    assert time.process_time() - begun < 6  # 2,000 texts of which four in five hold something
