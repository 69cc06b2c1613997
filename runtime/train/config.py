"""What a training run is, as data: every choice is a field of `TrainConfig`.

Learning rate of epoch e = 0, 1, ...:

    lr(e) = learning_rate                                   for e < burn_in
    lr(e) = learning_rate * decay^(e - burn_in + 1)         after

Source: Weiler et al., "3D Steerable CNNs", NeurIPS 2018 (Tetris: 0.1, 100, 0.98 over 250 epochs; CATH: 0.1, 40, 0.94
over 100 epochs, and the rule of `TrainConfig.reduced` for CATH's smaller training sets).
"""

import difflib
import math
import tomllib
from collections.abc import Callable
from dataclasses import asdict, dataclass, fields, replace
from enum import StrEnum
from numbers import Integral, Real
from pathlib import Path
from typing import Any, Self


class TrainingError(Exception):
    """Training cannot start or go on; the message quotes the value, names the rule and shows the cure."""


class Precision(StrEnum):
    """Arithmetic of the forward pass; weights, gradients and the loss are float64 in the last, else float32."""

    FLOAT32 = "float32"
    BF16_MIXED = "bf16-mixed"
    FLOAT64 = "float64"


@dataclass(frozen=True)
class TrainConfig:
    """Every choice of a training run.

    epochs              passes over the training set
    batch_size          samples per optimiser step, over all processes and passes together
    learning_rate       of Adam (or the optimiser given to `train`) for the first `burn_in` epochs
    burn_in, decay      then times `decay` per epoch
    conv_l1, conv_l2    penalty conv_l1 sum |w| + conv_l2 sum w^2 on the weights of convolutions
    norm_l1, norm_l2    the same on the weights (not the shifts) of batch and other norms
    accumulate          passes a step is split in, to save memory; the gradient is that of the whole step
    drop_last           leave out the last step of an epoch if it is shorter; which samples, changes from epoch to epoch
    clip_norm           the gradient is shortened to this length when it is longer; inf: never
    ema_decay           e <- ema_decay e + (1 - ema_decay) w after each step, validated and kept as best; 0: none
    precision           "float32", "bf16-mixed", or "float64": slow, tells rounding from a difference between runs
    compile             torch.compile the model
    device              "auto", "cpu", "cuda", "mps", ...; "auto" takes an accelerator where there is one
    workers             processes that load data; 0: none
    seed                of the order of the samples and of every random draw; the first weights are the caller's
    monitor             what best and patience look at; "": validation_loss, or train_loss without validation
    patience            stop after this many epochs without improvement; 0: never
    check_every         steps between looks at whether loss and gradient are finite and whether to stop or save;
                        each look waits for the accelerator, and a late look finds the weights already spoilt
    checkpoint_seconds  least time between checkpoints; 0: one after every step. One is always written at the end
    keep                newest checkpoints kept, besides the best weights
    tensorboard         also log to <directory>/tensorboard, if tensorboard is installed
    progress            show a progress bar if standard error is a terminal

    Raises TrainingError if a value breaks its rule.
    """

    epochs: int
    batch_size: int
    learning_rate: float
    burn_in: int = 1
    decay: float = 1.0
    conv_l1: float = 0.0
    conv_l2: float = 0.0
    norm_l1: float = 0.0
    norm_l2: float = 0.0
    accumulate: int = 1
    drop_last: bool = False
    clip_norm: float = math.inf
    ema_decay: float = 0.0
    precision: Precision = Precision.FLOAT32
    compile: bool = False
    device: str = "auto"
    workers: int = 0
    seed: int = 0
    monitor: str = ""
    patience: int = 0
    check_every: int = 1
    checkpoint_seconds: float = 60.0
    keep: int = 2
    tensorboard: bool = True
    progress: bool = True

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            holds, rule, example = _RULES[field.name]
            if not holds(value):
                raise TrainingError(
                    f"{field.name} = {shown(value)} is not {rule}. Write for example {field.name} = {example}."
                )
            if field.type in (int, float):  # numbers of another kind, for example numpy's, become Python's
                object.__setattr__(self, field.name, field.type(value))
            if field.type is int and value > _MOST.get(field.name, 10**9):
                raise TrainingError(
                    f"{field.name} = {shown(value)} is over the limit of {_MOST.get(field.name, 10**9)}. "
                    f"Write for example {field.name} = {example}."
                )
        object.__setattr__(self, "precision", Precision(self.precision))
        if self.accumulate > self.batch_size:
            raise TrainingError(
                f"accumulate = {self.accumulate} passes cannot share batch_size = {self.batch_size} samples: "
                f"each needs one. Lower accumulate or raise batch_size."
            )

    def learning_rate_at(self, epoch: int) -> float:
        """The learning rate of an epoch, counted from 0."""
        return self.learning_rate * self.decay ** max(0, epoch - self.burn_in + 1)

    def reduced(self, n: int) -> Self:
        """The same run on 1 / 2^n of the data: epochs and burn-in times 2^n, decay^(1 / 2^n).

        The number of steps and the learning rate's course over them stay the same.
        """
        if not 0 <= n <= 20:
            raise TrainingError(f"n = {shown(n)} is not a whole number from 0 to 20: the data are cut in 2^n.")
        factor = 2**n
        return replace(
            self,
            epochs=self.epochs * factor,
            burn_in=self.burn_in * factor,
            decay=self.decay ** (1 / factor),
        )

    def as_dict(self) -> dict[str, int | float | str | bool]:
        """The fields as plain values, for a checkpoint or a log."""
        return asdict(self) | {"precision": self.precision.value}

    @classmethod
    def from_toml(cls, path: str | Path, table: str = "train") -> Self:
        """The configuration in one table of a TOML file.

        Raises TrainingError if the file or the table cannot be read, a key is unknown or missing, or a value breaks
        its rule.
        """
        try:
            content = tomllib.loads(Path(path).read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
            raise TrainingError(f"cannot read the configuration {path}: {error}.") from error
        section = content.get(table)
        if not isinstance(section, dict):
            raise TrainingError(f"{path} has no table [{table}]. It has: {', '.join(content) or 'nothing'}.")
        known = {field.name for field in fields(cls)}
        for key in section:
            if key not in known:
                near = difflib.get_close_matches(key, sorted(known), n=1)
                hint = f"Did you mean {near[0]}?" if near else f"Known: {', '.join(sorted(known))}."
                raise TrainingError(f"{path}: [{table}] has an unknown key {key!r}. {hint}")
        missing = [name for name in ("epochs", "batch_size", "learning_rate") if name not in section]
        if missing:
            raise TrainingError(
                f"{path}: [{table}] lacks {', '.join(missing)}. "
                f"Write for example epochs = 100, batch_size = 16, learning_rate = 0.1."
            )
        try:
            return cls(**section)
        except TrainingError as error:
            raise TrainingError(f"{path}: [{table}] {error}") from error


def shown(value: object) -> str:
    """A value for a message, on one line and shortened; Python writes no whole number of thousands of digits."""
    try:
        text = " ".join(repr(value).split())
    except ValueError:
        return "a whole number of thousands of digits"
    return text if len(text) <= 80 else f"{text[:77]}..."


_Rule = tuple[Callable[[Any], bool], str, str]


def _whole(minimum: int, example: int) -> _Rule:
    def holds(value: object) -> bool:
        return isinstance(value, Integral) and not isinstance(value, bool) and int(value) >= minimum

    return holds, f"a whole number of at least {minimum}", str(example)


def _number(rule: str, holds: Callable[[float], bool], example: float) -> _Rule:
    def checked(value: object) -> bool:
        try:
            return isinstance(value, Real) and not isinstance(value, bool) and holds(float(value))
        except OverflowError:
            return False

    return checked, rule, str(example)


_PENALTY = _number("a finite number of at least 0", lambda v: 0 <= v < math.inf, 1e-8)
_SWITCH: _Rule = (lambda value: isinstance(value, bool), "true or false", "true")
_TEXT: Callable[[object], bool] = lambda value: isinstance(value, str)  # noqa: E731

_MOST = {"workers": 1024, "seed": 2**64 - 1}  # of the others 10^9

_RULES: dict[str, _Rule] = {
    "epochs": _whole(1, 100),
    "batch_size": _whole(1, 16),
    "learning_rate": _number("a finite number above 0", lambda v: 0 < v < math.inf, 0.1),
    "burn_in": _whole(1, 40),
    "decay": _number("a number above 0 and at most 1", lambda v: 0 < v <= 1, 0.94),
    "conv_l1": _PENALTY,
    "conv_l2": _PENALTY,
    "norm_l1": _PENALTY,
    "norm_l2": _PENALTY,
    "accumulate": _whole(1, 4),
    "drop_last": _SWITCH,
    "clip_norm": _number("a number above 0", lambda v: v > 0, 1.0),
    "ema_decay": _number("a number of at least 0 and below 1", lambda v: 0 <= v < 1, 0.999),
    "precision": (lambda v: v in list(Precision), "one of " + ", ".join(Precision), '"bf16-mixed"'),
    "compile": _SWITCH,
    "device": (lambda v: _TEXT(v) and v != "", "the name of a device", '"auto"'),
    "workers": _whole(0, 4),
    "seed": _whole(0, 0),
    "monitor": (_TEXT, "the name of a column of the log", '"validation_loss"'),
    "patience": _whole(0, 10),
    "check_every": _whole(1, 1),
    "checkpoint_seconds": _number("a number of at least 0", lambda v: v >= 0, 60),
    "keep": _whole(1, 2),
    "tensorboard": _SWITCH,
    "progress": _SWITCH,
}
