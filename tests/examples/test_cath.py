"""CATH: the loader reads the public format, both networks of both presets are built, and a tiny run leaves results."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner

from examples.cath.__main__ import main
from examples.cath.data import Raster, TrainingSet, load, render
from examples.cath.experiment import HERE, Preset, build, train_and_test
from examples.common.cases import Case
from examples.common.files import DataError
from examples.common.measure import parameter_count
from examples.common.presets import load_preset


def make(path: Path) -> None:
    """Ten splits of two domains, one of each of two architectures, in the public format."""
    generator = np.random.default_rng(0)
    counts = generator.integers(5, 12, 20)
    positions = np.zeros((20, 12, 3))
    for domain, count in zip(positions, counts, strict=True):
        domain[:count] = 8 * generator.standard_normal((count, 3))
    np.savez(
        path,
        n_atoms=counts,
        atom_types=np.full((20, 12), b"CA"),
        res_indices=np.zeros((20, 12)),
        positions=positions,
        labels=np.tile([[2, 60], [1, 10]], (10, 1)),
        split_start_indices=np.arange(0, 20, 2),
    )


@pytest.fixture
def made(tmp_path: Path) -> Path:
    make(tmp_path / "made.npz")
    return tmp_path / "made.npz"


def test_the_public_format_is_read(made: Path) -> None:
    splits = load(made)
    assert (len(splits.train), len(splits.validation), len(splits.test)) == (14, 2, 4)
    assert splits.train.names == ("1.10", "2.60")
    assert splits.train.labels.tolist() == [1, 0] * 7
    with np.load(made) as file:
        first = file["positions"][16, : file["n_atoms"][16]]
    torch.testing.assert_close(splits.test.positions[0], torch.from_numpy(first - first.mean(0)).float())


@pytest.mark.parametrize("missing", ["positions", "split_start_indices"])
def test_a_file_of_another_format_is_refused(made: Path, tmp_path: Path, missing: str) -> None:
    with np.load(made) as file:
        arrays = {key: file[key] for key in file.files if key != missing}
    np.savez(tmp_path / "other.npz", **arrays)
    with pytest.raises(DataError, match=f"lacks {missing}"):
        load(tmp_path / "other.npz")
    (tmp_path / "text.npz").write_text("no npz")
    with pytest.raises(DataError, match="cannot read"):
        load(tmp_path / "text.npz")


def test_reduced_training_sets_are_balanced_and_nested(made: Path) -> None:
    train = load(made).train
    half, sixth = train.reduced(2), train.reduced(6)
    assert half.labels.bincount().tolist() == [3, 3]
    assert sixth.labels.bincount().tolist() == [1, 1]
    assert {id(points) for points in sixth.positions} < {id(points) for points in half.positions}


def test_volumes_hold_every_atom_and_turn_with_the_domain(made: Path) -> None:
    points = load(made).train.positions[0]
    raster = Raster(size=40, spacing=2.0, sigma=2.0)
    turn = torch.tensor([[0.0, -1.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, 1.0]])
    straight, turned = render([points, points @ turn.mT], raster)
    assert straight.sum().item() == pytest.approx(len(points), rel=1e-3)
    torch.testing.assert_close(turned, straight.rot90(1, dims=(1, 2)), atol=1e-5, rtol=0)


def test_every_draw_has_another_orientation(made: Path) -> None:
    data = TrainingSet(load(made).train, Raster(8, 6.0, 6.0), turned=True)
    (first, label), (second, _) = data[0], data[0]
    assert label == 1
    assert (first - second).abs().max() > 1e-3
    fixed = TrainingSet(data.domains, data.raster, turned=False)
    torch.testing.assert_close(fixed[0][0], fixed[0][0], rtol=0, atol=0)


@pytest.mark.parametrize("path", sorted((HERE / "presets").glob("*.toml")), ids=lambda path: path.stem)
def test_presets_are_of_one_size_and_can_be_chosen(path: Path) -> None:
    preset = load_preset(Preset, path)
    assert preset.stack is None or preset.stack.size == preset.raster.size
    assert preset.turned == (path.stem != "fixed")
    choice = next(option for option in main.params if option.name == "preset")
    assert path.stem in choice.type.choices


@pytest.mark.parametrize("name", ["steerable-paper-filters", "steerable-ours", "conventional"])
def test_the_paper_networks_take_a_step(name: str) -> None:
    preset = load_preset(Preset, HERE / "presets" / "paper.toml")
    preset = replace(preset, raster=replace(preset.raster, size=16))
    torch.manual_seed(0)
    model = build(name, preset, 10)
    expected = {"steerable-paper-filters": 137_818, "steerable-ours": 107_318, "conventional": 15_879_722}
    assert parameter_count(model) == expected[name]
    model(torch.randn(2, 1, 16, 16, 16)).logsumexp(1).sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())


def test_functions_on_the_sphere_commute_with_quarter_turns() -> None:
    """In place of gates, exactly; and the network learns from what it is given."""
    preset = load_preset(Preset, HERE / "presets" / "sphere.toml")
    torch.manual_seed(0)
    model = build("steerable-sphere", preset, 3)
    assert sum(type(layer).__name__ == "OnSphere" for layer in model.modules()) == 3
    volume = torch.randn(2, 1, 24, 24, 24)
    model(volume).logsumexp(1).sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())
    model.eval()
    with torch.no_grad():
        expected = model(volume)
        for axes in ((2, 3), (2, 4), (3, 4)):
            torch.testing.assert_close(model(volume.rot90(1, dims=axes)), expected, atol=1e-4, rtol=1e-4)


def test_the_default_filters_run_as_passes_and_nothing_else_differs() -> None:
    preset = load_preset(Preset, HERE / "presets" / "separable.toml")
    networks = [build(name, preset, 3) for name in ("steerable-ours", "steerable-separable")]
    layers = [[layer for layer in network.modules() if type(layer).__name__[:4] == "Conv"] for network in networks]
    types = [[(layer.in_type, layer.out_type, layer.kernel_size) for layer in of] for of in layers]
    assert types[0] == types[1] and len(types[0]) == 4
    assert [sum(hasattr(layer, "smallest") for layer in of) for of in layers] == [0, 4]


def test_our_resnet_commutes_with_quarter_turns_and_the_conventional_one_does_not() -> None:
    preset = load_preset(Preset, HERE / "presets" / "paper.toml")
    preset = replace(preset, raster=replace(preset.raster, size=18))
    volume = torch.randn(1, 1, 18, 18, 18)
    changes = {}
    for name in ("steerable-ours", "conventional"):
        torch.manual_seed(0)
        model = build(name, preset, 10).eval()
        with torch.no_grad():
            expected, turned = model(volume), model(volume.rot90(1, dims=(2, 4)))
        changes[name] = ((turned - expected).abs().max() / expected.abs().max()).item()
    assert changes["steerable-ours"] < 1e-3
    assert changes["conventional"] > 1e-2


def test_a_tiny_run_leaves_results(made: Path, tmp_path: Path) -> None:
    preset = load_preset(Preset, HERE / "presets" / "quick.toml")
    assert preset.stack is not None
    tiny = replace(
        preset,
        raster=Raster(12, 6.0, 4.0),
        stack=replace(preset.stack, size=12),
        training=replace(preset.training, epochs=1, batch_size=7, tensorboard=False),
        agreement_samples=2,
        test_rotations=2,
    )
    for network in ("steerable-ours", "conventional"):
        outcome = train_and_test(tiny, load(made), Case(network, "1/2", 0), 2, tmp_path / network)
        assert (outcome.train_samples, outcome.epochs) == (6, 2 * preset.networks[network].longer)
        assert set(outcome.scores) == {"accuracy", "balanced accuracy"}
        assert 0 <= outcome.agreement <= 1


def test_the_command_without_data_says_where_they_come_from(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CATH_DATA", raising=False)
    result = CliRunner().invoke(main, ["--preset", "quick"])
    assert result.exit_code == 2
    assert "Use --data PATH or set CATH_DATA" in result.output
    assert "cath_datasets" in result.output


@pytest.mark.skipif("CATH_DATA" not in os.environ, reason="CATH_DATA does not name a file of CATH domains")
def test_real_domains_are_read() -> None:
    splits = load(Path(os.environ["CATH_DATA"]))
    assert min(len(part) for part in (splits.train, splits.validation, splits.test)) > 0
    assert all(points.isfinite().all() for points in splits.test.positions)
