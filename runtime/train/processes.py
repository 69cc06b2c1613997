"""The processes that train together: which one this is, on which device, and what they tell each other.

`torchrun` describes the group in the environment: WORLD_SIZE processes, this one of RANK, who meet at MASTER_ADDR and
MASTER_PORT. Without it this process trains alone.
"""

import hashlib
import itertools
import os
import random
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor

from .config import TrainingError

if TYPE_CHECKING:
    from torch._C._distributed_c10d import Store

_Item = TypeVar("_Item")
WORKER_ENDED = "DataLoader worker"  # torch raises it in the main thread wherever that is, in a wait for others too


@dataclass(frozen=True)
class Processes:
    """The processes that train together: this one's rank among `size`, and its device."""

    rank: int
    size: int
    device: torch.device

    @property
    def is_first(self) -> bool:
        """Whether this is the process that writes files and messages."""
        return self.rank == 0

    @property
    def widest(self) -> torch.dtype:
        """The floating point type with the most digits that the device has."""
        return torch.float32 if self.device.type == "mps" else torch.float64

    def sum_(self, tensors: Sequence[Tensor]) -> None:
        """Add up each tensor over the processes, in place; one message for all.

        Raises TrainingError if another process has ended; so do the methods below.
        """
        if self.size > 1:
            joined = torch.cat([tensor.flatten() for tensor in tensors])  # (numbers of all tensors)
            with self._others():
                dist.all_reduce(joined)
            for tensor, total in zip(tensors, torch.split(joined, [t.numel() for t in tensors]), strict=True):
                tensor.copy_(total.view_as(tensor))

    def copy_from_first_(self, tensors: Iterable[Tensor]) -> None:
        """Give every process the values of the process of rank 0, in place."""
        if self.size > 1:
            with self._others():
                for tensor in tensors:
                    dist.broadcast(tensor, 0)

    def wait_for_first(self) -> None:
        """Return once the process of rank 0 is here too."""
        token = torch.zeros(1, device=self.device)
        self.copy_from_first_([token])
        token.item()  # waits for the message

    def gathered(self, values: list[_Item]) -> list[_Item]:
        """The values of all processes, in one list; for small objects."""
        if self.size == 1:
            return values
        of_all: list[list[_Item]] = [[] for _ in range(self.size)]
        with self._others():
            dist.all_gather_object(of_all, values)
        return [value for own in of_all for value in own]

    @contextmanager
    def _others(self) -> Iterator[None]:
        try:
            yield
        except RuntimeError as error:
            if str(error).startswith(WORKER_ENDED):
                raise
            raise TrainingError(
                f"process {self.rank} of {self.size} lost another one: {_first_line(error)}. "
                f"The message of the process that ended first says why."
            ) from error


@contextmanager
def joined_processes(device: str) -> Iterator[Processes]:
    """The processes torchrun started (or the group that is already there), else this one alone.

    Raises TrainingError if the device does not exist or the environment does not describe a group.
    """
    launched = _launched() and not dist.is_initialized()
    chosen = _device(device)
    store = _meeting_point() if launched else None
    agreed = False
    try:
        if store is not None:
            join_group(store, "nccl" if chosen.type == "cuda" else "gloo")
        grouped = dist.is_available() and dist.is_initialized()
        rank, size = (dist.get_rank(), dist.get_world_size()) if grouped else (0, 1)
        yield Processes(rank, size, chosen)
        agreed = True
    except SystemExit:
        agreed = True
        raise
    finally:
        # nccl waits for processes that do not know of an error
        if launched and dist.is_initialized() and (agreed or chosen.type != "cuda"):
            leave_group()


def join_group(store: "Store | str", backend: str, rank: int | None = None, size: int | None = None) -> None:
    """Join the process group of `store`, or of a file's URL, so that `leave_group` ends all of it.

    torch.distributed.nn has default arguments `group=group.WORLD`. Whoever imports it while a group exists, as
    torch.optim and DistributedDataParallel do, keeps that group alive until the interpreter is torn down, and with it
    gloo's threads; the process may then abort at its exit ("terminate called without an active exception"), after all
    its work is done. Imported before, the defaults are None.
    """
    import torch.distributed.nn  # noqa: F401

    rank, size = int(os.environ["RANK"]) if rank is None else rank, size or int(os.environ["WORLD_SIZE"])
    where: dict[str, Any] = {"init_method": store} if isinstance(store, str) else {"store": store}
    dist.init_process_group(backend, rank=rank, world_size=size, **where)


def leave_group() -> None:
    """Destroy this process's group, once the threads of gloo have let go of what they last sent.

    Before torch 2.8 the group's end waits for those threads and keeps Python's lock meanwhile. One that has yet to
    free a tensor waits for the lock: neither would ever go on (pytorch/pytorch#154976). Asleep, this thread leaves
    the lock to them.
    """
    if torch.__version__ < "2.8" and dist.get_backend() == "gloo":
        time.sleep(0.5)
    dist.destroy_process_group()


_TRAININGS = itertools.count()  # of this process; all processes train the same number of times


def _meeting_point() -> "Store":
    """Where the processes of this training meet.

    Its names are its own: among those of an earlier training's group the others' old addresses would be found.
    """
    from torch.distributed.rendezvous import rendezvous

    store, _, _ = next(rendezvous("env://"))
    return dist.PrefixStore(f"training {next(_TRAININGS)}", store)  # type: ignore[attr-defined]


def _launched() -> bool:
    """Whether the environment describes several processes. Raises TrainingError if it contradicts itself."""
    size = _whole("WORLD_SIZE", 1)
    rank = _whole("RANK", 0)
    _whole("LOCAL_RANK", 0)
    if size < 1 or not 0 <= rank < size:
        raise TrainingError(
            f"RANK = {rank} is not below WORLD_SIZE = {size}. Start with torchrun, which sets both, "
            f"or unset both to train in one process."
        )
    missing = [name for name in ("RANK", "MASTER_ADDR", "MASTER_PORT") if name not in os.environ]
    if size > 1 and missing and not dist.is_initialized():
        raise TrainingError(
            f"WORLD_SIZE = {size} asks for {size} processes, but {', '.join(missing)} "
            f"{'is' if len(missing) == 1 else 'are'} not set. Start with torchrun, which sets all of them, "
            f"or unset WORLD_SIZE to train in one process."
        )
    if size > 1:
        _whole("MASTER_PORT", 0)
    return size > 1


def _whole(variable: str, default: int) -> int:
    text = os.environ.get(variable, str(default))
    if not (text.isascii() and text.isdigit() and len(text) < 10):
        raise TrainingError(
            f"the environment has {variable} = {text!r}, not a whole number. Start with torchrun, which sets it, "
            f"or unset it to train in one process."
        )
    return int(text)


def _device(name: str) -> torch.device:
    """The device a configuration names; the accelerator of this process's local rank where no index is given."""
    try:
        if name == "auto":
            accelerator = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
            device = accelerator or torch.device("cpu")
        else:
            device = torch.device(name)
        if device.type == "cuda" and device.index is None:
            device = torch.device("cuda", _whole("LOCAL_RANK", 0))
        torch.empty(0, device=device)
        if device.type == "cuda":
            torch.cuda.set_device(device)
    except (RuntimeError, AssertionError, NotImplementedError, ImportError) as error:
        raise TrainingError(f'device = "{name}" is not there: {_first_line(error)}. Write device = "auto".') from error
    if device.type == "meta":
        raise TrainingError('device = "meta" holds no numbers, so nothing can be learned. Write device = "auto".')
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


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")
