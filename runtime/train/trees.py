"""Samples, labels and outputs: a tensor, or a tuple, list or dictionary of such."""

from collections.abc import Callable, Iterator
from typing import Any

from torch import Tensor


def map_tensors(function: Callable[[Tensor], Any], tree: Any) -> Any:
    """The same structure with the function's value in place of every tensor. Raises TypeError at anything else."""
    match tree:
        case Tensor():
            return function(tree)
        case dict():
            return {key: map_tensors(function, value) for key, value in tree.items()}
        case list() | tuple():
            return like(tree, [map_tensors(function, value) for value in tree])
    raise TypeError(f"a {type(tree).__name__}, not a tensor")


def named_tensors(tree: Any, name: str = "") -> Iterator[tuple[str, Tensor]]:
    """Every tensor with its place, for example `['mask'][0]`; other things are left out."""
    match tree:
        case Tensor():
            yield name, tree
        case dict():
            for key, value in tree.items():
                yield from named_tensors(value, f"{name}[{key!r}]")
        case list() | tuple():
            for number, value in enumerate(tree):
                yield from named_tensors(value, f"{name}[{number}]")


def shapes(tree: Any) -> str:
    """The shapes of the tensors, for messages."""
    return ", ".join(f"{name} {tuple(tensor.shape)}".lstrip() for name, tensor in named_tensors(tree)) or "no tensor"


def like(sequence: Any, items: list[Any]) -> Any:
    """The items in a list or tuple of the same type; a named tuple keeps its names."""
    kind = type(sequence)
    return kind(*items) if hasattr(kind, "_fields") else kind(items)
