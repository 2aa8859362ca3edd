"""Write docs/partitioners.md from the installed partitioners."""

from __future__ import annotations

from collections.abc import Iterator

from from_code import WRITTEN, joined, prose, settings, write

from pflbench.partition import Partitioner
from pflbench.plugins import registry

NAME = "partitioners.md"
INTRODUCTION = f"""{WRITTEN}

# Partitioners

A partitioner decides which client holds which case: `--partitioner NAME --set NAME.SETTING=VALUE`. Whatever it
decides, no subject may sit in two clients or in two splits; the core refuses it. `pflbench data show` draws what a
partitioner makes of a dataset and writes the split to a file that `pflbench run --split` takes;
`pflbench list partitioners` prints what stands here. One of your own: [the hook](hooks/partitioners.md).
"""


def page() -> str:
    """Return the page as Markdown."""
    return joined([INTRODUCTION, *(line for cls in partitioners() for line in _partitioner(cls))])


def partitioners() -> list[type[Partitioner]]:
    """Return the partitioners that pflbench brings, in their order."""
    return [cls for cls, plugin in registry().found["partitioner"].values() if plugin.distribution == "pflbench"]


def _partitioner(cls: type[Partitioner]) -> Iterator[str]:
    yield f'<a id="{cls.name}"></a>\n\n## `{cls.name}`: {cls.title}\n\n{prose(cls)}\n'
    yield from settings(cls)


if __name__ == "__main__":
    write(NAME, page())
