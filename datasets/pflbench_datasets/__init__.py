"""The built-in datasets and partitioners."""

from pflbench.api import Dataset, Partitioner, hookimpl
from pflbench_datasets.partitioners import Dirichlet, Natural
from pflbench_datasets.simulated import SimulatedVessel
from pflbench_datasets.vessel import Vessel


@hookimpl
def pflbench_datasets() -> list[type[Dataset]]:
    """Return the built-in datasets."""
    return [Vessel, SimulatedVessel]


@hookimpl
def pflbench_partitioners() -> list[type[Partitioner]]:
    """Return the built-in partitioners."""
    return [Natural, Dirichlet]
