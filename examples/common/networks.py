"""Networks as presets name them: the convolutions of a spec in order, or plain convolutions of given widths."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from torch import nn

import runtime
from examples.common.files import compiled
from examples.common.presets import PresetError
from examples.common.stack import ConventionalStack, Stack, SteerableStack


@dataclass(frozen=True)
class Network:
    """One table `[networks.<name>]` of a preset.

    kind            which network: here 'steerable', 'ready' or 'conventional'; an example may add its own
    spec            the file in the example's `specs`: of a steerable network, whose convolutions it uses in order; of
                    a ready one, with a table [network] of kind "encoder"
    widths          of a conventional network: channels out of its convolutions
    kernel_size     of a conventional network
    learning_rate   instead of the training's; 0: the training's
    longer          trained for this many times the epochs, burn-in and decay stretched, where a network is cheaper
    calibrate       first weights scaled so that fields have this length on training data; 0: left as drawn
    description     what the results say about it
    """

    kind: str
    spec: str = ""
    widths: tuple[int, ...] = ()
    kernel_size: int = 0
    learning_rate: float = 0.0
    longer: int = 1
    calibrate: float = 0.0
    description: str = ""


def build_stack(network: Network, stack: Stack, here: Path, channels: int, classes: int) -> nn.Module:
    """The steerable or the conventional stack. Raises PresetError for another kind."""
    if network.kind == "steerable":
        return SteerableStack(compiled(here / "specs" / network.spec), stack, classes)
    if network.kind == "ready":
        return build_ready(network, here, classes)
    if network.kind == "conventional":
        return ConventionalStack(channels, network.widths, network.kernel_size, stack, classes)
    raise PresetError(
        f"there is no network of kind {network.kind!r} here. Write 'steerable', 'ready' or 'conventional'."
    )


def build_ready(network: Network, here: Path, classes: int) -> nn.Module:
    """A ready network: the encoder that the spec's table [network] is, and a linear map of its mean over all voxels."""
    return runtime.Classifier(runtime.network(compiled(here / "specs" / network.spec)), classes)
