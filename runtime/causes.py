"""Why a module does not commute with turns: which of the usual causes it is, found by testing its parts.

The usual ones: a stride whose grid is off the centre of a volume of this size; axes treated unlike one another, by the
voxel spacing or a kernel; a function of components, which knows nothing of vectors.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from .fields import FieldType, Term, as_field_type, channel_count, describe, has_parity
from .so3 import random_rotations
from .turns import TypedFunction, frozen
from .volumes.rotate import mix_components
from .volumes.sizes import exact_sizes, off_centre

_COMPONENTS = "acts on the components of {} one by one. Use Gate or NormActivation, and the norms of basisgen_runtime."


@dataclass(frozen=True)
class _Call:
    """One call of a part of a module: what it was given, and the field types of that and of what it gave."""

    name: str
    part: nn.Module
    given: Tensor
    in_type: FieldType
    out_type: FieldType


def cause(module: nn.Module, whole: TypedFunction, fields: Tensor, turns: Tensor, tolerance: float, seed: int) -> str:
    """One or two sentences for the message of `assert_equivariant`. module: in float64; it may be changed."""
    for call in _calls(module, whole, fields):
        part = TypedFunction(frozen(call.part, seed), call.in_type, call.out_type)
        if _worst(part, call.given, turns) > tolerance:
            name = f"its part {call.name!r} ({type(call.part).__name__})" if call.name else "it"
            return f"Found by testing the parts: {name} {_reason(call.part, part, call.given, turns, tolerance)}"
    reason = _reason(module, whole, fields, turns, tolerance)
    return f"Each part that could be tested commutes with the turns, the whole {reason}"


def component_cause(module: nn.Module, whole: TypedFunction, fields: Tensor, seed: int) -> str | None:
    """The part, if one is found, that acts on components of fields one by one, in words: at a voxel it does not rotate.

    It may commute with the turns of the cube, which only exchange components and change signs.
    """
    rotation = random_rotations(1, generator=torch.Generator().manual_seed(seed))[0]
    for call in _calls(module, whole, fields):
        if call.in_type != call.out_type or hasattr(call.part, "kernel_size"):
            continue  # what moves values between voxels does not commute with rotations of components alone
        run = TypedFunction(frozen(call.part, seed), call.in_type, call.out_type)
        expected = mix_components(run(call.given), rotation, call.out_type)
        change = run(mix_components(call.given, rotation, call.in_type)) - expected
        if change.abs().max() > 1e-6 * expected.abs().max():
            name = f"its part {call.name!r} ({type(call.part).__name__})" if call.name else "it"
            return f"Found by testing the parts: {name} {_COMPONENTS.format(describe(call.in_type))}"
    return None


def _calls(module: nn.Module, whole: TypedFunction, fields: Tensor) -> list[_Call]:
    """The calls of all parts without parts, in order, whose field types are stated or follow from the part before."""
    types = {id(fields): whole.in_type}
    kept: list[object] = [fields]  # so that no other tensor gets the same id
    calls: list[_Call] = []
    given: dict[int, Tensor] = {}

    def before(part: nn.Module, inputs: tuple[object, ...]) -> None:
        if len(inputs) == 1 and isinstance(inputs[0], Tensor):
            kept.append(inputs[0])
            given[id(part)] = inputs[0].clone()  # it may be changed in place

    def after(part: nn.Module, inputs: tuple[object, ...], output: object) -> None:
        if len(inputs) != 1 or not isinstance(output, Tensor):
            return
        kept.append(output)
        in_type = _stated(part, "in_type") or types.get(id(inputs[0]))
        out_type = _stated(part, "out_type") or in_type
        if in_type is None or out_type is None or output.ndim not in (2, 5):
            return
        x = given[id(part)]
        if x.shape[1] == channel_count(in_type) and output.shape[1] == channel_count(out_type):
            types[id(output)] = out_type
            if all(isinstance(child, nn.ParameterList | nn.ParameterDict) for child in part.children()):
                calls.append(_Call(names.get(part, ""), part, x, in_type, out_type))

    names = {part: name for name, part in module.named_modules()}
    hooks = [part.register_forward_pre_hook(before) for part in names]
    hooks += [part.register_forward_hook(after) for part in names]
    try:
        whole(fields)
    finally:
        for hook in hooks:
            hook.remove()
    return calls


def _stated(part: nn.Module, name: str) -> FieldType | None:
    return as_field_type(getattr(part, name)) if hasattr(part, name) else None


def _reason(part: nn.Module, function: TypedFunction, given: Tensor, turns: Tensor, tolerance: float) -> str:
    """Which cause it is, each tried: other sizes, fewer turns, scalars in place of vectors."""
    sizes = tuple(given.shape[2:])
    if sizes and (other := _exact(part, sizes)) and other != sizes:
        noise = _noise(given, channel_count(function.in_type), other)
        if _worst(function, noise, turns) <= tolerance:
            return (
                f"strides, and at {_times(sizes)} voxels its grid is off centre; at {_times(other)} it is exact. "
                "Use such sizes (basisgen_runtime.exact_sizes, fit_volume), or a kernel of even size for even volumes."
            )
    for axis, name in enumerate("xyz"):
        some = turns[turns[:, axis, axis].abs() == 1]
        if 1 < len(some) < len(turns) and _worst(function, given, some) <= tolerance:
            return (
                f"commutes with the turns that keep the {name} axis, but not with those that exchange it: it treats "
                f"{name} unlike the others. If the voxels are not cubes, or a kernel or stride differs along {name}, "
                "say so with turns= and voxel_spacing=."
            )
    if any(not term.is_even_scalar for term in function.in_type) and function.in_type == function.out_type:
        scalars = (Term(channel_count(function.in_type), 0, 1 if has_parity(function.in_type) else None),)
        if _worst(TypedFunction(function.function, scalars, scalars), given, turns) <= tolerance:
            return f"commutes with the turns of scalars, but {_COMPONENTS.format(describe(function.in_type))}"
    return "does not commute with the turns at other sizes, with fewer turns or on scalars either."


def _exact(part: nn.Module, sizes: tuple[int, ...]) -> tuple[int, ...] | None:
    """The nearest larger sizes at which every strided grid is centred."""
    if hasattr(part, "stride") and not any(True for _ in part.children()):
        excess, strides = off_centre(part, sizes), part.stride
        steps = strides if isinstance(strides, Sequence) else (strides,) * 3
        return tuple(n + step - more if more else n for n, step, more in zip(sizes, steps, excess, strict=True))
    try:
        return exact_sizes(part, sizes)
    except (ValueError, RuntimeError, NotImplementedError):  # a part that cannot be probed has another cause
        return None


def _worst(function: TypedFunction, fields: Tensor, turns: Tensor) -> float:
    try:
        return max(function.turn_error(fields, turn) for turn in turns)
    except AssertionError:  # zero or not finite
        return math.inf


def _noise(like: Tensor, channels: int, sizes: Sequence[int]) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(len(like), channels, *sizes, dtype=like.dtype, generator=generator)


def _times(sizes: Sequence[int]) -> str:
    return " x ".join(map(str, sizes))
