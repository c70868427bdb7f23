"""How closely to integrate, and when a path has converged."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np

from albert_audit.explain.types import Floats
from albert_audit.types import UsageError

Unit = Literal["word", "token"]
FIRST_STEPS, MOST_STEPS = 18, 512
ABS_TOLERANCE = 1e-4
MOVED = 5.0
"""Tolerances by which a last halving may move contributions; what is left after it is less."""

Part = tuple[float, float]


@dataclass(frozen=True)
class Options:
    """How closely to integrate; see `attribute`."""

    tolerance: float = 0.01
    abs_tolerance: float = ABS_TOLERANCE
    first_steps: int = FIRST_STEPS
    most_steps: int = MOST_STEPS
    unit: Unit = "word"
    seed: int = 0

    def __post_init__(self) -> None:
        if not (0 <= self.tolerance < 1 and self.abs_tolerance >= 0):
            raise UsageError(
                f"expected 0 <= tolerance < 1 and an abs_tolerance of at least 0, found {self.tolerance} and "
                f"{self.abs_tolerance}"
            )
        if not 3 <= self.first_steps <= self.most_steps:
            raise UsageError(
                f"expected 3 <= first_steps <= most_steps, found {self.first_steps} and {self.most_steps}"
            )
        if self.unit not in get_args(Unit):
            raise UsageError(f"expected a unit among word, token, found {self.unit!r}")

    def schedule(self) -> list[int]:
        """Return the numbers of steps that are tried: each twice the one before, up to the most."""
        out = [self.first_steps]
        while out[-1] < self.most_steps:
            out.append(min(2 * out[-1], self.most_steps))
        return out


@dataclass(frozen=True)
class Found:
    """What a method says of one row, before it is judged."""

    values: Floats
    output_baseline: float
    steps: int
    converged: bool


class PathOfRow:
    """What is known of one row's path: for each of its parts the contributions, their delta, their error."""

    def __init__(self, base: float, output: float, nodes: int) -> None:
        self.base, self.output, self.nodes, self.steps = base, output, nodes, 0
        self.parts: dict[Part, tuple[Floats, float]] = {}
        self.halved: list[Part] = [(0.0, 1.0)]  # both of whose halves are wanted or known
        self.moved: dict[Part, float] = {}  # how far the tokens of a part moved when its whole was halved
        self.known = {0.0: base, 1.0: output}

    def add(self, part: Part, values: Floats) -> None:
        """Take in the contributions along a part whose ends are known."""
        change = self.known[part[1]] - self.known[part[0]]
        self.parts[part] = (values, float(values.sum()) - change)
        self.steps += self.nodes

    def values(self) -> Floats:
        """Return the contributions along the whole path, (tokens,)."""
        total: Floats = sum((self.parts[p][0] for p in sorted(self.parts)), np.zeros(()))
        return total

    def compare(self) -> None:
        """Replace each part whose halves are known by them, and note how far its tokens moved."""
        for whole in self.halved:
            halves = halves_of(whole)
            both = sum(self.parts[h][0] for h in halves)
            moved = float(np.abs(both - self.parts.pop(whole)[0]).sum())
            self.moved.pop(whole, None)
            self.moved |= dict.fromkeys(halves, moved / 2)
        self.halved = []

    def bounds(self, options: Options) -> tuple[float, float]:
        """Return the most that deltas, and moves of tokens, may add up to."""
        change, total = self.output - self.base, float(np.abs(self.values()).sum())
        bounds = (options.tolerance * abs(change), options.tolerance * total)
        return max(options.abs_tolerance, bounds[0]), MOVED * max(options.abs_tolerance, bounds[1])

    def done(self, options: Options) -> bool:
        """Whether deltas and moves are within their bounds; never for NaN."""
        for_delta, for_moves = self.bounds(options)
        error = math.fsum(abs(delta) for _, delta in self.parts.values())
        return error <= for_delta and math.fsum(self.moved.values()) <= for_moves

    def refine(self, options: Options) -> list[Part]:
        """Return the halves of the parts with more than their share of the error."""
        self.compare()
        if self.done(options):
            return []
        for_delta, for_moves = self.bounds(options)
        least = np.finfo(np.float64).tiny  # with tolerances of 0
        over = {
            part: max(abs(delta) / max(for_delta, least), self.moved[part] / max(for_moves, least))
            / (part[1] - part[0])
            for part, (_, delta) in self.parts.items()
        }
        affordable = max(0, (options.most_steps - self.steps) // (2 * self.nodes))
        worst = sorted((p for p in over if over[p] > 1), key=lambda p: (-over[p], p))
        self.halved = worst[:affordable]
        return [half for part in self.halved for half in halves_of(part)]

    def found(self, options: Options) -> Found:
        """Return what the path came to."""
        return Found(self.values(), self.base, self.steps, self.done(options))


def halves_of(part: Part) -> tuple[Part, Part]:
    """Return the two halves of a part."""
    middle = (part[0] + part[1]) / 2
    return (part[0], middle), (middle, part[1])
