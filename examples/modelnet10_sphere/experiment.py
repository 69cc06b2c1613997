"""The experiment: train on signals of shapes turned about the vertical axis (z) or freely (SO3), test on both.

z/z: trained and tested on z.    SO3/SO3: trained and tested on SO3.    z/SO3: trained on z, tested on SO3.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.utils.data import Dataset

from examples.common.cases import Case, Outcome
from examples.common.files import compiled, find_data
from examples.common.measure import TEST_SEED, accuracy, classes, device_name, outputs
from examples.common.networks import Network
from examples.common.presets import PresetError, load_preset
from examples.common.progress import counting
from examples.common.study import Study
from examples.common.training import Stopwatch, train_and_measure
from examples.modelnet10.data import SOURCE, VARIABLE, Grids, Raster, draw_rotations, load
from examples.modelnet10.experiment import CAVEAT, SETTINGS
from examples.modelnet10.retrieval import retrieval
from examples.modelnet10_sphere.network import (
    CorrelationNetwork,
    Correlations,
    OfSamples,
    cohen,
    hybrid,
    turned,
)
from examples.modelnet10_sphere.signals import (
    CHANNELS,
    POLE,
    Sampler,
    Sampling,
    cached,
    signals_for_test,
    signals_for_training,
    test_rotations,
)
from runtime.so3 import random_rotations
from runtime.spheres import CobbConfig, CohenConfig, EstevesConfig
from runtime.train import TrainConfig

HERE = Path(__file__).parent
Measure = Callable[[nn.Module], tuple[dict[str, float], float]]
BATCH = 64
BRANCHES = (CHANNELS.index("distance"), CHANNELS.index("sin"))  # the published input of the two-branch network


@dataclass(frozen=True)
class Preset:
    """One way to run the experiment.

    sampling            of shapes as signals
    networks            by name; kinds 'correlations', 'esteves', 'cohen' and 'hybrid'
    training            of all of them; a network's `longer` multiplies the epochs
    smoothing           of the labels
    weight_decay        of AdamW
    agreement_samples   test shapes that are turned; test_rotations: as often
    """

    sampling: Sampling
    networks: dict[str, Network]
    training: TrainConfig
    correlations: Correlations = field(default_factory=Correlations)
    esteves: EstevesConfig = field(default_factory=EstevesConfig)
    cohen: CohenConfig = field(default_factory=CohenConfig)
    front: CohenConfig = field(default_factory=CohenConfig)
    back: CobbConfig = field(default_factory=CobbConfig)
    smoothing: float = 0.1
    weight_decay: float = 0.05
    agreement_samples: int = 100
    test_rotations: int = 10


class Draws(Dataset[tuple[Tensor, Tensor]]):
    """Inputs and class of every shape, from one of its copies at random: inputs (copy, shape, ...)."""

    def __init__(self, inputs: Tensor, labels: Tensor) -> None:
        self.inputs, self.labels = inputs, labels

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        copy = int(torch.randint(len(self.inputs), ()))
        return self.inputs[copy, index], self.labels[index]


def prepare(preset_name: str, data: Path | None) -> Study:
    """The study of a preset on a ModelNet10 file. Raises DataError."""
    path = find_data(data, VARIABLE, "a file of ModelNet10 grids", SOURCE)
    preset = load_preset(Preset, HERE / "presets" / f"{preset_name}.toml")
    train, test = load(path, Raster(30, 1.0))
    sampling = preset.sampling
    return Study(
        title=f"ModelNet10 on the sphere, preset {preset_name}",
        facts={
            "data": f"{path.name}: {len(train):,} shapes of {len(train.names)} classes to train on, {len(test):,} to "
            f"test on, {int(test.duplicate.sum())} of them also among the training shapes",
            "signals": f"{len(CHANNELS)} of band limit {sampling.limit}, by ray marching: {', '.join(CHANNELS)}",
            "copies": f"{sampling.copies} of every training shape, each turned as the setting says before it is "
            f"sampled, and, but the first, each axis of it stretched by up to {sampling.stretch:.0%}",
            "setting": "the rotations trained on: about the vertical axis (z) or all (SO3)",
            "scores": "named by the rotations tested on, one per test shape, the same for all; the shape is turned "
            "before it is sampled. 'voxels': it is turned by resampling its voxels, as in the example modelnet10. "
            "'unique': without the test shapes that are also training shapes",
            "turned": f"share of the answers for {preset.agreement_samples} test shapes that {preset.test_rotations} "
            "random rotations before sampling do not change; 'same answer, signals turned': rotations of the "
            "coefficients, which are exact",
            "weights": "averaged over the steps, of the epoch of least training loss",
            **{name: network.description for name, network in preset.networks.items()},
            "caveat": CAVEAT,
        },
        preset=preset,
        networks=tuple(preset.networks),
        settings=tuple(SETTINGS),
        build=lambda name: build(name, preset, len(train.names)),
        run=lambda case, directory: train_and_test(preset, train, test, case, directory),
    )


def build(name: str, preset: Preset, class_count: int) -> nn.Module:
    """A network of the preset. Raises PresetError for an unknown kind."""
    network = preset.networks[name]
    package = compiled(HERE / "specs" / network.spec)
    if network.kind == "correlations":
        return CorrelationNetwork(package, preset.correlations, preset.sampling.limit, class_count)
    if network.kind == "esteves":
        return OfSamples(package, replace(preset.esteves, classes=class_count, auxiliary=False), BRANCHES)
    if network.kind == "cohen":
        return cohen(package, replace(preset.cohen, classes=class_count))
    if network.kind == "hybrid":
        return hybrid(package, preset.front, replace(preset.back, classes=class_count))
    raise PresetError(
        f"there is no network of kind {network.kind!r} here. Write 'correlations', 'esteves', 'cohen' or 'hybrid'."
    )


def sampler_of(preset: Preset) -> Sampler:
    """Makes signals as the preset says."""
    return Sampler(compiled(HERE / "specs" / "rays.toml").Rays(), preset.sampling)


def train_and_test(preset: Preset, train: Grids, test: Grids, case: Case, directory: Path) -> Outcome:
    """Trains a network on one kind of rotations and tests it on those of the setting."""
    sampler, kind, place = sampler_of(preset), case.setting, directory.parent
    signals = cached(
        place / f"training-{kind}.pt", preset.sampling, train, lambda: signals_for_training(sampler, train, kind)
    )
    torch.manual_seed(case.seed)
    model = build(case.network, preset, len(train.names))

    def measure(trained: nn.Module) -> tuple[dict[str, float], float]:
        return _measure(trained, preset, sampler, test, case, place)

    if isinstance(model, CorrelationNetwork):
        return _solve(case, model, signals, train.labels, directory, measure)
    return train_and_measure(
        case,
        preset.networks[case.network],
        lambda: model,
        Draws(signals, train.labels),
        replace(preset.training, monitor="train_loss"),
        directory,
        measure,
        partial(nn.functional.cross_entropy, label_smoothing=preset.smoothing),
        averaged=True,
        optimizer=partial(torch.optim.AdamW, weight_decay=preset.weight_decay),
        forward=lambda model, inputs: model(
            turned(inputs[..., : model.limit**2], of_sphere(kind, len(inputs), train.up))
        ),
    )


def _solve(
    case: Case, model: CorrelationNetwork, signals: Tensor, labels: Tensor, directory: Path, measure: Measure
) -> Outcome:
    """The case of a kernel: one linear system, no epochs. Its parameters are the coefficients of the solution."""
    with Stopwatch(directory / "seconds.txt") as watch:
        model.fit(signals, labels)
    with counting(f"{case.network}, {case.setting}, seed {case.seed}"):
        found, agreement = measure(model.eval())
        loss = nn.functional.cross_entropy(outputs(model, signals[0].split(BATCH)), labels).item()
    return Outcome(
        case=case,
        parameters=model.weights.numel(),
        train_samples=len(labels),
        epochs=0,
        train_loss=loss,
        train_seconds=watch.seconds,
        scores=found,
        agreement=agreement,
        device=device_name(),
        threads=torch.get_num_threads(),
        torch=torch.__version__,
    )


def of_sphere(kind: str, count: int, up: int, generator: torch.Generator | None = None) -> Tensor:
    """Random rotations (count, 3, 3) of the grids' axes, in the axes of the sphere."""
    return in_sphere_axes(draw_rotations(kind, count, up, generator))


