"""What all layers share: constants that are no part of them, channel counts, clear refusals."""

import copy
import io
import pickle

import numpy as np
import pytest
import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

import runtime as rt
from runtime import LowPass, TensorProductActivation, constants
from runtime.constants import constant
from runtime.fields import channel_count
from runtime.so3 import wigner_d
from tests.runtime.catalog import CASES
from tests.runtime.oracle import OracleConv

WITH_CONSTANTS = {
    "LowPass": lambda: LowPass("1x0 + 1x1 + 1x2", 3),
    "TensorProductActivation": lambda: TensorProductActivation("1x0 + 1x1 + 1x2", max_degree=2),
}
RUNNING = {"running_mean", "running_square", "num_batches_tracked"}


def volumes(dtype=torch.float64):
    return torch.randn(2, 9, 9, 9, 9, dtype=torch.float64).to(dtype)


@pytest.fixture
def no_constants(monkeypatch):
    """Constants are made again, as in a process that has made none."""
    constants._made.cache_clear()
    yield
    held = list(vars(constants._HELD).values())
    assert held and all(type(value) is torch.Tensor and not value.is_inference() for value in held)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_layers_have_no_buffers_but_running_statistics(case):
    layer = case.make()
    assert {name.rpartition(".")[2] for name, _ in layer.named_buffers()} <= RUNNING
    kept = [v for m in layer.modules() if not isinstance(m, OracleConv) for v in vars(m).values()]
    assert not any(isinstance(value, torch.Tensor) for value in kept)


@pytest.mark.parametrize("make", WITH_CONSTANTS.values(), ids=WITH_CONSTANTS)
def test_constants_are_those_of_float64_rounded_once(make):
    layer, x = make(), volumes()
    exact = layer(x)
    torch.testing.assert_close(layer(x.float()).double(), exact, rtol=1e-5, atol=1e-5)
    assert not torch.equal(layer(x.float()).double(), exact)
    assert torch.equal(layer.half().bfloat16().double()(x), exact)


@pytest.mark.parametrize("make", WITH_CONSTANTS.values(), ids=WITH_CONSTANTS)
def test_layers_made_on_the_meta_device_or_averaged_or_copied_compute_the_same(make):
    def with_weights():
        layer = make()
        return nn.Sequential(layer, rt.Linear(layer.out_type, layer.out_type)).double()

    layer, x = with_weights(), volumes()
    with torch.device("meta"):
        bare = with_weights()
    bare.load_state_dict(layer.state_dict(), assign=True)
    average = AveragedModel(layer, multi_avg_fn=get_ema_multi_avg_fn(0.999), use_buffers=True)
    for _ in range(20):
        average.update_parameters(layer)
    for other in (bare, average, copy.deepcopy(layer), pickle.load(io.BytesIO(pickle.dumps(layer)))):
        assert torch.equal(other(x), layer(x))


def test_constants_are_held_once_for_all_layers():
    TensorProductActivation("1x1 + 1x2", max_degree=2)(torch.randn(1, 8))
    before = len(vars(constants._HELD))
    TensorProductActivation("4x1 + 4x2", max_degree=2)(torch.randn(1, 32))
    assert len(vars(constants._HELD)) == before


def fake():
    return FakeTensorMode()


@pytest.mark.parametrize("mode", [fake, torch.inference_mode, lambda: torch.device("meta"), torch.no_grad])
@pytest.mark.parametrize("make", WITH_CONSTANTS.values(), ids=WITH_CONSTANTS)
def test_what_is_held_never_belongs_to_a_mode(make, mode, no_constants):
    layer = make()
    with mode():
        assert layer(torch.randn(2, 9, 9, 9, 9)).shape == make()(torch.randn(2, 9, 9, 9, 9)).shape
    x = torch.randn(2, 9, 9, 9, 9, requires_grad=True)
    layer(x).sum().backward()
    assert x.grad.isfinite().all()


@pytest.mark.parametrize("make", WITH_CONSTANTS.values(), ids=WITH_CONSTANTS)
def test_what_is_held_never_belongs_to_a_transform(make, no_constants):
    layer, x = make(), torch.randn(2, 9, 9, 9, 9)
    gradient = torch.func.vmap(torch.func.grad(lambda v: layer(v[None]).square().sum()))(x)
    x.requires_grad_()
    layer(x).square().sum().backward()
    torch.testing.assert_close(x.grad, gradient)


