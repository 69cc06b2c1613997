"""`basisgen new`: every preset compiles, trains and passes its own tests; nothing is overwritten."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from basisgen.cli import main
from basisgen.commands.new.presets import NETWORK, PRESETS
from basisgen.commands.new.project import project, write_project
from basisgen.spec import parse_package
from tests.conftest import REPOSITORY, needs_ruff


@pytest.fixture(autouse=True)
def in_an_empty_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def _new(*arguments: str) -> Result:
    return CliRunner().invoke(main, ["new", *arguments], catch_exceptions=False)


def _run(directory: Path, *arguments: str) -> str:
    """In a fresh process of this interpreter that finds basisgen and runtime, as an installed one would."""
    environment = os.environ | {"PYTHONPATH": str(REPOSITORY), "OMP_NUM_THREADS": "1"}
    result = subprocess.run(
        [sys.executable, *arguments], cwd=directory, env=environment, capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout


@pytest.mark.parametrize("preset", PRESETS)
def test_every_preset_has_a_spec_the_compiler_takes_and_code_python_takes(preset: str) -> None:
    result = _new("first", "--preset", preset)
    assert result.exit_code == 0 and "cd first" in result.stdout
    spec = parse_package(Path("first/first.toml").read_text())
    assert spec.name == "first"
    commands = [line for line in Path("first/README.md").read_text().splitlines() if line.startswith("    ")]
    assert len(commands) == 6 and len({line.index(" # ") for line in commands}) == 1
    columns = [line.index(" # ") for line in Path("first/first.toml").read_text().splitlines() if " # " in line[1:]]
    assert columns[0] in columns[1:]  # of the name, which is as long as the user's
    for path in Path("first").glob("*.py"):
        compile(path.read_text(), path, "exec")
    network = Path("first/network.py").read_text()
    if preset in NETWORK:
        assert spec.network is not None and "runtime.network(first)" in network
    else:
        imported = re.search(r"from generated.first import (.*)", network)
        assert imported and set(imported[1].split(", ")) == {layer.name for layer in spec.layers}


@needs_ruff
@pytest.mark.parametrize("preset", PRESETS)
def test_every_project_is_formatted_and_clean(preset: str) -> None:
    _new("first", "--preset", preset)
    Path("first/generated/first").mkdir(parents=True)  # so that it counts as the project's own
    options = ("--isolated", "--line-length", "120", "--target-version", "py311", ".")
    _run(Path("first"), "-m", "ruff", "check", "--select", "E,F,W,I,UP,B,C4,SIM,RET,PTH,RUF", *options)
    _run(Path("first"), "-m", "ruff", "format", "--check", *options)


def test_no_output_of_a_preset_is_always_zero() -> None:
    from basisgen.pipeline import plan

    for preset in PRESETS:
        spec = parse_package(project("first", preset)["first.toml"])
        assert not any(layer.silent_terms for layer in plan(spec).layers), preset


@pytest.mark.parametrize("preset", PRESETS)
def test_a_failing_seed_is_not_shrunk(preset: str) -> None:
    """No seed is simpler than another, and each try takes seconds: with the settings of the project's tests, a test
    that always fails is called once, not once for every seed Hypothesis would try in five minutes."""
    _new("first", "--preset", preset)
    text = Path("first/test_network.py").read_text()
    names: dict[str, object] = {}
    exec(re.search(r"^WITHOUT_SHRINKING = .*", text, re.M)[0], {"Phase": Phase}, names)  # type: ignore[index]
    settings_of_tests = re.findall(r"^@settings\((.*)\)", text, re.M)
    assert settings_of_tests
    for given_settings in settings_of_tests:
        calls: list[int] = []

        def fails(seed: int, calls: list[int]) -> None:
            calls.append(seed)
            raise AssertionError

        as_in_the_project = eval(f"settings({given_settings}, database=None)", {"settings": settings, **names})
        with pytest.raises(AssertionError):
            as_in_the_project(given(st.integers(0, 2**32 - 1), st.just(calls))(fails))()
        assert len(calls) <= 2  # and once more, to be sure


SHORT = {
    "tetris": ["--epochs", "2", "--rotations", "1"],
    "segmentation": ["--epochs", "1", "--scans", "4"],
    "classification": ["--epochs", "1", "--chains", "8"],
    "volumes": ["--epochs", "1", "--scans", "16"],
    "sphere": ["--epochs", "1", "--skies", "24"],
    "molecule": ["--epochs", "1", "--molecules", "32"],
}


@pytest.mark.slow
@pytest.mark.parametrize(("preset", "arguments"), SHORT.items())
def test_every_preset_compiles_trains_and_passes_its_tests(preset: str, arguments: list[str]) -> None:
    assert _new("first", "--preset", preset).exit_code == 0
    home = Path("first")
    _run(home, "-m", "basisgen.cli", "compile", "first.toml")
    assert "verified" in _run(home, "-m", "basisgen.cli", "verify", "generated/first")
    assert "loss" in _run(home, "train.py", *arguments)
    assert "passed" in _run(home, "-m", "pytest", "-q")


@pytest.mark.slow
def test_molecules_of_more_elements_than_the_spec_has_copies_for_are_told_what_to_write() -> None:
    _new("first", "--preset", "molecule")
    home, data = Path("first"), Path("first/data.py")
    _run(home, "-m", "basisgen.cli", "compile", "first.toml")
    data.write_text(data.read_text().replace("ELEMENTS = (1, 6)", "ELEMENTS = (1, 6, 7, 8)"))
    script = "import network\ntry: network.Network()\nexcept ValueError as error: print(error)"
    assert 'in = "24x0..4" for Lift in first.toml, then: basisgen compile first.toml' in _run(home, "-c", script)
    spec = home / "first.toml"
    spec.write_text(spec.read_text().replace('in = "12x0..4"', 'in = "24x0..4"'))
    _run(home, "-m", "basisgen.cli", "compile", "first.toml")
    assert not _run(home, "-c", script)


@pytest.mark.slow
@pytest.mark.parametrize(("preset", "arguments"), SHORT.items())
def test_of_two_processes_that_train_together_one_tests_and_prints(preset: str, arguments: list[str]) -> None:
    _new("first", "--preset", preset)
    home = Path("first")
    _run(home, "-m", "basisgen.cli", "compile", "first.toml")
    alone = _run(home, "train.py", *arguments, "--runs", "runs/one")
    torchrun = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    together = _run(home, *torchrun, "train.py", *arguments, "--runs", "runs/two")
    assert together.count("loss") == 1
    words = [re.sub(r"[\d.]+", "#", printed) for printed in (alone, together)]
    assert words[0] == words[1], "the same lines, with other figures"


TRAINING = """
import os
import sys
import torch
from runtime.train import TrainConfig, train
from data import Skies
from network import Network
torch.manual_seed(0)
model = Network()
config = TrainConfig(epochs=2, batch_size=8, learning_rate=0.01, precision="float64", tensorboard=False, device="cpu")
train(model, Skies(20), config, sys.argv[1], resume=True)  # the last step of an epoch is half as long
if os.environ.get("RANK", "0") == "0":
    torch.save(model.state_dict(), f"{sys.argv[1]}/final.pt")
