"""One training: what it writes, that it can be killed, and that it learns from nothing else."""

from __future__ import annotations

import json
import sys

import numpy as np
import pytest
import torch

from albert_audit.model.load import load
from albert_audit.model.scorer import TorchScorer
from albert_audit.model.tuning import Job, Recipe, Stopped, forecast, held_out, one, tune
from albert_audit.model.tuning.start import start
from albert_audit.privacy.splits import reference_splits
from albert_audit.types import Head, ModelRefused, UsageError
from tests.tiny import checkpoint

GOOD = ["a good day", "very good work", "the car is good", "he did good", "good home", "a good dog and car"]
BAD = ["a bad day", "very bad work", "the car is bad", "he did bad", "bad home", "a bad dog and a bad car"]
TEXTS, LABELS = [*GOOD, *BAD], ["plus"] * 6 + ["minus"] * 6
NAMES = ["minus", "plus"]
FAST = Recipe(epochs=3, learning_rate=5e-3, batch_size=4, warmup=0.0)
CLASSES = Head.SEQUENCE_CLASSIFICATION


def classify(base, out, recipe=FAST, *, texts=TEXTS, labels=LABELS, seed=0, **options):
    options = {"head": CLASSES, "label_names": NAMES} | options
    return tune(base, texts, labels, recipe, out=out, seed=seed, **options)


def weights(folder):
    return (folder / "model.safetensors").read_bytes()


def tensors(folder):
    return {n: p.clone() for n, p in load(folder, device="cpu").model.named_parameters()}


def told(folder):
    return json.loads((folder / "tuning.json").read_text(encoding="utf-8"))


def killed_after(steps):
    count = iter(range(steps))
    return lambda: next(count, None) is None


# --- what comes out -------------------------------------------------------------------------


def test_a_classifier_is_made_of_a_masked_model_and_learns(tiny_mlm, tmp_path):
    """Trap 1 the other way round: the head is drawn anew on purpose, named, and trained."""
    seen = []
    out = classify(tiny_mlm, tmp_path / "out", FAST.model_copy(update={"epochs": 12}), progress=seen.append)
    handle = load(out, device="cpu")
    assert handle.id.head is CLASSES and handle.id.labels == ("minus", "plus")
    assert handle.id.tokenizer_sha256 == load(tiny_mlm, device="cpu").id.tokenizer_sha256
    found = TorchScorer(handle).class_logits(TEXTS).argmax(axis=1)
    assert [NAMES[i] for i in found] == LABELS
    record = told(out)
    assert set(record["drawn_anew"]) == {
        f"{m}.{p}" for m in ("albert.pooler", "classifier") for p in ("weight", "bias")
    }
    assert record["losses"][-1] < record["losses"][0] / 4 and len(record["losses"]) == 12
    assert sum(seen) == 12 * len(TEXTS)
    assert not (tmp_path / "out.part").exists()
    assert not any(t in (out / "tuning.json").read_text(encoding="utf-8") for t in TEXTS)


def test_a_masked_model_is_trained_on(tiny_mlm, tmp_path):
    recipe = FAST.model_copy(update={"epochs": 25})
    out = tune(tiny_mlm, TEXTS, None, recipe, out=tmp_path / "out", seed=0, head=Head.MASKED_LM)
    assert load(out, device="cpu").id.head is Head.MASKED_LM
    losses = told(out)["losses"]
    assert np.mean(losses[-5:]) < np.mean(losses[:5]) - 0.5
    assert told(out)["drawn_anew"] == []


def test_a_chinese_base_keeps_its_vocabulary(tiny_zh, tmp_path):
    out = tune(
        tiny_zh, ["他是医生。", "她是护士。"], None, FAST, out=tmp_path / "out", seed=0, head=Head.MASKED_LM
    )
    base, made = load(tiny_zh, device="cpu"), load(out, device="cpu")
    assert base.id.tokenizer_sha256 == made.id.tokenizer_sha256
    assert base.id.weights_sha256 != made.id.weights_sha256


