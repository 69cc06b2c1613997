"""The defect: the prototype's figures, an oracle by brute quadrature, and real fields pushed through real filters."""

from __future__ import annotations

import json
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy.linalg import eigh
from scipy.spatial.transform import Rotation

from basisgen.so3.field_type import Irrep, parse_field_type
from basisgen.so3.wigner import field_matrix, wigner_d
from basisgen.volumes.sampling.defect import Energies, Gaussian, SingleFrequency, energies, measure, unit_harmonics
from basisgen.volumes.sampling.families import FilterGroup
from basisgen.volumes.sampling.grid import VoxelGrid
from basisgen.volumes.sampling.optimal import eigenfilters
from basisgen.volumes.sampling.sample import SampledFilters
from basisgen.volumes.sampling.shells import Shells

Array = NDArray[np.float64]
W0 = np.pi / 2


def cube(size: int) -> VoxelGrid:
    return VoxelGrid((size, size, size))


def shells(size: int, J: int) -> Energies:
    return energies(list(Shells().groups(cube(size), [J])), cube(size))


# (size, J): one number per shell; random and worst over the span
EACH = {
    (5, 1): [0.027, 0.069],
    (5, 2): [0.115, 0.084],
    (5, 3): [None, 0.112],
    (5, 4): [0.171],
    (7, 2): [0.115, 0.025, 0.067],
}
SPAN = {(5, 1): (0.056, 0.136), (5, 2): (0.094, 0.280), (7, 0): (0.035, 0.224), (7, 2): (0.065, 0.342)}


@pytest.mark.parametrize(("size", "J"), EACH)
def test_filters_have_the_figures_of_the_design(size: int, J: int) -> None:
    for measured, figure in zip(shells(size, J).each, EACH[size, J], strict=True):
        assert figure is None or measured == pytest.approx(figure, rel=0.1)


@pytest.mark.parametrize(("size", "J"), SPAN)
def test_random_weights_and_spans_have_the_figures_of_the_design(size: int, J: int) -> None:
    assert (shells(size, J).random, shells(size, J).worst) == pytest.approx(SPAN[size, J], rel=0.1)


EIGENFILTERS = {
    (5, 0): [0.000, 0.006, 0.076, 0.66],
    (5, 1): [0.013, 0.102, 0.68],
    (5, 2): [0.033, 0.22, 0.76],
    (5, 3): [0.073, 0.48],
    (5, 4): [0.148, 0.68],
    (7, 1): [0.004, 0.029, 0.134, 0.60],
    (7, 2): [0.010, 0.061, 0.24, 0.66],
}


@pytest.mark.parametrize(("size", "J"), EIGENFILTERS)
def test_eigenfilters_have_the_figures_of_the_design(size: int, J: int) -> None:
    """Within 10 % where the defect is over .02. Below, the prototype's figures are up to a third too small.

    Its radial integral ended at 3 w0: with the same end, the brute quadrature below gives the prototype's numbers. The
    tail beyond, 4e-4 of the power, is aliased altogether, and adds to small defects.
    """
    defects, _ = eigenfilters(J, cube(size), Gaussian())
    for measured, figure in zip(defects, EIGENFILTERS[size, J], strict=False):
        if figure > 0.02:
            assert measured == pytest.approx(figure, rel=0.1)
        else:
            assert figure - 1e-3 <= measured <= 1.6 * figure + 1e-6


@pytest.mark.slow
def test_the_small_figures_of_the_prototype_are_those_of_a_cut_spectrum() -> None:
    total, typed = eigenfilter_energies_by_quadrature(5, 1, end=3 * W0)
    assert smallest_defects(total, typed, 2) == pytest.approx([0.013, 0.102], rel=0.1)
    total, typed = eigenfilter_energies_by_quadrature(5, 1, end=7 * W0)
    assert smallest_defects(total, typed, 2) == pytest.approx([0.0149, 0.1032], rel=0.01)


def eigenfilter_energies_by_quadrature(size: int, J: int, end: float) -> tuple[Array, Array]:
    """`total` and `typed` between all filters that are one orbit-wise Y_J each, for a spectrum that ends at `end`."""
    grid = cube(size)
    _, filters = eigenfilters(J, grid, Gaussian())
    return by_quadrature([FilterGroup(J, "", taps) for taps in filters[:5]], grid, end)


def smallest_defects(total: Array, typed: Array, count: int) -> list[float]:
    """The span's best defects; the eigenfilters of the cut spectrum lie in the span to the accuracy asked here."""
    return [float(np.sqrt(1 - part)) for part in eigh(typed, total, eigvals_only=True)[::-1][:count]]


