"""Zonal filters between anchors, for people: h_l of every degree as the sum of two weights, in rationals."""

from __future__ import annotations

import json
from collections.abc import Callable
from fractions import Fraction

from basisgen.errors import SpecError
from basisgen.spheres.couplings import MAX_DEGREE
from basisgen.spheres.zonal import interpolation, prove
from basisgen.text import counted


def hats(L: int, anchors: int) -> tuple[tuple[Fraction, ...], ...]:
    """The proven interpolation, (degree, anchor).

    Raises SpecError where there are more anchors than degrees, or more degrees than a field can have.
    """
    if not 1 <= L <= MAX_DEGREE + 1:
        raise SpecError(f"band limit {L} is not one of 1 to {MAX_DEGREE + 1}.")
    if not 1 <= anchors <= L:
        raise SpecError(f"{anchors} anchors on {counted(L, 'degree')}: there are 1 to {L}.")
    return prove(interpolation((L, anchors))).hats


def as_text(L: int, anchors: int) -> str:
    """One line per degree."""
    head = f"filters of band limit {L}: {counted(anchors, 'weight')} w instead of {L}; out[l m] = H[l] in[l m]\n"
    lines = [
        f"H[{l}] = 2 pi sqrt(4 pi/{2 * l + 1}) ({_sum(row, '{factor}w[{a}]')})"
        for l, row in enumerate(hats(L, anchors))
    ]
    return "\n".join([head, *lines])


def as_latex(L: int, anchors: int) -> str:
    """One line per degree."""
    return "\n".join(
        rf"H_{{{l}}} = 2\pi\sqrt{{\frac{{4\pi}}{{{2 * l + 1}}}}}\left({_sum(row, '{factor}w_{{{a}}}', _latex)}\right)"
        for l, row in enumerate(hats(L, anchors))
    )


def as_json(L: int, anchors: int) -> str:
    """The factors of each degree without 2 pi sqrt(4 pi/(2l+1)): [degree, anchor, factor]."""
    entries = [[l, a, str(hat)] for l, row in enumerate(hats(L, anchors)) for a, hat in enumerate(row) if hat]
    return json.dumps({"band_limit": L, "anchors": anchors, "interpolation": entries}, indent=1)


STYLES: dict[str, Callable[[int, int], str]] = {"text": as_text, "latex": as_latex, "json": as_json}


def _sum(row: tuple[Fraction, ...], form: str, number: Callable[[Fraction], str] = str) -> str:
    used = [(a, hat) for a, hat in enumerate(row) if hat]
    return " + ".join(form.format(a=a, factor="" if hat == 1 else f"{number(hat)} ") for a, hat in used)


def _latex(hat: Fraction) -> str:
    return rf"\frac{{{hat.numerator}}}{{{hat.denominator}}}"
