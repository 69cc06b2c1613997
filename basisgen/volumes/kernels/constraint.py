"""The kernel constraint, stated once, and its form for kernels that are sums of solid harmonics.

    kappa(r x) = D^j(r) kappa(x) D^l(r)^-1        for every rotation r                                             (1)

SO(3) is connected, so (1) holds for every r if and only if it holds to first order for the rotations about x, y and z:

    (X_a x) . grad kappa = dD^j(X_a) kappa - kappa dD^l(X_a),        a = x, y, z                                   (1')

Write kappa[m, n] = sum_M C[m, n, M] Y_M with solid harmonics of one degree J that obey (X_a x) . grad Y_M =
sum_M' dD^J(X_a)[M, M'] Y_M'. The Y_M are linearly independent polynomials, so (1') is an identity of numbers, the
intertwiner identity (1'') of `couplings.law`.

With parity, inversion gives kappa(-x) = p_out p_in kappa(x), that is (-1)^J = p_out p_in.
Source: Weiler et al. 2018, arXiv:1807.02547, equations 3 and 4.
"""

from __future__ import annotations

from basisgen.so3.field_type import Irrep


def allowed_degrees(out: Irrep, into: Irrep) -> tuple[int, ...]:
    """The harmonic degrees J of the pair's kernels: |j-l|..j+l, with parity only (-1)^J = p_out p_in."""
    j, l = out.degree, into.degree
    degrees = range(abs(j - l), j + l + 1)
    return tuple(J for J in degrees if has_right_parity(out, into, J))


def has_right_parity(out: Irrep, into: Irrep, J: int) -> bool:
    """Whether kappa(-x) = p_out p_in kappa(x) for a kernel of degree J; nothing is asked without parity."""
    if out.parity is None or into.parity is None:
        return True
    sign = 1 if J % 2 == 0 else -1
    return sign == out.parity * into.parity


def number_of_solutions(out: Irrep, into: Irrep) -> int:
    """The dimension of the solutions of (1) on one sphere: of Hom(D^l, D^j) over the stabiliser of an axis.

    The stabiliser in SO(3) is the circle of rotations about the axis: orders m, n are tied by |m| = |n|, one complex
    number each and a real one for 0, so 2 min(j, l) + 1. In O(3) it also holds the mirrors through the axis, which
    leave one real number per order, and of order 0 only where p_out p_in = (-1)^(j+l): min(j, l) + 1 or min(j, l).
    """
    smaller = min(out.degree, into.degree)
    if out.parity is None or into.parity is None:
        return 2 * smaller + 1
    natural = out.parity * into.parity == (-1) ** (out.degree + into.degree)
    return smaller + 1 if natural else smaller
