"""`__pycache__`: Python runs what it finds there in place of a module, so every file of it is compiled again.

A cached module is left alone if it is, to the byte, what this interpreter makes of the module beside it, in one of the
two forms that the interpreter checks against the source before use: by time and size, or by hash (PEP 552). One mark
may differ: whether a string of one letter, which a process has once, is interned depends on what it did before.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator, Mapping
from contextlib import suppress
from importlib.util import MAGIC_NUMBER, source_hash
from itertools import islice
from marshal import dumps  # loads is not for bytes from elsewhere
from types import CodeType

from basisgen.verify.files import CACHE

_NAME = re.compile(rf"(\w+)\.{re.escape(sys.implementation.cache_tag or '-')}(?:\.opt-([12]))?\.pyc", re.ASCII)
_HEADER = 16
_MOST_CHARACTERS = 4096  # of a path
_MOST_PATHS = 8  # that a file is compiled for
_INTERNED = 0x20  # of a type in marshal's form


def check_bytecode(
    cached: Mapping[str, bytes], sources: Mapping[str, bytes], times: Mapping[str, int]
) -> Iterator[str]:
    """A complaint about every cached file that is not what this interpreter makes of a source."""
    for name, body in cached.items():
        match = _NAME.fullmatch(name)
        source = f"{match[1]}.py" if match else ""
        if match is None or source not in sources:
            yield f"{CACHE}/{name} belongs to no module here, or to another interpreter. Remove {CACHE}"
        elif body[:_HEADER] not in _headers(sources[source], times[source]):
            yield f"{CACHE}/{name} is not of the present {source}, or is never checked against it. Remove {CACHE}"
        elif not any(
            _are_same(body[_HEADER:], code) for code in _codes(body, source, sources[source], int(match[2] or 0))
        ):
            yield f"{CACHE}/{name} is not what this interpreter makes of {source}. Remove {CACHE}"


def _headers(source: bytes, time: int) -> tuple[bytes, bytes]:
    """The headers with time and size of the source, and with its hash, to be checked."""
    numbers = (0, time & 0xFFFFFFFF, len(source) & 0xFFFFFFFF)
    by_time = MAGIC_NUMBER + b"".join(number.to_bytes(4, "little") for number in numbers)
    return by_time, MAGIC_NUMBER + (3).to_bytes(4, "little") + source_hash(source)


def _codes(body: bytes, name: str, source: bytes, optimization: int) -> Iterator[tuple[bytes, set[bytes]]]:
    """The code for each path that `body` may have as the path of its source, which serves messages only; letters."""
    for path in islice(_paths(body, name.encode()), _MOST_PATHS):
        # dumps marks what has more than one reference, and the import system holds one; so does this list, where a
        # variable would not do: from Python 3.14 on a call borrows its reference
        held = [compile(source, path, "exec", dont_inherit=True, optimize=optimization)]
        yield dumps(held[0]), {letter.encode() for letter in _letters(held[0]) if letter.isascii()}


def _are_same(found: bytes, code: tuple[bytes, set[bytes]]) -> bool:
    """Whether two codes differ in nothing but the interned mark of strings of one letter."""
    made, letters = code
    if len(found) != len(made):
        return False
    places = [i for i in range(len(made)) if found[i] != made[i]] if found != made else []
    return all(found[i] == made[i] ^ _INTERNED and _is_letter(made, i, letters) for i in places)


def _is_letter(made: bytes, place: int, letters: set[bytes]) -> bool:
    """Whether a string of one of the letters begins there: a type with or without its marks, the length, the letter."""
    letter = made[place + 2 : place + 3]
    strings = re.findall(rb"[Zz\xda\xfa]\x01" + re.escape(letter), made)  # each object stands there once
    return letter in letters and len(strings) == 1 and made[place : place + 3] == strings[0]


def _letters(constant: object) -> Iterator[str]:
    """The strings of one letter among the constants of a code, and of the codes within."""
    if isinstance(constant, str) and len(constant) == 1:
        yield constant
    within = constant.co_consts if isinstance(constant, CodeType) else constant
    if isinstance(within, tuple | frozenset):
        for part in within:
            yield from _letters(part)


def _paths(body: bytes, name: bytes) -> Iterator[str]:
    """Strings that end in the name, in marshal's form: their length, in one byte or four, stands before them."""
    for found in islice(re.finditer(re.escape(name), body), _MOST_PATHS):
        stop = found.end()
        for start in range(max(stop - _MOST_CHARACTERS, _HEADER + 4), found.start() + 1):
            length = stop - start
            if body[start - 1] == length or int.from_bytes(body[start - 4 : start], "little") == length:
                with suppress(UnicodeDecodeError):
                    path = body[start:stop].decode("utf-8", "surrogatepass")
                    if "\0" not in path:  # no path has it, and `compile` takes none that does
                        yield path
