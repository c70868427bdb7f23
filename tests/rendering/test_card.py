"""The card: what it says, what it never says, and that it lets no string become markup.

The golden card is the page for the full sample. After a change that is meant::

    UPDATE_GOLDEN=1 python -m pytest tests/rendering/test_card.py

writes it anew; look at it in a browser, and at its diff, before committing it.
"""

from __future__ import annotations

import base64
import hashlib
import html.parser
import os
import re
import subprocess
import sys
from collections.abc import Callable
from decimal import Decimal
from functools import partial
from pathlib import Path
from typing import Any

import html5lib
import pytest

from albert_audit.rendering.html import card
from albert_audit.types import EvidenceError, State, Status
from tests.builders import (
    HOSTILE,
    Bundle,
    bundle,
    estimate,
    finding,
    findings,
    full_findings,
    full_policy,
    hostile_bundle,
    manifest,
    model,
    passing_bundle,
    policy,
    rule,
    run_info,
    unjudged,
)

GOLDEN = Path(__file__).parent / "golden" / "card.html"
BANNED = re.compile(
    r"\b(unbiased|bias-free|compliant|compliance|fair|fairly|guarantee[sd]?|certif\w+)\b", re.I
)
VOID = {"meta", "circle", "path", "line", "polyline", "use", "br", "hr", "img", "link", "input"}


class Page(html.parser.HTMLParser):
    """Elements, attributes, the text of each `data-ref`, and all visible text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.refs: list[tuple[str, str]] = []
        self.words: list[str] = []
        self._stack: list[tuple[str, str | None]] = []
        self.feed(text)
        self.text = "".join(self.words)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = dict(attrs)
        self.tags.append((tag, found))
        if "data-ref" in found:
            self.refs.append((str(found["data-ref"]), ""))
        if tag not in VOID:
            self._stack.append((tag, found.get("data-ref")))

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        if tag not in VOID:
            assert self._stack.pop()[0] == tag

    def handle_data(self, data: str) -> None:
        if any(t == "style" for t, _ in self._stack):
            return
        self.words.append(data)
        if self._stack and self._stack[-1][1]:
            ref, before = self.refs[-1]
            self.refs[-1] = (ref, before + data)


def documents(of: Bundle) -> dict[str, Any]:
    """What stands before ``#`` → the document as its file holds it."""
    of_manifest, of_findings, of_verdict, _, _ = of
    found: dict[str, Any] = {
        "manifest.json": of_manifest.model_dump(mode="json", by_alias=True),
        "verdict.json": of_verdict.model_dump(mode="json", by_alias=True),
    }
    for item in of_findings.model_dump(mode="json", by_alias=True)["findings"]:
        found[item["id"]] = item
    return found


def look_up(document: Any, path: str) -> Any:
    """Follow a dotted path; keys may hold dots (``0.95``), and ``@2`` is the third key of an object."""
    if not path:
        return document
    if path.startswith("@"):
        head, _, rest = path[1:].partition(".")
        return look_up(list(document.values())[int(head)], rest)
    if isinstance(document, list):
        head, _, rest = path.partition(".")
        return look_up(document[int(head)], rest)
    for key in sorted(document, key=len, reverse=True):
        if path == key or path.startswith(key + "."):
            return look_up(document[key], path[len(key) + 1 :])
    raise KeyError(path)


def agrees(printed: str, value: float) -> bool:
    """Whether `printed` is `value` rounded to the decimals it shows."""
    said = printed.replace("−", "-").replace(",", "").replace("\u00a0", " ").strip()
    if said.startswith("<"):
        return value < float(said[1:])
    scale = 100 if said.endswith("%") else 1
    number = Decimal(said.rstrip("% "))
    step = Decimal(1).scaleb(int(number.as_tuple().exponent))
    return abs(number - Decimal(repr(value)) * scale) <= step / 2 + Decimal("1e-12")


SAMPLES: dict[str, Callable[[], Bundle]] = {
    "full": bundle,
    "post hoc": partial(bundle, post_hoc=True),
    "passing": passing_bundle,
    **{f"hostile {i}": partial(hostile_bundle, text) for i, text in enumerate(HOSTILE)},
}
EVERY = pytest.mark.parametrize("sample", sorted(SAMPLES))


# --- the golden card ------------------------------------------------------------------------


