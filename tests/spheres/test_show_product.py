"""`basisgen show --product` and the costs of `basisgen compile -v`."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from click.testing import CliRunner

from basisgen.cli import main
from basisgen.so3.clebsch_gordan import clebsch_gordan


def _show(*arguments: str) -> str:
    result = CliRunner().invoke(main, ["show", "--product", *arguments])
    assert result.exit_code == 0, result.output
    return result.output


def test_dot_and_cross_product() -> None:
    assert "h[0] = sqrt(1/3) f[-1] g[-1] + sqrt(1/3) f[0] g[0] + sqrt(1/3) f[1] g[1]" in _show("1", "1", "0")
    assert "h[-1] = sqrt(1/2) f[0] g[1] - sqrt(1/2) f[1] g[0]" in _show("1", "1", "1")
    assert _show("0", "2", "2").splitlines()[-1] == "h[2] = f[0] g[2]"
    assert r"\sqrt{\frac{1}{3}} f_{-1} g_{-1}" in _show("1", "1", "0", "--format", "latex")


def test_json_holds_every_coefficient() -> None:
    table = json.loads(_show("2", "3", "4", "--format", "json"))
    assert {(m, n, M): value for m, n, M, value in table["coefficients"]} == {
        index: str(value) for index, value in clebsch_gordan(2, 3, 4).items()
    }


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("1", "1", "3"), "they give 0 to 2"),
        (("99", "99", "0"), "over the limit"),
        (("1", "1", "1", "1x0", "1x1"), "three"),
    ],
)
def test_wrong_degrees_are_one_line(arguments: tuple[str, ...], message: str) -> None:
    result = CliRunner().invoke(main, ["show", "--product", *arguments])
    assert result.exit_code == 2 and message in result.output and result.output.count("\n") == 1


def test_compile_says_what_layers_cost(tmp_path: Path) -> None:
    spec = tmp_path / "cost.toml"
    spec.write_text('name = "cost"\n[[layer]]\nkind = "product"\nname = "P"\nin = "2x0..3"\nmixing = "tree"\n')
    result = CliRunner().invoke(main, ["compile", str(spec), "--out", str(tmp_path), "-v"])
    assert result.exit_code == 0, result.output
    assert "complex coefficients per channel 117, complex coefficients of all products 226" in result.output


@pytest.mark.slow
def test_a_report_shows_convolutions_and_other_layers(tmp_path: Path) -> None:
    spec = tmp_path / "both.toml"
    spec.write_text(
        'name = "both"\n[[layer]]\nkind = "product"\nname = "P"\nin = "2x0..1"\nmixing = "all"\n'
        '[[layer]]\nkind = "conv"\nname = "Conv"\nin = "P"\nout = "1x0"\nkernel_size = 3\n'
        'radial = { family = "shells" }\n'
    )
    assert CliRunner().invoke(main, ["compile", str(spec), "--out", str(tmp_path)]).exit_code == 0
    page = tmp_path / "page.html"
    result = CliRunner().invoke(main, ["report", str(tmp_path / "both"), "-o", str(page)])
    assert result.exit_code == 0 and {"layer-Conv", "layer-P"} <= set(re.findall(r'id="([^"]*)"', page.read_text()))
