"""The mathematics of a package, re-checked from its certificate alone, exactly. This is the module to trust.

The claim: for each pair of irreps (j out, l in) the kernels kappa^J(x)[m, n] = sum_M C[m, n; J, M] Y_JM(x) are, up to
functions of |x|, all solutions of

    kappa(g x) = D^j(g) kappa(x) D^l(g)^-1    for every rotation g; with parity also for g = -1, where D(-1) = p    (1)

Why the four checks below establish it:

    harmonics    The Y_l are harmonic polynomials of degree l, orthonormal, and the standard ones by name and sign. What
                 a rotation makes of Y_l is again harmonic, so Y_l(g x) = D^l(g) Y_l(x) defines the representation D^l,
                 and (X_a x).grad Y_l = dD^l(X_a) Y_l its generators, X_a the rotation about axis a. D^1(g) = g.
    law          (X_a x).grad kappa = dD^j(X_a) kappa - kappa dD^l(X_a) for a = x, y, z, as polynomials. The left is
                 sum_M C[m, n; J, M] sum_K dD^J(X_a)[M, K] Y_JK, and the Y_JK are independent: so for every (m, n, K)

                     sum_M C[m, n, M] dD^J[M, K] = sum_k dD^j[m, k] C[k, n, K] - sum_k C[m, k, K] dD^l[k, n]

                 SO(3) is connected, so this is (1) for every rotation; kappa(-x) = (-1)^J kappa(x) settles the
                 inversion.
    complete     By (1) a kernel on a sphere is known from its value at one point. Every rotation that fixes the point
                 fixes the value too: such matrices are a null space, whose dimension is computed here. The values
                 of the kappa^J at the point lie in it, are independent, and are as many.
    orthonormal  sum_mn C[m, n; J, M] C[m, n; J', M'] = delta delta, the normalisation the modules rely on. By the law
                 the left side commutes with the rotations, D^J on one side and D^J' on the other: by Schur's lemma it
                 is zero, or for J = J' a multiple of the identity. What is left to check are the lengths.

The numbers: with Y = sqrt(N) P, P integer polynomials, and c = C sqrt(N_JM N_ln / N_jm), all is rational up to one root
per J. Nothing of the compiler is used and no computer algebra: Python's integers and fractions.
"""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from itertools import product
from math import gcd, isqrt, lcm, prod

from basisgen.verify.polynomials import Matrix, SparseRow, inner, laplacian, rank, standard_harmonic
from basisgen.verify.statement import Certificate, Coefficients, Harmonic, Pair

Integers = dict[tuple[int, int, int], int]  # (m, n, M) -> c
Rescaled = dict[tuple[int, int, int], Integers | None]  # (j, l, J) -> c, None where there are no such integers

MAX_DENOMINATOR = 1 << 2000  # of coefficients; those of degrees up to 12 need less


def check_harmonics(certificate: Certificate) -> Iterator[str]:
    """Y_lm: harmonic, orthonormal (mean square 1 over the sphere), and the standard ones by name and sign."""
    for l, harmonics in certificate.harmonics.items():
        for m, harmonic in harmonics.items():
            where, p = f"certificate.json: harmonic ({l}, {m})", harmonic.polynomial
            if not _equal(harmonic, Harmonic(*standard_harmonic(l, m))):
                yield f"{where} is not the standard one"
                continue
            if laplacian(p) or any(sum(exponents) != l for exponents in p):
                yield f"{where} is not a harmonic polynomial of degree {l}"
            if harmonic.square_norm * inner(p, p) != prod(range(1, 2 * l + 2, 2)):
                yield f"{where} does not have mean square 1 over the sphere"
            if any(n != m and inner(p, other.polynomial) for n, other in harmonics.items()):
                yield f"{where} is not orthogonal to the others of its degree"


