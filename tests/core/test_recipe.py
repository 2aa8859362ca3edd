"""The recipe: the paper's values by default, its schedule, and what it refuses."""

import dataclasses

import pytest

from pflbench.errors import UsageError
from pflbench.method import TaskCard
from pflbench.recipe import Recipe


def test_the_defaults_are_the_papers():
    assert Recipe().settings() == {
        "rounds": 100,
        "epochs": 4,
        "batch": 4,
        "lr": 1e-3,
        "lr_decay": 0.99,
        "weight_decay": 5e-4,
        "optimizer_state": "kept",
        "bce_share": 0.5,
        "augment": "flips+turns",
        "base_width": 64,
        "image_height": 256,
        "image_width": 256,
        "validation": 0.2,
        "test": 0.2,
        "fixed_split": False,
        "threshold": 0.5,
        "precision": "auto",
    }


def test_the_learning_rate_decays_geometrically_from_round_1():
    recipe = Recipe(lr=0.01, lr_decay=0.5)
    assert [recipe.learning_rate(round) for round in (1, 2, 3, 4)] == [0.01, 0.005, 0.0025, 0.00125]


def test_the_papers_rate_after_a_hundred_rounds():
    rate = 1e-3
    for _ in range(99):
        rate *= 0.99
    assert Recipe().learning_rate(100) == pytest.approx(rate)


@pytest.mark.parametrize(
    ("rounds", "allowed"),
    [(1, [1]), (2, [1, 2]), (3, [2, 3]), (5, [3, 4, 5]), (10, [5, 6, 7, 8, 9, 10])],
)
def test_the_best_round_is_chosen_from_the_second_half(rounds, allowed):
    recipe = Recipe(rounds=rounds)
    assert [round for round in range(1, rounds + 1) if recipe.selects_from(round)] == allowed


def test_every_recipe_allows_its_last_round():
    assert all(Recipe(rounds=rounds).selects_from(rounds) for rounds in range(1, 30))


def test_images_that_are_not_square_are_flipped_only():
    assert Recipe(image_height=192, image_width=384).augment == "flips"
    assert Recipe(image_height=192, image_width=384, augment="none").augment == "none"
    assert Recipe(image_height=192, image_width=192).augment == "flips+turns"


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("rounds", 0),
        ("rounds", 2.5),
        ("rounds", "many"),
        ("rounds", None),
        ("epochs", -1),
        ("batch", 0),
        ("lr", 0),
        ("lr", -1e-3),
        ("lr", float("nan")),
        ("lr_decay", 1.01),
        ("lr_decay", 0),
        ("weight_decay", -1e-9),
        ("bce_share", 1.5),
        ("augment", "rotations"),
        ("optimizer_state", "lost"),
        ("base_width", 0),
        ("image_height", 100),
        ("image_width", 0),
        ("validation", 0),
        ("validation", 1),
        ("test", 1.0),
        ("fixed_split", "perhaps"),
        ("threshold", -0.1),
        ("precision", "float16"),
    ],
)
def test_a_value_out_of_range_is_refused_in_one_sentence(field, value):
    with pytest.raises(UsageError) as error:
        Recipe.of({field: value})
    sentence = str(error.value)
    assert sentence.startswith(f"recipe.{field} = {value!r} is refused: ")
    assert sentence.endswith(".")
    assert "\n" not in sentence
    assert "pydantic" not in sentence


@pytest.mark.parametrize("field", ["lr", "weight_decay"])
def test_an_infinite_rate_is_refused(field):
    with pytest.raises(UsageError, match=rf"recipe\.{field}"):
        Recipe.of({field: float("inf")})


@pytest.mark.parametrize(
    ("wrong", "right"),
    [("epoch", "epochs"), ("round", "rounds"), ("weight-decay", "weight_decay"), ("LR", "lr")],
)
def test_an_unknown_name_is_refused_with_the_nearest(wrong, right):
    with pytest.raises(UsageError, match=f"no setting of recipe called {wrong!r}; did you mean {right!r}"):
        Recipe.of({wrong: 1})


def test_a_recipe_is_a_value():
    assert Recipe(rounds=3) == Recipe(rounds=3)
    assert len({Recipe(), Recipe(), Recipe(rounds=3)}) == 2
    with pytest.raises(dataclasses.FrozenInstanceError):
        Recipe().rounds = 5


def test_a_recipe_comes_back_from_its_settings():
    recipe = Recipe(rounds=7, image_height=64, image_width=128, fixed_split=True)
    assert Recipe.of(recipe.settings()) == recipe


@pytest.mark.parametrize("rounds", range(1, 12))
def test_the_card_counts_the_rounds_that_may_be_selected(rounds):
    recipe = Recipe(rounds=rounds)
    card = TaskCard("toy", {"a": 1}, 3, 16, 16, epochs=1, rounds=rounds)
    assert card.selectable_rounds == sum(recipe.selects_from(round) for round in range(1, rounds + 1))
