"""Every built-in method is found, says what it is, and is a value; and the UNet is the paper's."""

import dataclasses
import json
import re

import pytest
import torch
from short_federation import STAGES, cases, play, written_out

from pflbench.api import UNet, UsageError
from pflbench.plugins import registry
from pflbench_methods import pflbench_methods

METHODS = pflbench_methods()
NAMES = [cls.name for cls in METHODS]
PUBLISHED = [cls for cls in METHODS if cls.year]
LINK = re.compile(r"https://(arxiv\.org/abs/\d{4}\.\d{5}|doi\.org/10\.\S+)")
CHANGED = {
    "ditto": {"proximity": 0.1},
    "apfl": {"own_share": 0.75, "adaptation": 0.1, "statistics": "mixed"},
    "fml": {"private_weight": 0.75, "meme_weight": 0.25},
    "iopfl": {"memory": 0.5},
    "harmofl": {"normalize": False, "beta": 0.05, "perturbation": 0.1},
    "feddg": {
        "beta": 0.05,
        "interpolation": "swap",
        "inner_step": 1e-2,
        "inner_clip": 10.0,
        "outer": 0.5,
        "contrast": 0.2,
        "temperature": 0.1,
        "edge": 2,
        "surroundings": 3,
    },
    "fedprox": {"proximity": 1.0},
    "scaffold": {"variate": "received"},
    "moon": {"contrast": 1.0, "temperature": 0.1, "features": "pooled"},
    "feddf": {"steps": 20, "batch": 2, "learning_rate": 1e-3, "statistics": "public"},
    "fedsm-softpull": {"own_share": 0.5},
    "pfedla": {"learning_rate": 0.01, "hidden": 50},
    "pfedme": {
        "inner_steps": 3,
        "epochs": 2,
        "proximity": 2.0,
        "inner_rate": 0.1,
        "outer_rate": 0.25,
        "server_rate": 0.5,
    },
    "perfedavg": {"inner_rate": 0.1, "adaptation_steps": 2, "statistics": "averaged"},
    "fedala": {"adaptive": "last_decoder", "step": 10.0, "share": 0.5, "first_passes": 3, "passes": 2},
    "fedas": {"alignment_rate": 0.1, "alignment_epochs": 2, "temperature": 2.0},
    "fedrep": {"personal": "last_decoder", "head_epochs": 2},
    "lgfedavg": {"personal": "body", "fedavg_rounds": 3},
    "fedbabu": {"tuning_epochs": 2, "tuned": "head"},
    "finetune": {"tuning_epochs": 3},
    "fedper": {"personal": "last_decoder"},
    "resfim": {
        "delta": 0.25,
        "beta": 0.05,
        "residual": "layer_max",
        "epsilon": 1e-6,
        "statistics": "follow",
        "shared_average": "unmasked",
        "granularity": "channel",
        "score": "fisher",
        "fisher_labels": "sampled",
        "pooling": "per client",
        "fisher_images": 7,
        "fisher_every": 3,
    },
}


def by_name(cls):
    return cls.name


def test_the_methods_of_the_paper_are_registered_in_its_order_after_the_controls():
    assert [name for name in registry().names("method") if name in NAMES] == NAMES
    assert [cls.name for cls in METHODS if vars(cls).get("in_paper")] == [
        "fedavg",
        "fedbn",
        "siobn",
        "fedper",
        "resfim",
    ]
    assert [cls.name for cls in METHODS if cls.travels == "nothing"] == ["local"]
    order = ["control", "general", "personalized"]
    families = [order.index(cls.family) for cls in METHODS]
    assert families == sorted(families)
    assert NAMES[-1] == "resfim"


@pytest.mark.parametrize("cls", PUBLISHED, ids=by_name)
def test_its_year_is_that_of_its_citation(cls):
    assert str(cls.year) in cls.citation


@pytest.mark.parametrize("cls", METHODS, ids=by_name)
def test_it_says_what_becomes_of_batch_norm_and_how_clients_are_weighted(cls):
    assert {"batch_norm", "aggregation"} <= set(cls().policies())
    assert re.search(r"\bBatch-norm statistics: \S", " ".join(cls.__doc__.split()))  # a decision, not an accident


def test_the_policy_for_batch_norm_is_what_is_shared():
    policies = {cls.name: cls().policies()["batch_norm"] for cls in METHODS}
    assert policies["fedavg"] == "parameters and statistics averaged"
    assert policies["fedbn"] == "parameters and statistics kept at the client"
    assert policies["siobn"] == "parameters averaged, statistics kept at the client"


@pytest.mark.parametrize("cls", METHODS, ids=by_name)
def test_it_is_found_by_name_however_it_is_written(cls):
    for spelling in (cls.name, cls.name.upper(), cls.title, f" {cls.name} ", *cls.aliases):
        assert registry().method(spelling) is cls
    assert registry().get("method", cls.name)[1].distribution == "pflbench"


