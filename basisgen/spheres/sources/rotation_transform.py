"""Samples on the rotation group from coefficients and back: what every such transform of this package shares.

    f(R) = sum over l, m, n of  sqrt(2l+1) F^l_mn D^l_mn(R),      R = Y(alpha) X(beta) Y(gamma)

Y and X are turns about the axes y and x; |n| < N, the azimuthal band limit. Orthonormal for the mean over all
rotations; a rotation Q of the signal, f(Q^-1 R), mixes the components m of each fragment n by D^l(Q). Of the orders
m, n >= 0 the four coefficients F_++, F_+-, F_-+, F_-- meet d^l_m,n(beta) and d^l_m,-n(beta) in two sums and two
differences, and give in the same way the four products of cos or sin of m alpha and of n gamma:

    u = a (F_++ + F_--),  v = a (F_-+ - F_+-),      a = sqrt(2l+1) d^l_m,n
    x = b (F_++ - F_--),  y = b (F_-+ + F_+-),      b = sqrt(2l+1) d^l_m,-n (-1)^n
    f = sum over l, m, n of  1/2 trig_m(alpha) trig_n(-gamma) (u + x, y - v, v + y, u - x)      in the order of F

Tables are float64 in basis.safetensors. Source: McEwen et al. 2015, arXiv:1508.03101, for real signals.
"""

import functools
from typing import NamedTuple

import torch
from torch import Tensor

from ._constants import At, tensors
from ._transform import Transform


class Constants(NamedTuple):
    """Matrices between coefficients and samples."""

    alpha: Tensor  # (alpha, cos or sin, order m); nothing for sin of order 0
    gamma: Tensor  # (gamma, cos or sin, order n), of -gamma
    analysis: Tensor  # (n or -n, order m, order n, degree, ring), halved
    synthesis: Tensor  # (n or -n, order m, order n, ring, degree), halved
    weights: Tensor  # (ring): of the mean over beta
    to_field: Tensor  # int64 (channel): where in (signal, sign of m, sign of n, order m, order n, degree)
    of_field: Tensor  # int64 (signal, .., degree): which channel; one past the last for nothing


