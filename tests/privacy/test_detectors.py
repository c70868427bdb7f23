"""Personal data is found where it stands, as people write it and as a tokenizer leaves it."""

from __future__ import annotations

import datetime
import subprocess
import sys
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from albert_audit.privacy.detectors import DETECTORS, LEAST, NAME, Names, find, fold, searched


def seen(text: str, **options: object) -> list[tuple[str, str]]:
    """Return kind and text of each hit."""
    return [(h.kind, text[h.start : h.end]) for h in find(text, **options)]  # type: ignore[arg-type]


def luhn(digits: str) -> str:
    """Return the check digit, doubling every other digit from the right."""
    doubled = [int(d) * (2 - i % 2) for i, d in enumerate(reversed(digits))]
    return str(-sum(d - 9 * (d > 9) for d in doubled) % 10)


def resident(region: str, born: str, order: str) -> str:
    """Return a Chinese number with its check digit, by the weights of GB 11643."""
    weights = (7, 9, 10, 5, 8, 4, 2, 1, 6, 3, 7, 9, 10, 5, 8, 4, 2)
    total = sum(int(d) * w for d, w in zip(region + born + order, weights, strict=True))
    return f"{region}{born}{order}{'10X98765432'[total % 11]}"


FOUND = [
    ("email", "write to {} today", ["john.doe@example.com", "j_d+x@mail.example.co.uk", "JOHN@EXAMPLE.ORG"]),
    ("email", "write to {} today", ["john . doe @ example . com", "doe @ example . org", "john [at] example [dot] com"]),
    ("email", "邮箱是{}，请来信。", ["john.doe@example.com", "ｊｏｈｎ＠ｅｘａｍｐｌｅ．ｃｏｍ", "▁john▁.▁doe▁@▁example▁.▁com"[1:]]),
    ("phone", "my number is {} , ok", ["+1 202-555-0143", "(202) 555-0143", "02079460958", "( 202 ) 555 - 0143", "020 7946 0958"]),
    ("phone", "call {}", ["2025550143", "202.555.0143", "+44 20 7946 0958", "+86 138 0013 8000", "2 0 2 5 5 5 0 1 4 3"]),
    ("phone", "我的号码：{}。", ["13800138000", "138 0013 8000", "1 3 8 0 0 1 3 8 0 0 0", "010-12345678", "１３８００１３８０００"]),
    ("iban", "pay {} please", ["GB82 WEST 1234 5698 7654 32", "gb82west12345698765432", "DE89370400440532013000"]),
    ("iban", "pay {}", ["gb82 west 1234 5698 7654 32", "DE89-3704-0044-0532-0130-00", "d e 8 9 3 7 0 4 0 0 4 4 0 5 3 2 0 1 3 0 0 0"]),
    ("payment_card", "card {} , cvv 123", ["4111 1111 1111 1111", "4111-1111-1111-1111", "4 111 111 111 111 111", "378282246310005"]),
    ("payment_card", "卡{}到期", ["6222020000000000000"[:18] + luhn("6222020000000000000"[:18]), "5555 5555 5555 4444"]),
    ("us_ssn", "it was {} then", ["856-45-6789", "856 - 45 - 6789", "856–45–6789"]),
    ("us_ssn", "social security number {}", ["856 45 6789", "856456789"]),
    ("cn_resident_id", "号码{}，", ["11010519491231002X", "11010519491231002x", "1 1 0 1 0 5 1 9 4 9 1 2 3 1 0 0 2 x"]),
    ("cn_resident_id", "身份证{}", [resident("440301", "19900228", "123"), "１１０１０５１９４９１２３１００２Ｘ"]),
    ("cn_uscc", "代码 {}。", ["91110000600037341L", "91110000600037341l"]),
    ("ip_address", "from {} at noon", ["8.8.8.8", "8 . 8 . 8 . 8", "79.246.177.12", "2001:4860:4860::8888"]),
    ("url_user", "see {} now", ["https://john:pw@example.com", "ftp://john@example.com", "github.com/torvalds"]),
    ("birth_date", "she was born on {} .", ["12 March 1980", "12th of march 1980", "March 12, 1980", "1980-03-12", "12/03/1980"]),
    ("birth_date", "出生日期：{}", ["1990年1月1日", "1990 年 1 月 1 日", "1990-01-01"]),
    ("address", "she lives at {}", ["12 Baker Street", "221b Baker Street", "12 main st, springfield, il 62704", "7 Joshua Curve Suite 8, Shannon, ME 08465", "sw1a 1aa"]),
    ("address", "他住在，{}。", ["北京市朝阳区建国路88号", "中山路12弄"]),
    ("bank_account", "account no. {} please", ["12345678", "12-34-56"]),
    ("bank_account", "银行账号 {}", ["12345678"]),
]  # fmt: skip


