"""LG-FedAvg: the lower layers stay; two rounds recomputed with Adam written out, and its limits."""

import numpy as np
import pytest
from short_federation import ENTRIES, HEAD, PARAMETERS, SIZES, cases, play, played, setting
from test_controls import CLIENTS, apart_between_clients, assert_same_models, differing, entry_bytes, plain
from test_fedrep import IMAGES, AdamByHand, assert_near, average, counted, stream, train

from pflbench.api import TaskCard, UNet, UsageError
from pflbench.testing import differences, toy_federation
from pflbench_methods.fedavg import FedAvg
from pflbench_methods.fedper import FedPer
from pflbench_methods.lgfedavg import LGFedAvg
from pflbench_methods.local import Local

ENCODER = {name for name in ENTRIES if name.split(".")[0] in ("enc1", "enc2", "enc3", "enc4")}
SHARED = {"encoder": set(ENTRIES) - ENCODER, "body": HEAD, "none": set(ENTRIES)}
CARD = TaskCard("toy", IMAGES, 3, 16, 16, 1, 2)


# the oracle ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("method", "shared_by_round"),
    [
        (LGFedAvg(), (SHARED["encoder"], SHARED["encoder"])),
        (LGFedAvg(personal="body"), (HEAD, HEAD)),
        (LGFedAvg(fedavg_rounds=1), (set(ENTRIES), SHARED["encoder"])),
    ],
)
def test_two_rounds_are_those_computed_by_hand(method, shared_by_round):
    models = {client: setting().new_model() for client in CLIENTS}
    adams = {client: AdamByHand() for client in CLIENTS}
    for round, shared in enumerate(shared_by_round, start=1):
        for client, model in models.items():
            train(model, adams[client], stream(client, round), set(PARAMETERS), round)
        average(models, shared)
    after = played(method)
    for client in CLIENTS:
        assert_near(after.models[client], models[client].state_dict())


@pytest.mark.parametrize("personal", SHARED)
def test_after_a_round_the_upper_layers_are_the_mean_by_images_and_the_lower_the_client_s(personal):
    after, alone = played(LGFedAvg(personal=personal), 1), played(Local(), 1)
    for client in CLIENTS:
        assert differing(after.models[client], alone.models[client]) == SHARED[personal]
        for name in SHARED[personal]:
            mean = sum(n / 12 * alone.models[c][name].double().numpy() for c, n in SIZES)
            np.testing.assert_allclose(after.models[client][name].double(), mean, rtol=3e-7, atol=1e-8, err_msg=name)


# limits ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize("fedavg_rounds", [0, 2])
def test_with_nothing_personal_it_is_fedavg(seed, fedavg_rounds):
    method = LGFedAvg(personal="none", fedavg_rounds=fedavg_rounds)
    assert_same_models(played(method, 3, seed=seed), played(FedAvg(), 3, seed=seed))


def test_with_nothing_personal_all_that_is_kept_is_fedavg_s():
    one, other = toy_federation(LGFedAvg(personal="none"), epochs=2).play(), toy_federation(FedAvg(), epochs=2).play()
    assert differences(one.kept(), other.kept()) == []


@pytest.mark.parametrize("personal", ["encoder", "body"])
def test_until_it_goes_local_it_is_fedavg(personal):
    assert_same_models(played(LGFedAvg(personal=personal, fedavg_rounds=3), 3), played(FedAvg(), 3))
    assert_same_models(played(LGFedAvg(personal=personal, fedavg_rounds=2), 2), played(FedAvg(), 2))


@pytest.mark.parametrize("personal", SHARED)
def test_alone_it_is_training_alone(personal):
    one = (("Bern", 5),)
    assert_same_models(played(LGFedAvg(personal=personal), 2, one), played(Local(), 2, one))


def test_sharing_the_head_alone_shares_what_fedper_keeps():
    model = UNet(3, 4)
    shared = LGFedAvg(personal="body").shared(model), FedPer().shared(model)
    assert frozenset.union(*shared) == set(ENTRIES)
    assert not frozenset.intersection(*shared)


