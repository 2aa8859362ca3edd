"""Write docs/methods.md from the installed methods: what each is, what leaves a hospital, what a round costs."""

from __future__ import annotations

import csv
import functools
from collections.abc import Iterator
from pathlib import Path

import torch
from from_code import WRITTEN, prose, row, settings, write

from pflbench.api import Method, UNet, keys, norm_keys, statistics_keys
from pflbench.listing import TASK
from pflbench.plugins import registry
from pflbench.testing.cost import Cost, Sent, cost_of
from pflbench.testing.memory import peak_of_a_step

HERE = Path(__file__).parent
PAGE = HERE / "methods.md"
FAMILIES = {
    "control": "Controls: bounds to compare with",
    "general": "General: one model for everybody",
    "personalized": "Personalized: a model for each client",
}
INTRODUCTION = f"""{WRITTEN}

# Methods

`--methods NAME,NAME` chooses, `--set NAME.SETTING=VALUE` changes a setting, and `pflbench list methods` prints what
stands here. One of your own: [Your first method](first-method.md), [the hook](hooks/methods.md).
"""
ABOUT_COSTS = """## What a round costs

Counted on the paper's UNet of width 64 with three channels: P = {P:,} parameters, B = {B:,} running statistics,
h = {h} parameters of the head, a = {a:,} scales and shifts of batch norm; a number takes four bytes, so that P is
{mb:.1f} MB. C is the number of clients, E that of local epochs.

- *Sent* is per client and round: numbers, bits (eight in a byte), and bytes as they travel. *Once* is what a client
  sends before round 1 for each of its training images, at 256 x 256.
- *Gradients* are per-image gradients as multiples of FedAvg's, a mean over {rounds} rounds of E = {epochs} epochs, for
  C = {clients} clients of {images} training images each and {public} public images; the server's are multiples of what
  all clients together take. A method announces them, and one of the checks of every method compares that with a count.
  Forward passes alone are no gradients: MOON makes two more at every step, FedDF's teachers see every public image,
  AdaBN and FedAS every training image once more.
- *Memory* is the most that one client, or the server, holds at a time for backward passes, mainly feature maps, as a
  multiple of FedAvg's, which is {saved:.0f} MB at 256 x 256 with batches of four in float32; and *kept*, which comes on
  top of it, is what survives from round to round: models, optimisers' moments and state, in multiples of P numbers.
  Memory is counted tensor by tensor, without the weights and their gradients, as on a CPU (on a GPU pFL-ResFIM takes
  the gradients of eight images at once). What is kept at the server is that of three clients; only pFedLA's depends
  on their number, as it keeps a model of each. What processes were measured to take stands in
  [Speed, as measured](performance.md#every-methods-round).
- *lit.* is what the papers and their public code take. (FedSM's selector and general model serve hospitals that are
  not known, and are left out here.)

"""


def page() -> str:
    """Return the page as Markdown."""
    return "\n".join([INTRODUCTION, *_costs(), *families()]).rstrip() + "\n"


def methods() -> list[type[Method]]:
    """Return the methods that pflbench brings, in their order."""
    found = registry().found["method"].values()
    return [cls for cls, plugin in found if plugin.distribution == "pflbench"]


def counts() -> dict[str, int]:
    """Return P, B, h and a of the paper's UNet."""
    with torch.device("meta"):
        model = UNet(3, 64)
    size = {name: value.numel() for name, value in model.state_dict().items()}
    total = {
        "P": keys(model) - statistics_keys(model),
        "B": statistics_keys(model),
        "h": {"final.weight", "final.bias"},
        "a": norm_keys(model) - statistics_keys(model),
    }
    return {letter: sum(size[name] for name in names) for letter, names in total.items()}


def literature_costs() -> dict[str, dict[str, str]]:
    """Return what the literature says of a method's ``up``, ``down`` and ``gradients``, in the letters of the page."""
    with open(HERE / "literature_costs.tsv", newline="") as file:
        return {line["method"]: line for line in csv.DictReader(file, delimiter="\t")}


