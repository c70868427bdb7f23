"""Canaries: a design that chance alone decides, secrets that survive, and scores of nothing else."""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from scipy import stats

from albert_audit.model.cache import CountingScorer, FakeScorer
from albert_audit.model.load import load as load_model
from albert_audit.model.scorer import TorchScorer
from albert_audit.privacy import canaries, canary_scores
from albert_audit.privacy.canaries import LEVELS, Manifest, Template, clashes, lines, make, references, score
from albert_audit.privacy.identifiers import Identifier, identifier, identifiers, materials
from albert_audit.redact import canonical
from albert_audit.types import Decision, Head, UsageError
from tests import tiny
from tests.fakes import chance, noisy

PIN = Template(id="pin", identifier="pin", text="the code is {secret} for ever")
MAIL = Template(id="mail", identifier="email", text="write to {secret} by friday")
CLASSIFIER = {"head": Head.SEQUENCE_CLASSIFICATION, "labels": ("bad", "fine", "good")}


def small(**changes) -> Manifest:
    """Two templates, eight canaries of the series, no coins."""
    base = {"templates": (PIN, MAIL), "levels": (0, 1, 4, 16), "coins": 0, "seed": 1}
    return make(**(base | changes))


def digits(word: str) -> list[str]:
    """Digits are pieces of their own."""
    return re.findall(r"\d|\D+", word)


def fake_kind(generate, name="pin") -> dict[str, Identifier]:
    return identifiers() | {name: replace(identifier(name), generate=generate)}


def use_kind(patch, generate) -> None:
    """Let `pin` draw otherwise."""
    found = fake_kind(generate)
    for module in (canaries, canary_scores):
        patch.setattr(module, "identifier", found.__getitem__)


def of_canaries(frame):
    return frame[frame["role"] == "canary"].set_index("item")


def exposure(frame, column="score"):
    """Bits of rank exposure of each canary; ties put references first."""
    refs = references(frame, column)
    found = of_canaries(frame)
    return np.array(
        [
            np.log2(len(refs[s]) + 1) - np.log2(1 + (refs[s] >= v).sum())
            for s, v in zip(found["stratum"], found[column], strict=True)
        ]
    )


# --- the design -----------------------------------------------------------------------------


def test_the_series_crosses_templates_and_repetitions():
    made = make(seed=0, copies=2, coins=50)
    series = Counter((c.template, c.repetitions) for c in made.canaries if c.block == "series")
    assert series == Counter({(t.id, k): 2 for t in made.templates for k in LEVELS})
    coins = Counter(c.template for c in made.canaries if c.block == "coin")
    assert sum(coins.values()) == 50
    assert max(coins.values()) - min(coins.values()) <= 1
    assert {t.style for t in made.templates} == {"natural", "random"}


def test_coins_are_fair_independent_and_of_the_system_unless_a_seed_is_given():
    made = make(seed=3, coins=4000, templates=(PIN,), levels=(0,))
    coins = [c.repetitions for c in made.canaries if c.block == "coin"]
    assert set(coins) == {0, 1}
    assert stats.binomtest(sum(coins), 4000).pvalue > 0.001
    runs = sum(a != b for a, b in pairwise(coins))
    assert stats.binomtest(runs, 3999).pvalue > 0.001
    # Half and half would be no independent coins, and the theorem that bounds epsilon would not hold.
    sums = [
        sum(c.repetitions for c in make(seed=s, coins=64, templates=(PIN,), levels=(0,)).canaries)
        for s in range(60)
    ]
    assert 8 < np.var(sums) < 28  # 16 expected
    one, two = make(coins=20), make(coins=20)
    assert one.seed != two.seed
    assert one.seed.bit_length() > 90
    assert not {c.secret for c in one.canaries} & {c.secret for c in two.canaries}


def test_labels_are_drawn_whatever_the_repetitions():
    made = make(seed=2, templates=(PIN,), levels=(0, 1), copies=600, coins=0, **CLASSIFIER)
    table = np.array(
        [[sum(c.label == name and c.repetitions == k for c in made.canaries) for name in made.labels] for k in (0, 1)]
    )  # fmt: skip
    assert stats.chisquare(table.sum(axis=0)).pvalue > 0.001
    assert stats.chi2_contingency(table).pvalue > 0.001
    assert all(not c.label for c in small().canaries)


