"""The diagonal of the empirical Fisher information, image by image."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from itertools import chain

import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, vmap
from torch.nn.functional import binary_cross_entropy_with_logits

Loss = Callable[[Tensor, Tensor], Tensor]  # logits, masks -> scalar
_AT_ONCE = 8  # images that a model is given together, at most


def diagonal_fisher(model: nn.Module, images: Tensor, masks: Tensor, loss: Loss) -> dict[str, Tensor]:
    """Return the mean over images of the squared gradient of one image's loss, by parameter.

    F_p = 1/N sum_i (d loss(model(x_i), y_i) / d w_p)^2 for N x C x H x W images and N x 1 x H x W masks, with
    the true labels (the empirical Fisher). The model is in evaluation mode meanwhile: with batch statistics
    the gradient of one image would depend on the others, and that of a bias before a normalization layer
    would vanish. Float32 throughout; the model's mode and gradients are left as they were.
    """
    return mean_fisher(model, [(images, masks)], loss)


def mean_fisher(model: nn.Module, batches: Iterable[tuple[Tensor, Tensor]], loss: Loss) -> dict[str, Tensor]:
    """Return the diagonal Fisher over all images of the batches together; see ``diagonal_fisher``."""
    total = {name: torch.zeros_like(parameter) for name, parameter in model.named_parameters()}
    count = 0
    with evaluating(model):
        for images, masks in batches:
            add = _add_vectorised if images.is_cuda else _add_one_by_one
            add(model, images, masks, loss, total)
            count += len(images)
    if not count:
        raise ValueError("the Fisher information of no image is not defined.")
    return {name: value / count for name, value in total.items()}


def sampled_fisher(model: nn.Module, batches: Iterable[Tensor], rng: torch.Generator) -> dict[str, Tensor]:
    """Return the diagonal Fisher of the model's own predictive distribution, by one sampled mask per image.

    y_s ~ Bernoulli(sigmoid(z_s)) for every pixel s, and the loss is the negative log-likelihood, as a mean over
    pixels: that is the Fisher information divided by (H W)^2, which changes no ranking where all images have one size.
    """

    def sampled() -> Iterator[tuple[Tensor, Tensor]]:
        for images in chain.from_iterable(torch.split(batch, _AT_ONCE) for batch in batches):
            with torch.no_grad():
                probability = model(images).sigmoid()
            drawn = torch.rand(probability.shape, generator=rng).to(probability.device)
            yield images, (drawn < probability).to(probability.dtype)

    return mean_fisher(model, sampled(), binary_cross_entropy_with_logits)


def mean_gradient(model: nn.Module, batches: Iterable[tuple[Tensor, Tensor]], loss: Loss) -> dict[str, Tensor]:
    """Return the size of every parameter's gradient of the loss, |1/N sum_i d loss(model(x_i), y_i) / d w_p|.

    ``loss`` is a mean over images. In evaluation mode, in chunks of a few images, in float32.
    """
    total = {name: torch.zeros_like(parameter) for name, parameter in model.named_parameters()}
    count = 0
    with evaluating(model):
        for images, masks in batches:
            for x, y in zip(torch.split(images, _AT_ONCE), torch.split(masks, _AT_ONCE), strict=True):
                gradients = torch.autograd.grad(loss(model(x), y) * len(x), list(model.parameters()))
                torch._foreach_add_(list(total.values()), list(gradients))
            count += len(images)
    return {name: value.abs() / count for name, value in total.items()}


def _add_one_by_one(model: nn.Module, images: Tensor, masks: Tensor, loss: Loss, total: dict[str, Tensor]) -> None:
    """Add each image's squared gradient. On a CPU as quick as any vectorised form: the products fill it anyway."""
    parameters = list(model.parameters())
    sums = list(total.values())
    for i in range(len(images)):
        value = loss(model(images[i : i + 1]), masks[i : i + 1])
        gradients = torch.autograd.grad(value, parameters, allow_unused=True, materialize_grads=True)
        for into, gradient in zip(sums, gradients, strict=True):
            into.addcmul_(gradient, gradient)


def _add_vectorised(model: nn.Module, images: Tensor, masks: Tensor, loss: Loss, total: dict[str, Tensor]) -> None:
    """Add the squared gradients of many images at once, by torch.func."""
    weights = {name: parameter.detach() for name, parameter in model.named_parameters()}
    buffers = dict(model.named_buffers())

    def loss_of_one(weights: dict[str, Tensor], image: Tensor, mask: Tensor) -> Tensor:
        return loss(functional_call(model, (weights, buffers), (image[None],)), mask[None])

    gradients_of_each = vmap(grad(loss_of_one), in_dims=(None, 0, 0))
    for start in range(0, len(images), _AT_ONCE):
        stop = start + _AT_ONCE
        for name, gradients in gradients_of_each(weights, images[start:stop], masks[start:stop]).items():
            total[name] += gradients.square().sum(0)


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Put a model into evaluation mode with gradients of every parameter, and back."""
    modes = [(module, module.training) for module in model.modules()]
    frozen = [parameter for parameter in model.parameters() if not parameter.requires_grad]
    model.eval()
    for parameter in frozen:
        parameter.requires_grad_(True)
    try:
        with torch.enable_grad():
            yield
    finally:
        for module, training in modes:
            module.training = training
        for parameter in frozen:
            parameter.requires_grad_(False)
