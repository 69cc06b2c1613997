"""Hypothesis strategies for layers, and generated packages to test with them: property-test your own layers.

    @settings(deadline=None)
    @given(layer_specs(parity=True, max_degree=2))
    def test_my_layers(layer):
        with imported(layer) as package:
            assert_equivariant(package.Conv(), turns=torch.tensor(turns(layer)), wavelengths=())

Every drawn layer is one that a spec file can state. Where its grid holds no kernel for some of its outputs `imported`
tells Hypothesis to draw another. Needs the package `hypothesis`. Strategies for fields are in `runtime.strategies`.
See docs/property-testing.md.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from fractions import Fraction
from types import ModuleType

import numpy as np
from hypothesis import reject
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from basisgen.emission.imported import imported as _imported
from basisgen.emission.render import render
from basisgen.errors import SamplingError, SpecError
from basisgen.pipeline import plan
from basisgen.so3.field_type import FieldType, Irrep, Term
from basisgen.spec import PackageSpec
from basisgen.volumes.conv_spec import ConvSpec
from basisgen.volumes.execution import Execution
from basisgen.volumes.sampling.families import RadialFamily
from basisgen.volumes.sampling.grid import VoxelGrid
from basisgen.volumes.sampling.registry import FAMILIES, parse_radial

_numbers = itertools.count()


@st.composite
def field_types(
    draw: st.DrawFn,
    *,
    parity: bool | None = None,
    max_degree: int = 2,
    max_multiplicity: int = 3,
    max_terms: int = 3,
) -> FieldType:
    """Field types with parity, without, or (None) either; terms in any order, a degree perhaps twice."""
    with_parity = draw(st.booleans()) if parity is None else parity
    letters = st.sampled_from((1, -1)) if with_parity else st.none()
    term = st.builds(Term, st.integers(1, max_multiplicity), st.builds(Irrep, st.integers(0, max_degree), letters))
    return FieldType(tuple(draw(st.lists(term, min_size=1, max_size=max_terms))))


@st.composite
def grids(draw: st.DrawFn, *, max_size: int = 5, max_dilation: int = 2) -> VoxelGrid:
    """Kernel grids: sizes odd and even, cubic more often than not, voxels of any shape, dilated."""

    def triple(values: st.SearchStrategy[int | Fraction]) -> tuple[int | Fraction, ...]:
        return (draw(values),) * 3 if draw(st.integers(0, 2)) else draw(st.tuples(values, values, values))

    spacing = st.fractions(Fraction(1, 2), 3, max_denominator=5)
    sizes, spacings, dilations = (
        triple(values) for values in (st.integers(1, max_size), spacing, st.integers(1, max_dilation))
    )
    return VoxelGrid(sizes, spacings, dilations)  # type: ignore[arg-type]  # three of each


def radial_families(names: Sequence[str] = tuple(FAMILIES)) -> st.SearchStrategy[RadialFamily]:
    """Radial families by name, with the settings a spec may give them."""
    positive = st.fractions(Fraction(3, 10), 2, max_denominator=20)
    settings: dict[str, dict[str, st.SearchStrategy[object]]] = {
        "shells": {"sigma": positive, "cutoff": st.sampled_from(("conservative", "compromise", "sfcnn"))},
        "optimal": {"max_defect": st.fractions(Fraction(1, 10), Fraction(1, 2), max_denominator=20)},
        "separable": {"levels": st.integers(0, 4)},
        "hermite": {"scale": positive, "n_max": st.integers(0, 4)},
    }
    return st.sampled_from(tuple(names)).flatmap(
        lambda name: st.builds(
            lambda table, name=name: parse_radial({"family": name, **table}),
            st.fixed_dictionaries({}, optional=settings.get(name, {})),
        )
    )


@st.composite
def layer_specs(
    draw: st.DrawFn,
    *,
    name: str = "Conv",
    parity: bool | None = None,
    gated: bool | None = None,
    max_degree: int = 2,
    max_multiplicity: int = 3,
    max_terms: int = 3,
    max_size: int = 5,
    families: Sequence[str] = tuple(FAMILIES),
) -> ConvSpec:
    """Layers of any field types, grid and radial family; with parity and gates, without, or (None) either."""
    with_parity = draw(st.booleans()) if parity is None else parity
    types = field_types(
        parity=with_parity, max_degree=max_degree, max_multiplicity=max_multiplicity, max_terms=max_terms
    )
    into, out, with_gates = draw(types), draw(types), draw(st.booleans()) if gated is None else gated
    grid, radial = draw(grids(max_size=max_size)), draw(radial_families(families))
    return ConvSpec(name, into, out, grid, radial, Execution.AUTO, with_gates)


def rotations(*, improper: bool = False) -> st.SearchStrategy[NDArray[np.float64]]:
    """Uniform random rotations, float64 (3, 3); with `improper`, reflections as often."""
    signs = st.sampled_from((1, -1)) if improper else st.just(1)
    return st.builds(
        lambda seed, sign: sign * Rotation.random(random_state=seed).as_matrix(), st.integers(0, 2**32 - 1), signs
    )


def turns(layer: ConvSpec) -> NDArray[np.int64]:
    """The turns of the cube with which a layer commutes exactly, (turn, 3, 3); with mirrors for fields with parity."""
    return np.stack(layer.grid.exact_turns(mirrors=layer.out.has_parity))


@contextmanager
def imported(spec: ConvSpec | PackageSpec) -> Iterator[ModuleType]:
    """The package of a spec, compiled into a temporary directory and imported; forgotten and removed afterwards.

    Inside a Hypothesis test a layer with an output that no kernel on its grid reaches is rejected: it would be zero.
    """
    package = PackageSpec("layers", (spec,)) if isinstance(spec, ConvSpec) else spec
    try:
        planned = plan(package)
    except (SpecError, SamplingError):
        reject()
    if any(layer.silent_terms for layer in planned.layers):
        reject()
    with _imported(render(planned), f"basisgen_testing_{next(_numbers)}") as module:
        yield module
