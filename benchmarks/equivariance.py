"""How far from equivariant one convolution is, ours and the peers', by one measurement on the same fields.

    python benchmarks/equivariance.py [--kernels 3 5 7 9] [--rotations 1024] [--out DIR]

A random field is a sum of plane waves of random directions and phases, times components, so the field and its
turned copy are known at every point and nothing is interpolated. At one output voxel:

    error^2 = mean |conv(turned field) - D_out conv(field)|^2 / mean |conv(turned field)|^2

over random rotations and waves, the same for all contestants, over the field's components, and over weights as each
library draws them. The last two means are exact: both are independent, so that the energies of single components and
of the kernels of single weights, each of standard deviation size, add up.

Measured at single wavelengths, and over the spectrum exp(-(|w| / (pi/2))^2): the one our filters are made for and the
manifest's defects are of (the error is sqrt(2) times the defect). Fields 0e + 1o + 2e in and out: nine pairs (j, l).
e3nn's pointwise self-connection is left out: it is exact, and would only dilute.

Writes equivariance.json, .md and .png, to benchmarks/results unless told otherwise. The peers: `pip install e3nn
escnn`; one that is not installed is named as such and left out.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import importlib.metadata
import io
import json
import sys
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

REPOSITORY = Path(__file__).parent.parent
sys.path.insert(0, str(REPOSITORY))

from basisgen.emission.imported import imported  # noqa: E402
from basisgen.pipeline import compile_package, plan  # noqa: E402
from basisgen.so3.field_type import parse_field_type  # noqa: E402
from basisgen.so3.wigner import field_matrix  # noqa: E402
from basisgen.spec import parse_package  # noqa: E402

Array = NDArray[np.float64]

RESULTS = REPOSITORY / "benchmarks" / "results"
WAVELENGTHS = (24.0, 16.0, 12.0, 8.0, 6.0, 5.0, 4.0, 3.0, 2.5)  # voxels
SMOOTH = 4.0  # voxels: fields of shorter wavelengths are hardly resolved
FIELDS, WAVES = 4, 16  # fields per rotation, plane waves per field
FIELD_TYPE = "1x0e + 1x1o + 1x2e"
SLICES = {0: slice(0, 1), 1: slice(1, 4), 2: slice(4, 9)}
PAIRS = [(j, l) for j in SLICES for l in SLICES]
Pair = tuple[int, int]
Elements = dict[Pair, Array]


NORMAL = [
    "**Is this error normal?** Yes. A kernel of a few taps is not exactly a radial function times Y_J; every library",
    "of steerable convolutions on voxels has this error, before any training, and no weights remove it. It is 0 under",
    "the turns that map the grid onto itself, falls with the wavelength of the input, and grows with J and towards the",
    "edge of the kernel. A few percent at wavelengths over 4 voxels is what good filters reach. Tens of percent mean",
    "filters beyond the resolution of the grid, or inputs that are: blur before striding, take a larger kernel, keep",
    "fewer filters. The manifest of a package gives the defect of every filter; the error is sqrt(2) times that.",
]


class MissingPeerError(Exception):
    """A library of the comparison is not installed."""


@dataclass(frozen=True)
class Convolution:
    """One library's convolution of FIELD_TYPE: the kernel of every weight, its D, the places of its taps."""

    elements: dict[Pair, Array]  # per pair (j, l): (weight, 2j+1, 2l+1, tap), of a weight of its standard deviation
    representation: Callable[[Array], Array]
    taps: Array  # (3, tap), in the frame the representation acts in
    filters: dict[Pair, int]  # weights per pair of single field copies
    known: dict[bytes, Array] = field(default_factory=dict)

    def D(self, rotation: Array) -> Array:
        """The representation, computed once for every rotation: each wavelength meets the same ones."""
        key = rotation.tobytes()
        if key not in self.known:
            self.known[key] = self.representation(rotation)
        return self.known[key]

    def profiles(self) -> list[int]:
        """Radial profiles of J = 0..4, from the pairs that first hold them."""
        n = self.filters
        return [n[0, 0], n[0, 1], n[0, 2], n[1, 2] - n[0, 1], n[2, 2] - n[0, 0] - n[0, 2]]