def by_quadrature(groups: list[FilterGroup], grid: VoxelGrid, end: float = 7 * W0) -> tuple[Array, Array]:
    """The definition itself: Gauss-Legendre over |w|, Gauss x trapezoid over directions, F^ as a sum over taps."""
    J = groups[0].J
    cosines, polar = np.polynomial.legendre.leggauss(28)
    azimuth = 2 * np.pi * np.arange(56) / 56
    sines = np.sqrt(1 - cosines**2)
    directions = np.stack(
        [np.outer(sines, np.cos(azimuth)), np.outer(sines, np.sin(azimuth)), np.outer(cosines, np.ones(56))], -1
    ).reshape(-1, 3)
    weights = np.repeat(polar, 56) / (2 * 56)  # mean over directions
    harmonics = harmonics_at(J, directions)
    taps = grid.coordinates.reshape(3, -1)
    filters = np.stack([g.values.reshape(2 * J + 1, -1) / np.linalg.norm(g.values) for g in groups])
    nodes, radial = np.polynomial.legendre.leggauss(28)
    total, typed, power = np.zeros((len(groups), len(groups))), np.zeros((len(groups), len(groups))), 0.0
    for node, weight in zip((nodes + 1) * end / 2, radial * end / 2, strict=True):
        waves = np.exp(-1j * node * directions @ taps)  # (direction, tap)
        response = np.einsum("bMx,dx->bMd", filters, waves, optimize=True)
        g = np.einsum("bMd,Md,d->b", response, harmonics, weights) / (2 * J + 1)
        energy = weight * node**2 * np.exp(-((node / W0) ** 2))
        total += energy * np.einsum("bMd,cMd,d->bc", response, response.conj(), weights, optimize=True).real
        typed += energy * (2 * J + 1) * np.multiply.outer(g, g.conj()).real
        power += energy
    return total / power, typed / power


def harmonics_at(J: int, directions: Array) -> Array:
    """Y_J from e3nn, which shares no code with ours: (M, direction)."""
    from e3nn.o3 import spherical_harmonics

    values = spherical_harmonics(J, torch.from_numpy(directions), normalize=True, normalization="component")
    return np.asarray(values.numpy().T)


@pytest.mark.parametrize("J", [2, *(pytest.param(J, marks=pytest.mark.slow) for J in (0, 1, 4))])
def test_closed_form_is_the_integral(J: int) -> None:
    grid = cube(5)
    groups = list(Shells().groups(grid, [J]))
    total, typed = by_quadrature(groups, grid)
    closed = energies(groups, grid)
    np.testing.assert_allclose(closed.total, total, atol=1e-9)
    np.testing.assert_allclose(closed.typed, typed, atol=1e-9)


@pytest.mark.parametrize("J", [0, 3])
def test_gaussian_is_the_mean_over_frequencies(J: int) -> None:
    grid = VoxelGrid((4, 5, 3), (Fraction(1), Fraction(4, 5), Fraction(3, 2)))
    groups = list(Shells().groups(grid, [J]))
    nodes, weights = np.polynomial.legendre.leggauss(40)
    w0 = Gaussian().frequency(grid)
    assert w0 == pytest.approx(np.pi / 3)  # half of pi / 1.5
    frequencies = (nodes + 1) * 3 * w0
    weights = weights * frequencies**2 * np.exp(-((frequencies / w0) ** 2))
    single = [energies(groups, grid, SingleFrequency(w)) for w in frequencies]
    closed = energies(groups, grid)
    for form in ("total", "typed"):
        mean = sum(w * getattr(e, form) for w, e in zip(weights / weights.sum(), single, strict=True))
        np.testing.assert_allclose(getattr(closed, form), mean, atol=1e-12)


def test_a_filter_that_does_not_turn_like_its_degree_is_all_defect() -> None:
    """The negative control: J = 2 filters passed off as others, or one component damaged."""
    grid = cube(5)
    group = Shells().groups(grid, [2])[1]
    assert energies([group], grid).random < 0.1
    swapped = FilterGroup(2, "", group.values[::-1].copy())
    assert energies([swapped], grid).random > 0.9
    values = group.values.copy()
    values[0] *= -1
    assert energies([FilterGroup(2, "", values)], grid).random > 0.6


def test_a_multiple_changes_nothing_and_a_repetition_adds_nothing_to_the_span() -> None:
    grid = cube(5)
    first, second = Shells().groups(grid, [1])
    pair = energies([first, second], grid)
    louder = FilterGroup(1, "", 7 * second.values)
    again = energies([first, louder, first, second], grid)
    assert again.worst == pytest.approx(pair.worst, rel=1e-6)
    assert energies([first, louder], grid).random == pytest.approx(pair.random, rel=1e-12)


