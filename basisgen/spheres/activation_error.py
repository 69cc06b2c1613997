"""The equivariance error of a pointwise function on samples, predicted exactly: twice the aliased power.

Let f be an isotropic Gaussian signal on the sphere, of any power spectrum C_l (variance of a coefficient), and
A(f) = analysis(sigma(synthesis f)). The covariance of sigma(f) at two points depends on the covariance rho of f there:

    K(rho) = E sigma(f(x)) sigma(f(y)) = sum_n a_n^2 rho^n,        a_n: sigma's Hermite coefficients (Mehler 1866)
           = integral r exp(-r^2/2) dr  1/(2 pi) integral d alpha  sigma(s r cos alpha) sigma(s r cos(alpha - phi)),

rho = cos phi. sigma(f) has coefficients g_lm of variance G_l = 2 pi integral K P_l dt, of all degrees. Those below the
grid's band limit are found exactly; the others fall upon them, by a matrix T of degrees l' into degrees l:
A(f) = g + T g. Rotated before or after, by D, the results differ by T D g - D T g. By Schur's lemma the mixed term of
its mean square is zero in the mean over all rotations, as no l' is an l. So it is twice the aliased power, and

    E |T g|^2 = E |A(f)|^2 - sum_l (2l+1) G_l,         error^2 = 2 E |T g|^2 / E |A(f)|^2.

E |A(f)|^2 follows from the analysis tables and K at every pair of samples: nothing is cut off, and no signal is drawn.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import ceil, pi, sqrt

import numpy as np
from numpy.polynomial.chebyshev import chebval
from numpy.typing import NDArray
from scipy.fft import dct
from scipy.special import erf

from basisgen.errors import SpecError
from basisgen.spheres.harmonic_tables import tables
from basisgen.spheres.sphere_grid import Sampling, points_of_ring

Floats = NDArray[np.float64]
Function = Callable[[Floats], Floats]

OVERSAMPLING = (1.0, 1.5, 2.0, 4.0)
_MOST_NODES = 128  # in phi; reached where sigma has kinks elsewhere than at 0

FUNCTIONS: dict[str, Function] = {
    "abs": np.abs,
    "elu": lambda x: np.where(x > 0, x, np.expm1(np.minimum(x, 0))),
    "gelu": lambda x: x * (1 + erf(x / sqrt(2))) / 2,
    "leaky_relu": lambda x: np.where(x > 0, x, 0.01 * x),
    "relu": lambda x: np.maximum(x, 0),
    "sigmoid": lambda x: (1 + np.tanh(x / 2)) / 2,
    "silu": lambda x: x * (1 + np.tanh(x / 2)) / 2,
    "softplus": lambda x: np.logaddexp(0, x),
    "tanh": np.tanh,
}
"""Functions by the name a spec gives them, as torch computes them."""


@dataclass(frozen=True)
class RingAnalysis:
    """An analysis from samples on rings: `samples` on each, at longitudes 2 pi k / samples.

        f_lm = sum_t analysis[|m|, l, t]  1/samples sum_k f(t, k) trig_m(2 pi k / samples)
        trig_m = sqrt(2) sin |m| phi, 1, sqrt(2) cos m phi      for m < 0, m = 0, m > 0

    colatitudes (ring,); analysis (order, degree, ring), exact for signals below band limit `order`'s length. The
    degrees may be fewer than the orders: those that are kept.
    """

    colatitudes: Floats
    samples: int
    analysis: Floats

    def __post_init__(self) -> None:
        orders, degrees, rings = self.analysis.shape
        assert self.colatitudes.shape == (rings,) and degrees <= orders and 2 * (degrees - 1) < self.samples

    @classmethod
    def of(cls, sampling: Sampling, L: int) -> RingAnalysis:
        """The analysis of a generated transform's grid."""
        found = tables(sampling, L)
        analysis = np.zeros((L, L, len(found.cos_theta)))
        analysis[np.triu_indices(L)] = found.analysis  # rows (m, l), l >= m, in order of m, then l
        return cls(np.arccos(found.cos_theta), points_of_ring(sampling, L), analysis)

    def cut(self, degrees: int) -> RingAnalysis:
        """The same analysis, of degrees below `degrees` alone."""
        return RingAnalysis(self.colatitudes, self.samples, self.analysis[:, :degrees])


@dataclass(frozen=True)
class ActivationError:
    """What a pointwise function on samples does to equivariance, for random signals and rotations.

    error: root of mean |A(Rf) - R A(f)|^2 over mean |A(f)|^2. aliased: the share of the output's power that is aliased.
    """

    oversampling: float
    error: float
    aliased: float


