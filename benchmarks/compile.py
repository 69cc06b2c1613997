"""What compiling, importing and constructing cost, in fresh processes, beside those of other libraries.

    python benchmarks/compile.py [--runs 5] [--degrees 4 8] [--out DIR]

Prints medians and writes compile.json, to benchmarks/results unless told otherwise. Libraries that are not installed
are reported as missing.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

REPOSITORY = Path(__file__).parent.parent
SPEC = REPOSITORY / "examples" / "tetris" / "tetris.toml"
RESULTS = REPOSITORY / "benchmarks" / "results"
GOALS = {4: "goal 2 s", 8: "goal 20 s"}  # of solving and proving every pair up to a degree
TYPES = "32x0 + 16x1 + 8x2"

PROVE = """
import time
start = time.perf_counter()
from basisgen.volumes.kernels.proof import prove
from basisgen.volumes.kernels.solver import solve
from basisgen.so3.field_type import Irrep
for j in range({degree} + 1):
    for l in range({degree} + 1):
        prove(solve(Irrep(j), Irrep(l)))
print(time.perf_counter() - start)
"""
IMPORT_OURS = """
import time, torch, sys
sys.path.insert(0, {packages!r})
start = time.perf_counter()
import generated.tetris
print(time.perf_counter() - start)
"""
CONSTRUCT_OURS = """
import time, torch, sys
sys.path.insert(0, {packages!r})
from layer import Conv
start = time.perf_counter()
Conv()
first = time.perf_counter() - start
times = []
for _ in range(20):
    start = time.perf_counter()
    Conv()
    times.append(time.perf_counter() - start)
print({which})
"""
E3NN_IMPORT = """
import time, torch
start = time.perf_counter()
from e3nn.nn.models.v2104.voxel_convolution import Convolution
print(time.perf_counter() - start)
"""
E3NN_CONSTRUCT = """
import time, torch
from e3nn import o3
from e3nn.nn.models.v2104.voxel_convolution import Convolution
types = o3.Irreps("32x0e + 16x1o + 8x2e")
start = time.perf_counter()
Convolution(types, types, o3.Irreps.spherical_harmonics(2), 5.0, 3, (1.0, 1.0, 1.0))
print(time.perf_counter() - start)
"""
ESCNN_IMPORT = """
import time, torch
start = time.perf_counter()
from escnn import gspaces, nn
print(time.perf_counter() - start)
"""
ESCNN_CONSTRUCT = """
import time, torch
from escnn import gspaces, nn
space = gspaces.rot3dOnR3()
group = space.fibergroup
types = nn.FieldType(space, 32 * [group.irrep(0)] + 16 * [group.irrep(1)] + 8 * [group.irrep(2)])
start = time.perf_counter()
nn.R3Conv(types, types, kernel_size=5)
first = time.perf_counter() - start
start = time.perf_counter()
nn.R3Conv(types, types, kernel_size=5)
second = time.perf_counter() - start
print({which})
"""


def main() -> None:
    """Measures, prints and writes."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--degrees", type=int, nargs="+", default=[4, 8], help="solve and prove up to these")
    parser.add_argument("--out", type=Path, default=RESULTS, help="directory of the results")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as packages:
        rows = [(name, goal, measure()) for name, goal, measure in _measurements(packages, options)]
    width = max(len(name) for name, _, _ in rows)
    for name, goal, seconds in rows:
        shown = "not installed" if seconds is None else f"{seconds:9.3f} s"
        print(f"{name:<{width}}  {shown:>14}  {goal}")
    facts = {"python": platform.python_version(), "cpus": os.cpu_count(), "runs": options.runs}
    results = [{"what": name, "median_s": seconds, "goal": goal} for name, goal, seconds in rows]
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / "compile.json").write_text(json.dumps({**facts, "results": results}, indent=1) + "\n")


def _measurements(packages: str, options: argparse.Namespace) -> list:
    """(what, goal, function that gives the median in seconds)."""
    runs = options.runs
    cli = [sys.executable, "-m", "basisgen.cli"]
    layer = [*cli, "conv", TYPES, TYPES, "--kernel-size", "5", "--name", "layer", "--out", packages]
    subprocess.run(layer, check=True, capture_output=True)
    ours = {"packages": packages}

    def inside(code: str, **values: object):
        return lambda: _median_printed(code.format(**values) if values else code, runs)

    def cold() -> float:
        return statistics.median(_compile_seconds(cli, fresh=True) for _ in range(runs))

    def unchanged() -> float:
        return statistics.median(_compile_seconds(cli, fresh=False) for _ in range(runs))

    return [
        *(
            (f"solve and prove every pair, j, l <= {degree}", GOALS.get(degree, ""), inside(PROVE, degree=degree))
            for degree in options.degrees
        ),
        ("basisgen compile tetris.toml, cold (whole process)", "goal 4 s", cold),
        ("basisgen compile tetris.toml, unchanged (whole process)", "goal 1 s", unchanged),
        ("import generated.tetris, beyond torch", "goal 0.030 s", inside(IMPORT_OURS, packages=str(REPOSITORY))),
        (f"construct {TYPES} -> same, k = 5, first", "goal 0.020 s", inside(CONSTRUCT_OURS, which="first", **ours)),
        (
            f"construct {TYPES} -> same, k = 5, after",
            "",
            inside(CONSTRUCT_OURS, which="sorted(times)[len(times) // 2]", **ours),
        ),
        ("import e3nn voxel convolution, beyond torch", "peer", inside(E3NN_IMPORT)),
        ("construct e3nn voxel convolution of the same type", "peer", inside(E3NN_CONSTRUCT)),
        ("import escnn, beyond torch", "peer", inside(ESCNN_IMPORT)),
        ("construct escnn R3Conv of the same type, first", "peer", inside(ESCNN_CONSTRUCT, which="first")),
        ("construct escnn R3Conv of the same type, after", "peer", inside(ESCNN_CONSTRUCT, which="second")),
    ]


def _median_printed(code: str, runs: int) -> float | None:
    """The median of the seconds a fresh process prints; None where a peer is missing."""
    seconds = []
    for _ in range(runs):
        command = [sys.executable, "-W", "ignore", "-c", code]
        result = subprocess.run(command, capture_output=True, text=True, check=False)
        if "ModuleNotFoundError" in result.stderr:
            return None
        if result.returncode:
            raise RuntimeError(result.stderr)
        seconds.append(float(result.stdout.split()[-1]))
    return statistics.median(seconds)


def _compile_seconds(cli: list[str], *, fresh: bool) -> float:
    """Seconds of one whole process that compiles the Tetris package into an empty or an up-to-date directory."""
    with tempfile.TemporaryDirectory() as out:
        command = [*cli, "compile", str(SPEC), "--out", out]
        if not fresh:
            subprocess.run(command, check=True, capture_output=True)
        start = time.perf_counter()
        subprocess.run(command, check=True, capture_output=True)
        return time.perf_counter() - start


if __name__ == "__main__":
    main()
