"""The built-in methods: one paper, one file."""

from pflbench.api import Method, hookimpl
from pflbench_methods.fedavg import FedAvg
from pflbench_methods.fedbn import FedBN
from pflbench_methods.fedper import FedPer
from pflbench_methods.finetune import FineTune
from pflbench_methods.local import Local
from pflbench_methods.pooled import Pooled
from pflbench_methods.resfim import ResFIM
from pflbench_methods.siobn import SiloBN


@hookimpl
def pflbench_methods() -> list[type[Method]]:
    """Return the methods, in the order of the paper's tables, the control first."""
    return [Local, FineTune, Pooled, FedAvg, FedBN, SiloBN, FedPer, ResFIM]
