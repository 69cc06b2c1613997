"""Packages made to keep a verifier busy: every size is bounded before any work is done, and work is linear in sizes."""

from __future__ import annotations

import json
import resource
import subprocess
import sys
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest

from basisgen.pipeline import compile_package
from basisgen.spec import parse_package
from basisgen.verify.canonical import to_json
from basisgen.verify.files import MAX_BYTES
from basisgen.verify.manifest import MAX_PAIRS, Layer, ManifestError, Term, read_manifest
from basisgen.verify.statement import CertificateError, Irrep, read_certificate
from basisgen.verify.verdict import Verdict
from basisgen.verify.volumes.module import affordable
from tests.verify.conftest import TINY, Files, failed, redigest, with_certificate, write

Verify = Callable[..., Verdict]
REPOSITORY = Path(__file__).parent.parent.parent
MAX_MEMORY = 2 << 20  # KiB
HANGS = 540  # seconds after which a command counts as one that would never end


def _wide(layer: str, kernel_size: int = 1) -> Files:
    return compile_package(
        parse_package(
            f'name = "wide"\n[[conv]]\nname = "Conv1"\n{layer}\nkernel_size = {kernel_size}\n'
            'radial = { family = "shells" }\n'
        )
    )


def test_a_polynomial_has_no_more_terms_than_its_degree_allows(small: Files) -> None:
    many = " + ".join(f"{k + 1}*x^{k % 50}*y^{k // 50 % 50}" for k in range(20_000))
    certificate = json.loads(small["certificate.json"])
    certificate["harmonics"]["2"] = [["1", many]] * 5
    with pytest.raises(CertificateError, match="a polynomial of degree 2 has more than 6 terms"):
        read_certificate(to_json(certificate))


def test_numbers_formulas_and_grids_are_bounded(small: Files) -> None:
    (name,) = json.loads(small["certificate.json"])["filters"]
    changes: dict[str, Callable[[Any], object]] = {
        "cannot read": lambda c: c["harmonics"]["1"].__setitem__(0, ["9" * 300, "x"]),
        "is not a grid": lambda c: c["filters"][name]["grid"].update(size=[40, 40, 40]),
        "bad degree": lambda c: c["filters"][name]["rows"].append([25, "exp(r)"]),
        "too long for their taps": lambda c: c["filters"][name].update(rows=[[0, f"r{' ' * k}"] for k in range(5000)]),
    }
    for complaint, change in changes.items():
        certificate = json.loads(small["certificate.json"])
        change(certificate)
        with pytest.raises(CertificateError, match=complaint):
            read_certificate(to_json(certificate))


def test_pairs_of_terms_are_bounded(tiny: Files) -> None:
    manifest = json.loads(tiny["manifest.json"])
    manifest["spec"][0]["in"] = manifest["spec"][0]["out"] = " + ".join(["1x0"] * 1000)
    with pytest.raises(ManifestError, match=f"1000000 pairs of terms, at most {MAX_PAIRS}"):
        read_manifest(to_json(manifest))


def test_layers_too_large_to_run_are_named_and_the_package_is_verified(verify: Verify) -> None:
    """24 kB for which a run would take 11 GB."""
    verdict = verify(_wide('in = "4096x0"\nout = "4096x0"'), run=True)
    assert verdict.verified and verdict.summary().endswith("verified, without kernel, convolution, turns")
    assert all(check.not_done == "its layers are too large to run" for check in verdict.checks[-3:])


def test_what_is_run_is_bounded_for_all_layers_together() -> None:
    """Eight layers of 1024 fields each took 2 GiB; one wide kernel took 15 GB of torch, and was then refused."""

    def layer(multiplicity: int, taps: int, dilation: int = 1) -> Layer:
        terms = (Term(multiplicity, Irrep(0, None)),)
        return Layer("L", terms, terms, terms, (taps,) * 3, (Fraction(1),) * 3, (dilation,) * 3, "filters")

    assert len(affordable([layer(1024, 2)] * 8)) == 2
    assert affordable([layer(34, 19)]) == []  # 8000 windows of 34 * 6859 numbers
    assert len(affordable([layer(1, 19)])) == 1
    assert affordable([layer(34, 5, 16)]) == []


def _dense(certificate: Any) -> None:
    """Every coefficient a different root, up to the largest file that is read."""
    room = MAX_BYTES["certificate.json"] - (1 << 20)
    for J, rows in certificate["clebsch_gordan"]["12 12"].items():
        orders = [(m, n, M) for m in range(-12, 13) for n in range(-12, 13) for M in range(-int(J), int(J) + 1)]
        dense = [[*order, f"sqrt({(2 * k + 1) ** 2}/{(2 * k + 3) ** 2})"] for k, order in enumerate(orders)]
        room -= len(json.dumps(dense)) + 5 * len(dense)
        certificate["clebsch_gordan"]["12 12"][J] = dense if room > 0 else rows


