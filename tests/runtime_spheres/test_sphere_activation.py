"""Activations on samples: their equivariance error is the one predicted, on signals and on fields of volumes."""

import math
from functools import partial

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

import runtime as rt
from basisgen.spheres.activation_error import FUNCTIONS, RingAnalysis, activation_error
from basisgen.spheres.sphere_grid import Sampling
from runtime.so3 import random_rotations
from runtime.spheres.activation import RotationActivation, SphereActivation
from runtime.spheres.signals import rotate_signal, signal_type
from runtime.spheres.specs import spec_text
from runtime.testing import assert_equivariant as rt_assert_equivariant
from tests.runtime.oracle import OracleConv
from tests.runtime_spheres.transforms import rotation_transform, sphere_transform


def error(layer, fields):
    rotations = random_rotations(len(fields))
    before = layer(rotate_signal(fields, rotations, layer.in_type))
    after = rotate_signal(layer(fields), rotations, layer.out_type)
    return float((before - after).norm() / before.norm())


def generated(compiled, multiplicity, limit, grid):
    layer = {"kind": "transform", "name": "Transform", "in": signal_type(multiplicity, limit), "grid": grid}
    return compiled(spec_text("grids", [layer])).Transform()


def white(count, multiplicity, limit):
    """Signals whose values have variance 1."""
    return torch.randn(count, multiplicity * limit**2, dtype=torch.float64) * math.sqrt(4 * math.pi) / limit


@pytest.mark.parametrize("name", ["relu", "tanh"])
@pytest.mark.parametrize("factor", [1, 2])
@pytest.mark.parametrize("grid", ["mw", "gauss"])
def test_error_on_generated_transforms_is_the_predicted_one(compiled, name, factor, grid):
    layer = SphereActivation(generated(compiled, 4, 8 * factor, grid), getattr(torch, name), limit=8)
    analysis = RingAnalysis.of(Sampling(grid), 8 * factor).cut(8)
    predicted, _ = activation_error(FUNCTIONS[name], np.ones(8), analysis)
    assert error(layer, white(64, 4, 8)) == pytest.approx(predicted, rel=0.1)


def test_relu_at_twice_the_band_limit_keeps_the_goal():
    layer = SphereActivation(sphere_transform(4, 16), limit=8)
    assert error(layer, white(64, 4, 8)) <= 0.03
    falling = signal_type(4, 8)
    scale = torch.cat([torch.full((t.channels,), 1 / (1 + t.degree) ** 2) for t in falling]).double()
    assert error(layer, white(256, 4, 8) * scale) <= 0.003  # amplitudes that fall as 1 / l^2: 0.0026 is predicted
    assert error(layer, white(64, 4, 8) * scale.sqrt()) > 0.01  # powers that do: 0.013
    finer = SphereActivation(sphere_transform(4, 32), limit=8)
    assert error(finer, white(64, 4, 8) * scale.sqrt()) <= 0.003  # 0.0020


def test_the_identity_is_exact_and_a_polynomial_of_the_grid_too():
    fields = white(3, 2, 6)
    torch.testing.assert_close(SphereActivation(sphere_transform(2, 6), nn.Identity())(fields), fields)
    assert error(SphereActivation(sphere_transform(2, 9), torch.square, limit=6), fields) < 1e-12


def test_fewer_degrees_out():
    layer = SphereActivation(sphere_transform(2, 6), out_limit=3)
    assert layer(white(3, 2, 6)).shape == (3, 18) and layer.out_type == signal_type(2, 3)


@pytest.mark.parametrize("limit", [4, 12])  # as one matrix, and in the transform's steps
def test_a_transform_of_one_signal_serves_any_number(compiled, limit):
    one, three = (generated(compiled, signals, limit, "driscoll_healy") for signals in (1, 3))
    few = {"limit": 3, "out_limit": 2}
    layer, wanted = SphereActivation(one, signals=3, **few), SphereActivation(three, **few)
    assert (layer.in_type, layer.out_type) == (wanted.in_type, wanted.out_type)
    fields = torch.randn(2, 27, 2, 3, dtype=torch.float64)
    torch.testing.assert_close(layer(fields), wanted(fields))
    assert layer(fields[:0]).shape == (0, 12, 2, 3)
    weights = SphereActivation(one, nn.PReLU(3, dtype=torch.float64), signals=3, **few)  # a weight for each signal
    assert weights(fields).shape == wanted(fields).shape
    assert SphereActivation(three, signals=3).in_type == three.field_type


@pytest.mark.parametrize("signals", [2, 0, 1.0])
def test_a_transform_of_several_signals_serves_as_many(signals):
    with pytest.raises(ValueError, match=f"signals = {signals}: .* a transform of 3x0"):
        SphereActivation(sphere_transform(3, 4), signals=signals)


