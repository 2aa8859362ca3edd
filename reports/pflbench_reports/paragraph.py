"""The methods-and-protocol text of a paper, said from the specifications of the trials and from nothing else."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pflbench_reports.cost import environments
from pflbench_reports.groups import Group
from pflbench_reports.protocol import SELECTION, clients_of, first_trials
from pflbench_reports.tables import has_volumes
from pflbench_reports.text import assignments, listed, plain, several

_AUGMENTATIONS = {
    "flips+turns": "random flips and turns by right angles",
    "flips": "random flips",
    "none": "no augmentation",
}
_SPREADS = (
    "Numbers are means over seeds; the deviation beside a client's mean is over seeds, the one beside an average "
    "over clients is between clients, both as population standard deviations."
)


def paragraphs(group: Group) -> list[str]:
    """Return the text in three paragraphs: data, training, evaluation and software; none for a file of scores.

    A sentence is left out where the specification does not state what it would say.
    """
    if not group.trials:
        return []
    parts = (_data(group), _methods(group), _training(group.spec["recipe"]), [*_evaluation(group), *_software(group)])
    return [" ".join(part) for part in parts if part]


def _data(group: Group) -> list[str]:
    spec = group.spec
    dataset, partitioner = spec["dataset"], spec["partitioner"]
    kind = "simulated data (no patient's images)" if group.simulated else "the data"
    sentences = [
        f"We used {kind} “{dataset['title']}” ({dataset['name']}{_given(dataset)}), partitioned as "
        f"“{partitioner['title']}” ({partitioner['name']}{_given(partitioner)})."
    ]
    if clients := clients_of(group):
        sentences.append(f"The {several(len(clients), 'client')}: {'; '.join(_client(c) for c in clients)}.")
    remarks = dict.fromkeys(str(line) for trial in group.trials for line in trial.about.get("remarks") or ())
    return [*sentences, *(remark if remark.endswith(".") else f"{remark}." for remark in remarks)]


def _given(part: Mapping[str, Any]) -> str:
    settings = part.get("settings") or {}
    return f"; {assignments(settings)}" if settings else ""


def _client(client: Mapping[str, Any]) -> str:
    names = {"train": "training", "val": "validation", "test": "test"}
    counts = [f"{client[key]} {word}" for key, word in names.items() if key in client]
    return f"{client.get('name')} ({listed(counts)} cases)" if counts else str(client.get("name"))


def _methods(group: Group) -> list[str]:
    first = first_trials(group)
    sentences = [f"We compared {listed(list(first))}."]
    for display, trial in first.items():
        if settings := trial.spec["method"].get("settings"):
            sentences.append(f"{display} was run with {assignments(settings)}.")
    owners: dict[str, list[str]] = {}
    for display, trial in first.items():
        if travels := str(trial.about.get("travels") or "").rstrip("."):
            owners.setdefault(travels, []).append(display)
    said = [f"{listed(names)}: {travels}" for travels, names in owners.items()]
    return [*sentences, f"What leaves a client: {'; '.join(said)}."] if said else sentences


def _training(recipe: Mapping[str, Any]) -> list[str]:
    return [
        sentence.format(**{name: plain(recipe[name]) for name in names})
        for names, sentence in (
            (("image_height", "image_width"), "Images have {image_height} × {image_width} pixels."),
            (
                ("base_width",),
                "Every method trains the same four-stage UNet with {base_width} channels in its first stage.",
            ),
            (
                ("rounds", "epochs", "batch"),
                "Training takes {rounds} rounds of {epochs} local epochs with batches of {batch}.",
            ),
            (("lr",), "The optimiser is Adam with a learning rate of {lr}."),
            (("lr_decay",), "The learning rate is multiplied by {lr_decay} after every round."),
            (("weight_decay",), "Weight decay (L2, coupled) is {weight_decay}."),
            (("optimizer_state",), "The optimiser's state is {optimizer_state} across rounds."),
        )
        if all(name in recipe for name in names)
    ] + _loss(recipe)


def _loss(recipe: Mapping[str, Any]) -> list[str]:
    sentences = []
    if "bce_share" in recipe:
        share = float(recipe["bce_share"])
        sentences.append(f"The loss is {share:g} × binary cross-entropy + {1 - share:g} × soft Dice loss.")
    if "augment" in recipe:
        name = str(recipe["augment"])
        sentences.append(f"Augmentation: {_AUGMENTATIONS.get(name, name)}.")
    return sentences


def _evaluation(group: Group) -> list[str]:
    recipe, sentences = group.spec["recipe"], []
    if "validation" in recipe:
        drawn = ", the same for every seed" if recipe.get("fixed_split") else ", drawn anew for every seed"
        share = f"{100 * float(recipe['validation']):g} % of the training subjects are held out for validation"
        sentences.append(f"{share}{drawn if 'fixed_split' in recipe else ''}.")
    sentences.append(f"Scores are those of the model at the {SELECTION}; those after the last round stand beside them.")
    if "threshold" in recipe:
        each = "slice" if has_volumes(group) else "test image"
        sentences.append(
            f"The score is Dice in percent, per {each}, averaged over a client's cases; a pixel is foreground above "
            f"a probability of {plain(recipe['threshold'])}."
        )
    return [*sentences, _seeds(group), _SPREADS]


def _seeds(group: Group) -> str:
    """Return the seeds of all methods, and of those apart that lack one."""
    own: dict[str, set[int]] = {}
    for trial in group.finished:
        own.setdefault(group.variants[trial.id].display, set()).add(int(trial.spec["seed"]))
    every = set().union(*own.values())
    if not every:
        return "No training has finished."
    fewer = [f"{display} only with {_numbered(seeds)}" for display, seeds in sorted(own.items()) if seeds != every]
    but = f", but {listed(fewer)}" if fewer else ""
    return f"Every method was trained with {_numbered(every)}{but}."


def _numbered(seeds: set[int]) -> str:
    return f"{'seed' if len(seeds) == 1 else 'seeds'} {listed([str(seed) for seed in sorted(seeds)])}"


def _software(group: Group) -> list[str]:
    """Return the versions and machines that all trials recorded; several values where they differ."""
    found = [entry for trial in group.trials for entry in environments(trial)]
    versions = {
        name: list(dict.fromkeys(str(entry[name]) for entry in found if entry.get(name)))
        for name in ("pflbench", "commit", "python", "torch", "cpu", "gpu")
    }
    precision = (group.spec.get("numerics") or {}).get("precision")
    said = [f"{name} {' / '.join(values)}" for name, values in versions.items() if values]
    sentences = [f"Training was computed in {precision}."] if precision else []
    return [*sentences, f"Software and machine: {', '.join(said)}."] if said else sentences
