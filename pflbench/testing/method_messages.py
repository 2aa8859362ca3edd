"""What must hold of a method's messages: they stay small and finite, hold no image, and depend on no other hospital."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable

from pflbench.message import encoded_size
from pflbench.task import pools_data
from pflbench.testing.checks import CheckSkipped, require
from pflbench.testing.leaks import contains_image
from pflbench.testing.method_plays import Plays, same
from pflbench.testing.plays import ROUNDS, Replaying, Sent, leaves, negative, played
from pflbench.testing.toy import toy_federation, toy_images

_LARGE = 4  # times the model: SCAFFOLD sends two


def depends_on_no_other_hospital(plays: Plays) -> None:
    """Change one hospital's training images, tell the others what they were told before, compare what they do."""
    if pools_data(plays.method):
        raise CheckSkipped("it is not federated: all data lies in one place.")
    before = plays.shared
    after = played(
        plays.method,
        engine=lambda sites: Replaying(sites, before),
        data=negative(lambda client, split: (client, split) == ("south", "train")),
    )
    others = [_sent_by(one.sent, lambda client: client != "south") for one in (before, after)]
    for one, other in zip(*others, strict=True):
        require(
            one == other,
            f"{one.client} sends something else in round {one.round} when only the images at south change.",
        )
    for client in before.kept["clients"]:
        if client != "south":
            same(before.kept["clients"][client], after.kept["clients"][client], f"at {client}, when south changes")


def tests_influence_only_scores(plays: Plays) -> None:
    """Change all test images; compare all that is kept but scores and what they are scores of."""
    kept = plays.shared.kept
    toy = toy_federation(plays.method, rounds=ROUNDS, data=negative(lambda client, split: split == "test"))
    trees = [{k: v for k, v in one.items() if k not in ("tables", "found")} for one in (kept, toy.play().kept())]
    same(trees[0], trees[1], "with other test images")


def holds_no_image(plays: Plays) -> None:
    """Search every message for a training image or mask."""
    for one in _sent_by(plays.shared.sent):
        path = contains_image(one.message, toy_images(one.client, "train"))
        require(path is None, f"a training image of {one.client} is in its message of round {one.round}, {path}.")


def finite_and_small(plays: Plays) -> str:
    """Look at every number that travels, and count bytes."""
    first = plays.shared
    for one in first.sent:
        where = f"{'from' if one.way == 'up' else 'to'} {one.client} in round {one.round}"
        for path, value in leaves(one.message).items():
            require(_finite(value), f"the message {where} holds a number at {path} that is not finite.")
    model = encoded_size(dict(next(iter(first.kept["clients"].values()))["model"]))
    sizes = {way: _largest(first.sent, way, once=False) for way in ("up", "down")}
    # what is sent once has the same limit: all four pictures of a toy hospital are a fifth of the model
    once = {f"{way} before round 1": _largest(first.sent, way, once=True) for way in ("up", "down")}
    for way, size in {**sizes, **once}.items():
        require(
            size <= _LARGE * model,
            f"a client's message {way} has {size:,} bytes, {size / model:.1f} times the model's {model:,}; "
            f"{_LARGE} times are allowed.",
        )
    shares = ", ".join(f"{size:,} bytes {way} ({size / model:.2f} x the model)" for way, size in sizes.items())
    more = [f"{size:,} {way}" for way, size in once.items() if size]
    return "; ".join([f"{shares} per client and round", *more])


def _largest(sent: Iterable[Sent], way: str, once: bool) -> int:
    """Return the bytes of the largest message sent in rounds, or before them."""
    return max((len(one.encoded) for one in sent if one.way == way and (one.round == 0) == once), default=0)


def _sent_by(sent: Iterable[Sent], who: Callable[[str], bool] = lambda client: True) -> list[Sent]:
    return [one for one in sent if one.way == "up" and who(one.client)]


def _finite(value: object) -> bool:
    """Say whether a plain number is finite; a tensor that is not has stopped the play."""
    return not isinstance(value, float) or math.isfinite(value)
