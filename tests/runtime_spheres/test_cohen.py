"""Signals on the rotation group: transform, correlations, the network and the source's counts of parameters."""

import math

import numpy as np
import pytest
import torch

from basisgen.spheres.activation_error import FUNCTIONS, rotation_activation_error
from runtime.so3 import random_rotations, wigner_d
from runtime.spheres.activation import RotationActivation
from runtime.spheres.cohen import Cohen, CohenConfig
from runtime.spheres.group_conv import RotationConv, SphereConv, equatorial, near_identity
from runtime.spheres.rotation_transform import RotationTransform, rotation_of, rotation_type
from runtime.spheres.signals import as_channels, evaluate, rotate_signal, signal_type
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


@pytest.mark.parametrize("limit", [1, 2, 5])
def test_transform_is_the_sum_of_wigner_matrices_and_its_analysis_the_inverse(limit):
    transform = RotationTransform(2, limit)
    fields = torch.randn(3, transform.signals * sum((2 * l + 1) ** 2 for l in range(limit)), dtype=F64)
    samples = transform.synthesis(fields)
    beta = math.pi * (2 * torch.arange(2 * limit, dtype=F64) + 1) / (4 * limit)
    turn = math.pi / limit * torch.arange(2 * limit, dtype=F64)
    angles = [x.flatten() for x in torch.meshgrid(beta, turn, turn, indexing="ij")]
    expected = values(fields, 2, limit, rotation_of(angles[1], angles[0], angles[2]))
    torch.testing.assert_close(samples.flatten(2), expected)
    torch.testing.assert_close(transform.analysis(samples), fields)
    torch.testing.assert_close(transform.mean(samples), fields[:, :2])
    assert transform(fields[:0]).shape[0] == 0
    with pytest.raises(ValueError, match=r"takes a field \(batch, "):
        transform(fields[:, 1:])


def test_angles_take_the_pole_where_they_say():
    alpha, beta, gamma = torch.tensor([0.4, 1.1, 2.0], dtype=F64)
    r = rotation_of(alpha, beta, gamma)
    torch.testing.assert_close(r @ r.mT, torch.eye(3, dtype=F64))
    where = torch.stack([beta.sin() * alpha.sin(), beta.cos(), beta.sin() * alpha.cos()])
    torch.testing.assert_close(r[:, 1], where)


def test_rotation_of_a_signal_on_the_group_is_left_translation():
    fields, Q, R = torch.randn(2, 3 * 35, dtype=F64), random_rotations(1)[0], random_rotations(9)
    turned = rotate_signal(fields, Q, rotation_type(3, 3))
    torch.testing.assert_close(values(turned, 3, 3, R), values(fields, 3, 3, Q.mT @ R))


@pytest.mark.parametrize("grid", [near_identity(gammas=1), equatorial(12)])
def test_correlation_with_a_filter_on_the_sphere(grid):
    """z(R) is the sum over the filter's points u of k(u) f~(R u): from values of the signal, no degrees."""
    layer = SphereConv(2, 3, 4, 4, grid=grid).double()
    assert_equivariant(layer)
    f, R = torch.randn(1, 2, 16, dtype=F64), random_rotations(5)
    z = values(layer(as_channels(f)), 3, 4, R)
    scaled = f * torch.cat([torch.full((2 * l + 1,), math.sqrt(2 * l + 1), dtype=F64) for l in range(4)])
    points = torch.stack([rotation_of(*torch.tensor(angles, dtype=F64)) for angles in grid])[:, :, 1]
    at = torch.einsum("rxy,gy->rgx", R, points)  # (rotation, point, 3)
    of_f = evaluate(scaled[0], at.reshape(-1, 3)).reshape(2, 5, -1)
    expected = layer.scale * torch.einsum("irg,iog->or", of_f, layer.kernel)
    torch.testing.assert_close(z[0], expected)


def test_correlation_with_a_filter_on_the_group():
    """The same with f~(R g)."""
    layer = RotationConv(2, 3, 3, 3, grid=near_identity(2, 2, 3)).double()
    torch.nn.init.normal_(layer.bias)
    assert_equivariant(layer, space=(2,))
    f, R = torch.randn(1, 2 * 35, dtype=F64), random_rotations(5)
    z = values(layer(f), 3, 3, R)
    g = torch.stack([rotation_of(*torch.tensor(angles, dtype=F64)) for angles in layer.grid])
    at = (R[:, None] @ g).reshape(-1, 3, 3)
    of_f = values(f, 2, 3, at).reshape(2, 5, -1)
    expected = layer.scale * torch.einsum("irg,iog->or", of_f, layer.kernel) + layer.bias[:, None]
    torch.testing.assert_close(z[0], expected)
    with pytest.raises(ValueError, match="a limit of at most the input's, got 12 rotations and 4"):
        RotationConv(2, 3, 3, 4, grid=layer.grid)


def test_parameters_are_the_sources():
    assert sum(p.numel() for p in Cohen().parameters()) == 154_550
    assert sum(p.numel() for p in Cohen(CohenConfig.shrec17()).parameters()) == 1_399_515
    assert len(near_identity(gammas=1)) == 24 and len(near_identity()) == 192


@pytest.mark.parametrize("pool", ["mean", "max"])
def test_a_small_network_learns_and_is_nearly_invariant(pool):
    network = Cohen(CohenConfig(**{**SMALL.__dict__, "pool": pool, "norm": pool == "max"}))
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
def test_error_of_an_activation_on_rotations_is_the_predicted_one(name, grid):
    fields = torch.randn(64, 4 * 84, dtype=F64) / math.sqrt(84)  # values of variance 1
    layer = RotationActivation(RotationTransform(4, grid), getattr(torch, name), limit=4)
    r = random_rotations(64)
    before, after = layer(rotate_signal(fields, r, layer.in_type)), rotate_signal(layer(fields), r, layer.out_type)
    predicted, _ = rotation_activation_error(FUNCTIONS[name], np.ones(4), grid)
    assert float((before - after).norm() / before.norm()) == pytest.approx(predicted, rel=0.1)  # of 256 signals


def test_activation_on_rotations_gets_better_with_the_grid():
    fields = torch.randn(8, 84, dtype=F64)
    errors = []
    for grid in (4, 8):
        layer = RotationActivation(RotationTransform(1, grid), limit=4)
        r = random_rotations(8)
        before, after = layer(rotate_signal(fields, r, layer.in_type)), rotate_signal(layer(fields), r, layer.out_type)
        errors.append(float((before - after).norm() / before.norm()))
    assert errors[0] < 0.3 and errors[1] < 0.03


def test_impossible_configs_are_refused():
    with pytest.raises(ValueError, match="'median'"):
        CohenConfig(pool="median")
