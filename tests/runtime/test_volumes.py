import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from runtime import RandomRotation, curl, gradient, rotate_field, turn_field, voxelize
from runtime.so3 import cube_turns, random_rotations
from runtime.strategies import field_types
from runtime.testing import SmoothField, assert_equivariant
from runtime.volumes.rotate import mix_components

TURNS = cube_turns(reflections=True)


@settings(max_examples=20, deadline=None)
@given(field_types(parity=True), st.integers(0, 47), st.integers(0, 47))
def test_turns_compose(field_type, i, j):
    x = torch.randn(1, sum(t.channels for t in field_type), 2, 3, 4, dtype=torch.float64)
    one = turn_field(turn_field(x, TURNS[i], field_type), TURNS[j], field_type)
    torch.testing.assert_close(one, turn_field(x, TURNS[j] @ TURNS[i], field_type))


def test_a_turn_moves_a_vector_to_its_new_place():
    """A quarter turn about z: the vector e_x at (1, 0, 0) becomes e_y at (0, 1, 0)."""
    turn = torch.tensor([[0, -1, 0], [1, 0, 0], [0, 0, 1]])
    x = torch.zeros(1, 3, 3, 3, 3)
    x[0, 0, 2, 1, 1] = 1
    expected = torch.zeros_like(x)
    expected[0, 1, 1, 2, 1] = 1
    torch.testing.assert_close(turn_field(x, turn, "1x1"), expected)


@pytest.mark.parametrize("turn", [1, 5, 13, 30, 47])
def test_rotate_field_by_a_turn_is_the_turn(turn):
    field_type = "1x0e + 1x1o + 1x2e"
    x = torch.randn(2, 9, 5, 5, 5, dtype=torch.float64)
    torch.testing.assert_close(rotate_field(x, TURNS[turn], field_type), turn_field(x, TURNS[turn], field_type))


def test_rotate_field_keeps_its_place_in_volumes_of_unequal_sides():
    half_turn = torch.diag(torch.tensor([-1.0, -1.0, 1.0]))
    x = torch.randn(1, 3, 4, 5, 6, dtype=torch.float64)
    torch.testing.assert_close(rotate_field(x, half_turn, "1x1"), turn_field(x, half_turn, "1x1"))


def test_rotate_field_approaches_the_analytic_rotation():
    field = SmoothField.random("1x0 + 1x1 + 1x2", 16.0, 4.0)
    rotation = random_rotations(1, generator=torch.Generator().manual_seed(2))[0]
    expected = field.rotated(rotation).sample(21)
    assert (rotate_field(field.sample(21), rotation, field.field_type) - expected).norm() < 0.05 * expected.norm()
    assert (rotate_field(field.sample(21), rotation.mT, field.field_type) - expected).norm() > 0.5 * expected.norm()


def test_rotate_field_takes_one_rotation_per_sample():
    rotations, x = random_rotations(3), torch.randn(3, 4, 6, 6, 6)
    together = rotate_field(x, rotations, "1x0 + 1x1")
    for i in range(3):
        torch.testing.assert_close(together[i : i + 1], rotate_field(x[i : i + 1], rotations[i], "1x0 + 1x1"))


@pytest.mark.parametrize("turns_only", [False, True])
def test_random_rotation_augments_in_training_only(turns_only):
    layer, x = RandomRotation("1x0 + 1x1", turns_only=turns_only), torch.randn(8, 4, 4, 4, 4)
    assert layer.eval()(x) is x
    layer.train()
    first, second = layer(x), layer(x)
    assert first.shape == x.shape and not torch.equal(first, second)
    if turns_only:
        lengths = x[:, 1:].norm(dim=1).flatten(1).sort().values
        torch.testing.assert_close(first[:, 1:].norm(dim=1).flatten(1).sort().values, lengths)


def brute_force(points, kinds, channels, sizes, spacing, sigma):
    volume = torch.zeros(len(points), channels, *sizes, dtype=torch.float64)
    axes = [(torch.arange(n) - (n - 1) / 2) * spacing for n in sizes]
    grid = torch.stack(torch.meshgrid(*axes, indexing="ij"), -1)
    for b in range(len(points)):
        for point, kind in zip(points[b], kinds[b], strict=True):
            if kind >= 0:
                volume[b, kind] += torch.exp(-(grid - point).square().sum(-1) / (2 * sigma**2))
    return volume


