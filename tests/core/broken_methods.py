"""Methods each broken in one way, with the check that finds it and words of its reason."""

import inspect
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch

from pflbench.api import Family, keys, load, module_keys, parameter_keys, pick, weighted_mean
from pflbench_methods.fedavg import FedAvg
from pflbench_methods.local import Local

BROKEN: dict[type, tuple[str, str]] = {}  # class -> name of the check, words of the reason


def complete(cls, without=()):
    """Return a class as a frozen dataclass with what the table of methods wants to know of it, but ``without`` some."""
    words = {"citation": "An example, unpublished.", "family": "general", "year": None}
    for constant, value in {"name": cls.__name__.lower(), "title": cls.__name__, **words}.items():
        if constant not in vars(cls) and constant not in without:
            setattr(cls, constant, value)
    if cls.__doc__ is None:
        cls.__doc__ = "FedAvg, except that it is broken on purpose."
    return dataclass(frozen=True)(cls)


def fails(check, words, without=()):
    """Return a decorator that completes a class and registers it."""

    def register(cls):
        made = complete(cls, without)
        BROKEN[made] = (check, words)
        return made

    return register


def nudge(model, size):
    """Move one number of a model a little, so that whatever decides the size shows."""
    with torch.no_grad():
        model.final.bias += 1e-6 * size


def seen_from_inside(attribute):
    """Return an attribute of the harness that no method is given, found on the call stack."""
    frame = inspect.currentframe()
    while not hasattr(frame.f_locals.get("self"), attribute):
        frame = frame.f_back
    return getattr(frame.f_locals["self"], attribute)


@complete
class Trained(FedAvg):
    """FedAvg, with a place for what goes wrong after training."""

    def client_update(self, client):
        client.fit()
        self.afterwards(client)
        return {**pick(client.model.state_dict(), keys(client.model)), **self.extra(client)}

    def afterwards(self, client):
        pass

    def extra(self, client):
        return {}

    def server_update(self, server, inbox):
        known = keys(server.new_model())
        weights = {client: pick(message, known) for client, message in inbox.items()}
        return dict.fromkeys(inbox, weighted_mean(weights, server.shares))


@fails("contract", "nobody calls Misspelt.client_recieve; did you mean 'client_receive'")
class Misspelt(FedAvg):
    def client_recieve(self, client, message):
        load(client.model, message)


@fails("settings", "'ceiling' is no plain value")
class NotANumber(FedAvg):
    ceiling: float = float("nan")


@fails("name", "its title 'Fed, with Spaces' finds nothing; add aliases")
class Untitled(FedAvg):
    title: ClassVar[str] = "Fed, with Spaces"


@fails("name", "fedbn is a method of pflbench; take another name")
class Taken(FedAvg):
    aliases: ClassVar[tuple[str, ...]] = ("fedbn",)


@fails("docstring", "class Silent has no docstring of its own")
class Silent(FedAvg):
    __doc__ = ""


@fails("cites", "has no year")
class Undated(FedAvg):
    citation: ClassVar[str] = "Doe: Something. https://example.org/paper"


@fails("cites", "has no link; give that of the paper, or of the code")
class Unlinked(FedAvg):
    citation: ClassVar[str] = "Doe: Something. 2026."


@fails("cites", "its year is 2024, which its citation does not say")
class Misdated(FedAvg):
    citation: ClassVar[str] = "Doe: Something. 2026. https://example.org/paper"
    year: ClassVar[int | None] = 2024


@fails("cites", "what it says of citation is FedAvg's; write into Uncited: citation: ClassVar", without=["citation"])
class Uncited(FedAvg):
    pass


@fails("cites", "what it says of citation and year is FedAvg's", without=["citation", "year", "family"])
class Wordless(FedAvg):
    pass


@fails("cites", "what it says of family is Local's; write into NoRival: family: ClassVar", without=["family"])
class NoRival(Local):
    pass


@fails("cites", "what it says of year is FedAvg's; write into AsOld: year: ClassVar", without=["year"])
class AsOld(FedAvg):
    citation: ClassVar[str] = "Doe: Something. 2017. https://example.org/paper"


@fails("keeps", "is FedAvg's, general: one model for everybody; but the clients end with", without=["family"])
class Mislabelled(FedAvg):
    travels: ClassVar[str] = "all weights and statistics but those of the first layer"

    def shared(self, model):
        return keys(model) - module_keys(model, model.enc1)


@fails("keeps", "one model for everybody; but personal_model() returns another", without=["family"])
class MislabelledCopy(FedAvg):
    def personal_model(self, client):
        return client.new_model(client.model.state_dict())


@fails("keeps", "it does not say what leaves a hospital; write travels")
class Silenced(FedAvg):
    travels: ClassVar[str] = " "


@fails("keeps", "6 of 44 entries of the model are in no message: enc1.0.bias, enc1.0.weight, enc1.1.bias and 3 more")
class KeepsALayer(FedAvg):
    def shared(self, model):
        return keys(model) - module_keys(model, model.enc1)


