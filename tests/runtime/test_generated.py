"""The layers around generated convolutions: the network of examples/tetris, layer by layer."""

import pytest
import torch
from torch import nn
from torch.utils.data import TensorDataset

from basisgen.spec import parse_package
from basisgen.testing import imported
from generated import tetris
from runtime import BatchNorm, GatedBlock, GlobalMean, freeze
from runtime.so3 import cube_turns
from runtime.testing import assert_equivariant
from runtime.train import TrainConfig, train
from runtime.turns import voxel_spacing_of


def network(**options):
    return nn.Sequential(
        GatedBlock(tetris.Conv1(), **options),
        GatedBlock(tetris.Conv2(), stride=2, **options),
        GatedBlock(tetris.Conv3(), stride=2, **options),
        GatedBlock(tetris.Conv4(), **options),
        GlobalMean(tetris.Conv4.out_type),
    )


def test_block_is_equivariant():
    report = assert_equivariant(GatedBlock(tetris.Conv1(), stride=2), wavelengths=(8,), rotations=2, batch=1)
    assert report.rotation_errors[0][1] < 0.1


def test_network_is_invariant_to_turns():
    """In float32, the precision of its training; assert_equivariant would take minutes in float64."""
    torch.manual_seed(0)
    net = network(norm=BatchNorm).eval()
    x = torch.randn(1, 1, 9, 9, 9)
    turned = x.transpose(2, 3).flip(2)  # a quarter turn about z
    torch.testing.assert_close(net(turned), net(x), rtol=1e-4, atol=1e-6)
    mirrored = x.flip(2)
    assert (net(mirrored) - net(x)).abs().max() > 1e-3 * net(x).abs().max()  # chiral: it tells mirror images apart


@pytest.mark.parametrize("norm", [None, BatchNorm])
def test_frozen_network_is_equal_and_plain(norm):
    torch.manual_seed(0)
    net = network(norm=norm)
    x = torch.randn(2, 1, 9, 9, 9)
    net(x)  # statistics that are not the initial ones
    frozen = freeze(net)
    torch.testing.assert_close(frozen(x), net.eval()(x))
    assert sum(type(module) is nn.Conv3d for module in frozen.modules()) == 4
    assert not any(type(module).__module__.startswith("generated") for module in frozen.modules())


def test_a_volume_that_does_not_fit_is_refused_with_its_size():
    with pytest.raises(RuntimeError, match=r"input size.*\(4 x 8 x 8\).*Kernel size: \(5 x 5 x 5\).*can't be greater"):
        tetris.Conv1(padding=0)(torch.zeros(1, 1, 4, 8, 8))
    assert tetris.Conv1(padding=0)(torch.zeros(1, 1, 5, 8, 8)).shape[2:] == (1, 4, 4)
    with pytest.raises(ValueError, match=r"Conv1 takes \(batch, 1, x, y, z\), got \(1, 2, 8, 8, 8\)"):
        tetris.Conv1()(torch.zeros(1, 2, 8, 8, 8))


@pytest.mark.parametrize(
    "shape, message",
    [
        ((1, 4, 4, 4), r"Kernel size: \(5 x 5 x 5\)(.|\n)*given volumes \(4, 1, 4, 4, 4\)"),
        ((2, 9, 9, 9), r"takes 1 channels \(field type 1x0\)(.|\n)*given volumes \(4, 2, 9, 9, 9\)"),
    ],
)
def test_training_on_volumes_that_do_not_fit_is_one_error_and_nothing_is_written(tmp_path, shape, message):
    block = GatedBlock(tetris.Conv1(padding=0))
    model = nn.Sequential(block, GlobalMean(block.out_type))
    data = TensorDataset(torch.randn(4, *shape), torch.zeros(4, dtype=torch.int64))
    with pytest.raises((RuntimeError, ValueError), match=message):
        train(model, data, TrainConfig(epochs=1, batch_size=4, learning_rate=0.1, device="cpu"), tmp_path / "run")
    assert not (tmp_path / "run").exists() or not any((tmp_path / "run").iterdir())


COARSE = """
name = "coarse"
[[conv]]
name = "Conv"
in = "1x0"
out = "2x0 + 1x1"
gated = true
kernel_size = [5, 5, 3]
voxel_spacing = [1, 1, 2]
radial = { family = "shells" }
"""


def test_the_spacing_of_generated_layers_is_found_and_their_turns_are_tested():
    with imported(parse_package(COARSE)) as package:
        model = nn.Sequential(GatedBlock(package.Conv(), stride=(2, 2, 1)), GlobalMean("2x0 + 1x1"))
        assert voxel_spacing_of(model) == (1, 1, 2)
        options = {"in_type": "1x0", "out_type": "2x0 + 1x1", "wavelengths": (), "size": (9, 9, 5)}
        assert assert_equivariant(model, **options).turns == 8
        with pytest.raises(AssertionError, match="keep the z axis, but not with those that exchange it"):
            assert_equivariant(package.Conv(), turns=cube_turns(), wavelengths=(), size=5)
