"""What a user should know of a convolution that compiles, and would not expect: one line each, with the cure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from basisgen.so3.field_type import Term
from basisgen.text import counted, listed
from basisgen.volumes.conv_spec import ConvSpec
from basisgen.volumes.kernels.constraint import allowed_degrees
from basisgen.volumes.sampling.sample import SampledFilters


def notes(spec: ConvSpec, filters: SampledFilters, silent: Sequence[Term]) -> tuple[str, ...]:
    """Every note; one that begins with `warning` is about channels that are always zero."""
    return (*(_silent(spec, term) for term in silent), *_left_out(spec, filters), *_even(spec))


def _silent(spec: ConvSpec, term: Term) -> str:
    degrees = sorted({J for into in spec.into.terms for J in allowed_degrees(term.irrep, into.irrep)})
    if degrees:
        why = f"no filter of degree J = {listed(degrees, 'or')} is on the {spec.grid} grid"
        cure = "Enlarge kernel_size, or take another radial family or cutoff (`basisgen defect` compares them)"
    else:
        why = f"no kernel from {spec.into} to {term} has the right parity"
        cure = "Give the layer an input of another parity"
    return f"warning: no kernel reaches {term} of {spec.name}: always zero, because {why}. {cure}, or leave {term} out."


def _left_out(spec: ConvSpec, filters: SampledFilters) -> Iterable[str]:
    counts: dict[int, int] = {}
    for group in filters.left_out:
        counts[group.J] = counts.get(group.J, 0) + 1
    if counts:
        parts = listed([f"{counted(number, 'profile')} of J = {J}" for J, number in counts.items()], "and")
        yield (
            f"note: {parts} left out of {spec.name}: on the taps of a {spec.grid} grid they are combinations of "
            "the others. Nothing is lost; a larger kernel_size has room for more."
        )


def _even(spec: ConvSpec) -> Iterable[str]:
    grid = spec.grid
    odd_extent = [dilation * (taps - 1) % 2 for taps, dilation in zip(grid.size, grid.dilation, strict=True)]
    axes = [axis for axis, odd in zip("xyz", odd_extent, strict=True) if odd]
    if axes:
        yield (
            f"note: {spec.name} has an even kernel_size: along {listed(axes, 'and')} its output is one voxel shorter "
            "than its input and lies between the input's voxels. Odd sizes keep both."
        )
