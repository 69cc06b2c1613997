"""Reading back what stands on a page: MathML as numbers, PNG as pixels.

Products are written with an invisible operator, so that formulas become Python by joining their parts.
"""

from __future__ import annotations

import math
import re
import struct
import zlib
from collections.abc import Mapping
from html.entities import html5
from xml.etree import ElementTree

import numpy as np
from numpy.typing import NDArray

INVISIBLE_TIMES = "\N{INVISIBLE TIMES}"


def parse(markup: str) -> ElementTree.Element:
    """Well-formed markup as a tree."""
    return ElementTree.fromstring(re.sub(r"&(?!lt;|gt;|amp;|quot;)(\w+;)", lambda entity: html5[entity[1]], markup))


def expression(element: ElementTree.Element) -> str:
    """MathML as a Python expression."""
    children = [expression(child) for child in element]
    match element.tag:
        case "math" | "mrow":
            return "".join(children)
        case "mi" | "mn":
            return element.text or ""
        case "mo":
            return {INVISIBLE_TIMES: "*", "−": "-"}.get(element.text or "", element.text or "")
        case "mspace":
            return ""
        case "msqrt":
            return f"sqrt({''.join(children)})"
        case "mfrac":
            return f"(({children[0]})/({children[1]}))"
        case "msup":
            return f"({children[0]})**({children[1]})"
    raise ValueError(element.tag)


def evaluate(markup: str, values: Mapping[str, float]) -> float:
    """The number that a formula on the page is, at values of its variables."""
    return float(
        eval(expression(parse(markup)), {"__builtins__": {}, "sqrt": math.sqrt, "exp": math.exp}, dict(values))
    )


def kernel(markup: str, point: tuple[float, float, float]) -> NDArray[np.float64]:
    """kappa^J(x) = phi(r) factor matrix, with phi = 1, as numbers (m, n)."""
    x, y, z = point
    names = {"sqrt": math.sqrt, "x": x, "y": y, "z": z, "r": math.sqrt(x * x + y * y + z * z)}
    (content,) = parse(markup)
    table = content.find("mtable")
    assert table is not None
    before = list(content)[: list(content).index(table)]
    texts = ["".join(element.itertext()) for element in before]
    start = next(i for i in range(len(texts)) if texts[i] == "φ") + 2  # behind phi and its argument
    factor = "".join([expression(element) for element in before[start:]]) or "1"
    entries = [["".join([expression(cell) for cell in entry]) for entry in row] for row in table]
    value = [[eval(entry, {"__builtins__": {}}, names) for entry in row] for row in entries]
    return float(eval(factor, {"__builtins__": {}}, names)) * np.array(value, dtype=np.float64)


def pixels(png: bytes) -> NDArray[np.uint8]:
    """(row, column, RGBA) of an unfiltered PNG."""
    assert png.startswith(b"\x89PNG\r\n\x1a\n")
    chunks, start = {}, 8
    while start < len(png):
        (length,) = struct.unpack(">I", png[start : start + 4])
        kind, body = png[start + 4 : start + 8], png[start + 8 : start + 8 + length]
        assert struct.unpack(">I", png[start + 8 + length : start + 12 + length])[0] == zlib.crc32(kind + body)
        chunks[kind] = body
        start += 12 + length
    width, height = struct.unpack(">II", chunks[b"IHDR"][:8])
    rows = np.frombuffer(zlib.decompress(chunks[b"IDAT"]), np.uint8).reshape(height, 1 + 4 * width)
    assert not rows[:, 0].any()
    return rows[:, 1:].reshape(height, width, 4)