@functools.cache
def cost_of_default(cls: type[Method]) -> Cost:
    """Return what a method costs with its default settings; a federation is played for it, so once is enough."""
    return cost_of(cls())


def _about_costs(sizes: dict[str, int]) -> str:
    [images] = set(TASK.clients.values())
    return ABOUT_COSTS.format(
        **sizes, mb=4 * sizes["P"] / 1e6, saved=peak_of_a_step(64, 256, 4) / 1e6, clients=len(TASK.clients),
        images=images, public=TASK.public, epochs=TASK.epochs, rounds=TASK.rounds,
    )  # fmt: skip


def _costs() -> Iterator[str]:
    sizes = counts()
    literature = literature_costs()
    yield _about_costs(sizes)
    headings = ["method", "sent up", "lit.", "sent down", "lit.", "once", "gradients", "lit.", "at server"]
    headings += ["memory", "kept at client", "kept at server"]
    yield row(headings)
    yield row(["---"] * len(headings))
    for cls in methods():
        cost, lit = cost_of_default(cls), literature.get(cls.name, {"up": "", "down": "", "gradients": ""})
        yield row([
            f"[{cls.title}](#{cls.name})", _up(cls, cost, sizes), lit["up"], _sent(cost.down, sizes),
            lit["down"], f"{cost.once:,.0f} B" if cost.once else "", f"{cost.gradients:.2f}", lit["gradients"],
            f"{cost.server_gradients:.2f}" if cost.server_gradients else "", f"{cost.memory:.2f}",
            *_kept(cost, sizes["P"]),
        ])  # fmt: skip
    yield ""


def _kept(cost: Cost, parameters: int) -> tuple[str, str]:
    return (
        f"{cost.kept / 4 / parameters:.2f} P",
        f"{cost.server_kept / 4 / parameters:.2f} P" if cost.server_kept else "",
    )


def _up(cls: type[Method], cost: Cost, sizes: dict[str, int]) -> str:
    return "every image, once" if vars(cls).get("pools_data") else _sent(cost.up, sizes)


def _sent(sent: Sent, sizes: dict[str, int]) -> str:
    if not sent.size:
        return "nothing"
    bits = f" + {sent.bits:,} bits" if sent.bits else ""
    return f"{in_letters(sent.numbers, sizes)}{bits}: {sent.size / 1e6:.2f} MB"


def in_letters(numbers: int, sizes: dict[str, int]) -> str:
    """Return a count of numbers as a sum of P, B, h and a where it is one, else as it is."""
    P, B, h, a = (sizes[letter] for letter in "PBha")
    known = {
        P: "P", P + B: "P + B", P - a: "P - a", P - h: "P - h", P - h + B: "P - h + B", P - a - h: "P - a - h",
        2 * P: "2 P", 2 * (P + B): "2 (P + B)", 2 * P + B: "2 P + B", P + B + h: "P + B + h",
    }  # fmt: skip
    for extra in (0, 1, 2, 3):
        if numbers - extra in known:
            return known[numbers - extra] + (f" + {extra}" if extra else "")
    return f"{numbers:,}"


def families() -> Iterator[str]:
    """Yield what stands behind the table of costs: every method, family by family."""
    for family, title in FAMILIES.items():
        yield f"## {title}\n"
        for cls in methods():
            if cls.family == family:
                yield from _method(cls)


def _method(cls: type[Method]) -> Iterator[str]:
    year = f", {cls.year}" if cls.year else ""
    yield f'<a id="{cls.name}"></a>\n\n### {cls.title} (`{cls.name}`{year})\n'
    yield f"{prose(cls)}\n"
    policies = cls().policies()
    yield f"- Leaves the hospital: {cls.travels}."
    yield f"- Batch norm: {policies['batch_norm']}."
    yield f"- Clients are weighted by: {policies['aggregation']}."
    serves = "yes" if vars(cls).get("newcomers") else "no"
    yield f"- Serves a hospital that never trains: {serves}.\n"
    yield from settings(cls)


if __name__ == "__main__":
    write(PAGE.name, page())
