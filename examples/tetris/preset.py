"""Presets: everything that varies between runs of the experiment, from the TOML files in `presets`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from examples.common import presets
from examples.tetris.shapes import Raster
from runtime.train import TrainConfig


@dataclass(frozen=True)
class Variant:
    """One network of a preset: what it does otherwise than the preset says.

    description    what the results say about it
    spec           instead of the preset's; "": the preset's
    lowpass        False: plain striding, every second voxel as it is
    conventional   True: the conventional counterpart
    """

    description: str
    spec: str = ""
    lowpass: bool = True
    conventional: bool = False


@dataclass(frozen=True)
class Preset:
    """One way to run the experiment.

    spec                 basisgen spec of the steerable network, a file in `specs`; its layers in order
    raster               how the shapes become volumes
    strides, paddings    of the convolutions, for all networks
    kernel_sizes         of the conventional network; the steerable one's stand in its spec
    conventional_widths  channels of the conventional network
    training             for all networks; every step sees all eight shapes
    calibrate            rescale the steerable network's first weights so that its fields have this length; 0: do not
    feature_norm         batch norm of the steerable network's means over the voxels, to this length; 0: none
    feature_eps          its eps: features whose mean square over the shapes is smaller stay shorter
    norm_momentum        weight of the newest batch in the running statistics of batch norms, of all networks
    activation           of the steerable network's scalars, relu or silu
    shift                the training shapes are moved at random by up to this many voxels, never turned
    test_rotations       random rotations of all eight shapes
    networks             by name
    lowpass              a low-pass before every stride
    """

    spec: str
    raster: Raster
    strides: tuple[int, ...]
    kernel_sizes: tuple[int, ...]
    paddings: tuple[int, ...]
    conventional_widths: tuple[int, ...]
    training: TrainConfig
    calibrate: float
    feature_norm: float
    feature_eps: float
    norm_momentum: float
    activation: str
    shift: float
    test_rotations: int
    networks: dict[str, Variant]
    lowpass: bool = True


def load_preset(name: str) -> Preset:
    """Reads `<name>.toml`. Raises PresetError."""
    return presets.load_preset(Preset, Path(__file__).parent / "presets" / f"{name}.toml")