def in_sphere_axes(rotations: Tensor) -> Tensor:
    """Rotations (..., 3, 3) of the grids' axes in those of the sphere: grid axis i is axis POLE[i] of the sphere."""
    axes = torch.eye(3, dtype=rotations.dtype)[list(POLE)]  # (grid axis, sphere axis)
    return axes.mT @ rotations @ axes


def _measure(
    model: nn.Module, preset: Preset, sampler: Sampler, test: Grids, case: Case, place: Path
) -> tuple[dict[str, float], float]:
    scores: dict[str, float] = {}
    for kind in SETTINGS[case.setting]:
        signals = cached(
            place / f"test-{kind}.pt", preset.sampling, test, partial(signals_for_test, sampler, test, kind)
        )
        scores |= {f"{kind}: {name}": value for name, value in scores_of(_logits(model, signals), test).items()}
    rotations = test_rotations(test, "SO3")
    voxels = cached(place / "test-voxels.pt", preset.sampling, test, lambda: sampler.of_turned_voxels(test, rotations))
    scores["voxels: accuracy"] = accuracy(_logits(model, voxels).argmax(1), test.labels)
    straight, before, after = _turned_signals(preset, sampler, test, place)
    answers = classes(model, straight.split(BATCH))
    exactly = [
        classes(model, turned(straight, in_sphere_axes(r).expand(len(answers), 3, 3)).split(BATCH)) for r in after
    ]
    scores["same answer, signals turned"] = _same(exactly, answers)
    return scores, _same([classes(model, part.split(BATCH)) for part in before], answers)


