"""The kernel of `_on_triton`, which imports this where it runs.

    out[row, lane] = sum over entries e of the row of  value[e] first[left[e], lane] second[right[e], lane]

A program makes one row of some lanes. It writes what no other does, so that the same fields give the same bits again.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

LANES = 512  # of a program: four a thread, which are read at once; where there are few, a quarter


@triton.jit
def _row(out, first, second, start, left, right, value, rows, lanes, LANES: tl.constexpr):
    # programs of the same lanes follow one another: what they read is in cache
    program = tl.program_id(0)
    row = program % rows
    lane = program // rows * LANES + tl.arange(0, LANES)
    inside = lane < lanes
    total = tl.zeros((LANES,), value.dtype.element_ty)
    for e in range(tl.load(start + row), tl.load(start + row + 1)):
        a = tl.load(first + tl.load(left + e) * lanes + lane, inside, 0.0)
        b = tl.load(second + tl.load(right + e) * lanes + lane, inside, 0.0)
        total += tl.load(value + e) * a * b
    tl.store(out + row * lanes + lane, total, inside)


def sums(first: Tensor, second: Tensor, start: Tensor, left: Tensor, right: Tensor, value: Tensor) -> Tensor:
    """(row of the first, lane), (row of the second, lane) -> (row of the output, lane); less than 2^31 numbers each."""
    rows, lanes = len(start) - 1, first.shape[1]
    out = first.new_empty(rows, lanes)
    if out.numel():
        block = LANES if 2 * lanes > LANES else LANES // 4
        grid = (rows * triton.cdiv(lanes, block),)
        fields = out, first.contiguous(), second.contiguous()
        with torch.cuda.device_of(out):  # where Triton starts it
            _row[grid](*fields, start, left, right, value, rows, lanes, LANES=block, enable_fp_fusion=True)
    return out
