"""FedProx with server momentum (Li et al., 2020; Hsu et al., 2019): the server goes on where it was heading."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar

from pflbench.api import Family, Inbox, Method, Outbox, Server, Weights, hookimpl, parameter_keys, weighted_mean
from pflbench_methods.fedprox import FedProx
from pydantic import Field


@dataclass(frozen=True)
class FedProxMomentum(FedProx):
    """FedProx, except that the server adds a part of its last step to the mean: w <- mean + momentum (w - w_before).

    This is the heavy ball of Hsu et al., v <- momentum v + (mean - w) and w <- w + v, written without v, so that
    momentum 0 is FedProx to the last bit.

    * ``momentum``: steps in a lasting direction grow to 1 / (1 - momentum) times their length, so it belongs together
      with the learning rate, which is every method's here; 0.5 doubles them.
    * Parameters alone have momentum: a running variance that went on as it was heading could fall below zero, so
      running statistics are the plain mean of the clients'.
    * The pull of FedProx is towards what was received, momentum included.

    Batch-norm statistics: averaged. Scale and shift: averaged, pulled, and with momentum.
    Hsu, Qi, Brown: Measuring the Effects of Non-Identical Data Distribution for Federated Visual Classification. 2019.
    https://arxiv.org/abs/1909.06335
    Li, Sahu, Zaheer, Sanjabi, Talwalkar, Smith: Federated Optimization in Heterogeneous Networks. MLSys 2020.
    https://arxiv.org/abs/1812.06127
    """

    name: ClassVar[str] = "fedprox-momentum"
    title: ClassVar[str] = "FedProx + momentum"
    aliases: ClassVar[tuple[str, ...]] = ("fedprox + momentum",)  # the title is a spelling of the name too
    citation: ClassVar[str] = (
        "Hsu et al.: Measuring the Effects of Non-Identical Data Distribution for Federated Visual Classification. "
        "2019. https://arxiv.org/abs/1909.06335, on Li et al.: Federated Optimization in Heterogeneous Networks. "
        "MLSys 2020. https://arxiv.org/abs/1812.06127"
    )
    family: ClassVar[Family] = "general"
    year: ClassVar[int | None] = 2019
    newcomers: ClassVar[bool] = True  # one model for everybody; a subclass does not inherit it

    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.5

    def server_update(self, server: Server, inbox: Inbox) -> Outbox:
        """Send everybody the mean, with a part of the last step added to its parameters."""
        mean = weighted_mean(inbox, server.shares)
        model = server.new_model()
        start: Weights = {name: value for name, value in model.state_dict().items() if name in parameter_keys(model)}
        now, before = server.state.get("now", start), server.state.get("before", start)
        ahead = {name: mean[name] + self.momentum * (now[name] - before[name]) for name in start}
        server.state["now"], server.state["before"] = ahead, now
        message = {**mean, **ahead}
        return dict.fromkeys(inbox, message)


@hookimpl
def pflbench_methods() -> list[type[Method]]:
    """Return the methods of this package."""
    return [FedProxMomentum]
