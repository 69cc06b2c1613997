"""Oscillator filters as sums of products: the same numbers, exactly and in float64."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from scipy.special import eval_hermite, factorial

from basisgen.algebra.roots import SignedRoot
from basisgen.errors import ProofError
from basisgen.volumes.sampling.cartesian import cartesian_expansion, prove_expansion
from basisgen.volumes.sampling.grid import VoxelGrid
from basisgen.volumes.sampling.hermite import Hermite
from basisgen.volumes.sampling.products import Products, product_indices
from basisgen.volumes.sampling.sample import SampledFilters

GRIDS = [
    VoxelGrid((5, 5, 5)),
    VoxelGrid((4, 7, 3), (Fraction(1), Fraction(1), Fraction(5, 2))),
    VoxelGrid((6, 6, 6), dilation=(1, 2, 3)),
    VoxelGrid((9, 9, 9)),
]


def _sampled(grid: VoxelGrid, n_max: int | None, largest_degree: int) -> tuple[SampledFilters, Products]:
    family = Hermite(n_max)
    groups = family.groups(grid, range(largest_degree + 1))
    products = family.products(grid, groups)
    return SampledFilters(grid, groups, products), products


@pytest.mark.parametrize("grid", GRIDS, ids=str)
@pytest.mark.parametrize(("n_max", "largest_degree"), [(4, 4), (3, 1), (None, 6)])
def test_the_sums_of_products_are_the_sampled_filters(grid: VoxelGrid, n_max: int | None, largest_degree: int) -> None:
    filters, products = _sampled(grid, n_max, largest_degree)
    x, y, z = products.taps
    values = np.stack([np.einsum("x,y,z->xyz", x[a], y[b], z[c]) for a, b, c in product_indices(products.levels)])
    np.testing.assert_allclose(np.tensordot(products.matrix, values, 1), filters.values, rtol=1e-13, atol=1e-14)


def test_the_functions_on_the_axes_are_oscillator_functions() -> None:
    _, products = _sampled(GRIDS[1], 4, 4)
    s = float(Fraction(products.statement["square_scale"])) ** 0.5
    for taps, n, pitch in zip(products.taps, (4, 7, 3), (1, 1, 2.5), strict=True):
        t = (np.arange(n) - (n - 1) / 2) * pitch / s
        for a in range(5):
            exact = eval_hermite(a, t) * np.exp(-(t**2) / 2) / np.sqrt(2.0**a * factorial(a))
            np.testing.assert_allclose(taps[a], exact, rtol=0, atol=1e-15)


def test_the_expansion_of_a_level_is_an_orthogonal_matrix() -> None:
    """Psi and the products h_a h_b h_c are both orthonormal, and both span level 4."""
    powers = [(a, b, 4 - a - b) for a in range(5) for b in range(5 - a)]
    rows = []
    for n, J in ((2, 0), (1, 2), (0, 4)):
        expansion = cartesian_expansion(n, J)
        rows += [[float(expansion[M, p]) if (M, p) in expansion else 0.0 for p in powers] for M in range(-J, J + 1)]
    assert len(rows) == len(powers) == 15
    np.testing.assert_allclose(np.array(rows) @ np.array(rows).T, np.eye(15), atol=1e-14)


@pytest.mark.parametrize(("n", "J"), [(0, 0), (1, 1), (2, 3), (0, 5)])
def test_a_wrong_expansion_is_rejected(n: int, J: int) -> None:
    right = dict(cartesian_expansion(n, J))
    prove_expansion(n, J, right)
    index = max(right)
    for wrong in (
        {**right, index: -right[index]},
        {**right, index: SignedRoot(right[index].sign, right[index].square * 4)},
        {**right, index: SignedRoot(right[index].sign, right[index].square * 2)},
        {key: value for key, value in right.items() if key != index},
        {**right, (index[0], (9, 0, 0)): SignedRoot(1, Fraction(1))},
    ):
        with pytest.raises(ProofError, match=r"expansion|commensurate"):
            prove_expansion(n, J, wrong)
