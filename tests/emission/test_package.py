"""Packages: the committed one is what the compiler writes, and bytes depend on the spec alone."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from safetensors.numpy import load

from basisgen.emission.write import difference, read_package
from basisgen.pipeline import compile_package
from basisgen.spec import parse_package
from tests.conftest import needs_ruff

REPOSITORY = Path(__file__).parent.parent.parent
TETRIS = REPOSITORY / "examples" / "tetris" / "tetris.toml"


def _run(*arguments: str, cwd: Path, seed: str = "0") -> subprocess.CompletedProcess:
    command = [sys.executable, "-m", "basisgen.cli", *arguments]
    environment = {**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": str(REPOSITORY)}
    return subprocess.run(command, capture_output=True, text=True, cwd=cwd, env=environment, check=False)


def test_the_golden_package_is_what_the_compiler_writes() -> None:
    result = _run("compile", str(TETRIS), "--check", cwd=REPOSITORY)
    assert result.returncode == 0, result.stdout + result.stderr


def test_check_prints_a_diff_and_exits_1(tmp_path: Path) -> None:
    assert _run("compile", str(TETRIS), cwd=tmp_path).returncode == 0
    module = tmp_path / "generated" / "tetris" / "conv1.py"
    module.write_text(module.read_text().replace("(1, 0, None)", "(1, 0, 1)"))
    (tmp_path / "generated" / "tetris" / "basis.safetensors").write_bytes(b"")
    result = _run("compile", str(TETRIS), "--check", cwd=tmp_path)
    assert result.returncode == 1
    assert "-    in_type = ((1, 0, 1),)" in result.stdout and "+    in_type = ((1, 0, None),)" in result.stdout
    assert "differs: basis.safetensors" in result.stdout and "is not what the compiler writes" in result.stderr


def test_a_long_difference_begins_with_the_spec_and_is_cut_unless_wanted_whole() -> None:
    old = {"a.py": b"".join(b"%d\n" % n for n in range(100)), "manifest.json": b"kernel_size 3\n"}
    new = {"a.py": b"", "manifest.json": b"kernel_size 5\n"}
    short, whole = difference(old, new, longest=24), difference(old, new)
    assert short.startswith("--- manifest.json on disk") and whole.startswith("--- manifest.json on disk")
    assert "-kernel_size 3" in short and "-20\n" in short and "-21\n" not in short and "-99\n" in whole
    assert short.endswith("... and 79 more lines of a.py: -v shows all\n") and "more lines" not in whole
    assert difference(old, old, longest=24) == ""


def test_same_spec_same_bytes_under_two_hash_seeds_and_two_directories(tmp_path: Path) -> None:
    packages = []
    for seed in ("1", "2"):
        place = tmp_path / seed / "somewhere"
        place.mkdir(parents=True)
        (place / "spec.toml").write_text(TETRIS.read_text())
        assert _run("compile", "spec.toml", cwd=place, seed=seed).returncode == 0
        packages.append(read_package(place / "generated" / "tetris"))
    assert packages[0] == packages[1] and len(packages[0]) == 11


def test_an_unchanged_package_is_left_alone_and_a_changed_file_is_restored(tmp_path: Path) -> None:
    assert _run("compile", str(TETRIS), cwd=tmp_path).returncode == 0
    module = tmp_path / "generated" / "tetris" / "conv1.py"
    before = module.stat().st_mtime_ns
    assert "up to date" in _run("compile", str(TETRIS), cwd=tmp_path).stdout
    assert module.stat().st_mtime_ns == before
    text = module.read_text()
    module.write_text(text + "\n")
    assert "up to date" not in _run("compile", str(TETRIS), cwd=tmp_path).stdout
    assert module.read_text() == text


def test_the_manifest_names_every_file_and_the_tensors_are_float64() -> None:
    content = compile_package(parse_package(TETRIS.read_text()))
    manifest = json.loads(content["manifest.json"])
    assert set(manifest["sha256"]) == set(content) - {"manifest.json"}
    assert all(tensor.dtype == "float64" for tensor in load(content["basis.safetensors"]).values())


@needs_ruff
def test_generated_code_is_formatted_and_lint_free() -> None:
    for arguments in (["format", "--check"], ["check"]):
        command = [sys.executable, "-m", "ruff", *arguments, str(REPOSITORY / "generated")]
        result = subprocess.run(command, capture_output=True, text=True, check=False, cwd=REPOSITORY)
        assert result.returncode == 0, result.stdout


@needs_ruff
@pytest.mark.parametrize("size", [2, 40])
def test_long_field_types_are_formatted_too(size: int, tmp_path: Path) -> None:
    terms = " + ".join(f"{multiplicity}x{multiplicity % 3}" for multiplicity in range(1, size))
    spec = f'name = "long"\n[[conv]]\nname = "Conv"\nkernel_size = 3\nin = "1x0"\nout = "{terms}"\n'
    (tmp_path / "conv.py").write_bytes(compile_package(parse_package(spec))["conv.py"])
    command = [sys.executable, "-m", "ruff", "format", "--check", "--line-length", "120", str(tmp_path)]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout


def test_layers_of_one_grid_and_family_share_their_tensors() -> None:
    content = compile_package(
        parse_package(
            TETRIS.read_text() + '[[conv]]\nname="Big"\nin="1x0"\nout="1x1"\nkernel_size=7\n'
            '[[conv]]\nname="Wide"\nin="1x0"\nout="1x1"\nradial={family="shells", sigma=0.8}\n'
        )
    )
    names = {name for name in load(content["basis.safetensors"]) if name.startswith("filters")}
    assert names == {"filters_5x5x5", "filters_7x7x7", "filters_5x5x5_2"}


def test_files_that_are_not_ours_are_never_lost(tmp_path: Path) -> None:
    assert _run("compile", str(TETRIS), cwd=tmp_path).returncode == 0
    package = tmp_path / "generated" / "tetris"
    (package / "notes.txt").write_text("mine")
    (package / "conv1.py").write_text("changed")
    result = _run("compile", str(TETRIS), cwd=tmp_path)
    assert result.returncode == 2 and "notes.txt was not written by basisgen" in result.stderr
    assert (package / "notes.txt").read_text() == "mine"
    folder = tmp_path / "elsewhere" / "tetris"
    folder.mkdir(parents=True)
    (folder / "thesis.tex").write_text("mine")
    result = _run("compile", str(TETRIS), "--out", "elsewhere", cwd=tmp_path)
    assert result.returncode == 2 and "is not a package of basisgen's" in result.stderr
    assert sorted(path.name for path in folder.iterdir()) == ["thesis.tex"]
