"""Resuming: what a checkpoint must hold before any of it is believed, and which run may go on from it."""

from __future__ import annotations

import copy
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from test_train import contents
from torch import nn

from runtime.train import TrainConfig, TrainingError, TrainResult, load_weights, train
from runtime.train.checkpoint import FORMAT, _digest, checkpoints, load, save

Content = dict[str, Any]
DATA = [(torch.tensor([float(n), 1.0]), n % 2) for n in range(8)]


def model() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3), nn.ReLU(), nn.Linear(3, 2))


def go(directory: Path, *, of: nn.Module | None = None, resume: bool = True, **options: Any) -> TrainResult:
    plain = {"epochs": 2, "batch_size": 3, "learning_rate": 0.1, "ema_decay": 0.5, "tensorboard": False}
    changes = options.pop("changes", {})
    of = of or model()
    config = TrainConfig(device="cpu", **(plain | changes))
    return train(of, DATA, config, directory, resume=resume, validation=DATA, **options)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("trained")
    go(directory)
    return directory


def put(*keys: Any, value: Any) -> Callable[[Content], None]:
    """Set content[key][key]... to a value, or to a function's value for what was there."""

    def change(content: Content) -> None:
        for key in keys[:-1]:
            content = content[key]
        content[keys[-1]] = value(content[keys[-1]]) if callable(value) else value

    return change


def drop(*keys: Any) -> Callable[[Content], None]:
    def change(content: Content) -> None:
        for key in keys[:-1]:
            content = content[key]
        del content[keys[-1]]

    return change


def another_optimizer(content: Content) -> None:
    """The state of other parameters: each under the number of the next."""
    state = content["optimizer"]["state"]
    content["optimizer"]["state"] = {(number + 1) % len(state): value for number, value in state.items()}


ROW = {"epoch": 0, "learning_rate": 0.1, "train_loss": 1.0, "gradient_norm": 1.0, "validation_loss": 1.0}
STATE = ("optimizer", "state", 0)
GROUP = ("optimizer", "param_groups", 0)

