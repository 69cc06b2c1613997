"""An experiment with its preset and data read, and what its results must agree on."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from torch import nn

from examples.common.cases import Run


@dataclass(frozen=True)
class Study:
    """What can be run.

    facts       what the results say about data and test, name -> text; `data` says which
    preset      the dataclass the preset was read into; results.json records it
    networks    names; settings: what else varies, for example the parts of the training set
    build       name of a network -> the network
    run         trains and tests one case
    agreement   heading of the measure of equivariance
    picture     draws what the networks of finished cases predict, given the directory; for experiments that have one
    """

    title: str
    facts: dict[str, str]
    preset: Any
    networks: tuple[str, ...]
    settings: tuple[str, ...]
    build: Callable[[str], nn.Module]
    run: Run
    agreement: str = "same answer when turned"
    picture: Callable[[Path], None] | None = None

    def record(self) -> dict[str, Any]:
        """The study as results.json holds it."""
        table = {"title": self.title, "facts": self.facts, "preset": asdict(self.preset), "agreement": self.agreement}
        return json.loads(json.dumps(table))  # type: ignore[no-any-return]  # tuples as lists


def differences(before: dict[str, Any], now: dict[str, Any]) -> list[str]:
    """What keeps results of two records out of one table: data and preset, but for the texts that only describe."""
    data = [f"the data were {before['facts']['data']}"] if before["facts"]["data"] != now["facts"]["data"] else []
    return data + list(_changed("", before.get("preset", {}), now["preset"]))


def _changed(where: str, before: Any, now: Any) -> Iterator[str]:
    if isinstance(before, dict) and isinstance(now, dict):
        for key in sorted((before.keys() | now.keys()) - {"description"}):
            yield from _changed(f"{where}.{key}".lstrip("."), before.get(key), now.get(key))
    elif before != now:
        yield f"{where} was {before}, is {now}"