def activation_error(
    function: Function, spectrum: Sequence[float], rings: RingAnalysis, *, deviation: float = 1.0
) -> tuple[float, float]:
    """The error, and the aliased share of the output's power, of analysis(function(synthesis f)).

    spectrum: the variance of a coefficient of each degree, up to a factor; deviation: the standard deviation of the
    signal's values. rings: the analysis after the function, cut to the degrees that are kept. Errors below 1e-6 are
    rounding.
    """
    weights = np.asarray(spectrum, np.float64) * (2 * np.arange(len(spectrum)) + 1)
    weights = weights / weights.sum()  # rho(t) = sum_l weights_l P_l(t), rho(1) = 1
    kernel = covariance(function, deviation)
    total = _power(kernel, weights, rings)
    exact = _exact_power(kernel, weights, rings.analysis.shape[1])
    aliased = max(total - exact, 0.0) / total
    return sqrt(2 * aliased), aliased


def rotation_activation_error(
    function: Function, spectrum: Sequence[float], grid: int, *, deviation: float = 1.0, kept: int | None = None
) -> tuple[float, float]:
    """The same for signals on the rotation group, sampled on the equiangular grid of band limit `grid`.

    There the coefficients m, n of degree l have one variance, spectrum[l]. So the covariance of two samples depends on
    the angle omega between them alone, through characters: rho ~ sum_l C_l (2l+1) chi_l(omega). kept: the degrees of
    the output, as many as the input's unless given. Costs 16 grid^4 evaluations.
    """
    degrees = np.arange(len(spectrum))
    weights = np.asarray(spectrum, np.float64) * (2 * degrees + 1)
    weights = weights / (weights @ (2 * degrees + 1))
    kernel = covariance(function, deviation)
    kept = kept or len(spectrum)

    def at(half: Floats) -> tuple[Floats, Floats]:
        """K and sum_l<kept (2l+1) chi_l at half angles omega / 2."""
        phi = np.arccos(np.clip(_characters(half, weights), -1, 1))
        return kernel(phi), _characters(half, np.arange(1, 2 * kept, 2, dtype=np.float64))

    beta, ring = _soft_rings(grid)
    turn = pi * np.arange(2 * grid) / grid
    # cos(omega/2) of Y(gamma) X(-beta) Y(alpha) X(beta'), as for quaternions: (beta, beta', alpha and gamma)
    plus, minus = ((turn[:, None] + sign * turn).ravel() / 2 for sign in (1, -1))
    less, more = ((beta[:, None] - beta) / 2, (beta[:, None] + beta) / 2)
    scalar = np.cos(less)[..., None] * (np.cos(plus) + np.cos(minus)) / 2
    scalar += np.cos(more)[..., None] * (np.cos(plus) - np.cos(minus)) / 2
    values, characters = at(np.arccos(np.clip(np.abs(scalar), 0, 1)))
    # (beta), (beta'), (beta, beta', alpha and gamma) -> ()
    total = float(np.einsum("b,c,bcx->", ring, ring, values * characters) / len(turn) ** 2)
    x, w = np.polynomial.legendre.leggauss(32 * max(len(spectrum), kept, 8))
    half = pi / 4 * (1 + x)
    values, characters = at(half)
    exact = float((pi / 4 * w * 4 / pi * np.sin(half) ** 2) @ (values * characters))  # (angle) @ (angle)
    aliased = max(total - exact, 0.0) / total
    return sqrt(2 * aliased), aliased


def _characters(half: Floats, weights: Floats) -> Floats:
    """sum_l weights_l chi_l(omega), chi_l = sin((2l+1) omega/2) / sin(omega/2), by its recursion in l."""
    step, before, present = 2 * np.cos(2 * half), -np.ones_like(half), np.ones_like(half)
    total = np.zeros_like(half)
    for weight in weights:
        total += weight * present
        before, present = present, step * present - before
    return total


def _soft_rings(grid: int) -> tuple[Floats, Floats]:
    """beta and the weights of the rings, which sum to 1 (Driscoll and Healy 1994)."""
    beta = pi * (2 * np.arange(2 * grid) + 1) / (4 * grid)
    odd = 2 * np.arange(grid) + 1
    return beta, np.sin(beta) / grid * (np.sin(odd * beta[:, None]) / odd).sum(1)


