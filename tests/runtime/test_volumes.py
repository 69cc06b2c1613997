import mpmath
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from runtime import RandomRotation, curl, gradient, rotate_field, turn_field, voxelize
from runtime.so3 import cube_turns, random_rotations, wigner_d
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
def test_voxelize_refuses_arguments_that_do_not_fit(points, kinds, message):
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


NAN, INF = float("nan"), float("inf")


@pytest.mark.parametrize("place", [NAN, INF, -INF, 1e30])
@pytest.mark.parametrize("unit_sum", [True, False])
def test_padding_may_be_anywhere(place, unit_sum):
    points = torch.tensor([[[0.3, 0, 0], [place] * 3]], requires_grad=True)
    options = {"channels": 2, "size": 5, "unit_sum": unit_sum}
    density = voxelize(points, torch.tensor([[1, -1]]), **options)
    assert torch.equal(density, voxelize(points[:, :1], torch.tensor([[1]]), **options))
    density.square().sum().backward()
    assert points.grad.isfinite().all() and not points.grad[0, 1].any()


def test_a_point_that_is_not_finite_is_named():
    with pytest.raises(ValueError, match=r"point 1 of sample 0 is \[nan, 0.0, 0.0\].*kind -1"):
        voxelize(torch.tensor([[[0.0, 0, 0], [NAN, 0, 0]]]), torch.zeros(1, 2, dtype=torch.long), channels=1, size=3)


@pytest.mark.parametrize("sigma", [0.0, -1.0, NAN, INF])
def test_an_invalid_sigma_is_refused(sigma):
    with pytest.raises(ValueError, match="sigma above 0"):
        voxelize(torch.zeros(1, 1, 3), torch.zeros(1, 1, dtype=torch.long), channels=1, size=3, sigma=sigma)


@pytest.mark.parametrize("sigma", [1e-30, 1e-9, 1e-3, 0.03, 0.3])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_narrowest_gaussian_fills_the_nearest_voxel(sigma, dtype):
    points = torch.tensor([[[0.49, -0.3, 1.2]]], dtype=dtype, requires_grad=True)
    kinds = torch.zeros(1, 1, dtype=torch.long)
    density = voxelize(points, kinds, channels=1, size=5, sigma=sigma)
    torch.testing.assert_close(density.sum().item(), 1.0, rtol=1e-3, atol=0)
    if sigma < 0.03:
        assert density[0, 0, 2, 2, 3].item() == pytest.approx(1)
    density.sum().backward()
    assert points.grad.isfinite().all()
    assert voxelize(points, kinds, channels=1, size=5, sigma=sigma, unit_sum=False).isfinite().all()


def test_voxelize_of_narrow_gaussians_is_the_formula_in_exact_arithmetic():
    """exp(-d^2 / 2 w^2) over its sum, with sums that would all round to zero."""
    place, sigma = 0.48, 0.012
    ours = voxelize(
        torch.tensor([[[place, 0.0, 0.0]]], dtype=torch.float64),
        torch.zeros(1, 1, dtype=torch.long),
        channels=1,
        size=4,  # between voxels along x: distances 0.02 and 0.98
        sigma=sigma,
    )
    with mpmath.workdps(400):
        shares = [mpmath.exp(-((x - mpmath.mpf(place)) ** 2) / (2 * mpmath.mpf(sigma) ** 2)) for x in (-0.5, 0.5, 1.5)]
        expected = [float(share / sum(shares)) for share in shares]
    torch.testing.assert_close(ours.sum((0, 1, 3, 4))[1:], torch.tensor(expected, dtype=torch.float64))


def test_voxelize_takes_a_spacing_per_axis():
    points, kinds = 3 * torch.rand(1, 4, 3, dtype=torch.float64) - 1.5, torch.tensor([[0, 1, 1, 0]])
    ours = voxelize(points, kinds, channels=2, size=(6, 5, 4), spacing=(1, 1, 2), sigma=0.9, unit_sum=False)
    axes = [(torch.arange(n) - (n - 1) / 2) * s for n, s in zip((6, 5, 4), (1, 1, 2), strict=True)]
    grid = torch.stack(torch.meshgrid(*axes, indexing="ij"), -1)
    for channel in range(2):
        expected = sum(torch.exp(-(grid - p).square().sum(-1) / 1.62) for p in points[0, kinds[0] == channel])
        torch.testing.assert_close(ours[0, channel], expected)


