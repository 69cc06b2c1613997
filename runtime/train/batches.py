"""Which sample is drawn when, by which process, with which random numbers.

    order(epoch)      a permutation of the samples, from a generator seeded with (seed, epoch)
    step s            order[s B : (s + 1) B], B = batch_size; the last step of an epoch may be shorter
    part (a, r)       step[a R + r :: A R], for pass a of A (accumulation) and process r of R
    draw              dataset[index], with every generator seeded with (seed, epoch, index)

All of it is a function of (seed, epoch, step, process) and of nothing that went before. Hence no generator's state has
to be saved: a resumed run, another number of workers, of passes or of processes draws the same samples. Every sample is
drawn once per epoch: nothing is dropped, and nothing is counted twice. Only where a short last step has fewer samples
than parts, a part without any repeats the step's first sample with weight 0, so that all processes take part in the
step (a synchronised batch norm sees the repeated sample in its statistics).

Data sets draw random numbers from the global generators of torch, numpy or python.
"""

import hashlib
import itertools
import os
import random
import signal
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from runtime.train.config import TrainConfig, TrainingError


@dataclass(frozen=True)
class Processes:
    """The processes that train together: this one's rank among `size`, and its device."""

    rank: int
    size: int
    device: torch.device

    def sum_(self, tensors: Sequence[Tensor]) -> None:
        """Add up each tensor over the processes, in place; one message for all."""
        if self.size > 1:
            joined = torch.cat([tensor.flatten() for tensor in tensors])
            dist.all_reduce(joined)
            for tensor, total in zip(tensors, torch.split(joined, [t.numel() for t in tensors]), strict=True):
                tensor.copy_(total.view_as(tensor))

    def copy_from_first_(self, tensors: Iterable[Tensor]) -> None:
        """Give every process the values of the process of rank 0, in place."""
        if self.size > 1:
            for tensor in tensors:
                dist.broadcast(tensor, 0)


_TRAININGS = itertools.count()  # of this process; all processes train the same number of times


@contextmanager
def joined_processes(device: str) -> Iterator[Processes]:
    """The processes torchrun started (or the group that is already there), else this one alone.

    Raises TrainingError if the device does not exist.
    """
    chosen = _device(device)
    launched = int(os.environ.get("WORLD_SIZE", "1")) > 1 and not dist.is_initialized()
    if launched:
        # imported once the group exists, as Adam does, this module's default arguments keep the group alive for ever,
        # and gloo's threads with it: the process may then abort at its exit, after all work is done
        import torch.distributed.nn  # noqa: F401
        from torch.distributed.rendezvous import rendezvous

        # names of its own: in those of an earlier training's group the others' old addresses would be found
        store, rank, size = next(rendezvous("env://"))
        named = dist.PrefixStore(f"training {next(_TRAININGS)}", store)  # type: ignore[attr-defined]
        dist.init_process_group("nccl" if chosen.type == "cuda" else "gloo", store=named, rank=rank, world_size=size)
    grouped = dist.is_available() and dist.is_initialized()
    rank, size = (dist.get_rank(), dist.get_world_size()) if grouped else (0, 1)
    agreed = False
    try:
        yield Processes(rank, size, chosen)
        agreed = True
    except SystemExit:
        agreed = True
        raise
    finally:
        if launched and (agreed or chosen.type != "cuda"):  # nccl waits for processes that do not know of an error
            leave_group()


def leave_group() -> None:
    """Destroy this process's group, once the threads of gloo have let go of what they last sent.

    Before torch 2.8 the group's end waits for those threads and keeps Python's lock meanwhile. One that has yet to
    free a tensor waits for the lock: neither would ever go on (pytorch/pytorch#154976). Asleep, this thread leaves
    the lock to them.
    """
    if torch.__version__ < "2.8" and dist.get_backend() == "gloo":
        time.sleep(0.5)
    dist.destroy_process_group()


