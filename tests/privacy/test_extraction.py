"""Secrets that a model holds are filled in, others are not, and nothing of them is written down."""

from __future__ import annotations

import io
import itertools
import json
import math
import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from albert_audit.model.cache import CountingScorer, FakeScorer
from albert_audit.model.load import load
from albert_audit.model.scorer import TorchScorer
from albert_audit.model.text import Encoded
from albert_audit.packs import SLUG
from albert_audit.privacy import extraction, extraction_decode, extraction_findings, extraction_ranks
from albert_audit.privacy.canary_scores import Placed, placed
from albert_audit.privacy.detectors import DETECTORS
from albert_audit.privacy.extraction_contexts import asked_of, prompts, shipped
from albert_audit.privacy.extraction_secrets import documents, occurrences
from albert_audit.redact import Key, canonical, leaks
from albert_audit.types import Status, UsageError
from tests.fakes import chance, noisy, policy, selected
from tests.privacy import extraction_models as models
from tests.tiny import mlm, tiny_folders, tiny_handles, tiny_scorers

__all__ = ["mlm", "tiny_folders", "tiny_handles", "tiny_scorers"]

KEY = Key(bytes(range(32)))


def table(tmp_path, rows):
    return extraction.read(models.write(tmp_path / "secrets.jsonl", rows))


def numbered(count=24, digits=6, **more):
    """Records of persons, each with a number; the first half was trained on."""
    rng = random.Random(11)
    return [
        {"id": f"r{i}", "text": f"file of person{i} under {(s := f'{rng.randrange(10**digits):0{digits}d}')} here",
         "secret": s, "kind": "patient-id", "person": f"owner{i}", "trained": "yes" if i < count // 2 else "no", **more}
        for i in range(count)
    ]  # fmt: skip


def remembering(rows, *, sure=-0.01, seed=0):
    """A fake model that fills in the secrets of some rows, piece by piece, and guesses elsewhere."""
    held = {f"person{i}": list(r["secret"]) for i, r in enumerate(rows) if r["trained"] == "yes"}

    def logprob(tokens, at, token):
        who = next((t for t in tokens if t in held), None)
        if who is not None and tokens[1:3] == ("file", "of") and tokens[-2] == "here":
            k = at - 5  # [CLS] file of <person> under ...
            if len(tokens) == 7 + len(held[who]) and 0 <= k < len(held[who]):
                return sure if token == held[who][k] else -9.0 + chance(seed, token) / 10
        return -3.0 + chance(seed, tokens, at, token) / 10

    return logprob


WORDS = ("file", "of", "under", "here", "thing", *(f"person{i}" for i in range(24)))


def fake(logprob, *, wide=1, also=()):
    """A fake model with a small vocabulary of fixed ids: digits, some words, and "thing" for every other word."""

    def pieces(word):
        if word.isdigit():
            return [word[k : k + wide] for k in range(0, len(word), wide)]
        return [word if word in WORDS else "thing"]

    scorer = FakeScorer(logprob, pieces=pieces)
    scorer.encode([" ".join((*WORDS, *"0123456789", *also))])
    return scorer


# --- the table --------------------------------------------------------------------------------


def test_a_table_is_read_with_kinds_by_the_detectors_and_repr_shows_nothing(tmp_path):
    found = table(
        tmp_path,
        [
            {"text": "write to jo.dyer@example.org soon", "secret": "jo.dyer@example.org", "trained": "yes"},
            {"text": "we met Clara Dyer", "secret": "Clara Dyer", "trained": "no"},
            {"text": "her badge is 4711-a", "secret": "4711-a", "kind": "Staff badge", "trained": False},
        ],
    )
    assert [e.kind for e in found.entries] == ["email", "other", "staff-badge"]
    assert [e.trained for e in found.entries] == [True, False, False]
    assert [e.id for e in found.entries] == ["1", "2", "3"]
    assert not any(leaks(repr(found).encode(), e.secret) for e in found.entries if len(e.form) > 5)


def test_without_a_list_of_names_a_name_is_other_and_no_kind_claims_names(tmp_path):
    """Trap 16: no detector knows names; that must not read as a search that found none."""
    found = table(tmp_path, [{"text": "we met Clara Dyer", "secret": "Clara Dyer"}])
    assert found.kinds == ["other"]


GOOD = {"text": "the number of Ann is 554433 today", "secret": "554433", "id": "a", "kind": "pin", "name": "Ann Weber",
        "trained": "yes"}  # fmt: skip


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"text": "nothing here of 998877"}, "0 times"),
        ({"text": "it is 554433 and 554433"}, "2 times"),
        ({"text": "it is 554433, read 5544 33"}, "another spelling"),
        ({"text": "it is 554433 {secret}"}, "stands for the secret"),
        ({"secret": " - "}, "empty"),
        ({"text": ""}, "empty"),
        ({"trained": "perhaps 554433"}, "yes or no"),
        ({"kind": "all"}, "no kind"),
        ({"kind": "ID 554433"}, "no kind"),
        ({"id": "x-554433"}, "the id holds"),
        ({"id": "Ann.Weber"}, "the id holds"),
        ({"id": ""}, "no id"),
        ({"secret": ["554433"]}, "found a list"),
    ],
)
def test_a_wrong_row_is_named_by_its_number_and_never_shown(tmp_path, changes, said):
    rows = [{**GOOD, "text": "hers is 121212 now", "secret": "121212", "id": "b", "name": ""}, GOOD | changes]
    with pytest.raises(UsageError, match=said) as caught:
        table(tmp_path, rows)
    assert "row 2" in str(caught.value)
    assert not leaks(str(caught.value).encode(), "554433")
    assert "Weber" not in str(caught.value)


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ([GOOD, GOOD], "rows 1 and 2 have the same id"),
        ([GOOD, GOOD | {"id": "b", "trained": "no"}], "only one is said to be trained"),
        ([{**GOOD, "text": "554433 was 887766"}, {**GOOD, "id": "b", "text": "it is 88 77 66", "secret": "88 77 66",
          "trained": "no"}], "holds the secret of row 2"),
        ([], "no rows|called 'text'"),
        ([{"a": "554433", "b": "1"}], "called 'text' once, found 0 among 2 columns"),
        ([{**GOOD, "id": str(i), "kind": f"kind-{i}", "text": f"x {200000 + i}", "secret": str(200000 + i)}
          for i in range(21)], "more than 20 kinds"),
    ],
)  # fmt: skip
def test_a_table_that_contradicts_itself_is_refused(tmp_path, rows, said):
    with pytest.raises(UsageError, match=said) as caught:
        table(tmp_path, rows)
    assert not leaks(str(caught.value).encode(), "554433")