# what stays, what travels ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("personal", SHARED)
@pytest.mark.parametrize("fedavg_rounds", [0, 1])
def test_exactly_the_personal_entries_differ_between_clients(personal, fedavg_rounds):
    after = played(LGFedAvg(personal=personal, fedavg_rounds=fedavg_rounds), 3)
    somewhere, everywhere = apart_between_clients(after)
    assert somewhere == everywhere == set(ENTRIES) - SHARED[personal]


@pytest.mark.parametrize("personal", SHARED)
def test_bytes_up_and_down_are_those_of_the_upper_layers(personal):
    after = played(LGFedAvg(personal=personal))
    sent = dict.fromkeys(CLIENTS, plain(SHARED[personal]))
    for round in (1, 2):
        assert after.ledger(round, "up") == after.ledger(round, "down") == sent


def test_by_default_no_more_than_the_decoder_and_the_head_travel():
    # 3x3 weights, biases, and four entries of batch norm for every channel of three decoder stages; the head
    decoder = sum(9 * before * after + after + 4 * after for before, after in ((48, 16), (24, 8), (12, 4)))
    assert entry_bytes(SHARED["encoder"]) == 4 * (decoder + 4 + 1)


def test_the_first_rounds_send_everything():
    after = played(LGFedAvg(fedavg_rounds=1))
    assert set(after.ledger(1, "up").values()) == {plain(set(ENTRIES))}
    assert set(after.ledger(2, "up").values()) == {plain(SHARED["encoder"])}


def test_what_one_hospital_s_encoder_learns_reaches_the_others_only_through_the_decoder():
    # after the first round, another hospital's images have changed the means, and nothing of the encoder
    one = {name: cases(name, 4) for name in ("Bern", "Lyon")}
    other = {"Bern": one["Bern"], "Lyon": cases("Lima", 4)}
    before, after = (play(LGFedAvg(), data, rounds=1).models["Bern"] for data in (one, other))
    assert differing(before, after) == SHARED["encoder"]


# settings ----------------------------------------------------------------------------------------------------------


def test_it_costs_no_gradient_more_than_training():
    assert LGFedAvg().extra_gradients(CARD) == {}
    assert counted(played(LGFedAvg()).tables) == {client: 2 * n for client, n in SIZES}


@pytest.mark.parametrize("changed", [{"personal": "body"}, {"personal": "none"}, {"fedavg_rounds": 1}])
def test_every_setting_changes_what_is_learnt(changed):
    for client in CLIENTS:
        assert differing(played(LGFedAvg(**changed)).models[client], played(LGFedAvg()).models[client])


def test_a_negative_number_of_rounds_is_refused():
    with pytest.raises(UsageError, match="fedavg_rounds"):
        LGFedAvg(fedavg_rounds=-1)


NORMS_OF_THE_ENCODER = "enc1.1, enc2.1, enc3.1, enc4.1"


@pytest.mark.parametrize(
    ("personal", "said"),
    [
        ("encoder", f"parameters and statistics kept at the client in {NORMS_OF_THE_ENCODER} and averaged elsewhere"),
        ("body", "parameters and statistics kept at the client"),
        ("none", "parameters and statistics averaged"),
    ],
)
def test_it_says_what_becomes_of_batch_norm(personal, said):
    policies = LGFedAvg(personal=personal).policies()
    assert policies["batch_norm"] == said
    assert policies["aggregation"] == "training images"


def test_it_says_that_batch_norm_is_averaged_in_the_first_rounds():
    said = LGFedAvg(personal="body", fedavg_rounds=3).policies()["batch_norm"]
    assert said.startswith("up to round 3 parameters and statistics averaged, then parameters and statistics kept")
    assert LGFedAvg(personal="none", fedavg_rounds=3).policies() == LGFedAvg(personal="none").policies()
