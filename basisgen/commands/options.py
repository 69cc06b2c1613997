"""What options of the command line stand for, as a spec would hold it."""

from __future__ import annotations

import re
from collections.abc import Iterator

from basisgen.errors import SpecError
from basisgen.reading import parse_value, quoted


def settings(family: str | None, radial: tuple[str, ...]) -> dict[str, object]:
    """The `radial` table that --family and the --radial options stand for; without --family, see `family_with`.

    Raises SpecError.
    """
    from basisgen.volumes.sampling.registry import family_with

    table: dict[str, object] = {"family": family}
    for text in radial:
        key, equals, value = text.partition("=")
        if not key.strip() or not equals:
            raise SpecError(f"--radial {quoted(text)} is not KEY=VALUE. Write for example --radial sigma=0.6.")
        if key.strip() in table:
            cure = "Use --family alone" if key.strip() == "family" else "Give it once"
            raise SpecError(f"--radial {quoted(text)}: {key.strip()} is there already. {cure}.")
        table[key.strip()] = value_of(value)
    return table | {"family": family or family_with(table.keys() - {"family"})}


def check_meaning(into: str, out: str) -> Iterator[str]:
    """A note for every field type that is a number alone: a degree, where channels may have been meant."""
    for name, text in (("IN", into), ("OUT", out)):
        if re.fullmatch(r"\s*[1-9]\d*\s*", text, re.ASCII):
            yield (
                f"note: {name} = {quoted(text)} is one field of degree {int(text)}, {2 * int(text) + 1} channels. "
                f"If scalar channels were meant, write '{int(text)}x0'."
            )


def value_of(text: str) -> object:
    """A number, a list of numbers separated by commas, or text."""
    entries = [parse_value(entry.strip()) for entry in text.strip().strip("[]").split(",")]
    return entries[0] if len(entries) == 1 and not text.strip().startswith("[") else entries
