"""`basisgen tune`: dense or separable, stock torch or Triton, decided by measurement on the present machine.

Every layer that may run either way is compiled both ways and timed, forward and backward, a convolution against the
plain torch.nn.Conv3d of the same shape; all take turns, and medians count. A layer that is faster dense is dense from
then on; one that is faster by passes runs so from the volume on at which the cost model, scaled to the measurement,
finds both equally fast. A product of fields is timed where Triton runs, that is on a GPU, and takes it there from then
on if it was faster. The ratios go into the package's manifest; compiling the same spec again keeps them, `basisgen tune
--undo` takes them out.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from time import perf_counter
from typing import Any

from basisgen.commands.recompile import free_layers, spec_of
from basisgen.emission.imported import imported
from basisgen.emission.manifest import MANIFEST, ManifestError, parse_manifest
from basisgen.errors import SpecError
from basisgen.pipeline import compile_package
from basisgen.reading import quoted
from basisgen.so3.field_type import FieldType
from basisgen.spec import PackageSpec
from basisgen.spheres.product_spec import ProductSpec
from basisgen.text import counted
from basisgen.tuning import WAYS, Tuning
from basisgen.verify.files import read_contents
from basisgen.volumes.conv_spec import ConvSpec
from basisgen.volumes.execution import PATHS

Step = Callable[[], float]  # seconds

MAX_VOXELS = 1024  # per axis


@dataclass(frozen=True)
class Setting:
    """What to time a layer on: (samples, channel, x, y, z) on a device, with so many threads."""

    volume: tuple[int, int, int]
    samples: int
    stride: int
    device: str
    rounds: int

    @classmethod
    def parse(cls, volume: object, samples: int, stride: int, device: str, threads: int | None, rounds: int) -> Setting:
        """Checks what the command line says; raises SpecError. The number of threads is the process's from now on."""
        import torch

        given = volume if isinstance(volume, list) else [volume] * 3
        sizes = [size for size in given if isinstance(size, int) and 1 <= size <= MAX_VOXELS]
        if not len(sizes) == len(given) == 3:
            raise SpecError(
                f"--volume {quoted(volume)} is not 1 to {MAX_VOXELS} voxels, or three such numbers: 32, or 64,64,32."
            )
        _check_device(device)
        if threads is not None:
            torch.set_num_threads(threads)
        x, y, z = sizes
        return cls((x, y, z), samples, stride, device, rounds)

    def describe(self) -> str:
        """One line for the manifest: it goes with the ratios."""
        import torch

        threads = "" if self.is_on_gpu else f", {counted(torch.get_num_threads(), 'thread')}"
        volumes = f"{counted(self.samples, 'volume')} of {self.size}, stride {self.stride}"
        return f"{self.device}{threads}, {volumes}, float32, torch {torch.__version__}"

    @property
    def is_on_gpu(self) -> bool:
        """Whether layers run elsewhere than on a CPU."""
        import torch

        return torch.device(self.device).type != "cpu"

    @property
    def size(self) -> str:
        """The size of a volume as text: 64x64x32."""
        return "x".join(map(str, self.volume))


def read_spec(directory: Path) -> PackageSpec:
    """The spec of a package on disk.

    Raises OutputError where there is no package, SpecError where another version of basisgen made it, or where its
    manifest holds no spec.
    """
    contents = read_contents(directory)
    try:
        spec = spec_of(parse_manifest(contents.files.get(MANIFEST, b"")))
    except (ManifestError, SpecError) as error:
        raise SpecError(
            f"{directory / MANIFEST} holds no spec: {error}. Remove the package and compile it again."
        ) from None
    if spec is None:
        raise SpecError(f"{directory} was made by another version of basisgen. Compile it again first.")
    return spec


def tune(
    spec: PackageSpec,
    setting: Setting,
    begins: Callable[[str], object] = lambda _: None,
    ends: Callable[[str], object] | None = None,
) -> PackageSpec:
    """The spec with the ratios of its free layers measured; each layer is named before, and its ratios told after.

    Raises SpecError where no layer is free, or a layer does not run in this setting: mostly, no memory for it.
    """
    layers = free_layers(spec, products=setting.is_on_gpu)
    if not layers:
        raise SpecError(
            f"package '{spec.name}' has nothing to tune: no layer has execution 'auto' and filters that are "
            "products of functions of x, y and z. Other filters run as dense convolutions only; products of fields "
            "run compiled wherever there is a C++ compiler, which is the faster way, and have a choice on a GPU alone: "
            "--device cuda."
        )
    ratios = {}
    for layer in layers:
        begins(layer.name)
        try:
            found = _ratios(layer, setting)
        except RuntimeError as error:  # torch has no memory left, or no operator for volumes of such size
            raise SpecError(
                f"layer '{layer.name}' does not run on {counted(setting.samples, 'volume')} of {setting.size}: "
                f"{_reason(error)}. Take a smaller --volume, or fewer --samples."
            ) from error
        if found is not None:
            ratios[layer.name] = found
        if ends is not None:
            ends(f"{layer.name}: {_told(layer, found)}")
    if not ratios:
        raise SpecError(f"package '{spec.name}' has nothing to tune: Triton does not run on {setting.device} here.")
    return replace(spec, tuned=Tuning(setting.describe(), ratios))


