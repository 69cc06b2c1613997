"""HEALPix maps in ring order: pixel centres, and coefficients by approximate quadrature with its error stated.

4 nside - 1 rings of equal-area pixels, N = 12 nside^2. Plain quadrature, f_lm = 4 pi / N sum_i f_i Y_lm(u_i), is not
exact. With the Gram matrix G = 4 pi / N Y^T Y and E = 1 - G, k corrections by what is left over make the error E^(k+1).
Source: Gorski et al., "HEALPix", 2005, arXiv:astro-ph/0409513, section 5; the corrections are healpy's `iter`.
"""

import math

import torch
from torch import Tensor

from .signals import harmonics


def healpix_directions(nside: int) -> Tensor:
    """Unit vectors of the pixel centres in ring order, float64 (12 nside^2, 3); the pole is y, longitude 0 along z.

    Raises ValueError unless nside is at least 1.
    """
    if nside < 1:
        raise ValueError(f"a HEALPix map has nside >= 1, got {nside}.")
    heights, longitudes = [], []
    for ring in range(1, 4 * nside):
        from_pole = min(ring, 4 * nside - ring)
        count = 4 * min(from_pole, nside)
        if from_pole < nside:
            height = math.copysign(1 - from_pole**2 / (3 * nside**2), 2 * nside - ring)
            shift = 0.5
        else:
            height = 4 / 3 - 2 * ring / (3 * nside)
            shift = (ring - nside + 1) % 2 / 2
        heights.append(torch.full((count,), height, dtype=torch.float64))
        longitudes.append((torch.arange(count, dtype=torch.float64) + shift) * (2 * math.pi / count))
    z, phi = torch.cat(heights), torch.cat(longitudes)
    sine = (1 - z.square()).clamp_min(0).sqrt()
    return torch.stack([sine * phi.sin(), z, sine * phi.cos()], -1)


def from_healpix(maps: Tensor, limit: int, *, corrections: int = 3) -> Tensor:
    """Coefficients of maps in ring order: (..., pixel) -> packed (..., coefficient); see `healpix_error`.

    Raises ValueError if the number of pixels is not 12 nside^2.
    """
    table = harmonics(limit, healpix_directions(_nside(maps.shape[-1]))).to(maps)
    scale = 4 * math.pi / maps.shape[-1]
    coefficients = scale * (maps @ table)  # (.., pixel) @ (pixel, coefficient)
    for _ in range(corrections):
        # (.., pixel) -> (.., coefficient)
        coefficients = coefficients + scale * ((maps - coefficients @ table.mT) @ table)
    return coefficients


def to_healpix(coefficients: Tensor, nside: int) -> Tensor:
    """Maps in ring order of signals: packed (..., coefficient) -> (..., pixel)."""
    limit = math.isqrt(coefficients.shape[-1])
    # (.., coefficient) @ (coefficient, pixel)
    return coefficients @ harmonics(limit, healpix_directions(nside)).to(coefficients).mT


def healpix_error(nside: int, limit: int, *, corrections: int = 3) -> float:
    """The worst relative error of `from_healpix` over all signals of a band limit, |E|_2^(corrections + 1).

    What a map holds above the band limit is aliased on top of that. Costs limit^6 / 2 operations: seconds at 32.
    """
    table = harmonics(limit, healpix_directions(nside))
    gram = 4 * math.pi / table.shape[0] * (table.mT @ table)  # (coefficient, coefficient)
    values = torch.linalg.eigvalsh(torch.eye(limit**2, dtype=gram.dtype) - gram)
    return float(values.abs().max()) ** (corrections + 1)


def _nside(pixels: int) -> int:
    nside = math.isqrt(pixels // 12)
    if pixels == 0 or 12 * nside**2 != pixels:
        raise ValueError(f"{pixels} pixels are not a HEALPix map, which has 12 nside^2: 12, 48, 108, 192, ..")
    return nside
