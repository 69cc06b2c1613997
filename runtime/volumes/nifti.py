"""Scans in NIfTI files as volumes: where their voxels lie in space is read from the affine, and checked.

    world = affine @ (i, j, k, 1)        spacing_a = |affine[:3, a]|, the length of column a, in mm

Axes are brought to the patient's right, front and head ("closest canonical"), so that no axis is flipped against
another scan's: a flipped axis is a mirror image. Needs nibabel: `pip install basisgen[nifti]`.
"""

import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils.data import Dataset

from ..layer import lengths_per_axis
from .resampling import LowPass

Spacing = tuple[float, float, float]
_EQUAL = 1e-3  # relative: spacings and affines that differ by less are written differently, not measured differently


@dataclass(frozen=True)
class Scan:
    """One file: values (x, y, z), float64; affine (4, 4) from voxels to mm, float64; spacing of x, y, z in mm."""

    path: Path
    values: Tensor
    affine: Tensor
    spacing: Spacing


def read_nifti(path: Path | str) -> Scan:
    """A NIfTI file of one volume, its axes to the patient's right, front and head.

    Raises ValueError that names the file if it cannot be read, has no voxels or a fourth axis, colours or complex
    numbers, voxels that are not finite, or axes that are not orthogonal in space or not known.
    """
    path = Path(path)
    values, affine = _load(path)
    while values.ndim > 3 and values.shape[-1] == 1:
        values = values[..., 0]
    if values.ndim != 3:
        cure = (
            "Choose one volume of the series, or write one file for each: nibabel.four_to_three."
            if values.ndim > 3
            else "A slice is no volume: stack the slices of a scan to one file."
        )
        raise ValueError(f"{path} has shape {tuple(values.shape)}, not three axes. {cure}")
    if not values.numel():
        raise ValueError(f"{path} has shape {tuple(values.shape)}: no voxels. Write the file again.")
    wrong = int((~values.isfinite()).sum())
    if wrong:
        raise ValueError(
            f"{path} has {wrong} voxels that are not finite, and one makes a whole network's output so. Replace them, "
            "for example by the value of air, with numpy.nan_to_num."
        )
    columns = affine[:3, :3]
    lengths = columns.norm(dim=0)
    if not affine.isfinite().all() or lengths.min() <= 0:
        raise ValueError(f"{path}: the affine {affine.tolist()} gives a voxel no size. Write the scan's true affine.")
    angles = (columns / lengths).mT @ (columns / lengths) - torch.eye(3, dtype=torch.float64)
    if angles.abs().max() > 0.01:
        raise ValueError(f"{path}: the axes of the voxels are not orthogonal in space. Resample it to one that has.")
    x, y, z = lengths.tolist()
    return Scan(path, values, affine, (x, y, z))


def _load(path: Path) -> tuple[Tensor, Tensor]:
    """Values and affine, in canonical orientation."""
    with _named(path) as nibabel:
        image = nibabel.as_closest_canonical(_opened(nibabel, path))
        values = image.get_fdata(dtype="float64").copy()  # a flipped axis is a view with negative strides
        return (
            torch.tensor(values, dtype=torch.float64, device="cpu"),
            torch.tensor(image.affine, dtype=torch.float64, device="cpu"),
        )


def _opened(nibabel: Any, path: Path) -> Any:
    """The image, if it is one of numbers on voxels whose axes are known; a ValueError that says what else it is."""
    image = nibabel.load(path)
    if not hasattr(image, "affine") or not hasattr(image, "as_reoriented"):
        raise ValueError(f"it is a {type(image).__name__}, not an image of voxels.")
    if isinstance(image, nibabel.AnalyzeImage) and not isinstance(image, nibabel.Nifti1Pair):
        raise ValueError("an Analyze file does not say which side is left. Convert it to NIfTI, with the true affine.")
    dtype = image.get_data_dtype()
    if dtype.kind not in "biuf":
        what = "complex numbers" if dtype.kind == "c" else f"voxels of type {dtype}, such as colours"
        raise ValueError(f"it holds {what}. Write one file of real numbers for each part.")
    return image


