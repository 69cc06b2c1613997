"""ModelNet10 and SHREC17: both formats are read, shapes turn as they should, retrieval is measured right, runs work."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner

from examples.common.cases import Case
from examples.common.files import DataError
from examples.common.measure import parameter_count
from examples.common.presets import load_preset
from examples.modelnet10.__main__ import main
from examples.modelnet10.data import GRID, Raster, draw_rotations, load
from examples.modelnet10.experiment import HERE, SETTINGS, Preset, build, read, train_and_test
from examples.modelnet10.retrieval import retrieval
from examples.modelnet10.shrec17 import Meshes, occupancy, read_list, read_obj, surface_points

TURN = torch.tensor([[0.0, -1.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, 1.0]])
EXACT = Raster(size=GRID, spacing=1.0)


def make_grids(path: Path) -> None:
    """Boxes and bars in the format of the ModelNet10 file; one training grid is empty, one test grid a duplicate."""
    train = np.zeros((5, GRID, GRID, GRID), dtype=np.uint8)
    train[0::2, 8:22, 8:22, 10:20] = 1
    train[1::2, 5:25, 13:17, 13:18] = 1
    train[4] = 0
    test = train[:3].copy()
    test[1:, 10, 10, 10:24] = 1
    np.savez(
        path,
        train_bits=np.packbits(train.reshape(5, -1), axis=1),
        train_y=np.array([0, 1, 0, 1, 0], dtype=np.int8),
        train_empty=np.array([False] * 4 + [True]),
        test_bits=np.packbits(test.reshape(3, -1), axis=1),
        test_y=np.array([0, 1, 0], dtype=np.int8),
        test_empty=np.zeros(3, dtype=bool),
        test_same_as_a_train_grid=np.array([True, False, False]),
        n=np.int64(GRID),
        names=np.array(["box", "bar"]),
    )


@pytest.fixture
def grids(tmp_path: Path) -> Path:
    make_grids(tmp_path / "made.npz")
    return tmp_path / "made.npz"


def make_shrec17(directory: Path) -> None:
    """Two tetrahedra and two flat squares in SHREC17's layout."""
    solid = "v 0 0 0\nv 1 0 0\nv 0 1 0\nv 0 0 1\nf 1 2 3\nf 1/1 2/2 4/4\nf 1//1 3//1 4//1\nf -3 -2 -1\n"
    square = "# a comment\nv 0 0 0\nv 2 0 0\nv 2 2 0\nv 0 2 0\nvn 0 0 1\nf 1 2 3 4\n"
    for split, names in (("train", ("000001", "000002")), ("test", ("000003", "000004"))):
        for folder in (f"{split}_normal", f"{split}_perturbed"):
            (directory / folder).mkdir()
            for name, text in zip(names, (solid, square), strict=True):
                (directory / folder / f"{name}.obj").write_text(text)
        rows = [f"{name},{synset},{synset},m,{split}" for name, synset in zip(names, ("0269", "0301"), strict=True)]
        (directory / f"{split}.csv").write_text("\n".join(["id,synsetId,subSynsetId,modelId,split", *rows]) + "\n")


@pytest.fixture
def shrec17(tmp_path: Path) -> Path:
    make_shrec17(tmp_path)
    return tmp_path


def test_the_grids_are_read_without_the_empty_ones(grids: Path) -> None:
    train, test = load(grids, EXACT)
    assert train.labels.tolist() == [0, 1, 0, 1]
    assert test.duplicate.tolist() == [True, False, False]
    assert train.names == ("box", "bar")
    volume = train.volume(1, torch.eye(3))
    assert volume.shape == (1, GRID, GRID, GRID)
    assert volume.sum().item() == pytest.approx(20 * 4 * 5, rel=1e-4)


def test_a_quarter_turn_of_a_shape_is_a_quarter_turn_of_its_volume(grids: Path) -> None:
    train, _ = load(grids, Raster(size=24, spacing=1.7))
    straight, turned = train.volume(1, torch.eye(3)), train.volume(1, TURN)
    torch.testing.assert_close(turned, straight.rot90(1, dims=(1, 2)), atol=1e-5, rtol=0)
    assert (turned - straight).abs().max() > 0.1


