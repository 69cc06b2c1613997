"""Where a training step's first value that is not finite comes from: the data, a layer, the loss, a gradient."""

import copy
from collections.abc import Callable, Iterator
from enum import IntEnum

import torch
from torch import Tensor, nn

from .batches import Part
from .samples import noun
from .task import Task
from .trees import named_tensors


class Phase(IntEnum):
    """What a step is made of, in the order of the computation."""

    DATA, FORWARD, LOSS, BACKWARD, WEIGHT = range(5)


Place = tuple[Phase, int, str]  # ordered as the computation is: phase, number within it, description


def bad_values(
    model: nn.Module,
    task: Task,
    parts: list[Part],
) -> list[Place]:
    """The places where a value is not finite; the least is where it began.

    Repeats forward and backward on a copy of the model, with a look at every module's output and its gradient. It
    always runs to the end: a synchronised norm waits for all processes.
    """
    found = [(Phase.DATA, 0, bad) for part in parts for bad in _bad_data(part)]
    for part in parts:
        twin = copy.deepcopy(model).requires_grad_()
        outputs: list[tuple[str, bool, Tensor]] = []  # (layer, whether its output is finite, output), forward order
        arrived: list[tuple[str, bool]] = []  # (layer, whether the gradient at its output is finite), backward order
        for name, module in twin.named_modules():
            module.register_forward_hook(_note_outputs(name, outputs, arrived))
        with torch.enable_grad():
            value = task.judge(twin, part).loss
            value.backward()  # type: ignore[no-untyped-call]
        for i, (layer, finite, _) in enumerate(outputs):
            if not finite:
                found.append((Phase.FORWARD, i, f"the first layer whose output is not finite is {layer}"))
        if not torch.isfinite(value):
            found.append((Phase.LOSS, 0, "every layer's output is finite, but the loss is not"))
        for i, (_, finite) in enumerate(arrived):
            if not finite:
                where = f"backward through layer {arrived[i - 1][0]}" if i else "the gradient of the loss"
                found.append((Phase.BACKWARD, i, f"{where} is the first that is not finite"))
        for i, (name, weight) in enumerate(twin.named_parameters()):
            if weight.grad is not None and not torch.isfinite(weight.grad).all():
                found.append((Phase.WEIGHT, i, f"the gradient of parameter {name!r} is the first that is not finite"))
    return found


def _bad_data(part: Part) -> Iterator[str]:
    for what, tree in ((noun(part.inputs, 1), part.inputs), ("label", part.label)):
        for name, values in named_tensors(tree):
            for place in (~torch.isfinite(values)).nonzero()[:1]:
                sample, *position = place.tolist()
                at = f" at {tuple(position)}" if position else ""
                yield f"the {what}{name} of sample {part.indices[sample]} is {values[tuple(place)].item()}{at}"


def _note_outputs(
    name: str, outputs: list[tuple[str, bool, Tensor]], arrived: list[tuple[str, bool]]
) -> Callable[..., None]:
    """A forward hook that notes the outputs of a module and whether the gradients that come back are finite."""

    def note(module: nn.Module, _inputs: object, output: object) -> None:
        layer = f"{name!r} ({type(module).__name__})" if name else f"({type(module).__name__}, the model itself)"
        spoilt = [n for n, p in module.named_parameters() if not torch.isfinite(p).all()]
        if spoilt:
            layer += f"; its parameter {spoilt[0]!r} is not finite already"
        for _, tensor in named_tensors(output):
            known = any(tensor is other for *_, other in outputs)  # a container returns what its last child returned
            outputs.append((layer, bool(torch.isfinite(tensor).all()), tensor))
            if tensor.requires_grad and not known:
                tensor.register_hook(  # type: ignore[no-untyped-call]
                    lambda gradient: arrived.append((layer, bool(torch.isfinite(gradient).all())))
                )

    return note