def test_rotations_use_the_spacing():
    """A ball in space stays a ball; as voxels it is an ellipsoid, and rotating that as if of cubes breaks it."""
    points, kinds = torch.zeros(1, 1, 3, dtype=torch.float64), torch.zeros(1, 1, dtype=torch.long)
    ball = voxelize(points, kinds, channels=1, size=(17, 17, 9), spacing=(1, 1, 2), sigma=2.5, unit_sum=False)
    rotation = random_rotations(1)[0]
    known = rotate_field(ball, rotation, "1x0", voxel_spacing=(1, 1, 2))
    assert (known - ball).abs().max() < 0.1 < 0.3 < (rotate_field(ball, rotation, "1x0") - ball).abs().max()


def test_rotations_of_a_spaced_volume_are_exact_where_its_voxels_map_to_one_another():
    x = torch.randn(2, 4, 6, 6, 4, dtype=torch.float64)
    about_z = next(turn for turn in TURNS if turn[2, 2] == 1 and turn[0, 1] != 0)
    ours = rotate_field(x, about_z, "1x0 + 1x1", voxel_spacing=(1, 1, 3))
    torch.testing.assert_close(ours, turn_field(x, about_z, "1x0 + 1x1"), rtol=0, atol=1e-10)


@pytest.mark.parametrize(
    ("sizes", "spacing", "turns"),
    [((5, 5, 5), 1, 24), ((5, 5, 5), (1, 1, 2), 8), ((5, 5, 4), 1, 8), ((3, 4, 5), 1, 4), ((5, 5, 4), (1, 2, 3), 4)],
)
def test_turns_only_draws_the_turns_of_the_grid(sizes, spacing, turns):
    torch.manual_seed(0)
    layer = RandomRotation("1x0 + 1x1", turns_only=True, voxel_spacing=spacing)
    x = torch.randn(1, 4, *sizes, dtype=torch.float64)
    results = layer(x.expand(300, *x.shape[1:]))
    allowed = [turn_field(x, turn, "1x0 + 1x1")[0] for turn in TURNS[:24]]
    found = set()
    for result in results:
        (which,) = [n for n, y in enumerate(allowed) if y.shape == result.shape and (y - result).abs().max() < 1e-12]
        found.add(which)
    assert len(found) == turns


@pytest.mark.parametrize("turns_only", [False, True])
def test_random_rotations_take_empty_batches_and_refuse_integers(turns_only):
    layer = RandomRotation("1x0 + 1x1", turns_only=turns_only)
    assert layer(torch.zeros(0, 4, 5, 5, 5)).shape == (0, 4, 5, 5, 5)
    with pytest.raises(TypeError, match="real floating-point"):
        layer(torch.ones(1, 4, 5, 5, 5, dtype=torch.int16))


@pytest.mark.parametrize("function", [rotate_field, turn_field])
def test_rotations_refuse_what_they_would_get_wrong(function):
    with pytest.raises(TypeError, match=r"real floating-point fields, got torch.uint8"):
        function(torch.ones(1, 1, 3, 3, 3, dtype=torch.uint8), torch.eye(3), "1x0")
    with pytest.raises(ValueError, match=r"field type 1x1 has 3 channels"):
        function(torch.ones(1, 4, 3, 3, 3), torch.eye(3), "1x1")
    with pytest.raises(ValueError, match="cannot be reflected"):
        function(torch.ones(1, 3, 3, 3, 3), -torch.eye(3), "1x1")


