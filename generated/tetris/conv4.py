# Made by basisgen 0.1.0 with `basisgen compile tetris.toml`; do not edit.
"""Conv4: a convolution equivariant to rotations, SO(3).

in       32x0 + 16x1 + 16x2
out      8x0
kernel   5x5x5 taps; radial family shells (cutoff compromise, sigma 3/5)
weights  1280, where a plain convolution has 160000

out  in    J  profiles  weights
8x0  32x0  0         3      768
8x0  16x1  1         2      256
8x0  16x2  2         2      256
"""

from ._steerable import SteerableConv3d


class Conv4(SteerableConv3d):
    """(batch, 160, x, y, z) -> (batch, 8, x', y', z')."""

    # (multiplicity, degree, parity) of each term; the parity of an SO(3) field is None
    in_type = ((32, 0, None), (16, 1, None), (16, 2, None))
    out_type = ((8, 0, None),)
    kernel_size = (5, 5, 5)
    dilation = (1, 1, 1)
    filter_tensor = "filters_5x5x5"
    # (degree J, first of its filters, one past its last)
    rows = ((0, 0, 3), (1, 3, 9), (2, 9, 19))
    # (out term, in term, J), in the order of the weights
    paths = (
        (0, 0, 0),
        (0, 1, 1),
        (0, 2, 2),
    )