def kernels_of_weights(weight: torch.Tensor, deviation: torch.Tensor, kernel: Callable[[], torch.Tensor]) -> Elements:
    """The kernel of each weight alone, at its standard deviation, by the one pair it belongs to."""
    elements: dict[Pair, list[Array]] = {pair: [] for pair in PAIRS}
    flat_weight = weight.data.view(-1)
    for i, size in enumerate(deviation.reshape(-1).tolist()):
        flat_weight.zero_()
        flat_weight[i] = size
        of_weight = kernel().detach().double().flatten(2).numpy()  # (channel out, channel in, tap)
        for (j, l), found in elements.items():
            if np.abs(block := of_weight[SLICES[j], SLICES[l]]).max() > 0:
                found.append(block)
    return {pair: np.stack(found) for pair, found in elements.items() if found}


def cube(size: int) -> Array:
    """Voxel coordinates (3, tap), centred, in the order of a flattened kernel."""
    axis = np.arange(size) - (size - 1) / 2
    return np.stack(np.meshgrid(axis, axis, axis, indexing="ij")).reshape(3, -1)


def ours(radial: str, size: int) -> Convolution:
    """A module as `basisgen compile` writes it."""
    text = f'name = "ours"\n[[conv]]\nname = "Conv"\nin = "{FIELD_TYPE}"\nout = "{FIELD_TYPE}"\nkernel_size = {size}\n'
    spec = parse_package(text + f"radial = {radial}\n")
    with imported(compile_package(spec), "ours") as package:
        module = package.Conv(bias=False).double()
    elements = kernels_of_weights(module.weight, torch.ones_like(module.weight), module.kernel)
    (layer,) = plan(spec).layers
    filters = dict.fromkeys(PAIRS, 0)
    for path in layer.paths:
        filters[path.out_term, path.in_term] += path.profiles
    field_type = parse_field_type(FIELD_TYPE)
    return Convolution(elements, lambda r: field_matrix(field_type, r), cube(size), filters)


def e3nn(degree: int, radial: int, size: int) -> Convolution:
    """e3nn's voxel convolution. It limits J at no radius; lmax and the radial number have no defaults."""
    o3 = peer("e3nn.o3")
    convolution = peer("e3nn.nn.models.v2104.voxel_convolution").Convolution
    irreps = o3.Irreps("0e + 1o + 2e")
    module = convolution(irreps, irreps, o3.Irreps.spherical_harmonics(degree), diameter=size, num_radial_basis=radial)
    degrees = {pair: [J for J in range(abs(pair[0] - pair[1]), sum(pair) + 1, 2) if degree >= J] for pair in PAIRS}
    return Convolution(
        kernels_of_weights(module.weight, torch.ones_like(module.weight), module.kernel),
        lambda r: irreps.D_from_matrix(torch.from_numpy(r)).numpy(),
        cube(size),
        {pair: radial * len(degrees[pair]) for pair in PAIRS},
    )


def escnn(size: int) -> Convolution:
    """escnn's R3Conv for O(3) at its defaults. Its x, y, z run along the array's axes 2, -1, -0."""
    gspaces, nn = peer("escnn.gspaces"), peer("escnn.nn")
    space = gspaces.flipRot3dOnR3()
    field_type = nn.FieldType(space, [space.irrep(l % 2, l) for l in SLICES])
    module = nn.R3Conv(field_type, field_type, kernel_size=size, bias=False)
    draws = torch.stack([module.weights.data.clone() for _ in range(4096) if he_init(nn, module)])
    elements = kernels_of_weights(module.weights, draws.square().mean(0).sqrt(), lambda: module.expand_parameters()[0])

    def representation(r: Array) -> Array:
        return np.asarray(field_type.representation(space.fibergroup.element((0, r), "MAT")))

    def pair_weights(j: int, l: int) -> int:
        into, out = (nn.FieldType(space, [space.irrep(n % 2, n)]) for n in (l, j))
        return int(nn.R3Conv(into, out, kernel_size=size, bias=False).weights.numel())

    i, j, k = cube(size)
    return Convolution(elements, representation, np.stack([k, -j, -i]), {pair: pair_weights(*pair) for pair in PAIRS})


