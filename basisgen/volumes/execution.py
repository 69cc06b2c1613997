"""How a convolution runs, dense or separable: what either costs, counted per voxel, and what was measured.

    dense       taps * C_in * C_out multiply-adds
    separable   products * C_in * C_out / 4 multiply-adds to mix the channels, and the passes before and after it
    products    (N+1)(N+2)(N+3)/6, the a + b + c <= N = levels of the oscillator filters

The passes work on n_before(N) * C_in + n_after(N) * C_out numbers per voxel, where n are the numbers of indices; how
many of the three go before the mixing is free, and chosen here. A pass multiplies by matrices that are zero off a band,
COLUMNS wide, and is bound by memory: by measurement on CPUs one of its multiply-adds takes as long as PASS of
conv3d's, one of the mixing's, by small matrices, as long as MIX, a number written and read as long as MOVE, and every
call of an operator as long as CALL.

Calls cost the same for any volume, so `auto` is separable from some volume on, the larger the stride the later: under a
stride all passes go before the mixing, and those along x and y make numbers that are thrown away. The layer knows the
volume when it is called, and then takes the way that is predicted to be faster.

On a GPU the times are those of an H100: in 16 bits, and in float32 as torch has it by default, where convolutions may
use TF32 and matrix products may not. A step of passes takes at least GPU_CALLS seconds, however small the volume. Where
both may use TF32, or neither, passes are the faster way earlier.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import Enum
from functools import partial
from math import ceil, comb

from basisgen.tuning import Tuning

COLUMNS = 24
KINDS = 4  # of signs under half turns: a quarter of the mixing is not zero
MIX = 2.0
PASS = 3.0
MOVE = 65.0
CALL = 8e6
DENSE_OVERHEAD = 150.0  # of conv3d, per channel in or out and voxel: what keeps thin layers from its full speed
WORTHWHILE = 0.9  # the predicted time over the dense way's from which `auto` is separable: predictions miss by a fifth
GPU_CALLS = 3.5e-3
STRIDES = (1, 2, 3)
STRIDED = 0.8  # what passes take of this under a stride, where none adds to what others made


class Execution(Enum):
    """How a generated convolution runs: by a dense kernel, by three 1D passes, or as the cost model finds cheapest."""

    AUTO = "auto"
    DENSE = "dense"
    SEPARABLE = "separable"


PATHS = (Execution.DENSE, Execution.SEPARABLE)  # what AUTO chooses from


@dataclass(frozen=True)
class Smallest:
    """Stride -> from how many voxels of input, samples together, a separable layer is the faster; none: never."""

    on_cpu: Mapping[int, int]
    on_gpu: Mapping[int, int]
    on_gpu_in_16_bits: Mapping[int, int]


@dataclass(frozen=True)
class Cost:
    """Counts per voxel of the output, at stride 1, of a forward pass; the backward pass takes twice as much."""

    passes_before: int | None  # of a separable layer: how many passes go before the mixing
    multiply_adds: int
    pass_multiply_adds: int  # of these, in passes
    numbers_moved: int  # written and read again between input and output
    assembly: int  # multiply-adds per call, for a volume of any size
    calls: int = 1  # of operators, for one part of the work

    @property
    def time(self) -> float:
        """A prediction of passes, in multiply-adds of conv3d."""
        mixing = self.multiply_adds - self.pass_multiply_adds
        return MIX * mixing + PASS * self.pass_multiply_adds + MOVE * self.numbers_moved


_MEASURED_ON = re.compile(r"([\d,]{1,9}) volumes? of (\d{1,4})x(\d{1,4})x(\d{1,4}), stride (\d{1,4}),")


@dataclass(frozen=True)
class Measured:
    """What was measured of a layer: the time of the separable way over that of the dense one, and on what."""

    ratio: float
    voxels: int  # of the input, samples together
    stride: int
    on_gpu: bool = False


def measured_of(tuned: Tuning, layer: str) -> Measured | None:
    """What was measured of a layer; None where the setting does not tell the volume."""
    found, ratios = _MEASURED_ON.search(tuned.setting), tuned.ratios[layer]
    if found is None:
        return None
    samples, x, y, z, stride = (int(number.replace(",", "")) for number in found.groups())
    return Measured(ratios["separable"] / ratios["dense"], samples * x * y * z, stride, tuned.on_gpu)


def dense(channels_in: int, channels_out: int, taps: int, filters: int) -> Cost:
    """conv3d, and its kernel from the weights by one GEMM, (channels out * channels in, filter) x (filter, tap)."""
    pairs = channels_in * channels_out
    return Cost(None, pairs * taps, 0, 0, pairs * taps * filters)


def separable(channels_in: int, channels_out: int, levels: int, filters: int) -> Cost:
    """The cheapest split of the passes into those before and those after the mixing."""
    products, pairs = _indices(3, levels), channels_in * channels_out
    candidates = []
    for before in range(4):
        spread = [_indices(axes, levels) * channels_in for axes in range(1, before + 1)]
        gather = [_indices(axes, levels) * channels_out for axes in range(1, 4 - before)]
        mixing = ceil(products * pairs / KINDS)
        passes = COLUMNS * (sum(spread) + sum(gather))
        numbers = sum(spread) + sum(gather)
        calls = sum(_indices(axes, levels) for axes in (*range(1, before + 1), *range(1, 4 - before))) + levels
        candidates.append(Cost(before, mixing + passes, passes, numbers, products * pairs * filters, calls))
    return min(candidates, key=lambda cost: cost.time)


def smallest_volumes(
    channels_in: int, channels_out: int, taps: int, levels: int, filters: int, measured: Measured | None = None
) -> Smallest:
    """From how many voxels on a layer is separable, on a CPU and on a GPU.

    A measurement scales the predicted times of passes, where it was made and in its precision, float32: on its volume
    the ratio is the measured one.
    """

    def on_cpu(stride: int) -> Times:
        per_voxel, per_call = _separable_time(channels_in, channels_out, levels, filters, stride)
        return Times(_plain_time(channels_in, channels_out, taps) / stride**3, per_voxel, per_call)

    def on_gpu(stride: int, bits: int = 32) -> Times:
        return Times(*_gpu_times(channels_in, channels_out, taps, levels, stride, bits), GPU_CALLS)

    of_cpu, of_gpu = (None, measured) if measured is not None and measured.on_gpu else (measured, None)
    return Smallest(_smallest(on_cpu, of_cpu), _smallest(on_gpu, of_gpu), _smallest(partial(on_gpu, bits=16), None))


@dataclass(frozen=True)
class Times:
    """Predicted times of a step, in any unit."""

    dense: float  # per voxel of the input
    passes: float
    call: float  # of passes, for any volume


def _smallest(times: Callable[[int], Times], measured: Measured | None) -> dict[int, int]:
    """Stride -> from how many voxels on passes are faster, where they ever are."""
    strides, scale, worthwhile = set(STRIDES), 1.0, WORTHWHILE
    if measured is not None:
        of = times(measured.stride)
        scale = measured.ratio * of.dense / (of.passes + of.call / max(measured.voxels, 1))
        strides, worthwhile = strides | {measured.stride}, 1.0
    smallest = {}
    for stride in sorted(strides):
        of = times(stride)
        gain = worthwhile * of.dense - scale * of.passes
        if gain > 0:
            smallest[stride] = ceil(scale * of.call / gain)
    return smallest


def predicted_ratio(cost: Cost, channels_in: int, channels_out: int, taps: int) -> float:
    """The time of a layer over that of a plain conv3d of its shape, on a volume that dwarfs the assembly."""
    return 1.0 if cost.passes_before is None else cost.time / _plain_time(channels_in, channels_out, taps)


def _plain_time(channels_in: int, channels_out: int, taps: int) -> float:
    """The time of conv3d, per voxel of the output."""
    return channels_in * channels_out * taps + DENSE_OVERHEAD * (channels_in + channels_out)


def _separable_time(channels_in: int, channels_out: int, levels: int, filters: int, stride: int) -> tuple[float, float]:
    """The time per voxel of the input, and per call."""
    cost = separable(channels_in, channels_out, levels, filters)
    if stride == 1:
        return cost.time, CALL * cost.calls + cost.assembly
    numbers = sum(_indices(axes, levels) * channels_in / stride**axes for axes in (1, 2, 3))
    mixing = MIX / KINDS * _indices(3, levels) * channels_in * channels_out / stride**3
    calls = sum(_indices(axes, levels) for axes in (1, 2, 3)) + levels
    return mixing + STRIDED * (COLUMNS * PASS + MOVE) * numbers, CALL * calls + cost.assembly


def _indices(axes: int, levels: int) -> int:
    """The number of tuples of that many whole numbers with a sum of at most `levels`."""
    return comb(levels + axes, axes)


def _gpu_times(
    channels_in: int, channels_out: int, taps: int, levels: int, stride: int, bits: int
) -> tuple[float, float]:
    """Seconds of a step per voxel of the input, dense and by passes in the order of `_on_gpu`.

    Measured on an H100, with 30, 60 and 120 channels, 3, 5 and 7 taps, on a million voxels: within a third of these.
    """
    functions, pairs = levels + 1, (levels + 1) * (levels + 2) // 2
    channels, mixed = (channels_in + channels_out) / 2, channels_in * channels_out
    # written and read: the copy of the input, u, v; then w, which the mixing adds to, the output and its copy
    into = channels_in * (3 + 2 * functions / stride + 2 * pairs / stride**2)
    out = channels_out * (2 * pairs / stride**2 + 3 / stride**3)
    moved = 3 * (into + out)
    if bits == 16:
        return 3 * taps * mixed / 1.1e14 / stride**3, moved / 7e11 + 5e-9
    squares = sum(n**2 for n in range(1, functions + 1))  # the mixing, zeros and all
    dense = taps * (3.1e-12 * channels + 2.24e-14 * mixed) / stride**3
    return dense, moved / 4.6e11 + 3 * squares * mixed / stride**2 / 2.25e13