def test_rotations_about_z_keep_z_and_free_ones_do_not() -> None:
    about, free = (draw_rotations(kind, 50, 2, torch.Generator().manual_seed(0)) for kind in ("z", "SO3"))
    for rotations in (about, free):
        torch.testing.assert_close(rotations @ rotations.mT, torch.eye(3).double().expand(50, 3, 3))
        assert (torch.linalg.det(rotations) > 0).all()
    up = torch.tensor([0.0, 0.0, 1.0], dtype=torch.float64)
    torch.testing.assert_close(about @ up, up.expand(50, 3))
    assert (free @ up - up).norm(dim=1).max() > 1
    up_is_y = draw_rotations("z", 5, 1, torch.Generator().manual_seed(0))
    torch.testing.assert_close(up_is_y @ up.roll(-1), up.roll(-1).expand(5, 3))


def test_a_file_of_another_format_is_refused(grids: Path, tmp_path: Path) -> None:
    with np.load(grids) as file:
        np.savez(tmp_path / "other.npz", **{key: file[key] for key in file.files if key != "train_empty"})
    with pytest.raises(DataError, match="lacks train_empty"):
        load(tmp_path / "other.npz", EXACT)


def test_meshes_are_read_in_the_published_layout(shrec17: Path) -> None:
    train, test = read(shrec17, Raster(12, 1.0))
    assert train.labels.tolist() == test.labels.tolist() == [0, 1]
    assert train.names == ("0269", "0301")
    assert read_list(shrec17 / "train.csv")[0] == ("000001", "0269", "0269")
    perturbed = Meshes(shrec17, "test", Raster(12, 1.0), perturbed=True, names=train.names)
    assert perturbed.paths[0] == shrec17 / "test_perturbed" / "000003.obj"
    vertices, triangles = read_obj(test.paths[0])
    assert vertices.shape == (4, 3)
    assert triangles.tolist() == [[0, 1, 2], [0, 1, 3], [0, 2, 3], [1, 2, 3]]
    assert read_obj(test.paths[1])[1].tolist() == [[0, 1, 2], [0, 2, 3]]


def test_meshes_of_another_layout_are_refused(shrec17: Path) -> None:
    with pytest.raises(DataError, match=r"val\.csv does not exist"):
        Meshes(shrec17, "val", EXACT, perturbed=False)
    with pytest.raises(DataError, match="0301 is not a class of the training set"):
        Meshes(shrec17, "test", EXACT, perturbed=False, names=("0269",))
    (shrec17 / "train.csv").write_text("id,label\n")
    with pytest.raises(DataError, match="no column subSynsetId, synsetId"):
        read_list(shrec17 / "train.csv")
    (shrec17 / "bad.obj").write_text("v 0 0 0\nf 1 2 3\n")
    with pytest.raises(DataError, match="make no surface"):
        read_obj(shrec17 / "bad.obj")


def test_points_cover_the_surface() -> None:
    vertices, triangles = torch.tensor([[0.0, 0, 0], [1, 0, 0], [0, 1, 0]]), torch.tensor([[0, 1, 2]])
    points = surface_points(vertices, triangles, 0.1)
    assert (points >= 0).all()
    assert (points.sum(dim=1) < 1 + 1e-6).all()
    inside = torch.rand(200, 2)
    inside = torch.nn.functional.pad(inside[inside.sum(dim=1) < 1], (0, 1))
    assert torch.cdist(inside, points).min(dim=1).values.max() < 0.1


def test_a_mesh_turned_by_a_quarter_is_a_volume_turned_by_a_quarter(shrec17: Path) -> None:
    train, _ = read(shrec17, Raster(12, 1.0))
    straight, turned = train.volume(0, torch.eye(3)), train.volume(0, TURN)
    # points on the border of two voxels may fall to either side
    assert (turned - straight.rot90(1, dims=(1, 2))).abs().mean() < 0.2 * straight.abs().mean()
    assert (turned - straight).abs().mean() > 0.5 * straight.abs().mean()
    assert occupancy(torch.zeros(1, 3), 8).sum().item() == pytest.approx(1 / 8, rel=1e-4)