def _device(name: str) -> torch.device:
    """The device a configuration names; the accelerator of this process's local rank where no index is given."""
    try:
        if name == "auto":
            accelerator = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
            device = accelerator or torch.device("cpu")
        else:
            device = torch.device(name)
        if device.type == "cuda" and device.index is None:
            device = torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
        torch.empty(0, device=device)
        if device.type == "cuda":
            torch.cuda.set_device(device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).strip().splitlines()[0]
        raise TrainingError(f'device = "{name}" is not there: {reason}. Write device = "auto".') from error
    return device


def seed_generators(*key: int | str, device: torch.device | None = None) -> None:
    """Seed the global generators of python, numpy and torch from a key: equal keys, equal draws.

    Costs about 7 microseconds; `torch.manual_seed` would cost 80, because it seeds every kind of device.
    """
    seed = int.from_bytes(hashlib.blake2b(repr(key).encode(), digest_size=8).digest(), "little")
    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.default_generator.manual_seed(seed)
    if device is not None and device.type != "cpu":
        torch.get_device_module(device).manual_seed(seed)


Key = tuple[int | str, int]  # (epoch, or the name of the pass; index of the sample)


class Part(NamedTuple):
    """What one process takes in one pass of a step."""

    volume: Tensor  # (batch, channel, x, y, z)
    label: Tensor  # (batch, ...)
    share: float  # of the step's samples; the shares of a step sum to 1
    indices: list[int]  # of the samples in the data set


