"""What `basisgen verify` found: one line per check, the complaints, one summary."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass

from rich.table import Table
from rich.text import Text

from basisgen.errors import printable

MAX_LENGTH = 500  # characters of a complaint
COLUMNS = ("check", "worst", "result", "how")


@dataclass(frozen=True)
class Check:
    """One check. It passed if it was done and there is no complaint.

    Complaints may quote a hostile package: characters that are not printable are escaped.
    """

    name: str
    how: str
    residual: str
    complaints: tuple[str, ...] = ()
    not_done: str | None = None  # why
    optional: bool = False  # a package can be verified without it

    def __post_init__(self) -> None:
        object.__setattr__(
            self, "complaints", tuple(printable(complaint)[:MAX_LENGTH] for complaint in self.complaints)
        )

    @property
    def passed(self) -> bool:
        """Whether it was done, and found nothing."""
        return not self.complaints and self.not_done is None

    def result(self) -> Text:
        """The last column of the table."""
        if self.complaints:
            return Text(f"FAILED ({len(self.complaints)})", "red")
        return Text("passed", "green") if self.passed else Text(f"not done: {self.not_done}", "yellow")


@dataclass(frozen=True)
class Verdict:
    """All checks of one package. `seed` repeats the random ones."""

    package: str
    seed: int
    checks: tuple[Check, ...]

    @property
    def complaints(self) -> tuple[str, ...]:
        """All complaints."""
        return tuple(complaint for check in self.checks for complaint in check.complaints)

    @property
    def verified(self) -> bool:
        """Whether no check complained, and every one was done that is not optional."""
        return not self.complaints and all(check.optional for check in self.checks if check.not_done is not None)

    def as_json(self) -> str:
        """The verdict as JSON."""
        return json.dumps({"verified": self.verified, **asdict(self)}, indent=1)

    def as_table(self) -> Table:
        """The table for a terminal; long texts are folded."""
        table = Table(*COLUMNS, box=None, pad_edge=False, min_width=70)
        table.columns[0].no_wrap = table.columns[1].no_wrap = True
        for check in self.checks:
            table.add_row(check.name, check.residual, check.result(), check.how)
        return table

    def as_text(self) -> str:
        """The text for a file, a pipe or a narrow terminal: aligned columns, one line per check."""
        rows = [COLUMNS, *((check.name, check.residual, check.result().plain, check.how) for check in self.checks)]
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in rows]
        return "\n".join(line.rstrip() for line in lines)

    def summary(self) -> str:
        """The summary in one line."""
        package, left_out = printable(self.package), [check for check in self.checks if check.not_done is not None]
        if self.complaints:
            count = len(self.complaints)
            return f"{package}: NOT VERIFIED, {count} {'complaint' if count == 1 else 'complaints'}"
        if not self.verified:
            needed = [f"{check.name} ({check.not_done})" for check in left_out if not check.optional]
            return (
                f"{package}: NOT VERIFIED: nothing wrong was found, but these checks were not done: {', '.join(needed)}"
            )
        names = ", ".join(check.name for check in left_out)
        return f"{package}: verified" + (f", without {names}" if names else "")
