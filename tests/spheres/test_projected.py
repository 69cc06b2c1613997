"""Products with a projection fused behind: equal to product and linear map, derivatives, memory, specs, tampering."""

from __future__ import annotations

import copy
import json
import pickle
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch

from basisgen.errors import SpecError
from basisgen.spec import parse_layer
from basisgen.verify.spheres.statement import StatementError, read_statement
from tests.spheres.forging import Files, forged_files, verdict_on

SPEC = """
name = "verified"
[[layer]]
kind = "product"
name = "Fused"
in = "8x0..4"
mixing = "tree"
channels = 4
out = "8x0 + 12x1..3"
[[layer]]
kind = "product"
name = "Whole"
in = "8x0..4"
mixing = "tree"
channels = 4
degrees = "0..3"
[[layer]]
kind = "linear"
name = "Mix"
in = "Whole"
out = "8x0 + 12x1..3"
maps = ["uniform"]
channels = 4
[[layer]]
kind = "product"
name = "Two"
in = "4x0e + 2x1o"
second = "2x1o + 2x1e"
channels = 2
mixing = "all"
out = "6x2e + 4x0e + 2x1e"
[[layer]]
kind = "product"
name = "WholeTwo"
in = "4x0e + 2x1o"
second = "2x1o + 2x1e"
channels = 2
mixing = "all"
degrees = "0..2"
[[layer]]
kind = "linear"
name = "MixTwo"
in = "WholeTwo"
out = "6x2e + 4x0e + 2x1e"
maps = ["uniform"]
channels = 2
"""
PAIRS = [("Fused", "Whole", "Mix"), ("Two", "WholeTwo", "MixTwo")]


@pytest.fixture(params=["compiled", "stock"])
def way(request: pytest.FixtureRequest, package: ModuleType, monkeypatch: pytest.MonkeyPatch) -> str:
    """Both ways of running; compiled is skipped where there is no compiler."""
    projected = sys.modules[f"{package.__name__}._projected"]
    product = sys.modules[f"{package.__name__}._product"]
    if request.param == "stock":
        for module in (projected, product):
            monkeypatch.setattr(module, "is_available", lambda: False)
    elif not projected.is_available():
        pytest.skip("no C++ compiler")
    return str(request.param)


def _fields(module: Any, batch: int, *space: int, dtype: torch.dtype = torch.float64) -> list[torch.Tensor]:
    channels = [module.in_channels] + ([module.second_channels] if module.second_type else [])
    return [torch.randn(batch, n, *space, dtype=dtype, requires_grad=True) for n in channels]


def _results(run: Any, weight: torch.Tensor, fields: list[torch.Tensor]) -> list[torch.Tensor]:
    out = run(*fields)
    gradient = torch.randn(out.shape, dtype=out.dtype, generator=torch.Generator().manual_seed(3))
    return [out.detach(), *torch.autograd.grad(out, [*fields, weight], gradient)]


@pytest.mark.parametrize("names", PAIRS, ids=["one", "two"])
@pytest.mark.parametrize("space", [(), (3, 2)])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_equals_the_product_with_a_uniform_map_behind(
    package: ModuleType, way: str, names: tuple[str, str, str], space: tuple[int, ...], dtype: torch.dtype
) -> None:
    """Output and all gradients, for numbers of lanes that fill tiles and that do not."""
    fused, product, mix = (getattr(package, name) for name in names)
    ours, whole, linear = fused(dtype=dtype), product(), mix(bias=False, dtype=dtype)
    with torch.no_grad():
        ours.weight.copy_(linear.weight)
    for batch in (1, 19, 64):
        fields = _fields(ours, batch, *space, dtype=dtype)
        found = _results(ours, ours.weight, fields)
        wanted = _results(lambda *f: linear(whole(*f)), linear.weight, fields)
        for value, right in zip(found, wanted, strict=True):
            error = float((value - right).abs().max() / right.abs().max())
            assert error < (1e-13 if dtype == torch.float64 else 2e-5)  # sums over all lanes of cancelling terms


