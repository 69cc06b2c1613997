"""Fibres: data known at every point, angles measured right, both networks equivariant or not as they should be."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from examples.common.cases import OUTCOME, Case, run_cases
from examples.common.files import DataError
from examples.common.presets import load_preset
from examples.fibres.experiment import HERE, SCORES, Preset, build, errors, predicted, prepare, train_and_test, view
from examples.fibres.figure import draw
from examples.fibres.networks import StructureTensor
from examples.fibres.volumes import (
    Curves,
    FibreVolumes,
    Raster,
    angles,
    at_points,
    directions,
    draw_curves,
    harmonic_matrices,
    render,
    tensor_error,
)
from runtime.so3 import random_rotations, spherical_harmonics
from runtime.volumes.rotate import turn_field

RASTER = Raster(size=14, fibres=30, radius=1.3, curvature=0.03, cone=40.0, noise=0.0)
TURN = torch.tensor([[0.0, -1.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, 1.0]])


def curves(seed: int = 0) -> Curves:
    return draw_curves(RASTER, torch.Generator().manual_seed(seed))


def test_fibres_are_curves_with_unit_tangents_within_the_cone_at_their_middle() -> None:
    straight = draw_curves(replace(RASTER, curvature=0.0), torch.Generator().manual_seed(0))
    torch.testing.assert_close(straight.tangents.norm(dim=1), torch.ones(len(straight.tangents)))
    assert straight.tangents[:, 2].min() > torch.cos(torch.deg2rad(torch.tensor(RASTER.cone))) - 1e-5
    bent = curves()
    steps = bent.points[1:] - bent.points[:-1]
    near = steps.norm(dim=1) < 1  # within one fibre
    assert near.sum() > 100
    assert angles(torch.nn.functional.normalize(steps[near], dim=1), bent.tangents[:-1][near]).max() < 2


def test_the_harmonic_matrices_give_the_harmonics() -> None:
    vectors = torch.nn.functional.normalize(torch.randn(20, 3, dtype=torch.float64), dim=1)
    quadratic = torch.einsum("pi,mij,pj->pm", vectors, harmonic_matrices(), vectors)
    torch.testing.assert_close(quadratic, spherical_harmonics(2, vectors))


def test_directions_are_read_back_without_their_sign() -> None:
    vectors = torch.nn.functional.normalize(torch.randn(20, 3, dtype=torch.float64), dim=1)
    assert angles(directions(spherical_harmonics(2, vectors)), vectors).max() < 1e-4
    assert angles(vectors, -vectors).max() < 1e-4
    assert angles(torch.eye(3)[:1], torch.eye(3)[1:2]).item() == pytest.approx(90)


def test_a_turned_volume_has_the_turned_target() -> None:
    density, target, fibre = render(curves(), RASTER)
    turned_density, turned_target, turned_fibre = render(curves().turned(TURN), RASTER)
    torch.testing.assert_close(turned_density[None], turn_field(density[None], TURN, "1x0e"), atol=1e-5, rtol=0)
    expected = turn_field(target[None], TURN, "1x2e")[0]
    torch.testing.assert_close(turned_fibre, turn_field(fibre[None], TURN, "1x0e")[0])
    within = turned_fibre[0] > 0
    same = (turned_target - expected)[:, within].abs().amax(0) < 1e-3  # but where two points are equally near
    assert same.float().mean() > 0.95
    assert (target - expected)[:, within].abs().max() > 0.5


def test_the_target_at_the_points_of_fibres_is_their_direction() -> None:
    density, target, _ = render(curves(), RASTER)
    inside = curves().inside(4)
    assert len(inside.points) > 20
    assert angles(directions(at_points(target, inside.points)), inside.tangents).mean() < 5
    assert at_points(density, inside.points).min() > 0.7


def test_values_are_read_where_they_are() -> None:
    axis = torch.arange(6) - 2.5
    volume = torch.stack(torch.meshgrid(axis, axis, axis, indexing="ij"))  # the value at a place is the place
    places = 4 * torch.rand(10, 3) - 2
    torch.testing.assert_close(at_points(volume, places), places)


def test_the_loss_counts_voxels_in_fibres_only() -> None:
    output, label = torch.randn(2, 5, 4, 4, 4), torch.randn(2, 6, 4, 4, 4)
    label[:, 5] = (label[:, 5] > 0).float()
    label[:, :5] = torch.where(label[:, 5:] > 0, output + 2, label[:, :5])
    assert tensor_error(output, label).item() == pytest.approx(20)


def test_the_structure_tensor_finds_fibres_without_noise() -> None:
    seen = view(curves(), RASTER, 0)
    found = predicted(StructureTensor(0.75, 1.0), seen)
    assert angles(found, seen.points.tangents).mean() < 20
    generator = torch.Generator().manual_seed(0)
    guess = random_rotations(len(found), generator=generator)[:, 0].float()
    assert angles(guess, seen.points.tangents).mean() > 45


@pytest.mark.parametrize("preset", ["quick", "paper"])
def test_the_steerable_network_commutes_with_turns_and_the_conventional_one_does_not(preset: str) -> None:
    networks = load_preset(Preset, HERE / "presets" / f"{preset}.toml").networks
    volume = torch.randn(1, 1, 8, 8, 8)
    changes = {}
    for name in ("steerable", "conventional"):
        torch.manual_seed(0)
        model = build(networks[name]).eval()
        with torch.no_grad():
            expected = turn_field(model(volume), TURN, "1x2e")
            off = model(turn_field(volume, TURN, "1x0e")) - expected
        changes[name] = (off.abs().max() / expected.abs().max()).item()
    assert changes["steerable"] < 1e-4
    assert changes["conventional"] > 1e-2


def test_errors_are_zero_for_a_network_that_knows_and_large_for_one_that_does_not() -> None:
    class Constant(torch.nn.Module):
        def forward(self, volumes: torch.Tensor) -> torch.Tensor:
            along_z = spherical_harmonics(2, torch.tensor([[0.0, 0.0, 1.0]]))[0]
            return along_z.view(1, 5, 1, 1, 1).expand(len(volumes), 5, *volumes.shape[2:])

    preset = load_preset(Preset, HERE / "presets" / "quick.toml")
    preset = replace(preset, raster=replace(RASTER, cone=1e-3, curvature=0.0), test_rotations=8)
    tests = FibreVolumes(preset.raster, 2, 0, turned=False)
    scores, change = errors(Constant(), tests.curves, preset)
    assert scores["error about z"] < 0.1
    assert scores["change by new noise"] < 0.1
    assert scores["error turned"] > 20
    assert change == pytest.approx(scores["error turned"], abs=0.1)


def test_given_data_are_refused() -> None:
    with pytest.raises(DataError, match="Leave it out"):
        prepare("quick", Path("data.npz"))


def test_a_tiny_run_leaves_outcomes_and_a_picture(tmp_path: Path) -> None:
    preset = load_preset(Preset, HERE / "presets" / "quick.toml")
    tiny = replace(
        preset,
        raster=replace(RASTER, size=10, noise=0.5),
        training=replace(preset.training, epochs=1),
        train_volumes=2,
        test_volumes=1,
        test_rotations=2,
    )
    cases = [Case(network, "about-z", 0) for network in preset.networks]
    outcomes = list(run_cases(cases, lambda c, place: train_and_test(tiny, c, place), tmp_path, resume=False))
    assert [outcome.case.network for outcome in outcomes] == list(preset.networks)
    assert all(tuple(outcome.scores) == SCORES for outcome in outcomes)
    assert len(list(tmp_path.glob(f"*/{OUTCOME}"))) == len(preset.networks)
    draw(tiny, tmp_path)
    assert (tmp_path / "field.png").stat().st_size > 10_000
