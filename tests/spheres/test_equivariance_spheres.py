"""Equivariance of products, linear maps and chains of linear, product, linear: the mean relative error."""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from basisgen.so3.clebsch_gordan import integer_coupling
from basisgen.spheres.couplings import prove, rounded

DRAWS = 3
LIMITS = {torch.float32: 3e-7, torch.float64: 1e-14}


def _spec(L: int, mixing: str) -> str:
    """A layer of Cobb et al.: linear, product, linear."""
    field = f"4x0..{L - 1}"
    return (
        f'name = "chain_{mixing}_{L}"\n'
        f'[[layer]]\nkind = "linear"\nname = "First"\nin = "{field}"\nout = "{field}"\n'
        f'[[layer]]\nkind = "product"\nname = "Product"\nin = "First"\nmixing = "{mixing}"\n'
        f'[[layer]]\nkind = "linear"\nname = "Last"\nin = "Product"\nout = "{field}"\n'
    )


def _matrices(rotation: np.ndarray, L: int) -> list[np.ndarray]:
    """D^l by coupling D^(l-1) to D^1: an exponential would be off by 1e-14 and more."""
    found = [np.ones((1, 1)), rotation]
    for l in range(2, L):
        coupling = integer_coupling(1, l - 1, l)
        C = np.zeros((3, 2 * l - 1, 2 * l + 1))
        C[tuple((coupling.orders + np.array((1, l - 1, l))).T)] = rounded(prove(coupling))
        found.append(np.einsum("mnM,mp,nq,pqN->MN", C, rotation, found[-1], C, optimize=True))
    return found[:L]


def _turn(field: torch.Tensor, terms: Any, matrices: list[np.ndarray]) -> torch.Tensor:
    parts, first = [], 0
    for multiplicity, l, _ in terms:
        part = field[:, first : first + multiplicity * (2 * l + 1)].view(len(field), multiplicity, 2 * l + 1)
        parts.append((part @ torch.tensor(matrices[l]).t()).flatten(1))
        first += multiplicity * (2 * l + 1)
    return torch.cat(parts, 1)


@pytest.mark.parametrize("dtype", LIMITS)
@pytest.mark.parametrize(
    ("L", "mixing"),
    [
        (8, "all"),
        (8, "tree"),
        pytest.param(16, "tree", marks=pytest.mark.slow),
        pytest.param(16, "all", marks=pytest.mark.slow),
        pytest.param(32, "reduced", marks=pytest.mark.slow),
        pytest.param(32, "tree", marks=pytest.mark.slow),
    ],
)
def test_equivariance(L: int, mixing: str, dtype: torch.dtype, compile_and_import: Callable[[str], ModuleType]) -> None:
    torch.manual_seed(0)
    package = compile_and_import(_spec(L, mixing))
    first, product, last = package.First(dtype=dtype), package.Product(), package.Last(dtype=dtype)
    chain = torch.nn.Sequential(first, product, last)
    networks: dict[str, tuple[Any, Any, Any]] = {
        "product": (product, product.in_type, product.out_type),
        "linear": (last, last.in_type, last.out_type),
        "chain": (chain, first.in_type, last.out_type),
    }
    for name, (network, into, out) in networks.items():
        errors = []
        for draw in range(DRAWS):
            matrices = _matrices(Rotation.random(random_state=draw).as_matrix(), L)
            field = torch.randn(2, sum(multiplicity * (2 * l + 1) for multiplicity, l, _ in into), dtype=torch.float64)
            with torch.no_grad():
                turned = network(_turn(field, into, matrices).to(dtype)).double()
                straight = _turn(network(field.to(dtype)).double(), out, matrices)
            errors += ((turned - straight).norm(dim=1) / turned.norm(dim=1)).tolist()
        print(f"L={L} {mixing} {name} {dtype}: {np.mean(errors):.1e}")
        assert np.mean(errors) <= LIMITS[dtype], name
