"""ModelNet10 on the sphere: rays meet what is there, turned shapes have turned signals, ours is exact, a run works."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner
from torch import Tensor

from examples.common.files import DataError
from examples.common.presets import PresetError, load_preset
from examples.modelnet10.data import GRID, Grids, Raster, draw_rotations, load, resample
from examples.modelnet10_sphere.__main__ import main
from examples.modelnet10_sphere.experiment import HERE, Preset, build, in_sphere_axes, prepare, sampler_of
from examples.modelnet10_sphere.network import CorrelationNetwork, turned
from examples.modelnet10_sphere.signals import (
    CHANNELS,
    RADIUS,
    Sampler,
    cached,
    meet,
    signals_for_test,
    signals_for_training,
    volumes,
)
from runtime.so3 import random_rotations
from runtime.spheres import Hybrid
from tests.examples.test_modelnet10 import make_grids

TINY = load_preset(Preset, HERE / "presets" / "tiny.toml")
STEPS = 88


@pytest.fixture
def grids(tmp_path: Path) -> Path:
    make_grids(tmp_path / "made.npz")
    return tmp_path / "made.npz"


@pytest.fixture
def shapes(grids: Path) -> Grids:
    return load(grids, Raster(GRID, 1.0))[0]


@pytest.fixture(scope="module")
def sampler() -> Sampler:
    return sampler_of(replace(TINY, sampling=replace(TINY.sampling, steps=STEPS)))


def shell(inner: float, outer: float) -> Tensor:
    """A grid (1, 1, x, y, z) that is solid between two radii."""
    axis = torch.arange(GRID) - (GRID - 1) / 2
    radius = torch.stack(torch.meshgrid(axis, axis, axis, indexing="ij")).square().sum(0).sqrt()
    return ((radius <= outer) & (radius >= inner)).float()[None, None]


def test_rays_meet_a_hollow_ball_where_it_is() -> None:
    rays = random_rotations(50, generator=torch.Generator().manual_seed(0))[:, :, 0].float()[None]
    found = dict(zip(CHANNELS, meet(shell(6.0, 12.0), rays, STEPS)[0], strict=True))
    assert (found["distance"] * RADIUS - 12).abs().max() < 1
    assert (found["exit"] * RADIUS - 6).abs().max() < 1
    assert (found["innermost"] * RADIUS - 6).abs().max() < 1
    assert (found["hit"] == 1).all() and (found["entries"] == 1).all()
    assert found["cos"].min() > 0.9
    torch.testing.assert_close(found["cos"] ** 2 + found["sin"] ** 2, torch.ones(50))
    assert (found["filled"] - 6 / RADIUS).abs().max() < 1 / RADIUS
    assert found["shell 1"].max() == 0 and found["shell 4"].min() > 0.95 and found["shell 7"].max() < 0.05


def test_rays_that_meet_nothing_give_zeros() -> None:
    rays = torch.eye(3)[None]
    assert not meet(torch.zeros(1, 1, GRID, GRID, GRID), rays, STEPS).any()


def test_a_turned_shape_has_turned_signals(shapes: Grids, sampler: Sampler) -> None:
    """Directions and axes agree: another order of the axes, or the inverse, is far off."""
    rotations = random_rotations(4, generator=torch.Generator().manual_seed(1))
    every, unturned = torch.arange(4), torch.eye(3, dtype=torch.float64).expand(4, 3, 3)
    straight, found = sampler(shapes, every, unturned), sampler(shapes, every, rotations)

    def error(other: Tensor) -> float:
        low = found[..., 1:36]  # degrees 1 to 5
        return ((turned(straight, other)[..., 1:36] - low).norm() / low.norm()).item()

    assert error(in_sphere_axes(rotations)) < 0.1
    assert error(in_sphere_axes(rotations.mT)) > 0.5
    assert error(rotations) > 0.5


def test_quarter_turns_of_the_voxels_are_turns_of_the_shape(shapes: Grids, sampler: Sampler) -> None:
    quarter = torch.tensor([[0.0, -1.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, 1.0]], dtype=torch.float64).expand(4, 3, 3)
    before = sampler(shapes, torch.arange(4), quarter)
    torch.testing.assert_close(sampler.of_turned_voxels(shapes, quarter), before, atol=1e-4, rtol=1e-3)
    grid = volumes(shapes, torch.tensor([1]))
    torch.testing.assert_close(resample(grid, quarter[0], Raster(GRID, 1.0)), grid.transpose(2, 3).flip(2))


def test_copies_are_turned_and_stretched(shapes: Grids, sampler: Sampler) -> None:
    copies = signals_for_training(sampler, shapes, "z")
    assert copies.shape == (2, 4, len(CHANNELS), 256)
    assert not torch.allclose(copies[0], copies[1], atol=1e-2)
    torch.testing.assert_close(signals_for_training(sampler, shapes, "z"), copies)


def test_rotations_about_the_vertical_axis_leave_the_pole(shapes: Grids) -> None:
    rotations = in_sphere_axes(draw_rotations("z", 5, shapes.up))
    torch.testing.assert_close(rotations[:, :, 1], torch.eye(3, dtype=torch.float64)[1].expand(5, 3))


def test_the_cache_is_of_these_shapes_and_this_sampling(shapes: Grids, sampler: Sampler, tmp_path: Path) -> None:
    path, sampling = tmp_path / "signals.pt", TINY.sampling
    first = cached(path, sampling, shapes, lambda: torch.zeros(1))
    assert cached(path, sampling, shapes, lambda: torch.ones(1)) == first
    assert cached(path, replace(sampling, steps=17), shapes, lambda: torch.ones(1)) == 1
    shapes.bits = shapes.bits.flip(0)
    assert cached(path, replace(sampling, steps=17), shapes, lambda: torch.full((1,), 2.0)) == 2
    assert [file.name for file in tmp_path.glob("signals*")] == ["signals.pt"]


def test_ours_is_exact_in_the_rotations_and_learns_what_it_saw() -> None:
    torch.manual_seed(0)
    package_of = build("ours", replace(TINY, correlations=replace(TINY.correlations, components=20, ridge=1e-3)), 2)
    assert isinstance(package_of, CorrelationNetwork)
    labels = torch.arange(24) % 2
    signals = torch.randn(24, len(CHANNELS), 256) * (1 + labels[:, None, None])
    package_of.fit(signals[None], labels)
    assert (package_of(signals).argmax(1) == labels).all()
    rotations = random_rotations(24)
    change = package_of(turned(signals, rotations)) - package_of(signals)
    assert change.abs().max() < 1e-2
    other = package_of(signals.flip(1))  # a negative control: channels in another order
    assert (other - package_of(signals)).abs().max() > 0.1


@pytest.mark.parametrize("name", ["esteves", "cobb-hybrid", "cohen"])
def test_the_networks_of_the_papers_are_built_and_run(name: str) -> None:
    assert build(name, TINY, 3)(torch.randn(2, len(CHANNELS), 256)).shape == (2, 3)


def test_specs_are_those_of_the_presets_sizes() -> None:
    preset = load_preset(Preset, HERE / "presets" / "quick.toml")
    texts = {
        "esteves": preset.esteves.spec("modelnet10_sphere_esteves"),
        "cohen": preset.cohen.spec("modelnet10_sphere_cohen"),
        "hybrid": Hybrid.spec(preset.front, preset.back, "modelnet10_sphere_hybrid"),
    }
    for name, text in texts.items():
        assert (HERE / "specs" / f"{name}.toml").read_text("utf-8") == text


def test_an_unknown_kind_of_network_is_refused() -> None:
    networks = {"ours": replace(TINY.networks["ours"], kind="steerable")}
    with pytest.raises(PresetError, match="no network of kind 'steerable'"):
        build("ours", replace(TINY, networks=networks), 2)


def test_a_missing_file_is_said(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"none\.npz does not exist"):
        prepare("tiny", tmp_path / "none.npz")


@pytest.mark.parametrize("network", ["ours", pytest.param("esteves", marks=pytest.mark.slow)])
def test_a_run_writes_its_results(grids: Path, tmp_path: Path, network: str) -> None:
    out = tmp_path / "out"
    options = ["--preset", "tiny", "--data", str(grids), "--network", network, "--out", str(out)]
    result = CliRunner().invoke(main, options)
    assert result.exit_code == 0, result.output
    outcome = json.loads((out / "tiny" / f"{network}-z-0" / "outcome.json").read_text("utf-8"))
    assert {"z: accuracy", "SO3: accuracy unique", "voxels: accuracy"} <= outcome["scores"].keys()
    if network == "ours":
        assert outcome["scores"]["same answer, signals turned"] == 1
    assert (out / "tiny" / "results.md").exists() and (out / "tiny" / "training-z.pt").exists()


def test_signals_of_the_test_are_the_same_every_time(shapes: Grids, sampler: Sampler) -> None:
    torch.testing.assert_close(signals_for_test(sampler, shapes, "SO3"), signals_for_test(sampler, shapes, "SO3"))
