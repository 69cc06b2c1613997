"""The arguments of `train`, looked at before anything happens."""

import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any

from torch import nn
from torch.nn.parameter import is_lazy
from torch.optim import Optimizer

from .config import TrainConfig, TrainingError


def check_arguments(
    model: object,
    config: object,
    directory: object,
    loss: object,
    metrics: object,
    optimizer: object,
    forward: object,
    on_epoch: object,
) -> None:
    """Raises TrainingError if an argument is not of its kind."""
    if not isinstance(model, nn.Module):
        raise TrainingError(f"the model is a {type(model).__name__}, not a torch.nn.Module. Give the module itself.")
    if not isinstance(config, TrainConfig):
        raise TrainingError(f"the configuration is a {type(config).__name__}. Give TrainConfig(epochs=..., ...).")
    if not isinstance(directory, str | Path) or "\0" in str(directory) or not str(directory):
        raise TrainingError(f"directory = {directory!r} is not a path. Write for example 'runs/first'.")
    if isinstance(optimizer, Optimizer) or not callable(optimizer):
        raise TrainingError(
            f"optimizer is a {type(optimizer).__name__}, not a class or function that makes one. "
            f"Write for example optimizer=torch.optim.SGD; train calls it with the parameters and lr."
        )
    for name, value in (("loss", loss), ("forward", forward), ("on_epoch", on_epoch)):
        if not callable(value) and (value is not None or name == "loss"):
            raise TrainingError(f"{name} is a {type(value).__name__}, not a function.")
    if metrics is not None and not all(hasattr(metrics, name) for name in ("items", "update", "compute", "clone")):
        raise TrainingError(
            f"metrics is a {type(metrics).__name__}, not a torchmetrics.MetricCollection. "
            f"Write for example MetricCollection({{'accuracy': metric}})."
        )


def trained_parameters(model: nn.Module) -> list[nn.Parameter]:
    """The parameters that learn. Raises TrainingError if there is none."""
    parameters = list(model.parameters())
    if any(is_lazy(parameter) for parameter in parameters):
        raise TrainingError("the model has a lazy layer without weights yet. Run it once on a sample, then train.")
    learning = [parameter for parameter in parameters if parameter.requires_grad]
    if not learning:
        why = "every one has requires_grad = False" if parameters else "it has no parameters"
        raise TrainingError(f"the model {type(model).__name__} has nothing to learn: {why}.")
    return learning


def made_optimizer(
    make: Callable[..., Any], model: nn.Module, parameters: list[nn.Parameter], learning_rate: float
) -> Optimizer:
    """The caller's optimiser of the parameters. Raises TrainingError if the loop cannot work with it."""
    optimizer = make(parameters, lr=learning_rate)
    if not isinstance(optimizer, Optimizer):
        raise TrainingError(f"optimizer(...) returns a {type(optimizer).__name__}, not a torch.optim.Optimizer.")
    closure = inspect.signature(optimizer.step).parameters.get("closure")
    if closure is not None and closure.default is inspect.Parameter.empty:
        raise TrainingError(
            f"{type(optimizer).__name__} computes the loss several times in a step, and this loop once. "
            f"Choose an optimizer whose step() needs no closure, for example torch.optim.Adam."
        )
    known = {id(parameter) for parameter in model.parameters()}
    if any(id(parameter) not in known for group in optimizer.param_groups for parameter in group["params"]):
        raise TrainingError(
            "the optimizer holds a parameter that is not the model's, so it would not be saved. Make the model hold it."
        )
    return optimizer
