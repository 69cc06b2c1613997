"""What `train` is given: models, samples and optimisers of many kinds, each trained or refused in one line."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from runtime.train import (
    TrainConfig,
    TrainingError,
    TrainResult,
    classification_metrics,
    load_weights,
    train,
)
from runtime.train.checkpoint import load

DATA = [(torch.tensor([float(n), 1.0]), n % 2) for n in range(7)]


def linear() -> nn.Linear:
    torch.manual_seed(0)
    return nn.Linear(2, 2)


def go(
    directory: Path, of: Any, data: Any = DATA, changes: dict[str, Any] | None = None, **options: Any
) -> TrainResult:
    plain = {"epochs": 2, "batch_size": 4, "learning_rate": 0.1, "tensorboard": False, "device": "cpu"}
    return train(of, data, TrainConfig(**(plain | (changes or {}))), directory, **options)


class Wrapped(nn.Module):
    """A linear map whose output a function makes something else of."""

    def __init__(self, make: Callable[[Tensor], Any]) -> None:
        super().__init__()
        self.linear, self.make = linear(), make

    def forward(self, x: Tensor) -> Any:
        return self.make(self.linear(x))


class Nothing(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x


class Embedded(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(4, 2, sparse=True)

    def forward(self, x: Tensor) -> Tensor:
        return self.table(x.long() % 4).sum(dim=1)


def frozen() -> nn.Module:
    return linear().requires_grad_(False)


REFUSED: dict[str, tuple[Callable[[Path], Any], str]] = {
    "a function as model": (lambda d: go(d, F.relu), "the model is a builtin|the model is a function, not a torch.nn"),
    "a class as model": (lambda d: go(d, nn.Linear), "the model is a type, not a torch.nn.Module"),
    "no model": (lambda d: go(d, None), "the model is a NoneType"),
    "None as output": (lambda d: go(d, Wrapped(lambda y: None)), "the model returns a NoneType, not a tensor"),
    "a tuple as output": (lambda d: go(d, Wrapped(lambda y: (y, y))), r"returns a tuple, not a tensor.*forward=lambda"),
    "a dict as output": (lambda d: go(d, Wrapped(lambda y: {"y": y})), "returns a dict, not a tensor.*forward=lambda"),
    "a list as output": (lambda d: go(d, Wrapped(lambda y: [y])), "returns a list, not a tensor"),
    "a text from forward": (lambda d: go(d, linear(), forward=lambda m, x: "y"), "forward returns a str, not a tensor"),
    "a float as loss": (lambda d: go(d, linear(), loss=lambda o, y: 1.0), "the loss is a float, not a tensor"),
    "None as loss": (lambda d: go(d, linear(), loss=lambda o, y: None), "the loss is a NoneType, not a tensor"),
    "a complex loss": (lambda d: go(d, linear(), loss=lambda o, y: o.sum() * 1j), "is not real: torch.complex64"),
    "a loss for each sample": (lambda d: go(d, linear(), loss=lambda o, y: o.sum(1)), r"the loss has shape \(4,\)"),
    "no function for epochs": (lambda d: go(d, linear(), on_epoch=[]), "on_epoch is a list, not a function"),
    "no loss": (lambda d: go(d, linear(), loss=None), "loss is a NoneType, not a function"),
    "a detached output": (lambda d: go(d, Wrapped(Tensor.detach)), "the loss does not depend on any weight"),
    "a model without parameters": (lambda d: go(d, Nothing()), "has nothing to learn: it has no parameters"),
    "a frozen model": (lambda d: go(d, frozen()), "has nothing to learn: every one has requires_grad = False"),
    "a lazy model": (lambda d: go(d, nn.LazyLinear(2)), "a lazy layer without weights yet. Run it once"),
    "sparse gradients": (lambda d: go(d, Embedded()), "a gradient is sparse.*sparse=False"),
    "metrics for fewer classes": (
        lambda d: go(d, Wrapped(lambda y: F.pad(y, (0, 2))), validation=DATA, metrics=classification_metrics(3)),
        "the metrics reject outputs and labels",
    ),
    "metrics that are none": (lambda d: go(d, linear(), validation=DATA, metrics=max), "not a torchmetrics.Metric"),
    "the device meta": (lambda d: go(d, linear(), changes={"device": "meta"}), 'device = "meta" holds no numbers'),
    "an optimizer already made": (
        lambda d: go(d, m := linear(), optimizer=torch.optim.SGD(m.parameters())),
        "optimizer is a SGD, not a class or function that makes one",
    ),
    "an optimizer that is none": (lambda d: go(d, linear(), optimizer=lambda p, lr: None), "returns a NoneType, not"),
    "an optimizer of others": (
        lambda d: go(d, linear(), optimizer=lambda p, lr: torch.optim.SGD(linear().parameters(), lr)),
        "holds a parameter that is not the model's",
    ),
    "LBFGS": (
        lambda d: go(d, linear(), optimizer=torch.optim.LBFGS),
        "LBFGS computes the loss several times in a step",
    ),
    "a table as configuration": (lambda d: train(linear(), DATA, {"epochs": 1}, d), "the configuration is a dict"),
    "no directory": (lambda d: go(None, linear()), "directory = None is not a path"),
    "a directory with a zero byte": (lambda d: go(f"{d}\0", linear()), "is not a path"),
    "a file as directory": (lambda d: go(written(d / "file"), linear()), "cannot train into .*file"),
    "a directory in a file": (lambda d: go(written(d / "file") / "x", linear()), "cannot train into .*Choose"),
    "too few samples to drop the last": (
        lambda d: go(d, linear(), changes={"batch_size": 8, "drop_last": True}),
        "drop_last leaves nothing of 7 samples: batch_size = 8",
    ),
    "a sample without input": (lambda d: go(d, linear(), [({}, 1)] * 4), "sample 0 has no input: it is an empty dict"),
    "a sample of whole numbers": (
        lambda d: go(d, linear(), [(torch.ones(2).int(), 1)] * 4),
        "the input of sample 0 is",
    ),
    "samples of other keys": (
        lambda d: go(d, linear(), [({f"{n}": torch.zeros(1)}, 1) for n in range(4)]),
        r"of one batch, have shapes keys \['\d'\] and keys",
    ),
    "huge numbers": (lambda d: go(d, linear(), changes={"learning_rate": 10**400}), "learning_rate = 1000.*is not"),
    "huge whole numbers": (lambda d: go(d, linear(), changes={"epochs": 10**400}), "epochs = 1000.* is over the limit"),
    "numbers of thousands of digits": (
        lambda d: go(d, linear(), changes={"seed": 10**5000}),
        "seed = a whole number of",
    ),
}


def written(path: Path) -> Path:
    path.write_text("a file")
    return path


@pytest.mark.parametrize("name", REFUSED)
def test_a_wrong_argument_is_one_error(tmp_path: Path, name: str) -> None:
    call, message = REFUSED[name]
    with pytest.raises(TrainingError, match=message) as error:
        call(tmp_path)
    assert "\n" not in str(error.value)
    assert {path.name for path in tmp_path.iterdir()} <= {"file", "history.csv"}


def test_an_error_of_any_kind_inside_the_model_keeps_it_and_names_the_samples(tmp_path: Path) -> None:
    class MineError(Exception):
        pass

    def fail(_output: Tensor) -> Tensor:
        raise MineError("mine")

    with pytest.raises(MineError, match="mine") as error:
        go(tmp_path, Wrapped(fail), changes={"batch_size": 2})
    (note,) = error.value.__notes__
    assert note.startswith("raised by the model, given inputs (2, 2) (samples ")
    assert error.traceback[-1].name == "fail"


def test_an_error_inside_the_data_set_keeps_its_kind_and_names_the_sample(tmp_path: Path) -> None:
    class Broken(list[Any]):
        def __getitem__(self, index: Any) -> Any:
            return super().__getitem__(index) if index != 5 else {}["path"]

    with pytest.raises(KeyError, match="path") as error:
        go(tmp_path, linear(), Broken(DATA))
    assert error.value.__notes__ == ["raised by the data set Broken for its sample 5"]


# -- samples and outputs of every shape -------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(), (2,), (3, 4), (2, 3, 4), (1, 4, 4, 4), (2, 2, 2, 2, 2)])
def test_samples_of_any_shape_train(tmp_path: Path, shape: tuple[int, ...]) -> None:
    size = math.prod(shape)
    data = [(torch.randn(shape), n % 2) for n in range(6)]
    model = nn.Sequential(nn.Unflatten(0, (-1, 1)) if shape == () else nn.Flatten(), nn.Linear(size, 2))
    assert len(go(tmp_path, model, data).history) == 2


def test_several_inputs_go_through_forward(tmp_path: Path) -> None:
    data = [({"x": torch.tensor([float(n)]), "shift": n}, (n % 2, torch.tensor(1.0))) for n in range(6)]
    seen: list[Any] = []

    def forward(model: nn.Module, inputs: dict[str, Tensor]) -> dict[str, Tensor]:
        seen.append(inputs)
        return {"logits": model(torch.cat([inputs["x"], inputs["shift"][:, None].float()], dim=1))}

    def loss(output: dict[str, Tensor], label: tuple[Tensor, Tensor]) -> Tensor:
        return F.cross_entropy(output["logits"], label[0]) * label[1].mean()

    go(tmp_path, linear(), data, forward=forward, loss=loss, validation=data, changes={"workers": 0})
    assert seen[0]["x"].shape == (4, 1) and seen[0]["shift"].dtype == torch.int64


def test_a_bad_number_in_one_of_several_inputs_is_placed(tmp_path: Path) -> None:
    data = [({"x": torch.tensor([1.0, float("inf") if n == 3 else 1.0]), "m": torch.ones(1)}, 0) for n in range(4)]
    with pytest.raises(TrainingError, match=r"the input\['x'\] of sample 3 is inf at \(1,\)"):
        go(tmp_path, linear(), data, forward=lambda model, inputs: model(inputs["x"]))


def test_a_model_that_returns_more_than_a_tensor_trains_as_its_first_output(tmp_path: Path) -> None:
    plain, more = linear(), Wrapped(lambda y: (y, "and more"))
    go(tmp_path / "plain", plain)
    go(tmp_path / "more", more, forward=lambda model, inputs: model(inputs)[0])
    assert torch.equal(plain.weight, more.linear.weight)


# -- parts of a model that do not learn -------------------------------------------------------------------------------


def norms() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.BatchNorm1d(2), nn.Dropout(0.5), nn.Linear(2, 2), nn.BatchNorm1d(2))


def test_modules_in_eval_stay_so_through_validation(tmp_path: Path) -> None:
    model = norms()
    model[0].eval()
    go(tmp_path, model, validation=DATA, changes={"drop_last": True})
    assert [module.training for module in model] == [False, True, True, True] and model.training
    assert model[0].running_mean.tolist() == [0, 0] and model[0].num_batches_tracked == 0
    assert model[3].num_batches_tracked == 2


def test_a_model_that_is_in_eval_as_a_whole_trains(tmp_path: Path) -> None:
    """Tested before, or loaded: that all of it stands in eval() says nothing about its parts."""
    model = norms().eval()
    go(tmp_path, model, changes={"drop_last": True})
    assert all(module.training for module in model.modules()) and model[0].num_batches_tracked == 2


def test_rates_of_groups_keep_their_ratios(tmp_path: Path) -> None:
    model, made = nn.Sequential(linear(), linear(), linear()), []

    def optimizer(_parameters: Any, lr: float) -> torch.optim.Optimizer:
        slow, tensor = {"params": model[0].parameters(), "lr": lr / 100}, torch.tensor(lr / 10, dtype=torch.float64)
        made.append(
            torch.optim.SGD([slow, {"params": model[1].parameters()}, {"params": model[2].parameters()}], lr=lr)
        )
        made[-1].param_groups[2]["lr"] = tensor
        return made[-1]

    go(tmp_path, model, optimizer=optimizer, changes={"epochs": 3, "decay": 0.5, "burn_in": 1})
    assert [float(group["lr"]) for group in made[0].param_groups] == pytest.approx([0.00025, 0.025, 0.0025])


# -- compiled models --------------------------------------------------------------------------------------------------


def test_a_compiled_model_is_saved_under_its_own_names(tmp_path: Path) -> None:
    inner = nn.Sequential(linear(), nn.ReLU(), linear())
    inner[2] = torch.compile(inner[2], backend="eager")
    go(tmp_path, torch.compile(inner, backend="eager"), changes={"ema_decay": 0.5})
    content = load(tmp_path / "step-000000004.pt")
    assert list(content["model"]) == list(content["average"]) == ["0.weight", "0.bias", "2.weight", "2.bias"]
    plain = load_weights(tmp_path / "best.pt", nn.Sequential(linear(), nn.ReLU(), linear()))
    assert torch.equal(plain[0].weight, load(tmp_path / "best.pt")["model"]["0.weight"])
    result = go(tmp_path, plain, changes={"epochs": 3, "ema_decay": 0.5}, resume=True)
    assert len(result.history) == 3


# -- the last step of an epoch ----------------------------------------------------------------------------------------


def test_drop_last_leaves_out_the_shorter_step(tmp_path: Path) -> None:
    sizes: list[int] = []

    def loss(output: Tensor, label: Tensor) -> Tensor:
        sizes.append(len(label))
        return F.cross_entropy(output, label)

    model = linear()
    result = go(tmp_path, model, loss=loss, changes={"batch_size": 3, "drop_last": True, "learning_rate": 1e-12})
    assert sizes == [3, 3, 3, 3]
    losses = F.cross_entropy(
        model(torch.stack([x for x, _ in DATA])), torch.tensor([y for _, y in DATA]), reduction="none"
    )
    dropped = [(losses.sum() - one).item() / 6 for one in losses]
    assert min(abs(row["train_loss"] - mean) for row in result.history for mean in dropped) < 1e-6
    with pytest.raises(TrainingError, match="belongs to another run: drop_last was True, is False"):
        go(tmp_path, linear(), loss=loss, resume=True, changes={"batch_size": 3, "learning_rate": 1e-12})


# -- numbers of other kinds -------------------------------------------------------------------------------------------


def test_numbers_of_numpy_configure_and_feed_a_run(tmp_path: Path) -> None:
    data = [(np.array([n, 1.0], dtype=np.float32), np.int64(n % 2)) for n in range(4)]
    changes = {"epochs": np.int64(1), "learning_rate": np.float32(0.5), "clip_norm": np.float64(2), "seed": np.uint8(3)}
    result = go(tmp_path, linear(), data, changes=changes)
    config = load(result.last_path)["config"]
    assert [type(config[name]) for name in changes] == [int, float, float, int]
