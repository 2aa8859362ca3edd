"""What a command means: which trials, on which data, with which settings. Nothing is trained here."""

from __future__ import annotations

import inspect
import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pflbench import version
from pflbench.admission import check_functions
from pflbench.asked import settings_by_owner
from pflbench.dataset import Dataset
from pflbench.editable import written_version
from pflbench.errors import UsageError, unknown
from pflbench.faults import blamed, described, ended
from pflbench.method import Method, TaskCard
from pflbench.numerics import Numerics, choose
from pflbench.origin import origin_of
from pflbench.partition import Partitioner, Split, split_hash
from pflbench.plugin_files import PluginFile
from pflbench.plugins import Plugin, Registry
from pflbench.recipe import Recipe
from pflbench.spec import folder_name, label, specification
from pflbench.splitfile import Prescribed
from pflbench.task import Source, card, chosen_public, chosen_sites, locate, open_source, pooled_card, pools_data


@dataclass(frozen=True)
class Request:
    """What the user asked for, as the command line or ``pflbench.run`` gives it."""

    methods: Sequence[str | Method] = ("all",)
    dataset: str = "vessel"
    seeds: tuple[int, ...] = (0, 1, 2)
    partitioner: str = "natural"
    split: Path | None = None  # a split file, instead of a partitioner
    preset: str | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)  # "resfim.delta" -> value
    sweep: Mapping[str, Sequence[Any]] = field(default_factory=dict)  # "resfim.delta" -> values
    sites: tuple[str, ...] | None = None
    public: tuple[str, ...] | None = None  # sites that are no client; the server has their images, without masks
    data_root: Path | None = None
    device: str = "auto"
    out: Path = Path("runs")
    pictures: bool = True  # keep test images beside the results
    command: str = ""


@dataclass(frozen=True)
class PlannedTrial:
    """One trial to run: its specification, what explains it, and the method itself."""

    spec: Mapping[str, Any]
    about: Mapping[str, Any]
    method: Method
    card: TaskCard
    registered: bool = True  # the method can be found by name, as another process must

    @property
    def name(self) -> str:
        """The name of its folder."""
        return folder_name(self.spec)


@dataclass(frozen=True)
class Plan:
    """All trials of a request, what was left out and why, and the data they share."""

    trials: tuple[PlannedTrial, ...]
    skipped: tuple[str, ...]
    source: Source
    out: Path
    pictures: bool = True
    plugins: tuple[PluginFile, ...] = ()  # files that other processes must load too

    @property
    def banner(self) -> str | None:
        """A warning where the data is simulated."""
        dataset = self.source.dataset
        if not dataset.simulated:
            return None
        return (
            f"SIMULATED DATA ({dataset.name}): no real data was found or asked for. These numbers say nothing "
            "about patients; give real data with --data-root or PFLBENCH_DATA."
        )


def make_plan(request: Request, registry: Registry) -> Plan:
    """Turn a request into trials. Raises UsageError for anything that is unknown, missing or contradictory."""
    for key, values in request.sweep.items():
        if not values:
            raise UsageError(f"the sweep of {key} names no value; write {key}=V1,V2.")
        if key in request.settings:
            raise UsageError(f"{key} is both set and swept; leave one out.")
    options = settings_by_owner(request.settings)
    swept = settings_by_owner(request.sweep)
    dataset_class = registry.dataset(request.dataset)
    with blamed(f"the dataset {dataset_class.name}", dataset_class):
        dataset = locate(dataset_class, registry.dataset, request.data_root, options.pop(dataset_class.name, {}))
    partitioner = open_partitioner(request, registry, options)
    recipes = recipes_of(dataset, request.preset, options.pop("recipe", {}), swept.pop("recipe", {}))
    methods = _methods(request.methods, registry, options, swept)
    _refuse_unused(options, swept, [dataset_class.name, partitioner.name, "recipe", *(m.name for m, _ in methods)])
    source = open_request(request, dataset, partitioner)
    trials: list[PlannedTrial] = []
    skipped: list[str] = []
    for recipe in recipes:
        numerics = choose(request.device, recipe.precision)
        resolved = Recipe.of({**recipe.settings(), "precision": numerics.precision})
        for seed in request.seeds:
            trials += _trials_of_seed(source, resolved, numerics, seed, methods, request.command, skipped)
    distinct = list({trial.name: trial for trial in trials}.values())  # a sweep may come to the same twice
    ordered = sorted(distinct, key=lambda trial: request.seeds.index(trial.spec["seed"]))
    return Plan(tuple(ordered), tuple(dict.fromkeys(skipped)), source, request.out, request.pictures, registry.files)


