import pytest
import torch
from e3nn import o3

from runtime import TensorProductActivation
from runtime.fields import describe
from runtime.testing import assert_equivariant


def test_products_of_scalars_and_vectors_are_the_known_ones():
    layer = TensorProductActivation("2x0e + 2x1o", max_degree=1).double()
    assert describe(layer.out_type) == "2x0e + 2x0e + 2x1o"  # s s, v.v, s v; the cross product of v with itself is zero
    x = torch.randn(3, 8, 2, 2, 2, dtype=torch.float64)
    s, v = x[:, :2], x[:, 2:].unflatten(1, (2, 3))
    expected = torch.cat([s * s, (v * v).sum(2) / 3**0.5, (s[:, :, None] * v).flatten(1, 2)], 1)
    torch.testing.assert_close(layer(x), expected)


def test_product_of_two_vectors_is_the_cross_product():
    layer = TensorProductActivation("1x1o + 1x1o", max_degree=1).double()
    x = torch.randn(4, 6, dtype=torch.float64)
    cross = torch.linalg.cross(x[:, :3], x[:, 3:]) / 2**0.5
    ours = layer(x)[:, -3:]
    assert describe(layer.out_type[-1:]) == "1x1e"
    torch.testing.assert_close(ours, cross)


def test_agrees_with_e3nn():
    layer = TensorProductActivation("3x1o + 3x2e", max_degree=3).double()
    x = torch.randn(5, 24, dtype=torch.float64)
    y, start = layer(x), 0
    parts = [x[:, :9].unflatten(1, (3, 3)), x[:, 9:].unflatten(1, (3, 5))]
    assert len(layer.paths) == 7  # 0: 11 22, 1: 12, 2: 11 12 22, 3: 12
    for (degree, i, j), term in zip(layer.paths, layer.out_type, strict=True):
        coupling = o3.wigner_3j(i + 1, j + 1, degree, dtype=torch.float64) * (2 * degree + 1) ** 0.5
        expected = torch.einsum("mnk,bum,bun->buk", coupling, parts[i], parts[j]).flatten(1)
        ours = y[:, start : start + term.channels]
        torch.testing.assert_close(ours, expected)
        start += term.channels


@pytest.mark.parametrize("field_type", ["2x0 + 2x1 + 2x2", "1x0e + 1x1o + 1x1e + 1x0o"])
def test_is_equivariant(field_type):
    assert_equivariant(TensorProductActivation(field_type, max_degree=2), size=3, wavelengths=())


def test_refuses_copies_without_partners():
    with pytest.raises(ValueError, match="differ in multiplicity"):
        TensorProductActivation("2x0 + 3x1", max_degree=2)