def rescaled(certificate: Certificate) -> Rescaled:
    """The coefficients of every kappa^J as integers."""
    return {
        (j, l, J): _integers(coefficients, certificate, j, l, J)
        for (j, l), table in certificate.clebsch_gordan.items()
        for J, coefficients in table.items()
    }


def check_law(certificate: Certificate, integers_of: Rescaled) -> Iterator[str]:
    """The constraint, differentiated, on the coefficients of every kappa^J, exactly."""
    for (j, l), table in certificate.clebsch_gordan.items():
        for J in table:
            where = f"certificate.json: pair {j} <- {l}, element J = {J}"
            integers = integers_of[j, l, J]
            if integers is None:
                yield f"{where}: two coefficients have a ratio that no solution allows"
                continue
            for axis in range(3):
                turns = [certificate.generators[degree][axis] for degree in (j, l, J)]
                if broken := min(_excess(integers, *turns), default=None):
                    m, n, _ = broken
                    yield f"{where}: turned about {'xyz'[axis]}, entry (m, n) = ({m}, {n}) breaks the law"
                    break
    for pair in certificate.pairs:
        if pair.out.parity is not None and pair.into.parity is not None:
            for J in pair.degrees:
                if pair.out.parity * pair.into.parity != (-1) ** J:
                    yield f"certificate.json: {pair}, element J = {J} has the wrong parity"


def check_orthonormal(certificate: Certificate, integers_of: Rescaled) -> Iterator[str]:
    """The lengths of the columns (J, M) of C, for each (j, l)."""
    for (j, l), table in certificate.clebsch_gordan.items():
        for J, coefficients in table.items():
            if integers_of[j, l, J] is None:
                continue  # in any case it breaks the law
            squares = dict.fromkeys(range(-J, J + 1), Fraction(0))
            for (_, _, M), root in coefficients.items():
                squares[M] += root.square
            for M, square in squares.items():
                if square != 1:
                    yield f"certificate.json: pair {j} <- {l}, element J = {J}: column M = {M} of C is not of length 1"


def check_complete(certificate: Certificate, integers_of: Rescaled) -> Iterator[str]:
    """The values of a pair's kernels at the point (0, 1, 0) are a basis of all its stabiliser allows there."""
    for pair in certificate.pairs:
        j, l = pair.out.degree, pair.into.degree
        dimension = (2 * j + 1) * (2 * l + 1) - rank(_stabiliser_equations(pair, certificate))
        values = []
        for J in pair.degrees:
            at_point = {M: harmonic.polynomial.get((0, J, 0), 0) for M, harmonic in certificate.harmonics[J].items()}
            value: dict[tuple[int, int], int] = {}
            for (m, n, M), c in (integers_of[j, l, J] or {}).items():
                value[m, n] = value.get((m, n), 0) + c * at_point[M]
            values.append({entry: Fraction(number) for entry, number in value.items()})
        if rank(values) < len(values):
            yield f"certificate.json: {pair}: its kernels are not independent"
        if not len(values) == dimension == pair.dimension:
            yield (
                f"certificate.json: {pair} has {len(values)} elements, J = {list(pair.degrees)}, and states "
                f"{pair.dimension}; the solutions have dimension {dimension}"
            )


def _equal(a: Harmonic, b: Harmonic) -> bool:
    """Whether sqrt(N) P of the two agree."""
    if a.polynomial.keys() != b.polynomial.keys():
        return False
    ratio = {Fraction(a.polynomial[monomial], b.polynomial[monomial]) for monomial in a.polynomial}
    return len(ratio) == 1 and min(ratio) > 0 and a.square_norm * min(ratio) ** 2 == b.square_norm


