"""`basisgen defect`: its figures are those of the compiled layer, and its table says what a family cannot do."""

from __future__ import annotations

import io
import json
from math import sqrt
from typing import Any

import pytest
from click.testing import CliRunner, Result
from rich.console import Console

from basisgen.cli import main
from basisgen.commands.defect import COLUMNS, MISSING, RADIALS, as_table, candidates, compare
from basisgen.pipeline import compile_package
from basisgen.spec import parse_layer, parse_package, single_layer_package
from basisgen.volumes.sampling.defect import Gaussian

LAYER = ("4x0 + 2x1", "2x0 + 3x2")


def _run(*arguments: str) -> Result:
    return CliRunner().invoke(main, ["defect", *arguments], catch_exceptions=False)


def _rows(*arguments: str) -> list[dict[str, Any]]:
    result = _run(*arguments, "--json")
    assert result.exit_code == 0, result.stderr
    rows: list[dict[str, Any]] = json.loads(result.stdout)
    return rows


@pytest.mark.parametrize("radial", RADIALS, ids=str)
def test_the_figures_are_those_of_the_compiled_package(radial: dict[str, object]) -> None:
    row = _rows(*LAYER, "--kernel-size", "3", "--gated")[RADIALS.index(radial)]
    table = {"name": "Conv", "in": LAYER[0], "out": LAYER[1], "gated": True, "kernel_size": 3, "radial": radial}
    manifest = json.loads(compile_package(single_layer_package("conv", parse_layer(table)))["manifest.json"])
    layer, (filters,) = manifest["layers"]["Conv"], manifest["filters"].values()
    assert row["radial"] == manifest["spec"][0]["radial"]
    assert (row["weights"], row["dense_weights"]) == (layer["weights"], layer["dense_weights"])
    assert row["defect"]["random"] == layer["defect_of_random_weights"]
    assert row["defect"]["worst"] == max(degree["worst"] for degree in filters["defect"].values())
    assert row["predicted_error"] == pytest.approx(sqrt(2) * row["defect"]["random"], abs=1e-4)
    profiles = {J: len(filters["defect"][J]["profiles"]) if J in filters["defect"] else 0 for J in row["profiles"]}
    assert row["profiles"] == profiles
    assert row["filters"] == sum((2 * int(J) + 1) * number for J, number in profiles.items())
    assert row["weights_of_pair"]["2<-1"] == sum(profiles[J] for J in "123")


def test_every_family_at_every_size_in_order() -> None:
    rows = _rows("1x0", "1x1", "--kernel-size", "3", "--kernel-size", "5,5,3", "--voxel-spacing", "1,1,2.5")
    assert [row["kernel_size"] for row in rows] == [[3, 3, 3]] * len(RADIALS) + [[5, 5, 3]] * len(RADIALS)
    assert {tuple(row["voxel_spacing"]) for row in rows} == {("1", "1", "5/2")}
    assert [row["radial"]["family"] for row in rows] == [radial["family"] for radial in RADIALS] * 2


def test_more_filters_of_optimal_never_lower_the_worst_defect() -> None:
    rows = _rows(*LAYER, "--kernel-size", "5", "--family", "optimal", "--radial", "max_defect=0.5")
    worst = [row["defect"]["worst"] for row in rows if row["radial"]["family"] == "optimal"]
    assert len(worst) == 3 and worst == sorted(worst) and worst[0] < worst[2]


def test_given_settings_add_a_line() -> None:
    rows = _rows("1x0", "1x1", "--kernel-size", "5", "--family", "shells", "--radial", "sigma=0.9")
    assert len(rows) == len(RADIALS) + 1 and rows[-1]["radial"]["sigma"] == "9/10"
    assert rows[-1]["defect"] != rows[1]["defect"]


def test_smoother_inputs_have_smaller_defects_and_optimal_is_made_for_them() -> None:
    arguments = ("1x0", "1x1", "--kernel-size", "5")
    default, smooth = _rows(*arguments), _rows(*arguments, "--bandwidth", "0.25")
    assert all(
        b["defect"]["random"] < a["defect"]["random"]
        for a, b in zip(default, smooth, strict=True)
        if a["profiles"] == b["profiles"]
    )
    assert {row["radial"].get("bandwidth") for row in smooth} == {None, "1/4"}


