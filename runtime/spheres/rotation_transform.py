"""Signals on the rotation group: samples from coefficients and back, on an equiangular grid.

    f(R) = sum_l sqrt(2l+1) sum_mn F^l_mn D^l_mn(R),      R = Y(alpha) X(beta) Y(gamma), turns about the axes y and x

orthonormal for the mean over all rotations. A rotation Q of f, f(Q^-1 R), mixes the components m of each fragment n by
D^l(Q). Turns about y have cosines and sines that link m to +-m alone, and J^l(beta) = D^l(X(beta)): so the sums over l,
gamma and alpha come one after another. The grid is SOFT's, 2L angles each: beta_j = (2j+1) pi / 4L with the weights of
Driscoll and Healy, exact below band limit L. Source: Kostelec and Rockmore 2008, "FFTs on the rotation group".
"""

import math

import torch
from torch import Tensor, nn

from runtime.constants import Make, constant
from runtime.fields import FieldType, as_field_type, split_terms
from runtime.so3 import wigner_d


def rotation_type(signals: int, limit: int) -> FieldType:
    """The field type of signals on the rotation group: 2 l + 1 fragments of each degree, of `signals` channels."""
    return as_field_type([((2 * degree + 1) * signals, degree, None) for degree in range(limit)])


class RotationTransform(nn.Module):
    """Between channels (batch, channel) of `rotation_type` and samples (batch, signal, beta, alpha, gamma).

    Copies of a degree are fragments n = -l..l, of each all signals, as generated products have them. No weights, no
    state. In float64 right to 1e-12 below band limit 32.
    """

    def __init__(self, signals: int, limit: int) -> None:
        super().__init__()
        self.signals, self.limit = signals, limit
        self.field_type = rotation_type(signals, limit)

    def forward(self, fields: Tensor) -> Tensor:
        """`synthesis`."""
        return self.synthesis(fields)

    def synthesis(self, fields: Tensor) -> Tensor:
        """(batch, channel) -> (batch, signal, beta, alpha, gamma)."""
        L, M, batch = self.limit, 2 * self.limit - 1, fields.shape[0]
        padded = torch.cat([self._padded(part, degree) for degree, part in enumerate(self._parts(fields))], 2)
        both = torch.stack([padded, padded.flip(3)], 3)  # m and -m: (batch, signal, l, +-m, m, n)
        all_four = torch.stack([both, both.flip(5)], 4)  # (batch, signal, l, +-m, +-n, m, n)
        # (m and n, batch and signal and signs, l)
        rows = all_four.permute(5, 6, 0, 1, 3, 4, 2).reshape(M * M, batch * self.signals * 4, L)
        rings = torch.bmm(rows, self._constant(_rings, fields))  # (m and n, batch and signal and signs, beta)
        # (batch and signal, beta, m, sign, n, sign)
        shaped = rings.reshape(M, M, batch * self.signals, 2, 2, 2 * L).permute(2, 5, 0, 3, 1, 4)
        # (batch and signal, beta, m and sign, n and sign)
        over_gamma = shaped.reshape(batch * self.signals, 2 * L, 2 * M, 2 * M) @ self._constant(_gammas, fields)
        samples = self._constant(_alphas, fields).mT @ over_gamma  # (batch and signal, beta, alpha, gamma)
        return samples.reshape(batch, self.signals, 2 * L, 2 * L, 2 * L)

    def analysis(self, samples: Tensor) -> Tensor:
        """(batch, signal, beta, alpha, gamma) -> (batch, channel): the weighted adjoint of `synthesis`."""
        L, M, batch = self.limit, 2 * self.limit - 1, samples.shape[0]
        weighted = samples * self._constant(_weights, samples)[:, None, None]
        flat = weighted.reshape(batch * self.signals, 2 * L, 2 * L, 2 * L)  # (batch and signal, beta, alpha, gamma)
        # (batch and signal, beta, m and sign, n and sign)
        shaped = self._constant(_alphas, samples) @ (flat @ self._constant(_gammas, samples).mT)
        # (batch and signal, beta, m, sign, n, sign) -> (m and n, .., beta)
        rows = shaped.reshape(batch * self.signals, 2 * L, M, 2, M, 2).permute(2, 4, 0, 3, 5, 1)
        rings = rows.reshape(M * M, batch * self.signals * 4, 2 * L)  # (m and n, batch and signal and signs, beta)
        # (m and n, .., beta) @ (m and n, beta, l)
        degrees = torch.bmm(rings, self._constant(_rings, samples).mT).reshape(M, M, batch, self.signals, 2, 2, L)
        all_four = degrees.permute(2, 3, 6, 4, 5, 0, 1)  # (batch, signal, l, +-m, +-n, m, n)
        both = all_four[:, :, :, :, 0] + all_four[:, :, :, :, 1].flip(5)
        padded = both[:, :, :, 0] + both[:, :, :, 1].flip(3)  # (batch, signal, l, m, n)
        parts = []
        for degree in range(L):
            inner = padded[:, :, degree, L - 1 - degree : L + degree, L - 1 - degree : L + degree]
            # (batch, signal, m, n) -> (batch, n and signal and m)
            parts.append(inner.permute(0, 3, 1, 2).reshape(batch, self.field_type[degree].channels))
        return torch.cat(parts, 1)

    def mean(self, samples: Tensor) -> Tensor:
        """The mean over all rotations: (batch, signal, beta, alpha, gamma) -> (batch, signal)."""
        return (samples * self._constant(_weights, samples)[:, None, None]).sum((2, 3, 4))

    def extra_repr(self) -> str:
        """The line `print(module)` shows."""
        return f"{self.signals} signals, band limit {self.limit}, {2 * self.limit}^3 samples"

    def _parts(self, fields: Tensor) -> tuple[Tensor, ...]:
        count = sum(term.channels for term in self.field_type)
        if fields.ndim != 2 or fields.shape[1] != count:
            raise ValueError(f"RotationTransform takes a field (batch, {count}), got {tuple(fields.shape)}.")
        return split_terms(fields, self.field_type)

    def _padded(self, part: Tensor, degree: int) -> Tensor:
        """(batch, channel of one degree) -> (batch, signal, 1, m, n), zero for orders above the degree."""
        dimension, missing = 2 * degree + 1, self.limit - 1 - degree
        copies = part.reshape(part.shape[0], dimension, self.signals, dimension)  # (batch, n, signal, m)
        inner = copies.permute(0, 2, 3, 1).unsqueeze(2)  # (batch, signal, 1, m, n)
        return nn.functional.pad(inner, (missing, missing, missing, missing))

    def _constant(self, make: Make, like: Tensor) -> Tensor:
        return constant(make, self.limit, dtype=like.dtype, device=like.device)


