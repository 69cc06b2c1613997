"""What a checkpoint must hold for a run to go on from it: all of it is checked before any of it is taken.

A file may be whole and still not be believed: written by another run, another model, another optimiser, or by hand.
Each value is compared with what this run derives from its own model, optimiser and configuration.
"""

import copy
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import torch
from torch import Tensor
from torch.optim import Optimizer

from .batches import TrainBatches
from .config import TrainConfig, TrainingError, shown
from .learner import Learner
from .monitor import Monitor, Row, monitor_of
from .weights import checked_weights, cpu_state, put_weights

if TYPE_CHECKING:
    from torchmetrics import MetricCollection

# a resumed run may differ from its checkpoint in these
_MAY_CHANGE = {
    *("epochs", "patience", "keep", "checkpoint_seconds", "check_every"),
    *("device", "compile", "workers", "tensorboard", "progress"),
}
# options of an optimiser that say how it computes, not what
_IMPLEMENTATION = {
    *("lr", "initial_lr", "params"),
    *("foreach", "fused", "capturable", "differentiable", "decoupled_weight_decay"),
}
KEYS = {
    *("config", "samples", "monitor", "metrics", "epoch", "step", "totals", "history"),
    *("model", "average", "optimizer", "optimizer_class", "rates"),
}
COLUMNS = ("epoch", "learning_rate", "train_loss", "gradient_norm")  # of the history, before those of the validation


@dataclass(frozen=True)
class Facts:
    """What a run that resumes knows by itself, besides its model and optimiser."""

    config: TrainConfig
    samples: int
    monitor: Monitor
    metrics: list[str]
    steps: int  # of an epoch
    validated: bool

    def identity(self) -> dict[str, Any]:
        """What a run must share with its checkpoint, by name."""
        return {"samples": self.samples, "monitor": self.monitor.name, "metrics": self.metrics}


def facts_of(config: TrainConfig, batches: TrainBatches, validated: bool, metrics: "MetricCollection | None") -> Facts:
    """The facts of a run. Raises TrainingError if the monitored column is not among its columns."""
    return Facts(
        config=config,
        samples=batches.samples,
        monitor=monitor_of(config.monitor, validated, metrics),
        metrics=sorted(metrics.keys()) if metrics is not None else [],
        steps=batches.steps,
        validated=validated,
    )


@dataclass(frozen=True)
class Progress:
    """How far a run has come."""

    epoch: int
    step: int
    loss: float  # sum of samples * loss over this epoch's steps
    gradient_norm: float  # sum over this epoch's steps
    history: list[Row]


def content_of(learner: Learner, facts: Facts, progress: Progress) -> dict[str, Any]:
    """What a checkpoint holds."""
    return {
        "config": facts.config.as_dict(),
        **facts.identity(),
        "epoch": progress.epoch,
        "step": progress.step,
        "totals": torch.tensor([progress.loss, progress.gradient_norm], dtype=torch.float64),
        "history": progress.history,
        "model": cpu_state(learner.model),
        "average": cpu_state(learner.average) if learner.average is not None else None,
        "optimizer": learner.optimizer.state_dict(),
        "optimizer_class": _class_name(learner.optimizer),
        "rates": learner.ratios,
    }


def restore(content: Mapping[str, Any], path: Path, learner: Learner, facts: Facts) -> Progress:
    """Put a checkpoint's content into the learner, and return how far the run had come.

    Raises TrainingError naming the file and the key; nothing is changed then.
    """
    check = _Check(path, content)
    check.keys(content, KEYS, "")
    then = check.config(content["config"])
    check.same_run({**then.as_dict(), **_identity(content)}, {**facts.config.as_dict(), **facts.identity()})
    model = checked_weights(path, "model", content["model"], learner.model, same_dtype=True)
    average = None
    if learner.average is not None:
        average = checked_weights(path, "average", content["average"], learner.average, same_dtype=True)
    elif content["average"] is not None:
        check.refuse("average", "holds averaged weights, and ema_decay = 0")
    progress = _progress(check, then, facts)
    done = progress.epoch * facts.steps + progress.step
    optimizer = _optimizer_state(check, content["optimizer"], learner, done)

    put_weights(learner.model, model)
    if learner.average is not None and average is not None:
        put_weights(learner.average, average)
    learner.optimizer.load_state_dict(optimizer)
    return progress


