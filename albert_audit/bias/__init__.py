"""Bias probes. `MEASURES` names every built-in measure; a pack chooses one by its name."""

from albert_audit.bias.benchmarks import bec_pro
from albert_audit.bias.choices import choice_bias, choice_floor
from albert_audit.bias.classifier import (
    class_floor,
    counterfactual,
    group_metrics,
    mitigation,
    perturbation,
    template_score,
)
from albert_audit.bias.encoder import association, context_association, encoder_floor
from albert_audit.bias.masked import (
    completions,
    floors,
    masked_pronoun,
    pair_preference,
    pronoun_pairs,
    stereo_triples,
    template_gap,
)
from albert_audit.bias.measure import COLUMNS, Floor, Measure, Outcome, Statistic, Vouch, frame, items
from albert_audit.bias.tagger import name_swap, tag_floor

MEASURES: dict[str, Measure] = {
    m.name: m
    for m in (
        template_gap.MEASURE,
        pair_preference.MEASURE,
        floors.MEASURE,
        class_floor.MEASURE,
        template_score.MEASURE,
        choice_bias.MEASURE,
        choice_floor.MEASURE,
        stereo_triples.MEASURE,
        association.MEASURE,
        context_association.MEASURE,
        encoder_floor.MEASURE,
        group_metrics.MEASURE,
        mitigation.MEASURE,
        perturbation.MEASURE,
        name_swap.MEASURE,
        tag_floor.MEASURE,
        bec_pro.MEASURE,
        masked_pronoun.MEASURE,
        pronoun_pairs.MEASURE,
        completions.MEASURE,
        counterfactual.MEASURE,
    )
}

__all__ = ["COLUMNS", "MEASURES", "Floor", "Measure", "Outcome", "Statistic", "Vouch", "frame", "items"]
