"""Secrets belong to nobody, come from a large space, and are proven so by other people's validators."""

from __future__ import annotations

import datetime

import numpy as np
import phonenumbers
import pytest
from hypothesis import given
from hypothesis import strategies as st
from stdnum.cn import ric
from stdnum.us import ein, itin, ssn

from albert_audit.privacy.identifiers import SMALLEST_SPACE, identifier, identifiers, materials
from albert_audit.types import UsageError

KINDS = sorted(identifiers())
NOBODY = [k for k in KINDS if identifiers()[k].nobody]


def drawn(name: str, count: int, seed: int = 0) -> list[str]:
    rng = np.random.default_rng(seed)
    return [identifier(name).generate(rng) for _ in range(count)]


@pytest.mark.parametrize("name", NOBODY)
@given(seed=st.integers(0, 2**128))
def test_every_secret_is_proven_nobodys(name, seed):
    rng = np.random.default_rng(seed)
    kind = identifier(name)
    assert all(kind.validates(kind.generate(rng)) for _ in range(5))


@pytest.mark.parametrize("name", KINDS)
def test_the_space_is_large_and_drawn_from_evenly(name):
    kind = identifier(name)
    assert kind.space >= SMALLEST_SPACE
    assert kind.why
    secrets = drawn(name, 3000)
    # Of n even draws n^2 / 2 space meet, on average; six standard deviations above it is a smaller space.
    meetings = 3000**2 / 2 / kind.space
    assert 3000 - len(set(secrets)) <= meetings + 6 * np.sqrt(meetings) + 1
    assert secrets == drawn(name, 3000)
    assert secrets[:50] != drawn(name, 50, seed=1)


def test_word_lists_are_words_all_different():
    """YAML reads an unquoted `no` as a boolean."""
    data = materials()
    for found in (*data["words"].values(), data["syllables"], *data["given"].values(), data["surnames_zh"]):
        assert all(isinstance(w, str) and w for w in found)
        assert len(set(found)) == len(found)


@pytest.mark.parametrize("name", ["us-phone", "uk-phone"])
def test_telephone_numbers_keep_an_extension_and_stay_in_the_reserved_range(name):
    region = {"us-phone": "US", "uk-phone": "GB"}[name]
    for secret in drawn(name, 300):
        number = phonenumbers.parse(secret, region)
        assert len(number.extension) == 4
        assert phonenumbers.is_possible_number(number)
        if region == "US":
            assert phonenumbers.number_type(number) == phonenumbers.PhoneNumberType.FIXED_LINE_OR_MOBILE
            assert 5550100 <= number.national_number % 10**7 <= 5550199


def test_resident_ids_fail_each_check_by_itself():
    """A date that cannot be, a province that is none, a wrong check character: one slip leaves two reasons."""
    for secret in drawn("cn-resident-id", 300):
        with pytest.raises(ValueError, match=r"month|day|unconverted|does not match"):
            datetime.datetime.strptime(secret[6:14], "%Y%m%d")
        repaired = secret[:17] + ric.calc_check_digit(secret)
        assert repaired[-1] != secret[-1]
        assert not ric.is_valid(repaired)
        dated = f"{secret[:6]}19900101{secret[14:17]}0"
        assert not ric.is_valid(dated[:17] + ric.calc_check_digit(dated))
        assert not secret.startswith("9")


def test_social_security_numbers_are_no_taxpayer_numbers_either():
    """Area numbers from 900 are no SSN and given to real persons as ITIN; those with 66 may be an EIN."""
    for secret in drawn("us-ssn", 300):
        for kind in (ssn, itin, ein):
            assert not kind.is_valid(secret.replace("-", ""))
        assert secret.startswith("000-")


@pytest.mark.parametrize(
    ("name", "real"),
    [
        ("us-phone", "202-555-1212"),
        ("us-phone", "202-555-0200 ext. 1234"),
        ("us-phone", "800-555-0155"),
        ("us-phone", "no number"),
        ("uk-phone", "020 7946 1123"),
        ("uk-phone", "07700 910123"),
        ("cn-phone", "13800138000"),
        ("cn-phone", "11012345678"),
        ("email", "anna@example.com.cn"),
        ("email", "anna@gmail.com"),
        ("us-ssn", "536-90-4399"),
        ("us-ssn", "912-90-3456"),
        ("us-ssn", "666-64-5111"),
        ("us-ssn", "666-64-5111"),
        ("us-ssn", "000112222"),
        ("cn-resident-id", "11010519491231002X"),
        ("cn-resident-id", "110105194912310021"),
        ("cn-resident-id", "1101"),
        ("pin", "1234"),
        ("words-en", "amber anchor"),
        ("words-zh", "山水火你"),
        ("name-en", "Anna Smith"),
    ],
)
def test_what_may_be_somebodys_is_not_called_nobodys(name, real):
    assert not identifier(name).validates(real)


def test_names_are_never_called_nobodys():
    assert [k for k in KINDS if not identifiers()[k].nobody] == ["name-en", "name-zh"]
    assert not any(map(identifier("name-zh").validates, drawn("name-zh", 20)))


def test_an_unknown_kind_is_refused():
    with pytest.raises(UsageError, match="us-phone"):
        identifier("passport")
