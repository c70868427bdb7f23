"""The value that a model really has over the whole population of templates and fillers.

Deliberately naive, and deliberately without a line of the audit's own scorer: the stock model,
a batch of sentences of exactly one length, no padding, no cache, masks set by id.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import torch
from transformers import AlbertForMaskedLM, AutoTokenizer

from albert_audit import resources
from albert_audit.known_answer.grammar import Template, population
from albert_audit.known_answer.text import FEMALE, NONBINARY, PRONOUNS, Filler, fillers

if TYPE_CHECKING:
    from albert_audit.known_answer.build import KnownAnswer

CONTRASTS = {"female-vs-male": FEMALE, "nonbinary-vs-male": NONBINARY}
_BATCH = 128
_Question = tuple[tuple[int, ...], int]  # the ids, and where the pronoun is asked for


@dataclass(frozen=True)
class Truth:
    """The mean gap over all cells, and its least-squares slope on the share of women.

    The unit is nats, and nats for a unit of share. A cell is a template with a filler; its gap
    is the log-odds of the pronouns with the filler visible, less those with the filler masked.
    """

    contrast: str
    mean: float
    slope: float
    cells: int


class NaiveScorer:
    """Log-probabilities of the three pronouns, the plain way."""

    def __init__(self, folder: Path) -> None:
        self.tokenizer = AutoTokenizer.from_pretrained(folder)
        self.model = AlbertForMaskedLM.from_pretrained(folder).eval()  # type: ignore[no-untyped-call]
        self.asked = [self._one_piece(pronoun) for pronoun in PRONOUNS]

    def _one_piece(self, word: str) -> int:
        (piece,) = self.tokenizer(word, add_special_tokens=False)["input_ids"]
        return int(piece)

    def _question(self, template: Template, form: str, *, visible: bool) -> _Question:
        """Encode the filled sentence, then mask by id; return the ids and the pronoun's place."""
        text = template.text.format(filler=form, target=FEMALE)
        encoded = self.tokenizer(text, return_offsets_mapping=True)
        ids = list(encoded["input_ids"])
        start = template.text.index("{filler}")
        filler = range(start, start + len(form))
        at = ids.index(self.asked[0])
        ids[at] = self.tokenizer.mask_token_id
        for place, (left, right) in enumerate(encoded["offset_mapping"]):
            if not visible and left < right and right - 1 in filler:
                ids[place] = self.tokenizer.mask_token_id
        return tuple(ids), at

    @torch.inference_mode()
    def log_probabilities(
        self, cells: Sequence[tuple[Template, str]], *, visible: bool
    ) -> npt.NDArray[np.float64]:
        """Score *she*, *he* and *they* in every cell.

        Returns
        -------
        ndarray of shape (cells, 3)
        """
        questions = [self._question(*cell, visible=visible) for cell in cells]
        by_length: dict[int, list[_Question]] = defaultdict(list)
        for question in dict.fromkeys(questions):  # the priors of many cells are one question
            by_length[len(question[0])].append(question)
        answers: dict[_Question, npt.NDArray[np.float64]] = {}
        for group in by_length.values():
            for start in range(0, len(group), _BATCH):
                batch = group[start : start + _BATCH]
                logits = self.model(torch.tensor([ids for ids, _ in batch])).logits
                for (ids, at), row in zip(batch, logits, strict=True):
                    scores = torch.log_softmax(row[at].double(), dim=-1)
                    answers[ids, at] = scores[self.asked].numpy()
        return np.array([answers[question] for question in questions])


def truth(
    model: Path,
    *,
    probes: Path | None = None,
    placebo: bool = False,
    templates: Sequence[Template] | None = None,
    people: Sequence[Filler] | None = None,
) -> dict[str, Truth]:
    """Enumerate a model's own values over templates x fillers.

    Parameters
    ----------
    model
        The folder of an ``AlbertForMaskedLM`` checkpoint.
    probes
        The folder of the packs; the shipped ones by default.
    placebo
        Use the placebo words instead of the occupations.
    templates, people
        A part of the population instead of the whole.

    Returns
    -------
    dict
        By contrast.
    """
    templates = population() if templates is None else templates
    if people is None:
        group = "placebo" if placebo else "occupation"
        everyone = fillers(probes or resources.probes(), dial=0.0)
        people = [person for person in everyone if person.group == group]
    scorer = NaiveScorer(model)
    cells = [(template, person.form) for template, person in product(templates, people)]
    seen = scorer.log_probabilities(cells, visible=True)
    hidden = scorer.log_probabilities(cells, visible=False)
    gain = seen - hidden
    shares = np.array([person.share for _, person in product(templates, people)])
    return {
        contrast: _summary(contrast, gain[:, PRONOUNS.index(word)] - gain[:, 1], shares)
        for contrast, word in CONTRASTS.items()
    }


def _summary(
    contrast: str,
    gaps: npt.NDArray[np.float64],
    shares: npt.NDArray[np.float64],
) -> Truth:
    design = np.column_stack([np.ones_like(shares), shares])
    (_, slope), *_ = np.linalg.lstsq(design, gaps, rcond=None)
    return Truth(contrast, float(gaps.mean()), float(slope), len(gaps))


def write_truth(made: KnownAnswer) -> Path:
    """Write ``truth.json`` beside a pair: the values of both models, and how they were made."""
    values = {
        folder.name: {
            group: {
                contrast: {"mean": round(value.mean, 6), "slope": round(value.slope, 6)}
                for contrast, value in truth(folder, placebo=group == "placebo").items()
            }
            for group in ("occupation", "placebo")
        }
        for folder in (made.planted, made.twin)
    }
    document = {
        "dial": made.dial,
        "seed": made.seed,
        "steps": made.steps,
        "unit": "nats; slope: nats for a unit of the share of women",
        "templates": len(population()),
        "values": values,
    }
    path = made.planted.parent / "truth.json"
    path.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
    return path
