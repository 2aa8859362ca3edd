"""pFL-ResFIM (Zhu et al., 2026): the parameters most sensitive to domain shift stay personal."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import chain
from typing import Annotated, ClassVar, Literal

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
    overlay,
    pick,
    scale_of_statistics,
    statistics_keys,
    weighted_mean,
)
from pflbench_methods.fedavg import FedAvg
from pflbench_methods.fisher import mean_fisher, mean_gradient, sampled_fisher
from pflbench_methods.masks import Granularity, largest, largest_groups, masking_rates, overlaps, unmasked_mean
from pflbench_methods.residual import Residual, residual
from pflbench_methods.spectral import low_frequency, spectral_transfer, windows_of_others

_CHUNK = 8  # images restyled at once
_STYLES = (
    "once: the low-frequency amplitude spectrum of every training image (derived from the images: it reveals "
    "their colour and illumination) to the server and every other client; "
)


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
    * ``granularity``: each ``parameter`` by itself, as in the paper, which claims that the finest is best; or whole
      output ``channel``s or ``layer``s, by the mean score of their parameters, as many as fit into the share delta.
    * ``score``: what ranks the parameters. ``residual`` is the method; the others are ablations: ``fisher`` is the
      Fisher information on the client's own images alone, ``gradient`` the size of the mean gradient there,
      ``random`` a draw made once. With these no spectrum is sent.
    * ``fisher_labels``: ``true`` masks and the training loss; or masks ``sampled`` from the model's own prediction,
      pixel by pixel, and their cross-entropy, which is the Fisher information of the model.
    * ``pooling``: the images in the styles of all other clients ``together`` have one Fisher; or every other client
      has its own, and |dF| is the mean over them (``per client``).
    * ``fisher_images``: at most so many of a client's images, drawn anew each time (default: all), and
      ``fisher_every``: a new mask only every so many rounds. They save time; the paper uses neither.

    Fisher: per image, true labels, training loss, evaluation mode, no augmentation.
    Batch-norm statistics: as ``statistics`` says; scale and shift are parameters like any other.
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
    travels: ClassVar[str] = _STYLES + "every round: all weights and a mask of one bit each"

    delta: Annotated[float, Field(ge=0, le=1)] = 0.1  # share of parameters kept personal
    beta: Annotated[float, Field(ge=0, lt=0.5)] = 0.01  # half side of the window, as a share of the image's
    residual: Residual = "max"
    epsilon: Annotated[float, Field(ge=1e-30)] = 1e-8  # of the literal Eq. 1; float32 must be able to hold it
    statistics: Literal["kept", "averaged", "follow"] = "kept"
    shared_average: Literal["all", "unmasked"] = "all"
    granularity: Granularity = "parameter"
    score: Literal["residual", "fisher", "gradient", "random"] = "residual"
    fisher_labels: Literal["true", "sampled"] = "true"
    pooling: Literal["together", "per client"] = "together"
    fisher_images: Annotated[int, Field(ge=1)] | None = None
    fisher_every: Annotated[int, Field(ge=1)] = 1

    def client_setup(self, client: Client) -> Message:
        """Send the amplitude windows of all training images, N x C x (2b+1) x (2b+1); nothing where none is needed."""
        return {"windows": low_frequency(client.images, self.beta)} if self.score == "residual" else {}

    def server_setup(self, server: Server, inbox: Inbox) -> Outbox:
        """Pass every client the windows of all others."""
        return windows_of_others(inbox)

    def client_update(self, client: Client) -> Message:
        """Train, find the sensitive parameters, and send weights and mask."""
        client.fit()
        due = (client.round - 1) % self.fisher_every == 0 and self.score != "random"
        if due or "mask" not in client.state:
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
        batch_norm = f"{parameters}, statistics {fates[self.statistics]}"
        travels = {} if self._travels == self.travels else {"travels": self._travels}
        return {**super().policies(), "batch_norm": batch_norm, **travels}

    @property
    def _travels(self) -> str:
        """What leaves a hospital with these settings, in words."""
        statistics = "" if self.statistics == "kept" else ", batch-norm statistics"
        sent = f"all weights{statistics} and a mask of one bit each"
        return f"{_STYLES}every round: {sent}" if self.score == "residual" else f"{sent}, every round"

    def extra_gradients(self, task: TaskCard) -> Mapping[str, int]:
        """Return the gradients of the Fishers: one per image and style, its own and those of all others."""
        fishers = {"residual": len(task.clients), "fisher": 1, "gradient": 1, "random": 0}[self.score]
        counted = {c: min(n, self.fisher_images or n) * fishers for c, n in task.clients.items()}
        return {client: -(-count // self.fisher_every) for client, count in counted.items()}

    def _mask(self, client: Client) -> dict[str, Tensor]:
        scores = self._scores(client)
        if self.granularity == "parameter":
            return largest(scores, self.delta)
        return largest_groups(scores, self.delta, self.granularity)

    def _scores(self, client: Client) -> Weights:
        """Return every parameter's score; what is largest stays personal."""
        if self.score == "random":
            return {n: torch.rand(p.shape, generator=client.rng) for n, p in client.model.named_parameters()}
        images, masks = self._drawn(client)
        client.gradients += len(images)
        if self.score == "gradient":
            return mean_gradient(client.model, [(images, masks)], client.loss)
        own = self._fisher(client, [(images, masks)])
        if self.score == "fisher":
            return own
        client.gradients += len(images) * len(client.briefing)
        others = self._other_fishers(client, images, masks) or [own]
        return residual(own, *others, how=self.residual, epsilon=self.epsilon)

    def _drawn(self, client: Client) -> tuple[Tensor, Tensor]:
        """Return the images and masks for the Fisher: all, or as many as ``fisher_images`` says."""
        images, masks = client.images, client.masks
        if self.fisher_images is None or self.fisher_images >= len(images):
            return images, masks
        drawn = torch.randperm(len(images), generator=client.rng)[: self.fisher_images].to(client.device)
        return images[drawn], masks[drawn]

    def _fisher(self, client: Client, batches: Iterable[tuple[Tensor, Tensor]]) -> Weights:
        if self.fisher_labels == "sampled":
            return sampled_fisher(client.model, (images for images, _ in batches), client.rng)
        return mean_fisher(client.model, batches, client.loss)

    def _other_fishers(self, client: Client, images: Tensor, masks: Tensor) -> list[Weights]:
        """Return the Fisher of all restyled images together, or one for every other client."""
        styles = (self._restyled(client, windows, images, masks) for windows in client.briefing.values())
        if self.pooling == "per client":
            return [self._fisher(client, style) for style in styles]
        return [self._fisher(client, chain.from_iterable(styles))] if client.briefing else []

    def _restyled(
        self, client: Client, windows: Tensor, images: Tensor, masks: Tensor
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield the images in the style of another client: one random spectrum of its for every image."""
        drawn = torch.randint(len(windows), (len(images),), generator=client.rng).to(client.device)
        for start in range(0, len(images), _CHUNK):
            chosen = slice(start, start + _CHUNK)
            restyled = spectral_transfer(images[chosen], windows[drawn[chosen]])
            yield restyled.contiguous(memory_format=torch.channels_last), masks[chosen]
