"""Numbers, tables and templates as plain text."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from jinja2 import Environment, Template


def aligned(lines: Sequence[Sequence[str]], left: int, gap: str = "  ") -> list[str]:
    """Lines of cells as lines of text: the first `left` columns start together, the others end together."""
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return [
        gap.join(
            cell.ljust(width) if column < left else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in lines
    ]


def grouped(number: int) -> str:
    """`12,345`."""
    return f"{number:,}"


def counted(number: int, thing: str) -> str:
    """`1 channel`, `12 channels`."""
    return f"{grouped(number)} {thing}{'' if number == 1 else 's'}"


def listed(things: Sequence[object], word: str) -> str:
    """`1, 2 or 3`, with the word before the last."""
    *first, last = map(str, things)
    return f"{', '.join(first)} {word} {last}" if first else last


def percent(part: float) -> str:
    """Two figures: `0.12 %`, `5.7 %`, `40 %`."""
    value = 100 * part
    return f"{value:.0f} %" if value >= 9.95 else f"{value:.1f} %" if value >= 0.995 else f"{value:.2g} %"


def times(more: int, fewer: int) -> str:
    """How many times as many: `216 times`, `1.4 times`."""
    ratio = more / fewer
    return f"{ratio:,.0f} times" if ratio >= 10 else f"{ratio:.1f} times"


def template(package: str, folder: str, name: str, *, html: bool = False) -> Template:
    """A Jinja template of ours, strict: a name it does not know is an error. Only HTML is escaped."""
    return _environment(package, folder, html).get_template(name)


def source_text(package: str, folder: str, name: str) -> str:
    """A file that comes with a package of ours, as text."""
    return (files(package) / folder / name).read_text("utf-8")


@cache
def _environment(package: str, folder: str, html: bool) -> Environment:
    from jinja2 import Environment, PackageLoader, StrictUndefined

    return Environment(
        loader=PackageLoader(package, folder),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        autoescape=html,
    )
