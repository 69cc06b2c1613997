"""First weights that suit the data: every field of every generated convolution starts with unit mean square.

White noise of unit variance keeps its variance through a generated convolution by construction. Volumes are far from
white noise: smooth, mostly empty, and some fields, such as the pseudoscalars that tell a shape from its mirror image,
are smaller than others by orders of magnitude. `calibrate` measures that on a batch and rescales the weights once.
Source: Mishkin, Matas, "All you need is a good init", ICLR 2016, arXiv:1511.06422, here per field copy.
"""

from typing import Any

import torch
from torch import Tensor, nn

from ..fields import FieldType, as_field_type, copies_to_channels
from ..generated import has_blocks

__all__ = ["calibrate"]


@torch.no_grad()
def calibrate(model: nn.Module, volumes: Tensor, *, length: float = 1.0, eps: float = 1e-5) -> None:
    """Rescales weights and bias of every generated convolution of a model, in the order in which they run, in place.

    After it mean(|f|^2) = length^2 over the batch and voxels for every field copy f that leaves a convolution, less for
    fields that are nearly zero, whose gain eps bounds: f is multiplied by length / sqrt(mean(|f|^2) + eps). One factor
    per field copy commutes with rotations. A convolution that runs several times is measured the first time.
    volumes: (batch, channel, x, y, z), a typical batch; the model is run once on it.

    Raises ValueError if the batch is empty, or it or what the model makes of it is not finite; the model is then as it
    was.
    """
    _check_batch(volumes)
    buffers = [(buffer, buffer.clone()) for buffer in model.buffers()]
    gains: dict[nn.Module, Tensor] = {}  # of every convolution that ran: (copy)
    handles = [
        module.register_forward_hook(lambda conv, _, output: _rescaled(conv, output, length, eps, gains))
        for module in model.modules()
        if has_blocks(module)
    ]
    try:
        model(volumes)
    except BaseException:
        for buffer, before in buffers:
            buffer.copy_(before)
        raise
    finally:
        for handle in handles:
            handle.remove()
    for conv, gain in gains.items():
        _apply_gain(conv, gain)


def _check_batch(volumes: Tensor) -> None:
    if not volumes.numel():
        raise ValueError(f"calibrate needs a typical batch, and {tuple(volumes.shape)} is empty. Give some samples.")
    bad = (~torch.isfinite(volumes)).nonzero()
    if len(bad):
        place = tuple(bad[0].tolist())
        raise ValueError(f"calibrate needs a finite batch, and it is {volumes[place].item()} at {place}. Fix the data.")


def _rescaled(conv: Any, output: Tensor, length: float, eps: float, gains: dict[nn.Module, Tensor]) -> Tensor:
    """Before: fields as they come. After: times one factor per field copy, noted in `gains`."""
    out_type = as_field_type(conv.out_type)
    if conv in gains:  # shared: as its first run asks
        return _times(output, gains[conv], out_type)
    wide = output.to(torch.promote_types(output.dtype, torch.float32))
    power = wide.square().mean(dim=[axis for axis in range(output.ndim) if axis != 1])  # (channel)
    terms = torch.split(power, [term.channels for term in out_type])
    squares = torch.cat([p.view(t.multiplicity, -1).sum(dim=1) for t, p in zip(out_type, terms, strict=True)])  # (copy)
    if not torch.isfinite(squares).all():
        raise ValueError(
            f"calibrate: the fields that leave {type(conv).__name__} are not finite, though the batch is. "
            f"Look for the layer before that divides by zero or overflows."
        )
    gains[conv] = (squares + eps).rsqrt() * length  # (copy)
    return _times(output, gains[conv], out_type)


def _times(fields: Tensor, copies: Tensor, field_type: FieldType) -> Tensor:
    """Every field copy times its factor, in the dtype of the fields."""
    channels = copies_to_channels(copies, field_type)  # (channel)
    return fields * channels.view(-1, *[1] * (fields.ndim - 2)).to(fields.dtype)


def _apply_gain(conv: Any, gain: Tensor) -> None:
    """Multiply weights and bias of a convolution so that its output is multiplied by one factor per field copy."""
    out_type = as_field_type(conv.out_type)
    factors = torch.split(gain, [term.multiplicity for term in out_type])  # of each term: (copy)
    for block in conv.blocks():  # (profile, copy out, copy in)
        conv.weight[block.weights].view(block.shape).mul_(factors[block.out].view(1, -1, 1))
    if conv.bias is not None:  # of the invariant scalars, in order
        conv.bias.mul_(torch.cat([f for f, term in zip(factors, out_type, strict=True) if term.is_even_scalar]))
