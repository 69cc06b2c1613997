"""The growth of the peak memory in one training step of one layer, in the process this module is run in.

python -m examples.sphere_cost.memory DIRECTORY PACKAGE LAYER SAMPLES        prints bytes
"""

from __future__ import annotations

import importlib
import sys
import warnings
from pathlib import Path
from types import ModuleType

import torch
from torch import Tensor

from examples.common.cost import Run, in_fresh_process, memory_growth, training_step
from examples.sphere_cost.layers import build


def peak(package: ModuleType, way: str, samples: int) -> int:
    """Bytes, measured in a fresh process, where the package is imported from its directory."""
    directory = Path(str(package.__file__)).parent.parent
    return in_fresh_process(["-m", __name__, str(directory), package.__name__, way, str(samples)])


def main(directory: str, name: str, way: str, samples: str) -> None:
    """Prints the bytes."""
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    sys.path.insert(0, directory)
    package = importlib.import_module(name)
    layer, channels = build(package, way), package.Product().in_channels

    def make(count: int) -> tuple[Tensor, Run]:
        x = torch.randn(count, channels, requires_grad=True)
        return x, lambda: training_step(layer, x, torch.randn(count, channels))

    print(memory_growth(make, int(samples)))


if __name__ == "__main__":
    main(*sys.argv[1:])
