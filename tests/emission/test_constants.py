"""Constants lie outside the modules: tools that cast, move, average, trace or share their tensors get them right.

A table: each layer class under each tool. Held constants are dropped before each test, so that the tool makes them.
"""

from __future__ import annotations

import copy
import importlib
import pickle
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from types import ModuleType

import pytest
import torch
from torch import Tensor, nn
from torch._dynamo.testing import CompileCounterWithBackend
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.func import functional_call, grad, jvp, stack_module_state, vmap
from torch.fx.experimental.proxy_tensor import make_fx
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from basisgen.emission.imported import imported
from basisgen.pipeline import compile_package
from basisgen.spec import parse_package

SPEC = """
name = "held"
[defaults]
kernel_size = 3
radial = { family = "hermite", n_max = 4 }
execution = "dense"
[[conv]]
name = "Dense"
in = "2x0 + 1x1"
out = "1x0 + 1x1 + 1x2"
[[conv]]
name = "Fewer"
in = "1x0"
out = "2x0 + 1x1"
[[conv]]
name = "Gaps"
in = "1x0e + 1x2e"
out = "1x0e + 1x2e"
[[conv]]
name = "Separable"
in = "2x0 + 1x1"
out = "1x0 + 1x1 + 1x2"
execution = "separable"
"""
LAYERS = ("Dense", "Fewer", "Gaps", "Separable")
Tool = Callable[[nn.Module, Tensor], Tensor]  # a layer in float64, a volume -> what the tool makes of them


@pytest.fixture(scope="module")
def compiled() -> Iterator[ModuleType]:
    with imported(compile_package(parse_package(SPEC)), "held") as package:
        yield package


@pytest.fixture
def package(compiled: ModuleType) -> ModuleType:
    """The package, none of its constants made yet."""
    forget()
    return compiled


def forget() -> None:
    module = importlib.import_module("held._constants")
    module._HELD.clear()
    module._COPIES.clear()


def copies() -> list[Tensor]:
    """Every constant that is held, on any device, in any dtype."""
    return [copy for copy, _ in importlib.import_module("held._constants")._COPIES.values()]


def with_data_cast(conv: nn.Module, x: Tensor) -> Tensor:
    single = type(conv)()
    for ours, theirs in zip(single.parameters(), conv.parameters(), strict=True):
        ours.data = theirs.data
    return single(x)


def assigned(conv: nn.Module, x: Tensor) -> Tensor:
    single = type(conv)()
    single.load_state_dict(conv.state_dict(), assign=True)
    return single(x)


def from_meta(conv: nn.Module, x: Tensor) -> Tensor:
    with torch.device("meta"):
        empty = type(conv)()
        assert empty(torch.empty(x.shape)).is_meta
    empty.load_state_dict(conv.state_dict(), assign=True)
    return empty(x)


def by_functional_call(conv: nn.Module, x: Tensor) -> Tensor:
    return functional_call(type(conv)(), dict(conv.named_parameters()), (x,))


def half_and_back(conv: nn.Module, x: Tensor) -> Tensor:
    back = copy.deepcopy(conv).half().double()
    back.load_state_dict(conv.state_dict())
    return back(x)


def averaged(conv: nn.Module, x: Tensor) -> Tensor:
    average = AveragedModel(conv, multi_avg_fn=get_ema_multi_avg_fn(0.9995), use_buffers=True)
    for _ in range(20):
        average.update_parameters(conv)
    return average(x)


def averaged_state(conv: nn.Module, x: Tensor) -> Tensor:
    """As frameworks average: in place, everything in floating point."""
    average = copy.deepcopy(conv)
    state = average.state_dict()
    for _ in range(20):
        for name, value in conv.state_dict().items():
            if value.is_floating_point():
                state[name].mul_(0.9995).add_(value, alpha=0.0005)
    average.load_state_dict(state)
    return average(x)


def in_inference_mode_first(conv: nn.Module, x: Tensor) -> Tensor:
    with torch.inference_mode():
        conv(x)
    y = conv(x)
    y.sum().backward()
    assert conv.weight.grad is not None
    return y


def by_sample(conv: nn.Module, x: Tensor) -> Tensor:
    return vmap(lambda volume: conv(volume[None])[0])(x)


def by_model(conv: nn.Module, x: Tensor) -> Tensor:
    """Ensembles, as in torch's tutorial: the shape from a model on meta, the weights stacked."""
    weights, buffers = stack_module_state([conv, conv])
    assert not buffers
    empty = copy.deepcopy(conv).to("meta")
    return vmap(lambda w: functional_call(empty, w, (x,)))(weights)[1]


