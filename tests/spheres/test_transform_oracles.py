"""Transforms against harmonics of scipy, and, where it is installed, against pyssht: to 1e-13 of the largest value."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from types import ModuleType

import numpy as np
import pytest
import torch
from scipy.special import sph_harm_y

from basisgen.emission.imported import imported
from basisgen.pipeline import compile_package
from basisgen.spec import parse_package
from runtime.spheres.conventions import to_complex

GRIDS = {"Mw": "mw", "Gauss": "gauss", "DriscollHealy": "driscoll_healy", "Equiangular": "equiangular"}
SIZES = [5, 16, *(pytest.param(L, marks=pytest.mark.slow) for L in (32, 64))]
GOAL = 1e-13


@pytest.fixture(scope="module")
def package():  # type: ignore[no-untyped-def]
    """package(L): transforms of one signal of band limit L on every grid."""
    with ExitStack() as stack:
        found: dict[int, ModuleType] = {}

        def of_limit(L: int) -> ModuleType:
            if L not in found:
                layers = "".join(
                    f'[[layer]]\nkind = "transform"\nname = "{name}"\nin = "1x0..{L - 1}"\ngrid = "{grid}"\n'
                    for name, grid in GRIDS.items()
                )
                spec = parse_package(f'name = "oracle{L}"\n{layers}')
                found[L] = stack.enter_context(imported(compile_package(spec), spec.name))
            return found[L]

        yield of_limit


def signal(L: int) -> torch.Tensor:
    """Random coefficients, (1, coefficient)."""
    return torch.randn(1, L * L, dtype=torch.float64, generator=torch.Generator().manual_seed(L))


def off(found: torch.Tensor, wanted: torch.Tensor) -> float:
    """Relative to the largest value."""
    return float((found - wanted).abs().max() / wanted.abs().max())


def samples_of_scipy(field: torch.Tensor, colatitudes: np.ndarray, points: int, L: int) -> torch.Tensor:
    """The sum of real harmonics made of scipy's complex ones, which have the Condon-Shortley phase."""
    longitudes = 2 * np.pi * np.arange(points) / points
    total, at = np.zeros((len(colatitudes), points)), field[0].numpy()
    for l in range(L):
        for m in range(l + 1):
            harmonic = sph_harm_y(l, m, colatitudes[:, None], longitudes) * (-1) ** m * (2**0.5 if m else 1.0)
            total += at[l * l + l + m] * harmonic.real
            total += at[l * l + l - m] * harmonic.imag  # 0 for m = 0
    return torch.from_numpy(total)[None, None]


@pytest.mark.parametrize("L", SIZES)
@pytest.mark.parametrize("name", GRIDS)
def test_samples_are_scipys_and_their_analysis_the_coefficients(
    package: Callable[[int], ModuleType], name: str, L: int
) -> None:
    module, field = getattr(package(L), name)(), signal(L)
    x, y, z = module.directions().unbind(-1)
    colatitudes = torch.atan2(torch.hypot(x, z), y)[:, 0].numpy()
    samples = samples_of_scipy(field, colatitudes, module.points, L)
    assert off(module(field), samples) < GOAL
    assert off(module.analysis(samples), field) < GOAL


@pytest.mark.parametrize("L", SIZES)
def test_both_ways_are_pysshts(package: Callable[[int], ModuleType], L: int) -> None:
    """On noise too, which is not band-limited: the same projection. Its Gauss nodes are right to 4e-12 only."""
    pyssht = pytest.importorskip("pyssht")
    module, field = package(L).Mw(), signal(L)
    theirs = torch.from_numpy(pyssht.inverse(to_complex(field)[0].numpy(), L, Method="MW", Reality=True))
    assert off(module(field)[0, 0], theirs) < GOAL
    noise = torch.randn(1, 1, module.rings, module.points, dtype=torch.float64)
    noise[:, :, -1] = noise[:, :, -1, :1]  # the pole is one point
    coefficients = torch.from_numpy(pyssht.forward(noise[0, 0].numpy().copy(), L, Method="MW", Reality=True))
    assert off(to_complex(module.analysis(noise))[0], coefficients) < GOAL
