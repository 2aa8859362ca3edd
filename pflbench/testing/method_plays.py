"""What must hold of a method's plays on the toy federation: scores, learning, resuming, the same every time."""

from __future__ import annotations

import functools
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from pflbench.checkpoint import load, save
from pflbench.method import Method
from pflbench.testing.checks import CheckFailed, CheckSkipped, require
from pflbench.testing.fresh import differing, digests, elsewhere
from pflbench.testing.plays import ROUNDS, Backwards, Played, global_generators, played
from pflbench.testing.toy import ToyFederation, differences, toy_federation
from pflbench.testing.value_checks import Subject

_HOSPITALS = ("north", "south", "west")
_LEARNING = 12, 4  # rounds, epochs
_COUNTING = 5, 2
_SHOWN = 3  # places named where two things differ


class Plays:
    """The plays of one method that several checks share."""

    def __init__(self, subject: Subject[Method]) -> None:
        self._subject = subject

    @property
    def method(self) -> Method:
        """The method. Raises CheckSkipped where none can be made."""
        return self._subject.value

    @functools.cached_property
    def first(self) -> Played:
        """A play from beginning to end. Raises whatever the method raises."""
        return played(self.method)

    @property
    def shared(self) -> Played:
        """The same, for all checks but the first. Raises CheckSkipped where it does not play: that one says why."""
        try:
            return self.first
        except CheckSkipped:
            raise
        except Exception:
            raise CheckSkipped("it does not play: see above.") from None

    def interrupted(self, folder: Path) -> None:
        """Play one round and leave a checkpoint in a folder."""
        first = toy_federation(self.method, rounds=ROUNDS).play(rounds=1)
        save(folder, 1, first.federation.kept())

    @functools.cached_property
    def elsewhere(self) -> Mapping[str, dict[str, str]]:
        """What another process keeps in the end: played ``anew``, and ``resumed`` from a checkpoint."""
        with tempfile.TemporaryDirectory() as folder:
            self.interrupted(Path(folder))
            found: Mapping[str, dict[str, str]] = elsewhere(self.method, "plays", checkpoint=folder)
            return found


def scores_everybody(plays: Plays) -> None:
    """Play, and look at the scores."""
    method = plays.method
    reason = method.unsuitable(toy_federation(method).card)
    require(
        reason is None,
        f"it calls the toy federation (three hospitals, three channels, 16 x 16) unsuitable: {reason}",
    )
    scored = {(row[0], row[2]) for row in plays.first.rows("cases") if 0 <= row[7] <= 1}  # Dice
    lacking = [client for client in _HOSPITALS if not {("best", client), ("last", client)} <= scored]
    require(not lacking, f"{', '.join(lacking)} has no Dice between 0 and 1.")


def learns(plays: Plays) -> str:
    """Compare the training loss of the last round with that of the first, or Dice where no loss is reported."""
    _ = plays.shared
    toy = toy_federation(plays.method, rounds=_LEARNING[0], epochs=_LEARNING[1]).play()
    dice = toy.federation.progress.val_dice
    for client in toy.card.clients:
        losses = [row[4] for row in toy.federation.progress.tables["rounds"] if row[1:3] == [client, "train"]]
        if None in losses:  # it trains without client.fit
            require(dice > 0.5, f"the mean validation Dice is {dice:.2f} after {len(losses)} rounds, not above 0.5.")
            continue
        require(
            losses[-1] < 0.5 * losses[0],
            f"the training loss at {client} goes from {losses[0]:.3f} to {losses[-1]:.3f} in {len(losses)} rounds.",
        )
    return f"validation Dice {dice:.2f} after {_LEARNING[0]} rounds"


def resumes(plays: Plays) -> str | None:
    """Compare with a play that was interrupted after a round, in this process and in another."""
    whole = plays.shared.kept
    with tempfile.TemporaryDirectory() as folder:
        plays.interrupted(Path(folder))
        second = toy_federation(plays.method, rounds=ROUNDS)
        second.federation.restore(load(Path(folder)) or {})
        same(whole, second.play().kept(), "resumed after round 1")
    try:
        found = plays.elsewhere["resumed"]
    except CheckSkipped as skipped:
        return f"in this process; not tried in another: {skipped}"
    _nowhere(differing(digests(whole), found), "resumed after round 1 in another process")
    return None


