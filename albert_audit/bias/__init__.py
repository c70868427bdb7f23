"""Bias probes. `MEASURES` names every built-in measure; a pack chooses one by its name."""

from albert_audit.bias import floors, pair_preference, template_gap
from albert_audit.bias.measure import COLUMNS, Floor, Measure, Outcome, Statistic, Vouch, frame, items

MEASURES: dict[str, Measure] = {
    m.name: m for m in (template_gap.MEASURE, pair_preference.MEASURE, floors.MEASURE)
}

__all__ = ["COLUMNS", "MEASURES", "Floor", "Measure", "Outcome", "Statistic", "Vouch", "frame", "items"]
