"""The Tetris experiment: its data are exact, its networks have the paper's sizes, and a tiny run leaves its results."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from examples.tetris.experiment import build, finished, run
from examples.tetris.figure import draw
from examples.tetris.presets import Preset, load_preset
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


@pytest.mark.parametrize("preset", ["quick", "paper"])
def test_quarter_turns_do_not_change_the_answer(preset: str) -> None:
    """Exact under the turns of the cube, strides included; float32."""
    settings = load_preset(preset)
    torch.manual_seed(0)
    model = build("steerable", settings).eval()
    volume = torch.randn(1, 1, *[settings.raster.size] * 3)
    with torch.no_grad():
        expected, turned = model(volume), model(volume.rot90(1, dims=(2, 4)))
    torch.testing.assert_close(turned, expected, atol=1e-4 * float(expected.abs().max()), rtol=0)


def tiny(**changes: object) -> Preset:
    preset = load_preset("quick")
    training = replace(preset.training, epochs=1, tensorboard=False)
    return replace(preset, raster=Raster(size=12, cell=1.5, blur=1.0), training=training, test_rotations=2, **changes)


def test_a_tiny_run_leaves_results_and_a_picture(tmp_path: Path) -> None:
    reported: list[str] = []
    outcomes = run(
        tiny(),
        range(1),
        tmp_path,
        ("steerable", "conventional"),
        False,
        lambda outcome: reported.append(outcome.network),
    )
    draw(tiny(), outcomes, tmp_path / "tetris.png")
    results = json.loads((tmp_path / "results.json").read_text())["outcomes"]
    assert reported == [result["network"] for result in results] == ["steerable", "conventional"]
    assert all(set(result["accuracy_by_shape"]) == set(SHAPES) for result in results)
    assert (tmp_path / "tetris.png").stat().st_size > 10_000


def test_finished_runs_are_not_made_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = run(tiny(), range(1), tmp_path, ["conventional"], resume=False)
    retested = run(tiny(shift=0.5), range(1), tmp_path, ["conventional"], resume=True)
    assert finished(tiny(), tmp_path / "conventional-0") is None, "the directory now holds another preset's outcome"
    monkeypatch.setattr("examples.tetris.experiment.prepare", None)
    assert run(tiny(shift=0.5).with_seed(7), range(1), tmp_path, ["conventional"], resume=True) == retested
    assert retested[0].train_loss == first[0].train_loss, "trained by the first run, tested by the second"
