"""Which sample is drawn when, by which process, with which random numbers.

    order(epoch)      a permutation of the samples, from a generator seeded with (seed, epoch)
    step s            order[s B : (s + 1) B], B = batch_size; the last step of an epoch may be shorter, or be dropped
    part (a, r)       step[a R + r :: A R], for pass a of A (accumulation) and process r of R
    draw              dataset[index], with every generator seeded with (seed, epoch, index)

All of it is a function of (seed, epoch, step, process) and of nothing that went before. Hence no generator's state has
to be saved: a resumed run, another number of workers, of passes or of processes draws the same samples. Every sample is
drawn once per epoch, unless drop_last leaves out those of a shorter last step; nothing is counted twice. Only where a
short last step has fewer samples than parts, a part without any repeats the step's first sample with weight 0, so that
all processes take part in the step (a synchronised batch norm sees the repeated sample in its statistics).

Data sets draw random numbers from the global generators of torch, numpy or python.
"""

from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
from torch.utils.data import Dataset

from .config import TrainConfig, TrainingError
from .processes import Processes, seed_generators
from .samples import Key, length
from .workers import Loader


class Part(NamedTuple):
    """What one process takes in one pass of a step."""

    inputs: Any  # a tensor (batch, ...), or several as the data set gave them
    label: Any  # (batch, ...), or several
    share: float  # of the step's samples; the shares of a step sum to 1
    indices: list[int]  # of the samples in the data set


class TrainBatches:
    """The training set, cut into epochs, steps and parts; this process's parts only. `with` its loader.

    Raises TrainingError if the set is empty or its first sample is malformed.
    """

    def __init__(self, dataset: "Dataset[Any]", config: TrainConfig, processes: Processes) -> None:
        self.samples = length(dataset, "training")
        size = config.batch_size
        self.steps = self.samples // size if config.drop_last else -(-self.samples // size)  # per epoch
        self._config, self._processes = config, processes
        if not self.steps:
            raise TrainingError(
                f"drop_last leaves nothing of {self.samples} samples: batch_size = {size}. Lower batch_size."
            )
        if size < config.accumulate * processes.size:
            raise TrainingError(
                f"batch_size = {size} samples cannot feed {processes.size} processes with "
                f"accumulate = {config.accumulate}. Raise it to {config.accumulate * processes.size} or more."
            )
        self.drawn = min(self.samples, self.steps * size)  # samples of an epoch
        self._keys: list[list[Key]] = []  # refilled for each epoch: workers outlive an epoch, and so its loader
        self.loader = Loader(dataset, self._keys, config, processes)

    def epoch(self, epoch: int, first_step: int) -> Iterator[list[Part]]:
        """The steps of an epoch from `first_step` on, each as its parts."""
        steps = [self._parts(step) for step in self._steps(epoch)[first_step:]]
        self._keys[:] = [[(epoch, index) for index in indices] for parts in steps for indices, _ in parts]
        drawn = iter(self.loader)
        for parts in steps:
            batches = [next(drawn) for _ in parts]
            yield [
                Part(inputs, label, share, indices)
                for (inputs, label), (indices, share) in zip(batches, parts, strict=True)
            ]

    def samples_in(self, step: int) -> int:
        """Samples of a step, over all processes: batch_size, or what is left for the last."""
        return min(self._config.batch_size, self.samples - step * self._config.batch_size)

    def _steps(self, epoch: int) -> list[list[int]]:
        """Indices of the samples of each step, the same in every process."""
        seed_generators(self._config.seed, "order", epoch)
        order = torch.randperm(self.samples).tolist()[: self.drawn]
        return [order[at : at + self._config.batch_size] for at in range(0, self.drawn, self._config.batch_size)]

    def _parts(self, step: list[int]) -> list[tuple[list[int], float]]:
        """This process's parts of a step: the indices and their share of the step."""
        passes, ranks = self._config.accumulate, self._processes.size
        cuts = [step[a * ranks + self._processes.rank :: passes * ranks] for a in range(passes)]
        return [(cut, len(cut) / len(step)) if cut else (step[:1], 0.0) for cut in cuts]


class ValidationBatches:
    """The validation set, this process's share: each sample in exactly one process, equal draws in every epoch.

    `with` its loader. Raises TrainingError if the set is empty, malformed, or has fewer samples than there are
    processes.
    """

    def __init__(self, dataset: "Dataset[Any]", config: TrainConfig, processes: Processes) -> None:
        samples = length(dataset, "validation")
        if samples < processes.size:
            raise TrainingError(
                f"{samples} validation samples cannot be shared by {processes.size} processes: each needs one. "
                f"Add samples or start fewer processes."
            )
        mine = list(range(processes.rank, samples, processes.size))
        size = max(1, config.batch_size // (config.accumulate * processes.size))
        self._cuts = [mine[at : at + size] for at in range(0, len(mine), size)]
        keys: list[list[Key]] = [[("validation", index) for index in cut] for cut in self._cuts]
        self.loader = Loader(dataset, keys, config, processes)

    def __iter__(self) -> Iterator[Part]:
        for cut, (inputs, label) in zip(self._cuts, self.loader, strict=True):
            yield Part(inputs, label, 1.0, cut)
