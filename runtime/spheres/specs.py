"""Specs of packages as text: what a network's builder asks the compiler for."""

import json
from collections.abc import Iterable, Mapping
from typing import Any

from ..fields import FieldType, as_field_type, describe

Layer = Mapping[str, Any]


def spec_text(name: str, layers: Iterable[Layer]) -> str:
    """The spec of a package in TOML, one table for each layer; values are texts, numbers, and lists of these."""
    lines = [f"name = {json.dumps(name)}"]
    for layer in layers:
        lines += ["", "[[layer]]"]
        lines += [f"{key} = {_value(value)}" for key, value in layer.items() if value is not None]
    return "\n".join(lines) + "\n"


def _value(value: Any) -> str:
    return json.dumps(describe(value) if _is_field_type(value) else value)


def _is_field_type(value: Any) -> bool:
    return isinstance(value, tuple) and bool(value) and hasattr(value[0], "multiplicity")


def fragments_type(fragments: Iterable[int], channels: int = 1) -> FieldType:
    """Field type of `channels` signals with some fragments of each degree 0, 1, ..; degrees with none are left out."""
    return as_field_type([(count * channels, degree, None) for degree, count in enumerate(fragments) if count])
