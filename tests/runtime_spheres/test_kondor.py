"""The Clebsch-Gordan net: the source's count of parameters, the products of complex signals, invariance."""

import pytest
import torch

from runtime.so3 import clebsch_gordan, random_rotations
from runtime.spheres.kondor import ComplexProductLayer, Kondor, KondorConfig, OrderedPairs
from runtime.spheres.signals import rotate_signal, signal_type

SMALL = KondorConfig(limit=4, layers=2, width=3, inputs=2, classes=3, hidden=8)


def count(network):
    return sum(parameter.numel() for parameter in network.parameters())


def test_parameters_on_spherical_mnist_are_the_sources(compiled):
    config = KondorConfig()
    assert config.fragments == [12, 7, 6, 5, 4, 4, 4, 4, 3, 3, 3]
    network = Kondor(compiled(config.spec()), config)
    assert count(network) == 285_772
    assert network(torch.randn(2, 121)).shape == (2, 10)


def test_each_pair_once_has_fewer(compiled):
    once = KondorConfig(limit=4, layers=2, width=3, inputs=2, classes=3, hidden=8, ordered=False)
    assert count(Kondor(compiled(once.spec()), once)) < count(Kondor(compiled(SMALL.spec()), SMALL))


@pytest.mark.parametrize("ordered", [True, False])
def test_the_network_is_invariant_and_learns(compiled, ordered):
    config = KondorConfig(limit=4, layers=2, width=3, inputs=2, classes=3, hidden=8, ordered=ordered)
    network = Kondor(compiled(config.spec()), config)
    x = torch.randn(16, 32)
    loss = torch.nn.functional.cross_entropy(network(x), torch.arange(16) % 3)
    loss.backward()
    # of the last layer the scalars alone are read, in the source too
    assert all(p.grad.isfinite().all() and p.grad.any() for p in network.layers[0].parameters())
    network = network.double().eval()
    x = x.double()
    turned = rotate_signal(x, random_rotations(16), signal_type(2, 4))
    torch.testing.assert_close(network(turned), network(x), atol=1e-9, rtol=1e-9)
    assert not torch.allclose(network(x[:1]), network(x[1:2]))


def test_ordered_pairs_are_all_products_of_both_orders(compiled):
    """Against dense couplings of a complex signal: every (l1, l2), l2 <= l1, every (t, t')."""
    product = compiled(SMALL.spec()).Product2().double()
    fragments = SMALL.fragments
    x = torch.randn(3, sum(n * (2 * l + 1) for l, n in enumerate(fragments)), dtype=torch.float64)
    parts = torch.split(x, [n * (2 * l + 1) for l, n in enumerate(fragments)], 1)
    parts = [part.reshape(3, n, -1) for part, n in zip(parts, fragments, strict=True)]
    expected = []
    for l in range(4):
        for l1 in range(4):
            for l2 in range(l1 + 1):
                if l1 - l2 <= l <= l1 + l2:
                    C = clebsch_gordan(l2, l1, l)
                    expected.append(torch.einsum("mnk,btm,bun->btuk", C, parts[l2], parts[l1]).flatten(1))
    torch.testing.assert_close(OrderedPairs(product)(product(x)), torch.cat(expected, 1))


def test_the_layer_multiplies_complex_signals(compiled):
    """Turned by a phase, z -> e^ia z, the products turn by twice the phase, and their sizes stay."""
    layer = ComplexProductLayer(compiled(SMALL.spec()).Product2(), signal_type(2, 4), ordered=True).double().eval()
    x, y = torch.randn(2, 5, layer.product.in_channels, dtype=torch.float64)
    z = torch.complex(*layer(x, y))
    turned = torch.complex(x, y) * torch.exp(torch.tensor(0.3j))
    torch.testing.assert_close(
        torch.complex(*layer(turned.real, turned.imag)), z * torch.exp(torch.tensor(0.6j)), atol=1e-6, rtol=1e-6
    )
