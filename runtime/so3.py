"""The rotation group in numbers: real harmonics, the matrices D^l(r), the cube group, random rotations.

    Y_l(r u) = D^l(r) Y_l(u)        for every rotation r and unit vector u

Phases and order of components are e3nn's: the standard real harmonics (m = -l..l, no Condon-Shortley phase)
evaluated at (z, x, y) in place of (x, y, z), so that degree 1 is (x, y, z) and D^1(r) = r.
"""

import math
from fractions import Fraction
from itertools import permutations, product

import torch
from torch import Tensor

from .constants import constant
from .layer import is_readable


def spherical_harmonics(degree: int, points: Tensor) -> Tensor:
    """Real spherical harmonics of one degree at unit vectors.

    With e3nn's (x, y, z) renamed to the standard harmonics' (y, z, x), and R_l^m the associated Legendre function over
    sin(theta)^m, a polynomial in z with R_l^m(1) = 1, whose lost power of the sine (x + iy)^m carries:

        Y_lm = N_lm R_l^m(z) Re (x + iy)^m        for -m the imaginary part;  R(-z) = (-1)^(l-m) R(z)
        R_l^m = R_(l-1)^m + D_l^m,    (l + m) D_l^m = (l - m - 1) D_(l-1)^m - (2 l - 1) (1 - z) R_(l-1)^m,    R_m^m = 1

    It is the three-term recursion in the degree, in differences, which lose nothing near the poles.

    points: (..., 3). Returns (..., 2 degree + 1), "component" normalised: the squares sum to 2 degree + 1. In float64
    right to 1e-13 of the root of that sum up to degree 128.
    Source: DLMF 14.10.3; differences as in Reinsch's form of Clenshaw's sum.
    """
    y, z, x = points.unbind(-1)
    steps = constant(_recursion, degree, dtype=points.dtype, device=points.device)  # (degree, 2, m)
    norms = constant(_norms, degree, dtype=points.dtype, device=points.device)  # (m)
    below = ((x.square() + y.square()) / (1 + z.abs())).unsqueeze(-1)  # 1 - |z| of a unit vector, without cancellation
    legendre = torch.ones_like(below)  # (..., m)
    difference = torch.zeros_like(below)
    for kept, fresh in steps.unbind(0):
        difference = kept * difference - fresh * below * legendre
        legendre = legendre + difference
    signs = constant(_alternating, degree, dtype=points.dtype, device=points.device)  # (-1)^(degree - m)
    legendre = norms * torch.where(z.unsqueeze(-1) < 0, signs * legendre, legendre)
    cosines, sines = [torch.ones_like(x)], [torch.zeros_like(x)]  # (x + iy)^m
    for _ in range(degree):
        cosine, sine = cosines[-1], sines[-1]
        cosines.append(cosine * x - sine * y)
        sines.append(cosine * y + sine * x)
    odd, even = legendre * torch.stack(sines, -1), legendre * torch.stack(cosines, -1)
    return torch.cat([odd[..., 1:].flip(-1), even], -1)  # m = -degree..degree


def _recursion(degree: int) -> Tensor:
    """float64 (l - 1, 2, m): (l - m - 1) / (l + m) and (2 l - 1) / (l + m) for m < l, else 0, for l = 1..degree."""
    l, m = torch.arange(1, degree + 1, dtype=torch.float64)[:, None], torch.arange(degree + 1, dtype=torch.float64)
    return torch.stack([(l - m - 1) / (l + m), (2 * l - 1) / (l + m)], 1) * (m < l).unsqueeze(1)


def _norms(degree: int) -> Tensor:
    """float64 (m): N_lm = sqrt((2 - delta_m0) (2 l + 1) (l + m)! / (l - m)!) / (2^m m!)."""
    squares = [
        Fraction((2 if m else 1) * (2 * degree + 1) * math.perm(degree + m, 2 * m), 4**m * math.factorial(m) ** 2)
        for m in range(degree + 1)
    ]
    return torch.tensor([math.sqrt(square) for square in squares], dtype=torch.float64)


