"""The two-branch network of zonal filters."""

import pytest
import torch

from runtime.spheres.esteves import Esteves, EstevesConfig

SMALL = EstevesConfig(size=16, widths=(4, 4, 6, 6), pools=(1, 2), classes=3)


def test_parameters_are_the_sources(compiled):
    network = Esteves(compiled(EstevesConfig().spec()))
    assert sum(p.numel() for p in network.parameters()) == 492_752
    alone = Esteves(compiled(EstevesConfig().spec()), EstevesConfig(auxiliary=False))
    assert sum(p.numel() for p in alone.parameters()) == 487_592
    assert network.branches[0][7].conv.anchors == 4 and network.branches[0][6].conv.in_channels == 128 * 64


def test_a_small_network_learns_and_knows_rotations_roughly(compiled):
    network = Esteves(compiled(SMALL.spec()), SMALL)
    x = torch.randn(8, 2, 16, 16)
    first, second = network.both(x)
    assert first.shape == second.shape == (8, 3)
    (first.sum() + second.sum()).backward()
    assert all(p.grad.isfinite().all() for p in network.parameters())
    network.eval()
    # turns about the pole by two samples of the coarsest grid, which is pooled twice: exact
    torch.testing.assert_close(network(x.roll(8, -1)), network(x), rtol=1e-4, atol=1e-5)
    with pytest.raises(ValueError, match="no second head"):
        Esteves(compiled(SMALL.spec()), EstevesConfig(**{**SMALL.__dict__, "auxiliary": False})).both(x)


def test_sizes_that_cannot_be_halved_are_refused():
    with pytest.raises(ValueError, match="size 24 cannot be halved 3 times"):
        EstevesConfig(size=24)
