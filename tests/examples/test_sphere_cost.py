"""Cost of layers on the sphere: counts are those of the couplings, e3nn's layer is ours, memory and errors are real."""

from __future__ import annotations

import json
import warnings
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner
from torch import Tensor, nn

from basisgen.emission.imported import imported
from basisgen.emission.render import render
from basisgen.pipeline import plan
from basisgen.spheres.mixing import Mixing
from examples.common.cost import fastest, in_fresh_process, memory_growth, memory_is_known, without_e3nn
from examples.sphere_cost.__main__ import main
from examples.sphere_cost.errors import InSinglePrecision, LayerError, measure_errors
from examples.sphere_cost.layers import build
from examples.sphere_cost.measure import Row, difference
from examples.sphere_cost.preset import HERE, Case, cases, load, path_count
from examples.sphere_cost.results import error_table, markdown, quantity_table, ratio_table
from examples.sphere_cost.specs import multiply_adds, spec
from runtime.spheres import signal_type
from runtime.spheres.testing import assert_equivariant

K = 2


def test_paths_are_counted_as_the_compiler_has_them() -> None:
    known = {4: (18, 13, 12), 8: (132, 57, 32), 16: (1032, 241, 80)}  # counted apart, see docs/spheres.md
    assert {L: tuple(path_count(L, mixing) for mixing in Mixing) for L in known} == known
    quick = list(cases(load("quick")))
    assert Case(24, "all", 3468) in quick and not any(case.L == 32 and case.mixing == "all" for case in quick)


def test_multiply_adds_are_those_of_e3nns_couplings() -> None:
    o3 = pytest.importorskip("e3nn.o3")
    (product, *_) = spec(3, "tree", K).layers
    paths = [product.degrees_of(path) for path in product.paths]
    nonzero = sum(int((o3.wigner_3j(*path).abs() > 1e-6).sum()) for path in paths)
    dense = sum((2 * a + 1) * (2 * b + 1) * (2 * l + 1) for a, b, l in paths)
    into = {l: sum(path[2] == l for path in paths) for l in range(3)}
    matrices = sum(K * K * count * (2 * l + 1) for l, count in into.items())
    maps = sum((K * count + K + K * K) * (2 * l + 1) for l, count in into.items())
    counts = multiply_adds(plan(spec(3, "tree", K)))
    assert counts == {
        "unconstrained": K * nonzero + matrices,
        "constrained": K * nonzero + maps,
        "fused": K * nonzero + maps,
        "e3nn": K * dense + matrices,
    }


def test_e3nns_layer_is_the_unconstrained_one() -> None:
    pytest.importorskip("e3nn.o3")
    planned = plan(spec(4, "tree", K))
    with imported(render(planned), planned.spec.name) as package, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        layers = {way: build(package, way) for way in ("unconstrained", "e3nn")}
        x = torch.randn(3, package.Product().in_channels)
        assert float((layers["e3nn"](x) - layers["unconstrained"](x)).detach().abs().max()) > 0.1
        assert difference(layers, x) < 1e-5


def test_constrained_and_fused_layers_are_one_function() -> None:
    planned = plan(spec(3, "all", K))
    product = planned.layers[0].spec
    into = [sum(path.out.degree == l for path in product.paths) for l in range(3)]
    with imported(render(planned), planned.spec.name) as package, torch.no_grad():
        constrained, fused = (build(package, way).double() for way in ("constrained", "fused"))
        parts = constrained[1].weight.split([n for count in into for n in (count, K, K * K)])  # uniform, channel, cross
        fused[0].weight.copy_(torch.cat(parts[::3]))
        x = torch.randn(3, package.Product().in_channels, dtype=torch.float64)
        assert float((fused(x) - constrained(x)).abs().max()) > 1e-3
        fused[1].weight.copy_(torch.cat([part for number, part in enumerate(parts) if number % 3]))
        torch.testing.assert_close(fused(x), constrained(x))


class NotEquivariant(nn.Module):
    """Squares every number."""

    def forward(self, x: Tensor) -> Tensor:
        """(batch, channel)."""
        return x.square()


def test_errors_are_of_float32_and_see_what_is_not_equivariant() -> None:
    planned = plan(spec(3, "tree", K))
    field = signal_type(K, 3)
    with imported(render(planned), planned.spec.name) as package:
        single = assert_equivariant(InSinglePrecision(build(package, "unconstrained")), field, field, tolerance=1e-5)
        exact = assert_equivariant(build(package, "unconstrained"), field, field)
    assert single.worst > 1e-8 and exact.worst < 1e-12
    wrong = assert_equivariant(InSinglePrecision(NotEquivariant()), field, field, tolerance=10)
    assert wrong.worst > 0.1


def test_oversampling_makes_errors_of_activations_smaller() -> None:
    errors = list(measure_errors(replace(load("tiny"), mixing=(), test_rotations=20)))
    sphere = [error.mean for error in errors if error.kind == "sphere"]
    rotations = [error.mean for error in errors if error.kind == "rotations"]
    assert sphere == sorted(sphere, reverse=True) and sphere[0] > 0.1 > sphere[1]
    assert rotations[0] > 0.1 > rotations[1]