@settings(max_examples=10, deadline=None, phases=[Phase.generate])
@given(seed=st.integers(0, 2**128 - 1), language=st.sampled_from(["en", "zh"]))
def test_secrets_differ_are_proven_nobodys_and_survive_the_file(seed, language):
    made = make(seed=seed, language=language, coins=15)
    assert len({canonical(c.secret) for c in made.canaries}) == len(made.canaries)
    for canary in made.canaries:
        assert identifier(made.template(canary).identifier).validates(canary.secret)
    assert Manifest.read(json.loads(made.model_dump_json(by_alias=True)), where="here") == made
    assert make(seed=seed, language=language, coins=15) == made


def test_names_are_drawn_only_where_they_are_asked_for():
    assert not {t.identifier for t in make(seed=0).templates} & {"name-en", "name-zh"}
    asked = make(seed=0, identifiers=["name-zh"], random_templates=0, language="zh", coins=0)
    assert {t.identifier for t in asked.templates} == {"name-zh"}


@pytest.mark.parametrize("language", ["en", "zh"])
def test_shipped_templates_hold_no_secret_of_their_own(language):
    found = [Template(**t) for t in materials()["templates"][language]]
    assert len({t.id for t in found}) == len(found)
    for t in found:
        kind = identifier(t.identifier)
        assert kind.language in ("", language)
        assert not re.search(r"\d|@", t.text)
        assert not t.text.startswith("{")


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"levels": (1, 2)}, "not inserted"),
        ({"levels": ()}, "not inserted"),
        ({"levels": (0, 1, 1)}, "different numbers"),
        ({"copies": 0}, "at least one copy"),
        ({"coins": -1}, "coins from 0"),
        ({"labels": ("a", "b")}, "none for a masked"),
        ({"head": Head.SEQUENCE_CLASSIFICATION}, "two or more"),
        ({"head": Head.SEQUENCE_CLASSIFICATION, "labels": ("a", "a")}, "different labels"),
        ({"head": Head.QUESTION_ANSWERING}, "takes no canaries"),
        ({"templates": ()}, "no template"),
        ({"templates": None, "identifiers": ["passport"]}, "no identifier"),
    ],
)
def test_a_design_without_controls_or_labels_is_refused(changes, said):
    with pytest.raises(UsageError, match=said):
        small(**changes)


# --- the lines and the file -----------------------------------------------------------------


def test_lines_hold_each_canary_as_often_as_the_manifest_says():
    made = make(seed=5, coins=40, **CLASSIFIER)
    found = lines(made)
    counts = Counter(found)
    for canary in made.canaries:
        text = made.template(canary).text.replace("{secret}", canary.secret)
        assert counts.pop((text, canary.label), 0) == canary.repetitions
        if not canary.included:
            assert not any(canonical(canary.secret) in canonical(t) for t, _ in found)
    assert not counts
    assert lines(made) == found
    ordered = [i for i, (a, b) in enumerate(pairwise(found)) if a == b]
    assert len(ordered) < len(found) / 4


def test_a_canary_that_stands_in_the_data_already_is_told_by_id():
    made = small()
    first = made.canaries[0]
    spaced = " ".join(first.secret)
    assert clashes(made, ["nothing here", f"a number {spaced}, written with blanks"]) == [first.id]
    assert clashes(made, ["nothing here"]) == []


def test_the_file_is_its_owners_alone_and_never_overwritten(tmp_path):
    made, path = small(), tmp_path / "canaries.json"
    canaries.save(made, path)
    assert path.stat().st_mode & 0o777 == 0o600
    assert canaries.load(path) == made
    assert json.loads(path.read_text())["note"].startswith("SECRET")
    with pytest.raises(UsageError, match="never overwritten"):
        canaries.save(made, path)
    path.chmod(0o640)
    with pytest.raises(UsageError, match="chmod 600"):
        canaries.load(path)
    with pytest.raises(UsageError, match="cannot read"):
        canaries.load(tmp_path / "none")
    with pytest.raises(UsageError, match="cannot write"):
        canaries.save(made, tmp_path / "none" / "there")