FORGERIES: dict[str, tuple[Callable[[Content], None], str]] = {
    "epoch below 0": (put("epoch", value=-1), r"epoch = -1 is not a whole number from 0 to 2"),
    "epoch without end": (put("epoch", value=10**20), "epoch = 100000000000000000000 is not"),
    "epoch of thousands of digits": (put("epoch", value=10**4000), "is damaged"),
    "epoch not whole": (put("epoch", value=1.0), "epoch = 1.0 is not a whole number"),
    "epoch a switch": (put("epoch", value=True), "epoch = True is not a whole number"),
    "epoch a text": (put("epoch", value="2"), "epoch = '2' is not a whole number"),
    "epoch nothing": (put("epoch", value=None), "epoch = None is not a whole number"),
    "step past the end": (put("step", value=99), "step = 99 is not a whole number"),
    "step below 0": (put("step", value=-1), "step = -1 is not"),
    "step a list": (put("step", value=[0]), r"step = \[0\] is not"),
    "history empty": (put("history", value=[]), r"history is \[\], not a list with a row for each of 2 epochs"),
    "history a text": (put("history", value="none"), "history is 'none'"),
    "history too long": (put("history", value=lambda rows: rows * 2), "history is .* for each of 2 epochs"),
    "history of numbers": (put("history", 1, value=3), r"history\[1\] is 3, not a table"),
    "row without a column": (drop("history", 0, "train_loss"), r"history\[0\] lacks 'train_loss'"),
    "row with another column": (put("history", 1, "x", value=1.0), r"history\[1\] has an unknown key 'x'"),
    "row of another epoch": (put("history", 1, "epoch", value=0), r"history\[1\] is of epoch 0"),
    "row of another rate": (put("history", 1, "learning_rate", value=9.0), r"history\[1\] .* rate 9\.0, not 0\.1"),
    "row with a text": (put("history", 0, "train_loss", value="1"), r"history\[0\]\['train_loss'\] = '1' is not a"),
    "row not finite": (put("history", 0, "train_loss", value=float("nan")), "= nan is not a finite number"),
    "row of a negative norm": (
        put("history", 1, "gradient_norm", value=-1.0),
        r"history\[1\] has a negative gradient_norm",
    ),
    "totals a list": (put("totals", value=[0.0, 0.0]), r"totals is \[0\.0, 0\.0\]"),
    "totals of three": (put("totals", value=torch.zeros(3, dtype=torch.float64)), r"totals is a tensor .* \(3,\)"),
    "totals complex": (put("totals", value=torch.zeros(2, dtype=torch.complex128)), "totals is a tensor torch.complex"),
    "totals not finite": (put("totals", value=lambda t: t / 0), "totals = nan is not a finite number"),
    "totals of no step": (put("totals", value=lambda t: t + 1), r"totals = \[1\.0, 1\.0\] are not sums over 0 steps"),
    "weights complex": (put("model", "0.weight", value=lambda w: w * 1j), r"model\['0\.weight'\] is torch.complex64"),
    "weights whole": (put("model", "0.weight", value=lambda w: w.long()), r"model\['0\.weight'\] is torch.int64"),
    "weights wide": (put("model", "0.weight", value=lambda w: w.double()), r"model\['0\.weight'\] is torch.float64"),
    "weights a list": (put("model", "0.weight", value=[1.0]), r"model\['0\.weight'\] is a list, not a Parameter"),
    "weights not finite": (put("model", "0.weight", value=lambda w: w / 0), r"model\['0\.weight'\] is not finite"),
    "weights of another shape": (
        put("model", "0.weight", value=lambda w: w.T),
        r"in another shape 0\.weight \(model\)",
    ),
    "weights missing": (drop("model", "0.weight"), r"lacks 0\.weight \(model\)"),
    "weights more": (put("model", "x", value=torch.zeros(1)), r"it has, and the model lacks, x \(model\)"),
    "model a text": (put("model", value="weights"), "holds no weights: model is a str"),
    "model of numbers": (put("model", value={1: torch.zeros(1)}), "holds no weights"),
    "statistics whole": (
        put("model", "1.running_var", value=lambda v: v.int()),
        r"model\['1\.running_var'\] is torch.int",
    ),
    "average missing": (put("average", value=None), "holds no weights: average is a NoneType"),
    "average complex": (put("average", "3.bias", value=lambda w: w * 1j), r"average\['3\.bias'\] is torch.complex64"),
    "optimizer a list": (put("optimizer", value=[]), "optimizer is a list, not a table"),
    "optimizer without state": (drop("optimizer", "state"), "optimizer lacks 'state'"),
    "optimizer of other parameters": (another_optimizer, r"optimizer\['state'\]\[0\]\['exp_avg'\] is .*, not"),
    "optimizer of more parameters": (put("optimizer", "state", 9, value={"step": 1}), "unknown parameter 9"),
    "state of no parameter": (put("optimizer", "state", value={}), r"optimizer\['state'\] is empty after 6 steps"),
    "state a text": (put(*STATE, value="x"), r"optimizer\['state'\]\[0\] is a str, not a table"),
    "state without a part": (drop(*STATE, "exp_avg"), r"optimizer\['state'\]\[0\] lacks 'exp_avg'"),
    "state with another part": (put(*STATE, "momentum", value=1.0), "unknown key 'momentum'"),
    "state complex": (put(*STATE, "exp_avg", value=lambda a: a * 1j), r"\['exp_avg'\] is torch.complex64"),
    "state a number": (put(*STATE, "exp_avg", value=0.5), r"\['exp_avg'\] is a float, not torch.float32"),
    "state not finite": (put(*STATE, "exp_avg_sq", value=lambda a: a / 0), r"\['exp_avg_sq'\] is not finite"),
    "step of the state ahead": (put(*STATE, "step", value=lambda s: s + 99), r"\['step'\] = 105.0 is not a number of"),
    "step of the state below 0": (put(*STATE, "step", value=lambda s: -s), r"\['step'\] = -6.0 is not a number of"),
    "groups a table": (put("optimizer", "param_groups", value={}), r"optimizer\['param_groups'\] are \{\}"),
    "groups two": (put("optimizer", "param_groups", value=lambda g: g * 2), "are 2, not 1"),
    "group a text": (put(*GROUP, value="g"), r"param_groups'\]\[0\] is a str"),
    "group of others": (put(*GROUP, "params", value=[0]), "holds other parameters"),
    "group with another option": (put(*GROUP, "eps", value=1.0), "was made with eps = 1.0, is 1e-08"),
    "group of tensors": (put(*GROUP, "params", 0, value=torch.ones(2)), "holds other parameters"),
    "rates of tensors": (put("rates", value=[torch.ones(2)]), "rates of the groups were"),
    "another class": (put("optimizer_class", value="torch.optim.sgd.SGD"), "optimizer_class was 'torch.optim.sgd.SGD'"),
    "rates of others": (put("rates", value=[2.0]), r"rates of the groups were \[2\.0\], are \[1\.0\]"),
    "configuration a text": (put("config", value="fast"), "config is not a configuration of this version"),
    "configuration with another key": (put("config", "speed", value=1), "config is not a configuration .*speed"),
    "configuration that breaks a rule": (
        put("config", "epochs", value=0),
        "config is not a configuration .*epochs = 0",
    ),
    "configuration of another run": (put("config", "seed", value=5), "belongs to another run: seed was 5, is 0"),
    "samples of another set": (put("samples", value=9), "belongs to another run: samples was 9, is 8"),
    "samples a text": (put("samples", value="7"), "belongs to another run: samples was '7', is 8"),
    "monitor of another": (put("monitor", value=["x"]), r"belongs to another run: monitor was \['x'\]"),
    "a key missing": (drop("history"), "the file lacks 'history'"),
    "a key more": (put("more", value=1), "the file has an unknown key 'more'"),
}