@fails("keeps", "it says 'once: all but names; every round: all weights', but 1 of 44 entries")
class KeepsABias(FedAvg):
    travels: ClassVar[str] = "once: all but names; every round: all weights"

    def shared(self, model):
        return parameter_keys(model) - {"final.bias"}


@fails("keeps", "policies() says nothing of batch_norm and aggregation")
class Secretive(FedAvg):
    def policies(self) -> Mapping[str, str]:
        return {}


@fails("keeps", "it says that nothing leaves a hospital, but")
class Denying(FedAvg):
    travels: ClassVar[str] = "nothing"


@fails("plays", "raises.client_update at client north, round 2: ValueError: no luck")
class Raises(Trained):
    def afterwards(self, client):
        if client.round == 2:
            raise ValueError("no luck")


@fails("plays", "unsuitable: it wants one client.")
class Refuses(FedAvg):
    def unsuitable(self, task):
        return "it wants one client."


@fails("learns", "the training loss at north goes from")
class Lazy(Trained):
    def client_update(self, client):
        client.fit(only={"final.bias"})
        return pick(client.model.state_dict(), keys(client.model))


@fails("resumes", "resumed after round 1 these differ: /clients/north/model")
class Forgetful(Trained):
    def afterwards(self, client):
        client.model.turns = getattr(client.model, "turns", 0) + 1  # not in its state_dict
        nudge(client.model, client.model.turns)


@fails("fresh-process", "in a fresh process these differ: /clients/north/model")
class Hashing(Trained):
    def afterwards(self, client):
        if client.round == 1:
            nudge(client.model, hash(client.name) % 1000)


_TURN = {"round": 0, "place": 0}


@fails("order-of-clients", "with the clients in another order these differ: /clients/north/model")
class TakesTurns(Trained):
    def afterwards(self, client):
        if client.round != _TURN["round"]:
            _TURN.update(round=client.round, place=0)
        _TURN["place"] += 1
        nudge(client.model, 10 * _TURN["place"])


@fails("another-seed", "the weights at north and south and west are the same whatever the seed")
class OneSeed(FedAvg):
    def client_update(self, client):
        if client.round == 1:
            rng = torch.Generator().manual_seed(0)
            drawn = {
                name: 0.1 * torch.randn(value.shape, generator=rng) if value.dim() == 4 else 0 * value
                for name, value in client.model.named_parameters()
                if value.dim() == 4 or name.endswith("bias")
            }
            load(client.model, drawn)
        optimizer = client.optimizer(role="own")
        client.model.train()
        for _ in range(client.recipe.epochs):
            optimizer.zero_grad()
            client.loss(client.model(client.images), client.masks).backward()
            optimizer.step()
            client.gradients += client.samples
        return pick(client.model.state_dict(), keys(client.model))


@fails("global-random-numbers", "it draws from the global generator of torch, or seeds it; draw from client.rng")
class Draws(Trained):
    def afterwards(self, client):
        torch.rand(1)


@fails("non-interference", "sends something else in round 1 when only the images at south change")
class Spies(Trained):
    def afterwards(self, client):
        others = seen_from_inside("_sites").values()
        nudge(client.model, sum(float(site._training.images.float().mean()) for site in others))


@fails("test-images", "with other test images these differ: /clients/north/model")
class Peeks(Trained):
    def afterwards(self, client):
        nudge(client.model, float(seen_from_inside("_held_out")["test"].images.float().mean()))


@fails("no-image-leaves", "a training image of north is in its message of round 1, message['look']")
class Shows(Trained):
    def extra(self, client):
        return {"look": 1 - 0.5 * client.images[1].half()}


@fails("no-image-leaves", "message['look']")
class ShowsMasks(Trained):
    def extra(self, client):
        return {"look": client.masks.bool()}


@fails("messages", "the message from north in round 1 holds a number at /scale that is not finite")
class Infinite(Trained):
    def extra(self, client):
        return {"scale": float("inf")}


@fails("messages", "a client's message up has 464,")
class Large(Trained):
    def extra(self, client):
        return {"history": torch.zeros(100_000)}


@fails("messages", "a client's message up before round 1 has 280,")
class LargeAtFirst(FedAvg):
    def client_setup(self, client):
        return {"history": torch.zeros(70_000)}


@fails("messages", "a client's message down before round 1 has 280,")
class LargeBriefing(FedAvg):
    def server_setup(self, server, inbox):
        return {client: {"history": torch.zeros(70_000)} for client in server.shares}


@fails("gradients", "extra_gradients() comes to 8 per round at north, with those of training, but 13 are counted")
class Uncounted(Trained):
    def afterwards(self, client):
        client.gradients += 5


@fails("newcomers", "newcomer, round 1: KeyError: 'west'")
class Unwelcoming(FedAvg):
    newcomers: ClassVar[bool] = True
    family: ClassVar[Family] = "general"

    def newcomer(self, outbox):
        return outbox["west"]


@fails("gpu", "can't convert cuda")
class OnlyCpu(Trained):
    def afterwards(self, client) -> Any:
        client.log["first"] = float(client.model.final.bias.detach().numpy()[0])
