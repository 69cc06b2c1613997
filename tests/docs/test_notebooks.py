"""The notebooks of examples run from the first cell to the last, make pictures, and are kept without outputs."""

from __future__ import annotations

import ast
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import REPOSITORY
from tests.docs.notebook import code_cells, installed, run, source
from tests.docs.page import PageError

NOTEBOOKS = sorted((REPOSITORY / "examples" / "notebooks").glob("*.ipynb"))
ALL = pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.stem)
COMES_WITH = {"basisgen", "basisgen_runtime", "generated", "torch"}  # of `pip install .` and `basisgen compile`


@pytest.mark.slow
@ALL
def test_the_notebook_runs_and_makes_pictures(notebook: Path, tmp_path: Path) -> None:
    plt = pytest.importorskip("matplotlib.pyplot")
    environment = os.environ | {
        "PYTHONPATH": os.pathsep.join([str(tmp_path), str(REPOSITORY)]),
        "OMP_NUM_THREADS": "1",
        "PYTHONWARNINGS": "ignore",
    }
    command = [sys.executable, "-m", "tests.docs.notebook", str(notebook)]
    result = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr[-4000:]
    shown = sum(source(cell).count("plt.show()") for cell in code_cells(notebook))
    pictures = sorted(tmp_path.glob("figure-*.png"))
    assert len(pictures) == shown > 0
    assert all(plt.imread(picture).std() > 0.01 for picture in pictures), "an empty picture"


@ALL
def test_the_notebook_is_kept_without_outputs(notebook: Path) -> None:
    content = json.loads(notebook.read_text("utf-8"))
    cells = content["cells"]
    assert (content["nbformat"], content["nbformat_minor"]) == (4, 5)
    assert len({cell["id"] for cell in cells}) == len(cells)
    assert all(cell["outputs"] == [] and cell["execution_count"] is None for cell in code_cells(notebook))


@ALL
def test_the_notebook_reads_from_a_title_in_small_cells(notebook: Path) -> None:
    cells = json.loads(notebook.read_text("utf-8"))["cells"]
    assert cells[0]["cell_type"] == "markdown" and source(cells[0]).startswith("# ")
    assert all(0 < len(source(cell).splitlines()) <= 30 for cell in cells)


@ALL
def test_the_first_cell_installs_what_the_others_import(notebook: Path) -> None:
    first, *others = [source(cell) for cell in code_cells(notebook)]
    missing = _imported(others) - set(installed(first)) - COMES_WITH - set(sys.stdlib_module_names)
    assert not missing and installed(first)


@ALL
def test_the_links_of_the_notebook_lead_somewhere(notebook: Path) -> None:
    cells = json.loads(notebook.read_text("utf-8"))["cells"]
    links = [
        link for cell in cells if cell["cell_type"] == "markdown" for link in re.findall(r"\]\((.*?)\)", source(cell))
    ]
    assert links and all((notebook.parent / link).is_file() for link in links)


def test_the_examples_list_every_notebook() -> None:
    page = (REPOSITORY / "examples" / "README.md").read_text("utf-8")
    assert {f"notebooks/{path.name}" for path in NOTEBOOKS} == set(re.findall(r"\((notebooks/\w+\.ipynb)\)", page))


def test_an_import_of_what_is_not_installed_is_seen() -> None:
    assert _imported(["import pandas as pd", "!basisgen show 1 0", "def f():\n    from os.path import join"]) == {
        "pandas",
        "os",
    }


BROKEN = {
    "1 / 0": "division",
    "!basisgen show 1": "exits with 2",
    "%pip install --quiet no_such_package": "No module named 'no_such_package'",
}


@pytest.mark.parametrize("cell", BROKEN)
def test_a_broken_cell_fails(cell: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("matplotlib")
    broken = {"cell_type": "code", "source": [cell], "outputs": [], "execution_count": None, "metadata": {}}
    (tmp_path / "broken.ipynb").write_text(json.dumps({"cells": [broken]}))
    monkeypatch.chdir(tmp_path)
    with pytest.raises(PageError, match=f"code cell 1: .*{BROKEN[cell]}"):
        run(tmp_path / "broken.ipynb")


def _imported(sources: list[str]) -> set[str]:
    """The top-level names that cells of Python import."""
    nodes = [node for text in sources if text[0] not in "%!" for node in ast.walk(ast.parse(text))]
    names = [alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names]
    names += [node.module or "" for node in nodes if isinstance(node, ast.ImportFrom)]
    return {name.partition(".")[0] for name in names}