def test_gradient_and_curl_per_unit_of_space():
    axes = [torch.arange(5.0) * s for s in (1, 2, 3)]
    x, y, z = torch.meshgrid(*axes, indexing="ij")
    inside = (slice(None), slice(None), *[slice(1, -1)] * 3)
    slope = gradient((x + 2 * y + 3 * z)[None, None], voxel_spacing=(1, 2, 3))[inside]
    torch.testing.assert_close(slope, torch.tensor([1.0, 2, 3]).view(1, 3, 1, 1, 1).expand_as(slope))
    vortex = curl(torch.stack([z - y, x, -x])[None], voxel_spacing=(1, 2, 3))[inside]
    torch.testing.assert_close(vortex, torch.tensor([0.0, 2, 2]).view(1, 3, 1, 1, 1).expand_as(vortex))
    with pytest.raises(ValueError, match="three channels each, got 4"):
        curl(torch.zeros(1, 4, 3, 3, 3))
    with pytest.raises(TypeError, match="real floating-point"):
        gradient(torch.zeros(1, 1, 3, 3, 3, dtype=torch.int32))


def density(points, kinds):
    return voxelize(points, kinds, channels=2, size=6, sigma=0.8)


def rotated(fields, rotation):
    return rotate_field(fields, rotation, "1x0 + 1x1", voxel_spacing=(1, 1, 2))


CALLS = {
    "voxelize": (density, lambda n: (torch.randn(n, 5, 3), torch.arange(n * 5).reshape(n, 5) % 3 - 1)),
    "rotate_field": (rotated, lambda n: (torch.randn(n, 4, n + 3, n + 3, 5), random_rotations(n))),
}


@pytest.mark.parametrize("name", ["voxelize", pytest.param("rotate_field", marks=pytest.mark.slow)])
def test_functions_compile_without_a_break(name):
    function, make = CALLS[name]
    torch._dynamo.reset()
    compiled = torch.compile(function, fullgraph=True, backend="aot_eager")
    for n in (2, 3, 4):
        arguments = make(n)
        torch.testing.assert_close(compiled(*arguments), function(*arguments))


@pytest.mark.parametrize("name", CALLS)
def test_functions_are_exported(name):
    function, make = CALLS[name]

    class Module(nn.Module):
        def forward(self, *arguments):
            return function(*arguments)

    arguments = make(2)
    program = torch.export.export(Module(), arguments).module()
    torch.testing.assert_close(program(*arguments), function(*arguments))


@pytest.mark.slow
@pytest.mark.parametrize("turns_only", [False, True])
def test_random_rotations_compile_without_a_break(turns_only):
    torch._dynamo.reset()
    layer = RandomRotation("1x0 + 1x1", turns_only=turns_only)
    compiled = torch.compile(layer, fullgraph=True, backend="aot_eager")
    for size in (5, 6, 7):
        x = torch.randn(3, 4, size, size, size)
        y = compiled(x)
        assert y.shape == x.shape and not torch.equal(y, x)
        if turns_only:
            torch.testing.assert_close(y[:, 1:].square().sum((1, 2, 3, 4)), x[:, 1:].square().sum((1, 2, 3, 4)))


def test_values_that_cannot_be_checked_become_nan():
    points, kinds = torch.zeros(2, 1, 3), torch.tensor([[0], [7]])
    compiled = torch.compile(density, fullgraph=True, backend="aot_eager")
    assert compiled(points, kinds)[0].isfinite().all() and compiled(points, kinds)[1].isnan().all()
    mirrored = torch.vmap(lambda r: wigner_d(1, r))(torch.stack([torch.eye(3), -torch.eye(3)]))
    assert mirrored[0].isfinite().all() and mirrored[1].isnan().all()


def test_gradients_of_every_point_by_vmap():
    points, kinds = torch.randn(3, 4, 3), torch.zeros(3, 4, dtype=torch.long)

    def total(p, k):
        return density(p[None], k[None]).square().sum()

    alone = torch.stack([torch.func.grad(total)(p, k) for p, k in zip(points, kinds, strict=True)])
    torch.testing.assert_close(torch.vmap(torch.func.grad(total))(points, kinds), alone)