def rotation_of(alpha: Tensor, beta: Tensor, gamma: Tensor) -> Tensor:
    """Y(alpha) X(beta) Y(gamma): angles (...) -> (..., 3, 3). The pole y goes to colatitude beta, longitude alpha."""
    return _about_pole(alpha) @ _across(beta) @ _about_pole(gamma)  # (..., 3, 3) @ (..., 3, 3) @ (..., 3, 3)


def _about_pole(angle: Tensor) -> Tensor:
    zero, one = torch.zeros_like(angle), torch.ones_like(angle)
    c, s = angle.cos(), angle.sin()
    # (..., 9) -> (..., 3, 3)
    return torch.stack([c, zero, s, zero, one, zero, -s, zero, c], -1).reshape(*angle.shape, 3, 3)


def _across(angle: Tensor) -> Tensor:
    zero, one = torch.zeros_like(angle), torch.ones_like(angle)
    c, s = angle.cos(), angle.sin()
    # (..., 9) -> (..., 3, 3)
    return torch.stack([one, zero, zero, zero, c, -s, zero, s, c], -1).reshape(*angle.shape, 3, 3)


def _betas(limit: int) -> Tensor:
    return math.pi * (2 * torch.arange(2 * limit, dtype=torch.float64) + 1) / (4 * limit)


def _rings(limit: int) -> Tensor:
    """float64 (m and n, l, beta): sqrt(2l+1) J^l_mn(beta)."""
    M = 2 * limit - 1
    table = torch.zeros(M, M, limit, 2 * limit, dtype=torch.float64)
    for l in range(limit):
        inner = slice(limit - 1 - l, limit + l)
        # (beta, m, n) -> (m, n, beta)
        table[inner, inner, l] = math.sqrt(2 * l + 1) * wigner_d(l, _across(_betas(limit))).permute(1, 2, 0)
    return table.reshape(M * M, limit, 2 * limit)  # (m, n, l, beta) -> (m and n, l, beta)


def _alphas(limit: int) -> Tensor:
    """float64 (m and sign, alpha): Z_mm = cos m alpha; Z_-m,m = sin m alpha."""
    angle = math.pi / limit * torch.arange(2 * limit, dtype=torch.float64)
    m = torch.arange(-(limit - 1), limit, dtype=torch.float64)[:, None]
    # (m, sign, alpha) -> (m and sign, alpha)
    return torch.stack([(m * angle).cos(), (m * angle).sin()], 1).flatten(0, 1)


def _gammas(limit: int) -> Tensor:
    """float64 (n and sign, gamma): Z_nn = cos n gamma; Z_n,-n = -sin n gamma."""
    signs = torch.tensor([1.0, -1.0], dtype=torch.float64).repeat(2 * limit - 1)
    return _alphas(limit) * signs[:, None]


def _weights(limit: int) -> Tensor:
    """float64 (beta): of a sample in the mean over all rotations."""
    beta = _betas(limit)[:, None]
    odd = 2 * torch.arange(limit, dtype=torch.float64) + 1
    ring = 2 / limit * beta[:, 0].sin() * ((odd * beta).sin() / odd).sum(1)  # they sum to 2
    return ring / 2 / (2 * limit) ** 2
