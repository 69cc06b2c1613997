"""Correct rounding: taps against mpmath's own spherical harmonics at 60 digits, to half a unit in the last place."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction

import mpmath
import numpy as np
import pytest

from basisgen.volumes.sampling.families import RadialFamily
from basisgen.volumes.sampling.grid import VoxelGrid
from basisgen.volumes.sampling.hermite import Hermite
from basisgen.volumes.sampling.shells import Shells

DIGITS = 60
CUBE = VoxelGrid((5, 5, 5))
ODD_ONE = VoxelGrid((4, 5, 3), (Fraction(1), Fraction(3, 10), Fraction(7, 3)), (1, 2, 1))


def shell(group_number: int, square: mpmath.mpf, grid: VoxelGrid, J: int) -> mpmath.mpf:
    """exp(-(r - b)^2 / (2 sigma^2)) with radii and sigma in units of the widest pitch."""
    unit = mpmath.mpf(max(grid.pitch).numerator) / max(grid.pitch).denominator
    b = group_number + (1 if J else 0)  # shell 0 holds J = 0 alone
    return mpmath.exp(-((mpmath.sqrt(square) / unit - b) ** 2) / (2 * mpmath.mpf("0.6") ** 2))


def oscillator(n: int, square: mpmath.mpf, grid: VoxelGrid, J: int) -> mpmath.mpf:
    """exp(-r^2 / (2 s^2)) L_n^(J+1/2)(r^2/s^2) r^J, by mpmath's Laguerre polynomials."""
    square_scale = Hermite().square_scale(grid)
    t = square * square_scale.denominator / square_scale.numerator
    return (
        mpmath.exp(-t / 2) * mpmath.laguerre(n, mpmath.mpf(2 * J + 1) / 2, t, zeroprec=400) * mpmath.sqrt(square) ** J
    )


def real_harmonic(J: int, M: int, x: mpmath.mpf, y: mpmath.mpf, z: mpmath.mpf) -> mpmath.mpf:
    """Y_JM at (X, Y, Z) = (z, x, y) from the complex ones: "component" norm, no Condon-Shortley phase."""
    polar, azimuth = mpmath.atan2(mpmath.sqrt(z**2 + x**2), y), mpmath.atan2(x, z)
    value = mpmath.spherharm(J, abs(M), polar, azimuth) * mpmath.sqrt(4 * mpmath.pi) * (-1) ** M
    if M == 0:
        return mpmath.re(value)
    return mpmath.sqrt(2) * (mpmath.re(value) if M > 0 else mpmath.im(value))


def taps_and_truth(family: RadialFamily, grid: VoxelGrid, taps: int) -> Iterator[tuple[float, mpmath.mpf]]:
    """Random taps of random filters, and what they should be."""
    random = np.random.default_rng(3)
    profile = shell if family.name == "shells" else oscillator
    groups = family.groups(grid, range(4))
    points, denominator = grid.integer_coordinates
    numbers = {J: [g for g in groups if g.J == J] for J in {g.J for g in groups}}
    for _ in range(taps):
        group = groups[random.integers(len(groups))]
        M, tap = int(random.integers(2 * group.J + 1)), tuple(random.integers(grid.size))
        x, y, z = (mpmath.mpf(int(points[axis][tap])) / denominator for axis in range(3))
        square = x**2 + y**2 + z**2
        if square == 0 and group.J > 0:
            continue
        order = next(i for i, g in enumerate(numbers[group.J]) if g is group)
        yield (
            float(group.values[(M, *tap)]),
            profile(order, square, grid, group.J) * real_harmonic(group.J, M - group.J, x, y, z),
        )


def off_by(value: float, truth: mpmath.mpf) -> float:
    """The error in units of the last place of the truth."""
    if abs(truth) < mpmath.mpf(10) ** (10 - DIGITS):  # 0 up to the working precision
        return 0.0 if value == 0 else float("inf")
    return float(abs(mpmath.mpf(value) - truth) / mpmath.mpf(2) ** (mpmath.mag(truth) - 53))


@pytest.mark.parametrize("grid", [CUBE, ODD_ONE], ids=str)
@pytest.mark.parametrize("family", [Shells(), Hermite()], ids=lambda family: family.name)
def test_every_tap_is_the_nearest_float64(family: RadialFamily, grid: VoxelGrid) -> None:
    with mpmath.workdps(DIGITS):
        pairs = list(taps_and_truth(family, grid, 150))
        assert max(off_by(value, truth) for value, truth in pairs) <= 0.5
        moved = [(np.nextafter(value, np.inf), truth) for value, truth in pairs if value]
        assert min(off_by(value, truth) for value, truth in moved) >= 0.5, "the check must see one unit"


def test_the_origin_holds_degree_zero_alone() -> None:
    for family in (Shells(), Hermite()):
        for group in family.groups(CUBE, range(4)):
            assert group.values[:, 2, 2, 2].any() == (group.J == 0)
