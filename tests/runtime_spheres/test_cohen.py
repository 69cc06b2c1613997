"""Signals on the rotation group: correlations, activations, the network and the source's counts of parameters."""

import math

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from basisgen.spec import parse_package
from basisgen.spheres.activation_error import FUNCTIONS, rotation_activation_error
from runtime.so3 import random_rotations, wigner_d
from runtime.spheres.activation import RotationActivation
from runtime.spheres.cohen import Cohen, CohenConfig
from runtime.spheres.signals import as_channels, evaluate, rotate_signal, rotation_type, signal_type
from runtime.spheres.specs import spec_text
from runtime.spheres.testing import assert_equivariant

F64 = torch.float64
SMALL = CohenConfig(features=(2, 3, 4), limits=(6, 4, 3), classes=3)


def values(fields, signals, limit, rotations):
    """(batch, signal, rotation) from the definition."""
    total, first = 0, 0
    for l in range(limit):
        d = 2 * l + 1
        part = fields[:, first : first + d * d * signals].reshape(len(fields), d, signals, d)  # (batch, n, signal, m)
        total = total + math.sqrt(d) * torch.einsum("bnkm,rmn->bkr", part, wigner_d(l, rotations))
        first += d * d * signals
    return total


def test_rotation_of_a_signal_on_the_group_is_left_translation():
    fields, Q, R = torch.randn(2, 3 * 35, dtype=F64), random_rotations(1)[0], random_rotations(9)
    turned = rotate_signal(fields, Q, rotation_type(3, 3))
    torch.testing.assert_close(values(turned, 3, 3, R), values(fields, 3, 3, Q.mT @ R))


def conv(kind, into, out, **grid):
    return spec_text("conv", [{"kind": kind, "name": "Conv", "in": into, "out": out, **grid}])


def points(text):
    """Rotations of the filters of a spec, (point, 3, 3)."""
    angles = [[float(angle) * math.pi for angle in point] for point in parse_package(text).layers[0].grid.points]
    return torch.from_numpy(Rotation.from_euler("YXY", angles).as_matrix())


@pytest.mark.parametrize("grid", [{"grid": "near_identity"}, {"grid": "equatorial", "alphas": 12}])
def test_correlation_with_a_filter_on_the_sphere(compiled, grid):
    """z(R) is the sum over the filter's points u of k(u) f~(R u): from values of the signal, no degrees."""
    text = conv("sphere_conv", signal_type(2, 4), rotation_type(3, 4), **grid)
    layer = compiled(text).Conv(dtype=F64)
    assert_equivariant(layer)
    f, R = torch.randn(1, 2, 16, dtype=F64), random_rotations(5)
    z = values(layer(as_channels(f)), 3, 4, R)
    scaled = f * torch.cat([torch.full((2 * l + 1,), math.sqrt(2 * l + 1), dtype=F64) for l in range(4)])
    at = torch.einsum("rxy,gy->rgx", R, points(text)[:, :, 1])  # (rotation, point, 3)
    of_f = evaluate(scaled[0], at.reshape(-1, 3)).reshape(2, 5, -1)  # (signal, rotation, point)
    expected = torch.einsum("irg,iog->or", of_f, layer.weight) * math.sqrt(12 * math.pi / (2 * layer.points))
    torch.testing.assert_close(z[0], expected)


def test_correlation_with_a_filter_on_the_group(compiled):
    """The same with f~(R g)."""
    grid = {"grid": "near_identity", "alphas": 2, "betas": 2, "gammas": 3}
    text = conv("rotation_conv", rotation_type(2, 3), rotation_type(3, 3), **grid)
    layer = compiled(text).Conv(dtype=F64)
    torch.nn.init.normal_(layer.bias)
    assert_equivariant(layer, space=(2,))
    f, R = torch.randn(1, 2 * 35, dtype=F64), random_rotations(5)
    z = values(layer(f), 3, 3, R)
    at = (R[:, None] @ points(text)).reshape(-1, 3, 3)
    of_f = values(f, 2, 3, at).reshape(2, 5, -1)  # (signal, rotation, point)
    expected = torch.einsum("irg,iog->or", of_f, layer.weight) * math.sqrt(3 / (2 * layer.points))
    torch.testing.assert_close(z[0], expected + layer.bias[:, None])