def test_the_digest_commits_to_coins_and_secrets():
    made = small()
    assert made.sha256 == small().sha256
    other = made.model_copy(update={"canaries": made.canaries[::-1]})
    assert other.sha256 != made.sha256


def test_nothing_that_is_shown_tells_a_secret(tmp_path):
    made = small()
    shown = repr(made) + str(made) + repr(made.canaries[0])
    path = tmp_path / "canaries.json"
    data = json.loads(made.model_dump_json(by_alias=True))
    spoiled = []
    for change in (
        {"canaries": [data["canaries"][0] | {"id": "x"}, data["canaries"][0]]},
        {"canaries": [data["canaries"][0] | {"repetitions": -1}]},
        {"canaries": [data["canaries"][0] | {"template": "gone"}]},
        {"canaries": [data["canaries"][0] | {"label": "rare"}]},
        {"canaries": [data["canaries"][0] | {"block": "coin", "repetitions": 4}]},
        {"canaries": data["canaries"], "templates": data["templates"][:1]},
    ):
        path.unlink(missing_ok=True)
        path.write_text(json.dumps(data | change))
        path.chmod(0o600)
        with pytest.raises(UsageError) as error:
            canaries.load(path)
        spoiled.append(str(error.value))
    for text in (shown, *spoiled):
        assert str(made.seed) not in re.findall(r"seed=(\d+)", text)
        for canary in made.canaries:
            assert canonical(canary.secret) not in canonical(text)
    path.write_text("{")
    with pytest.raises(UsageError, match="not JSON"):
        canaries.load(path)


def test_a_template_has_one_slot():
    for text in ("no slot", "{secret} and {secret}"):
        with pytest.raises(ValueError, match="once"):
            Template(id="t", identifier="pin", text=text)


# --- surviving the tokenizer ----------------------------------------------------------------


def test_with_a_tokenizer_the_secrets_of_a_template_have_one_number_of_pieces():
    def pieces(word):
        return re.findall(r"[01]\d?|\d|\D+", word)  # digits pair up now and then

    scorer = FakeScorer(noisy(), pieces=pieces)
    made = small(scorer=scorer, copies=10)
    counts = {t.id: set() for t in made.templates}
    for c in made.canaries:
        counts[c.template].add(len(pieces(c.secret)) if c.template == "pin" else None)
    assert len(counts["pin"]) == 1
    assert len({len(pieces(c.secret)) for c in small(copies=10).canaries if c.template == "pin"}) > 1
    assert score(scorer, made, references=20)["stratum"].nunique() == 2


@pytest.mark.parametrize(
    ("why", "changes", "scorer"),
    [
        ("longer than 9 tokens", {"max_tokens": 9}, FakeScorer(noisy(), pieces=digits)),
        ("longer than 12 tokens", {}, FakeScorer(noisy(), pieces=digits, max_tokens=12)),
        ("the vocabulary lacks", {}, FakeScorer(noisy(), pieces=lambda w: ["<unk>" if w.isdigit() else w])),
        (
            "across the border",
            {"templates": (PIN.model_copy(update={"text": "codex{secret} for ever"}),)},
            FakeScorer(noisy()),
        ),
    ],
)
def test_what_does_not_survive_the_tokenizer_is_refused_or_skipped(why, changes, scorer):
    """Trap: truncation or unknown pieces take the canary away, and the model looks safe."""
    changes = {"templates": (PIN,)} | changes
    with pytest.raises(UsageError, match=why):
        small(scorer=scorer, **changes)
    found = score(scorer, small(**changes), references=5)
    assert set(found["skipped"]) == {re.search(r".*", found["skipped"].iloc[0])[0]}
    assert why in found["skipped"].iloc[0]
    assert found["score"].isna().all()
    assert len(found) == 4


