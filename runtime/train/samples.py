"""One sample, checked: a data set's pair with its random draws fixed; and samples stacked to a batch.

A sample that breaks a rule is returned as the error it is: an error raised in a worker process would arrive as a text
with the worker's traceback in it.
"""

from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from .config import TrainingError
from .processes import seed_generators
from .trees import like, named_tensors

Key = tuple[int | str, int]  # (epoch, or the name of the pass; index of the sample)
Sample = tuple[int, Any, Any]  # index, inputs, label


class Draws(Dataset[Sample | TrainingError]):
    """A data set indexed by (epoch, index), whose random draws are a function of that pair."""

    def __init__(self, dataset: "Dataset[Any]", seed: int) -> None:
        self._dataset, self._seed = dataset, seed

    def __getitem__(self, key: Key) -> Sample | TrainingError:
        seed_generators(self._seed, "draw", *key)
        index = key[1]
        try:
            sample = self._dataset[index]
        except Exception as error:
            error.add_note(f"raised by the data set {type(self._dataset).__name__} for its sample {index}")
            raise
        try:
            return _checked(index, sample)
        except TrainingError as error:
            return error


def stack(samples: list[Sample | TrainingError]) -> tuple[Any, Any] | TrainingError:
    """Samples -> (inputs, label), every tensor with the axis (batch) in front."""
    good: list[Sample] = []
    for sample in samples:
        if isinstance(sample, TrainingError):
            return sample
        good.append(sample)
    indices, inputs, labels = (list(column) for column in zip(*good, strict=True))
    try:
        return _stacked(f"{noun(inputs[0])}s", inputs, indices), _stacked("labels", labels, indices)
    except TrainingError as error:
        return error


def noun(inputs: Any, batch_axes: int = 0) -> str:
    """What messages call a sample's input: a volume (channel, x, y, z), or an input of another shape."""
    return "volume" if isinstance(inputs, Tensor) and inputs.ndim == 4 + batch_axes else "input"


def length(dataset: "Dataset[Any]", role: str) -> int:
    """The number of samples. Raises TrainingError if there is none, or no number."""
    if isinstance(dataset, DataLoader):
        raise TrainingError(
            f"the {role} set is a DataLoader. train draws its batches itself, so that a run can be resumed: give it "
            f"the data set, loader.dataset, and set batch_size and workers in TrainConfig."
        )
    try:
        samples = len(dataset)  # type: ignore[arg-type]
    except TypeError as error:
        raise TrainingError(
            f"the {role} set {type(dataset).__name__} has no len(). Use a map-style data set, "
            f"with __len__ and __getitem__."
        ) from error
    if samples == 0:
        raise TrainingError(
            f"the {role} set is empty: len({type(dataset).__name__}) = 0. "
            f"Check the path and the split it was made from."
        )
    return samples


def _checked(index: int, sample: Any) -> Sample:
    if not isinstance(sample, tuple | list) or len(sample) != 2:
        kind = f"a {type(sample).__name__}"
        raise TrainingError(f"sample {index} is {kind}, not a pair. Return (volume, label) from the data set.")
    inputs, label = _tensors(index, "volume", sample[0]), _tensors(index, "label", sample[1])
    if isinstance(inputs, Tensor) and not (inputs.is_floating_point() or inputs.is_complex()):
        raise TrainingError(
            f"the {noun(inputs)} of sample {index} is {inputs.dtype} of shape {tuple(inputs.shape)}, not floating "
            f"point. Convert it in the data set: volume.float()."
        )
    if not any(True for _ in named_tensors(inputs)):
        raise TrainingError(f"sample {index} has no input: it is an empty {type(inputs).__name__}.")
    return index, inputs, label


def _tensors(index: int, what: str, value: Any) -> Any:
    """A tensor of an array, a number or a list of numbers; a tuple, list or dictionary of tensors stays one."""
    if isinstance(value, dict):
        return {key: _tensors(index, f"{what} {key!r}", item) for key, item in value.items()}
    if isinstance(value, list | tuple) and any(isinstance(v, Tensor | np.ndarray | dict) for v in value):
        return like(value, [_tensors(index, f"{what} {number}", item) for number, item in enumerate(value)])
    try:
        return torch.as_tensor(value)
    except (TypeError, ValueError, RuntimeError, OverflowError) as error:
        raise TrainingError(
            f"the {what} of sample {index} is a {type(value).__name__}, not numbers. "
            f"Return a tensor, an array or a number."
        ) from error


def _stacked(what: str, trees: list[Any], indices: list[int]) -> Any:
    """Trees of tensors -> one tree of tensors (batch, ...)."""
    first = trees[0]
    _check_alike(what, [_outline(tree) for tree in trees], indices)
    if isinstance(first, dict):
        return {key: _stacked(f"{what} {key!r}", [tree[key] for tree in trees], indices) for key in first}
    if isinstance(first, list | tuple):
        columns = zip(*trees, strict=True)
        return like(first, [_stacked(f"{what} {n}", list(column), indices) for n, column in enumerate(columns)])
    return torch.stack(trees)  # (batch, ...)


def _outline(tree: Any) -> str:
    """What samples of one batch must share: a tensor's shape, a dictionary's keys, a tuple's length."""
    if isinstance(tree, Tensor):
        return f"{tuple(tree.shape)}"
    return f"keys {list(tree)}" if isinstance(tree, dict) else f"{len(tree)} parts"


def _check_alike(what: str, outlines: list[str], indices: list[int]) -> None:
    for index, outline in zip(indices, outlines, strict=True):
        if outline != outlines[0]:
            raise TrainingError(
                f"the {what} of samples {indices[0]} and {index}, of one batch, have shapes {outlines[0]} and "
                f"{outline}. Bring them to one shape, or set batch_size = 1."
            )
