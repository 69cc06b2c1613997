"""What a terminal gets and what a pipe gets: colours, NO_COLOR, narrow windows."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import struct
import subprocess
import sys
import termios
from pathlib import Path

import pytest

from basisgen.text import aligned

COLOUR = re.compile(rb"\x1b\[[0-9;]*(3[0-7]|9[0-7])[0-9;]*m")
DEFECT = ("defect", "1x0", "2x1", "--kernel-size", "3")

SOME_SLOW = [60, *(pytest.param(columns, marks=pytest.mark.slow) for columns in (40, 80, 200))]


def _command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "basisgen.cli", *arguments]


def _environment(**more: str) -> dict[str, str]:
    hidden = ("NO_COLOR", "FORCE_COLOR", "COLUMNS", "LINES", "JPY_PARENT_PID", "MPLBACKEND")
    kept = {key: value for key, value in os.environ.items() if key not in hidden}
    return kept | {"TERM": "xterm-256color", "OMP_NUM_THREADS": "1", **more}


def _on_terminal(columns: int, *arguments: str, **environment: str) -> bytes:
    """Everything a command writes to a terminal of so many columns."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 40, columns, 0, 0))
    with subprocess.Popen(
        _command(*arguments), stdin=theirs, stdout=theirs, stderr=theirs, env=_environment(**environment)
    ) as process:
        os.close(theirs)
        written = b""
        while True:
            try:
                part = os.read(ours, 1 << 16)
            except OSError:  # the last one has closed its end
                break
            if not part:
                break
            written += part
        os.close(ours)
        assert process.wait() == 0, written
    return written


def test_a_terminal_gets_progress_and_a_pipe_no_escapes() -> None:
    assert b"measuring" in _on_terminal(100, *DEFECT)
    piped = subprocess.run(_command(*DEFECT), env=_environment(), capture_output=True, check=True)
    assert b"\x1b" not in piped.stdout + piped.stderr and b"measuring" not in piped.stderr


@pytest.mark.parametrize(
    "notebook", [{"JPY_PARENT_PID": "1"}, {"MPLBACKEND": "module://matplotlib_inline.backend_inline"}]
)
def test_what_a_notebook_starts_on_a_pseudo_terminal_writes_no_escapes(notebook: dict[str, str]) -> None:
    shown = _on_terminal(60, *DEFECT, FORCE_COLOR="1", **notebook)
    piped = subprocess.run(_command(*DEFECT), env=_environment(), capture_output=True, check=True)
    assert b"\x1b" not in shown and shown.replace(b"\r\n", b"\n") == piped.stdout


def test_force_color_makes_no_terminal_of_a_pipe() -> None:
    piped = subprocess.run(_command(*DEFECT), env=_environment(FORCE_COLOR="1"), capture_output=True, check=True)
    assert b"\x1b" not in piped.stdout + piped.stderr


def test_no_color_takes_the_colours_away() -> None:
    assert COLOUR.search(_on_terminal(100, *DEFECT))
    assert not COLOUR.search(_on_terminal(100, *DEFECT, NO_COLOR="1"))


def _plain(shown: bytes) -> list[str]:
    """The lines of an output without escapes, progress bars and trailing blanks."""
    text = re.sub(r"[^\n]*\n[^\n]*\x1b\[1A\x1b\[2K", "", shown.decode())  # the line above, erased
    text = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", text)
    return [line.rsplit("\r", 1)[-1].rstrip() for line in text.replace("\r\n", "\n").split("\n")]


@pytest.mark.parametrize("columns", SOME_SLOW)
def test_every_row_of_the_defect_table_is_whole_on_any_terminal(columns: int) -> None:
    lines = [" ".join(line.split()) for line in _plain(_on_terminal(columns, *DEFECT))]
    rows = [line for line in lines if line.startswith("3x3x3 ")]
    assert len(rows) == 9 and rows[5].startswith("3x3x3 shells cutoff=conservative 1 3 2 1.0 0.091 0.091")
    piped = subprocess.run(_command(*DEFECT), env=_environment(COLUMNS="40"), capture_output=True, check=True)
    assert rows == [" ".join(line.split()) for line in _plain(piped.stdout) if line.startswith("3x3x3 ")]


def test_a_table_is_shown_where_it_fits() -> None:
    shown = {columns: max(map(len, _plain(_on_terminal(columns, *DEFECT))[:8])) for columns in (60, 79, 80)}
    assert shown[79] == shown[80] <= 79 < shown[60]  # columns stand closer in a table than in text


@pytest.mark.parametrize("columns", [40, 80, 200])
def test_show_fits_the_terminal(columns: int) -> None:
    lines = _on_terminal(columns, "show", "1", "2").decode().split("J = ", 1)[1].splitlines()
    assert max(map(len, lines)) <= max(columns, 44)  # the longest entry


@pytest.fixture
def package(tmp_path: Path) -> str:
    from basisgen.emission.write import write_package
    from basisgen.pipeline import compile_package
    from basisgen.spec import parse_package

    text = 'name = "p"\n[[conv]]\nname = "C"\nin = "1x0"\nout = "1x1"\nkernel_size = 3\n'
    write_package(compile_package(parse_package(text)), tmp_path / "p")
    return str(tmp_path / "p")


@pytest.mark.parametrize("columns", SOME_SLOW)
def test_verify_cuts_nothing_on_any_terminal(package: str, columns: int) -> None:
    verify = ("verify", package, "--no-run")
    lines = _plain(_on_terminal(columns, *verify))
    shown = "".join("".join(line.split()) for line in lines)
    assert "…" not in shown and shown.startswith("checkworstresulthow")
    assert [line.split()[0] for line in lines if "passed" in line][:3] == ["files", "code", "certificate"]
    if columns != 80:  # where it is neither wrapped nor folded, or wrapped by the terminal: every check on its line
        assert any("not done: no code of the package is run  kernel() = random weights" in line for line in lines)
    piped = subprocess.run(_command(*verify), env=_environment(COLUMNS="40"), capture_output=True, check=True)
    assert len(_plain(piped.stdout)) == 18 and b"\x1b" not in piped.stdout  # title, 15 checks, verdict


def test_verify_in_colour_and_without(package: str) -> None:
    assert COLOUR.search(_on_terminal(80, "verify", package, "--no-run"))
    assert not COLOUR.search(_on_terminal(80, "verify", package, "--no-run", NO_COLOR="1"))


def test_lines_of_a_table_have_no_blanks_at_their_ends() -> None:
    assert aligned([("layer", "cost"), ("a", "many words"), ("b", "")], left=2) == [
        "layer  cost",
        "a      many words",
        "b",
    ]
