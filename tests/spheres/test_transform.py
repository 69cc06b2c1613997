"""Transforms: the tables against oracles that share no code, the round trip, equivariance, controls of the proofs."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Iterator
from types import ModuleType

import numpy as np
import pytest
import torch
from scipy.special import eval_legendre, gammaln, lpmv, roots_legendre

from basisgen.errors import ProofError, SpecError
from basisgen.so3.field_type import parse_field_type
from basisgen.so3.wigner import field_matrix
from basisgen.spec import parse_layer
from basisgen.spheres import sphere_grid
from basisgen.spheres.fixed_point import PrecisionError, cos_sin, in_limbs, nearest, product
from basisgen.spheres.harmonic_tables import Tables, tables
from basisgen.spheres.sphere_grid import Sampling, enough_bits, rings, weights

GRIDS = list(Sampling)


@pytest.fixture(scope="module")
def package() -> Iterator[ModuleType]:
    from basisgen.emission.imported import imported
    from basisgen.pipeline import compile_package
    from basisgen.spec import parse_package

    layers = "".join(
        f'[[layer]]\nkind = "transform"\nname = "{grid.value.title().replace("_", "")}"\nin = "2x0..6"\n'
        f'grid = "{grid.value}"\n'
        for grid in GRIDS
    )
    with imported(compile_package(parse_package(f'name = "grids"\n{layers}')), "grids") as module:
        yield module


def _orders(L: int) -> list[tuple[int, int]]:
    return [(m, l) for m in range(L) for l in range(m, L)]


def _module(package: ModuleType, grid: Sampling) -> type:
    return getattr(package, grid.value.title().replace("_", ""))  # type: ignore[no-any-return]


@pytest.mark.parametrize("L", [1, 2, 7, 16, 32])
@pytest.mark.parametrize("grid", GRIDS)
def test_analysis_after_synthesis_is_the_identity(grid: Sampling, L: int) -> None:
    table, start = tables(grid, L), 0
    for m in range(L):
        rows = slice(start, start + L - m)
        start += L - m
        assert np.abs(table.analysis[rows] @ table.synthesis[rows].T - np.eye(L - m)).max() < 1e-15 * 3


@pytest.mark.slow
def test_the_largest_band_limit_keeps_its_digits() -> None:
    """The bounds on the errors of the recursion are largest on Gauss nodes."""
    table, L = tables(Sampling.GAUSS, 128), 128
    assert np.abs(table.analysis[:L] @ table.synthesis[:L].T - np.eye(L)).max() < 1e-14


@pytest.mark.parametrize("grid", GRIDS)
def test_synthesis_is_scipys_legendre(grid: Sampling) -> None:
    L = 24
    table = tables(grid, L)
    for row, (m, l) in enumerate(_orders(L)):
        norm = np.sqrt((2 * l + 1) / (4 * np.pi) * np.exp(gammaln(l - m + 1) - gammaln(l + m + 1)))
        theirs = (-1) ** m * norm * lpmv(m, l, table.cos_theta)
        assert np.abs(table.synthesis[row] - theirs).max() < 1e-13


@pytest.mark.parametrize("L", [8, 33, pytest.param(64, marks=pytest.mark.slow)])
def test_gauss_is_scipys(L: int) -> None:
    table = tables(Sampling.GAUSS, L)
    nodes, weight = roots_legendre(L)
    assert np.abs(table.cos_theta[::-1] - nodes).max() < 1e-14
    assert np.abs(table.analysis[0][::-1] - weight * np.sqrt(np.pi)).max() < 1e-13


@pytest.mark.parametrize("L", [5, 16])
def test_mw_is_an_integral_of_its_own_interpolation(L: int) -> None:
    """Analysis rows of order m integrate cos(k theta) or sin(k theta) as a fine Gauss quadrature does."""
    table = tables(Sampling.MW, L)
    nodes, weight = roots_legendre(4 * L)
    theta, ring = np.arccos(nodes), np.arccos(np.clip(table.cos_theta, -1, 1))
    for row, (m, l) in enumerate(_orders(L)):
        norm = np.sqrt((2 * l + 1) / (4 * np.pi) * np.exp(gammaln(l - m + 1) - gammaln(l + m + 1)))
        harmonic = (-1) ** m * norm * lpmv(m, l, nodes)
        for k in range(L):
            wave = np.sin if m % 2 else np.cos
            assert abs(table.analysis[row] @ wave(k * ring) - 2 * np.pi * weight @ (harmonic * wave(k * theta))) < 1e-13


def test_numbers_are_those_of_more_bits() -> None:
    """Correct rounding does not depend on the precision."""
    from basisgen.spheres.harmonic_tables import _tables

    for grid in GRIDS:
        a, b = _tables(grid, 9, None, enough_bits(9)), _tables(grid, 9, None, enough_bits(9) + 500)
        for name in ("analysis", "synthesis", "cos_theta", "trigonometric"):
            assert np.array_equal(getattr(a, name), getattr(b, name))


def test_rounding_refuses_a_tie() -> None:
    one = 1 << 300
    assert nearest(np.array([one // 3], object), 1, 300)[0] == 1 / 3
    assert nearest(np.array([5], object), 6, 300)[0] == 0
    with pytest.raises(PrecisionError):
        nearest(np.array([one + (one >> 53)], object), 1, 300)
    with pytest.raises(PrecisionError):
        nearest(np.array([one], object), one >> 50, 300)
    assert cos_sin(sphere_grid.Fraction(1, 3), 64)[0] in (1 << 63, (1 << 63) - 1)


@pytest.mark.parametrize("grid", [grid for grid in GRIDS if grid is not Sampling.MW])
def test_a_wrong_weight_of_one_ring_is_found(grid: Sampling) -> None:
    L = 6
    fixed = rings(grid, L, enough_bits(L))
    weight = weights(grid, L, fixed)
    sphere_grid.check_quadrature(L, fixed, weight)
    for ring in range(len(weight)):
        wrong = weight.copy()
        wrong[ring] += 1 << (fixed.bits - 150)
        with pytest.raises(ProofError, match="do not integrate"):
            sphere_grid.check_quadrature(L, fixed, wrong)
    with pytest.raises(ProofError):
        sphere_grid.check_quadrature(L + 3, fixed, weight)


def test_a_wrong_interpolation_is_found() -> None:
    L = 6
    nodes = sphere_grid.gauss_rings(L, enough_bits(L))
    matrices = [sphere_grid.interpolation(L, nodes, even) for even in (True, False)]
    sphere_grid.check_interpolation(L, nodes, (matrices[0], matrices[1]))
    for which in (0, 1):
        wrong = [matrix.copy() for matrix in matrices]
        wrong[which][2, 3] += 1 << (nodes.bits - 150)
        with pytest.raises(ProofError, match="does not interpolate"):
            sphere_grid.check_interpolation(L, nodes, (wrong[0], wrong[1]))
    with pytest.raises(ProofError):
        sphere_grid.check_interpolation(L, nodes, (matrices[1], matrices[0]))


@pytest.mark.parametrize("grid", GRIDS)
def test_round_trip_and_rotation_of_modules(package: ModuleType, grid: Sampling) -> None:
    """Round trip; and the samples of a turned field are the values of the field at turned directions."""
    from scipy.spatial.transform import Rotation

    module = _module(package, grid)()
    field = torch.randn(3, module.channels, dtype=torch.float64)
    samples = module(field)
    assert samples.shape == (3, 2, module.rings, module.points)
    assert (module.analysis(samples) - field).abs().max() < 1e-13
    rotation = Rotation.random(random_state=3).as_matrix()
    turned = torch.einsum("ij,bj->bi", torch.tensor(field_matrix(parse_field_type("2x0..6"), rotation)), field)
    directions = module.directions() @ torch.tensor(rotation)  # r^-1 x
    assert (module(turned) - _values(field, directions)).abs().max() < 1e-12


def _values(field: torch.Tensor, directions: torch.Tensor) -> torch.Tensor:
    """By e3nn's spherical harmonics."""
    o3 = pytest.importorskip("e3nn.o3")
    total, first = torch.zeros(len(field), 2, *directions.shape[:2], dtype=torch.float64), 0
    for l in range(7):
        harmonics = o3.spherical_harmonics(l, directions, normalize=True, normalization="integral")
        part = field[:, first : first + 2 * (2 * l + 1)].view(-1, 2, 2 * l + 1)
        total += torch.einsum("bkm,tpm->bktp", part, harmonics)
        first += 2 * (2 * l + 1)
    return total


