"""What a generated convolution should compute, from manifest, certificate and the numbers already checked.

    kernel[m, n](x) = sum over paths and profiles of  weight * scale * C[m, n; J, M] * filter[J, M](x) / |filter[J]|
    scale           = sqrt((2j+1) / sum over the paths into the same output term of  multiplicity in * profiles)
    output          = cross-correlation of input and kernel, plus a bias on the invariant scalars

A path is an (output term, input term, J), in this order; it has one weight per (profile, copy out, copy in).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from fractions import Fraction
from itertools import accumulate
from typing import NamedTuple

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from basisgen.verify.manifest import Layer, Term
from basisgen.verify.rotations import Turn, permutation, pitch, turn_matrix, turns_of
from basisgen.verify.statement import Certificate

Array = NDArray[np.float64]


class TermPath(NamedTuple):
    """The kernels of degree J between two terms, and the filters of each profile."""

    out_term: int
    in_term: int
    J: int
    profiles: tuple[slice, ...]


def paths(layer: Layer, certificate: Certificate) -> list[TermPath]:
    """The paths of a layer in the order of its weights."""
    profiles: dict[int, tuple[slice, ...]] = {}
    start = 0
    for J, _ in certificate.filters[layer.filter_tensor].groups:
        profiles[J] = (*profiles.get(J, ()), slice(start, start + 2 * J + 1))
        start += 2 * J + 1
    degrees = {(pair.out, pair.into): pair.degrees for pair in certificate.pairs}
    return [
        TermPath(o, i, J, profiles[J])
        for o, out in enumerate(layer.out)
        for i, into in enumerate(layer.into)
        for J in degrees[out.irrep, into.irrep]
        if J in profiles
    ]


def weight_count(layer: Layer, certificate: Certificate) -> int:
    """The number of learned weights, biases not counted."""
    return sum(
        len(path.profiles) * layer.out[path.out_term].multiplicity * layer.into[path.in_term].multiplicity
        for path in paths(layer, certificate)
    )


def fan_in(layer: Layer, all_paths: Iterable[TermPath]) -> list[int]:
    """For each output term the sum of multiplicity in * profiles over the paths into it."""
    fan = [0] * len(layer.out)
    for path in all_paths:
        fan[path.out_term] += len(path.profiles) * layer.into[path.in_term].multiplicity
    return fan


def kernel(layer: Layer, certificate: Certificate, tensors: Mapping[str, Array], weights: Array) -> Array:
    """The dense kernel, float64 (channel out, channel in, x, y, z)."""
    filters = tensors[layer.filter_tensor].reshape(-1, int(np.prod(layer.size)))  # (filter, tap)
    kernel = np.zeros((channels(layer.out), channels(layer.into), filters.shape[1]))
    channels_out, channels_in, all_paths = slices(layer.out), slices(layer.into), paths(layer, certificate)
    fan, start = fan_in(layer, all_paths), 0
    for path in all_paths:
        out, into = layer.out[path.out_term], layer.into[path.in_term]
        j, l, J = out.irrep.degree, into.irrep.degree, path.J
        shape = (len(path.profiles), out.multiplicity, into.multiplicity)
        stop = start + int(np.prod(shape))
        first = J**2 - (j - l) ** 2
        C = tensors[f"clebsch_gordan_{j}_{l}"][:, :, first : first + 2 * J + 1]
        F = np.stack([filters[profile] / np.linalg.norm(filters[profile]) for profile in path.profiles])
        basis = np.einsum("mnM,bMx->bmnx", C, F) * ((2 * j + 1) / fan[path.out_term]) ** 0.5  # (profile, m, n, tap)
        # (copy out, m, copy in, n, tap)
        block = np.einsum("bop,bmnx->ompnx", weights[start:stop].reshape(shape), basis, optimize=True)
        part = kernel[channels_out[path.out_term], channels_in[path.in_term]]
        part += block.reshape(part.shape)  # (copy out and m, copy in and n, tap)
        start = stop
    return kernel.reshape(*kernel.shape[:2], *layer.size)  # (channel out, channel in, x, y, z)


def output_size(size: Sequence[int], layer: Layer, stride: Sequence[int], padding: Sequence[int]) -> tuple[int, ...]:
    """The x, y, z of a convolution's output, as of torch's conv3d."""
    axes = zip(size, layer.size, layer.dilation, stride, padding, strict=True)
    return tuple((n + 2 * p - d * (k - 1) - 1) // s + 1 for n, k, d, s, p in axes)


def correlate(
    volume: Array, kernel: Array, bias: Array, layer: Layer, stride: Sequence[int], padding: Sequence[int]
) -> Array:
    """(channel out, x, y, z) of a volume (channel in, x, y, z), as conv3d is defined; one row of z at a time."""
    padded = np.pad(volume, [(0, 0), *((p, p) for p in padding)])
    extent = [(k - 1) * d + 1 for k, d in zip(layer.size, layer.dilation, strict=True)]
    windows = sliding_window_view(padded, extent, axis=(1, 2, 3))  # (channel in, x, y, z, three axes of taps)
    windows = windows[(slice(None), *(slice(None, None, step) for step in (*stride, *layer.dilation)))]
    output = np.zeros((len(kernel), *windows.shape[1:4])) + bias.reshape(-1, 1, 1, 1)
    for x, y in np.ndindex(output.shape[1:3]):
        output[:, x, y] += np.tensordot(kernel, windows[:, x, y], ([1, 2, 3, 4], [0, 2, 3, 4]))  # (channel out, z)
    return output


def grid_turns(layer: Layer) -> list[Turn]:
    """The turns that map the layer's taps onto themselves; with mirrors for fields with parity."""
    return turns_of(layer.size, pitch(layer.dilation, layer.spacing), mirrors=layer.out[0].irrep.parity is not None)


