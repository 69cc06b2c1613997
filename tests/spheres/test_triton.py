"""Products by Triton: emitted where it was measured to be faster, verified, absent where Triton is; compiled for a GPU.

What the kernel computes is tested in `interpreted`, which runs in Triton's interpreter, in another process. Those tests
are skipped where Triton is not installed: it comes with torch on CUDA, and is 285 MB without.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from basisgen.cli import main
from basisgen.emission.imported import imported
from basisgen.emission.write import write_package
from basisgen.errors import SpecError
from basisgen.pipeline import compile_package
from basisgen.spec import parse_package
from basisgen.tuning import Tuning
from tests.spheres.forging import Files, forged_files, verdict_on

SPEC = """
name = "verified"
[[layer]]
kind = "product"
name = "Fast"
in = "2x0..2"
mixing = "tree"
[[layer]]
kind = "product"
name = "Slow"
in = "2x0..2"
mixing = "tree"
[[layer]]
kind = "conv"
name = "Conv"
in = "1x0"
out = "1x0"
kernel_size = 3
radial = "shells"
"""
SETTING = "cuda, 128 volumes of 1x1x1, stride 1, float32, torch 2.13.0"
RATIOS = {"Fast": {"stock": 1.0, "triton": 0.25}, "Slow": {"stock": 1.0, "triton": 1.5}}
TUNING = Tuning(SETTING, RATIOS)
MADE = ("_triton.py", "_on_triton.py")
HERE = Path(__file__).parent


@pytest.fixture(scope="module")
def files() -> Files:
    return compile_package(replace(parse_package(SPEC), tuned=TUNING))


def _interpreted(*arguments: str) -> None:
    environment = {**os.environ, "TRITON_INTERPRET": "1", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "interpreted.py", *arguments]
    done = subprocess.run(command, cwd=HERE, env=environment, capture_output=True, text=True, timeout=900, check=False)
    assert done.returncode == 0 and "passed" in done.stdout and "skipped" not in done.stdout, done.stdout + done.stderr


def test_the_kernel_in_the_interpreter_and_a_wrong_coefficient() -> None:
    pytest.importorskip("triton")
    _interpreted("-k", "chosen or coefficient")


@pytest.mark.slow
def test_everything_in_the_interpreter() -> None:
    pytest.importorskip("triton")
    _interpreted()


def test_the_kernel_compiles_for_a_gpu(tmp_path: Path) -> None:
    """To machine code, by the compiler that Triton brings; the interpreter does not check types."""
    pytest.importorskip("triton")
    code = """
import _triton, triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource
for bits in ("32", "64"):
    fields = dict.fromkeys(("out", "first", "second", "value"), f"*fp{bits}")
    types = {key: fields.get(key, "*i32") for key in ("out", "first", "second", "start", "left", "right", "value")}
    source = ASTSource(_triton._row, types | {"rows": "i32", "lanes": "i32"}, {"LANES": _triton.LANES})
    made = triton.compile(source, target=GPUTarget("cuda", 90, 32), options={"enable_fp_fusion": True})
    assert len(made.asm["cubin"]) > 1000 and f"fma.rn.f{bits}" in made.asm["ptx"]
