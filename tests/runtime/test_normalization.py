import e3nn.nn
import pytest
import torch
from torch import nn
from torch.optim.swa_utils import update_bn

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


def test_batch_norm_of_scalars_equals_torchs():
    ours, theirs = BatchNorm("5x0"), nn.BatchNorm3d(5)
    with torch.no_grad():
        for own, other in ((ours.weight, theirs.weight), (ours.bias, theirs.bias)):
            other.copy_(own.normal_())
    x = 3 * torch.randn(4, 5, 6, 6, 6) + 100
    for _ in range(3):
        torch.testing.assert_close(ours(x), theirs(x), rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(ours.running_mean, theirs.running_mean)
    torch.testing.assert_close(ours.running_square, theirs.running_var)
    torch.testing.assert_close(ours.eval()(x), theirs.eval()(x), rtol=1e-4, atol=1e-4)


def test_the_running_variance_of_scalars_alone_is_unbiased():
    x = fields(2, (2, 1, 1))  # N = 4 values: N / (N - 1) is far from 1
    layer = BatchNorm(TYPE, momentum=1.0).double()
    layer(x)
    torch.testing.assert_close(layer.running_square[:1], x[:, 0].var()[None])
    torch.testing.assert_close(layer.running_square[2:3], x[:, 2:5].square().sum(1).mean()[None])


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
    theirs.running_var.copy_(ours.running_square)  # theirs is biased
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


def test_group_norm_of_scalars_equals_torchs():
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


def batches(count=5):
    generator = torch.Generator().manual_seed(2)
    return [3 + torch.randn(4, 2, 3, 3, 3, generator=generator) for _ in range(count)]


def test_update_bn_of_torch_works():
    ours, theirs = nn.Sequential(BatchNorm("2x0")), nn.Sequential(nn.BatchNorm3d(2))
    for model in (ours, theirs):
        model(batches()[0] - 7)
        update_bn(batches(), model)
    torch.testing.assert_close(ours[0].running_mean, theirs[0].running_mean)
    torch.testing.assert_close(ours[0].running_square, theirs[0].running_var)
    assert ours[0].momentum == 0.1
    assert set(ours[0].state_dict()) == {"weight", "bias", "running_mean", "running_square"}


def test_without_momentum_the_statistics_are_means_over_all_batches_and_their_number_is_state():
    ours, theirs = BatchNorm("2x0", momentum=None), nn.BatchNorm3d(2, momentum=None)
    for x in batches():
        ours(x), theirs(x)
    torch.testing.assert_close(ours.running_mean, theirs.running_mean)
    torch.testing.assert_close(ours.running_square, theirs.running_var)
    resumed = BatchNorm("2x0", momentum=None)
    resumed.load_state_dict(ours.state_dict())
    for layer in (ours, resumed):
        layer(batches(6)[5])
    assert torch.equal(ours.running_mean, resumed.running_mean)


def test_conversion_to_the_sync_norm_of_torch_is_refused_with_the_cure():
    with pytest.raises(NotImplementedError, match=r"sync=True, or set layer.sync = True"):
        nn.SyncBatchNorm.convert_sync_batchnorm(nn.Sequential(BatchNorm("1x0")))


def test_states_of_older_versions_load():
    state = {"weight": torch.ones(1), "bias": torch.zeros(1), "running_mean": torch.ones(1)}
    layer = BatchNorm("1x0")
    layer.load_state_dict(state | {"running_square": torch.ones(1)})
    assert layer.running_mean.item() == 1
    layer.reset_parameters()
    assert layer.running_mean.item() == 0


def test_norms_without_running_statistics_as_torch_func_makes_them():
    layer = nn.Sequential(BatchNorm(TYPE))
    x = fields().float()
    expected = layer(x)
    torch.func.replace_all_batch_norm_modules_(layer)
    assert torch.equal(layer.eval()(x), expected) and torch.equal(layer.train()(x), expected)


@pytest.mark.filterwarnings("ignore:.*torch.jit.script:DeprecationWarning")  # torch's own use in forward mode
def test_gradients_of_torch_func_leave_the_statistics_that_backward_leaves():
    one, other, x = BatchNorm(TYPE), BatchNorm(TYPE), fields().float()
    one(x)
    weights = dict(other.named_parameters())
    torch.func.grad(lambda w: torch.func.functional_call(other, w, (x,)).square().sum())(weights)
    torch.func.jvp(other.eval(), (x,), (x,))
    assert torch.equal(one.running_mean, other.running_mean) and torch.equal(one.running_square, other.running_square)
    before = other.running_mean.clone()
    torch.func.vmap(other.train())(x[:, None])
    assert torch.equal(other.running_mean, before)


@pytest.mark.filterwarnings("ignore:.*torch.jit.script:DeprecationWarning")  # torch's own use in forward mode
def test_second_derivatives_are_finite_where_a_field_is_zero():
    """Of the square at 0 they are 2; the norm that saves memory elsewhere has none there."""
    layer, x = GroupNorm("1x1").double(), torch.zeros(1, 3, 2, 1, 1, dtype=torch.float64)
    assert torch.func.hessian(lambda v: layer(v).square().sum())(x).isfinite().all()
