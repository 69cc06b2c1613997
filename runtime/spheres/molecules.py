"""Molecules as signals on spheres about their atoms, in closed form: no grid, no aliasing, gradients to the positions.

With v the direction from atom i to atom j, d their distance, and R the radius of atom i's sphere:

    potential  sum_j q_j / |R u - d v|  =  sum_lm Y_lm(u) sum_j q_j 4 pi / (2l+1) min(R, d)^l / max(R, d)^(l+1) Y_lm(v)
    density    sum_j g_n(d) delta(u - v)  =  sum_lm Y_lm(u) sum_j g_n(d) Y_lm(v)

one signal for every element (and radial function n). Source: the multipole expansion; the channels of Cohen et al. 2018
and Kondor et al. 2018 for QM7, who sample the potential on a grid instead.

Everywhere: positions (batch, atom, 3) in one unit of length; kinds (batch, atom), integers; an atom of negative kind
is padding, for small molecules. Results are channels (batch, channel, atom) of the field type
`signal_type(multiplicity, limit)`.
"""

import math
from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor

from .signals import as_channels, harmonics

_NEAR = 1e-6  # distances below this, in the unit of the positions, have no direction


def atom_potentials(
    positions: Tensor,
    kinds: Tensor,
    *,
    elements: Sequence[int],
    limit: int,
    radius: float,
    charges: Tensor | None = None,
) -> Tensor:
    """The electrostatic potential on a sphere about every atom, one signal for each element of the others.

        U_z(u) = sum over j != i of kind z:  q_i q_j / |R u - (p_j - p_i)|

    elements: the kinds that have a signal, in order; atoms of other kinds are an error. charges: (batch, atom), the
    kinds themselves unless given, as for atomic numbers. radius R: below all distances, else there are kinks.

    Returns (batch, channel, atom), copies = elements, band limit `limit`. Raises ValueError if shapes do not fit.
    """
    present, member = _members(positions, kinds, elements)
    charges = kinds.to(positions) if charges is None else charges
    distance, direction, apart = _pairs(positions, present)
    pair_charges = charges.unsqueeze(2) * charges.unsqueeze(1) * apart  # (batch, atom, other)
    near, far = distance.clamp_max(radius), distance.clamp_min(radius)
    degrees = torch.arange(limit, dtype=positions.dtype, device=positions.device)
    radial = 4 * math.pi / (2 * degrees + 1) * (near / far).unsqueeze(-1) ** degrees / far.unsqueeze(-1)
    return _project(direction, (pair_charges.unsqueeze(-1) * radial).unsqueeze(-2), member, limit)


def neighbour_densities(
    positions: Tensor,
    kinds: Tensor,
    *,
    elements: Sequence[int],
    limit: int,
    radii: Sequence[float],
    cutoff: float | None = None,
) -> Tensor:
    """The density of the other atoms about every atom, one signal for each element and radius.

        rho_zn(u) = sum over j != i of kind z:  g_n(d) delta(u - v),    g_n = exp(-(ln d - ln r_n)^2 / (2 w^2)) c(d)

    radii r_n: increasing, in a geometric series; w is the mean step of their logarithms (0.5 for one radius). cutoff:
    an atom moves in smoothly, c = (1 + cos(pi d / cutoff)) / 2 below it, 0 beyond; None: c = 1.

    Returns (batch, channel, atom), copies = elements * radii, the radii of an element together, band limit `limit`.
    Raises ValueError if shapes do not fit or radii are not positive and increasing.
    """
    radii = [float(radius) for radius in radii]
    if not radii or radii[0] <= 0 or any(a >= b for a, b in pairwise(radii)):
        raise ValueError(f"neighbour_densities takes positive, increasing radii, got {radii}.")
    present, member = _members(positions, kinds, elements)
    distance, direction, apart = _pairs(positions, present)
    width = math.log(radii[-1] / radii[0]) / (len(radii) - 1) if len(radii) > 1 else 0.5
    centres = torch.tensor(radii, dtype=positions.dtype, device=positions.device).log()
    radial = torch.exp(
        -((distance.log().unsqueeze(-1) - centres) ** 2) / (2 * width**2)
    )  # (batch, atom, other, radius)
    weight = apart.to(positions)
    if cutoff is not None:
        weight = weight * torch.where(distance < cutoff, (1 + torch.cos(math.pi * distance / cutoff)) / 2, 0)
    radial = (radial * weight.unsqueeze(-1)).unsqueeze(-1)
    return _project(direction, radial, member, limit)


def _members(positions: Tensor, kinds: Tensor, elements: Sequence[int]) -> tuple[Tensor, Tensor]:
    """Which atoms are there (batch, atom), and of which element (batch, atom, element), one-hot."""
    if positions.ndim != 3 or positions.shape[2] != 3 or kinds.shape != positions.shape[:2]:
        raise ValueError(
            f"a molecule takes positions (batch, atom, 3) and kinds (batch, atom), got {tuple(positions.shape)} and "
            f"{tuple(kinds.shape)}. Pad smaller molecules with atoms of kind -1."
        )
    listed = torch.tensor(list(elements), device=kinds.device)
    member = kinds.unsqueeze(-1) == listed
    present = kinds >= 0
    unknown = present & ~member.any(-1)
    if bool(unknown.any()):
        raise ValueError(
            f"kind {int(kinds[unknown][0])} is not among the elements {list(elements)}. Add it, or mark atoms that do "
            "not count with a negative kind."
        )
    return present, member.to(positions)


def _pairs(positions: Tensor, present: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Distance (batch, atom, other), direction to the other (.., 3), and whether the pair counts."""
    offset = positions.unsqueeze(1) - positions.unsqueeze(2)  # (batch, atom, other, 3): from the atom to the other
    count = positions.shape[1]
    apart = present.unsqueeze(1) & present.unsqueeze(2) & ~torch.eye(count, dtype=torch.bool, device=positions.device)
    apart = apart & (offset.detach().square().sum(-1) > _NEAR**2)
    safe = torch.where(apart.unsqueeze(-1), offset, offset.new_tensor([0.0, 1.0, 0.0]))
    distance = safe.norm(dim=-1)
    return distance, safe / distance.unsqueeze(-1), apart


def _project(direction: Tensor, radial: Tensor, member: Tensor, limit: int) -> Tensor:
    """sum_j radial_njl member_jz Y_lm(v_ij): (batch, channel, atom).

    direction: (batch, atom, other, 3). radial: (batch, atom, other, function, degree, or 1 for all degrees).
    """
    table = harmonics(limit, direction)  # (batch, atom, other, coefficient)
    orders = [2 * degree + 1 for degree in range(limit)]
    degrees = []
    for degree, values in enumerate(torch.split(table, orders, -1)):
        part = radial[..., degree if radial.shape[-1] > 1 else 0]  # (batch, atom, other, function)
        # (batch, element, function, m, atom)
        degrees.append(torch.einsum("bijn,bijm,bjz->bznmi", part, values, member))
    return as_channels(torch.cat(degrees, 3).flatten(1, 2))  # (batch, element and function, coefficient, atom)
