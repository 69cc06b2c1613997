"""The pictures of the documentation: `python docs/make_pictures.py` writes docs/images.

    fields.png           a scalar, a vector and a degree-2 field before and after a rotation
    signals.png          a signal on the sphere, the same rotated, and errors of activations
    grids.png            the samples of the four grids
    networks.png         a classifier and a U-Net, convolution by convolution
    mixing.png           the mixing sets of one degree as graphs, and what products cost
    report.png           the top of a package's report; report-phone.png, report-dark.png: the same narrow, and dark

The report's need Chromium; without one they are left as they are.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import numpy as np
import torch
from matplotlib import pyplot
from PIL import Image

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))

from docs.network_pictures import networks  # noqa: E402
from docs.signal_pictures import grids, mixing, signals  # noqa: E402
from runtime import rotate_field  # noqa: E402
from runtime.so3 import clebsch_gordan  # noqa: E402
from tests.report.chromium import Browser, find_chromium  # noqa: E402

IMAGES = Path(__file__).parent / "images"
SIZE = 25  # voxels per axis of the fields drawn
ANGLE = np.pi / 5
INK, PALE = "#1f5f66", "#d5e6e4"


def fields(path: Path) -> None:
    """Slices through the middle of three fields, and of the same rotated by 36 degrees about the viewing axis."""
    scalar, vector, tensor = _density(), _arrows(), _ellipses()
    cos, sin = np.cos(ANGLE), np.sin(ANGLE)
    rotation = torch.tensor([[cos, -sin, 0.0], [sin, cos, 0.0], [0.0, 0.0, 1.0]], dtype=torch.float64)
    figure, axes = pyplot.subplots(2, 3, figsize=(7.8, 5.3), layout="constrained")
    for column, (field, kind, title, says) in enumerate(
        [
            (scalar, "1x0", "scalar, degree 0", "values move"),
            (vector, "1x1", "vector, degree 1", "arrows move and turn"),
            (tensor, "1x2", "degree 2", "sticks move and turn"),
        ]
    ):
        for row, values in enumerate((field, rotate_field(field, rotation, kind))):
            _draw(axes[row, column], values[0, :, :, :, SIZE // 2].numpy())
        axes[0, column].set_title(title, fontsize=11)
        axes[1, column].set_xlabel(says, fontsize=10)
    axes[0, 0].set_ylabel("before", fontsize=11)
    axes[1, 0].set_ylabel("turned by 36 degrees", fontsize=11)
    figure.savefig(path, dpi=100, facecolor="white")
    pyplot.close(figure)
    _shrink(path)


def report(directory: Path) -> None:
    """Screenshots of the report of examples/tetris/tetris.toml, wide and narrow, light and dark."""
    chromium = find_chromium()
    if chromium is None:
        print("no Chromium: the pictures of the report are left as they are", file=sys.stderr)
        return
    with tempfile.TemporaryDirectory() as place:
        basisgen = [sys.executable, "-m", "basisgen.cli"]
        spec, page = ROOT / "examples" / "tetris" / "tetris.toml", Path(place) / "report.html"
        subprocess.run([*basisgen, "compile", str(spec), "--out", f"{place}/generated"], cwd=ROOT, check=True)
        subprocess.run([*basisgen, "report", f"{place}/generated/tetris", "-o", str(page)], cwd=ROOT, check=True)
        shots = {
            "report": (1100, "light", 1350),
            "report-dark": (1100, "dark", 1350),
            "report-phone": (390, "light", 1350),
        }
        with Browser(chromium, Path(place) / "profile") as browser:
            for name, (width, scheme, height) in shots.items():
                browser.open(page.as_uri(), width, scheme)
                browser.screenshot(directory / f"{name}.png")
                with Image.open(directory / f"{name}.png") as whole:
                    whole.crop((0, 0, width, min(height, whole.height))).save(directory / f"{name}.png")
                _shrink(directory / f"{name}.png")


def _grid() -> torch.Tensor:
    axis = torch.arange(SIZE, dtype=torch.float64) - (SIZE - 1) / 2
    return torch.stack(torch.meshgrid(axis, axis, axis, indexing="ij"))  # (3, x, y, z)


def _density() -> torch.Tensor:
    """An L of three Gaussians."""
    x, y, z = _grid()
    places = ((-4, -5), (-4, 1), (3, -5))
    return sum(torch.exp(-((x - a) ** 2 + (y - b) ** 2 + z**2) / 12) for a, b in places)[None, None]


def _arrows() -> torch.Tensor:
    """A stream along x that fades."""
    x, y, z = _grid()
    strength = torch.exp(-(x**2 / 90 + y**2 / 40 + z**2 / 16))
    return torch.stack([strength, 0.5 * strength * torch.sin(x / 3), 0 * strength])[None]


def _ellipses() -> torch.Tensor:
    """A stick along x at every point: the traceless part of d d^T, with a strength that fades."""
    x, y, z = _grid()
    strength = torch.exp(-(x**2 / 90 + y**2 / 50 + z**2 / 16))
    direction = torch.stack([torch.cos(y / 8), torch.sin(y / 8), 0 * x])
    stick = torch.einsum("ixyz,jxyz,ijm->mxyz", direction, direction, clebsch_gordan(1, 1, 2))
    return (strength * stick)[None]


def _draw(axes: pyplot.Axes, field: np.ndarray) -> None:
    """(component, x, y): an image, arrows or sticks."""
    axes.set(xticks=[], yticks=[], xlim=(-0.5, SIZE - 0.5), ylim=(-0.5, SIZE - 0.5), aspect="equal")
    axes.spines[:].set_color("0.75")
    if len(field) == 1:
        axes.imshow(field[0].T, origin="lower", cmap=_colours(), vmin=0, vmax=1.1)
        return
    step = 3
    places = np.mgrid[0:SIZE:step, 0:SIZE:step]
    sampled = field[:, ::step, ::step]
    if len(field) == 3:
        axes.quiver(*places, sampled[0], sampled[1], color=INK, scale=9.5, width=0.013, pivot="mid")
        return
    matrix = np.einsum("mxy,ijm->xyij", sampled, clebsch_gordan(1, 1, 2).numpy())[..., :2, :2]
    values, vectors = np.linalg.eigh(matrix)
    length = (values[..., 1] - values[..., 0])[..., None] * vectors[..., :, 1]
    axes.quiver(
        *places, length[..., 0], length[..., 1], color=INK, scale=9.5, width=0.014, pivot="mid",
        headwidth=0, headlength=0, headaxislength=0,
    )  # fmt: skip


def _colours() -> object:
    from matplotlib.colors import LinearSegmentedColormap

    return LinearSegmentedColormap.from_list("ink", ["white", PALE, INK])


def _shrink(path: Path) -> None:
    """At most 128 colours: a quarter of the bytes, and no difference to see."""
    with Image.open(path) as image:
        image.convert("RGB").quantize(128, dither=Image.Dither.NONE).save(path, optimize=True)


if __name__ == "__main__":
    where = Path(sys.argv[1]) if len(sys.argv) > 1 else IMAGES
    where.mkdir(parents=True, exist_ok=True)
    fields(where / "fields.png")
    for draw in (networks, signals, grids, mixing):
        draw(where / f"{draw.__name__}.png")
        _shrink(where / f"{draw.__name__}.png")
    report(where)
