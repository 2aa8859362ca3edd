"""The built-in methods: one paper, one file."""

from pflbench.api import Method, hookimpl
from pflbench_methods.adabn import AdaBN
from pflbench_methods.apfl import APFL
from pflbench_methods.ditto import Ditto
from pflbench_methods.fedala import FedALA
from pflbench_methods.fedas import FedAS
from pflbench_methods.fedavg import FedAvg
from pflbench_methods.fedbabu import FedBABU
from pflbench_methods.fedbn import FedBN
from pflbench_methods.feddf import FedDF
from pflbench_methods.feddg import FedDG
from pflbench_methods.fednova import FedNova
from pflbench_methods.fedper import FedPer
from pflbench_methods.fedprox import FedProx
from pflbench_methods.fedrdn import FedRDN
from pflbench_methods.fedrep import FedRep
from pflbench_methods.fedrod import FedRoD
from pflbench_methods.fedsm import FedSMSoftPull
from pflbench_methods.finetune import FineTune
from pflbench_methods.fml import FML
from pflbench_methods.harmofl import HarmoFL
from pflbench_methods.iopfl import IOPFL
from pflbench_methods.lgfedavg import LGFedAvg
from pflbench_methods.local import Local
from pflbench_methods.moon import Moon
from pflbench_methods.perfedavg import PerFedAvg
from pflbench_methods.pfedla import PFedLA
from pflbench_methods.pfedme import PFedMe
from pflbench_methods.pooled import Pooled
from pflbench_methods.resfim import ResFIM
from pflbench_methods.scaffold import Scaffold
from pflbench_methods.siobn import SiloBN

CONTROLS: list[type[Method]] = [Local, FineTune, AdaBN, Pooled]
GENERAL: list[type[Method]] = [FedAvg, FedProx, Scaffold, FedNova, FedDF, Moon, FedDG, HarmoFL, FedRDN]
PERSONALIZED: list[type[Method]] = [
    FedBN, SiloBN, FedPer, LGFedAvg, FedRep, FedBABU, FedRoD, APFL, Ditto, PFedMe, PerFedAvg, FML, FedALA, FedAS,
    PFedLA, IOPFL, FedSMSoftPull, ResFIM,
]  # fmt: skip


@hookimpl
def pflbench_methods() -> list[type[Method]]:
    """Return the methods: the controls, those with one model for everybody, and the personalized ones, ResFIM last."""
    return [*CONTROLS, *GENERAL, *PERSONALIZED]