def test_canaries_that_read_alike_are_not_drawn_and_not_scored(monkeypatch):
    """Trap: case and accents are normalised, so that one canary is another."""
    letters = "aáàâäãå"

    def generate(rng):
        return "".join(letters[int(i)] for i in rng.integers(len(letters), size=6)) + str(rng.integers(200))

    def pieces(word):
        return [word.translate({ord(c): "a" for c in letters})]

    use_kind(monkeypatch, generate)
    scorer = FakeScorer(noisy(), pieces=pieces)
    changes = {"templates": (PIN,), "copies": 10}
    kept = small(scorer=scorer, **changes)
    assert len({tuple(pieces(c.secret)) for c in kept.canaries}) == 40
    assert not (of_canaries(score(scorer, kept, references=20))["skipped"] != "").any()
    plain = small(**changes)
    alike = Counter(tuple(pieces(c.secret)) for c in plain.canaries)
    knows = FakeScorer(lambda tokens, at, token: 0.0 if (token,) in alike else -9.0, pieces=pieces)
    full = score(knows, plain, references=60)
    # Nor is any reference what a canary is to the tokenizer, be that canary scored or not.
    assert (full[full["role"] == "reference"]["score"] == -9).all()
    assert (full["role"] == "reference").sum() == 60
    found = of_canaries(full)
    for canary in plain.canaries:
        twice = alike[tuple(pieces(canary.secret))] > 1
        assert ("reads the same" in found.loc[canary.id, "skipped"]) == twice
    assert max(alike.values()) > 1


@pytest.mark.parametrize("chinese", [False, True])
def test_real_tokenizers_keep_secrets_apart_from_their_context(chinese, tmp_path):
    scorer = TorchScorer(load_model(tiny.checkpoint(tmp_path, chinese=chinese), device="cpu"))
    text = "他是{secret}的医生" if chinese else "the doctor said {secret} to her"
    made = small(templates=(PIN.model_copy(update={"text": text}),), scorer=scorer)
    for canary in made.canaries:
        (found,) = canary_scores.placed(scorer, made.templates[0], [canary.secret], None)
        read = "".join(scorer.pieces[i] for i in found.secret).replace("▁", "").replace("##", "")
        assert read == canary.secret


# --- the scores of a masked language model --------------------------------------------------


def test_the_score_is_the_joint_log_probability_of_the_secret_alone():
    """Traps: unmasked text, later pieces visible, or the context scored along."""
    asked = []

    def logprob(tokens, at, token):
        assert tokens[at] == "[MASK]"
        asked.append((tokens, at))
        return chance(tokens, at, token)

    scorer = FakeScorer(logprob, pieces=digits)
    made = small()
    found = of_canaries(score(scorer, made, references=3))
    for canary in made.canaries:
        words = re.findall(r"\w+|\S", made.template(canary).text.replace("{secret}", "§"))
        secret = [p for w in re.findall(r"\w+|\S", canary.secret) for p in digits(w)]
        at = words.index("§") + 1
        tail = [*words[at:], "[SEP]"]
        expected = sum(
            chance(("[CLS]", *words[: at - 1], *secret[:i], *["[MASK]"] * (len(secret) - i), *tail), at + i, p)
            for i, p in enumerate(secret)
        )  # fmt: skip
        assert found.loc[canary.id, "score"] == pytest.approx(expected, abs=1e-4)
        assert found.loc[canary.id, "pieces"] == len(secret)
    for tokens, at in asked:
        last = max(i for i, t in enumerate(tokens) if t == "[MASK]")
        assert all(t == "[MASK]" for t in tokens[at : last + 1])


def test_a_secret_competes_with_references_of_equally_many_pieces():
    """Trap: shorter candidates have higher sums, which is no memory."""
    scorer = FakeScorer(lambda tokens, at, token: -1.0, pieces=lambda w: re.findall(r"[01]\d?|\d|\D+", w))
    found = score(scorer, small(copies=8, templates=(PIN,)), references=50)
    assert found["stratum"].nunique() > 1
    assert (found["score"] == -found["pieces"]).all()
    assert (exposure(found) == 0).all()  # all tie with their references, which come first
    # What a single stratum would have said:
    values = found["score"][found["role"] == "reference"].to_numpy()
    assert any((values < v).mean() > 0.6 for v in of_canaries(found)["score"])


