"""What each measure needs of a pack: its tables and their columns, its keys, what its rows cluster by."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Shape:
    """What a measure needs of a pack.

    Attributes
    ----------
    files : tuple of str
        Tables it must have; `optional` ones it may have.
    fields : tuple of str
        Fields of pack.yaml beyond the common ones.
    clusterings : tuple of tuple of str
        The clusterings it can have, each in the order of its columns cluster_a and cluster_b.
    statistics : tuple of str
        What a margin may be set for.
    slots : tuple of str
        Slots that each template has once; `may` ones at most once.
    controls_itself : bool
        Whether its rows hold their own control, so that the pack itself sets the margins.
    brings : tuple of str
        What the auditor must bring: ``texts``, ``labels``, ``groups``.
    """

    files: tuple[str, ...] = ()
    optional: tuple[str, ...] = ()
    fields: tuple[str, ...] = ()
    clusterings: tuple[tuple[str, ...], ...] = ((),)
    statistics: tuple[str, ...] = ()
    slots: tuple[str, ...] = ()
    may: tuple[str, ...] = ()
    controls_itself: bool = False
    brings: tuple[str, ...] = ()


_GAPS = ("gap", "gap_abs", "flips", "net_flips")
SHAPES: dict[str, Shape] = {
    "template_gap": Shape(
        files=("templates", "fillers"),
        fields=("axis", "groups", "reference", "clusters"),
        clusterings=(("template", "filler"),),
        statistics=("template_gap", "template_gap_slope", "template_gap_spread"),
        slots=("target", "filler"),
    ),
    "pair_preference": Shape(
        files=("pairs",),
        fields=("clusters",),
        clusterings=(("template",), ("writer",)),
        statistics=tuple(
            f"pair_{score}_{kind}"
            for score in ("cps", "pll_word_l2r", "unmasked", "aula")
            for kind in ("margin", "share")
        ),
    ),
    "stereo_triples": Shape(
        files=("triples",),
        optional=("continuations",),
        fields=("clusters",),
        clusterings=(("target",),),
        statistics=tuple(
            f"stereo_{figure}_{rule}"
            for rule in ("published", "loglik", "nonstandard_next")
            for figure in ("ss", "lms")
        ),
    ),
    "sentence_floor": Shape(files=("sentences",)),
    "template_score": Shape(
        files=("templates", "persons"),
        optional=("contexts",),
        fields=("axis", "reference", "clusters"),
        clusterings=(("template", "person"),),
        statistics=tuple(f"score_{s}" for s in _GAPS),
        slots=("person",),
        may=("context",),
        controls_itself=True,
    ),
    "class_floor": Shape(files=("polar",)),
    "counterfactual": Shape(
        files=("terms",),
        optional=("fixed",),
        fields=("clusters",),
        clusterings=(("text",),),
        statistics=("counterfactual_gap_abs", "counterfactual_flips"),
        controls_itself=True,
        brings=("texts",),
    ),
    "group_metrics": Shape(fields=("clusters",), clusterings=(("text",),), brings=("texts", "groups")),
    "mitigation": Shape(fields=("clusters",), clusterings=(("text",),), brings=("texts", "labels", "groups")),
    "perturbation": Shape(
        fields=("clusters",), clusterings=(("text",),), brings=("texts", "labels", "groups")
    ),
    "name_swap": Shape(
        files=("templates", "names"),
        fields=("axis", "reference", "clusters"),
        clusterings=(("template", "name"),),
        statistics=tuple(
            f"name_{s}"
            for s in (
                "recall_exact",
                "recall_overlap",
                "type_confusion",
                "boundary",
                "unknown",
                "pieces",
                "recall_adjusted",
            )
        ),
        slots=("name",),
        controls_itself=True,
    ),
    "tag_floor": Shape(files=("templates", "names", "sentences"), slots=("name",)),
    "choice_bias": Shape(
        files=("questions",),
        fields=("clusters",),
        clusterings=(("template",),),
        statistics=(
            "choice_margin",
            "choice_bias_ambiguous",
            "choice_bias_disambiguated",
            "choice_accuracy_gap",
        ),
    ),
    "choice_floor": Shape(files=("questions",)),
    "association": Shape(
        files=("words",),
        optional=("templates",),
        fields=("clusters",),
        clusterings=(("target", "attribute"), ("target",)),
        statistics=("association", "association_d"),
        slots=("word",),
    ),
    "context_association": Shape(
        files=("words",), fields=("clusters",), clusterings=(("target", "attribute"),), brings=("texts",)
    ),
    "encoder_floor": Shape(files=("sentences", "paraphrases")),
    "masked_pronoun": Shape(
        files=("pronouns",),
        fields=("axis", "clusters"),
        clusterings=(("occupation",),),
        statistics=(
            "pronoun_gap",
            "pronoun_gap_slope",
            "pronoun_gap_correlation",
            "pronoun_gap_rank_correlation",
        ),
        controls_itself=True,
    ),
    "masked_pronoun_pairs": Shape(
        files=("pronouns",),
        fields=("axis", "clusters"),
        clusterings=(("male-occupation", "female-occupation"),),
        statistics=("pronoun_margin", "pronoun_share"),
    ),
    "person_association": Shape(
        files=("matched",),
        fields=("axis", "clusters"),
        clusterings=(("profession",),),
        statistics=("person_association", "person_association_difference"),
    ),
    "completions": Shape(
        files=("templates",),
        fields=("axis", "groups", "reference", "clusters"),
        clusterings=(("template",),),
        statistics=("completion_difference",),
        slots=("target", "blank"),
    ),
}
# Columns of each table: required, then optional. A cell of a required column is not empty, but for BLANK.
COLUMNS: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "templates": (("id", "family", "text"), ()),
    "fillers": (("id", "form", "group", "covariate"), ("match",)),
    "pairs": (("id", "axis", "template", "more", "less"), ()),
    "sentences": (("id", "text"), ()),
    "persons": (("id", "group", "form", "kind"), ("match",)),
    "contexts": (("id", "template", "kind", "form"), ()),
    "polar": (("id", "kind", "polarity", "text"), ()),
    "terms": (("id", "set", "axis", "group", "form", "role"), ()),
    "fixed": (("id", "form", "reason"), ()),
    "names": (("id", "group", "form"), ()),
    "questions": (
        ("id", "template", "context", "question", "first", "second", "unknown", "answer"),
        ("axis", "condition", "polarity", "stereotyped"),
    ),
    "words": (("id", "test", "axis", "set", "form"), ("label", "word")),
    "pronouns": (
        ("id", "text", "occupation"),
        ("other", "referent", "covariate", "they", "set", "schema", "stereotype", "skip"),
    ),
    "matched": (("id", "text", "first", "second", "attribute", "set"), ()),
    "paraphrases": (("id", "text"), ()),
    "triples": (("id", "axis", "target", "context", "stereotype", "anti", "unrelated"), ("unfit",)),
    "continuations": (("id", "axis", "target", "context", "stereotype", "anti", "unrelated"), ("unfit",)),
}  # fmt: skip
BLANK = ("covariate",)
SPECIAL_TOKENS = ("[mask]", "[cls]", "[sep]", "[unk]", "[pad]", "<unk>", "<pad>")
