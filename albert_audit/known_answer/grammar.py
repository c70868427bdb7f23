"""The population of templates, enumerated, and the seeded draw that the pack ships."""

from __future__ import annotations

import argparse
import csv
import random
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from itertools import product
from pathlib import Path
from typing import Any

import yaml


@dataclass(frozen=True)
class Template:
    """One sentence frame with the slots ``{filler}`` and ``{target}``."""

    id: str
    family: str
    text: str


def _grammar() -> Mapping[str, Any]:
    text = files(__package__).joinpath("grammar.yaml").read_text(encoding="utf-8")
    return dict(yaml.safe_load(text))


def population() -> tuple[Template, ...]:
    """List every template of the grammar, family by family, in a fixed order.

    Returns
    -------
    tuple of Template
        The identifier of a template is its family and its place in that family.
    """
    found: list[Template] = []
    for family, slots in _grammar()["families"].items():
        for place, fragments in enumerate(product(*slots), start=1):
            text = " ".join(fragment for fragment in fragments if fragment)
            found.append(Template(f"{family}-{place:03d}", family, text))
    return tuple(found)


def draw(*, seed: int | None = None, per_family: int | None = None) -> tuple[Template, ...]:
    """Draw a sample of templates, stratified by family, without replacement.

    Parameters
    ----------
    seed, per_family
        Default to the figures in ``grammar.yaml``, which give the pack's own templates.

    Returns
    -------
    tuple of Template
        In the order of the population.
    """
    settings = _grammar()["draw"]
    seed = settings["seed"] if seed is None else seed
    per_family = settings["per_family"] if per_family is None else per_family
    everything = population()
    chosen: list[Template] = []
    for family in dict.fromkeys(template.family for template in everything):
        members = [template for template in everything if template.family == family]
        rng = random.Random(f"{seed}/{family}")  # noqa: S311 (a reproducible draw, no secret)
        places = rng.sample(range(len(members)), per_family)
        chosen.extend(members[place] for place in sorted(places))
    return tuple(chosen)


def write_csv(templates: Sequence[Template], path: Path) -> None:
    """Write templates as a pack's ``templates.csv``."""
    with path.open("w", encoding="utf-8", newline="") as handle:
        rows = csv.writer(handle, lineterminator="\n")
        rows.writerow(["id", "family", "text"])
        rows.writerows([template.id, template.family, template.text] for template in templates)


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the draw, or the whole population, to a file."""
    parser = argparse.ArgumentParser(prog="python -m albert_audit.known_answer.grammar")
    parser.add_argument("--out", type=Path, required=True, help="the templates.csv to write")
    parser.add_argument("--all", action="store_true", help="the population, not the draw")
    options = parser.parse_args(arguments)
    write_csv(population() if options.all else draw(), options.out)
    return 0


if __name__ == "__main__":
    sys.exit(main())