def _integers(coefficients: Coefficients, certificate: Certificate, j: int, l: int, J: int) -> Integers | None:
    """c = C sqrt(N_JM N_ln / N_jm) times a common factor, integers; None where a ratio of two is irrational."""
    by_J, by_j, by_l = (certificate.harmonics[degree] for degree in (J, j, l))
    norms = {(m, n): by_l[n].square_norm / by_j[m].square_norm for m in range(-j, j + 1) for n in range(-l, l + 1)}
    roots: dict[tuple[int, int, int], tuple[int, int]] = {}
    above, below, common = 0, 0, 1  # the first square, to which the others are compared
    for (m, n, M), (sign, square) in coefficients.items():
        N, norm = by_J[M].square_norm, norms[m, n]
        numerator = square.numerator * N.numerator * norm.numerator
        denominator = square.denominator * N.denominator * norm.denominator
        above, below = (above, below) if above else (numerator, denominator)
        numerator, denominator = numerator * below, denominator * above
        divisor = gcd(numerator, denominator)
        numerator, denominator = numerator // divisor, denominator // divisor
        root = isqrt(numerator), isqrt(denominator)
        common = lcm(common, root[1])
        if root[0] ** 2 != numerator or root[1] ** 2 != denominator or common > MAX_DENOMINATOR:
            return None
        roots[m, n, M] = sign * root[0], root[1]
    return {index: above * (common // below) for index, (above, below) in roots.items()}


def _excess(integers: Integers, by_j: Matrix, by_l: Matrix, by_J: Matrix) -> Integers:
    """(C dD^J - dD^j C + C dD^l)[m, n, K] times a common denominator; empty for a solution."""
    common = lcm(*(value.denominator for matrix in (by_j, by_l, by_J) for value in matrix.values()))
    columns: dict[int, list[tuple[int, int]]] = {}
    rows_l: dict[int, list[tuple[int, int]]] = {}
    rows_J: dict[int, list[tuple[int, int]]] = {}
    for (row, column), value in by_j.items():
        columns.setdefault(column, []).append((row, int(common * value)))
    for rows, matrix in ((rows_l, by_l), (rows_J, by_J)):
        for (row, column), value in matrix.items():
            rows.setdefault(row, []).append((column, int(common * value)))
    excess: Integers = {}
    for (m, n, M), c in integers.items():
        terms = [((m, n, K), factor) for K, factor in rows_J.get(M, ())]
        terms += [((row, n, M), -factor) for row, factor in columns.get(m, ())]
        terms += [((m, column, M), factor) for column, factor in rows_l.get(n, ())]
        for index, factor in terms:
            excess[index] = excess.get(index, 0) + c * factor
    return {index: value for index, value in excess.items() if value}


def _stabiliser_equations(pair: Pair, certificate: Certificate) -> Iterator[SparseRow]:
    """What fixes a matrix k at (0, 1, 0): dD^j(X_y) k = k dD^l(X_y); with parity also D^j(s) k = k D^l(s), s: x -> -x.

    P(s x) = +-P(x) by the power of x, and s = -1 * a rotation, so D^l(s) = p (-1)^l * diag(+-1).
    """
    (j, p_out), (l, p_in) = pair.out, pair.into
    by_j, by_l = (certificate.generators[degree][1] for degree in (j, l))
    rows: dict[int, list[tuple[int, Fraction]]] = {m: [] for m in range(-j, j + 1)}
    columns: dict[int, list[tuple[int, Fraction]]] = {n: [] for n in range(-l, l + 1)}
    for (m, k), value in by_j.items():
        rows[m].append((k, value))
    for (k, n), value in by_l.items():
        columns[n].append((k, value))
    for m, n in product(range(-j, j + 1), range(-l, l + 1)):
        row = {(k, n): value for k, value in rows[m]}
        for k, value in columns[n]:
            row[m, k] = row.get((m, k), Fraction(0)) - value
        yield row
        if p_out is not None and p_in is not None:
            (power, _, _), *_ = certificate.harmonics[j][m].polynomial
            (other, _, _), *_ = certificate.harmonics[l][n].polynomial
            yield {(m, n): Fraction(1 - p_out * p_in * (-1) ** (j + l + power + other))}
