"""What all layers share: constants that no conversion wears out, channel counts."""

import copy

import pytest
import torch

from runtime import LowPass, TensorProductActivation
from runtime.fields import channel_count
from tests.runtime.catalog import CASES

WITH_CONSTANTS = {
    "LowPass": lambda: LowPass("1x0 + 1x1", 3),
    "TensorProductActivation": lambda: TensorProductActivation("1x0 + 1x1 + 1x2", max_degree=2),
}


def exact(make):
    return {name: constant.clone() for name, constant in make().double().named_buffers()}


@pytest.mark.parametrize("make", WITH_CONSTANTS.values(), ids=WITH_CONSTANTS)
def test_constants_are_those_of_float64_rounded_once(make):
    expected = exact(make)
    assert any(not torch.equal(constant, constant.float().double()) for constant in expected.values())
    for dtype in (torch.float32, torch.float16, torch.bfloat16):
        layer = make().bfloat16().half().to(dtype)
        assert len(expected) == len(list(layer.buffers())) > 0
        for name, constant in layer.named_buffers():
            assert torch.equal(constant, expected[name].to(dtype))
        for name, constant in layer.double().named_buffers():
            assert torch.equal(constant, expected[name])


@pytest.mark.parametrize("make", WITH_CONSTANTS.values(), ids=WITH_CONSTANTS)
def test_constants_are_no_state_and_come_back_from_the_meta_device(make):
    expected = exact(make)
    with torch.device("meta"):
        layer = make()
    assert not layer.state_dict() and all(constant.is_meta for constant in layer.buffers())
    for name, constant in layer.to_empty(device="cpu").double().named_buffers():
        assert torch.equal(constant, expected[name])


@pytest.mark.parametrize("make", WITH_CONSTANTS.values(), ids=WITH_CONSTANTS)
def test_constants_are_a_layer_s_own(make):
    expected, layer = exact(make), make().double()
    other = copy.deepcopy(layer)
    for constant in layer.buffers():
        constant.zero_()
    for kept in (other, make().double()):
        for name, constant in kept.named_buffers():
            assert torch.equal(constant, expected[name])


@pytest.mark.parametrize("case", CASES, ids=str)
def test_layers_tell_their_channels(case):
    layer = case.make()
    assert layer.in_channels == channel_count(layer.in_type)
    assert layer.out_channels == channel_count(layer.out_type)
    output = layer(torch.randn(1, layer.in_channels, *[case.size] * 3))
    assert output.shape[1] == layer.out_channels
