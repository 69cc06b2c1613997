"""Linear maps: counts, equivariance, the constrained factors, specs, and what torch does to the modules."""

from __future__ import annotations

import copy
import pickle
from types import ModuleType

import pytest
import torch

from basisgen.errors import SpecError
from basisgen.so3.field_type import parse_field_type
from basisgen.so3.wigner import field_matrix
from basisgen.spec import parse_layer
from basisgen.spheres.linear import LinearPlan, LinearSpec
from basisgen.spheres.mixing import Mixing, mixing_set

SPEC = """
name = "maps"
[[layer]]
kind = "linear"
name = "Dense"
in = "4x0e + 2x1o + 3x0e + 2x2e + 1x0o"
out = "2x1o + 5x0e + 1x2e + 3x0o + 2x0e"
[[layer]]
kind = "linear"
name = "Constrained"
in = "6x0 + 12x1 + 6x2"
out = "4x0 + 8x2 + 4x1"
maps = ["uniform", "channel", "cross"]
channels = 3
out_channels = 2
[[layer]]
kind = "linear"
name = "Uniform"
in = "6x0 + 12x1"
out = "9x0 + 3x1"
maps = ["uniform"]
channels = 3
"""


@pytest.mark.parametrize("name", ["Dense", "Constrained", "Uniform"])
def test_equivariant_and_as_many_as_said(package: ModuleType, name: str) -> None:
    """The matrix commutes with rotations; its derivatives by the weights span as many maps as there are weights."""
    from scipy.spatial.transform import Rotation

    module = getattr(package, name)(dtype=torch.float64)
    into, out = (
        parse_field_type(" + ".join(f"{n}x{l}{ {None: '', 1: 'e', -1: 'o'}[p] }" for n, l, p in field))
        for field in (module.in_type, module.out_type)
    )
    rotation = Rotation.random(random_state=1).as_matrix() * (-1 if name == "Dense" else 1)
    left, right = (torch.tensor(field_matrix(field, rotation)) for field in (out, into))
    matrix = module.matrix()
    assert (left @ matrix - matrix @ right).abs().max() < 1e-13
    if name == "Dense":
        assert len(module.weight) == 7 * 7 + 2 * 2 + 2 + 3
        jacobian = torch.autograd.functional.jacobian(
            lambda weight: torch.func.functional_call(module, {"weight": weight}, torch.eye(into.dimension).double()),
            module.weight,
        )
        assert torch.linalg.matrix_rank(jacobian.flatten(0, 1)) == len(module.weight)


def test_constrained_factors_are_their_definition(package: ModuleType) -> None:
    module = package.Constrained(bias=False, dtype=torch.float64)
    x = torch.randn(2, module.in_channels, dtype=torch.float64)
    out = module(x)
    # degree 1: 4 fragments of 3 channels in, 2 of 2 out; its weights come after those of degrees 0 and 2
    weights = module.weight
    first = 4 + 12 + 12 + (2 * 4 + 3 * 16 + 4 * 6)  # of degrees 0 (2 x 2) and 2 (4 x 2)
    u, v, w = weights[first:].split([2 * 4, 3 * 2 * 2, 2 * 2 * 3])
    field = x[:, 6:42].view(2, 4, 3, 3)  # (batch, fragment, channel, component)
    h = torch.einsum("ut,btkm->bukm", u.view(2, 4) / 4**0.5, field)
    h = torch.einsum("kut,btkm->bukm", v.view(3, 2, 2) / 2**0.5, h)
    h = torch.einsum("tck,btkm->btcm", w.view(2, 2, 3) / 3**0.5, h)
    assert torch.allclose(out[:, 4 + 40 :], h.reshape(2, -1))


def test_unit_variance_in_unit_variance_out(package: ModuleType) -> None:
    torch.manual_seed(0)
    for name in ("Dense", "Constrained", "Uniform"):
        outputs = [getattr(package, name)()(torch.randn(64, getattr(package, name)().in_channels)) for _ in range(60)]
        assert 0.8 < torch.stack(outputs).var() < 1.25


