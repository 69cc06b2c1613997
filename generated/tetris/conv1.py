# Made by basisgen 0.1.0 with `basisgen compile tetris.toml`; do not edit.
"""Conv1: a convolution equivariant to rotations, SO(3).

in       1x0
out      4x0 + 4x1 + 4x2 + 8x0, the last term for gates
kernel   5x5x5 taps; radial family shells (cutoff compromise, sigma 3/5)
weights  52, where a plain convolution has 5500

out  in   J  profiles  weights
4x0  1x0  0         3       12
4x1  1x0  1         2        8
4x2  1x0  2         2        8
8x0  1x0  0         3       24
"""

from ._steerable import SteerableConv3d


class Conv1(SteerableConv3d):
    """(batch, 1, x, y, z) -> (batch, 44, x', y', z')."""

    # (multiplicity, degree, parity) of each term; the parity of an SO(3) field is None
    in_type = ((1, 0, None),)
    out_type = ((4, 0, None), (4, 1, None), (4, 2, None), (8, 0, None))
    kernel_size = (5, 5, 5)
    dilation = (1, 1, 1)
    filter_tensor = "filters_5x5x5"
    # (degree J, first of its filters, one past its last)
    rows = ((0, 0, 3), (1, 3, 9), (2, 9, 19))
    # (out term, in term, J), in the order of the weights
    paths = (
        (0, 0, 0),
        (1, 0, 1),
        (2, 0, 2),
        (3, 0, 0),
    )
