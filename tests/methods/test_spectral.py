"""Spectral transfer against the textbook route: shift, replace the centre of the amplitudes, transform back."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pflbench_methods.spectral import half_width, low_frequency, spectral_transfer

SIZES = [(16, 16), (17, 17), (16, 24), (24, 16), (15, 22), (22, 15), (9, 32)]
BETAS = [0.0, 0.07, 0.13, 0.26, 0.49]


def images(count, height, width, seed=0, channels=3):
    return torch.from_numpy(np.random.default_rng(seed).random((count, channels, height, width)))


def centre(spectrum, b):
    rows, columns = spectrum.shape[-2] // 2, spectrum.shape[-1] // 2
    return (..., slice(rows - b, rows + b + 1), slice(columns - b, columns + b + 1))


def shifted_amplitude(x):
    return np.fft.fftshift(np.abs(np.fft.fft2(x, axes=(-2, -1))), axes=(-2, -1))


def windows_by_hand(x, b):
    amplitude = shifted_amplitude(x)
    return amplitude[centre(amplitude, b)]


def fda(x, windows):
    """FDA as published, in float64 and without clipping, one image at a time."""
    b = windows.shape[-1] // 2
    restyled = np.empty_like(x)
    for i, image in enumerate(x):
        amplitude, phase = shifted_amplitude(image), np.angle(np.fft.fft2(image, axes=(-2, -1)))
        amplitude[centre(amplitude, b)] = windows[i]
        spectrum = np.fft.ifftshift(amplitude, axes=(-2, -1)) * np.exp(1j * phase)
        back = np.fft.ifft2(spectrum, axes=(-2, -1))
        assert np.abs(back.imag).max() < 1e-12  # the centred window keeps the spectrum Hermitian
        restyled[i] = back.real
    return restyled


@pytest.mark.parametrize(
    ("height", "width", "beta", "b"),
    [
        (256, 256, 0.003, 0),
        (256, 256, 0.005, 1),
        (256, 256, 0.01, 2),
        (256, 256, 0.05, 12),
        (256, 256, 0.1, 25),
        (384, 384, 0.003, 1),
        (384, 384, 0.01, 3),
        (192, 384, 0.005, 0),
        (192, 384, 0.01, 1),
        (384, 192, 0.01, 1),
        (16, 16, 0.0, 0),
        (16, 16, 1 / 16, 1),
        (16, 16, math.nextafter(1 / 16, 0), 0),
        (16, 64, 0.25, 4),
        (16, 16, math.nextafter(0.5, 0), 7),
        (17, 17, 0.49, 8),
    ],
)
def test_half_width_is_the_floor_of_the_shorter_side_times_beta(height, width, beta, b):
    assert half_width(height, width, beta) == b
    assert low_frequency(torch.zeros(1, 3, height, width), beta).shape == (1, 3, 2 * b + 1, 2 * b + 1)


@pytest.mark.parametrize("beta", [0.5, 0.75, 1.0, -0.1])
def test_a_window_larger_than_the_image_is_refused(beta):
    with pytest.raises(ValueError, match=r"below 0\.5"):
        low_frequency(torch.zeros(1, 3, 16, 16), beta)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("beta", BETAS)
def test_low_frequency_is_the_centre_of_the_shifted_amplitudes(size, beta):
    x = images(3, *size)
    expected = windows_by_hand(x.numpy(), math.floor(min(size) * beta))
    np.testing.assert_allclose(low_frequency(x, beta).numpy(), expected, rtol=0, atol=1e-11)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("beta", BETAS)
def test_spectral_transfer_is_fda(size, beta):
    x, style = images(3, *size), images(3, *size, seed=1) ** 2
    windows = windows_by_hand(style.numpy(), math.floor(min(size) * beta))
    expected = fda(x.numpy(), windows)
    assert np.abs(expected - x.numpy()).max() > 0.05
    exact = spectral_transfer(x, torch.from_numpy(windows), clip=None)
    np.testing.assert_allclose(exact.numpy(), expected, rtol=0, atol=1e-13)
    single = spectral_transfer(x.float(), low_frequency(style.float(), beta), clip=None)
    assert single.dtype is torch.float32
    np.testing.assert_allclose(single.numpy(), expected, rtol=0, atol=1e-5)


@settings(max_examples=40, deadline=None)
@given(st.integers(8, 25), st.integers(8, 25), st.floats(0, 0.5, exclude_max=True), st.integers(0, 9), st.booleans())
def test_any_size_and_beta_is_fda(height, width, beta, seed, channels_last):
    x, style = images(2, height, width, seed), images(2, height, width, seed + 10)
    expected_windows = windows_by_hand(style.numpy(), math.floor(min(height, width) * beta))
    order = torch.channels_last if channels_last else torch.contiguous_format
    x, style = x.contiguous(memory_format=order), style.contiguous(memory_format=order)
    windows = low_frequency(style, beta)
    np.testing.assert_allclose(windows.numpy(), expected_windows, rtol=0, atol=1e-11)
    restyled = spectral_transfer(x, windows)
    np.testing.assert_allclose(restyled.numpy(), np.clip(fda(x.numpy(), expected_windows), 0, 1), rtol=0, atol=1e-13)


@pytest.mark.parametrize("clip", [(0.0, 1.0), (0.2, 0.6), None])
def test_the_result_is_clipped_to_the_given_range(clip):
    x, style = images(2, 16, 16), images(2, 16, 16, seed=1) + 0.4
    expected = fda(x.numpy(), windows_by_hand(style.numpy(), 2))
    assert expected.max() > 1.1
    if clip is not None:
        expected = np.clip(expected, *clip)
    restyled = spectral_transfer(x, low_frequency(style, 2 / 16), clip)
    np.testing.assert_allclose(restyled.numpy(), expected, rtol=0, atol=1e-13)


@pytest.mark.parametrize("size", SIZES)
def test_without_a_window_only_the_mean_of_each_channel_moves(size):
    x, style = images(3, *size), images(3, *size, seed=1) ** 3
    expected = x.numpy() - x.numpy().mean((2, 3), keepdims=True) + style.numpy().mean((2, 3), keepdims=True)
    restyled = spectral_transfer(x, low_frequency(style, 0.0), clip=None)
    np.testing.assert_allclose(restyled.numpy(), expected, rtol=0, atol=1e-13)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("beta", BETAS)
def test_an_image_with_its_own_window_is_the_image_bit_for_bit(size, beta):
    x = images(9, *size).float()
    assert torch.equal(spectral_transfer(x, low_frequency(x, beta)), x)


def test_each_image_takes_its_own_window():
    x, styles = images(4, 16, 16), images(4, 16, 16, seed=1)
    windows = low_frequency(styles, 0.1)
    together = spectral_transfer(x, windows)
    for i in range(4):
        alone = np.clip(fda(x[i : i + 1].numpy(), windows[i : i + 1].numpy()), 0, 1)
        np.testing.assert_allclose(together[i].numpy(), alone[0], rtol=0, atol=1e-13)
    order = torch.tensor([2, 0, 3, 1])
    assert torch.equal(spectral_transfer(x[order], windows[order]), together[order])
    assert (spectral_transfer(x, windows[order]) - together).abs().amax((1, 2, 3)).min() > 0.01


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("beta", [0.0, 0.2])
def test_the_type_of_the_images_is_kept(dtype, beta):
    x = images(1, 16, 16).to(dtype)
    windows = low_frequency(x, beta)
    assert windows.dtype is dtype
    assert spectral_transfer(x, windows).dtype is dtype


@pytest.mark.parametrize("level", [0.0, 0.25])
def test_an_image_without_structure_takes_a_style_with_phase_zero(level):
    # every coefficient but the mean vanishes exactly, and atan2(0, 0) = 0
    x, style = torch.full((2, 3, 16, 16), level, dtype=torch.float64), images(2, 16, 16, seed=1)
    windows = windows_by_hand(style.numpy(), 1)
    restyled = spectral_transfer(x, torch.from_numpy(windows), clip=None)
    assert torch.isfinite(restyled).all()
    np.testing.assert_allclose(restyled.numpy(), fda(x.numpy(), windows), rtol=0, atol=1e-13)


def test_the_images_and_windows_given_are_left_as_they_were():
    x, style = images(2, 16, 16), images(2, 16, 16, seed=1)
    windows = low_frequency(style, 0.1)
    before = x.clone(), windows.clone()
    spectral_transfer(x, windows)
    assert torch.equal(x, before[0])
    assert torch.equal(windows, before[1])


def test_a_window_does_not_depend_on_the_other_images_of_the_batch_in_either_memory_format():
    x = images(9, 16, 16).float()
    for order in (torch.contiguous_format, torch.channels_last):
        batch = x.contiguous(memory_format=order)
        singles = torch.cat([low_frequency(batch[i : i + 1], 0.1) for i in range(len(x))])
        assert torch.equal(low_frequency(batch, 0.1), singles)