class _Check:
    """A checkpoint's values, looked at one by one; an error names the file and the key."""

    def __init__(self, path: Path, content: Mapping[str, Any]) -> None:
        self.path, self.content = path, content

    def refuse(self, key: str, why: str) -> NoReturn:
        raise TrainingError(
            f"{self.path} does not fit this run: {key} {why}. Resume with the model, data and optimizer it was "
            f"written by, or train into another directory."
        )

    def keys(self, table: object, wanted: set[Any], key: str) -> None:
        if not isinstance(table, Mapping):
            self.refuse(key or "the file", f"is a {type(table).__name__}, not a table")
        for what, names in (("lacks", wanted - table.keys()), ("has an unknown key", table.keys() - wanted)):
            if names:
                self.refuse(key or "the file", f"{what} {min(map(repr, names))}")

    def whole(self, key: str, most: int) -> int:
        value = self.content[key]
        if type(value) is not int or not 0 <= value <= most:
            self.refuse(key, f"= {_shown(value)} is not a whole number from 0 to {most}")
        return value

    def number(self, key: str, value: object, *, finite: bool = True) -> float:
        if type(value) not in (int, float) or (finite and not _is_finite(value)):
            self.refuse(key, f"= {_shown(value)} is not a {'finite ' if finite else ''}number")
        return float(value)  # type: ignore[arg-type]

    def config(self, value: object) -> TrainConfig:
        try:
            return TrainConfig(**value)  # type: ignore[arg-type]
        except (TypeError, TrainingError) as error:
            self.refuse("config", f"is not a configuration of this version: {error}".rstrip("."))

    def same_run(self, then: Mapping[str, Any], now: Mapping[str, Any]) -> None:
        differing = [
            f"{name} was {_shown(then.get(name))}, is {now.get(name)!r}"
            for name in sorted(then.keys() | now.keys())
            if name not in _MAY_CHANGE and not _same(then.get(name), now.get(name))
        ]
        if differing:
            raise TrainingError(
                f"{self.path} belongs to another run: {'; '.join(differing)}. "
                f"Restore the values, or train into another directory."
            )


def _same(one: object, other: object) -> bool:
    return type(one) is type(other) and one == other


def _identity(content: Mapping[str, Any]) -> dict[str, Any]:
    return {name: content[name] for name in ("samples", "monitor", "metrics")}


# -- progress ---------------------------------------------------------------------------------------------------------


def _progress(check: _Check, then: TrainConfig, facts: Facts) -> Progress:
    epoch = check.whole("epoch", then.epochs)
    step = check.whole("step", facts.steps if epoch < then.epochs else 0)
    totals = check.content["totals"]
    if not (isinstance(totals, Tensor) and totals.shape == (2,) and totals.dtype == torch.float64):
        check.refuse("totals", f"is {_shown(totals)}, not two numbers in float64")
    loss, norm = (check.number("totals", value) for value in totals.tolist())
    if norm < 0 or (step == 0 and (loss or norm)):
        check.refuse("totals", f"= {totals.tolist()} are not sums over {step} steps")
    return Progress(epoch, step, loss, norm, _history(check, epoch, then, facts))


def _history(check: _Check, epochs: int, then: TrainConfig, facts: Facts) -> list[Row]:
    """The rows of all epochs done, each with the same columns."""
    history = check.content["history"]
    if not isinstance(history, list) or len(history) != epochs:
        check.refuse("history", f"is {_shown(history)}, not a list with a row for each of {epochs} epochs")
    columns = {*COLUMNS, facts.monitor.name, *(["validation_loss"] if facts.validated else [])}
    finite = {*COLUMNS, "validation_loss"}
    for epoch, row in enumerate(history):
        where = f"history[{epoch}]"
        if not isinstance(row, Mapping) or not all(isinstance(name, str) for name in row):
            check.refuse(where, f"is {_shown(row)}, not a table of columns")
        check.keys(row, columns | (set(history[0]) if facts.metrics else set()), where)
        for name, value in row.items():
            check.number(f"{where}[{name!r}]", value, finite=name in finite)
        if row["gradient_norm"] < 0:
            check.refuse(where, f"has a negative gradient_norm, {row['gradient_norm']}")
        rate = then.learning_rate_at(epoch)
        if row["epoch"] != epoch or not math.isclose(row["learning_rate"], rate, rel_tol=1e-9):
            check.refuse(where, f"is of epoch {row['epoch']} with learning rate {row['learning_rate']}, not {rate}")
    return [dict(row) for row in history]


# -- the optimiser ----------------------------------------------------------------------------------------------------