@pytest.mark.parametrize("name", FORGERIES)
def test_a_forged_checkpoint_is_one_error_that_names_file_and_key(trained: Path, tmp_path: Path, name: str) -> None:
    change, message = FORGERIES[name]
    directory = tmp_path / "run"
    shutil.copytree(trained, directory)
    path = checkpoints(directory)[-1]
    content = load(path)
    change(content)
    save(path, content)
    before, untouched = contents(directory), model()
    weights = copy.deepcopy(untouched.state_dict())
    with pytest.raises(TrainingError, match=f"(?s){path.name}.*{message}"):
        go(directory, of=untouched, changes={"epochs": 3})
    assert contents(directory) == before
    assert all(torch.equal(value, weights[key]) for key, value in untouched.state_dict().items())


def test_the_unforged_checkpoint_resumes(trained: Path, tmp_path: Path) -> None:
    """The control: saved again without a change, the same file resumes."""
    shutil.copytree(trained, tmp_path / "run")
    path = checkpoints(tmp_path / "run")[-1]
    save(path, load(path))
    assert len(go(tmp_path / "run", changes={"epochs": 3}).history) == 3
    assert len(FORGERIES) >= 39


@pytest.mark.parametrize(
    "change, message",
    [
        (lambda c: c.update(model=None), "holds no weights"),
        (lambda c: c.update(model=[1]), "holds no weights: model is a list"),
        (lambda c: c["model"].update({"0.weight": "x"}), r"model\['0.weight'\] is a str"),
        (lambda c: c["model"].update({"0.weight": c["model"]["0.weight"].to(torch.complex64)}), "is torch.complex64"),
        (lambda c: c["model"].update({"0.weight": c["model"]["0.weight"].int()}), "is torch.int32"),
        (lambda c: c["model"].update({"0.weight": c["model"]["0.weight"] * float("nan")}), "is not finite"),
    ],
)
def test_forged_weights_leave_the_model_as_it_was(trained: Path, tmp_path: Path, change: Any, message: str) -> None:
    content = load(trained / "best.pt")
    change(content)
    save(tmp_path / "best.pt", content)
    before = copy.deepcopy(model().state_dict())
    with pytest.raises(TrainingError, match=f"best.pt.*{message}"):
        load_weights(tmp_path / "best.pt", untouched := model())
    assert all(torch.equal(value, before[key]) for key, value in untouched.state_dict().items())


