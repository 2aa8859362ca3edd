"""The shared UNet: its upsampling and its shapes."""

import pytest
import torch
import torch.nn.functional as F

from pflbench.unet import UNet, _doubled


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_its_upsampling_and_the_gradient_of_it_are_torchs(memory_format):
    rng = torch.Generator().manual_seed(0)
    maps = torch.randn(2, 5, 6, 4, generator=rng, dtype=torch.float64).to(memory_format=memory_format)
    weights = torch.randn(2, 5, 12, 8, generator=rng, dtype=torch.float64)
    mine, theirs = maps.clone().requires_grad_(), maps.clone().requires_grad_()
    (_doubled(mine) * weights).sum().backward()
    (F.interpolate(theirs, scale_factor=2, mode="nearest") * weights).sum().backward()
    assert torch.equal(_doubled(maps), maps.repeat_interleave(2, dim=2).repeat_interleave(2, dim=3))
    torch.testing.assert_close(mine.grad, theirs.grad, rtol=1e-14, atol=1e-14)


def test_logits_have_the_size_of_the_image_and_features_the_width():
    model, images = UNet(channels=3, width=4), torch.rand(2, 3, 16, 24)
    assert model(images).shape == (2, 1, 16, 24)
    assert model.features(images).shape == (2, 4, 16, 24)
    torch.testing.assert_close(model.eval().final(model.features(images)), model(images))
