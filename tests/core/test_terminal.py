"""The table after a run: nothing of it is cut, however narrow the terminal and long the names."""

import io

import pandas as pd
import pytest
from rich.console import Console

from pflbench.terminal import print_summary

CLIENTS = ("sim-CHASEDB1", "sim-DR-HAGIS", "sim-DRIVE", "sim-HRF", "sim-LES-AV", "sim-ORVS")
METHODS = ("FedAvg", "FedAvg + fine-tuning", "Pooled (not federated)")


def printed(width, methods=METHODS, clients=CLIENTS):
    """Return the words of each line; the Dice of method m at client c with seed s is .5 + (10 m + c) / 100 + s."""
    rows = [
        {"metric": "dice", "chosen": "best", "group": 0, "title": title, "settings": "", "client": client,
         "seed": seed, "value": 0.5 + (10 * m + c) / 100 + seed / 1000}
        for m, title in enumerate(methods) for c, client in enumerate(clients) for seed in (0, 2)
    ]  # fmt: skip
    file = io.StringIO()
    print_summary(pd.DataFrame(rows), Console(file=file, width=width))
    lines = file.getvalue().splitlines()
    assert max(map(len, lines)) <= width
    return [line.split() for line in lines]


@pytest.mark.parametrize("width", [80, 200])
def test_every_method_has_its_means_over_seeds_and_over_clients_on_one_line(width):
    found = printed(width)
    first = ["50.10", "51.10", "52.10", "53.10", "54.10", "55.10", "52.60"]
    assert ["FedAvg", *first] in found
    assert ["FedAvg", "+", "fine-tuning", *(f"{float(mean) + 10:.2f}" for mean in first)] in found


@pytest.mark.parametrize("width", [80, 100, 200])
def test_the_names_of_clients_are_folded_and_never_cut(width):
    words = printed(width)
    head = words[: next(i for i, line in enumerate(words) if line[:1] == ["FedAvg"])]
    letters = sorted("".join("".join(line) for line in head if set("".join(line)) != {"\u2500"}))
    assert letters == sorted("".join(("Dicein%,meanoverseeds", "method", "average", *CLIENTS)))


def test_on_a_wide_terminal_nothing_is_folded():
    assert ["method", *CLIENTS, "average"] in printed(200)