@pytest.mark.skipif(not memory_is_known(), reason="the peak is read from Linux's /proc")
def test_memory_is_what_a_run_holds_at_once() -> None:
    code = (
        "import torch\nfrom examples.common.cost import memory_growth\n"
        "print(memory_growth(lambda n: (torch.ones(n), lambda: torch.ones(n) * 2), 1 << 24))"
    )
    size = 4 << 24
    # the input, and two numbers for each of its own; sizes are only known to some tenths of a MB
    assert 2.9 * size < in_fresh_process(["-c", code]) < 3.5 * size
    assert memory_growth(lambda n: (torch.ones(n), lambda: None), 1 << 22) >= 4 << 22


def test_the_least_of_some_turns_counts() -> None:
    order: list[str] = []
    found = fastest({"a": lambda: order.append("a"), "b": lambda: order.append("b")}, 2)
    assert order == ["a", "b"] * 3
    assert all(0 <= ms < 1000 for ms in found.values())


def made(L: int, mixing: str, step: float, **layers: float) -> Row:
    ways = {"fused": step, **layers}
    rows = {
        way: {"multiply_adds": 10 * L, "forward_ms": ms / 2, "step_ms": ms, "bytes": None} for way, ms in ways.items()
    }
    return {"L": L, "mixing": mixing, "paths": 3, "layers": rows}


def test_tables_have_growth_ratios_and_gaps() -> None:
    rows = [made(4, "tree", 1.0, e3nn=3.0), made(6, "tree", 2.0), made(8, "tree", 8.0), made(4, "all", 5.0)]
    text = quantity_table(rows, "step_ms", lambda ms: f"{ms:.0f}")
    assert text[0] == "| mixing set | layer | L = 4 | L = 6 | L = 8 | grows as L to the |"
    assert text[2:] == [
        "| all | fused | 5 |  |  |  |",
        "| tree | fused | 1 | 2 | 8 | 3.0 |",
        "| tree | e3nn | 3 |  |  |  |",
    ]
    assert ratio_table(rows)[2:] == ["| tree | fused | 3.0 |  |  |"]
    assert quantity_table(rows, "bytes", str)[2:] == [
        "| all | fused |  |  |  |  |",
        "| tree | fused |  |  |  |  |",
        "| tree | e3nn |  |  |  |  |",
    ]
    errors = [LayerError("tree", "product", 4, 1e-7, 2e-7), LayerError("ReLU", "sphere", 8, 0.31, 0.4)]
    assert error_table(errors)[2:] == ["| tree | 5.0e-07 | 1.0e-07 |  |", "| ReLU | 0.340 |  | 0.310 |"]


def test_the_readme_has_the_tables_of_the_committed_results_and_these_are_of_the_layers_of_now() -> None:
    place, readme = HERE / "results" / "quick", (HERE / "README.md").read_text("utf-8")
    facts = json.loads((place / "results.json").read_text("utf-8"))
    page = (place / "results.md").read_text("utf-8")
    assert markdown(facts, facts["rows"], [LayerError(**error) for error in facts["errors"]]) == page
    tables = [line for line in readme.splitlines() if line.startswith(("| all |", "| tree |", "| reduced |", "| ReLU"))]
    assert len(tables) > 30 and all(f"{line}\n" in page for line in tables)
    for row in facts["rows"][:6]:  # L = 4 and 8
        now = multiply_adds(plan(spec(row["L"], row["mixing"], facts["preset"]["channels"])))
        assert {way: layer["multiply_adds"] for way, layer in row["layers"].items()} == now


def test_a_run_writes_its_results_and_says_that_e3nn_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("examples.sphere_cost.__main__.without_e3nn", lambda: "ImportError: none")
    options = ["--preset", "tiny", "--out", str(tmp_path)]
    result = CliRunner().invoke(main, options)
    assert result.exit_code == 0, result.output
    assert "e3nn is left out, ImportError: none. To have it beside: pip install e3nn" in result.output
    content = json.loads((tmp_path / "tiny" / "results.json").read_text("utf-8"))
    (row,) = content["rows"]
    assert row["layers"].keys() == {"unconstrained", "constrained", "fused"} and len(content["errors"]) == 8
    assert all(layer["step_ms"] > 0 for layer in row["layers"].values())
    page, picture = tmp_path / "tiny" / "results.md", tmp_path / "tiny" / "results.png"
    written = page.read_text("utf-8")
    for path in (page, picture):
        path.unlink()
    assert CliRunner().invoke(main, [*options, "--redraw"]).exit_code == 0
    assert page.read_text("utf-8") == written and picture.exists()


def test_a_plan_measures_nothing_and_nothing_is_redrawn_from_nothing(tmp_path: Path) -> None:
    result = CliRunner().invoke(main, ["--preset", "tiny", "--plan", "--out", str(tmp_path / "out")])
    assert "L = 3, tree: 7 paths" in result.output and not (tmp_path / "out").exists()
    result = CliRunner().invoke(main, ["--preset", "tiny", "--redraw", "--out", str(tmp_path / "out")])
    assert result.exit_code == 2 and "does not exist" in result.output


@pytest.mark.slow
def test_e3nn_is_measured_beside_where_it_is_installed(tmp_path: Path) -> None:
    if without_e3nn():
        pytest.skip("e3nn is not usable here")
    result = CliRunner().invoke(main, ["--preset", "tiny", "--out", str(tmp_path)])
    assert result.exit_code == 0, result.output
    (row,) = json.loads((tmp_path / "tiny" / "results.json").read_text("utf-8"))["rows"]
    assert "e3nn" in row["layers"] and row["difference"] < 1e-5
