"""The command line as a user meets it: what it prints, what it exits with, what it leaves on disk."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
from pathlib import Path

import click
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
    "boolean size": (GOOD.replace("= 3", "= true"), "kernel_size = true is not"),
    "fractional size": (GOOD.replace("= 3", "= 3.0"), "kernel_size = 3.0 is not"),
    "two sizes": (GOOD.replace("= 3", "= [3, 3]"), "has 2 entries"),
    "nan spacing": (GOOD + "voxel_spacing = nan\n", "voxel_spacing = NaN is not a length"),
    "endless spacing": (GOOD + "voxel_spacing = 1e999999999\n", "is not a length"),
    "zero spacing": (GOOD + "voxel_spacing = [1, 0, 1]\n", "is not a length"),
    "degree over the limit": (GOOD.replace("1x1", "1x13"), "degree 13 is over the limit, 12"),
    "degree far over the limit": (GOOD.replace("1x1", "1x999999999"), "degree 999999999 is over the limit"),
    "channels meant": (GOOD.replace("1x1", "16"), "A number alone is a degree: for scalar channels write '16x0'"),
    "an argument of the class": (
        GOOD + "stride = 2\n",
        "layer 'Conv1': it has a key 'stride', which is not part of a spec: it is an argument of the generated class, "
        "for example Conv1(stride=2)",
    ),
    "an argument among the defaults": (
        'name = "x"\n[defaults]\nbias = false\n' + LAYER,
        "[defaults] has a key 'bias', which is not part of a spec: it is an argument of the generated class",
    ),
    "lengths in two units": (
        GOOD + 'voxel_spacing = ["1e6", 1, "1e-6"]\nradial = { family = "hermite" }\n',
        "neighbouring taps are 1e-06 apart along one axis and 1e+06 along another: the limit is 1000 times as far",
    ),
    "too much work": (
        GOOD.replace("1x0", "6x12").replace('"1x1"', '"1x12"').replace("= 3", "= 21"),
        "filters of degree up to 24 on 21x21x21 taps are too much work: ",
    ),
    "unknown short family": (GOOD + 'radial = "bessel"\n', "radial setting family = 'bessel': must be one of"),
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
    "hides a module": (GOOD.replace("good", "json"), "package name 'json' would hide the module of that name"),
    "hides what torch imports": (GOOD.replace("good", "SymPy"), "'SymPy' would hide the module of that name"),
    "hides torch": (GOOD.replace("good", "torch"), "package name 'torch' would hide the module of that name"),
    "not TOML": ("name = ", "the spec is not TOML"),
    "a name without quotes": ("name = good\n" + LAYER, "(at line 1, column 8). The line reads 'name = good'"),
    "a key twice": ('name = "other"\n' + GOOD, "(at line 2, column 14). The line reads 'name = \"good\"'"),
    "a layer's key twice": (GOOD + 'in = "1x1"\n', "The line reads 'in = \"1x1\"'"),
    "nested too deeply": (GOOD.replace("= 3", f"= {'[' * 5000}{']' * 5000}"), "nested too deeply"),
    "nested deeply": (GOOD.replace("= 3", f"= {'[' * 9}{']' * 9}"), "kernel_size = [[[[[...]]]]] is not a whole"),
    "single brackets": (GOOD.replace("[[conv]]", "[conv]"), "Write [[conv]], in double brackets"),
    "a zero length": (GOOD + "voxel_spacing = [1, 0.0, 1]\n", "voxel_spacing = [1, 0.0, 1] is not a length"),
    "no family": (GOOD + "radial = { sigma = 0.6 }\n", "radial = { sigma = 0.6 } names no family"),
    "too many shells": (
        GOOD + 'radial = { family = "shells", radii = [0, 1], cutoff = [0, 1, 2] }\n',
        "layer 'Conv1': cutoff [0, 1, 2] names 3 shells",
    ),
    "negative max_defect": (
        GOOD + 'radial = { family = "optimal", max_defect = -0.1 }\n',
        "max_defect = -0.1: must be",
    ),
    "nan among the settings": (GOOD + 'radial = { family = "shells", sigma = nan }\n', "sigma = NaN: must be a number"),
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


def test_what_is_no_spec_is_one_line() -> None:
    Path("directory.toml").mkdir()
    assert "'directory.toml' is a directory" in _run("compile", "directory.toml").stderr
    assert (
        "/dev/zero is larger than 1048576 bytes: not a spec" in _run("compile", "/dev/zero").stderr
    )  # and no more read


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_specs_of_any_editor_are_read(encoding: str, end: str) -> None:
    Path("spec.toml").write_bytes(GOOD.replace("\n", end).encode(encoding))
    assert _run("compile", "spec.toml").exit_code == 0


def test_a_pair_with_no_kernel_leaves_a_layer_without_that_block() -> None:
    result = _compile(GOOD.replace("1x0", "1x0e").replace("1x1", "1x1o + 2x0o"))
    assert result.exit_code == 0
    assert "no kernel reaches 2x0o of Conv1: always zero" in result.stderr


def test_a_family_by_name_alone_is_the_family_with_its_defaults() -> None:
    for directory, radial in (("short", '"optimal"'), ("long", '{ family = "optimal" }')):
        Path("spec.toml").write_text(GOOD + f"radial = {radial}\n")
        assert _run("compile", "spec.toml", "--out", directory).exit_code == 0
    assert read_package(Path("short/good")) == read_package(Path("long/good"))


def test_filters_that_vanish_between_their_shells_are_compiled() -> None:
    """Of sigma 0.001 on voxels of 100 all values but those on the shells are below the smallest float64."""
    result = _compile(GOOD + "voxel_spacing = 100\nradial = { family = 'shells', sigma = 0.001 }\n")
    assert result.exit_code == 0, result.stderr


NOTES = {
    "a number alone": (["1", "2x0", "--kernel-size", "3"], "note: IN = '1' is one field of degree 1, 3 channels."),
    "an even size": (
        ["1x0", "2x0", "--kernel-size", "4,3,4", "--dilation", "1,1,2"],
        "note: Conv has an even kernel_size: along x its output is one voxel shorter than its input",
    ),
    "no filter": (
        ["1x0", "2x0 + 2x4", "--kernel-size", "3"],
        "warning: no kernel reaches 2x4 of Conv: always zero, because no filter of degree J = 4 is on the 3x3x3 grid. "
        "Enlarge kernel_size, or take another radial family or cutoff",
    ),
    "no parity": (
        ["1x0e", "2x0e + 2x0o", "--kernel-size", "3"],
        "warning: no kernel reaches 2x0o of Conv: always zero, because no kernel from 1x0e to 2x0o has the right "
        "parity. Give the layer an input of another parity, or leave 2x0o out.",
    ),
}


@pytest.mark.parametrize("case", NOTES)
def test_what_a_user_would_not_expect_is_a_note_with_the_cure(case: str) -> None:
    arguments, note = NOTES[case]
    result = _run("conv", *arguments)
    assert result.exit_code == 0 and note in result.stderr and result.stderr.count("\n") == 1


def test_an_ordinary_layer_has_no_notes() -> None:
    assert _run("conv", "1x0", "2x0 + 2x1", "--kernel-size", "4", "--dilation", "2").stderr == ""


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
        '"1x0e" "2x1o + 1x2e" --kernel-size 4,4,3 --voxel-spacing 1,1,1.5 --gated --dilation 2 --radial bandwidth=0.4',
        '"1x0" "1x1" --kernel-size 5 --family shells --radial cutoff=0,1,2 --execution dense',
    ],
)
def test_conv_makes_a_package_and_names_the_command_that_makes_it_again(options: str) -> None:
    result = _run("conv", *shlex.split(options), "--name", "layer")
    assert result.exit_code == 0, result.stderr
    first = read_package(Path("generated/layer"))
    command = json.loads(first["manifest.json"])["command"]
    assert _run(*shlex.split(command)[1:], "--out", "again").exit_code == 0
    assert read_package(Path("again/layer")) == first


BAD_OPTIONS = {
    "--kernel-size five": "kernel_size = 'five' is not a whole number",
    "--kernel-size 3 --radial sigma": "--radial 'sigma' is not KEY=VALUE",
    "--kernel-size 3 --radial =1": "--radial '=1' is not KEY=VALUE",
    "--kernel-size 3 --radial sigma=1 --radial sigma=2": "--radial 'sigma=2': sigma is there already. Give it once",
    "--kernel-size 3 --radial family=optimal": "--radial 'family=optimal': family is there already. Use --family",
    f"--kernel-size 3 --radial {'9' * 5000}": "(5002 characters) is not KEY=VALUE",
    "--kernel-size 3 --name a-b": "package name 'a-b' is not an identifier",
}


@pytest.mark.parametrize("bad", BAD_OPTIONS)
def test_bad_options_of_conv_are_one_line(bad: str) -> None:
    result = _run("conv", "1x0", "1x1", *shlex.split(bad))
    assert result.exit_code == 2 and result.stderr.count("\n") == 1 and not Path("generated").exists()
    assert BAD_OPTIONS[bad] in result.stderr


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="a device of Linux'")
@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_output_that_cannot_be_written_is_one_line(unbuffered: str) -> None:
    environment = _environment() | {"PYTHONUNBUFFERED": unbuffered}
    with Path("/dev/full").open("w") as full:
        command = [sys.executable, "-m", "basisgen.cli", "show", "1", "1"]
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, env=environment, check=False)
    assert done.returncode == 2 and done.stderr == "basisgen: cannot go on: output: No space left on device.\n"


def test_a_reader_that_leaves_is_not_an_error() -> None:
    command = [sys.executable, "-m", "basisgen.cli", "show", "4", "4"]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=_environment()
    ) as process:
        assert process.stdout is not None and process.stderr is not None
        process.stdout.readline()
        process.stdout.close()
        assert process.stderr.read() == ""


def _environment() -> dict[str, str]:
    return os.environ | {"PYTHONPATH": str(Path(__file__).parent.parent.parent), "OMP_NUM_THREADS": "1"}


def test_python_runs_the_package_as_the_command() -> None:
    command = [sys.executable, "-m", "basisgen", "--version"]
    done = subprocess.run(command, env=_environment(), capture_output=True, text=True, check=True)
    assert done.stdout.startswith("basisgen, version ")


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
    (shown,) = json.loads(_run("show", "2", "0", "--format", "json").stdout)
    assert [element["J"] for element in shown["elements"]] == [2]
    assert _run("show", "1", "99").exit_code == 2


@pytest.mark.parametrize("command", [None, *main.commands])
def test_every_help_has_an_example_that_names_its_command(command: str | None) -> None:
    result = _run(*([command] if command else []), "--help")
    example = result.stdout.partition("Example:")[2]
    assert result.exit_code == 0 and f"basisgen {command or 'compile'} " in example


def test_the_examples_of_every_help_run() -> None:
    """As a newcomer would try them; what takes long is only parsed."""
    for command in main.commands:
        context = click.Context(main.commands[command], info_name=command)
        example = _run(command, "--help").stdout.partition("Example:")[2].partition("Options:")[0]
        for line in (line.strip() for line in example.splitlines() if line.strip()):
            words = shlex.split(line)
            assert words[0] == "basisgen"
            main.make_context("basisgen", words[1:2], resilient_parsing=True)
            main.commands[words[1]].parse_args(context, words[2:])
            if words[1] in ("conv", "show", "new"):
                assert _run(*words[1:]).exit_code == 0, line


@pytest.mark.parametrize(
    ("radial", "family"),
    [
        ([], "separable"),
        (["max_defect=0.2"], "separable"),
        (["levels=2"], "separable"),
        (["sigma=0.4"], "shells"),
        (["sigma=0.4", "cutoff=4,4", "radii=0,1.5"], "shells"),
        (["n_max=2"], "hermite"),
    ],
)
def test_settings_without_a_family_mean_the_one_that_has_them(radial: list[str], family: str, tmp_path: Path) -> None:
    options = [part for setting in radial for part in ("--radial", setting)]
    command = ["conv", "1x0", "2x0", "--kernel-size", "3" if family != "shells" else "5", "--out", str(tmp_path)]
    assert CliRunner().invoke(main, [*command, *options]).exit_code == 0
    manifest = json.loads((tmp_path / "conv" / "manifest.json").read_text())
    assert manifest["spec"][0]["radial"]["family"] == family
