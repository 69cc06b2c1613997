"""basis.safetensors in its one encoding: which bytes stand before the numbers follows from the tensors' shapes.

    length of the header, uint64 | header: compact JSON, by name, blanks up to a multiple of 8 | float64, in order

Nothing in a header is believed, so none is parsed; only the explanation of a wrong one looks into it.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from math import prod

import numpy as np
from numpy.typing import NDArray

Shape = tuple[int, ...]
Tensor = NDArray[np.float64]

_EXPLAINED = 1 << 20  # bytes of a wrong header that are looked into


def read_tensors(body: bytes, shapes: Mapping[str, Shape]) -> tuple[dict[str, Tensor], list[str]]:
    """The tensors of the given shapes, or none and complaints."""
    head = header(shapes)
    if body[: len(head)] != head:
        return {}, list(_explanation(body, shapes))
    size = len(head) + 8 * sum(map(prod, shapes.values()))
    if len(body) != size:
        return {}, [f"it has {len(body)} bytes, its tensors need {size}"]
    tensors, start = {}, len(head)
    for name in sorted(shapes):
        count = prod(shapes[name])
        tensors[name] = np.frombuffer(body, "<f8", count, start).reshape(shapes[name])
        start += 8 * count
    return tensors, []


def header(shapes: Mapping[str, Shape]) -> bytes:
    """What stands before the numbers."""
    entries, stop = {}, 0
    for name in sorted(shapes):
        start, stop = stop, stop + 8 * prod(shapes[name])
        entries[name] = {"dtype": "F64", "shape": list(shapes[name]), "data_offsets": [start, stop]}
    text = json.dumps(entries, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text


def _explanation(body: bytes, shapes: Mapping[str, Shape]) -> Iterator[str]:
    """What is wrong with a header; at least one line."""
    other = "its header is not the canonical one of its tensors"
    length = int.from_bytes(body[:8], "little")
    if not length <= min(_EXPLAINED, len(body) - 8):
        yield f"{other}: it would have {length} bytes"
        return
    try:
        found = {
            name: (entry["dtype"], tuple(entry["shape"])) for name, entry in json.loads(body[8 : 8 + length]).items()
        }
    except (AttributeError, KeyError, RecursionError, TypeError, ValueError):
        found = {}
    wanted = {name: ("F64", shape) for name, shape in shapes.items()}
    if found == wanted or not found:
        yield other
    for name in [] if not found else sorted(found.keys() | wanted.keys()):
        if name not in wanted or name not in found:
            yield f"{name:.100} is {'not in the certificate' if name in found else 'missing'}"
        elif found[name] != wanted[name]:
            yield f"{name} is {found[name][0]!r:.20} {found[name][1]!r:.100}, not float64 {shapes[name]}"
