"""Samples on the sphere from coefficients and back: what every transform of this package shares.

    f(theta, phi) = sum over l and m of  f_lm P_l|m|(theta) trig_m(phi)
    f_lm = sum over t of  analysis[|m|, l, t]  1/n sum over p of  f(t, p) trig_m(phi_p)
    trig_m = sqrt(2) sin |m| phi, 1, sqrt(2) cos m phi      for m < 0, m = 0, m > 0

The harmonics are orthonormal on the unit sphere. theta is the angle to the y axis and phi that from the z towards the x
axis, so that components of degree 1 are in the order x, y, z. Tables are float64 in basis.safetensors.
"""

import functools
from contextlib import AbstractContextManager, nullcontext
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from ._constants import At, constants, tensors

FieldType = tuple[tuple[int, int, int | None], ...]  # (multiplicity, degree, parity) of each term


class Constants(NamedTuple):
    """Matrices between coefficients and samples."""

    trig: Tensor  # (point, order and cos or sin); nothing for sin of order 0
    analysis: Tensor  # (order, degree, ring)
    synthesis: Tensor  # (order, ring, degree)
    to_field: Tensor  # int64 (channel): where in (channel, cos or sin, order, degree)
    of_field: Tensor  # int64 (channel, cos or sin, order, degree): which channel; one past the last for nothing