def choose_oversampling(
    function: Function,
    spectrum: Sequence[float],
    sampling: Sampling,
    max_error: float,
    *,
    deviation: float = 1.0,
    kept: int | None = None,
    choices: Sequence[float] = OVERSAMPLING,
) -> ActivationError:
    """The smallest oversampling of a grid whose predicted error is at most `max_error`.

    kept: the degrees of the output, as many as the input's unless given.
    Raises SpecError if none of the choices is fine enough.
    """
    limit, kept = len(spectrum), kept or len(spectrum)
    for factor in sorted(choices):
        rings = RingAnalysis.of(sampling, max(ceil(factor * limit), kept)).cut(kept)
        found = ActivationError(factor, *activation_error(function, spectrum, rings, deviation=deviation))
        if found.error <= max_error:
            return found
    raise SpecError(
        f"max_error = {max_error:g} is out of reach: with {found.oversampling:g} times oversampling, the finest, the "
        f"activation's equivariance error is {found.error:.2g}. Ask for that, or use a smoother function."
    )


def covariance(function: Function, deviation: float) -> Function:
    """K as a function of phi: E sigma(u) sigma(v) of Gaussian u, v of correlation cos phi, to 1e-13 of K(0).

    In phi, not rho, it is smooth on all of [0, pi], so that few Chebyshev nodes say it all. Kinks and jumps of sigma at
    0 are met exactly, by integrating between them; others are not, and cost accuracy.
    """
    nodes = 32
    while True:
        x = np.cos(pi * (np.arange(nodes) + 0.5) / nodes)  # zeros of the Chebyshev polynomial of degree `nodes`
        values = _pair_means(function, deviation, pi / 2 * (1 + x))
        means = dct(values, type=2) / nodes
        means[0] /= 2
        if nodes == _MOST_NODES or np.abs(means[-4:]).max() < 1e-13 * np.abs(means).sum():
            return lambda phi: np.asarray(chebval(2 / pi * phi - 1, means), np.float64)
        nodes *= 2


def _pair_means(function: Function, deviation: float, phi: Floats) -> Floats:
    """K at some phi (phi,), by Gauss-Legendre in polar coordinates between the zeros of both factors."""
    x, w = np.polynomial.legendre.leggauss(64)
    radius, weight = 5 * (1 + x), 5 * w  # up to 10 deviations
    weight = weight * radius * np.exp(-(radius**2) / 2)
    means = np.zeros_like(phi)
    # by alpha -> alpha + pi both factors change sign: two intervals, and both signs
    for first, length in ((np.full_like(phi, pi / 2), phi), (phi + pi / 2, pi - phi)):
        alpha = first + length * (1 + x[:, None]) / 2  # (alpha, phi)
        u, v = (deviation * radius[:, None, None] * np.cos(angle) for angle in (alpha, alpha - phi))
        both = function(u) * function(v) + function(-u) * function(-v)  # (radius, alpha, phi)
        # (radius), (alpha), (radius, alpha, phi) -> (phi)
        means += np.einsum("r,a,rap->p", weight, w, both) * length / (4 * pi)
    return means


def _power(kernel: Function, weights: Floats, rings: RingAnalysis) -> float:
    """E |A(f)|^2: over each order m, sum_l A_ml C_m A_ml^T, C_m the covariance of two rings' Fourier sums."""
    theta, n = rings.colatitudes, rings.samples
    delta = 2 * pi * np.arange(n) / n
    # (ring, ring, longitude): the cosine between two samples
    cosine = np.cos(theta)[:, None, None] * np.cos(theta)[:, None] + (np.sin(theta)[:, None] * np.sin(theta))[
        ..., None
    ] * np.cos(delta)
    values = kernel(_phi(weights, cosine))
    degrees = rings.analysis.shape[1]
    fourier = values @ np.cos(np.arange(degrees) * delta[:, None]) / n  # (ring, ring, order)
    tables = rings.analysis[:degrees]
    # (order, degree, ring), (ring, ring, order) -> (order)
    power = np.einsum("mlt,tum,mlu->m", tables, fourier, tables, optimize=True)
    return float(power[0] + 2 * power[1:].sum())


def _exact_power(kernel: Function, weights: Floats, degrees: int) -> float:
    """sum_l (2l+1) G_l over the degrees kept, by Gauss-Legendre in the angle, in which the integrand is smooth."""
    x, w = np.polynomial.legendre.leggauss(32 * max(len(weights), degrees, 8))
    theta, w = pi / 2 * (1 + x), pi / 2 * w
    values = kernel(_phi(weights, np.cos(theta))) * np.sin(theta) * w
    sums = np.polynomial.legendre.legval(np.cos(theta), 2 * np.arange(degrees) + 1.0)
    return float(2 * pi * values @ sums)  # (angle) @ (angle)


def _phi(weights: Floats, cosine: Floats) -> Floats:
    """The angle whose cosine is the signal's correlation between points at these cosines."""
    return np.arccos(np.clip(np.polynomial.legendre.legval(np.clip(cosine, -1, 1), weights), -1, 1))