def parameters(config):
    """Of the network, counted from its spec alone."""
    layers = [layer for layer in parse_package(config.spec()).layers if layer.kind != "transform"]
    weights = sum(math.prod(layer.signals) * len(layer.grid) + layer.signals[1] for layer in layers)
    norms = 2 * sum(config.features[1:]) if config.norm else 0
    return weights + norms + (config.features[-1] + 1) * config.classes


def test_parameters_are_the_sources(compiled):
    config = CohenConfig()
    assert sum(p.numel() for p in Cohen(compiled(config.spec()), config).parameters()) == 154_550
    assert parameters(config) == 154_550
    small = CohenConfig(**{**SMALL.__dict__, "norm": True, "equator": True})
    assert sum(p.numel() for p in Cohen(compiled(small.spec()), small).parameters()) == parameters(small)
    assert parameters(CohenConfig.shrec17()) == 1_399_515


@pytest.mark.slow
def test_the_network_for_shrec17_is_as_large_as_the_sources(compiled):
    config = CohenConfig.shrec17()
    network = Cohen(compiled(config.spec()), config)
    assert sum(p.numel() for p in network.parameters()) == 1_399_515
    with torch.no_grad():
        assert network.eval()(torch.randn(1, 6 * 128**2)).isfinite().all()


def transform(compiled, signals, limit):
    """On the grid of the source."""
    grid = {"kind": "transform", "name": "Grid", "in": rotation_type(signals, limit), "space": "rotations"}
    return compiled(spec_text("grid", [{**grid, "grid": "driscoll_healy"}])).Grid()


@pytest.mark.parametrize("pool", ["mean", "max"])
def test_a_small_network_learns_and_is_nearly_invariant(compiled, pool):
    config = CohenConfig(**{**SMALL.__dict__, "pool": pool, "norm": pool == "max"})
    network = Cohen(compiled(config.spec()), config)
    x = torch.randn(16, 2 * 36)
    torch.nn.functional.cross_entropy(network(x), torch.arange(16) % 3).backward()
    assert all(p.grad.isfinite().all() for p in network.parameters())
    network.eval()
    with torch.no_grad():
        turned = network(rotate_signal(x, random_rotations(16), signal_type(2, 6)))
        centre = network(x).mean(0)
        change, spread = (turned - network(x)).norm(), (network(x) - centre).norm()
    assert change < 0.5 * spread


@pytest.mark.parametrize("name", ["relu", "tanh"])
@pytest.mark.parametrize("grid", [4, 6, 8])
def test_error_of_an_activation_on_rotations_is_the_predicted_one(compiled, name, grid):
    fields = torch.randn(64, 4 * 84, dtype=F64) / math.sqrt(84)  # values of variance 1
    layer = RotationActivation(transform(compiled, 4, grid), getattr(torch, name), limit=4)
    r = random_rotations(64)
    before, after = layer(rotate_signal(fields, r, layer.in_type)), rotate_signal(layer(fields), r, layer.out_type)
    predicted, _ = rotation_activation_error(FUNCTIONS[name], np.ones(4), grid)
    assert float((before - after).norm() / before.norm()) == pytest.approx(predicted, rel=0.1)  # of 256 signals


def test_activation_on_rotations_gets_better_with_the_grid(compiled):
    fields = torch.randn(8, 84, dtype=F64)
    errors = []
    for grid in (4, 8):
        layer = RotationActivation(transform(compiled, 1, grid), limit=4)
        r = random_rotations(8)
        before, after = layer(rotate_signal(fields, r, layer.in_type)), rotate_signal(layer(fields), r, layer.out_type)
        errors.append(float((before - after).norm() / before.norm()))
    assert errors[0] < 0.3 and errors[1] < 0.03


def test_impossible_configs_are_refused():
    with pytest.raises(ValueError, match="'median'"):
        CohenConfig(pool="median")