def test_retrieval_of_a_perfect_classifier() -> None:
    labels = torch.tensor([0, 0, 0, 1, 1])
    assert all(value == 1 for value in retrieval(10 * torch.eye(2)[labels], labels).values())


def test_retrieval_by_hand() -> None:
    # answers 0 0 1 1 with falling confidence; classes 0 1 1 1
    logits = torch.tensor([[4.0, 0], [3, 0], [0, 4], [0, 3]])
    found = retrieval(logits, torch.tensor([0, 1, 1, 1]))
    precision, recall = [1 / 2, 1 / 2, 1, 1], [1, 1 / 3, 2 / 3, 2 / 3]
    average = [1, (1 / 2) / 3, 2 / 3, 2 / 3]
    assert found["P@N micro"] == pytest.approx(sum(precision) / 4)
    assert found["R@N micro"] == pytest.approx(sum(recall) / 4)
    assert found["mAP micro"] == pytest.approx(sum(average) / 4)
    assert found["mAP macro"] == pytest.approx((average[0] + sum(average[1:]) / 3) / 2)


@pytest.mark.parametrize("name", ["steerable-paper-filters", "steerable-ours", "conventional"])
def test_the_paper_networks_take_a_step(name: str) -> None:
    preset = load_preset(Preset, HERE / "presets" / "paper.toml")
    preset = replace(preset, stack=replace(preset.stack, size=8, padding=2))
    torch.manual_seed(0)
    model = build(name, preset, 55)
    expected = {"steerable-paper-filters": 143_013, "steerable-ours": 120_469, "conventional": 13_001_569}
    assert parameter_count(model) == expected[name]
    model(torch.randn(2, 1, 8, 8, 8)).logsumexp(1).sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())


@pytest.mark.parametrize("setting", list(SETTINGS))
def test_a_tiny_run_leaves_outcomes(grids: Path, tmp_path: Path, setting: str) -> None:
    tiny = _tiny()
    train, test = load(grids, tiny.raster)
    for network in tiny.networks:
        outcome = train_and_test(tiny, train, test, Case(network, setting, 0), tmp_path / network)
        kinds = {name.split(":")[0] for name in outcome.scores}
        assert kinds == set(SETTINGS[setting])
        assert {"SO3: accuracy", "SO3: mAP macro", "SO3: accuracy unique"} <= set(outcome.scores)


def test_a_tiny_run_on_meshes(shrec17: Path, tmp_path: Path) -> None:
    tiny = _tiny()
    outcome = train_and_test(tiny, *read(shrec17, tiny.raster), Case("conventional", "SO3", 0), tmp_path)
    assert set(outcome.scores) == {"SO3: accuracy", "SO3: mAP micro", "SO3: mAP macro"}


def test_the_command_without_data_says_where_they_come_from(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MODELNET10_DATA", raising=False)
    result = CliRunner().invoke(main, [])
    assert result.exit_code == 2
    assert "modelnet.cs.princeton.edu" in result.output


@pytest.mark.skipif("MODELNET10_DATA" not in os.environ, reason="MODELNET10_DATA does not name a file of ModelNet10")
def test_real_grids_are_read() -> None:
    train, test = load(Path(os.environ["MODELNET10_DATA"]), Raster(24, 1.7))
    assert len(train.names) == 10
    assert 0 < train.volume(0, torch.eye(3)).sum() < 24**3
    assert 0 < test.duplicate.sum() < len(test)


def _tiny() -> Preset:
    preset = load_preset(Preset, HERE / "presets" / "quick.toml")
    return replace(
        preset,
        raster=Raster(12, 3.4),
        stack=replace(preset.stack, size=12),
        training=replace(preset.training, epochs=1, batch_size=2),
        agreement_samples=2,
        test_rotations=2,
    )
