"""`basisgen tune` and `compile -v`: what runs how, what was predicted and what was measured."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from hypothesis import given, settings
from hypothesis import strategies as st

from basisgen.cli import main
from basisgen.emission.write import read_package
from basisgen.pipeline import plan
from basisgen.spec import parse_package
from basisgen.tuning import Tuning
from basisgen.volumes.conv_plan import ConvPlan
from basisgen.volumes.execution import Execution, Measured, smallest_volumes

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
    assert "cpu, 1 thread, 1 volume of 8x9x10, stride 1, float32, torch" in tuned.output
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
    tuning = Tuning.parse({"setting": "somewhere", "ratios": ratios}, {"Free": "conv"})
    assert tuning.choice("Free") == faster and tuning.choice("Shells") is None
    assert Tuning.parse(json.loads(json.dumps(tuning.describe())), {"Free": "conv"}) == tuning


@given(st.floats(0.05, 0.99), st.integers(1, 10**7), st.sampled_from([1, 2, 5]), st.booleans())
@settings(deadline=None, max_examples=50)
def test_the_threshold_that_is_measured_is_no_larger_than_the_volume_it_was_measured_on(
    ratio: float, voxels: int, stride: int, on_gpu: bool
) -> None:
    def measured(ratio: float) -> Mapping[int, int]:
        smallest = smallest_volumes(120, 120, 343, 4, 35, Measured(ratio, voxels, stride, on_gpu))
        return smallest.on_gpu if on_gpu else smallest.on_cpu

    assert 0 < measured(ratio)[stride] <= voxels + 1
    slower = measured(1 / ratio)
    assert slower.get(stride, voxels + 1) > voxels - 1  # passes that lost there begin beyond it


def test_a_measurement_on_a_cpu_says_nothing_of_a_gpu() -> None:
    """There the more taps, the smaller the volume from which on passes are the faster way; with few, they never are."""
    plain, measured = (smallest_volumes(120, 120, 343, 4, 35, m) for m in (None, Measured(0.1, 1000, 1)))
    assert replace(plain, on_cpu={}) == replace(measured, on_cpu={}) and plain.on_cpu != measured.on_cpu
    nine, three = smallest_volumes(120, 120, 729, 4, 35), smallest_volumes(120, 120, 27, 2, 10)
    assert 1000 < nine.on_gpu[1] < plain.on_gpu[1] and 1000 < nine.on_gpu_in_16_bits[1] < plain.on_gpu_in_16_bits[1]
    assert not three.on_gpu and not three.on_gpu_in_16_bits


def test_a_measurement_on_a_gpu_says_nothing_of_a_cpu() -> None:
    """And dense kernels that were faster there on one volume do not take the passes from a CPU."""
    plain = smallest_volumes(120, 120, 343, 4, 35)
    measured = smallest_volumes(120, 120, 343, 4, 35, Measured(0.1, 1000, 1, on_gpu=True))
    assert replace(plain, on_gpu={}) == replace(measured, on_gpu={}) and measured.on_gpu[1] <= 1001 < plain.on_gpu[1]
    setting = "cuda, 1 volume of 10x10x10, stride 1, float32, torch 2.13"
    wide = 'in = "16x0 + 8x1"\nout = "16x0 + 8x1"\nkernel_size = 7'
    untuned = parse_package(f'name = "wide"\n[[conv]]\nname = "Wide"\n{wide}\n')
    tuned = replace(untuned, tuned=Tuning(setting, {"Wide": {"dense": 1.0, "separable": 1.5}}))
    plans = [plan(spec).layers[0] for spec in (untuned, tuned)]
    smallest = [layer.smallest for layer in plans if isinstance(layer, ConvPlan)]
    assert smallest[0] is not None and smallest[1] is not None and smallest[0].on_cpu == smallest[1].on_cpu


def test_a_tuned_layer_still_runs_small_volumes_dense() -> None:
    """The layer's numbers: passes that were a little faster on 1,000 voxels are so from nearly as many on."""
    ratios = {"Free": {"dense": 1.0, "separable": 0.9}}
    setting = "cpu, 1 thread, 1 volume of 10x10x10, stride 1, float32, torch 2.13"
    spec = replace(parse_package(SPEC), tuned=Tuning(setting, ratios))
    free = plan(spec).layers[0]
    assert isinstance(free, ConvPlan)
    assert free.execution is Execution.SEPARABLE and free.smallest is not None
    assert 500 < free.smallest.on_cpu[1] <= 1000


