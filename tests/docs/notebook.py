"""A notebook as a program: its code cells run in order, in the present directory, as those of a page do.

    %%writefile first.toml    the cell becomes that file
    !basisgen ...             the command runs and must exit with 0; what it prints is not compared
    %pip install ...          nothing: each of the packages must be here
    anything else             Python, in one namespace

Pictures left open are saved as figure-1.png, ... `python -m tests.docs.notebook NOTEBOOK` runs one.
"""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any

from tests.docs.page import Block, PageError, _run_block

PIP = "%pip install "


def code_cells(notebook: Path) -> list[dict[str, Any]]:
    """The code cells of a notebook in order."""
    return [cell for cell in json.loads(notebook.read_text("utf-8"))["cells"] if cell["cell_type"] == "code"]


def source(cell: dict[str, Any]) -> str:
    """The text of a cell."""
    return "".join(cell["source"])


def installed(text: str) -> list[str]:
    """The packages that a cell installs."""
    words = text.splitlines()[0].removeprefix(PIP).split() if text.startswith(PIP) else []
    return [word for word in words if not word.startswith("-")]


def run(notebook: Path) -> None:
    """Run every code cell. Raises PageError, with the number of the cell, at the first that fails."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    namespace: dict[str, object] = {"__name__": "notebook"}
    for number, cell in enumerate(code_cells(notebook), 1):
        try:
            _run_block(_block(source(cell)), notebook, namespace)
        except Exception as error:
            raise PageError(f"{notebook.name}, code cell {number}: {type(error).__name__}: {error}") from error
    for number in plt.get_fignums():
        plt.figure(number).savefig(f"figure-{number}.png")


def _block(text: str) -> Block:
    first, _, rest = text.partition("\n")
    if first.startswith("%%writefile "):
        return Block(1, "toml", rest, first.split()[1])
    if first.startswith("!"):
        return Block(1, "sh", re.sub("(?m)^!", "", text))
    if first.startswith(PIP):
        return Block(1, "python", "".join(f"import {name}\n" for name in installed(text)) + rest)
    return Block(1, "python", text)


if __name__ == "__main__":
    run(Path(sys.argv[1]))
