import pytest
import torch
from torch import nn

from runtime import FieldDropout, Linear


def test_linear_of_scalars_equals_torchs():
    layer = Linear("3x0 + 2x0", "4x0")
    x = torch.randn(2, 5, 2, 3, 4)
    nn.init.normal_(layer.bias)
    expected = nn.functional.conv3d(x, layer.weights[0][:, :, None, None, None], layer.bias)
    torch.testing.assert_close(layer(x), expected)


def test_linear_mixes_copies_of_one_degree():
    layer = Linear("2x1o + 1x0e + 1x1o + 1x1e", "2x1o + 1x1e", bias=False)
    x = torch.randn(2, 13)
    y = layer(x)
    vectors = torch.cat([x[:, :6], x[:, 7:10]], 1).view(2, 3, 3)
    torch.testing.assert_close(y[:, :6].view(2, 2, 3), torch.einsum("wu,bum->bwm", layer.weights[0], vectors))
    torch.testing.assert_close(y[:, 6:], layer.weights[1] * x[:, 10:])
    assert layer.bias is None


def test_linear_keeps_the_variance():
    torch.manual_seed(0)
    y = Linear("64x0 + 64x2", "64x0 + 64x2")(torch.randn(4, 64 * 6, 4, 4, 4))
    assert y.var().item() == pytest.approx(1, rel=0.1)


def test_linear_refuses_what_no_equivariant_map_can_do():
    with pytest.raises(ValueError, match="cannot make 1x1e from 2x1o"):
        Linear("2x1o", "1x1o + 1x1e")


def test_dropout_drops_whole_fields():
    torch.manual_seed(0)
    x = torch.ones(400, 2 + 6 + 5, 2, 2, 2)
    y = FieldDropout("2x0 + 2x1 + 1x2", 0.25)(x)
    for first, last in ((0, 1), (1, 2), (2, 5), (5, 8), (8, 13)):
        field = y[:, first:last].flatten(1)
        assert torch.equal(field, field[:, :1].expand_as(field))  # one draw for all voxels and components
        assert torch.equal(field.unique(), torch.tensor([0, 4 / 3]))
        assert (field[:, 0] == 0).float().mean().item() == pytest.approx(0.25, abs=0.08)
    assert not torch.equal(y[:, 0], y[:, 1])  # copies are drawn on their own


def test_dropout_does_nothing_in_evaluation():
    x = torch.randn(2, 3, 2, 2, 2)
    assert FieldDropout("1x1", 0.5).eval()(x) is x


@pytest.mark.parametrize("p", [-0.1, 1.0, 1.5])
def test_dropout_refuses_no_probability(p):
    with pytest.raises(ValueError, match="0 <= p < 1"):
        FieldDropout("1x0", p)