def test_a_line_per_layer_where_there_is_no_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    from basisgen.commands import tune

    _run("compile", "both.toml")
    monkeypatch.setattr(tune, "_ratios", lambda *_: {"dense": 1.25, "separable": 0.5})
    result = _run("tune", "generated/both")
    assert result.stderr == "Free: dense 1.25, separable 0.50 of torch.nn.Conv3d's time\n"


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
        {"setting": "x", "ratios": {"Other": RATIOS["Free"]}},
        {"setting": "x", "ratios": {"Free": {"stock": 1.0, "triton": 0.5}}},
    ],
)
def test_a_forged_tuning_is_refused(table: Any) -> None:
    from basisgen.errors import SpecError

    with pytest.raises(SpecError, match=r"tuned = .* is not what basisgen tune writes"):
        Tuning.parse(table, {"Free": "conv"})
    _run("compile", "both.toml")
    path = Path("generated/both/manifest.json")
    path.write_text(json.dumps({**_manifest(), "tuned": table}))
    assert _run("verify", "generated/both", "--no-run").exit_code == 1
    assert _run("compile", "both.toml", "--force").exit_code == 0 and "tuned" not in _manifest()


def test_the_output_says_what_was_measured_what_has_changed_and_how_to_undo_it(monkeypatch: pytest.MonkeyPatch) -> None:
    from basisgen.commands import tune

    _run("compile", "both.toml")
    before = read_package(Path("generated/both"))
    for ratios, line in (
        ({"dense": 1.25, "separable": 0.5}, "Free   separable, was dense   1.25       0.50"),
        ({"dense": 1.5, "separable": 0.75}, "Free   separable, as before   1.50       0.75"),
    ):
        monkeypatch.setattr(tune, "_ratios", lambda *_, ratios=ratios: ratios)
        result = _run("tune", "generated/both")
        assert line in result.stdout and "Forced" not in result.stdout and "torch.nn.Conv3d" in result.stdout
        assert result.stdout.endswith("To undo: basisgen tune generated/both --undo\n")
        assert _manifest()["layers"]["Free"]["execution"] == "separable"
    result = _run("tune", "generated/both", "--undo")
    assert result.exit_code == 0 and "every layer runs as the compiler predicts" in result.stdout
    assert read_package(Path("generated/both")) == before


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["generated/nothing"], "cannot read generated/nothing: No such file"),
        (["generated/both", "--volume", "8,9"], "--volume [8, 9] is not 1 to 1024 voxels, or three such numbers"),
        (["generated/both", "--volume", "0"], "--volume 0 is not 1 to 1024 voxels"),
        (["generated/both", "--volume", "100000"], "--volume 100000 is not 1 to 1024 voxels"),
        (["generated/both", "--volume", "1e3"], "is not 1 to 1024 voxels"),
        (
            ["generated/both", "--device", "abacus"],
            "--device 'abacus' is not one that torch computes on here. Take cpu",
        ),
        (["generated/both", "--device", "meta"], "--device 'meta' is not one that torch computes on here. Take cpu"),
        (["generated/both", "--device", ""], "--device '' is not one that torch computes on here"),
        # far beyond any address space: 1024 volumes of 1024^3 voxels and 5 channels
        (
            ["generated/both", "--volume", "1024", "--samples", "1024"],
            "layer 'Free' does not run on 1,024 volumes of 1024x1024x1024: not enough memory. Take a smaller --volume",
        ),
    ],
)
def test_mistakes_are_one_line_and_change_nothing(arguments: list[str], complaint: str) -> None:
    _run("compile", "both.toml")
    before = Path("generated/both/manifest.json").read_bytes()
    result = _run("tune", *arguments)
    assert result.exit_code == 2 and complaint in result.stderr and result.stderr.startswith("basisgen: ")
    assert result.stderr.count("\n") == 1
    assert Path("generated/both/manifest.json").read_bytes() == before


@pytest.mark.parametrize("manifest", [b"", b"{", b"[]", b'"x"', b"[" * 100_000])
def test_a_manifest_without_a_spec_is_one_line(manifest: bytes) -> None:
    _run("compile", "both.toml")
    Path("generated/both/manifest.json").write_bytes(manifest)
    result = _run("tune", "generated/both")
    assert result.exit_code == 2 and result.stderr.count("\n") == 1
    assert "manifest.json holds no spec: " in result.stderr and "compile it again" in result.stderr


def test_a_place_that_cannot_be_written_is_refused_before_anything_is_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    _run("compile", "both.toml")
    Path("link").symlink_to("generated/both")
    assert "link is a symbolic link" in _run("tune", "link").stderr
    Path("generated/both/notes.txt").write_text("mine")
    assert "notes.txt was not written by basisgen and would be lost" in _run("tune", "generated/both").stderr
    monkeypatch.chdir("generated/both")
    assert ". cannot be replaced from inside. Name it from outside" in _run("tune", ".").stderr
    assert Path("notes.txt").read_text() == "mine"


def test_a_package_with_nothing_to_tune_is_one_error() -> None:
    layer = 'name = "C"\nin = "1x0"\nout = "1x0"\nkernel_size = 3\nradial = "shells"\n'
    Path("shells.toml").write_text(f'name = "shells"\n[[conv]]\n{layer}')
    _run("compile", "shells.toml")
    result = _run("tune", "generated/shells")
    assert result.exit_code == 2 and "package 'shells' has nothing to tune" in result.stderr


def test_several_processes_write_the_same_bytes() -> None:
    from basisgen.pipeline import compile_package

    spec = parse_package(SPEC)
    assert compile_package(spec, jobs=2) == compile_package(spec)
