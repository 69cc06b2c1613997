"""What exactness costs as the degree grows: solving, proving and re-checking the pair (l, l), in fresh processes.

    python benchmarks/degrees.py [--degrees 4 6 8 12 16 20] [--out DIR]

Prints the seconds of CPU time, and between two degrees the exponent p in l^p; writes degrees.json, to
benchmarks/results unless told otherwise.

What to expect, in operations on integers of O(l log l) bits, which cost about the same while they are this short:
    solve    2l+1 elements J = 0..2l with about 11 l^3 coefficients together, each a sum of at most 2l+1 products: l^4
    prove    a harmonic of degree J has at most J^2/4 terms; its identity under each of three rotations meets five of
             the 2J+1 others: 8 J^3, 32 l^4 for all J <= 2l. That they are a basis: elimination, modulo a prime, among
             2J+1 sparse rows of J^2/4 terms, at most 2 J^4, so 13 l^5 in the end. The coefficients' identities: l^3
    verify   the law, on polynomials: (2l+1)^2 entries of J^2/2 terms, times five, three rotations, all J: 80 l^5.
             Orthogonality of the harmonics: (2J+1)^2 products of J^2/4 terms: 6 l^5
"""

from __future__ import annotations

import argparse
import json
import math
import os
import platform
import subprocess
import sys
from pathlib import Path

RESULTS = Path(__file__).parent / "results"

CODE = """
import json, time
from types import SimpleNamespace
from basisgen.emission.certificate import certificate, to_json
from basisgen.volumes.kernels.proof import prove
from basisgen.volumes.kernels.solver import solve
from basisgen.so3.field_type import Irrep
from basisgen.so3.harmonics import harmonics
from basisgen.verify import checker
from basisgen.verify.statement import read_certificate

def timed(function):
    start = time.process_time()
    result = function()
    return result, time.process_time() - start

pair = Irrep({l}), Irrep({l})
_, harmonics_s = timed(lambda: [harmonics(J) for J in range(2 * {l} + 1)])
basis, solve_s = timed(lambda: solve(*pair))
proven, prove_s = timed(lambda: prove(basis))
couplings = {{of.coupling.degrees: of for of in proven.couplings}}
text = to_json(certificate(SimpleNamespace(proven={{pair: proven}}, couplings=couplings, layers=())))
statement = read_certificate(text.encode())
steps = (checker.check_harmonics, checker.check_law, checker.check_complete, checker.check_orthonormal)
complaints, check_s = timed(lambda: [c for step in steps for c in step(statement)])
assert not complaints, complaints
count = sum(len(coupling.coefficients) for coupling in basis.couplings)
print(json.dumps(dict(coefficients=count, certificate_kb=len(text) // 1000, harmonics_s=harmonics_s, solve_s=solve_s,
                      prove_s=prove_s, verify_s=check_s)))
"""
STEPS = ("harmonics_s", "solve_s", "prove_s", "verify_s")


def measure(l: int) -> dict[str, float]:
    """The figures of one degree, from a fresh process with one thread."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-c", CODE.format(l=l)], capture_output=True, text=True, check=True, env=environment
    )
    return {"l": l, **json.loads(done.stdout)}


def main() -> None:
    """Measures, prints and writes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--degrees", type=int, nargs="+", default=[4, 6, 8, 12, 16, 20])
    parser.add_argument("--out", type=Path, default=RESULTS, help="directory of the results")
    options = parser.parse_args()
    rows: list[dict[str, float]] = []
    print(f"{'l':>3} {'coefficients':>13} {'kB':>6} " + " ".join(f"{step:>19}" for step in STEPS))
    for l in options.degrees:
        rows.append(measure(l))
        cells = [f"{rows[-1][step]:9.2f} {_exponent(rows, step):>9}" for step in STEPS]
        print(f"{l:3} {rows[-1]['coefficients']:13} {rows[-1]['certificate_kb']:6} " + " ".join(cells), flush=True)
    options.out.mkdir(parents=True, exist_ok=True)
    facts = {"python": platform.python_version(), "pairs": rows}
    (options.out / "degrees.json").write_text(json.dumps(facts, indent=1) + "\n")


def _exponent(rows: list[dict[str, float]], step: str) -> str:
    if len(rows) < 2:
        return ""
    before, now = rows[-2], rows[-1]
    return f"l^{math.log(now[step] / before[step]) / math.log(now['l'] / before['l']):.1f}"


if __name__ == "__main__":
    main()
