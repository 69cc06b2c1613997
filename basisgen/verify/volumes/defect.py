"""The defects a manifest states, measured again from the taps by their definition: integrals over plane waves.

    F^(w)    = sum over taps of F(x) exp(-i w.x),      F of unit norm
    g(|w|)   = mean over directions of F^(w) . Y_J(w/|w|) / (2J+1)
    defect^2 = int W |F^ - g Y_J|^2 dw / int W |F^|^2 dw,      W = exp(-(|w|/w0)^2), w0 = pi / (2 * the widest pitch)

of every filter; of random weights, a ratio of sums over filters; and the worst over the span of those of one J, the
largest generalised eigenvalue. The compiler has the integrals in closed form. Here they are sums over frequencies,
exact to about 13 digits, D being the diameter of the taps:

    |w|        trapezoids. The integrand is even in |w| and, apart from W, oscillates no faster than D: with steps of
               2 pi / (D + 2 REACH / w0) up to REACH w0, exp(-REACH^2) is left out
    direction  Gauss-Legendre in the angle to z, trapezoids around z: exact for two harmonics of degree up to
               z + MARGIN (1 + z^(1/3)), z = |w| D/2, and a plane wave has no higher ones on these taps.
               Half of the sphere is enough: F^(-w) is the conjugate of F^(w)
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cache
from math import ceil, inf, pi, sqrt
from typing import Any, NamedTuple

import numpy as np
from numpy.polynomial.legendre import leggauss
from numpy.typing import NDArray

from basisgen.verify.manifest import Layer, Manifest
from basisgen.verify.rotations import pitch
from basisgen.verify.statement import Certificate, Filters, Harmonic
from basisgen.verify.volumes.expected import fan_in, paths

Array = NDArray[Any]

UNIT = 1e-4  # of a figure of four decimals: it is the nearest one to what is measured,
ROUNDING = 1e-8  # up to this,
DEPENDENT = 1e-13  # and for the worst over nearly dependent filters this over the least part of the total, up to a unit
MAX_WORK = 3e10  # floating-point operations, some seconds'
REACH = 6
MARGIN = 4

_RANDOM = "defect_of_random_weights"
_W0 = pi / 2  # lengths are in units of the widest pitch
_DEPENDENT = 1e-12  # a direction of the span with less than this part of the total is the filters' linear dependence


class Figure(NamedTuple):
    """A measured number, and how far off it may be beyond rounding."""

    value: float
    doubt: float


class Energies(NamedTuple):
    """Integrals over plane waves, quadratic forms (profile, profile) of the filters of one J, each of unit norm."""

    error: Array  # W (F^ - g Y_J)* . (F^ - g Y_J)
    total: Array  # W F^* . F^

    def figures(self) -> dict[str, Any]:
        """`each`, `random` and `worst` of the manifest."""
        scale, axes = np.linalg.eigh(self.total)
        kept = scale > _DEPENDENT * scale[-1]
        whitened = axes[:, kept] / np.sqrt(scale[kept])
        return {
            "each": list(map(_defect, np.diag(self.error), np.diag(self.total))),
            "random": _defect(np.trace(self.error), np.trace(self.total)),
            "worst": _defect(max(np.linalg.eigvalsh(whitened.T @ self.error @ whitened), default=1), 1),
        }

    def doubt_of_worst(self) -> float:
        """Dividing by the total magnifies rounding, the more so the more dependent the filters are."""
        scale = np.linalg.eigvalsh(self.total)
        least = min(scale[scale > _DEPENDENT * scale[-1]], default=1) / scale[-1]
        return float(min(ROUNDING + DEPENDENT / (2 * least * max(self.figures()["worst"], UNIT)), UNIT))


def check_defect(
    manifest: Manifest, certificate: Certificate, tensors: Mapping[str, Array]
) -> tuple[int, float, list[str]]:
    """How many figures were compared, the largest difference, and the complaints."""
    measured = {
        name: measure(filters, certificate.harmonics, tensors[name]) for name, filters in certificate.filters.items()
    }
    expected = {
        "filters": {name: {"defect": _table(certificate.filters[name], measured[name])} for name in measured},
        "layers": {
            layer.name: {_RANDOM: _random(layer, certificate, measured[layer.filter_tensor])}
            for layer in manifest.layers
        },
    }
    facts: dict[str, dict[str, Any]] = manifest.text["layers"]
    stated = {
        "filters": manifest.text.get("filters"),
        "layers": {layer.name: {_RANDOM: facts[layer.name].get(_RANDOM)} for layer in manifest.layers},
    }
    found = list(_differences(stated, expected, "manifest.json: "))
    complaints = [complaint for difference, doubt, complaint in found if not difference <= UNIT / 2 + doubt]
    return len(found), max((difference for difference, _, _ in found), default=0.0), complaints


def measure(filters: Filters, harmonics: Mapping[int, Mapping[int, Harmonic]], taps: Array) -> dict[int, Energies]:
    """The energies of the filters of one tensor, by degree J; taps are (group and M together, x, y, z)."""
    groups: dict[int, list[Array]] = {}
    stop = 0
    for J, _ in filters.groups:
        start, stop = stop, stop + 2 * J + 1
        groups.setdefault(J, []).append(taps[start:stop] / np.linalg.norm(taps[start:stop]))
    by_degree = {J: np.concatenate(members) for J, members in groups.items()}
    energies = {J: Energies(*np.zeros((2, len(members), len(members)))) for J, members in groups.items()}

    axes, nodes = _quadrature(filters)
    for w, degree in nodes:
        directions, weights = half_sphere(degree)
        waves = [np.exp(-1j * w * directions[..., axis, None] * x) for axis, x in enumerate(axes)]
        for J, members in by_degree.items():
            Y = harmonic_values(harmonics[J], directions)
            responses = _responses(members, waves).reshape(*Y.shape[:2], -1, 2 * J + 1)  # (theta, phi, profile, M)
            g = np.einsum("tp,tpbM,tpM->b", weights, responses, Y) / (2 * J + 1)  # (profile)
            g = (g + (-1) ** J * g.conj()) / 2  # with the other half of the sphere
            errors = responses - np.einsum("b,tpM->tpbM", g, Y)  # (theta, phi, profile, M)
            for form, fields in zip(energies[J], (errors, responses), strict=True):
                # (profile, phi and theta and M)
                rows = (np.sqrt(weights)[:, :, None, None] * fields).swapaxes(0, 2).reshape(len(form), -1)
                form += w**2 * np.exp(-((w / _W0) ** 2)) * (rows.conj() @ rows.T).real  # (profile, profile)
    return energies


def work(filters: Filters) -> float:
    """The floating-point operations of `measure`, most of which are the sums over taps along x and y."""
    number = sum(2 * J + 1 for J, _ in filters.groups)
    directions = sum((degree + 2) / 2 * (2 * degree + 1) for _, degree in _quadrature(filters)[1])
    return 8.0 * directions * number * filters.size[0] * filters.size[1]


def _quadrature(filters: Filters) -> tuple[list[Array], list[tuple[float, int]]]:
    """The taps along each axis in units of the widest pitch; each |w| with the degree that its directions integrate."""
    steps = pitch(filters.dilation, filters.spacing)
    axes = [(np.arange(n) - (n - 1) / 2) * float(p / max(steps)) for n, p in zip(filters.size, steps, strict=True)]
    radius = sqrt(sum(axis[-1] ** 2 for axis in axes))
    interval = 2 * pi / (2 * radius + 2 * REACH / _W0)
    frequencies = interval * np.arange(1, ceil(REACH * _W0 / interval) + 1)
    highest = max((J for J, _ in filters.groups), default=0)
    degrees = [max(ceil(z + MARGIN * (1 + z ** (1 / 3))), highest) for z in frequencies * radius]
    return axes, list(zip(frequencies, degrees, strict=True))


def half_sphere(degree: int) -> tuple[Array, Array]:
    """Unit vectors (theta, phi, axis) with z > 0, and weights (theta, phi) of sum 1.

    With their negatives they average products of two polynomials of the degree exactly.
    """
    cosines, weights = _gauss(degree + 1 + (degree + 1) % 2)
    angles = 2 * pi * np.arange(2 * degree + 1) / (2 * degree + 1)
    z, phi = np.meshgrid(cosines, angles, indexing="ij")
    directions = np.stack([np.sqrt(1 - z**2) * np.cos(phi), np.sqrt(1 - z**2) * np.sin(phi), z], axis=-1)
    return directions, np.outer(weights, np.full(len(angles), 1 / len(angles)))


def harmonic_values(harmonics: Mapping[int, Harmonic], directions: Array) -> Array:
    """Y_JM at unit vectors (.., axis): (.., M)."""
    J = max(harmonics)
    monomials = [(a, b, J - a - b) for a in range(J + 1) for b in range(J + 1 - a)]
    coefficients = [
        [sqrt(norm) * polynomial.get(monomial, 0) for norm, polynomial in harmonics.values()] for monomial in monomials
    ]
    powers = directions[..., None] ** np.arange(J + 1)  # (.., axis, power)
    values = [powers[..., 0, a] * powers[..., 1, b] * powers[..., 2, c] for a, b, c in monomials]
    result: Array = np.stack(values, axis=-1) @ np.array(coefficients)  # (.., axis, power) @ (power)
    return result


@cache
def _gauss(nodes: int) -> tuple[Array, Array]:
    """The positive ones of an even number of Gauss-Legendre nodes, and their weights."""
    points, weights = leggauss(nodes)
    return points[nodes // 2 :], weights[nodes // 2 :]


def _responses(members: Array, waves: list[Array]) -> Array:
    """Sums over the taps of members (filter, x, y, z) times plane waves (theta, phi, tap) per axis.

    Returns (theta, phi, filter). Along z first: there the waves do not depend on phi.
    """
    x, y, z = waves
    partial = np.tensordot(z[:, 0], members, ([1], [3])).reshape(len(z), len(members), -1)  # (theta, filter, x and y)
    in_plane = (x[..., :, None] * y[..., None, :]).reshape(*x.shape[:2], -1)  # (theta, phi, x and y)
    responses: Array = in_plane @ partial.swapaxes(1, 2)  # (theta, phi, filter)
    return responses


def _table(filters: Filters, measured: Mapping[int, Energies]) -> dict[str, Any]:
    """The manifest's table of one tensor as it should be."""
    table: dict[str, Any] = {}
    for J, energies in measured.items():
        figures = energies.figures()
        table[str(J)] = {
            "profiles": [formula for degree, formula in filters.groups if degree == J],
            "each": [Figure(value, ROUNDING) for value in figures["each"]],
            "random": Figure(figures["random"], ROUNDING),
            "worst": Figure(figures["worst"], energies.doubt_of_worst()),
        }
    return table


