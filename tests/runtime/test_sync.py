"""Batch norm over the processes of torch.distributed: two of them compute what one does with the joint batch."""

import pytest
import torch
import torch.multiprocessing as mp

from runtime import BatchNorm
from runtime.train.processes import join_group, leave_group
from tests.conftest import gloo_threads

TYPE = "1x1 + 2x0 + 1x2"
SIZES = (3, 2)  # samples of each process: unequal


def joint_batch():
    generator = torch.Generator().manual_seed(3)
    x = torch.randn(sum(SIZES), 10, 3, 4, 5, dtype=torch.float64, generator=generator) + 1
    weight = torch.randn(x.shape, dtype=torch.float64, generator=generator)
    return x, weight


def run(layer, x, weight):
    """Output, gradients of sum(weight * output), running statistics."""
    x = x.clone().requires_grad_()
    y = layer(x)
    (y * weight).sum().backward()
    return [y.detach(), x.grad, layer.weight.grad, layer.bias.grad, layer.running_mean, layer.running_square]


def process(rank, folder):
    torch.set_num_threads(1)
    join_group(f"file://{folder}/store", "gloo", rank, 2)
    own = slice(0, SIZES[0]) if rank == 0 else slice(SIZES[0], None)
    x, weight = joint_batch()
    results = {sync: run(BatchNorm(TYPE, sync=sync).double(), x[own], weight[own]) for sync in (True, False)}
    torch.save(results, f"{folder}/{rank}.pt")
    leave_group()
    assert not gloo_threads(), "at the exit they abort the process now and then"


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    """What each of two processes got, by `sync`."""
    folder = tmp_path_factory.mktemp("processes")
    mp.spawn(process, (folder,), nprocs=2)
    return [torch.load(folder / f"{rank}.pt") for rank in range(2)]


def test_two_processes_are_one_with_the_joint_batch(results):
    expected = run(BatchNorm(TYPE).double(), *joint_batch())
    (y1, dx1, dw1, db1, *state1), (y2, dx2, dw2, db2, *state2) = (result[True] for result in results)
    together = [torch.cat([y1, y2]), torch.cat([dx1, dx2]), dw1 + dw2, db1 + db2, *state1]
    for ours, theirs in zip([*together, *state2], [*expected, *expected[4:]], strict=True):
        torch.testing.assert_close(ours, theirs)


def test_without_sync_each_process_has_its_own_statistics(results):
    expected = run(BatchNorm(TYPE).double(), *joint_batch())
    outputs = torch.cat([result[False][0] for result in results])
    assert (outputs - expected[0]).abs().max() > 1e-3


def test_sync_without_processes_is_plain():
    x, weight = joint_batch()
    for ours, theirs in zip(
        run(BatchNorm(TYPE, sync=True).double(), x, weight), run(BatchNorm(TYPE).double(), x, weight), strict=True
    ):
        assert torch.equal(ours, theirs)
