"""A trained model as plain torch: constant kernels, constant normalisation."""

import copy
from collections import Counter
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn.utils.prune import BasePruningMethod
from torch.nn.utils.spectral_norm import SpectralNorm
from torch.nn.utils.weight_norm import WeightNorm

from ..generated import is_generated_conv
from ..normalization import BatchNorm, channel_affine
from .blocks import GatedBlock, ResidualBlock

_WEIGHT_MAKERS = (BasePruningMethod, WeightNorm, SpectralNorm)
_HOOKS = (
    *("_forward_pre_hooks", "_forward_pre_hooks_with_kwargs"),
    *("_forward_hooks", "_forward_hooks_with_kwargs", "_forward_hooks_always_called"),
)


class ChannelAffine(nn.Module):
    """scale * x + shift per channel: what is left of a batch norm in evaluation."""

    scale: Tensor
    shift: Tensor

    def __init__(self, scale: Tensor, shift: Tensor) -> None:
        super().__init__()
        self.register_buffer("scale", scale)
        self.register_buffer("shift", shift)

    def forward(self, fields: Tensor) -> Tensor:
        """(batch, channel, *space) -> the same shape."""
        return channel_affine(fields, self.scale, self.shift)


@torch.no_grad()
def freeze(model: nn.Module) -> nn.Module:
    """A copy of the model for inference that computes the same with plain torch modules.

    Generated convolutions become nn.Conv3d, BatchNorm becomes one scale and one shift per channel. These are folded
    into the convolution beside them in an nn.Sequential, a GatedBlock or a ResidualBlock where that is exact: always
    after a convolution; before one if it does not pad with zeros or nothing is shifted (no even scalars), for a zero
    outside the volume is not shifted.

    Forward hooks go on with the module that takes the place of theirs, and nothing is folded into or out of a module
    that has one, for it would see other values. Hooks that make weights (pruning, weight norm) have done their work.

    The copy is in evaluation mode and its parameters want no gradient. The model itself is left as it is.
    """
    for module in model.modules():  # without gradients, so that the made weights can be copied
        _make_weights(module)
    frozen = _replace(copy.deepcopy(model).eval())
    uses = Counter(id(module) for _, module in frozen.named_modules(remove_duplicate=False))
    for module in list(frozen.modules()):
        for first, second in _neighbours(module):
            left, right = getattr(module, first), getattr(module, second)
            if uses[id(left)] > 1 or uses[id(right)] > 1 or _has_hooks(left) or _has_hooks(right):
                continue  # shared modules stay as they are, and those somebody looks at
            if isinstance(left, ChannelAffine) and isinstance(right, nn.Conv3d) and _commutes(left, right):
                _fold_before(left, right)
                setattr(module, first, nn.Identity())
            elif isinstance(left, nn.Conv3d) and isinstance(right, ChannelAffine):
                _fold_after(left, right)
                setattr(module, second, nn.Identity())
    return frozen.requires_grad_(False)


def _replace(module: nn.Module, done: dict[int, nn.Module] | None = None) -> nn.Module:
    """The module with its generated convolutions and batch norms exchanged, the same one wherever it is shared."""
    done = {} if done is None else done
    if id(module) not in done:
        if isinstance(module, BatchNorm) and module.running_mean is not None:
            affine = ChannelAffine(*module.scale_and_shift(module.running_mean, module.running_square))
            done[id(module)] = _with_hooks(affine, module)
        elif is_generated_conv(module):
            done[id(module)] = _with_hooks(module.to_conv3d().eval(), module)
        else:
            done[id(module)] = module
            for name, child in list(module._modules.items()):  # named_children would leave a second use out
                if child is not None:
                    setattr(module, name, _replace(child, done))
    return done[id(module)]


def _make_weights(module: nn.Module) -> None:
    """Runs the hooks that make a module's weights before each call."""
    for hook in module._forward_pre_hooks.values():
        if isinstance(hook, _WEIGHT_MAKERS):
            hook(module, ())


def _with_hooks(new: nn.Module, old: nn.Module) -> nn.Module:
    """The new module with the hooks of the old one."""
    for name in _HOOKS:
        setattr(new, name, getattr(old, name))
    for key, hook in list(new._forward_pre_hooks.items()):
        if isinstance(hook, _WEIGHT_MAKERS):
            del new._forward_pre_hooks[key]
    return new


def _has_hooks(module: nn.Module) -> bool:
    return any(getattr(module, name) for name in _HOOKS)


def _neighbours(module: nn.Module) -> list[tuple[str, str]]:
    """Names of children of which the second takes the output of the first, and nothing else does.

    What another class does with its children in `forward` is not known.
    """
    forward = type(module).forward
    if forward is GatedBlock.forward:
        return [("norm", "conv")]
    if forward is ResidualBlock.forward:
        return [("norm1", "conv1"), ("norm2", "conv2")]
    return list(pairwise(module._modules)) if forward is nn.Sequential.forward else []


def _commutes(affine: ChannelAffine, conv: nn.Conv3d) -> bool:
    """Whether shifting before the convolution is a bias after it, at the border of the volume too."""
    padded = conv.padding not in ("valid", (0, 0, 0)) and conv.padding_mode == "zeros"
    return not padded or not bool(affine.shift.any())


def _fold_before(affine: ChannelAffine, conv: nn.Conv3d) -> None:
    """conv(scale x + shift) as one convolution."""
    bias = torch.einsum("oixyz,i->o", conv.weight, affine.shift)  # (channel out)
    conv.bias = nn.Parameter(bias if conv.bias is None else conv.bias + bias)
    conv.weight.mul_(affine.scale[:, None, None, None])


def _fold_after(conv: nn.Conv3d, affine: ChannelAffine) -> None:
    """scale conv(x) + shift as one convolution."""
    conv.bias = nn.Parameter(affine.shift if conv.bias is None else affine.scale * conv.bias + affine.shift)
    conv.weight.mul_(affine.scale[:, None, None, None, None])
