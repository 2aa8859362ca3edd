"""The protocol card: what must be equal before two numbers may be compared, as the trials state it."""

from __future__ import annotations

import pytest

from pflbench.metrics import dice
from pflbench_reports.groups import load
from pflbench_reports.protocol_card import NOT_RECORDED, card, card_line

BN = {"name": "fedbn", "title": "FedBN"}


@pytest.fixture
def facts(tmp_path):
    return lambda **settings: dict(card(load([tmp_path / "runs"])[0][0], **settings))


def test_the_split_of_every_seed_is_named(trial, facts):
    trial({"A": 0.6}, split="one")
    trial({"A": 0.6}, seed=1, split="two")
    assert facts()["Split hashes"] == "seed 0: one, seed 1: two"


def test_two_splits_within_one_seed_are_a_warning(trial, facts):
    trial({"A": 0.6}, split="one")
    trial({"A": 0.6}, method=BN, split="two")
    assert "different splits within seed 0" in facts()["Split hashes"]


@pytest.mark.parametrize(
    ("field", "value", "fact", "says"),
    [
        ("threshold", 0.35, "Threshold", "0.35"),
        ("optimizer_state", "reset", "Optimiser state", "reset across rounds"),
        ("validation", 0.3, "Model selection", "validation share 0.3"),
        ("batch", 7, "Training", "batch 7"),
        ("image_height", 96, "Training", "96 x not recorded pixels"),
    ],
)
def test_the_card_quotes_the_recipe(trial, facts, field, value, fact, says):
    trial({"A": 0.6}, recipe={field: value})
    assert says in facts()[fact]


def test_what_a_recipe_does_not_hold_is_not_made_up(trial, facts):
    trial({"A": 0.6})
    assert facts()["Threshold"] == NOT_RECORDED


def test_methods_that_state_their_batch_norm_and_weights_alike_stand_together(trial, facts):
    trial({"A": 0.6}, says={"batch_norm": "averaged", "aggregation": "training images"})
    trial({"A": 0.6}, method=BN, says={"batch_norm": "kept", "aggregation": "training images"})
    assert facts()["Batch norm"] == "averaged (FedAvg); kept (FedBN)"
    assert facts()["Clients weighted by"] == "training images (FedAvg and FedBN)"


def test_a_method_that_states_nothing_beside_one_that_does_is_named(trial, facts):
    trial({"A": 0.6})
    trial({"A": 0.6}, method=BN, says={"batch_norm": "kept"})
    assert facts()["Batch norm"] == "not recorded (FedAvg); kept (FedBN)"


def test_the_rule_for_empty_masks_is_that_of_the_metric(trial, facts):
    trial({"A": 0.6})
    assert dice(0, 0, 0) == 1
    assert "both empty" in facts()["Empty masks"]
    assert "scores 1" in facts()["Empty masks"]
    assert "diagonal" in facts(metric="hd95")["Empty masks"]


def test_scores_from_a_file_have_no_protocol(tmp_path):
    file = tmp_path / "scores.csv"
    file.write_text("dataset,method,client,seed,metric,value\nvessel,FedAvg,A,0,dice,0.7\n")
    group = load([file])[0][0]
    assert card(group)[0] == ("Protocol", "unknown: scores were given as a file")
    assert card_line(group).startswith("Protocol: unknown: scores were given as a file")


def test_the_line_holds_every_fact_of_the_card(trial, tmp_path):
    trial({"A": 0.6})
    group = load([tmp_path / "runs"])[0][0]
    line = card_line(group)
    assert "\n" not in line
    assert all(f"{name}: {value.rstrip('.')}" in line for name, value in card(group))
