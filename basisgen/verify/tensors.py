"""basis.safetensors in its one encoding: which bytes stand before the numbers follows from the tensors' shapes.

    length of the header, uint64 | header: compact JSON, blanks up to a multiple of 8 | the numbers, in order

Tensors stand in the order of their types, I64 before F64 before U8, then by name. Nothing in a header is believed, so
none is parsed; only the explanation of a wrong one looks into it.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

Shape = tuple[int, ...]
Form = tuple[str, Shape]  # type and shape
Tensor = NDArray[Any]

TYPES: dict[str, np.dtype[Any]] = {
    "I64": np.dtype("<i8"),
    "F64": np.dtype("<f8"),
    "U8": np.dtype("u1"),
}  # in the order of the file

_EXPLAINED = 1 << 20  # bytes of a wrong header that are looked into


def read_tensors(body: bytes, forms: Mapping[str, Form]) -> tuple[dict[str, Tensor], list[str]]:
    """The tensors of the given types and shapes, or none and complaints."""
    head = header(forms)
    if body[: len(head)] != head:
        return {}, list(_explanation(body, forms))
    size = len(head) + sum(map(_size, forms.values()))
    if len(body) != size:
        return {}, [f"it has {len(body)} bytes, its tensors need {size}"]
    tensors, start = {}, len(head)
    for name in _in_order(forms):
        dtype, shape = forms[name]
        tensors[name] = np.frombuffer(body, TYPES[dtype], prod(shape), start).reshape(shape)
        start += _size(forms[name])
    return tensors, []


def header(forms: Mapping[str, Form]) -> bytes:
    """What stands before the numbers."""
    entries, stop = {}, 0
    for name in _in_order(forms):
        dtype, shape = forms[name]
        start, stop = stop, stop + _size(forms[name])
        entries[name] = {"dtype": dtype, "shape": list(shape), "data_offsets": [start, stop]}
    text = json.dumps(entries, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text


def forms_of(body: bytes) -> dict[str, Form]:
    """Types and shapes of the tensors in a file of the compiler's own; others are not to be asked."""
    table = json.loads(body[8 : 8 + int.from_bytes(body[:8], "little")])
    return {name: (entry["dtype"], tuple(entry["shape"])) for name, entry in table.items()}


def _in_words(form: Form) -> str:
    return f"{form[0]} {form[1]}"


def _in_order(forms: Mapping[str, Form]) -> list[str]:
    types = list(TYPES)
    return sorted(forms, key=lambda name: (types.index(forms[name][0]), name))


def _size(form: Form) -> int:
    return int(TYPES[form[0]].itemsize) * prod(form[1])


def _explanation(body: bytes, wanted: Mapping[str, Form]) -> Iterator[str]:
    """What is wrong with a header; at least one line."""
    other = "its header is not the canonical one of its tensors"
    length = int.from_bytes(body[:8], "little")
    if not length <= min(_EXPLAINED, len(body) - 8):
        yield f"{other}: it would have {length} bytes"
        return
    try:
        found = forms_of(body)
    except (AttributeError, KeyError, RecursionError, TypeError, ValueError):
        found = {}
    if found == wanted or not found:
        yield other
    for name in sorted(found.keys() | wanted.keys()) if found else []:
        if name not in wanted or name not in found:
            yield f"{name:.100} is {'not in the certificate' if name in found else 'missing'}"
        elif found[name] != wanted[name]:
            yield f"{name} is {_in_words(found[name]):.100}, not {_in_words(wanted[name])}"