def test_state_that_shares_memory_is_taken_apart(tmp_path: Path) -> None:
    """Two names for one tensor would let the optimiser change both at once, and other numbers come out."""
    shared = torch.ones(3)
    content = {"a": shared, "b": shared, "c": shared[:2]}
    torch.save({"format": FORMAT, "digest": _digest(content), **content}, tmp_path / "a.pt")
    apart = load(tmp_path / "a.pt")
    apart["a"].zero_()
    assert apart["b"].tolist() == [1, 1, 1] and apart["c"].tolist() == [1, 1]


def places(value: Any, *keys: Any) -> list[tuple[Any, ...]]:
    """The keys that lead to every value of a tree, its root left out."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [(*keys, key) for key, _ in items] + [place for key, item in items for place in places(item, *keys, key)]


HOSTILE: tuple[Any, ...] = (
    *(None, True, -1, 10**30, 0.5, float("nan"), float("-inf"), "x", "", [], {}, (), [[[]]], {"x": None}, {0: {}}),
    *(torch.zeros(()), torch.zeros(0), torch.zeros(2, 3, 4), torch.tensor(1j), torch.tensor([True]), torch.tensor(-5)),
)


@pytest.mark.slow
def test_any_content_of_a_checkpoint_is_refused_or_changes_nothing(trained: Path, tmp_path: Path) -> None:
    """Every place in the content takes hostile values in turn; what is accepted ends as the genuine file does."""
    genuine = load(checkpoints(trained)[-1])
    refused = 0
    for number, place in enumerate(places(genuine)):
        content = copy.deepcopy(genuine)
        put(*place, value=HOSTILE[number % len(HOSTILE)])(content)
        directory = tmp_path / str(number)
        save(path := directory / checkpoints(trained)[-1].name, content)
        try:
            go(directory, of=(resumed := model()))
        except TrainingError as error:
            refused += 1
            assert path.name in str(error) and "\n" not in str(error), place
        else:
            after = load(path)
            assert _digest(after) == _digest(genuine), place
            assert all(torch.equal(value, genuine["model"][name]) for name, value in resumed.state_dict().items())
    assert refused > 75


def bomb(kind: str) -> Any:
    """Contents that are small on the disk and without end in memory."""
    if kind == "expanded":
        return torch.zeros(1).expand(2**20, 2**20)
    level: Any = [0]
    for _ in range(60):
        level = [level, level]
    return level


@pytest.mark.parametrize("kind", ["expanded", "nested"])
def test_a_small_file_cannot_ask_for_much(tmp_path: Path, kind: str) -> None:
    torch.save({"format": FORMAT, "digest": "", "x": bomb(kind)}, tmp_path / "a.pt")
    with pytest.raises(TrainingError, match="it unfolds to more than its size"):
        load(tmp_path / "a.pt")


def test_a_storage_larger_than_the_file_is_not_read(tmp_path: Path) -> None:
    """The archive's record holds 4 bytes, the pickle speaks of a thousand times as many."""
    torch.save({"format": FORMAT, "digest": "", "x": torch.zeros(1)}, tmp_path / "a.pt")
    with zipfile.ZipFile(tmp_path / "a.pt") as archive:
        records = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(tmp_path / "b.pt", "w") as archive:
        for name, content in records.items():
            if name.endswith("data.pkl"):  # numel 1 of the storage, then size (1,) of the tensor
                assert content.count(b"K\x01") >= 2
                content = content.replace(b"K\x01tq", b"M\x00\x10tq", 1)
            archive.writestr(name, content)
    with pytest.raises(TrainingError, match="is damaged"):
        load(tmp_path / "b.pt")


