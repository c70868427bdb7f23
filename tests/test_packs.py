"""Every shipped pack keeps its promises; every mistake in a pack is named, at once, with its place."""

from __future__ import annotations

import re
from collections import Counter
from contextlib import suppress
from fnmatch import fnmatchcase
from functools import cache
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from albert_audit import gate, packs
from albert_audit.bias import MEASURES
from albert_audit.findings import checks
from albert_audit.model.text import word_spans
from albert_audit.packs import Pack
from albert_audit.types import Head, PackError, UsageError
from tests.fakes import FILLERS, GOOD, TEMPLATES, line_of, write_pack

SHIPPED = packs.shipped()
SLUG = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*")


@cache
def shipped(name: str) -> Pack:
    return packs.load(packs.find(name))


def words(text: str) -> list[str]:
    return [text[a:b] for a, b in word_spans(text)]


def changed(more: str, less: str) -> tuple[int, list[str], list[str]]:
    """Where two sentences begin to differ, and what is left between what they share at both ends."""
    a, b = words(more), words(less)
    head = next((i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))
    tail = 0
    while tail < min(len(a), len(b)) - head and a[-1 - tail] == b[-1 - tail]:
        tail += 1
    return head, a[head : len(a) - tail], b[head : len(b) - tail]


# --- the shipped packs ------------------------------------------------------------------------


def test_there_are_shipped_packs():
    assert {"pronoun-occupation-en", "minimal-pairs-en", "floor-en"} <= set(SHIPPED)


@pytest.mark.parametrize("name", SHIPPED)
def test_a_shipped_pack_is_whole(name):
    pack = shipped(name)
    folder = packs.find(name)
    assert pack.spec.name == folder.name == name
    assert pack.spec.measure in MEASURES
    readme = (folder / "README.md").read_text(encoding="utf-8")
    assert "cannot show" in readme.lower() and len(readme) > 300
    assert pack.spec.licence == "CC-BY-4.0" and pack.spec.licence in readme
    assert re.fullmatch(r"[0-9a-f]{64}", pack.sha256)
    assert {p.name for p in folder.iterdir()} == {"README.md", "pack.yaml", *pack.spec.files.values()}
    text = [*pack.texts(), *(t.text for t in pack.templates)]
    assert all(t == t.strip() and "  " not in t for t in text)


@pytest.mark.parametrize("name", SHIPPED)
def test_ids_are_slugs_and_differ(name):
    pack = shipped(name)
    for ids in (
        [t.id for t in pack.templates], [f.id for f in pack.fillers], [p.id for p in pack.pairs],
        [i for i, _ in pack.sentences],
    ):  # fmt: skip
        assert len(set(ids)) == len(ids)
        assert all(SLUG.fullmatch(i) for i in ids)


@pytest.mark.parametrize("name", [n for n in SHIPPED if not shipped(n).shape.brings])
def test_finding_ids_are_known_beforehand_and_differ(name):
    pack = shipped(name)
    ids = checks(pack, Head.MASKED_LM)
    if pack.spec.role == "placebo" or pack.is_floor:
        assert not ids
        return
    planned = [
        (s.name, s.contrast or c, a)
        for s in MEASURES[pack.spec.measure].statistics(pack)
        for a, c in MEASURES[pack.spec.measure].contrasts(pack)
        if not s.only or a in s.only or c in s.only
    ]
    assert len(ids) == len(planned) > 0
    assert all(re.fullmatch(r"[a-z0-9_-]+(/[a-z0-9_-]+){3}", i) for i in ids)


def test_no_id_is_given_by_two_packs():
    every = [i for n in SHIPPED if not shipped(n).shape.brings for i in checks(shipped(n), Head.MASKED_LM)]
    assert len(every) == len(set(every))


