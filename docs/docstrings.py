"""Lists in docstrings become lists on the pages of the reference.

epochs       passes over the training set              * `epochs` passes over the training set
batch_size   samples per optimiser step, over      ->  * `batch_size` samples per optimiser step, over all processes
             all processes together
"""

from __future__ import annotations

import re
from typing import Any

import griffe

_ENTRY = re.compile(r"(\S+(?: \S+)*) {2,}(\S.*)")
_MORE = re.compile(r" {4,}(\S.*)")


def as_lists(text: str) -> str:
    """Two lines or more of a word and its explanation, in columns, as Markdown; everything else as it is."""
    found: list[str] = []
    lines = text.split("\n")
    while lines:
        entries = _entries(lines)
        if len(entries) > 1:
            found += ["", *(f"* `{name}` {' '.join(words)}" for name, words in entries), ""]
            del lines[: sum(len(words) for _, words in entries)]
        else:
            found.append(lines.pop(0))
    return "\n".join(found)


def _entries(lines: list[str]) -> list[tuple[str, list[str]]]:
    """The entries that the lines begin with: name, and the lines of its explanation."""
    entries: list[tuple[str, list[str]]] = []
    for line in lines:
        if entry := _ENTRY.fullmatch(line):
            entries.append((entry[1], [entry[2]]))
        elif (more := _MORE.fullmatch(line)) and entries:
            entries[-1][1].append(more[1])
        else:
            break
    return entries


class Lists(griffe.Extension):
    """Applied to every docstring that is read."""

    def on_instance(self, *, obj: griffe.Object, **kwargs: Any) -> None:
        """Rewrites the docstring of one class, function, attribute or module."""
        if obj.docstring is not None:
            obj.docstring.value = as_lists(obj.docstring.value)
