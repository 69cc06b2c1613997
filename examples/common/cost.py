"""What a layer costs: processor time of runs in turns, growth of a process's peak memory; and e3nn's same product.

Times are those of the processor, so that other programs count little. Memory is that of Linux, from /proc.
"""

from __future__ import annotations

import importlib
import math
import os
import subprocess
import sys
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from time import process_time
from typing import Any

from torch import Tensor

REPOSITORY = Path(__file__).parents[2]
PROCESS = Path("/proc/self")
Run = Callable[[], object]


def training_step(run: Callable[[Tensor], Tensor], x: Tensor, gradient: Tensor) -> None:
    """A forward and a backward pass; the gradient of the input is a new one each time."""
    x.grad = None
    run(x).backward(gradient)


def fastest(runs: dict[str, Run], rounds: int) -> dict[str, float]:
    """Milliseconds of processor time, the least of several runs after one to warm up.

    They run in turns: each finds the caches full of the others' numbers.
    """
    found = dict.fromkeys(runs, math.inf)
    for round_ in range(rounds + 1):
        for name, run in runs.items():
            start = process_time()
            run()
            if round_:
                found[name] = min(found[name], 1000 * (process_time() - start))
    return found


def memory_growth(make: Callable[[int], tuple[Tensor, Run]], samples: int) -> int:
    """Bytes by which this process's peak grows in one run of so many samples, after one of a single sample.

    make: number of samples -> the input, which counts too, and what is run. Ask for it in a process that has done
    nothing else, see `in_fresh_process`: what an earlier run has freed may be used again, and then does not count.
    """
    start = 0
    for count in (1, samples):
        x, run = make(count)
        (PROCESS / "clear_refs").write_text("5")  # the peak is the present size from here on
        start = _status("VmRSS") - x.nbytes
        run()
    return _status("VmHWM") - start


def memory_is_known() -> bool:
    """Whether the system tells a process its peak."""
    return (PROCESS / "clear_refs").exists()


def _status(key: str) -> int:
    """Bytes, as Linux has them."""
    lines = (PROCESS / "status").read_text().splitlines()
    return next(int(line.split()[1]) << 10 for line in lines if line.startswith(key))


def in_fresh_process(command: Sequence[str]) -> int:
    """The number that python prints, run with these arguments in the repository."""
    environment = {**os.environ, "MALLOC_MMAP_THRESHOLD_": "65536"}  # what is freed goes back to the system at once
    done = subprocess.run(
        [sys.executable, *command], cwd=REPOSITORY, env=environment, stdout=subprocess.PIPE, text=True, check=True
    )
    return int(done.stdout)


def without_e3nn() -> str | None:
    """Why e3nn cannot be used here; None where it can."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            importlib.import_module("e3nn.o3")
    except Exception as error:  # with a torch that it does not know it fails in many ways
        return f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else 'no reason given'}"
    return None


def e3nn_product(module: Any) -> Any:
    """e3nn's product of the paths of a compiled product, of two fields; channel by channel (`uuu`)."""
    from e3nn import o3

    first = o3.Irreps([(multiplicity, (l, 1)) for multiplicity, l, _ in module.in_type])
    paths = [(i, j, module.out_type[o][1]) for o, pairs in module.paths for i, j in pairs]
    out = o3.Irreps([(module.channels, (l, 1)) for *_, l in paths])
    instructions = [(i, j, p, "uuu", False) for p, (i, j, _) in enumerate(paths)]
    return o3.TensorProduct(first, first, out, instructions, internal_weights=False, shared_weights=False)