def test_a_wrong_weight_shows(package: ModuleType, way: str) -> None:
    """The negative control: two weights that differ in each other's place, and the result is another."""
    ours = package.Fused(dtype=torch.float64)
    with torch.no_grad():
        ours.weight[3:5] = torch.tensor([1.0, -1.0])
    (x,) = _fields(ours, 5)
    before = ours(x)
    with torch.no_grad():
        ours.weight[[3, 4]] = ours.weight[[4, 3]]
    assert (ours(x) - before).detach().abs().max() > 1e-3


@pytest.mark.slow
@pytest.mark.parametrize("name", ["Fused", "Two"])
def test_derivatives_of_first_and_second_order(package: ModuleType, way: str, name: str) -> None:
    module = getattr(package, name)(dtype=torch.float64)
    fields = _fields(module, 2)

    def run(weight: torch.Tensor, *fields: torch.Tensor) -> torch.Tensor:
        output: torch.Tensor = torch.func.functional_call(module, {"weight": weight}, fields)
        return output

    weight = module.weight.detach().clone().requires_grad_()
    assert torch.autograd.gradcheck(run, (weight, *fields))
    assert torch.autograd.gradgradcheck(run, (weight, *fields), atol=1e-4)


def test_the_products_are_not_stored(package: ModuleType, way: str) -> None:
    """What autograd keeps is what goes in; the product alone writes several times as much."""
    module = package.Fused()
    kept: list[torch.Tensor] = []
    x = torch.randn(64, module.in_channels, requires_grad=True)
    with torch.autograd.graph.saved_tensors_hooks(lambda tensor: kept.append(tensor) or tensor, lambda tensor: tensor):
        module(x)
    numbers = sum(tensor.numel() for tensor in {tensor.data_ptr(): tensor for tensor in kept}.values())
    assert numbers <= x.numel() + 2 * module.weight.numel() + 16
    assert package.Whole().out_channels * 64 > 4 * x.numel()


@pytest.mark.slow
def test_memory_of_the_backward_pass(package: ModuleType, way: str) -> None:
    """At most three times input and output, weights apart; of product and linear map it is more."""
    module, whole, mix = package.Fused(), package.Whole(), package.Mix(bias=False)
    x = torch.randn(4096, module.in_channels)
    fused, apart = (_peak(run, x) for run in (module, lambda y: mix(whole(y))))
    ends = x.nbytes + 4 * len(x) * module.out_channels
    assert 0 < fused <= 3 * ends < apart


def _peak(run: Any, x: torch.Tensor) -> int:
    """The most that torch's allocator held beyond what was there, in one step."""
    run(x)
    with torch.profiler.profile(profile_memory=True) as profile:
        y = run(x.detach().requires_grad_())
        y.backward(torch.ones_like(y))
    present, most = 0, 0
    for event in profile.profiler.kineto_results.events():
        if event.name() == "[memory]":
            present += event.nbytes()
            most = max(most, present)
    return most


def test_variance_state_and_torch(package: ModuleType) -> None:
    module = package.Fused()
    x = torch.randn(512, module.in_channels)
    deviations = torch.stack([package.Fused()(x).detach().var() for _ in range(20)])
    assert 0.7 < deviations.mean() < 1.4
    assert set(module.state_dict()) == {"weight", "_extra_state"}
    out = module(x)
    for other in (copy.deepcopy(module), pickle.loads(pickle.dumps(module))):
        assert torch.equal(other(x), out)
    with pytest.raises(RuntimeError, match="were made for"):
        package.Whole().load_state_dict(module.state_dict())
    torch.testing.assert_close(torch.export.export(module, (x,)).module()(x), out, rtol=1e-4, atol=1e-5)
    assert module(x[:0]).shape == (0, module.out_channels)
    with torch.autocast("cpu"):
        assert module(x.bfloat16()).shape == out.shape
    with pytest.raises(ValueError, match="has weights of"):
        module(x.double())
    per_sample = torch.vmap(torch.func.grad(lambda one: module(one[None]).square().sum()))(x[:4])
    module(x[:4].requires_grad_()).square().sum()
    alone = torch.autograd.grad(module(y := x[:4].detach().requires_grad_()).square().sum(), y)[0]
    torch.testing.assert_close(per_sample, alone, rtol=1e-4, atol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["Fused", "Two"])