def _random(layer: Layer, certificate: Certificate, measured: Mapping[int, Energies]) -> Figure:
    """The defect of a layer as initialised: of degree J, with the sum of (weight * scale)^2 over J's paths."""
    error = total = 0.0
    all_paths = paths(layer, certificate)
    fan = fan_in(layer, all_paths)
    errors = {J: float(np.trace(energies.error)) for J, energies in measured.items()}
    totals = {J: float(np.trace(energies.total)) for J, energies in measured.items()}
    for path in all_paths:
        out, into = layer.out[path.out_term], layer.into[path.in_term]
        variance = out.multiplicity * into.multiplicity * out.dimension / fan[path.out_term]
        error += variance * errors[path.J]
        total += variance * totals[path.J]
    return Figure(_defect(error, total), ROUNDING)


def _differences(stated: Any, expected: Any, where: str) -> Iterator[tuple[float, float, str]]:
    """Of every figure how far it is off, infinitely so in what has another form, its doubt, a complaint about it."""
    if isinstance(expected, Figure):
        if type(stated) is float and 0 <= stated <= 1:
            complaint = f"{where} is {stated}, measured {expected.value:.6f}"
            yield abs(stated - expected.value), expected.doubt, complaint
        else:
            yield inf, 0.0, f"{where} is not as documented: {stated!r:.100}"
    elif isinstance(expected, dict) and isinstance(stated, dict) and stated.keys() == expected.keys():
        for key in expected:
            yield from _differences(stated[key], expected[key], f"{where}/{key}")
    elif isinstance(expected, list) and isinstance(stated, list) and len(stated) == len(expected):
        for index, entry in enumerate(expected):
            yield from _differences(stated[index], entry, f"{where}/{index}")
    elif stated != expected:
        yield inf, 0.0, f"{where} is not as documented: {stated!r:.100}"


def _defect(error: float, total: float) -> float:
    """1 for a filter without any response."""
    return sqrt(max(error / total, 0.0)) if total > 0 else 1.0