def _alternating(degree: int) -> Tensor:
    """float64 (m): (-1)^(degree - m)."""
    return torch.tensor([(-1.0) ** (degree - m) for m in range(degree + 1)], dtype=torch.float64)


def wigner_d(degree: int, rotation: Tensor, parity: int | None = None) -> Tensor:
    """The matrix D^l(r) by which a rotation mixes the components of a field of one degree.

    rotation: (..., 3, 3) orthogonal. Returns float64 (..., 2 degree + 1, 2 degree + 1), exact to about 1e-14, 1e-13 at
    degree 128. An improper r (determinant -1) is minus a proper one and gives parity * D^l(-r).

    D^l is read off its definition, Y_l(r u) = D^l(r) Y_l(u), by least squares over points well spread on the sphere.

    Raises ValueError for an improper rotation of a field without parity; where looking would wait for a device, or
    cannot be done (under a compiler, under vmap), the result is NaN instead.
    """
    rotation = rotation.double()
    sign = torch.linalg.det(rotation).sign()[..., None, None]
    if parity is None and is_readable(sign) and bool((sign < 0).any()):
        raise ValueError(
            f"a field of degree {degree} without parity cannot be reflected: the matrix has determinant -1. "
            "Use a proper rotation, or give the field type parities ('1o' instead of '1')."
        )
    points = constant(_spiral, 8 * (degree + 1), dtype=torch.float64, device=rotation.device)
    inverse = constant(_from_samples, degree, dtype=torch.float64, device=rotation.device)
    harmonics = spherical_harmonics(degree, points @ (sign * rotation).mT)  # (..., point, component)
    matrix: Tensor = (inverse @ harmonics).mT  # (component, point) @ (..., point, component), transposed
    if parity is None:
        return torch.where(sign < 0, math.nan, matrix)
    return matrix if parity != -1 else matrix * sign


def _from_samples(degree: int) -> Tensor:
    """float64 (component, point): from samples of harmonics of one degree at the points of the spiral to components."""
    inverse: Tensor = torch.linalg.pinv(spherical_harmonics(degree, _spiral(8 * (degree + 1))))
    return inverse


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
    return constant(coupling, first, second, degree, dtype=torch.float64, device=torch.device("cpu")).clone()


def coupling(j: int, l: int, J: int) -> Tensor:
    """C = (-i)^(j+l-J) sum U[mu, m] U[nu, n] conj(U[mu+nu, M]) <j mu l nu|J mu+nu>, for `constant`.

    U, of `_real_to_complex`, takes real components to complex ones; the power of i makes the sum real.
    """
    table = torch.zeros(2 * j + 1, 2 * l + 1, 2 * J + 1, dtype=torch.float64)
    for mu, nu in product(range(-j, j + 1), range(-l, l + 1)):
        if abs(mu + nu) <= J:
            table[j + mu, l + nu, J + mu + nu] = _complex_coupling(j, mu, l, nu, J)
    U_j, U_l, U_J = (_real_to_complex(degree) for degree in (j, l, J))
    mixed = torch.einsum("am,bn,cM,abc->mnM", U_j, U_l, U_J.conj(), table + 0j)  # (m, n, M)
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


def _parity(axes: tuple[int, ...]) -> int:
    return 1 - 2 * (sum(axes[i] > axes[j] for i in range(3) for j in range(i + 1, 3)) % 2)


CUBE_TURNS = tuple(
    sorted(product(permutations(range(3)), product((1, -1), repeat=3)), key=lambda t: -_parity(t[0]) * math.prod(t[1]))
)
"""(axes, signs) of the turns of the cube: component i of the result is component axes[i], times signs[axes[i]]."""


def cube_turns(*, reflections: bool = False) -> Tensor:
    """The 24 rotations (48 with reflections) that map a cube to itself, as signed permutation matrices.

    Returns int64 (24 or 48, 3, 3); the identity comes first, and the proper rotations before the others.
    """
    turns = constant(_all_turns, dtype=torch.int64, device=torch.device("cpu"))
    return turns[: 48 if reflections else 24].clone()


def _all_turns() -> Tensor:
    return torch.stack([torch.diag(torch.tensor(signs))[list(axes)] for axes, signs in CUBE_TURNS])


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
