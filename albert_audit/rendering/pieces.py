"""The smallest pieces of HTML: strings of others, numbers, states, table cells.

Plain functions and no template macros: a card has thousands of them, and this is where its time
and most of its bytes would go. Every string passes through `escape`.
"""

from __future__ import annotations

from collections.abc import Iterable

from markupsafe import Markup, escape

from albert_audit.rendering.text import Part, Sentence, visible


def data(text: str, cap: int = 600) -> Markup:
    """Return a string that others chose: made visible, escaped, and kept apart from its surroundings."""
    return _safe(f"<bdi>{escape(visible(text, cap))}</bdi>")  # a bdi is dir="auto" by itself


def code(text: str, cap: int = 200) -> Markup:
    """Return an identifier or a digest."""
    return _safe(f"<code>{data(text, cap)}</code>")


def part(piece: Part) -> Markup:
    """Return a piece of a sentence; a number carries its place in ``data-ref``."""
    if piece.ref:
        return _safe(f'<span data-ref="{escape(piece.ref)}">{escape(piece.text)}</span>')
    return _safe(f"<bdi>{escape(piece.text)}</bdi>" if piece.data else str(escape(piece.text)))


def say(sentence: Sentence) -> Markup:
    """Return a sentence."""
    return _safe("".join(map(part, sentence)))


def mark(tone: str) -> Markup:
    """Return the shape of a state; the word beside it says the same."""
    shape = f'<use href="#m-{escape(tone)}"/>'
    return _safe(f'<svg class="mark" viewBox="0 0 16 16" aria-hidden="true">{shape}</svg>')


def state(tone: str, label: str) -> Markup:
    """Return a state as shape and word."""
    return _safe(f'<span class="state is-{escape(tone)}">{mark(tone)}{escape(label)}</span>')


def th(label: str | Markup, kind: str = "") -> Markup:
    """Return the head of a column. The roles outlive the narrow layout, which unmakes the table."""
    return _safe(f'<th role="columnheader" scope="col"{_class(kind)}>{escape(label)}</th>')


def td(label: str, content: Part | Sentence | str, kind: str = "n") -> Markup:
    """Return a cell; `label` is the head of its column, for the narrow layout."""
    sentence = (
        content if isinstance(content, tuple) else (Part(content) if isinstance(content, str) else content,)
    )
    return _safe(f'<td role="cell"{_class(kind)} data-label="{escape(label)}">{say(sentence)}</td>')


def heads(cells: Iterable[tuple[str, Sentence]]) -> Markup:
    """Return the heads of columns of numbers."""
    return _safe("".join(th(label, "n") for label, _ in cells))


def row(cells: Iterable[tuple[str, Sentence]]) -> Markup:
    """Return cells of numbers."""
    return _safe("".join(td(label, content) for label, content in cells))


def facts(pairs: Iterable[tuple[str | Sentence, Sentence]], *, digests: bool = False) -> Markup:
    """Return the groups of a description list; `digests` are set in the type of code."""
    start, end = ("<code>", "</code>") if digests else ("", "")

    def name(label: str | Sentence) -> Markup:
        return escape(label) if isinstance(label, str) else say(label)

    return _safe("\n".join(f"<div><dt>{name(k)}</dt><dd>{start}{say(v)}{end}</dd></div>" for k, v in pairs))


def _class(kind: str) -> str:
    return f' class="{escape(kind)}"' if kind else ""


def _safe(markup: str) -> Markup:
    return Markup(markup)  # noqa: S704  # built above from literals and `escape` alone
