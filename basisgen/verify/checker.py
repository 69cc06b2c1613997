"""The mathematics of a package, re-checked from its certificate alone, exactly. This is the module to trust.

The claim: for each pair of irreps (j out, l in) the kernels kappa^J(x)[m, n] = sum_M C[m, n; J, M] Y_JM(x) are, up to
functions of |x|, all solutions of

    kappa(g x) = D^j(g) kappa(x) D^l(g)^-1    for every rotation g; with parity also for g = -1, where D(-1) = p    (1)

Why the four checks below establish it:

    harmonics    The Y_l are harmonic polynomials of degree l, orthonormal, and the standard ones by name and sign. What
                 a rotation makes of Y_l is again harmonic, so Y_l(g x) = D^l(g) Y_l(x) defines the representation D^l,
                 and (X_a x).grad Y_l = dD^l(X_a) Y_l its generators, X_a the rotation about axis a. D^1(g) = g.
    law          (X_a x).grad kappa = dD^j(X_a) kappa - kappa dD^l(X_a) for a = x, y, z, as polynomials. SO(3) is
                 connected, so this is (1) for every rotation; kappa(-x) = (-1)^J kappa(x) settles the inversion.
    complete     By (1) a kernel on a sphere is known from its value at one point, which whatever fixes the point must
                 fix too: the matrices so fixed are a null space, and its dimension is computed here. The values of
                 the kappa^J at the point lie in it, are independent, and are as many.
    orthonormal  sum_mn C[m, n; J, M] C[m, n; J', M'] = delta delta, the normalisation the modules rely on.

The numbers: with Y = sqrt(N) P, P integer polynomials, and c = C sqrt(N_JM N_ln / N_jm), all is rational up to one root
per J. Nothing of the compiler is used and no computer algebra: Python's integers and fractions.
"""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from itertools import product
from math import isqrt, lcm, prod

from basisgen.verify.polynomials import Polynomial, SparseRow, add, inner, laplacian, rank, standard_harmonic, turn
from basisgen.verify.statement import Certificate, Coefficients, Harmonic, Pair

Matrix = dict[tuple[int, int], Fraction]  # zeros left out
Integers = dict[tuple[int, int, int], int]  # (m, n, M) -> c
Kernel = dict[tuple[int, int], Polynomial]  # (m, n) -> entry


def check_harmonics(certificate: Certificate) -> Iterator[str]:
    """Y_lm: harmonic, orthonormal (mean square 1 over the sphere), and the standard ones by name and sign."""
    for l, harmonics in certificate.harmonics.items():
        for m, harmonic in harmonics.items():
            where, p = f"certificate.json: harmonic ({l}, {m})", harmonic.polynomial
            if laplacian(p) or any(sum(exponents) != l for exponents in p):
                yield f"{where} is not a harmonic polynomial of degree {l}"
            if harmonic.square_norm * inner(p, p) != prod(range(1, 2 * l + 2, 2)):
                yield f"{where} does not have mean square 1 over the sphere"
            if any(n != m and inner(p, other.polynomial) for n, other in harmonics.items()):
                yield f"{where} is not orthogonal to the others of its degree"
            if not _equal(harmonic, Harmonic(*standard_harmonic(l, m))):
                yield f"{where} is not the standard one"


def check_law(certificate: Certificate) -> Iterator[str]:
    """The constraint, differentiated, on the entries of every kappa^J, as polynomials."""
    turns = {l: generators(harmonics) for l, harmonics in certificate.harmonics.items()}
    for (j, l), table in certificate.clebsch_gordan.items():
        for J, coefficients in table.items():
            where = f"certificate.json: pair {j} <- {l}, element J = {J}"
            integers = _integers(coefficients, certificate, j, l, J)
            if integers is None:
                yield f"{where}: two coefficients have a ratio that no solution allows"
                continue
            kernel = _kernel(integers, certificate.harmonics[J])
            broken = [
                f"{where}: turned about {'xyz'[axis]}, entry (m, n) = ({m}, {n}) breaks the law"
                for axis in range(3)
                for m, n in product(range(-j, j + 1), range(-l, l + 1))
                if _excess(kernel, m, n, turns[j][axis], turns[l][axis], axis)
            ]
            yield from broken[:1]
    for pair in certificate.pairs:
        if pair.out.parity is not None and pair.into.parity is not None:
            for J in pair.degrees:
                if pair.out.parity * pair.into.parity != (-1) ** J:
                    yield f"certificate.json: {pair}, element J = {J} has the wrong parity"


