"""What is explained, and what an explanation says: documents in memory, without torch or captum."""

from __future__ import annotations

import html
import math
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Kind = Literal["label", "contrast", "tag", "mask", "span", "choice"]
Method = Literal["integrated_gradients", "gradient_shap", "mask_ablation"]
Baseline = Literal["pad", "mask"]
Floats = NDArray[np.float64]

METHODS: tuple[Method, ...] = ("integrated_gradients", "gradient_shap", "mask_ablation")
BASELINES: tuple[Baseline, ...] = ("pad", "mask")


@dataclass(frozen=True)
class Target:
    """The number that is explained. The functions of `albert_audit.explain.targets` build it.

    Attributes
    ----------
    kind : {"label", "contrast", "tag", "mask", "span", "choice"}
    name : str
        The number in plain words, with its scale (logit, or log-odds).
    label : int
        Column of the logits (``label``, ``contrast``, ``tag``).
    ids : tuple of two int
        Vocabulary ids whose logits are compared (``mask``).
    at : int
        Which [MASK] of the text, counted from 0 (``mask``).
    word : int
        Index of the word (``tag``; ``mask`` where a word of the text is masked by its id).
    span : tuple of (int, int)
        Characters of the second text that the answer covers (``span``).
    rest : bool
        Whether the logit is taken as log-odds against all other labels (``contrast``, ``tag``).
    weight : float
        What the logit is multiplied with (``choice``).
    """

    kind: Kind
    name: str
    label: int = -1
    ids: tuple[int, ...] = ()
    at: int = 0
    word: int = -1
    span: tuple[int, int] = (0, 0)
    rest: bool = False
    weight: float = 1.0


@dataclass(frozen=True, eq=False)
class Attribution:
    """How much each token of one input contributed to one number.

    Attributes
    ----------
    text, pair : str
        What was explained; never shown by ``repr``.
    ids, type_ids : tuple of int, (tokens,)
        The input as the model saw it.
    tokens : tuple of str, (tokens,)
    offsets : tuple of (int, int), (tokens,)
        Characters of `text`, or of `pair` where the type id is 1.
    words : tuple of int, (tokens,)
        Index of the word, -1 for [CLS], [SEP] and [MASK].
    special : tuple of bool, (tokens,)
        True where `words` is -1; such a token is the same in the baseline, so its value is 0.
    target : str
        The number that is explained, in plain words.
    method, baseline : str
    values : array, (tokens,)
        Signed contributions in the unit of the target (logits or log-odds); never rescaled.
    output, output_baseline : float
        The target at the input and at its baseline.
    delta : float
        Sum of `values` minus (`output` - `output_baseline`). For the two gradient methods this is the
        error of integration; for ``mask_ablation`` it is what words do together, no error.
    steps : int
        Points of the path (samples; forward passes of ``mask_ablation``).
    converged : bool
        Whether `delta` is within the tolerance; always true for ``mask_ablation``.
    reasons : tuple of str
        Why this is not to be relied on; empty when it is valid.
    """

    text: str = field(repr=False)
    pair: str | None = field(repr=False)
    ids: tuple[int, ...] = field(repr=False)
    type_ids: tuple[int, ...] = field(repr=False)
    tokens: tuple[str, ...] = field(repr=False)
    offsets: tuple[tuple[int, int], ...] = field(repr=False)
    words: tuple[int, ...] = field(repr=False)
    special: tuple[bool, ...] = field(repr=False)
    target: str
    method: Method
    baseline: Baseline
    values: Floats
    output: float
    output_baseline: float
    delta: float
    steps: int
    converged: bool
    reasons: tuple[str, ...] = ()

    @property
    def valid(self) -> bool:
        """Whether no check of validity failed."""
        return not self.reasons

    @property
    def change(self) -> float:
        """`output` minus `output_baseline`: what the values should sum to."""
        return self.output - self.output_baseline

    def groups(self) -> tuple[tuple[int, ...], ...]:
        """Return the token positions of each row of `word_values`: one word, or one special token."""
        return word_groups(self.words)

    def word_values(self) -> tuple[tuple[str, ...], Floats]:
        """Return the words in order and the signed sum of each word's tokens.

        Punctuation marks are words of their own; [CLS], [SEP] and [MASK] have their own rows, so the
        sum over words is the sum over tokens.

        Returns
        -------
        tuple of str, array of float64
            Both of one length.
        """
        groups = self.groups()
        names = tuple(self._name(group) for group in groups)
        return names, np.array([math.fsum(self.values[list(g)]) for g in groups], np.float64)

    def _name(self, group: tuple[int, ...]) -> str:
        if self.words[group[0]] < 0:
            return self.tokens[group[0]]
        source = self.pair if self.pair is not None and self.type_ids[group[0]] == 1 else self.text
        start, end = self.offsets[group[0]][0], max(self.offsets[i][1] for i in group)
        return source[start:end] or self.tokens[group[0]]

    def _repr_html_(self) -> str:
        return _page(self)


def word_groups(words: tuple[int, ...]) -> tuple[tuple[int, ...], ...]:
    """Return the positions of each run of one word; a special token (-1) stands alone."""
    groups: list[list[int]] = []
    for i, word in enumerate(words):
        if groups and word >= 0 and words[groups[-1][0]] == word:
            groups[-1].append(i)
        else:
            groups.append([i])
    return tuple(tuple(g) for g in groups)


# --- notebooks ------------------------------------------------------------------------------

_BLUE, _ORANGE = "0,114,178", "230,159,0"
_BOX = "color:#111;background:#fff;padding:.5em;font-family:sans-serif"


def _page(found: Attribution) -> str:
    """Return a table: colour, sign and number each say the same; without colour when it is not valid."""
    says = f"{found.target}; {found.method.replace('_', ' ')}, baseline {found.baseline}"
    if not found.valid:
        reasons = "".join(f"<li>{html.escape(r)}</li>" for r in found.reasons)
        return (
            f'<div style="{_BOX}"><p><strong>Not valid: no contributions are shown.</strong> '
            f"{html.escape(says)}</p><ul>{reasons}</ul></div>"
        )
    words, values = found.word_values()
    scale = float(np.abs(values).max(initial=0.0))
    rows = "".join(_row(w, float(v), scale) for w, v in zip(words, values, strict=True))
    top = int(np.abs(values).argmax()) if scale > 0 else -1
    summary = f"Largest: {words[top]} {values[top]:+.3g}. " if top >= 0 else "All contributions are 0. "
    return (
        f'<div style="{_BOX}"><table><caption>{html.escape(says)}. {html.escape(summary)}'
        f"Output {found.output:+.3g}, at the baseline {found.output_baseline:+.3g}, "
        f"delta {found.delta:+.1g} at {found.steps} steps; full colour is {scale:.3g}.</caption>"
        '<thead><tr><th scope="col">Word</th><th scope="col">Contribution</th></tr></thead>'
        f"<tbody>{rows}</tbody></table></div>"
    )


def _row(word: str, value: float, scale: float) -> str:
    strength = 0.5 * abs(value) / scale if scale > 0 else 0.0
    colour = _BLUE if value > 0 else _ORANGE
    line = "solid" if value > 0 else "dotted"
    style = f"background:rgba({colour},{strength:.2f});text-decoration:underline {line}" if value else ""
    return (
        f'<tr><th scope="row" style="{style}">{html.escape(word)}</th>'
        f'<td style="text-align:right">{value:+.3g}</td></tr>'
    )
