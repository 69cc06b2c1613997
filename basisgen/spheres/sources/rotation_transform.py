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
    to_field: Tensor  # int64 (channel): where in (sign of m, sign of n, order m, order n, degree, signal)
    of_field: Tensor  # int64 (sign of m, .., signal): which channel; one past the last for nothing


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
        values = field.to(of.alpha.dtype).t()  # (channel, batch): the batch last, so that orders move as whole rows
        padded = torch.cat([values, values.new_zeros(1, batch)]).index_select(0, of.of_field)
        parts = padded.reshape(4, L, N, L, self.signals * batch)  # (sign of m and sign of n, m, n, l, ..)
        pairs = _meet(*parts.unbind(0))  # (n or -n, m, n, l, sum or difference, signal and batch)
        rows = pairs.reshape(2 * L * N, L, 2 * self.signals * batch)
        rings = torch.bmm(of.synthesis.flatten(0, 2), rows)  # (n or -n and m and n, ring, .. and signal and batch)
        shaped = rings.reshape(2, L, N, self.rings, 2, self.signals * batch)
        pp, pm, mp, mm = _part(shaped)
        # (sign of m, m, sign of n, n, ring, signal and batch)
        waves = torch.stack([torch.stack([pp, pm], 1), torch.stack([mp, mm], 1)])
        # (alpha, sign of m and m) @ (.., sign of n and n and ring and signal and batch)
        over_alpha = of.alpha.flatten(1) @ waves.reshape(2 * L, 2 * N * self.rings * self.signals * batch)
        # (gamma, sign of n and n) @ (alpha, .., ring and signal and batch)
        samples = of.gamma.flatten(1) @ over_alpha.reshape(self.points, 2 * N, self.rings * self.signals * batch)
        grid = samples.reshape(self.points, self.turns, self.rings, self.signals, batch)
        return grid.permute(4, 3, 2, 0, 1).to(field.dtype)  # (batch, signal, ring, alpha, gamma), not moved in memory

    def _analysis(self, samples: Tensor, of: Constants) -> Tensor:
        L, N, batch = self.band_limit, self.orders, samples.shape[0]
        # (batch, signal, ring, alpha, gamma) -> (alpha, gamma, ring and signal and batch)
        values = samples.to(of.alpha.dtype).permute(3, 4, 2, 1, 0)
        grid = values.reshape(self.points, self.turns, self.rings * self.signals * batch)
        over_gamma = (of.gamma.flatten(1) / self.turns).t() @ grid  # (alpha, sign of n and n, ..)
        # (sign of m and m, alpha) @ (alpha, sign of n and n and ring and signal and batch)
        waves = (of.alpha.flatten(1) / self.points).t() @ over_gamma.reshape(self.points, -1)
        plus, minus = waves.reshape(2, L, 2, N, self.rings, self.signals * batch).unbind(0)  # sign of m
        # (n or -n, m, n, ring, sum or difference, signal and batch)
        pairs = _meet(*plus.unbind(1), *minus.unbind(1))
        rows = pairs.reshape(2 * L * N, self.rings, 2 * self.signals * batch)
        degrees = torch.bmm(of.analysis.flatten(0, 2), rows)  # (n or -n and m and n, l, .. and signal and batch)
        shaped = degrees.reshape(2, L, N, L, 2, self.signals * batch)
        # (sign of m and sign of n and m and n and l and signal, batch)
        flat = torch.stack(_part(shaped)).reshape(4 * L * N * L * self.signals, batch)
        return flat.index_select(0, of.to_field).t().contiguous().to(samples.dtype)

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
    """(n or -n, .., sum or difference, place) of F_++ to F_-- (.., place): what d_m,n and d_m,-n multiply."""
    return torch.stack([torch.stack([pp + mm, mp - pm], -2), torch.stack([pp - mm, mp + pm], -2)])


def _part(pairs: Tensor) -> list[Tensor]:
    """The transpose of `_meet`: in the order F_++, F_+-, F_-+, F_--."""
    (u, v), (x, y) = (both.unbind(-2) for both in pairs.unbind(0))
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
    """Where each channel is in (sign of m, sign of n, m, n, l, signal), and the reverse."""
    signals, parts = field_type[0][0], []
    for degree in range(L):
        m = torch.arange(-degree, degree + 1)
        n = torch.arange(-min(degree, N - 1), min(degree, N - 1) + 1)[:, None, None]
        k = torch.arange(signals)[:, None]
        orders = (((m < 0) * 2 + (n < 0)) * L + m.abs()) * N + n.abs()
        parts.append(((orders * L + degree) * signals + k).flatten())  # (n, signal, m)
    place = torch.cat(parts)
    of_field = torch.full((4 * L * N * L * signals,), len(place))
    of_field[place] = torch.arange(len(place))
    return place, of_field