@pytest.mark.parametrize(
    "name",
    [n for n in SHIPPED if shipped(n).spec.measure == "template_gap" and shipped(n).language == "en"],
)
def test_english_template_packs(name):
    pack = shipped(name)
    assert len(pack.fillers) >= 60
    families = Counter(t.family for t in pack.templates)
    assert len(pack.templates) >= 20 and len(families) == 2 and min(families.values()) >= 8
    assert pack.spec.groups["nonbinary"] == ("they",)
    for template in pack.templates:
        text, spans = template.fill(filler="F", target="T")
        assert [text[a:b] for a, b in (spans["filler"], spans["target"])] == ["F", "T"]
        assert "{" not in text and text.endswith(".")
        assert not re.search(
            r"\b(an?|is|are|was|were|has|do|does)\b \{target\}|\{target\} (is|are|was|were|has|have)\b",
            template.text,
        )
        assert not re.search(r"\ban? \{filler\}", template.text, re.IGNORECASE)
    shares = [f.covariate for f in pack.fillers]
    assert all(s is not None and 0 <= s <= 1 for s in shares)
    assert min(shares) < 0.1 and max(shares) > 0.9
    forms = {f.form for f in pack.fillers}
    assert not forms & {w for group in pack.spec.groups.values() for w in group}


@pytest.mark.parametrize("name", [n for n in SHIPPED if shipped(n).spec.controls])
def test_controls_exist_and_are_matched(name):
    probe = shipped(name)
    assert len(probe.spec.controls) == 1, "only one control is read"
    control = shipped(probe.spec.controls[0])
    assert control.spec.role == "placebo" and probe.spec.role == "probe"
    for field in ("measure", "language", "axis", "groups", "reference", "clusters", "family"):
        assert getattr(control.spec, field) == getattr(probe.spec, field), field
    assert control.templates == probe.templates
    assert [f.match for f in control.fillers] == [f.id for f in probe.fillers]
    assert [f.covariate for f in control.fillers] == [f.covariate for f in probe.fillers]
    assert [f.form.count(" ") for f in control.fillers] == [f.form.count(" ") for f in probe.fillers]
    assert not {f.form for f in control.fillers} & {f.form for f in probe.fillers}
    key = [(p.id, p.axis, p.cluster) for p in probe.pairs]
    assert [(p.id, p.axis, p.cluster) for p in control.pairs] == key
    for a, b in zip(probe.pairs, control.pairs, strict=True):
        sides = [[w.lower() for side in changed(p.more, p.less)[1:] for w in (*side, "|")] for p in (a, b)]
        assert sides[0] == sides[1], a.id
        assert {a.more, a.less}.isdisjoint({b.more, b.less})
    # A veto needs a margin for each statistic that the shipped policies judge.
    judged = {r.check.split("/")[1] for p in gate.shipped_policy_files() for r in gate.load_policy(p).rules
              if r.check.split("/")[0] == name}  # fmt: skip
    assert control.spec.margins and judged <= set(control.spec.margins)


@pytest.mark.parametrize("name", [n for n in SHIPPED if shipped(n).pairs and shipped(n).language == "en"])
def test_pairs_are_minimal_and_balanced(name):
    pack = shipped(name)
    for pair in pack.pairs:
        at, more, less = changed(pair.more, pair.less)
        # One span, and one word in it ("able-bodied" is one word of three marks).
        assert more and more.count("-") == (len(more) - 1) / 2, pair.id
        assert less and less.count("-") == (len(less) - 1) / 2, pair.id
        assert [*words(pair.more)[:at], *less, *words(pair.more)[at + len(more) :]] == words(pair.less), (
            pair.id
        )
        assert at == 0 or words(pair.more)[at - 1].lower() not in ("a", "an"), pair.id
    for axis in {p.axis for p in pack.pairs}:
        ways = Counter(
            ("".join(m).lower(), "".join(n).lower())
            for p in pack.pairs
            if p.axis == axis
            for _, m, n in [changed(p.more, p.less)]
        )
        assert all(ways[m, n] == ways[n, m] for m, n in ways), axis


@pytest.mark.parametrize("name", [n for n in SHIPPED if shipped(n).spec.measure == "sentence_floor"])
def test_floors_have_enough_sentences(name):
    pack = shipped(name)
    assert len(pack.sentences) >= 120  # 100 must be left when some cannot be scored
    texts = [t for _, t in pack.sentences]
    assert len(set(texts)) == len(texts) and all(t[-1] in ".。！？?!" for t in texts)


