# Made by basisgen 0.1.0 with `basisgen compile tetris.toml`; do not edit.
"""Conv2: a convolution equivariant to rotations, SO(3).

in       4x0 + 4x1 + 4x2
out      16x0 + 16x1 + 16x2 + 32x0, the last term for gates
weights  3456, where a plain convolution has 792000
cost     792000 multiply-adds per voxel, as many as a plain convolution; 33264000 per call for the kernel
"""

from ._steerable import Filters, SteerableConv3d, TermPath


class Conv2(SteerableConv3d):
    """(batch, 36, x, y, z) -> (batch, 176, x', y', z')."""

    # (multiplicity, degree, parity) of each term; the parity of an SO(3) field is None
    in_type = ((4, 0, None), (4, 1, None), (4, 2, None))
    out_type = ((16, 0, None), (16, 1, None), (16, 2, None), (32, 0, None))
    kernel_size = (5, 5, 5)
    voxel_spacing = (1.0, 1.0, 1.0)
    dilation = (1, 1, 1)
    sampling = "5x5x5 taps; radial family shells (cutoff compromise, sigma 3/5)"
    fingerprint = "dd9f15eee93eff9d"  # of all that gives the weights their meaning
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
        TermPath(out=0, into=0, J=0),  # 4x0 -> 16x0, 3 profiles, weight[0:192]
        TermPath(out=0, into=1, J=1),  # 4x1 -> 16x0, 2 profiles, weight[192:320]
        TermPath(out=0, into=2, J=2),  # 4x2 -> 16x0, 2 profiles, weight[320:448]
        TermPath(out=1, into=0, J=1),  # 4x0 -> 16x1, 2 profiles, weight[448:576]
        TermPath(out=1, into=1, J=0),  # 4x1 -> 16x1, 3 profiles, weight[576:768]
        TermPath(out=1, into=1, J=1),  # 4x1 -> 16x1, 2 profiles, weight[768:896]
        TermPath(out=1, into=1, J=2),  # 4x1 -> 16x1, 2 profiles, weight[896:1024]
        TermPath(out=1, into=2, J=1),  # 4x2 -> 16x1, 2 profiles, weight[1024:1152]
        TermPath(out=1, into=2, J=2),  # 4x2 -> 16x1, 2 profiles, weight[1152:1280]
        TermPath(out=1, into=2, J=3),  # 4x2 -> 16x1, 2 profiles, weight[1280:1408]
        TermPath(out=2, into=0, J=2),  # 4x0 -> 16x2, 2 profiles, weight[1408:1536]
        TermPath(out=2, into=1, J=1),  # 4x1 -> 16x2, 2 profiles, weight[1536:1664]
        TermPath(out=2, into=1, J=2),  # 4x1 -> 16x2, 2 profiles, weight[1664:1792]
        TermPath(out=2, into=1, J=3),  # 4x1 -> 16x2, 2 profiles, weight[1792:1920]
        TermPath(out=2, into=2, J=0),  # 4x2 -> 16x2, 3 profiles, weight[1920:2112]
        TermPath(out=2, into=2, J=1),  # 4x2 -> 16x2, 2 profiles, weight[2112:2240]
        TermPath(out=2, into=2, J=2),  # 4x2 -> 16x2, 2 profiles, weight[2240:2368]
        TermPath(out=2, into=2, J=3),  # 4x2 -> 16x2, 2 profiles, weight[2368:2496]
        TermPath(out=2, into=2, J=4),  # 4x2 -> 16x2, 1 profile, weight[2496:2560]
        TermPath(out=3, into=0, J=0),  # 4x0 -> 32x0, 3 profiles, weight[2560:2944]
        TermPath(out=3, into=1, J=1),  # 4x1 -> 32x0, 2 profiles, weight[2944:3200]
        TermPath(out=3, into=2, J=2),  # 4x2 -> 32x0, 2 profiles, weight[3200:3456]
    )