def _coprime(certificate: Any) -> None:
    """Squares of rationals whose common denominator would have a million digits."""
    for J, rows in certificate["clebsch_gordan"]["12 12"].items():
        for k, row in enumerate(rows):
            row[3] = f"sqrt(1/{(10**90 + 2 * k + int(J)) ** 2})"


def _huge(certificate: Any) -> None:
    for harmonics in certificate["harmonics"].values():
        for k, row in enumerate(harmonics):
            row[:] = ["9" * 200, row[1].replace("x", f"{10**190 + k}*x", 1)]


@pytest.fixture(scope="module")
def largest() -> Files:
    return _wide('in = "12"\nout = "12"', 3)


@pytest.mark.slow
@pytest.mark.parametrize("change", [_dense, _coprime, _huge])
def test_a_certificate_made_to_cost_is_refused_in_bounded_memory(largest: Files, tmp_path: Path, change: Any) -> None:
    """Also where there is no compiler, which would refuse it at once."""
    write(with_certificate(largest, change), tmp_path / "package")
    code = (
        "import sys, pathlib\nfrom basisgen.verify.verify import verify_package\n"
        "verdict = verify_package(pathlib.Path(sys.argv[1]), run=False)\nassert verdict.complaints"
    )
    _bounded([sys.executable, "-c", code, str(tmp_path / "package")], 0)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("layer", "kernel_size"),
    [
        ('in = "4096x0"\nout = "4096x0"', 1),
        ('in = "0 + 2"\nout = "0 + 2 + 4"', 11),
        (f'in = "{" + ".join(["1x0"] * 300)}"\nout = "{" + ".join(["1x0"] * 300)}"', 1),
        ('in = "64x0"\nout = "64x0"\ndilation = 16', 11),
    ],
)
def test_a_package_made_to_cost_is_verified_in_bounded_memory(tmp_path: Path, layer: str, kernel_size: int) -> None:
    write(_wide(layer, kernel_size), tmp_path / "package")
    _bounded([sys.executable, "-m", "basisgen.cli", "verify", str(tmp_path / "package")], 0)


def _bounded(command: list[str], code: int) -> None:
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    result = subprocess.run(command, capture_output=True, text=True, cwd=REPOSITORY, check=False, timeout=HANGS)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert result.returncode == code, result.stdout + result.stderr
    assert after.ru_maxrss < MAX_MEMORY or after.ru_maxrss == before.ru_maxrss


def test_a_certificate_the_compiler_does_not_write_is_not_worth_the_time(small: Files, verify: Verify) -> None:
    forged = with_certificate(small, lambda c: c["clebsch_gordan"]["1 1"]["1"][0].__setitem__(3, "sqrt(1/3)"))
    verdict = verify(forged)
    assert {"code", "certificate"} == failed(verdict)
    assert {check.name for check in verdict.checks if check.not_done} >= {"law", "complete", "floats"}
    assert redigest(forged) == forged


# ----------------------------------------------------------------------------------------------------- genuine packages

SPECS = sorted(
    path
    for path in [*REPOSITORY.glob("examples/**/*.toml"), *REPOSITORY.glob("benchmarks/*.toml")]
    if "[[conv]]" in path.read_text() or "[[layer]]" in path.read_text()
)


@pytest.mark.slow
@pytest.mark.parametrize("spec", SPECS, ids=lambda path: "-".join(path.relative_to(REPOSITORY).with_suffix("").parts))
def test_every_committed_spec_makes_a_package_that_is_verified(spec: Path, verify: Verify) -> None:
    text = spec.read_text()
    assert TINY not in text and len(SPECS) > 10
    verdict = verify(compile_package(parse_package(text)), run=True)
    assert verdict.verified, (verdict.summary(), verdict.complaints)


def test_the_committed_package_is_verified(verify: Verify) -> None:
    files = {path.name: path.read_bytes() for path in (REPOSITORY / "generated" / "tetris").iterdir() if path.is_file()}
    verdict = verify(files)
    assert verdict.verified, verdict.complaints


def test_values_nested_deeply_are_refused_before_their_canonical_form_is_made() -> None:
    """Every level is indented by one blank more: 4 MB of brackets, 300 deep, would become hundreds of them."""
    deep = b"[" + b",".join([b"[" * 300 + b"]" * 300] * 6000) + b"]"
    assert len(deep) < MAX_BYTES["manifest.json"]
    with pytest.raises(ManifestError, match="nested too deeply"):
        read_manifest(deep)