def same_in_a_fresh_process(plays: Plays) -> None:
    """Compare with a play in another process."""
    whole = digests(plays.shared.kept)
    _nowhere(differing(whole, plays.elsewhere["anew"]), "in a fresh process")


def same_in_any_order(plays: Plays) -> None:
    """Compare with a play in which the last client comes first."""
    whole = plays.shared.kept
    toy = toy_federation(plays.method, rounds=ROUNDS, engine=Backwards).play()
    same(whole, toy.kept(), "with the clients in another order")


def another_seed(plays: Plays) -> None:
    """Compare the clients of two seeds."""
    kept = plays.shared.kept
    other = toy_federation(plays.method, rounds=ROUNDS, seed=1).play().kept()
    weights = [{client: own["model"] for client, own in one["clients"].items()} for one in (kept, other)]
    alike = [client for client in weights[0] if not differences(weights[0][client], weights[1][client])]
    require(not alike, f"the weights at {' and '.join(alike)} are the same whatever the seed.")


def leaves_global_numbers_alone(plays: Plays) -> None:
    """Look whether a play draws from, or seeds, what the whole process shares."""
    _ = plays.shared
    before = global_generators()
    toy_federation(plays.method).play()
    changed = [whose for whose, state in global_generators().items() if state != before[whose]]
    require(
        not changed,
        f"it draws from the global generator of {' and '.join(changed)}, or seeds it; draw from client.rng or "
        "server.rng, and make models with client.new_model().",
    )


def announces_its_gradients(plays: Plays) -> str:
    """Compare ``extra_gradients`` with what is counted."""
    _ = plays.shared
    rounds, epochs = _COUNTING
    toy = toy_federation(plays.method, rounds=rounds, epochs=epochs).play()
    extra = plays.method.extra_gradients(toy.card)
    counted = _counted(toy)
    for client, total in counted.items():
        announced = epochs * toy.card.clients.get(client, 0) + extra.get(client, 0)
        # a mean over rounds, rounded up
        require(
            0 <= rounds * announced - total < rounds,
            f"extra_gradients() comes to {announced} per round at {client or 'the server'}, with those of "
            f"training, but {total / rounds:g} are counted.",
        )
    training = rounds * epochs * sum(toy.card.clients.values())
    return f"{sum(counted.values()) / training:.2f} x FedAvg's"


def serves_newcomers(plays: Plays) -> None:
    """Play with a guest."""
    _ = plays.shared
    toy = toy_federation(plays.method, rounds=ROUNDS, guests=("west",)).play()
    scored = {row[2] for row in toy.federation.progress.tables["cases"]}
    require("west" in scored, "the hospital that never trains has no score.")


def works_on_a_gpu(plays: Plays) -> str:
    """Play on CUDA."""
    if not torch.cuda.is_available():
        raise CheckSkipped("there is no CUDA device here.")
    _ = plays.shared
    toy_federation(plays.method, rounds=ROUNDS, device="cuda").play()
    return torch.cuda.get_device_name()


def _counted(toy: ToyFederation) -> dict[str, float]:
    """Return the per-image gradients of all rounds at each client and, under "", at the server."""
    counted = dict.fromkeys([*toy.card.clients, ""], 0.0)
    for round, client, key, value in toy.federation.progress.tables["logs"]:
        if key == "gradients" and round:
            counted[client] += value
    return counted


def same(one: Mapping[str, Any], other: Mapping[str, Any], when: str) -> None:
    """Raise CheckFailed naming the first places at which two trees are not the same to the last bit."""
    _nowhere(differences(one, other), when)


def _nowhere(places: list[str], when: str) -> None:
    """Raise CheckFailed naming the first places that differ."""
    if places:
        more = f" and {len(places) - _SHOWN} more" if len(places) > _SHOWN else ""
        raise CheckFailed(f"{when} these differ: {', '.join(places[:_SHOWN])}{more}.")
