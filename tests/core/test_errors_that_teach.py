"""What a plugin author gets wrong is said in one sentence: what, where, and what to write instead."""

import textwrap
from dataclasses import dataclass
from typing import ClassVar

import pytest
import torch
from torch import nn

from pflbench import plugins
from pflbench.admission import admit
from pflbench.dataset import Dataset
from pflbench.errors import TrialFailed, UsageError
from pflbench.faults import shown_path
from pflbench.method import Method
from pflbench.partition import Partitioner
from pflbench.plan import Request, make_plan
from pflbench.plugins import registry
from pflbench.testing import toy_federation
from pflbench.trial import _error

GOOD = """
    from dataclasses import dataclass, field
    from typing import Annotated, ClassVar
    from pydantic import Field
    from pflbench.api import Method, hookimpl
    from pflbench_methods.fedavg import FedAvg

    @dataclass(frozen=True)
    class FedFoo(FedAvg):
        name: ClassVar[str] = "fedfoo"
        title: ClassVar[str] = "FedFoo"
        strength: Annotated[float, Field(ge=0, le=1)] = 0.5

        def client_update(self, client):
            return super().client_update(client)

        def server_update(self, server, inbox):
            return super().server_update(server, inbox)
"""
FEDAVG = registry().method("fedavg")


@pytest.fixture
def loaded(tmp_path):
    """Return a function that loads a plugin file: the good one with something replaced."""

    def load(old="", new=""):
        code = textwrap.dedent(GOOD)
        assert old in code
        path = tmp_path / "mine.py"
        path.write_text(code.replace(old, new) if old else code)
        return plugins.from_file(path)

    return load


def test_what_is_right_is_loaded(loaded):
    assert loaded().method("fedfoo")().strength == 0.5