def _spacing_of(path: Path) -> Spacing:
    """The spacing in canonical orientation, from the header alone."""
    with _named(path) as nibabel:
        affine = _opened(nibabel, path).affine
        order = nibabel.io_orientation(affine)[:, 0].tolist()  # the canonical axis of each axis of the array
        lengths = dict(zip(order, nibabel.affines.voxel_sizes(affine).tolist(), strict=True))
    return lengths[0], lengths[1], lengths[2]


@contextmanager
def _named(path: Path) -> Iterator[Any]:
    """nibabel, whose errors become a ValueError that names the file."""
    try:
        import nibabel
    except ImportError as error:
        raise ImportError("Reading NIfTI files needs nibabel: pip install basisgen[nifti]") from error
    from nibabel.filebasedimages import ImageFileError
    from nibabel.spatialimages import HeaderDataError, ImageDataError

    own = ImageFileError, HeaderDataError, ImageDataError
    try:
        yield nibabel
    except (OSError, EOFError, ValueError, KeyError, AttributeError, ImportError, zlib.error, *own) as error:
        raise ValueError(f"{path} cannot be read as NIfTI: {error}") from error


def resample(
    volumes: Tensor, spacing: float | Iterable[float], new_spacing: float | Iterable[float], *, labels: bool = False
) -> Tensor:
    """Volumes at another voxel spacing, about the same centre: (..., x, y, z) -> (..., x', y', z').

    Trilinear, behind a Gaussian blur along axes that become coarser; with `labels` the value of the nearest voxel. A
    size n becomes n spacing / new_spacing, rounded; what lies outside the volume is as its border.
    """
    old = lengths_per_axis("resample: spacing", spacing)
    new = lengths_per_axis("resample: new_spacing", new_spacing)
    shape = volumes.shape[-3:]
    sizes = [max(1, round(n * a / b)) for n, a, b in zip(shape, old, new, strict=True)]
    flat = volumes.reshape(-1, 1, *shape).to(torch.float64)  # (volume, 1, x, y, z)
    scale = [max(1.0, b / a) for a, b in zip(old, new, strict=True)]
    if not labels and max(scale) > 1:
        flat = LowPass("1x0", scale=scale, padding_mode="replicate")(flat)
    extents = [s * b / (n * a) for s, b, n, a in zip(sizes, new, shape, old, strict=True)]  # of the new grid in the old
    theta = torch.zeros(len(flat), 3, 4, dtype=torch.float64)
    for axis, extent in enumerate(reversed(extents)):  # grid_sample counts axes from the last
        theta[:, axis, axis] = extent
    grid = F.affine_grid(theta, [len(flat), 1, *sizes], align_corners=False)
    mode = "nearest" if labels else "bilinear"
    found = F.grid_sample(flat, grid, mode=mode, padding_mode="border", align_corners=False)
    return found.reshape(*volumes.shape[:-3], *sizes).to(volumes.dtype)


