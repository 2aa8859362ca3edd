"""APFL (Deng et al., 2020): a mixture of the shared model and a model of one's own."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.func import functional_call

from pflbench.api import Client, Message, Objective, UNet, Weights, keys, load, parameter_keys, pick
from pflbench_methods.companion import WithCompanion
from pflbench_methods.reported import reported_as

_KEPT = "own_share"  # in client.state


@dataclass(frozen=True)
class APFL(WithCompanion):
    """FedAvg, except that every client evaluates a mixture of the shared model and of a model v of its own.

    On every batch the shared model W takes a step on L(W), which is FedAvg to the last bit, and v one on the loss of
    the mixture, alpha v + (1 - alpha) W, in which W is a constant. v is never overwritten; it starts from the
    common initial weights. Evaluated is the mixture with the W that was received last. Public code trains v on its
    own loss, or overwrites it by the mixture; neither is the paper's.

    * ``own_share`` (alpha): the paper compares 0.25, 0.5 and 0.75.
    * ``adaptation`` (eta of alpha): 0 keeps alpha. Above, every client has its own, and on every batch
      alpha <- clip(alpha - eta <v - W, grad L(mixture)>, 0, 1), plain gradient descent on the loss of the mixture, with
      a rate of its own because the recipe's is Adam's. Public code adds 0.02 alpha to this gradient: left out here.
    * ``statistics``: a mixture has no running statistics to average; those beside v are measured on the mixture in
      training. ``kept``: these are evaluated, so with alpha = 0 the method is SiloBN, FedAvg with statistics of one's
      own. ``mixed``: alpha times these and 1 - alpha times W's averaged ones, so that alpha = 0 is FedAvg exactly; but
      averages over other hospitals then normalize a mixture they do not belong to. In both, alpha = 1 is training
      alone exactly.

    v's gradient is alpha times that of the mixture: Adam takes out the factor, but weight decay weighs 1/alpha more.
    The original trains with SGD; here as everybody, with Adam, and W is averaged by training images. The reported
    training loss is that of the mixture, which is evaluated.
    Batch-norm statistics: as ``statistics`` says; those of W are averaged.
    Deng, Kamani, Mahdavi: Adaptive Personalized Federated Learning. 2020. https://arxiv.org/abs/2003.13461
    """

    name: ClassVar[str] = "apfl"
    title: ClassVar[str] = "APFL"
    citation: ClassVar[str] = (
        "Deng et al.: Adaptive Personalized Federated Learning. 2020. https://arxiv.org/abs/2003.13461"
    )
    year: ClassVar[int | None] = 2020

    own_share: Annotated[float, Field(ge=0, le=1)] = 0.5  # alpha, at first
    adaptation: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 0.0  # eta of alpha; 0 keeps it
    statistics: Literal["kept", "mixed"] = "kept"

    def objective(self, client: Client, companion: UNet) -> Objective:
        """Return L(W) + L(alpha v + (1 - alpha) W)."""
        share = self._share(client)
        if self.adaptation:
            share.requires_grad_().register_post_accumulate_grad_hook(self._adapt)  # type: ignore[no-untyped-call]
            client.state[_KEPT] = share  # what it has become when training ends

        def both(_: nn.Module, images: Tensor, masks: Tensor) -> Tensor:
            constant = {name: value.detach() for name, value in client.model.named_parameters()}
            mixture = mixed(constant, dict(companion.named_parameters()), share)
            logits = functional_call(companion, mixture, (images,))
            shared, mix = client.loss(client.model(images), masks), client.loss(logits, masks)
            return reported_as(mix, shared + mix)

        return both

    def client_update(self, client: Client) -> Message:
        """Train, and log alpha where it changes."""
        message = super().client_update(client)
        if self.adaptation:
            client.log[_KEPT] = float(client.state[_KEPT].detach())
        return message

    def personal_model(self, client: Client) -> nn.Module:
        """Return the mixture of v and of the shared model as received."""
        model = self.companion(client)
        names = keys(model) if self.statistics == "mixed" else parameter_keys(model)
        shared, own = pick(client.model.state_dict(), names), pick(model.state_dict(), names)
        load(model, mixed(shared, own, self._share(client)))
        return model

    def policies(self) -> dict[str, str]:
        """Say that what is evaluated is mixed."""
        statistics = {"mixed": "statistics mixed likewise", "kept": "statistics kept at the client"}[self.statistics]
        return {**super().policies(), "batch_norm": f"parameters a mixture of averaged and own ones, {statistics}"}

    def _share(self, client: Client) -> Tensor:
        kept: Tensor | None = client.state.get(_KEPT)
        return torch.tensor(self.own_share, device=client.device) if kept is None else kept.clone()

    @torch.no_grad()
    def _adapt(self, share: Tensor) -> None:
        """Take alpha's step; called when its gradient is complete, after which nothing of the batch reads alpha."""
        assert share.grad is not None
        share.sub_(self.adaptation * share.grad).clamp_(0, 1)
        share.grad = None


def mixed(shared: Mapping[str, Tensor], own: Mapping[str, Tensor], share: Tensor) -> Weights:
    """Return alpha v + (1 - alpha) W, exactly v at 1 and exactly W at 0."""
    return {name: torch.lerp(value, own[name], share) for name, value in shared.items()}
