# Made by basisgen 0.1.0 with `basisgen compile tetris.toml`; do not edit.
"""Conv3: a convolution equivariant to rotations, SO(3).

in       16x0 + 16x1 + 16x2
out      32x0 + 16x1 + 16x2 + 32x0, the last term for gates
kernel   5x5x5 taps; radial family shells (cutoff compromise, sigma 3/5)
weights  15616, where a plain convolution has 3456000

out   in    J  profiles  weights
32x0  16x0  0         3     1536
32x0  16x1  1         2     1024
32x0  16x2  2         2     1024
16x1  16x0  1         2      512
16x1  16x1  0         3      768
16x1  16x1  1         2      512
16x1  16x1  2         2      512
16x1  16x2  1         2      512
16x1  16x2  2         2      512
16x1  16x2  3         2      512
16x2  16x0  2         2      512
16x2  16x1  1         2      512
16x2  16x1  2         2      512
16x2  16x1  3         2      512
16x2  16x2  0         3      768
16x2  16x2  1         2      512
16x2  16x2  2         2      512
16x2  16x2  3         2      512
16x2  16x2  4         1      256
32x0  16x0  0         3     1536
32x0  16x1  1         2     1024
32x0  16x2  2         2     1024
"""

from ._steerable import SteerableConv3d


class Conv3(SteerableConv3d):
    """(batch, 144, x, y, z) -> (batch, 192, x', y', z')."""

    # (multiplicity, degree, parity) of each term; the parity of an SO(3) field is None
    in_type = ((16, 0, None), (16, 1, None), (16, 2, None))
    out_type = ((32, 0, None), (16, 1, None), (16, 2, None), (32, 0, None))
    kernel_size = (5, 5, 5)
    dilation = (1, 1, 1)
    filter_tensor = "filters_5x5x5"
    # (degree J, first of its filters, one past its last)
    rows = ((0, 0, 3), (1, 3, 9), (2, 9, 19), (3, 19, 33), (4, 33, 42))
    # (out term, in term, J), in the order of the weights
    paths = (
        (0, 0, 0),
        (0, 1, 1),
        (0, 2, 2),
        (1, 0, 1),
        (1, 1, 0),
        (1, 1, 1),
        (1, 1, 2),
        (1, 2, 1),
        (1, 2, 2),
        (1, 2, 3),
        (2, 0, 2),
        (2, 1, 1),
        (2, 1, 2),
        (2, 1, 3),
        (2, 2, 0),
        (2, 2, 1),
        (2, 2, 2),
        (2, 2, 3),
        (2, 2, 4),
        (3, 0, 0),
        (3, 1, 1),
        (3, 2, 2),
    )
