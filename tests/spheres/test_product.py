"""The emitted product: against e3nn, against itself by three ways, its derivatives, and everything torch does to it."""

from __future__ import annotations

import copy
import pickle
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import nn

from basisgen.emission.imported import imported
from basisgen.pipeline import compile_package
from basisgen.so3.field_type import FieldType, Irrep, parse_field_type
from basisgen.so3.wigner import field_matrix
from basisgen.spec import parse_package
from basisgen.spheres.product_spec import parse_product

SPEC = """
name = "products"
[defaults.product]
mixing = "all"
[[layer]]
kind = "product"
name = "Square"
in = "3x0..4"
[[layer]]
kind = "product"
name = "Tree"
in = "2x0..7"
mixing = "tree"
[[layer]]
kind = "product"
name = "Fragments"
in = "4x0 + 6x1 + 2x2"
channels = 2
[[layer]]
kind = "product"
name = "Two"
in = "2x0e + 4x1o + 2x2e"
second = "2x1o + 2x2o"
channels = 2
degrees = "0..3"
"""
NAMES = ["Square", "Tree", "Fragments", "Two"]

Inputs = tuple[torch.Tensor, ...]


def _inputs(module: Any, *shape: int, dtype: torch.dtype = torch.float64, batch: int = 2) -> Inputs:
    sizes = [module.in_channels] if module.second_type is None else [module.in_channels, module.second_channels]
    return tuple(torch.randn(batch, size, *shape, dtype=dtype) for size in sizes)


@contextmanager
def _stock(package: ModuleType) -> Iterator[None]:
    """Without the compiled product."""
    shared = sys.modules[f"{package.__name__}._product"]
    available = shared.is_available
    shared.is_available = lambda: False
    try:
        yield
    finally:
        shared.is_available = available


def _plain(package: ModuleType, module: Any, inputs: Inputs) -> torch.Tensor:
    shared = sys.modules[f"{package.__name__}._product"]
    first, *rest = inputs
    result: torch.Tensor = shared._plain(first, rest[0] if rest else None, module.table(), module.padded())
    return result


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("space", [(), (3,), (2, 5, 4)])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_compiled_stock_and_plain_products_agree(
    package: ModuleType, name: str, space: tuple[int, ...], dtype: torch.dtype
) -> None:
    """Compiled, stock and plain: outputs and gradients."""
    module = getattr(package, name)()
    inputs = tuple(x.requires_grad_() for x in _inputs(module, *space, dtype=dtype))

    def both(run: Callable[[], torch.Tensor]) -> list[torch.Tensor]:
        output = run()
        torch.manual_seed(0)
        return [output, *torch.autograd.grad(output, inputs, torch.randn_like(output))]

    found = both(lambda: module(*inputs))
    with _stock(package):
        stock = both(lambda: module(*inputs))
    plain = both(lambda: _plain(package, module, inputs))
    for a, b, c in zip(found, stock, plain, strict=True):
        largest = c.abs().max()
        for other in (a, b):
            assert (other - c).abs().max() <= 40 * torch.finfo(dtype).eps * largest


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize(("batch", "channels"), [(1, 3), (5, 13), (33, 3), (9, 8)])  # fewer than 8, a square, more
def test_compiled_and_stock_differ_by_the_order_of_their_sums_alone(
    compile_and_import: Callable[[str], ModuleType], dtype: torch.dtype, batch: int, channels: int
) -> None:
    """Every number is a sum of n terms c f g: either way is within n + 2 roundings of the exact sum of their sizes.

    As a negative control, one coefficient of the other sign breaks that bound. Forward and backward the compiled way
    gives the same bits with one thread and two, and again; so does the stock way again.
    """
    package = compile_and_import(
        f'name = "two_ways"\n[[layer]]\nkind = "product"\nname = "P"\nin = "{channels}x0..9"\nmixing = "tree"\n'
    )
    shared = sys.modules[f"{package.__name__}._product"]
    if not shared.is_available():
        pytest.skip("no C++ compiler")
    module = package.P()
    x = torch.randn(batch, module.in_channels, dtype=dtype, requires_grad=True)
    gradient = torch.randn(batch, module.out_channels, dtype=dtype)

    def run() -> list[torch.Tensor]:
        output = module(x)
        return [output.detach(), torch.autograd.grad(output, x, gradient)[0]]

    table, padded = module.table(), module.padded()
    exact = shared._plain(x.detach().double(), None, table, padded)
    sizes = shared._plain(x.detach().double().abs(), None, table, padded._replace(value=padded.value.abs()))
    bound = (padded.value.shape[1] + 2) * torch.finfo(dtype).eps * sizes
    flipped = padded.value.clone()
    flipped[7, 0] *= -1
    wrong = shared._plain(x.detach().double(), None, table, padded._replace(value=flipped))
    found = run()
    with _stock(package):
        stock = run()
        assert all(map(torch.equal, stock, run()))
    for way in (found, stock):
        assert ((way[0].double() - exact).abs() <= bound).all()
        assert not ((way[0].double() - wrong).abs() <= bound).all()
    assert not torch.equal(found[0], stock[0]) or batch == 1  # two ways, indeed
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        assert all(map(torch.equal, found, run()))
    finally:
        torch.set_num_threads(threads)
    assert all(map(torch.equal, found, run()))


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.filterwarnings("ignore:`torch.jit.script` is:DeprecationWarning")  # by torch's forward mode
@pytest.mark.parametrize("compiled", [True, False])
def test_derivatives_pass_gradcheck(package: ModuleType, name: str, compiled: bool) -> None:
    """Once, twice, forward-mode, and per sample, against numeric and one-by-one ones."""
    module = getattr(package, name)()
    inputs = tuple(x.requires_grad_() for x in _inputs(module))
    with partial(_stock, package)() if not compiled else torch.enable_grad():
        assert torch.autograd.gradcheck(module, inputs, fast_mode=True, check_forward_ad=True)
        assert torch.autograd.gradgradcheck(module, inputs, fast_mode=True)
        per_sample = torch.vmap(torch.func.grad(lambda *x: module(*(one[None] for one in x)).square().sum()))(*inputs)
        whole = torch.autograd.grad(module(*inputs).square().sum(), inputs[0])[0]
        assert torch.allclose(per_sample, whole, atol=1e-12)


