"""Sizes of volumes on which strided layers commute exactly with turns: those whose strided grids are centred.

(n + 2 padding - dilation (kernel_size - 1) - 1) % stride = 0        along every axis, at every layer that strides
"""

import copy
import warnings
from collections.abc import Iterable, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..layer import per_axis

_FURTHEST = 64  # voxels that `exact_sizes` goes up or down: six halvings


class OffCentreWarning(UserWarning):
    """A strided grid is off the centre of its volume: turns of the volume then change the output."""


def off_centre(layer: nn.Module, sizes: Sequence[int]) -> tuple[int, int, int]:
    """Voxels along x, y, z by which a volume is too large for its strided grid to be centred; 0 where it is.

    layer: anything with `stride`, `kernel_size`, `padding` and perhaps `dilation`, torch's layers included; or with a
    method `off_centre`.
    """
    if hasattr(layer, "off_centre"):
        own: tuple[int, int, int] = layer.off_centre(sizes)  # type: ignore[operator]
        return own
    settings = (_setting(layer, name) for name in ("stride", "kernel_size", "padding", "dilation"))
    x, y, z = (
        (n + 2 * padding - dilation * (kernel - 1) - 1) % stride
        for n, stride, kernel, padding, dilation in zip(sizes, *settings, strict=True)
    )
    return x, y, z


def warn_off_centre(layer: nn.Module, sizes: Sequence[int], name: str) -> None:
    """An OffCentreWarning, once for each text, where the strided grid is off centre; nothing under a compiler."""
    if torch.compiler.is_compiling() or not any(excess := off_centre(layer, sizes)):
        return
    strides = _setting(layer, "stride")
    smaller = tuple(n - more for n, more in zip(sizes, excess, strict=True))
    larger = tuple(n - more + s if more else n for n, more, s in zip(sizes, excess, strides, strict=True))
    warnings.warn(
        f"{name}: at {_times(sizes)} voxels stride {_times(strides)} leaves the grid off centre, and turns of the "
        f"volume change the output. The nearest exact sizes here are {_times(smaller)} and {_times(larger)}; "
        "basisgen_runtime.exact_sizes finds those of a whole network and fit_volume pads or crops to them. "
        "(At stride 2, even sizes want low_pass_size=6, odd ones 5.)",
        OffCentreWarning,
        stacklevel=3,
    )


def exact_sizes(model: nn.Module, sizes: int | Iterable[int], *, smaller: bool = False) -> tuple[int, int, int]:
    """The smallest sizes, none below the given ones, at which every strided grid in a network is centred.

    Then turns of the volume commute with the network up to rounding. smaller: the largest, none above. Found by running
    a copy on the meta device, which computes nothing, and looking at what each layer with a `stride` is given.

    Raises ValueError if no sizes within 64 voxels are exact, or the network cannot take them.
    """
    given = per_axis("exact_sizes: sizes", sizes)
    probe = copy.deepcopy(model).to("meta").eval()
    found: list[int | None] = [None, None, None]
    for step in range(_FURTHEST):
        tried = tuple(max(n - step if smaller else n + step, 1) for n in given)
        for axis, centred in enumerate(_centred(probe, tried)):
            if centred and found[axis] is None:
                found[axis] = tried[axis]
        if None not in found:
            break
    x, y, z = found
    if x is None or y is None or z is None:
        raise ValueError(
            f"no volume {'below' if smaller else 'above'} {_times(given)} voxels, up to {_FURTHEST} away, is exact for "
            f"{type(model).__name__}. Look at the layers with strides: at stride 2 odd kernels take odd sizes."
        )
    _run(probe, (x, y, z))
    return x, y, z


def fit_volume(volumes: Tensor, sizes: int | Iterable[int], *, value: float = 0.0) -> Tensor:
    """Volumes padded with `value`, or cropped, evenly on both sides, to other sizes along their last three axes.

    (..., x, y, z) -> (..., *sizes); images and labels alike. Where the difference is odd the end has one voxel more, so
    that `fit_volume` to the old sizes takes a padded volume back.
    """
    wanted = per_axis("fit_volume: sizes", sizes)
    if volumes.ndim < 3:
        raise ValueError(f"fit_volume takes volumes (..., x, y, z), got shape {tuple(volumes.shape)}.")
    if any(isinstance(size, torch.SymInt) for size in (*volumes.shape[-3:], *wanted)):
        return _fit_open(volumes, wanted, value)
    margins: list[int] = []  # before and after: of z, of y, of x, as torch pads
    for have, want in zip(volumes.shape[:-4:-1], reversed(wanted), strict=True):
        before = (want - have) // 2 if want > have else -((have - want) // 2)
        margins += [before, want - have - before]
    return F.pad(volumes, margins, value=value)


def _fit_open(volumes: Tensor, sizes: Sequence[int], value: float) -> Tensor:
    """`fit_volume` at sizes that an exporter leaves open: voxels picked by their index, with no question about a size.

    `F.pad` asks which of its margins are positive; the exported program would have the answers of its one example.
    """
    for axis, want in enumerate(sizes, -3):
        have = volumes.shape[axis]
        more = torch.scalar_tensor(want - have, dtype=torch.int64, device=volumes.device)
        index = torch.arange(want, device=volumes.device) - more.div(2, rounding_mode="trunc")  # among the old voxels
        nearest = index.clamp(0, have - 1)
        inside = (index == nearest).reshape(-1, *[1] * (-1 - axis))  # (want, 1, ..) over the last axes
        volumes = torch.where(inside, volumes.index_select(axis, nearest), value)
    return volumes


def _centred(probe: nn.Module, sizes: Sequence[int]) -> tuple[bool, bool, bool]:
    """Along each axis, whether every strided grid is centred on a volume of these sizes."""
    centred = [True, True, True]

    def look(layer: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        for axis, excess in enumerate(off_centre(layer, inputs[0].shape[2:])):
            centred[axis] &= excess == 0

    strided = [m for m in probe.modules() if hasattr(m, "off_centre") or max(_setting(m, "stride")) > 1]
    hooks = [layer.register_forward_pre_hook(look) for layer in strided]
    try:
        _run(probe, sizes)
    except (ValueError, RuntimeError):  # a size the network refuses: its strided layers have been looked at
        pass
    finally:
        for hook in hooks:
            hook.remove()
    return centred[0], centred[1], centred[2]


@torch.no_grad()
def _run(probe: nn.Module, sizes: Sequence[int]) -> None:
    known = (getattr(module, "in_channels", None) for module in probe.modules())
    channels = next((number for number in known if isinstance(number, int)), None)
    if channels is None:
        raise ValueError(f"{type(probe).__name__} has no layer with in_channels, so that its input is not known.")
    dtype = next((weight.dtype for weight in probe.parameters()), torch.get_default_dtype())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", OffCentreWarning)
        probe(torch.empty(1, channels, *sizes, dtype=dtype, device="meta"))


def _setting(layer: nn.Module, name: str) -> tuple[int, int, int]:
    value = getattr(layer, name, 1)
    return per_axis(name, 0 if isinstance(value, str) else value, 0)


def _times(sizes: Sequence[int]) -> str:
    """28, or 28 x 28 x 12."""
    return str(sizes[0]) if len(set(sizes)) == 1 else " x ".join(map(str, sizes))