@pytest.mark.parametrize("chunk", [2, 1024])
def test_voxelize_is_a_sum_of_gaussians(chunk):
    points = 6 * torch.rand(2, 7, 3, dtype=torch.float64) - 3
    kinds = torch.randint(-1, 3, (2, 7))
    ours = voxelize(points, kinds, channels=3, size=(6, 7, 8), spacing=1.5, sigma=1.1, unit_sum=False, chunk=chunk)
    torch.testing.assert_close(ours, brute_force(points, kinds, 3, (6, 7, 8), 1.5, 1.1))


def test_voxelize_gives_every_point_the_sum_one():
    points = 10 * torch.rand(4, 9, 3, dtype=torch.float64) - 5
    kinds = torch.randint(0, 2, (4, 9))
    density = voxelize(points, kinds, channels=2, size=30)  # sigma half a voxel: far from smooth, so far from free
    expected = torch.stack([(kinds == c).sum(1) for c in range(2)], 1)
    torch.testing.assert_close(density.sum((2, 3, 4)), expected.double())


def test_voxelize_lets_points_leave_the_volume():
    points = torch.tensor([[[0.0, 0, 4.5]], [[0, 0, 100]]], dtype=torch.float64)
    sums = voxelize(points, torch.zeros(2, 1, dtype=torch.long), channels=1, size=9, sigma=0.5).sum((1, 2, 3, 4))
    torch.testing.assert_close(sums, torch.tensor([0.5, 0.0], dtype=torch.float64))


def test_voxelize_is_equivariant_to_turns_of_the_points():
    points, kinds = 4 * torch.rand(1, 5, 3, dtype=torch.float64) - 2, torch.randint(0, 2, (1, 5))
    options = {"channels": 2, "size": 7, "spacing": 0.8}
    for turn in TURNS[::7]:
        turned = voxelize(points @ turn.double().mT, kinds, **options)
        torch.testing.assert_close(turned, turn_field(voxelize(points, kinds, **options), turn, "2x0e"))


def test_voxelize_has_gradients_to_the_points():
    kinds = torch.tensor([[0, 1, -1]])
    points = torch.rand(1, 3, 3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda p: voxelize(p, kinds, channels=2, size=3, sigma=0.7), points)


@pytest.mark.parametrize(
    ("points", "kinds", "message"),
    [
        (torch.zeros(2, 3), torch.zeros(2, dtype=torch.long), r"got \(2, 3\) and \(2,\)"),
        (torch.zeros(1, 2, 3), torch.zeros(1, 3, dtype=torch.long), "Pad shorter samples with points of kind -1"),
        (torch.zeros(1, 2, 3), torch.tensor([[0, 5]]), "kind 5 has no channel, there are 4"),
    ],
)
def test_voxelize_refuses(points, kinds, message):
    with pytest.raises(ValueError, match=message):
        voxelize(points, kinds, channels=4, size=3)


def test_voxelize_of_nothing_is_zero():
    assert not voxelize(torch.zeros(2, 0, 3), torch.zeros(2, 0, dtype=torch.long), channels=1, size=3).any()


class Function(nn.Module):
    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, fields):
        return self.function(fields)


def test_gradient_makes_vectors_and_curl_turns_their_parity():
    assert_equivariant(Function(gradient), "2x0e", "2x1o", wavelengths=(8,), max_rotation_error=0.1)
    assert_equivariant(Function(curl), "2x1o", "2x1e", wavelengths=(8,), max_rotation_error=0.1)
    with pytest.raises(AssertionError):
        assert_equivariant(Function(gradient), "2x0e", "2x1e")
    with pytest.raises(AssertionError):
        assert_equivariant(Function(curl), "2x1o", "2x1o")


def test_gradient_and_curl_of_known_fields():
    x, y, z = torch.meshgrid(*[torch.arange(5.0)] * 3, indexing="ij")
    inside = (slice(None), slice(None), *[slice(1, -1)] * 3)
    slope = gradient((x + 2 * y + 3 * z)[None, None])[inside]
    torch.testing.assert_close(slope, torch.tensor([1.0, 2, 3]).view(1, 3, 1, 1, 1).expand_as(slope))
    vortex = curl(torch.stack([-y, x, 0 * z])[None])[inside]
    torch.testing.assert_close(vortex, torch.tensor([0.0, 0, 2]).view(1, 3, 1, 1, 1).expand_as(vortex))
    assert not curl(gradient(torch.randn(1, 1, 6, 6, 6, dtype=torch.float64)))[inside][inside].round(decimals=12).any()


def test_mix_components_takes_vectors_without_space():
    rotation = random_rotations(1)[0]
    v = torch.randn(4, 3, dtype=torch.float64)
    torch.testing.assert_close(mix_components(v, rotation, "1x1"), v @ rotation.mT)