def _difference_from_e3nn(module: Any) -> float:
    """The largest, over all paths; e3nn's TensorProduct without its `component` norm is ours over sqrt(2l+1)."""
    o3 = pytest.importorskip("e3nn.o3")
    first, second = (
        o3.Irreps([(multiplicity, (l, 1)) for multiplicity, l, _ in of])
        for of in (module.in_type, module.second_type or module.in_type)
    )
    paths = [(i, j, o) for o, pairs in module.paths for i, j in pairs]
    out = o3.Irreps([(module.channels, (module.out_type[o][1], 1)) for *_, o in paths])
    instructions = [(i, j, p, "uuu", False) for p, (i, j, _) in enumerate(paths)]
    torch.set_default_dtype(torch.float64)
    try:
        theirs = o3.TensorProduct(
            first, second, out, instructions, irrep_normalization="none", path_normalization="none",
            internal_weights=False, shared_weights=False,
        )  # fmt: skip
        fields = _inputs(module)
        scale = torch.cat([torch.full((ir.dim * n,), (2 * ir.l + 1) ** 0.5) for n, ir in out])
        return float((module(*fields) - theirs(fields[0], fields[-1]) * scale).abs().max())
    finally:
        torch.set_default_dtype(torch.float32)


def test_products_are_e3nns(package: ModuleType) -> None:
    """Every path of one field with itself, degrees up to 4."""
    assert _difference_from_e3nn(package.Square()) < 1e-12


@pytest.mark.slow
@pytest.mark.parametrize("l", range(9))
def test_products_of_degrees_up_to_8_are_e3nns(compile_and_import: Callable[[str], ModuleType], l: int) -> None:
    """Every coupling (l1, l2, l) with l1, l2 and l up to 8, of two fields."""
    factors = 'in = "2x0..8"\nsecond = "2x0..8"\nchannels = 2\n'
    text = f'name = "to{l}"\n[[layer]]\nkind = "product"\nname = "P"\n{factors}mixing = "all"\ndegrees = [{l}]\n'
    module = compile_and_import(text).P()
    ((_, pairs),) = module.paths
    assert len(pairs) == sum(abs(a - b) <= l <= a + b for a in range(9) for b in range(9))
    assert _difference_from_e3nn(module) < 1e-12