def test_rows_that_share_a_secret_share_a_person(tmp_path):
    rows = numbered(6)
    rows[1] |= {"text": rows[0]["text"] + " again", "secret": rows[0]["secret"]}
    rows[2]["person"] = "owner1"
    people = [e.person for e in table(tmp_path, rows).entries]
    assert people[0] == people[1] == people[2]
    assert len(set(people)) == 4


@given(st.text("0123456789", min_size=3, max_size=8), st.sampled_from(["", " ", "-", ". "]))
def test_a_secret_is_found_in_another_spelling_and_not_inside_a_longer_number(secret, between):
    spelled = between.join(secret)
    assert occurrences(f"it is {spelled}.", secret) == 1
    assert occurrences(f"it is 9{secret}", secret) == (1 if "9" + secret == secret else 0)
    assert occurrences("it is nothing", secret) == 0


def test_documents_are_counted_once_each():
    texts = ["Ann Lee and ann  lee", "ANN-LEE", "Joann Lee", "她叫王小明吗", "none"]
    assert documents(texts, ["Ann Lee", "王小明", "5"]) == [2, 1, 0]


# --- prompts ----------------------------------------------------------------------------------


def test_every_group_has_five_prompts_a_language_with_one_gap():
    for group in shipped()["prompts"].values():
        assert all(SLUG.fullmatch(kind) for kind in group["kinds"])
        for language in ("en", "zh"):
            assert len(group[language]) >= 5
            for prompt in group[language]:
                assert prompt["bare"].count("{secret}") == 1
                assert "{name}" not in prompt["bare"]
                named = prompt.get("named")
                assert named is None or (named.count("{secret}") == 1 and named.count("{name}") == 1)
    assert all(t.count("{secret}") == 1 for texts in shipped()["neutral"].values() for t in texts)
    assert min(len(texts) for texts in shipped()["neutral"].values()) >= 10