@pytest.mark.parametrize(
    ("old", "new", "sentence"),
    [
        # hooks and steps with another name
        (
            "def client_update(self, client)",
            "def client_updat(self, client)",
            "nobody calls FedFoo.client_updat; did you mean 'client_update'? If not, begin its name with an underscore",
        ),
        (
            "def server_update(self, server, inbox)",
            "def sever_update(self, server, inbox)",
            "did you mean 'server_update'",
        ),
        # wrong signatures
        (
            "def client_update(self, client)",
            "def client_update(self)",
            "FedFoo.client_update(self) has a wrong signature; write def client_update(self, client)",
        ),
        (
            "def server_update(self, server, inbox)",
            "def server_update(self, inbox)",
            "FedFoo.server_update(self, inbox) has a wrong signature; write def server_update(self, server, inbox)",
        ),
        (
            "def server_update(self, server, inbox)",
            "def server_update(self, inbox, server)",
            "FedFoo.server_update(self, inbox, server) has a wrong signature; write def server_update(self, server, in",
        ),
        (
            "def client_update(self, client)",
            "def client_update(client)",
            "FedFoo.client_update(client) has a wrong signature; write def client_update(self, client)",
        ),
        (
            "def client_update(self, client)",
            "def client_update(self, client, round)",
            "FedFoo.client_update(self, client, round) has a wrong signature; write def client_update(self, client)",
        ),
        (
            "def client_update(self, client)",
            "def client_update(self, client, *, round)",
            "has a wrong signature; write def client_update(self, client)",
        ),
        (
            "def client_update(self, client):",
            "client_receive = 3\n    def client_update(self, client):",
            "FedFoo.client_receive is no function; write def client_receive(self, client, message)",
        ),
        # dataclasses
        (
            "@dataclass(frozen=True)",
            "",
            "FedFoo is no dataclass, so strength cannot be set; write @dataclass(frozen=True) above it",
        ),
        ("@dataclass(frozen=True)", "@dataclass", "cannot inherit non-frozen dataclass from a frozen one; write @data"),
        (
            "strength: Annotated[float, Field(ge=0, le=1)] = 0.5",
            "strength = 0.5",
            "FedFoo.strength = 0.5 has no type, so it is no setting; write strength: float = 0.5, or strength: "
            "ClassVar[float] where nobody is to set it",
        ),
        (
            "strength: Annotated[float, Field(ge=0, le=1)] = 0.5",
            "strength: float",
            "FedFoo.strength has no default; give every setting one",
        ),
        (
            "strength: Annotated[float, Field(ge=0, le=1)] = 0.5",
            "strength: list = []",
            "mutable default <class 'list'> for field strength is not allowed: use default_factory; settings never "
            "change: write a tuple, as in layers: tuple[str, ...] = ()",
        ),
        (
            "strength: Annotated[float, Field(ge=0, le=1)] = 0.5",
            "layers: list[str] = field(default_factory=list)",
            "FedFoo.layers is a list, which can change; settings never do: write a tuple, as in layers: tuple",
        ),
        ("strength: Annotated[float, Field(ge=0, le=1)] = 0.5", "x: Annotated[float, Field(ge=0, le=1)] = 2", "from 0"),
        (
            "strength: Annotated[float, Field(ge=0, le=1)] = 0.5",
            "strength: FedAvg = 0.5",
            "fedfoo.strength = 0.5 is refused",
        ),
        (
            "strength: Annotated[float, Field(ge=0, le=1)] = 0.5",
            "strength: object() = 0.5",
            "FedFoo() fails: TypeError: FedFoo.strength:",
        ),
        # what a class says of itself
        (
            'name: ClassVar[str] = "fedfoo"',
            "",
            "FedFoo has no name of its own and would pass for 'fedavg'; write name: ClassVar[str] = 'fedfoo'",
        ),
        (
            'title: ClassVar[str] = "FedFoo"',
            "",
            "FedFoo has no title of its own and would pass for 'FedAvg'; write title: ClassVar[str]",
        ),
        (
            'title: ClassVar[str] = "FedFoo"',
            'title: str = "FedFoo"',
            "FedFoo.title is written as a setting; write title: ClassVar[str] instead",
        ),
        (
            'title: ClassVar[str] = "FedFoo"',
            'title: ClassVar[str] = ""',
            "FedFoo.title is empty; say there (its name in tables)",
        ),
        ('"fedfoo"', '"FedFoo"', "FedFoo.name = 'FedFoo' must be a lower-case string of letters, digits, - and _"),
        ('"fedfoo"', '"fed,foo"', "FedFoo.name = 'fed,foo' must be a lower-case string of letters, digits, - and _"),
        ('"fedfoo"', '"all"', "FedFoo.name = 'all' has a meaning on the command line; choose another"),
        (
            'title: ClassVar[str] = "FedFoo"',
            'title: ClassVar[str] = "FedFoo"\n    aliases: ClassVar[tuple[str, ...]] = ("foo")',
            "FedFoo.aliases = 'foo' is refused: Input should be a valid tuple; write aliases: ClassVar[tuple[str",
        ),
        (
            'title: ClassVar[str] = "FedFoo"',
            'title: ClassVar[str] = "FedFoo"\n    family: ClassVar[str] = "personalised"',
            "FedFoo.family = 'personalised' is refused: Input should be 'control', 'general' or 'personalized'",
        ),
        # the method itself
        (
            "class FedFoo(FedAvg)",
            "class FedFoo(Method)",
            "FedFoo lacks client_receive; write def client_receive(self, client, message)",
        ),
        ("class FedFoo(FedAvg)", "class FedFoo", "it provides nothing; define a subclass of Method, Dataset or Part"),
    ],
)
def test_a_class_that_is_not_as_it_must_be_is_refused_when_it_is_loaded(loaded, old, new, sentence):
    with pytest.raises(UsageError) as error:
        loaded(old, new)
    assert sentence in str(error.value)
    assert "mine.py" in str(error.value)
    assert "\n" not in str(error.value)


def test_a_default_that_would_not_come_into_effect_is_refused(loaded):
    child = 'class Child(FedFoo):\n    name: ClassVar[str] = "child"\n    title: ClassVar[str] = "Child"\n'
    with pytest.raises(UsageError, match=r"Child.strength = 0.1 has no type, so its parent's value stays; write stre"):
        loaded(
            "    def server_update",
            "    pass\n\n@dataclass(frozen=True)\n" + child + "    strength = 0.1\n\n    def server_update",
        )


