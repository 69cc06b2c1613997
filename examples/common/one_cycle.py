"""AdamW whose learning rate rises and falls once over the whole training, step by step.

    lr(t) = lr h(t / steps),    h: from 1/25 up to 1 by a cosine in the first part, then down to 1/250,000 by another

Source: Smith and Topin 2018, arXiv:1708.07120, with cosines as torch.optim.lr_scheduler.OneCycleLR has them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import nn

FIRST, LAST = 1 / 25, 1 / 250_000


class OneCycle(torch.optim.AdamW):
    """steps: of the whole training, after which the rate stays at its last; warm_up: part of them in which it rises.

    What it needs to continue is AdamW's own state: the number of its steps.
    """

    def __init__(
        self, parameters: Iterable[nn.Parameter], lr: float, *, steps: int, warm_up: float, weight_decay: float
    ) -> None:
        self._steps, self._warm_up = steps, warm_up
        super().__init__(parameters, lr=lr, weight_decay=weight_decay)

    def step(self, closure: Callable[[], float] | None = None) -> Any:
        """One step, at the rate of its place in the cycle; the groups' rates stay as they were given."""
        rates = [group["lr"] for group in self.param_groups]
        done = max((int(state["step"]) for state in self.state.values() if "step" in state), default=0)
        for group, rate in zip(self.param_groups, rates, strict=True):
            group["lr"] = rate * cycle(done / self._steps, self._warm_up)
        loss = super().step(closure)  # type: ignore[arg-type]
        for group, rate in zip(self.param_groups, rates, strict=True):
            group["lr"] = rate
        return loss


def cycle(place: float, warm_up: float) -> float:
    """The rate at a place from 0 to 1 of the training, as part of the highest."""
    if place < warm_up:
        return _between(FIRST, 1, place / warm_up)
    return _between(1, LAST, min(1, (place - warm_up) / (1 - warm_up)))


def _between(first: float, last: float, place: float) -> float:
    return last + (first - last) * (1 + math.cos(math.pi * place)) / 2