def he_init(nn: Any, module: Any) -> bool:
    """Draws the weights of an escnn module as escnn does."""
    nn.init.generalized_he_init(module.weights.data, module.basisexpansion)
    return True


PEERS: dict[str, Callable[[int], Convolution]] = {
    "escnn": escnn,
    "e3nn, lmax 2, 3 radial": lambda size: e3nn(2, 3, size),
    "e3nn, lmax 3, 5 radial": lambda size: e3nn(3, 5, size),
}
FAMILIES = ("separable", "optimal")


def matched(family: str, size: int, theirs: list[int]) -> tuple[str, Convolution]:
    """Our filters against a peer: as many profiles of each J as the peer has, or as many as there are."""
    most = ours(f'{{ family = "{family}", max_defect = 0.9 }}', size).profiles()
    count = [min(pair) for pair in zip(theirs, most, strict=True)]
    return f"{family}, count {count}", ours(f'{{ family = "{family}", count = {count} }}', size)


CONTESTANTS: dict[str, Callable[[int], Convolution]] = {
    "separable": lambda size: ours('{ family = "separable" }', size),
    "optimal": lambda size: ours('{ family = "optimal" }', size),
    "optimal, max_defect 0.1": lambda size: ours('{ family = "optimal", max_defect = 0.1 }', size),
    "hermite": lambda size: ours('{ family = "hermite" }', size),
    "shells": lambda size: ours('{ family = "shells" }', size),
}


@dataclass(frozen=True)
class Errors:
    """The error of all pairs together, and of each pair (j, l) alone."""

    whole: float
    pairs: dict[tuple[int, int], float]


def measure(convolution: Convolution, wavelength: float | None, rotations: int) -> Errors:
    """At one wavelength in voxels, or over the Gaussian spectrum; all contestants get the same rotations and fields."""
    random = np.random.default_rng(0)
    r = Rotation.random(rotations, random_state=random).as_matrix().repeat(FIELDS, axis=0)  # (field, 3, 3)
    waves = random.normal(size=(len(r), WAVES, 3)) * np.pi / 2 / np.sqrt(2)
    if wavelength is not None:
        waves *= 2 * np.pi / wavelength / np.linalg.norm(waves, axis=2, keepdims=True)
    phases = random.uniform(0, 2 * np.pi, (len(r), WAVES, 1))
    D = np.stack([convolution.D(rotation) for rotation in r])
    before = field_at(convolution.taps, waves, phases)  # (field, tap)
    after = field_at(convolution.taps, waves @ r.transpose(0, 2, 1), phases)  # the directions of the waves are turned
    pairs = {pair: np.zeros(2) for pair in PAIRS}
    for (j, l), elements in convolution.elements.items():
        out, into = SLICES[j], SLICES[l]
        for kernel in elements:  # (2j+1, 2l+1, tap)
            here, there = np.tensordot(kernel, before, (2, 1)), np.tensordot(kernel, after, (2, 1))  # (out, in, field)
            answer = np.einsum(
                "oif,fic->foc", there, D[:, into, into]
            )  # to each component of the field before the turn
            expected = np.einsum("foc,cif->foi", D[:, out, out], here)
            pairs[j, l] += ((answer - expected) ** 2).sum(), (answer**2).sum()
    return Errors(ratio(sum(pairs.values())), {pair: ratio(sums) for pair, sums in pairs.items()})


def field_at(taps: Array, waves: Array, phases: Array) -> Array:
    """The scalar fields at the taps, (field, tap)."""
    total = np.zeros((len(waves), taps.shape[1]))
    for wave, phase in zip(waves.transpose(1, 0, 2), phases.transpose(1, 0, 2), strict=True):
        total += np.cos(wave @ taps + phase)
    return total


