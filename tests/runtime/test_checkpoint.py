"""Checkpoints: whole or absent, and believed only when their digest holds."""

from __future__ import annotations

import os
import pickle
import random
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from runtime.train import TrainingError, load_weights
from runtime.train.checkpoint import FORMAT, checkpoints, load, rotate, save, step_path


def content() -> dict[str, Any]:
    torch.manual_seed(0)
    return {
        "model": nn.BatchNorm3d(3).state_dict() | {"half": torch.randn(2, 3).bfloat16(), "empty": torch.zeros(0)},
        "strided": torch.randn(4, 5).t(),
        "numbers": [1, 2.5, True, None, "text", (3, float("inf"))],
        7: {"nested": {}},
    }


def equal(one: Any, other: Any) -> bool:
    if isinstance(one, torch.Tensor):
        return isinstance(other, torch.Tensor) and one.dtype == other.dtype and torch.equal(one, other)
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(equal(one[key], other[key]) for key in one)
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(equal, one, other))
    return type(one) is type(other) and one == other


def test_a_round_trip_is_exact_and_readable_by_torch_alone(tmp_path: Path) -> None:
    path = tmp_path / "new" / "a.pt"
    save(path, content())
    assert equal(load(path), content())
    whole = torch.load(path, weights_only=True)
    assert equal({key: value for key, value in whole.items() if key not in ("format", "digest")}, content())
    assert [p.name for p in path.parent.iterdir()] == ["a.pt"]


def test_every_damage_is_found_or_harmless(tmp_path: Path) -> None:
    """A changed byte gives an error or, where the archive does not use it, the same content; never other content."""
    path = tmp_path / "a.pt"
    save(path, content())
    whole = path.read_bytes()
    chance = random.Random(0)
    errors = 0
    for _ in range(300):
        damaged = bytearray(whole)
        damaged[chance.randrange(len(whole))] ^= 1 << chance.randrange(8)
        path.write_bytes(damaged)
        try:
            assert equal(load(path), content())
        except TrainingError as error:
            errors += 1
            assert "is damaged" in str(error) or "is not a checkpoint" in str(error) or "has format" in str(error)
    assert errors > 30
    for length in (0, 1, 100, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:length])
        with pytest.raises(TrainingError, match=r"is damaged: it cannot be read .*Restore it from a copy"):
            load(path)


def test_torch_alone_would_believe_a_changed_weight(tmp_path: Path) -> None:
    """Why there is a digest: the archive's own check does not see a changed byte of a tensor."""
    path = tmp_path / "a.pt"
    save(path, {"weight": torch.full((100,), 1.5)})
    whole = path.read_bytes()
    path.write_bytes(whole.replace(torch.tensor(1.5).numpy().tobytes(), torch.tensor(2.5).numpy().tobytes(), 1))
    assert not equal(torch.load(path, weights_only=True)["weight"], torch.full((100,), 1.5))
    with pytest.raises(TrainingError, match="its content does not match its digest"):
        load(path)


@pytest.mark.parametrize(
    "change",
    [
        lambda c: c["numbers"].reverse(),
        lambda c: c.update(strided=c["strided"].clone().reshape(-1)),
        lambda c: c.update(strided=c["strided"].double()),
        lambda c: c.update(extra=None),
        lambda c: c.pop(7),
        lambda c: c["numbers"].__setitem__(0, True),
        lambda c: c["numbers"].__setitem__(0, 1.0),
    ],
)
def test_the_digest_covers_structure_types_and_shapes(tmp_path: Path, change: Any) -> None:
    save(tmp_path / "a.pt", content())
    digest = torch.load(tmp_path / "a.pt", weights_only=True)["digest"]
    altered = content()
    change(altered)
    torch.save({"format": FORMAT, "digest": digest, **altered}, tmp_path / "a.pt")
    with pytest.raises(TrainingError, match="does not match its digest"):
        load(tmp_path / "a.pt")


class _Attack:
    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, ("attacked",)


def test_a_file_that_would_run_code_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save({"format": FORMAT, "digest": "", "x": _Attack()}, "a.pt")
    with pytest.raises(TrainingError, match="is damaged: it cannot be read"):
        load(Path("a.pt"))
    assert not Path("attacked").exists()
    pickle.loads(pickle.dumps(_Attack()))  # the control: the attack works where pickles are believed
    assert Path("attacked").exists()


def test_missing_foreign_and_future_files_have_different_errors(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="there is no checkpoint"):
        load(tmp_path / "none.pt")
    torch.save({"a": 1}, tmp_path / "foreign.pt")
    with pytest.raises(TrainingError, match="is not a checkpoint of this package"):
        load(tmp_path / "foreign.pt")
    torch.save({"format": "runtime.checkpoint 9", "digest": ""}, tmp_path / "future.pt")
    with pytest.raises(TrainingError, match=r"has format 'runtime\.checkpoint 9'; this version reads"):
        load(tmp_path / "future.pt")


def test_what_cannot_be_read_back_is_not_written(tmp_path: Path) -> None:
    save(tmp_path / "a.pt", {"a": 1})
    before = (tmp_path / "a.pt").read_bytes()
    with pytest.raises(TrainingError, match=r"cannot save .*\['b'\]\[1\] of type set"):
        save(tmp_path / "a.pt", {"b": [1, {2}]})
    assert (tmp_path / "a.pt").read_bytes() == before


@pytest.mark.parametrize("where", ["torch.save", "os.fsync"])
def test_a_full_disk_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str) -> None:
    save(tmp_path / "a.pt", {"a": 1})
    before = (tmp_path / "a.pt").read_bytes()

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(where, full)
    with pytest.raises(TrainingError, match=r"No space left on device\. What was there before is untouched"):
        save(tmp_path / "a.pt", {"a": 2})
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == {"a.pt": before}


def test_rotation_keeps_the_newest_by_number(tmp_path: Path) -> None:
    for step in (1, 20, 3, 1_000_000_000_000):
        save(step_path(tmp_path, step), {"step": step})
    save(tmp_path / "best.pt", {})
    (tmp_path / "step-x.pt").touch()
    rotate(tmp_path, 2)
    assert checkpoints(tmp_path) == [step_path(tmp_path, 20), step_path(tmp_path, 1_000_000_000_000)]
    assert (tmp_path / "best.pt").exists() and (tmp_path / "step-x.pt").exists()


def test_weights_fit_or_leave_the_model_as_it_was(tmp_path: Path) -> None:
    one, other = nn.Linear(2, 3), nn.Linear(2, 3)
    save(tmp_path / "a.pt", {"model": one.state_dict()})
    assert torch.equal(load_weights(tmp_path / "a.pt", other).weight, one.weight)
    for model, message in (
        (nn.Linear(2, 4), "has in another shape weight, bias"),
        (nn.Linear(2, 3, bias=False), "has, and the model lacks, bias"),
        (nn.Sequential(nn.Linear(2, 3)), r"lacks 0\.bias, 0\.weight"),
    ):
        before = {name: value.clone() for name, value in model.state_dict().items()}
        with pytest.raises(TrainingError, match=f"made by another model: it {message}"):
            load_weights(tmp_path / "a.pt", model)
        assert equal(dict(model.state_dict()), before)
    save(tmp_path / "b.pt", {"a": 1})
    with pytest.raises(TrainingError, match="holds no weights"):
        load_weights(tmp_path / "b.pt", one)
