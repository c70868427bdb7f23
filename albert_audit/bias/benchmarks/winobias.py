"""A loader for WinoBias (Zhao et al. 2018; MIT), which is not shipped.

Eight files of 396 numbered lines: type 1 (only the world says whom the pronoun means) and type 2 (the
grammar says it), dev and test, pro- and anti-stereotyped. Lines 2k-1 and 2k are one schema: the same two
occupations, the pronoun meaning the one and the other. Both pronouns are scored in the pro-stereotyped
line, so that what else differs between the two files (a few lines do) cannot matter. The anti-
stereotyped line says which case *her* is.

A line is not scored, and says so, where its two files do not give two forms of one pronoun, or where a
gendered word that is not masked would give the answer away ("he is a generous man").
"""

from __future__ import annotations

import re
from pathlib import Path

from albert_audit.bias.benchmarks import published
from albert_audit.bias.masked.masked_pronoun import FORMS
from albert_audit.packs import Pack, PackSpec
from albert_audit.types import Head

NAME = "winobias"
SHA256 = {
    "pro_stereotyped_type1.txt.dev": "dd55a0d220fe4c0ceb63dd4648223fb4fe1a58d5ad95c116a002ad24b0e292a5",
    "pro_stereotyped_type1.txt.test": "db7838907238a758eeb5779e48f38c013b892910d6fe864456c59f04245c6689",
    "pro_stereotyped_type2.txt.dev": "8f0250de723cea9328e3eaf7169e07936f01aa5909ce7aa580db66eb803f4e86",
    "pro_stereotyped_type2.txt.test": "ea1c1fd94fa612e3cc44d7fa3cc4cb76021bb63fdf94f9826f430051e9052438",
    "anti_stereotyped_type1.txt.dev": "a4e0ebae344e78b56f657a42e8ae684b9db7747d177c5e7149c0907ebb7f3bf6",
    "anti_stereotyped_type1.txt.test": "331db5bd74bfefebf146a60b67645152a4a1991570d2a56f57154103ac361dd2",
    "anti_stereotyped_type2.txt.dev": "763ad829ad724f9a85ead689ba8ca69072020cb1238def6210f0fc6a47b97e59",
    "anti_stereotyped_type2.txt.test": "336571ac1ea8c06cd2aba8e5dd2bd98e00acc0c48da3e4ec5ec7e54eb2633a8f",
}
# (form for women, form for men): the case. "her" alone is two cases.
_CASES = {(FORMS["female"][c], FORMS["male"][c]): c for c in FORMS["male"]}
_FORMS = {f for pair in _CASES for f in pair}
_BRACKET = re.compile(r"\[([^\]]*)\]")
_TELLING = re.compile(r"\b(?:he|she|him|her|his|hers|himself|herself|man|woman|lady|gentleman)\b", re.I)


def load(path: Path) -> Pack:
    """Read the published files as a pack.

    Parameters
    ----------
    path : Path
        The folder with the eight files, or one of them.

    Raises
    ------
    UsageError
        When a file cannot be read or is not the published one.
    """
    files = published.read(
        path, SHA256, title="WinoBias", source="uclanlp/corefBias (its folder WinoBias/wino/data)"
    )
    rows: list[dict[str, str]] = []
    for kind in ("type1", "type2"):
        for part in ("dev", "test"):
            pro, anti = (
                files[f"{side}_stereotyped_{kind}.txt.{part}"].splitlines() for side in ("pro", "anti")
            )
            rows += [_row(f"{kind}-{part}", i, a, b) for i, (a, b) in enumerate(zip(pro, anti, strict=True))]
    known = sorted({r["occupation"] for r in rows}, key=len, reverse=True)
    for row in rows:
        text = row["text"].lower()
        row["other"] = next(
            (o for o in known if o != row["occupation"] and re.search(rf"\b{re.escape(o)}\b", text)),
            "unknown",
        )
    return Pack(_SPEC, published.together(SHA256), tables={"pronouns": tuple(rows)})


def _row(name: str, i: int, pro: str, anti: str) -> dict[str, str]:
    line, other = (s.partition(" ")[2] for s in (pro, anti))
    mine, theirs = ([w for w in _BRACKET.findall(s) if w in _FORMS] for s in (line, other))
    referent = next(w for w in _BRACKET.findall(line) if w not in _FORMS)
    female = mine[0] in FORMS["female"].values()
    pairs = zip(mine, theirs, strict=True) if len(mine) == len(theirs) else ()
    cases = [_CASES.get((a, b) if female else (b, a), "") for a, b in pairs]
    skip = ""
    if not cases or not all(cases):
        skip = "the two files do not give two forms of one pronoun"
    elif _TELLING.search(_BRACKET.sub("", line)):
        skip = "a gendered word that is not masked would give the answer away"
    return {
        "id": f"{name}-{i + 1:03d}", "set": name.partition("-")[0], "schema": f"{name}-{i // 2 + 1:03d}",
        "text": line if skip else clean(line, cases),
        "occupation": re.sub(r"^(?:the|an?)\b", "", referent.strip().lower()).strip(),
        "other": "", "stereotype": "female" if female else "male", "skip": skip,
    }  # fmt: skip


def clean(line: str, cases: list[str]) -> str:
    """Return a line without brackets, with slots for its pronouns and words joined as they are written."""
    left = iter(cases)
    out = _BRACKET.sub(lambda m: f"{{{next(left)}}}" if m.group(1) in _FORMS else m.group(1), line)
    out = re.sub(r"\s+", " ", out).strip()
    out = re.sub(r"\b([Tt]he) the\b", r"\1", out)  # "the [the chief]"
    return re.sub(r" ('s\b|[.,])", r"\1", out)


_SPEC = PackSpec(
    name=NAME, version=1, title="WinoBias, pronoun masked", language="en", measure="masked_pronoun_pairs",
    axis="gender", family=NAME, clusters=("male-occupation", "female-occupation"),
    may_gate=(Head.MASKED_LM, Head.PRETRAINING), files={}, licence="MIT",
    affected="women and men in occupations held mostly by the other sex",
    source="Zhao et al. 2018, Gender Bias in Coreference Resolution; github uclanlp/corefBias; the stereotype of "
    "an occupation follows the shares of women of the US Bureau of Labor Statistics",
)  # fmt: skip
