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

COLOUR = re.compile(rb"\x1b\[[0-9;]*(3[0-7]|9[0-7])[0-9;]*m")
DEFECT = ("defect", "1x0", "2x1", "--kernel-size", "3")


def _command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "basisgen.cli", *arguments]


def _environment(**more: str) -> dict[str, str]:
    hidden = ("NO_COLOR", "FORCE_COLOR", "COLUMNS", "LINES")
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


def test_no_color_takes_the_colours_away() -> None:
    assert COLOUR.search(_on_terminal(100, *DEFECT))
    assert not COLOUR.search(_on_terminal(100, *DEFECT, NO_COLOR="1"))


def test_a_narrow_terminal_loses_nothing() -> None:
    shown = _on_terminal(60, *DEFECT).decode()
    assert "…" not in shown
    assert "conservative" in re.sub(r"[\s\d.]", "", re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", shown))


@pytest.mark.parametrize("columns", [40, 80, 200])
def test_show_fits(columns: int) -> None:
    lines = _on_terminal(columns, "show", "1", "2").decode().split("J = ", 1)[1].splitlines()
    assert max(map(len, lines)) <= max(columns, 44)  # the longest entry


@pytest.mark.slow
def test_verify_in_colour_and_without(tmp_path: Path) -> None:
    package = str(Path(__file__).parent.parent.parent / "generated" / "tetris")
    assert COLOUR.search(_on_terminal(80, "verify", package, "--no-run"))
    assert not COLOUR.search(_on_terminal(80, "verify", package, "--no-run", NO_COLOR="1"))
