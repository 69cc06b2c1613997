"""The predicted equivariance error of pointwise functions, against signals drawn and rotated."""

from __future__ import annotations

from functools import cache
from math import pi, sqrt

import numpy as np
import pytest
import torch
from scipy.special import ndtri
from scipy.stats import qmc

from basisgen.errors import SpecError
from basisgen.spheres.activation_error import (
    FUNCTIONS,
    RingAnalysis,
    activation_error,
    choose_oversampling,
    covariance,
)
from basisgen.spheres.sphere_grid import Sampling
from runtime.so3 import random_rotations, spherical_harmonics, wigner_d
from tests.spheres.rings import analyse, gauss, mw, oversampled, points

SPECTRA = {"white": lambda L: np.ones(L), "falling": lambda L: 1 / (1 + np.arange(L)) ** 2}


@cache
def synthesis(make, limit, factor):
    """(coefficient, ring, longitude), harmonics orthonormal."""
    at = torch.from_numpy(points(oversampled(make, limit, factor)))
    values = torch.cat([spherical_harmonics(l, at) for l in range(limit)], -1) / sqrt(4 * pi)
    return values.movedim(-1, 0).numpy()


@cache
def rotations(limit, count):
    drawn = random_rotations(count, generator=torch.Generator().manual_seed(3))
    return [wigner_d(l, drawn).numpy() for l in range(limit)]


def rotated(coefficients, matrices):
    """Each signal (signal, coefficient) by its own rotation."""
    parts = np.split(coefficients, [l * l for l in range(1, len(matrices))], -1)
    return np.concatenate([np.einsum("smn,sn->sm", D, f) for D, f in zip(matrices, parts, strict=True)], -1)


