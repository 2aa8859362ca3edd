"""What a reviewer asks about a section: protocol, data, methods, machines and the command to repeat it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd

from pflbench.results import Trial
from pflbench_reports.cost import cost, environments, hardware
from pflbench_reports.display import Cell, Table
from pflbench_reports.groups import Group
from pflbench_reports.tables import splits_of
from pflbench_reports.text import MISSING, assignments, flat, listed, plain, several, size

SELECTION = "best validation round in the second half, per client"
_SPLITS = ("train", "val", "test")
Facts = list[tuple[str, str]]


@dataclass(frozen=True)
class Card:
    """What a reader must know of one method: its name, its idea, and facts about it."""

    title: str
    summary: str
    facts: Facts


def first_trials(group: Group) -> dict[str, Trial]:
    """Return the first trial of every method, by display name in alphabetical order."""
    first = {group.variants[trial.id].display: trial for trial in reversed(group.trials)}
    return dict(sorted(first.items()))


def overview(group: Group) -> Facts:
    """Return the head of a section: what ran, on which data, how often, with what, and how to repeat it."""
    if not group.trials:
        return [("Data", group.heading), ("Scores from", group.file or MISSING)]
    spec, clients = group.spec, clients_of(group)
    unfinished = f", {len(group.unfinished)} without a result" if group.unfinished else ""
    seeds = sorted({int(trial.spec["seed"]) for trial in group.trials})
    facts = [
        ("Data", f"{'SIMULATED: ' if group.simulated else ''}{spec['dataset']['title']}"),
        ("Clients", f"{len(clients)}: {listed([str(c.get('name')) for c in clients])}" if clients else MISSING),
        ("Methods", listed(list(first_trials(group)))),
        ("Seeds", listed([str(seed) for seed in seeds])),
        ("Trials", f"{len(group.finished)} finished{unfinished}"),
        ("Split", "; ".join(f"seed {seed}: {listed(hashes)}" for seed, hashes in splits_of(group.trials).items())),
    ]
    recorded = dict(environment_facts(group))
    names = {"pflbench": "pflbench", "torch": "PyTorch", "python": "Python", "commit": "Commit"}
    facts += [(title, recorded.get(name, "not recorded")) for name, title in names.items()]
    facts.append(("Machine", "; ".join(hardware(group)) or "not recorded"))
    return [*facts, ("Command", "; ".join(commands(group)) or "not recorded")]


def method_cards(group: Group, order: Iterable[str]) -> list[Card]:
    """Return one card per method that has a trial, those of the table first and in its order."""
    first = first_trials(group)
    names = [name for name in order if name in first]
    names += [name for name in first if name not in names]
    costs = cost(group).set_index("variant")
    return [_card(name, first[name], costs) for name in names]


def _card(display: str, trial: Trial, costs: pd.DataFrame) -> Card:
    method, about = trial.spec["method"], trial.about
    facts = [
        ("What leaves the hospital", str(about.get("travels") or "not stated")),
        ("Bytes sent by a client", _bytes(costs, display)),
        ("Settings", assignments(method.get("settings") or {})),
        ("From", f"{method.get('distribution', MISSING)} {method.get('version', '')}".strip()),
        ("Citation", str(about.get("method_citation") or MISSING)),
    ]
    return Card(display, str(about.get("method_summary") or MISSING), facts)


def _bytes(costs: pd.DataFrame, display: str) -> str:
    if display not in costs.index:
        return "not known: no trial has finished"
    once, each = (size(float(costs[name][display])) for name in ("setup_up_bytes", "up_bytes"))
    return "none recorded" if MISSING in (once, each) else f"once {once}, per round {each}"


def protocol_facts(group: Group) -> Facts:
    """Return the recipe, the rule that picks the model and everything else that all trials share."""
    if not group.trials:
        return []
    spec = group.spec
    facts = [(f"Recipe: {key}", plain(value)) for key, value in flat(spec["recipe"]).items()]
    facts.append(("Model selection", SELECTION))
    facts += [(f"Numerics: {key}", plain(value)) for key, value in flat(spec.get("numerics", {})).items()]
    for part in ("dataset", "partitioner"):
        settings = spec[part].get("settings") or {}
        named = f"{spec[part]['title']} ({spec[part]['name']}); settings: {assignments(settings)}"
        facts.append((part.capitalize(), named))
    facts += [("Data", remark) for remark in _remarks(group)]
    facts.append(("Dataset digest", str(spec["dataset"].get("digest", MISSING))))
    facts += [(f"Split of seed {seed}", listed(hashes)) for seed, hashes in splits_of(group.trials).items()]
    return [*facts, ("pflbench", str(spec.get("version", MISSING))), ("Comparison group", group.id)]


def _remarks(group: Group) -> list[str]:
    """Return what the dataset says about itself: which labels, which split, what was left out."""
    return list(dict.fromkeys(str(line) for trial in group.trials for line in trial.about.get("remarks") or ()))


def environment_facts(group: Group) -> Facts:
    """Return, per quantity, the different values met across the trials of the group."""
    entries = [entry for trial in group.trials for entry in environments(trial)]
    values: dict[str, list[str]] = {}
    for entry in entries:
        for key, value in entry.items():
            text = assignments(value) if isinstance(value, Mapping) else plain(value)
            if value is not None and text not in values.setdefault(key, []):
                values[key].append(text)
    return [(key, " / ".join(texts) or MISSING) for key, texts in values.items()]


def clients_of(group: Group) -> list[Mapping[str, Any]]:
    """Return what the first trial that tells recorded of each client: name and cases per split."""
    return next((list(t.about["clients"]) for t in group.trials if t.about.get("clients")), [])


def client_table(group: Group) -> Table | None:
    """Return the cases per client and split; None where no trial recorded them."""
    clients = clients_of(group)
    if not clients:
        return None
    counts = pd.DataFrame([{"client": c.get("name"), **{s: c.get(s) for s in _SPLITS}} for c in clients])
    rows = [[str(c.get("name")), *(str(c.get(split, MISSING)) for split in _SPLITS)] for c in clients]
    cells = tuple(tuple(Cell(text) for text in row) for row in rows)
    return Table("Cases per client", ("Client", "Train", "Validation", "Test"), cells, (), {"clients": counts})


def client_total(group: Group) -> str:
    """Return the cases of all clients together, in one sentence; empty where no trial recorded them."""
    clients = clients_of(group)
    names = {"train": "training", "val": "validation", "test": "test"}
    sums = [f"{sum(int(c.get(s) or 0) for c in clients)} {word}" for s, word in names.items()]
    return f"{several(len(clients), 'client')} together: {listed(sums)} cases." if clients else ""


def sources(group: Group) -> Table | None:
    """Return site, licence and citation of every site that any trial of the group names; None where none does."""
    licences: dict[str, str] = {}
    citations: dict[str, str] = {}
    for trial in group.trials:
        licences |= {str(k): str(v) for k, v in (trial.about.get("licences") or {}).items()}
        citations |= {str(k): str(v) for k, v in (trial.about.get("citations") or {}).items()}
    sites = list(dict.fromkeys([*licences, *citations]))
    rows = [(site, licences.get(site, MISSING), citations.get(site, MISSING)) for site in sites]
    cells = tuple(tuple(Cell(text) for text in row) for row in rows)
    frame = pd.DataFrame(rows, columns=["site", "licence", "citation"])
    return (
        Table("Licences and citations", ("Site", "Licence", "Citation"), cells, (), {"sources": frame})
        if rows
        else None
    )


def commands(group: Group) -> list[str]:
    """Return the different commands that made the trials, in the order of the trials."""
    return list(dict.fromkeys(str(t.about["command"]) for t in group.trials if t.about.get("command")))
