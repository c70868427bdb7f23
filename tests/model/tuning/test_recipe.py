"""A recipe: its defaults, its mistakes, and its schedule."""

from __future__ import annotations

import pytest

from albert_audit.model.tuning import Recipe
from albert_audit.types import UsageError


def test_defaults_are_those_that_people_use():
    recipe = Recipe.read({})
    assert (recipe.method, recipe.epochs, recipe.learning_rate, recipe.patience) == ("full", 3, 2e-5, None)
    assert Recipe.read({"method": "head"}).learning_rate == 1e-3
    assert Recipe.read({"method": "lora", "learning_rate": 1e-4}).learning_rate == 1e-4
    assert Recipe.read(recipe.model_dump(mode="json", by_alias=True)) == recipe


def test_a_file_is_read_and_its_mistakes_are_named(tmp_path):
    path = tmp_path / "recipe.yaml"
    path.write_text("epochs: 6\nlearning_rate: 3.0e-4\n", encoding="utf-8")
    assert Recipe.read_file(path) == Recipe(epochs=6, learning_rate=3e-4)
    path.write_text("epoch: 6\nbatch_size: 0\n", encoding="utf-8")
    with pytest.raises(UsageError, match="did you mean 'epochs'") as found:
        Recipe.read_file(path)
    assert "batch_size" in str(found.value)
    path.write_text("- 1\n", encoding="utf-8")
    with pytest.raises(UsageError, match="mapping"):
        Recipe.read_file(path)
    with pytest.raises(UsageError, match="cannot read"):
        Recipe.read_file(tmp_path / "none.yaml")
    with pytest.raises(UsageError, match="method"):
        Recipe.read({"method": "magic"})


def test_the_rate_rises_to_its_highest_and_falls_to_nought_after_the_last_step():
    linear = Recipe(learning_rate=1.0, warmup=0.2)
    rates = [linear.rate(i, 10) for i in range(10)]
    assert rates[:3] == [0.5, 1.0, 1.0] and rates[-1] == pytest.approx(1 / 8)
    assert rates[2:] == sorted(rates[2:], reverse=True)
    constant = Recipe(learning_rate=1.0, warmup=0.0, schedule="constant")
    assert {constant.rate(i, 10) for i in range(10)} == {1.0}
