"""`basisgen tune` and `compile -v`: what runs how, what was predicted and what was measured."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from basisgen.cli import main
from basisgen.spec import Execution, Tuning, parse_package

SPEC = """
name = "both"
[defaults]
kernel_size = 5
radial = { family = "hermite", n_max = 3 }
[[conv]]
name = "Free"
in = "2x0 + 1x1"
out = "2x0 + 1x1"
[[conv]]
name = "Forced"
in = "2x0 + 1x1"
out = "1x0 + 1x2"
execution = "dense"
[[conv]]
name = "Shells"
in = "1x0"
out = "1x0 + 1x1"
radial = { family = "shells" }
"""
RATIOS = {"Free": {"dense": 1.25, "separable": 0.5}}


@pytest.fixture(autouse=True)
def _in_an_empty_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("both.toml").write_text(SPEC)


def _run(*arguments: str) -> Result:
    return CliRunner().invoke(main, list(arguments))


def _manifest() -> dict[str, Any]:
    manifest: dict[str, Any] = json.loads(Path("generated/both/manifest.json").read_text())
    return manifest


def test_the_plan_prints_itself() -> None:
    output = _run("compile", "both.toml", "-v").output
    assert [line.split()[0] for line in output.splitlines()[4:8]] == ["layer", "Free", "Forced", "Shells"]
    dense = {"Forced": 6 * 5 * 125, "Shells": 4 * 125}
    for name, multiply_adds in dense.items():
        (line,) = [line for line in output.splitlines() if line.startswith(f"{name} ")]
        assert f"{multiply_adds:,}" in line and "1.000" in line
    assert _run("compile", "both.toml", "-v").output.endswith("generated/both is up to date\n")


def test_tuning_measures_free_layers_and_compiling_keeps_the_choice() -> None:
    _run("compile", "both.toml")
    before = _manifest()
    tuned = _run("tune", "generated/both", "--volume", "8,9,10", "--samples", "1", "--rounds", "1", "--threads", "1")
    assert tuned.exit_code == 0 and "generated/both is tuned" in tuned.output
    assert "cpu, 1 threads, 1 volumes of 8x9x10, stride 1, float32, torch" in tuned.output
    manifest = _manifest()
    ratios = manifest["tuned"]["ratios"]
    assert ratios.keys() == {"Free"} and all(ratio > 0 for ratio in ratios["Free"].values())
    assert manifest["layers"]["Free"]["execution"] == min(ratios["Free"], key=ratios["Free"].__getitem__)
    assert manifest["layers"]["Forced"] == before["layers"]["Forced"] and manifest["spec"] == before["spec"]
    assert _run("compile", "both.toml").output == "generated/both is up to date\n"
    assert _run("compile", "both.toml", "--check").exit_code == 0
    assert _run("compile", "both.toml", "--force").exit_code == 0 and _manifest() == manifest
    verified = _run("verify", "generated/both", "--no-run")
    assert verified.exit_code == 0, verified.output


@pytest.mark.parametrize("faster", ["dense", "separable"])
def test_the_faster_way_is_taken(faster: str) -> None:
    ratios = {"Free": {**RATIOS["Free"], faster: 0.25}}
    tuning = Tuning.parse({"setting": "somewhere", "ratios": ratios})
    assert tuning.choice("Free") is Execution(faster) and tuning.choice("Shells") is None
    assert Tuning.parse(json.loads(json.dumps(tuning.describe()))) == tuning


@pytest.mark.parametrize(
    "table",
    [
        None,
        {},
        {"setting": 3, "ratios": RATIOS},
        {"setting": "x", "ratios": {"Free": {"dense": 1.0}}},
        {"setting": "x", "ratios": {"Free": {"dense": 1.0, "separable": -1.0}}},
        {"setting": "x", "ratios": {"Free": {"dense": 1.0, "separable": "0"}}},
        {"setting": "x", "ratios": ["Free"]},
    ],
)
def test_a_forged_tuning_is_refused(table: Any) -> None:
    from basisgen.errors import SpecError

    with pytest.raises(SpecError, match=r"tuned = .* is not what basisgen tune writes"):
        Tuning.parse(table)
    _run("compile", "both.toml")
    path = Path("generated/both/manifest.json")
    path.write_text(json.dumps({**_manifest(), "tuned": table}))
    assert _run("verify", "generated/both", "--no-run").exit_code == 1
    assert _run("compile", "both.toml", "--force").exit_code == 0 and "tuned" not in _manifest()


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["generated/nothing"], "cannot read generated/nothing/manifest.json"),
        (["generated/both", "--volume", "8,9"], "--volume [8, 9] is not a number of voxels, or three"),
        (["generated/both", "--volume", "0"], "is not a number of voxels, or three"),
        (["generated/both", "--device", "abacus"], "--device 'abacus' is not there"),
    ],
)
def test_mistakes_are_one_line_and_change_nothing(arguments: list[str], complaint: str) -> None:
    _run("compile", "both.toml")
    before = Path("generated/both/manifest.json").read_bytes()
    result = _run("tune", *arguments)
    assert result.exit_code == 2 and complaint in result.stderr and result.stderr.startswith("basisgen: ")
    assert Path("generated/both/manifest.json").read_bytes() == before


def test_nothing_to_tune_is_said() -> None:
    Path("shells.toml").write_text('name = "shells"\n[[conv]]\nname = "C"\nin = "1x0"\nout = "1x0"\nkernel_size = 3\n')
    _run("compile", "shells.toml")
    result = _run("tune", "generated/shells")
    assert result.exit_code == 2 and "package 'shells' has nothing to tune" in result.stderr


def test_several_processes_write_the_same_bytes() -> None:
    from basisgen.pipeline import compile_package

    spec = parse_package(SPEC)
    assert compile_package(spec, jobs=2) == compile_package(spec)