def test_torch_compile_in_training(package: ModuleType, way: str, name: str) -> None:
    module = getattr(package, name)(dtype=torch.float64)
    fields = _fields(module, 3)
    torch._dynamo.reset()
    compiled = torch.compile(module, fullgraph=True, backend="aot_eager")
    for value, right in zip(
        _results(compiled, module.weight, fields), _results(module, module.weight, fields), strict=True
    ):
        torch.testing.assert_close(value, right)


def test_verify_runs_and_counts_it(files: Files, tmp_path: Path) -> None:
    verdict = verdict_on(files, tmp_path)
    assert verdict.verified, verdict.as_text()
    (layers,) = (check for check in verdict.checks if check.name == "layers")
    assert layers.passed and "too large" not in layers.how


def test_the_verifier_counts_the_weights(files: Files) -> None:
    entries = {entry["name"]: entry for entry in json.loads(files["manifest.json"])["spec"]}
    sections = json.loads(files["certificate.json"])
    fused = read_statement(entries, sections).products[0]
    numbers = {output.degree: output.number for output in fused.outputs}
    assert fused.weights == 2 * numbers[0] + 3 * (numbers[1] + numbers[2] + numbers[3])
    sections["products"]["layers"]["Fused"]["weights"] += 1
    with pytest.raises(StatementError, match="weights, its certificate says"):
        read_statement(entries, sections)


def test_verify_rejects_other_code(files: Files, tmp_path: Path) -> None:
    verdict = verdict_on(forged_files(files, _projected__py=files["_projected.py"] + b"\n"), tmp_path)
    assert any("_projected.py" in complaint for complaint in verdict.complaints)


GOOD = {"kind": "product", "name": "P", "in": "4x0..3", "mixing": "all", "channels": 2, "out": "2x0 + 4x1"}


def test_a_description_is_read_back() -> None:
    for more in ({}, {"mixing": "tree", "self_products": True}, {"mixing": [[0, 0, 0], [0, 1, 1]]}, {"second": "2x1"}):
        spec = parse_layer({**GOOD, **more})
        assert parse_layer(spec.describe()) == spec and str(spec.out) == "2x0 + 4x1"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"out": 3}, "is not a field type"),
        ({"out": "2x0 + 3x1"}, "does not divide the 3 copies"),
        ({"out": "2x0 + 2x0"}, "has irrep 0 twice"),
        ({"out": "2x0e"}, "no product reaches irrep 0e"),
        ({"out": "2x7"}, "no product reaches degree 7"),
        ({"out": "2x0..1000000000"}, "is not a range"),
        ({"out": "1000000000x0"}, "channels, the limit is"),
        ({"degrees": "0..1"}, "says it already"),
        ({"mixing": [[0, 1, 1], [1, 1, 2]], "out": "2x1"}, "lists products of degree 2"),
        ({"in": "1x0e + 1x1o", "out": "1x0o", "channels": 1}, "no product reaches irrep 0o"),
        ({"in": "2000x0", "out": "2000x0", "channels": 1}, "more than 1073741824 weights"),
    ],
)
def test_wrong_projections_are_one_line(change: dict[str, object], message: str) -> None:
    with pytest.raises(SpecError, match=message) as error:
        parse_layer({**GOOD, **change})
    assert "\n" not in str(error.value)
