"""Maps with missing pixels: scenes turn exactly, ours commutes with rotations, the planar one does not."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner
from torch import Tensor, nn

from examples.common.files import DataError
from examples.common.measure import parameter_count
from examples.common.presets import PresetError, load_preset
from examples.sphere_dense.__main__ import main
from examples.sphere_dense.experiment import (
    HERE,
    Preset,
    build,
    change,
    errors,
    prepare,
    regions,
    rms,
    smooth_change,
    test_scenes,
)
from examples.sphere_dense.networks import Kriging, PlanarUNet
from examples.sphere_dense.scenes import Maps, Scenes, World, turned
from runtime.so3 import random_rotations
from runtime.spheres import evaluate, power_spectrum

PRESET = load_preset(Preset, HERE / "presets" / "quick.toml")
WORLD = PRESET.world
test_scenes.__test__ = False  # type: ignore[attr-defined]


def draw(count: int, seed: int = 0, world: World = WORLD) -> Scenes:
    return world.draw(count, torch.Generator().manual_seed(seed))


def test_areas_are_those_of_the_sphere_and_rows_go_from_north_to_south() -> None:
    assert WORLD.areas.sum().item() == pytest.approx(1)
    assert WORLD.latitudes[0] == pytest.approx(90 - 90 / WORLD.rows) and WORLD.latitudes[-1] == -WORLD.latitudes[0]
    share = {name: (WORLD.areas * part).sum().item() for name, part in regions(WORLD).items()}
    assert share["all"] == pytest.approx(1)
    assert share["poles"] == pytest.approx(1 - math.sin(math.radians(60)), abs=1e-6)
    assert share["equator"] == pytest.approx(0.5, abs=1e-6)


def test_fields_and_noise_have_their_size_and_spectrum() -> None:
    scenes = draw(2000, world=replace(WORLD, climate=0.0))
    assert scenes.field.square().sum(1).mean() / (4 * math.pi) == pytest.approx(1, abs=0.05)
    assert scenes.noise.square().sum(1).mean().div(4 * math.pi).sqrt() == pytest.approx(WORLD.noise, rel=0.01)
    found = power_spectrum(scenes.field.double()).mean(0)
    torch.testing.assert_close(found, WORLD.spectrum, rtol=0.15, atol=0)
    assert WORLD.spectrum[0] / WORLD.spectrum[3] == pytest.approx(4**WORLD.falling)


def test_the_climate_is_zonal_and_cold_at_the_poles() -> None:
    values = evaluate(WORLD.mean, WORLD.points)
    assert (values.square() @ WORLD.areas).sqrt().item() == pytest.approx(WORLD.climate, rel=0.01)
    rows = values.unflatten(0, (WORLD.rows, -1))
    torch.testing.assert_close(rows, rows[:, :1].expand_as(rows))
    assert rows[WORLD.rows // 2, 0] > rows[0, 0] > rows[-1, 0]


def test_there_is_more_land_in_the_north() -> None:
    maps = Maps(WORLD)
    land = 1 - maps.seen(draw(300))[:, 1].mean(0)
    assert 0.2 < (land.flatten().double() @ WORLD.areas) < 0.5
    assert land[: WORLD.rows // 2].mean() > 1.3 * land[WORLD.rows // 2 :].mean()


def test_land_is_not_seen_and_the_sea_is_with_noise() -> None:
    maps, scenes = Maps(WORLD), draw(3)
    seen, field = maps.seen(scenes), maps.of(scenes.field)
    sea = seen[:, 1:] == 1
    assert set(seen[:, 1].unique().tolist()) == {0.0, 1.0}
    assert not seen[:, :1][~sea].any()
    torch.testing.assert_close(seen[:, :1][sea], (field + maps.of(scenes.noise))[sea])


def test_a_turned_scene_is_seen_where_it_was_turned_to() -> None:
    scenes, rotations = draw(2), random_rotations(2, generator=torch.Generator().manual_seed(1))
    maps = Maps(WORLD)
    there = torch.stack([WORLD.points @ rotation for rotation in rotations])  # r^-1 u
    for name in ("field", "height", "noise"):
        found = maps.of(getattr(scenes.turned(rotations), name)).flatten(1)
        pairs = zip(getattr(scenes, name).double(), there, strict=True)
        expected = torch.stack([evaluate(signal, points) for signal, points in pairs])
        torch.testing.assert_close(found.double(), expected, atol=1e-4, rtol=0)
        assert (found - maps.of(getattr(scenes, name)).flatten(1)).abs().max() > 0.1


def test_every_test_scene_is_turned_as_often_as_the_preset_says() -> None:
    tests = test_scenes(replace(PRESET, test_scenes=2, test_rotations=3))
    assert len(tests.upright) == len(tests.turned) == len(tests.rotations) == 6
    assert tests.upright.field[:2].equal(tests.upright.field[2:4])
    assert not tests.turned.field[:2].allclose(tests.turned.field[2:4])
    once = test_scenes(replace(PRESET, test_scenes=2))
    assert once.turned.field.shape == once.upright.field.shape == (2, WORLD.limit**2)


def test_least_squares_are_exact_for_signals() -> None:
    signal = torch.randn(4, WORLD.limit**2, dtype=torch.float64)
    samples = signal @ WORLD.table(WORLD.limit)
    torch.testing.assert_close(samples @ WORLD.least_squares(WORLD.limit), signal)


def trained(model: nn.Module) -> nn.Module:
    """A network whose norms have seen some scenes, so that it is not what it was made as."""
    maps = Maps(WORLD)
    for seed in range(3):
        model.train()(maps.seen(draw(4, seed)))
    return model.eval()


def test_ours_commutes_with_rotations_and_the_planar_networks_do_not() -> None:
    tests = test_scenes(replace(PRESET, test_scenes=4))
    found = {}
    for name in ("ours", "planar", "planar-latitude"):
        torch.manual_seed(0)
        found[name] = smooth_change(trained(build(PRESET, name)), Maps(WORLD), tests)
    assert found["ours"] < 0.03
    assert found["planar"] > 0.1 and found["planar-latitude"] > 0.1


def test_the_sea_is_an_input_that_turns_too() -> None:
    """A negative control: with the sea left as it was, the answer is another."""
    torch.manual_seed(0)
    model, maps, tests = trained(build(PRESET, "ours")), Maps(WORLD), test_scenes(replace(PRESET, test_scenes=4))
    with torch.no_grad():
        straight, right = model(maps.seen(tests.upright)), model(maps.seen(tests.turned))
        wrong = model(torch.cat([maps.seen(tests.turned)[:, :1], maps.seen(tests.upright)[:, 1:]], 1))
    assert change(straight, right, tests.rotations, WORLD) < 0.1
    assert change(straight, wrong, tests.rotations, WORLD) > 0.2


def test_the_planar_network_knows_no_meridian_and_goes_over_the_poles() -> None:
    torch.manual_seed(0)
    model = trained(PlanarUNet((4, 6, 8), WORLD, latitude=False))
    maps = torch.randn(1, 2, WORLD.rows, 2 * WORLD.rows)
    with torch.no_grad():
        straight, shifted = model(maps), model(maps.roll(4, 3))  # 4 columns: two halvings
        torch.testing.assert_close(shifted, straight.roll(4, 3), atol=1e-5, rtol=0)
        assert (straight.roll(4, 3) - straight).abs().max() > 0.1
        # the first row's neighbours lie half a turn away in the same row
        maps[:, :, 0, 24] += 10
        assert (model(maps) - straight)[0, 0, 0, 0].abs() > 1e-3


def test_networks_are_of_similar_size() -> None:
    sizes = [parameter_count(build(PRESET, name)) for name in ("ours", "planar", "planar-latitude")]
    assert max(sizes) / min(sizes) < 1.05


def test_kriging_is_the_conditional_mean_by_the_other_formula() -> None:
    """(C^-1 + Y^T N^-1 Y)^-1 Y^T N^-1 d for coefficients, where the noise is white in pixels."""
    small = replace(WORLD, rows=6, limit=4, noise_limit=6, land_limit=3)
    scenes, maps = draw(3, world=small), Maps(small)
    model, seen = Kriging(small), maps.seen(scenes)
    model.noise = torch.eye(len(small.points), dtype=torch.float64) * small.noise**2
    table, power = small.table(small.limit), model.covariance  # (coefficient, pixel)
    prior = torch.linalg.lstsq(table.mT, torch.linalg.lstsq(table.mT, power).solution.mT).solution
    expected = []
    for values, sea in seen.double().flatten(2):
        at_sea = table[:, sea > 0]
        precision = torch.linalg.inv(prior) + at_sea @ at_sea.mT / small.noise**2
        coefficients = torch.linalg.solve(precision, at_sea @ values[sea > 0] / small.noise**2)
        expected.append(coefficients @ table)
    torch.testing.assert_close(model(seen).double().flatten(1), torch.stack(expected), atol=1e-5, rtol=0)


def test_kriging_is_better_than_what_is_seen_and_than_nothing() -> None:
    scenes, maps = draw(4), Maps(WORLD)
    seen, field = maps.seen(scenes), maps.of(scenes.field)
    off = {
        "kriging": Kriging(WORLD)(seen) - field,
        "as seen": seen[:, :1] - field,
        "nothing": -field,
    }
    found = {name: rms(values.flatten(1), WORLD.areas) for name, values in off.items()}
    assert found["kriging"] < 0.7 * min(found["as seen"], found["nothing"])


def test_errors_are_zero_for_a_network_that_knows() -> None:
    maps = Maps(replace(WORLD, coast=100.0, noise=0.0))  # sea alone, and no noise

    class First(nn.Module):
        def forward(self, seen: Tensor) -> Tensor:
            return seen[:, :1]

    tests = test_scenes(replace(PRESET, world=maps.world, test_scenes=3))
    scores, changed = errors(First(), maps, tests)
    assert changed < 1e-5
    assert max(value for name, value in scores.items() if "land" not in name) < 1e-5
    assert change(maps.of(tests.upright.field), maps.of(tests.upright.field), tests.rotations, WORLD) > 0.5
    assert turned(tests.upright.field, tests.rotations).allclose(tests.turned.field)


def test_errors_are_weighted_by_area() -> None:
    off = torch.zeros(1, len(WORLD.points))
    off[0, WORLD.latitudes.abs() > 60] = 1
    assert rms(off, WORLD.areas) == pytest.approx((1 - math.sin(math.radians(60))) ** 0.5, abs=1e-5)


def test_given_data_and_unknown_kinds_are_refused() -> None:
    with pytest.raises(DataError, match="Leave it out"):
        prepare("tiny", Path("data.npz"))
    networks = {"ours": replace(PRESET.networks["ours"], kind="steerable")}
    with pytest.raises(PresetError, match="no network of kind 'steerable'"):
        build(replace(PRESET, networks=networks), "ours")


def test_a_tiny_run_writes_results_and_the_picture(tmp_path: Path) -> None:
    options = ["--preset", "tiny", "--setting", "upright", "--out", str(tmp_path)]
    result = CliRunner().invoke(main, [*options, "--network", "ours", "--network", "kriging"])
    assert result.exit_code == 0, result.output
    outcome = json.loads((tmp_path / "tiny" / "ours-upright-0" / "outcome.json").read_text("utf-8"))
    regions_of = [f"{state}: {place}" for state in ("upright", "turned") for place in (*regions(WORLD), "land")]
    assert list(outcome["scores"]) == [*regions_of, "change, smooth coasts"]
    assert (tmp_path / "tiny" / "results.md").exists()
    assert (tmp_path / "tiny" / "maps.png").stat().st_size > 10_000


def test_training_in_all_orientations_takes_a_step(tmp_path: Path) -> None:
    options = ["--preset", "tiny", "--setting", "turned", "--out", str(tmp_path), "--network", "planar"]
    result = CliRunner().invoke(main, options)
    assert result.exit_code == 0, result.output
    assert (tmp_path / "tiny" / "planar-turned-0" / "outcome.json").exists()