def test_the_golden_card() -> None:
    drawn = card(*bundle())
    if os.environ.get("UPDATE_GOLDEN"):
        GOLDEN.write_text(drawn, encoding="utf-8")
    assert drawn == GOLDEN.read_text(encoding="utf-8"), (
        "the card changed; if that is meant: UPDATE_GOLDEN=1 python -m pytest tests/rendering/test_card.py"
    )


@EVERY
def test_the_same_documents_give_the_same_bytes(sample: str) -> None:
    first, second = (card(*SAMPLES[sample]()) for _ in range(2))
    assert first.encode() == second.encode()


def test_the_clock_and_the_machine_are_not_on_the_card() -> None:
    of_manifest, of_findings, of_verdict, of_policy, _ = bundle()
    cards = {
        card(of_manifest, of_findings, of_verdict, of_policy, run)
        for run in (
            run_info(),
            run_info(started="2026-11-22T23:59:00Z", seconds=1.0, platform="other", device="cuda"),
        )
    }
    assert len(cards) == 1
    assert "2026-11-22" in cards.pop()


# --- one safe page --------------------------------------------------------------------------


@EVERY
def test_no_string_becomes_markup(sample: str) -> None:
    drawn = card(*SAMPLES[sample]())
    page = Page(drawn)
    allowed = {t for t, _ in Page(card(*bundle(post_hoc=True))).tags}
    assert {t for t, _ in page.tags} <= allowed
    assert (
        not {"script", "img", "iframe", "object", "embed", "form", "link", "base", "foreignobject"} & allowed
    )
    for tag, attributes in page.tags:
        for name, value in attributes.items():
            assert not name.startswith("on"), (tag, name)
            assert name != "style"
            assert name not in ("src", "srcset", "action", "formaction", "xlink:href")
            if name == "href":
                assert value and value.startswith("#"), (tag, value)
    assert "<script" not in drawn.lower()


@EVERY
def test_the_page_parses_without_an_error(sample: str) -> None:
    parser = html5lib.HTMLParser(strict=False)
    parser.parse(card(*SAMPLES[sample]()))
    assert [e for e in parser.errors if e[1] != "unexpected-html-element-in-foreign-content"] == []


@EVERY
def test_nothing_invisible_is_left_in(sample: str) -> None:
    drawn = card(*SAMPLES[sample]())
    hidden = re.findall(
        r"[\x00-\x09\x0b-\x1f\x7f-\x9f\u061c\u200b-\u200f\u202a-\u202e\u2066-\u2069\ufeff]", drawn
    )
    assert hidden == []


@EVERY
def test_links_lead_somewhere_and_ids_differ(sample: str) -> None:
    page = Page(card(*SAMPLES[sample]()))
    ids = [a["id"] for _, a in page.tags if "id" in a]
    assert len(ids) == len(set(ids))
    for tag, attributes in page.tags:
        for name in ("href", "aria-labelledby"):
            for target in (attributes.get(name) or "").split():
                assert target.removeprefix("#") in ids, (tag, target)


@EVERY
def test_the_policy_of_the_page_allows_its_style_and_nothing_else(sample: str) -> None:
    drawn = card(*SAMPLES[sample]())
    (style,) = re.findall(r"<style>(.*?)</style>", drawn, re.S)
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    (meta,) = [a for t, a in Page(drawn).tags if t == "meta" and a.get("http-equiv")]
    assert meta["content"] == (
        f"default-src 'none'; style-src 'sha256-{digest}'; img-src data:; base-uri 'none'; form-action 'none'"
    )
    assert not re.search(r"url\(|@import|expression\(", style)


@EVERY
def test_the_card_stays_small(sample: str) -> None:
    assert len(card(*SAMPLES[sample]()).encode()) < 350_000


def test_twenty_findings_told_in_full_stay_small() -> None:
    one = full_findings().findings[0]
    ids = [f"pronoun-occupation-en/template_gap/gender/contrast-{i}" for i in range(20)]
    many = findings(*(one.model_copy(update={"id": i}) for i in ids))
    assert len(card(*bundle(many, policy(rule(metric="difference")))).encode()) < 500_000


@pytest.mark.parametrize(("axes", "most"), [(24, 350_000), (62, 500_000)])
def test_what_no_rule_judges_stays_small(axes: int, most: int) -> None:
    of = bundle(findings(*full_findings().findings[:8], *unjudged(axes)), full_policy())
    assert len(of[1].findings) >= 8 + 2 * axes
    assert len(card(*of).encode()) < most


