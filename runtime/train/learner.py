"""The weights, and how a step changes them.

gradient   += l1 sign(w) + 2 l2 w                                   weights of convolutions, weights of norms
gradient   <- gradient * min(1, clip_norm / |gradient|)
w          <- optimiser(w, gradient, lr(epoch))                     rates of parameter groups keep their ratios
e          <- ema_decay e + (1 - ema_decay) w
"""

import copy
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.nn.utils import clip_grad_norm_
from torch.optim import Optimizer
from torch.optim.swa_utils import get_ema_multi_avg_fn

from .arguments import made_optimizer, trained_parameters
from .batches import Part
from .config import TrainConfig, TrainingError
from .penalties import penalties_of
from .task import Task


class Learner:
    """A model with its optimiser and, if there is one, the average of its weights.

    A compiled model learns as the module it was made of, so that its state has that module's names.
    """

    def __init__(self, model: nn.Module, task: Task, config: TrainConfig, optimizer: Callable[..., Optimizer]) -> None:
        self.model: nn.Module = getattr(model, "_orig_mod", model)
        self.task, self._config = task, config
        self._modes = _Modes(self.model)
        self.model.to(task.device, task.model_dtype)
        self._parameters = trained_parameters(self.model)
        self._penalties = penalties_of(self.model, config)
        self.optimizer = made_optimizer(optimizer, self.model, self._parameters, config.learning_rate)
        rates = [float(group.get("lr", config.learning_rate)) for group in self.optimizer.param_groups]
        self.ratios = [rate / config.learning_rate for rate in rates]
        self.average = copy.deepcopy(self.model).requires_grad_(False) if config.ema_decay else None
        compiled = model is not self.model
        self._forward: nn.Module = torch.compile(model) if config.compile and not compiled else model  # type: ignore[assignment]
        self._averaged = list(self.average.parameters()) if self.average is not None else []
        self._averaging = list(self.model.parameters())
        self._update_average = get_ema_multi_avg_fn(config.ema_decay)  # type: ignore[no-untyped-call]

    def set_learning_rate(self, learning_rate: float) -> None:
        """Set the learning rate; each parameter group keeps its ratio to it."""
        for group, ratio in zip(self.optimizer.param_groups, self.ratios, strict=True):
            if isinstance(group.get("lr"), Tensor):
                group["lr"].fill_(learning_rate * ratio)
            else:
                group["lr"] = learning_rate * ratio

    def backward(self, parts: Sequence[Part]) -> Tensor:
        """Add the gradients of this process's parts; returns its share of the mean loss over the step's samples, ()."""
        loss = torch.zeros((), dtype=self.task.dtype, device=self.task.device)  # ()
        for part in parts:
            value = self.task.judge(self._forward, part).loss * part.share  # ()
            value.backward()  # type: ignore[no-untyped-call]
            loss += value.detach()
        return loss

    def gradients(self, processes: int) -> list[Tensor]:
        """The gradient of every weight; zeros where another process may have one and this one does not."""
        for parameter in self._parameters:
            if parameter.grad is None and processes > 1:
                parameter.grad = torch.zeros_like(parameter)
            if parameter.grad is not None and parameter.grad.layout != torch.strided:
                raise TrainingError(
                    "a gradient is sparse, and the loop adds up dense ones. Make the layer with sparse=False."
                )
        return [parameter.grad for parameter in self._parameters if parameter.grad is not None]

    def penalise_and_clip(self) -> Tensor:
        """Add the derivatives of the penalties and shorten the gradient; its length before that, ()."""
        for weight, l1, l2 in self._penalties:
            if weight.grad is not None:
                weight.grad.add_(weight.detach().sign(), alpha=l1).add_(weight.detach(), alpha=2 * l2)
        return clip_grad_norm_(self._parameters, self._config.clip_norm)

    def step(self) -> None:
        """Let the optimiser change the weights, then the average follow."""
        self.optimizer.step()
        self.optimizer.zero_grad()
        if self.average is not None:
            self._update_average(self._averaged, self._averaging, None)

    def judged(self) -> nn.Module:
        """The model that is validated and kept as best: the averaged weights if there are any, with today's buffers."""
        if self.average is None:
            return self.model
        for average, buffer in zip(self.average.buffers(), self.model.buffers(), strict=True):
            average.copy_(buffer)
        return self.average

    def train(self) -> None:
        """Puts the model back into training mode after validation."""
        self._modes.restore()


class _Modes:
    """Which modules train: all, but those the caller has set to eval() in a model that is itself in training mode."""

    def __init__(self, model: nn.Module) -> None:
        self._model = model
        self._frozen = [module for module in model.modules() if not module.training] if model.training else []
        self.restore()

    def restore(self) -> None:
        self._model.train()
        for module in self._frozen:
            module.training = False
