"""Zonal convolutions and the two-branch network."""

import math

import pytest
import torch

from runtime.spheres.esteves import Esteves, EstevesConfig
from runtime.spheres.signals import as_packed, evaluate, signal_type, sphere_points
from runtime.spheres.testing import assert_equivariant
from runtime.spheres.zonal import ZonalConv

SMALL = EstevesConfig(size=16, widths=(4, 4, 6, 6), pools=(1, 2), classes=3)


def test_parameters_are_the_sources(compiled):
    network = Esteves(compiled(EstevesConfig().spec()))
    assert sum(p.numel() for p in network.parameters()) == 492_752
    alone = Esteves(compiled(EstevesConfig().spec()), EstevesConfig(auxiliary=False))
    assert sum(p.numel() for p in alone.parameters()) == 487_592
    assert network.branches[0][7].conv.anchors == 4 and network.branches[0][6].conv.in_channels == 128 * 64


def test_a_small_network_learns_and_knows_rotations_roughly(compiled):
    network = Esteves(compiled(SMALL.spec()), SMALL)
    x = torch.randn(8, 2, 16, 16)
    first, second = network.both(x)
    assert first.shape == second.shape == (8, 3)
    (first.sum() + second.sum()).backward()
    assert all(p.grad.isfinite().all() for p in network.parameters())
    network.eval()
    # turns about the pole by two samples of the coarsest grid, which is pooled twice: exact
    torch.testing.assert_close(network(x.roll(8, -1)), network(x), rtol=1e-4, atol=1e-5)
    with pytest.raises(ValueError, match="no second head"):
        Esteves(compiled(SMALL.spec()), EstevesConfig(**{**SMALL.__dict__, "auxiliary": False})).both(x)


def test_zonal_convolution_commutes_with_rotations():
    assert_equivariant(ZonalConv(3, 2, 6, anchors=4, bias=True), space=(2,))


def test_zonal_convolution_is_the_integral():
    """2 pi times the integral over v of h(angle of u and v) f(v), over many points."""
    f = torch.randn(1, 16, dtype=torch.float64)
    layer = ZonalConv(1, 1, 4, anchors=4).double()
    out = layer(f)
    count = 20_000
    points, places = sphere_points(count), sphere_points(7)
    angle_cos = places @ points.T
    # the zonal filter with coefficients h_l: sum_l h_l sqrt((2l+1) / 4 pi) P_l(cos)
    h = layer.weight.detach()[0, :, 0]
    legendre = [torch.ones_like(angle_cos), angle_cos]
    for l in range(2, 4):
        legendre.append(((2 * l - 1) * angle_cos * legendre[-1] - (l - 1) * legendre[-2]) / l)
    filt = sum(h[l] * math.sqrt((2 * l + 1) / (4 * math.pi)) * legendre[l] for l in range(4))
    integral = 2 * math.pi * (filt @ evaluate(f[0], points)) * 4 * math.pi / count
    found = evaluate(as_packed(out, signal_type(1, 4))[0, 0], places)
    torch.testing.assert_close(found, integral, atol=1e-3, rtol=1e-3)


def test_anchors_are_met_and_linear_between():
    layer = ZonalConv(1, 1, 5, anchors=3)
    factor = 2 * math.pi * (4 * math.pi / (2 * torch.arange(5) + 1)).sqrt()
    spectrum = layer.spectrum()[:, 0, 0] / factor
    w = layer.weight[0, :, 0]
    torch.testing.assert_close(spectrum, torch.stack([w[0], (w[0] + w[1]) / 2, w[1], (w[1] + w[2]) / 2, w[2]]))
    with pytest.raises(ValueError, match="9 anchors do not lie apart on 8 degrees"):
        ZonalConv(1, 1, 8, anchors=9)
    with pytest.raises(ValueError, match="size 24 cannot be halved 3 times"):
        EstevesConfig(size=24)