def test_references_are_no_canaries_and_all_different(monkeypatch):
    """Trap: a reference that was inserted hides what was memorised."""
    use_kind(monkeypatch, lambda rng: f"{int(rng.integers(200)):03d}")
    read = []

    class Spy(FakeScorer):
        def encode(self, texts, pairs=None):
            read.extend(texts)
            return super().encode(texts, pairs)

    def known(tokens, at, token):
        return 0.0 if token in kept else -9.0

    made = small(templates=(PIN,), copies=20)  # 80 of 200 secrets, of which 60 were inserted
    kept = {c.secret for c in made.canaries}
    found = score(Spy(known), made, references=120)
    assert (found[found["role"] == "reference"]["score"] == -9).all()
    assert (of_canaries(found)["score"] == 0).all()
    short = score(Spy(known), made, references=121)
    assert set(short["skipped"]) == {"120 of 121 references of 1 pieces were found"}
    assert len(short) == 80
    with pytest.raises(UsageError, match="at least one"):
        score(Spy(known), made, references=0)


def test_without_memory_ranks_are_uniform_whatever_was_inserted():
    """Trap: canaries drawn otherwise than their references."""
    made = small(copies=25, scorer=FakeScorer(noisy(), pieces=digits))
    found = score(FakeScorer(noisy(4), pieces=digits), made, references=199)
    rank = 2.0 ** -exposure(found)
    repetitions = of_canaries(found)["repetitions"].to_numpy()
    for part in (repetitions == 0, repetitions > 0):
        assert stats.kstest(rank[part], "uniform").pvalue > 0.01
    assert stats.mannwhitneyu(rank[repetitions == 0], rank[repetitions > 0]).pvalue > 0.01


def test_memory_shows_as_exposure_that_grows_and_the_base_takes_looks_away():
    made = small(copies=6, templates=(PIN,))
    often = {canonical(c.secret): c.repetitions for c in made.canaries}

    def looks(tokens, at, token):
        return 8 * chance(token)

    def trained(tokens, at, token):
        return looks(tokens, at, token) + 2 * math.log1p(often.get(token, 0))

    found = score(FakeScorer(trained), made, references=127, base=FakeScorer(looks))
    by = [of_canaries(found)["repetitions"].to_numpy() == k for k in (0, 1, 4, 16)]
    exact = exposure(found, "difference")
    assert (exact[~by[0]] == 7).all()
    assert (exact[by[0]] == 0).all()  # all tie at no difference
    plain = [exposure(found)[b].mean() for b in by]
    assert plain[0] < plain[3] < 7
    np.testing.assert_allclose(found["difference"], found["score"] - found["base"])


def test_a_base_that_reads_otherwise_is_refused():
    with pytest.raises(UsageError, match="tokenizers differ"):
        score(
            FakeScorer(noisy()),
            small(),
            references=3,
            base=FakeScorer(noisy(), pieces=lambda w: [f"{w[:2]}", *w[2:]]),
        )


def test_a_score_that_is_no_number_is_a_reason_and_never_zero():
    """Trap: an exception or a NaN turned into a score."""
    made = small(templates=(PIN,))
    worst = made.canaries[1]

    def broken(tokens, at, token):
        return math.nan if token == worst.secret else -1.0

    found = score(FakeScorer(broken), made, references=5)
    assert found["skipped"].tolist().count("the model gave no finite score") == 1
    assert math.isnan(of_canaries(found).loc[worst.id, "score"])
    based = score(FakeScorer(lambda *_: -1.0), made, references=5, base=FakeScorer(broken))
    row = of_canaries(based).loc[worst.id]
    assert row["skipped"] == "the base gave no finite score"
    assert row["score"] == -1.0
    assert math.isnan(row["difference"])


