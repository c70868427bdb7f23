"""What can be explained of each head: builders of `Target`, and where a target lies in an input."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from albert_audit.explain.types import Kind, Target
from albert_audit.types import Head, UsageError

if TYPE_CHECKING:
    from albert_audit.model.load import ModelHandle
    from albert_audit.model.text import Encoded

_HEADS: dict[Kind, tuple[Head, ...]] = {
    "label": (Head.SEQUENCE_CLASSIFICATION,),
    "contrast": (Head.SEQUENCE_CLASSIFICATION,),
    "tag": (Head.TOKEN_CLASSIFICATION,),
    "mask": (Head.MASKED_LM, Head.PRETRAINING),
    "span": (Head.QUESTION_ANSWERING,),
    "choice": (Head.MULTIPLE_CHOICE,),
}


def label(handle: ModelHandle, which: str | int) -> Target:
    """Explain the logit of a label of a sequence classifier.

    Parameters
    ----------
    handle : ModelHandle
    which : str or int
        A label of config.json, or its column.

    Raises
    ------
    UsageError
        When the model has another head or no such label.
    """
    _need(handle, "label")
    column, name = _label(handle, which)
    return Target("label", f"logit of the label {name}", label=column)


def contrast(handle: ModelHandle, which: str | int) -> Target:
    """Explain the log-odds of a label against all other labels, by the softmax of the logits.

    Raises
    ------
    UsageError
        As `label`; and for one label, or where labels do not exclude each other.
    """
    _need(handle, "contrast")
    _need_rest(handle)
    column, name = _label(handle, which)
    return Target("contrast", f"log-odds of the label {name} against the rest", label=column, rest=True)


def tag(handle: ModelHandle, which: str | int, word: int, *, rest: bool = False) -> Target:
    """Explain the tag of a word: the logit at its first piece.

    Parameters
    ----------
    handle : ModelHandle
    which : str or int
        A label of config.json, or its column.
    word : int
        Index of the word in the text; punctuation marks are words.
    rest : bool
        Explain the log-odds against all other tags instead.
    """
    _need(handle, "tag")
    if rest:
        _need_rest(handle)
    column, name = _label(handle, which)
    scale = "log-odds against the rest" if rest else "logit"
    return Target("tag", f"{scale} of the tag {name} at word {word}", label=column, word=word, rest=rest)


def mask(handle: ModelHandle, first: str, second: str, *, at: int = 0, word: int | None = None) -> Target:
    """Explain the log-odds of two words at a masked position.

    The softmax's normaliser is the same for both, so this is also the difference of their logits.

    Parameters
    ----------
    handle : ModelHandle
    first, second : str
        Words of one piece each.
    at : int
        Which [MASK] of the text, counted from 0.
    word : int, optional
        Mask this word of the text, by its id, instead of one that the text holds. A text without a
        written [MASK] tokenises as the model was trained.

    Raises
    ------
    UsageError
        When a word is unknown or of several pieces, when both are the same, or for another head.
    """
    _need(handle, "mask")
    ids = tuple(_piece(handle, w) for w in (first, second))
    if ids[0] == ids[1]:
        raise UsageError(f"expected two words, found the same piece for {first!r} and {second!r}")
    where = f"mask {at}" if word is None else f"word {word}, masked"
    name = f"log-odds of {first} against {second} at {where}"
    return Target("mask", name, ids=ids, at=at, word=-1 if word is None else word)


def span(handle: ModelHandle, start: int, end: int) -> Target:
    """Explain an answer: the start logit at its first token plus the end logit at its last.

    Parameters
    ----------
    handle : ModelHandle
    start, end : int
        Characters [start, end) of the context, which is the second text.
    """
    _need(handle, "span")
    if not 0 <= start < end:
        raise UsageError(f"expected characters 0 <= start < end of the context, found {start} and {end}")
    return Target("span", f"start and end logit of the characters {start}-{end}", span=(start, end))


def choice(handle: ModelHandle, chosen: int, *, of: int) -> tuple[Target, ...]:
    """Explain why a choice was preferred: its logit less the mean logit of the others.

    Each choice is a forward pass of its own, and is attributed alone: one target a choice, the chosen
    one with weight 1, the others with -1/(of - 1). Outputs, baselines, values and deltas of the rows
    add up to those of the difference.

    Parameters
    ----------
    handle : ModelHandle
    chosen : int
        Index of the choice.
    of : int
        How many choices the question has.

    Examples
    --------
    >>> attribute(handle, [prompt] * 3, pairs=choices, target=choice(handle, 0, of=3))   # doctest: +SKIP
    """
    _need(handle, "choice")
    if of < 2 or not 0 <= chosen < of:
        raise UsageError(
            f"expected one of at least two choices, counted from 0; found choice {chosen} of {of}"
        )
    told = f"logit of choice {chosen} less the mean of the others"
    return tuple(
        Target("choice", f"{told}: part of choice {i}", weight=1.0 if i == chosen else -1.0 / (of - 1))
        for i in range(of)
    )


def default(handle: ModelHandle) -> Target:
    """Return what is explained when nothing is asked: a binary classifier's second label.

    Raises
    ------
    UsageError
        For every other model: no choice would be evident.
    """
    if handle.id.head is Head.SEQUENCE_CLASSIFICATION and len(handle.id.labels) == 2:
        return contrast(handle, 1)
    kinds = sorted(k for k, heads in _HEADS.items() if handle.id.head in heads)
    raise UsageError(
        f"a model with the head {handle.id.head} has no evident target",
        f"build one with albert_audit.explain.targets: {', '.join(kinds) or 'none exists for this head'}",
    )


# --- where a target lies --------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Place:
    """A target in one input: what is read off the head's answers.

    Attributes
    ----------
    kind : str
    rest : bool
    at : tuple of two int
        Positions (both the same unless it is a span); 0 for pooled heads.
    columns : tuple of two int
        Columns of the logits (both the same unless two words are compared).
    weight : float
    masked : int
        Position that is replaced by the mask id, -1 for none.
    """

    kind: Kind
    rest: bool
    at: tuple[int, int] = (0, 0)
    columns: tuple[int, int] = (0, 0)
    weight: float = 1.0
    masked: int = -1


def place(handle: ModelHandle, target: Target, encoded: Encoded) -> Place:
    """Find a target in an input.

    Raises
    ------
    UsageError
        When the head cannot answer it or the input lacks the mask, word or span.
    """
    _need(handle, target.kind)
    if target.kind in ("label", "contrast"):
        return Place(target.kind, target.rest, columns=(target.label, target.label))
    if target.kind == "tag":
        first = _word(encoded, target.word)[0]
        return Place("tag", target.rest, (first, first), (target.label, target.label))
    if target.kind == "mask":
        at, masked = _mask_position(handle, target, encoded)
        return Place("mask", False, (at, at), (target.ids[0], target.ids[1]), masked=masked)
    if target.kind == "span":
        return Place("span", False, _span_tokens(target.span, encoded), (0, 1))
    return Place("choice", False, weight=target.weight)


def _mask_position(handle: ModelHandle, target: Target, encoded: Encoded) -> tuple[int, int]:
    mask_id = handle.tokenizer.mask_token_id
    if target.word >= 0:
        found = _word(encoded, target.word)
        if len(found) != 1:
            raise UsageError(
                f"expected a word of one piece to mask, found word {target.word} with {len(found)} pieces",
                "write [MASK] in its place, or choose another word",
            )
        return found[0], found[0]
    masks = [i for i, token in enumerate(encoded.ids) if token == mask_id]
    if not 0 <= target.at < len(masks):
        raise UsageError(
            f"expected a text with at least {target.at + 1} of {handle.tokenizer.mask_token}, found {len(masks)}",
            "write the mask into the text, or name the word to mask",
        )
    return masks[target.at], -1


def _span_tokens(span: tuple[int, int], encoded: Encoded) -> tuple[int, int]:
    start, end = span
    inside = [
        i for i in encoded.positions
        if encoded.type_ids[i] == 1 and encoded.offsets[i][0] < end and encoded.offsets[i][1] > start
    ]  # fmt: skip
    if not inside:
        raise UsageError(
            f"no token of the second text covers the characters {start}-{end}",
            "give the context as the pair, and characters of it",
        )
    return inside[0], inside[-1]


def _word(encoded: Encoded, word: int) -> list[int]:
    found = [i for i, w in enumerate(encoded.words) if w == word and w >= 0]
    if not found:
        raise UsageError(f"expected a word from 0 to {max(encoded.words)}, found {word}")
    return found


# --- checks ---------------------------------------------------------------------------------


def _need(handle: ModelHandle, kind: Kind) -> None:
    if handle.id.head not in _HEADS[kind]:
        raise UsageError(
            f"expected a model with the head {' or '.join(_HEADS[kind])} for the target {kind!r}, "
            f"found {handle.id.head}",
            "explain what this head answers; see albert_audit.explain.targets",
        )


def _need_rest(handle: ModelHandle) -> None:
    several = getattr(handle.model.config, "problem_type", None) == "multi_label_classification"
    if several or len(handle.id.labels) < 2:
        raise UsageError(
            "expected at least two labels that exclude each other, found "
            + ("labels that do not" if several else f"{len(handle.id.labels)} label"),
            "explain the logit of the label",
        )


def _label(handle: ModelHandle, which: str | int) -> tuple[int, str]:
    labels = handle.id.labels
    column = which if isinstance(which, int) else labels.index(which) if which in labels else -1
    if not 0 <= column < len(labels):
        raise UsageError(f"expected a label among {', '.join(labels)}, or its column, found {which!r}")
    return column, labels[column]


def _piece(handle: ModelHandle, word: str) -> int:
    ids = handle.tokenizer._tokenizer.encode(word, add_special_tokens=False).ids
    if len(ids) != 1 or ids[0] == handle.tokenizer.unk_token_id:
        found = f"{len(ids)} pieces" if len(ids) != 1 else "a word the vocabulary lacks"
        raise UsageError(
            f"expected a word that is one piece of the vocabulary, found {found} for {word!r}",
            "compare words of one piece; a score of several is not comparable",
        )
    return int(ids[0])
