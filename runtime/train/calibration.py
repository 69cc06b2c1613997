"""First weights that suit the data: every field of every generated convolution starts with unit mean square.

White noise of unit variance keeps its variance through a generated convolution by construction. Volumes are far from
white noise: smooth, mostly empty, and some fields, such as the pseudoscalars that tell a shape from its mirror image,
are smaller than others by orders of magnitude. `calibrate` measures that on a batch and rescales the weights once.
Source: Mishkin, Matas, "All you need is a good init", ICLR 2016, arXiv:1511.06422, here per field copy.
"""

from typing import Any

import torch
from torch import Tensor, nn

from runtime.fields import as_field_type, copies_to_channels

__all__ = ["calibrate"]


@torch.no_grad()
def calibrate(model: nn.Module, volumes: Tensor, *, length: float = 1.0, eps: float = 1e-5) -> None:
    """Rescales the weights of every generated convolution of a model, in the order in which they run, in place.

    After it mean(|f|^2) = length^2 over the batch and voxels for every field copy f that leaves a convolution, less for
    fields that are nearly zero, whose gain eps bounds: f is multiplied by length / sqrt(mean(|f|^2) + eps). One factor
    per field copy commutes with rotations. volumes: (batch, channel, x, y, z), a typical batch; the model is run once
    on it.
    """
    handles = [
        module.register_forward_hook(lambda conv, _, output: _rescale(conv, output, length, eps))
        for module in model.modules()
        if hasattr(module, "paths") and hasattr(module, "rows")
    ]
    try:
        model(volumes)
    finally:
        for handle in handles:
            handle.remove()


def _rescale(conv: Any, output: Tensor, length: float, eps: float) -> Tensor:
    """Before: fields as they come. After: weights and output times one factor per field copy."""
    power = output.float().square().mean(dim=(0, 2, 3, 4))  # (channel)
    factors, channel = [], 0
    for copies, degree, _ in conv.out_type:
        channels = power[channel : channel + copies * (2 * degree + 1)]
        factors.append((channels.view(copies, -1).sum(dim=1) + eps).rsqrt() * length)  # (copy)
        channel += len(channels)
    profiles = {J: (stop - start) // (2 * J + 1) for J, start, stop in conv.rows}
    first = 0
    for o, i, J in conv.paths:
        shape = (profiles[J], conv.out_type[o][0], conv.in_type[i][0])  # (profile, copy out, copy in)
        size = shape[0] * shape[1] * shape[2]
        conv.weight[first : first + size].view(shape).mul_(factors[o].view(1, -1, 1))
        first += size
    return output * copies_to_channels(torch.cat(factors), as_field_type(conv.out_type)).view(1, -1, 1, 1, 1)
