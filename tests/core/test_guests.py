"""Guests: hospitals that never train, are sent the common model, and are tested with it."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import pytest
import torch

from pflbench.checkpoint import load, save
from pflbench.engines.in_process import InProcess
from pflbench.errors import TrialFailed, UsageError
from pflbench.evaluation import HeldOut, evaluate
from pflbench.matrix import run_plan
from pflbench.method import TaskCard
from pflbench.metrics import dice
from pflbench.numerics import Numerics
from pflbench.partition import Partitioner
from pflbench.plan import Request, make_plan
from pflbench.plugins import registry
from pflbench.recipe import Recipe
from pflbench.results import scores
from pflbench.sites import Client, Setting
from pflbench.task import card, open_source
from pflbench.testing import differences, toy_federation
from pflbench.testing.toy import toy_images
from pflbench.weights import load as load_weights

FEDAVG = registry().method("fedavg")
TRAINING, GUEST = ("north", "south"), "west"


class Recorder(InProcess):
    """Notes who is asked to do what, and what the round's messages are."""

    def __init__(self, sites):
        super().__init__(sites)
        self.asked, self.received = [], {}

    def run(self, stage, round, messages):
        self.asked += [(stage, round, client) for client in messages]
        if stage == "receive":
            self.received[round] = dict(messages)
        return super().run(stage, round, messages)


def federation(method=None, rounds=4, **options):
    engines = []

    def engine(sites):
        engines.append(Recorder(sites))
        return engines[0]

    toy = toy_federation(method or FEDAVG(), rounds=rounds, guests=(GUEST,), engine=engine, **options)
    return toy, engines[0]


def test_a_guest_is_sent_messages_and_tested_and_nothing_else():
    toy, engine = federation()
    toy.play()
    stages = {stage for stage, _, client in engine.asked if client == GUEST}
    assert stages == {"receive", "test"}
    assert [round for stage, round, client in engine.asked if (stage, client) == ("receive", GUEST)] == [1, 2, 3, 4]
    for client in TRAINING:
        assert {"setup", "update", "receive", "val", "test"} == {stage for stage, _, c in engine.asked if c == client}


def test_a_guest_is_sent_what_the_others_are_sent():
    toy, engine = federation()
    toy.play()
    for messages in engine.received.values():
        assert messages.keys() == {*TRAINING, GUEST}
        for client in TRAINING:
            assert len(messages[client]) > 10
            assert differences(messages[client], messages[GUEST]) == []


def test_those_who_train_do_not_notice_a_guest():
    toy, _ = federation()
    alone = toy_federation(FEDAVG(), rounds=4, clients=TRAINING).play()
    toy.play()
    for client in TRAINING:
        assert differences(toy.sites[client].kept(), alone.sites[client].kept()) == []
    rows = toy.federation.progress.tables["cases"]
    assert [row for row in rows if row[2] != GUEST] == alone.federation.progress.tables["cases"]


def validation(toy, chosen=TRAINING):
    """Return round -> mean validation Dice of some clients."""
    rows = [row for row in toy.federation.progress.tables["rounds"] if row[2] == "val" and row[1] in chosen]
    return {round: np.mean([row[3] for row in rows if row[0] == round]) for round in {row[0] for row in rows}}


def test_a_guest_is_scored_at_the_round_that_is_best_on_average_for_those_who_train():
    told_apart = False
    for seed in range(6):
        toy, _ = federation(rounds=8, seed=seed)
        toy.play()
        means = {round: value for round, value in validation(toy).items() if round >= 4}  # the second half
        best = max(means, key=lambda round: (means[round], -round))
        cases = toy.federation.progress.tables["cases"]
        assert {row[1] for row in cases if (row[0], row[2]) == ("best", GUEST)} == {best}
        assert {row[1] for row in cases if (row[0], row[2]) == ("last", GUEST)} == {8}
        told_apart |= best != 8
    assert told_apart


