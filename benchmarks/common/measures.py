"""What benchmarks/gpu.py asks of a module on a device: its errors in every mode, its time, its memory, its waits."""

from __future__ import annotations

import copy
import functools
import statistics
import time
import traceback
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from common.contestants import Row
from torch import Tensor, nn

LIMITS = {"float64": 1e-10, "float32": 3e-5, "tf32": 3e-3, "bfloat16": 3e-2}  # of the errors, by precision


@dataclass(frozen=True)
class Where:
    """A device, whether all is to be tiny, and the moment to stop."""

    device: torch.device
    tiny: bool
    stop: float

    @property
    def on_gpu(self) -> bool:
        """Whether there is anything to measure."""
        return self.device.type == "cuda"

    def has_time(self, seconds: float = 0.0) -> bool:
        """Whether so many seconds are left."""
        return time.monotonic() + seconds < self.stop

    def draw(self, *size: int) -> Tensor:
        """Normal numbers."""
        return torch.randn(*size, device=self.device)

    def finish(self) -> None:
        """Waits until all work is done."""
        if self.on_gpu:
            torch.cuda.synchronize()


# One module in one mode, against float64 on the CPU.


def _as_it_is(module: nn.Module, x: Tensor) -> list[Tensor]:
    """Output, and the gradients of input and parameters for an output gradient that all modes share."""
    x = x.detach().requires_grad_()
    output = module(x)
    gradient = _gradient(output.shape, output.device, output.dtype)
    return [output.detach(), *torch.autograd.grad(output, [x, *module.parameters()], gradient)]


@functools.lru_cache(maxsize=4)  # a CUDA graph that is captured can copy nothing from the host
def _gradient(shape: torch.Size, device: torch.device, dtype: torch.dtype) -> Tensor:
    """The same numbers on every device: a GPU's cosines differ from a CPU's."""
    return (1 + torch.cos(torch.arange(shape.numel(), dtype=torch.float64))).view(shape).to(device, dtype)


def _autocast(module: nn.Module, x: Tensor) -> list[Tensor]:
    with torch.autocast(x.device.type, torch.bfloat16):
        return _as_it_is(module, x)


def _channels_last(module: nn.Module, x: Tensor) -> list[Tensor]:
    return _as_it_is(module, x.to(memory_format=torch.channels_last_3d) if x.ndim == 5 else x)


def _compiled(module: nn.Module, x: Tensor) -> list[Tensor]:
    torch.compiler.reset()
    return _as_it_is(torch.compile(module, fullgraph=True, backend="inductor" if x.is_cuda else "aot_eager"), x)


def _graph(module: nn.Module, x: Tensor) -> list[Tensor]:
    """Captured on other numbers, replayed on these."""
    if not x.is_cuda:
        return _as_it_is(module, x)
    static = torch.zeros_like(x)
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(3):
            _as_it_is(module, static)
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        results = _as_it_is(module, static)
    static.copy_(x)
    graph.replay()
    torch.cuda.synchronize()
    return results


MODES: dict[str, tuple[torch.dtype, str, Callable[[nn.Module, Tensor], list[Tensor]]]] = {
    "float64": (torch.float64, "float64", _as_it_is),
    "float32": (torch.float32, "float32", _as_it_is),
    "tf32": (torch.float32, "tf32", _as_it_is),
    "bfloat16": (torch.bfloat16, "bfloat16", _as_it_is),
    "autocast": (torch.float32, "bfloat16", _autocast),
    "channels last": (torch.float32, "float32", _channels_last),
    "compiled": (torch.float32, "float32", _compiled),
    "CUDA graph": (torch.float32, "float32", _graph),
}


def compared(exact: nn.Module, x: Tensor, mode: str, where: Where) -> Row:
    """The largest error of output and gradients in a mode, whether it is within its limit, or why there is none."""
    return attempt(partial(_compared, exact, x, mode, where)) if where.has_time() else {"failed": "no time left"}


def _compared(exact: nn.Module, x: Tensor, mode: str, where: Where) -> Row:
    dtype, precision, run = MODES[mode]
    reference = _as_it_is(_copy(exact, torch.float64, torch.device("cpu")), x)
    module = _copy(exact, dtype, where.device)
    with tf32(precision == "tf32"):
        found = run(module, x.to(where.device, dtype))
    error = max(relative_error(a, b) for a, b in zip(found, reference, strict=True))
    return {"error": error, "limit": LIMITS[precision], "right": error < LIMITS[precision]}