def _told(layer: ConvSpec | ProductSpec, ratios: Mapping[str, float] | None) -> str:
    if ratios is None:
        return "Triton does not run here"
    base = "torch.nn.Conv3d's" if isinstance(layer, ConvSpec) else "stock torch's"
    return f"{', '.join(f'{way} {ratio:.2f}' for way, ratio in ratios.items())} of {base} time"


def _ratios(layer: ConvSpec | ProductSpec, setting: Setting) -> Mapping[str, float] | None:
    """The time of a training step, for each way over that of the first; None for a product where Triton does not run.

    The first is a plain convolution, or the product in stock torch.
    """
    steps = _of_convolution(layer, setting) if isinstance(layer, ConvSpec) else _of_product(layer, setting)
    if len(steps) == 1:
        return None
    times: dict[str, list[float]] = {name: [] for name in steps}
    for _ in range(setting.rounds + 1):
        for name, step in steps.items():
            times[name].append(step())
    medians = {name: statistics.median(found[1:]) for name, found in times.items()}
    base = next(iter(medians.values()))
    return {way: round(medians[way] / base, 3) for way in WAYS[layer.kind]}


def _of_convolution(layer: ConvSpec, setting: Setting) -> dict[str, Step]:
    import torch

    volume = _field(layer.into, setting)
    x, y, z = (d * (n - 1) // 2 for n, d in zip(layer.grid.size, layer.grid.dilation, strict=True))
    plain = torch.nn.Conv3d(
        layer.into.dimension, layer.gives.dimension, layer.grid.size, setting.stride, (x, y, z), layer.grid.dilation
    ).to(setting.device)
    steps = {"plain": _step(plain, volume)}
    for path in PATHS:
        name = f"basisgen_tune_{layer.name}_{path.value}"
        package = PackageSpec(name, (replace(layer, execution=path),))
        with imported(compile_package(package), name) as module:
            steps[path.value] = _step(getattr(module, layer.name)(stride=setting.stride).to(setting.device), volume)
    return steps


def _of_product(layer: ProductSpec, setting: Setting) -> dict[str, Step]:
    """Of stock torch, and of Triton where it runs."""
    fields = [_field(of, setting) for of in (layer.into, layer.second) if of is not None]
    steps = {}
    for way in WAYS[layer.kind]:
        name = f"basisgen_tune_{layer.name}_{way}"
        package = PackageSpec(name, (layer,), tuned=Tuning("", {layer.name: {way: 1.0}}))
        with imported(compile_package(package), name) as module:
            product = getattr(module, layer.name)().to(setting.device)
            if product.on_gpu is None or product.on_gpu.runs_on(str(fields[0].device)):
                steps[way] = _step(product, *fields)
    return steps


def _field(of: FieldType, setting: Setting) -> Any:
    """A random field, (sample, channel, x, y, z)."""
    import torch

    return torch.randn(setting.samples, of.dimension, *setting.volume, device=setting.device, requires_grad=True)


def _step(module: Any, *fields: Any) -> Step:
    """One training step of a module: the seconds it takes."""
    import torch

    gradient = torch.ones_like(module(*(field.detach() for field in fields)))

    def synchronise() -> None:
        if gradient.device.type != "cpu":
            torch.accelerator.synchronize(gradient.device)

    def step() -> float:
        for field in fields:
            field.grad = None
        module.zero_grad()
        synchronise()
        start = perf_counter()
        module(*fields).backward(gradient)
        synchronise()
        return perf_counter() - start

    return step


def _check_device(name: str) -> None:
    """Raises SpecError unless torch computes on the device, here and now: `meta` computes nothing."""
    import torch

    accelerator = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
    here = ["cpu", *([accelerator.type] if accelerator else [])]
    try:
        computes = torch.device(name).type in here
        torch.empty(1, device=name)
    except (RuntimeError, AssertionError):
        computes = False
    if not computes:
        raise SpecError(f"--device {quoted(name)} is not one that torch computes on here. Take {' or '.join(here)}.")


def _reason(error: BaseException) -> str:
    """Torch's messages in a few words; they go on for pages."""
    return "not enough memory" if "memory" in str(error).lower() else str(error).strip().partition("\n")[0][:200]