def test_a_guest_is_scored_with_the_common_model_on_all_its_test_cases():
    toy, engine = federation()
    toy.play()
    recipe = Recipe(rounds=4, base_width=4, image_height=16, image_width=16, precision="float32")
    model = Setting(recipe, Numerics("cpu", "float32"), seed=0).new_model()
    load_weights(model, engine.received[4]["north"])
    test = toy_images(GUEST, "test")
    expected = evaluate(model, HeldOut(test.images, test.masks), recipe, Numerics("cpu", "float32"))
    rows = [row for row in toy.federation.progress.tables["cases"] if (row[0], row[2]) == ("last", GUEST)]
    assert [tuple(row[9:]) for row in rows] == expected
    assert [row[7] for row in rows] == [dice(*score) for score in expected]
    assert len({row[6] for row in rows}) == len(test.images) == 2


def test_a_guest_pays_for_what_it_is_sent_and_sends_nothing():
    toy, _ = federation()
    ledger = toy.play().federation.progress.tables["ledger"]
    down = {client: [row[3] for row in ledger if row[1:3] == [client, "down"]] for client in (*TRAINING, GUEST)}
    assert down[GUEST] == down["north"] == down["south"]
    assert len(down[GUEST]) == 4
    assert {row[1] for row in ledger if row[2] == "up"} == set(TRAINING)


def test_a_guest_may_come_first():
    toy = toy_federation(FEDAVG(), clients=(GUEST, *TRAINING), guests=(GUEST,)).play()
    assert [row[2] for row in toy.federation.progress.tables["cases"]][:2] == [GUEST, GUEST]


@pytest.mark.parametrize("interrupted", [1, 3])
def test_a_federation_with_a_guest_resumes_byte_for_byte(tmp_path, interrupted):
    whole, _ = federation()
    first, _ = federation()
    second, _ = federation()
    whole.play()
    save(tmp_path, interrupted, first.play(rounds=interrupted).federation.kept())
    second.federation.restore(load(tmp_path))
    assert differences(whole.kept(), second.play().kept()) == []


# -------------------------------------------------------------------------------------------- newcomer


def test_a_method_may_send_newcomers_something_else():
    @dataclass(frozen=True)
    class Halved(FEDAVG):
        newcomers: ClassVar[bool] = True

        def newcomer(self, outbox):
            common = next(iter(outbox.values()))
            return {name: value / 2 if value.is_floating_point() else value for name, value in common.items()}

    toy, engine = federation(Halved(), rounds=1)
    toy.play()
    for name, value in engine.received[1]["north"].items():
        expected = value / 2 if value.is_floating_point() else value
        assert torch.equal(engine.received[1][GUEST][name], expected)
        assert torch.equal(toy.sites[GUEST].kept()["model"][name], expected)


@pytest.mark.parametrize(
    ("sent", "sentence"),
    [
        (lambda outbox: outbox["nobody"], "KeyError: 'nobody'"),
        (lambda outbox: None, "message is None; a message is a mapping"),
        (lambda outbox: {"images": [1, 2]}, "images.* is a list; a message may hold only"),
    ],
)
def test_a_newcomers_message_that_cannot_be_sent_fails_the_trial_with_its_name(sent, sentence):
    @dataclass(frozen=True)
    class Broken(FEDAVG):
        def newcomer(self, outbox):
            return sent(outbox)

    toy, _ = federation(Broken())
    with pytest.raises(TrialFailed, match=rf"^fedavg\.newcomer, round 1: .*{sentence}"):
        toy.play()


def test_without_guests_nobody_is_asked_for_a_newcomers_message():
    @dataclass(frozen=True)
    class Broken(FEDAVG):
        def newcomer(self, outbox):
            raise NotImplementedError

    assert toy_federation(Broken()).play().federation.progress.round == 2


# ------------------------------------------------------------------------------------------ who may play


@dataclass(frozen=True)
class WestOnlyTested(Partitioner):
    """West is a guest: it keeps its official test cases only."""

    name: ClassVar[str] = "west-only-tested"
    title: ClassVar[str] = "West is tested only"

    def assign(self, cases, rng):
        sites = {site: [case for case in cases if case.site == site] for site in {c.site: 0 for c in cases}}
        return {s: [c for c in own if s != "West" or c.split == "test"] for s, own in sites.items()}