def open_partitioner(request: Request, registry: Registry, options: dict[str, dict[str, Any]]) -> Partitioner:
    """Return the partitioner with its settings, which are taken out of ``options``, or that of the split file."""
    if request.split is not None:
        if request.partitioner != "natural":
            raise UsageError(f"--split and --partitioner {request.partitioner} contradict each other; give one.")
        return Prescribed.read(request.split)
    cls = registry.partitioner(request.partitioner)
    return cls.of(options.pop(cls.name, {}))


def open_request(request: Request, dataset: Dataset, partitioner: Partitioner) -> Source:
    """Return the data of a request: its sites shared out to clients, its public ones at the server."""
    with blamed(f"{dataset.name} shared out by {partitioner.name}", type(dataset), type(partitioner)):
        public = chosen_public(dataset, request.public, request.sites)
        sites = tuple(site for site in sites_for(dataset, request.sites, partitioner) if site not in public)
        if not sites:
            raise UsageError(f"every site of {dataset.name} is public; leave some as clients.")
        return open_source(dataset, sites, partitioner, public)


def sites_for(dataset: Dataset, wanted: Sequence[str] | None, partitioner: Partitioner) -> tuple[str, ...]:
    """Return the sites of the federation: those asked for, or those that the split file names."""
    if isinstance(partitioner, Prescribed) and not wanted:
        here = dataset.available()
        return partitioner.sites(here, {site: dataset.cases(site) for site in here})
    return chosen_sites(dataset, wanted)


def _trials_of_seed(
    source: Source,
    recipe: Recipe,
    numerics: Numerics,
    seed: int,
    methods: Sequence[tuple[Method, Plugin | None]],
    command: str,
    skipped: list[str],
) -> list[PlannedTrial]:
    """Return the trials of one seed; why a method cannot run is added to ``skipped``."""
    with blamed(f"the partitioner {source.partitioner.name}", type(source.partitioner)):
        splits = source.splits(recipe, seed)
    natural = card(source, recipe, splits)
    trials = []
    for method, plugin in methods:
        task = pooled_card(natural) if pools_data(method) else natural
        reason = _unsuitable(method, task) or _without_newcomers(method, task)
        if reason:
            skipped.append(f"{method.title} is skipped: {reason}")
            continue
        spec = specification(
            version=version.__version__,
            dataset=_dataset_spec(source),
            partitioner=_partitioner_spec(source.partitioner),
            split=split_hash(splits),
            method=_method_spec(method, plugin),
            recipe=recipe.settings(),
            numerics=numerics.plain(),
            seed=seed,
        )
        about = _about(method, source, _counts(splits), command)
        trials.append(PlannedTrial(spec, about, method, task, plugin is not None))
    return trials


def _unsuitable(method: Method, task: TaskCard) -> str | None:
    """Return why a method cannot run on a task. Raises UsageError where it cannot say, nor what its rounds cost."""
    reason: Any = _asked(method, "unsuitable", task)
    if reason is not None and not isinstance(reason, str):
        raise UsageError(f"{method.name}.unsuitable returned {reason!r}; return a sentence that says why, or None.")
    _asked(method, "extra_gradients", task)
    return reason


def _asked(method: Method, function: str, *arguments: Any) -> Any:
    """Return what a method answers before anything is trained. Raises UsageError with the line that fails."""
    try:
        return getattr(method, function)(*arguments)
    except Exception as error:
        raise UsageError(f"{method.name}.{function}: {described(error, type(method))}") from error


def _without_newcomers(method: Method, task: TaskCard) -> str | None:
    if not task.guests or vars(type(method)).get("newcomers"):
        return None
    return f"it has no model for a hospital that never trains ({', '.join(task.guests)})."


def _counts(splits: Mapping[str, Split]) -> list[dict[str, Any]]:
    return [
        {"name": client, "train": len(split.train), "val": len(split.val), "test": len(split.test)}
        for client, split in splits.items()
    ]


def _partitioner_spec(partitioner: Partitioner) -> dict[str, Any]:
    changed = label(partitioner.changed()) if partitioner.name != Prescribed.name else ""
    title = f"{partitioner.title} ({changed})" if changed else partitioner.title
    return {"name": partitioner.name, "title": title, "settings": partitioner.settings()}


