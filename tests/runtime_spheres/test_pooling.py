"""Pooling, read-outs and the normalisation of fragments."""

import math

import pytest
import torch

import runtime as rt
from runtime.so3 import random_rotations
from runtime.spheres.normalization import FragmentNorm
from runtime.spheres.pooling import Invariants, SpectralPool, SphereMean, WeightedAveragePool
from runtime.spheres.rings import directions, panorama_rings
from runtime.spheres.signals import evaluate, rotate_signal, signal_type
from tests.runtime_spheres.transforms import gauss_rings

TYPE = signal_type(3, 4)


def turned(layer, x):
    r = random_rotations(len(x))
    return layer(rotate_signal(x, r, layer.in_type)), rotate_signal(layer(x), r, layer.out_type)


@pytest.mark.parametrize(
    "make",
    [
        lambda: FragmentNorm(TYPE).eval(),
        lambda: SpectralPool(TYPE, 2),
        lambda: Invariants(TYPE),
        lambda: Invariants(TYPE, lengths=False),
        lambda: Invariants(TYPE, squared=True),
        lambda: rt.BatchNorm(TYPE).eval(),
    ],
)
@pytest.mark.parametrize("space", [(), (2, 3)])
def test_layers_commute_with_rotations(make, space):
    torch.testing.assert_close(*turned(make().double(), torch.randn(4, 48, *space, dtype=torch.float64)))


def test_fragment_norm_is_the_running_mean_of_the_sizes():
    layer = FragmentNorm("2x0 + 1x1")
    x = torch.randn(100, 5) * torch.tensor([2.0, 5.0, 3.0, 3.0, 3.0])
    y = layer(x)
    sizes = torch.stack(
        [x[:, 0].square().mean().sqrt(), x[:, 1].square().mean().sqrt(), x[:, 2:].square().mean().sqrt()]
    )
    torch.testing.assert_close(layer.size, sizes)
    torch.testing.assert_close(y, x / sizes[[0, 1, 2, 2, 2]])
    layer(2 * x)
    torch.testing.assert_close(layer.size, 1.5 * sizes)
    layer(x[:0])
    layer.eval()(x)
    assert int(layer.batches) == 2
    torch.testing.assert_close(layer(x), x / (1.5 * sizes[[0, 1, 2, 2, 2]]))


def test_fragment_norm_of_zeros_stays_finite():
    layer = FragmentNorm("1x0 + 1x1")
    assert layer(torch.zeros(2, 4)).isfinite().all() and layer(torch.ones(2, 4)).isfinite().all()


def test_spectral_pool_keeps_the_low_degrees():
    x = torch.randn(2, 48, 5)
    pool = SpectralPool(TYPE, 2)
    assert torch.equal(pool(x), x[:, :12]) and pool.out_type == signal_type(3, 2)
    with pytest.raises(ValueError, match="has no degree below 0"):
        SpectralPool(TYPE, 0)


def test_invariants_are_scalars_and_lengths_with_finite_gradients():
    x = torch.randn(2, 2 + 6, dtype=torch.float64)
    values = Invariants("2x0 + 2x1")(x)
    assert values.shape == (2, 4)
    torch.testing.assert_close(values[:, 2], x[:, 2:5].norm(dim=1) / math.sqrt(3), atol=1e-3, rtol=0)
    zero = torch.zeros(1, 8, requires_grad=True)
    Invariants("2x0 + 2x1")(zero).sum().backward()
    assert zero.grad.isfinite().all() and not Invariants("2x0 + 2x1")(zero).any()
    with pytest.raises(ValueError, match="has no even scalars: set lengths=True"):
        Invariants("2x1", lengths=False)
    assert Invariants("1x0e + 2x0o + 1x1o").out_type == rt.as_field_type("4x0e")


def test_weighted_average_pool_is_true_to_area():
    rings = panorama_rings(8)
    samples = torch.rand(2, 3, 8, 16, dtype=torch.float64)
    pool = WeightedAveragePool(rings)
    coarse = pool(samples)
    assert coarse.shape == (2, 3, 4, 8)
    mean = SphereMean(rings).double()(samples)
    assert mean.shape == (2, 3)
    areas = pool.weights.reshape(-1, 2)
    torch.testing.assert_close(areas.sum(1), torch.ones(4))
    torch.testing.assert_close(coarse[0, 0, 0, 0], (samples[0, 0, :2, :2].mean(1) * areas[0].double()).sum())
    torch.testing.assert_close(pool(torch.ones_like(samples)), torch.ones_like(coarse))
    with pytest.raises(ValueError, match="there are 7: an odd number"):
        WeightedAveragePool(panorama_rings(7))
    with pytest.raises(ValueError, match=r"\(batch, channel, 8, longitude\).* got \(2, 3, 8, 15\)"):
        pool(samples[..., :15])


def test_the_mean_with_weights_of_a_quadrature_is_the_scalar():
    rings, weights = gauss_rings(6)
    f = torch.randn(2, 3, 36, dtype=torch.float64)
    samples = evaluate(f, directions(rings, 11).reshape(-1, 3)).reshape(2, 3, 6, 11)
    mean = SphereMean(rings, weights=weights).double()(samples)
    torch.testing.assert_close(mean, f[..., 0] / math.sqrt(4 * math.pi), atol=1e-6, rtol=0)
