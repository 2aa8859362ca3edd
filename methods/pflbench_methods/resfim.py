"""pFL-ResFIM (Zhu et al., 2026): the parameters most sensitive to domain shift stay personal."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import combinations
from typing import Annotated, ClassVar, Literal
from urllib.parse import quote

import torch
from pydantic import Field
from torch import Tensor

from pflbench.api import (
    Client,
    Family,
    Inbox,
    Message,
    Outbox,
    Server,
    TaskCard,
    Weights,
    keys,
    layer,
    overlay,
    pick,
    scale_of_statistics,
    statistics_keys,
    weighted_mean,
)
from pflbench_methods.fedavg import FedAvg
from pflbench_methods.fisher import mean_fisher
from pflbench_methods.spectral import low_frequency, spectral_transfer

Residual = Literal["max", "layer_max", "relative", "raw", "literal"]
_TINY = 1e-12
_SMALLEST = torch.finfo(torch.float32).tiny
_CHUNK = 8  # images restyled at once


@dataclass(frozen=True)
class ResFIM(FedAvg):
    """FedAvg, except that each client keeps the parameters whose Fisher information changes most with image style.

    Before round 1 every client sends the low-frequency amplitudes of its images; the server passes them on.
    Every round, after training, a client compares the diagonal Fisher information on its own images with that on the
    same images restyled with one random spectrum of every other client, and sends its weights with a mask of
    the top ``delta`` share of the differences. The server overlays: masked parameters stay the client's own,
    all others become the mean (Eq. 2, with the weights N_c / N that its sum must mean).

    Where the paper is silent or cannot be meant literally, a field decides:

    * ``delta``: not given; 0.1 is a choice. 0 is FedAvg, 1 is training alone.
    * ``beta``: not given; 0.01 is the value of the original spectral transfer.
    * ``residual``: Eq. 1 as printed, |dF| / max(|dF|, eps), is 1 for almost every parameter, so its "top
      share" would be arbitrary. ``max`` divides by the largest |dF| of all parameters, which ranks by |dF|;
      ``layer_max`` by the largest of each layer; ``relative`` by the larger of the two Fishers; ``raw`` does
      not divide (the ranking of ``max``); ``literal`` is Eq. 1 with eps = ``epsilon``, ties broken by position.
    * ``statistics``: running means and variances have no gradient, hence no residual. ``kept`` at the client
      (as in SiloBN), ``averaged`` (as in FedAvg), or ``follow``: kept in those channels whose scale is masked.
      Kept is the default: with almost all of the first layer personal, other clients' statistics no longer
      fit it. See docs/decisions/0002.
    * ``shared_average``: Eq. 2 averages ``all`` clients, also those that keep the parameter to themselves;
      ``unmasked`` leaves these out, which is what "aggregating only the domain-invariant parameters" says
      (running statistics, where they are averaged at all, are those of all clients in either case).
    * ``fisher_images``: at most so many of a client's images, drawn anew each time (default: all), and
      ``fisher_every``: a new mask only every so many rounds. They save time; the paper uses neither.

    Fisher: per image, true labels, training loss, evaluation mode, no augmentation.
    Zhu, Mao, Wang, Li, Xing, Yuan, Lam: Personalized Federated Learning with Residual Fisher Information for
    Medical Image Segmentation. ISBI 2026. https://arxiv.org/abs/2603.14848
    """

    name: ClassVar[str] = "resfim"
    title: ClassVar[str] = "pFL-ResFIM"
    aliases: ClassVar[tuple[str, ...]] = ("pfl-resfim",)
    citation: ClassVar[str] = (
        "Zhu et al.: Personalized Federated Learning with Residual Fisher Information for Medical Image "
        "Segmentation. ISBI 2026. https://arxiv.org/abs/2603.14848"
    )
    in_paper: ClassVar[bool] = True
    family: ClassVar[Family] = "personalized"
    year: ClassVar[int | None] = 2026
    travels: ClassVar[str] = (
        "once: the low-frequency amplitude spectrum of every training image (derived from the images: it reveals "
        "their colour and illumination) to the server and every other client; every round: all weights and a mask "
        "of one bit each"
    )

    delta: Annotated[float, Field(ge=0, le=1)] = 0.1  # share of parameters kept personal
    beta: Annotated[float, Field(ge=0, lt=0.5)] = 0.01  # half side of the window, as a share of the image's
    residual: Residual = "max"
    epsilon: Annotated[float, Field(ge=1e-30)] = 1e-8  # of the literal Eq. 1; float32 must be able to hold it
    statistics: Literal["kept", "averaged", "follow"] = "kept"
    shared_average: Literal["all", "unmasked"] = "all"
    fisher_images: Annotated[int, Field(ge=1)] | None = None
    fisher_every: Annotated[int, Field(ge=1)] = 1

    def client_setup(self, client: Client) -> Message:
        """Send the amplitude windows of all training images, N x C x (2b+1) x (2b+1)."""
        return {"windows": low_frequency(client.images, self.beta)}

    def server_setup(self, server: Server, inbox: Inbox) -> Outbox:
        """Pass every client the windows of all others."""
        windows = {client: message["windows"] for client, message in inbox.items()}
        return {client: {other: w for other, w in windows.items() if other != client} for client in inbox}

    def client_update(self, client: Client) -> Message:
        """Train, find the sensitive parameters, and send weights and mask."""
        client.fit()
        if (client.round - 1) % self.fisher_every == 0 or "mask" not in client.state:
            client.state["mask"] = self._mask(client)
        mask: Mapping[str, Tensor] = client.state["mask"]
        client.log.update({f"mask_rate/{name}": rate for name, rate in masking_rates(mask).items()})
        return {"weights": pick(client.model.state_dict(), self.shared(client.model)), "mask": mask}

    def shared(self, model: torch.nn.Module) -> frozenset[str]:
        """Return all entries, without the running statistics where these are kept at home."""
        return keys(model) - statistics_keys(model) if self.statistics == "kept" else keys(model)

    def server_update(self, server: Server, inbox: Inbox) -> Outbox:
        """Overlay each client's sensitive parameters on the mean (Eq. 2)."""
        weights: dict[str, Weights] = {client: message["weights"] for client, message in inbox.items()}
        masks: dict[str, Weights] = {client: message["mask"] for client, message in inbox.items()}
        mean = weighted_mean(weights, server.shares)
        if self.shared_average == "unmasked":
            mean |= unmasked_mean(weights, masks, server.shares, mean)
        server.log |= overlaps(masks)
        if self.statistics == "follow":
            scales = scale_of_statistics(server.new_model())
            masks = {client: mask | {n: mask[scale] for n, scale in scales.items()} for client, mask in masks.items()}
        return {client: overlay(masks[client], weights[client], mean) for client in inbox}

    def policies(self) -> dict[str, str]:
        """Say what becomes of batch norm: parameters follow the mask, statistics the setting."""
        fates = {"kept": "kept at the client", "averaged": "averaged", "follow": "kept where their scale is masked"}
        parameters = "parameters averaged but where the client's mask keeps them"
        return {**super().policies(), "batch_norm": f"{parameters}, statistics {fates[self.statistics]}"}

    def extra_gradients(self, task: TaskCard) -> Mapping[str, int]:
        """Return the gradients of the two Fishers: one per image for each of the C styles."""
        styles = len(task.clients)
        counted = {c: min(n, self.fisher_images or n) * styles for c, n in task.clients.items()}
        return {client: -(-count // self.fisher_every) for client, count in counted.items()}

    def _mask(self, client: Client) -> dict[str, Tensor]:
        images, masks = client.images, client.masks
        if self.fisher_images is not None and self.fisher_images < len(images):
            drawn = torch.randperm(len(images), generator=client.rng)[: self.fisher_images].to(client.device)
            images, masks = images[drawn], masks[drawn]
        own = mean_fisher(client.model, [(images, masks)], client.loss)
        other = (
            mean_fisher(client.model, self._restyled(client, images, masks), client.loss) if client.briefing else own
        )
        client.gradients += len(images) * (1 + len(client.briefing))
        return largest(residual(own, other, self.residual, self.epsilon), self.delta)

    def _restyled(self, client: Client, images: Tensor, masks: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield the images in the style of every other client: one random spectrum for every image."""
        for windows in client.briefing.values():
            drawn = torch.randint(len(windows), (len(images),), generator=client.rng).to(client.device)
            for start in range(0, len(images), _CHUNK):
                chosen = slice(start, start + _CHUNK)
                restyled = spectral_transfer(images[chosen], windows[drawn[chosen]])
                yield restyled.contiguous(memory_format=torch.channels_last), masks[chosen]


def residual(own: Weights, other: Weights, how: Residual = "max", epsilon: float = 1e-8) -> Weights:
    """Return the residual Fisher information of every parameter from two diagonal Fishers (Eq. 1).

    ``how``: see ``ResFIM``. ``epsilon`` is that of the literal equation; the other forms divide by at least
    1e-12 of the largest Fisher or difference, so that nothing is divided by zero.
    """
    change = {name: (own[name] - other[name]).abs() for name in own}
    if how == "raw":
        return change
    if how == "literal":
        return {name: value / value.clamp(min=epsilon) for name, value in change.items()}
    if how == "relative":
        larger = {name: torch.maximum(own[name], other[name]) for name in own}
        floor = max(_TINY * _peak(larger), _SMALLEST)
        return {name: value / larger[name].clamp(min=floor) for name, value in change.items()}
    peak = max(_peak(change), _SMALLEST)
    if how == "max":
        return {name: value / peak for name, value in change.items()}
    layers: dict[str, Weights] = {}
    for name, value in change.items():
        layers.setdefault(layer(name), {})[name] = value
    peaks = {owner: max(_peak(entries), _TINY * peak, _SMALLEST) for owner, entries in layers.items()}
    return {name: value / peaks[layer(name)] for name, value in change.items()}


def _peak(scores: Mapping[str, Tensor]) -> float:
    return max(float(value.max()) for value in scores.values())


def largest(scores: Weights, share: float) -> dict[str, Tensor]:
    """Return masks that are true at exactly round(share * P) of all P scores together: the largest.

    Of equal scores the first in order of entries and positions are taken, so that the choice is the same everywhere.
    Raises ValueError where a score is not a number: nothing could be ranked.
    """
    flat = torch.cat([value.reshape(-1) for value in scores.values()])
    if bool(flat.isnan().any()):
        raise ValueError("a score is not a number, so the largest cannot be told; is the loss finite?")
    count = round(share * flat.numel())
    if count == 0:
        chosen = torch.zeros_like(flat, dtype=torch.bool)
    else:
        threshold = flat.kthvalue(flat.numel() - count + 1).values
        chosen = flat > threshold
        ties = (flat == threshold).nonzero().squeeze(1)
        chosen[ties[: count - int(chosen.sum())]] = True
    parts = torch.split(chosen, [value.numel() for value in scores.values()])
    return {name: part.view(value.shape) for (name, value), part in zip(scores.items(), parts, strict=True)}


def overlaps(masks: Mapping[str, Mapping[str, Tensor]]) -> dict[str, float]:
    """Return the IoU of every two clients' masks, 1 for two empty ones: ``mask_iou/A/B``, names percent-encoded."""
    flat = {client: torch.cat([value.reshape(-1) for value in mask.values()]) for client, mask in masks.items()}
    sizes = {client: int(value.sum()) for client, value in flat.items()}
    found = {}
    for one, other in combinations(flat, 2):
        both = int((flat[one] & flat[other]).sum())
        either = sizes[one] + sizes[other] - both
        found[f"mask_iou/{quote(one, safe='')}/{quote(other, safe='')}"] = both / either if either else 1.0
    return found


def masking_rates(mask: Mapping[str, Tensor]) -> dict[str, float]:
    """Return the share of each layer's parameters that stay personal (Fig. 4)."""
    kept: dict[str, int] = {}
    total: dict[str, int] = {}
    for name, value in mask.items():
        kept[layer(name)] = kept.get(layer(name), 0) + int(value.sum())
        total[layer(name)] = total.get(layer(name), 0) + value.numel()
    return {name: kept[name] / total[name] for name in total}


@torch.no_grad()
def unmasked_mean(
    weights: Mapping[str, Weights],
    masks: Mapping[str, Weights],
    shares: Mapping[str, float],
    fallback: Weights,
) -> Weights:
    """Return sum_i w_i (1 - M_i) W_i / sum_i w_i (1 - M_i), and ``fallback`` where every client keeps its own."""
    mean: Weights = {}
    for name in next(iter(masks.values())):
        free = {client: shares[client] * (~masks[client][name]).float() for client in weights}
        total = torch.stack(list(free.values())).sum(0)
        value = torch.stack([free[client] * weights[client][name] for client in weights]).sum(0)
        mean[name] = torch.where(total > 0, value / total.clamp(min=_TINY), fallback[name])
    return mean
