"""Networks of efficient layers: counts by the paper's formula, invariance, blocks and heads."""

import pytest
import torch
from torch import nn

from runtime.fields import describe
from runtime.so3 import random_rotations
from runtime.spheres.blocks import InvariantHead, SphericalBlock
from runtime.spheres.cobb import Cobb, CobbConfig, Hybrid
from runtime.spheres.cohen import CohenConfig
from runtime.spheres.normalization import FragmentNorm
from runtime.spheres.signals import rotate_signal, signal_type
from runtime.spheres.specs import spec_text

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
        tau_x = {degree: multiplicity // K for multiplicity, degree, _ in block.product.out_type}
        tau = {degree: min(2 * degree + 1, 3) for degree in range(SMALL.limits[i])}
        expected = sum(tau_x[l] * t + K * t * t + K * after * t for l, t in tau.items())
        assert block.after.weight.numel() == expected
    lift = sum(SMALL.inputs * SMALL.channels[0] for _ in range(5))
    assert network.lift.weight.numel() == lift
    assert network.head.network[0].num_features == 4 + 3 + 6
    assert [stage.shape[1] for stage in network.stages(torch.randn(2, 50))] == [4 * 25, 3 * (1 + 9 + 15), 6]


def test_fused_projections_are_the_same_network(compiled):
    """Without norms: equal outputs for equal weights, as many of them; with norms it trains, and is as exact."""
    fused = CobbConfig(**{**SMALL.__dict__, "fused": True})
    ours, theirs = Cobb(compiled(fused.spec()), fused, norm=None), Cobb(compiled(SMALL.spec()), SMALL, norm=None)
    ours.lift.load_state_dict(theirs.lift.state_dict())
    ours.head.load_state_dict(theirs.head.state_dict())
    with torch.no_grad():
        for block, other in zip(ours.blocks, theirs.blocks, strict=True):
            uniform, rest = _split_weights(other.after, block.product.weight.numel())
            block.product.weight.copy_(uniform)
            block.after.weight.copy_(rest)
            block.after.bias.copy_(other.after.bias)
    x = torch.randn(6, 50)
    torch.testing.assert_close(ours.eval()(x), theirs.eval()(x), rtol=1e-4, atol=1e-5)
    assert sum(p.numel() for p in ours.parameters()) == sum(p.numel() for p in theirs.parameters())
    network = Cobb(compiled(fused.spec()), fused)
    network(torch.randn(16, 50)).square().sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in network.parameters())
    assert error(network, torch.randn(6, 50), 5) < 1e-5


def _split_weights(linear, count):
    """The weights of `uniform` and those of the other factors, each in order of the irreps."""
    uniform, rest, first = [], [], 0
    for factors in linear._shapes.values():
        for name, shape in factors:
            size = torch.Size(shape).numel()
            (uniform if name == "uniform" else rest).append(linear.weight[first : first + size])
            first += size
    assert sum(map(len, uniform)) == count
    return torch.cat(uniform), torch.cat(rest)


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


def test_a_hybrid_of_correlations_and_efficient_layers(compiled):
    front = CohenConfig(features=(2, 3), limits=(6, 4))
    options = {"width": 3, "classes": 3, "hidden": 8, "on_rotations": True}
    back = CobbConfig(inputs=3, limits=(4, 3, 1), channels=(4, 3, 6), **options)
    network = Hybrid(compiled(Hybrid.spec(front, back)), front, back)
    x = torch.randn(8, 2 * 36)
    nn.functional.cross_entropy(network(x), torch.arange(8) % 3).backward()
    assert all(p.grad.isfinite().all() for p in network.parameters())
    assert error(network.double(), x.double(), 6) < 0.3  # ReLU on the smallest grid
    with pytest.raises(ValueError, match=r"front gives 3 signals of band limit 4 .* takes 2 of 4"):
        Hybrid(None, front, CobbConfig(inputs=2, limits=(4, 1), channels=(4, 4), on_rotations=True))


@pytest.mark.parametrize(
    ("limit", "mixing"),
    [(8, "tree"), (8, "reduced"), *(pytest.param(16, m, marks=pytest.mark.slow) for m in ("tree", "reduced"))],
)
def test_strict_layers_in_single_precision_keep_the_goal(compiled, limit, mixing):
    """Mean relative error over random signals and rotations of a product, a map, and of map, product, map."""
    field = signal_type(4, limit)
    before = {"kind": "linear", "name": "Before", "in": field, "out": field}
    product = {"kind": "product", "name": "Product", "in": field, "mixing": mixing}
    after = {"kind": "linear", "name": "After", "in": "Product", "out": field}
    package = compiled(spec_text(f"chain{limit}", [before, product, after]))
    layer = SphericalBlock(package.Product(), before=package.Before(), after=package.After())
    x, r = torch.randn(32, 4 * limit**2, dtype=torch.float64), random_rotations(32)
    for module in (layer, layer.product, layer.before):
        with torch.no_grad():
            found = module(rotate_signal(x, r, field).float()).double()
            expected = rotate_signal(module(x.float()).double(), r, module.out_type)
        errors = (found - expected).norm(dim=1) / expected.norm(dim=1)
        assert errors.mean() <= 3e-7


def test_impossible_configs_are_refused():
    with pytest.raises(ValueError, match="give as many of both"):
        CobbConfig(limits=(4, 2), channels=(3,))
    with pytest.raises(ValueError, match=r"limits \(4, 5\) rise"):
        CobbConfig(limits=(4, 5), channels=(3, 3))


def test_head_reads_all_stages():
    head = InvariantHead(["2x0 + 1x1", "3x0"], 4, hidden=0, lengths=True)
    assert head([torch.randn(5, 5), torch.randn(5, 3)]).shape == (5, 4)
    assert head.network[0].num_features == 2 + 1 + 3
