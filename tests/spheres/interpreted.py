"""The Triton kernel against stock torch, in Triton's interpreter: `test_triton` runs this file in another process.

TRITON_INTERPRET=1 python -m pytest tests/spheres/interpreted.py
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch

from basisgen.commands import tune
from basisgen.emission.imported import imported
from basisgen.pipeline import compile_package
from basisgen.spec import parse_package
from basisgen.tuning import Tuning

assert os.environ.get("TRITON_INTERPRET") == "1", "Triton reads it when it is imported"

SPEC = """
name = "by_triton"
[[layer]]
kind = "product"
name = "Square"
in = "2x0..2"
mixing = "all"
degrees = "0..2"
[[layer]]
kind = "product"
name = "Fragments"
in = "2x0 + 4x1"
mixing = "all"
channels = 2
degrees = "0..1"
[[layer]]
kind = "product"
name = "Two"
in = "2x0e + 2x1o"
second = "2x1o + 2x2o"
mixing = "all"
degrees = "0..2"
[[layer]]
kind = "product"
name = "Fused"
in = "4x0 + 2x1"
channels = 2
mixing = "all"
out = "2x0 + 4x1"
[[layer]]
kind = "product"
name = "FusedTwo"
in = "2x0e + 2x1o"
second = "2x1o"
channels = 2
mixing = "all"
out = "4x1o + 2x0e + 2x1e"
"""
NAMES = ["Square", "Fragments", "Two", "Fused", "FusedTwo"]
TOLERANCE = 1e-13  # of the largest number


@pytest.fixture(scope="module")
def package() -> Iterator[ModuleType]:
    """The package as it is where Triton was measured to be the faster way, on a machine without a C++ compiler."""
    spec = parse_package(SPEC)
    tuned = Tuning("cuda", {name: {"stock": 1.0, "triton": 0.5} for name in NAMES})
    with imported(compile_package(replace(spec, tuned=tuned)), spec.name) as module:
        for name in ("_product", "_projected"):
            sys.modules[f"{spec.name}.{name}"].is_available = lambda: False  # type: ignore[attr-defined]
        yield module


def _shared(package: ModuleType, name: str = "_product") -> Any:
    return sys.modules[f"{package.__name__}.{name}"]


@contextmanager
def _stock(package: ModuleType, module: Any) -> Iterator[None]:
    """The same layer in stock torch."""
    ways, of_class = _shared(package)._way, type(module).on_gpu
    ways.cache_clear()
    type(module).on_gpu = None
    try:
        yield
    finally:
        type(module).on_gpu = of_class
        ways.cache_clear()


def _fields(module: Any, *space: int, batch: int = 2, dtype: torch.dtype = torch.float64) -> list[torch.Tensor]:
    sizes = [module.in_channels] if module.second_type is None else [module.in_channels, module.second_channels]
    return [torch.randn(batch, size, *space, dtype=dtype, requires_grad=True) for size in sizes]


def _derivatives(module: Any, fields: list[torch.Tensor]) -> list[torch.Tensor]:
    """The output and its derivatives."""
    output = module(*fields)
    first = torch.autograd.grad(output, [*fields, *module.parameters()], _weights(output))
    return [output.detach(), *first]


def _second_derivatives(module: Any, fields: list[torch.Tensor]) -> list[torch.Tensor]:
    """Of the output, by fields, parameters and the weights of its numbers."""
    leaves, output = [*fields, *module.parameters()], module(*fields)
    weights = _weights(output).requires_grad_()
    first = torch.autograd.grad(output, leaves, weights, create_graph=True)
    return list(torch.autograd.grad(sum(of.square().sum() for of in first), [*leaves, weights]))


def _weights(output: torch.Tensor) -> torch.Tensor:
    torch.manual_seed(0)
    return torch.randn_like(output)


def _distance(found: list[torch.Tensor], wanted: list[torch.Tensor]) -> float:
    assert [of.shape for of in found] == [of.shape for of in wanted]
    return max(float((a - b).abs().max() / b.abs().max()) for a, b in zip(found, wanted, strict=True))


def test_the_way_is_chosen_by_the_class_and_by_whether_triton_is_right(
    package: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The layers above run Triton because of this test's environment; a kernel that is wrong is not used."""
    triton = _shared(package, "_on_triton").TritonProducts
    way = _shared(package)._way
    module = package.Square()
    assert triton.runs_on("cpu") and type(way(module._key, torch.float64, "cpu")) is triton
    with _stock(package, module):
        assert type(way(module._key, torch.float64, "cpu")) is _shared(package).Stock
    right = _shared(package, "_on_triton")._kernel()
    for wrong in (lambda *of: right(*of) + 1, lambda *of: 1 / 0):
        monkeypatch.setattr(_shared(package, "_on_triton"), "_kernel", lambda wrong=wrong: wrong)
        triton.runs_on.__func__.cache_clear()
        assert not triton.runs_on("cpu")
    triton.runs_on.__func__.cache_clear()


@pytest.mark.parametrize("name", NAMES)
def test_output_and_both_derivatives_are_those_of_stock_torch(package: ModuleType, name: str) -> None:
    module = getattr(package, name)().double()
    fields = _fields(module)

    def both() -> list[torch.Tensor]:
        return _derivatives(module, fields) + _second_derivatives(module, fields)

    found = both()
    again = _derivatives(module, fields)
    assert all(map(torch.equal, found[: len(again)], again))  # the same bits
    with _stock(package, module):
        assert _distance(found, both()) < TOLERANCE