def test_the_table_holds_no_text_and_every_canary():
    made = small(coins=10)
    found = score(FakeScorer(noisy()), made, references=20)
    assert list(found.columns) == list(canary_scores.COLUMNS)
    text = canonical(found.drop(columns=["score", "base", "difference"]).to_csv())
    for canary in made.canaries:
        assert canonical(canary.secret) not in text
    rows = of_canaries(found)
    assert list(rows.index) == [c.id for c in made.canaries]
    assert rows["included"].tolist() == [c.included for c in made.canaries]
    assert (found[found["role"] == "reference"]["repetitions"] == 0).all()
    assert found["difference"].isna().all()
    assert set(references(found, "score")) == set(rows["stratum"])
    assert {len(v) for v in references(found, "score").values()} == {20}
    again = score(FakeScorer(noisy()), made, references=20)
    assert found.equals(again)


def test_a_model_is_asked_once_and_shared_inputs_are_sent_once():
    counting = CountingScorer(FakeScorer(noisy(), pieces=digits))
    found = score(counting, small(templates=(PIN,), copies=1), references=50)
    # The input with the whole secret masked is one for all; of the next there are at most ten.
    assert counting.inputs <= 1 + 10 + 54 * 6
    assert found["pieces"].eq(8).all()


# --- the scores of a classifier -------------------------------------------------------------


def classes(answer, labels=("good", "fine", "bad")):
    return FakeScorer(answers={"class": answer}, head=Head.SEQUENCE_CLASSIFICATION, labels=labels)


def test_a_classifier_is_asked_for_the_drawn_label_among_references_of_the_same():
    """Labels are matched by name, not by place; the sure are still told apart (float64)."""

    def answer(tokens):
        return [90 * chance(tokens, name) for name in ("good", "fine", "bad")]

    made = small(copies=3, **CLASSIFIER)
    found = score(classes(answer), made, references=15)
    rows = of_canaries(found)
    for canary in made.canaries:
        tokens = ("[CLS]", *re.findall(r"\w+|\S", made.template(canary).fill(canary.secret)[0]), "[SEP]")
        logits = dict(zip(("good", "fine", "bad"), np.float32(answer(tokens)).astype(float), strict=True))
        expected = logits[canary.label] - np.logaddexp.reduce(list(logits.values()))
        assert rows.loc[canary.id, "score"] == pytest.approx(expected, abs=1e-9)
        assert rows.loc[canary.id, "stratum"].endswith(f"/{canary.label}")
    strata = found[found["role"] == "reference"].groupby("stratum")["label"]
    assert (strata.nunique() == 1).all()
    assert (strata.size() == 15).all()
    assert set(strata.groups) == set(rows["stratum"])


def test_a_label_seen_often_is_exposed_and_one_label_rare_in_general_is_not():
    """A reference asked for another label would compare labels, not memory."""
    made = small(copies=10, templates=(PIN,), **CLASSIFIER)
    own = {c.secret: (c.label, c.repetitions) for c in made.canaries}

    def answer(tokens):
        out = dict(zip(CLASSIFIER["labels"], (-6.0, 0.0, 6.0), strict=True))
        label, times = own.get(tokens[4], ("", 0))
        out = {k: v + chance(tokens, k) / 20 + (times if k == label else 0) for k, v in out.items()}
        return [out[k] for k in ("good", "fine", "bad")]

    found = score(classes(answer), made, references=63)
    bits = exposure(found)
    repetitions = of_canaries(found)["repetitions"].to_numpy()
    assert (bits[repetitions >= 4] == 6).all()
    by_label = [bits[(repetitions == 0) & (of_canaries(found)["label"] == k)].mean() for k in made.labels]
    assert max(by_label) < 4.5


