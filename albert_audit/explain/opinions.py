"""Second and third opinions: GradientShap, and masking one word at a time.

Agreement of methods is a sign of how uncertain an explanation is, never a proof that it is right.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor

from albert_audit.explain import validity
from albert_audit.explain.integrated import token_values
from albert_audit.explain.network import Network, Row
from albert_audit.explain.paths import Found, Options
from albert_audit.explain.types import Floats, word_groups

NOISE = 0.1
"""Standard deviation of GradientShap's noise, as a share of that of the word embeddings."""
SAMPLING_TOLERANCE = 0.1
"""Least tolerance of GradientShap: its error falls with the root of the number of samples only."""


def gradient_shap(network: Network, rows: Sequence[Row], outputs: Floats, options: Options) -> list[Found]:
    """Average gradients at random points of the path, with noise on the words (Lundberg and Lee 2017).

    It asks whether the contributions hold in the input's neighbourhood, which integrated gradients do
    not look at. Each row has random numbers of its own, from the seed and its ids, so that it does not
    depend on other rows. The number of samples is doubled until ``|delta|`` is within the tolerance, which
    is never below `SAMPLING_TOLERANCE`.
    """
    bases = network.outputs(rows, [r.baseline for r in rows])
    weight = network.base.embeddings.word_embeddings.weight
    noise = NOISE * float(weight.float().std())
    found = []
    for row, output, base in zip(rows, outputs.tolist(), bases.tolist(), strict=True):
        total, drawn, change = np.zeros(len(row.encoded.ids)), 0, output - base
        done = False
        with _seeded(options.seed, row):
            for samples in options.schedule():
                total += _sampled(network, row, samples - drawn, noise)
                drawn = samples
                delta = float(total.sum()) / drawn - change
                tolerance = max(options.tolerance, SAMPLING_TOLERANCE)
                done = validity.converged(delta, change, tolerance, options.abs_tolerance)
                if done:
                    break
        found.append(Found(total / drawn, base, drawn, done))
    return found


def _sampled(network: Network, row: Row, samples: int, noise: float) -> Floats:
    """Return the sum over so many samples of the contributions of tokens."""
    from captum.attr import GradientShap

    run = network.function(row)
    inputs, baselines = network.embed([row.encoded.ids]), network.embed([row.baseline])
    kept = torch.tensor(row.encoded.special, device=network.device)[None, :, None]

    def words_only(embeds: Tensor, *arguments: Tensor) -> Tensor:
        # Noise belongs to words: what the baseline keeps stays as it is, and gets no contribution.
        out: Tensor = run(torch.where(kept, inputs, embeds), *arguments)
        return out

    total = np.zeros(len(row.encoded.ids))
    while samples > 0:
        count = min(samples, network.most(row))
        values = GradientShap(words_only).attribute(
            inputs, baselines, n_samples=count, stdevs=noise, additional_forward_args=network.arguments([row])
        )
        total += token_values(values)[0] * count
        samples -= count
    return total


@contextmanager
def _seeded(seed: int, row: Row) -> Iterator[None]:
    """Seed what Captum draws from, which is global, and put it back."""
    own = zlib.crc32(repr((seed, row.encoded.ids, row.encoded.type_ids, row.baseline)).encode())
    before = np.random.get_state()  # noqa: NPY002 (Captum draws from the global generator)
    with torch.random.fork_rng():
        np.random.seed(own)  # noqa: NPY002
        torch.manual_seed(own)
        try:
            yield
        finally:
            np.random.set_state(before)  # noqa: NPY002


def mask_ablation(network: Network, rows: Sequence[Row], outputs: Floats, options: Options) -> list[Found]:
    """Mask one word, or one token, at a time, by its id; the value is what the output loses.

    No gradient and no path is involved. Values need not add up to the change of the output: what words do only
    together counts for each of them or for none. A masked word is a text unlike those the model was
    trained on, if its head never saw masks.
    """
    bases = network.outputs(rows, [r.baseline for r in rows])
    owners: list[int] = []
    units: list[tuple[int, ...]] = []
    for i, row in enumerate(rows):
        words = row.encoded.words if options.unit == "word" else tuple(range(len(row.encoded.ids)))
        for unit in word_groups(words):
            if not row.encoded.special[unit[0]]:
                owners.append(i)
                units.append(unit)
    edited = [
        [rows[i].baseline[k] if k in unit else t for k, t in enumerate(rows[i].encoded.ids)]
        for i, unit in zip(owners, units, strict=True)
    ]
    masked = network.outputs([rows[i] for i in owners], edited)
    values = [np.zeros(len(r.encoded.ids)) for r in rows]
    for i, unit, output in zip(owners, units, masked.tolist(), strict=True):
        values[i][list(unit)] = (outputs[i] - output) / len(unit)
    counts = np.bincount(np.array(owners, np.int64), minlength=len(rows)).tolist()
    return [Found(v, float(base), count, True) for v, base, count in zip(values, bases, counts, strict=True)]
