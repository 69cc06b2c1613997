"""Which filters the weights of a model belong to: a line for every generated convolution.

A generated module says what it is: `in_type`, `out_type`, `kernel_size`, its paths, and a fingerprint of all that gives
its weights their meaning. Two modules with equal digests map equal weights to equal kernels.
"""

import hashlib
from collections.abc import Mapping

from torch import nn

from runtime.fields import as_field_type, describe

_SHAPE = ("in_type", "out_type", "kernel_size", "dilation", "rows", "paths")


def filters_of(model: nn.Module) -> dict[str, dict[str, str]]:
    """For every generated convolution, by its name in the model: where it comes from, what it maps, its digest."""
    found = {}
    for name, module in model.named_modules():
        if all(hasattr(module, attribute) for attribute in ("in_type", "out_type", "kernel_size", "paths")):
            found[name.replace("_orig_mod.", "").removesuffix("_orig_mod")] = _line(module)
    return found


def _line(module: nn.Module) -> dict[str, str]:
    kind = type(module)
    fields = " -> ".join(describe(as_field_type(getattr(module, name))) for name in ("in_type", "out_type"))
    size = "x".join(map(str, getattr(module, "kernel_size")))  # noqa: B009
    facts = "\n".join(repr(getattr(module, name, None)) for name in _SHAPE)
    return {
        "layer": f"{kind.__module__.removesuffix('.' + kind.__name__.lower())}.{kind.__name__}",
        "map": f"{fields}, kernel {size}",
        "digest": getattr(module, "fingerprint", None) or hashlib.sha256(facts.encode()).hexdigest(),
    }


def differing_filters(then: object, now: Mapping[str, Mapping[str, str]]) -> str:
    """The first difference between what a file says and what a model has, in words; "" if there is none.

    The package's name may differ: filters that are the same are the same under any name.
    """
    if not isinstance(then, Mapping):
        return f"the file's list of them is a {type(then).__name__}"
    for name in sorted({*map(str, then), *now}):
        before, after = then.get(name), now.get(name)
        if not isinstance(before, Mapping) or after is None:
            return f"layer {name!r} is {'not listed' if before is None else 'listed, and the model has none there'}"
        if before.get("digest") != after["digest"]:
            return f"{name!r} was {_told(before)}; now it is {_told(after)}"
    return ""


def _told(line: Mapping[str, object]) -> str:
    return f"{line.get('layer')} ({line.get('map')}; filters {str(line.get('digest'))[:8]})"