@pytest.mark.parametrize(
    ("constant", "meaning"), [("citation", "authors, title, year, link"), ("travels", "what leaves a hospital")]
)
def test_a_method_that_does_not_say_what_it_is_is_refused(idle, constant, meaning):
    said = {"name": "mute", "title": "Mute", "citation": "Somebody", "travels": "nothing", "__module__": __name__}
    del said[constant]
    steps = {step: getattr(idle, step) for step in ("client_update", "server_update", "client_receive")}
    mute = dataclass(frozen=True)(type("Mute", (Method,), {**said, **steps}))
    with pytest.raises(UsageError, match=rf"Mute lacks {constant} \({meaning}.*; write {constant}: ClassVar\[str\]"):
        admit(Method, mute)


def test_a_dataset_that_is_opened_without_a_class_is_refused(simulated_discs):
    @dataclass(frozen=True)
    class Mine(simulated_discs):
        name: ClassVar[str] = "mine"
        title: ClassVar[str] = "Mine"

        def find(self, folder, **options):
            return self

    with pytest.raises(UsageError, match=r"Mine.find is called before there is a value; write @classmethod above it"):
        admit(Dataset, Mine)


def test_a_partitioner_without_random_numbers_is_told_the_right_signature(by_site):
    @dataclass(frozen=True)
    class Mine(type(by_site)):
        name: ClassVar[str] = "mine"
        title: ClassVar[str] = "Mine"

        def assign(self, cases):
            return {}

    with pytest.raises(
        UsageError, match=r"Mine.assign\(self, cases\) has a wrong signature; write def assign\(self, c"
    ):
        admit(Partitioner, Mine)


@pytest.mark.parametrize(
    ("setting", "value", "sentence"),
    [
        ("fedprox.proximity", "much", "fedprox.proximity = 'much' is refused: .* It may be a number from 0.$"),
        ("fedprox.proximity", -1, "fedprox.proximity = -1 is refused: .* It may be a number from 0.$"),
        ("resfim.delta", 2, "resfim.delta = 2 is refused: .* It may be a number from 0 to 1.$"),
        ("fedprox.proximty", 1, "no setting of fedprox called 'proximty'; did you mean 'proximity'?"),
    ],
)
def test_a_hyperparameter_of_a_wrong_type_or_range_is_told_what_it_may_be(setting, value, sentence):
    method, name = setting.split(".")
    with pytest.raises(UsageError, match=sentence):
        registry().method(method).of({name: value})


def played(rounds=1, clients=("CHASE", "HRF"), **steps):
    """Play FedAvg with some steps replaced."""
    method = dataclass(frozen=True)(type("FedFoo", (FEDAVG,), {"name": "fedfoo", "__module__": __name__, **steps}))
    return toy_federation(method(), rounds=rounds, clients=clients).play()


def failed(rounds=1, **steps):
    """Return how a trial of FedAvg with some steps replaced ends."""
    with pytest.raises(TrialFailed) as error:
        played(rounds, **steps)
    return error.value


def sends(message):
    """Return a client_update that sends FedAvg's message with something added."""
    return lambda self, client: {**FEDAVG.client_update(self, client), **message}


def explode(self, client):
    if client.round == 2 and client.name == "HRF":
        return [1, 2][client.round]
    return FEDAVG.client_update(self, client)


def test_a_method_that_raises_is_named_with_round_client_step_and_its_own_line():
    error = failed(rounds=3, client_update=explode)
    line = explode.__code__.co_firstlineno + 2
    assert str(error) == (
        "fedfoo.client_update at client HRF, round 2: IndexError: list index out of range "
        f"({shown_path(__file__)}, line {line}: return [1, 2][client.round])."
    )
    kept = _error(error)
    assert kept["sentence"] == str(error)
    assert "in explode\n    return [1, 2][client.round]" in kept["traceback"]


def test_a_server_that_raises_is_named_with_round_step_and_its_own_line():
    def server_update(self, server, inbox):
        return {client: message["nothing"] for client, message in inbox.items()}

    sentence = str(failed(server_update=server_update))
    assert sentence.startswith("fedfoo.server_update, round 1: KeyError: 'nothing' (")
    assert 'message["nothing"] for client' in sentence


