"""All that a plugin author imports; ``__all__`` is the public API."""

from pflbench.dataset import Case, Dataset, Pixels
from pflbench.errors import DataError, UsageError
from pflbench.hookspecs import hookimpl
from pflbench.message import Inbox, Message, Outbox
from pflbench.method import Family, Method, TaskCard
from pflbench.partition import Partitioner
from pflbench.recipe import Recipe
from pflbench.release import Download, Files, Found, Item
from pflbench.sites import Client, Server
from pflbench.store import Store, StoredFile, StoredSite
from pflbench.training import Batch, Loss, Objective, Penalty
from pflbench.unet import UNet
from pflbench.weights import (
    Weights,
    head_keys,
    keys,
    layer,
    load,
    module_keys,
    norm_keys,
    overlay,
    parameter_keys,
    pick,
    scale_of_statistics,
    statistics_keys,
    weighted_mean,
)

__all__ = [
    "Batch",
    "Case",
    "Client",
    "DataError",
    "Dataset",
    "Download",
    "Family",
    "Files",
    "Found",
    "Inbox",
    "Item",
    "Loss",
    "Message",
    "Method",
    "Objective",
    "Outbox",
    "Partitioner",
    "Penalty",
    "Pixels",
    "Recipe",
    "Server",
    "Store",
    "StoredFile",
    "StoredSite",
    "TaskCard",
    "UNet",
    "UsageError",
    "Weights",
    "head_keys",
    "hookimpl",
    "keys",
    "layer",
    "load",
    "module_keys",
    "norm_keys",
    "overlay",
    "parameter_keys",
    "pick",
    "scale_of_statistics",
    "statistics_keys",
    "weighted_mean",
]