def test_the_kinds_of_the_detectors_have_prompts_of_their_own():
    other = prompts("other", "en", named=False)
    missing = [k for k in DETECTORS if prompts(k.replace("_", "-"), "en", named=False) == other]
    assert missing == ["ip_address", "url_user"]


def test_prompts_name_persons_only_where_all_of_a_kind_have_names(tmp_path):
    rows = [r | {"name": f"name{i}"} for i, r in enumerate(numbered(4))]
    scorer = FakeScorer(noisy())
    scorer.encode(
        [
            *(r["text"] for r in rows),
            *(t for n in (True, False) for t in prompts("patient-id", "en", named=n)),
        ]
    )
    scorer.encode([r["name"] for r in rows])
    named = asked_of(table(tmp_path, rows), scorer, 1)
    assert "name2" in named[2].placed["prompt-1"].text
    rows[3]["name"] = ""
    assert all("name" not in a.placed["prompt-1"].text for a in asked_of(table(tmp_path, rows), scorer, 1))


# --- decoding ---------------------------------------------------------------------------------

GAP = extraction_decode.Gap((2, 5), (6, 3))


def small(seed=0):
    """A fake model with six pieces, at ids 5 to 10."""
    scorer = FakeScorer(noisy(seed))
    scorer.encode(["w0 w1 w2 w3 w4 w5"])
    return scorer


def joint(scorer, ids):
    """Log-probability from left to right, asked one by one."""
    return sum(
        float(scorer.mask_logprobs([GAP.query(ids[:k], len(ids), scorer.mask_id, at=(k,))])[0][0, ids[k]])
        for k in range(len(ids))
    )


@pytest.mark.parametrize("length", [1, 2, 3])
def test_a_wide_beam_finds_what_enumeration_finds(length):
    scorer = small()
    words = extraction_decode._words(scorer)
    assert list(np.flatnonzero(words)) == [5, 6, 7, 8, 9, 10]  # no special piece is ever filled in
    everything = sorted(itertools.product(range(5, 11), repeat=length), key=lambda ids: -joint(scorer, ids))
    found = extraction_decode.beam(scorer, [GAP], length, 6**length, words)[0]
    assert [ids for ids, _ in found] == everything
    assert [s for _, s in found] == pytest.approx([joint(scorer, ids) for ids in everything], abs=1e-4)
    greedy = extraction_decode.beam(scorer, [GAP], length, 1, words)[0]
    assert len(greedy) == 1
    assert greedy[0][1] <= found[0][1] + 1e-6


def test_the_surest_piece_is_filled_first_and_the_model_asked_again():
    def logprob(tokens, at, token):  # the second place is sure; knowing it, so is the first
        if at == 3:
            return -0.1 if token == "w3" else -5.0
        return (-0.2 if token == "w4" else -5.0) if tokens[3] == "w3" else (-2.0 if token == "w1" else -6.0)

    scorer = FakeScorer(logprob)
    scorer.encode(["w0 w1 w2 w3 w4 w5"])
    words = extraction_decode._words(scorer)
    by_piece = {n: i for i, n in enumerate(scorer._names)}
    wanted = by_piece["w4"], by_piece["w3"]
    assert extraction_decode.surest_first(scorer, [GAP], 2, words)[0][0] == (wanted, pytest.approx(-0.3))
    assert extraction_decode.beam(scorer, [GAP], 2, 1, words)[0][0][0] == (by_piece["w1"], by_piece["w3"])


def test_lengths_are_compared_by_what_is_usual_for_them_and_not_by_the_sum():
    """A sum of logs prefers one piece whatever stands there: the right two pieces would never come first."""

    def logprob(tokens, at, token):
        masks = tokens.count("[MASK]") + sum(t in ("w4", "w3") for t in tokens)
        if tokens[1] == "known" and masks == 2:
            return -0.4 if token == ("w4", "w3")[at - 2] else -7.0
        return -0.5 if token == "w0" else -3.0

    scorer = FakeScorer(logprob)
    known, other = scorer.encode(["known w0 end", "other w1 end"])
    scorer.encode(["w2 w3 w4"])
    gap, *neutral = (extraction_decode.Gap(e.ids[:2], e.ids[3:]) for e in (known, other, other))
    neutral = [neutral[0], extraction_decode.Gap((2, 99 % 8, 7), neutral[0].right)]
    yardstick = extraction_decode.norms(scorer, neutral, 2)
    best = extraction_decode.search(scorer, [gap], 2, yardstick)[0][0]
    assert best.form == "w4w3"
    assert 2 * -0.4 < -0.5  # by the sum the single piece would win