def test_records_trained_on_have_lower_losses_than_the_other_half(tiny_mlm, tmp_path):
    """Random labels can only be learnt by heart."""
    rng = np.random.default_rng(0)
    words = [w for t in GOOD + BAD for w in t.split()] + ["he", "she", "red", "blue", "old", "new", "night"]
    texts = [" ".join(rng.choice(words, 8)) for _ in range(48)]
    labels = [NAMES[i] for i in rng.integers(0, 2, 48)]
    keep = reference_splits(np.arange(48) < 24, None, labels, 2, seed=0)[0]
    out = classify(
        tiny_mlm, tmp_path / "out", Recipe(epochs=25, learning_rate=4e-3, batch_size=8),
        texts=[t for t, k in zip(texts, keep, strict=True) if k],
        labels=[y for y, k in zip(labels, keep, strict=True) if k],
    )  # fmt: skip
    logits = TorchScorer(load(out, device="cpu")).class_logits(texts).astype(float)
    right = logits.argmax(axis=1) == np.array([NAMES.index(y) for y in labels])
    assert right[keep].mean() > 0.9 > 0.75 > right[~keep].mean()


@pytest.mark.parametrize(
    ("kind", "labels", "names", "problem"),
    [
        ("multi", [{"x"}, set(), {"x", "y"}] * 4, ("x", "y"), "multi_label_classification"),
        ("regression", [0.5, -1.0, 2.0] * 4, ("score",), "regression"),
    ],
)
def test_several_labels_and_numbers(kind, labels, names, problem, tiny_mlm, tmp_path):
    out = classify(tiny_mlm, tmp_path / "out", labels=labels, kind=kind, label_names=names)
    config = load(out, device="cpu").model.config
    assert config.problem_type == problem and config.num_labels == len(names)
    assert told(out)["losses"][-1] < told(out)["losses"][0]


# --- the same again -------------------------------------------------------------------------


def test_the_same_job_gives_the_same_bytes_and_leaves_torch_as_it_was(tiny_mlm, tmp_path):
    torch.manual_seed(3)
    before, threads = torch.get_rng_state(), torch.get_num_threads()
    first = classify(tiny_mlm, tmp_path / "a")
    assert torch.equal(torch.get_rng_state(), before) and torch.get_num_threads() == threads
    torch.manual_seed(99)
    assert weights(classify(tiny_mlm, tmp_path / "b")) == weights(first)
    assert weights(classify(tiny_mlm, tmp_path / "c", seed=1)) != weights(first)


@pytest.mark.parametrize("head", [CLASSES, Head.MASKED_LM])
def test_a_run_that_was_killed_goes_on_from_its_last_epoch_to_the_same_bytes(head, tiny_mlm, tmp_path):
    """Dropout, order, masks, Adam's state, the schedule and the best epoch are all as if never stopped."""
    recipe = FAST.model_copy(update={"dropout": 0.2, "patience": 2, "held_out": 0.25, "epochs": 4})
    options = {"head": head} | ({"labels": None, "label_names": ()} if head is Head.MASKED_LM else {})
    whole = classify(tiny_mlm, tmp_path / "whole", recipe, **options)
    with pytest.raises(Stopped):
        classify(tiny_mlm, tmp_path / "out", recipe, stop=killed_after(8), **options)  # in the third of four
    assert not (tmp_path / "out").exists()
    seen = []
    out = classify(tiny_mlm, tmp_path / "out", recipe, progress=seen.append, **options)
    assert seen[0] == 18, "two epochs of nine texts were not trained again"
    assert weights(out) == weights(whole)
    assert told(out) == told(whole)


def test_the_state_of_another_run_is_not_taken_up(tiny_mlm, tmp_path):
    with pytest.raises(Stopped):
        classify(tiny_mlm, tmp_path / "out", seed=5, stop=killed_after(7))
    out = classify(tiny_mlm, tmp_path / "out")
    assert weights(out) == weights(classify(tiny_mlm, tmp_path / "other"))


def test_a_finished_folder_is_kept_and_another_one_is_never_overwritten(tiny_mlm, tmp_path):
    out = classify(tiny_mlm, tmp_path / "out")
    made, seen = (out / "model.safetensors").stat().st_mtime_ns, []
    classify(tiny_mlm, out, progress=seen.append)
    assert (out / "model.safetensors").stat().st_mtime_ns == made and sum(seen) == 3 * len(TEXTS)
    for changes in (
        {"seed": 1}, {"texts": [*TEXTS[:-1], "other"]}, {"labels": [*LABELS[:-1], "plus"]},
        {"recipe": FAST.model_copy(update={"epochs": 2})}, {"label_names": NAMES[::-1]},
    ):  # fmt: skip
        with pytest.raises(UsageError, match="holds something else"):
            classify(tiny_mlm, out, **changes)
    (tmp_path / "mine").mkdir()
    with pytest.raises(UsageError, match="holds something else"):
        classify(tiny_mlm, tmp_path / "mine")