def check_orthonormal(certificate: Certificate) -> Iterator[str]:
    """The columns (J, M) of C, for each (j, l)."""
    for (j, l), table in certificate.clebsch_gordan.items():
        rows: dict[tuple[int, int], list[tuple[tuple[int, int], int]]] = {}
        for J, coefficients in table.items():
            where = f"certificate.json: pair {j} <- {l}, element J = {J}"
            for M in range(-J, J + 1):
                if sum(root.square for (_, _, order), root in coefficients.items() if order == M) != 1:
                    yield f"{where}: column M = {M} of C is not of length 1"
            for (m, n, M), c in (_integers(coefficients, certificate, j, l, J) or {}).items():
                rows.setdefault((m, n), []).append(((J, M), c))
        products: dict[tuple[tuple[int, int], tuple[int, int]], Fraction] = {}
        for (m, n), entries in rows.items():
            weight = certificate.harmonics[j][m].square_norm / certificate.harmonics[l][n].square_norm
            for (column, a), (other, b) in product(entries, entries):
                if column < other:
                    products[column, other] = products.get((column, other), Fraction(0)) + a * b * weight
        for (column, other), value in products.items():
            if value:
                yield f"certificate.json: pair {j} <- {l}: columns (J, M) = {column} and {other} are not orthogonal"


def check_complete(certificate: Certificate) -> Iterator[str]:
    """The values of a pair's kernels at the point (0, 1, 0) are a basis of all its stabiliser allows there."""
    for pair in certificate.pairs:
        j, l = pair.out.degree, pair.into.degree
        dimension = (2 * j + 1) * (2 * l + 1) - rank(_stabiliser_equations(pair, certificate))
        values = []
        for J in pair.degrees:
            at_point = {M: harmonic.polynomial.get((0, J, 0), 0) for M, harmonic in certificate.harmonics[J].items()}
            value: SparseRow = {}
            integers = _integers(certificate.clebsch_gordan[j, l][J], certificate, j, l, J) or {}
            for (m, n, M), c in integers.items():
                value[m, n] = value.get((m, n), Fraction(0)) + c * at_point[M]
            values.append(value)
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
    ratios: dict[tuple[int, int, int], Fraction] = {}
    first: Fraction | None = None
    for (m, n, M), (sign, square) in coefficients.items():
        scaled = square * by_J[M].square_norm * by_l[n].square_norm / by_j[m].square_norm
        first = first or scaled
        ratio = scaled / first
        root = Fraction(isqrt(ratio.numerator), isqrt(ratio.denominator))
        if root**2 != ratio:
            return None
        ratios[m, n, M] = sign * root
    common = lcm(*(ratio.denominator for ratio in ratios.values()))
    return {index: int(ratio * common) for index, ratio in ratios.items()}


def _kernel(integers: Integers, harmonics: dict[int, Harmonic]) -> Kernel:
    """kappa[m, n] = sum_M c[m, n, M] P_M."""
    kernel: Kernel = {}
    for (m, n, M), c in integers.items():
        add(kernel.setdefault((m, n), {}), c, harmonics[M].polynomial)
    return kernel


def _excess(kernel: Kernel, m: int, n: int, by_j: Matrix, by_l: Matrix, axis: int) -> Polynomial:
    """((X_a x).grad kappa - dD^j kappa + kappa dD^l)[m, n] times a common denominator; empty for a solution."""
    left = [(k, value) for (row, k), value in by_j.items() if row == m]
    right = [(k, value) for (k, column), value in by_l.items() if column == n]
    common = lcm(*(value.denominator for _, value in left + right))
    excess = add({}, common, turn(kernel.get((m, n), {}), axis))
    for k, value in left:
        add(excess, -int(common * value), kernel.get((k, n), {}))
    for k, value in right:
        add(excess, int(common * value), kernel.get((m, k), {}))
    return excess


def generators(harmonics: dict[int, Harmonic]) -> tuple[Matrix, ...]:
    """dD(X_a) for P in place of Y: (X_a x).grad P_m = sum_k dD(X_a)[m, k] P_k, by projection on the orthogonal P_k."""
    matrices = []
    for axis in range(3):
        matrix: Matrix = {}
        for m, harmonic in harmonics.items():
            turned = turn(harmonic.polynomial, axis)
            for k, other in harmonics.items():
                if value := inner(turned, other.polynomial):
                    matrix[m, k] = Fraction(value, inner(other.polynomial, other.polynomial))
        matrices.append(matrix)
    return tuple(matrices)


def _stabiliser_equations(pair: Pair, certificate: Certificate) -> Iterator[SparseRow]:
    """What fixes a matrix k at (0, 1, 0): dD^j(X_y) k = k dD^l(X_y); with parity also D^j(s) k = k D^l(s), s: x -> -x.

    P(s x) = +-P(x) by the power of x, and s = -1 * a rotation, so D^l(s) = p (-1)^l * diag(+-1).
    """
    (j, p_out), (l, p_in) = pair.out, pair.into
    by_j, by_l = (generators(certificate.harmonics[degree])[1] for degree in (j, l))
    for m, n in product(range(-j, j + 1), range(-l, l + 1)):
        row = {(k, n): value for (order, k), value in by_j.items() if order == m}
        for (k, order), value in by_l.items():
            if order == n:
                row[m, k] = row.get((m, k), Fraction(0)) - value
        yield row
        if p_out is not None and p_in is not None:
            (power, _, _), *_ = certificate.harmonics[j][m].polynomial
            (other, _, _), *_ = certificate.harmonics[l][n].polynomial
            yield {(m, n): Fraction(1 - p_out * p_in * (-1) ** (j + l + power + other))}
