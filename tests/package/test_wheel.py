"""Wheel and sdist work where the checkout cannot be seen: names, templates, commands, generated code, types.

The packages they depend on are lent from the present environment by a .pth file, which is not read for .pth files of
its own: so the editable install of the checkout stays out of sight. Every test asserts that.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

import basisgen
from basisgen.commands.new.project import project
from tests.conftest import REPOSITORY
from tests.docs.checkout import copy_files, lend_packages
from tests.docs.page import PAGES

pytestmark = pytest.mark.slow

SPEC = """
name = "first"
[[conv]]
name = "Conv1"
in = "1x0"
out = "2x0 + 1x1"
kernel_size = 3
gated = true
"""

USER = """
import runtime
import torch
from generated.first import Conv1
from basisgen_runtime import Gate, GatedBlock
from basisgen_runtime.testing import EquivarianceReport, assert_equivariant
from basisgen_runtime.train import TrainConfig, TrainResult

block: torch.nn.Module = GatedBlock(Conv1(), activation=Gate)
kernel: torch.Tensor = Conv1().kernel()
plain: torch.nn.Conv3d = Conv1(stride=2, bias=False).to_conv3d()
report: EquivarianceReport = assert_equivariant(block, wavelengths=())
config: TrainConfig = TrainConfig(epochs=1, batch_size=2, learning_rate=0.1)
mine: int = runtime.mine
"""

PROJECT = """
[build-system]
requires = ["setuptools>=77"]
build-backend = "setuptools.build_meta"

[project]
name = "mine"
version = "1"

"""

INSTALLED = {"basisgen": "basisgen", "basisgen_runtime": "runtime"}  # package -> its directory in a checkout

NAMES = """
import importlib, json, pkgutil, sys
import basisgen, basisgen_runtime
modules = ["basisgen", "basisgen_runtime"]
for package in (basisgen, basisgen_runtime):
    modules += [m.name for m in pkgutil.walk_packages(package.__path__, package.__name__ + ".")]
modules = [name for name in modules if ".sources." not in name]  # these run in a generated package
missing = []
for name in modules:
    module = importlib.import_module(name)
    missing += [f"{name}.{public}" for public in getattr(module, "__all__", ()) if not hasattr(module, public)]
files = sorted({str(m.__file__) for n, m in sys.modules.items() if n.split(".")[0] in modules[:2]})
print(json.dumps({"modules": modules, "missing": missing, "files": files, "version": basisgen.__version__}))
"""


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with wheel and sdist, built from a copy of what git knows or would add, the wheel from the sdist."""
    place = tmp_path_factory.mktemp("built")
    copy_files(place / "source")
    command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(place / "dist"), str(place / "source")]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout + result.stderr
    return place / "dist"


