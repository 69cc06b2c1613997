import e3nn.nn
import pytest
import torch
from torch import nn

from runtime import BatchNorm, GroupNorm, InstanceNorm

TYPE = "2x0e + 2x1o + 1x0o + 1x2e + 1x0e"


def fields(batch=3, space=(4, 3, 2)):
    return 2 * torch.randn(batch, 15, *space, dtype=torch.float64) + 1


@pytest.mark.parametrize("per_component", [False, True])
def test_batch_norm_is_its_formula(per_component):
    layer = BatchNorm(TYPE, per_component=per_component).double()
    x = fields()
    y = layer(x)
    for first, last, even in ((0, 1, 1), (1, 2, 1), (2, 5, 0), (5, 8, 0), (8, 9, 0), (9, 14, 0), (14, 15, 1)):
        f = x[:, first:last] - (x[:, first:last].mean() if even else 0)
        square = f.square().mean() if per_component else f.square().sum(1).mean()
        torch.testing.assert_close(y[:, first:last], f / (square + 1e-5).sqrt())


def test_batch_norm_of_scalars_is_torch_s():
    ours, theirs = BatchNorm("5x0"), nn.BatchNorm3d(5)
    with torch.no_grad():
        for own, other in ((ours.weight, theirs.weight), (ours.bias, theirs.bias)):
            other.copy_(own.normal_())
    x = 3 * torch.randn(4, 5, 6, 6, 6) + 100
    for _ in range(3):
        torch.testing.assert_close(ours(x), theirs(x), rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(ours.running_mean, theirs.running_mean)
    samples = 4 * 6**3  # torch's running variance is unbiased, ours is the mean square it normalises by
    torch.testing.assert_close(ours.running_square, (theirs.running_var - 0.9**3) * (1 - 1 / samples) + 0.9**3)


@pytest.mark.parametrize("training", [True, False])
def test_batch_norm_agrees_with_e3nn(training):
    theirs = e3nn.nn.BatchNorm(TYPE, eps=1e-5, momentum=0.1).double()
    ours = BatchNorm(TYPE, per_component=True).double()
    with torch.no_grad():
        ours.weight.copy_(theirs.weight.normal_())
        ours.bias.copy_(theirs.bias.normal_())
    for _ in range(2):
        x = fields()
        rows = x.movedim(1, -1)
        expected = theirs(rows.flatten(0, -2)).unflatten(0, rows.shape[:-1]).movedim(-1, 1)
        torch.testing.assert_close(ours(x), expected)
    ours.train(training), theirs.train(training)
    x = fields()
    expected = theirs(x.movedim(1, -1).flatten(0, -2)).unflatten(0, (3, 4, 3, 2)).movedim(-1, 1)
    torch.testing.assert_close(ours(x), expected)


def test_batch_norm_has_two_derivatives():
    layer = BatchNorm("1x1 + 2x0 + 1x0").double()
    with torch.no_grad():
        layer.weight.normal_(), layer.bias.normal_()
    x = torch.randn(2, 6, 2, 1, 2, dtype=torch.float64, requires_grad=True)

    def run(x, weight, bias):
        return torch.func.functional_call(layer, {"weight": weight, "bias": bias}, (x,))

    inputs = (x, layer.weight, layer.bias)
    assert torch.autograd.gradcheck(run, inputs) and torch.autograd.gradgradcheck(run, inputs)


def test_batch_norm_never_shifts_odd_scalars():
    layer = BatchNorm("1x0o").double()
    assert layer.bias.numel() == layer.running_mean.numel() == 0
    x = torch.full((2, 1, 2, 2, 2), 3.0, dtype=torch.float64)
    torch.testing.assert_close(layer(x), torch.ones_like(x), rtol=1e-5, atol=0)
    torch.testing.assert_close(layer(-x), -layer(x))


def test_batch_norm_is_exact_far_from_zero():
    """The variance is taken about the mean: no cancellation at mean / deviation = 10^4 in float32."""
    x = torch.randn(8, 1, 16, 16, 16) + 1e4
    torch.testing.assert_close(BatchNorm("1x0")(x).std(), torch.tensor(1.0), rtol=1e-3, atol=0)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_batch_norm_of_half_precision_has_float32_statistics(dtype):
    layer, exact = BatchNorm(TYPE), BatchNorm(TYPE).double()
    x = fields(8, (8, 8, 8)).to(dtype)
    y = layer(x)
    assert y.dtype == dtype
    exact(x.double())
    torch.testing.assert_close(layer.running_square.double(), exact.running_square, rtol=1e-6, atol=0)
    torch.testing.assert_close(layer.running_mean.double(), exact.running_mean, rtol=1e-5, atol=1e-6)


def test_batch_norm_keeps_only_its_input_for_the_gradient():
    layer, saved = BatchNorm("2x0 + 2x1 + 1x2"), {}
    x = torch.randn(2, 13, 8, 8, 8, requires_grad=True)

    def pack(tensor):
        saved[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        layer(x)
    assert saved[x.untyped_storage().data_ptr()] == x.nbytes
    assert sum(saved.values()) < 1.05 * x.nbytes


def test_state_is_the_same_in_training_and_evaluation():
    layer = BatchNorm(TYPE)
    names = set(layer.state_dict())
    layer(torch.randn(2, 15, 2, 2, 2))
    assert set(layer.eval().state_dict()) == names == {"weight", "bias", "running_mean", "running_square"}


def test_group_norm_of_scalars_is_torch_s():
    x = torch.randn(3, 6, 4, 4, 4) + 2
    torch.testing.assert_close(GroupNorm("6x0", 2)(x), nn.GroupNorm(2, 6)(x), rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(InstanceNorm("6x0")(x), nn.InstanceNorm3d(6)(x), rtol=1e-5, atol=1e-5)


def test_group_norm_is_its_formula():
    x = fields()
    y = GroupNorm("2x0e + 2x1o + 1x0o + 1x2e + 1x0e").double()(x)
    vectors = x[:, 2:8].unflatten(1, (2, 3))
    square = vectors.square().sum(2).mean((1, 2, 3, 4))
    torch.testing.assert_close(y[:, 2:8], x[:, 2:8] / (square + 1e-5).sqrt().view(-1, 1, 1, 1, 1))
    square = x[:, 8:9].square().mean((1, 2, 3, 4))
    torch.testing.assert_close(y[:, 8:9], x[:, 8:9] / (square + 1e-5).sqrt().view(-1, 1, 1, 1, 1))


def test_group_norm_of_a_sample_ignores_the_others():
    layer, x = GroupNorm(TYPE).double(), fields()
    torch.testing.assert_close(layer(x)[1:2], layer(x[1:2]))


def test_group_norm_refuses_groups_that_do_not_divide():
    with pytest.raises(ValueError, match="cannot share the 3 copies of 3x1 among 2 groups"):
        GroupNorm("2x0 + 3x1", 2)