@pytest.mark.parametrize("path", gate.shipped_policy_files(), ids=lambda p: p.stem)
def test_every_rule_of_a_shipped_policy_finds_a_check_that_may_gate(path):
    policy = gate.load_policy(path)
    for head in policy.heads:
        known = {
            k: v for n in SHIPPED if not shipped(n).shape.brings for k, v in checks(shipped(n), head).items()
        }
        for rule in policy.rules:
            matched = {k: v for k, v in known.items() if fnmatchcase(k, rule.check)}
            assert matched and all(matched.values()), rule.id
            for identity in matched:
                pack = shipped(identity.split("/")[0])
                controlled = pack.spec.controls or pack.shape.controls_itself
                assert rule.metric == "effect" or controlled, rule.id


def test_placebos_and_measures_agree_on_what_a_margin_is_called():
    for name in SHIPPED:
        pack = shipped(name)
        if pack.shape.brings:
            continue
        known = {s.name for s in MEASURES[pack.spec.measure].statistics(pack)}
        assert set(pack.spec.margins) <= known
        assert set(pack.shape.statistics) >= known


# --- mistakes ---------------------------------------------------------------------------------


def mistakes(folder: Path) -> list[str]:
    with pytest.raises(PackError) as caught:
        packs.load(folder)
    assert caught.value.exit_code == 2 and caught.value.hint
    first, *rest = caught.value.message.split("\n")
    assert re.fullmatch(rf"the pack {re.escape(folder.name)} has {len(rest)} mistakes?:", first)
    return [r.removeprefix("  ") for r in rest]


def test_the_good_pack_is_good(tmp_path):
    pack = packs.load(write_pack(tmp_path / "good-pack"))
    assert [f.covariate for f in pack.fillers] == [0.9, 0.1]
    assert pack.texts()[0] == "The nurse said he left."


# field: a line that is wrong, and what must be said of it
FIELDS: dict[str, tuple[str | None, str]] = {
    "schema": ("albert-audit/pack@2", "newer"),
    "name": ("Good_Pack", "good-pack"),
    "version": ("0", "greater than or equal to 1"),
    "title": ("''", "at least 1 character"),
    "language": ("English", "pattern"),
    "axis": ("Gender roles", "lower-case"),
    "measure": ("template_gab", "did you mean 'template_gap'"),
    "role": ("control", "'probe' or 'placebo'"),
    "clusters": ("[filler, template]", "[template, filler]"),
    "groups": ("{female: [she], male: [no]}", "quote"),
    "reference": ("mail", "did you mean 'male'"),
    "controls": ("[placebo-ocupation-en]", "did you mean 'placebo-occupation-en'"),
    "margins": ("{template_gap_slop: 0.3}", "did you mean 'template_gap_slope'"),
    "may_gate": ("[masked_ml]", "masked_lm"),
    "files": ("{templates: templates.csv, filers: fillers.csv}", "did you mean 'fillers'"),
    "licence": ("''", "at least 1 character"),
    "source": ("", "valid string"),
    "family": ("[a]", "valid string"),
    "profile": ("fast", "'quick' or 'standard'"),
    "harm": ("1", "valid string"),
    "affected": ("yes", "quote it"),
}


def test_the_table_of_mistakes_covers_every_field():
    assert (
        set(FIELDS) == set(GOOD) == {"schema" if n == "schema_" else n for n in packs.PackSpec.model_fields}
    )


@pytest.mark.parametrize("field", FIELDS)
def test_a_mistake_in_one_field(tmp_path, field):
    line, said = FIELDS[field]
    changes = {field: line} | ({"role": "placebo"} if field == "margins" else {})
    found = mistakes(write_pack(tmp_path / "good-pack", changes))
    mine = [m for m in found if m.startswith(f"pack.yaml:{line_of(field)}: {field}: ")]
    assert mine and said in " ".join(mine), found
    assert all(field in m for m in found), "a mistake in one field is blamed on another"


@pytest.mark.parametrize("field", ["schema", "name", "version", "title", "language", "measure", "files", "licence", "source",
                                   "axis", "groups", "reference", "clusters"])  # fmt: skip
