"""Samples on the sphere from coefficients and back: what every transform of this package shares.

    f(theta, phi) = sum over l and m of  f_lm P_l|m|(theta) trig_m(phi)
    f_lm = sum over t of  analysis[|m|, l, t]  1/n sum over p of  f(t, p) trig_m(phi_p)
    trig_m = sqrt(2) sin |m| phi, 1, sqrt(2) cos m phi      for m < 0, m = 0, m > 0

The harmonics are orthonormal on the unit sphere. theta is the angle to the y axis and phi that from the z towards the x
axis, so that components of degree 1 are in the order x, y, z. Tables are float64 in basis.safetensors.
"""

import functools
from pathlib import Path
from typing import NamedTuple

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

FieldType = tuple[tuple[int, int, int | None], ...]  # (multiplicity, degree, parity) of each term


class Constants(NamedTuple):
    """Matrices between coefficients and samples."""

    trig: Tensor  # (point, order and cos or sin); nothing for sin of order 0
    analysis: Tensor  # (order, degree, ring)
    synthesis: Tensor  # (order, ring, degree)
    to_field: Tensor  # int64 (channel): where in (channel, cos or sin, order, degree)
    of_field: Tensor  # int64 (channel, cos or sin, order, degree): which channel; one past the last for nothing
    cos_theta: Tensor  # (ring)


class SphereTransform(nn.Module):
    """Between a field (batch, channel), degrees 0 .. L-1, and samples (batch, signal, theta, phi) on a grid.

    `forward` is `synthesis`; `analysis` is its inverse, exact below the band limit. No weights, no state.
    """

    field_type: FieldType
    grid: str
    rings: int
    points: int  # of each ring
    tables: str  # the name in basis.safetensors

    _trig: Tensor
    _analysis: Tensor
    _synthesis: Tensor
    _to_field: Tensor
    _of_field: Tensor
    _cos_theta: Tensor

    def __init__(self, *, device: torch.device | str | None = None, dtype: torch.dtype | None = None) -> None:
        super().__init__()
        self.band_limit, self.signals = len(self.field_type), self.field_type[0][0]
        self.channels = self.signals * self.band_limit**2
        self._take_constants(torch.empty(0, device=device, dtype=dtype))

    def forward(self, field: Tensor) -> Tensor:
        """`synthesis`."""
        return self.synthesis(field)

    def synthesis(self, field: Tensor) -> Tensor:
        """(batch, channel) -> the values at the samples, (batch, signal, theta, phi)."""
        if field.ndim != 2 or field.shape[1] != self.channels:
            raise ValueError(f"{type(self).__name__} takes a field (batch, {self.channels}), got {tuple(field.shape)}")
        self._check(field)
        L, batch = self.band_limit, field.shape[0]
        padded = torch.cat([field, field.new_zeros(batch, 1)], 1).index_select(1, self._of_field)
        # (batch and signal and cos or sin, order, degree) -> (order, degree, ..)
        coefficients = padded.reshape(batch * self.signals * 2, L, L).permute(1, 2, 0)
        rings = torch.bmm(self._synthesis, coefficients)
        # (order, ring, batch and signal, cos or sin) -> (batch and signal, ring, order and cos or sin)
        rows = rings.reshape(L, self.rings, batch * self.signals, 2).permute(2, 1, 0, 3)
        samples = rows.reshape(batch * self.signals * self.rings, 2 * L) @ self._trig.t()
        return samples.reshape(batch, self.signals, self.rings, self.points)

    def analysis(self, samples: Tensor) -> Tensor:
        """(batch, signal, theta, phi) -> the coefficients, (batch, channel)."""
        if samples.ndim != 4 or samples.shape[1:] != (self.signals, self.rings, self.points):
            raise ValueError(
                f"{type(self).__name__} takes samples (batch, {self.signals}, {self.rings}, {self.points}), "
                f"got {tuple(samples.shape)}"
            )
        self._check(samples)
        L, batch = self.band_limit, samples.shape[0]
        rows = samples.reshape(batch * self.signals * self.rings, self.points) @ (self._trig / self.points)
        # (batch and signal, ring, order, cos or sin) -> (order, ring, ..)
        rings = rows.reshape(batch * self.signals, self.rings, L, 2).permute(2, 1, 0, 3)
        coefficients = torch.bmm(self._analysis, rings.reshape(L, self.rings, batch * self.signals * 2))
        # (order, degree, batch, signal and cos or sin) -> (batch, .., order, degree)
        ordered = coefficients.reshape(L, L, batch, self.signals * 2).permute(2, 3, 0, 1)
        return ordered.reshape(batch, self.signals * 2 * L * L).index_select(1, self._to_field)

    def directions(self) -> Tensor:
        """The unit vectors (x, y, z) of the samples, (theta, phi, 3)."""
        points = torch.arange(self.points, device=self._trig.device, dtype=self._trig.dtype)
        phi = 2 * torch.pi / self.points * points
        y = self._cos_theta.unsqueeze(1).expand(-1, self.points)
        sin = (1 - y**2).clamp(min=0).sqrt()
        return torch.stack([sin * phi.sin(), y, sin * phi.cos()], -1)

    def extra_repr(self) -> str:
        """The line `print(module)` shows."""
        return f"{self.signals} signals, band limit {self.band_limit}, {self.grid}: {self.rings} rings of {self.points}"

    def _check(self, input: Tensor) -> None:
        if input.dtype != self._trig.dtype:
            raise ValueError(
                f"{type(self).__name__} has tables of {self._trig.dtype}, got {input.dtype}. "
                "Convert one of them with .to(dtype)."
            )

    def _apply(self, fn, recurse: bool = True):  # type: ignore[no-untyped-def]
        """Moves or casts the tables, afresh from float64: half and back loses nothing."""
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        self._take_constants(self._trig)
        return self

    def _take_constants(self, like: Tensor) -> None:
        for name, value in self._constants()._asdict().items():
            dtype = like.dtype if value.is_floating_point() else value.dtype
            self.register_buffer(f"_{name}", value.to(like.device, dtype, copy=True), persistent=False)

    @classmethod
    @functools.cache
    def _constants(cls) -> Constants:
        """The constants of the class in float64 on the CPU, made once from basis.safetensors; never changed."""
        with torch.device("cpu"):
            return _expand(cls)


def _expand(cls: type[SphereTransform]) -> Constants:
    tables = load_file(Path(__file__).with_name("basis.safetensors"))
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
    return Constants(
        trig.flatten(1), analysis, synthesis.transpose(1, 2).contiguous(), place, of_field, tables[f"{cls.tables}_cos"]
    )
