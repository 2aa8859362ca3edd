"""The running statistics of a model, estimated anew from one client's own training images."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from pflbench.api import Client


@torch.no_grad()
def estimate_statistics(client: Client, model: nn.Module) -> None:
    """Set the running statistics of batch-norm layers to the mean of those of the training batches of one epoch.

    For a model whose weights have just moved far: running statistics still remember those of before. In float32, as
    in evaluation. Forward passes alone, so nothing is counted; the model is left in training mode.
    """
    norms = [module for module in model.modules() if isinstance(module, _BatchNorm)]
    before = [module.momentum for module in norms]
    for module in norms:
        module.reset_running_stats()
        module.momentum = None  # torch's word for a plain mean
    model.train()
    for images, _ in client.batches(1):
        model(images)
    for module, momentum in zip(norms, before, strict=True):
        module.momentum = momentum
