"""FedProx (Li et al., 2020): local training is held back by a pull towards the received model."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar

import torch
from pydantic import Field
from torch import Tensor, nn

from pflbench.api import Client, Family, Message, pick
from pflbench_methods.fedavg import FedAvg


@dataclass(frozen=True)
class FedProx(FedAvg):
    """FedAvg, except that clients minimize L(w) + mu/2 ||w - w_received||^2 over the trainable parameters.

    * ``proximity``: the original tunes mu for each data set, among 0.001, 0.01, 0.1 and 1, and has no default. 0.01 is
      that of the FedBN paper's public code; the harness of arXiv:2603.14848 ends up with 0.001.
    * The term is part of the loss, so Adam divides its gradient by the same running size as that of the loss: the
      pull counts relative to the loss's gradient, not in units of the step, as it does with the original's SGD.
    * It is there at every step. The harness leaves it out at the first batch of every epoch, the FedBN code in the
      whole first round; only at the very first step of a round is that the same, because the pull vanishes there.
    * The original also lets slow clients do fewer steps. Here all do the same epochs. It draws clients in proportion to
      their data and averages these equally; here all take part and are weighted by training images.
    * The reported training loss is L(w) alone.

    Batch-norm statistics: averaged, and not pulled, because they are no parameters; scale and shift are pulled.
    Li, Sahu, Zaheer, Sanjabi, Talwalkar, Smith: Federated Optimization in Heterogeneous Networks. MLSys 2020.
    https://arxiv.org/abs/1812.06127
    """

    name: ClassVar[str] = "fedprox"
    title: ClassVar[str] = "FedProx"
    citation: ClassVar[str] = (
        "Li et al.: Federated Optimization in Heterogeneous Networks. MLSys 2020. https://arxiv.org/abs/1812.06127"
    )
    family: ClassVar[Family] = "general"
    year: ClassVar[int | None] = 2020
    newcomers: ClassVar[bool] = True

    proximity: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 0.01  # mu

    def client_update(self, client: Client) -> Message:
        """Train near the received model, and send the shared entries."""
        received = [parameter.detach().clone() for parameter in client.model.parameters()]

        def pull(model: nn.Module) -> Tensor:
            return self.proximity / 2 * squared_distance(list(model.parameters()), received)

        client.fit(penalty=pull)
        return pick(client.model.state_dict(), self.shared(client.model))


def squared_distance(one: list[nn.Parameter], other: list[Tensor]) -> Tensor:
    """Return ||one - other||^2 over all entries together."""
    return torch.stack([(a - b).square().sum() for a, b in zip(one, other, strict=True)]).sum()