def test_one_cause_of_many_failures_is_told_once() -> None:
    lost = [
        f.model_copy(update={"status": Status.INVALID, "reason": "the model is below its floor"})
        for f in unjudged(60)
    ]
    drawn = card(*bundle(findings(finding(), *lost), policy(rule(check="pronoun*"))))
    page = Page(drawn)
    assert "120 findings, for the same reason" in page.text
    assert page.text.count("the model is below its floor") <= 4
    assert len(drawn.encode()) < 200_000
    assert {f.id for f in lost} <= {a.get("id") for _, a in page.tags}


def test_many_failures_of_many_causes_stay_small() -> None:
    lost = [
        f.model_copy(update={"status": Status.INVALID, "reason": f"its control shows an effect of {i}"})
        for i, f in enumerate(unjudged(62))
    ]
    drawn = card(*bundle(findings(finding(), *lost), policy(rule(check="pronoun*"))))
    text = Page(drawn).text
    assert "124 findings of minimal-pairs-en, each for its own reason" in text
    assert all(f"its control shows an effect of {i} " in text for i in range(124))
    assert len(drawn.encode()) < 200_000


def test_hostile_text_stays_text() -> None:
    text = Page(card(*hostile_bundle(HOSTILE[0]))).text
    assert HOSTILE[0] in text
    assert "{{7*7}}" in Page(card(*hostile_bundle(HOSTILE[1]))).text
    assert "⟨U+202E⟩" in Page(card(*hostile_bundle(HOSTILE[2]))).text
    assert "[10,000 characters]" in Page(card(*hostile_bundle(HOSTILE[3]))).text
    assert "⟨U+001B⟩" in Page(card(*hostile_bundle(HOSTILE[4]))).text


def verdict_box(of: Bundle) -> str:
    (found,) = re.findall(r'<section class="box verdict.*?</section>', card(*of), re.S)
    return str(found)


@pytest.mark.parametrize("text", HOSTILE)
def test_no_model_text_stands_in_the_verdict_box(text: str) -> None:
    def of(name: str) -> Bundle:
        who = model(name=name, tokenizer=name, labels=(name,), caveats=(name,), revision=name)
        changed = full_findings(model=who, not_tested=(name,))
        crash = [f.model_copy(update={"reason": name}) if f.reason else f for f in changed.findings]
        return bundle(changed.model_copy(update={"findings": tuple(crash)}))

    assert verdict_box(of(text)) == verdict_box(of("harmless"))


@pytest.mark.parametrize("text", HOSTILE)
def test_titles_in_the_verdict_box_stay_titles(text: str) -> None:
    box = Page(verdict_box(hostile_bundle(text)))
    assert [t for t, _ in box.tags] == [t for t, _ in Page(verdict_box(hostile_bundle("harmless"))).tags]
    assert len(box.text) < 1500


# --- every number ---------------------------------------------------------------------------


@EVERY
def test_every_number_is_the_number_of_its_document(sample: str) -> None:
    of = SAMPLES[sample]()
    known = documents(of)
    page = Page(card(*of))
    for ref, printed in page.refs:
        key, _, path = ref.partition("#")
        value = look_up(known[key], path)
        assert isinstance(value, int | float), ref
        assert agrees(printed, value), (ref, printed, value)


def test_every_number_of_an_estimated_finding_is_on_the_card() -> None:
    of = bundle()
    refs = {r for r, _ in Page(card(*of)).refs}
    (item, *_) = of[1].findings
    assert item.effect and item.control and item.self_check
    wanted = [
        f"{part}.{path}"
        for part in ("effect", "control.effect", "difference")
        for path in (
            "value",
            "se",
            "df",
            "p",
            *(f"intervals.{k}.{e}" for k in item.effect.intervals for e in ("low", "high")),
        )
    ]
    wanted += [
        "n",
        "n_skipped",
        "clusters.0.count",
        "clusters.0.effective",
        "control.margin",
        "effect.p_holm",
    ]
    wanted += [f"difference.resolvability.{k}" for k in ("detectable", "fail_excess", "passable_limit")]
    wanted += [
        f"self_check.{k}.{e}" for k in ("false_fail", "false_pass_at_limit") for e in ("rate", "low", "high")
    ]
    wanted += [f"self_check.curve.{i}.{e}.rate" for i in range(5) for e in ("passed", "failed")]
    wanted += [f"details.{k}" for k in item.details] + ["evidence.0.rows"]
    assert {f"{item.id}#{w}" for w in wanted} <= refs