def test_what_torch_does(package: ModuleType) -> None:
    module = package.Mw()
    field = torch.randn(2, module.channels)
    samples = module(field)
    assert not module.state_dict()
    for other in (copy.deepcopy(module), pickle.loads(pickle.dumps(module)), package.Mw().half()):
        assert torch.equal(other(field), samples)
    assert torch.allclose(torch.export.export(module, (field,)).module()(field), samples, atol=1e-6)
    gradient = torch.vmap(torch.func.grad(lambda one: module(one[None]).square().sum()))(field)
    assert gradient.shape == field.shape
    assert torch.autograd.gradcheck(package.Mw().analysis, samples.double().requires_grad_())
    assert module(field.bfloat16()).dtype == torch.bfloat16
    assert module(field[:0]).shape == (0, *samples.shape[1:])
    for wrong, message in ((field[:, 1:], "takes a field"), (field.long(), "takes real numbers")):
        with pytest.raises(ValueError, match=message):
            module(wrong)
    with pytest.raises(ValueError, match="takes samples"):
        module.analysis(samples[..., 1:])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"grid": None}, "has no key 'grid'"),
        ({"grid": "healpix"}, "is not one of mw, gauss"),
        ({"grid": 3}, "is not one of"),
        ({"grid": ["mw"]}, "is not one of"),
        ({"in": "2x1..3"}, "not a signal on the sphere"),
        ({"in": "2x0 + 3x1"}, "not a signal on the sphere"),
        ({"in": "2x0..3e"}, "natural parity"),
        ({"in": "1x0..128"}, "over the limit"),
        ({"in": "1x0..1000000000"}, "is not a range"),
        ({"mixing": "all"}, "unknown key"),
        ({"out": "2x0"}, "unknown key"),
        ({"band_limit": 10**9}, "unknown key"),
    ],
)
def test_wrong_transforms_are_one_line(change: dict[str, object], message: str) -> None:
    table = {"kind": "transform", "name": "T", "in": "2x0..3", "grid": "mw", **change}
    with pytest.raises(SpecError, match=message) as error:
        parse_layer({key: value for key, value in table.items() if value is not None})
    assert "\n" not in str(error.value)


def test_a_description_is_read_back() -> None:
    spec = parse_layer({"kind": "transform", "name": "T", "in": "2x0..3n", "grid": "gauss"})
    assert parse_layer(spec.describe()) == spec


def test_legendre_of_scipy_agrees_on_the_nodes() -> None:
    table: Tables = tables(Sampling.GAUSS, 20)
    assert np.abs(eval_legendre(20, table.cos_theta)).max() < 1e-14


@pytest.mark.parametrize("bits", [40, 320])
def test_products_in_limbs_are_products_of_integers(bits: int) -> None:
    """Of either sign and any size, within the bound that is given."""
    random = np.random.default_rng(bits)
    left, right = (
        np.array([[int.from_bytes(random.bytes(bits // 8 - 1), signed=True) >> (3 * i * j) for j in range(9)]
                  for i in range(9)], object) for _ in range(2)
    )  # fmt: skip
    values, error = product(left, in_limbs(right, bits), bits)
    assert np.all(abs(values - (left.dot(right) >> bits)) <= error) and error < 1 << 24
