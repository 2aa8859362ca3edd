"""What a request means: which trials, with which settings, under which names; refusals come before training."""

import dataclasses
import re
from dataclasses import dataclass
from typing import ClassVar

import pytest

from pflbench.asked import numbered_seeds, parse_seeds, parse_value
from pflbench.errors import UsageError
from pflbench.origin import note_origin
from pflbench.plan import Request, make_plan
from pflbench.plugins import registry
from pflbench.results import hash_of

SMALL = {"recipe.rounds": 2, "recipe.image_height": 8, "recipe.image_width": 8}


@pytest.fixture
def plan(tmp_path):
    """Return a function that plans trials on the simulated vessels with the built-in methods."""

    def make(*methods, settings=None, **request):
        options = {"seeds": (0,), "device": "cpu", "dataset": "vessel-simulated", **request}
        return make_plan(
            Request(
                methods=methods or ("fedavg",),
                settings={**SMALL, **(settings or {})},
                out=tmp_path,
                **options,
            ),
            registry(),
        )

    return make


@pytest.fixture
def toy_plan(toys, tmp_path):
    """Return a function that plans trials of toys."""

    def make(*methods, **request):
        options = {"seeds": (0,), "device": "cpu", "dataset": "discs-simulated", "settings": SMALL, **request}
        return make_plan(Request(methods=methods or ("idle",), out=tmp_path, **options), toys)

    return make


def methods_of(plan):
    return [trial.spec["method"]["name"] for trial in plan.trials]


# ---------------------------------------------------------------------------------------------- text


@pytest.mark.parametrize(
    ("text", "seeds"),
    [("3", (0, 1, 2)), ("1", (0,)), (" 2 ", (0, 1)), ("0,4,7", (0, 4, 7)), ("5,", (5,)), ("7 , 3", (7, 3))],
)
def test_seeds_are_a_number_or_a_list(text, seeds):
    assert parse_seeds(text) == seeds


@pytest.mark.parametrize("text", ["", "x", "-1", "1.5", ",", "1,,2", "1;2", "0", "2,2"])
def test_other_seeds_are_refused(text):
    with pytest.raises(UsageError):
        parse_seeds(text)


@pytest.mark.parametrize("count", [0, -3])
def test_no_seed_makes_no_trial(count):
    with pytest.raises(UsageError, match="take 1 to"):
        numbered_seeds(count)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("3", 3),
        ("0.2", 0.2),
        ("1e-3", 1e-3),
        ("true", True),
        ("False", False),
        ("none", None),
        ("null", None),
        ("max", "max"),
        (" raw ", "raw"),
        ("[1, 2]", [1, 2]),
        ("", ""),
        ('"3"', "3"),
    ],
)
def test_values_are_read_as_what_they_look_like(text, value):
    assert parse_value(text) == value
    assert type(parse_value(text)) is type(value)


# -------------------------------------------------------------------------------------------- methods


def test_all_are_all_registered_methods(plan):
    assert methods_of(plan("all")) == registry().names("method")


def test_paper_is_the_five_methods_of_the_paper(plan):
    assert sorted(methods_of(plan("paper"))) == ["fedavg", "fedbn", "fedper", "resfim", "siobn"]


def test_a_method_that_builds_on_one_of_the_paper_is_not_one_of_the_paper(toys, toy_plan):
    fedavg, plugin = registry().get("method", "fedavg")

    @dataclass(frozen=True)
    class Mine(fedavg):
        name: ClassVar[str] = "mine"
        title: ClassVar[str] = "Mine"

    toys.found["method"] |= {"fedavg": (fedavg, plugin), "mine": (Mine, plugin)}
    assert methods_of(toy_plan("paper")) == ["fedavg"]


def test_each_method_runs_once_however_often_it_is_named(plan):
    assert methods_of(plan("fedbn", "FedBN", "siobn", "silobn", "fedbn")) == ["fedbn", "siobn"]


def test_methods_run_in_the_order_asked_for_seed_by_seed(plan):
    made = plan("fedbn", "fedavg", seeds=(4, 2))
    assert [(t.spec["seed"], t.spec["method"]["name"]) for t in made.trials] == [
        (4, "fedbn"),
        (4, "fedavg"),
        (2, "fedbn"),
        (2, "fedavg"),
    ]


