"""IOP-FL (Jiang et al., 2023), inside personalization: a moving average of the client's own trained models."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar

import torch
from pydantic import Field
from torch import nn

from pflbench.api import Client, Family, Message, Weights, keys, pick
from pflbench_methods.fedavg import FedAvg

_KEPT = "trajectory"  # in client.state


@dataclass(frozen=True)
class IOPFL(FedAvg):
    """FedAvg, except that every client evaluates a moving average of the models it trained, round after round.

    After its local training of each round a client moves theta_c <- alpha theta_c + (1 - alpha) W_c, from the common
    initial weights on; W_c, the shared model after local training, holds everybody's progress up to the round and
    the client's own within it. theta never leaves the client and costs no gradient.

    * ``memory`` (alpha): 0.1 as in the authors' code. 0 evaluates each round's trained local model, 1 the initial one.

    Of the paper this is the inside part. Its outside part, which routes between the models of all clients at test
    time, serves hospitals that do not take part and is not built.
    Batch-norm statistics: those of the shared model are averaged; theta's are a moving average like its parameters.
    Jiang, Yang, Cheng, Dou: IOP-FL: Inside-Outside Personalization for Federated Medical Image Segmentation.
    IEEE Transactions on Medical Imaging 2023. https://arxiv.org/abs/2204.08467
    """

    name: ClassVar[str] = "iopfl"
    title: ClassVar[str] = "IOP-FL"
    aliases: ClassVar[tuple[str, ...]] = ("iop-fl",)
    citation: ClassVar[str] = (
        "Jiang et al.: IOP-FL: Inside-Outside Personalization for Federated Medical Image Segmentation. "
        "IEEE Transactions on Medical Imaging 2023. https://arxiv.org/abs/2204.08467"
    )
    family: ClassVar[Family] = "personalized"
    year: ClassVar[int | None] = 2023

    memory: Annotated[float, Field(ge=0, le=1)] = 0.1  # alpha

    def client_update(self, client: Client) -> Message:
        """Train, move the average, and send the shared entries."""
        before: Weights = client.state.get(_KEPT) or pick(client.new_model().state_dict(), keys(client.model))
        message = super().client_update(client)
        trained = client.model.state_dict()
        # lerp(W, theta, alpha) is exactly W at 0 and theta at 1
        client.state[_KEPT] = {name: torch.lerp(trained[name], old, self.memory) for name, old in before.items()}
        return message

    def personal_model(self, client: Client) -> nn.Module:
        """Return the moving average, or the initial model where nothing was trained yet."""
        return client.new_model(client.state.get(_KEPT))

    def policies(self) -> dict[str, str]:
        """Say that the evaluated model is a moving average in all entries."""
        moving = "parameters and statistics averaged, then a moving average of the client's trained ones"
        return {**super().policies(), "batch_norm": moving}
