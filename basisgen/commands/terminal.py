"""What the command line says, and where: one line per error, no control characters, tables only where they fit."""

from __future__ import annotations

import errno
import os
import signal
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

import click

from basisgen.errors import BasisgenError

WIDTH = 120  # of formulas that go to a file or a pipe

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table


def say(text: object, *, error: bool = False, end: str = "\n") -> None:
    """Prints text. Control characters, which file names may hold, are shown as escapes; no terminal obeys them."""
    click.echo("".join(map(_visible, str(text))) + end, nl=False, err=error)


def say_first(number: int, lines: Sequence[str]) -> None:
    """Prints the first lines, indented, and how many more there are."""
    for line in lines[:number]:
        say(f"  {line}")
    if len(lines) > number:
        say(f"  and {len(lines) - number} more")


def explains_errors(command: Callable[..., None]) -> Callable[..., None]:
    """Turns our own exceptions, Ctrl-C and system errors into one message on stderr and an exit code."""

    @wraps(command)
    def wrapped(*arguments: Any, **options: Any) -> None:
        open_standard_streams()
        try:
            command(*arguments, **options)
            sys.stdout.flush()
        except BasisgenError as error:
            say(f"basisgen: {error}", error=True)
            sys.exit(error.exit_code)
        except KeyboardInterrupt:
            say("\nbasisgen: interrupted. Nothing is half-written.", error=True)
            sys.exit(128 + signal.SIGINT)
        except MemoryError:
            say(
                "basisgen: there is not enough memory for this. Take a smaller kernel_size or lower degrees.",
                error=True,
            )
            sys.exit(2)
        except OSError as error:
            if error.errno == errno.EPIPE:
                raise  # click ends the command in silence
            if error.filename is None:  # what is still to be written would fail again at the end of the process
                with suppress(OSError), Path(os.devnull).open("w") as nowhere:
                    os.dup2(nowhere.fileno(), sys.stdout.fileno())
            say(f"basisgen: cannot go on: {error.filename or 'output'}: {error.strerror or error}.", error=True)
            sys.exit(2)

    return wrapped


def open_standard_streams() -> None:
    """Where input, output or errors are closed, as `>&-` in a shell does, reads nothing and writes nowhere instead.

    Otherwise the next file to be opened would take their place, and what is printed would end up in it.
    """
    for handle, name in enumerate(("stdin", "stdout", "stderr")):
        try:
            os.fstat(handle)
        except OSError:
            os.dup2(os.open(os.devnull, os.O_RDWR), handle)
        if getattr(sys, name) is None:
            setattr(sys, name, os.fdopen(handle, "r" if name == "stdin" else "w", closefd=False))


def print_table(table: Table, text: str) -> None:
    """The table on a terminal that has room for it; elsewhere the text, whose lines may be wrapped but are never cut.

    Room is the table's least width if it has one, as tables that fold do, else its own.
    """
    out = console()
    width = table.min_width or out.measure(table, options=out.options.update(max_width=1000)).maximum
    out.print(table) if out.is_terminal and out.width >= width else say(text)


def console(*, error: bool = False) -> Console:
    """Draws spinners, bars and colours on a terminal; elsewhere plain text, also where FORCE_COLOR is set."""
    from rich.console import Console

    return Console(stderr=error, force_terminal=None if is_terminal(sys.stderr if error else sys.stdout) else False)


def terminal_width() -> int | None:
    """Columns of the terminal that the output goes to; None where it goes elsewhere."""
    from shutil import get_terminal_size

    return get_terminal_size().columns if is_terminal(sys.stdout) else None


def is_terminal(stream: TextIO) -> bool:
    """Whether a person sees what is drawn and erased. A notebook's ! is a terminal by name that keeps every frame.

    jupyter_client sets JPY_PARENT_PID for the kernel and all that it starts, ipykernel its backend.
    """
    notebook = "JPY_PARENT_PID" in os.environ or "matplotlib_inline" in os.environ.get("MPLBACKEND", "")
    return stream.isatty() and not notebook


def _visible(character: str) -> str:
    if character.isprintable() or character in "\n\t":
        return character
    return (
        character.encode("unicode_escape").decode()
        if not 0xD800 <= ord(character) < 0xE000
        else "\N{REPLACEMENT CHARACTER}"
    )