"""


@pytest.mark.slow
def test_two_processes_train_the_sphere_to_the_weights_of_one() -> None:
    """In float64, statistics of norms included."""
    import torch

    _new("first", "--preset", "sphere")
    home = Path("first")
    _run(home, "-m", "basisgen.cli", "compile", "first.toml")
    (home / "training.py").write_text(TRAINING)
    torchrun = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    _run(home, "training.py", "one")
    _run(home, *torchrun, "training.py", "two")
    one, two = (torch.load(home / name / "final.pt") for name in ("one", "two"))
    assert one and one.keys() == two.keys()
    for name, value in one.items():
        torch.testing.assert_close(two[name], value, rtol=0, atol=1e-9)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("preset", "expected"),
    [
        ("tetris", r"shapes: (100|9\d)\.\d%"),
        ("classification", r"any orientation: (100|9\d|8[5-9])\.\d%"),
        ("sphere", r"any orientation: (100|9[5-9])\.\d%"),
        ("molecule", r"mean error 0\.[01]\d+ of 4\.\d+ eV\n(.*\n)*turned at random: energies differ by \de-0[5-9] "),
    ],
)
def test_the_presets_learn_what_they_claim(preset: str, expected: str) -> None:
    _new("first", "--preset", preset)
    _run(Path("first"), "-m", "basisgen.cli", "compile", "first.toml")
    assert re.search(expected, _run(Path("first"), "train.py"))


def test_an_empty_directory_is_filled() -> None:
    Path("first").mkdir()
    assert _new("first", "--preset", "tetris").exit_code == 0
    assert Path("first/train.py").exists()


def test_a_directory_with_anything_in_it_is_left_alone() -> None:
    Path("first").mkdir()
    Path("first/thesis.txt").write_text("years of work")
    result = _new("first", "--preset", "tetris")
    assert result.exit_code == 2
    assert result.stderr == (
        "basisgen: first is there already, and not an empty directory. Choose another name, or remove it.\n"
    )
    assert [path.name for path in Path().rglob("*")] == ["first", "thesis.txt"]


def test_a_file_or_a_link_in_its_place_is_left_alone() -> None:
    Path("first").write_text("a file")
    Path("second").symlink_to("nowhere")
    for name in ("first", "second"):
        result = _new(name, "--preset", "tetris")
        assert result.exit_code == 2 and "there already" in result.stderr
    assert Path("first").read_text() == "a file"
    assert sorted(path.name for path in Path().iterdir()) == ["first", "second"]


@pytest.mark.parametrize("name", ["../up", "a/b", "import", "1st", "", "x" * 65, "a-b", "with space", '"\n[evil]'])
def test_names_that_python_cannot_import_are_refused(name: str, tmp_path: Path) -> None:
    result = _new(name, "--preset", "tetris")
    assert result.exit_code == 2 and "package name" in result.stderr
    assert not list(tmp_path.iterdir())


def test_a_crash_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(UnicodeEncodeError):
        write_project({"good.py": "", "bad.py": "\ud800"}, tmp_path / "first")
    assert not list(tmp_path.iterdir())


def test_an_unknown_preset_is_named() -> None:
    result = _new("first", "--preset", "tertis")
    assert result.exit_code == 2 and "tertis" in result.stderr and "segmentation" in result.stderr
