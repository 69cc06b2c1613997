"""Coefficients of signals in other libraries' conventions.

Ours are real, packed (..., coefficient) with number l^2 + l + m. Others' are complex, of harmonics with the
Condon-Shortley phase (scipy's `sph_harm_y`), a_l,-m = (-1)^m conj(a_lm) for a real signal; for m > 0

    a_lm = (-1)^m (f_lm - i f_l,-m) / sqrt(2),        a_l0 = f_l0

    e3nn              real, the same numbers: nothing to convert (harmonics of normalization="integral")
    scipy, pyssht     complex, packed as ours                      to_complex, from_complex
    s2fft             complex, (..., L, 2L - 1), order at L-1+m    to_s2fft, from_s2fft
    torch-harmonics   complex, (..., L, L), orders m >= 0          to_torch_harmonics, from_torch_harmonics

All harmonics are orthonormal on the sphere. Colatitude and longitude are the same angles; the axes (x, y, z) of the
others are our (z, x, y).
"""

import math

import torch
from torch import Tensor

from ..layer import is_readable

_TOLERANCE = 1e-4  # of the largest coefficient, for a complex signal that is called real


def to_complex(coefficients: Tensor) -> Tensor:
    """Real (..., coefficient) -> complex (..., coefficient), as scipy's harmonics and pyssht have them."""
    limit, m = _orders(coefficients.shape[-1], coefficients.device)
    opposite = torch.arange(limit**2, device=coefficients.device) - 2 * m
    mirrored = coefficients[..., opposite]
    positive = torch.complex(coefficients, -mirrored) * math.sqrt(0.5)
    negative = torch.complex(mirrored, coefficients) * math.sqrt(0.5)  # of f_l,-m and f_l|m|: conj without the sign
    sign = 1 - 2 * (m % 2)
    zero = torch.complex(coefficients, torch.zeros_like(coefficients))
    return torch.where(m > 0, sign * positive, torch.where(m < 0, negative, zero))


def from_complex(coefficients: Tensor) -> Tensor:
    """Complex (..., coefficient) of a real signal -> real (..., coefficient).

    Raises ValueError if the signal is not real: a_l,-m must be (-1)^m conj(a_lm).
    """
    limit, m = _orders(coefficients.shape[-1], coefficients.device)
    sign = 1 - 2 * (m % 2)
    opposite = torch.arange(limit**2, device=coefficients.device) - 2 * m
    other = sign * coefficients[..., opposite].conj()
    if is_readable(coefficients.detach()) and coefficients.numel():
        off, largest = (coefficients - other).abs().max().item(), coefficients.abs().max().item()
        if off > _TOLERANCE * largest:
            raise ValueError(
                f"these are coefficients of a complex signal: a_l,-m and (-1)^m conj(a_lm) differ by {off:.1e} where "
                f"the largest is {largest:.1e}. Convert real and imaginary parts of the signal by themselves."
            )
    both = (coefficients + other) / 2
    cosine, sine = math.sqrt(2) * sign * both.real, -math.sqrt(2) * sign * both[..., opposite].imag
    return torch.where(m > 0, cosine, torch.where(m < 0, sine, both.real))


def to_s2fft(coefficients: Tensor) -> Tensor:
    """Real (..., coefficient) -> complex (..., l, L - 1 + m), zero for |m| > l."""
    limit, m = _orders(coefficients.shape[-1], coefficients.device)
    values = to_complex(coefficients)
    table = values.new_zeros(*values.shape[:-1], limit, 2 * limit - 1)
    table[..., _degrees(limit, m), limit - 1 + m] = values
    return table


def from_s2fft(table: Tensor) -> Tensor:
    """Complex (..., l, L - 1 + m) of a real signal -> real (..., coefficient)."""
    limit = table.shape[-2]
    if table.shape[-1] != 2 * limit - 1:
        raise ValueError(f"s2fft's coefficients are (..., L, 2 L - 1), got {tuple(table.shape)}.")
    _, m = _orders(limit**2, table.device)
    return from_complex(table[..., _degrees(limit, m), limit - 1 + m])


def to_torch_harmonics(coefficients: Tensor) -> Tensor:
    """Real (..., coefficient) -> complex (..., l, m), m = 0..L-1, zero for m > l, as `RealSHT` gives it."""
    limit = math.isqrt(coefficients.shape[-1])
    return to_s2fft(coefficients)[..., limit - 1 :]


def from_torch_harmonics(table: Tensor) -> Tensor:
    """Complex (..., l, m), m >= 0 -> real (..., coefficient). Fewer orders than degrees are taken as zeros.

    The imaginary part of order 0 means nothing and is left out.
    """
    limit, orders = table.shape[-2:]
    table = torch.nn.functional.pad(torch.view_as_real(table), (0, 0, 0, max(0, limit - orders)))[..., :limit, :]
    _, m = _orders(limit**2, table.device)
    values = table[..., _degrees(limit, m), m.abs(), :]  # a_l|m|, (..., coefficient, real and imaginary part)
    sign = 1 - 2 * (m % 2)
    cosine, sine = math.sqrt(2) * sign * values[..., 0], -math.sqrt(2) * sign * values[..., 1]
    return torch.where(m > 0, cosine, torch.where(m < 0, sine, values[..., 0]))


def _orders(count: int, device: torch.device) -> tuple[int, Tensor]:
    """Band limit and the order m of every coefficient. Raises ValueError if the count is not a square."""
    limit = math.isqrt(count)
    if limit**2 != count or count == 0:
        raise ValueError(f"{count} coefficients are not a whole signal: band limit L has L^2.")
    return limit, torch.cat([torch.arange(-l, l + 1, device=device) for l in range(limit)])


def _degrees(limit: int, m: Tensor) -> Tensor:
    return torch.repeat_interleave(torch.arange(limit, device=m.device), 2 * torch.arange(limit, device=m.device) + 1)