class TrainBatches:
    """The training set, cut into epochs, steps and parts; this process's parts only.

    Raises TrainingError if the set is empty or its first sample is malformed.
    """

    def __init__(self, dataset: "Dataset[Any]", config: TrainConfig, processes: Processes) -> None:
        self.samples = _length(dataset, "training")
        self.steps = -(-self.samples // config.batch_size)  # per epoch, rounded up
        self._config, self._processes = config, processes
        if config.batch_size < config.accumulate * processes.size:
            raise TrainingError(
                f"batch_size = {config.batch_size} samples cannot feed {processes.size} processes with "
                f"accumulate = {config.accumulate}. Raise it to {config.accumulate * processes.size} or more."
            )
        self._keys: list[list[Key]] = []  # refilled for each epoch: workers outlive an epoch, and so its loader
        self._loader = _loader(dataset, self._keys, config, processes)

    def epoch(self, epoch: int, first_step: int) -> Iterator[list[Part]]:
        """The steps of an epoch from `first_step` on, each as its parts."""
        steps = [self._parts(step) for step in self._steps(epoch)[first_step:]]
        self._keys[:] = [[(epoch, index) for index in indices] for parts in steps for indices, _ in parts]
        drawn = iter(self._loader)
        for parts in steps:
            batches = [next(drawn) for _ in parts]
            yield [
                Part(volume, label, share, indices)
                for (volume, label), (indices, share) in zip(batches, parts, strict=True)
            ]

    def samples_in(self, step: int) -> int:
        """Samples of a step, over all processes: batch_size, or what is left for the last."""
        return min(self._config.batch_size, self.samples - step * self._config.batch_size)

    def _steps(self, epoch: int) -> list[list[int]]:
        """Indices of the samples of each step, the same in every process."""
        seed_generators(self._config.seed, "order", epoch)
        order = torch.randperm(self.samples).tolist()
        return [order[at : at + self._config.batch_size] for at in range(0, self.samples, self._config.batch_size)]

    def _parts(self, step: list[int]) -> list[tuple[list[int], float]]:
        """This process's parts of a step: the indices and their share of the step."""
        passes, ranks = self._config.accumulate, self._processes.size
        cuts = [step[a * ranks + self._processes.rank :: passes * ranks] for a in range(passes)]
        return [(cut, len(cut) / len(step)) if cut else (step[:1], 0.0) for cut in cuts]


class ValidationBatches:
    """The validation set, this process's share: each sample in exactly one process, equal draws in every epoch.

    Raises TrainingError if the set is empty, has fewer samples than there are processes, or is malformed.
    """

    def __init__(self, dataset: "Dataset[Any]", config: TrainConfig, processes: Processes) -> None:
        samples = _length(dataset, "validation")
        if samples < processes.size:
            raise TrainingError(
                f"{samples} validation samples cannot be shared by {processes.size} processes: each needs one. "
                f"Add samples or start fewer processes."
            )
        mine = list(range(processes.rank, samples, processes.size))
        size = max(1, config.batch_size // (config.accumulate * processes.size))
        self._cuts = [mine[at : at + size] for at in range(0, len(mine), size)]
        keys: list[list[Key]] = [[("validation", index) for index in cut] for cut in self._cuts]
        self._loader = _loader(dataset, keys, config, processes)

    def __iter__(self) -> Iterator[Part]:
        for cut, (volume, label) in zip(self._cuts, self._loader, strict=True):
            yield Part(volume, label, 1.0, cut)


class _Draws(Dataset[tuple[int, Tensor, Tensor]]):
    """A data set indexed by (epoch, index), whose random draws are a function of that pair."""

    def __init__(self, dataset: "Dataset[Any]", seed: int) -> None:
        self._dataset, self._seed = dataset, seed

    def __getitem__(self, key: Key) -> tuple[int, Tensor, Tensor]:
        seed_generators(self._seed, "draw", *key)
        index = key[1]
        sample = self._dataset[index]
        if not isinstance(sample, tuple | list) or len(sample) != 2:
            kind = f"a {type(sample).__name__}"
            raise TrainingError(f"sample {index} is {kind}, not a pair. Return (volume, label) from the data set.")
        volume, label = _tensor(index, "volume", sample[0]), _tensor(index, "label", sample[1])
        if volume.ndim != 4 or not volume.is_floating_point():
            raise TrainingError(
                f"the volume of sample {index} is {volume.dtype} of shape {tuple(volume.shape)}, not floating point "
                f"(channel, x, y, z). A single channel needs its axis too: volume[None]."
            )
        return index, volume, label


def _tensor(index: int, what: str, value: object) -> Tensor:
    try:
        return torch.as_tensor(value)
    except (TypeError, ValueError, RuntimeError) as error:
        raise TrainingError(
            f"the {what} of sample {index} is a {type(value).__name__}, not numbers. "
            f"Return a tensor, an array or a number."
        ) from error


def _stack(samples: list[tuple[int, Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
    """Samples -> (volumes (batch, channel, x, y, z), labels (batch, ...))."""
    indices, volumes, labels = zip(*samples, strict=True)
    for what, tensors in (("volumes", volumes), ("labels", labels)):
        for index, tensor in zip(indices, tensors, strict=True):
            if tensor.shape != tensors[0].shape:
                raise TrainingError(
                    f"the {what} of samples {indices[0]} and {index}, of one batch, have shapes "
                    f"{tuple(tensors[0].shape)} and {tuple(tensor.shape)}. "
                    f"Bring them to one shape, or set batch_size = 1."
                )
    return torch.stack(volumes), torch.stack(labels)


def _loader(
    dataset: "Dataset[Any]", keys: list[list[Key]], config: TrainConfig, processes: Processes
) -> "DataLoader[Any]":
    draws = _Draws(dataset, config.seed)
    draws["check", 0]  # a malformed data set shall fail here, not in a worker
    return DataLoader(
        draws,
        batch_sampler=keys,
        collate_fn=_stack,
        num_workers=config.workers,
        persistent_workers=config.workers > 0,
        worker_init_fn=_ignore_signals,
        pin_memory=processes.device.type == "cuda",
    )


def _ignore_signals(_worker: int) -> None:
    """Ctrl-C and a scheduler's SIGTERM reach workers too; the training process alone decides what they mean."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)


def _length(dataset: "Dataset[Any]", role: str) -> int:
    try:
        samples = len(dataset)  # type: ignore[arg-type]
    except TypeError as error:
        raise TrainingError(
            f"the {role} set {type(dataset).__name__} has no len(). Use a map-style data set, "
            f"with __len__ and __getitem__."
        ) from error
    if samples == 0:
        raise TrainingError(
            f"the {role} set is empty: len({type(dataset).__name__}) = 0. "
            f"Check the path and the split it was made from."
        )
    return samples
