"""L1 and L2 penalties: which weights have one."""

import re

from torch import nn

from ..generated import is_generated_conv
from .config import TrainConfig, TrainingError


def penalties_of(model: nn.Module, config: TrainConfig) -> list[tuple[nn.Parameter, float, float]]:
    """(weight, l1, l2) of every weight with a penalty; biases and shifts have none.

    A convolution is a torch convolution or a generated one; a norm is a module whose class is called ...Norm or
    ...Norm3d.
    """
    penalties = []
    for kind, holds, l1, l2 in (
        ("conv", _is_convolution, config.conv_l1, config.conv_l2),
        ("norm", _is_norm, config.norm_l1, config.norm_l2),
    ):
        weights = [
            parameter
            for module in model.modules()
            if holds(module)
            for name, parameter in module.named_parameters(recurse=False)
            if name != "bias" and parameter.requires_grad
        ]
        if l1 or l2:
            if not weights:
                raise TrainingError(
                    f"{kind}_l1 = {l1}, {kind}_l2 = {l2}, but the model has no {kind} weights. Set both to 0."
                )
            penalties += [(weight, l1, l2) for weight in weights]
    return penalties


def _is_convolution(module: nn.Module) -> bool:
    return is_generated_conv(module) or isinstance(module, nn.modules.conv._ConvNd)


def _is_norm(module: nn.Module) -> bool:
    return re.search(r"Norm(\dd)?$", type(module).__name__) is not None
