"""`basisgen show --rotation`: exact d^l, the numbers of the tables."""

from __future__ import annotations

import json

import numpy as np
import pytest
from click.testing import CliRunner

from basisgen.cli import main
from basisgen.commands.show_rotation import small_d
from basisgen.spheres.harmonic_tables import tables
from basisgen.spheres.small_d import canonical
from basisgen.spheres.sphere_grid import Sampling


def _show(*arguments: str) -> str:
    result = CliRunner().invoke(main, ["show", "--rotation", *arguments])
    assert result.exit_code == 0, result.output
    return result.output


def test_degrees_0_1_and_2() -> None:
    assert "d[0, 0] = 1" in _show("0")
    lines = _show("1").splitlines()
    assert {"d[0, 0] = (x)", "d[1, -1] = s^2", "d[1, 0] = sqrt(2) c s", "d[1, 1] = c^2"} <= set(lines)
    assert "D[m, n] = a cos(m alpha + n gamma) + b cos(m alpha - n gamma)" in lines
    assert "d[0, 0] = 1/2 (3 x^2 - 1)" in _show("2")
    latex = _show("1", "--format", "latex")
    assert r"d_{1,0} = \sqrt{2} c s" in latex
    assert r"D_{m, n} = a \cos(m \alpha + n \gamma) + b \cos(m \alpha - n \gamma)" in latex


def test_json_holds_the_exact_ones_and_these_are_the_tables() -> None:
    """Of degrees below 7, at the rings of a grid."""
    table, place = tables(Sampling.MW, 7, 7), {}
    for m, n in canonical(7, 7):
        for l in range(m, 7):
            place[l, m, n] = len(place)
    for l in range(7):
        found = json.loads(_show(str(l), "--format", "json"))["small_d"]
        exact = small_d(l)
        assert found == [[d.m, d.n, str(d.square), list(d.polynomial)] for d in exact] and len(exact) == (l + 1) ** 2
        for d in exact:
            values = [(2 * l + 1) ** 0.5 * d.at(cos) for cos in table.cos_theta]
            assert np.abs(values - table.synthesis[place[l, d.m, d.n]]).max() < 1e-12


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("25",), "degree 25 is not one of 0 to 24"),
        (("-1",), "degree -1 is not one of"),
        (("1", "1x0"), "--rotation a degree, and then nothing else"),
        (("1", "--zonal", "3", "2"), "and then nothing else"),
        (("1", "--degrees", "1", "2"), "and then nothing else"),
    ],
)
def test_wrong_degrees_are_one_line(arguments: tuple[str, ...], message: str) -> None:
    result = CliRunner().invoke(main, ["show", "--rotation", *arguments])
    assert result.exit_code == 2 and message in result.output and result.output.count("\n") == 1