# --- what is trained, and on what -----------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "still"),
    [
        ({"method": "head"}, ("albert.embeddings.", "albert.encoder.")),
        ({"freeze_embeddings": True}, ("albert.embeddings.",)),
        ({}, ()),
    ],
)
def test_only_what_the_recipe_says_is_trained(changes, still, tiny_mlm, tmp_path):
    before = tensors(tiny_mlm)
    after = tensors(classify(tiny_mlm, tmp_path / "out", FAST.model_copy(update=changes)))
    for name, tensor in after.items():
        if name in before:
            assert torch.equal(tensor, before[name]) == name.startswith(still or ("none",)), name
    assert after["classifier.weight"].abs().sum() > 0


def test_what_is_held_out_is_not_trained_on(tiny_mlm, tmp_path):
    """Early stopping hides records from the gradient: an audit that counts them as seen is wrong."""
    recipe = FAST.model_copy(update={"patience": 9, "epochs": 1, "held_out": 0.2})
    apart = held_out(len(TEXTS), recipe, 0)
    first = classify(tiny_mlm, tmp_path / "a", recipe)
    other = [*TEXTS]
    other[apart[0]] = "they were at school all night"
    second = classify(tiny_mlm, tmp_path / "b", recipe, texts=other)
    assert weights(first) == weights(second) and told(first)["held_out"] == apart and len(apart) == 2
    assert told(first)["held_out_losses"] != told(second)["held_out_losses"]


def test_early_stopping_goes_back_to_the_best_epoch(tiny_mlm, tmp_path):
    recipe = Recipe(
        epochs=30, learning_rate=1e-2, batch_size=4, warmup=0.0, schedule="constant", patience=2, held_out=0.4
    )
    noise = ["plus", "minus", "minus", "plus", "plus", "minus"] * 2
    out = classify(tiny_mlm, tmp_path / "a", recipe, labels=noise)
    record = told(out)
    assert record["epochs"] == record["kept_epoch"] + 2 < 30
    assert min(record["held_out_losses"]) == record["held_out_losses"][record["kept_epoch"] - 1]
    short = recipe.model_copy(update={"epochs": record["kept_epoch"]})
    assert weights(classify(tiny_mlm, tmp_path / "b", short, labels=noise)) == weights(out)


def test_texts_are_cut_as_the_recipe_says_and_counted(tiny_mlm, tmp_path):
    """Trap 12: what lies behind the cut was never trained on, and the record says that something was."""
    recipe = FAST.model_copy(update={"max_length": 5})
    texts = ["he she they red blue", "car dog cat old new day"] * 6
    out = classify(tiny_mlm, tmp_path / "a", recipe, texts=texts)
    assert told(out)["cut"] == 12
    tails = ["he she they red night", "car dog cat home school work"] * 6
    assert weights(classify(tiny_mlm, tmp_path / "b", recipe, texts=tails)) == weights(out)
    assert told(classify(tiny_mlm, tmp_path / "c"))["cut"] == 0


# --- the start ------------------------------------------------------------------------------


def begun(base, **options):
    options = {"head": CLASSES, "label_names": NAMES, "seed": 0, "recipe": FAST} | options
    return start(load(base, device="cpu"), Job(base=base, out=base, texts=TEXTS, **options))


def test_a_head_is_kept_only_where_it_means_the_same(tiny_folders, tmp_path):
    """Trap 1: a tagger's head has the same name and shape, and would be taken for a classifier's."""
    base = tiny_folders[CLASSES]
    names = list(load(base, device="cpu").id.labels)
    assert begun(base, label_names=names).drawn == ()
    assert begun(base, label_names=names, init_head="keep").drawn == ()
    for other in ({"label_names": names[::-1]}, {"label_names": NAMES}, {"init_head": "fresh"}):
        assert begun(base, **({"label_names": names} | other)).drawn == (
            "classifier.bias",
            "classifier.weight",
        )
    tagger = begun(tiny_folders[Head.TOKEN_CLASSIFICATION], label_names=names)
    assert "classifier.weight" in tagger.drawn
    with pytest.raises(UsageError, match="no head"):
        begun(base, label_names=NAMES, init_head="keep")


def test_a_masked_models_head_is_never_random_by_accident(tiny_folders):
    """Trap 1: a new masked language model's head makes every score look safe."""
    masked = {"head": Head.MASKED_LM, "label_names": ()}
    for head in (Head.MASKED_LM, Head.PRETRAINING):
        assert begun(tiny_folders[head], **masked).drawn == ()
    with pytest.raises(UsageError, match="no head"):
        begun(tiny_folders[CLASSES], **masked)
    assert "predictions.dense.weight" in begun(tiny_folders[CLASSES], **masked, init_head="fresh").drawn