def test_no_method_is_refused_with_the_known_ones(tmp_path):
    with pytest.raises(UsageError, match=r"names no method; known: .*fedavg"):
        make_plan(Request(methods=(), dataset="vessel-simulated", out=tmp_path), registry())


@pytest.mark.parametrize(
    ("request_", "sentence"),
    [
        ({"methods": ("fedavgg",)}, "no method called 'fedavgg'; did you mean 'fedavg'"),
        ({"dataset": "vesel"}, "no dataset called 'vesel'; did you mean 'vessel'"),
        ({"partitioner": "dirichle"}, "no partitioner called 'dirichle'; did you mean 'dirichlet'"),
        ({"preset": "quik"}, "no preset of vessel-simulated called 'quik'; did you mean 'quick'"),
        ({"sites": ("sim-HFR",)}, "no site of vessel-simulated called 'sim-HFR'; did you mean 'sim-HRF'"),
        ({"device": "tpu"}, "'tpu' is not one of auto, cpu, cuda"),
        ({"settings": {"recipe.round": 3}}, "no setting of recipe called 'round'; did you mean 'rounds'"),
        ({"settings": {"fedavg.delta": 3}}, "no setting of fedavg called 'delta'"),
        ({"settings": {"rounds": 3}}, "'rounds' names no setting; write OWNER.NAME=VALUE"),
        ({"settings": {"recipe.": 3}}, "names no setting"),
        ({"settings": {".rounds": 3}}, "names no setting"),
        ({"settings": {"recipes.rounds": 3}}, "recipes.rounds is set, but no part of this run called"),
        ({"settings": {"recipe.rounds": 0}}, "recipe.rounds = 0 is refused"),
        ({"settings": {"vessel-simulated.siz": 64}}, "called 'siz'; did you mean 'size'"),
        ({"sweep": {"recipe.lr": [1e-3, -1]}}, "recipe.lr = -1.* is refused"),
    ],
)  # fmt: skip
def test_bad_usage_is_refused_in_a_sentence(tmp_path, request_, sentence):
    request = Request(
        **{
            "methods": ("fedavg",),
            "dataset": "vessel-simulated",
            "device": "cpu",
            "out": tmp_path,
            **request_,
        }
    )
    with pytest.raises(UsageError, match=sentence) as error:
        make_plan(request, registry())
    assert "\n" not in str(error.value)


# ------------------------------------------------------------------------------------------- settings


def test_settings_reach_their_owners(plan):
    made = plan(
        "resfim",
        settings={"resfim.delta": 0.3, "recipe.lr": 0.5, "vessel-simulated.seed": 9, "dirichlet.clients": 2},
        partitioner="dirichlet",
    )
    (trial,) = made.trials
    assert trial.method.delta == trial.spec["method"]["settings"]["delta"] == 0.3
    assert trial.spec["recipe"]["lr"] == 0.5
    assert trial.spec["dataset"]["settings"]["seed"] == 9
    assert trial.spec["partitioner"]["settings"]["clients"] == 2
    assert list(trial.card.clients) == ["client-1", "client-2"]


def test_a_setting_may_name_its_method_in_any_spelling(plan):
    (trial,) = plan("resfim", settings={"PFL-ResFIM.delta": 0.3}).trials
    assert trial.method.delta == 0.3


@pytest.mark.parametrize("door", ["settings", "sweep"])
def test_a_setting_of_a_method_that_does_not_run_is_refused(plan, door):
    with pytest.raises(UsageError, match=r"resfim\.delta is set, but no part of this run called 'resfim'"):
        plan("fedavg", **{door: {"resfim.delta": [0.2] if door == "sweep" else 0.2}})


def test_a_setting_of_a_partitioner_that_does_not_run_is_refused(plan):
    with pytest.raises(UsageError, match=r"dirichlet\.clients is set"):
        plan("fedavg", settings={"dirichlet.clients": 3})


def test_a_preset_gives_the_recipe_and_settings_change_it(plan):
    paper, quick = plan(preset="paper").trials[0], plan(preset="quick").trials[0]
    assert (paper.spec["recipe"]["base_width"], paper.spec["recipe"]["rounds"]) == (64, 2)
    assert quick.spec["recipe"]["base_width"] < 64


def test_simulated_data_takes_its_small_recipe_by_default(plan):
    assert plan().trials[0].spec == plan(preset="quick").trials[0].spec


# ---------------------------------------------------------------------------------------------- sweeps


