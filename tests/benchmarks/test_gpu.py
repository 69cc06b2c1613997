"""The benchmark for machines with a GPU runs, section by section, before there is one."""

import importlib
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

REPOSITORY = Path(__file__).parents[2]
PROGRAM = REPOSITORY / "benchmarks" / "gpu.py"
NOT_NEEDED = ("matplotlib", "tensorboard", "torchmetrics", "nibabel", "escnn", "e3nn", "mkdocs", "pytest", "onnx")
WITHOUT = "import sys; sys.modules.update(dict.fromkeys({}, None)); import runpy; sys.argv = sys.argv[1:]; "


def run(*arguments):
    """The program in a Python that has not more than the machines it is for."""
    start = WITHOUT.format(NOT_NEEDED) + f"sys.path.insert(0, {str(PROGRAM.parent)!r}); "
    code = start + "runpy.run_path(sys.argv[0], run_name='__main__')"
    return subprocess.run(
        [sys.executable, "-c", code, str(PROGRAM), *arguments],
        capture_output=True,
        text=True,
        timeout=300,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
        check=False,
    )


@pytest.fixture(scope="module")
def result(tmp_path_factory):
    out = tmp_path_factory.mktemp("gpu")
    done = run("--dry-run", "--out", str(out))
    assert done.returncode == 0, done.stdout + done.stderr
    return json.loads((out / "gpu.json").read_text()), (out / "gpu.md").read_text()


@pytest.mark.slow
def test_a_dry_run_fills_every_section(result):
    found, text = result
    assert found["dry"] and "mean nothing" in text
    for name, section in found["sections"].items():
        assert section["rows"] and not section["trouble"], name
        failed = [row for row in section["rows"] if "failed" in row and name != "products"]  # beside e3nn's
        assert not failed, failed
        assert f"## {name}" in text


@pytest.mark.slow
def test_every_mode_of_a_convolution_is_right(result):
    rows = result[0]["sections"]["correctness"]["rows"]
    assert {row["way"] for row in rows} == {"dense", "separable"}
    assert all(row["right"] for row in rows), rows


@pytest.fixture
def gpu(monkeypatch):
    monkeypatch.syspath_prepend(str(PROGRAM.parent))
    return importlib.import_module("gpu")


def test_a_section_survives_the_failure_of_another(gpu, monkeypatch, tmp_path):
    def broken(where):
        """Fails after a row."""
        yield {"row": 1}
        raise RuntimeError("no such device")

    monkeypatch.setitem(gpu.SECTIONS, "correctness", gpu.Section(broken, 5))
    assert not gpu.run_all(["correctness", "ceilings"], 60, tmp_path, dry=True)
    sections = json.loads((tmp_path / "gpu.json").read_text())["sections"]
    assert sections["correctness"]["rows"] == [{"row": 1}]
    assert "no such device" in sections["correctness"]["trouble"]
    assert len(sections["ceilings"]["rows"]) == 4


@pytest.mark.slow
@pytest.mark.skipif(torch.cuda.is_available(), reason="where there is a GPU the section runs")
def test_a_section_in_another_process_tells_why_it_failed(gpu):
    rows, trouble = gpu.apart("ceilings", 60)
    assert rows == []
    assert trouble.startswith("exit 1: ") and "CUDA" in trouble


def test_wrong_numbers_are_not_called_right(gpu):
    class Wrong(torch.nn.Linear):
        def forward(self, x):
            return super().forward(x) * (1 + 1e-3 * (x.dtype == torch.float32))

    where = gpu.Where(torch.device("cpu"), True, float("inf"))
    rows = [
        gpu.compared(Wrong(3, 3), torch.ones(2, 3, dtype=torch.float64), mode, where) for mode in ("float64", "float32")
    ]
    assert [row["right"] for row in rows] == [True, False]
