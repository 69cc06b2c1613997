"""`compile --out src/mine/kernels`: a package inside the user's own works there as it does in `generated`."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from basisgen.cli import main
from basisgen.emission.write import read_package

SPEC = 'name = "first"\n[[conv]]\nname = "Conv1"\nin = "1x0"\nout = "1x1"\nkernel_size = 3\n'
PLACE = Path("src/mine/kernels")


@pytest.fixture(autouse=True)
def users_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    PLACE.parent.mkdir(parents=True)
    (PLACE.parent / "__init__.py").touch()
    Path("first.toml").write_text(SPEC)


def _run(*arguments: str) -> str:
    result = CliRunner().invoke(main, list(arguments), catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.stdout


def test_it_has_the_same_bytes_and_is_checked_and_left_alone_as_anywhere() -> None:
    _run("compile", "first.toml")
    assert "import it as mine.kernels.first" in _run("compile", "first.toml", "--out", str(PLACE))
    assert read_package(PLACE / "first") == read_package(Path("generated/first"))
    assert "is up to date" in _run("compile", "first.toml", "--out", str(PLACE))
    assert "is what the compiler writes" in _run("compile", "first.toml", "--out", str(PLACE), "--check")
    (PLACE / "first" / "conv1.py").write_text("changed = True\n")
    assert CliRunner().invoke(main, ["compile", "first.toml", "--out", str(PLACE), "--check"]).exit_code == 1
    assert "weights" in _run("compile", "first.toml", "--out", str(PLACE))
    assert "verified" in _run("verify", str(PLACE / "first"))


def test_it_is_imported_as_part_of_the_users_package_from_anywhere(tmp_path: Path) -> None:
    _run("compile", "first.toml", "--out", str(PLACE))
    code = (
        "import sys, torch\n"
        "from mine.kernels.first import Conv1\n"
        "assert Conv1.__module__ == 'mine.kernels.first.conv1' and 'generated' not in sys.modules\n"
        "print(*Conv1()(torch.ones(1, 1, 3, 3, 3)).shape)\n"
    )
    environment = os.environ | {"PYTHONPATH": str(tmp_path / "src"), "OMP_NUM_THREADS": "1"}
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    command = [sys.executable, "-c", code]
    result = subprocess.run(command, cwd=elsewhere, env=environment, capture_output=True, text=True, check=False)
    assert (result.returncode, result.stdout) == (0, "1 3 3 3 3\n"), result.stderr


@pytest.mark.parametrize(
    ("place", "name"),
    [
        ("src/mine", "mine.first"),
        ("src/mine/deep/kernels", "mine.deep.kernels.first"),
        ("generated", None),
        ("src/other", None),
        ("src/mine/not-a-name", None),
    ],
)
def test_only_a_package_inside_another_is_named(place: str, name: str | None) -> None:
    Path("__init__.py").touch()  # of the present directory: says nothing
    printed = _run("compile", "first.toml", "--out", place)
    assert ("import it as" in printed) == (name is not None) and (name is None or f"import it as {name}\n" in printed)
