"""Ours: anisotropic convolutions of signals on the rotation group, ReLU on samples, an invariant read-out.

    conv    z[l, m, n, o] = sum over k, i of  W[l, n, o, k, i] x[l, m, k, i],    W linear in l between anchors
    norm    every channel divided by its rms over all rotations, less its mean; with a learned scale and bias
    grid    ReLU on samples of `rings` angles beta, `alphas`, `gammas`; coefficients of lower degrees come back

for signals f(R) = sum sqrt(2l+1) x[l, m, n] D^l_mn(R), |n| < N, as compiled layers have them (docs/spheres.md).
Rotations act on m alone. Signals stand as (degree, n, channel, m, batch), m from -(L-1) to L-1 and zero beyond the
degree, so that a convolution is one matrix product per degree. These layers are plain torch here, beside the compiled
`rotation_conv` and `transform`, for what those lack: filters with a smooth spectrum in place of values on a grid, more
angles gamma than N needs, which ReLU wants, and coefficients of the lower degrees alone on the way back. With as many
angles the samples are those of the compiled transform, and a test says so.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from runtime.so3 import wigner_d

EPS = 1e-5


@dataclass(frozen=True)
class OursConfig:
    """Sizes of the network.

    limits      band limits: of the input and of every later layer's, then of the last signals
    channels    of every layer
    anchors     of every layer's filters
    rings       of every layer's samples; with twice as many angles alpha, and `gammas` angles gamma
    orders      N: |n| < N
    hidden      width of the read-out; dropout: in it
    """

    limits: tuple[int, ...] = (20, 10, 6, 4)
    channels: tuple[int, ...] = (12, 16, 20)
    anchors: tuple[int, ...] = (8, 4, 3)
    rings: tuple[int, ...] = (20, 14, 9)
    gammas: int = 8
    orders: int = 3
    hidden: int = 64
    dropout: float = 0.2
    classes: int = 10


class Ours(nn.Module):
    """Packed coefficients of one signal on the sphere (batch, coefficient) -> (batch, class)."""

    def __init__(self, config: OursConfig) -> None:
        super().__init__()
        N, before = config.orders, (1, 1)  # channels, orders n of the input
        self.limit, self.orders = config.limits[0], N
        self.layers = nn.ModuleList()
        sizes = zip(config.channels, pairwise(config.limits), config.anchors, config.rings, strict=True)
        for channels, (limit, after), anchors, rings in sizes:
            grid = RotationGrid(limit, N, rings, 2 * rings, config.gammas)
            self.layers.append(Layer(Conv(before, channels, limit, N, anchors), Norm(channels), grid, after))
            before = (channels, 2 * N - 1)
        invariants = config.channels[-2] * 2 + config.channels[-1] * config.limits[-1]
        self.head = nn.Sequential(
            nn.BatchNorm1d(invariants),
            nn.Linear(invariants, config.hidden),
            nn.ReLU(),
            nn.Dropout(config.dropout),
            nn.Linear(config.hidden, config.classes),
        )

    def forward(self, signals: Tensor) -> Tensor:
        """(batch, coefficient) -> (batch, class)."""
        x = _from_packed(signals, self.limit)
        stages = []
        for layer in self.layers:
            x = layer(x)
            stages.append(x)
        *_, (before, before_lengths), (last, lengths) = map(self._invariants, stages)
        # (invariant, batch)
        found = torch.cat([before, (before_lengths.sum(0) + 1e-6).sqrt(), last, (lengths + 1e-6).sqrt().flatten(0, 1)])
        logits: Tensor = self.head(found.T)
        return logits

    def _invariants(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Scalars (channel, batch), and squared lengths over m and n of degrees above 0 (degree, channel, batch)."""
        return x[0, self.orders - 1, :, x.shape[3] // 2], x[1:].square().sum((1, 3))


class Layer(nn.Module):
    """Convolution, norm, ReLU on samples, and back to coefficients below `limit`."""

    def __init__(self, conv: Conv, norm: Norm, grid: RotationGrid, limit: int) -> None:
        super().__init__()
        self.conv, self.norm, self.grid, self.limit = conv, norm, grid, limit

    def forward(self, x: Tensor) -> Tensor:
        """(degree, n, channel, m, batch) -> the same of fewer degrees."""
        return self.grid.analysis(F.relu_(self.grid.synthesis(*self.norm(self.conv(x)))), self.limit)


class Conv(nn.Module):
    """One matrix for each degree, from the n and channels of the input to those of the output.

    before: channels and orders n of the input. State: weight (anchor, n, channel, n in, channel in).
    """

    hats: Tensor
    exists: Tensor

    def __init__(self, before: tuple[int, int], channels: int, limit: int, orders: int, anchors: int) -> None:
        super().__init__()
        channels_in, orders_in = before
        shape = (anchors, 2 * orders - 1, channels, orders_in, channels_in)
        self.weight = nn.Parameter(torch.randn(shape) / math.sqrt(orders_in * channels_in))
        places = torch.linspace(0, anchors - 1, limit)
        hats = (1 - (places[:, None] - torch.arange(anchors)).abs()).clamp_min(0)  # (degree, anchor)
        exists = torch.arange(1 - orders, orders).abs() <= torch.arange(limit)[:, None]  # (degree, n)
        self.register_buffer("hats", hats, persistent=False)
        self.register_buffer("exists", exists.float()[:, :, None, None, None], persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """(degree, n in, channel in, m, batch) -> (degree, n, channel, m, batch)."""
        matrices = torch.einsum("la,anoki->lnoki", self.hats, self.weight) * self.exists
        # (degree, n and channel, n and channel in) @ (degree, n and channel in, m and batch)
        mixed = torch.bmm(matrices.flatten(3).flatten(1, 2), x.flatten(1, 2).flatten(2))
        return mixed.unflatten(2, x.shape[3:]).unflatten(1, matrices.shape[1:3])


class Norm(nn.Module):
    """Batch norm of functions on the rotation group: one mean and variance for each channel, over all rotations.

    In coefficients the mean is degree 0, and the mean square the sum of all squares.
    State: scale, bias, and running mean and variance (channel).
    """

    mean: Tensor
    variance: Tensor

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.scale, self.bias = nn.Parameter(torch.ones(channels)), nn.Parameter(torch.zeros(channels))
        self.register_buffer("mean", torch.zeros(channels))
        self.register_buffer("variance", torch.ones(channels))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """(degree, n, channel, m, batch) -> the same, and what is to be added to its values (channel)."""
        mean, variance = self.mean, self.variance
        n, m = x.shape[1] // 2, x.shape[3] // 2  # the places of order 0
        if self.training:
            mean = x[0, n, :, m].mean(-1)  # over (channel, batch)
            variance = x.square().sum((0, 1, 3)).mean(-1) - mean.square()
            with torch.no_grad():
                self.mean.lerp_(mean, 0.1)
                self.variance.lerp_(variance, 0.1)
        scale = self.scale * (variance + EPS).rsqrt()  # (channel)
        return x * scale[:, None, None], self.bias - mean * scale


class RotationGrid(nn.Module):
    """Coefficients below a band limit, |n| < N <-> samples at Gauss rings beta, and equal steps of alpha and gamma.

    With p = sqrt(2l+1) D^l_mn(turn by beta about x), q the same of -m, -n, for m, n >= 0; signs are those of m and n:

        f = sum over l, m, n of  cos m alpha cos n gamma (p F_++ + q F_--) - sin m alpha sin n gamma (q F_++ + p F_--)
                               + cos m alpha sin n gamma (q F_-+ - p F_+-) + sin m alpha cos n gamma (p F_-+ - q F_+-)

    Analysis is the transpose with the weights of the mean over all rotations: it recovers signals if there are `limit`
    rings, 2 limit - 1 angles alpha and 2 N - 1 gamma at least. So each is the other's backward
    pass, except for the weights.
    """

    plain: Tensor
    weighted: Tensor
    of_alpha: Tensor
    of_gamma: Tensor

    def __init__(self, limit: int, orders: int, rings: int, alphas: int, gammas: int) -> None:
        super().__init__()
        nodes, weights = np.polynomial.legendre.leggauss(rings)  # of cos(beta), symmetric; from the north on:
        plain = _ring_table(limit, orders, torch.from_numpy(-nodes).acos())
        weighted = plain * torch.from_numpy(weights)[:, None, None] / (2 * alphas * gammas)
        waves = {"of_alpha": _waves(limit, alphas), "of_gamma": _waves(orders, gammas)}
        for name, table in {"plain": plain, "weighted": weighted, **waves}.items():
            self.register_buffer(name, table.float(), persistent=False)

    def synthesis(self, x: Tensor, constant: Tensor) -> Tensor:
        """(degree, n, channel, m, batch), to be added (channel) -> (alpha, gamma, ring, channel, batch)."""
        samples: Tensor = _Synthesis.apply(x, constant, self.plain, self.of_alpha, self.of_gamma)
        return samples

    def analysis(self, samples: Tensor, limit: int) -> Tensor:
        """(alpha, gamma, ring, channel, batch) -> coefficients below `limit`, (degree, n, channel, m, batch)."""
        x: Tensor = _Analysis.apply(samples, limit, self.weighted, self.of_alpha, self.of_gamma)
        return x


class _Synthesis(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, constant: Tensor, *tables: Tensor) -> Tensor:
        ctx.limit = len(x)
        ctx.save_for_backward(*tables)
        return _samples(x, constant, *tables)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        x = _coefficients(gradient, ctx.limit, *ctx.saved_tensors)
        return x, x[0, x.shape[1] // 2, :, x.shape[3] // 2].sum(-1), None, None, None


class _Analysis(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, samples: Tensor, limit: int, *tables: Tensor) -> Tensor:
        ctx.save_for_backward(*tables)
        return _coefficients(samples, limit, *tables)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        return _samples(gradient, None, *ctx.saved_tensors), None, None, None, None


def _samples(x: Tensor, constant: Tensor | None, of_rings: Tensor, of_alpha: Tensor, of_gamma: Tensor) -> Tensor:
    """(degree, n, channel, m, batch) -> (alpha, gamma, ring, channel, batch)."""
    L, _, channels, _, batch = x.shape
    N = of_gamma.shape[1]
    y = x.permute(3, 1, 0, 2, 4)  # (m, n, degree, channel, batch)
    above, below = y[L - 1 :], y[:L].flip(0)  # m >= 0, -m
    pairs = [above[:, N - 1 :], below[:, :N].flip(1), above[:, :N].flip(1), below[:, N - 1 :]]  # ++, --, +-, -+
    # (m and n and pair, coefficient and degree, channel and batch)
    stacked = torch.stack(pairs, 2).reshape(L * N * 2, 2 * L, channels * batch)
    if constant is not None:  # D^0 = 1
        stacked[0, 0].view(channels, batch).add_(constant[:, None])
    waves = torch.bmm(_of_degrees(of_rings, L), stacked).view(L, N, 2, 2, -1)  # (m, n, pair, wave, ring and ..)
    # (m, cos or sin of alpha, n, cos or sin of gamma, ring and channel and batch)
    both = torch.stack([waves[:, :, :, 0], waves[:, :, :, 1].flip(2)], 1)
    over_alpha = of_alpha[:, :L].flatten(1) @ both.flatten(2).flatten(0, 1)  # (alpha, n and cos or sin and ring and ..)
    samples = x.new_empty(len(of_alpha), len(of_gamma), of_rings.shape[4], channels, batch)
    torch.matmul(of_gamma.flatten(1), over_alpha.view(len(of_alpha), 2 * N, -1), out=samples.flatten(2))
    return samples


def _coefficients(samples: Tensor, limit: int, of_rings: Tensor, of_alpha: Tensor, of_gamma: Tensor) -> Tensor:
    """The transpose of `_samples`, of coefficients below `limit`."""
    N, (alphas, _, rings, channels, batch) = of_gamma.shape[1], samples.shape
    over_gamma = of_gamma.flatten(1).T @ samples.flatten(2)  # (alpha, n and cos or sin, ring and channel and batch)
    both = of_alpha[:, :limit].flatten(1).T @ over_gamma.view(alphas, -1)
    both = both.view(limit, 2, N, 2, rings, channels * batch)  # (m, cos or sin, n, cos or sin, ring, ..)
    waves = [both[:, 0, :, 0], both[:, 1, :, 1], both[:, 0, :, 1], both[:, 1, :, 0]]
    # (m and n and pair, wave and ring, channel and batch)
    stacked = torch.stack(waves, 2).reshape(limit * N * 2, 2 * rings, channels * batch)
    found = torch.bmm(_of_degrees(of_rings, limit).mT, stacked).view(limit, N, 2, 2, limit, channels, batch)
    pp, mm, pm, mp = found[:, :, 0, 0], found[:, :, 0, 1], found[:, :, 1, 0], found[:, :, 1, 1]
    above = torch.cat([pm[:, 1:].flip(1), pp], 1)  # m >= 0: (m, n, degree, channel, batch)
    below = torch.cat([mm[:, 1:].flip(1), mp], 1)  # -m
    return torch.cat([below[1:].flip(0), above]).permute(2, 1, 3, 0, 4).contiguous()


def _of_degrees(of_rings: Tensor, limit: int) -> Tensor:
    """The table's degrees and orders m below a limit: (m and n and pair, wave and ring, coefficient and degree)."""
    return of_rings[:limit, ..., :limit].flatten(5).flatten(3, 4).flatten(0, 2)


def _ring_table(limit: int, orders: int, beta: Tensor) -> Tensor:
    """float64 (m, n, pair, wave, ring, coefficient, degree), see RotationGrid; what does not exist is 0.

    Pairs of coefficients: ++ and --, +- and -+; of waves: cos cos and sin sin, cos sin and sin cos.
    """
    table = torch.zeros(limit, orders, 2, 2, len(beta), 2, limit, dtype=torch.float64)
    m, n = torch.arange(limit)[:, None] > 0, torch.arange(orders) > 0
    always = torch.ones(limit, orders, dtype=torch.bool)
    exists = torch.stack([always, m & n, n & always, m & always], -1).unflatten(-1, (2, 2)).double()
    for degree in range(limit):
        d = wigner_d(degree, _about_x(beta)) * math.sqrt(2 * degree + 1)
        count = min(degree + 1, orders)
        # (m, n, ring)
        p = d[:, degree:, degree : degree + count].permute(1, 2, 0)
        q = d.flip(1, 2)[:, degree:, degree : degree + count].permute(1, 2, 0)
        blocks = torch.stack([p, q, -q, -p, -p, q, -q, p], 2).unflatten(2, (2, 2, 2))
        # (m, n, pair, wave, coefficient, ring) -> (.., ring, coefficient)
        table[: degree + 1, :count, ..., degree] = blocks.transpose(4, 5)
    # the wave and the coefficient must both exist
    return table * exists[:, :, :, :, None, None, None] * exists[:, :, :, None, None, :, None]


def _about_x(angle: Tensor) -> Tensor:
    """Turns (angle, 3, 3) about the x axis."""
    one, zero = torch.ones_like(angle), torch.zeros_like(angle)
    rows = [[one, zero, zero], [zero, angle.cos(), -angle.sin()], [zero, angle.sin(), angle.cos()]]
    return torch.stack([torch.stack(row, -1) for row in rows], -2)


def _waves(limit: int, count: int) -> Tensor:
    """float64 (angle, order, cos or sin)."""
    angles = 2 * math.pi / count * torch.arange(count, dtype=torch.float64)
    phases = angles[:, None] * torch.arange(limit, dtype=torch.float64)
    return torch.stack([phases.cos(), phases.sin()], -1)


def _from_packed(signals: Tensor, limit: int) -> Tensor:
    """(batch, coefficient) -> (degree, 1, 1, m, batch)."""
    degrees = signals.split([2 * degree + 1 for degree in range(limit)], 1)
    rows = [F.pad(part, (limit - 1 - degree,) * 2) for degree, part in enumerate(degrees)]
    return torch.stack(rows).transpose(1, 2)[:, None, None]  # (degree, batch, m) -> ..
