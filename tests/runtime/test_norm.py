import e3nn.o3
import pytest
import torch

from runtime import GlobalMean, Norm
from runtime.fields import describe

TYPE = "1x0e + 2x1o + 2x0o + 1x2e + 1x0e"


@pytest.mark.parametrize("squared", [False, True])
def test_norm_is_its_formula(squared):
    layer = Norm(TYPE, squared=squared)
    x = torch.randn(2, 15, 3, 2, 4, dtype=torch.float64)
    assert describe(layer.out_type) == "7x0e" and layer.out_channels == 7
    lengths = [x[:, first:last].norm(dim=1) for first, last in ((1, 4), (4, 7), (7, 8), (8, 9), (9, 14))]
    expected = [x[:, 0], *(length**2 if squared else length for length in lengths), x[:, 14]]
    torch.testing.assert_close(layer(x), torch.stack(expected, 1))


@pytest.mark.parametrize("squared", [False, True])
def test_norm_agrees_with_e3nn_where_there_are_no_even_scalars(squared):
    theirs = e3nn.o3.Norm("2x1o + 3x0o + 1x2e", squared=squared).double()
    x = torch.randn(5, 14, dtype=torch.float64)
    torch.testing.assert_close(Norm("2x1o + 3x0o + 1x2e", squared=squared)(x), theirs(x))


def test_scalars_without_parity_keep_their_sign():
    x = torch.randn(3, 2, 2, 2, 2)
    assert torch.equal(Norm("2x0")(x), x) and describe(Norm("1x0 + 2x3").out_type) == "3x0"


@pytest.mark.parametrize("squared", [False, True])
def test_the_gradient_is_finite_at_zero_and_right_elsewhere(squared):
    layer = Norm("1x0e + 1x1o + 2x0o", squared=squared)
    x = torch.randn(1, 6, 2, 1, 1, dtype=torch.float64)
    x[0, 1:, 0] = 0  # no field at one voxel, as outside a molecule
    x.requires_grad_()
    layer(x)[:, :, 0].sum().backward()
    expected = torch.zeros_like(x)
    expected[0, 0, 0] = 1
    assert torch.equal(x.grad, expected)
    assert torch.autograd.gradcheck(layer, torch.randn_like(x).requires_grad_())
    if squared:
        assert torch.autograd.gradgradcheck(layer, x)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_has_the_length_of_float32(dtype):
    x = torch.full((1, 3, 1, 1, 1), 300.0, dtype=dtype)  # the square of 300 is beyond float16
    y = Norm("1x1")(x)
    assert y.dtype == dtype
    torch.testing.assert_close(y, x.float().norm(dim=1, keepdim=True).to(dtype), rtol=0, atol=0)


def test_the_mean_of_lengths_is_not_the_length_of_the_mean():
    """Norm before or after GlobalMean: two invariants, the first of which sees fields that cancel."""
    x = torch.randn(1, 3, 4, 4, 4)
    x = x - x.mean((2, 3, 4), keepdim=True)
    assert GlobalMean("1x0")(Norm("1x1")(x)) > 1 > 1e-6 > Norm("1x1")(GlobalMean("1x1")(x))
