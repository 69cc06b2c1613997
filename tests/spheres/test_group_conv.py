"""Correlations with learned filters: D^l at points, counts and completeness, equivariance, torch, hostile specs."""

from __future__ import annotations

import copy
import pickle
from fractions import Fraction
from types import ModuleType

import numpy as np
import pytest
import torch
from scipy.linalg import null_space
from scipy.spatial.transform import Rotation

from basisgen.errors import SpecError
from basisgen.so3.field_type import Irrep, parse_field_type
from basisgen.so3.wigner import field_matrix, wigner_d
from basisgen.spec import parse_layer
from basisgen.spheres.rotation_grid import RotationGrid, Shape, orders, values_on_rotations, values_on_sphere

SPEC = """
name = "correlations"
[defaults.rotation_conv]
grid = "near_identity"
[[layer]]
kind = "sphere_conv"
name = "Conv1"
in = "2x0..5"
out = "3x0..3r"
grid = "near_identity"
[[layer]]
kind = "rotation_conv"
name = "Conv2"
in = "Conv1"
out = "2x0..2r2"
[[layer]]
kind = "rotation_conv"
name = "Around"
in = "Conv1"
out = "2x0..3r"
grid = "equatorial"
[[layer]]
kind = "rotation_conv"
name = "All"
in = "1x0..2r"
out = "2x0..1r"
alphas = 4
max_beta = 1
[[layer]]
kind = "sphere_conv"
name = "AllOfSphere"
in = "2x0..2"
out = "1x0..2r"
grid = "near_identity"
max_beta = "1/2"
[[layer]]
kind = "rotation_conv"
name = "Few"
in = "1x0..2r"
out = "2x0..1r"
grid = "equatorial"
"""
LAYERS = ("Conv1", "Conv2", "Around", "All", "AllOfSphere", "Few")


def matrices(grid: RotationGrid) -> list[np.ndarray]:
    """Y(alpha) X(beta) Y(gamma) by scipy."""
    return [Rotation.from_euler("YXY", [float(angle) * np.pi for angle in point]).as_matrix() for point in grid.points]


@pytest.mark.parametrize(
    "grid",
    [
        RotationGrid(Shape.NEAR_IDENTITY, 4, 2, 3, Fraction(1, 8), Fraction(2)),
        RotationGrid(Shape.EQUATORIAL, 5, 3, 2, Fraction(1, 2), Fraction(37, 100)),
        RotationGrid(Shape.NEAR_IDENTITY, 1, 1, 1, Fraction(1), Fraction(0)),
    ],
)
def test_values_are_those_of_the_exact_generators(grid: RotationGrid) -> None:
    """D^l, and harmonics of e3nn's; both poles are among the points."""
    found, row = values_on_rotations(grid, 5, 5, 3), 0
    for l in range(5):
        D = np.array([wigner_d(Irrep(l), r) for r in matrices(grid)])
        for n in orders(l, 5):
            for k in orders(l, 3):
                assert np.abs(found[row] - D[:, n + l, k + l]).max() < 1e-13
                row += 1
    assert row == len(found)
    o3 = pytest.importorskip("e3nn.o3")
    directions = torch.tensor(np.array(matrices(grid)))[:, :, 1]
    theirs = o3.spherical_harmonics(list(range(5)), directions, normalize=True, normalization="integral")
    assert np.abs(values_on_sphere(grid, 5, 5).T - theirs.numpy()).max() < 1e-13


def test_numbers_do_not_depend_on_the_rest_of_the_table() -> None:
    """Correctly rounded ones do not: of fewer orders and degrees they are the same bits."""
    grid = RotationGrid(Shape.NEAR_IDENTITY, 3, 2, 2, Fraction(1, 8), Fraction(1, 3))
    whole, row, at = values_on_rotations(grid, 6, 6, 6), 0, {}
    for l in range(6):
        for n in orders(l, 6):
            for k in orders(l, 6):
                at[l, n, k], row = row, row + 1
    less = values_on_rotations(grid, 4, 2, 3)
    keys = [(l, n, k) for l in range(4) for n in orders(l, 2) for k in orders(l, 3)]
    assert np.array_equal(less, whole[[at[key] for key in keys]])


def test_grids_are_those_of_the_public_code() -> None:
    near = parse_layer(
        {"kind": "rotation_conv", "name": "C", "in": "1x0..5r", "out": "1x0..5r", "grid": "near_identity"}
    )
    assert len(near.grid) == 192 and near.grid.points[0] == (0, Fraction(1, 24), -2)
    assert near.grid.points[-1] == (Fraction(7, 4), Fraction(1, 8), 2 - Fraction(7, 4))
    sphere = parse_layer(
        {"kind": "sphere_conv", "name": "C", "in": "1x0..5", "out": "1x0..5r", "grid": "near_identity"}
    )
    assert len(sphere.grid) == 24
    equator = parse_layer(
        {"kind": "rotation_conv", "name": "C", "in": "1x0..5r", "out": "1x0..3r", "grid": "equatorial"}
    )
    assert len(equator.grid) == 12 and {beta for _, beta, _ in equator.grid.points} == {Fraction(1, 2)}


