# Made by basisgen 0.1.0 with `basisgen compile tetris.toml`; do not edit.
"""The constants of this package: basis.safetensors, read and checked once, and what is made of it for each device.

A module holds weights alone. Its constants are asked for in each call, by the device and dtype of the weights in use,
and are held here: once per device and dtype for all modules of the package. Nothing that casts, moves,
averages, shares or replaces the tensors of a module can reach them.
"""

import functools
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from hashlib import sha256
from pathlib import Path
from typing import Any, TypeVar

import torch
from safetensors.torch import load
from torch import Tensor, nn

T = TypeVar("T")
At = Callable[[Tensor], Tensor]  # an exact constant, float64 or integers on the CPU -> the same as a module needs it

# both are added to, never changed
_HELD: dict[tuple[Any, ...], Any] = {}  # (owner, make, device, dtype, *choice) -> its NamedTuple
_COPIES: dict[tuple[int, torch.device, torch.dtype], tuple[Tensor, Tensor]] = {}  # id of an exact one -> copy, itself


def constants(owner: type, make: str, weight: Tensor, *choice: int) -> Any:
    """The NamedTuple of tensors that `owner.make(at, *choice)` gives, for a module with this weight.

    On the weight's device; float64 for float64 weights, float32 for all others.
    """
    dtype = torch.float64 if weight.dtype == torch.float64 else torch.float32
    held = _held(owner, make, weight.device, dtype, *choice)
    if torch.compiler.is_compiling() or type(weight) in (nn.Parameter, Tensor):
        return held
    return type(held)(*(_lifted(constant, weight) for constant in held))


@functools.cache
def tensors(digest: str) -> dict[str, Tensor]:
    """basis.safetensors by name, float64 on the CPU: the file with this SHA-256, which the code was compiled with.

    Raises RuntimeError if the file is missing or another one.
    """
    return _outside_modes(_read, digest)


def _held(owner: type, make: str, device: torch.device, dtype: torch.dtype, *choice: int) -> Any:
    key = (owner, make, device, dtype, *choice)
    held = _HELD.get(key)
    if held is None:
        held = _HELD.setdefault(key, _outside_modes(_made, *key))
    return held


# Compiled and exported graphs hold the tensors themselves. torch.compiler.assume_constant_result sets this; its import
# takes a second, as does that of mark_static below.
_held._dynamo_marked_constant = True  # type: ignore[attr-defined]


def _made(owner: type, make: str, device: torch.device, dtype: torch.dtype, *choice: int) -> Any:
    made = getattr(owner, make)(functools.partial(_at, device, dtype), *choice)
    return type(made)(*map(_of_fixed_shape, made))


def _at(device: torch.device, dtype: torch.dtype, exact: Tensor) -> Tensor:
    """The one copy of a constant on a device, rounded once to a dtype; integers stay integers."""
    dtype = dtype if exact.is_floating_point() else exact.dtype
    value = exact.to(dtype).to(device)
    copy, _ = _COPIES.setdefault((id(exact), device, dtype), (value, exact))  # with it, so that its id stays its own
    return copy


def _of_fixed_shape(constant: Tensor) -> Tensor:
    """The same numbers, marked as by torch._dynamo.mark_static: torch.compile(dynamic=True) would vary its sizes."""
    fixed = constant.data  # a view of another constant becomes a tensor like any other
    fixed._dynamo_static_indices = set(range(fixed.ndim))  # type: ignore[attr-defined]
    return fixed


def _outside_modes(make: Callable[..., T], *arguments: Any) -> T:
    """What a function gives in a new thread, where no mode of the caller is active.

    FakeTensorMode, the transforms of torch.func, inference mode and a default device belong to a thread; under any of
    them later calls could not use the constants.
    """
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(make, *arguments).result()


def _lifted(constant: Tensor, weight: Tensor) -> Tensor:
    """A constant among fake or traced weights: as torch treats the numbers of a `torch.tensor` there."""
    lifted: Tensor = torch.ops.aten.lift_fresh_copy(constant)
    fake_mode = getattr(weight, "fake_mode", None)
    return lifted if fake_mode is None or isinstance(lifted, type(weight)) else fake_mode.from_tensor(constant)


def _read(digest: str) -> dict[str, Tensor]:
    package, path = __name__.rpartition(".")[0], Path(__file__).with_name("basis.safetensors")
    try:
        body = path.read_bytes()
    except OSError as error:
        raise RuntimeError(
            f"the package {package} lacks its tensors: cannot read {path} ({error.strerror or error}). Where it is "
            "installed, list '*.safetensors' in the package data; else compile the package again."
        ) from None
    if body.startswith(b"version https://git-lfs."):
        raise RuntimeError(
            f"basis.safetensors of the package {package} is a pointer of Git LFS, not the file. "
            "Run `git lfs pull`, or compile the package again."
        )
    if (found := sha256(body).hexdigest()) != digest:
        raise RuntimeError(
            f"basis.safetensors of the package {package} is not the file its code was compiled with (SHA-256 "
            f"{found[:12]}..., not {digest[:12]}...). If the package was compiled or its branch switched after this "
            "process imported it, restart the interpreter; else compile the package again."
        )
    return load(body)
