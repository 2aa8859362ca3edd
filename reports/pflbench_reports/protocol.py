"""What a reviewer asks about a section: protocol, data, methods, machines and the command to repeat it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd

from pflbench.results import Trial
from pflbench_reports.cost import environments
from pflbench_reports.display import Cell, Table
from pflbench_reports.groups import Group
from pflbench_reports.tables import splits_of
from pflbench_reports.text import MISSING, assignments, flat, listed, plain

SELECTION = "best validation round in the second half, per client"
Facts = list[tuple[str, str]]


@dataclass(frozen=True)
class MethodCard:
    """What a reader must know of one method: idea, what leaves the hospital, settings, source."""

    display: str
    summary: str
    travels: str
    settings: str
    source: str
    citation: str


def method_cards(group: Group, order: Iterable[str]) -> list[MethodCard]:
    """Return one card per method, those of the table first and in its order."""
    first = {group.variants[trial.id].display: trial for trial in reversed(group.trials)}
    names = [name for name in order if name in first]
    names += sorted(set(first) - set(names))
    return [_card(name, first[name]) for name in names]


def _card(display: str, trial: Trial) -> MethodCard:
    method, about = trial.spec["method"], trial.about
    return MethodCard(
        display=display,
        summary=str(about.get("method_summary") or MISSING),
        travels=str(about.get("travels") or MISSING),
        settings=assignments(method.get("settings") or {}),
        source=f"{method.get('distribution', MISSING)} {method.get('version', '')}".strip(),
        citation=str(about.get("method_citation") or MISSING),
    )


def protocol_facts(group: Group) -> Facts:
    """Return the recipe, the rule that picks the model and everything else that all trials share."""
    spec = group.spec
    facts = [(f"Recipe: {key}", plain(value)) for key, value in flat(spec["recipe"]).items()]
    facts += [("Model selection", SELECTION), ("Mask threshold", "0.5")]
    facts += [(f"Numerics: {key}", plain(value)) for key, value in flat(spec.get("numerics", {})).items()]
    for part in ("dataset", "partitioner"):
        settings = spec[part].get("settings") or {}
        facts.append(
            (
                part.capitalize(),
                f"{spec[part]['title']} ({spec[part]['name']}); settings: {assignments(settings)}",
            )
        )
    facts += [("Data", remark) for remark in _remarks(group)]
    facts.append(("Dataset digest", str(spec["dataset"].get("digest", MISSING))))
    splits = splits_of(group.trials)
    facts += [(f"Split of seed {seed}", listed(hashes)) for seed, hashes in splits.items()]
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


def client_table(group: Group) -> Table | None:
    """Return the cases per client and split; None where no trial recorded them."""
    clients: list[Mapping[str, Any]] = next(
        (list(t.about["clients"]) for t in group.trials if t.about.get("clients")), []
    )
    if not clients:
        return None
    counts = pd.DataFrame([{"client": c.get("name"), **{s: c.get(s) for s in _SPLITS}} for c in clients])
    rows = [[str(c.get("name")), *(str(c.get(split, MISSING)) for split in _SPLITS)] for c in clients]
    total = ["All", *(str(int(pd.to_numeric(counts[split], errors="coerce").sum())) for split in _SPLITS)]
    cells = tuple(tuple(Cell(text) for text in row) for row in [*rows, total])
    return Table("Cases per client", ("Client", "Train", "Validation", "Test"), cells, (), {"clients": counts})


_SPLITS = ("train", "val", "test")


def sources(group: Group) -> list[tuple[str, str, str]]:
    """Return (site, licence, citation) for every site that any trial of the group names."""
    licences: dict[str, str] = {}
    citations: dict[str, str] = {}
    for trial in group.trials:
        licences |= {str(k): str(v) for k, v in (trial.about.get("licences") or {}).items()}
        citations |= {str(k): str(v) for k, v in (trial.about.get("citations") or {}).items()}
    sites = list(dict.fromkeys([*licences, *citations]))
    return [(site, licences.get(site, MISSING), citations.get(site, MISSING)) for site in sites]


def commands(group: Group) -> list[str]:
    """Return the different commands that made the trials, in the order of the trials."""
    return list(dict.fromkeys(str(t.about["command"]) for t in group.trials if t.about.get("command")))
