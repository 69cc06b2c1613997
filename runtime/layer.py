"""What all layers share: a field type in, a field type out, one check of the input, constants that are rounded once."""

from collections.abc import Callable
from typing import Any, Self, cast

import torch
from torch import Tensor, nn

from runtime.fields import FieldType, FieldTypeLike, as_field_type, channel_count, describe

_COMPILES_FUNCTIONS = torch.__version__ >= "2.10"  # with gradients, see `apply_function`


class FieldLayer(nn.Module):
    """A layer from fields of `in_type` to fields of `out_type` (default: the same), channels first.

    Axes: (batch, channel, *space). Layers without a docstring on axes accept any number of spatial axes. `in_channels`
    and `out_channels` are the numbers of channels of the two types, as in torch's layers.
    """

    def __init__(self, in_type: FieldTypeLike, out_type: FieldTypeLike | None = None) -> None:
        super().__init__()
        self.in_type = as_field_type(in_type)
        self.out_type = self.in_type if out_type is None else as_field_type(out_type)
        self.in_channels = channel_count(self.in_type)
        self.out_channels = channel_count(self.out_type)

    def _constants(self) -> dict[str, Tensor]:
        """The layer's constants by name, float64 on the CPU. They are no part of its state, nor change in training.

        `_take_constants` makes buffers of them, rounded once: .double() after .half() has lost nothing.
        """
        return {}

    def _take_constants(self) -> None:
        """Makes the constants buffers, where and as torch makes tensors; for the end of __init__ of layers with any."""
        for name, exact in self._constants().items():
            self.register_buffer(name, exact.to(torch.empty(0)), persistent=False)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        """Every conversion (.to, .double, ...) takes the constants afresh from float64."""
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        for name, exact in self._constants().items():
            setattr(self, name, exact.to(self.get_buffer(name)))
        return self

    def check(self, fields: Tensor) -> None:
        """Raise ValueError unless the channel axis of the input is that of `in_type`."""
        if fields.ndim < 2 or fields.shape[1] != self.in_channels:
            raise ValueError(
                f"{type(self).__name__} takes {self.in_channels} channels (field type {describe(self.in_type)}) "
                f"on axis 1, but the input has shape {tuple(fields.shape)}. "
                "Compare the out_type of the layer before with the in_type of this one."
            )

    def check_volume(self, fields: Tensor) -> None:
        """Raise ValueError unless the input is a volume (batch, channel, x, y, z) of `in_type`."""
        self.check(fields)
        if fields.ndim != 5:
            raise ValueError(
                f"{type(self).__name__} takes volumes (batch, channel, x, y, z), "
                f"but the input has shape {tuple(fields.shape)}."
            )

    def extra_repr(self) -> str:
        """The field types, for printing a network."""
        if self.out_type == self.in_type:
            return describe(self.in_type)
        return f"{describe(self.in_type)} -> {describe(self.out_type)}"


def field_types_of(module: nn.Module) -> tuple[FieldType, FieldType]:
    """The field types a module takes and gives. Raises ValueError if it does not say."""
    for name in ("in_type", "out_type"):
        if not hasattr(module, name):
            raise ValueError(
                f"{type(module).__name__} has no attribute {name}. Equivariant modules, generated convolutions and the "
                "layers of this package, carry in_type and out_type."
            )
    in_type, out_type = cast(FieldTypeLike, module.in_type), cast(FieldTypeLike, module.out_type)
    return as_field_type(in_type), as_field_type(out_type)


def check_equal_types(got: FieldType, expected: FieldType, source: str, target: str) -> None:
    """Raise ValueError unless two field types that meet in a network are equal."""
    if got != expected:
        raise ValueError(
            f"{source} has field type {describe(got)}, but {target} has {describe(expected)}: make them equal."
        )


def apply_function(function: type[torch.autograd.Function], *arguments: Any) -> Any:
    """What the function gives of the arguments, with the gradient it states; `forward` takes no context.

    Compilers and exporters are shown `forward` alone where no gradient is asked for: torch 2.10 and older mistake the
    arguments if their number varies. Before 2.10 it is so with gradients too, which cannot be compiled under sizes that
    vary: torch then derives them from the operations of `forward`, and may keep more for it.
    """
    if torch.compiler.is_compiling():
        tracked = any(isinstance(a, Tensor) and a.requires_grad for a in arguments) and torch.is_grad_enabled()
        if not (tracked and _COMPILES_FUNCTIONS):
            return function.forward(*arguments)
    return function.apply(*arguments)  # type: ignore[no-untyped-call]