def _optimizer_state(check: _Check, saved: Any, learner: Learner, done: int) -> dict[str, Any]:
    """The state to load: the checkpoint's numbers in the structure this run's own optimiser would have."""
    check.keys(saved, {"state", "param_groups"}, "optimizer")
    name = _class_name(learner.optimizer)
    if check.content["optimizer_class"] != name:
        check.refuse("optimizer_class", f"was {_shown(check.content['optimizer_class'])}, is {name!r}")
    own = learner.optimizer.state_dict()
    _check_groups(check, saved["param_groups"], own["param_groups"])
    if not _equal(check.content["rates"], learner.ratios):
        check.refuse("rates", f"of the groups were {_shown(check.content['rates'])}, are {learner.ratios}")
    if not isinstance(saved["state"], Mapping):
        check.refuse("optimizer['state']", f"is a {type(saved['state']).__name__}, not a table")
    everything = range(sum(len(group["params"]) for group in own["param_groups"]))
    if done and not saved["state"] and _expected_state(learner.optimizer, everything):
        check.refuse("optimizer['state']", f"is empty after {done} steps")
    state = {}
    for number, expected in _expected_state(learner.optimizer, saved["state"].keys()).items():
        where = f"optimizer['state'][{number}]"
        check.keys(saved["state"][number], set(expected), where)
        found = saved["state"][number]
        state[number] = {
            key: _taken(check, f"{where}[{key!r}]", found[key], value, done) for key, value in expected.items()
        }
    if unknown := {number for number, own_state in saved["state"].items() if own_state != {}} - state.keys():
        check.refuse("optimizer['state']", f"has an unknown parameter {min(map(repr, unknown))}")
    return {"state": state, "param_groups": own["param_groups"]}


def _check_groups(check: _Check, then: object, now: Sequence[Mapping[str, Any]]) -> None:
    where = "optimizer['param_groups']"
    if not isinstance(then, list) or len(then) != len(now):
        check.refuse(where, f"are {len(then) if isinstance(then, list) else _shown(then)}, not {len(now)}")
    for number, (before, group) in enumerate(zip(then, now, strict=True)):
        if not isinstance(before, Mapping):
            check.refuse(f"{where}[{number}]", f"is a {type(before).__name__}, not a table")
        if not _equal(before.get("params"), group["params"]):
            check.refuse(f"{where}[{number}]", "holds other parameters")
        for key in sorted(group.keys() - _IMPLEMENTATION):
            if not _equal(before.get(key), group[key]):
                check.refuse(
                    f"{where}[{number}]", f"was made with {key} = {_shown(before.get(key))}, is {group[key]!r}"
                )


def _expected_state(optimizer: Optimizer, numbers: Any) -> dict[int, dict[str, Any]]:
    """What the optimiser remembers of the parameters numbered, once it has made a step: a twin makes one.

    The twin has separate parameters, and zeros for gradients.
    """
    twin = copy.deepcopy(optimizer)
    vars(twin).update({k: v for k, v in vars(optimizer).items() if k not in vars(twin) and k != "step"})
    parameters = [p for group in twin.param_groups for p in group["params"]]
    for number, parameter in enumerate(parameters):
        parameter.grad = torch.zeros_like(parameter) if number in numbers else None
    twin.step()
    return {n: dict(twin.state[p]) for n, p in enumerate(parameters) if n in numbers and twin.state[p]}


def _taken(check: _Check, where: str, value: Any, expected: Any, done: int) -> Any:
    """The value in a tensor of the twin's, or itself if it is a number or nothing."""
    if not isinstance(expected, Tensor):
        if type(value) is not type(expected):
            check.refuse(where, f"is a {type(value).__name__}, not a {type(expected).__name__}")
        return value
    if not isinstance(value, Tensor) or value.shape != expected.shape or value.dtype != expected.dtype:
        found = f"{value.dtype} {tuple(value.shape)}" if isinstance(value, Tensor) else f"a {type(value).__name__}"
        check.refuse(where, f"is {found}, not {expected.dtype} {tuple(expected.shape)}")
    if not torch.isfinite(value).all():
        check.refuse(where, "is not finite")
    if where.endswith("['step']") and not 0 < float(value) <= done:
        check.refuse(where, f"= {float(value)} is not a number of steps up to {done}")
    return expected.copy_(value)


def _class_name(optimizer: Optimizer) -> str:
    return f"{type(optimizer).__module__}.{type(optimizer).__qualname__}"


def _equal(one: Any, other: Any) -> bool:
    if isinstance(one, Tensor) or isinstance(other, Tensor):
        return isinstance(one, Tensor) and isinstance(other, Tensor) and torch.equal(one.cpu(), other.cpu())
    if isinstance(one, list | tuple) and isinstance(other, list | tuple):
        return len(one) == len(other) and all(map(_equal, one, other))
    return bool(one == other)


def _is_finite(value: object) -> bool:
    try:
        return math.isfinite(value)  # type: ignore[arg-type]
    except OverflowError:
        return False


def _shown(value: object) -> str:
    return f"a tensor {value.dtype} {tuple(value.shape)}" if isinstance(value, Tensor) else shown(value)