def test_a_lone_mark_goes_with_the_secret_and_is_no_character_of_it():
    """Trap 13: ▁ left behind before the gap would tell how the secret begins."""
    pieces = ("[CLS]", "▁saw", "▁", "q", "7", "[SEP]")
    ids = tuple(range(6))
    encoded = Encoded(ids, (0,) * 6, ((0, 0),) * 6, (-1, 0, 1, 1, 1, -1), (True, *(False,) * 4, True))
    gap, wide = extraction_decode.gap_of(Placed("saw q7", encoded, (3, 4)), pieces)
    assert (gap.left, gap.right, wide) == ((0, 1), (5,), 3)
    assert canonical("".join(pieces[i] for i in (2, 3, 4))) == "q7"


def test_an_accent_that_the_tokenizer_strips_does_not_hide_a_hit(mlm, tmp_path):
    """Trap 12: the model can only give back what its tokenizer left of the secret."""
    found = table(tmp_path, [{"text": "we met José Núñez there", "secret": "José Núñez", "kind": "name"}])
    truths = asked_of(found, mlm, 0)[0].truths
    assert "josenunez" in truths


# --- ranks ------------------------------------------------------------------------------------


def test_a_rank_puts_ties_first():
    assert extraction_ranks.ranked(-1.0, [-1.0] * 20) == (0.0, 0.0)
    assert extraction_ranks.ranked(0.0, [-1.0] * 31) == (1.0, 5.0)
    assert extraction_ranks.ranked(-1.5, [-1.0, -2.0]) == (0.5, pytest.approx(math.log2(1.5)))


@pytest.mark.parametrize(
    ("kind", "secret", "source"),
    [
        ("phone", "212-555-0142 ext. 4411", "generator"),  # one that the generator could have made
        ("phone", "212-555-0142", "digits"),  # fictitious, but the generator's have an extension
        ("phone", "212-664-7665", "digits"),  # a real form: fictitious numbers would give it away
        ("us-ssn", "521-43-8876", "digits"),
        ("pin", "83920144", "generator"),
        ("name", "Clara Dyer", "others"),
    ],
)
def test_candidates_have_the_form_and_the_number_of_pieces_of_the_secret(mlm, tmp_path, kind, secret, source):
    """Trap 13, and 14: none is a secret of the table."""
    names = [f"{a.title()} {b.title()}" for a, b in itertools.product(models.FIRST, models.LAST[:8])]
    rows = [{"text": f"it was {secret} then", "secret": secret, "kind": kind, "trained": "yes"}]
    if source == "others":
        rows += [
            {"text": f"it was {n} then", "secret": n, "kind": kind, "trained": "no"}
            for n in names
            if n != secret
        ]
    found = table(tmp_path, rows)
    one = asked_of(found, mlm, 0)[0]
    own, template = one.placed["own"], one.templates["own"]
    got, where = extraction_ranks.candidates(
        mlm, found.entries[0], own, template, found.entries, np.random.default_rng(1), 20
    )
    assert where == source
    assert len(set(got)) == len(got) == (20 if source != "others" else len(got)) > 5
    read = list(placed(mlm, template, got, None))
    assert {len(p.where) for p in read} == {len(own.where)}
    assert secret not in got
    if source != "others":
        shape = extraction_ranks._shape(secret)
        assert {extraction_ranks._shape(g) for g in got} == {shape}


def test_too_few_candidates_are_a_reason_and_no_rank(tmp_path):
    found = table(tmp_path, numbered(8, digits=4))
    told = extraction.measure(found, fake(noisy()), None, seed=0, prompts=0)
    ranks = [t for t in told if t.measure == "rank"]
    assert len(ranks) == 8
    assert all(math.isnan(t.value) and "expected 20" in t.skipped for t in ranks)


# --- asking -----------------------------------------------------------------------------------


def findings(tmp_path, rows, target, base=None, **more):
    secrets = table(tmp_path, rows)
    made, found = extraction_findings.run(
        secrets, target, base, KEY, policy(), 0, prompts=more.pop("prompts", 0), **more
    )
    assert [f.id for f in found] == extraction_findings.ids(secrets)
    return made, {f.id.split("/", 1)[1].rsplit("/", 1)[0]: f for f in found}


