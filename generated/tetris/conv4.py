# Made by basisgen 0.1.0 with `basisgen compile tetris.toml`; do not edit.
"""Conv4: a convolution equivariant to rotations, SO(3).

in       32x0 + 16x1 + 16x2
out      8x0
weights  1280, where a plain convolution has 160000
cost     160000 multiply-adds per voxel, as many as a plain convolution; 3040000 per call for the kernel
"""

from ._steerable import Filters, SteerableConv3d, TermPath


class Conv4(SteerableConv3d):
    """(batch, 160, x, y, z) -> (batch, 8, x', y', z')."""

    # (multiplicity, degree, parity) of each term; the parity of an SO(3) field is None
    in_type = ((32, 0, None), (16, 1, None), (16, 2, None))
    out_type = ((8, 0, None),)
    kernel_size = (5, 5, 5)
    voxel_spacing = (1.0, 1.0, 1.0)
    dilation = (1, 1, 1)
    sampling = "5x5x5 taps; radial family shells (cutoff compromise, sigma 3/5)"
    fingerprint = "bb6a6814901bf2e4"  # of all that gives the weights their meaning
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
        TermPath(out=0, into=0, J=0),  # 32x0 -> 8x0, 3 profiles, weight[0:768]
        TermPath(out=0, into=1, J=1),  # 16x1 -> 8x0, 2 profiles, weight[768:1024]
        TermPath(out=0, into=2, J=2),  # 16x2 -> 8x0, 2 profiles, weight[1024:1280]
    )