class RotationTransform(Transform):
    """Between signals on the rotation group and their samples (batch, signal, beta, alpha, gamma).

    Copies of a degree are fragments n, of each all signals.
    """

    turns: int  # angles gamma; `points` angles alpha, `rings` angles beta
    orders: int  # N

    @property
    def shape(self) -> tuple[int, ...]:
        """See Transform."""
        return (self.signals, self.rings, self.points, self.turns)

    def _synthesis(self, field: Tensor, of: Constants) -> Tensor:
        L, N, batch = self.band_limit, self.orders, field.shape[0]
        values = field.to(of.alpha.dtype)
        padded = torch.cat([values, values.new_zeros(batch, 1)], 1).index_select(1, of.of_field)
        parts = padded.reshape(batch * self.signals, 2, 2, L, N, L)  # (.., sign of m, sign of n, m, n, l)
        # (n or -n, batch and signal, sum or difference, m, n, l) -> (.. and m and n, l, batch and signal and ..)
        pairs = _meet(parts[:, 0, 0], parts[:, 0, 1], parts[:, 1, 0], parts[:, 1, 1])
        rows = pairs.permute(0, 3, 4, 5, 1, 2).reshape(2 * L * N, L, batch * self.signals * 2)
        rings = torch.bmm(of.synthesis.flatten(0, 2), rows)  # (n or -n and m and n, ring, batch and signal and ..)
        # (n or -n, m, n, ring, batch and signal, ..) -> (n or -n and .., batch and signal, ring, m, n)
        shaped = rings.reshape(2, L, N, self.rings, batch * self.signals, 2).permute(0, 5, 4, 3, 1, 2)
        four = torch.stack(_part(shaped[0, 0], shaped[0, 1], shaped[1, 0], shaped[1, 1]), 2)
        # (batch and signal, ring, sign of m and sign of n, m, n) -> (.., sign of m and m, sign of n and n)
        waves = four.reshape(-1, 2, L, N).transpose(1, 2).reshape(-1, 2 * L, 2 * N)
        # (batch and signal and ring, .. m, .. n) @ (.. n, gamma), then (alpha, .. m) @ that
        over_gamma = waves @ of.gamma.flatten(1).t()
        samples = of.alpha.flatten(1) @ over_gamma
        return samples.reshape(batch, *self.shape).to(field.dtype)

    def _analysis(self, samples: Tensor, of: Constants) -> Tensor:
        L, N, batch = self.band_limit, self.orders, samples.shape[0]
        # (batch and signal and ring, alpha, gamma) @ (gamma, sign of n and n), then (sign of m and m, alpha) @ that
        values = samples.to(of.alpha.dtype).reshape(-1, self.points, self.turns)
        over_gamma = values @ (of.gamma.flatten(1) / self.turns)
        waves = (of.alpha.flatten(1).t() / self.points) @ over_gamma
        parts = waves.reshape(batch * self.signals, self.rings, 2, L, 2, N)  # (.., ring, sign of m, m, sign of n, n)
        pairs = _meet(parts[:, :, 0, :, 0], parts[:, :, 0, :, 1], parts[:, :, 1, :, 0], parts[:, :, 1, :, 1])
        # (n or -n, batch and signal, .., ring, m, n) -> (n or -n and m and n, ring, batch and signal and ..)
        rows = pairs.permute(0, 4, 5, 3, 1, 2).reshape(2 * L * N, self.rings, batch * self.signals * 2)
        degrees = torch.bmm(of.analysis.flatten(0, 2), rows)  # (n or -n and m and n, degree, batch and signal and ..)
        # (n or -n, m, n, degree, batch and signal, ..) -> (n or -n, .., batch and signal, m, n, degree)
        shaped = degrees.reshape(2, L, N, L, batch * self.signals, 2).permute(0, 5, 4, 1, 2, 3)
        four = torch.stack(_part(shaped[0, 0], shaped[0, 1], shaped[1, 0], shaped[1, 1]), 1)
        # (batch, signal and sign of m and sign of n and m and n and l)
        return four.reshape(batch, self.signals * 4 * L * N * L).index_select(1, of.to_field).to(samples.dtype)

    def mean(self, samples: Tensor) -> Tensor:
        """The mean over all rotations: (batch, signal, beta, alpha, gamma) -> (batch, signal)."""
        of: Constants = self._constants(samples)
        rings = samples.to(of.weights.dtype).mean((3, 4))
        return (rings * of.weights).sum(2).to(samples.dtype)  # over (.., ring)

    def rotations(self) -> Tensor:
        """The rotation R of every sample, float64 (beta, alpha, gamma, 3, 3); a signal on the sphere at R y."""
        y = tensors(self.basis_sha256)[f"{self.tables}_cos"]
        tilt = _turn(y, (1 - y**2).clamp(min=0).sqrt(), 2, 1)
        alpha, gamma = (
            _turn(angle.cos(), angle.sin(), 0, 2)
            for angle in (
                2 * torch.pi / count * torch.arange(count, dtype=torch.float64) for count in (self.points, self.turns)
            )
        )
        return alpha[:, None] @ tilt[:, None, None] @ gamma  # (beta, alpha, gamma, 3, 3)

    @classmethod
    def _make_constants(cls, at: At) -> Constants:
        return Constants(*map(at, cls._exact()))

    @classmethod
    @functools.cache
    def _exact(cls) -> Constants:
        """The tables, float64 on the CPU; made once, never changed."""
        return _expand(cls)


