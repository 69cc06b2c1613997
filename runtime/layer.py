"""What all layers share: a field type in, a field type out, one check of the input, settings per axis."""

import operator
from collections.abc import Callable, Iterable
from typing import Any, TypeVar, cast

import torch
from torch import Tensor, nn
from torch.autograd import forward_ad

from .fields import FieldType, FieldTypeLike, as_field_type, channel_count, describe

_COMPILES_FUNCTIONS = torch.__version__ >= "2.10"  # with gradients, see `apply_function`
_Number = TypeVar("_Number", int, float)


class FieldLayer(nn.Module):
    """A layer from fields of `in_type` to fields of `out_type` (default: the same), channels first.

    Axes: (batch, channel, *space). Layers without a docstring on axes accept any number of spatial axes, none included,
    and any batch, an empty one included. `in_channels` and `out_channels` are the numbers of channels of the two types,
    as in torch's layers. The state is learned weights and running statistics; constants are not part of the layer, see
    `runtime.constants`.
    """

    def __init__(self, in_type: FieldTypeLike, out_type: FieldTypeLike | None = None) -> None:
        nn.Module.__init__(self)
        self.in_type = as_field_type(in_type)
        self.out_type = self.in_type if out_type is None else as_field_type(out_type)
        self.in_channels = channel_count(self.in_type)
        self.out_channels = channel_count(self.out_type)

    def check(self, fields: Tensor) -> None:
        """Raise unless the input is a real tensor (TypeError) whose channel axis is that of `in_type` (ValueError)."""
        check_real(fields, type(self).__name__)
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

    def check_dtype(self, fields: Tensor, weight: Tensor, *, narrower: bool = False) -> None:
        """Raise ValueError unless the fields have the dtype of the weights, or autocast converts them.

        narrower: fields of half precision may meet weights of more.
        """
        if fields.dtype == weight.dtype or is_autocast(fields):
            return
        if not narrower or torch.promote_types(fields.dtype, weight.dtype) != weight.dtype or weight.is_complex():
            raise ValueError(
                f"{type(self).__name__} has weights of {weight.dtype}, but the input is of {fields.dtype}. "
                "Convert one of them with .to(dtype)."
            )

    def extra_repr(self) -> str:
        """The field types, for printing a network."""
        if self.out_type == self.in_type:
            return describe(self.in_type)
        return f"{describe(self.in_type)} -> {describe(self.out_type)}"


def check_real(fields: Tensor, taker: str) -> None:
    """Raise TypeError unless `fields` is a tensor of real floating-point numbers; `taker` is named in the message."""
    if not isinstance(fields, Tensor):
        raise TypeError(
            f"{taker} takes a torch tensor (batch, channel, *space), got {type(fields).__module__}."
            f"{type(fields).__name__}. Convert it, for example with torch.as_tensor(array)."
        )
    if not fields.dtype.is_floating_point:
        cure = "Pass real and imaginary parts as two fields." if fields.is_complex() else "Convert it with .float()."
        raise TypeError(f"{taker} takes real floating-point fields, got {fields.dtype}. {cure}")


def is_autocast(fields: Tensor) -> bool:
    """Whether autocast is on for the device of the fields."""
    device = fields.device.type
    return device != "meta" and torch.is_autocast_enabled(device)


def is_readable(*tensors: Tensor) -> bool:
    """Whether the values can be looked at: at once, without waiting for a device, and not under a compiler or
    transform."""
    plain = all(type(tensor) in (Tensor, nn.Parameter) and tensor.device.type == "cpu" for tensor in tensors)
    return plain and not (torch.compiler.is_compiling() or any(map(_is_transformed, tensors)))


def _is_transformed(tensor: Tensor) -> bool:
    """Whether a transform of torch.func holds the tensor: vmap, grad, jvp."""
    return torch._C._functorch.is_functorch_wrapped_tensor(tensor)


def per_axis(name: str, value: int | Iterable[int], least: int = 1) -> tuple[int, int, int]:
    """A setting along x, y and z: a whole number, of any integer type, or three. Raises ValueError that names it."""
    x, y, z = _triple(name, value, least, _whole, "whole number")
    return x, y, z


def lengths_per_axis(name: str, value: float | Iterable[float], least: float = 0.0) -> tuple[float, float, float]:
    """A positive length along x, y and z: a number, or three; at least `least`. Raises ValueError that names it."""
    x, y, z = _triple(name, value, least, float, "finite number above 0" if least == 0 else "finite number")
    return x, y, z


def _whole(number: Any) -> int:
    """A whole number of any integer type; a size that an exporter leaves open stays open."""
    return number if isinstance(number, torch.SymInt) else operator.index(number)  # type: ignore[return-value]


def _triple(name: str, value: Any, least: _Number, convert: Callable[[Any], _Number], kind: str) -> Any:
    try:
        numbers = tuple(convert(number) for number in (value if isinstance(value, Iterable) else (value,) * 3))
        fits = len(numbers) == 3 and all(
            least <= number < float("inf") and (number > 0 or convert is not float) for number in numbers
        )
    except (TypeError, ValueError):  # no number
        fits = False
    if not fits:
        bound = f" of at least {least}" if least else ""
        raise ValueError(f"{name} takes a {kind}{bound}, or three of them for x, y, z, got {value!r}.")
    return numbers


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

    vmap and forward-mode derivatives take the operations of `forward` one by one; gradients alone, of torch.func too,
    do not. Compilers and exporters are shown `forward` alone where no gradient is asked for: torch 2.10 and older
    mistake the arguments if their number varies. Before 2.10 it is so with gradients too, which cannot be compiled
    under sizes that vary: torch then derives them from the operations of `forward`, and may keep more for it.
    """
    tensors = [argument for argument in arguments if isinstance(argument, Tensor)]
    if torch.compiler.is_compiling():
        tracked = any(tensor.requires_grad for tensor in tensors) and torch.is_grad_enabled()
        if not (tracked and _COMPILES_FUNCTIONS):
            return function.forward(*arguments)
    elif takes_operations_apart(*tensors):
        return function.forward(*arguments)
    return function.apply(*arguments)  # type: ignore[no-untyped-call]


def takes_operations_apart(*tensors: Tensor) -> bool:
    """Whether a transform other than a gradient is at work: vmap, or forward-mode derivatives of these tensors."""
    if torch.compiler.is_compiling():
        return False
    levels = torch._C._functorch.get_interpreter_stack() or ()
    gradient = torch._C._functorch.TransformType.Grad
    return any(level.key() != gradient for level in levels) or any(
        forward_ad.unpack_dual(tensor).tangent is not None  # type: ignore[no-untyped-call]
        for tensor in tensors
    )
