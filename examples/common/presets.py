"""Presets: a frozen dataclass of an experiment, filled from a TOML file whose tables are nested dataclasses.

`based_on = "quick.toml"` takes everything from that file beside it, except the keys it sets again.
"""

from __future__ import annotations

import tomllib
from dataclasses import MISSING, fields, is_dataclass
from pathlib import Path
from typing import Any, TypeVar, get_args, get_origin, get_type_hints

T = TypeVar("T")


class PresetError(Exception):
    """A preset cannot be read; the message names the file and the key."""


def load_preset(kind: type[T], path: Path) -> T:
    """The preset in a TOML file. Lists become tuples, tables become dataclasses.

    Raises PresetError if a key is unknown or missing. Types of the values are those of the TOML.
    """
    return _fill(kind, _read(path), path.name)


def _read(path: Path) -> dict[str, Any]:
    try:
        table = tomllib.loads(path.read_text("utf-8"))
    except (OSError, tomllib.TOMLDecodeError) as error:
        raise PresetError(f"cannot read the preset {path}: {error}") from error
    base = table.pop("based_on", None)
    if base == path.name:
        raise PresetError(f"{path.name} is based on itself. Name another file in based_on, or leave it out.")
    return table if base is None else _merged(_read(path.with_name(base)), table)


def _merged(base: dict[str, Any], new: dict[str, Any]) -> dict[str, Any]:
    """Both tables merged, table by table; where both have a value, the new one counts."""
    both = {key: _merged(base[key], new[key]) for key in base.keys() & new.keys() if isinstance(new[key], dict)}
    return {**base, **new, **both}


def _fill(kind: type[T], table: dict[str, Any], where: str) -> T:
    known = {field.name: field for field in fields(kind)}  # type: ignore[arg-type]
    unknown = sorted(table.keys() - known.keys())
    if unknown:
        raise PresetError(f"{where}: unknown key {', '.join(unknown)}. Known: {', '.join(known)}.")
    optional = {name for name, field in known.items() if (field.default, field.default_factory) != (MISSING, MISSING)}
    missing = sorted(known.keys() - optional - table.keys())
    if missing:
        raise PresetError(f"{where}: the key {', '.join(missing)} is missing.")
    hints = get_type_hints(kind)
    return kind(**{key: _value(hints[key], value, f"{where}, {key}") for key, value in table.items()})


def _value(hint: Any, value: Any, where: str) -> Any:
    if isinstance(value, dict) and get_origin(hint) is dict:
        return {key: _value(get_args(hint)[1], item, f"{where}, {key}") for key, item in value.items()}
    kind = next((kind for kind in (hint, *get_args(hint)) if is_dataclass(kind)), None)  # of `Kind` or `Kind | None`
    if isinstance(value, dict) and kind is not None:
        return _fill(kind, value, where)  # type: ignore[arg-type]
    return tuple(_value(None, item, where) for item in value) if isinstance(value, list) else value