def test_a_finding_that_no_rule_judges_is_a_row() -> None:
    of = bundle()
    drawn = card(*of)
    refs = {r for r, _ in Page(drawn).refs}
    levels = ("0.95", "simultaneous_0.95")
    wanted = ["effect.value", "effect.p_holm", "difference.value", "n", "details.ties"]
    wanted += [f"effect.intervals.{k}.{e}" for k in levels for e in ("low", "high")]
    wanted += [f"difference.intervals.0.95.{e}" for e in ("low", "high")]
    rows = re.findall(r'<tr role="row" id="(minimal-pairs-en/[^"]+)">', drawn)
    assert rows == [f.id for f in of[1].findings if f.pack == "minimal-pairs-en"]
    assert {f"{i}#{w}" for i in rows for w in wanted} <= refs
    pack = re.findall(r'<section class="pack">.*?</section>', drawn, re.S)[1]
    for once in (
        "Pairs measure stereotyping only",
        "margin of the stereotyping over the other",
        "people of age",
    ):
        assert pack.count(once) == 1
    assert "axis as in the row" in pack


def test_a_judged_finding_keeps_its_place_among_its_fellows() -> None:
    items = findings(*unjudged(3))
    drawn = card(*bundle(items, policy(rule(check="minimal-pairs-en/*_margin/gender/*"))))
    judged = next(f.id for f in items.findings if "_margin/gender" in f.id)
    assert drawn.count(f'id="{judged}"') == 1
    assert f'gender <small><a href="#{judged}">judged</a></small>' in drawn.replace("<bdi>", "").replace(
        "</bdi>", ""
    )


@pytest.mark.parametrize("value", [0.0, -0.0004, 0.05, 1.0, -12.345, 1234.5678, 1e-9, 98765432.1])
@pytest.mark.parametrize("se", [0.0, 1e-9, 0.0123, 0.5, 40.0])
def test_numbers_of_any_size_agree(value: float, se: float) -> None:
    item = finding(effect=estimate(value, se), details={"x": value, "y": se})
    of = bundle(findings(item), policy(rule()))
    known = documents(of)
    for ref, printed in Page(card(*of)).refs:
        key, _, path = ref.partition("#")
        assert agrees(printed, look_up(known[key], path)), (ref, printed)


# --- what it says ---------------------------------------------------------------------------


@pytest.mark.parametrize("sample", ["full", "post hoc", "passing"])
def test_banned_words(sample: str) -> None:
    assert BANNED.findall(Page(card(*SAMPLES[sample]())).text) == []


@pytest.mark.parametrize("state", list(State))
def test_every_state_has_its_word_and_shape(state: State) -> None:
    made = {
        State.PASS: finding(effect=estimate(0.02, 0.03)),
        State.FAIL: finding(effect=estimate(-0.60, 0.05)),
        State.INCONCLUSIVE: finding(effect=estimate(0.20, 0.10)),
        State.INVALID: finding(status=Status.INVALID, reason="moved"),
        State.NOT_RUN: finding(status=Status.NOT_RUN, effect=None),
        State.ERROR: finding(status=Status.ERROR, effect=None),
    }[state]
    of = bundle(findings(made), policy(rule()))
    drawn = card(*of)
    word = of[2].verdict.value
    assert f">{word}</h2>" in drawn
    assert f'href="#m-{word.lower()}"' in drawn
    assert f'href="#m-{state}"' in drawn
    ids = {a["id"] for t, a in Page(drawn).tags if t == "symbol"}
    assert {f"m-{s}" for s in State} <= ids


def test_what_was_not_tested_stands_on_the_first_screen() -> None:
    of = bundle()
    drawn = card(*of)
    (box,) = re.findall(r'<section class="box untested.*?</section>', drawn, re.S)
    assert "Not tested" in box and "First names" in box and "All 8 open points" in box
    left = re.findall(r'<section id="left-open".*?</section>', drawn, re.S)[0]
    for text in (
        *of[1].not_tested,
        "97 % of the pack&#39;s",
        "MemoryError after 61 of 87 pairs",
        "crows-pairs/*/disability",
    ):
        assert text in left