def test_a_field_that_is_missing(tmp_path, field):
    found = mistakes(write_pack(tmp_path / "good-pack", {field: None}))
    assert any(m.startswith(f"pack.yaml: {field}") for m in found), found


def test_all_mistakes_are_reported_at_once(tmp_path):
    changes = {k: v for k, (v, _) in FIELDS.items() if k not in ("measure", "files", "groups")}
    files = {
        "templates.csv": "id,family,text\nt1,a,The {filer} said {target} left.\nt1,,No slot {filler\n",
        "fillers.csv": "id,form,group,covariat\nnurse,nurse,occupation,x\n",
        "README.md": None,
    }
    found = mistakes(write_pack(tmp_path / "good-pack", {**changes, "titel": "x"}, files))
    for field in changes:
        assert any(m.startswith(f"pack.yaml:{line_of(field)}: {field}: ") for m in found), (field, found)
    assert any("titel" in m and "did you mean 'title'" in m for m in found)
    assert any(
        m.startswith("templates.csv:2: text: unknown slot {filer}; did you mean 'filler'") for m in found
    )
    assert any(m.startswith("templates.csv:3: family is empty") for m in found)
    assert any(m.startswith("templates.csv:3: the id 't1' is already used") for m in found)
    assert any(m.startswith("templates.csv:3: text: unbalanced braces") for m in found)
    assert any("unknown column 'covariat'; did you mean 'covariate'" in m for m in found)
    assert any(m.startswith("README.md: missing") for m in found)
    assert len(found) == len(set(found))


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("templates.csv", "", "templates.csv: empty"),
        ("templates.csv", "id,family,text\n", "templates.csv: no rows"),
        ("templates.csv", "id,family\nt1,a\n", "the column 'text' is missing"),
        ("templates.csv", "id,id,family,text\nt,t,a,x\n", "the column 'id' is given twice"),
        ("templates.csv", "id,family,text\nt1,a\n", "templates.csv:2: expected 3 cells, found 2"),
        ("templates.csv", "id,family,text\n\nt1,a,b,c\n", "templates.csv:3: expected 3 cells, found 4"),
        ("templates.csv", "id,family,text\nt1,a,The {filler} and {filler} saw {target}.\n", "{filler} once, found it 2 times"),
        ("templates.csv", "id,family,text\nt1,a,The {filler} left.\n", "{target} once, found it 0 times"),
        ("templates.csv", "id,family,text\nt1,a,The {filler!r} saw {target:>9}.\n", "write {filler} alone"),
        ("templates.csv", "id,family,text\nt1,a,The {filler} saw {target} [MASK].\n", "templates.csv:2: text: write"),
        ("templates.csv", "id,family,text\nt/1,a,The {filler} saw {target}.\n", "templates.csv:2: id: no '/'"),
        ("templates.csv", "id,family,text\nt1 ,a,The {filler} saw {target}.\n", "templates.csv:2: id: no spaces"),
        ("templates.csv", "id,family,text\nt1,a,The {filler} saw {target}.\nt2,a,the {filler}  saw {target}.\n",
         "the same text stands twice"),
        ("templates.csv", 'id,family,text\nt1,a,"The {filler}\nsaw {target}."\nt2,,The {filler} met {target}.\n',
         "templates.csv:4: family is empty"),
        ("templates.csv", 'id,family,text\nt1,a,"The {filler}\nsaw {target}."\n', "templates.csv:2: text: holds a line break"),
        # A quote that is never closed would swallow the rest of the file.
        ("templates.csv", 'id,family,text\nt1,a,"The {filler} saw {target}.\nt2,a,The {filler} met {target}.\n',
         "templates.csv:2: not CSV"),
        ("templates.csv", "id,family,text\nt1,a," + "x" * 140_000 + "\n", "templates.csv:2: not CSV"),
        ("templates.csv", "id,family,text\rt1,a,The {filler} saw {target}.\r", "control character"),
        ("templates.csv", "id,family,text\nt1,a,The {filler}\0 saw {target}.\n", "templates.csv:2: holds the control character"),
        ("templates.csv", b"id,family,text\nt1,a,caf\xe9 {filler} {target}\n", "not UTF-8"),
        ("fillers.csv", FILLERS + "cook,cook,occupation,nan\n", "fillers.csv:4: covariate"),
        ("fillers.csv", FILLERS + "cook,cook,occupation,inf\n", "fillers.csv:4: covariate"),
        ("fillers.csv", FILLERS + "cook,cook,occupation,1e999\n", "fillers.csv:4: covariate"),
        ("fillers.csv", FILLERS + "cook,cook,occupation,half\n", "fillers.csv:4: covariate"),
        # In per cent the slope would be a hundred times too small, and pass.
        ("fillers.csv", FILLERS + "cook,cook,occupation,38\n", "fillers.csv:4: covariate: expected a share between 0 and 1"),
        ("fillers.csv", FILLERS + "cook,cook,occupation,\n", "give it for every filler or for none"),
        ("fillers.csv", FILLERS + "cook,,occupation,0.5\n", "fillers.csv:4: form is empty"),
        ("fillers.csv", FILLERS + "cook,Nurse,occupation,0.5\n", "the same form stands twice: 'nurse'"),
        ("fillers.csv", FILLERS + "cook,[MASK],occupation,0.5\n", "fillers.csv:4: form: write the words, not [MASK]"),
        ("fillers.csv", None, "fillers.csv: cannot be read"),
        ("README.md", None, "README.md: missing"),
    ],
)  # fmt: skip
def test_a_mistake_in_a_file(tmp_path, name, text, said):
    found = mistakes(write_pack(tmp_path / "good-pack", files={name: text}))
    assert any(said in m for m in found), found
    assert all(m.startswith(name) for m in found)


