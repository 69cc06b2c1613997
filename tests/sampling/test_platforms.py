"""Filters from eigenproblems are the same on every processor, to rounding, for any linear algebra."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys

import numpy as np
import pytest

TAPS = """
import json
from basisgen.volumes.sampling.grid import VoxelGrid
from basisgen.volumes.sampling.registry import parse_radial

for family, n in (("optimal", 3), ("optimal", 7), ("separable", 3), ("separable", 5)):
    groups = parse_radial({"family": family}).groups(VoxelGrid((n, n, n)), range(4))
    print(json.dumps([group.values.ravel().tolist() for group in groups]))
"""


def _taps(processor: str) -> list[list[np.ndarray]]:
    environment = os.environ | {"OPENBLAS_CORETYPE": processor}
    run = subprocess.run([sys.executable, "-c", TAPS], env=environment, capture_output=True, text=True, check=True)
    return [[np.array(group) for group in json.loads(line)] for line in run.stdout.splitlines()]


@pytest.mark.slow
@pytest.mark.skipif(platform.machine() not in ("x86_64", "AMD64"), reason="OpenBLAS has these kernels on x86 alone")
def test_the_kernels_of_another_processor_give_the_same_taps() -> None:
    for one, other in zip(_taps("Nehalem"), _taps("Haswell"), strict=True):
        for a, b in zip(one, other, strict=True):
            np.testing.assert_allclose(a, b, rtol=0, atol=1e-11)
