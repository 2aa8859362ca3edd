"""Write docs/datasets.md from the installed datasets: sites, counts, licences, sources, presets, settings."""

from __future__ import annotations

import re
from collections.abc import Iterator

from from_code import WRITTEN, joined, linked, prose, settings, table, typed, write

from pflbench.dataset import Dataset
from pflbench.plugins import registry
from pflbench.recipe import Recipe

NAME = "datasets.md"
INTRODUCTION = f"""{WRITTEN}

# Datasets

No images come with pflbench. `pflbench data download NAME` fetches what anyone may fetch and says how to get the
rest; `pflbench data import NAME --from FOLDER` brings a release in, as it was downloaded; `pflbench data status`
says what is here. Where real data is lacking, its simulated stand-in is used, and everything that is written says
so. `--set NAME.SETTING=VALUE` changes a setting, `--preset NAME` chooses a [recipe](recipe.md).
`pflbench list datasets` and `pflbench data list` print what stands here. One of your own: [without
code](own-data.md), or by [the hook](hooks/datasets.md).
"""
_COMMAND = re.compile(r"'?((?:pflbench data import \w+ --from|git clone|gdown) [\w:/.-]*[\w-])'?")


def page() -> str:
    """Return the page as Markdown."""
    return joined([INTRODUCTION, *_overview(), *(line for cls in datasets() for line in _dataset(cls))])


def datasets() -> list[type[Dataset]]:
    """Return the datasets that pflbench brings, in their order."""
    return [cls for cls, plugin in registry().found["dataset"].values() if plugin.distribution == "pflbench"]


def _overview() -> Iterator[str]:
    rows = (
        [f"[`{cls.name}`](#{cls.name})", title(cls), ", ".join(cls.sites) or "whatever lies there", _without(cls)]
        for cls in datasets()
    )
    yield from table(["dataset", "", "sites", "without real data"], rows)


def title(cls: type[Dataset]) -> str:
    """Return a dataset's title, told apart from that of the real data it stands in for."""
    return f"{cls.title}, simulated" if cls.simulated else cls.title


def _without(cls: type[Dataset]) -> str:
    return f"`{cls.stand_in}`" if cls.stand_in else ""


def _dataset(cls: type[Dataset]) -> Iterator[str]:
    yield f'<a id="{cls.name}"></a>\n\n## {title(cls)} (`{cls.name}`)\n\n{prose(cls)}\n'
    if cls.sites:
        yield f"Images have {cls.channels} channel{'s' if cls.channels > 1 else ''}. {_counted(cls)}\n"
    yield from table(
        ["site", "images or subjects", "licence", "citation"],
        ([_linked(cls, site), counts(cls, site), cls.licence.get(site, ""), cls.citation.get(site, "")] for site in
         (*cls.sites, *cls.public_sites)),
    )  # fmt: skip
    if cls.instructions:
        yield "How to get it:\n"
        yield from _instructions(cls)
    yield from settings(cls)
    yield from _presets(cls)


def counts(cls: type[Dataset], site: str) -> str:
    """Return how many images for training and testing, or subjects, the site is expected to have."""
    if site in cls.expected:
        return "{} / {}".format(*cls.expected[site])
    if site in cls.expected_subjects:
        return f"{cls.expected_subjects[site]} subjects"
    return "no client's: the server may use them, without masks" if site in cls.public_sites else "not known"


def _counted(cls: type[Dataset]) -> str:
    return "Counts are images for training / for testing." if cls.expected else "There is no official split."


def _linked(cls: type[Dataset], site: str) -> str:
    return f"[{site}]({cls.addresses[site]})" if site in cls.addresses else site


def _instructions(cls: type[Dataset]) -> Iterator[str]:
    """Yield one item for all sites that are had in the same way."""
    alike: dict[str, list[str]] = {}
    for site in cls.sites:
        alike.setdefault(_how(cls, site), []).append(site)
    yield from (f"- {', '.join(sites)}: {how}" for how, sites in alike.items())
    yield ""


def _how(cls: type[Dataset], site: str) -> str:
    fetched = f"`pflbench data download {cls.name} --sites {site}`, or by hand: " if site in cls.downloads else ""
    return fetched + linked(_COMMAND.sub(r"`\1`", cls.instructions[site]))


def _presets(cls: type[Dataset]) -> Iterator[str]:
    """Yield the presets side by side, those fields of the recipe that one of them gives."""
    given = {name for preset in cls.presets.values() for name in preset}
    yield f"Presets of the recipe; `{cls.default_preset}` unless `--preset` says otherwise:\n"
    yield from table(
        ["", *(f"`{name}`" for name in cls.presets)],
        (
            [f"`recipe.{name}`", *(typed(preset.get(name, getattr(Recipe, name))) for preset in cls.presets.values())]
            for name in Recipe.setting_names()
            if name in given
        ),
    )


if __name__ == "__main__":
    write(NAME, page())
