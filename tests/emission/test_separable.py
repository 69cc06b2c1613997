"""Separable layers: the dense map by other means, in value, in gradient, and in everything torch does to a module."""

from __future__ import annotations

import importlib
import json
import sys
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from types import MethodType, ModuleType
from typing import Any

import numpy as np
import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.autograd import forward_ad

from basisgen.emission.imported import imported
from basisgen.errors import SpecError
from basisgen.pipeline import compile_package, plan
from basisgen.spec import parse_package
from basisgen.volumes.execution import Execution
from runtime import freeze
from runtime.train.processes import join_group, leave_group
from tests.conftest import gloo_threads

Compile = Callable[[str], ModuleType]

SPEC = """
name = "separable"
[defaults]
radial = { family = "hermite", n_max = 3 }
execution = "separable"
kernel_size = 5
[[conv]]
name = "Small"
in = "2x0 + 1x1"
out = "1x0 + 1x2 + 1x1"
[[conv]]
name = "Uneven"
in = "1x0 + 1x1"
out = "2x0 + 1x1"
kernel_size = [5, 4, 3]
voxel_spacing = [1, 1, 1.5]
dilation = [1, 2, 1]
[[conv]]
name = "Scalars"
in = "2x0"
out = "3x0"
radial = { family = "hermite", n_max = 5 }
[[conv]]
name = "Dense"
in = "1x0"
out = "1x1"
execution = "dense"
[[conv]]
name = "Mirrored"
in = "2x0e + 1x1o"
out = "1x0e + 1x0o + 1x2e"
"""


@pytest.fixture(scope="module")
def package() -> Iterator[ModuleType]:
    from basisgen.emission.imported import imported
    from basisgen.pipeline import compile_package

    with imported(compile_package(parse_package(SPEC)), "separable") as module:
        yield module


def _imported(place: Path) -> ModuleType:
    sys.path.insert(0, str(place))
    try:
        return importlib.import_module("separable")
    finally:
        sys.path.remove(str(place))


def _dense(conv: nn.Module, volume: Tensor) -> Tensor:
    """The same layer by conv3d and its own kernel()."""
    bias = conv._channel_bias()
    return nn.functional.conv3d(volume, conv.kernel(), bias, conv.stride, conv.padding, conv.dilation)


def _compare(conv: nn.Module, volume: Tensor) -> float:
    """The worst relative difference of the outputs, and of the gradients of input, weight and bias."""
    output, dense = conv(volume), _dense(conv, volume)
    gradient = torch.randn(output.shape, dtype=output.dtype, generator=torch.Generator().manual_seed(1))
    sources = [volume, *conv.parameters()]
    ours = torch.autograd.grad(output, sources, gradient)
    plain = torch.autograd.grad(dense, sources, gradient)
    pairs = zip((output, *ours), (dense, *plain), strict=True)
    return max(float((a - b).detach().abs().max() / b.detach().abs().max()) for a, b in pairs)


