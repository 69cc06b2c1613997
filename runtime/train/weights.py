"""Weights from a file into a model: all of them or none, and only where they belong.

Weights of one convolution fit another of the same shapes with other filters: another kernel size, another family,
another order of terms. The names and shapes agree then, and the result is wrong. So the state of a generated layer says
which field types and filters its weights were made for, and they must be the model's.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from .checkpoint import load
from .config import TrainingError

EXTRA_STATE = "_extra_state"  # torch's name; generated layers say there what their weights were made for


def load_weights(path: str | Path, model: nn.Module, *, check_filters: bool = True) -> nn.Module:
    """Put the weights of a checkpoint or of `best.pt` into a model, strictly, and return it.

    check_filters   refuse weights that were trained with other filters than the model has; False: take them all the
                    same, where the shapes agree

    Raises TrainingError if the file is damaged or made for another model; the model is then as it was. A file that does
    not say which filters its weights belong to is taken with a warning.
    """
    path = Path(path)
    weights = load(path).get("model")
    if not check_filters and isinstance(weights, Mapping):  # they say what the model says
        weights = {**weights, **{name: said for name, said in cpu_state(model).items() if name.endswith(EXTRA_STATE)}}
    put_weights(model, checked_weights(path, "model", weights, model))
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
    _check_filters(path, weights, model)
    wanted = {plain_name(name): (name, value) for name, value in model.state_dict(keep_vars=True).items()}
    shared = wanted.keys() & weights.keys()
    problems = {name: _misfit(wanted[name][1], weights[name], same_dtype) for name in sorted(shared)}
    for what, names in (
        ("lacks", sorted(name for name in wanted.keys() - weights.keys() if not name.endswith(EXTRA_STATE))),
        ("has, and the model lacks,", sorted(weights.keys() - wanted.keys())),
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
    return {wanted[name][0]: weights[name] for name in weights}


def _check_filters(path: Path, weights: Mapping[str, Any], model: nn.Module) -> None:
    """Raises TrainingError if weights were trained with other field types or filters than a layer of the model has."""
    for name, module in model.named_modules():
        said = weights.get(plain_name(f"{name}.{EXTRA_STATE}".removeprefix(".")))
        if said is not None and hasattr(module, "fingerprint"):
            try:
                module.set_extra_state(said)
            except Exception as error:
                what = str(error).partition(" Compile ")[0].rstrip(".")
                raise TrainingError(
                    f"{path} does not fit layer {name!r}: {what}. Take another directory (--runs), or compile the old "
                    f"spec. load_weights(..., check_filters=False) takes the bare numbers."
                ) from error


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
