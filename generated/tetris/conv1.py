# Made by basisgen 0.1.0 with `basisgen compile tetris.toml`; do not edit.
"""Conv1: a convolution equivariant to rotations, SO(3).

in       1x0
out      4x0 + 4x1 + 4x2 + 8x0, the last term for gates
weights  52, where a plain convolution has 5500
cost     5500 multiply-adds per voxel, as many as a plain convolution; 104500 per call for the kernel
"""

from ._steerable import Filters, SteerableConv3d, TermPath


class Conv1(SteerableConv3d):
    """(batch, 1, x, y, z) -> (batch, 44, x', y', z')."""

    # (multiplicity, degree, parity) of each term; the parity of an SO(3) field is None
    in_type = ((1, 0, None),)
    out_type = ((4, 0, None), (4, 1, None), (4, 2, None), (8, 0, None))
    kernel_size = (5, 5, 5)
    voxel_spacing = (1.0, 1.0, 1.0)
    dilation = (1, 1, 1)
    sampling = "5x5x5 taps; radial family shells (cutoff compromise, sigma 3/5)"
    fingerprint = "ba6c153068dc479b"  # of all that gives the weights their meaning
    # what `filters_5x5x5` in basis.safetensors holds, in order
    basis_sha256 = "a3540e266bce2a5961faeaaa189c9d59147a0f0a421ad2c95edd011a2792f769"
    filter_tensor = "filters_5x5x5"
    filters = (
        Filters(J=0, profiles=3),
        Filters(J=1, profiles=2),
        Filters(J=2, profiles=2),
        Filters(J=3, profiles=2),
        Filters(J=4, profiles=1),
    )
    # what the weights multiply, in their order
    paths = (
        TermPath(out=0, into=0, J=0),  # 1x0 -> 4x0, 3 profiles, weight[0:12]
        TermPath(out=1, into=0, J=1),  # 1x0 -> 4x1, 2 profiles, weight[12:20]
        TermPath(out=2, into=0, J=2),  # 1x0 -> 4x2, 2 profiles, weight[20:28]
        TermPath(out=3, into=0, J=0),  # 1x0 -> 8x0, 3 profiles, weight[28:52]
    )