"""
    (tmp_path / "_triton.py").write_bytes((HERE.parents[1] / "basisgen/spheres/sources/triton.py").read_bytes())
    environment = {**os.environ, "TRITON_CACHE_DIR": str(tmp_path), "TRITON_INTERPRET": "0"}
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_it_is_emitted_where_it_was_measured_to_be_faster_and_nowhere_else(files: Files) -> None:
    plain = compile_package(parse_package(SPEC))
    assert {name for name in files if files[name] != plain.get(name)} == {*MADE, "fast.py", "manifest.json"}
    assert b"on_gpu = TritonProducts" in files["fast.py"] and b"riton" not in files["slow.py"]
    layers = json.loads(files["manifest.json"])["layers"]
    assert layers["Fast"]["on_gpu"] == "triton" and "on_gpu" not in layers["Slow"]
    slower = {name: {"stock": 1.0, "triton": 1.5} for name in RATIOS}
    assert not set(MADE) & set(compile_package(replace(parse_package(SPEC), tuned=Tuning(SETTING, slower))))


def test_where_triton_is_missing_the_package_works(files: Files, monkeypatch: pytest.MonkeyPatch) -> None:
    """It imports without Triton, and runs in stock torch. Weights behind it are the same."""
    monkeypatch.setitem(sys.modules, "triton", None)  # importing it is an error
    with imported(files, "verified") as package:
        shared = sys.modules["verified._product"]
        monkeypatch.setattr(shared, "is_available", lambda: False)
        fast, slow = package.Fast(), package.Slow()
        field = torch.randn(3, fast.in_channels, requires_grad=True)
        assert torch.equal(fast(field), slow(field)) and fast.fingerprint == slow.fingerprint
        assert not type(fast).on_gpu.runs_on("cpu")
        assert type(shared._way(fast._key, torch.float32, "cpu")) is shared.Stock


def test_importing_the_package_does_not_import_triton(files: Files, tmp_path: Path) -> None:
    write_package(dict(files), tmp_path / "verified")
    code = "import sys, verified; verified.Fast(); assert 'triton' not in sys.modules"
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("run", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_it_is_verified(files: Files, run: bool, tmp_path: Path) -> None:
    assert verdict_on(files, tmp_path, run=run).verified


@pytest.mark.parametrize("name", [*MADE, "fast.py"])
def test_changed_code_is_refused(files: Files, name: str, tmp_path: Path) -> None:
    body = files[name].replace(b"total +=", b"total -=").replace(b"TritonProducts", b"TensorProduct") + b"\n"
    forged = forged_files(files, **{name.replace(".", "__"): body})
    verdict = verdict_on(forged, tmp_path, run=False)
    assert any(f"{name} is not what" in complaint for complaint in verdict.complaints)


def test_the_kernel_beside_a_package_that_was_not_tuned_is_refused(files: Files, tmp_path: Path) -> None:
    plain = compile_package(parse_package(SPEC))
    verdict = verdict_on({**plain, **{name: files[name] for name in MADE}}, tmp_path, run=False)
    assert any("_triton.py is not a file of this package" in complaint for complaint in verdict.complaints)


@pytest.mark.parametrize(
    "tuned",
    [
        {"setting": SETTING.replace("cuda", "cpu, 1 thread"), "ratios": RATIOS},
        {"setting": SETTING, "ratios": {"Fast": RATIOS["Fast"]}},
        {"setting": SETTING, "ratios": {**RATIOS, "Conv": {"dense": 1.0, "separable": 0.5}}},
        {"setting": SETTING, "ratios": {**RATIOS, "Slow": {"dense": 1.0, "separable": 0.5}}},
        {"setting": SETTING, "ratios": {**RATIOS, "Slow": {"stock": 0.5, "triton": 0.25}, "Fast": {"stock": 1.0}}},
        {"setting": SETTING, "ratios": {**RATIOS, "Fast": {"stock": 1.0, "triton": 0.12345}}},
    ],
)
def test_a_forged_measurement_is_refused(files: Files, tuned: Any, tmp_path: Path) -> None:
    from basisgen.commands.recompile import recompile

    manifest = json.loads(files["manifest.json"])
    assert recompile(manifest) == files
    with pytest.raises(SpecError, match=r"tuned = .* is not what"):
        recompile({**manifest, "tuned": tuned})


def test_compiling_keeps_the_choice_and_undo_forgets_it(
    files: Files, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from click.testing import CliRunner

    monkeypatch.chdir(tmp_path)
    Path("verified.toml").write_text(SPEC)
    write_package(dict(files), Path("generated/verified"))
    run = CliRunner().invoke
    assert run(main, ["compile", "verified.toml"]).output == "generated/verified is up to date\n"
    plan = run(main, ["compile", "verified.toml", "--check", "-v"])
    assert plan.exit_code == 0
    assert "; by Triton on a GPU" in run(main, ["compile", "verified.toml", "-v"]).output
    assert run(main, ["compile", "verified.toml", "--force"]).exit_code == 0
    assert {path.name: path.read_bytes() for path in Path("generated/verified").glob("*.*")} == files
    assert run(main, ["tune", "generated/verified", "--undo"]).exit_code == 0
    assert not Path("generated/verified/_triton.py").exists()
    alone = run(main, ["tune", "generated/verified"])  # on a CPU
    assert alone.exit_code == 2 and "have a choice on a GPU alone: --device cuda" in alone.stderr


def test_the_table_of_what_was_measured() -> None:
    from basisgen.commands.plan_table import tuning_as_text
    from basisgen.pipeline import plan

    spec = parse_package(SPEC)
    lines = tuning_as_text(plan(spec), plan(replace(spec, tuned=TUNING))).splitlines()
    assert lines[0] == f"Measured on {SETTING}:" and lines[2] == "Time of a training step over stock torch's there:"
    assert [line.split() for line in lines[5:]] == [
        ["Fast", "triton,", "was", "stock", "1.00", "0.25"],
        ["Slow", "stock,", "as", "before", "1.00", "1.50"],
    ]
