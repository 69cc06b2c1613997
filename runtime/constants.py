"""Constants of layers: exact in float64, rounded once, held once for each dtype and device, by no module.

A constant is what a function makes of plain numbers: the taps of a filter, Clebsch-Gordan coefficients. A layer asks
for it in `forward`, in the dtype and on the device of its tensors, and gets the one tensor all layers share. So
there is no buffer that an average of weights, a conversion or a meta device could touch. Nobody may change it in place.
"""

from collections.abc import Callable, Hashable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from itertools import count
from typing import TypeVar

import torch
from torch import Tensor

_T = TypeVar("_T")
Make = Callable[..., Tensor]


def constant(make: Make, *arguments: Hashable, dtype: torch.dtype, device: torch.device) -> Tensor:
    """What `make` makes of the arguments (numbers and texts), rounded to a dtype, on a device; not to be changed.

    make: a function of a module, always the same result for the same arguments, a float64 tensor on the CPU.
    Under FakeTensorMode the result is fake, what is held is not.
    """
    held: Tensor = getattr(_HELD, _name(make, arguments, dtype, device))
    return held if torch.compiler.is_dynamo_compiling() else torch.ops.aten.lift_fresh.default(held)


class _Held:
    """The tensors, as attributes: what a compiler can look up by a name it learns while it compiles."""


_HELD, _NUMBERS = _Held(), count()


def _name(make: Make, arguments: tuple[Hashable, ...], dtype: torch.dtype, device: torch.device) -> str:
    """Makes the constant at the first call; compilers run this while they compile, and keep the name alone."""
    return _made(make, arguments, dtype, device)


# What torch.compiler.assume_constant_result sets; its import takes a second.
_name._dynamo_marked_constant = True  # type: ignore[attr-defined]


@cache
def _made(make: Make, arguments: tuple[Hashable, ...], dtype: torch.dtype, device: torch.device) -> str:
    name = f"{make.__name__}_{next(_NUMBERS)}"
    setattr(_HELD, name, outside_modes(lambda: make(*arguments).to(device, dtype)))
    return name


def outside_modes(function: Callable[[], _T]) -> _T:
    """The result of a function that no mode of the caller reaches: it runs in a new thread, and modes belong to
    a thread.

    Modes are fake tensors, the transforms of torch.func, inference, autocast, a default device.
    """
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(function).result()
