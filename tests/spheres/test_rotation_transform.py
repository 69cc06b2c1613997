"""Transforms on the rotation group: d^l against Jacobi polynomials, round trips, rotations, torch, hostile specs."""

from __future__ import annotations

import copy
import pickle
from dataclasses import replace
from math import comb
from types import ModuleType

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation
from scipy.special import eval_jacobi

from basisgen.errors import ProofError, SpecError
from basisgen.so3.field_type import Irrep, parse_field_type
from basisgen.so3.wigner import field_matrix, wigner_d
from basisgen.spec import parse_layer
from basisgen.spheres.harmonic_tables import _tables, check_identity, tables
from basisgen.spheres.small_d import canonical
from basisgen.spheres.sphere_grid import Sampling, enough_bits

GRIDS = list(Sampling)
SIZES = [(1, 1), (2, 2), (3, 1), (7, 7), (9, 3)]


def rows(L: int, N: int) -> list[tuple[int, int, int]]:
    """(m, n, l) in the order of a table."""
    return [(m, n, l) for m, n in canonical(L, N) for l in range(m, L)]


@pytest.mark.parametrize(("L", "N"), [*SIZES, pytest.param(20, 20, marks=pytest.mark.slow)])
@pytest.mark.parametrize("grid", GRIDS)
def test_analysis_after_synthesis_is_the_identity(grid: Sampling, L: int, N: int) -> None:
    """Of each order (m, n), to the rounding of the tables; of all of a row: nothing is left out."""
    table, start = tables(grid, L, N), 0
    for m, _ in canonical(L, N):
        part = slice(start, start + L - m)
        start += L - m
        assert np.abs(table.analysis[part] @ table.synthesis[part].T - np.eye(L - m)).max() < 3e-15
    assert start == len(table.analysis) == len(rows(L, N))


@pytest.mark.parametrize("grid", GRIDS)
def test_synthesis_is_of_jacobi_polynomials(grid: Sampling) -> None:
    """d^l_mn = sqrt(C(2l, l-m) / C(2l, l-n)..) sin^(m-n) cos^(m+n) P_(l-m)^(m-n, m+n), by scipy."""
    table = tables(grid, 12, 5)
    cos = table.cos_theta
    half_cos, half_sin = np.sqrt((1 + cos) / 2), np.sqrt((1 - cos) / 2)
    for row, (m, n, l) in enumerate(rows(12, 5)):
        norm = np.sqrt(comb(2 * l, l + n) / comb(2 * l, l + m))
        jacobi = norm * half_sin ** (m - n) * half_cos ** (m + n) * eval_jacobi(l - m, m - n, m + n, cos)
        assert np.abs(table.synthesis[row] - np.sqrt(2 * l + 1) * jacobi).max() < 1e-12


@pytest.mark.parametrize("N", [None, 3])
@pytest.mark.parametrize("grid", GRIDS)
def test_tables_that_are_not_inverse_are_found(grid: Sampling, N: int | None) -> None:
    """A wrong weight of a ring, a sign, exchanged degrees, rows of another order: each is refused."""
    found = tables(grid, 6, N)
    check_identity(found)
    weight, sign, exchanged, other = (found.analysis.copy() for _ in range(4))
    weight[:, 2] *= 1 + 1e-11
    sign[3] *= -1
    exchanged[[0, 1]] = exchanged[[1, 0]]
    other[6:12] = np.roll(other[6:12], 1, axis=0)
    for wrong in (weight, sign, exchanged, other):
        with pytest.raises(ProofError, match="from the identity"):
            check_identity(replace(found, analysis=wrong))


def test_orders_of_zero_are_the_spheres() -> None:
    """D^l_m0 is a harmonic, times sqrt(4 pi / (2l+1)); means over rotations are integrals over 4 pi."""
    on_sphere, on_rotations = tables(Sampling.MW, 8), tables(Sampling.MW, 8, 1)
    assert np.abs(on_rotations.synthesis - np.sqrt(4 * np.pi) * on_sphere.synthesis).max() < 1e-14
    assert np.abs(on_rotations.analysis - on_sphere.analysis / np.sqrt(4 * np.pi)).max() < 1e-15


def test_numbers_are_those_of_more_bits() -> None:
    for grid in GRIDS:
        a, b = (_tables(grid, 6, 4, enough_bits(12) + more, 320 + more) for more in (0, 400))
        for name in ("analysis", "synthesis", "cos_theta", "trigonometric", "around"):
            assert np.array_equal(getattr(a, name), getattr(b, name))


SPEC = 'name = "rotations"\n' + "".join(
    f'[[layer]]\nkind = "transform"\nname = "{grid.value.title().replace("_", "")}{N}"\nin = "2x0..4r{N}"\n'
    f'grid = "{grid.value}"\nspace = "rotations"\n'
    for grid in GRIDS
    for N in (1, 2, 5)
)