def test_every_voxel_of_a_volume_by_itself():
    layer = SphereActivation(sphere_transform(2, 5), limit=3)
    fields = torch.randn(2, 18, 2, 3, 4, dtype=torch.float64)
    volume = layer(fields)
    assert volume.shape == fields.shape
    torch.testing.assert_close(volume[..., 1, 2, 3], layer(fields[..., 1, 2, 3]))
    assert layer(fields[:0]).shape == (0, 18, 2, 3, 4)


@pytest.mark.parametrize("grid", ["driscoll_healy", "equiangular"])
def test_turns_of_the_cube_are_exact_where_asked(compiled, grid):
    """On fields of a volume and on signals; without `cube` they are not, and on other grids it is refused."""
    transform = generated(compiled, 2, 8, grid)
    layer = SphereActivation(transform, limit=4, cube=True)
    report = rt_assert_equivariant(layer, wavelengths=(), size=3)
    assert report.turn_error < 1e-13
    with pytest.raises(AssertionError, match="is not equivariant"):
        rt_assert_equivariant(SphereActivation(transform, limit=4), wavelengths=(), size=3)
    fields = white(64, 2, 4)
    assert error(layer, fields) < 0.8 * error(SphereActivation(transform, limit=4), fields)
    with pytest.raises(ValueError, match="15 points on each of 8 rings"):
        SphereActivation(generated(compiled, 2, 8, "mw"), cube=True)


def test_a_volume_network_without_gates_is_exact_under_turns_of_the_cube(compiled):
    """Convolution and activation on samples at every voxel, in place of a gate."""
    activation = partial(SphereActivation, generated(compiled, 2, 4, "driscoll_healy"), F.silu, limit=3, cube=True)
    block = rt.GatedBlock(OracleConv("1x0", "2x0 + 2x1 + 2x2"), activation=lambda _: activation())
    head = rt.GatedBlock(OracleConv("2x0 + 2x1 + 2x2", "2x0 + 2x1 + 2x2"), activation=lambda _: activation())
    network = nn.Sequential(block, head)
    report = rt_assert_equivariant(network, "1x0", "2x0 + 2x1 + 2x2", size=5, wavelengths=())
    assert report.turn_error < 1e-12


@pytest.mark.parametrize("grid", ["mw", "gauss", "driscoll_healy", "equiangular"])
@pytest.mark.parametrize(("limit", "out_limit"), [(6, 6), (4, 2), (3, 5)])
def test_one_matrix_each_way_is_the_transform(compiled, grid, limit, out_limit):
    """Small grids are applied as matrices; with a function for each signal, and in float32."""
    layer = SphereActivation(generated(compiled, 3, 6, grid), nn.PReLU(3), limit=limit, out_limit=out_limit).double()
    with torch.no_grad():
        layer.function.weight.copy_(torch.tensor([0.1, -0.4, 0.7]))
    fields = torch.randn(4, 3 * limit**2, 2, 3, dtype=torch.float64)
    assert layer._dense
    found, single = layer(fields), layer.float()(fields.float())
    layer.double()._dense = False
    torch.testing.assert_close(found, layer(fields), rtol=0, atol=1e-13)
    torch.testing.assert_close(single.double(), found, rtol=0, atol=1e-5)


def test_large_grids_are_applied_in_steps(compiled):
    assert not SphereActivation(generated(compiled, 1, 32, "mw"))._dense


def test_learned_functions_and_gradients():
    layer = SphereActivation(sphere_transform(2, 4), nn.PReLU(2, 0.1, dtype=torch.float64), limit=3)
    assert [name for name, _ in layer.named_parameters()] == ["function.weight"]
    x = torch.randn(3, 18, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(layer, (x,))
    assert "2x0 + 2x1 + 2x2" in repr(layer)


def test_signals_on_the_rotation_group():
    """2 l + 1 fragments of each degree; equivariant to rotations of the left index, by the same reasoning."""
    transform = rotation_transform(1, 4)
    fields = torch.randn(8, sum((2 * l + 1) ** 2 for l in range(4)), dtype=torch.float64)
    torch.testing.assert_close(transform.analysis(transform.synthesis(fields)), fields)
    errors = [error(RotationActivation(rotation_transform(1, grid), limit=4), fields) for grid in (4, 8)]
    assert 0.1 < errors[0] < 0.4 and errors[1] < 0.03
    assert rt.as_field_type("1x0 + 3x1 + 5x2 + 7x3") == RotationActivation(transform).in_type


def test_what_is_no_transform_or_too_small_a_grid():
    with pytest.raises(ValueError, match="Linear is not a transform: it has no field_type"):
        SphereActivation(nn.Linear(2, 2))
    with pytest.raises(ValueError, match="grid of band limit 3, which does not carry a limit of 4"):
        SphereActivation(sphere_transform(2, 3), limit=4)
    with pytest.raises(ValueError, match="SphereActivation takes 18 channels"):
        SphereActivation(sphere_transform(2, 3))(torch.zeros(1, 17))