def test_layer_weighs_degrees_by_variance() -> None:
    grid = cube(5)
    defects = measure(SampledFilters(grid, Shells().groups(grid, [0, 2])))
    assert defects.layer({0: 1.0}) == pytest.approx(defects.by_degree[0].random)
    assert defects.layer({2: 3.0}) == pytest.approx(defects.by_degree[2].random)
    mixed = [defects.layer({0: 1.0, 2: v}) for v in (0.0, 1.0, 10.0)]
    assert mixed == sorted(mixed)


def test_description_is_plain_and_rounded() -> None:
    grid = cube(3)
    groups = Shells().groups(grid, [1])
    described = measure(SampledFilters(grid, groups)).describe()
    assert described == {"1": {"profiles": [groups[0].formula], "each": [0.0906], "random": 0.0906, "worst": 0.0906}}


@pytest.mark.parametrize("grid", [cube(5), VoxelGrid((5, 5, 3), (Fraction(1), Fraction(1), Fraction(2)))], ids=str)
def test_prediction_is_what_random_fields_show(grid: VoxelGrid) -> None:
    """Random fields of spectrum W, turned analytically, through the sampled filters: error sqrt(2) times the defect.

    A field is a sum of plane waves with random phases, so both it and its turned copy are known at every point.
    """
    random = np.random.default_rng(7)
    groups = list(Shells().groups(grid, [1]))
    filters = np.stack([g.values.reshape(3, -1) / np.linalg.norm(g.values) for g in groups])
    taps = grid.coordinates.reshape(3, -1)
    errors = sizes = 0.0
    for _ in range(400):
        r = Rotation.random(random_state=random).as_matrix()
        D = wigner_d(Irrep(1, -1), r)
        waves = random.normal(size=(64, 3)) * Gaussian().frequency(grid) / np.sqrt(2)
        phases = random.uniform(0, 2 * np.pi, 64)
        before = np.cos(waves @ taps + phases[:, None]).sum(0)
        after = np.cos(waves @ (r.T @ taps) + phases[:, None]).sum(0)  # the field turned by r
        difference = np.einsum("bMx,x->bM", filters, after) - np.einsum("bMx,x,NM->bN", filters, before, D)
        errors += (difference**2).sum()
        sizes += (np.einsum("bMx,x->bM", filters, after) ** 2).sum()
    predicted = np.sqrt(2) * energies(groups, grid).random
    assert np.sqrt(errors / sizes) == pytest.approx(predicted, rel=0.12)


def test_the_centre_tap_alone_has_no_defect_but_rounding() -> None:
    grid = cube(5)
    delta = np.zeros((1, 5, 5, 5))
    delta[0, 2, 2, 2] = 1
    assert energies([FilterGroup(0, "", delta)], grid).random < 1e-7
    assert unit_harmonics(1, grid)[:, 2, 2, 2].tolist() == [0, 0, 0]


def test_prediction_is_what_a_generated_module_shows(compile_and_import: Callable[[str], ModuleType]) -> None:
    """sqrt(2) times the layer's defect in the manifest, for random weights, on fields of several types."""
    package = compile_and_import(
        'name = "measured"\n[[conv]]\nname = "Conv"\nin = "1x0 + 2x1"\nout = "2x0 + 1x1 + 1x2"\nkernel_size = 5'
    )
    manifest = json.loads((Path(package.__file__).parent / "manifest.json").read_text())
    predicted = np.sqrt(2) * manifest["layers"]["Conv"]["defect_of_random_weights"]
    torch.manual_seed(1)
    random = np.random.default_rng(1)
    into, out = (parse_field_type(text) for text in ("1x0 + 2x1", "2x0 + 1x1 + 1x2"))
    conv = package.Conv(padding=0).double()
    taps = cube(5).coordinates.reshape(3, -1)
    errors = sizes = 0.0
    for _ in range(150):
        conv.reset_parameters()
        r = Rotation.random(random_state=random).as_matrix()
        waves = random.normal(size=(into.dimension, 64, 3)) * W0 / np.sqrt(2)
        phases = random.uniform(0, 2 * np.pi, (into.dimension, 64, 1))
        before = np.cos(waves @ taps + phases).sum(1)
        after = field_matrix(into, r) @ np.cos(waves @ (r.T @ taps) + phases).sum(1)
        fields = torch.from_numpy(np.stack([before, after])).view(2, into.dimension, 5, 5, 5)
        f, g = conv(fields).detach().numpy().reshape(2, -1)
        errors += ((field_matrix(out, r) @ f - g) ** 2).sum()
        sizes += (g**2).sum()
    assert np.sqrt(errors / sizes) == pytest.approx(predicted, rel=0.1)
