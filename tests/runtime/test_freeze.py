import copy

import pytest
import torch
from torch import nn
from torch.nn.utils import prune

from generated import tetris
from runtime import BatchNorm, GatedBlock, GlobalMean, Linear, ResidualBlock, freeze
from runtime.volumes.freeze import ChannelAffine
from tests.runtime.catalog import gated_conv
from tests.runtime.oracle import OracleConv

SMALL = "2x0 + 1x1"


def trained(model):
    """The model in double precision with norms that have seen data and learned scales and shifts."""
    model = model.double()
    for module in model.modules():
        if isinstance(module, BatchNorm):
            nn.init.uniform_(module.weight, 0.5, 2), nn.init.normal_(module.bias)
            nn.init.normal_(module.running_mean), nn.init.uniform_(module.running_square, 0.5, 2)
    return model


def network():
    return nn.Sequential(
        GatedBlock(gated_conv("1x0", SMALL), stride=2),
        ResidualBlock(gated_conv(SMALL, SMALL), gated_conv(SMALL, SMALL), norm=BatchNorm),
        GatedBlock(gated_conv(SMALL, "3x0"), norm=BatchNorm),
        GlobalMean("3x0"),
        Linear("3x0", "2x0"),
    )


def kinds(model):
    return [type(module).__name__ for module in model.modules()]


def test_frozen_network_is_equal_and_plain():
    model = trained(network())
    x = torch.randn(2, 1, 9, 9, 9, dtype=torch.float64)
    before = copy.deepcopy(model.state_dict())
    frozen = freeze(model)
    torch.testing.assert_close(frozen(x), model.eval()(x))
    assert "OracleConv" not in kinds(frozen) and "BatchNorm" not in kinds(frozen)
    assert not any(parameter.requires_grad for parameter in frozen.parameters()) and not frozen.training
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


@pytest.mark.parametrize(
    ("make", "folded"),
    [
        (lambda: [OracleConv(SMALL, "1x0 + 2x1"), BatchNorm("1x0 + 2x1")], True),
        (lambda: [OracleConv(SMALL, "1x0 + 2x1", bias=False), BatchNorm("1x0 + 2x1")], True),
        (lambda: [BatchNorm(SMALL), OracleConv(SMALL, SMALL, padding=0)], True),
        (lambda: [BatchNorm(SMALL), OracleConv(SMALL, SMALL, padding=0, bias=False)], True),
        (lambda: [BatchNorm("2x1o"), OracleConv("2x1o", "1x0e + 1x1o")], True),
        (lambda: [BatchNorm(SMALL), OracleConv(SMALL, SMALL)], False),  # zeros outside are not shifted
    ],
)
def test_batch_norm_is_folded_where_exact(make, folded):
    model = trained(nn.Sequential(*make()))
    x = torch.randn(2, sum(t.channels for t in model[0].in_type), 5, 5, 5, dtype=torch.float64)
    frozen = freeze(model)
    torch.testing.assert_close(frozen(x), model.eval()(x))
    assert any(isinstance(module, ChannelAffine) for module in frozen) is not folded


def test_a_container_with_its_own_forward_is_not_folded():
    class Doubled(nn.Sequential):
        def forward(self, fields):
            return self[1](2 * self[0](fields))

    torch.manual_seed(0)
    model = Doubled(gated_conv("1x0", "2x0"), BatchNorm("2x0")).eval()
    model[1].bias.data.fill_(1.0)
    volumes = torch.randn(1, 1, 7, 7, 7)
    torch.testing.assert_close(freeze(model)(volumes), model(volumes))


def test_shared_modules_stay_shared():
    conv, norm = OracleConv(SMALL, SMALL), BatchNorm(SMALL)
    model = trained(nn.Sequential(conv, norm, conv, BatchNorm(SMALL)))
    frozen = freeze(model)
    assert frozen[0] is frozen[2]
    x = torch.randn(2, 5, 5, 5, 5, dtype=torch.float64)
    torch.testing.assert_close(frozen(x), model.eval()(x))


def test_a_lone_convolution_freezes():
    conv = OracleConv(SMALL, SMALL)
    frozen, x = freeze(conv), torch.randn(1, 5, 4, 4, 4)
    assert type(frozen) is nn.Conv3d
    torch.testing.assert_close(frozen(x), conv(x))


@pytest.mark.parametrize("place", [0, 1])
def test_hooks_survive_freezing_and_see_the_same_values(place):
    """A hook on a convolution or its norm: nothing is folded then."""
    model = trained(nn.Sequential(OracleConv(SMALL, SMALL), BatchNorm(SMALL))).eval()
    seen = []
    model[place].register_forward_hook(lambda module, inputs, output: seen.append(output.clone()))
    model[place].register_forward_pre_hook(lambda module, inputs, kwargs: (inputs, kwargs), with_kwargs=True)
    model[place].register_forward_hook(lambda module, inputs, output: output + 1)
    x = torch.randn(1, 5, 4, 4, 4, dtype=torch.float64)
    frozen = freeze(model)
    torch.testing.assert_close(frozen(x), model(x))
    assert len(seen) == 2
    torch.testing.assert_close(seen[0], seen[1])


def test_pruned_weights_freeze_as_pruned():
    model = nn.Sequential(tetris.Conv1()).double()
    prune.random_unstructured(model[0], "weight", 0.5)
    x = torch.randn(1, 1, 6, 6, 6, dtype=torch.float64)
    expected = model(x)
    frozen = freeze(model)
    torch.testing.assert_close(frozen(x), expected)
    assert type(frozen[0]) is nn.Conv3d and not frozen[0]._forward_pre_hooks and model[0]._forward_pre_hooks
