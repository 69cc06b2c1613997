"""Zonal convolutions: what `zonal_*` of a package must hold, how many maps they are, and what a module must compute.

    table[l, a] = 2 pi sqrt(4 pi / (2l+1)) hat_a(l),        hat_a: 1 at anchor a, 0 at the others, straight between

For each degree the two anchors about it are found, and weighted by the distance to the other. Anchor a lies at degree
a (L-1)/(A-1). Every anchor has a degree less than one step away that no earlier
anchor has, so by the theorem of Schoenberg and Whitney the columns are independent: A maps for each pair of signals.
Source: Esteves et al. 2018, arXiv:1711.06721; Schoenberg and Whitney 1953.
"""

from __future__ import annotations

import mpmath
import numpy as np
from numpy.typing import NDArray

from basisgen.verify.spheres.statement import StatementError, Zonal

Array = NDArray[np.float64]
DIGITS = 60


def expected(L: int, anchors: int) -> Array:
    """(degree, anchor), the nearest float64."""
    table = np.zeros((L, anchors))
    with mpmath.workdps(DIGITS):
        for l in range(L):
            scale = 2 * mpmath.pi * mpmath.sqrt(4 * mpmath.pi / (2 * l + 1))
            below, beyond = divmod(l * (anchors - 1), max(L - 1, 1))  # beyond / (L-1): of the step to the next anchor
            table[l, below] = float(scale * (L - 1 - beyond) / (L - 1)) if L > 1 else float(scale)
            if beyond:
                table[l, below + 1] = float(scale * beyond / (L - 1))
    return table


def counts(layer: Zonal) -> tuple[int, int]:
    """Weights, and the dimension of all equivariant maps: by Schur's lemma a number per degree and pair of signals.

    Raises StatementError where there are more anchors than degrees, or the fields are not signals.
    """
    for field in (layer.into, layer.out):
        if [term.degree for term in field] != list(range(len(field))) or len({term.multiplicity for term in field}) > 1:
            raise StatementError(f"{layer.name} is between fields that are not signals")
    if not 1 <= layer.anchors <= len(layer.out) <= len(layer.into):
        raise StatementError(f"{layer.name} has {layer.anchors} anchors on {len(layer.out)} degrees")
    return layer.anchors * layer.filters, len(layer.out) * layer.filters


def convolution(layer: Zonal, x: Array, random: np.random.Generator) -> tuple[Array, Array, Array]:
    """Random weights (signal in, anchor, signal out) and bias, and the output by the definition."""
    K, after, L = layer.into[0].multiplicity, layer.out[0].multiplicity, len(layer.out)
    weight, bias = random.normal(size=(K, layer.anchors, after)), random.normal(size=after)
    parts, first = [], 0
    for l in range(L):
        field = x[:, first : first + K * (2 * l + 1)].reshape(len(x), K, 2 * l + 1)  # (batch, signal in, component)
        first += K * (2 * l + 1)
        place = l * (layer.anchors - 1) / max(L - 1, 1)
        low, high = int(np.floor(place)), min(int(np.floor(place)) + 1, layer.anchors - 1)
        h = weight[:, low] + (place - low) * (weight[:, high] - weight[:, low])  # (signal in, signal out)
        # (batch, signal out, component)
        out = 2 * np.pi * np.sqrt(4 * np.pi / (2 * l + 1)) * np.einsum("io,bim->bom", h, field)
        parts.append((out + bias[:, None] if l == 0 else out).reshape(len(x), -1))  # (batch, signal out and component)
    return weight, bias, np.concatenate(parts, axis=1)
