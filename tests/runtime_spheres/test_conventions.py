"""Coefficients in the conventions of e3nn, scipy, pyssht, s2fft, torch-harmonics; each where it is installed."""

import math

import numpy as np
import pytest
import torch
from scipy.special import sph_harm_y

from runtime.spheres.conventions import (
    from_complex,
    from_s2fft,
    from_torch_harmonics,
    to_complex,
    to_s2fft,
    to_torch_harmonics,
)
from runtime.spheres.rings import directions, panorama_rings
from runtime.spheres.signals import evaluate, harmonics, sphere_points

LIMIT = 7


def signals(*shape):
    return torch.randn(*shape, LIMIT**2, dtype=torch.float64)


def angles(points):
    """Colatitude and longitude in the others' axes (x, y, z), our (z, x, y)."""
    return torch.arccos(points[..., 1].clamp(-1, 1)), torch.atan2(points[..., 0], points[..., 2])


def test_scipy_synthesis_of_the_complex_coefficients_is_the_signal():
    f, points = signals(), sphere_points(40)
    theta, phi = (angle.numpy() for angle in angles(points))
    a = to_complex(f).numpy()
    orders = [(l, m) for l in range(LIMIT) for m in range(-l, l + 1)]
    values = sum(a[l * l + l + m] * sph_harm_y(l, m, theta, phi) for l, m in orders)
    np.testing.assert_allclose(values, evaluate(f, points).numpy(), atol=1e-13)


def test_every_conversion_and_back():
    f = signals(2, 3)
    for there, back in (
        (to_complex, from_complex),
        (to_s2fft, from_s2fft),
        (to_torch_harmonics, from_torch_harmonics),
    ):
        torch.testing.assert_close(back(there(f)), f)
    assert to_s2fft(f).shape == (2, 3, LIMIT, 2 * LIMIT - 1) and to_torch_harmonics(f).shape == (2, 3, LIMIT, LIMIT)
    torch.testing.assert_close(to_complex(f).abs().square().sum(-1), f.square().sum(-1))  # unitary
    short = to_torch_harmonics(f)[..., :4]
    assert from_torch_harmonics(short).shape == f.shape


def test_gradients_pass():
    assert torch.autograd.gradcheck(lambda f: from_s2fft(to_s2fft(f)), (signals().requires_grad_(),))


def test_a_complex_signal_is_refused():
    with pytest.raises(ValueError, match="coefficients of a complex signal"):
        from_complex(torch.randn(LIMIT**2, dtype=torch.complex128))
    with pytest.raises(ValueError, match=r"\(\.\.\., L, 2 L - 1\), got \(3, 4\)"):
        from_s2fft(torch.zeros(3, 4, dtype=torch.complex64))
    with pytest.raises(ValueError, match="50 coefficients are not a whole signal"):
        to_complex(torch.zeros(50))


def test_e3nn_has_the_same_numbers():
    o3 = pytest.importorskip("e3nn.o3")
    points = sphere_points(30)
    theirs = torch.cat([o3.spherical_harmonics(l, points, True, normalization="integral") for l in range(LIMIT)], -1)
    torch.testing.assert_close(harmonics(LIMIT, points), theirs, atol=1e-12, rtol=0)


def test_coefficients_agree_with_pyssht():
    pyssht = pytest.importorskip("pyssht")
    f = signals()
    theirs = pyssht.inverse(to_complex(f).numpy(), LIMIT, Method="MW")
    theta, phi = pyssht.sample_positions(LIMIT, Method="MW")
    ours = evaluate(f, directions(torch.from_numpy(theta), len(phi)).reshape(-1, 3)).reshape(theirs.shape)
    np.testing.assert_allclose(theirs, ours.numpy(), atol=1e-13)
    torch.testing.assert_close(from_complex(torch.from_numpy(pyssht.forward(ours.numpy() + 0j, LIMIT, Method="MW"))), f)


@pytest.mark.slow
def test_coefficients_agree_with_s2fft():
    pytest.importorskip("jax").config.update("jax_enable_x64", True)
    s2fft = pytest.importorskip("s2fft")
    f = signals()
    theirs = np.asarray(s2fft.inverse(to_s2fft(f).numpy(), LIMIT, sampling="mw"))
    theta = torch.from_numpy(np.array(s2fft.sampling.s2_samples.thetas(LIMIT, "mw"), dtype=np.float64))
    ours = evaluate(f, directions(theta, 2 * LIMIT - 1).reshape(-1, 3)).reshape(theirs.shape)
    np.testing.assert_allclose(theirs, ours.numpy(), atol=1e-12)
    back = torch.from_numpy(np.array(s2fft.forward(ours.numpy() + 0j, LIMIT, sampling="mw")))
    torch.testing.assert_close(from_s2fft(back), f)


def test_coefficients_agree_with_torch_harmonics():
    th = pytest.importorskip("torch_harmonics")
    f = signals(2)
    rings = panorama_rings(2 * LIMIT + 1, poles=True)
    synthesis = th.InverseRealSHT(2 * LIMIT + 1, 2 * LIMIT, lmax=LIMIT, mmax=LIMIT, grid="equiangular").double()
    ours = evaluate(f, directions(rings, 2 * LIMIT).reshape(-1, 3)).reshape(2, 2 * LIMIT + 1, 2 * LIMIT)
    torch.testing.assert_close(synthesis(to_torch_harmonics(f)), ours, atol=1e-6, rtol=1e-6)
    analysis = th.RealSHT(2 * LIMIT + 1, 2 * LIMIT, lmax=LIMIT, mmax=LIMIT, grid="equiangular").double()
    torch.testing.assert_close(from_torch_harmonics(analysis(ours)), f, atol=1e-6, rtol=1e-6)
    assert math.isfinite(float(ours.sum()))