@pytest.mark.parametrize("name", ["Fragments", "FusedTwo"])
def test_on_volumes_in_float32_and_in_16_bits(package: ModuleType, name: str) -> None:
    module = getattr(package, name)()
    for dtype, tolerance in ((torch.float32, 1e-5), (torch.bfloat16, 0.03)):
        module = module.to(dtype)
        fields = _fields(module, 3, 2, dtype=dtype)
        output = module(*fields)
        assert output.dtype == dtype
        with _stock(package, module):
            assert _distance([output.detach().float()], [module(*fields).detach().float()]) < tolerance


def test_a_wrong_coefficient_is_seen(package: ModuleType) -> None:
    """Negative control: one sign, in the table of each of the three sums."""
    module = package.Two().double()
    fields = _fields(module)
    with _stock(package, module):
        wanted = _derivatives(module, fields)
    way = _shared(package)._way(module._key, torch.float64, "cpu")
    assert _distance(_derivatives(module, fields), wanted) < TOLERANCE
    for table in ("_by_out", "_by_first", "_by_second"):
        values = getattr(way, table)[3]
        values[5] *= -1
        assert _distance(_derivatives(module, fields), wanted) > 1e-3
        values[5] *= -1
    assert _distance(_derivatives(module, fields), wanted) < TOLERANCE


@pytest.mark.parametrize("name", ["Fragments", "FusedTwo"])
def test_derivatives_pass_gradcheck(package: ModuleType, name: str) -> None:
    module = getattr(package, name)().double()
    fields = _fields(module, batch=1)
    assert torch.autograd.gradcheck(module, fields, fast_mode=True)
    assert torch.autograd.gradgradcheck(module, fields, fast_mode=True)


def test_entries_are_sorted_once_each_and_add_up(package: ModuleType) -> None:
    table = package.Square.table()
    way = _shared(package, "_on_triton").TritonProducts(table, torch.float64, "cpu")
    for start, left, right, value in (way._by_out, way._by_first, way._by_second, way._by_either):
        rows = torch.arange(len(start) - 1).repeat_interleave(start.diff().long())
        entries = list(zip(rows.tolist(), left.tolist(), right.tolist(), strict=True))
        assert entries == sorted(set(entries)) and len(value) == len(entries) == start[-1]
    assert len(way._by_out[3]) == len(table.value)
    # of one field, x_m x_m has two equal entries, which are one
    equal = int((table.first_row == table.second_row).sum())
    assert equal and len(way._by_either[3]) == 2 * len(table.value) - equal
    assert torch.allclose(way._by_either[3].sum(), 2 * table.value.sum())


@pytest.mark.parametrize(("batch", "space"), [(1, ()), (129, ()), (3, (7, 31)), (0, ()), (2, (0,))])
def test_any_number_of_lanes(package: ModuleType, batch: int, space: tuple[int, ...]) -> None:
    """Fewer than a program has, more, several programs; none."""
    module = package.Fragments()
    with torch.no_grad():
        fields = _fields(module, *space, batch=batch)
        found = module(*fields)
        with _stock(package, module):
            wanted = module(*fields)
    assert found.shape == wanted.shape and torch.allclose(found, wanted, rtol=0, atol=1e-13)


@pytest.mark.parametrize("name", ["Fragments", "Fused"])
def test_in_parts(package: ModuleType, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Samples, channels and sites in parts, as where a field is too large for one."""
    module = getattr(package, name)().double()
    fields = _fields(module, 33, batch=1)
    with _stock(package, module):
        wanted = _derivatives(module, fields)
    monkeypatch.setattr(_shared(package), "CACHE", 1)
    assert _distance(_derivatives(module, fields), wanted) < TOLERANCE


def test_torch_compile_and_export(package: ModuleType) -> None:
    """Compiled it is the same operator; exported, operators of torch alone, as ever."""
    module = package.Fragments()
    (field,) = _fields(module)
    wanted = _derivatives(module, [field])
    compiled = torch.compile(module, fullgraph=True, backend="aot_eager")
    output = compiled(field)
    (first,) = torch.autograd.grad(output, [field], _weights(output))
    assert _distance([output.detach(), first], wanted) < TOLERANCE
    exported = torch.export.export(module, (field.detach(),))
    assert all("basisgen" not in str(node.target) for node in exported.graph.nodes)
    assert torch.allclose(exported.module()(field.detach()), wanted[0])


def test_tuning_times_both_ways_and_the_faster_is_written(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """As on a GPU, but that here the ways are a processor's and the interpreter's, which is the slower one."""
    monkeypatch.setenv("CXX", str(tmp_path / "none"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(tune.Setting, "is_on_gpu", True)
    spec = replace(parse_package(SPEC), layers=parse_package(SPEC).layers[1:2])
    setting = tune.Setting.parse(1, 2, 1, "cpu", None, 1)
    lines: list[str] = []
    tuned = tune.tune(spec, setting, ends=lines.append).tuned
    assert tuned is not None and tuned.ratios["Fragments"]["stock"] == 1 < tuned.ratios["Fragments"]["triton"]
    assert lines == [f"Fragments: stock 1.00, triton {tuned.ratios['Fragments']['triton']:.2f} of stock torch's time"]
    slower = compile_package(replace(spec, tuned=tuned))
    assert "_triton.py" not in slower and "tuned" in json.loads(slower["manifest.json"])


def _never(*_: object) -> bool:
    return False


def test_tuning_tells_where_triton_does_not_run(monkeypatch: pytest.MonkeyPatch) -> None:
    from basisgen.errors import SpecError

    monkeypatch.setattr(tune.Setting, "is_on_gpu", True)
    monkeypatch.setattr(tune, "_of_product", lambda *_: {"stock": _never})
    with pytest.raises(SpecError, match="has nothing to tune: Triton does not run on cpu here"):
        tune.tune(parse_package(SPEC), tune.Setting.parse(1, 2, 1, "cpu", None, 1))
