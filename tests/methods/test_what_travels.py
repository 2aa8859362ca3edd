"""What a method says leaves the hospital is what it sends, with its defaults and with every setting changed."""

import pytest
import torch
from short_federation import ENTRIES, HEAD, NORMS, PARAMETERS
from test_registered_methods import CHANGED, METHODS

from pflbench.testing.plays import leaves, played
from pflbench_methods.fedrep import FedRep
from pflbench_methods.lgfedavg import LGFedAvg
from pflbench_methods.resfim import ResFIM

ALL = frozenset(ENTRIES)
LAST_DECODER = {name for name in ENTRIES if name.startswith("dec2.")}
DECODER = {name for name in ENTRIES if name.startswith("dec")}
MASK = {f"mask of {name}" for name in PARAMETERS}
# words -> what a message then holds: entries of the model by their names, all else by its key
ONCE = {
    "the low-frequency amplitude spectrum of every training image": {"windows"},
    "the mean low-frequency amplitudes of the training images": {"window"},
    "two numbers per colour channel, the mean brightness and contrast of the training images": {"mean", "deviation"},
}
EVERY_ROUND = {
    "nothing": set(),
    "all weights and batch-norm statistics": ALL,
    "all weights and batch-norm statistics of the shared model": ALL,
    "all weights of the local copy and batch-norm statistics": ALL,
    "all weights and batch-norm statistics but the personal head": ALL,
    "all weights and batch-norm statistics but those of the head": ALL - HEAD,
    "all weights and batch-norm statistics but those of the last decoder stage and the head": ALL - HEAD - LAST_DECODER,
    "weights and batch-norm statistics of decoder and head": DECODER | HEAD,
    "the weights of the head": HEAD,
    "all weights but no batch-norm statistics": set(PARAMETERS),
    "all weights but those of normalization layers": ALL - NORMS,
    "all weights and a mask of one bit each": set(PARAMETERS) | MASK,
    "all weights, batch-norm statistics and a mask of one bit each": ALL | MASK,
    "all weights, batch-norm statistics and the number of local steps": ALL | {"steps"},
    "all weights, batch-norm statistics and the mean gradient on the own images": ALL
    | {f"variate of {name}" for name in PARAMETERS},
    "all weights and batch-norm statistics but those of the head, and one number (the Fisher trace, derived from the "
    "images and masks)": (ALL - HEAD) | {"fisher_trace"},
}
SETTINGS = [
    *(cls() for cls in METHODS if not cls.pools_data),
    *(cls(**CHANGED[cls.name]) for cls in METHODS if cls.name in CHANGED),
    FedRep(personal="none"),
    LGFedAvg(personal="none", fedavg_rounds=1),
    LGFedAvg(fedavg_rounds=1),
    *(ResFIM(statistics=statistics) for statistics in ("averaged", "follow")),
    *(ResFIM(score=score) for score in ("gradient", "random")),
]


def said(words, round):
    """Return what the words say is sent in a round, 0 being the time before the first."""
    once, rounds = words.removeprefix("once: ").split("; every round: ") if "once" in words else ("", words)
    if round == 0:
        # an explanation follows in brackets, then who is told
        return ONCE[once.split(" (")[0]] if once else set()
    first, _, then = rounds.removesuffix(", every round").rpartition(", then ")
    if first:
        last, first = first.removeprefix("up to round ").split(" ", 1)
        return EVERY_ROUND[first if round <= int(last) else then]
    return EVERY_ROUND[then]


def sent(message):
    """Return what a message holds."""
    found = set()
    for path, value in leaves(message).items():
        *folder, name = path.removeprefix("/").split("/")
        kind = folder[0] if folder else ""
        if kind == "mask":
            assert value.dtype is torch.bool
        found.add(f"{kind} of {name}" if kind in ("mask", "variate") else name)
    return found


@pytest.mark.parametrize("method", SETTINGS, ids=lambda method: f"{method.name}-{method.changed()}")
def test_what_it_says_leaves_the_hospital_is_what_it_sends(method):
    words = method.policies().get("travels", method.travels)
    rounds = method.fedavg_rounds + 1 if isinstance(method, LGFedAvg) else 1
    messages = [one for one in played(method, rounds=rounds).sent if one.way == "up"]
    assert {one.round for one in messages} >= set(range(1, rounds + 1))
    for one in messages:
        assert sent(one.message) == said(words, one.round), (one.client, one.round)