def _meet(pp: Tensor, pm: Tensor, mp: Tensor, mm: Tensor) -> Tensor:
    """(n or -n, batch and signal, 2, ..): what d_m,n and d_m,-n multiply, of F_++, F_+-, F_-+, F_--."""
    return torch.stack([torch.stack([pp + mm, mp - pm], 1), torch.stack([pp - mm, mp + pm], 1)])


def _part(u: Tensor, v: Tensor, x: Tensor, y: Tensor) -> list[Tensor]:
    """The transpose of `_meet`: in the order F_++, F_+-, F_-+, F_--."""
    return [u + x, y - v, v + y, u - x]


def _turn(cos: Tensor, sin: Tensor, i: int, j: int) -> Tensor:
    """Turns (.., 3, 3) by an angle that take axis j towards axis i."""
    turn = torch.eye(3, dtype=torch.float64).repeat(len(cos), 1, 1)
    turn[:, i, i] = turn[:, j, j] = cos
    turn[:, i, j], turn[:, j, i] = sin, -sin
    return turn


def _expand(cls: type[RotationTransform]) -> Constants:
    of, L, N = tensors(cls.basis_sha256), len(cls.field_type), cls.orders
    analysis = _by_order(of[f"{cls.tables}_analysis"], L, N)
    synthesis = _by_order(of[f"{cls.tables}_synthesis"], L, N).transpose(3, 4).contiguous()
    place, of_field = _places(cls.field_type, L, N)
    alpha, gamma = _waves(of[f"{cls.tables}_trig"], L), _waves(of[f"{cls.tables}_around"], N)
    gamma[:, 1] *= -1
    weights = of[f"{cls.tables}_analysis"][0]  # d^0_00 = 1
    return Constants(alpha, gamma, analysis / 2, synthesis / 2, weights, place, of_field)


def _by_order(rows: Tensor, L: int, N: int) -> Tensor:
    """(m, n, l) with l >= m >= |n|, ring -> (n or -n, m, n, l, ring), n >= 0, signed as in a and b; 0 for l < m, n."""
    starts, start = {}, 0
    for m in range(L):
        for n in range(-min(m, N - 1), min(m, N - 1) + 1):
            starts[m, n] = start
            start += L - m
    table = torch.zeros(2, L, N, L, rows.shape[1], dtype=torch.float64)
    for m in range(L):
        for n in range(N):
            for k, signed in enumerate((n, -n)):
                # d_mn = (-1)^(m-n) d_nm = d_-n,-m
                p, q = (m, signed) if m >= n else (n, m if k == 0 else -m)
                sign = (-1) ** (n if k else n - m if n > m else 0)
                table[k, m, n, p:] = sign * rows[starts[p, q] : starts[p, q] + L - p]
    return table


def _waves(trigonometric: Tensor, L: int) -> Tensor:
    """(angle, m = -(L-1) .. L-1) -> (angle, cos or sin, m >= 0)."""
    zero = torch.zeros(len(trigonometric), 1, dtype=torch.float64)
    return torch.stack([trigonometric[:, L - 1 :], torch.cat([zero, trigonometric[:, : L - 1].flip(1)], 1)], 1)


def _places(field_type: tuple[tuple[int, int, int | None], ...], L: int, N: int) -> tuple[Tensor, Tensor]:
    """Where each channel is in (signal, sign of m, sign of n, m, n, l), and the reverse."""
    signals, parts = field_type[0][0], []
    for degree in range(L):
        m = torch.arange(-degree, degree + 1)
        n = torch.arange(-min(degree, N - 1), min(degree, N - 1) + 1)[:, None, None]
        k = torch.arange(signals)[:, None]
        signs = (k * 2 + (m < 0)) * 2 + (n < 0)
        parts.append((((signs * L + m.abs()) * N + n.abs()) * L + degree).flatten())  # (n, signal, m)
    place = torch.cat(parts)
    of_field = torch.full((signals * 4 * L * N * L,), len(place))
    of_field[place] = torch.arange(len(place))
    return place, of_field
