"""The Tetris experiment: its data are exact, its networks have the paper's sizes, and a tiny run leaves its results."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from examples.common.cases import Case, Outcome, run_cases
from examples.common.files import DataError
from examples.common.results import write_results
from examples.tetris.experiment import SETTING, build, prepare, study
from examples.tetris.preset import Preset, load_preset
from examples.tetris.shapes import SHAPES, Raster, random_rotations, render
from runtime.so3 import cube_turns

RASTER = Raster(size=16, cell=2.0, blur=1.0)


def test_volumes_hold_four_cubes_in_every_orientation() -> None:
    volumes = render(random_rotations(4, 0), RASTER)
    torch.testing.assert_close(volumes.sum(dim=(2, 3, 4)), torch.full((4, 8), 4 * RASTER.cell**3), rtol=2e-3, atol=0)


def test_a_quarter_turn_of_the_shape_is_a_quarter_turn_of_the_volume() -> None:
    turn = torch.tensor([[0.0, -1.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, 1.0]])
    straight, turned = render(torch.stack([torch.eye(3), turn]), RASTER)
    torch.testing.assert_close(turned, straight.rot90(1, dims=(1, 2)))


def test_the_screws_are_mirror_images_and_no_turn_makes_them_equal() -> None:
    left, right = render(torch.eye(3)[None], RASTER)[0][:2]
    torch.testing.assert_close(left.flip(1), right)
    turns = [turn for turn in cube_turns() if torch.linalg.det(turn.float()) > 0]
    turned = render(torch.stack(turns).float(), RASTER, shapes=["left screw"])[:, 0]
    assert min((volume - right).abs().max() for volume in turned) > 0.1


def test_rotations_are_rotations() -> None:
    rotations = random_rotations(20, 1)
    torch.testing.assert_close(rotations @ rotations.mT, torch.eye(3).expand(20, 3, 3), atol=1e-5, rtol=0)
    assert (torch.linalg.det(rotations) > 0).all()


def test_the_paper_network_has_the_paper_sizes() -> None:
    model = build("steerable", load_preset("paper"))
    sizes = []
    for layer in model.fields:
        layer.register_forward_hook(lambda module, _, output: sizes.append((type(module).__name__, output.shape[-1])))
    with torch.no_grad():
        model(torch.zeros(1, 1, 36, 36, 36))
    assert next(size for name, size in sizes if name == "Gate") == 40
    assert [size for name, size in sizes if name == "LowPass"] == [22, 13]


@pytest.mark.parametrize(
    ("preset", "network"),
    [
        ("quick", "steerable"),
        ("sphere", "steerable-sphere"),
        pytest.param("paper", "steerable", marks=pytest.mark.slow),
    ],
)
def test_quarter_turns_do_not_change_the_answer(preset: str, network: str) -> None:
    """Exact under the turns of the cube, strides included; float32."""
    settings = load_preset(preset)
    torch.manual_seed(0)
    model = build(network, settings).eval()
    volume = torch.randn(1, 1, *[settings.raster.size] * 3)
    with torch.no_grad():
        expected, turned = model(volume), model(volume.rot90(1, dims=(2, 4)))
    torch.testing.assert_close(turned, expected, atol=1e-4 * float(expected.abs().max()), rtol=0)


def test_the_ablation_differs_from_the_steerable_network_in_the_low_pass_alone() -> None:
    """Same weights, same sizes; and, the negative control of the test above, turns that the grid allows change it."""
    settings = load_preset("quick")
    torch.manual_seed(0)
    steerable, plain = (build(name, settings).eval() for name in ("steerable", "steerable-plain-stride"))
    layers = [[type(layer).__name__ for layer in model.fields] for model in (steerable, plain)]
    at = layers[0].index("LowPass")
    assert layers[1] == [*layers[0][:at], "AvgPool3d", *layers[0][at + 1 :]]
    plain.load_state_dict({key: value for key, value in steerable.state_dict().items() if key in plain.state_dict()})
    fields = torch.randn(1, 28, 24, 24, 24)
    torch.testing.assert_close(plain.fields[at](fields), fields[..., ::2, ::2, ::2])
    assert steerable.fields[at](fields).shape == plain.fields[at](fields).shape
    volume = torch.randn(1, 1, 24, 24, 24)
    with torch.no_grad():
        expected, turned = plain(volume), plain(volume.rot90(1, dims=(2, 4)))
    assert float((turned - expected).abs().max()) > 1e-3 * float(expected.abs().max())


def test_functions_on_the_sphere_stand_where_gates_do() -> None:
    settings = load_preset("sphere")
    gated, on_sphere = (build(name, settings) for name in ("steerable", "steerable-sphere"))
    kinds = [[type(layer).__name__ for layer in model.fields] for model in (gated, on_sphere)]
    assert kinds[0] == ["Conv1", "Gate", "LowPass", "Conv2", "Gate", "Conv3", "Gate", "Conv4", "Gate", *kinds[0][9:]]
    assert kinds[1] == ["Conv1", "LowPass", "OnSphere", "Conv2", "OnSphere", "Conv3", "OnSphere", *kinds[0][7:]]


@pytest.mark.parametrize("preset", ["sphere", "paper"])
def test_every_network_of_a_preset_can_be_built(preset: str) -> None:
    settings = replace(load_preset(preset), raster=Raster(size=12, cell=1.5, blur=1.0))
    for name in settings.networks:
        with torch.no_grad():
            assert build(name, settings).eval()(torch.zeros(1, 1, 12, 12, 12)).shape == (1, len(SHAPES)), name


def test_data_are_made_not_given(tmp_path: Path) -> None:
    assert prepare("quick", None).networks == tuple(load_preset("quick").networks)
    with pytest.raises(DataError, match="Leave --data out"):
        prepare("quick", tmp_path)


def tiny() -> Preset:
    preset = load_preset("sphere")
    training = replace(preset.training, epochs=2)
    return replace(preset, raster=Raster(size=12, cell=1.5, blur=1.0), training=training, test_rotations=2)


def run(networks: tuple[str, ...], directory: Path) -> list[Outcome]:
    of = study(tiny(), "tiny")
    return list(run_cases([Case(name, SETTING, 0) for name in networks], of.run, directory, resume=True))


def test_a_tiny_run_leaves_results_and_a_picture(tmp_path: Path) -> None:
    of = study(tiny(), "tiny")
    networks = ("steerable", "steerable-plain-stride", "conventional")
    outcomes = run(networks, tmp_path)
    assert [outcome.case.network for outcome in outcomes] == list(networks)
    for outcome in outcomes:
        by_shape = json.loads((tmp_path / outcome.case.directory / "by_shape.json").read_text())
        assert outcome.epochs == 2 and outcome.train_samples == len(SHAPES)
        assert sum(by_shape[name] for name in SHAPES) / 8 == pytest.approx(outcome.scores["accuracy"])
    assert outcomes[0].parameters == outcomes[1].parameters
    assert of.picture is not None
    of.picture(tmp_path)
    assert (tmp_path / "tetris.png").stat().st_size > 10_000
    cases = [Case(name, SETTING, 0) for name in of.networks]
    write_results(tmp_path, of, cases, outcomes, "command")
    assert "not run: `command --network steerable-shells" in (tmp_path / "results.md").read_text()


def test_a_case_trains_the_same_again(tmp_path: Path) -> None:
    first, again = (run(("conventional",), tmp_path / place)[0] for place in ("first", "again"))
    assert replace(again, train_seconds=first.train_seconds) == first