def test_a_sweep_makes_a_trial_of_every_value(plan):
    made = plan("resfim", sweep={"resfim.delta": [0, 0.05, 0.3]})
    assert [trial.method.delta for trial in made.trials] == [0, 0.05, 0.3]


def test_two_sweeps_make_the_product(plan):
    made = plan("resfim", sweep={"resfim.delta": [0.1, 0.2], "resfim.residual": ["max", "raw", "relative"]})
    assert [(t.method.delta, t.method.residual) for t in made.trials] == [
        (delta, how) for delta in (0.1, 0.2) for how in ("max", "raw", "relative")
    ]


def test_a_sweep_leaves_other_methods_alone(plan):
    made = plan("fedavg", "resfim", sweep={"resfim.delta": [0.1, 0.2, 0.3]})
    assert methods_of(made) == ["fedavg", "resfim", "resfim", "resfim"]


def test_a_sweep_of_the_recipe_runs_every_method_with_every_value(plan):
    made = plan("fedavg", "local", seeds=(0, 1), sweep={"recipe.lr": [0.1, 0.2], "recipe.epochs": [1, 2]})
    ran = {
        (t.spec["method"]["name"], t.spec["seed"], t.spec["recipe"]["lr"], t.spec["recipe"]["epochs"])
        for t in made.trials
    }
    assert len(ran) == len(made.trials) == 2 * 2 * 2 * 2


def test_a_value_swept_twice_runs_once(plan):
    assert len(plan("resfim", sweep={"resfim.delta": [0.1, 0.1]}).trials) == 1


@pytest.mark.parametrize(
    ("key", "values"), [("recipe.lr", [0.1, 0.1]), ("recipe.precision", ["auto", "float32", "bfloat16"])]
)
def test_two_recipes_that_mean_the_same_run_once(plan, key, values):
    names = [trial.name for trial in plan("fedavg", sweep={key: values}).trials]
    assert len(set(names)) == len(names)


@pytest.mark.parametrize("key", ["resfim.delta", "recipe.lr"])
def test_a_sweep_without_values_is_refused(plan, key):
    with pytest.raises(UsageError):
        plan("resfim", sweep={key: []})


# --------------------------------------------------------------------------------------- unsuitable


def test_an_unsuitable_method_is_skipped_with_its_sentence_once(toy_plan):
    made = toy_plan("idle", "picky", seeds=(0, 1))
    assert methods_of(made) == ["idle", "idle"]
    assert made.skipped == ("Picky is skipped: it wants one client, not 3.",)


def test_a_suitable_method_is_not_skipped(toy_plan):
    made = toy_plan("picky", sites=("North",))
    assert methods_of(made) == ["picky"]
    assert made.skipped == ()


# -------------------------------------------------------------------------------------- specification


def test_every_trial_has_a_folder_of_its_own(plan):
    made = plan(
        "all",
        seeds=(0, 1),
        sweep={"recipe.lr": [1e-3, 2e-3], "resfim.delta": [0.1, 0.2]},
    )
    names = [trial.name for trial in made.trials]
    assert len(set(names)) == len(names) == 2 * 2 * (len(registry().names("method")) + 1)


def test_a_folders_name_says_what_it_holds_and_ends_with_the_hash_of_all(plan):
    (trial,) = plan("resfim", seeds=(7,), settings={"resfim.delta": 0.3, "resfim.residual": "raw"}).trials
    assert trial.name == f"vessel-simulated_natural_resfim_delta=0.3,residual=raw_seed7_{hash_of(trial.spec)}"
    assert re.fullmatch(r"[\w.=,-]+", trial.name)


def test_a_long_label_still_makes_a_short_safe_name(plan):
    settings = {
        "resfim.delta": 0.123456,
        "resfim.beta": 0.0123456,
        "resfim.residual": "layer_max",
        "resfim.statistics": "averaged",
        "resfim.shared_average": "unmasked",
    }
    (trial,) = plan("resfim", settings=settings).trials
    assert len(trial.name) < 120
    assert re.fullmatch(r"[\w.=,-]+", trial.name)


@pytest.mark.parametrize(("asked", "taken"), [("float32", {"float32"}), ("auto", {"float32", "bfloat16"})])
def test_the_precision_is_resolved_in_the_specification(plan, asked, taken):
    (trial,) = plan(settings={"recipe.precision": asked}).trials
    assert trial.spec["recipe"]["precision"] == trial.spec["numerics"]["precision"]
    assert trial.spec["numerics"]["precision"] in taken
    assert trial.spec["numerics"]["device"] == "cpu"