# -- which run may go on ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "optimizer, message",
    [
        (torch.optim.AdamW, r"optimizer_class was 'torch\.optim\.adam\.Adam', is 'torch\.optim\.adamw\.AdamW'"),
        (torch.optim.SGD, r"optimizer_class was 'torch\.optim\.adam\.Adam', is 'torch\.optim\.sgd\.SGD'"),
        (lambda p, lr: torch.optim.Adam(p, lr, weight_decay=0.5), "made with weight_decay = 0, is 0.5"),
        (lambda p, lr: torch.optim.Adam(p, lr, betas=(0.5, 0.9)), r"made with betas = \(0.9, 0.999\), is \(0.5"),
        (lambda p, lr: torch.optim.Adam(p, lr, amsgrad=True), "made with amsgrad = False, is True"),
        (lambda p, lr: torch.optim.Adam(p, lr / 10), r"rates of the groups were \[1\.0\], are \[0\.0?[19]"),
        (lambda p, lr: torch.optim.Adam([{"params": p[:2]}, {"params": p[2:]}], lr), "are 1, not 2"),
    ],
)
def test_a_run_does_not_resume_with_another_optimizer(
    trained: Path, tmp_path: Path, optimizer: Any, message: str
) -> None:
    shutil.copytree(trained, tmp_path / "run")
    with pytest.raises(TrainingError, match=f"does not fit this run: .*{message}"):
        go(tmp_path / "run", changes={"epochs": 3}, optimizer=optimizer)


@pytest.mark.parametrize(
    "optimizer",
    [
        lambda p, lr: torch.optim.SGD(p, lr),
        lambda p, lr: torch.optim.SGD(p, lr, momentum=0.9, nesterov=True),
        lambda p, lr: torch.optim.AdamW(p, lr, weight_decay=0.1, amsgrad=True),
        lambda p, lr: torch.optim.Adam(p, torch.tensor(lr)),
        torch.optim.RMSprop,
        torch.optim.Adagrad,
        torch.optim.NAdam,
        torch.optim.ASGD,
        torch.optim.Rprop,
        lambda p, lr: torch.optim.Adam([{"params": p[:2], "lr": lr / 100}, {"params": p[2:]}], lr),
    ],
)
def test_every_optimizer_resumes_to_the_same_bits(tmp_path: Path, optimizer: Any) -> None:
    go(tmp_path / "once", of=(once := model()), changes={"epochs": 3}, optimizer=optimizer)
    go(tmp_path / "twice", changes={"epochs": 1}, optimizer=optimizer)
    go(tmp_path / "twice", of=(twice := model()), changes={"epochs": 3}, optimizer=optimizer)
    for key, value in once.state_dict().items():
        assert torch.equal(value, twice.state_dict()[key]), key


def test_an_option_that_only_says_how_to_compute_may_change(trained: Path, tmp_path: Path) -> None:
    shutil.copytree(trained, tmp_path / "run")
    result = go(tmp_path / "run", changes={"epochs": 3}, optimizer=lambda p, lr: torch.optim.Adam(p, lr, foreach=False))
    assert len(result.history) == 3


def test_a_frozen_part_of_the_model_may_hold_what_is_not_finite(tmp_path: Path) -> None:
    """A mask of -inf is no damage: the model that resumes has it too."""

    def masked() -> nn.Module:
        of = model()
        of.register_buffer("mask", torch.tensor([0.0, float("-inf")]))
        return of

    go(tmp_path, of=masked(), changes={"epochs": 1})
    assert len(go(tmp_path, of=masked()).history) == 2
