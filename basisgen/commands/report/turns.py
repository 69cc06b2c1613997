"""Turns of the cube in words: what of the symmetry is exact on voxels."""

from __future__ import annotations

from collections.abc import Iterable
from math import gcd

import numpy as np

from basisgen.volumes.sampling.grid import Turn

# by the trace of the rotation h = g or -g
_PROPER = {3: "the identity", 1: "turns by ±90° about", -1: "half turns about", 0: "turns by ±120° about"}
_IMPROPER = {
    3: "the inversion x → −x",
    1: "turns by ±90° with inversion, about",
    -1: "reflections along",
    0: "turns by ±120° with inversion, about",
}
_ORDER = {3: 1, 1: 4, -1: 2, 0: 3}


def named(turns: Iterable[Turn]) -> list[tuple[int, str]]:
    """(how many, what they are): by kind, then by kind of axis (x; x + y; x + y + z), each with its axes."""
    kinds: dict[tuple[bool, int, str], list[str]] = {}
    for turn in turns:
        proper = bool(np.linalg.det(turn) > 0)
        rotation = turn if proper else -turn
        trace, axis = int(np.trace(rotation)), _axis(rotation)
        kind = (not proper, len(axis), (_PROPER if proper else _IMPROPER)[trace])
        kinds.setdefault(kind, []).append(axis)
    return [(len(kinds[kind]), f"{kind[2]} {', '.join(sorted(set(kinds[kind])))}".strip()) for kind in sorted(kinds)]


def _axis(rotation: Turn) -> str:
    """The axis of a rotation: `z`, `x + y`; of the identity, nothing."""
    order = _ORDER[int(np.trace(rotation))]
    if order == 1:
        return ""
    onto_axis = sum(np.linalg.matrix_power(rotation, k) for k in range(order))
    column = next(column for column in np.transpose(onto_axis) if column.any())
    column = column // gcd(*map(int, column))
    sign = 1 if column[np.flatnonzero(column)[0]] > 0 else -1
    text = ""
    for name, entry in zip("xyz", sign * column, strict=True):
        if entry:
            text += name if not text else f" {'+' if entry > 0 else '−'} {name}"
    return text