@pytest.mark.parametrize(
    ("kind", "sentence", "value"),
    [(kind, sentence, value) for kind, sentence, values in FOUND for value in values],
)
def test_each_kind_is_found_where_it_stands(kind, sentence, value):
    """Lower case, spaced signs, split numbers and full-width digits are what other tools miss."""
    assert seen(sentence.format(value)) == [(kind, value)]


CLEAN = [
    "in 2012 we had 20 30 40 50 60 70 80 90 100 110 120",
    "rated 5/10 in 1999-2003, 13 out of 20, 0.4111111111111111 on average",
    "a 5 minute drive , a 10 year court case , the m1 5th lane",
    "version 8.8.8.8 and v1.2.3.4 run on 192.168.0.1 and 127.0.0.1",
    "order 1012345678 was shipped at 12:30:45 on 2019-03-04",
    "meet me @ noon . we left . com is a word",
    "born to run , born in 1980 , paid on 12 March 1980 and that is all she wrote of it ; birth came 30 days on",
    "他在2019年3月4日付了12345678元，走了88号线，南京路2号线。",
    "4111 1111 1111 1112 is no card , 11010519491331002X no id , GB82 WEST 1234 5698 7654 33 no account",
    "the 1980-02-31 is no date , and 078-05-1120 was never anyone's",
    "gb82west123456987654321x and xgb82west12345698765432",
    "twitter . com is a site ; half / half",
    "",
]


@pytest.mark.parametrize("text", CLEAN)
def test_what_only_looks_alike_is_left_out(text):
    assert seen(text) == []


def test_a_wrong_check_digit_is_told_apart_from_a_right_one():
    for text in ("4111 1111 1111 1112", "110105194912310021", "GB82 WEST 1234 5698 7654 33", "987-65-4321"):
        (hit,) = find(text, least=0.3)
        assert (hit.start, hit.end, hit.valid, hit.score < LEAST) == (0, len(text), False, True)
        assert find(text) == []


def test_a_table_of_numbers_is_no_list_of_cards():
    row = "12 830 4111 1111 1111 1111 77 2019 5 1640"
    assert find(row) == []
    assert seen(row, least=0.4) == [("payment_card", "4111 1111 1111 1111")]
    two = "4111 1111 1111 1111 5555 5555 5555 4444"
    assert seen(two) == [("payment_card", two[:19]), ("payment_card", two[20:])]
    assert len(find("378282246310005 " * 7)) == 7


def test_a_resident_number_of_a_county_that_no_list_holds_is_found():
    """stdnum 2.2 raises KeyError for a county it does not know in a province that it knows."""
    for region in ("999999", "119999", "830000"):
        (hit,) = find(resident(region, "19900228", "123"))
        assert (hit.kind, hit.valid, hit.score) == ("cn_resident_id", True, 0.92)


def test_a_number_that_was_never_issued_is_no_phone_number():
    """A tool that rejects 078-05-1120 as a social security number and then calls it a phone number."""
    for text in ("078-05-1120", "ssn 078-05-1120", "call 078-05-1120"):
        assert "phone" not in {h.kind for h in find(text, least=0.3) if h.valid}
    assert seen("it was 075-09-5627 then") == [("us_ssn", "075-09-5627")]  # also a line in Guangdong
    assert [(h.kind, h.valid) for h in find("my ssn is 078-05-1120")] == [("us_ssn", False)]


def test_what_the_text_calls_a_phone_number_is_found_though_no_plan_holds_it():
    (hit,) = find("call 199 999 9999", language="en")
    assert (hit.kind, hit.valid) == ("phone", False)


def test_kinds_compete_whichever_are_asked_for():
    """Asking for phone numbers alone must not find one inside a card."""
    text = "4111 1111 1111 1111 and gb82west12345698765432 and call 202-555-0143"
    assert seen(text, kinds=["phone"]) == [("phone", "202-555-0143")]
    assert [k for k, _ in seen(text)] == ["payment_card", "iban", "phone"]


def test_a_language_narrows_phone_numbers_and_addresses():
    assert seen("号码13800138000，住中山路12号", language="zh") == seen(
        "号码13800138000，住中山路12号", language="zh-CN"
    )
    assert seen("live in 12 Baker Street", language="zh") == seen("中山路12号", language="en") == []
    assert seen("take 13800138000 of it", language="en") == []
    assert seen("id 11010519491231002X", language="en") == [("cn_resident_id", "11010519491231002X")]


# --- properties -----------------------------------------------------------------------------------

DAYS = st.dates(datetime.date(1900, 1, 1), datetime.date(2099, 12, 31))


@given(
    st.sampled_from(["110105", "440301", "999999", "310101"]), DAYS, st.integers(0, 999), st.integers(1, 10)
)
def test_every_resident_number_is_found_and_every_other_last_digit_is_not(region, born, order, off):
    number = resident(region, f"{born:%Y%m%d}", f"{order:03}")
    (hit,) = find(number, kinds=["cn_resident_id"])
    assert hit.valid
    assert hit.score >= 0.9
    last = "0123456789X"["0123456789X".index(number[-1]) - off]
    assert find(number[:-1] + last, kinds=["cn_resident_id"]) == []