def _types(module: torch.nn.Module) -> tuple[str, str]:
    return tuple(" + ".join(f"{n}x{l}" for n, l, _ in of) for of in (module.in_type, module.out_type))  # type: ignore[return-value]


@pytest.mark.parametrize("name", LAYERS)
def test_correlations_are_equivariant(package: ModuleType, name: str) -> None:
    module = getattr(package, name)(dtype=torch.float64)
    rotation = Rotation.random(random_state=1).as_matrix()
    right, left = (torch.tensor(field_matrix(parse_field_type(of), rotation)) for of in _types(module))
    matrix = module.matrix()
    assert matrix.abs().max() > 0.01 and (left @ matrix - matrix @ right).abs().max() < 1e-13


@pytest.mark.parametrize(("name", "complete"), [("All", True), ("AllOfSphere", True), ("Few", False)])
def test_the_count_of_schur_is_that_of_all_maps_and_reached_where_points_suffice(
    package: ModuleType, name: str, complete: bool
) -> None:
    """All solutions of A D_in = D_out A by brute force; the span of the layer's maps; neither knows Schur's lemma."""
    module = getattr(package, name)(dtype=torch.float64, bias=False)
    spec = next(layer for layer in _plan().layers if layer.spec.name == name)
    basis = torch.eye(module.in_channels, dtype=torch.float64)
    jacobian = torch.autograd.functional.jacobian(
        lambda weight: torch.func.functional_call(module, {"weight": weight}, basis), module.weight
    ).reshape(module.in_channels * module.out_channels, -1)
    reached = int(torch.linalg.matrix_rank(jacobian, rtol=1e-9))
    assert reached <= min(spec.dimension, spec.weights)
    assert (reached == spec.dimension) is complete
    equations = []
    for seed in (1, 2):
        rotation = Rotation.random(random_state=seed).as_matrix()
        right, left = (field_matrix(parse_field_type(of), rotation) for of in _types(module))
        equations.append(np.kron(left, np.eye(len(right))) - np.kron(np.eye(len(left)), right.T))
    assert null_space(np.concatenate(equations), rcond=1e-9).shape[1] == spec.dimension


def _plan():  # type: ignore[no-untyped-def]
    from basisgen.pipeline import plan
    from basisgen.spec import parse_package

    return plan(parse_package(SPEC))


def test_counts_and_costs_are_stated() -> None:
    layers = {layer.spec.name: layer for layer in _plan().layers}
    conv = layers["Conv2"]  # 3 signals of 1, 3, 5 fragments to 2 of 1, 3, 3
    assert conv.facts() == {
        "table": "rotation_conv_near_identity_3",
        "points": 192,
        "weights": 3 * 2 * 192,
        "dimension": 6 * (1 + 9 + 15),
        "cost": {"multiply_adds_per_sample": 6 * (1 + 27 + 75), "multiply_adds_of_filters": 25 * 1152},
    }
    assert layers["Conv1"].dimension == 2 * 3 * (1 + 3 + 5 + 7)


def test_unit_variance_in_unit_variance_out(package: ModuleType) -> None:
    torch.manual_seed(0)
    for name in ("Conv1", "Around"):
        outputs = [getattr(package, name)()(torch.randn(64, getattr(package, name)().in_channels)) for _ in range(40)]
        assert 0.8 < torch.stack(outputs).var() < 1.25


def test_a_layer_acts_at_every_place_and_its_state_is_its_weights(package: ModuleType) -> None:
    module = package.Conv2()
    x = torch.randn(2, module.in_channels, 3)
    out = module(x)
    assert out.shape == (2, module.out_channels, 3) and "192 points" in repr(module)
    assert torch.allclose(out[..., 1], module(x[..., 1]), atol=1e-6)
    assert set(module.state_dict()) == {"weight", "bias", "_extra_state"} and module.weight.shape == (3, 2, 192)
    with pytest.raises(RuntimeError, match=r"were made for .*192 points"):
        package.Around().load_state_dict(module.state_dict())
    for other in (copy.deepcopy(module), pickle.loads(pickle.dumps(module))):
        assert torch.equal(other(x), out)
    assert torch.allclose(torch.export.export(module, (x,)).module()(x), out, atol=1e-6)
    with torch.autocast("cpu"):
        assert module(x).shape == out.shape
    assert module.bfloat16()(x.bfloat16()).shape == out.shape
    module = package.Conv2()
    assert module(x[:0]).shape == (0, module.out_channels, 3)
    with pytest.raises(ValueError, match="takes a field"):
        module(x[:, 1:])
    per_sample = torch.vmap(torch.func.grad(lambda one: module(one[None]).square().sum()))(x)
    assert per_sample.shape == x.shape
    with torch.no_grad():
        module.bias.fill_(1.0)
        assert torch.equal(module(x * 0)[:, :2], torch.ones(2, 2, 3)) and not module(x * 0)[:, 2:].any()


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")  # torch's own, on importing its compiler
def test_compiles_whole(package: ModuleType) -> None:
    module = package.Conv2()
    x = torch.randn(2, module.in_channels)
    whole = torch.compile(module, fullgraph=True)
    assert torch.allclose(whole(x), module(x), atol=1e-5)
    whole(x).sum().backward()


