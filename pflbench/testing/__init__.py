"""A toy federation and checks for plugin authors: fast, offline, deterministic."""

from pflbench.testing.toy import ToyFederation, differences, toy_federation

__all__ = ["ToyFederation", "differences", "toy_federation"]
