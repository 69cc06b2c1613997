"""An experiment with its preset and data read, and what its results must agree on."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields, is_dataclass
from pathlib import Path
from typing import Any

from torch import nn

from examples.common.cases import Run


@dataclass(frozen=True)
class Study:
    """What can be run.

    facts       what the results say about data and test, name -> text; `data` says which
    preset      the dataclass the preset was read into, less what only says which settings there are; results.json
                records it
    networks    names; settings: what else varies, for example the parts of the training set
    build       name of a network -> the network
    run         trains and tests one case
    agreement   heading of the measure of equivariance
    repeats     what the command's seeds are in this experiment: `seeds`, or for example the `folds` of its data
    picture     draws what the networks of finished cases predict, given the directory, and returns the picture's path;
                for experiments that have one
    """

    title: str
    facts: dict[str, str]
    preset: Any
    networks: tuple[str, ...]
    settings: tuple[str, ...]
    build: Callable[[str], nn.Module]
    run: Run
    agreement: str = "same answer when turned"
    repeats: str = "seeds"
    picture: Callable[[Path], Path] | None = None

    def record(self) -> dict[str, Any]:
        """The study as results.json holds it."""
        return {"title": self.title, "facts": self.facts, "preset": _said(self.preset), "agreement": self.agreement}


def differences(before: dict[str, Any], now: dict[str, Any]) -> list[str]:
    """What keeps results of two records out of one table: data and preset.

    Texts that only describe do not, nor networks that only one of them has.
    """
    data = [f"the data were {before['facts']['data']}"] if before["facts"]["data"] != now["facts"]["data"] else []
    return data + list(_changed("", before.get("preset", {}), now["preset"]))


def _said(value: Any) -> Any:
    """Dataclasses as tables of what is not a default, so that an option added later changes no record."""
    if is_dataclass(value):
        items = [(field, getattr(value, field.name)) for field in fields(value)]
        return {field.name: _said(item) for field, item in items if item != field.default}
    if isinstance(value, dict):
        return {key: _said(item) for key, item in value.items()}
    return [_said(item) for item in value] if isinstance(value, tuple) else value


def _changed(where: str, before: Any, now: Any) -> Iterator[str]:
    if isinstance(before, dict) and isinstance(now, dict):
        keys = before.keys() & now.keys() if where == "networks" else before.keys() | now.keys()
        for key in sorted(keys - {"description"}):
            yield from _changed(f"{where}.{key}".lstrip("."), before.get(key), now.get(key))
    elif before != now:
        yield f"{where} was {'not set' if before is None else before}, is {'not set' if now is None else now}"