def ratio(sums: Array) -> float:
    """The root of error energy over energy; nan where there is no energy."""
    return float(np.sqrt(sums[0] / sums[1])) if sums[1] else float("nan")


def peer(name: str) -> Any:
    """A module of another library, its warnings and prints kept to itself."""
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        try:
            return importlib.import_module(name)
        except ImportError as error:
            raise MissingPeerError(
                f"{name.partition('.')[0]} is not usable here ({error}): pip install escnn e3nn"
            ) from None


def contestants(size: int) -> Iterator[tuple[str, Convolution]]:
    """All that take part at one kernel size: ours, then every peer and ours with as many filters."""
    for name, make in CONTESTANTS.items():
        yield name, make(size)
    for name, make in PEERS.items():
        try:
            theirs = make(size)
        except MissingPeerError as missing:
            print(f"{name}: left out, {missing}", file=sys.stderr)
            continue
        yield name, theirs
        for family in FAMILIES:
            yield matched(family, size, theirs.profiles())


def benchmark(kernels: list[int], rotations: int) -> dict[str, object]:
    """Every contestant at every kernel size."""
    rows: list[dict[str, Any]] = []
    for size in kernels:
        against: str | None = None
        for name, convolution in contestants(size):
            spectrum = measure(convolution, None, rotations)
            at = {wavelength: measure(convolution, wavelength, rotations).whole for wavelength in WAVELENGTHS}
            rows.append(
                {
                    "kernel": size,
                    "contestant": name,
                    "matched_to": against if name not in PEERS else None,
                    "filters": {f"{j}<-{l}": count for (j, l), count in convolution.filters.items()},
                    "filters_total": sum(convolution.filters.values()),
                    "error": _figures(spectrum.whole),
                    "error_of_pair": {f"{j}<-{l}": _figures(error) for (j, l), error in spectrum.pairs.items()},
                    "error_at_wavelength": {f"{wavelength:g}": _figures(error) for wavelength, error in at.items()},
                }
            )
            against = name if name in PEERS else against
            print(size, name, rows[-1]["filters_total"], rows[-1]["error"], flush=True)
    versions = {}
    for name in ("basisgen", "escnn", "e3nn", "torch", "numpy"):
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            versions[name] = importlib.metadata.version(name)
    return {"field_type": FIELD_TYPE, "samples": rotations * FIELDS, "versions": versions, "rows": rows}


def _figures(error: float) -> float:
    """Four of them: what is left at long waves is small, and ratios of it are quoted."""
    return float(f"{error:.4g}")


def tables(result: dict[str, object]) -> str:
    """The results as markdown."""
    lines = [
        "# Equivariance error of one convolution",
        "",
        "Made by `python benchmarks/equivariance.py`; what is measured stands at the top of that file.",
        "",
        f"Fields {result['field_type']} in and out; {result['samples']} random fields, the same for all, the mean over "
        "random weights is exact. "
        + ", ".join(f"{name} {version}" for name, version in result["versions"].items())
        + ".",
        "",
        *NORMAL,
    ]
    for size in dict.fromkeys(row["kernel"] for row in result["rows"]):
        rows = [row for row in result["rows"] if row["kernel"] == size]
        lines += ["", f"## {size}^3 taps", "", "Error by wavelength of the field, in voxels:", ""]
        lines += markdown(
            ["", "filters", "spectrum", *(f"{w:g}" for w in WAVELENGTHS)],
            [
                [row["contestant"], str(row["filters_total"]), number(row["error"])]
                + [number(error) for error in row["error_at_wavelength"].values()]
                for row in rows
            ],
        )
        lines += ["", "Filters and error over the spectrum, by pair (out <- in) of single fields:", ""]
        lines += markdown(
            ["", *(f"{j} <- {l}" for j, l in PAIRS)],
            [
                [row["contestant"]]
                + [
                    f"{row['filters'][pair]}: {number(row['error_of_pair'][pair])}" if row["filters"][pair] else "none"
                    for pair in row["filters"]
                ]
                for row in rows
            ],
        )
        lines += ["", *verdict(rows)]
    return "\n".join(lines) + "\n"


