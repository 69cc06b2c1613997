"""`__pycache__`: Python runs what it finds there in place of a module, so every file of it is compiled again.

A cached module is left alone if it is, to the byte, what this interpreter makes of the module beside it, in one of the
two forms that the interpreter checks against the source before use: by time and size, or by hash (PEP 552).
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator, Mapping
from contextlib import suppress
from importlib.util import MAGIC_NUMBER, source_hash
from itertools import islice
from marshal import dumps  # loads is not for bytes from elsewhere

from basisgen.verify.files import CACHE

_NAME = re.compile(rf"(\w+)\.{re.escape(sys.implementation.cache_tag or '-')}(?:\.opt-([12]))?\.pyc", re.ASCII)
_HEADER = 16
_MOST_CHARACTERS = 4096  # of a path
_MOST_PATHS = 8  # that a file is compiled for


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
        elif not any(body[_HEADER:] == code for code in _codes(body, source, sources[source], int(match[2] or 0))):
            yield f"{CACHE}/{name} is not what this interpreter makes of {source}. Remove {CACHE}"


def _headers(source: bytes, time: int) -> tuple[bytes, bytes]:
    """The headers with time and size of the source, and with its hash, to be checked."""
    numbers = (0, time & 0xFFFFFFFF, len(source) & 0xFFFFFFFF)
    by_time = MAGIC_NUMBER + b"".join(number.to_bytes(4, "little") for number in numbers)
    return by_time, MAGIC_NUMBER + (3).to_bytes(4, "little") + source_hash(source)


def _codes(body: bytes, name: str, source: bytes, optimization: int) -> Iterator[bytes]:
    """The code for each path that `body` may have as the path of its source: it serves messages only."""
    for path in islice(_paths(body, name.encode()), _MOST_PATHS):
        code = compile(source, path, "exec", dont_inherit=True, optimize=optimization)
        yield dumps(code)  # which marks what has more than one reference: like the import system we hold one


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
