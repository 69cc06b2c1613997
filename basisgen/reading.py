"""Tables from outside, read key by key into exact, bounded values: the one reader of specs, options and settings.

What is asked for is a known key; `check_keys` and `Settings.finish` refuse the others. Numbers arrive as int, float,
Fraction, Decimal or text and become the rational that their decimal text says: 0.6 is 3/5.
"""

from __future__ import annotations

import keyword
import re
import sys
from collections.abc import Collection, Mapping
from decimal import Decimal
from fractions import Fraction
from itertools import pairwise
from typing import TypeGuard

from basisgen.errors import SpecError

SMALLEST, LARGEST = Fraction(1, 1000), Fraction(1000)  # bounds of a positive number
MOST_ENTRIES = 64  # of a list
LARGEST_INTEGER = 1000

MAX_NAME_LENGTH = 64
ARGUMENTS = {"stride": 2, "padding": 0, "bias": False}  # of generated classes, with an example

_IDENTIFIER = re.compile(r"[A-Za-z][A-Za-z0-9_]*", re.ASCII)
_MODULES = sys.stdlib_module_names | {
    *("basisgen", "basisgen_runtime", "generated", "runtime", "torch", "safetensors", "numpy"),
    *("filelock", "fsspec", "jinja2", "markupsafe", "mpmath", "networkx", "sympy", "triton", "typing_extensions"),
}  # what generated code imports, and what that imports
_LOWER_CASE_MODULES = {module.lower() for module in _MODULES}
_DEVICES = {"con", "prn", "aux", "nul", *(f"{port}{n}" for port in ("com", "lpt") for n in range(10))}  # of Windows
_NUMBER = re.compile(r"[+-]?(\d+/\d+|(\d+(\.\d*)?|\.\d+)([eE][+-]?\d{1,2})?)", re.ASCII)
_MOST_CHARACTERS = 40  # of a number: beyond that its text is not something a person meant


class Settings:
    """A table of settings and the keys asked of it so far. Every reader returns None for a key that is absent.

    Raises SpecError, quoting key and value, for a value of the wrong kind or out of bounds.
    """

    def __init__(self, table: Mapping[str, object]) -> None:
        self._table = table
        self._known: list[str] = []

    def has(self, key: str) -> bool:
        """Whether the key is in the table; from now on it is known."""
        if key not in self._known:
            self._known.append(key)
        return key in self._table

    @property
    def known(self) -> tuple[str, ...]:
        """The keys asked of it so far."""
        return tuple(self._known)

    def choice(self, key: str, options: Collection[str]) -> str | None:
        """The value of a key that takes one of a few words."""
        if not self.has(key):
            return None
        value = self._table[key]
        if not isinstance(value, str) or value not in options:
            raise self.complaint(key, f"must be one of {', '.join(map(repr, options))}")
        return value

    def is_text(self, key: str) -> bool:
        """Whether the key holds a word rather than a number or a list."""
        return self.has(key) and isinstance(self._table[key], str)

    def positive(self, key: str, least: Fraction = SMALLEST, most: Fraction = LARGEST) -> Fraction | None:
        """A number from `least` to `most`."""
        if not self.has(key):
            return None
        number = exact_number(self._table[key])
        if number is None or not least <= number <= most:
            raise self.complaint(
                key, f"must be a number from {float(least):g} to {float(most):g}, for example {key} = 0.6"
            )
        return number

    def lengths(self, key: str) -> tuple[Fraction, ...] | None:
        """An increasing list of numbers from 0 to 1000."""
        if not self.has(key):
            return None
        numbers = [exact_number(value) for value in self._entries(key)]
        lengths = tuple(number for number in numbers if number is not None and 0 <= number <= LARGEST)
        if len(lengths) < len(numbers) or any(a >= b for a, b in pairwise(lengths)):
            raise self.complaint(
                key, f"must increase, from 0 to {float(LARGEST):g} at most, for example {key} = [0, 1, 2.5]"
            )
        return lengths

    def integer(self, key: str, most: int = LARGEST_INTEGER) -> int | None:
        """A whole number from 0 to `most`."""
        if not self.has(key):
            return None
        value = self._table[key]
        if not _is_small_integer(value) or value > most:
            raise self.complaint(key, f"must be a whole number from 0 to {most}, for example {key} = 3")
        return value

    def integers(self, key: str) -> tuple[int, ...] | None:
        """A list of whole numbers from 0 to 1000."""
        if not self.has(key):
            return None
        entries = self._entries(key)
        integers = tuple(entry for entry in entries if _is_small_integer(entry))
        if len(integers) < len(entries):
            raise self.complaint(
                key, f"must hold whole numbers from 0 to {LARGEST_INTEGER}, for example {key} = [0, 2, 4]"
            )
        return integers

    def finish(self) -> None:
        """Refuses keys that nothing asked for."""
        for key in self._table:
            if key not in self._known:
                raise self.complaint(key, f"there is no such setting here. Known: {', '.join(self._known)}")

    def complaint(self, key: str, rule: str) -> SpecError:
        """The error for one key: the value given and the rule it breaks."""
        return SpecError(f"radial setting {_key(key)} = {quoted(self._table.get(key))}: {rule}.")

    def _entries(self, key: str) -> list[object]:
        value = self._table[key]
        if not isinstance(value, list | tuple) or not 0 < len(value) <= MOST_ENTRIES:
            raise self.complaint(key, f"must be a list of 1 to {MOST_ENTRIES} numbers")
        return list(value)


