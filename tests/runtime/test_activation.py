import pytest
import torch
from torch import nn
from torch.nn import functional as F

from runtime import Gate, NormActivation, gated_type
from runtime.testing import assert_equivariant


def by_hand(x):
    """The gate of 2x0e + 2x1o + 1x0o + 1x2e with 3 gates, one field at a time."""
    scalars, vectors, odd, tensor, gates = x.split([2, 6, 1, 5, 3], 1)
    g = torch.sigmoid(gates)
    fields = [vectors[:, :3] * g[:, :1], vectors[:, 3:] * g[:, 1:2], tensor * g[:, 2:]]
    return torch.cat([scalars.relu(), fields[0], fields[1], odd.tanh(), fields[2]], 1)


GATED = "2x0e + 2x1o + 1x0o + 1x2e + 3x0e"


def test_gate_is_its_formula_with_its_gradient():
    gate = Gate(GATED)
    x = torch.randn(2, 17, 3, 2, 2, dtype=torch.float64, requires_grad=True)
    assert gate.out_type == gate.in_type[:-1]
    assert torch.equal(gate(x), by_hand(x))
    weights = torch.randn_like(gate(x))
    (ours,) = torch.autograd.grad((gate(x) * weights).sum(), x)
    (theirs,) = torch.autograd.grad((by_hand(x) * weights).sum(), x)
    torch.testing.assert_close(ours, theirs)


def test_gate_has_two_derivatives():
    gate = Gate("1x0 + 1x1 + 1x2 + 2x0", activation=F.silu)
    x = torch.randn(1, 11, 1, 2, 1, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(gate, x) and torch.autograd.gradgradcheck(gate, x)


def test_gate_keeps_only_its_output_for_the_gradient():
    """What autograd saves: the output, which the next layer saves anyway, the activated scalars and the gates."""
    gate, saved = Gate(gated_type("1x0 + 1x1 + 1x2 + 1x3")), {}

    def pack(tensor):
        saved[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    x = torch.randn(1, gate.in_channels, 8, 8, 8, requires_grad=True)
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        y = gate(x)
    assert sum(saved.values()) == y.nbytes + (1 + 3) * y[:, 0].nbytes
    assert x.untyped_storage().data_ptr() not in saved


def test_gate_without_other_fields_is_an_activation():
    assert torch.equal(Gate("3x0")(x := torch.randn(2, 3, 2, 2, 2)), x.relu())
    assert torch.equal(Gate("1x0o")(x := torch.randn(2, 1, 2, 2, 2)), x.tanh())
    assert gated_type("3x0 + 1x0") == ((3, 0, None), (1, 0, None))


def test_gate_takes_features_without_space():
    assert Gate("1x0 + 1x1 + 1x0")(torch.randn(5, 5)).shape == (5, 4)


@pytest.mark.parametrize("field_type", ["1x1", "2x0 + 1x1", "1x1 + 2x0", "1x1o + 1x0o", "1x0 + 1x1 + 1x1"])
def test_gate_refuses_a_type_without_its_gates(field_type):
    with pytest.raises(ValueError, match=r"its last term must be one even scalar for every.*gated = true"):
        Gate(field_type)


def test_norm_activation_is_its_formula():
    layer = NormActivation("1x0e + 2x1o + 1x0o", beta=0.5)
    with torch.no_grad():
        layer.beta += torch.tensor([0.0, 0.3, 0.1])
    x = torch.randn(2, 8, 2, 2, 2)
    y = layer(x)
    assert torch.equal(y[:, :1], x[:, :1].relu())
    for first, last, beta in ((1, 4, 0.5), (4, 7, 0.8), (7, 8, 0.6)):
        f = x[:, first:last]
        length = f.norm(dim=1, keepdim=True)
        torch.testing.assert_close(y[:, first:last], (length - beta).relu() * f / length)


def test_norm_softplus_is_its_formula():
    x = torch.randn(2, 3, 2, 2, 2)
    length = x.norm(dim=1, keepdim=True)
    layer = NormActivation("1x1", activation=F.softplus)
    torch.testing.assert_close(layer(x), F.softplus(length - 0.1) * x / length)


@pytest.mark.parametrize("activation", [torch.relu, F.softplus])
def test_norm_activation_is_finite_at_zero(activation):
    layer = NormActivation("1x1 + 1x0", activation=activation, beta=-0.5)
    x = torch.zeros(1, 4, 2, 2, 2, requires_grad=True)
    layer(x).sum().backward()
    assert torch.equal(layer(x), torch.zeros_like(x))
    assert x.grad.isfinite().all() and layer.beta.grad.isfinite().all()
    assert torch.autograd.gradcheck(layer.double(), torch.randn(1, 4, 1, 2, 1, dtype=torch.float64, requires_grad=True))


@pytest.mark.parametrize("function", [torch.relu, F.silu, torch.abs, torch.cos, nn.PReLU(), lambda s: s.tanh() + 0.01])
def test_functions_of_pseudoscalars_must_be_odd(function):
    with pytest.raises(ValueError, match=r"odd_activation acts on pseudoscalars, so it must be odd"):
        Gate("1x0o + 1x1o + 1x0e", odd_activation=function)
    Gate("1x0e + 1x1o + 1x0e", odd_activation=function)  # there it acts on nothing


@pytest.mark.parametrize("function", [torch.tanh, torch.sin, nn.Softsign(), nn.Identity(), lambda s: s**3])
def test_odd_functions_of_pseudoscalars_are_taken(function):
    assert_equivariant(Gate("2x0o + 1x1o + 1x0e", odd_activation=function), size=3, wavelengths=())


@pytest.mark.parametrize("function", [nn.ReLU(inplace=True), torch.relu_, lambda s: s.clamp_(0)])
def test_functions_that_change_their_input_are_refused(function):
    with pytest.raises(ValueError, match="activation changes its input in place"):
        Gate("1x0 + 1x1 + 1x0", activation=function)
    with pytest.raises(ValueError, match="scalar_activation changes its input in place"):
        NormActivation("1x0 + 1x1", scalar_activation=function)


def test_trying_a_function_leaves_its_own_state_alone():
    function = nn.BatchNorm3d(2)
    Gate("2x0 + 1x1 + 1x0", activation=function)
    assert function.num_batches_tracked == 0 and not function.running_mean.any()
    with torch.device("meta"):
        Gate("2x0o + 1x1o + 1x0e", odd_activation=nn.PReLU())  # not to be read, so not tried
