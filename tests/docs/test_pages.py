"""Every code block of every page runs, and every command that runs with its page.

A page about a package of the extra `interop` is skipped where that package is not installed.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tomllib
from importlib.util import find_spec
from pathlib import Path

import pytest

from basisgen.commands.new.presets import PRESETS
from basisgen.commands.new.project import project, write_project
from tests.conftest import REPOSITORY
from tests.docs.page import PAGES, PageError, blocks, run, runs

QUICK = ["README.md"]


def _does_something(page: Path) -> bool:
    found = blocks(page.read_text("utf-8"))
    commands = [command for block in found for command, _ in block.commands()]
    return any(block.language == "python" for block in found) or any(runs(command, found) for command in commands)


CODE = [name for name, page in PAGES.items() if _does_something(page)]


def _interop() -> set[str]:
    """The packages of the extra `interop`, as they are imported."""
    extras = tomllib.loads((REPOSITORY / "pyproject.toml").read_text("utf-8"))["project"]["optional-dependencies"]
    return {re.match(r"[a-z0-9]+", requirement)[0] for requirement in extras["interop"]}  # type: ignore[index]


def _not_installed(page: Path) -> set[str]:
    """The packages of `interop` that a page imports and that are not here."""
    code = "\n".join(block.text for block in blocks(page.read_text("utf-8")) if block.language == "python")
    imported = set(re.findall(r"(?m)^(?:import|from) (\w+)", code))
    return {name for name in imported & _interop() if find_spec(name) is None}


def _run(page: Path, directory: Path) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {
        "PYTHONPATH": os.pathsep.join([str(directory), str(REPOSITORY), os.environ.get("PYTHONPATH", "")]).rstrip(":"),
        "OMP_NUM_THREADS": "1",
        "PYTHONWARNINGS": "ignore",
    }
    command = [sys.executable, "-m", "tests.docs.page", str(page)]
    return subprocess.run(command, cwd=directory, env=environment, capture_output=True, text=True, check=False)


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=() if name in QUICK else [pytest.mark.slow]) for name in CODE]
)
def test_every_block_of_the_page_runs(name: str, tmp_path: Path) -> None:
    if missing := _not_installed(PAGES[name]):
        pytest.skip(f"not installed: {', '.join(sorted(missing))}, of the extra interop")
    result = _run(PAGES[name], tmp_path)
    assert result.returncode == 0, result.stderr[-4000:]


def test_every_package_of_interop_has_its_page() -> None:
    pages = {Path(name).stem for name in PAGES if name.startswith("docs/with/")}
    assert pages == _interop()


@pytest.mark.slow
@pytest.mark.parametrize("preset", PRESETS)
def test_the_readme_of_a_new_project_runs(preset: str, tmp_path: Path) -> None:
    write_project(project("shapes", preset), tmp_path / "shapes")
    result = _run(tmp_path / "shapes" / "README.md", tmp_path / "shapes")
    assert result.returncode == 0 and "4 blocks" in result.stdout, result.stderr[-4000:]


BROKEN = {
    "code": ("```python\nx = 1\n```\n\n```python\nassert x == 2\n```\n", "line 6: AssertionError"),
    "a test on the page": ("```python\ndef test_it():\n    assert False\n```\n", "AssertionError"),
    "a command": ("```sh\nbasisgen compile missing.toml\n```\n", "exits with 2"),
    "an indented command": ("Text:\n\n    basisgen show 1\n", "exits with 2"),
    "what a command prints": ("```console\n$ basisgen show 0 0\nkernels of another world\n```\n", "prints"),
    "a script": ("Save as `bad.py`:\n\n```python\n1 / 0\n```\n\n```sh\npython bad.py\n```\n", "ZeroDivisionError"),
    "a command in a sentence": ("Say `basisgen show 1 99`.\n", "exits with 2"),
    "a command that does not exist": ("Say `basisgen frobnicate PACKAGE`.\n", "no such command"),
    "an option that does not exist": ("Say `basisgen defect IN OUT --size K`.\n", "no option --size"),
    "an unknown command": ("```sh\nrm -rf /\n```\n", "neither runs with its page nor stands in"),
}


@pytest.mark.parametrize("case", BROKEN)
def test_a_broken_block_fails(case: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text, complaint = BROKEN[case]
    (tmp_path / "broken.md").write_text(text)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(PageError, match=complaint):
        run(tmp_path / "broken.md")


def test_a_failing_page_ends_its_process_with_an_error(tmp_path: Path) -> None:
    (tmp_path / "broken.md").write_text(BROKEN["code"][0])
    result = _run(tmp_path / "broken.md", tmp_path)
    assert result.returncode and "line 6: AssertionError" in result.stderr


def test_blocks_become_files_and_share_names(tmp_path: Path) -> None:
    page = tmp_path / "good.md"
    page.write_text(
        'Save as `first.toml`:\n\n```toml\nname = "first"\n[[conv]]\nname = "A"\nin = "1x0"\nout = "1x1"\n'
        "kernel_size = 3\n```\n\n1. Then\n\n   ```sh\n   basisgen compile first.toml\n   ```\n\n"
        "```python\nfrom generated.first import A\n```\n\n"
        "```python\nassert A().kernel().shape == (3, 1, 3, 3, 3)\n```\n"
    )
    result = _run(page, tmp_path)
    assert result.returncode == 0 and "4 blocks" in result.stdout, result.stderr