@given(st.sampled_from(["4", "51", "34", "6011"]), st.integers(0, 10**14 - 1), st.integers(1, 9))
def test_a_card_needs_its_check_digit(prefix, body, off):
    digits = (prefix + f"{body:014}")[: 14 if prefix == "34" else 15]
    good = digits + luhn(digits)
    assert [h.valid for h in find(good, kinds=["payment_card"])] == [True]
    assert find(digits + str((int(good[-1]) + off) % 10), kinds=["payment_card"]) == []


LOOSE = st.lists(st.sampled_from(["", "", " ", "\u200b"]), min_size=18, max_size=18)
WIDE = str.maketrans({chr(c): chr(c + 0xFEE0) for c in range(0x21, 0x7F)})


@given(LOOSE, st.booleans(), st.sampled_from(["", "他说", "he said ", "\u200b\u200b", "𠮷 "]))
def test_places_are_those_of_the_text_that_was_given(gaps, wide, before):
    number = "".join(c + g for c, g in zip("11010519491231002X", gaps, strict=True)).rstrip(" \u200b")
    number = number.translate(WIDE) if wide else number
    text = f"{before}{number}，\u200b再见"
    (hit,) = find(text, kinds=["cn_resident_id"])
    assert text[hit.start : hit.end] == number


@settings(max_examples=300, deadline=None)
@given(st.text(alphabet="ab12 .-@+(年月日)号路:/省X▁１\u200bé½\n", max_size=60), st.floats(0, 1))
def test_hits_lie_in_the_text_in_order_and_do_not_overlap(text, least):
    hits = find(text, least=least, names=Names(["ab", "a b"]))
    edges = [edge for h in hits for edge in (h.start, h.end)]
    assert edges == sorted(edges)
    assert all(0 <= h.start < h.end <= len(text) and h.score >= least and h.kind in DETECTORS for h in hits)
    assert len(set(edges)) >= len(hits)


@given(st.text())
def test_folding_keeps_a_place_for_every_character(text):
    folded, places = fold(text)
    assert len(folded) == len(places)
    assert list(places) == sorted(places)
    assert all(0 <= p < len(text) for p in places)
    assert not set(folded) & set("▁\u200b–１\t")


@pytest.mark.parametrize(
    "unit", ["_", "-", "1", "a.", "0a", "at ", "路", "1.", "ab12 ", "a@", "(", "f:", "1 st "]
)
def test_no_text_makes_a_search_take_long(unit):
    begun = time.process_time()
    find(unit * (20_000 // len(unit)))
    assert time.process_time() - begun < 5


# --- names ------------------------------------------------------------------------------------------


def test_without_a_list_no_name_is_looked_for_and_none_may_be_asked_for():
    """A tool without a model for names that reports "0 names"."""
    assert NAME not in searched()
    assert searched(names=Names(["Al"])) == list(DETECTORS)
    with pytest.raises(ValueError, match="needs a list of names"):
        find("John Smith", kinds=[NAME])
    with pytest.raises(ValueError, match="unknown kind 'emial'; known are email"):
        find("", kinds=["emial"])


def test_names_are_found_as_whole_words_the_longest_first():
    names = Names(["Jose", "José Núñez", "O'Brien", "Mary-Ann Lee", "张伟", "欧阳娜娜"])
    text = "JOSE NUNEZ, josé, joseph, o ' brien, mary - ann lee; 昨天张伟和欧阳娜娜来了。Mary, Lee"
    assert [t for k, t in seen(text, names=names) if k == NAME] == [
        "JOSE NUNEZ", "josé", "o ' brien", "mary - ann lee", "张伟", "欧阳娜娜"
    ]  # fmt: skip


def test_a_name_of_the_list_in_an_address_belongs_to_the_address():
    assert seen("john@example.com is John", names=Names(["John"])) == [
        ("email", "john@example.com"),
        (NAME, "John"),
    ]


@pytest.mark.parametrize(("names", "said"), [([], "empty"), (["Ann", "x"], "name 2"), (["--"], "name 1")])
def test_a_list_that_cannot_serve_is_refused(names, said):
    with pytest.raises(ValueError, match=said):
        Names(names)


# --- the registry -------------------------------------------------------------------------------------


def test_each_kind_says_what_it_finds_and_misses():
    assert all(d.finds and d.misses for d in DETECTORS.values())
    checked = {h.kind for _, s, vs in FOUND for v in vs for h in find(s.format(v)) if h.valid is not None}
    assert checked == {k for k, d in DETECTORS.items() if d.check}
    assert {kind for kind, _, _ in FOUND} | {NAME} == set(DETECTORS)


def test_the_libraries_are_loaded_when_they_are_needed():
    code = (
        "import sys; from albert_audit.privacy import detectors; detectors.find('plain words');"
        "print([m for m in ('phonenumbers', 'stdnum', 'torch') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, text=True)
    assert done.stdout.strip() == "[]"
