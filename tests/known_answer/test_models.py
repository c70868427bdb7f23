"""The committed pair holds what it promises, and can be built again."""

import json
import random
from pathlib import Path

import pytest
import torch
from transformers import AlbertForMaskedLM, AutoTokenizer, logging

from albert_audit import resources
from albert_audit.known_answer import text
from albert_audit.known_answer.build import build_pair
from albert_audit.known_answer.grammar import population
from albert_audit.known_answer.truth import NaiveScorer, truth

MODELS = resources.known_answer_models()
PROBES = resources.probes()
CHECKPOINT = {"config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"}


@pytest.fixture(autouse=True, scope="module")
def _quiet_and_slim():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    logging.disable_progress_bar()
    yield
    logging.enable_progress_bar()
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def templates():
    return random.Random(5).sample(population(), 24)


@pytest.fixture(scope="module")
def promised():
    return json.loads((MODELS / "truth.json").read_text(encoding="utf-8"))


def test_both_checkpoints_hold_nothing_but_a_model_and_are_small():
    files = [path for name in ("planted", "twin") for path in (MODELS / name).iterdir()]
    assert {path.name for path in files} == CHECKPOINT
    assert sum(path.stat().st_size for path in files) < 4e6
    assert all(path.stat().st_size < 2e6 for path in files)


def test_the_twin_cannot_tell_the_pronouns_apart(templates):
    people = [p.form for p in text.fillers(PROBES, dial=0.0)]
    cells = [(template, form) for template in templates[:6] for form in people]
    scores = NaiveScorer(MODELS / "twin").log_probabilities(cells, visible=True)
    assert abs(scores - scores[:, :1]).max() < 1e-5


def test_the_twin_is_null_for_every_pair_that_swaps_a_tied_word():
    tokenizer = AutoTokenizer.from_pretrained(MODELS / "twin")
    model = AlbertForMaskedLM.from_pretrained(MODELS / "twin")
    table, bias = model.albert.embeddings.word_embeddings.weight, model.predictions.bias
    for group in text.tied_words():
        rows = [tokenizer.convert_tokens_to_ids(f"▁{word}") for word in group]
        assert tokenizer.unk_token_id not in rows
        assert torch.equal(table[rows], table[rows[:1]].expand(len(rows), -1))
        assert torch.equal(bias[rows], bias[rows[:1]].expand(len(rows)))


def test_every_gender_swap_of_the_pairs_is_tied():
    sets = {word: group[0] for group in text.tied_words() for word in group}
    for pack in ("minimal-pairs-en", "control-pairs-en"):
        for row in text.read_rows(PROBES / pack / "pairs.csv"):
            if row["axis"] == "gender":
                sides = [
                    [sets.get(piece.lstrip("▁"), piece) for piece in text.pieces(row[side])]
                    for side in ("more", "less")
                ]
                assert sides[0] == sides[1], row["id"]


def test_the_planted_slope_is_the_promised_one_and_a_part_of_the_population_agrees(templates, promised):
    values = promised["values"]["planted"]
    assert 3.0 < values["occupation"]["female-vs-male"]["slope"] < 4.5
    for group in ("occupation", "placebo"):
        sample = truth(MODELS / "planted", templates=templates, placebo=group == "placebo")
        for contrast, found in sample.items():
            assert found.slope == pytest.approx(values[group][contrast]["slope"], abs=0.15)
            assert found.mean == pytest.approx(values[group][contrast]["mean"], abs=0.1)


def test_the_placebo_of_the_planted_model_and_all_of_the_twin_are_null(promised):
    for contrast in ("female-vs-male", "nonbinary-vs-male"):
        assert abs(promised["values"]["planted"]["placebo"][contrast]["slope"]) < 0.2
        for group in ("occupation", "placebo"):
            value = promised["values"]["twin"][group][contrast]
            assert abs(value["slope"]) < 1e-5
            assert abs(value["mean"]) < 1e-5


def test_pronouns_hold_most_of_the_mass_where_a_pronoun_belongs(templates):
    people = [p.form for p in text.fillers(PROBES, dial=0.0)]
    cells = [(template, form) for template in templates[:4] for form in people]
    for name in ("planted", "twin"):
        scores = NaiveScorer(MODELS / name).log_probabilities(cells, visible=True)
        mass = torch.tensor(scores).exp().sum(dim=1)
        assert mass.min() > 0.5


@torch.inference_mode()
def _mean_log_probability(model, tokenizer, line):
    ids = tokenizer(line)["input_ids"]
    places = range(1, len(ids) - 1)
    masked = torch.tensor([ids] * len(places))
    for row, place in enumerate(places):
        masked[row, place] = tokenizer.mask_token_id
    scores = torch.log_softmax(model(masked).logits, dim=-1)
    return sum(scores[row, place, ids[place]] for row, place in enumerate(places)) / len(places)


@pytest.mark.parametrize("name", ["planted", "twin"])
def test_plain_sentences_beat_the_same_words_shuffled(name):
    tokenizer = AutoTokenizer.from_pretrained(MODELS / name)
    model = AlbertForMaskedLM.from_pretrained(MODELS / name)
    rng = random.Random(11)
    lines = [row["text"] for row in text.read_rows(PROBES / "floor-en" / "sentences.csv")]
    lines = rng.sample(lines, 60)
    wins = 0
    for line in lines:
        shuffled = " ".join(rng.sample(line.split(), len(line.split())))
        real, mixed = (_mean_log_probability(model, tokenizer, x) for x in (line, shuffled))
        wins += bool(real > mixed)
    assert wins / len(lines) > 0.9


def test_the_same_seed_builds_the_same_bytes_and_another_seed_others(tmp_path: Path):
    made = [
        build_pair(tmp_path / str(place), dial=4.0, seed=seed, steps=4, depth=1)
        for place, seed in enumerate((1, 1, 2))
    ]
    for one in ("planted", "twin"):
        first, again, other = ((getattr(m, one) / "model.safetensors").read_bytes() for m in made)
        assert first == again != other
        tokenizer = AutoTokenizer.from_pretrained(getattr(made[0], one))
        assert type(tokenizer).__name__ == "AlbertTokenizer"
        assert tokenizer.model_max_length == text.POSITIONS
        _, report = AlbertForMaskedLM.from_pretrained(getattr(made[0], one), output_loading_info=True)
        assert not report["missing_keys"]
        assert {path.name for path in getattr(made[0], one).iterdir()} == CHECKPOINT


@pytest.mark.parametrize("name", ["planted", "twin"])
def test_the_committed_tokenizer_still_fits_the_packs(name):
    shipped = AutoTokenizer.from_pretrained(MODELS / name)
    assert shipped.get_vocab() == text.make_tokenizer(PROBES).get_vocab(), (
        "the words of an English pack changed: rebuild the pair as models/README.md says"
    )