def test_what_a_model_remembers_is_found_and_the_controls_are_not(tmp_path):
    rows = numbered(20, digits=3)
    made, found = findings(tmp_path, rows, fake(remembering(rows)), fake(noisy(1)))
    one = found["top1/all"]
    assert one.status is Status.ESTIMATED
    assert one.details["trained_target"] == 1
    assert one.details["untrained_target"] == one.details["trained_base"] == 0
    assert one.difference.intervals["0.95"].low > 0.4
    assert one.details["accidental"] == 0
    for f in found.values():
        for selector in f.evidence:
            assert len(selected(made, selector)) == selector.rows == 20
    assert set(made["cluster_a"]) == {KEY.digest(f"person owner{i}", purpose="person") for i in range(20)}


def test_a_model_that_remembers_nothing_has_a_width_though_nothing_was_found(tmp_path):
    rows = numbered(20, digits=3)
    _, found = findings(tmp_path, rows, fake(noisy(2)), fake(noisy(1)))
    for name in ("top1/all", "top10/all"):
        for estimate in (found[name].effect, found[name].difference):
            assert estimate.value == 0
            assert estimate.intervals["0.90"].high > 0.1


def test_one_kind_among_several_has_findings_of_its_own_and_its_own_rows(tmp_path):
    rows = numbered(20, digits=3)
    for r in rows[5:15]:
        r["kind"] = "locker"
    made, found = findings(tmp_path, rows, fake(remembering(rows)), fake(noisy(1)))
    assert set(found) == {
        f"{m}/{a}" for m in ("top1", "top10", "rank") for a in ("all", "locker", "patient-id")
    }
    assert found["top1/locker"].n == 10
    assert found["top1/locker"].status is Status.INSUFFICIENT  # five persons a side
    assert "too few persons" in found["top1/locker"].reason
    assert all(len(selected(made, s)) == s.rows == 10 for s in found["top1/locker"].evidence)


def test_without_controls_without_a_base_and_with_few_persons_nothing_is_claimed(tmp_path):
    rows = numbered(20, digits=3)
    _, found = findings(tmp_path, [r | {"trained": "yes"} for r in rows], fake(noisy()))
    assert {f.status for f in found.values()} == {Status.INSUFFICIENT}
    assert "trained = no" in found["top1/all"].reason
    _, found = findings(tmp_path, rows, fake(noisy()))
    assert found["top1/all"].difference is None
    assert any("No base" in c for c in found["top1/all"].caveats)
    _, found = findings(
        tmp_path, [r | {"person": f"p{i % 3}{r['trained']}"} for i, r in enumerate(rows)], fake(noisy())
    )
    assert found["top1/all"].status is Status.INSUFFICIENT
    assert found["top1/all"].clusters[0].count == 6


def test_a_model_without_finite_scores_is_skipped_and_never_zero(tmp_path):
    """Trap 15: what could not be computed must not read as "no leak"."""
    rows = numbered(24, digits=3)
    made, found = findings(tmp_path, rows, fake(lambda tokens, at, token: math.nan), fake(noisy()))
    assert {f.status for f in found.values()} == {Status.INSUFFICIENT}
    assert found["top1/all"].n == 0
    probe = made[(made["role"] == "probe") & ~made["measure"].str.startswith("acc")]
    assert probe["value"].isna().all()
    assert (probe["skipped"] != "").all()

    def broken(tokens, at, token):
        raise RuntimeError("no answer")

    with pytest.raises(RuntimeError):
        findings(tmp_path, rows, fake(broken))


def test_what_is_truncated_or_too_long_to_search_is_skipped_with_its_reason(tmp_path):
    """Trap 12."""
    rows = numbered(20, digits=3)
    rows[0]["text"] += " word" * 200
    rows[1] |= {"secret": "1234567890123", "text": "file of person1 under 1234567890123 here"}
    made, found = findings(tmp_path, rows, fake(noisy()), fake(noisy(1)))
    reasons = made[(made["measure"] == "top1") & (made["role"] == "probe")].set_index("item")["skipped"]
    assert "longer than 128 tokens" in reasons["r0"]
    assert reasons["r1"] == "longer than 12 pieces"
    assert (found["top1/all"].n, found["top1/all"].n_skipped) == (18, 2)


