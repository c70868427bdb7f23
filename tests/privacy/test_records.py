"""Records: the sets in one order, nobody lost, nobody merged."""

from __future__ import annotations

import pytest

from albert_audit.packs import Given, Text
from albert_audit.privacy.records import gather
from albert_audit.types import UsageError


def given(*persons: str, labelled: bool = True, axes: tuple[str, ...] = ("gender",)) -> Given:
    texts = tuple(
        Text(str(i), f"text {i}", "good" if labelled else "", tuple((a, "women") for a in axes if i), p)
        for i, p in enumerate(persons)
    )
    return Given(texts, "0" * 64, "en", labelled, axes)


def test_sets_follow_each_other_and_ids_are_unique() -> None:
    """Row 0 of members is not row 0 of non-members."""
    found = gather(given("", ""), given(""), given("", "", ""))
    assert found.ids == (
        "member/0",
        "member/1",
        "non-member/0",
        "pool/0",
        "pool/1",
        "pool/2",
    )
    assert found.member.tolist() == [True, True, False, False, False, False]
    assert found.judged.tolist() == [True, True, True, False, False, False]
    assert found.has_pool and not gather(given(""), given("")).has_pool


def test_a_person_is_one_over_all_sets_and_no_name_is_a_person_of_its_own() -> None:
    """A person named like a row number is not that row."""
    found = gather(given("ann", "", "0"), given("ann", "", "member 1"))
    ann, nobody, zero, same, other, tricky = found.persons
    assert ann == same
    assert len({ann, nobody, zero, other, tricky}) == 5
    assert found.repeated_persons
    assert not gather(given("", ""), given("", "")).repeated_persons


def test_persons_of_the_pool_do_not_count_as_repeated() -> None:
    """Only the judged sets have persons that are judged."""
    assert not gather(given("a"), given("b"), given("c", "c")).repeated_persons


def test_groups_are_empty_where_there_is_none() -> None:
    found = gather(given("", ""), given(""))
    assert found.groups == {"gender": ("", "women", "")}


@pytest.mark.parametrize("which", [0, 1, 2])
def test_half_labelled_sets_are_refused(which: int) -> None:
    sets = [given("a", labelled=i != which) for i in range(3)]
    with pytest.raises(UsageError, match="labels"):
        gather(*sets)


def test_other_columns_of_groups_are_refused() -> None:
    """Else a group would silently have members only."""
    with pytest.raises(UsageError, match="columns of groups"):
        gather(given("a"), given("b", axes=("age",)))
    with pytest.raises(UsageError, match="columns of groups"):
        gather(given("a"), given("b", axes=("gender", "age")))


def test_pick_keeps_order() -> None:
    found = gather(given("", ""), given(""))
    assert found.pick(found.ids, ~found.member) == ["non-member/0"]