@pytest.mark.parametrize("spelling", ["siobn", "silobn", "SioBN", "SiloBN"])
def test_both_spellings_of_silobn_are_found(spelling):
    assert registry().method(spelling).title == "SiloBN"


@pytest.mark.parametrize(
    ("wrong", "near"), [("fedavgg", "fedavg"), ("fedbm", "fedbn"), ("resfin", "resfim"), ("locl", "local")]
)
def test_an_unknown_method_is_refused_with_the_nearest_name(wrong, near):
    with pytest.raises(UsageError, match=rf"{wrong}.*did you mean '{near}'\?"):
        registry().method(wrong)


@pytest.mark.parametrize("cls", METHODS, ids=by_name)
def test_it_says_what_it_is_and_what_leaves_the_hospital(cls):
    assert cls.title
    assert cls.travels
    assert cls.citation.endswith(".") or LINK.search(cls.citation)
    first = cls.__doc__.split(".")[0]
    assert len(first.split()) > 4
    assert cls.__doc__ != cls.__mro__[1].__doc__


@pytest.mark.parametrize("cls", PUBLISHED, ids=by_name)
def test_it_cites_its_paper_with_the_same_link_in_docstring_and_citation(cls):
    assert LINK.search(cls.citation).group() == LINK.search(cls.__doc__).group()


@pytest.mark.parametrize("cls", METHODS, ids=by_name)
@pytest.mark.parametrize("changed", [False, True], ids=["default", "changed"])
def test_it_is_a_value(cls, changed):
    settings = CHANGED.get(cls.name, {}) if changed else {}
    one, other = cls(**settings), cls(**settings)
    assert one == other
    assert hash(one) == hash(other)
    assert len({one, other}) == 1
    plain = one.settings()
    assert list(plain) == [field.name for field in dataclasses.fields(cls)]
    assert json.loads(json.dumps(plain)) == plain
    assert cls.of(json.loads(json.dumps(plain))) == one
    assert one.changed() == settings
    assert (one != cls()) == bool(settings)
    with pytest.raises(dataclasses.FrozenInstanceError):
        one.delta = 0.5


def test_every_setting_of_every_method_is_changed_above():
    assert {cls.name: set(cls.setting_names()) for cls in METHODS if cls.setting_names()} == {
        name: set(settings) for name, settings in CHANGED.items()
    }


@pytest.mark.parametrize("cls", METHODS, ids=by_name)
def test_an_unknown_setting_is_refused_with_the_nearest_name(cls):
    for known in cls.setting_names():
        wrong = known[:-1] + known[-1] * 2
        with pytest.raises(UsageError, match=rf"setting of {cls.name} called '{wrong}'.*did you mean '{known}'\?"):
            cls.of({wrong: 1})
    with pytest.raises(UsageError, match=rf"no setting of {cls.name} called 'qqqq'; known: "):
        cls.of({"qqqq": 1})


@pytest.mark.parametrize("cls", METHODS, ids=by_name)
def test_it_leaves_the_global_random_numbers_alone(cls):
    torch.manual_seed(3)
    expected = torch.rand(4)
    torch.manual_seed(3)
    play(cls(), {"Bern": cases("Bern", 2), "Lyon": cases("Lyon", 2)}, rounds=1)
    assert torch.equal(torch.rand(4), expected)


# the model they share ------------------------------------------------------------------------------------------


def test_the_unet_has_the_paper_s_parameters_and_names():
    with torch.device("meta"):
        model = UNet(3, 64)
    parameters = dict(model.named_parameters())
    assert sum(value.numel() for value in parameters.values()) == 3_876_737
    assert parameters["enc1.0.weight"].numel() == 1_728
    assert parameters["enc4.0.weight"].numel() == 1_179_648
    assert parameters["dec4.0.weight"].numel() == 1_769_472
    assert sum(value.numel() for name, value in parameters.items() if ".1." in name) == 2_816
    assert sum(value.numel() for value in model.buffers()) == 2_823
    layers = [name for name, module in model.named_modules() if not list(module.children())]
    assert layers == [f"{stage}.{part}" for stage in STAGES for part in (0, 1, 2)] + ["final"]


@pytest.mark.parametrize(("width", "channels"), [(4, 3), (6, 1), (64, 3)])
def test_the_unet_s_entries_are_those_written_out_by_hand(width, channels):
    with torch.device("meta"):
        entries = UNet(channels, width).state_dict()
    found = {name: tuple(value.shape) for name, value in entries.items() if "num_batches" not in name}
    assert found == written_out(width, channels)
    assert list(found) == list(written_out(width, channels))