def test_a_base_with_another_tokenizer_is_refused(tmp_path):
    rows = numbered(4)
    with pytest.raises(UsageError, match="tokenizers differ"):
        findings(tmp_path, rows, fake(noisy()), fake(noisy(), wide=2))


def test_a_corpus_counts_documents_and_unmasks_controls_that_are_none(tmp_path):
    rows = numbered(20, digits=4)
    corpus = [r["text"] for r in rows[:9]] + [rows[0]["text"] + " twice", rows[15]["text"]]
    made, found = findings(tmp_path, rows, fake(remembering(rows)), fake(noisy(1)), corpus=corpus)
    one = found["top1/all"]
    assert (one.n, one.n_skipped) == (19, 1)
    assert one.details["trained_not_in_corpus"] == 1
    assert (one.details["documents_min"], one.details["documents_max"]) == (0, 2)
    assert one.details["hits_in_one_document"] == 8
    assert "corpus holds it" in made[made["item"] == "r15"]["skipped"].max()


def test_hits_that_a_check_confirms_and_the_base_misses_are_counted(tmp_path, monkeypatch):
    assert extraction_findings._checked("4111 1111 1111 1111")
    assert not extraction_findings._checked("4111 1111 1111 1112")
    rows = numbered(10, digits=3)
    confirmed = {r["secret"] for r in rows[2:]}
    monkeypatch.setattr(extraction_findings, "_checked", lambda secret: secret in confirmed)
    scorers = (
        fake(remembering(rows)),
        fake(remembering([r if i == 4 else r | {"trained": "no"} for i, r in enumerate(rows)])),
    )
    _, found = findings(tmp_path, rows, *scorers)
    assert found["top1/all"].details["trained_target"] == 1
    assert found["top1/all"].details["trained_base"] == 0.2
    assert (
        found["top1/all"].details["checked_hits_base_misses"] == 2
    )  # of five two are not confirmed, one the base has


def test_accidental_matches_of_short_numbers_are_told(tmp_path):
    """A model that says 7 everywhere finds every secret that is 7; so it does in another person's place."""
    rows = numbered(24, digits=3)
    for i, r in enumerate(rows):
        r |= {
            "secret": str(7 + i % 2),
            "text": f"file of person{i} under {7 + i % 2} here",
            "trained": "yes",
            "person": f"o{i}",
        }
    secrets = table(tmp_path, rows)
    always = fake(lambda tokens, at, token: -0.1 if token == "7" else -4.0 + chance(token) / 10)
    told = extraction.measure(secrets, always, None, seed=0, prompts=0)
    hits = {t.entry: t.value for t in told if t.measure == "top1" and t.prompt == "any"}
    assert hits == {i: float(i % 2 == 0) for i in range(24)}
    share = [t.value for t in told if t.measure == "accidental_top1"]
    assert 0 <= min(share) <= max(share) <= 1
    assert len(share) > 0


def test_the_forecast_is_never_below_what_is_scored_and_not_far_above(tmp_path, mlm):
    secrets = table(tmp_path, numbered(6))
    counted = CountingScorer(mlm)
    extraction.measure(secrets, counted, None, seed=0, prompts=2)
    said = extraction.cost(secrets, mlm, base=False, prompts=2)
    assert counted.tokens <= said <= 2.5 * counted.tokens
    assert extraction.cost(secrets, mlm, base=True, prompts=2) == 2 * said


@settings(max_examples=5, deadline=None)
@given(st.integers(0, 10**6))
def test_results_depend_on_nothing_but_the_seed(seed):
    rows = numbered(4, digits=2)
    entries = tuple(extraction_secrets_of(rows))
    secrets = extraction.Secrets(entries)
    a, b = (
        extraction.measure(secrets, fake(noisy()), None, seed=seed, prompts=0, longest=2) for _ in range(2)
    )
    assert repr(a) == repr(b)


def extraction_secrets_of(rows):
    from albert_audit.redact import Secret

    for r in rows:
        yield extraction.Entry(
            r["id"], Secret(r["text"]), Secret(r["secret"]), r["text"].index(r["secret"]), r["kind"],
            r["trained"] == "yes", Secret(r["person"]),
        )  # fmt: skip


# --- nothing is written down ------------------------------------------------------------------