PAIRS = {"measure": "pair_preference", "clusters": "[template]", "files": "{pairs: pairs.csv}"}


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ("a,age,c,The old man.,The old man.", "pairs.csv:2: more and less are the same sentence"),
        ("a,All ages,c,The old man.,The young man.", "pairs.csv:2: axis"),
        ("a,all,c,The old man.,The young man.", "pairs.csv:2: axis: 'all'"),
        ("a,age,c,The old man.,", "pairs.csv:2: less is empty"),
        ("a,age,c ,The old man.,The young man.", "pairs.csv:2: template: no spaces"),
        ("a,age,c,The old [MASK].,The young man.", "pairs.csv:2: more: write the words"),
    ],
)
def test_a_mistake_in_a_pair(tmp_path, row, said):
    found = mistakes(
        write_pack(tmp_path / "good-pack", PAIRS, {"pairs.csv": f"id,axis,template,more,less\n{row}\n"})
    )
    assert len(found) == 1 and said in found[0], found


# --- hostile packs ----------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["../secret.csv", "/etc/secret.csv", "a/../../secret.csv", "sub/x.csv", "..", "pack.yaml",
                                  "'..\\secret.csv'", "''"])  # fmt: skip
def test_no_file_outside_the_folder_is_read(tmp_path, name):
    (tmp_path / "secret.csv").write_text("id,family,text\nTOPSECRET,,\n")
    found = mistakes(
        write_pack(tmp_path / "good-pack", {"files": f"{{templates: {name}, fillers: fillers.csv}}"})
    )
    assert any(
        m.startswith(f"pack.yaml:{line_of('files')}: files: templates: expected the name of a .csv")
        for m in found
    ), found
    assert "TOPSECRET" not in str(found)


@pytest.mark.parametrize("name", ["templates.csv", "pack.yaml"])
def test_links_are_not_followed(tmp_path, name):
    secret = tmp_path / "secret"
    secret.write_text("TOPSECRET,b\n")
    folder = write_pack(tmp_path / "good-pack")
    (folder / name).unlink()
    (folder / name).symlink_to(secret)
    found = mistakes(folder)
    assert f"{name}: expected a plain file" in str(found) and "TOPSECRET" not in str(found)


def test_a_file_that_is_no_file(tmp_path):
    folder = write_pack(tmp_path / "good-pack", files={"fillers.csv": None})
    (folder / "fillers.csv").mkdir()
    assert any("fillers.csv: expected a plain file" in m for m in mistakes(folder))


