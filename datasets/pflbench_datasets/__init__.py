"""The built-in datasets and partitioners."""

from pflbench.api import Dataset, Partitioner, hookimpl
from pflbench_datasets.folder import Folder
from pflbench_datasets.gland import Gland
from pflbench_datasets.gland_simulated import SimulatedGland
from pflbench_datasets.mixtures import Dirichlet, Iid, Quantity
from pflbench_datasets.partitioners import Few, LeaveOneSiteOut, Natural
from pflbench_datasets.prostate import Prostate
from pflbench_datasets.prostate_simulated import SimulatedProstate
from pflbench_datasets.simulated import SimulatedVessel
from pflbench_datasets.traits import Trait
from pflbench_datasets.vessel import Vessel


@hookimpl
def pflbench_datasets() -> list[type[Dataset]]:
    """Return the built-in datasets."""
    return [Vessel, Prostate, Gland, Folder, SimulatedVessel, SimulatedProstate, SimulatedGland]


@hookimpl
def pflbench_partitioners() -> list[type[Partitioner]]:
    """Return the built-in partitioners."""
    return [Natural, Iid, Dirichlet, Quantity, Few, LeaveOneSiteOut, Trait]