def test_without_a_terminal_the_table_is_aligned_text() -> None:
    result = _run("1x0", "1x1", "--kernel-size", "5")
    head, *lines = result.stdout.split("\n\n")[0].splitlines()
    assert [column for column in COLUMNS if column in head] == list(COLUMNS)
    assert len(lines) == len(RADIALS) and {len(line) for line in lines} == {len(head)}
    assert "\x1b" not in result.output and result.stderr == ""


def test_on_a_terminal_the_table_fits_80_columns() -> None:
    layer = {"in": "1x0 + 1x2", "out": "1x0 + 1x2"}
    rows = list(compare(candidates(layer, [3, 5], {}, Gaussian()), Gaussian()))
    console = Console(width=80, force_terminal=True, file=io.StringIO(), record=True)
    console.print(as_table(rows))
    lines = console.export_text().splitlines()
    assert len(lines) == 1 + len(RADIALS) + 1 + len(RADIALS)
    assert not lines[1 + len(RADIALS)].strip()
    for row, line in zip(rows, [line for line in lines[1:] if line.strip()], strict=True):
        assert " ".join(row.cells).split() == line.split()


def test_a_family_the_grid_cannot_hold_is_explained_and_the_others_are_measured() -> None:
    result = _run("1x2", "1x2", "--kernel-size", "3", "--family", "shells", "--radial", "cutoff=0,2,4")
    own = next(line for line in result.stdout.splitlines() if "cutoff=0,2,4" in line)
    assert own.split()[-1] == MISSING
    assert "shells cutoff=0,2,4: cutoff [0, 2, 4] names 3 shells, a 3x3x3 kernel has 2" in result.stdout
    assert _rows("1x2", "1x2", "--kernel-size", "3", "--family", "shells", "--radial", "cutoff=0,2,4")[-1]["problem"]


def test_output_that_stays_zero_is_noted() -> None:
    assert (
        "3x3x3 optimal max_defect=0.1: no filter reaches 4x2 of the output"
        in _run("1x0", "4x1 + 4x2", "--kernel-size", "3").stdout
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("1x0e", "1x1e", "--kernel-size", "3"), "no kernel maps '1x0e' to '1x1e'"),
        (("1x0", "x1", "--kernel-size", "3"), "term 'x1' has no multiplicity"),
        (("1x0", "1x1", "--kernel-size", "0"), "kernel_size = 0 is not a whole number"),
        (("1x0", "1x1", "--kernel-size", "3", "--bandwidth", "3"), "bandwidth '3' is not a number from 1/20 to 2"),
        (("1x0", "1x1", "--kernel-size", "3", "--bandwidth", "wide"), "bandwidth 'wide' is not a number"),
        (
            ("1x0", "1x1", "--kernel-size", "3", "--family", "bessel"),
            "must be one of 'separable', 'optimal'",
        ),
    ],
)
def test_mistakes_are_explained(arguments: tuple[str, ...], message: str) -> None:
    result = _run(*arguments)
    assert result.exit_code == 2 and message in result.stderr and result.stdout == ""


def test_it_ends_with_lines_to_paste_that_compile() -> None:
    printed = _run("1x0 + 2x1", "2x0 + 2x1", "--kernel-size", "3", "--kernel-size", "5").stdout
    *_, size, radial = printed.rstrip().splitlines()
    assert size.strip() == "kernel_size = 3"
    spec = "\n".join(
        ['name = "pasted"', "[[conv]]", 'name = "Conv"', 'in = "1x0 + 2x1"', 'out = "2x0 + 2x1"', size, radial]
    )
    (layer,) = parse_package(spec).layers
    assert layer.describe()["kernel_size"] == [3, 3, 3]


def test_where_no_line_is_good_enough_it_says_so() -> None:
    printed = _run("1x0", "1x4", "--kernel-size", "3").stdout
    assert "recommended: none of these" in printed
