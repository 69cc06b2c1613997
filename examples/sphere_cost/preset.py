"""What is measured: band limits, mixing sets and sizes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from basisgen.spheres.mixing import Mixing, mixing_set
from examples.common.presets import load_preset

HERE = Path(__file__).parent
PRESETS = ("quick", "tiny")


@dataclass(frozen=True)
class Preset:
    """Sizes of the layers, and how long they are measured.

    band_limits: of the layers whose cost is measured; error_limits: of those whose equivariance is. mixing: the mixing
    sets. most_paths: layers of more are left out; most_paths_e3nn: e3nn is left out beyond. channels: signals in and
    out. batch: samples; memory_batch: where memory is measured, more of them, since the size of a process is only known
    to some tenths of a MB. rounds: turns of each timing, of which the least counts. test_rotations: random signals,
    each with its rotation.
    """

    band_limits: tuple[int, ...]
    error_limits: tuple[int, ...]
    mixing: tuple[str, ...]
    most_paths: int
    most_paths_e3nn: int
    channels: int
    batch: int
    memory_batch: int
    rounds: int
    test_rotations: int


@dataclass(frozen=True)
class Case:
    """The layers of one band limit and mixing set; paths of its product, per channel."""

    L: int
    mixing: str
    paths: int


def load(name: str) -> Preset:
    """A preset by its name."""
    return load_preset(Preset, HERE / "presets" / f"{name}.toml")


def cases(preset: Preset) -> Iterator[Case]:
    """What is measured, cheap before dear."""
    for L in preset.band_limits:
        for mixing in map(Mixing, preset.mixing):
            case = Case(L, mixing.value, path_count(L, mixing))
            if case.paths <= preset.most_paths:
                yield case


def path_count(L: int, mixing: Mixing) -> int:
    """The paths of a product of one signal with itself: those that vanish, (a, a -> odd l), are none."""
    pairs = ((l, pair) for l in range(L) for pair in mixing_set(mixing, range(L), l))
    return sum(a != b or l % 2 == 0 for l, (a, b) in pairs)
