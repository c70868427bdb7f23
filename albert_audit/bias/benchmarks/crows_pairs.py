"""A loader for the CrowS-Pairs file (Nangia et al. 2020; CC BY-SA 4.0), which is not shipped.

``sent_more`` is the stereotyping side in every row, also in the 218 rows marked ``antistereo``:
that mark says which group the sentence is about, not which column stereotypes. Clusters are the
writers: 77 people wrote the 1,508 pairs, ten of them more than half.
"""

from __future__ import annotations

import ast
import csv
import io
from pathlib import Path

from albert_audit.bias.benchmarks import published
from albert_audit.packs import Pack, PackSpec, Pair
from albert_audit.types import Head

NAME = "crows-pairs"
FILE = "crows_pairs_anonymized.csv"
SHA256 = "dfb36986ce0502abbaf7055b9176da3d08d48e07df1251991b5dfbcbceab9d0c"


def load(path: Path) -> Pack:
    """Read the published file as a pack.

    Parameters
    ----------
    path : Path
        ``crows_pairs_anonymized.csv``, unchanged but for its line ends, or the folder that holds it.

    Raises
    ------
    UsageError
        When the file cannot be read or is not the published one.
    """
    name = path.name if path.is_file() else FILE  # one file, known by its hash: it may have another name
    source = "nyu-mll/crows-pairs (data/crows_pairs_anonymized.csv)"
    text = published.read(path, {name: SHA256}, title="CrowS-Pairs", source=source)[name]
    pairs = []
    for row in csv.DictReader(io.StringIO(text)):
        votes = ast.literal_eval(row["annotations"])
        pairs.append(
            Pair(
                id=f"crows-{int(row['']):04d}",
                axis=row["bias_type"],
                cluster=row["anon_writer"],
                more=row["sent_more"],
                less=row["sent_less"],
                confirmed=sum(row["bias_type"] in vote for vote in votes),
            )
        )
    spec = PackSpec(
        name=NAME,
        version=1,
        title="CrowS-Pairs, as published",
        language="en",
        measure="pair_preference",
        family=NAME,
        clusters=("writer",),
        may_gate=(Head.MASKED_LM, Head.PRETRAINING),
        files={},
        licence="CC-BY-SA-4.0",
        source="Nangia et al. 2020, CrowS-Pairs; github nyu-mll/crows-pairs",
    )
    return Pack(spec, SHA256, pairs=tuple(pairs))