def test_a_huge_file_is_not_read(tmp_path):
    folder = write_pack(tmp_path / "good-pack")
    with (folder / "templates.csv").open("r+b") as file:
        file.truncate(2**40)  # sparse
    assert any(m.startswith("templates.csv: 1099511627776 bytes") for m in mistakes(folder))


@pytest.mark.parametrize(
    "line",
    [
        "title: !!python/object/apply:os.system ['touch RAN']",
        "title: !!python/name:os.system",
        "title: !!python/object:albert_audit.packs.Pack {}",
        "title: !<tag:yaml.org,2002:python/module:os> ''",
        "title: *nowhere",
        "title: [",
        "title: 'a\0b'",
        "title: " + "[" * 5000,
    ],
    ids=["apply", "name", "object", "verbatim", "alias", "open", "nul", "deep"],
)
def test_yaml_that_a_pack_may_not_hold(tmp_path, monkeypatch, line):
    monkeypatch.chdir(tmp_path)
    folder = write_pack(tmp_path / "good-pack")
    (folder / "pack.yaml").write_text(line + "\n" + (folder / "pack.yaml").read_text())
    found = mistakes(folder)
    assert found[0].startswith("pack.yaml") and not (tmp_path / "RAN").exists()


@pytest.mark.parametrize("text", ["", "- a\n", "just words\n", "1\n", "null\n"])
def test_yaml_that_is_no_mapping(tmp_path, text):
    found = mistakes(write_pack(tmp_path / "good-pack", files={"pack.yaml": text}))
    assert any("expected a mapping" in m for m in found)


def test_aliases_cannot_blow_up(tmp_path):
    bomb = "a0: &a0 [x]\n" + "".join(f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]\n" for i in range(1, 30))
    found = mistakes(write_pack(tmp_path / "good-pack", {"groups": "{female: *a29, male: [he]}"},
                                {"pack.yaml": bomb + "title: x\ngroups: {female: *a29, male: [he]}\n"}))  # fmt: skip
    assert len(str(found)) < 20_000


@pytest.mark.parametrize(("key", "inside"), [("version: 2\n", ""), ("", ", male: [him]")])
def test_a_key_that_is_given_twice(tmp_path, key, inside):
    groups = f"{{female: [she], male: [he]{inside}}}"
    folder = write_pack(tmp_path / "good-pack", {"groups": groups})
    (folder / "pack.yaml").write_text((folder / "pack.yaml").read_text() + key)
    assert any("given twice" in m for m in mistakes(folder))


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("language", "no"), ("groups", "{no: [she], yes: [he]}"), ("groups", "{female: [she, on], male: [he]}"),
        ("controls", "[off]"), ("version", "yes"), ("margins", "{template_gap: yes}"), ("family", "on"),
        ("clusters", "[no]"), ("reference", "on"), ("files", "{templates: on}"),
    ],
)  # fmt: skip
def test_a_word_that_yaml_reads_as_a_boolean(tmp_path, field, value):
    found = mistakes(write_pack(tmp_path / "good-pack", {field: value, "role": "placebo"}))
    assert any(m.startswith(f"pack.yaml:{line_of(field)}: {field}: ") for m in found), found


@pytest.mark.parametrize(("field", "value"), [("name", "12"), ("title", "2024-01-01"), ("groups", "{female: [1], male: [he]}"),
                                              ("groups", "[she, he]"), ("groups", "{female: [], male: [he]}"),
                                              ("groups", "{female: [she], male: [She]}"), ("groups", "{male: [he]}"),
                                              ("groups", "{a-vs-b: [she], male: [he]}"), ("groups", "{female: ['[MASK]'], male: [he]}"),
                                              ("margins", "{template_gap: -1}"), ("margins", "{template_gap: .inf}"),
                                              ("margins", "{template_gap: 0}"), ("clusters", "[template]"),
                                              ("clusters", "[writer, filler]"), ("reference", "''")])  # fmt: skip
def test_values_that_would_mislead(tmp_path, field, value):
    found = mistakes(write_pack(tmp_path / "good-pack", {field: value, "role": "placebo"}))
    assert any(m.startswith(f"pack.yaml:{line_of(field)}: {field}: ") for m in found), found


