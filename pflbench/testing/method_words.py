"""What must hold of a method's words: they are its own, and they fit what its play shows."""

from __future__ import annotations

import re
from collections.abc import Mapping

import torch
from torch import Tensor

from pflbench.message import encoded_size
from pflbench.method import Method
from pflbench.task import pools_data
from pflbench.testing.checks import require
from pflbench.testing.method_plays import Plays
from pflbench.testing.plays import Played, leaves
from pflbench.testing.toy import differences
from pflbench.unet import UNet
from pflbench.weights import keys, layer, statistics_keys

# constant -> what to write
_OWN = {
    "citation": "citation: ClassVar[str] = 'authors, title, year, link' (or 'Unpublished, after ...')",
    "year": "year: ClassVar[int | None] = None (or that of publication)",
    "family": "family: ClassVar[Family] = 'personalized' (or 'general')",
}
_EXCEPTION = re.compile(r"\b(but|except|without|apart|save)\b")
_SHOWN = 3  # entries named of those that are missing


def cites(cls: type[Method]) -> str:
    """Look whether what it says of its paper is its own, and whether the citation leads to one."""
    lent = {name: base for name in _OWN if (base := _lender(cls, name)) is not None}
    control = cls.family == "control"
    if not control:
        lent.pop("family", None)  # its play shows whether it may be its parent's
    elif "family" not in lent:
        lent.pop("year", None)  # a control claims no paper of its own
    parents = " and ".join(dict.fromkeys(base.__name__ for base in lent.values()))
    require(
        not lent,
        f"what it says of {' and '.join(lent)} is {parents}'s; write into {cls.__name__}: "
        f"{'; '.join(_OWN[name] for name in lent)}.",
    )
    citation = cls.citation
    if control and cls.year is None:
        return citation
    if "unpublished" in citation.lower():
        return f"{citation} Give year and link when there is a paper."
    year = re.search(r"\b(19|20)\d\d\b", citation)
    require(year, f"its citation {citation!r} has no year.")
    require(
        re.search(r"https?://\S+\.\S+", citation),
        f"its citation {citation!r} has no link; give that of the paper, or of the code while there is no paper.",
    )
    require(cls.year is None or str(cls.year) in citation, f"its year is {cls.year}, which its citation does not say.")
    return citation


def _lender(cls: type[Method], constant: str) -> type[Method] | None:
    """Return the other method that a constant is of; a base without a name is none, but a part of its subclasses."""
    found = next((base for base in cls.__mro__ if constant in vars(base)), cls)
    return found if found is not cls and "name" in vars(found) else None


def says(plays: Plays) -> str:
    """Compare what it says with what it sends and keeps."""
    method, played = plays.method, plays.shared
    policies = method.policies()
    travels = str(policies.get("travels") or getattr(method, "travels", "")).strip()
    require(travels, "it does not say what leaves a hospital; write travels: ClassVar[str] = '...'.")
    lacking = [name for name in ("batch_norm", "aggregation") if not str(policies.get(name, "")).strip()]
    require(not lacking, f"policies() says nothing of {' and '.join(lacking)}; return a sentence for each.")
    words = f"{travels}; batch norm: {policies['batch_norm']}; clients weighted by: {policies['aggregation']}"
    if pools_data(method):
        return words
    sent = sum(len(one.encoded) for one in played.sent if one.way == "up")
    require(travels != "nothing" or not sent, f"it says that nothing leaves a hospital, but {sent:,} bytes do.")
    _require_own_family(type(method), played)
    return f"{words}; {_seen(travels, played)}"


def _require_own_family(cls: type[Method], played: Played) -> None:
    """Raise CheckFailed where it is "general" by its parent's word alone, and its clients' models are not one."""
    parent = _lender(cls, "family")
    if parent is None or cls.family != "general":
        return
    first, *others = [_weights(own["model"]) for own in played.kept["clients"].values()]
    own_model = cls.personal_model is not parent.personal_model
    require(
        not own_model and not any(differences(first, other) for other in others),
        f"its family is {parent.__name__}'s, general: one model for everybody; but "
        f"{'personal_model() returns another' if own_model else 'the clients end with different ones'}. "
        f"Write into {cls.__name__}: {_OWN['family']}.",
    )


def _weights(model: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: value for name, value in model.items() if value.is_floating_point()}


def _seen(travels: str, played: Played) -> str:
    """Return what travels and stays, in words. Raises CheckFailed where it says that all travels, and not all does."""
    with torch.device("meta"):  # names alone: no memory, no random numbers
        model = UNet(1, 1)
    known, clients = keys(model), list(played.kept["clients"].values())
    named, unnamed = _sent(played, known)
    staying = known - named
    under_other_names = unnamed >= sum(clients[0]["model"][name].numel() for name in staying) > 0
    missing = sorted(staying & _claimed(travels, known, statistics_keys(model)))
    require(
        not missing or under_other_names,
        f"it says {travels!r}, but {len(missing)} of {len(known)} entries of the model are in no message: "
        f"{_some(missing)}; say in travels what stays.",
    )
    more = f" under their names, and {unnamed:,} numbers under others" if under_other_names else ""
    state = {name: value for own in clients for name, value in own["state"].items()}
    kept = [] if under_other_names or not staying else [_layers(staying, known)]
    kept += [f"client.state[{name!r}] ({encoded_size({name: value}):,} bytes)" for name, value in state.items()]
    return (
        f"{len(named)} of {len(known)} entries of the model travel{more}; kept at a client: "
        f"{', '.join(kept) or 'nothing else'}"
    )


def _claimed(travels: str, known: frozenset[str], statistics: frozenset[str]) -> frozenset[str]:
    """Return the entries that it says travel: only where it says all weights, and excepts nothing."""
    clauses = [clause for clause in travels.lower().split(";") if "all weights" in clause]
    if not clauses or any(_EXCEPTION.search(clause) for clause in clauses):
        return frozenset()
    return known if any("statistics" in clause for clause in clauses) else known - statistics


def _sent(played: Played, known: frozenset[str]) -> tuple[frozenset[str], int]:
    """Return the entries of the model that some client sends by name, and how many numbers go under other names."""
    sent = [leaves(one.message) for one in played.sent if one.way == "up"]
    tensors = {path: value for tree in sent for path, value in tree.items() if isinstance(value, Tensor)}
    # a mask bears the names of what it masks, and is none of it
    names = {path: path.rpartition("/")[2] for path, value in tensors.items() if value.dtype != torch.bool}
    others = [tensors[path].numel() for path, name in names.items() if name not in known]
    return known & frozenset(names.values()), sum(others)


def _layers(entries: frozenset[str], known: frozenset[str]) -> str:
    if entries == known:
        return "all of the model"
    return f"{len(entries)} entries of the model (in {', '.join(sorted({layer(name) for name in entries}))})"


def _some(names: list[str]) -> str:
    return ", ".join(names[:_SHOWN]) + (f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else "")