def test_auto_and_what_it_becomes_are_one_trial(plan):
    (auto,) = plan(settings={"recipe.precision": "auto"}).trials
    (named,) = plan(settings={"recipe.precision": auto.spec["recipe"]["precision"]}).trials
    assert auto.spec == named.spec


def test_the_specification_says_that_data_is_simulated(plan):
    made = plan()
    assert made.trials[0].spec["dataset"]["simulated"] is True
    assert "SIMULATED" in made.banner
    assert made.source.dataset.name in made.banner


def test_real_data_has_no_banner(toy_plan, lay_out):
    made = toy_plan(dataset="discs", data_root=lay_out("given", "North", "South", "West"))
    assert made.trials[0].spec["dataset"]["simulated"] is False
    assert made.banner is None


def test_where_data_lies_is_no_part_of_the_specification(toy_plan, lay_out):
    here, there = (toy_plan(dataset="discs", data_root=lay_out(n, "North", "South", "West")) for n in ("a", "b"))
    assert here.trials[0].name == there.trials[0].name


def test_what_the_numbers_depend_on_changes_the_name(plan):
    changes = [
        {},
        {"settings": {"vessel-simulated.seed": 1}},
        {"settings": {"recipe.lr": 0.5}},
        {"sites": ("sim-HRF", "sim-DRIVE")},
        {"seeds": (1,)},
        {"partitioner": "dirichlet"},
    ]
    assert len({plan("fedavg", **change).trials[0].name for change in changes}) == len(changes)


def test_seeds_give_methods_the_same_splits(plan):
    made = plan("fedavg", "fedbn", seeds=(0, 1))
    splits = {(t.spec["seed"], t.spec["split"]) for t in made.trials}
    assert len(splits) == 2


def test_what_explains_a_trial_counts_its_images(toy_plan):
    (trial,) = toy_plan("idle", seeds=(0,), sites=("North", "West"), command="pflbench run ...").trials
    assert trial.about["clients"] == [
        {"name": "North", "train": 3, "val": 1, "test": 2},
        {"name": "West", "train": 3, "val": 1, "test": 2},
    ]
    assert trial.about["command"] == "pflbench run ..."
    assert trial.about["method_summary"] == "Nobody does anything."
    assert trial.about["licences"] == {"North": "none needed", "West": "none needed"}
    assert trial.about["citations"] == {"North": "", "West": ""}


def test_a_method_that_is_a_value_is_planned_as_it_is(toy_plan, idle):
    (trial,) = toy_plan(idle(strength=0.5)).trials
    assert trial.method == idle(strength=0.5)
    assert trial.registered
    assert trial.spec["method"]["label"] == "strength=0.5"
    assert trial.spec["method"]["distribution"] == "toy-box"


def test_a_method_that_no_plugin_provides_is_marked(toy_plan, idle):
    mine = dataclasses.dataclass(frozen=True)(type("Mine", (idle,), {"name": "mine", "__module__": __name__}))
    (trial,) = toy_plan(mine()).trials
    assert not trial.registered
    assert trial.spec["method"]["distribution"] == "unregistered"


def test_a_plan_is_the_same_twice(plan):
    assert [t.spec for t in plan("all").trials] == [t.spec for t in plan("all").trials]


def test_a_planned_trial_cannot_be_changed(plan):
    with pytest.raises(dataclasses.FrozenInstanceError):
        plan().trials[0].method = None


def test_of_a_built_in_dataset_no_version_is_in_the_specification(plan):
    assert {"distribution", "version"}.isdisjoint(plan().trials[0].spec["dataset"])


def test_another_version_of_a_plugins_dataset_makes_another_trial(toys, toy_plan, simulated_discs):
    class Mine(simulated_discs):
        pass

    toys.found["dataset"][Mine.name] = (Mine, toys.plugins[0])
    names = []
    for version in ("1.2", "1.3", "1.2"):
        note_origin(Mine, "toy-box", version)
        (trial,) = toy_plan().trials
        names.append(trial.name)
        assert (trial.spec["dataset"]["distribution"], trial.spec["dataset"]["version"]) == ("toy-box", version)
    assert names[0] == names[2] != names[1]