def test_a_layer_acts_at_every_place_and_its_state_is_its_weights(package: ModuleType) -> None:
    module = package.Dense()
    x = torch.randn(2, module.in_channels, 3, 4)
    out = module(x)
    assert out.shape == (2, module.out_channels, 3, 4)
    assert torch.allclose(out[..., 1, 2], module(x[..., 1, 2]), atol=1e-6)
    assert set(module.state_dict()) == {"weight", "bias", "_extra_state"} and len(module.bias) == 7
    with pytest.raises(RuntimeError, match="were made for"):
        package.Uniform().load_state_dict(package.Constrained().state_dict())
    for other in (copy.deepcopy(module), pickle.loads(pickle.dumps(module))):
        assert torch.equal(other(x), out)
    assert torch.allclose(torch.export.export(module, (x,)).module()(x), out)
    with torch.autocast("cpu"):
        assert module(x).shape == out.shape
    assert module(x[:0]).shape == (0, module.out_channels, 3, 4)
    with pytest.raises(ValueError, match="takes a field"):
        module(x[:, 1:])
    with pytest.raises(ValueError, match="has weights of"):
        module(x.double())
    per_sample = torch.vmap(torch.func.grad(lambda one: module(one[None]).square().sum()))(x)
    assert per_sample.shape == x.shape


def _parameters(L: int, cap: int, channels: int, mixing: Mixing) -> tuple[int, int]:
    """Weights of the constrained and of the dense map behind a product, fragments counted as in Cobb et al.

    Every (l1, l2) counts tau^l1 tau^l2 fragments, antisymmetric squares (odd l, l1 = l2) apart.
    """
    fragments = [min(2 * l + 1, cap) for l in range(L)]
    counts = [
        sum(fragments[a] * fragments[b] for a, b in mixing_set(mixing, range(L), l) if a != b or l % 2 == 0)
        for l in range(L)
    ]
    into = " + ".join(f"{channels * n}x{l}" for l, n in enumerate(counts))
    out = " + ".join(f"{channels * n}x{l}" for l, n in enumerate(fragments))
    types = parse_field_type(into), parse_field_type(out)
    constrained = LinearSpec("M", *types, ("uniform", "channel", "cross"), channels, channels)
    return LinearPlan(constrained).weights, LinearPlan(LinearSpec("M", *types, (), 1, 1)).weights


def test_parameters_of_cobb() -> None:
    assert _parameters(10, 5, 16, Mixing.TREE) == (22_513, 2_019_584)
    assert _parameters(10, 5, 16, Mixing.ALL) == (42_933, 7_247_104)
    assert [_parameters(20, 9, 16, mixing)[0] for mixing in (Mixing.TREE, Mixing.REDUCED, Mixing.ALL)] == [
        250_557, 104_150, 1_398_298,
    ]  # fmt: skip


GOOD = {"kind": "linear", "name": "M", "in": "6x0 + 12x1", "out": "6x0 + 3x1"}


def test_a_description_is_read_back() -> None:
    for more in ({}, {"maps": ["uniform", "cross"], "channels": 3}, {"maps": ["uniform"], "channels": 3}):
        spec = parse_layer({**GOOD, **more})
        assert parse_layer(spec.describe()) == spec


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"out": None}, "has no key 'out'"),
        ({"out": "1x2"}, "has irrep 2, which in"),
        ({"out": "1x0e"}, "has irrep 0e, which in"),
        ({"maps": []}, "is not a list of some of"),
        ({"maps": "uniform"}, "is not a list of some of"),
        ({"maps": ["cross", "uniform"]}, "in this order"),
        ({"maps": ["uniform", "uniform"]}, "is not a list"),
        ({"maps": ["uniform"]}, "has no key 'channels'"),
        ({"channels": 2}, "without maps"),
        ({"maps": ["uniform"], "channels": 4}, "does not divide"),
        ({"maps": ["uniform"], "channels": 0}, "is not a whole number"),
        ({"maps": ["uniform"], "channels": True}, "is not a whole number"),
        ({"maps": ["uniform"], "channels": 10**9}, "does not divide"),
        ({"maps": ["cross"], "channels": 3}, "only 'uniform' changes"),
        ({"maps": ["uniform"], "channels": 6, "out_channels": 3}, "only 'cross' changes"),
        ({"in": "4000000x0", "out": "4000000x0"}, "more than"),
        ({"kernel_size": 3}, "unknown key"),
        ({"mixing": "all"}, "unknown key"),
    ],
)
def test_wrong_maps(change: dict[str, object], message: str) -> None:
    table = {key: value for key, value in {**GOOD, **change}.items() if value is not None}
    with pytest.raises(SpecError, match=message) as error:
        parse_layer(table)
    assert "\n" not in str(error.value)