def relative_error(found: Tensor, exact: Tensor) -> float:
    """|found - exact| / |exact|; infinite where a number is not finite."""
    distance = float((found.cpu().double() - exact).norm() / exact.norm().clamp_min(1e-30))
    return distance if distance == distance else float("inf")


# Time, memory, waits.


def milliseconds(run: Callable[[], object], where: Where) -> float:
    """The median of some runs after two to warm up; more of them the shorter they are."""
    for _ in range(1 if where.tiny else 2):
        run()
    first = _once(run, where)
    repeats = 1 if where.tiny else max(1, min(30, int(300 / max(first, 1e-3))))
    return statistics.median(_once(run, where) for _ in range(repeats))


def _once(run: Callable[[], object], where: Where) -> float:
    if not where.on_gpu:
        start = time.perf_counter()
        run()
        return 1e3 * (time.perf_counter() - start)
    first, last = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    first.record()
    run()
    last.record()
    torch.cuda.synchronize()
    return first.elapsed_time(last)


def timed(module: nn.Module, x: Tensor, where: Where, name: str, precision: str = "float32") -> Row:
    """Milliseconds of forward and step, and the MiB that a step adds at its peak."""
    x = x.detach().requires_grad_()
    cast = torch.autocast(where.device.type, torch.bfloat16) if precision == "bfloat16" else nullcontext()

    def forward() -> Tensor:
        with torch.no_grad(), cast:
            return module(x)

    def step() -> None:
        x.grad = None
        module.zero_grad()
        with cast:
            output = module(x)
        output.backward(gradient)

    with nullcontext() if precision == "default" else tf32(precision == "tf32"):
        gradient = torch.ones_like(forward())
        row = {f"{name} forward ms": milliseconds(forward, where), f"{name} step ms": milliseconds(step, where)}
        return row | {f"{name} MiB": _peak(step, where)}


def _peak(run: Callable[[], object], where: Where) -> float:
    if not where.on_gpu:
        return 0.0
    where.finish()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    run()
    where.finish()
    return (torch.cuda.max_memory_allocated() - before) / 2**20


def waits(module: nn.Module, x: Tensor, where: Where) -> Row:
    """How often a step of training waits, and where first."""
    optimizer = torch.optim.Adam([*module.parameters()] or [x.requires_grad_()], 1e-3)

    def step() -> None:
        optimizer.zero_grad()
        module(x).square().mean().backward()
        optimizer.step()

    for _ in range(3):
        step()
    where.finish()
    if not where.on_gpu:
        return {"waits": 0}
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        with watched("warn"):
            step()
    # turning the watch on warns too, the first time
    found = [warning for warning in caught if "called a synchronizing" in str(warning.message)]
    if not found:
        return {"waits": 0, "first": ""}
    told = f"{Path(found[0].filename).name}:{found[0].lineno}"
    return {"waits": len(found), "first": _first_wait(step) or f"{told}, once"}


def _first_wait(step: Callable[[], None]) -> str:
    try:
        with watched("error"):
            step()
    except RuntimeError as error:
        frames = traceback.extract_tb(error.__traceback__)
        return " < ".join(f"{Path(frame.filename).name}:{frame.lineno}" for frame in reversed(frames[-4:]))
    return ""


@contextmanager
def watched(mode: str) -> Iterator[None]:
    """Waits of the host are told, or refused."""
    torch.cuda.set_sync_debug_mode(mode)
    try:
        yield
    finally:
        torch.cuda.set_sync_debug_mode("default")


@contextmanager
def tf32(allowed: bool) -> Iterator[None]:
    """Matrix products and convolutions of float32 numbers, rounded to TF32 or not."""
    before = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = allowed
    try:
        yield
    finally:
        torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = before


def _copy(module: nn.Module, dtype: torch.dtype, device: torch.device) -> nn.Module:
    return copy.deepcopy(module).to(device, dtype)


def attempt(make: Callable[[], Row]) -> Row:
    """A row, or in one line why there is none."""
    try:
        return make()
    except Exception as error:  # after any error the next row is still wanted
        with suppress(Exception):
            torch.cuda.empty_cache()
        line = next(iter(str(error).strip().splitlines()), "")
        return {"failed": f"{type(error).__name__}: {line[:200]}"}
