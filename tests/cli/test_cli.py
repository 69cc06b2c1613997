"""The command line as a user meets it: what it prints, what it exits with, what it leaves on disk."""

from __future__ import annotations

import json
import shlex
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from basisgen.cli import main
from basisgen.emission.write import read_package

LAYER = '[[conv]]\nname = "Conv1"\nin = "1x0"\nout = "1x1"\nkernel_size = 3\n'
GOOD = 'name = "good"\n' + LAYER


@pytest.fixture(autouse=True)
def in_an_empty_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def _run(*arguments: str) -> Result:
    return CliRunner().invoke(main, list(arguments), catch_exceptions=False)


def _compile(text: str) -> Result:
    Path("spec.toml").write_text(text)
    return _run("compile", "spec.toml")


def test_compile_writes_a_package() -> None:
    result = _compile(GOOD)
    assert result.exit_code == 0 and "Conv1 1x0 -> 1x1" in result.stdout
    assert Path("generated/good/conv1.py").exists()


BAD = {
    "unknown key": ('nom = "x"\n' + GOOD, "unknown key 'nom'"),
    "unknown layer key": (GOOD + "colour = 1\n", "layer 'Conv1': it has an unknown key 'colour'"),
    "unknown default": ('name = "x"\n[defaults]\nsize = 3\n' + LAYER, "[defaults] has an unknown key"),
    "no name": (LAYER, "the spec has no key 'name'"),
    "no layers": ('name = "x"\n', "has no layer"),
    "no in": (GOOD.replace('in = "1x0"\n', ""), "it has no key 'in'"),
    "no kernel size": (GOOD.replace("kernel_size = 3\n", ""), "it has no key 'kernel_size'"),
    "bad field type": (GOOD.replace("1x0", "4x0+x2"), "term 'x2' has no multiplicity"),
    "misspelt field type": (
        GOOD.replace("1x0", "1y1"),
        "term '1y1' is not a number of copies, the letter x and a degree",
    ),
    "field type not text": (GOOD.replace('"1x0"', "[1, 0]"), "in = [1, 0] is not a field type"),
    "mixed in one type": (GOOD.replace("1x0", "1x0e+1x1"), "mixes degrees with a parity"),
    "mixed in one layer": (GOOD.replace("1x0", "1x0e"), "of different groups"),
    "zero size": (GOOD.replace("= 3", "= 0"), "kernel_size = 0 is not a whole number from 1 to 21"),
    "negative size": (GOOD.replace("= 3", "= -3"), "kernel_size = -3 is not"),
    "huge size": (GOOD.replace("= 3", "= 1000000000"), "kernel_size = 1000000000 is not"),
    "boolean size": (GOOD.replace("= 3", "= true"), "kernel_size = True is not"),
    "fractional size": (GOOD.replace("= 3", "= 3.0"), "kernel_size = 3.0 is not"),
    "two sizes": (GOOD.replace("= 3", "= [3, 3]"), "has 2 entries"),
    "nan spacing": (GOOD + "voxel_spacing = nan\n", "voxel_spacing = NaN is not a length"),
    "endless spacing": (GOOD + "voxel_spacing = 1e999999999\n", "is not a length"),
    "zero spacing": (GOOD + "voxel_spacing = [1, 0, 1]\n", "is not a length"),
    "degree over the limit": (GOOD.replace("1x1", "1x13"), "degree 13 is over the limit, 12"),
    "degree far over the limit": (GOOD.replace("1x1", "1x999999999"), "degree 999999999 is over the limit"),
    "too many channels": (GOOD.replace("1x1", "9999x1"), "has 29997 channels, the limit is 4096"),
    "kernel too large": (
        GOOD.replace("1x1", "4096x0").replace("1x0", "4096x0").replace("= 3", "= 21"),
        "elements, the limit is",
    ),
    "duplicate names": (GOOD + LAYER, "two layers are named 'Conv1'"),
    "names that differ in case": (GOOD + LAYER.replace("Conv1", "CONV1"), "differ in case only"),
    "keyword": (GOOD.replace("good", "class"), "'class' is reserved in Python"),
    "layer keyword": (GOOD.replace("Conv1", "None"), "'None' is reserved in Python"),
    "path": (GOOD.replace("good", "../evil"), "'../evil' is not an identifier"),
    "absolute path": (GOOD.replace("good", "/tmp/evil"), "is not an identifier"),
    "code": (GOOD.replace("Conv1", "A:\\n import os #"), "is not an identifier"),
    "dunder": (GOOD.replace("Conv1", "Conv__init__"), "is reserved in Python"),
    "private": (GOOD.replace("Conv1", "_Conv"), "is not an identifier"),
    "look-alike": (GOOD.replace("Conv1", "Cоnv1"), "is not an identifier of ASCII"),
    "template": (GOOD.replace("Conv1", "{{ 7*7 }}"), "is not an identifier"),
    "base class": (GOOD.replace("Conv1", "SteerableConv3d"), "the name of a generated base class"),
    "unknown family": (GOOD + 'radial = { family = "bessel" }\n', "bessel"),
    "unknown radial key": (GOOD + 'radial = { family = "shells", width = 1 }\n', "width"),
    "unknown execution": (GOOD + 'execution = "fast"\n', "execution = 'fast' is not one of auto, dense, separable"),
    "gated not a truth value": (GOOD + "gated = 1\n", "gated = 1 is not true or false"),
    "not TOML": ("name = ", "the spec is not TOML"),
    "not a table": ('name = "x"\ndefaults = 3\n' + LAYER, "[defaults] = 3 is not a table"),
    "no block at all": (
        GOOD.replace("1x0", "1x0e").replace("1x1", "1x0o"),
        "no kernel maps '1x0e' to '1x0o'",
    ),
    "nothing on a grid of one tap": (GOOD.replace("= 3", "= 1"), "no kernel maps '1x0' to '1x1'"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_specs_give_one_clear_line_and_write_nothing(case: str) -> None:
    text, complaint = BAD[case]
    result = _compile(text)
    assert result.exit_code == 2
    assert complaint in result.stderr and result.stderr.startswith("basisgen: ")
    assert result.stderr.count("\n") == 1 and result.stdout == ""
    assert sorted(path.name for path in Path().iterdir()) == ["spec.toml"]


def test_a_missing_or_unreadable_spec_is_one_line() -> None:
    assert "cannot read nothing.toml: No such file" in _run("compile", "nothing.toml").stderr
    Path("binary.toml").write_bytes(b"\xff\xfe\x00")
    assert "is not UTF-8 text" in _run("compile", "binary.toml").stderr


def test_a_pair_with_no_kernel_leaves_a_layer_without_that_block() -> None:
    result = _compile(GOOD.replace("1x0", "1x0e").replace("1x1", "1x1o + 2x0o"))
    assert result.exit_code == 0
    assert "no kernel reaches 2x0o of Conv1: always zero" in result.stderr


def test_a_link_in_the_place_of_the_package_is_refused() -> None:
    Path("elsewhere").mkdir()
    Path("generated").mkdir()
    Path("generated/good").symlink_to(Path("elsewhere").resolve())
    result = _compile(GOOD)
    assert result.exit_code == 2 and "is a symbolic link" in result.stderr
    assert list(Path("elsewhere").iterdir()) == []


@pytest.mark.parametrize(
    "options",
    [
        '"1x0" "4x0 + 4x1" --kernel-size 5',
        '"1x0e" "2x1o + 1x2e" --kernel-size 4,4,3 --voxel-spacing 1,1,1.5 --gated --radial sigma=0.75 --dilation 2',
        '"1x0" "1x1" --kernel-size 5 --radial cutoff=0,1,2 --execution dense',
    ],
)
def test_conv_makes_a_package_and_names_the_command_that_makes_it_again(options: str) -> None:
    result = _run("conv", *shlex.split(options), "--name", "layer")
    assert result.exit_code == 0, result.stderr
    first = read_package(Path("generated/layer"))
    command = json.loads(first["manifest.json"])["command"]
    assert _run(*shlex.split(command)[1:], "--out", "again").exit_code == 0
    assert read_package(Path("again/layer")) == first


@pytest.mark.parametrize("bad", ["--kernel-size five", "--kernel-size 3 --radial sigma", "--kernel-size 3 --name a-b"])
def test_bad_options_of_conv_are_one_line(bad: str) -> None:
    result = _run("conv", "1x0", "1x1", *shlex.split(bad))
    assert result.exit_code == 2 and result.stderr.count("\n") == 1 and not Path("generated").exists()


@pytest.mark.parametrize("command", ["verify", "report", "tune"])
def test_what_is_no_package_is_one_line(command: str) -> None:
    Path("empty").mkdir()
    Path("file").write_text("")
    for place, complaint in (
        ("empty", "empty is not a package of basisgen's: it has no manifest.json"),
        ("file", "cannot read file: Not a directory"),
        ("nowhere", "cannot read nowhere: No such file or directory"),
    ):
        result = _run(command, place)
        assert result.exit_code == 2 and complaint in result.stderr
        assert result.stderr.count("\n") == 1 and result.stdout == ""
        assert "Name the directory that `basisgen compile` wrote" in result.stderr
    assert sorted(path.name for path in Path().iterdir()) == ["empty", "file"]


def test_a_broken_package_is_a_table_of_failures() -> None:
    """The control: with a manifest it is a package, and what is wrong with it is told check by check."""
    _compile(GOOD)
    Path("generated/good/conv1.py").unlink()
    result = _run("verify", "generated/good", "--no-run")
    assert result.exit_code == 1 and "FAILED (1)" in result.stdout and "conv1.py is missing" in result.stdout


def test_show_prints_exact_kernels() -> None:
    assert "|x| kappa(x) = sqrt(6)/2 *\n  [  0    z   -y ]" in _run("show", "1", "1").stdout
    assert r"\begin{bmatrix}" in _run("show", "1", "2", "--format", "latex").stdout
    shown = json.loads(_run("show", "0", "2", "--format", "json").stdout)
    assert [element["J"] for element in shown["elements"]] == [2]
    assert _run("show", "1", "99").exit_code == 2


@pytest.mark.parametrize("command", [[], ["compile"], ["conv"], ["show"]])
def test_every_help_has_an_example(command: list[str]) -> None:
    result = _run(*command, "--help")
    assert result.exit_code == 0 and "Example" in result.stdout