def measured(function, spectrum, make, factor, deviation, count):
    """Root of mean square error over mean square output, of `count` normal signals, one rotation each."""
    limit = len(spectrum)
    orders = 2 * np.arange(limit) + 1
    scale = deviation * sqrt(4 * pi / (orders @ spectrum))
    uniform = qmc.Sobol(limit**2, rng=0).random(count)  # even in the low degrees, which vary most
    f = ndtri(uniform) * scale * np.sqrt(np.repeat(spectrum, orders))
    rings, values = oversampled(make, limit, factor), synthesis(make, limit, factor)

    def act(f):
        return analyse(rings, function(np.tensordot(f, values, 1)))

    turned = rotations(limit, count)
    change = power = 0.0
    for some in np.split(np.arange(count), count // 256):
        matrices = [D[some] for D in turned]
        before, after = act(rotated(f[some], matrices)), rotated(act(f[some]), matrices)
        change, power = change + ((before - after) ** 2).sum(), power + (before**2).sum()
    return sqrt(change / power)


FIVE = ["relu", "tanh", "silu", "gelu", "abs"]


def agrees(limit, factor, name, spectrum, count):
    predicted, _ = activation_error(FUNCTIONS[name], spectrum, oversampled(mw, limit, factor))
    found = measured(FUNCTIONS[name], spectrum, mw, factor, 1.0, count)
    return found == pytest.approx(predicted, rel=0.05) or max(found, predicted) < 1e-5


@pytest.mark.parametrize("spectrum", SPECTRA)
@pytest.mark.parametrize("name", FIVE)
@pytest.mark.parametrize(
    ("limit", "factor", "count"),
    [
        (8, 1.0, 512),
        (8, 2.0, 1024),
        *(pytest.param(8, factor, 4096, marks=pytest.mark.slow) for factor in (1.0, 1.5, 2.0, 4.0)),
        *(pytest.param(16, factor, 4096, marks=pytest.mark.slow) for factor in (1.0, 1.5, 2.0, 4.0)),
    ],
)
def test_prediction_is_within_five_percent_of_measurement(limit, factor, count, name, spectrum):
    assert agrees(limit, factor, name, SPECTRA[spectrum](limit), count)


def test_a_prediction_for_another_grid_or_spectrum_does_not_fit():
    found = measured(FUNCTIONS["relu"], SPECTRA["white"](8), mw, 1.0, 1.0, 256)
    for grid, spectrum in ((oversampled(mw, 8, 1.5), "white"), (mw(8), "falling")):
        predicted, _ = activation_error(FUNCTIONS["relu"], SPECTRA[spectrum](8), grid)
        assert abs(found / predicted - 1) > 0.5


def test_relu_on_white_signals_has_the_published_size():
    errors = [activation_error(FUNCTIONS["relu"], np.ones(limit), mw(limit))[0] for limit in (4, 8, 16, 32)]
    np.testing.assert_allclose(errors, [0.346, 0.3085, 0.2856, 0.2725], atol=1e-3)


@pytest.mark.parametrize("make", [gauss, mw])
def test_what_stays_below_the_band_limit_has_no_error(make):
    """sigma = x keeps degree 7; x^2 reaches 14, which 12 rings' exactness for degrees up to 15 + 8 covers."""
    assert activation_error(lambda x: 3 * x, np.ones(8), make(8))[0] < 1e-6
    assert activation_error(np.square, np.ones(8), oversampled(gauss, 8, 1.5))[0] < 1e-6
    assert activation_error(np.square, np.ones(8), make(8))[0] > 0.1


def test_covariances_known_in_closed_form():
    phi = np.linspace(0, pi, 50)
    closed = {
        "relu": (np.sin(phi) + (pi - phi) * np.cos(phi)) / (2 * pi),  # Cho and Saul 2009
        "abs": 2 / pi * (np.sin(phi) + (pi / 2 - phi) * np.cos(phi)),
    }
    for name, expected in closed.items():
        np.testing.assert_allclose(covariance(FUNCTIONS[name], 2.0)(phi), 4 * expected, atol=1e-13)
    np.testing.assert_allclose(covariance(np.sign, 1.0)(phi), 1 - 2 * phi / pi, atol=1e-13)
    cubic = 9 * np.cos(phi) + 6 * np.cos(phi) ** 3
    np.testing.assert_allclose(covariance(lambda x: x**3, 1.0)(phi), cubic, atol=1e-11)


@pytest.mark.parametrize(("sampling", "make"), [(Sampling.MW, mw), (Sampling.GAUSS, gauss)])
def test_tables_of_the_compiler_are_those_of_the_oracle(sampling, make):
    ours, theirs = RingAnalysis.of(sampling, 8), make(8)
    order = np.argsort(theirs.colatitudes)
    np.testing.assert_allclose(ours.colatitudes, theirs.colatitudes[order], atol=1e-14)
    rings = slice(-1 if sampling is Sampling.MW else None)  # at the pole all samples are one: orders beyond 0 are free
    np.testing.assert_allclose(ours.analysis[..., rings], theirs.analysis[..., order][..., rings], atol=1e-13)
    assert ours.samples == theirs.samples


@pytest.mark.parametrize("sampling", Sampling)
def test_every_grid_has_its_error(sampling):
    error, aliased = activation_error(FUNCTIONS["relu"], np.ones(8), RingAnalysis.of(sampling, 8))
    assert 0.1 < error < 0.35 and aliased == pytest.approx(error**2 / 2)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_functions_are_those_of_torch(name):
    x = torch.linspace(-5, 5, 101, dtype=torch.float64)
    theirs = getattr(torch, name, None) or getattr(torch.nn.functional, name)
    np.testing.assert_allclose(FUNCTIONS[name](x.numpy()), theirs(x).numpy(), atol=1e-14)


def test_oversampling_is_the_least_that_keeps_the_promise():
    found = choose_oversampling(FUNCTIONS["relu"], np.ones(8), Sampling.MW, 0.03)
    assert found.oversampling == 2.0 and 0.02 < found.error < 0.03
    assert choose_oversampling(FUNCTIONS["relu"], np.ones(8), Sampling.MW, 1.0).oversampling == 1.0
    with pytest.raises(SpecError, match=r"max_error = 1e-05 is out of reach: with 4 times .* error is 0.004"):
        choose_oversampling(FUNCTIONS["relu"], np.ones(8), Sampling.MW, 1e-5)


def test_fewer_degrees_kept_lose_less():
    """The lowest degrees are aliased least, so that a falling band limit is an oversampling too."""
    errors = [activation_error(FUNCTIONS["relu"], np.ones(8), mw(8).cut(kept))[0] for kept in (2, 4, 6, 8)]
    assert errors == sorted(errors) and errors[1] < 0.17 < 0.3 < errors[3]