def ramp(count):
    return torch.arange(count, dtype=torch.float64)


def test_a_failure_while_a_constant_is_made_is_not_held():
    with pytest.raises(TypeError):
        constant(ramp, "three", dtype=torch.float32, device=torch.device("cpu"))
    assert constant(ramp, 3, dtype=torch.float32, device=torch.device("cpu")).tolist() == [0, 1, 2]


def test_wigner_matrices_made_under_modes_serve_later_calls(no_constants):
    r = torch.eye(3, dtype=torch.float64)
    with FakeTensorMode() as mode:
        wigner_d(3, mode.from_tensor(r))
    with torch.inference_mode():
        wigner_d(3, r)
    with torch.device("meta"):
        wigner_d(3, r)
    torch.testing.assert_close(wigner_d(3, r), torch.eye(7, dtype=torch.float64))


@pytest.mark.parametrize("case", CASES, ids=str)
def test_layers_state_their_channels(case):
    layer = case.make()
    assert layer.in_channels == channel_count(layer.in_type)
    assert layer.out_channels == channel_count(layer.out_type)
    output = layer(torch.randn(1, layer.in_channels, *[case.size] * 3))
    assert output.shape[1] == layer.out_channels


@pytest.mark.parametrize(
    ("convert", "message"),
    [
        (lambda x: x.numpy(), r"takes a torch tensor .*got numpy.ndarray.*torch.as_tensor"),
        (lambda x: x.tolist(), r"takes a torch tensor .*got builtins.list"),
        (lambda x: x.int(), r"takes real floating-point fields, got torch.int32.*\.float\(\)"),
        (lambda x: x > 0, r"takes real floating-point fields, got torch.bool"),
        (lambda x: x + 0j, r"takes real floating-point fields, got torch.complex64.*two fields"),
    ],
)
@pytest.mark.parametrize("case", CASES[: len(CASES) // 2], ids=str)
def test_numbers_of_another_kind_are_refused(case, convert, message):
    layer = case.make()
    with pytest.raises(TypeError, match=message):
        layer(convert(torch.randn(1, layer.in_channels, *[case.size] * 3)))


@pytest.mark.parametrize("case", CASES[: len(CASES) // 2], ids=str)
def test_fields_of_another_precision_are_refused_or_work(case):
    layer = case.make()
    x = torch.randn(1, layer.in_channels, *[case.size] * 3, dtype=torch.float64)
    try:
        torch.manual_seed(0)
        y = layer(x)
    except (ValueError, RuntimeError) as error:
        assert "float64" in str(error) or "Double" in str(error) or "double" in str(error)
    else:
        torch.manual_seed(0)
        torch.testing.assert_close(y, layer.double()(x), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize(
    "make", [lambda: rt.Linear("1x0", "1x0"), lambda: rt.BatchNorm("1x0"), lambda: rt.GroupNorm("1x0")]
)
def test_weights_of_another_precision_are_one_clear_error(make):
    with pytest.raises(ValueError, match=r"has weights of torch.float32, but the input is of torch.float64"):
        make()(torch.randn(2, 1, 3, 3, 3, dtype=torch.float64))


def test_settings_are_integers_of_any_kind():
    numbers = (np.int64(2), np.array([2, 2, 2]), torch.Size([2, 2, 2]), [2, 2, 2])
    x = torch.randn(1, 1, 9, 9, 9)
    for number in numbers:
        assert torch.equal(LowPass("1x0", number)(x), LowPass("1x0", 2)(x))
        assert torch.equal(rt.AveragePool("1x0", number)(x), rt.AveragePool("1x0", 2)(x))
        assert torch.equal(rt.Upsample("1x0", number)(x), rt.Upsample("1x0", 2)(x))


@pytest.mark.parametrize("wrong", [0, -1, 1.5, "2", (2, 2), (1, 2, 0), None, float("nan")])
def test_invalid_settings_are_refused_by_name(wrong):
    for make in (lambda: rt.Upsample("1x0", wrong), lambda: rt.AveragePool("1x0", wrong)):
        with pytest.raises(ValueError, match=r"(factor|kernel_size) takes a whole number of at least 1, or three"):
            make()
