"""Who trains on what: complementary halves, whole persons, sets and labels balanced."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from albert_audit.privacy.splits import reference_splits

RECORDS = st.lists(
    st.tuples(st.booleans(), st.integers(0, 11), st.sampled_from(["a", "b", "c"])), min_size=2, max_size=60
)


@settings(max_examples=150, deadline=None)
@given(RECORDS, st.sampled_from([2, 4, 6]), st.integers(0, 99))
def test_each_record_is_seen_by_half_and_each_pair_completes_itself(records, k, seed):
    """Trap 8: a record without unseen references would have none to be compared with."""
    member = np.array([m for m, _, _ in records])
    labels = [y for _, _, y in records]
    keep = reference_splits(member, None, labels, k, seed=seed)
    assert keep.shape == (k, len(records)) and keep.dtype == np.bool_
    assert (keep.sum(axis=0) == k // 2).all()
    assert (keep[0::2] ^ keep[1::2]).all()
    for row in keep:
        assert abs(2 * int(row.sum()) - len(row)) <= 1
        for m in {*member.tolist()}:
            of_set = member == m
            assert abs(2 * int(row[of_set].sum()) - int(of_set.sum())) <= 1
            for label in set(labels):
                here = of_set & (np.array(labels) == label)
                assert abs(2 * int(row[here].sum()) - int(here.sum())) <= 1


@settings(max_examples=100, deadline=None)
@given(RECORDS, st.integers(0, 99))
def test_persons_stay_whole_also_across_the_two_sets(records, seed):
    """Trap 10: a person on both sides of a split would make unseen records half known."""
    persons = [p for _, p, _ in records]
    if len(set(persons)) < 2:
        return
    member = np.array([m for m, _, _ in records])
    keep = reference_splits(member, persons, None, 4, seed=seed)
    for row in keep:
        sides = {(p, bool(kept)) for p, kept in zip(persons, row, strict=True)}
        assert len(sides) == len(set(persons))
    assert (keep.sum(axis=0) == 2).all()


@settings(max_examples=100, deadline=None)
@given(st.lists(st.integers(0, 15), min_size=2, max_size=80), st.integers(0, 99))
def test_halves_differ_by_no_more_than_the_largest_person(persons, seed):
    if len(set(persons)) < 2:
        return
    keep = reference_splits(np.ones(len(persons), bool), persons, None, 2, seed=seed)
    assert abs(int(keep[0].sum()) - int(keep[1].sum())) <= max(Counter(persons).values())


def test_more_models_leave_the_first_ones_as_they_were():
    member = np.arange(30) < 12
    few, many = (reference_splits(member, None, None, k, seed=5) for k in (2, 8))
    np.testing.assert_array_equal(few, many[:2])
    assert len({row.tobytes() for row in many}) == 8
    assert reference_splits(member, None, None, 2, seed=6).tobytes() != few.tobytes()


def test_labels_of_any_type_split_alike_and_order_does_not_matter_to_their_names():
    member = np.arange(12) < 6
    words = reference_splits(member, None, ["x", "", "z"] * 4, 2, seed=1)
    codes = reference_splits(member, None, [7, None, (1, 2)] * 4, 2, seed=1)
    np.testing.assert_array_equal(words, codes)


@pytest.mark.parametrize("persons", [None, [0, 0, 0, 1, 1, 2, 3, 4, 4, 5, 6, 7]])
def test_every_record_is_as_likely_on_either_side_and_members_tell_nothing(persons):
    """2,000 draws: each record's share lies within 5 standard errors of one half."""
    member = np.arange(12) % 3 == 0
    keep = np.stack([reference_splits(member, persons, ["a", "b"] * 6, 2, seed=s)[0] for s in range(2000)])
    assert np.abs(keep.mean(axis=0) - 0.5).max() < 5 * 0.5 / np.sqrt(2000)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"k": 3}, "even number"),
        ({"k": 0}, "even number"),
        ({"persons": ["a"] * 4}, "two persons"),
        ({"persons": ["a", "b"]}, "expected 4 persons"),
        ({"labels": ["a"]}, "expected 4 labels"),
        ({"member": np.array([0, 1, 0, 1])}, "bool"),
    ],
)
def test_what_cannot_be_split_is_refused(changes, said):
    given = {
        "member": np.array([True, True, False, False]),
        "persons": None,
        "labels": None,
        "k": 2,
    } | changes
    with pytest.raises(ValueError, match=said):
        reference_splits(**given, seed=0)