def test_an_empty_list_of_open_points_does_not_reassure() -> None:
    text = Page(card(*bundle(findings(finding(effect=estimate(0.02, 0.03))), policy(rule())))).text
    assert "The audit recorded no open point. It still says nothing beyond its packs." in text


def test_the_heaviest_findings_come_first() -> None:
    states = re.findall(r'<article class="is-(\w+)">', card(*bundle()))
    assert states == ["fail", "invalid", "error"]


def test_unusable_findings_stand_before_estimated_ones() -> None:
    tones = re.findall(r'<article class="finding is-(\w+)( blank)?"', card(*bundle()))
    unusable = ["invalid", "error", "not_run", "insufficient"]
    assert [t for t, _ in tones] == [*unusable, "fail", "inconclusive", "pass"]
    assert [bool(b) for _, b in tones] == [True] * 4 + [False] * 3


def test_post_hoc_and_interrupted_audits_say_so() -> None:
    of = bundle(post_hoc=True)
    assert "judged post hoc" in card(*of)
    assert "post hoc" not in Page(card(*bundle())).text.split("Glossary")[0]
    assert "This audit was interrupted." in card(manifest(of[1], complete=False), *of[1:])


def test_a_fail_by_uncertainty_is_not_called_beyond_the_limit() -> None:
    of = bundle(findings(finding(effect=estimate(0.2, 0.1))), policy(rule(on_inconclusive="fail")))
    text = Page(card(*of)).text
    assert (
        "Whether that lies beyond the limit of 0.25 is uncertain; the policy counts this as a fail." in text
    )
    assert "The policy counts such doubt as a fail." in text
    assert "That lies beyond the limit" not in text


def test_a_pass_claims_no_more_than_its_limit() -> None:
    text = " ".join(Page(card(*passing_bundle())).text.replace("\u00a0", " ").split())
    assert "No effect larger than 0.25 nats was found among 1,200 items: the 90 % interval" in text


def test_findings_without_a_rule_are_told_as_such() -> None:
    text = Page(card(*bundle(findings(finding("a/b/c/d"), finding()), policy(rule(check="pronoun*"))))).text
    assert "No rule of the policy sets a limit on these." in text


@pytest.mark.parametrize(
    ("id", "unit", "metric", "said"),
    [
        (
            "pronoun-occupation-en/template_gap_slope/gender/female-vs-male",
            "nats per unit of share",
            "effect",
            "From an occupation without women to one with only women, the odds of female over male multiply by 33: "
            "3.490 nats per unit of share",
        ),
        (
            "mine/template_gap_slope/gender/female-vs-male",
            "nats per unit of share",
            "effect",
            "From a filler whose real-world share is 0 to one whose share is 1, the odds of female over male",
        ),
        (
            "pronoun-occupation-en/template_gap/gender/female-vs-male",
            "nats",
            "difference",
            "Beyond the matched control, naming an occupation multiplies the odds of female over male by 1.65 on average: "
            "0.500 nats",
        ),
        (
            "mine/pair_cps_margin/age/more-vs-less",
            "nats",
            "effect",
            "The stereotyping sentence is typically 33 times as likely as the other: 3.490 nats",
        ),
        (
            "mine/pair_unmasked_margin/age/more-vs-less",
            "nats per token",
            "effect",
            "A token of the stereotyping sentence is typically 33 times",
        ),
        ("mine/other/age/a-b", "nats", "effect", "As a factor this is 33: 3.490 nats"),
    ],
)
def test_nats_are_also_told_as_a_factor(id: str, unit: str, metric: str, said: str) -> None:
    item = finding(
        id,
        unit=unit,
        effect=estimate(3.49, 0.087),
        difference=estimate(0.5, 0.087),
        details={"factor_effect": 32.797, "factor_difference": 1.6487},
    )
    of = bundle(findings(item), policy(rule(max_abs=0.01, metric=metric)))
    page = Page(card(*of))
    assert said in page.text.replace("\u00a0", " ")
    assert f"{id}#details.factor_{metric}" in {r for r, _ in page.refs}
    assert "0.7 nats double the odds" in Page(verdict_box(of)).text


# --- why, and how sure ----------------------------------------------------------------------