def identifier(value: object, what: str) -> str:
    """A name that becomes a module, a class or a directory: `value` itself if it may be one.

    Raises SpecError, which begins with `what`.
    """
    example = "for example 'tetris'" if what.startswith("package") else "for example 'Conv1'"
    if not isinstance(value, str) or not _IDENTIFIER.fullmatch(value):
        raise SpecError(
            f"{what} {quoted(value)} is not an identifier of ASCII letters, digits and underscores that starts "
            f"with a letter. Choose one, {example}."
        )
    if len(value) > MAX_NAME_LENGTH:
        raise SpecError(f"{what} {quoted(value)} is longer than {MAX_NAME_LENGTH} characters.")
    if any(keyword.iskeyword(word) or keyword.issoftkeyword(word) for word in (value, value.lower())) or "__" in value:
        raise SpecError(f"{what} '{value}' is reserved in Python, in this or in lower case. Choose another, {example}.")
    if value.lower() in _DEVICES:
        raise SpecError(f"{what} '{value}' is a device on Windows, not a possible file. Choose another, {example}.")
    if what.startswith("package") and value.lower() in _LOWER_CASE_MODULES:
        raise SpecError(f"{what} '{value}' would hide the module of that name. Choose another, {example}.")
    return value


def check_keys(table: Mapping[str, object], known: tuple[str, ...], where: str) -> None:
    """Raises SpecError, which begins with `where`, for a key that is not known."""
    for key in table:
        if key in ARGUMENTS:
            raise SpecError(
                f"{where} has a key '{key}', which is not part of a spec: it is an argument of the generated class, "
                f"for example Conv1({key}={ARGUMENTS[key]})."
            )
        if key not in known:
            raise SpecError(f"{where} has an unknown key {quoted(key)}. Known keys: {', '.join(known)}.")


def required(table: Mapping[str, object], key: str, where: str) -> object:
    """The value of a key; raises SpecError where it is missing."""
    if key not in table:
        raise SpecError(f"{where} has no key '{key}'. Add {key} = ...")
    return table[key]


def one_of(key: str, value: object, known: Collection[str]) -> str:
    """The value if it is one of a few words; raises SpecError."""
    if not isinstance(value, str) or value not in known:
        raise SpecError(f"{key} = {quoted(value)} is not one of {', '.join(known)}.")
    return value


def flag(table: Mapping[str, object], key: str, default: bool) -> bool:
    """The value of a key that is true or false; raises SpecError."""
    value = table.get(key, default)
    if not isinstance(value, bool):
        raise SpecError(f"{key} = {quoted(value)} is not true or false.")
    return value


def whole(table: Mapping[str, object], key: str, default: int, least: int, most: int) -> int:
    """The value of a key that is a whole number within bounds; raises SpecError."""
    value = table.get(key, default)
    if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= most:
        raise SpecError(f"{key} = {quoted(value)} is not a whole number from {least} to {most}.")
    return value


def sub_table(value: object, where: str) -> Mapping[str, object]:
    """The value if it is a table; raises SpecError."""
    if not isinstance(value, Mapping):
        raise SpecError(f"{where} = {quoted(value)} is not a table.")
    return value


def parse_value(text: str) -> object:
    """A command line's option: a whole number, a decimal, a fraction p/q, true, false, or the text itself."""
    if text in ("true", "false"):
        return text == "true"
    if re.fullmatch(r"[+-]?\d{1,18}", text, re.ASCII):
        return int(text)
    if re.fullmatch(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d{1,4})?", text, re.ASCII):
        return Decimal(text)
    if re.fullmatch(r"\d{1,18}/[1-9]\d{0,17}", text, re.ASCII):
        return Fraction(text)
    return text


def exact_number(value: object) -> Fraction | None:
    """The rational a number's text says, None if it is not a finite number of moderate size."""
    if isinstance(value, bool) or not isinstance(value, int | float | Fraction | Decimal | str):
        return None
    if isinstance(value, int) and value.bit_length() > 64:
        return None
    text = str(value).strip()
    if len(text) > _MOST_CHARACTERS or _NUMBER.fullmatch(text) is None:
        return None
    try:
        return Fraction(text)
    except ZeroDivisionError:
        return None


def _is_small_integer(value: object) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= LARGEST_INTEGER


def quoted(value: object) -> str:
    """The value as a spec holds it, on one line, shortened."""
    text = _written(value)
    return text if len(text) <= 80 else f"{text[:60]}... ({len(text)} characters)"


def _written(value: object, levels: int = 4) -> str:
    """A value in TOML's notation; deeper levels are left out."""
    if isinstance(value, list | tuple):
        return f"[{', '.join(_written(entry, levels - 1) for entry in value) if levels else '...'}]"
    if isinstance(value, Mapping):
        entries = (
            [f"{_key(key)} = {_written(entry, levels - 1)}" for key, entry in value.items()] if levels else ["..."]
        )
        return f"{{ {', '.join(entries)} }}" if entries else "{}"
    if isinstance(value, bool):
        return str(value).lower()
    return repr(value) if isinstance(value, str) else str(value)


def _key(key: object) -> str:
    return key if isinstance(key, str) and key.isidentifier() and len(key) <= 40 else quoted(key)