class Transform(nn.Module):
    """Between a field (batch, channel), degrees 0 .. L-1, and samples on a grid.

    `forward` is `synthesis`; `analysis` is its inverse, exact below the band limit. No weights, no state.
    """

    basisgen_kind = "transform"

    field_type: FieldType
    grid: str
    rings: int
    points: int  # of each ring
    basis_sha256: str  # of basis.safetensors
    tables: str  # the name in it

    def __init__(self) -> None:
        super().__init__()
        tensors(self.basis_sha256)
        self.band_limit, self.signals = len(self.field_type), self.field_type[0][0]
        self.channels = sum(multiplicity * (2 * degree + 1) for multiplicity, degree, _ in self.field_type)

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of the samples without the batch, the signals first."""
        return (self.signals, self.rings, self.points)

    def forward(self, field: Tensor) -> Tensor:
        """`synthesis`."""
        return self.synthesis(field)

    def synthesis(self, field: Tensor) -> Tensor:
        """(batch, channel) -> the values at the samples, (batch, signal, *grid)."""
        if field.ndim != 2 or field.shape[1] != self.channels:
            raise ValueError(f"{type(self).__name__} takes a field (batch, {self.channels}), got {tuple(field.shape)}")
        with _full_precision(field):
            return self._synthesis(field, self._constants(field))

    def analysis(self, samples: Tensor) -> Tensor:
        """(batch, signal, *grid) -> the coefficients, (batch, channel)."""
        if samples.shape[1:] != self.shape:
            raise ValueError(
                f"{type(self).__name__} takes samples (batch, {', '.join(map(str, self.shape))}), "
                f"got {tuple(samples.shape)}"
            )
        with _full_precision(samples):
            return self._analysis(samples, self._constants(samples))

    def extra_repr(self) -> str:
        """The line `print(module)` shows."""
        samples = " x ".join(map(str, self.shape[1:]))
        return f"{self.signals} signals, band limit {self.band_limit}, {self.grid}: {samples} samples"

    def _synthesis(self, field: Tensor, of: Any) -> Tensor:
        raise NotImplementedError

    def _analysis(self, samples: Tensor, of: Any) -> Tensor:
        raise NotImplementedError

    def _constants(self, field: Tensor) -> Any:
        """The constants for the device and the precision of a field."""
        if not field.is_floating_point():
            raise ValueError(f"{type(self).__name__} takes real numbers, got {field.dtype}")
        return constants(type(self), "_make_constants", field)


class SphereTransform(Transform):
    """Between signals on the sphere and their samples (batch, signal, theta, phi)."""

    def _synthesis(self, field: Tensor, of: Constants) -> Tensor:
        L, batch = self.band_limit, field.shape[0]
        values = field.to(of.trig.dtype)
        padded = torch.cat([values, values.new_zeros(batch, 1)], 1).index_select(1, of.of_field)
        # (batch and signal and cos or sin, order, degree) -> (order, degree, ..)
        coefficients = padded.reshape(batch * self.signals * 2, L, L).permute(1, 2, 0)
        rings = torch.bmm(of.synthesis, coefficients)  # (order, ring, degree) @ (order, degree, ..)
        # (order, ring, batch and signal, cos or sin) -> (batch and signal, ring, order and cos or sin)
        rows = rings.reshape(L, self.rings, batch * self.signals, 2).permute(2, 1, 0, 3)
        # (.., order and cos or sin) @ (.., point)
        samples = rows.reshape(batch * self.signals * self.rings, 2 * L) @ of.trig.t()
        return samples.reshape(batch, self.signals, self.rings, self.points).to(field.dtype)

    def _analysis(self, samples: Tensor, of: Constants) -> Tensor:
        L, batch = self.band_limit, samples.shape[0]
        # (batch and signal and ring, point)
        values = samples.to(of.trig.dtype).reshape(batch * self.signals * self.rings, self.points)
        rows = values @ (of.trig / self.points)  # (.., point) @ (point, order and cos or sin)
        # (batch and signal, ring, order, cos or sin) -> (order, ring, ..)
        rings = rows.reshape(batch * self.signals, self.rings, L, 2).permute(2, 1, 0, 3)
        # (order, degree, ring) @ (order, ring, ..)
        coefficients = torch.bmm(of.analysis, rings.reshape(L, self.rings, batch * self.signals * 2))
        # (order, degree, batch, signal and cos or sin) -> (batch, .., order, degree)
        ordered = coefficients.reshape(L, L, batch, self.signals * 2).permute(2, 3, 0, 1)
        return ordered.reshape(batch, self.signals * 2 * L * L).index_select(1, of.to_field).to(samples.dtype)

    def directions(self) -> Tensor:
        """The unit vectors (x, y, z) of the samples, float64 (theta, phi, 3)."""
        phi = 2 * torch.pi / self.points * torch.arange(self.points, dtype=torch.float64)
        y = tensors(self.basis_sha256)[f"{self.tables}_cos"].unsqueeze(1).expand(-1, self.points)
        sin = (1 - y**2).clamp(min=0).sqrt()
        return torch.stack([sin * phi.sin(), y, sin * phi.cos()], -1)

    @classmethod
    def _make_constants(cls, at: At) -> Constants:
        return Constants(*map(at, cls._exact()))

    @classmethod
    @functools.cache
    def _exact(cls) -> Constants:
        """The tables, float64 on the CPU; made once, never changed."""
        return _expand(cls)


def _full_precision(field: Tensor) -> AbstractContextManager[object]:
    """Without autocast: a transform is exact, or it is not one."""
    device = field.device.type
    if device == "meta" or not torch.is_autocast_enabled(device):
        return nullcontext()
    return torch.autocast(device, enabled=False)


def _expand(cls: type[SphereTransform]) -> Constants:
    tables = tensors(cls.basis_sha256)
    L, signals = len(cls.field_type), cls.field_type[0][0]
    trigonometric = tables[f"{cls.tables}_trig"]  # (point, m = -(L-1) .. L-1)
    zero = torch.zeros(cls.points, 1, dtype=torch.float64)
    trig = torch.stack([trigonometric[:, L - 1 :], torch.cat([zero, trigonometric[:, : L - 1].flip(1)], 1)], -1)
    # rows (m, l), l >= m, in order of m, then l
    m, l = torch.triu_indices(L, L)
    analysis = torch.zeros(L, L, cls.rings, dtype=torch.float64)
    analysis[m, l] = tables[f"{cls.tables}_analysis"]
    synthesis = torch.zeros(L, L, cls.rings, dtype=torch.float64)
    synthesis[m, l] = tables[f"{cls.tables}_synthesis"]
    to_field = []
    for degree in range(L):
        order = torch.arange(-degree, degree + 1)
        k = torch.arange(signals).unsqueeze(1)
        to_field.append((((k * 2 + (order < 0)) * L + order.abs()) * L + degree).flatten())
    place = torch.cat(to_field)
    of_field = torch.full((signals * 2 * L * L,), len(place))
    of_field[place] = torch.arange(len(place))
    # (point, order and cos or sin), (order, degree, ring), (order, ring, degree)
    return Constants(trig.flatten(1), analysis, synthesis.transpose(1, 2).contiguous(), place, of_field)
