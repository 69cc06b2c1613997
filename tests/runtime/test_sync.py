"""Batch norm and fragment norm over processes of torch.distributed: two compute what one does with the joint batch."""

import pytest
import torch
import torch.multiprocessing as mp

from runtime import BatchNorm
from runtime.spheres.normalization import FragmentNorm
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


def run_fragments(layer, batches):
    """Outputs of several batches, and the running size."""
    outputs = [layer(x) for x in batches]
    return torch.cat(outputs), layer.size, layer.batches


def fragment_batches(rank=None):
    """Two batches, or the share of a process; of the second one process has nothing."""
    x, _ = joint_batch()
    return [x, 2 * x] if rank is None else [[x[: SIZES[0]], 2 * x], [x[SIZES[0] :], x[:0]]][rank]


def process(rank, folder):
    torch.set_num_threads(1)
    join_group(f"file://{folder}/store", "gloo", rank, 2)
    own = slice(0, SIZES[0]) if rank == 0 else slice(SIZES[0], None)
    x, weight = joint_batch()
    results = {sync: run(BatchNorm(TYPE, sync=sync).double(), x[own], weight[own]) for sync in (True, False)}
    for sync in (True, False):
        results["fragments", sync] = run_fragments(FragmentNorm(TYPE, sync=sync).double(), fragment_batches(rank))
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


def test_fragment_norm_of_two_processes_is_that_of_the_joint_batch(results):
    y, size, batches = run_fragments(FragmentNorm(TYPE).double(), fragment_batches())
    first, second = (result["fragments", True] for result in results)
    torch.testing.assert_close(torch.cat([first[0][: SIZES[0]], second[0], first[0][SIZES[0] :]]), y)
    for found in (first, second):
        torch.testing.assert_close(found[1], size)
        assert found[2] == batches == 2
    alone = [result["fragments", False] for result in results]
    assert (alone[0][1] - size).abs().max() > 1e-3 and alone[1][2] == 1  # an empty batch does not count


def test_fragment_norm_with_sync_but_no_processes_is_plain():
    for ours, theirs in zip(
        run_fragments(FragmentNorm(TYPE, sync=True).double(), fragment_batches()),
        run_fragments(FragmentNorm(TYPE).double(), fragment_batches()),
        strict=True,
    ):
        assert torch.equal(ours, theirs)