def recipes_of(
    dataset: Dataset, preset: str | None, fixed: Mapping[str, Any], swept: Mapping[str, Sequence[Any]]
) -> list[Recipe]:
    """Return the preset's recipe with what is set, once for each combination of what is swept."""
    name = preset or dataset.default_preset
    if name not in dataset.presets:
        raise unknown(f"preset of {dataset.name}", name, dataset.presets)
    base = {**dataset.presets[name], **fixed}
    return [Recipe.of({**base, **choice}) for choice in _choices(swept)]


def _choices(swept: Mapping[str, Sequence[Any]]) -> list[dict[str, Any]]:
    return [dict(zip(swept, values, strict=True)) for values in itertools.product(*swept.values())]


def _methods(
    wanted: Sequence[str | Method],
    registry: Registry,
    options: dict[str, dict[str, Any]],
    swept: dict[str, dict[str, Sequence[Any]]],
) -> list[tuple[Method, Plugin | None]]:
    """Return every method with its settings, in the order asked for, and the plugin it came with."""
    found: list[tuple[Method, Plugin | None]] = []
    for entry in _expanded(wanted, registry):
        if isinstance(entry, Method):
            _check_value(entry)
            found.append((entry, _plugin_of(type(entry), registry)))
            continue
        cls, plugin = registry.method(entry), registry.get("method", entry)[1]
        own = _pooled([options.pop(name, {}) for name in (cls.name, *vars(cls).get("aliases", ()))])
        sweep = _pooled([swept.pop(name, {}) for name in (cls.name, *vars(cls).get("aliases", ()))])
        found += [(cls.of({**own, **choice}), plugin) for choice in _choices(sweep)]
    return list(dict.fromkeys(found))


def _check_value(method: Method) -> None:
    """Refuse a value of the user's own whose class would not do what it says. Raises UsageError."""
    try:
        check_functions(Method, type(method))
    except UsageError as error:
        raise UsageError(f"the method {type(method).__name__} cannot be run: {ended(str(error))}") from None


def _pooled(parts: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    return {name: value for part in parts for name, value in part.items()}


def _expanded(wanted: Sequence[str | Method], registry: Registry) -> list[str | Method]:
    """Return names with "all" and "paper" spelled out, each method once."""
    entries: list[str | Method] = []
    for entry in wanted:
        if entry == "all":
            entries += registry.names("method")
        elif entry == "paper":
            entries += [name for name in registry.names("method") if vars(registry.method(name)).get("in_paper")]
        elif isinstance(entry, str):
            entries.append(registry.method(entry).name)
        else:
            entries.append(entry)
    if not entries:
        raise UsageError(f"--methods names no method; known: {', '.join(registry.names('method'))}.")
    return list(dict.fromkeys(entries))


def _plugin_of(cls: type[Method], registry: Registry) -> Plugin | None:
    found = registry.found["method"].get(cls.name)
    return found[1] if found and found[0] is cls else None


def _refuse_unused(
    options: Mapping[str, Mapping[str, Any]], swept: Mapping[str, Mapping[str, Any]], known: Sequence[str]
) -> None:
    for owner, values in {**swept, **options}.items():
        setting = f"{owner}.{next(iter(values))}"
        raise UsageError(f"{setting} is set, but {unknown('part of this run', owner, known)}")


def _dataset_spec(source: Source) -> dict[str, Any]:
    dataset = source.dataset
    public = {"public": {"sites": list(source.public), "digest": source.public_digest}} if source.public else {}
    return {
        "name": dataset.name,
        "title": dataset.title,
        "simulated": dataset.simulated,
        "settings": dataset.settings(),
        "sites": list(source.sites),
        "digest": source.digest,
        **public,
        **origin_of(type(dataset)),  # changed code gives other pixels of the same files
    }


def _method_spec(method: Method, plugin: Plugin | None) -> dict[str, Any]:
    return {
        "name": method.name,
        "title": method.title,
        "label": label(method.changed()),
        "settings": method.settings(),
        "distribution": plugin.distribution if plugin else "unregistered",
        "version": plugin.version if plugin else written_version(type(method)),
    }


def _about(method: Method, source: Source, clients: list[dict[str, Any]], command: str) -> dict[str, Any]:
    dataset = source.dataset
    summary = " ".join((inspect.getdoc(type(method)) or "").split("\n\n")[0].split())
    sites = (*source.sites, *source.public)
    return {
        "clients": clients,
        "licences": {site: dataset.licence.get(site, "unknown") for site in sites},
        "citations": {site: dataset.citation.get(site, "") for site in sites},
        "remarks": list(dataset.remarks()),
        "method_citation": method.citation,
        "method_summary": summary,
        "travels": method.travels,
        "federated": not pools_data(method),
        **_asked(method, "policies"),
        "command": command,
    }
