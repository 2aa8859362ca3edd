"""Write docs/recipe.md from the fields of the recipe."""

from __future__ import annotations

from from_code import WRITTEN, joined, prose, settings, write

from pflbench.recipe import Recipe

NAME = "recipe.md"
INTRODUCTION = f"""{WRITTEN}

# The recipe

The recipe says how everybody trains; no method has one of its own. Its defaults are the paper's, a preset of the
[dataset](datasets.md) replaces some of them (`--preset paper`, `--preset quick`), and a setting replaces one:
`--set recipe.rounds=20`. The recipe is part of every trial's specification: trials whose recipes differ never share
a table.
"""


def page() -> str:
    """Return the page as Markdown."""
    return joined([INTRODUCTION, f"{prose(Recipe)}\n", *settings(Recipe)])


if __name__ == "__main__":
    write(NAME, page())
