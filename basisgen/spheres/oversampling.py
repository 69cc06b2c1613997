"""What the samples of a transform are for: a pointwise function, the signals it meets, and the error it may make.

    oversampling = 2           the grid carries 2 L degrees; 1 | 1.5 | 2 | 4
    function = "relu"          its equivariance error is predicted at compile time
    spectrum = 2               of the signals: the variance of a coefficient of degree l is (1+l)^-2; 0, white, if left
                               out; or a list of L variances
    max_error = 0.03           instead of oversampling: the least of the four whose predicted error is not larger

Values of the signal have variance 1. Prediction: activation_error.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from math import ceil
from typing import Any

from basisgen.errors import SpecError
from basisgen.reading import exact_number, one_of, quoted
from basisgen.spheres.activation_error import FUNCTIONS, OVERSAMPLING, RingAnalysis, activation_error
from basisgen.spheres.sphere_grid import Sampling

OPTIONS = ("oversampling", "function", "spectrum", "max_error")
STEEPEST = 16
LEAST_ERROR = 1e-6  # what is below is rounding

Spectrum = float | tuple[float, ...]  # an exponent, or a variance for each degree


@dataclass(frozen=True)
class Activation:
    """A pointwise function by its name, the spectrum of the signals it meets, and the error it may make."""

    function: str
    spectrum: Spectrum
    max_error: float | None

    def variances(self, L: int) -> tuple[float, ...]:
        """The variance of a coefficient of each degree, up to a factor."""
        if isinstance(self.spectrum, tuple):
            return self.spectrum
        return tuple((1 + l) ** -self.spectrum for l in range(L))

    @property
    def words(self) -> str:
        """`relu on white signals`."""
        if isinstance(self.spectrum, tuple):
            return f"{self.function} on signals of the listed spectrum"
        of = "white signals" if not self.spectrum else f"signals of power (1+l)^-{self.spectrum:g}"
        return f"{self.function} on {of}"


@dataclass(frozen=True)
class Oversampling:
    """How much finer a grid is than the band limit needs, and what function that is for."""

    factor: float = 1.0
    activation: Activation | None = None

    def of_grid(self, L: int) -> int:
        """The band limit of the grid."""
        return ceil(self.factor * L)

    def error(self, sampling: Sampling, L: int) -> float | None:
        """The predicted equivariance error, three figures; None without a function, 0 where it is rounding."""
        return None if self.activation is None else _error(self.activation, sampling, L, self.factor)

    def describe(self) -> dict[str, Any]:
        """The keys of a spec that say this; none for a grid of the signals' own band limit."""
        found: dict[str, Any] = {} if self.factor == 1 and not self.activation else {"oversampling": self.factor}
        if (of := self.activation) is not None:
            spectrum = list(of.spectrum) if isinstance(of.spectrum, tuple) else of.spectrum
            found |= {"function": of.function, "spectrum": spectrum}
            found |= {"oversampling": None, "max_error": of.max_error} if of.max_error is not None else {}
        return found


def parse_oversampling(table: Mapping[str, object], sampling: Sampling, L: int, most: int) -> Oversampling:
    """Reads the keys of OPTIONS, and chooses; `most` is the largest band limit of a grid. Raises SpecError."""
    activation = _activation(table, L)
    choices = [factor for factor in OVERSAMPLING if ceil(factor * L) <= most]
    if activation is not None and activation.max_error is not None:
        if "oversampling" in table:
            raise SpecError(
                f"max_error = {activation.max_error:g} chooses the oversampling, and oversampling = "
                f"{quoted(table['oversampling'])} is given. Leave one of them out."
            )
        return Oversampling(_least(activation, sampling, L, choices), activation)
    given = table.get("oversampling", 1)
    factor = exact_number(given)
    if factor not in OVERSAMPLING:
        raise SpecError(
            f"oversampling = {quoted(given)} is not one of {', '.join(f'{factor:g}' for factor in OVERSAMPLING)}."
        )
    if factor not in choices:
        raise SpecError(
            f"oversampling = {quoted(given)} of band limit {L} is a grid of {ceil(factor * L)}, the limit is {most}."
        )
    return Oversampling(float(factor), activation)


def _activation(table: Mapping[str, object], L: int) -> Activation | None:
    function = table.get("function")
    if function is None:
        for key in ("spectrum", "max_error"):
            if key in table:
                raise SpecError(
                    f'{key} is given without the function it is for. Say function = "relu", or leave it out.'
                )
        return None
    name = one_of("function", function, FUNCTIONS)
    most = exact_number(table["max_error"]) if "max_error" in table else None
    if "max_error" in table and (most is None or not 0 < most <= 1):
        raise SpecError(f"max_error = {quoted(table['max_error'])} is not a number above 0, 1 at most, as 0.03.")
    return Activation(name, _spectrum(table.get("spectrum", 0), L), None if most is None else float(most))


def _spectrum(value: object, L: int) -> Spectrum:
    if isinstance(value, list):
        numbers = [exact_number(entry) for entry in value[: L + 1]]
        good = [float(number) for number in numbers if number is not None and 0 <= number <= 10**6]
        if len(good) == len(value) == L and any(good):
            return tuple(good)
    else:
        exponent = exact_number(value)
        if exponent is not None and 0 <= exponent <= STEEPEST:
            return float(exponent)
    raise SpecError(
        f"spectrum = {quoted(value)} is neither a number p from 0 to {STEEPEST}, for variances (1+l)^-p, nor a list of "
        f"{L} variances, one for each degree."
    )


def _least(activation: Activation, sampling: Sampling, L: int, choices: Sequence[float]) -> float:
    """Raises SpecError where the finest grid is not enough."""
    assert activation.max_error is not None
    for factor in choices:
        if (error := _error(activation, sampling, L, factor)) <= activation.max_error:
            return factor
    raise SpecError(
        f"max_error = {activation.max_error:g} is out of reach: {activation.words} has an equivariance error of "
        f"{error:.3g} with {choices[-1]:g} times oversampling, the finest. Allow that, or take a smoother function."
    )


@lru_cache(maxsize=256)
def _error(activation: Activation, sampling: Sampling, L: int, factor: float) -> float:
    rings = _rings(sampling, ceil(factor * L)).cut(L)
    error, _ = activation_error(FUNCTIONS[activation.function], activation.variances(L), rings)
    return float(f"{error:.3g}") if error >= LEAST_ERROR else 0.0


@lru_cache(maxsize=8)
def _rings(sampling: Sampling, band_limit: int) -> RingAnalysis:
    return RingAnalysis.of(sampling, band_limit)