def test_components_of_degree_one_are_dot_and_cross_product(compile_and_import: Callable[[str], ModuleType]) -> None:
    text = 'name = "dots"\n[[layer]]\nkind = "product"\nname = "Two"\nin = "1x1"\nsecond = "1x1"\nmixing = "all"\n'
    module = compile_and_import(text + 'degrees = "0..1"\n').Two()
    x, y = torch.randn(2, 5, 3, dtype=torch.float64)
    wanted = torch.cat([(x * y).sum(1, keepdim=True) / 3**0.5, torch.linalg.cross(x, y) / 2**0.5], 1)
    assert (module(x, y) - wanted).abs().max() < 1e-15


@pytest.mark.parametrize("name", NAMES)
def test_equivariance(package: ModuleType, name: str) -> None:
    from scipy.spatial.transform import Rotation

    module = getattr(package, name)()
    for seed in range(3):
        rotation = Rotation.random(random_state=seed).as_matrix() * (-1 if name == "Two" and seed else 1)
        inputs = _inputs(module)
        types = [module.in_type, module.second_type or module.in_type]
        turned = [
            torch.einsum("ij,bj->bi", torch.tensor(field_matrix(_type(of), rotation)), x)
            for x, of in zip(inputs, types, strict=False)
        ]
        wanted = torch.einsum(
            "ij,bj->bi", torch.tensor(field_matrix(_type(module.out_type), rotation)), module(*inputs)
        )
        assert (module(*turned) - wanted).norm() <= 1e-14 * wanted.norm() * 10


def _type(terms: Any) -> FieldType:
    letters = {None: "", 1: "e", -1: "o"}
    return parse_field_type(
        " + ".join(f"{multiplicity}x{degree}{letters[parity]}" for multiplicity, degree, parity in terms)
    )


def test_two_equal_factors_are_a_square(compile_and_import: Callable[[str], ModuleType]) -> None:
    text = 'name = "pair"\n[[layer]]\nkind = "product"\nname = "One"\nin = "2x0..2"\nmixing = [[1, 2, 2], [1, 1, 2]]\n'
    text += (
        '[[layer]]\nkind = "product"\nname = "Two"\nin = "2x0..2"\nsecond = "2x0..2"\nmixing = [[1, 2, 2], [1, 1, 2]]\n'
    )
    package = compile_and_import(text)
    one, two = package.One(), package.Two()
    assert one.out_type == ((4, 2, None),) and two.out_type == ((6, 2, None),)
    (x,) = _inputs(one)
    a, b = one(x).view(2, 2, 10), two(x, x).view(2, 3, 10)  # paths (1 1), (1 2); of two (1 1), (1 2), (2 1)
    assert torch.allclose(a, b[:, :2]) and torch.allclose(b[:, 1], -b[:, 2])  # 1 + 2 + 2 is odd


@pytest.mark.parametrize("name", ["Square", "Two"])
def test_what_torch_does_to_modules(package: ModuleType, name: str) -> None:
    module = getattr(package, name)()
    inputs = _inputs(module, dtype=torch.float32)
    wanted = module(*inputs)
    assert list(module.state_dict()) == ["_extra_state"] and not list(module.parameters())
    for other in (copy.deepcopy(module), pickle.loads(pickle.dumps(module)), module.to(torch.float64), module.eval()):
        assert torch.equal(other(*inputs), wanted)
    exported = torch.export.export(module, inputs)
    assert torch.allclose(exported.module()(*inputs), wanted, atol=1e-5)
    half = module(*(x.to(torch.bfloat16) for x in inputs))
    assert half.dtype == torch.bfloat16 and (half.float() - wanted).abs().max() < 0.05 * wanted.abs().max()
    with torch.autocast("cpu"):
        assert torch.equal(module(*inputs), wanted)
    assert module(*(x[:0] for x in inputs)).shape == (0, module.out_channels)
    assert module(*(x[..., None].expand(-1, -1, 0) for x in inputs)).shape == (2, module.out_channels, 0)
    assert torch.allclose(module(*(x.t().contiguous().t() for x in inputs)), wanted)
    assert "paths=" in repr(module)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # the exporters' own deprecations
@pytest.mark.parametrize("dynamo", [True, False])
def test_onnx_runs_in_onnxruntime(package: ModuleType, dynamo: bool, tmp_path: Path) -> None:
    runtime = pytest.importorskip("onnxruntime")
    module = package.Square().eval()
    (x,) = _inputs(module, dtype=torch.float32)
    path = tmp_path / "product.onnx"
    torch.onnx.export(module, (x,), str(path), dynamo=dynamo)
    session = runtime.InferenceSession(str(path))
    (found,) = session.run(None, {session.get_inputs()[0].name: x.numpy()})
    assert abs(torch.tensor(found) - module(x)).max() < 1e-5


