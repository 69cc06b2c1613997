"""Networks of efficient layers: counts by the paper's formula, invariance, blocks and heads."""

import pytest
import torch
from torch import nn

from runtime.fields import describe
from runtime.so3 import random_rotations
from runtime.spheres.blocks import InvariantHead, SphericalBlock
from runtime.spheres.cobb import Cobb, CobbConfig
from runtime.spheres.normalization import FragmentNorm
from runtime.spheres.signals import rotate_signal, signal_type

SMALL = CobbConfig(inputs=2, limits=(5, 3, 1), channels=(4, 3, 6), width=3, classes=3, hidden=8)


def error(network, x, limit):
    turned = rotate_signal(x, random_rotations(len(x)), signal_type(x.shape[1] // limit**2, limit))
    network = network.eval()
    with torch.no_grad():
        return float((network(turned) - network(x)).norm() / network(x).norm())


@pytest.mark.parametrize("mixing", ["all", "tree", "reduced"])
def test_invariant_in_both_precisions_and_learning(compiled, mixing):
    config = CobbConfig(**{**SMALL.__dict__, "mixing": mixing})
    network = Cobb(compiled(config.spec()), config)
    x = torch.randn(16, 50)
    nn.functional.cross_entropy(network(x), torch.arange(16) % 3).backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in network.parameters())
    assert error(network, x, 5) < 1e-5
    assert error(network.double(), x.double(), 5) < 1e-12


def test_parameters_are_those_of_the_formula(compiled):
    """sum_l tau_x tau' + K sum_l tau'^2 + K K' sum_l tau' for each block, and the head."""
    network = Cobb(compiled(SMALL.spec()), SMALL)
    for i, block in enumerate(network.blocks, 1):
        K, after = SMALL.channels[i - 1], SMALL.channels[i]
        tau_x = {degree: copies // K for copies, degree, _ in block.product.out_type}
        tau = {degree: min(2 * degree + 1, 3) for degree in range(SMALL.limits[i])}
        expected = sum(tau_x[l] * t + K * t * t + K * after * t for l, t in tau.items())
        assert block.after.weight.numel() == expected
    lift = sum(SMALL.inputs * SMALL.channels[0] for _ in range(5))
    assert network.lift.weight.numel() == lift
    assert network.head.network[0].num_features == 4 + 3 + 6
    assert [stage.shape[1] for stage in network.stages(torch.randn(2, 50))] == [4 * 25, 3 * (1 + 9 + 15), 6]


def test_a_block_with_a_map_before_and_space_behind(compiled):
    package = compiled(SMALL.spec())
    block = SphericalBlock(package.Product1(), before=package.Lift(), after=package.Mix1(), norm=FragmentNorm)
    x = torch.randn(2, 50, 3, 4)
    assert block(x).shape == (2, block.out_channels, 3, 4)
    torch.testing.assert_close(block.eval()(x)[:, :, 1, 2], block(x[:, :, 1, 2]))
    assert describe(block.in_type).startswith("2x0 + 2x1")
    with pytest.raises(ValueError, match=r"the product has field type .* but after has"):
        SphericalBlock(package.Product1(), after=package.Mix2())
    with pytest.raises(ValueError, match="SphericalBlock takes 50 channels"):
        block(x[:, :49])


def test_configs_that_cannot_be():
    with pytest.raises(ValueError, match="give as many of both"):
        CobbConfig(limits=(4, 2), channels=(3,))
    with pytest.raises(ValueError, match=r"limits \(4, 5\) rise"):
        CobbConfig(limits=(4, 5), channels=(3, 3))


def test_head_reads_all_stages():
    head = InvariantHead(["2x0 + 1x1", "3x0"], 4, hidden=0, lengths=True)
    assert head([torch.randn(5, 5), torch.randn(5, 3)]).shape == (5, 4)
    assert head.network[0].num_features == 2 + 1 + 3