@pytest.fixture
def as_on_gpu(package: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a GPU the passes take another order, which a CPU can run too."""
    monkeypatch.setattr(importlib.import_module("separable._separable"), "_is_gpu", lambda tensor: True)


@pytest.mark.parametrize("before", range(4))
@pytest.mark.parametrize("name", ["Small", "Uneven", "Scalars", "Mirrored"])
def test_separable_equals_dense_in_value_and_in_every_gradient(package: ModuleType, name: str, before: int) -> None:
    torch.manual_seed(0)
    layer = getattr(package, name)
    conv = type(name, (layer,), {"passes_before": before})().double()
    volume = torch.randn(2, conv.in_channels, 7, 9, 8, dtype=torch.float64, requires_grad=True)
    assert _compare(conv, volume) < 1e-12


@pytest.mark.usefixtures("as_on_gpu")
@pytest.mark.parametrize("name", ["Small", "Uneven", "Scalars", "Mirrored"])
def test_the_order_of_a_gpu_equals_dense_too(package: ModuleType, name: str) -> None:
    torch.manual_seed(0)
    conv = getattr(package, name)().double()
    volume = torch.randn(2, conv.in_channels, 7, 9, 8, dtype=torch.float64, requires_grad=True)
    assert _compare(conv, volume) < 1e-12
    assert conv(volume[:0]).shape == (0, conv.out_channels, 7, 9, 8)
    last = conv(volume.contiguous(memory_format=torch.channels_last_3d))
    assert last.is_contiguous(memory_format=torch.channels_last_3d)
    torch.testing.assert_close(last, conv(volume))


@pytest.mark.usefixtures("as_on_gpu")
def test_only_the_wanted_gradient_is_made_on_a_gpu(package: ModuleType) -> None:
    conv, volume = package.Small(), torch.randn(1, 5, 6, 6, 6, requires_grad=True)
    conv(volume.detach()).square().sum().backward()
    assert conv.weight.grad is not None and volume.grad is None
    conv = conv.requires_grad_(False)
    conv(volume).square().sum().backward()
    assert volume.grad is not None


@pytest.mark.usefixtures("as_on_gpu")
def test_entries_of_a_gpu_name_every_coefficient_once(package: ModuleType) -> None:
    """And a zero where a + b + c is more than the levels."""
    conv = package.Small()
    passes, pairs = conv._passes(), conv.out_channels * conv.in_channels
    numbers = len(passes.products.t()) * pairs
    entries = passes.entries[passes.entries < numbers]
    assert sorted(entries.tolist()) == list(range(numbers)) and (passes.entries <= numbers).all()


@pytest.mark.parametrize("name", ["Small", "Uneven", "Scalars", "Mirrored"])
def test_separable_equals_dense_in_single_precision_too(package: ModuleType, name: str) -> None:
    torch.manual_seed(0)
    conv = getattr(package, name)()
    assert _compare(conv, torch.randn(2, conv.in_channels, 7, 9, 8, requires_grad=True)) < 2e-5


def test_a_stride_set_later_is_obeyed(package: ModuleType) -> None:
    conv = package.Small().double()
    conv.stride = (2, 1, 2)
    assert _compare(conv, torch.randn(1, 5, 7, 7, 7, dtype=torch.float64, requires_grad=True)) < 1e-12


def _rest(conv: Any) -> tuple[Any, ...]:
    """What `separable_conv3d` takes after input and mixing; padded by two voxels."""
    passes = conv._passes()
    tables = passes.taps_x, passes.taps_y, passes.taps_z, passes.channels_in, passes.channels_out
    return *tables, conv._counts(), [1, 1, 1, 2, 2, 2, 1, 1, 1], conv._before


@pytest.mark.parametrize("name", ["Small", "Uneven", "Scalars", "Mirrored"])
def test_what_the_mixing_leaves_out_is_zero(package: ModuleType, name: str) -> None:
    """Every coefficient of a product is a number of some matrix, or exactly zero."""
    conv = getattr(package, name)().double()
    passes = conv._passes()
    coefficients = conv._coefficients(conv.weight, conv._constants("_make_constants", conv.weight))
    mixing = (passes.products.t() @ coefficients.t()).flatten()
    kept = torch.zeros_like(mixing, dtype=torch.bool).index_fill(0, passes.entries, True)
    assert len(passes.entries) == kept.sum() < 0.4 * len(mixing)
    assert not mixing[~kept].any() and mixing[kept].any()


def test_second_derivatives(package: ModuleType) -> None:
    module = importlib.import_module("separable._separable")
    conv = package.Scalars().double()
    volume = torch.randn(1, 2, 4, 3, 4, dtype=torch.float64, requires_grad=True)
    mixing, rest = conv._mixing().detach().requires_grad_(), _rest(conv)
    assert torch.autograd.gradgradcheck(
        lambda *sources: module.separable_conv3d(*sources, *rest), (volume, mixing), fast_mode=True
    )


@pytest.mark.filterwarnings("ignore:.*torch.jit.script")  # torch's own, for conv3d's tangents
def test_transforms_and_forward_mode_derivatives(package: ModuleType) -> None:
    conv = package.Small().double()
    volume, direction = torch.randn(2, 1, 5, 6, 6, 6, dtype=torch.float64).unbind(0)
    bias_free = package.Small(bias=False).double()
    bias_free.load_state_dict({**bias_free.state_dict(), "weight": conv.weight.detach()})
    _, tangent = torch.func.jvp(bias_free, (volume,), (direction,))
    torch.testing.assert_close(tangent, bias_free(direction))
    gradient = torch.func.grad(lambda x: bias_free(x).square().sum())(volume)
    volume.requires_grad_()
    torch.testing.assert_close(gradient, torch.autograd.grad(bias_free(volume).square().sum(), volume)[0])


@pytest.mark.parametrize("place", [(torch._C, "_are_functorch_transforms_active"), (forward_ad, "_current_level")])
def test_a_torch_without_its_private_functions_gets_the_dense_convolution(
    package: ModuleType, monkeypatch: pytest.MonkeyPatch, place: tuple[Any, str]
) -> None:
    """Which transforms can do with, as the test above shows; the control is that this torch gets the passes."""
    module = importlib.import_module("separable._separable")
    conv, volume = package.Small(bias=False).double(), torch.randn(1, 5, 6, 6, 6, dtype=torch.float64)
    expected = conv(volume)
    passes, taken = module.separable_conv3d, []
    monkeypatch.setattr(module, "separable_conv3d", lambda *arguments: taken.append(1) or passes(*arguments))
    torch.testing.assert_close(conv(volume), expected)
    assert taken.pop()
    with monkeypatch.context() as old:
        old.delattr(*place)
        dense = conv(volume)
    assert not taken and not module._is_transformed()
    torch.testing.assert_close(dense, expected)


def test_imported_again_the_old_module_still_works(package: ModuleType) -> None:
    module = importlib.import_module("separable._separable")
    conv, volume = package.Small(), torch.randn(1, 5, 6, 6, 6)
    before, operators = conv(volume), module._LIBRARY
    importlib.reload(module)
    assert operators != module._LIBRARY and module._LIBRARY.isidentifier()
    torch.testing.assert_close(conv(volume), before)


def test_copies_pickles_and_traces_give_the_same_outputs(package: ModuleType) -> None:
    import copy
    import pickle

    conv, volume = package.Small(), torch.randn(1, 5, 6, 6, 6)
    for other in (copy.deepcopy(conv), pickle.loads(pickle.dumps(conv))):
        torch.testing.assert_close(other(volume), conv(volume))


def test_filters_of_any_size_stay_finite_in_single_precision(compile_and_import: Compile) -> None:
    """|x|^J in units of a millionth: 1e-42, and its inverse beyond float32, unless divided out in float64."""
    text = SPEC.split("[[conv]]")[0].replace("separable", "small_units", 1)
    text += '[[conv]]\nname = "C"\nin = "1x3"\nout = "1x4"\nkernel_size = 9\nvoxel_spacing = 0.000001\n'
    conv = compile_and_import(text.replace("n_max = 3", "n_max = 7")).C()
    assert conv(torch.randn(1, 7, 9, 9, 9)).isfinite().all() and conv.kernel().isfinite().all()


def test_the_comparison_can_fail(package: ModuleType) -> None:
    conv = package.Small().double()
    products = conv._passes().products
    products[3, 2] += 1e-6
    wrong = _compare(conv, torch.randn(1, 5, 6, 6, 6, dtype=torch.float64, requires_grad=True))
    products[3, 2] -= 1e-6
    assert wrong > 1e-9


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    stride=st.tuples(*[st.integers(1, 3)] * 3),
    padding=st.tuples(*[st.integers(0, 4)] * 3),
    size=st.tuples(*[st.integers(7, 12)] * 3),
    samples=st.integers(0, 3),
    cache=st.sampled_from([1, 10_000, 1 << 22]),
    block=st.sampled_from([1, 3, 32]),
    before=st.integers(0, 3),
    on_gpu=st.booleans(),
)
def test_any_geometry_and_any_cut_of_the_work(
    package: ModuleType,
    stride: tuple[int, int, int],
    padding: tuple[int, int, int],
    size: tuple[int, int, int],
    samples: int,
    cache: int,
    block: int,
    before: int,
    on_gpu: bool,
) -> None:
    torch.manual_seed(0)
    module = importlib.import_module("separable._separable")
    conv = type("Cut", (package.Uneven,), {"passes_before": before})(padding=padding).double()
    conv.stride = stride  # afterwards: all three passes come first where the stride is known
    volume = torch.randn(samples, 4, *size, dtype=torch.float64, requires_grad=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(importlib.import_module("separable._on_cpu"), "CACHE", cache)
        patch.setattr(importlib.import_module("separable._on_cpu"), "BLOCK", block)
        patch.setattr(importlib.import_module("separable._on_gpu"), "WORKSPACE", 10 * cache)
        patch.setattr(module, "_is_gpu", lambda tensor: on_gpu)
        if samples:
            assert _compare(conv, volume) < 1e-12
        else:
            assert conv(volume).shape == _dense(conv, volume).shape


@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor")  # torch 2.15's own, in opcheck of any operator
@pytest.mark.parametrize("before", [*range(4), "on a GPU"])
def test_gradcheck(package: ModuleType, before: int | str, monkeypatch: pytest.MonkeyPatch) -> None:
    module = importlib.import_module("separable._separable")
    if before == "on a GPU":
        monkeypatch.setattr(module, "_is_gpu", lambda tensor: True)
        before = 0
    conv = type("Split", (package.Scalars,), {"passes_before": before})().double()
    volume = torch.randn(2, 2, 5, 4, 6, dtype=torch.float64, requires_grad=True)
    mixing = conv._mixing().detach().requires_grad_()
    rest = _rest(conv)
    assert torch.autograd.gradcheck(
        lambda *sources: module.separable_conv3d(*sources, *rest), (volume, mixing), fast_mode=True
    )
    torch.library.opcheck(module.separable_conv3d, (volume, mixing, *rest))
    gradient = torch.randn_like(module.separable_conv3d(volume, mixing, *rest)).requires_grad_()
    torch.library.opcheck(module.separable_conv3d_backward, (gradient, volume, mixing, *rest, True, True))


def test_only_the_wanted_gradient_is_made(package: ModuleType) -> None:
    conv = package.Small()
    (conv(torch.randn(1, 5, 6, 6, 6)) ** 2).sum().backward()
    assert conv.weight.grad is not None
    conv = package.Small().requires_grad_(False)
    volume = torch.randn(1, 5, 6, 6, 6, requires_grad=True)
    (conv(volume) ** 2).sum().backward()
    assert volume.grad is not None and conv.weight.grad is None


def test_single_precision_and_autocast(package: ModuleType) -> None:
    torch.manual_seed(0)
    conv, volume = package.Small(), torch.randn(2, 5, 8, 8, 8)
    exact = _dense(conv, volume)
    assert (conv(volume) - exact).abs().max() < 1e-5 * exact.abs().max()
    with torch.autocast("cpu", torch.bfloat16):
        half = conv(volume)
        half.float().square().sum().backward()
    assert half.dtype == torch.bfloat16 and (half.float() - exact).abs().max() < 3e-2 * exact.abs().max()
    assert conv.weight.grad.dtype == torch.float32 and conv.weight.grad.isfinite().all()
    assert (conv.bfloat16()(volume.bfloat16()).float() - exact).abs().max() < 3e-2 * exact.abs().max()


def test_channels_last_is_accepted_and_kept(package: ModuleType) -> None:
    conv, volume = package.Small(), torch.randn(2, 5, 8, 7, 6)
    output = conv(volume.to(memory_format=torch.channels_last_3d))
    assert output.is_contiguous(memory_format=torch.channels_last_3d)
    torch.testing.assert_close(output, conv(volume))


def test_compiles_whole_and_exports_as_the_dense_convolution(package: ModuleType) -> None:
    torch.manual_seed(0)
    conv, volume = package.Small(), torch.randn(2, 5, 8, 8, 8)
    expected = conv(volume)
    seen: list[str] = []

    def backend(graph: torch.fx.GraphModule, _: object) -> object:
        seen.extend(str(node.target) for node in graph.graph.nodes)
        return graph

    torch.testing.assert_close(torch.compile(conv, fullgraph=True, backend=backend)(volume), expected)
    if hasattr(torch.compiler, "is_exporting"):
        assert any("separable_conv3d" in target for target in seen)
    torch.testing.assert_close(torch.compile(conv, fullgraph=True, backend="aot_eager")(volume), expected)
    size = {0: torch.export.Dim("batch"), 2: torch.export.Dim("x"), 3: torch.export.Dim("y"), 4: torch.export.Dim("z")}
    program = torch.export.export(conv, (volume,), dynamic_shapes=(size,))
    assert any("conv3d" in str(node.target) and "aten" in str(node.target) for node in program.graph.nodes)
    torch.testing.assert_close(program.module()(volume), expected)
    larger = torch.randn(1, 5, 9, 10, 11)
    torch.testing.assert_close(program.module()(larger), conv(larger))
    torch.testing.assert_close(conv.to_conv3d()(volume), expected)


@pytest.mark.parametrize("dynamo", [True, False])
@pytest.mark.parametrize("frozen", [False, True], ids=["as it is", "frozen"])
@pytest.mark.parametrize("stride", [1, 2])
def test_onnx_holds_the_dense_convolution(
    package: ModuleType, stride: int, frozen: bool, dynamo: bool, tmp_path: Path
) -> None:
    """As it is, the graph makes the kernel from the weights at every call; frozen, it is one convolution."""
    import onnx
    import onnxruntime

    torch.manual_seed(0)
    conv = package.Small(stride=stride).eval().requires_grad_(False)
    model = freeze(nn.Sequential(conv)) if frozen else conv
    volume, path, axes = torch.randn(2, 5, 8, 9, 7), tmp_path / "conv.onnx", (0, 2, 3, 4)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporters' own deprecations
        if dynamo:
            sizes = dict.fromkeys(axes, torch.export.Dim.AUTO)
            torch.onnx.export(model, (volume,), str(path), dynamo=True, dynamic_shapes=(sizes,), verbose=False)
        else:
            options = {"input_names": ["volume"], "dynamic_axes": {"volume": list(axes)}}
            torch.onnx.export(model, (volume,), str(path), dynamo=False, **options)
    graph = onnx.load(str(path))
    operators = [node.op_type for node in graph.graph.node]
    assert operators.count("Conv") == 1 and (operators == ["Conv"]) is frozen
    assert {opset.domain for opset in graph.opset_import} == {""}, "no operator of ours"
    session, larger = onnxruntime.InferenceSession(str(path)), torch.randn(1, 5, 11, 8, 10)
    (output,) = session.run(None, {session.get_inputs()[0].name: larger.numpy()})
    np.testing.assert_allclose(output, conv(larger).numpy(), atol=2e-5)


def test_a_layer_moves_to_the_meta_device_and_back(package: ModuleType) -> None:
    conv = package.Small()
    assert conv.to("meta")(torch.empty(2, 5, 8, 8, 8, device="meta")).shape == (2, 9, 8, 8, 8)
    conv = conv.to_empty(device="cpu").to(torch.float32)
    conv.reset_parameters()
    assert _compare(conv, torch.randn(1, 5, 7, 7, 7, requires_grad=True)) < 2e-5


def _trained(package: ModuleType, parallel: bool, samples: slice) -> list[Tensor]:
    """The weights after three steps of a small network on some samples of a batch, the same at every call."""
    torch.manual_seed(0)
    batch, target = torch.randn(5, 5, 6, 7, 6, dtype=torch.float64), torch.randn(5, 5, dtype=torch.float64)
    model = nn.Sequential(package.Small(), nn.Conv3d(9, 5, 1), package.Small(stride=2), nn.Conv3d(9, 5, 1)).double()
    network = nn.parallel.DistributedDataParallel(model) if parallel else model
    processes = dist.get_world_size() if parallel else 1  # DistributedDataParallel takes the mean over them
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    for _ in range(3):
        optimizer.zero_grad()
        error = (network(batch[samples]).mean((2, 3, 4)) - target[samples]).square().sum()
        (processes / len(batch) * error).backward()
        optimizer.step()
    return [weight.detach() for weight in model.parameters()]


def _process(rank: int, folder: Path, place: Path) -> None:
    torch.set_num_threads(1)
    join_group(f"file://{folder}/store", "gloo", rank, 2)
    torch.save(_trained(_imported(place), True, slice(3) if rank == 0 else slice(3, None)), folder / f"{rank}.pt")
    leave_group()
    assert not gloo_threads(), "at the exit they abort the process now and then"


@pytest.mark.slow
def test_two_processes_train_to_the_weights_of_one(package: ModuleType, tmp_path: Path) -> None:
    mp.spawn(_process, (tmp_path, Path(package.__file__).parent.parent), nprocs=2)
    one = _trained(package, False, slice(None))
    for rank in range(2):
        for weight, expected in zip(torch.load(tmp_path / f"{rank}.pt"), one, strict=True):
            torch.testing.assert_close(weight, expected, rtol=1e-10, atol=1e-12)
    part = _trained(package, False, slice(3))  # the control: what one process's samples alone would give
    assert max(float((a - b).abs().max()) for a, b in zip(part, one, strict=True)) > 1e-3


WRONG = {
    "channels": (torch.zeros(2, 4, 8, 8, 8), r"takes \(batch, 5, x, y, z\), got \(2, 4, 8, 8, 8\)"),
    "no batch": (torch.zeros(5, 8, 8, 8), r"takes \(batch, 5, x, y, z\), got \(5, 8, 8, 8\)"),
    **{
        str(dtype): (
            torch.zeros(2, 5, 8, 8, 8, dtype=dtype),
            f"has weights of torch.float32, got a volume of {dtype}. Convert one of them",
        )
        for dtype in (torch.float64, torch.float16, torch.bfloat16, torch.int64, torch.uint8, torch.bool)
    },
}


@pytest.mark.parametrize("wrong", WRONG)
@pytest.mark.parametrize("execution", ["dense", "separable"])
def test_a_wrong_volume_is_the_same_clear_error_either_way(package: ModuleType, execution: str, wrong: str) -> None:
    conv, (volume, complaint) = package.Small(), WRONG[wrong]
    if execution == "dense":
        conv.forward = MethodType(package._steerable.SteerableConv3d.forward, conv)
    with pytest.raises(ValueError, match=f"Small {complaint}"):
        conv(volume)
    assert conv(torch.zeros(2, 5, 8, 8, 8)).shape == (2, 9, 8, 8, 8)


@pytest.mark.parametrize("value", [-1, 1.5, (1, 2), (1, 1, -1), "1", None])
@pytest.mark.parametrize("name", ["stride", "padding"])
@pytest.mark.parametrize("layer", ["Small", "Dense"])
def test_invalid_strides_and_paddings_are_refused(package: ModuleType, layer: str, name: str, value: Any) -> None:
    expected = "padding is a number of voxels" if (name, value) == ("padding", "1") else f"{name} is a whole number"
    with pytest.raises(ValueError, match=f"{expected}.*three of them"):
        getattr(package, layer)(**{name: value})
    with pytest.raises(ValueError, match="stride is a whole number of at least 1, or three of them, not 0"):
        getattr(package, layer)(stride=0)


def test_a_double_module_takes_double_volumes_only(package: ModuleType) -> None:
    conv, volume = package.Small().double(), torch.zeros(1, 5, 6, 6, 6)
    with pytest.raises(ValueError, match=r"has weights of torch\.float64, got a volume of torch\.float32"):
        conv(volume)
    assert conv(volume.double()).dtype == torch.float64
    with torch.autocast("cpu", torch.bfloat16):  # autocast converts, as it does for torch's own layers
        assert package.Small()(volume.bfloat16()).dtype == torch.bfloat16


def test_a_volume_smaller_than_the_kernel_is_refused_with_its_size(package: ModuleType) -> None:
    with pytest.raises(ValueError, match=r"a volume of \(4, 8, 8\) voxels, padded by \(0, 0, 0\), is smaller"):
        package.Small(padding=0)(torch.randn(1, 5, 4, 8, 8))
    with pytest.raises(ValueError, match=r"Small takes \(batch, 5, x, y, z\), got \(1, 4, 8, 8, 8\)"):
        package.Small()(torch.randn(1, 4, 8, 8, 8))


def test_the_backward_pass_keeps_nothing_but_its_inputs(package: ModuleType) -> None:
    conv, volume = package.Small(), torch.randn(1, 5, 8, 8, 8, requires_grad=True)
    kept = []
    with torch.autograd.graph.saved_tensors_hooks(lambda tensor: kept.append(tensor.numel()) or tensor, lambda t: t):
        conv(volume)
    assert max(kept) <= volume.numel()


# --------------------------------------------------------------------------------------------------------- the choice


def _spec(**options: object) -> str:
    lines = [f"{key} = {json.dumps(value)}" for key, value in options.items() if key != "radial"]
    radial = options.get("radial", '{ family = "hermite", n_max = 4 }')
    return "\n".join(['name = "p"', "[[conv]]", 'name = "C"', f"radial = {radial}", *lines])


WIDE = {"in": "32x0 + 16x1 + 8x2", "out": "32x0 + 16x1 + 8x2"}


@pytest.mark.parametrize(
    ("options", "execution"),
    [
        ({**WIDE, "kernel_size": 7}, Execution.SEPARABLE),
        ({**WIDE, "kernel_size": 7, "execution": "dense"}, Execution.DENSE),
        ({**WIDE, "kernel_size": 3}, Execution.DENSE),
        ({**WIDE, "kernel_size": 5, "radial": '{ family = "separable" }'}, Execution.SEPARABLE),
        ({"in": "8x0", "out": "8x0", "kernel_size": 3, "radial": '{ family = "separable" }'}, Execution.DENSE),
        ({"in": "1x0", "out": "1x0", "kernel_size": 3, "execution": "separable"}, Execution.SEPARABLE),
        ({**WIDE, "kernel_size": 7, "radial": '{ family = "shells" }'}, Execution.DENSE),
        ({**WIDE, "kernel_size": 7, "radial": '{ family = "optimal", max_defect = 0.1 }'}, Execution.DENSE),
    ],
)
def test_the_plan_chooses_dense_or_separable(options: dict[str, object], execution: Execution) -> None:
    (layer,) = plan(parse_package(_spec(**options))).layers
    assert layer.execution is execution
    assert (layer.predicted_ratio < 1) or options.get("execution") == "separable" or execution is Execution.DENSE


@pytest.mark.parametrize("family", ["shells", "optimal"])
def test_other_families_are_not_products(family: str) -> None:
    text = _spec(**WIDE, kernel_size=5, execution="separable", radial=f'{{ family = "{family}" }}')
    with pytest.raises(SpecError, match=f"layer 'C': execution = 'separable' needs .* '{family}' ones are not"):
        parse_package(text)


@pytest.fixture(scope="module")
def free() -> Iterator[ModuleType]:
    """A layer that may run either way, and a threshold that tests can reach."""
    layer = {"in": "8x0 + 4x1 + 2x2", "out": "8x0 + 4x1", "kernel_size": 7, "radial": '{ family = "separable" }'}
    with imported(compile_package(parse_package(_spec(**layer))), "free_layer") as package:
        assert package.C.smallest["cpu"].keys() <= {1, 2, 3} and package.C.smallest["cpu"][1] > 1
        package.C.smallest = {"cpu": {1: 2 * 6**3, 2: 10**9}, "gpu": {1: 6**3}, "gpu, 16 bits": {1: 7**3}}
        yield package


def _ways(conv: torch.nn.Module, volume: torch.Tensor) -> tuple[bool, bool]:
    """Whether a call makes passes, and whether a dense convolution."""
    with torch.profiler.profile() as profile:
        conv(volume)
    names = {event.name for event in profile.events()}
    return any("separable_conv3d" in name for name in names), "aten::conv3d" in names


def test_a_gpu_has_a_threshold_of_its_own(free: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    conv, volume = free.C(), torch.randn(1, 30, 6, 6, 6)
    assert _ways(conv, volume) == (False, True)
    monkeypatch.setattr(importlib.import_module("free_layer._separable"), "_is_gpu", lambda tensor: True)
    assert _ways(conv, volume) == (True, False)
    assert _ways(conv, volume[..., 1:]) == (False, True)
    with torch.autocast("cpu", torch.bfloat16):
        assert _ways(conv, volume) == (False, True)


def test_a_layer_that_may_run_either_way_decides_by_the_volume_and_the_stride(free: ModuleType) -> None:
    torch.manual_seed(0)
    conv, strided = free.C().double(), free.C(stride=2).double()
    strided.load_state_dict(conv.state_dict())
    for size, samples, passes in ((5, 2, False), (6, 1, False), (6, 2, True), (7, 2, True)):
        volume = torch.randn(samples, 30, size, size, size, dtype=torch.float64)
        assert _ways(conv, volume) == (passes, not passes)
        assert _ways(strided, volume) == (False, True)
        torch.testing.assert_close(conv(volume), conv.to_conv3d()(volume))
        torch.testing.assert_close(strided(volume), conv(volume)[..., ::2, ::2, ::2])


@pytest.mark.slow
def test_the_decision_compiles_whole_and_once_for_either_way(free: ModuleType) -> None:
    torch.compiler.reset()
    conv, graphs = free.C().double(), []

    def count(graph: torch.fx.GraphModule, inputs: object) -> object:
        graphs.append(graph)
        return graph.forward

    compiled = torch.compile(conv, backend=count, fullgraph=True, dynamic=True)
    for size in (4, 5, 7, 8, 9, 10, 3, 11):
        volume = torch.randn(2, 30, size, size, size, dtype=torch.float64)
        torch.testing.assert_close(compiled(volume), conv(volume))
    assert len(graphs) == 2