def verdict(rows: list[dict[str, Any]]) -> list[str]:
    """Each peer against our filters matched to it, pair by pair: no more filters in any."""
    named = {row["contestant"]: row for row in rows if not row["matched_to"]}
    lines = []
    for mine in (row for row in rows if row["matched_to"]):
        theirs = named[mine["matched_to"]]
        pairs = [pair for pair, count in theirs["filters"].items() if count]
        assert all(mine["filters"][pair] <= theirs["filters"][pair] for pair in pairs)
        ratios = [theirs["error_of_pair"][pair] / mine["error_of_pair"][pair] for pair in pairs]
        lines.append(
            f"* {mine['contestant']}, against {mine['matched_to']}: {mine['filters_total']} filters against "
            f"{theirs['filters_total']}, no more in any pair; a smaller error in {sum(r > 1 for r in ratios)} of "
            f"{len(pairs)} pairs. Their error over ours {min(ratios):.2f} to {max(ratios):.1f}, together "
            f"{theirs['error'] / mine['error']:.1f}; by wavelength from 4 voxels up {_by_wavelength(theirs, mine)}."
        )
    return lines


def _by_wavelength(theirs: dict[str, Any], mine: dict[str, Any]) -> str:
    """The least and the largest ratio of all pairs together, of wavelengths of 4 voxels and more."""
    ratios = [
        error / mine["error_at_wavelength"][wavelength]
        for wavelength, error in theirs["error_at_wavelength"].items()
        if float(wavelength) >= SMOOTH
    ]
    return f"{min(ratios):.2f} to {max(ratios):.1f}"


def markdown(head: list[str], rows: list[list[str]]) -> list[str]:
    """A markdown table."""
    rule = ["---"] + ["---:"] * (len(head) - 1)
    return [f"| {' | '.join(row)} |" for row in (head, rule, *rows)]


def number(error: float) -> str:
    """Three figures, without the zero before the point."""
    return f"{error:.2g}" if error >= 0.1 else f"{error:.4f}".lstrip("0")


def plot(result: dict[str, object], path: Path) -> None:
    """Error against wavelength, one panel per kernel size."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    sizes = list(dict.fromkeys(row["kernel"] for row in result["rows"]))
    figure, axes = pyplot.subplots(1, len(sizes), figsize=(4.2 * len(sizes), 4.8), sharey=True, squeeze=False)
    for axis, size in zip(axes[0], sizes, strict=True):
        for row in (row for row in result["rows"] if row["kernel"] == size and not row["matched_to"]):
            x, y = zip(*((float(w), error) for w, error in row["error_at_wavelength"].items()), strict=True)
            peers = row["contestant"] in PEERS
            axis.loglog(x, y, "--" if peers else "-", marker=".", label=row["contestant"])
        axis.set(title=f"{size}$^3$ taps", xlabel="wavelength (voxels)")
        axis.set_xticks(WAVELENGTHS, [f"{w:g}" for w in WAVELENGTHS])
        axis.minorticks_off()
        axis.grid(alpha=0.3)
    axes[0][0].set_ylabel("equivariance error, random weights")
    figure.legend(*axes[0][0].get_legend_handles_labels(), loc="lower center", ncols=4, fontsize=9)
    figure.tight_layout(rect=(0, 0.13, 1, 1))
    figure.savefig(path, dpi=110, metadata={"Software": None})


def main() -> None:
    """Runs the benchmark and writes its results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kernels", type=int, nargs="+", default=[3, 5, 7, 9])
    parser.add_argument("--rotations", type=int, default=1024)
    parser.add_argument("--out", type=Path, default=RESULTS, help="directory of the results")
    options = parser.parse_args()
    torch.set_num_threads(1)
    result = benchmark(options.kernels, options.rotations)
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / "equivariance.json").write_text(json.dumps(result, indent=1) + "\n")
    (options.out / "equivariance.md").write_text(tables(result))
    plot(result, options.out / "equivariance.png")
    print(f"\n{tables(result)}")


if __name__ == "__main__":
    main()
