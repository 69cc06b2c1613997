"""Numbers and tables as plain text, for files and pipes."""

from __future__ import annotations

from collections.abc import Sequence


def aligned(lines: Sequence[Sequence[str]], left: int) -> list[str]:
    """Lines of cells as lines of text: the first `left` columns start together, the others end together."""
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return [
        "  ".join(
            cell.ljust(width) if column < left else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(line, widths, strict=True))
        )
        for line in lines
    ]


def grouped(number: int) -> str:
    """`12,345`."""
    return f"{number:,}"


def counted(number: int, thing: str) -> str:
    """`1 channel`, `12 channels`."""
    return f"{grouped(number)} {thing}{'' if number == 1 else 's'}"


def percent(part: float) -> str:
    """Two figures: `0.12 %`, `5.7 %`, `40 %`."""
    value = 100 * part
    return f"{value:.0f} %" if value >= 9.95 else f"{value:.1f} %" if value >= 0.995 else f"{value:.2g} %"


def times(more: int, fewer: int) -> str:
    """How many times as many: `216 times`, `1.4 times`."""
    ratio = more / fewer
    return f"{ratio:,.0f} times" if ratio >= 10 else f"{ratio:.1f} times"
