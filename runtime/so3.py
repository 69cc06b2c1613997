"""The rotation group in numbers: real harmonics, the matrices D^l(r), the cube group, random rotations.

    Y_l(r u) = D^l(r) Y_l(u)        for every rotation r and unit vector u

Phases and order of components are e3nn's: the standard real harmonics (m = -l..l, no Condon-Shortley phase)
evaluated at (z, x, y) in place of (x, y, z), so that degree 1 is (x, y, z) and D^1(r) = r.
"""

import math
from fractions import Fraction
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
    with torch.device("cpu"):  # kept for all callers, whatever the default device of the first
        points = _spiral(8 * (degree + 1))
        return points, torch.linalg.pinv(spherical_harmonics(degree, points))


def _spiral(count: int) -> Tensor:
    """float64 (count, 3): points spread evenly over the unit sphere along a golden spiral."""
    index = torch.arange(count, dtype=torch.float64)
    height, angle = 1 - (2 * index + 1) / count, index * math.pi * (3 - math.sqrt(5))
    radius = (1 - height**2).sqrt()
    return torch.stack([radius * angle.cos(), radius * angle.sin(), height], -1)


def clebsch_gordan(first: int, second: int, degree: int) -> Tensor:
    """The coupling of two fields to one of the given degree, the only one that commutes with rotations.

        h_M = sum_mn C[m, n, M] f_m g_n        is a field of that degree if f and g are fields

    Returns float64 (2 first + 1, 2 second + 1, 2 degree + 1), orthonormal: for every M the squares sum to 1. Its signs
    are those of the compiler's exact tables and of e3nn: C = sqrt(2 degree + 1) wigner_3j(first, second, degree).

    Raises ValueError unless |first - second| <= degree <= first + second.
    """
    if not abs(first - second) <= degree <= first + second:
        raise ValueError(f"degrees {first} and {second} have no product of degree {degree}: only |l - l'| to l + l'.")
    return _clebsch_gordan(first, second, degree).clone()


@cache
def _clebsch_gordan(j: int, l: int, J: int) -> Tensor:
    """C = (-i)^(j+l-J) sum U[mu, m] U[nu, n] conj(U[mu+nu, M]) <j mu l nu|J mu+nu>: a constant.

    U, of `_real_to_complex`, takes real components to complex ones; the power of i makes the sum real.
    """
    with torch.device("cpu"):
        table = torch.zeros(2 * j + 1, 2 * l + 1, 2 * J + 1, dtype=torch.float64)
        for mu, nu in product(range(-j, j + 1), range(-l, l + 1)):
            if abs(mu + nu) <= J:
                table[j + mu, l + nu, J + mu + nu] = _complex_coupling(j, mu, l, nu, J)
        U_j, U_l, U_J = (_real_to_complex(degree) for degree in (j, l, J))
        mixed = torch.einsum("am,bn,cM,abc->mnM", U_j, U_l, U_J.conj(), table + 0j)
        return ((-1j) ** ((j + l - J) % 4) * mixed).real.contiguous()


def _complex_coupling(j: int, m: int, l: int, n: int, J: int) -> float:
    """The Clebsch-Gordan coefficient <j m l n|J m+n> of complex harmonics; all but the last root is exact.

    Source: Racah, Phys. Rev. 62, 438 (1942), eq. 16, with binomials in place of factorials.
    """
    terms = range(max(0, l - J - m, j - J + n), min(j + l - J, j - m, l + n) + 1)
    total = sum(
        (-1) ** k * math.comb(j + l - J, k) * math.comb(J + j - l, j - m - k) * math.comb(J - j + l, l + n - k)
        for k in terms
    )
    orders = (J + m + n, J - m - n, j + m, j - m, l + n, l - n)
    degrees = (j + l + J + 1, j + l - J, J + j - l, J - j + l)
    above, below = (math.prod(map(math.factorial, numbers)) for numbers in (orders, degrees))
    return math.copysign(math.sqrt(Fraction(total**2 * (2 * J + 1) * above, below)), total)


def _real_to_complex(degree: int) -> Tensor:
    """complex128 (mu, m): f_mu = sum U[mu, m] f_m, complex components (Condon-Shortley phase) from real ones."""
    matrix = torch.zeros(2 * degree + 1, 2 * degree + 1, dtype=torch.complex128)
    matrix[degree, degree] = 1
    for m in range(1, degree + 1):
        cosine, sine = degree + m, degree - m
        matrix[degree + m, [cosine, sine]] = (-1) ** m * math.sqrt(0.5) * torch.tensor([1, 1j], dtype=torch.complex128)
        matrix[degree - m, [cosine, sine]] = math.sqrt(0.5) * torch.tensor([1, -1j], dtype=torch.complex128)
    return matrix


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
