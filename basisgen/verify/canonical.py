"""JSON in the one form the compiler writes: no key twice, no other blank, number or escape than the canonical ones.

Objects and lists that hold others have one entry per line, indented by one blank more; everything else is on one line.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

MAX_DEPTH = 16  # certificates and manifests need half of it


def read_json(body: bytes) -> Any:
    """The value, if `body` is its canonical form.

    Raises ValueError that says what is wrong; nothing is repaired.
    """
    try:
        value = json.loads(body, object_pairs_hook=_object, parse_constant=_refuse)
        canonical = to_json(value)
    except RecursionError:
        raise ValueError("its values are nested too deeply") from None
    if canonical != body:
        raise ValueError("it is not in canonical form: blanks, escapes, numbers or the order are others")
    return value


def to_json(value: Any) -> bytes:
    """The canonical form."""
    return f"{_text(value, '')}\n".encode()


def _text(value: Any, indent: str) -> str:
    inner = indent + " "
    if len(inner) > MAX_DEPTH:  # a text of depth d would grow d-fold by its indents
        raise ValueError("its values are nested too deeply")
    if isinstance(value, dict) and value:
        lines = [f"{inner}{json.dumps(key)}: {_text(entry, inner)}" for key, entry in value.items()]
        return "{\n" + ",\n".join(lines) + f"\n{indent}}}"
    if isinstance(value, list) and any(isinstance(entry, dict | list) for entry in value):
        return "[\n" + ",\n".join(inner + _text(entry, inner) for entry in value) + f"\n{indent}]"
    return json.dumps(value)


def _object(pairs: Iterable[tuple[str, Any]]) -> dict[str, Any]:
    table: dict[str, Any] = {}
    for key, value in pairs:
        if key in table:
            raise ValueError(f"key {key!r:.100} is there twice")
        table[key] = value
    return table


def _refuse(text: str) -> None:
    raise ValueError(f"{text} is not a number")
