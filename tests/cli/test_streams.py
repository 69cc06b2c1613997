"""Closed streams, pipes in the place of files, names that hold terminal escapes: one line at most, and no hang."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from basisgen import files
from basisgen.cli import main
from basisgen.emission.write import read_package

SPEC = 'name = "p"\n[[conv]]\nname = "C"\nin = "1x0"\nout = "1x0"\nkernel_size = 3\n'


@pytest.fixture(autouse=True)
def in_an_empty_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(files, "PATIENCE", 0.05)


def _run(*arguments: str) -> Result:
    return CliRunner().invoke(main, list(arguments), catch_exceptions=False)


def _in_shell(command: str, closed: str) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2]), "OMP_NUM_THREADS": "1"}
    command = f"exec {sys.executable} -m basisgen.cli {command} {closed}"
    return subprocess.run(["sh", "-c", command], env=environment, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_closed_streams_change_no_file_and_no_exit_code(closed: str) -> None:
    Path("p.toml").write_text(SPEC)
    assert _run("compile", "p.toml", "--out", "expected").exit_code == 0
    done = _in_shell("compile p.toml -v", closed)
    assert done.returncode == 0 and done.stderr == ""
    assert read_package(Path("generated/p")) == read_package(Path("expected/p"))
    assert bool(done.stdout) == (">&-" not in closed.replace("2>&-", ""))


def test_errors_with_closed_streams_keep_their_exit_code() -> None:
    done = _in_shell("compile absent.toml", "<&- >&- 2>&-")
    assert (done.returncode, done.stdout, done.stderr) == (2, "", "")


def test_a_pipe_as_a_spec_or_a_manifest_is_one_line() -> None:
    os.mkfifo("pipe")
    result = _run("compile", "pipe")
    assert result.exit_code == 2 and result.stderr.count("\n") == 1
    assert "cannot read pipe: it is a pipe or a terminal, and nothing comes out of it" in result.stderr
    Path("p.toml").write_text(SPEC)
    Path("generated/p").mkdir(parents=True)
    os.mkfifo("generated/p/manifest.json")
    result = _run("compile", "p.toml")
    assert result.exit_code == 2 and result.stderr.count("\n") == 1
    assert "cannot read generated/p/manifest.json: it is a pipe" in result.stderr


def test_a_spec_comes_through_a_pipe() -> None:
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2]), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "basisgen.cli", "compile", "/dev/stdin"]
    subprocess.run(command, input=SPEC, env=environment, text=True, check=True, capture_output=True)
    assert Path("generated/p/c.py").exists()


@pytest.mark.parametrize("place", ["a" * 4000, "a/" * 1990 + "b"], ids=["name", "deep"])
@pytest.mark.parametrize("command", [["compile", "p.toml"], ["new", "x", "--preset", "tetris"]], ids=["compile", "new"])
def test_an_overlong_path_is_one_line_and_nothing_is_written(command: list[str], place: str) -> None:
    Path("p.toml").write_text(SPEC)
    result = _run(*command, "--out", place)
    assert result.exit_code == 2 and result.stderr.count("\n") == 1
    assert "File name too long" in result.stderr
    assert [path.name for path in Path().iterdir()] == ["p.toml"]


@pytest.mark.parametrize("command", ["compile", "verify", "report", "tune"])
def test_escapes_in_names_are_shown_and_not_obeyed(command: str) -> None:
    result = _run(command, "evil\x1b[31m\x07")
    assert result.exit_code == 2 and r"evil\x1b[31m\x07" in result.stderr and "\x1b" not in result.stderr
