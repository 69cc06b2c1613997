"""The paper's radial family: Gaussian shells, each with a largest degree against aliasing.

    phi_b(r) = exp(-(r - radius_b)^2 / (2 sigma^2)),    radius_b = b, b = 0..size//2,    J <= cutoff[b]

Radii and sigma are physical lengths; by default in units of the grid's widest pitch, which is what limits resolution.
Source: Weiler et al. 2018, arXiv:1807.02547, section 4.1; cutoffs from the authors' published code.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from fractions import Fraction
from typing import Any

import mpmath

from basisgen.algebra.rounding import real
from basisgen.errors import SamplingError
from basisgen.reading import Settings
from basisgen.volumes.sampling.exact import RadialProfile, sample_profile
from basisgen.volumes.sampling.families import FilterGroup
from basisgen.volumes.sampling.grid import VoxelGrid


class Cutoff(Enum):
    """A named rule for the largest degree J on shell b: 0 on the innermost, 2b + offset on the others."""

    CONSERVATIVE = "conservative"
    COMPROMISE = "compromise"
    SFCNN = "sfcnn"

    def largest_degree(self, shell: int) -> int:
        """J_max of a shell: conservative 0,2,4,..; compromise 0,3,5,..; sfcnn 0,4,6,.."""
        offset = {Cutoff.CONSERVATIVE: 0, Cutoff.COMPROMISE: 1, Cutoff.SFCNN: 2}[self]
        return 2 * shell + offset if shell else 0


@dataclass(frozen=True)
class Shells:
    """Gaussian shells. `radii` None means 0, 1, .. within the grid; lengths None or in physical units."""

    cutoff: Cutoff | tuple[int, ...] = Cutoff.COMPROMISE
    sigma: Fraction | None = None
    radii: tuple[Fraction, ...] | None = None

    DEFAULT_SIGMA = Fraction(3, 5)

    @classmethod
    def parse(cls, settings: Settings) -> Shells:
        """Reads cutoff (a rule or one degree per shell), sigma and radii."""
        cutoff: Cutoff | tuple[int, ...] | None
        if settings.is_text("cutoff"):
            rule = settings.choice("cutoff", [rule.value for rule in Cutoff])
            cutoff = Cutoff(rule)
        else:
            cutoff = settings.integers("cutoff")
        return cls(
            cutoff=Cutoff.COMPROMISE if cutoff is None else cutoff,
            sigma=settings.positive("sigma"),
            radii=settings.lengths("radii"),
        )

    @property
    def name(self) -> str:
        """`shells`."""
        return "shells"

    def describe(self) -> dict[str, Any]:
        """The settings as plain JSON values."""
        return {
            "cutoff": self.cutoff.value if isinstance(self.cutoff, Cutoff) else list(self.cutoff),
            "sigma": None if self.sigma is None else str(self.sigma),
            "radii": None if self.radii is None else [str(radius) for radius in self.radii],
        }

    def groups(self, grid: VoxelGrid, degrees: Sequence[int]) -> tuple[FilterGroup, ...]:
        """See RadialFamily; values are correctly rounded."""
        unit = max(grid.pitch)
        sigma = self.sigma if self.sigma is not None else self.DEFAULT_SIGMA * unit
        shells = self._shells(grid, unit)
        return tuple(
            self._group(J, radius, sigma, grid)
            for J in degrees
            for radius, largest_degree in shells
            if largest_degree >= J
        )

    @property
    def separable(self) -> bool:
        """False: the filters are not sums of products."""
        return False

    def products(self, grid: VoxelGrid, groups: Sequence[FilterGroup]) -> None:
        """See RadialFamily."""

    def _shells(self, grid: VoxelGrid, unit: Fraction) -> list[tuple[Fraction, int]]:
        """(radius, largest degree) of every shell."""
        radii = self.radii
        if radii is None:
            extent = min(size * pitch for size, pitch in zip(grid.size, grid.pitch, strict=True))
            radii = tuple(b * unit for b in range(int(extent / unit) // 2 + 1))
        if isinstance(self.cutoff, Cutoff):
            return [(radius, self.cutoff.largest_degree(b)) for b, radius in enumerate(radii)]
        if len(self.cutoff) != len(radii):
            raise SamplingError(
                f"cutoff {list(self.cutoff)} names {len(self.cutoff)} shells, a {grid} kernel has {len(radii)} "
                f"(radii {', '.join(map(str, radii))}). Give one largest degree per shell."
            )
        return list(zip(radii, self.cutoff, strict=True))

    @staticmethod
    def _group(J: int, radius: Fraction, sigma: Fraction, grid: VoxelGrid) -> FilterGroup:
        values = sample_profile(J, gaussian_shell(radius, sigma), grid)
        if not values.any():
            raise SamplingError(
                f"the shell of radius {radius} holds no filter of degree J = {J} on a {grid} grid: every tap is zero. "
                "Lower the cutoff, or enlarge the kernel."
            )
        distance = f"(r - {radius})" if radius else "r"
        return FilterGroup(J, f"exp(-{distance}^2/(2*({sigma})^2))", values)


def gaussian_shell(radius: Fraction, sigma: Fraction) -> RadialProfile:
    """phi(r) = exp(-(r - radius)^2 / (2 sigma^2)) as a function of r^2."""

    def phi(square: Fraction) -> mpmath.mpf:
        distance = mpmath.sqrt(real(square)) - real(radius)
        return mpmath.exp(-(distance**2) * sigma.denominator**2 / (2 * sigma.numerator**2))

    return phi