@pytest.mark.parametrize(
    ("message", "sentence"),
    [
        ({"a": {"b": [1]}}, "message['a']['b'] is a list; a message may hold only tensors, numbers, strings, None, an"),
        ({"model": nn.Linear(1, 1)}, "message['model'] is a Linear; a message may hold only"),
        ({3: 1.0}, "message[3]: keys of a message are strings, not int"),
        ({"a": torch.tensor([1.0, torch.nan])}, "message['a'] is not finite; the training diverged, or something was"),
        ({"a": {"b": torch.tensor(-torch.inf)}}, "message['a']['b'] is not finite"),
    ],
)
def test_what_may_not_travel_is_named_with_its_place(message, sentence):
    assert f"fedfoo.client_update at client CHASE, round 1: {sentence}" in str(failed(client_update=sends(message)))


def test_numbers_whose_sum_is_too_large_are_finite():
    large = sends({"large": torch.full((3,), 3e38)})
    toy = played(client_update=large, server_update=lambda self, server, inbox: {})
    assert toy.federation.progress.round == 1


def keeps(value):
    def client_update(self, client):
        client.state["mine"] = value
        return FEDAVG.client_update(self, client)

    return client_update


def test_what_may_not_be_kept_is_named_with_its_place():
    sentence = str(failed(client_update=keeps({"optimizer": object()})))
    assert "at client CHASE, round 1: client.state['mine']['optimizer'] is a object" in sentence


def logs(value):
    def client_update(self, client):
        client.log["drift"] = value
        return FEDAVG.client_update(self, client)

    return client_update


@pytest.mark.parametrize(("value", "kind"), [("far", "a str"), (torch.ones(2), "a Tensor"), (None, "None")])
def test_what_is_no_number_is_not_logged(value, kind):
    sentence = str(failed(client_update=logs(value)))
    assert sentence.endswith(f"client.log['drift'] is {kind}; what is logged is one number.")


def test_what_is_no_number_is_not_logged_at_the_server_either():
    def server_update(self, server, inbox):
        server.log["weights"] = torch.ones(3)
        return FEDAVG.server_update(self, server, inbox)

    sentence = str(failed(server_update=server_update))
    assert sentence == "fedfoo.server_update, round 1: server.log['weights'] is a Tensor; what is logged is one number."


@pytest.mark.parametrize(
    ("returned", "sentence"),
    [
        (None, "returned None, not a mapping from client to message; return client -> message, as dict.fromkeys(inbox"),
        (torch.ones(1), "returned a Tensor, not a mapping from client to message; return client -> message"),
        ({"enc1.0.weight": torch.ones(1)}, "a message is addressed to 'enc1.0.weight'; the clients are CHASE, HRF: re"),
        ({"HRF": None}, "outbox['HRF'] is None; a message is a mapping"),
        ({"HRF": torch.ones(1)}, "outbox['HRF'] is a Tensor; a message is a mapping, as {'weights': weights}"),
        ({"HRF": {"a": torch.tensor(torch.nan)}}, "outbox['HRF']['a'] is not finite"),
    ],
)
def test_a_server_that_returns_no_messages_is_told_what_to_return(returned, sentence):
    error = failed(server_update=lambda self, server, inbox: returned)
    assert str(error).startswith(f"fedfoo.server_update, round 1: {sentence}")


@pytest.mark.parametrize(
    ("returned", "sentence"),
    [
        (None, "returned None; return what is sent, or {} to send nothing."),
        ([1], "message is a list; a message is a mapping, as {'weights': weights}."),
        (torch.ones(2), "message is a Tensor; a message is a mapping, as {'weights': weights}."),
    ],
)
def test_a_client_that_returns_no_message_is_told_what_to_return(returned, sentence):
    error = failed(client_update=lambda self, client: returned)
    assert str(error) == f"fedfoo.client_update at client CHASE, round 1: {sentence}"


def test_a_personal_model_that_is_no_module_is_told_what_to_return():
    error = failed(personal_model=lambda self, client: client.model.state_dict())
    assert str(error).startswith(
        "fedfoo.personal_model at client CHASE, round 1: returned an OrderedDict; return a module, as client.model"
    )


