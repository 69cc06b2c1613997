"""The picture: a test scene upright and turned, what is seen of it, what the networks make of it, and their errors.

In Mollweide's projection, which keeps areas, the north of the map's grid up.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from examples.common.cases import OUTCOME, read_outcome
from examples.common.measure import outputs
from examples.sphere_dense.scenes import Maps

if TYPE_CHECKING:
    from examples.sphere_dense.experiment import Preset

SHOWN = 0  # number of the test scene
RANGE = 3.0  # of the colours, either way


def draw(preset: Preset, directory: Path) -> Path:
    """Writes maps.png: the networks that are finished with the first setting and seed 0. Returns its path."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    from examples.sphere_dense.experiment import rms, test_scenes

    models, maps, test = _trained(preset, directory), Maps(preset.world), test_scenes(preset)
    size = (3.1 * (1 + len(models)), 7.6)
    options = {"figsize": size, "layout": "constrained", "subplot_kw": {"projection": "mollweide"}, "squeeze": False}
    figure, panels = pyplot.subplots(4, 1 + len(models), **options)
    for (name, scenes), (above, below) in zip(
        (("upright", test.upright), ("turned", test.turned)), (panels[:2], panels[2:]), strict=True
    ):
        seen, field = maps.seen(scenes)[SHOWN, None], maps.of(scenes.field)[SHOWN, None]
        _map(above[0], field[0, 0], f"{name}: field")
        _map(below[0], torch.where(seen[0, 1] > 0, seen[0, 0], math.nan), "what is seen of it")
        for upper, lower, (network, model) in zip(above[1:], below[1:], models.items(), strict=True):
            off = outputs(model, [seen]) - field
            _map(upper, (field + off)[0, 0], network)
            _map(lower, off[0, 0], f"off by {rms(off.flatten(1), preset.world.areas):.2f} rms")
    path = directory / "maps.png"
    figure.savefig(path, dpi=90, facecolor="white")
    pyplot.close(figure)
    return path


def _map(axes: Any, values: Tensor, title: str) -> None:
    """Values (row, column) on Mollweide axes; nan is grey."""
    rows, columns = values.shape
    longitudes = np.linspace(-math.pi, math.pi, columns + 1)  # half a column off, so that no pixel is cut in two
    latitudes = np.linspace(math.pi / 2, -math.pi / 2, rows + 1)
    axes.set_facecolor("#b0b0b0")
    around = values.roll(columns // 2, 1).numpy()
    axes.pcolormesh(longitudes, latitudes, around, cmap="RdBu_r", vmin=-RANGE, vmax=RANGE, rasterized=True)
    axes.set(xticks=[], yticks=[])
    axes.set_title(title, fontsize=10)


def _trained(preset: Preset, directory: Path) -> dict[str, nn.Module]:
    """The networks of the first setting and seed 0 that are finished, with their weights."""
    from examples.sphere_dense.experiment import SETTINGS, build

    models: dict[str, nn.Module] = {}
    for path in sorted(directory.glob(f"*/{OUTCOME}")):
        case = read_outcome(path).case
        if (case.setting, case.seed) == (SETTINGS[0], 0) and case.network in preset.networks:
            models[case.network] = build(preset, case.network)
            models[case.network].load_state_dict(torch.load(path.parent / "weights.pt", weights_only=True))
    return {name: models[name].eval() for name in preset.networks if name in models}
