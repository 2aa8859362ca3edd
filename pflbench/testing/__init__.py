"""A toy federation and checks for plugin authors: fast, offline, deterministic."""

from pflbench.testing.checks import Check, CheckFailed, CheckSkipped, outcomes
from pflbench.testing.dataset_checks import dataset_checks
from pflbench.testing.method_checks import method_checks
from pflbench.testing.partitioner_checks import partitioner_checks
from pflbench.testing.toy import ToyFederation, differences, toy_federation

__all__ = [
    "Check",
    "CheckFailed",
    "CheckSkipped",
    "ToyFederation",
    "dataset_checks",
    "differences",
    "method_checks",
    "outcomes",
    "partitioner_checks",
    "toy_federation",
]
