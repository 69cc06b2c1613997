"""The rotation group in numbers: real harmonics, the matrices D^l(r), the cube group, random rotations.

    Y_l(r u) = D^l(r) Y_l(u)        for every rotation r and unit vector u

Phases and order of components are e3nn's: the standard real harmonics (m = -l..l, no Condon-Shortley phase)
evaluated at (z, x, y) in place of (x, y, z), so that degree 1 is (x, y, z) and D^1(r) = r.
"""

import math
from functools import cache
from itertools import permutations, product

import torch
from torch import Tensor


def spherical_harmonics(degree: int, points: Tensor) -> Tensor:
    """Real spherical harmonics of one degree at unit vectors.

    points: (..., 3). Returns (..., 2 degree + 1), "component" normalised: the squares sum to 2 degree + 1.
    Source: the recursion of the associated Legendre functions in the degree, e.g. DLMF 14.10.3.
    """
    y, z, x = points.unbind(-1)  # the standard harmonics' own names for e3nn's (x, y, z)
    azimuth = torch.complex(x, y)
    components = {}
    for m in range(degree + 1):
        # Q_l^m = P_l^m / sin(theta)^m, a polynomial in z; the lost power of the sine is carried by (x + iy)^m
        previous, legendre = torch.zeros_like(z), torch.full_like(z, math.prod(range(1, 2 * m, 2)))
        for n in range(m + 1, degree + 1):
            previous, legendre = legendre, ((2 * n - 1) * z * legendre - (n + m - 1) * previous) / (n - m)
        norm = math.sqrt((2 * degree + 1) * math.factorial(degree - m) / math.factorial(degree + m) * (2 if m else 1))
        wave = azimuth**m
        components[m], components[-m] = norm * legendre * wave.real, norm * legendre * (wave.imag if m else 1)
    return torch.stack([components[m] for m in range(-degree, degree + 1)], -1)


def wigner_d(degree: int, rotation: Tensor, parity: int | None = None) -> Tensor:
    """The matrix D^l(r) by which a rotation mixes the components of a field of one degree.

    rotation: (..., 3, 3) orthogonal. Returns float64 (..., 2 degree + 1, 2 degree + 1), exact to about 1e-14.
    An improper r (determinant -1) is minus a proper one and gives parity * D^l(-r).

    D^l is read off its definition, Y_l(r u) = D^l(r) Y_l(u), by least squares over points well spread on the sphere.

    Raises ValueError for an improper rotation of a field without parity.
    """
    rotation = rotation.double()
    sign = torch.linalg.det(rotation).sign()[..., None, None]
    if parity is None and bool((sign < 0).any()):
        raise ValueError(
            f"a field of degree {degree} without parity cannot be reflected: the matrix has determinant -1. "
            "Use a proper rotation, or give the field type parities ('1o' instead of '1')."
        )
    points, inverse = (constant.to(rotation.device) for constant in _sampling(degree))
    matrix: Tensor = (inverse @ spherical_harmonics(degree, points @ (sign * rotation).mT)).mT
    return matrix if parity != -1 else matrix * sign


@cache
def _sampling(degree: int) -> tuple[Tensor, Tensor]:
    """Points (point, 3) and the inverse (component, point) of sampling harmonics of one degree there: constants."""
    points = _spiral(8 * (degree + 1))
    return points, torch.linalg.pinv(spherical_harmonics(degree, points))


def _spiral(count: int) -> Tensor:
    """float64 (count, 3): points spread evenly over the unit sphere along a golden spiral."""
    index = torch.arange(count, dtype=torch.float64)
    height, angle = 1 - (2 * index + 1) / count, index * math.pi * (3 - math.sqrt(5))
    radius = (1 - height**2).sqrt()
    return torch.stack([radius * angle.cos(), radius * angle.sin(), height], -1)


@cache
def clebsch_gordan(first: int, second: int, degree: int) -> Tensor:
    """The coupling of two fields to one of the given degree, the only one that commutes with rotations.

        h_k = sum_mn C[m, n, k] f_m g_n        is a field of that degree if f and g are fields

    Returns float64 (2 first + 1, 2 second + 1, 2 degree + 1), orthonormal: for every k the squares sum to 1. Of the two
    signs it has the one whose first entry of largest size is positive. Computed as what it is, the one tensor that two
    rotations with dense orbits leave alone: the eigenvector of eigenvalue zero.

    Raises ValueError unless |first - second| <= degree <= first + second.
    """
    if not abs(first - second) <= degree <= first + second:
        raise ValueError(f"degrees {first} and {second} have no product of degree {degree}: only |l - l'| to l + l'.")
    defects = []
    for rotation in random_rotations(2, generator=torch.Generator().manual_seed(0)):
        pair = torch.kron(wigner_d(first, rotation), wigner_d(second, rotation))
        together = torch.kron(pair, wigner_d(degree, rotation))
        defects.append(together - torch.eye(len(together), dtype=torch.float64))
    change = torch.cat(defects)
    invariant: Tensor = torch.linalg.eigh(change.mT @ change).eigenvectors[:, 0]
    size = invariant.abs()
    sign = invariant[size > size.max() - 1e-6][0].sign()
    shape = (2 * first + 1, 2 * second + 1, 2 * degree + 1)
    return (sign * math.sqrt(2 * degree + 1) * invariant).reshape(shape)


def cube_turns(*, reflections: bool = False) -> Tensor:
    """The 24 rotations (48 with reflections) that map a cube to itself, as signed permutation matrices.

    Returns int64 (24 or 48, 3, 3); the identity comes first, and the proper rotations before the others.
    """
    matrices = []
    for axes, signs in product(permutations(range(3)), product((1, -1), repeat=3)):
        matrices.append(torch.diag(torch.tensor(signs))[list(axes)])
    matrices.sort(key=lambda r: -round(torch.linalg.det(r.double()).item()))
    return torch.stack(matrices if reflections else matrices[:24])


def random_rotations(count: int, *, generator: torch.Generator | None = None) -> Tensor:
    """Rotations drawn uniformly (Haar measure): float64 (count, 3, 3), from normal quaternions."""
    quaternions = torch.randn(count, 4, dtype=torch.float64, generator=generator)
    w, x, y, z = (quaternions / quaternions.norm(dim=1, keepdim=True)).unbind(1)
    rows = [
        [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
        [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
        [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
    ]
    return torch.stack([torch.stack(row, -1) for row in rows], -2)
