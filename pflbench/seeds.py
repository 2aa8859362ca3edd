"""Random numbers by role: a generator for each (seed, purpose ...), whatever was drawn before."""

from __future__ import annotations

import hashlib
import json

import numpy as np
import torch


def seed_for(seed: int, *purpose: str | int) -> int:
    """Return a 63-bit seed that depends on every part of the purpose and on nothing else."""
    text = json.dumps([seed, *purpose])
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "little") >> 1


def generator(seed: int, *purpose: str | int) -> torch.Generator:
    """Return a torch generator on the CPU: the same numbers on every device."""
    return torch.Generator().manual_seed(seed_for(seed, *purpose))


def numpy_generator(seed: int, *purpose: str | int) -> np.random.Generator:
    """Return a numpy generator."""
    return np.random.default_rng(seed_for(seed, *purpose))