def forgets(self, client, message):
    client.new_model(message)  # and nobody keeps it


def test_a_method_that_throws_away_what_the_server_sent_is_told_to_load_it():
    assert str(failed(client_receive=forgets)) == (
        "fedfoo.client_receive, round 1: the server's message changed neither client.model nor client.state at any "
        "client; take it in with load(client.model, message), or return {} from server_update where nothing is to be "
        "sent."
    )


def into_state(self, client, message):
    client.state["received"] = dict(message)


def into_state_again(self, client, message):
    client.state.setdefault("received", torch.zeros(1)).add_(1)


def by_data(self, client, message):
    for name, parameter in client.model.named_parameters():
        parameter.data.copy_(message[name])


def by_state_dict(self, client, message):
    client.model.load_state_dict(message)


def logged(self, client, message):
    client.log["refused"] = 1


@pytest.mark.parametrize("receive", [into_state, into_state_again, by_data, by_state_dict, logged])
@pytest.mark.parametrize("clients", [("CHASE",), ("CHASE", "HRF")])
def test_whatever_a_method_does_with_a_message_counts_as_taking_it_in(receive, clients):
    assert played(clients=clients, client_receive=receive).federation.progress.round == 1


def stores_in_itself(self, client):
    self.round = client.round


def assigns_model(self, client):
    client.model = client.new_model()


def assigns_state(self, client):
    client.state = {}


def misspells(self, client):
    return client.stat["x"]


@pytest.mark.parametrize(
    ("step", "advice"),
    [
        (stores_in_itself, "; a method keeps nothing in itself: what must survive goes into client.state or server.st"),
        (assigns_model, "; load(client.model, weights) copies into it"),
        (assigns_state, "; write client.state['name'] = value"),
        (misspells, "; did you mean 'state'?"),
    ],
)
def test_what_python_says_is_followed_by_what_to_do(step, advice):
    sentence = str(failed(client_update=step))
    assert advice in sentence
    assert "test_errors_that_teach.py, line" in sentence


def test_a_value_of_a_class_is_checked_as_a_plugin_is(toys, idle):
    @dataclass(frozen=True)
    class Mine(idle):
        name: ClassVar[str] = "mine"
        title: ClassVar[str] = "Mine"

        def client_update(self):
            return {}

    with pytest.raises(UsageError, match=r"the method Mine cannot be run: Mine.client_update\(self\) has a wrong sig"):
        make_plan(Request(methods=(Mine(),), dataset="discs-simulated", seeds=(0,)), toys)


def unclear(self, task):
    return True


def broken(self, task):
    return task.hospitals


@pytest.mark.parametrize(
    ("answers", "sentence"),
    [
        ({"unsuitable": unclear}, r"fedfoo.unsuitable returned True; return a sentence that says why, or None\."),
        ({"unsuitable": broken}, r"fedfoo.unsuitable: AttributeError: .*hospitals'.*teach.py, line \d+: return task"),
        ({"extra_gradients": broken}, "fedfoo.extra_gradients: AttributeError"),
        ({"policies": lambda self: 1 / 0}, "fedfoo.policies: ZeroDivisionError: division by zero"),
    ],
)
def test_a_method_that_cannot_answer_is_named_before_anything_is_trained(toys, idle, answers, sentence):
    own = {"name": "fedfoo", "title": "FedFoo", "__module__": __name__, **answers}
    method = dataclass(frozen=True)(type("FedFoo", (idle,), own))
    with pytest.raises(UsageError, match=sentence):
        make_plan(Request(methods=(method(),), dataset="discs-simulated", seeds=(0,)), toys)


def test_a_partitioner_that_raises_is_named_with_its_line(toys, by_site):
    @dataclass(frozen=True)
    class Mine(type(by_site)):
        def assign(self, cases, rng):
            return {cases[0].hospital: cases}

    toys.found["partitioner"]["natural"] = (Mine, toys.plugins[0])
    with pytest.raises(
        UsageError, match=r"discs-simulated shared out by natural: AttributeError: .*line \d+: return {c"
    ):
        make_plan(Request(methods=("idle",), dataset="discs-simulated", seeds=(0,)), toys)
