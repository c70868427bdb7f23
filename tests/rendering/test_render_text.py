"""Numbers and strings as a reader sees them."""

from __future__ import annotations

import doctest
import unicodedata
from decimal import Decimal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from albert_audit.rendering import text
from albert_audit.rendering.text import (
    Source,
    day,
    factor,
    lines,
    number,
    percent,
    plain,
    say,
    significant,
    theirs,
    visible,
)
from tests.builders import finding


def test_doctests() -> None:
    assert doctest.testmod(text).failed == 0


@pytest.mark.parametrize(
    ("raw", "seen"),
    [
        ("plain", "plain"),
        ("两个 词", "两个 词"),
        (" a\n\n b\t", "a b"),
        ("a\u202eb", "a⟨U+202E⟩b"),
        ("\x1b[31m", "⟨U+001B⟩[31m"),
        ("\x9b", "⟨U+009B⟩"),
        ("a\u200bb\ufeff", "a⟨U+200B⟩b⟨U+FEFF⟩"),
        ("\u2028", "⟨U+2028⟩"),
        ("e\u0301", "e\u0301"),
        ("e" + "\u0301" * 5, "e" + "\u0301" * 3 + "⟨U+0301⟩⟨U+0301⟩"),
        ("<b>&\"'", "<b>&\"'"),
    ],
)
def test_visible(raw: str, seen: str) -> None:
    assert visible(raw) == seen


def test_long_strings_are_cut_and_say_so() -> None:
    assert visible("x" * 10_000, 20) == "x" * 20 + "… [10,000 characters]"
    assert visible(" " * 10_000 + "x", 20).endswith("[10,001 characters]")


def test_lines_break_at_spaces_and_count_han_twice() -> None:
    assert lines("short", 10, 2) == ("short",)
    assert lines("one two three four", 9, 3) == ("one two", "three", "four")
    assert lines("onetwothreefour", 10, 2) == ("onetwothre", "efour")
    assert lines("代词与职业她与他", 10, 2) == ("代词与职业", "她与他")
    assert lines("one two three four", 9, 1) == ("one two…",)
    assert lines("", 9, 1) == ()


@settings(deadline=None)
@given(st.text(), st.integers(2, 40), st.integers(1, 3))
def test_lines_lose_nothing_but_spaces(raw: str, width: int, most: int) -> None:
    broken = lines(raw, width, most)
    assert len(broken) <= most
    joined, whole = "".join(broken).replace(" ", ""), visible(raw, 4 * width * most).replace(" ", "")
    assert joined == whole or (joined.endswith("…") and len(joined) <= len(whole) + 1)


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (32.797, "33"),
        (1.0755, "1.08"),
        (0.9558, "0.96"),
        (0.0304, "0.03"),
        (1.0, "1.00"),
        (5e21, "5.0e21"),
        (0.0, "0"),
    ],
)
def test_factors(value: float, shown: str) -> None:
    assert factor(value) == shown


@settings(deadline=None)
@given(st.text(), st.integers(1, 80))
def test_nothing_hidden_survives(raw: str, cap: int) -> None:
    for shown in (visible(raw, cap), *lines(raw, cap + 1, 2)):
        assert not {unicodedata.category(c) for c in shown} & {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}


@settings(deadline=None)
@given(st.floats(-1e12, 1e12), st.integers(0, 6))
def test_numbers_round_and_never_show_a_negative_zero(value: float, digits: int) -> None:
    shown = number(value, digits)
    assert "-" not in shown
    printed = Decimal(shown.replace("−", "-").replace(",", ""))
    assert abs(printed - Decimal(value)) <= Decimal(1).scaleb(-digits) / 2
    assert not (shown.startswith("−") and not shown.strip("−0.,"))


@settings(deadline=None)
@given(st.floats(-1e18, 1e18), st.integers(2, 6))
def test_significant_digits(value: float, digits: int) -> None:
    shown = float(significant(value, digits).replace("−", "-").replace(",", ""))
    assert shown == pytest.approx(value, rel=0.51 * 10 ** (1 - digits), abs=1e-300)


def test_days() -> None:
    assert day("2026-11-22T07:19:27Z") == "2026-11-22"
    assert day("<b>") == "not recorded"


def test_a_figure_knows_where_it_stands() -> None:
    source = Source("f", finding(), 2)
    assert source.figure("effect", "value") == text.Part("0.12", "f#effect.value")
    assert source.at("effect").figure("intervals", "0.95", "low").ref == "f#effect.intervals.0.95.low"
    assert source.at("clusters", 0).figure("count", form="count").ref == "f#clusters.0.count"
    assert source.figure("difference", "value") == text.Part("–")
    assert plain(source.interval("difference", "intervals", "0.95")) == "–"
    assert plain(say("a ", theirs("b\u202e"), " ", (text.Part("c"),))) == "a b⟨U+202E⟩ c"
    assert percent(0.045) == "4.5\u00a0%"
