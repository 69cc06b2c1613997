"""How the runtime sees generated convolutions: by a mark their classes carry, not by import.

    basisgen_kind   the kind of layer: "conv", ...
    blocks()        the layout of the weight vector, path by path: out and into (terms), J, the slice `weights`, and its
                    shape (profile, copy out, copy in)

A class without the mark that has the methods `kernel` and `to_conv3d` is taken for one too: convolutions by hand.
"""

from typing import Any, TypeGuard

from torch import nn

__all__ = ["has_blocks", "is_generated_conv"]


def is_generated_conv(module: nn.Module) -> TypeGuard[Any]:
    """Whether a module is a generated convolution, or one by hand with the same methods.

    Raises ValueError if an older basisgen wrote it: its modules do not say where their weights are.
    """
    kind = type(module)
    if hasattr(kind, "filter_tensor") and not hasattr(kind, "basisgen_kind"):
        raise ValueError(
            f"{kind.__module__}.{kind.__qualname__} was compiled by an older basisgen. Compile its package again."
        )
    by_hand = callable(getattr(kind, "kernel", None)) and callable(getattr(kind, "to_conv3d", None))
    return getattr(kind, "basisgen_kind", None) == "conv" or by_hand


def has_blocks(module: nn.Module) -> TypeGuard[Any]:
    """Whether a module is such a convolution and says where its weights are, as generated ones do."""
    return is_generated_conv(module) and callable(getattr(type(module), "blocks", None))