def in_threads(conv: nn.Module, x: Tensor) -> Tensor:
    barrier, outputs = threading.Barrier(4), []

    def run() -> None:
        barrier.wait()
        outputs.append(conv(x))

    threads = [threading.Thread(target=run) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(outputs) == 4 and all(torch.equal(outputs[0], other) for other in outputs)
    return outputs[0]


def compiled_whole(conv: nn.Module, x: Tensor) -> Tensor:
    torch._dynamo.reset()
    y = torch.compile(conv, fullgraph=True, backend="aot_eager", dynamic=True)(x)
    y.sum().backward()
    assert conv.weight.grad is not None
    return y


def exported(conv: nn.Module, x: Tensor) -> Tensor:
    return torch.export.export(conv, (x,), strict=False).module()(x)


def exported_strictly(conv: nn.Module, x: Tensor) -> Tensor:
    torch._dynamo.reset()
    return torch.export.export(conv, (x,), strict=True).module()(x)


def traced(conv: nn.Module, x: Tensor) -> Tensor:
    return torch.jit.trace(conv, (x,))(x)


def as_a_graph(conv: nn.Module, x: Tensor) -> Tensor:
    weights = dict(conv.named_parameters())
    return make_fx(lambda w, x: functional_call(conv, w, (x,)), tracing_mode="symbolic")(weights, x)(weights, x)


TOOLS: list[Tool] = [
    with_data_cast,
    assigned,
    from_meta,
    by_functional_call,
    half_and_back,
    averaged,
    averaged_state,
    in_inference_mode_first,
    by_sample,
    by_model,
    in_threads,
    compiled_whole,
    exported,
    exported_strictly,
    traced,
    as_a_graph,
    lambda conv, x: copy.deepcopy(conv)(x),
    lambda conv, x: pickle.loads(pickle.dumps(conv))(x),
    lambda conv, x: jvp(conv, (x,), (x,))[0],
]


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::torch.jit.TracerWarning")
@pytest.mark.parametrize("tool", TOOLS, ids=lambda tool: tool.__name__)
@pytest.mark.parametrize("name", LAYERS)
def test_a_layer_is_the_same_map_under_every_tool(package: ModuleType, name: str, tool: Tool) -> None:
    torch.manual_seed(0)
    conv = getattr(package, name)(dtype=torch.float64)
    x = torch.randn(2, conv.in_channels, 5, 5, 5, dtype=torch.float64)
    got = tool(conv, x)
    forget()
    fresh = getattr(package, name)(dtype=torch.float64)
    fresh.load_state_dict(conv.state_dict())
    torch.testing.assert_close(got, fresh(x), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name", LAYERS)
def test_constants_of_another_dtype_would_be_seen(package: ModuleType, name: str) -> None:
    """The control: float32 constants under float64 weights, as a cast of the weights alone once gave."""
    conv = getattr(package, name)(dtype=torch.float64)
    x = torch.randn(1, conv.in_channels, 5, 5, 5, dtype=torch.float64)
    right = conv(x)
    for constant in copies():
        if constant.is_floating_point():
            constant.copy_(constant.float().double())
    wrong = conv(x)
    forget()
    importlib.import_module("held._steerable")._unit_filters.cache_clear()
    assert (wrong - right).abs().max() > 1e-9


def test_no_module_has_a_buffer(package: ModuleType) -> None:
    for name in LAYERS:
        conv = getattr(package, name)()
        conv(torch.randn(1, conv.in_channels, 3, 3, 3))
        assert not list(conv.buffers()) and [key for key, _ in conv.named_parameters()] == ["weight", "bias"]
        assert not [value for value in vars(conv).values() if isinstance(value, Tensor)]


def test_all_layers_of_a_package_share_one_copy_per_device_and_dtype(package: ModuleType) -> None:
    def run(**options: object) -> dict[int, Tensor]:
        for name in LAYERS:
            for _ in range(2):
                conv = getattr(package, name)(**options)
                conv(torch.empty(1, conv.in_channels, 3, 3, 3, **options))
        return {copy.untyped_storage().data_ptr(): copy for copy in copies() if not copy.is_meta}

    single = run(dtype=torch.float32)
    assert run(dtype=torch.bfloat16).keys() == run(device="meta").keys() == single.keys()
    tables = Counter(tuple(copy.shape) for copy in single.values() if copy.ndim == 2)
    assert tables == {
        (35, 27): 1,  # the filters
        (22, 27): 1,  # those that Gaps takes: J = 0, 2, 4
        (35, 35): 1,  # the filters as products
        (5, 3): 3,  # taps along each axis
    }
    integers = {place for place, copy in single.items() if not copy.is_floating_point()}
    double = run(dtype=torch.float64)
    assert single.keys() <= double.keys()
    assert len(double) - len(single) == len(single) - len(integers), "integers are shared by both dtypes"


def test_another_dtype_or_device_does_not_compile_again(package: ModuleType) -> None:
    torch._dynamo.reset()
    counter = CompileCounterWithBackend("eager")
    conv = package.Dense()
    whole = torch.compile(conv, fullgraph=True, backend=counter)
    x = torch.randn(2, conv.in_channels, 4, 4, 4)
    whole(x)
    package.Dense(dtype=torch.float64)(x.double())
    package.Fewer(device="meta")(torch.empty(1, 1, 4, 4, 4, device="meta"))
    whole(x)
    assert counter.frame_count == 1
    conv.double()
    torch.testing.assert_close(whole(x.double()), conv(x.double()), rtol=1e-12, atol=1e-12)
    assert counter.frame_count == 2


def test_fake_tensors_give_shapes_and_leave_nothing_behind(package: ModuleType) -> None:
    for name in LAYERS:
        with FakeTensorMode() as mode:
            conv = getattr(package, name)()
            assert conv(torch.empty(2, conv.in_channels, 4, 5, 6)).shape == (2, conv.out_channels, 4, 5, 6)
            conv.load_state_dict(conv.state_dict())
        real = getattr(package, name)()
        x = torch.randn(2, real.in_channels, 4, 5, 6)
        fake = {key: mode.from_tensor(value) for key, value in real.named_parameters()}
        assert functional_call(real, fake, (mode.from_tensor(x),)).shape == real(x).shape
        assert real(x).isfinite().all()


def test_gradients_of_single_samples(package: ModuleType) -> None:
    """As private training asks for them."""
    conv = package.Dense(dtype=torch.float64)
    weights, x = dict(conv.named_parameters()), torch.randn(3, conv.in_channels, 4, 4, 4, dtype=torch.float64)

    def loss(weights: dict[str, Tensor], volume: Tensor) -> Tensor:
        return functional_call(conv, weights, (volume[None],)).square().sum()

    each = vmap(grad(loss), (None, 0))(weights, x)
    conv(x).square().sum().backward()
    torch.testing.assert_close(each["weight"].sum(0), conv.weight.grad)