@pytest.mark.slow
def test_memory_of_the_backward_pass(package: ModuleType) -> None:
    """At most three times input and output, beyond what is there before: the products are made again in parts."""
    module = package.Square()
    (x,) = _inputs(module, 64, dtype=torch.float32, batch=32)
    for context in (torch.enable_grad(), _stock(package)):
        with context:
            module(x)
            sizes = []
            with torch.profiler.profile(profile_memory=True) as profile:
                y = module(x.requires_grad_())
                y.backward(torch.ones_like(y))
            present = 0
            for event in profile.profiler.kineto_results.events():
                if event.name() == "[memory]":
                    present += event.nbytes()
                    sizes.append(present)
            assert 0 < max(sizes) <= 3 * (x.nbytes + y.nbytes)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")  # torch's own, on importing its compiler
@pytest.mark.parametrize("name", ["Square", "Two"])
def test_compiles_whole_and_trains(package: ModuleType, name: str) -> None:
    module = getattr(package, name)()
    inputs = tuple(x.requires_grad_() for x in _inputs(module, dtype=torch.float32))
    compiled = torch.compile(module, fullgraph=True)
    wanted = torch.autograd.grad(module(*inputs).square().sum(), inputs)
    found = torch.autograd.grad(compiled(*inputs).square().sum(), inputs)
    for a, b in zip(wanted, found, strict=True):
        assert torch.allclose(a, b, rtol=1e-5)


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ((torch.randn(2, 7),), "takes a field"),
        ((torch.randn(75),), "takes a field"),
        ((torch.ones(2, 75, dtype=torch.int64),), "takes real numbers"),
        ((torch.randn(2, 75), torch.randn(2, 75)), "multiplies one field"),
    ],
)
def test_wrong_inputs(package: ModuleType, inputs: Inputs, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        package.Square()(*inputs)


def test_output_terms_list_paths_then_fragments() -> None:
    spec = parse_product("P", {"in": "4x0 + 6x1 + 2x2", "channels": 2, "mixing": "all"})
    # degree 1: (0,1) 2 x 3 fragments, (1,1) odd: 3 unordered pairs, (1,2) 3 x 1; degree 2: 2 + 6 + 3 + 1
    assert str(spec.out) == "20x0 + 24x1 + 24x2"
    assert {path.out: path.fragments for path in spec.paths if path.first == path.second == 1} == {
        Irrep(0): 6, Irrep(1): 3, Irrep(2): 6,
    }  # fmt: skip


def test_weights_behind_other_products_of_the_same_types_do_not_load() -> None:
    """The map behind them has the same shape, and would give wrong results with no error."""

    def network(name: str, mixing: str) -> nn.Module:
        layers = f'[[layer]]\nkind = "product"\nname = "P"\nin = "2x0..2"\nmixing = {mixing}\n'
        layers += '[[layer]]\nkind = "linear"\nname = "L"\nin = "P"\nout = "2x0..2"\n'
        with imported(compile_package(parse_package(f'name = "{name}"\n{layers}')), name) as package:
            return nn.Sequential(package.P(), package.L())

    one = network("these_products", "[[0, 0, 0], [0, 1, 1], [1, 1, 2]]")
    same = network("same_products", "[[0, 0, 0], [0, 1, 1], [1, 1, 2]]")
    other = network("other_products", "[[1, 1, 0], [1, 2, 1], [0, 2, 2]]")
    assert one[0].out_type == other[0].out_type
    before = copy.deepcopy(other.state_dict())
    with pytest.raises(RuntimeError, match=r"these_products\.P.*0\*1 -> 1.*but this layer is.*1\*2 -> 1"):
        other[0].load_state_dict(one[0].state_dict())
    with pytest.raises(RuntimeError, match=r"0: these weights were made for"):
        other.load_state_dict(one.state_dict())
    assert torch.equal(other[0].get_extra_state(), before["0._extra_state"])
    assert str(same.load_state_dict(one.state_dict())) == "<All keys matched successfully>"
    old = {name: value for name, value in one.state_dict().items() if name != "0._extra_state"}  # of before it was said
    assert str(same.load_state_dict(old)) == "<All keys matched successfully>"