def scores_of(logits: Tensor, test: Grids) -> dict[str, float]:
    """Accuracy and mAP, on all test shapes and on the unique ones."""
    scores = {}
    for suffix, kept in (("", torch.ones(len(test), dtype=torch.bool)), (" unique", ~test.duplicate)):
        found = retrieval(logits[kept], test.labels[kept])
        scores[f"accuracy{suffix}"] = accuracy(logits[kept].argmax(1), test.labels[kept])
        scores |= {f"{name}{suffix}": found[name] for name in ("mAP micro", "mAP macro")}
    return scores


def _turned_signals(preset: Preset, sampler: Sampler, test: Grids, place: Path) -> tuple[Tensor, Tensor, Tensor]:
    """Signals of some shapes as they are, of these turned before sampling (rotation, shape, ...), and the rotations."""
    some = torch.linspace(0, len(test) - 1, min(len(test), preset.agreement_samples)).long()
    rotations = random_rotations(preset.test_rotations, generator=torch.Generator().manual_seed(TEST_SEED))
    every = torch.cat([torch.eye(3, dtype=rotations.dtype)[None], rotations])

    def make() -> Tensor:
        return torch.stack([sampler(test, some, rotation.expand(len(some), 3, 3)) for rotation in every])

    signals = cached(place / f"turned-{len(some)}-{len(rotations)}.pt", preset.sampling, test, make)
    return signals[0], signals[1:], rotations


def _logits(model: nn.Module, signals: Tensor) -> Tensor:
    return outputs(model, signals.split(BATCH))


def _same(turned_answers: list[Tensor], answers: Tensor) -> float:
    return torch.stack([(found == answers).double().mean() for found in turned_answers]).mean().item()