class Scans(Dataset[tuple[Tensor, Tensor]]):
    """Pairs of files `name.nii.gz`, `name_seg.nii.gz` in a directory: the scan (1, x, y, z) and the class of every
    voxel.

    voxel_spacing: in mm; scans and labels are resampled to it. Unless given, all scans must have one spacing, which is
    the attribute `voxel_spacing`, what the spec of the network's layers states. Values are float32 of mean 0 and
    deviation 1 over each scan; labels int64 (x, y, z). Labels lie on the grid of their scan. suffix: of label files.

    Raises ValueError, naming the file, if the directory is none or has no scan, a scan no label, the spacings differ;
    reading a pair, if the label has another shape or affine than its scan, or values that are not classes; and as
    `read_nifti`.
    """

    def __init__(
        self, directory: Path | str, *, voxel_spacing: float | Iterable[float] | None = None, suffix: str = "_seg"
    ) -> None:
        directory = Path(directory)
        if not directory.is_dir():
            what = "a file" if directory.exists() else "not there"
            raise ValueError(f"{directory} is {what}. Scans takes the directory of the scans and their labels.")
        files = sorted(path for path in directory.glob("*.nii*") if path.name.endswith((".nii", ".nii.gz")))
        self.pairs = [
            (path, path.with_name(f"{_stem(path)}{suffix}{path.name[len(_stem(path)) :]}"))
            for path in files
            if not _stem(path).endswith(suffix)
        ]
        if not self.pairs:
            raise ValueError(
                f"{directory} has no scan: no file named *.nii or *.nii.gz, other than labels *{suffix}.nii.gz."
            )
        lacking = [str(label) for _, label in self.pairs if not label.is_file()]
        if lacking:
            raise ValueError(f"{len(lacking)} of {len(self.pairs)} scans have no label, the first is {lacking[0]}.")
        self._resampled = voxel_spacing is not None
        self.voxel_spacing = (
            _common_spacing([path for path, _ in self.pairs])
            if voxel_spacing is None
            else lengths_per_axis("Scans: voxel_spacing", voxel_spacing)
        )

    def __len__(self) -> int:
        return len(self.pairs)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        """The scan, normalised, and its labels."""
        scan, label = (read_nifti(path) for path in self.pairs[index])
        _check_pair(scan, label)
        values, classes = scan.values, label.values
        if self._resampled:
            values = resample(values, scan.spacing, self.voxel_spacing)
            classes = resample(classes, label.spacing, self.voxel_spacing, labels=True)
        deviation = values.std(correction=0).clamp_min(1e-6)
        return ((values - values.mean()) / deviation).float()[None], classes.long()


def _check_pair(scan: Scan, label: Scan) -> None:
    if scan.values.shape != label.values.shape:
        raise ValueError(
            f"{label.path} has shape {tuple(label.values.shape)}, its scan {tuple(scan.values.shape)} in the same "
            "orientation. Resample the label to the scan's grid."
        )
    step = min(scan.spacing)
    corners = torch.tensor([[0.0, 0, 0, 1], [*(n - 1.0 for n in scan.values.shape), 1]], dtype=torch.float64)
    apart = ((scan.affine - label.affine) @ corners.mT).abs().max().item()
    if apart > 0.1 * step:  # mm, of the first and the last voxel
        raise ValueError(
            f"{label.path} lies elsewhere than its scan: their affines put a voxel {apart:.3g} mm apart, at a spacing "
            f"of {step:.3g} mm. Resample the label to the scan's grid, or correct the wrong header."
        )
    if (label.values != label.values.round()).any() or label.values.min() < 0:
        raise ValueError(
            f"{label.path} has values that are not classes 0, 1, 2, .., for example {_no_class(label.values)}."
        )


def _no_class(values: Tensor) -> float:
    return float(values[(values != values.round()) | (values < 0)][0])


def _common_spacing(paths: list[Path]) -> Spacing:
    """The one spacing of all scans."""
    found = {path: _spacing_of(path) for path in paths}
    first = found[paths[0]]
    for path, spacing in found.items():
        if any(abs(a - b) > _EQUAL * a for a, b in zip(first, spacing, strict=True)):
            raise ValueError(
                f"{paths[0].name} has voxels of {_text(first)} mm, {path.name} of {_text(spacing)}: a kernel has one "
                f"grid. Resample: Scans(.., voxel_spacing=({_text(first, ', ')}))."
            )
    x, y, z = (round(length, 4) for length in first)
    return x, y, z


def _stem(path: Path) -> str:
    return path.name.removesuffix(".gz").removesuffix(".nii")


def _text(spacing: Spacing, between: str = " x ") -> str:
    return between.join(f"{length:g}" for length in spacing)