@pytest.fixture
def plan(toys, tmp_path):
    """Return a function that plans trials with West as a guest; the built-in methods are known."""
    plugin = toys.plugins[0]
    toys.found["partitioner"]["west-only-tested"] = (WestOnlyTested, plugin)
    toys.found["method"] |= {name: (registry().method(name), plugin) for name in registry().names("method")}

    def make(*methods, **request):
        settings = {"recipe.rounds": 3, "recipe.epochs": 1, "recipe.base_width": 2}
        settings |= {"recipe.image_height": 16, "recipe.image_width": 16}
        options = {"dataset": "discs-simulated", "partitioner": "west-only-tested", "device": "cpu", **request}
        return make_plan(
            Request(methods=methods, seeds=(0,), settings=settings, out=tmp_path / "runs", **options), toys
        )

    return make


def test_the_card_tells_guests_from_those_who_train(simulated_discs):
    source = open_source(simulated_discs(), ("North", "South", "West"), WestOnlyTested())
    shown = card(source, Recipe(), source.splits(Recipe(), 0))
    assert isinstance(shown, TaskCard)
    assert shown.clients == {"North": 3, "South": 3}
    assert shown.guests == ("West",)


PERSONAL = ("fedbn", "siobn", "fedper", "local", "resfim")


def test_methods_without_a_model_for_everybody_are_skipped_with_the_sentence(plan):
    made = plan("fedavg", *PERSONAL)
    assert [trial.method.name for trial in made.trials] == ["fedavg"]
    assert len(made.skipped) == len(PERSONAL)
    for sentence, name in zip(made.skipped, PERSONAL, strict=True):
        title = registry().method(name).title
        assert sentence == f"{title} is skipped: it has no model for a hospital that never trains (West)."


def test_the_same_methods_run_where_everybody_trains(plan):
    made = plan(*PERSONAL, partitioner="natural")
    assert [trial.method.name for trial in made.trials] == list(PERSONAL)
    assert made.skipped == ()


@pytest.mark.parametrize("says", [True, False])
def test_a_method_that_builds_on_fedavg_must_say_itself_that_it_serves_newcomers(toys, plan, says):
    said = {"newcomers": True} if says else {}
    mine = dataclass(frozen=True)(type("Mine", (FEDAVG,), {"name": "mine", "title": "Mine", **said}))
    toys.found["method"]["mine"] = (mine, toys.plugins[0])
    made = plan("mine")
    assert len(made.trials) == says
    assert made.skipped == (
        () if says else ("Mine is skipped: it has no model for a hospital that never trains (West).",)
    )


def test_a_federation_of_guests_is_refused(plan):
    with pytest.raises(UsageError, match="somebody must train"):
        plan("fedavg", sites=("West",))


def test_fedavg_runs_with_a_guest_from_images_to_scores(plan, simulated_discs):
    made = plan("fedavg")
    (trial,) = run_plan(made, 1, lambda event: None)
    assert trial.state == "finished", trial.error
    assert {"name": "West", "train": 0, "val": 0, "test": 2} in trial.about["clients"]
    frame = scores([trial])
    assert [tuple(one) for one in frame[["chosen", "client", "cases"]].to_numpy()] == [
        (chosen, site, 2) for chosen in ("best", "last") for site in ("North", "South", "West")
    ]
    rounds = trial.table("rounds")
    assert set(rounds[rounds.client == "West"].split) == {"test"}
    assert sorted(trial.table("cases").query("client == 'West' and chosen == 'last'").case) == ["West/0", "West/1"]


def test_a_guest_holds_no_training_images(plan):
    held = {}

    @dataclass(frozen=True)
    class Looking(FEDAVG):
        newcomers: ClassVar[bool] = True

        def client_receive(self, client: Client, message):
            held[client.name] = (client.samples, tuple(client.images.shape), tuple(client.masks.shape))
            super().client_receive(client, message)

    (trial,) = run_plan(plan(Looking()), 1, lambda event: None)
    assert trial.state == "finished", trial.error
    assert held["West"] == (0, (0, 1, 16, 16), (0, 1, 16, 16))
    assert held["North"][0] == 3
