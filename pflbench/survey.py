"""What a federation holds before anybody trains: who has how many cases, the split file, the portrait."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pflbench import pixels
from pflbench.asked import settings_by_owner
from pflbench.errors import UsageError
from pflbench.partition import Split, split_hash
from pflbench.plan import Request, open_partitioner, open_request, recipes_of
from pflbench.plugins import Registry
from pflbench.portrait import Holding, portray
from pflbench.recipe import Recipe
from pflbench.splitfile import write_split
from pflbench.task import Source, locate


@dataclass(frozen=True)
class Survey:
    """A federation that could be trained: its data, recipe and the split of one seed."""

    source: Source
    recipe: Recipe
    seed: int
    splits: dict[str, Split]

    @property
    def rows(self) -> list[tuple[str, str, int, int, int, int]]:
        """Client, the sites its cases come from, subjects, and cases for training, validation and testing."""
        return [_row(client, split) for client, split in self.splits.items()]

    @property
    def left_out(self) -> int:
        """How many cases of the chosen sites no client holds."""
        held = sum(len(part) for split in self.splits.values() for part in (split.train, split.val, split.test))
        return sum(len(self.source.index[site]) for site in self.source.sites) - held

    def write_split(self, path: Path) -> None:
        """Write the split with every case's hash."""
        source = self.source
        about = {
            "dataset": {"name": source.dataset.name, "settings": source.dataset.settings(), "sites": source.sites},
            "partitioner": {"name": source.partitioner.name, "settings": source.partitioner.settings()},
            "seed": self.seed,
            "split": split_hash(self.splits),
        }
        write_split(path, self.splits, source.content, about)

    def portrait(self, report: Callable[[int, int], None] = lambda done, total: None) -> dict[str, Any]:
        """Return the numbers of the overview picture, of every client that trains."""
        source, recipe = self.source, self.recipe
        cache = pixels.open_cache(
            source.dataset, source.index, source.content, recipe.image_height, recipe.image_width, report
        )
        holdings = {}
        for client, split in self.splits.items():
            if not split.is_guest:
                cases = [*split.train, *split.val]
                taken = cache.take(cases)
                names, subjects = [case.id for case in cases], [f"{case.site}/{case.subject}" for case in cases]
                holdings[client] = Holding(taken.images, taken.masks, names, subjects)
        title = f"{source.dataset.title}, {source.partitioner.title}"
        return portray(holdings, title, source.dataset.simulated).plain()


def _row(client: str, split: Split) -> tuple[str, str, int, int, int, int]:
    cases = [*split.train, *split.val, *split.test]
    sites = ", ".join(dict.fromkeys(case.site for case in cases))
    subjects = len({(case.site, case.subject) for case in cases})
    return client, sites, subjects, len(split.train), len(split.val), len(split.test)


def survey(request: Request, registry: Registry) -> Survey:
    """Return the federation of a request with the split of its first seed. Raises UsageError or DataError."""
    options = settings_by_owner(request.settings)
    cls = registry.dataset(request.dataset)
    dataset = locate(cls, registry.dataset, request.data_root, options.pop(cls.name, {}))
    partitioner = open_partitioner(request, registry, options)
    recipe = recipes_of(dataset, request.preset, options.pop("recipe", {}), {})[0]
    if options:
        raise UsageError(
            f"{next(iter(options))}.{next(iter(next(iter(options.values()))))} is set, but only {cls.name}, "
            f"{partitioner.name} and recipe take part here."
        )
    source = open_request(request, dataset, partitioner)
    seed = request.seeds[0]
    return Survey(source, recipe, seed, source.splits(recipe, seed))
