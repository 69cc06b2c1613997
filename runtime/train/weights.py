"""Weights from a file into a model: all of them or none, and only where they belong.

Weights of one convolution fit another of the same shapes with other filters: another kernel size, another family,
another order of terms. The names and shapes agree then, and the result is wrong. So a file also says which filters its
weights belong to, module by module, and they must be the model's.
"""

import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from runtime.train.checkpoint import load
from runtime.train.config import TrainingError
from runtime.train.filters import differing_filters, filters_of

EXTRA_STATE = "_extra_state"  # torch's name; generated layers say there what their weights were made for


def load_weights(path: str | Path, model: nn.Module, *, check_filters: bool = True) -> nn.Module:
    """Put the weights of a checkpoint or of `best.pt` into a model, strictly, and return it.

    check_filters   refuse weights that were trained with other filters than the model has; False: take them all the
                    same, where the shapes agree

    Raises TrainingError if the file is damaged or made for another model; the model is then as it was. A file that does
    not say which filters its weights belong to is taken with a warning.
    """
    path = Path(path)
    content = load(path)
    weights = content.get("model")
    if check_filters:
        check_filters_of(path, content.get("filters"), model)
    elif isinstance(weights, Mapping):  # what the weights themselves say too
        weights = {**weights, **{name: said for name, said in cpu_state(model).items() if name.endswith(EXTRA_STATE)}}
    weights = checked_weights(path, "model", weights, model)
    put_weights(model, weights)
    return model


def put_weights(model: nn.Module, weights: Mapping[str, Any]) -> None:
    """Load what `checked_weights` returned."""
    model.load_state_dict(weights)


def checked_weights(
    path: Path, key: str, weights: object, model: nn.Module, *, same_dtype: bool = False
) -> dict[str, Any]:
    """The weights under the model's own names, once names, shapes and types are found to fit; changes nothing.

    same_dtype: also refuse to round, as float64 weights to a float32 model. Raises TrainingError.
    """
    if not isinstance(weights, Mapping) or not all(isinstance(name, str) for name in weights):
        raise TrainingError(f"{path} holds no weights: {key} is a {type(weights).__name__}, not a table of them.")
    wanted = {plain_name(name): (name, value) for name, value in model.state_dict(keep_vars=True).items()}
    shared = wanted.keys() & weights.keys()
    problems = {name: _misfit(wanted[name][1], weights[name], same_dtype) for name in sorted(shared)}
    for what, names in (
        ("lacks", sorted(name for name in wanted.keys() - weights.keys() if not name.endswith(EXTRA_STATE))),
        ("has, and the model has not,", sorted(weights.keys() - wanted.keys())),
        ("has in another shape", [name for name in wanted if problems.get(name) == "shape"]),
    ):
        if names:
            more = f" and {len(names) - 3} more" if len(names) > 3 else ""
            raise TrainingError(
                f"{path} was made by another model: it {what} {', '.join(names[:3])}{more} ({key}). "
                f"Build the model as it was when the checkpoint was written."
            )
    for name, problem in problems.items():
        if problem:
            raise TrainingError(f"{path}: {key}[{name!r}] {problem}. Restore the file from a copy.")
    for name, module in model.named_modules():
        key = plain_name(f"{name}.{EXTRA_STATE}".removeprefix("."))
        if key in weights and hasattr(module, "fingerprint"):
            try:
                module.set_extra_state(weights[key])
            except ValueError as error:
                raise TrainingError(f"{path}: {key}: {error}") from None
    return {wanted[name][0]: weights[name] for name in weights}


def check_filters_of(path: Path, filters: object, model: nn.Module) -> None:
    """Raises TrainingError if a file's weights belong to other filters than the model's."""
    own = filters_of(model)
    if filters is None:
        if own:
            warnings.warn(
                f"{path} does not say which filters its weights belong to; they are taken as this model's.",
                stacklevel=3,
            )
        return
    if difference := differing_filters(filters, own):
        raise TrainingError(
            f"the weights in {path} belong to other filters: {difference}. "
            f"Take another directory (--runs), or compile the old spec."
        )


def plain_name(name: str) -> str:
    """The name of a weight without what torch.compile puts around a compiled part of the model."""
    return name.replace("_orig_mod.", "")


def cpu_state(model: nn.Module) -> dict[str, Any]:
    """A model's state, copied to the CPU, under plain names."""
    return {
        plain_name(name): value.detach().cpu().clone() if isinstance(value, Tensor) else value
        for name, value in model.state_dict().items()
    }


def _misfit(wanted: Any, value: Any, same_dtype: bool) -> str:
    """Why a value cannot take the place of another; "shape" if that is all, "" if it can."""
    if not isinstance(wanted, Tensor) or not isinstance(value, Tensor):
        same = isinstance(wanted, Tensor) == isinstance(value, Tensor) and type(wanted) is type(value)
        return "" if same else f"is a {type(value).__name__}, not a {type(wanted).__name__}"
    if value.shape != wanted.shape:
        return "shape"
    rounds = value.is_floating_point() and wanted.is_floating_point() and not same_dtype
    if value.dtype != wanted.dtype and not rounds:
        return f"is {value.dtype}, where the model has {wanted.dtype}"
    return "is not finite" if _is_finite(wanted) and not _is_finite(value) else ""


def _is_finite(value: Tensor) -> bool:
    return bool(torch.isfinite(value.detach()).all())