@pytest.fixture(scope="module")
def clean(built: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A virtual environment with the wheel in it, and the packages it needs."""
    venv = tmp_path_factory.mktemp("clean") / "venv"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", venv], check=True)
    (wheel,) = built.glob("*.whl")
    install = [sys.executable, "-m", "pip", "--python", venv, "install", "--quiet", "--no-deps", "--no-index", wheel]
    subprocess.run(install, check=True)
    lend_packages(venv)
    return venv


def _run(venv: Path, directory: Path, *command: str) -> str:
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("PYTHON", "COVERAGE"))}
    environment |= {"OMP_NUM_THREADS": "1", "PATH": f"{venv / 'bin'}:{environment['PATH']}"}
    program = [str(venv / "bin" / command[0]), *command[1:]]
    result = subprocess.run(program, cwd=directory, env=environment, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout


def test_every_public_name_comes_from_the_wheel(built: Path, clean: Path, tmp_path: Path) -> None:
    seen = json.loads(_run(clean, tmp_path, "python", "-c", NAMES))
    source = built.parent / "source"
    here = {
        ".".join((name, *path.relative_to(source / package).with_suffix("").parts)).removesuffix(".__init__")
        for name, package in INSTALLED.items()
        for path in (source / package).rglob("*.py")
        if "templates" not in path.parts and (path.parent.name != "sources" or path.stem == "__init__")
    }
    assert here == set(seen["modules"]) and not seen["missing"]
    assert all(Path(file).is_relative_to(clean) for file in seen["files"])
    assert seen["version"] == basisgen.__version__


def test_the_version_comes_from_one_place(built: Path, clean: Path, tmp_path: Path) -> None:
    assert basisgen.__version__ in _run(clean, tmp_path, "basisgen", "--version")
    assert {path.name.split("-")[1].removesuffix(".tar.gz") for path in built.iterdir()} == {basisgen.__version__}


def test_wheel_and_sdist_hold_what_is_not_python(built: Path) -> None:
    (wheel,), (sdist,), source = built.glob("*.whl"), built.glob("*.tar.gz"), built.parent / "source"
    in_wheel = set(zipfile.ZipFile(wheel).namelist())
    with tarfile.open(sdist) as archive:
        in_sdist = {name.split("/", 1)[-1] for name in archive.getnames()}
    data = {
        (f"{name}/{path.relative_to(source / package)}", str(path.relative_to(source)))
        for name, package in INSTALLED.items()
        for path in (source / package).rglob("*")
        if path.is_file() and path.suffix != ".py"
    }
    assert {"basisgen/py.typed", "basisgen_runtime/py.typed"} <= {installed for installed, _ in data}
    assert {installed for installed, _ in data} <= in_wheel and {here for _, here in data} <= in_sdist
    assert {"LICENSE", "README.md", "pyproject.toml", "setup.py"} <= in_sdist
    assert {name.split("/")[0] for name in in_wheel} == {*INSTALLED, wheel.name.split("-py")[0] + ".dist-info"}


def test_commands_generated_code_and_types(clean: Path, tmp_path: Path) -> None:
    (tmp_path / "first.toml").write_text(SPEC)
    (tmp_path / "user.py").write_text(USER)
    (tmp_path / "runtime.py").write_text("mine = 1\n")  # neither hidden by what is installed, nor in its way
    _run(clean, tmp_path, "basisgen", "compile", "first.toml")
    assert "verified" in _run(clean, tmp_path, "basisgen", "verify", "generated/first")
    assert "opens in any browser" in _run(clean, tmp_path, "basisgen", "report", "generated/first")
    assert "cd second" in _run(clean, tmp_path, "basisgen", "new", "second", "--preset", "tetris")
    _run(clean, tmp_path, "python", "user.py")
    assert "no issues" in _mypy(clean, tmp_path)
    (tmp_path / "user.py").write_text(USER + "wrong: int = Conv1().kernel()\n")
    with pytest.raises(AssertionError, match="Incompatible types in assignment"):
        _mypy(clean, tmp_path)


@pytest.mark.parametrize("preset", ["segmentation", "molecule", "sphere"])  # between them all kinds but correlations
def test_strict_mypy_finds_nothing_in_a_package(preset: str, clean: Path, tmp_path: Path) -> None:
    (tmp_path / "first.toml").write_text(project("first", preset)["first.toml"])
    _run(clean, tmp_path, "basisgen", "compile", "first.toml")
    (tmp_path / "user.py").write_text("import generated.first\n")
    assert "no issues" in _mypy(clean, tmp_path)


def test_a_new_project_trains_and_passes_its_tests_from_elsewhere(clean: Path, tmp_path: Path) -> None:
    _run(clean, tmp_path, "basisgen", "new", "second", "--preset", "tetris")
    _run(clean, tmp_path / "second", "basisgen", "compile", "second.toml")
    training = ["--epochs", "1", "--rotations", "1", "--runs", "runs"]
    assert "loss" in _run(clean, tmp_path, "python", "second/train.py", *training)
    assert "passed" in _run(clean, tmp_path, "python", "-m", "pytest", "-q", "-p", "no:cacheprovider", "second")


def test_a_users_wheel_with_a_package_inside_works_where_only_the_runtime_is(clean: Path, tmp_path: Path) -> None:
    home, elsewhere = tmp_path / "project", tmp_path / "elsewhere"
    (home / "src" / "mine").mkdir(parents=True)
    elsewhere.mkdir()
    (home / "src" / "mine" / "__init__.py").touch()
    (home / "first.toml").write_text(SPEC)
    (package_data,) = re.findall(
        r"```toml\n(\[tool\.setuptools\.package-data\]\n.*?)```", PAGES["docs/deployment.md"].read_text("utf-8"), re.S
    )
    (home / "pyproject.toml").write_text(PROJECT + package_data)
    _run(clean, home, "basisgen", "compile", "first.toml", "--out", "src/mine/kernels")
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", "--no-build-isolation"]
    subprocess.run([*pip, "--target", elsewhere, home], check=True)
    code = "from mine.kernels.first import Conv1; from basisgen_runtime import Gate; print(Conv1().kernel().shape)"
    assert "Size([6, 1, 3, 3, 3])" in _run(clean, elsewhere, "python", "-c", f"{code}; Gate(Conv1.out_type)")
    assert "verified" in _run(clean, elsewhere, "basisgen", "verify", "mine/kernels/first")


@pytest.mark.parametrize("name", ["scans", "molecules", "proof"])
def test_the_notebooks_run_far_from_the_checkout(name: str, clean: Path, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    shutil.copytree(REPOSITORY / "tests" / "docs", tmp_path / "tests" / "docs")  # what runs them; nothing of ours else
    notebook = str(REPOSITORY / "examples" / "notebooks" / f"{name}.ipynb")
    _run(clean, tmp_path, "python", "-W", "ignore", "-m", "tests.docs.notebook", notebook)
    assert list(tmp_path.glob("figure-*.png"))


def _mypy(venv: Path, directory: Path) -> str:
    program = "import sys; from mypy.__main__ import console_entry; sys.exit(console_entry())"
    arguments = [
        "--strict",
        "--python-executable",
        str(venv / "bin" / "python"),
        "--cache-dir",
        str(venv.parent / "mypy"),  # torch is read once
        "user.py",
    ]
    return _run(venv, directory, "python", "-c", program, *arguments)