def test_the_verdict_box_says_why_and_how_sure() -> None:
    box = Page(verdict_box(bundle()))
    text = " ".join(box.text.replace("\u00a0", " ").split())
    assert "FAIL" in text and "1 of 8 checks failed." in text
    titles = (
        "Pronouns and occupations: she and he fail",
        "two name lists invalid",
        "stereotyped sentence preferred error",
    )
    assert all(t in text for t in titles) and "and 4 more" in text
    assert (
        "Even the simultaneous 95 % interval, 0.394 to 0.744, lies wholly beyond the limit of ±0.25 nats."
        in text
    )
    assert {r.partition("#")[2] for r, _ in box.refs} >= {
        "difference.intervals.simultaneous_0.95.low",
        "difference.intervals.simultaneous_0.95.high",
        "results.0.limit",
    }


@pytest.mark.parametrize(
    ("changes", "rules", "said"),
    [
        (
            {"effect": estimate(0.02, 0.03)},
            {},
            "Its 90 % interval, −0.031 to 0.071, lies inside the limit of ±0.25 nats.",
        ),
        (
            {"effect": estimate(0.2, 0.1)},
            {},
            "lies neither inside the limit of ±0.25 nats nor wholly beyond it.",
        ),
        (
            {"effect": estimate(0.2, 0.1)},
            {"on_inconclusive": "fail"},
            "The policy counts such doubt as a fail.",
        ),
        ({"n": 7}, {"min_n": 1000}, "7 items; the policy asks for 1,000."),
        ({"status": Status.INVALID, "reason": "boom"}, {}, "no usable number exists."),
        ({"status": Status.ERROR, "effect": None}, {"required": False}, "no usable number exists."),
        ({"status": Status.INSUFFICIENT, "reason": "few"}, {}, "Too little evidence for an interval"),
        (
            {"unit": "share", "effect": estimate(0.9, 0.01, null=0.5)},
            {},
            "beyond the limit of ±0.25 around 0.5 (share).",
        ),
    ],
)
def test_how_sure(changes: dict[str, Any], rules: dict[str, Any], said: str) -> None:
    text = Page(verdict_box(bundle(findings(finding(**changes)), policy(rule(**rules))))).text
    assert said in " ".join(text.replace("\u00a0", " ").split())


def test_a_pass_names_the_check_nearest_to_its_limit() -> None:
    items = [
        finding("a/b/c/d", title="far", effect=estimate(0, 0.01)),
        finding("a/b/c/e", title="near", effect=estimate(0.1, 0.03)),
    ]
    text = Page(verdict_box(bundle(findings(*items), policy(rule())))).text
    assert "Nearest to its limit: near." in text


def test_nothing_on_the_first_screen_is_cut() -> None:
    for name in ("full", "post hoc", "passing"):
        first = card(*SAMPLES[name]()).split("<nav")[0].split("<main>")[1]
        assert "…" not in first


def test_clauses_and_figures_have_names() -> None:
    by = policy(rule(maps=("eu_ai_act:10.2.f", "nist_ai_rmf:MEASURE-2.11", "mine:4")))
    text = Page(
        card(*bundle(findings(finding(details={"sd": 1.0, "family_a_b": 2.0, "my_own": 3.0})), by))
    ).text
    for word in (
        "EU AI Act, Article 10(2)(f); NIST AI RMF, MEASURE-2.11; mine:4",
        "Standard deviation",
        "“a_b”",
        "my own",
    ):
        assert word in text


@pytest.mark.parametrize(
    "change",
    [
        lambda b: (manifest(b[1], model=model(sha256="0" * 64)), *b[1:]),
        lambda b: (b[0], full_findings(model=model(sha256="0" * 64)), *b[2:]),
        lambda b: (*b[:3], full_policy(version=3), b[4]),
        lambda b: (*b[:3], policy(), b[4]),
        lambda b: (b[0], findings(), *b[2:]),
    ],
)
def test_documents_of_different_audits_are_refused(change: Any) -> None:
    with pytest.raises(EvidenceError) as caught:
        card(*change(bundle()))
    assert caught.value.exit_code == 3


# --- cost -----------------------------------------------------------------------------------


def test_the_card_needs_neither_torch_nor_numpy() -> None:
    code = (
        "import sys; import albert_audit.gate, albert_audit.rendering.html, albert_audit.rendering.junit;"
        "heavy = {'torch', 'transformers', 'numpy', 'pandas', 'scipy', 'ssl'} & set(sys.modules);"
        "assert not heavy, heavy"
    )
    root = Path(__file__).parent.parent.parent
    subprocess.run([sys.executable, "-c", code], check=True, cwd=root, timeout=60)
