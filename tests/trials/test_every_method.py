"""What must hold for every registered method: the checks of ``pflbench.testing``, and that they are no empty words."""

import pytest

from pflbench.message import decode
from pflbench.plugins import registry
from pflbench.task import pools_data
from pflbench.testing import method_checks
from pflbench.testing.plays import negative, played

METHODS = registry().names("method")
CHECKS = [(name, check) for name in METHODS for check in method_checks(registry().method(name))]


@pytest.mark.parametrize("check", [pytest.param(check, id=f"{name}-{check}") for name, check in CHECKS])
def test_it_keeps_the_contract(check):
    check()


def test_every_method_is_checked_for_this():
    """So that nothing goes untested because a list became shorter."""
    everything = [
        *("contract", "settings", "name", "docstring", "plays", "learns", "resumes", "fresh-process"),
        *("order-of-clients", "another-seed", "global-random-numbers", "non-interference", "test-images"),
        *("no-image-leaves", "messages", "gradients", "gpu", "cites", "keeps"),
    ]
    for name in METHODS:
        found = [check.name for owner, check in CHECKS if owner == name and check.name != "newcomers"]
        assert found == everything, name
    served = {name for name, check in CHECKS if check.name == "newcomers"}
    assert served == {name for name in METHODS if vars(registry().method(name)).get("newcomers")}
    assert {"fedavg", "pooled"} <= served


def first_messages(play):
    """Return the setup messages by client, or where nothing came back from a setup, the first updates."""
    up = [one for one in play.sent if one.way == "up" and one.encoded]
    return {one.client: one.encoded for one in up if one.round == min(one.round for one in up)}


@pytest.mark.parametrize("name", METHODS)
def test_a_change_of_ones_own_images_changes_what_one_sends(name):
    """So that it means something where a change of the others' images does not."""
    method = registry().method(name)()
    if pools_data(method):
        pytest.skip("it is not federated: all data lies in one place")
    other_south = negative(lambda client, split: (client, split) == ("south", "train"))
    before, after = (first_messages(played(method, rounds=1, data=data)) for data in (negative(nowhere), other_south))
    assert before.keys() == after.keys()
    for client in before:
        assert (before[client] != after[client]) == (client == "south"), client


def nowhere(client, split):
    return False


def test_the_control_sends_nothing_and_the_others_do():
    for name in METHODS:
        sent = [one for one in played(registry().method(name)(), rounds=1).sent if one.way == "up" and one.encoded]
        assert bool(sent) == (name != "local"), name
        assert all(decode(bytearray(one.encoded)) for one in sent)
