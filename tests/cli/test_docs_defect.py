"""docs/defect.md: its tables are what the command prints, its code runs.

`UPDATE_DOCS=1 pytest -m slow tests/cli/test_docs_defect.py` writes the tables again.
"""

from __future__ import annotations

import os
import re
import shlex

import pytest
from click.testing import CliRunner

from basisgen.cli import main
from basisgen.commands.defect import RADIALS
from tests.conftest import REPOSITORY

PAGE = REPOSITORY / "docs" / "defect.md"
BLOCK = re.compile(r"```console\n\$ (basisgen [^\n]*)\n(.*?)```", re.DOTALL)
COMMANDS = [command for command, _ in BLOCK.findall(PAGE.read_text("utf-8"))]
NUMBER = re.compile(r"\d+\.\d+")


def printed(command: str) -> str:
    result = CliRunner().invoke(main, shlex.split(command)[1:], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.stdout


@pytest.mark.slow
@pytest.mark.skipif("UPDATE_DOCS" not in os.environ, reason="writes the page; set UPDATE_DOCS=1")
def test_update_the_page() -> None:
    text = PAGE.read_text("utf-8")
    PAGE.write_text(BLOCK.sub(lambda m: f"```console\n$ {m[1]}\n{printed(m[1])}```", text), "utf-8")


@pytest.mark.slow
@pytest.mark.parametrize("command", COMMANDS)
def test_the_page_shows_what_the_command_prints(command: str) -> None:
    """All text, and every figure within a unit of its last decimal."""
    (shown,) = (output for other, output in BLOCK.findall(PAGE.read_text("utf-8")) if other == command)
    now = printed(command)
    assert NUMBER.sub("#", shown) == NUMBER.sub("#", now)
    figures, measured = ([float(number) for number in NUMBER.findall(text)] for text in (shown, now))
    assert figures == pytest.approx(measured, abs=1.5e-3)


@pytest.mark.slow
def test_what_the_page_says_of_the_figures() -> None:
    """The sentences beside the tables that state numbers or orders."""
    first, smooth, _ = COMMANDS
    rows = [line.split() for line in printed(first).splitlines()[1:] if line.startswith("5x5x5")]
    assert len(rows) == len(RADIALS)
    worst = {" ".join(row[1:3]): float(row[-1]) for row in rows}
    assert worst["shells cutoff=compromise"] > 2 * worst["shells cutoff=conservative"]
    random = [float(line.split()[-2]) for line in printed(smooth).splitlines()[1:] if line.startswith("5x5x5")]
    assert min(random[-3:]) > 10 * max(random[:4])


def test_the_code_on_the_page_runs() -> None:
    for code in re.findall(r"```python\n(.*?)```", PAGE.read_text("utf-8"), re.DOTALL):
        exec(compile(code, str(PAGE), "exec"), {})
