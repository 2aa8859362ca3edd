"""The running statistics of a model, estimated anew from one client's own training images."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from pflbench.api import Client


@torch.no_grad()
def estimate_statistics(client: Client, model: nn.Module) -> None:
    """Set the running statistics of batch-norm layers to the mean over one epoch of those of the training batches.

    For a model whose weights have just moved far: running statistics still remember those of before. Every image
    weighs the same, also those of a last batch that is not full. In float32, as in evaluation. Forward passes alone,
    so nothing is counted; the model is left in training mode.
    """
    norms = [module for module in model.modules() if isinstance(module, _BatchNorm)]
    before = [module.momentum for module in norms]
    model.train()
    seen = 0
    try:
        for images, _ in client.batches(1):
            seen += len(images)
            for module in norms:
                module.momentum = len(images) / seen  # 1 at first: what was there before is forgotten
            model(images)
    finally:
        for module, momentum in zip(norms, before, strict=True):
            module.momentum = momentum