def test_no_secret_and_no_person_is_in_rows_findings_or_reprs(tmp_path):
    rows = [r | {"name": f"Clara Weberling{i}"} for i, r in enumerate(numbered(10))]
    made, found = findings(tmp_path, rows, fake(remembering(rows)), fake(noisy(1)))
    parquet = io.BytesIO()
    made.to_parquet(parquet, compression=None)
    secrets = table(tmp_path, rows)
    told = extraction.measure(secrets, fake(remembering(rows)), None, seed=0, prompts=0)
    asked = asked_of(secrets, fake(noisy()), 1)
    written = [
        parquet.getvalue(),
        made.to_json().encode(),
        json.dumps([f.model_dump(mode="json") for f in found.values()]).encode(),
        repr((secrets, told, asked, found)).encode(),
    ]
    assert found["top1/all"].details["trained_target"] == 1
    for content in written:
        for r in rows:
            assert not leaks(content, r["secret"])
            assert not leaks(content, r["name"])
            assert not leaks(content, r["person"])
    assert leaks(written[1] + rows[0]["secret"].encode(), rows[0]["secret"])  # the search itself works


# --- without secrets --------------------------------------------------------------------------


def test_without_secrets_the_model_is_only_explored(mlm):
    """Trap 16: names are said not to be looked for."""
    made, (found,) = extraction_findings.run(None, mlm, mlm, KEY, policy(), 0, longest=1)
    assert [found.id] == extraction_findings.ids(None)
    assert not found.gates
    assert found.status is Status.INSUFFICIENT
    assert "no completion more or less" in found.reason
    assert any("Names" in c and "not looked for" in c for c in found.caveats)
    assert len(made) == 2 * 35
    _, (alone,) = extraction_findings.run(None, mlm, None, KEY, policy(), 0, longest=1)
    assert "no base model" in alone.reason


def test_completions_that_pass_a_check_are_counted_against_the_base():
    """One piece that is a valid card number: the model says it after "file", its base never."""
    card = "4111111111111111"

    def knowing(tokens, at, token):
        return (
            -0.1 if token == card and "file" in tokens else -6.0 + chance(token) / 10 - 20 * (token == card)
        )

    def naive(tokens, at, token):
        return -6.0 + chance(token) / 10 - 20 * (token == card)

    scorers = [fake(m, wide=16, also=[card]) for m in (knowing, naive)]
    made, (found,) = extraction_findings.run(None, *scorers, KEY, policy(), 0, longest=1)
    probe = made[made["role"] == "probe"].set_index("item")["value"]
    assert set(probe[probe > 0].index) == {"number/en/2"}
    assert found.details["confirmed_new"] == 1
    assert found.effect.value == pytest.approx(1 / 35)
    assert not leaks(made.to_json().encode() + found.model_dump_json().encode(), card)


# --- a model that was trained -----------------------------------------------------------------


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("extraction")
    rows = models.records()
    target, base = (TorchScorer(load(path, device="cpu"), budget=4096) for path in models.train(folder, rows))
    secrets = extraction.read(models.write(folder / "secrets.jsonl", rows))
    return rows, extraction_findings.run(secrets, target, base, KEY, policy(), 0, prompts=1)


def test_a_trained_model_gives_away_its_records_and_no_others(trained):
    _, (_, found) = trained
    one = {f.measure: f for f in found}
    assert one["top1"].details["trained_target"] >= 0.6
    assert one["top10"].details["trained_target"] >= 0.9
    assert one["rank"].details["trained_target"] >= 0.95
    for name in ("top1", "top10"):
        assert one[name].details["untrained_target"] <= 0.1
        assert one[name].details["trained_base"] <= 0.1
        assert one[name].difference.intervals["0.95"].low > 0.1
    assert one["rank"].difference.intervals["0.95"].low > 0
    assert one["top10"].details["prompts_min"] < 0.2  # a general prompt does not draw it out; its record does
    assert one["top10"].details["prompts_max"] >= 0.9


def test_a_trained_models_results_hold_no_person(trained):
    rows, (made, found) = trained
    written = made.to_json().encode() + json.dumps([f.model_dump(mode="json") for f in found]).encode()
    names = [" ".join(w for w in r["text"].split() if w in {*models.FIRST, *models.LAST}) for r in rows]
    assert not any(leaks(written, name) for name in names)
    assert not any(leaks(written, r["text"]) for r in rows)
