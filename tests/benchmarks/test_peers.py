"""The ready network in the layers of other libraries has our fields and strides, and is as equivariant as they are."""

import warnings
from pathlib import Path

import pytest
import torch

import runtime
from basisgen.emission.imported import imported
from basisgen.pipeline import compile_package
from basisgen.spec import parse_package

pytestmark = pytest.mark.slow

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
TABLE = '[network]\nkind = "unet"\nin = "1x0"\nout = "3x0"\nfields = "2x0 + 1x1 + 1x2"\nkernel_size = 3\neven = {}'


@pytest.fixture(params=["e3nn", "escnn"])
def library(request):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        pytest.importorskip(request.param)
        yield request.param  # its layers warn too


@pytest.fixture(params=[False, True], ids=["odd", "even"])
def networks(request, library, monkeypatch):
    """Ours, and the other library's; volumes."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    from common.peers import swapped

    spec = parse_package("\n".join(['name = "made"', TABLE.format(str(request.param).lower())]))
    with imported(compile_package(spec), "made") as package:
        torch.manual_seed(0)
        size = 8 if request.param else 9
        yield runtime.network(package), swapped(package, library), torch.randn(2, 1, size, size, size)


def test_fields_and_grids_are_ours(networks):
    ours, theirs, volumes = networks
    shapes = [[], []]
    for network, found in zip((ours, theirs), shapes, strict=True):
        for stage in network.down:
            stage.register_forward_hook(lambda _, __, answer, found=found: found.append(answer.shape))
        found.append(network(volumes).shape)
    assert shapes[0] == shapes[1]
    assert ours.in_type == theirs.in_type and ours.out_type == theirs.out_type
    assert [stage[-1].out_type for stage in ours.down] == [stage[-1].out_type for stage in theirs.down]


def test_turns_of_the_cube_are_exact_and_every_weight_learns(networks):
    _, theirs, volumes = networks
    theirs(volumes).square().sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in theirs.parameters())
    theirs.eval()  # statistics of one batch are now those of the network
    with torch.no_grad():
        answer = theirs(volumes)
        turned = theirs(volumes.rot90(1, (2, 3))).rot90(-1, (2, 3))
        not_turned_back = theirs(volumes.rot90(1, (2, 3)))
    assert (answer - turned).abs().max() < 1e-4 * answer.abs().max()
    assert (answer - not_turned_back).abs().max() > 1e-2 * answer.abs().max()  # the check can fail
