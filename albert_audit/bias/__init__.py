"""Bias probes. `MEASURES` names every built-in measure; a pack chooses one by its name."""

from albert_audit.bias import (
    association,
    bec_pro,
    choice_bias,
    choice_floor,
    class_floor,
    completions,
    context_association,
    counterfactual,
    encoder_floor,
    floors,
    group_metrics,
    masked_pronoun,
    mitigation,
    name_swap,
    pair_preference,
    perturbation,
    pronoun_pairs,
    stereo_triples,
    tag_floor,
    template_gap,
    template_score,
)
from albert_audit.bias.measure import COLUMNS, Floor, Measure, Outcome, Statistic, Vouch, frame, items

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
