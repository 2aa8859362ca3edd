"""What the hardware is asked to do, chosen once per trial and recorded with it."""

from __future__ import annotations

import contextlib
import resource
import sys
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

from pflbench.errors import UsageError


@dataclass(frozen=True)
class Numerics:
    """Device, precision of training, and threads. They decide the last digits of every number.

    One thread per process, always: sums then run in the same order in one process and in many, and on
    few cores processes of one thread each finish earlier than one process of many.
    """

    device: str  # "cpu" or "cuda"
    precision: str  # of training: "float32" or "bfloat16"; Fisher, averaging and metrics are float32
    threads: int = 1

    def plain(self) -> dict[str, Any]:
        """Return the fields as plain values."""
        return asdict(self)

    def prepare(self) -> None:
        """Set this process up: threads, deterministic kernels."""
        torch.set_num_threads(self.threads)
        torch.backends.cudnn.deterministic = True
        torch.backends.cudnn.benchmark = False

    def autocast(self) -> contextlib.AbstractContextManager[Any]:
        """Return the context in which the training forward pass runs."""
        return torch.autocast(self.device, dtype=torch.bfloat16, enabled=self.precision == "bfloat16")

    def images(self, pixels: Tensor) -> Tensor:
        """Return uint8 pixels as float32 in [0, 1], N x C x H x W, channels last in memory: what convolutions like."""
        return pixels.to(torch.float32, memory_format=torch.channels_last).div_(255)

    def peak_mib(self) -> float:
        """Return the peak memory so far in MiB: of the device on CUDA, else of this process."""
        if self.device == "cuda":
            return torch.cuda.max_memory_allocated() / 2**20
        unit = 2**20 if sys.platform == "darwin" else 2**10  # macOS counts bytes, Linux KiB
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit


def choose(device: str, precision: str) -> Numerics:
    """Return the numerics for a request of "auto" or a name. Raises UsageError for a device that is not there."""
    if device not in ("auto", "cpu", "cuda"):
        raise UsageError(f"--device {device!r} is not one of auto, cpu, cuda.")
    if device == "cuda" and not torch.cuda.is_available():
        raise UsageError("--device cuda: torch sees no CUDA device here; use --device cpu or auto.")
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    if precision == "auto":
        precision = "bfloat16" if _fast_bfloat16(device) else "float32"
    return Numerics(device, precision)


def _fast_bfloat16(device: str) -> bool:
    """Say whether bfloat16 products are in the hardware; emulated ones are slower than float32."""
    if device == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    able: dict[str, bool] = getattr(torch.cpu, "get_capabilities", dict)()
    return bool(able.get("amx_bf16") or able.get("avx512_bf16"))