def values(field: torch.Tensor, N: int, rotations: np.ndarray) -> torch.Tensor:
    """f(R) from D^l of the exact generators, (batch, signal, rotation)."""
    total, first = torch.zeros(len(field), 2, len(rotations), dtype=torch.float64), 0
    for l in range(5):
        d, n = 2 * l + 1, min(2 * l + 1, 2 * N - 1)
        D = torch.tensor(np.array([wigner_d(Irrep(l), r) for r in rotations]))[:, :, (d - n) // 2 : (d + n) // 2]
        part = field[:, first : first + 2 * n * d].reshape(len(field), n, 2, d)
        total += d**0.5 * torch.einsum("bnkm,rmn->bkr", part, D)
        first += 2 * n * d
    return total


@pytest.mark.parametrize("N", [1, 2, 5])
@pytest.mark.parametrize("grid", GRIDS)
def test_values_round_trip_and_mean(package: ModuleType, grid: Sampling, N: int) -> None:
    """Samples are sums of D^l; those of a turned field are the values at Q^-1 R; analysis gives the field back."""
    module = getattr(package, f"{grid.value.title().replace('_', '')}{N}")()
    field = torch.randn(3, module.channels, dtype=torch.float64)
    samples = module(field)
    assert samples.shape == (3, 2, module.rings, module.points, module.turns)
    assert (module.analysis(samples) - field).abs().max() < 1e-13
    assert (module.mean(samples) - field[:, :2]).abs().max() < 1e-13
    rotations = module.rotations().flatten(0, 2).numpy()
    assert np.abs(rotations @ rotations.transpose(0, 2, 1) - np.eye(3)).max() < 1e-14
    Q = Rotation.random(random_state=3).as_matrix()
    turned = field @ torch.tensor(field_matrix(parse_field_type(f"2x0..4r{N}"), Q)).T
    some = slice(None, None, 7)
    assert (module(turned).flatten(2)[..., some] - values(field, N, Q.T @ rotations[some])).abs().max() < 1e-11
    assert (module(field).flatten(2)[..., some] - values(field, N, rotations[some])).abs().max() < 1e-11


def test_a_signal_of_order_zero_is_one_on_the_sphere(package: ModuleType) -> None:
    """The rotation R stands for the point R y."""
    module = package.Gauss1()
    field = torch.zeros(1, module.channels, dtype=torch.float64)
    field[0, 2:5] = torch.tensor([0.3, -0.2, 0.7])  # degree 1 of the first signal: sqrt(3) v . (R y)
    expected = 3**0.5 * module.rotations()[..., 1] @ field[0, 2:5]
    assert torch.allclose(module(field)[0, 0], expected)


def test_copies_half_precision_exports_and_gradients_of_samples(package: ModuleType) -> None:
    module = package.Mw2()
    field = torch.randn(2, module.channels)
    samples = module(field)
    assert not module.state_dict() and "mw: 5 x 9 x 3 samples" in repr(module)
    for other in (copy.deepcopy(module), pickle.loads(pickle.dumps(module)), package.Mw2().half()):
        assert torch.equal(other(field), samples)
    assert torch.allclose(torch.export.export(module, (field,)).module()(field), samples, atol=1e-6)
    gradient = torch.vmap(torch.func.grad(lambda one: module(one[None]).square().sum()))(field)
    assert gradient.shape == field.shape
    assert torch.autograd.gradcheck(package.Mw1().analysis, package.Mw1()(torch.randn(1, 50).double()).requires_grad_())
    with torch.autocast("cpu"):
        assert torch.equal(module(field), samples)
    assert module(field.bfloat16()).dtype == torch.bfloat16
    assert module(field[:0]).shape == (0, *samples.shape[1:]) and module.analysis(samples[:0]).shape == (
        0,
        len(field[0]),
    )
    for wrong, message in ((field[:, 1:], "takes a field"), (field.long(), "takes real numbers")):
        with pytest.raises(ValueError, match=message):
            module(wrong)
    with pytest.raises(ValueError, match=r"takes samples \(batch, 2, 5, 9, 3\)"):
        module.analysis(samples[..., 1:])


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")  # torch's own, on importing its compiler
def test_compiles_whole(package: ModuleType) -> None:
    module = package.Mw5()
    field = torch.randn(2, module.channels, requires_grad=True)
    whole = torch.compile(lambda x: module.analysis(module(x).relu()), fullgraph=True)
    assert torch.allclose(whole(field), module.analysis(module(field).relu()), atol=1e-5)
    whole(field).sum().backward()


def test_a_description_is_read_back() -> None:
    table = {"kind": "transform", "name": "T", "in": "2x0..3r2", "grid": "gauss", "space": "rotations"}
    spec = parse_layer(table)
    assert parse_layer(spec.describe()) == spec
    assert spec.describe()["in"] == "2x0 + 6x1 + 6x2 + 6x3"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"space": "rotation"}, "space = 'rotation' is not one of sphere, rotations"),
        ({"space": 3}, "is not one of"),
        ({"space": ["sphere"]}, "is not one of"),
        ({"space": "sphere"}, "'2x0..3r' is not a signal on the sphere.*signal on the rotation group"),
        ({"space": None}, "not a signal on the sphere"),
        ({"in": "2x0 + 6x1 + 9x2"}, "not a signal on the rotation group"),
        ({"in": "2x0 + 6x1e"}, "mixes"),
        ({"in": "2x0e + 6x1e"}, "not a signal on the rotation group"),
        ({"in": "2x1..3r"}, "not a signal on the rotation group"),
        ({"in": "1x0..127r"}, "channels, the limit|tables would have"),
        ({"in": "1x0..63r9"}, "its tables would have 1\\d{6} numbers.*'1x0..63r3'"),
        ({"in": "1x0..1000000000r"}, "is not a range"),
        ({"in": "1x0..3r1000000000"}, "an azimuthal band limit"),
        ({"grid": "soft"}, "is not one of mw"),
        ({"oversampling": 2}, "oversampling is for space = 'sphere'.*limit=L"),
        ({"max_error": 0.1, "function": "relu"}, "is for space = 'sphere'"),
        ({"orders": 3}, "unknown key"),
        ({"alphas": 3}, "unknown key"),
        ({"kernel_size": 3}, "unknown key"),
    ],
)
def test_wrong_transforms_are_one_line(change: dict[str, object], message: str) -> None:
    table = {"kind": "transform", "name": "T", "in": "2x0..3r", "grid": "mw", "space": "rotations", **change}
    with pytest.raises(SpecError, match=message) as error:
        parse_layer({key: value for key, value in table.items() if value is not None})
    assert "\n" not in str(error.value)
