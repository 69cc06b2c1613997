# Made by basisgen 0.1.0 with `basisgen compile tetris.toml`; do not edit.
"""Conv3: a convolution equivariant to rotations, SO(3).

in       16x0 + 16x1 + 16x2
out      32x0 + 16x1 + 16x2 + 32x0, the last term for gates
weights  15616, where a plain convolution has 3456000
cost     3456000 multiply-adds per voxel, as many as a plain convolution; 145152000 per call for the kernel
"""

from ._steerable import Filters, SteerableConv3d, TermPath


class Conv3(SteerableConv3d):
    """(batch, 144, x, y, z) -> (batch, 192, x', y', z')."""

    # (multiplicity, degree, parity) of each term; the parity of an SO(3) field is None
    in_type = ((16, 0, None), (16, 1, None), (16, 2, None))
    out_type = ((32, 0, None), (16, 1, None), (16, 2, None), (32, 0, None))
    kernel_size = (5, 5, 5)
    voxel_spacing = (1.0, 1.0, 1.0)
    dilation = (1, 1, 1)
    sampling = "5x5x5 taps; radial family shells (cutoff compromise, sigma 3/5)"
    fingerprint = "f7766d459c6c7784"  # of all that gives the weights their meaning
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
        TermPath(out=0, into=0, J=0),  # 16x0 -> 32x0, 3 profiles, weight[0:1536]
        TermPath(out=0, into=1, J=1),  # 16x1 -> 32x0, 2 profiles, weight[1536:2560]
        TermPath(out=0, into=2, J=2),  # 16x2 -> 32x0, 2 profiles, weight[2560:3584]
        TermPath(out=1, into=0, J=1),  # 16x0 -> 16x1, 2 profiles, weight[3584:4096]
        TermPath(out=1, into=1, J=0),  # 16x1 -> 16x1, 3 profiles, weight[4096:4864]
        TermPath(out=1, into=1, J=1),  # 16x1 -> 16x1, 2 profiles, weight[4864:5376]
        TermPath(out=1, into=1, J=2),  # 16x1 -> 16x1, 2 profiles, weight[5376:5888]
        TermPath(out=1, into=2, J=1),  # 16x2 -> 16x1, 2 profiles, weight[5888:6400]
        TermPath(out=1, into=2, J=2),  # 16x2 -> 16x1, 2 profiles, weight[6400:6912]
        TermPath(out=1, into=2, J=3),  # 16x2 -> 16x1, 2 profiles, weight[6912:7424]
        TermPath(out=2, into=0, J=2),  # 16x0 -> 16x2, 2 profiles, weight[7424:7936]
        TermPath(out=2, into=1, J=1),  # 16x1 -> 16x2, 2 profiles, weight[7936:8448]
        TermPath(out=2, into=1, J=2),  # 16x1 -> 16x2, 2 profiles, weight[8448:8960]
        TermPath(out=2, into=1, J=3),  # 16x1 -> 16x2, 2 profiles, weight[8960:9472]
        TermPath(out=2, into=2, J=0),  # 16x2 -> 16x2, 3 profiles, weight[9472:10240]
        TermPath(out=2, into=2, J=1),  # 16x2 -> 16x2, 2 profiles, weight[10240:10752]
        TermPath(out=2, into=2, J=2),  # 16x2 -> 16x2, 2 profiles, weight[10752:11264]
        TermPath(out=2, into=2, J=3),  # 16x2 -> 16x2, 2 profiles, weight[11264:11776]
        TermPath(out=2, into=2, J=4),  # 16x2 -> 16x2, 1 profile, weight[11776:12032]
        TermPath(out=3, into=0, J=0),  # 16x0 -> 32x0, 3 profiles, weight[12032:13568]
        TermPath(out=3, into=1, J=1),  # 16x1 -> 32x0, 2 profiles, weight[13568:14592]
        TermPath(out=3, into=2, J=2),  # 16x2 -> 32x0, 2 profiles, weight[14592:15616]
    )
