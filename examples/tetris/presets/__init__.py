"""Presets: everything that varies between runs of the experiment, as TOML files beside this module."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass, replace
from importlib.resources import files

from examples.tetris.shapes import Raster
from runtime.train import TrainConfig


@dataclass(frozen=True)
class Preset:
    """One way to run the experiment.

    spec                 basisgen spec of the steerable network, beside the example; its layers in order
    raster               how the shapes become volumes
    strides, padding     of the convolutions, for both networks
    conventional_widths  channels of the conventional network
    training             for both networks; every step sees all eight shapes
    calibrate            rescale the steerable network's first weights so that its fields have this length; 0: do not
    activation           of the steerable network's scalars, relu or silu
    shift                the training shapes are moved at random by up to this many voxels, never turned
    test_rotations       random rotations of all eight shapes
    """

    name: str
    spec: str
    raster: Raster
    strides: tuple[int, ...]
    kernel_size: int
    padding: int
    conventional_widths: tuple[int, ...]
    training: TrainConfig
    calibrate: float
    activation: str
    shift: float
    test_rotations: int
    lowpass: bool = True

    def with_seed(self, seed: int) -> Preset:
        """The same run with other random numbers."""
        return replace(self, training=replace(self.training, seed=seed))


def load_preset(name: str) -> Preset:
    """Reads `<name>.toml`."""
    table = tomllib.loads((files(__name__) / f"{name}.toml").read_text("utf-8"))
    return Preset(
        name=name,
        raster=Raster(**table.pop("raster")),
        training=TrainConfig(batch_size=8, **table.pop("training")),
        strides=tuple(table.pop("strides")),
        conventional_widths=tuple(table.pop("conventional_widths")),
        **table,
    )