GOOD = {"kind": "rotation_conv", "name": "C", "in": "2x0..3r", "out": "3x0..2r", "grid": "near_identity"}


def test_a_description_is_read_back() -> None:
    for more in (
        {}, {"grid": "equatorial"}, {"max_beta": "0.1", "gammas": 3, "max_gamma": "1/3"},
        {"kind": "sphere_conv", "in": "2x0..3"}, {"kind": "sphere_conv", "in": "2x0..3", "alphas": 5, "betas": 1},
    ):  # fmt: skip
        spec = parse_layer({**GOOD, **more})
        assert parse_layer(spec.describe()) == spec


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"grid": None}, "has no key 'grid'"),
        ({"out": None}, "has no key 'out'"),
        ({"grid": "healpix"}, "is not one of near_identity, equatorial"),
        ({"grid": 3}, "is not one of"),
        ({"grid": {"shape": "near_identity"}}, "is not one of"),
        ({"in": "2x0..3e"}, "not a signal on the rotation group"),
        ({"in": "2x0..3n"}, "not a signal on the rotation group"),
        ({"in": "2x0 + 7x1"}, "not a signal on the rotation group"),
        ({"out": "3x1..2"}, "not a signal on the rotation group"),
        ({"out": "3x1 + 3x2"}, "not a signal on the rotation group"),
        ({"out": "3x0..4r"}, "has band limit 5, in = '2x0..3r' has 4"),
        ({"kind": "sphere_conv"}, "'2x0..3r' is not a signal on the sphere.*signal on the rotation group"),
        ({"kind": "sphere_conv", "in": "2x0..3n"}, "'2x0..3n' has a parity, which functions of rotations lack"),
        ({"kind": "sphere_conv", "in": "2x0..3", "gammas": 3}, "unknown key 'gammas'"),
        ({"kind": "sphere_conv", "in": "2x0..3", "max_gamma": 1}, "unknown key 'max_gamma'"),
        ({"alphas": 0}, "is not a whole number from 1 to 4096"),
        ({"alphas": True}, "is not a whole number"),
        ({"alphas": "8"}, "is not a whole number"),
        ({"alphas": 2.5}, "is not a whole number"),
        ({"alphas": 10**9}, "is not a whole number"),
        ({"betas": 65}, "is not a whole number from 1 to 64"),
        ({"gammas": -1}, "is not a whole number"),
        ({"alphas": 4096}, "98304 points, the limit is 4096"),
        ({"max_beta": 0}, "puts all points at the identity"),
        ({"max_beta": 2}, "is not 0 or a part of pi from 1/1000 to 1, as"),
        ({"max_beta": "1/1000000"}, "is not 0 or a part of pi"),
        ({"max_beta": -1}, "is not 0 or a part of pi"),
        ({"max_beta": "pi"}, "is not 0 or a part of pi"),
        ({"max_beta": float("nan")}, "is not 0 or a part of pi"),
        ({"max_beta": [1]}, "is not 0 or a part of pi"),
        ({"max_gamma": 3}, "is not 0 or a part of pi from 1/1000 to 2"),
        ({"max_gamma": 0}, "gammas = 8 and max_gamma = 0: the points coincide"),
        ({"grid": "equatorial", "betas": 3}, "betas = 3 and max_beta = 0: the points coincide"),
        ({"grid": "equatorial", "max_beta": 1}, "is not 0 or a part of pi from 1/1000 to 1/2"),
        ({"in": "1x0..31r", "out": "1x0..31r"}, "its table would have \\d+ numbers, the limit is"),
        ({"in": "1x0..200r", "out": "1x0..2r"}, "over the limit|channels, the limit"),
        ({"in": "3000x0", "out": "3000x0"}, "would have more than"),
        ({"kernel_size": 3}, "unknown key"),
        ({"mixing": "all"}, "unknown key"),
        ({"channels": 2}, "unknown key"),
        ({"space": "rotations"}, "unknown key"),
        ({"stride": 2}, "not part of a spec"),
    ],
)
def test_wrong_correlations_are_one_line(change: dict[str, object], message: str) -> None:
    table = {key: value for key, value in {**GOOD, **change}.items() if value is not None}
    with pytest.raises(SpecError, match=message) as error:
        parse_layer(table)
    assert "\n" not in str(error.value)