def test_a_pack_is_not_its_own_control_and_has_one(tmp_path):
    assert any(
        "own control" in m for m in mistakes(write_pack(tmp_path / "good-pack", {"controls": "[good-pack]"}))
    )
    two = "[placebo-occupation-en, control-pairs-en]"
    assert any("expected one" in m for m in mistakes(write_pack(tmp_path / "good-pack", {"controls": two})))


def test_a_control_beside_the_pack_is_found(tmp_path):
    write_pack(tmp_path / "its-control", {"name": "its-control", "role": "placebo"})
    assert packs.load(write_pack(tmp_path / "good-pack", {"controls": "[its-control]"})).spec.controls == (
        "its-control",
    )
    assert any(
        "no pack" in m for m in mistakes(write_pack(tmp_path / "good-pack", {"controls": "['../good-pack']"}))
    )


def test_a_margin_belongs_to_a_placebo(tmp_path):
    assert any(
        "role: placebo" in m
        for m in mistakes(write_pack(tmp_path / "good-pack", {"margins": "{template_gap: 1}"}))
    )


# --- finding ----------------------------------------------------------------------------------


def test_the_nearest_pack_is_named(tmp_path):
    with pytest.raises(UsageError, match="did you mean 'pronoun-occupation-en'") as caught:
        packs.find("pronoun-ocupation-en")
    assert caught.value.exit_code == 2
    with pytest.raises(UsageError, match=r"has no pack\.yaml"):
        packs.find(str(tmp_path))
    assert packs.find(str(write_pack(tmp_path / "good-pack"))) == tmp_path / "good-pack"


# --- the hash ---------------------------------------------------------------------------------

CONTENT = {
    "pack.yaml": "".join(f"{k}: {v}\n" for k, v in GOOD.items()),
    "templates.csv": TEMPLATES,
    "fillers.csv": FILLERS,
}
_LETTERS = [
    (name, i) for name in ("templates.csv", "fillers.csv") for i, c in enumerate(CONTENT[name])
    if i > CONTENT[name].index("\n") and c.isalnum()
] + [("pack.yaml", CONTENT["pack.yaml"].index("Pronouns") + 1), ("pack.yaml", CONTENT["pack.yaml"].index("made here") + 1)]  # fmt: skip


@pytest.fixture(scope="module")
def good(tmp_path_factory):
    return write_pack(tmp_path_factory.mktemp("packs") / "good-pack")


@settings(max_examples=60, deadline=None, derandomize=True, database=None)
@given(st.sampled_from(_LETTERS), st.sampled_from("q9z8"))
def test_any_change_of_content_changes_the_hash(good, place, letter):
    write_pack(good)
    before = packs.load(good).sha256
    name, i = place
    text = CONTENT[name]
    if text[i] == letter:
        return
    (good / name).write_text(text[:i] + letter + text[i + 1 :])
    with suppress(PackError):  # a change that makes it no pack is refused: as good as another hash
        assert packs.load(good).sha256 != before
    write_pack(good)


@settings(max_examples=16, deadline=None, derandomize=True, database=None)
@given(st.sets(st.sampled_from(sorted(CONTENT))), st.sets(st.sampled_from(sorted(CONTENT))))
def test_line_endings_and_byte_order_marks_do_not_count(good, crlf, marked):
    write_pack(good)
    before = packs.load(good)
    for name in CONTENT:
        text = CONTENT[name].replace("\n", "\r\n") if name in crlf else CONTENT[name]
        (good / name).write_bytes((b"\xef\xbb\xbf" if name in marked else b"") + text.encode())
    assert packs.load(good) == before
    write_pack(good)


def test_rows_that_move_between_files_or_change_order_change_the_hash(tmp_path):
    first, *rows = FILLERS.splitlines(keepends=True)
    a = packs.load(write_pack(tmp_path / "good-pack")).sha256
    b = packs.load(
        write_pack(tmp_path / "good-pack", files={"fillers.csv": first + "".join(rows[::-1])})
    ).sha256
    assert a != b