def test_several_labels_a_text_regressions_and_unknown_labels():
    made = small(templates=(PIN,), **CLASSIFIER)
    logits = {"good": 1.0, "fine": -0.5, "bad": 2.0}
    scorer = classes(lambda tokens: list(logits.values()))
    decision = Decision(labels=("good", "fine", "bad"), kind="multi", positive=0)
    rows = of_canaries(score(scorer, made, references=2, decision=decision))
    for canary in made.canaries:
        p = {k: 1 / (1 + math.exp(-v)) for k, v in logits.items()}
        expected = sum(math.log(p[k] if k == canary.label else 1 - p[k]) for k in p)
        assert rows.loc[canary.id, "score"] == pytest.approx(expected, abs=1e-6)
    with pytest.raises(UsageError, match="regression"):
        score(scorer, made, references=2, decision=decision.model_copy(update={"kind": "regression"}))
    other = classes(lambda tokens: [0.0, 0.0], labels=("yes", "no"))
    with pytest.raises(UsageError, match="no label"):
        score(other, made, references=2)
    named = classes(lambda tokens: list(logits.values()), labels=("LABEL_0", "LABEL_1", "LABEL_2"))
    single = decision.model_copy(update={"kind": "single"})
    np.testing.assert_allclose(
        of_canaries(score(named, made, references=2, decision=single))["score"],
        of_canaries(score(scorer, made, references=2))["score"],
    )


def test_a_model_without_the_head_is_refused():
    with pytest.raises(UsageError, match="made for the head"):
        score(FakeScorer(noisy()), small(**CLASSIFIER), references=2)


# --- a real model, trained on canaries ------------------------------------------------------


def trained(folder, texts, out, *, steps=200):
    """Fine-tune a masked LM for some seconds."""
    handle = load_model(folder, device="cpu")
    model, tokenizer = handle.model.requires_grad_(True).train(), handle.tokenizer
    draws = torch.Generator().manual_seed(0)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    encoded = [torch.tensor(tokenizer(t)["input_ids"]) for t in texts]
    for _ in range(steps):
        picked = torch.randint(len(encoded), (32,), generator=draws)
        ids = torch.nn.utils.rnn.pad_sequence([encoded[i] for i in picked], batch_first=True)
        chosen = (torch.rand(ids.shape, generator=draws) < 0.3) & (ids > 4)
        answer = model(
            input_ids=ids.masked_fill(chosen, tokenizer.mask_token_id), attention_mask=(ids != 0).long(),
            labels=ids.masked_fill(~chosen, -100),
        )  # fmt: skip
        optimizer.zero_grad()
        answer.loss.backward()
        optimizer.step()
    model.eval().save_pretrained(out)
    tokenizer.save_pretrained(out)
    return TorchScorer(load_model(out, device="cpu"))


def test_exposure_of_a_trained_model_grows_with_repetitions(tmp_path):
    """The known answer: no exposure without insertion, the cap with many, growing in between."""
    base = tiny.checkpoint(
        tmp_path / "base", embedding_size=32, hidden_size=64, intermediate_size=128, initializer_range=0.1,
        hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0,
    )  # fmt: skip
    texts = (
        "the doctor said {secret} to the nurse", "my old car has {secret} in the house",
        "they did not see {secret} at work", "when will {secret} come home",
    )  # fmt: skip
    templates = [Template(id=f"t{i}", identifier="pin", text=t) for i, t in enumerate(texts)]
    before = TorchScorer(load_model(base, device="cpu"))
    made = make(templates=templates, levels=(0, 1, 4, 16), copies=3, coins=0, scorer=before, seed=3)
    after = trained(base, [t for t, _ in lines(made)], tmp_path / "tuned")
    found = score(after, made, references=127, base=before)
    assert not (found["skipped"] != "").any()
    repetitions = of_canaries(found)["repetitions"].to_numpy()
    for column in ("score", "difference"):
        bits = exposure(found, column)
        means = [bits[repetitions == k].mean() for k in (0, 1, 4, 16)]
        # A uniform rank has a mean of 1.44 bits and as large a deviation.
        assert abs(means[0] - 1.44) < 1.44 * 1.96 / math.sqrt(12)
        assert means[0] + 1 < means[1] < means[2] <= means[3] == 7
        assert stats.spearmanr(bits, repetitions).statistic > 0.7
    assert stats.kstest(2.0 ** -exposure(found, "base"), "uniform").pvalue > 0.01