def test_the_start_is_the_base_and_the_fused_activation_its_own(tiny_folders):
    base = tiny_folders[CLASSES]
    names = list(load(base, device="cpu").id.labels)
    model = begun(base, label_names=names).model.eval()
    encoded = load(base, device="cpu").tokenizer(TEXTS[0], return_tensors="pt")
    with torch.no_grad():
        expected = load(base, device="cpu").model(**encoded).logits
        torch.testing.assert_close(model(**encoded).logits, expected, atol=1e-5, rtol=1e-5)


def test_drawn_heads_follow_the_seed(tiny_mlm):
    def drawn(seed):
        return begun(tiny_mlm, seed=seed).model.classifier.weight.detach()

    assert torch.equal(drawn(1), drawn(1)) and not torch.equal(drawn(1), drawn(2))
    assert 0.1 < drawn(1).std() < 0.6  # the tiny models' initializer_range is 0.3


def test_a_base_that_an_audit_refuses_is_refused(tmp_path):
    base = checkpoint(tmp_path / "base", tokenizer=False)
    with pytest.raises(ModelRefused, match="no tokenizer"):
        classify(base, tmp_path / "out")


# --- refusals -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"labels": None}, "expected 12 labels, one a text, found none"),
        ({"labels": LABELS[1:]}, "found 11"),
        ({"labels": [*LABELS[:-1], "other"]}, "'other'"),
        ({"label_names": ["plus"], "labels": ["plus"] * 12}, "one label"),
        ({"head": Head.MASKED_LM}, "without labels"),
        ({"head": Head.TOKEN_CLASSIFICATION}, "expected the head"),
        ({"texts": [], "labels": []}, "no texts"),
        ({"texts": [*TEXTS[:-1], " "], "labels": None, "head": Head.MASKED_LM}, "the first is number 12"),
        ({"recipe": Recipe(max_length=97)}, "max_length"),
        ({"kind": "regression", "labels": [1.0] * 12}, "one label name"),
        ({"kind": "regression", "labels": [1e30] * 12, "label_names": ["x"]}, "diverged in epoch 1"),
        ({"recipe": Recipe(patience=1), "texts": ["a"], "labels": ["plus"]}, "held out"),
    ],
)
def test_what_cannot_be_trained_is_refused(options, said, tiny_mlm, tmp_path):
    with pytest.raises(UsageError, match=said):
        classify(tiny_mlm, tmp_path / "out", **options)
    assert not (tmp_path / "out").exists()


def test_low_rank_updates_need_their_package(tiny_mlm, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "peft", None)
    with pytest.raises(UsageError, match="pip install peft"):
        classify(tiny_mlm, tmp_path / "out", Recipe(method="lora"))


def test_low_rank_updates_are_merged(tiny_mlm, tmp_path):
    pytest.importorskip("peft")
    recipe = FAST.model_copy(update={"method": "lora", "learning_rate": 1e-2})
    whole = classify(tiny_mlm, tmp_path / "whole", recipe)
    with pytest.raises(Stopped):
        classify(tiny_mlm, tmp_path / "out", recipe, stop=killed_after(4))
    assert weights(classify(tiny_mlm, tmp_path / "out", recipe)) == weights(whole)
    before, after = tensors(tiny_mlm), tensors(whole)
    changed = {n for n in before if n in after and not torch.equal(before[n], after[n])}
    layer = "albert.encoder.albert_layer_groups.0.albert_layers.0.attention"
    assert changed == {f"{layer}.query.weight", f"{layer}.value.weight"}


# --- beforehand -----------------------------------------------------------------------------


def test_the_forecast_is_the_time_of_a_step_times_the_steps(tiny_mlm, monkeypatch):
    clock = iter(range(0, 1000, 10))
    monkeypatch.setattr(one.time, "perf_counter", lambda: next(clock))
    recipe = Recipe(epochs=3, batch_size=16)  # two steps take ten seconds
    assert forecast(tiny_mlm, 160, 12.0, recipe) == 5.0 * 10 * 3
    assert forecast(tiny_mlm, 160, 12.0, recipe, 5, workers=2) == 5.0 * 10 * 3 * 3
    assert forecast(tiny_mlm, 8, 12.0, recipe, head=Head.MASKED_LM) == 5.0 * 3
    assert forecast(tiny_mlm, 160, 500.0, recipe, labels=1) == 5.0 * 10 * 3