def turned_kernel(kernel: Array, layer: Layer, certificate: Certificate, g: Turn) -> tuple[Array, Array]:
    """kernel(g x) and D_out(g) kernel(x) D_in(g)^-1, (channel out, channel in, tap): the law says they are equal."""
    flat = kernel.reshape(*kernel.shape[:2], -1)  # (channel out, channel in, tap)
    from_left = mix(flat, layer.out, certificate, g)
    # (channel in, channel out, tap) and back
    expected = mix(from_left.swapaxes(0, 1), layer.into, certificate, g).swapaxes(0, 1)
    return flat[:, :, permutation(layer.size, pitch(layer.dilation, layer.spacing), g)], expected


def turned_field(
    field: Array, terms: Sequence[Term], spacing: Sequence[Fraction], certificate: Certificate, g: Turn
) -> Array:
    """D(g) field(g^-1 x), for a field (channel, x, y, z) on a grid that g maps onto itself."""
    mixed = mix(field.reshape(len(field), -1), terms, certificate, g)  # (channel, voxel)
    turned = np.empty_like(mixed)
    turned[:, permutation(field.shape[1:], spacing, g)] = mixed
    return turned.reshape(field.shape)  # (channel, x, y, z)


def mix(values: Array, terms: Sequence[Term], certificate: Certificate, g: Turn) -> Array:
    """D(g) on the first axis, channel."""
    mixed = np.empty_like(values)
    matrices = {irrep: turn_matrix(irrep, certificate.harmonics[irrep.degree], g) for irrep in {t.irrep for t in terms}}
    for term, part in zip(terms, slices(terms), strict=True):
        D = matrices[term.irrep]
        copies = values[part].reshape(term.multiplicity, term.dimension, -1)  # (copy, component, ..)
        mixed[part] = (D @ copies).reshape(values[part].shape)  # (m, n) @ (copy, n, ..)
    return mixed


def channels(terms: Sequence[Term]) -> int:
    """The number of channels of a field type."""
    return sum(term.multiplicity * term.dimension for term in terms)


def slices(terms: Sequence[Term]) -> list[slice]:
    """The channels of each term."""
    stops = accumulate(term.multiplicity * term.dimension for term in terms)
    return [slice(stop - term.multiplicity * term.dimension, stop) for term, stop in zip(terms, stops, strict=True)]


def invariant_channels(terms: Sequence[Term]) -> list[int]:
    """The channels that carry a bias: scalars nothing changes, inversion included."""
    return [
        channel
        for term, part in zip(terms, slices(terms), strict=True)
        if term.irrep.degree == 0 and term.irrep.parity != -1
        for channel in range(part.start, part.stop)
    ]
