"""The tables of what layers support have a row for each layer and a column for each ability that slow tests try."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import pytest

from tests.runtime import test_compatibility as volumes
from tests.runtime_spheres import test_signals_compatibility as signals


@pytest.mark.parametrize(
    ("page", "layers", "abilities"),
    [
        (volumes.TABLE, [case.name.removesuffix(", parity") for case in volumes.LAYERS], volumes.CAPABILITIES),
        (signals.TABLE, [case.name for case in signals.CASES], signals.CAPABILITIES),
    ],
    ids=["volumes", "signals"],
)
def test_rows_are_the_layers_and_columns_the_abilities(page: Path, layers: list[str], abilities: Iterable[str]) -> None:
    head, _, *rows = [line for line in page.read_text().splitlines() if line.startswith("|")]
    assert head == f"| layer | {' | '.join(abilities)} |"
    assert [row.split("`")[1] for row in rows] == layers
