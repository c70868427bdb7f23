"""A loader for the Winogender schemas (Rudinger et al. 2018; MIT), which are not shipped.

120 templates, two for each of 60 occupations: in one the pronoun means the occupation, in the other a
second participant, who is named by a role or as "someone". The 240 sentences are those of
``all_sentences.tsv``; ``templates.tsv`` says whom the pronoun means and in which case it stands.
"""

from __future__ import annotations

from pathlib import Path

from albert_audit.bias.benchmarks import published
from albert_audit.bias.masked.masked_pronoun import FORMS, fill
from albert_audit.packs import Pack, PackSpec
from albert_audit.types import Head, UsageError

NAME = "winogender"
SENTENCES, TEMPLATES, SHARES = "all_sentences.tsv", "templates.tsv", "occupations-stats.tsv"
SHA256 = {
    SENTENCES: "bd69da16bf228cb8df63fd0843aec2d8b5c36a7f21bf8c7b168bcc83932556c8",
    TEMPLATES: "496f2e2dc77296bcebcdd8865a8dc5715ce22b772de9abb5f531d5b3114c48a0",
    SHARES: "3f7f37c16381a70571356982ea7fe613ac700ad04a6d3b19b9f2be18248df567",
}
_CASES = {"$NOM_PRONOUN": "subject", "$ACC_PRONOUN": "object", "$POSS_PRONOUN": "possessive"}


def load(path: Path) -> Pack:
    """Read the published files as a pack.

    Parameters
    ----------
    path : Path
        The folder ``data`` of the schemas, or one of its three files.

    Raises
    ------
    UsageError
        When a file cannot be read or is not the published one.
    """
    files = published.read(
        path, SHA256, title="Winogender", source="rudinger/winogender-schemas (its folder data)"
    )
    sentences = {r["sentid"].removesuffix(".txt"): r["sentence"] for r in published.table(files[SENTENCES])}
    women = {r["occupation"]: float(r["bls_pct_female"]) / 100 for r in published.table(files[SHARES])}
    rows = []
    for t in published.table(files[TEMPLATES]):
        occupation, participant = t["occupation(0)"], t["other-participant(1)"]
        slot, case = next((k, c) for k, c in _CASES.items() if k in t["sentence"])
        ahead = t["sentence"].split(slot)[0].count(" ")  # words before the pronoun
        for other in (participant, "someone"):
            item = f"{occupation}.{other}.{t['answer']}"
            male = sentences[f"{item}.male"]
            text = _with_slot(
                item, male, case, ahead - (other == "someone" and _article_before(t["sentence"], slot))
            )
            rows.append(
                {
                    "id": item, "text": text, "occupation": occupation, "other": other,
                    "referent": "participant" if t["answer"] == "1" else "occupation",
                    "covariate": f"{women[occupation]:.4f}",
                    # Where the verb says the number, they has a sentence of its own: not comparable.
                    "they": "yes" if fill(text, FORMS["nonbinary"])[0] == sentences[f"{item}.neutral"] else "no",
                }
            )  # fmt: skip
    return Pack(_SPEC, published.together(SHA256), tables={"pronouns": tuple(rows)})


def _article_before(sentence: str, slot: str) -> bool:
    """Whether "the $PARTICIPANT", of which "someone" leaves one word, stands before the pronoun."""
    return sentence.index("$PARTICIPANT") < sentence.index(slot)


def _with_slot(item: str, sentence: str, case: str, at: int) -> str:
    words = sentence.split(" ")
    form = FORMS["male"][case]
    if words[at].strip(".,") != form:
        raise UsageError(
            f"Winogender {item}: expected the pronoun {form!r} as word {at + 1}, found {words[at]!r}"
        )
    words[at] = words[at].replace(form, f"{{{case}}}", 1)
    return " ".join(words)


_SPEC = PackSpec(
    name=NAME, version=1, title="Winogender schemas, pronoun masked", language="en", measure="masked_pronoun",
    axis="gender", family=NAME, clusters=("occupation",), may_gate=(Head.MASKED_LM, Head.PRETRAINING), files={},
    licence="MIT",
    source="Rudinger et al. 2018, Gender Bias in Coreference Resolution; github rudinger/winogender-schemas; "
    "shares of women: US Bureau of Labor Statistics 2015 and 2016, as given there",
)  # fmt: skip
