"""Compiled packages: plain volumes without parity, what makes a page difficult, and fields without volumes."""

from __future__ import annotations

from pathlib import Path

import pytest

from basisgen.emission.write import write_package
from basisgen.pipeline import compile_package
from basisgen.spec import parse_package

PLAIN = """
name = "plain"
[defaults]
kernel_size = 3
[[conv]]
name = "Conv1"
in = "1x0"
out = "2x0 + 2x1"
gated = true
[[conv]]
name = "Conv2"
in = "2x0 + 2x1"
out = "3x0 + 1x2"
"""
HARD = """
name = "hard"
[defaults]
kernel_size = [5, 5, 3]
voxel_spacing = [1, 1, 2.5]
radial = { family = "optimal" }
[[conv]]
name = "First"
in = "1x0e + 1x0o"
out = "4x0e + 2x1o + 2x1e + 1x3o"
gated = true
[[conv]]
name = "Second"
in = "2x1o + 1x4e"
out = "3x4e + 2x0o"
kernel_size = [4, 5, 6]
radial = { family = "hermite" }
[[conv]]
name = "Third"
in = "1x0e"
out = "2x0e + 1x1o"
kernel_size = 11
voxel_spacing = 1
dilation = 2
"""


FIELDS = """
name = "fields"
[[layer]]
kind = "product"
name = "Tree"
in = "4x0..5"
mixing = "tree"
[[layer]]
kind = "linear"
name = "Mix"
in = "Tree"
out = "4x0..5"
maps = ["uniform", "channel", "cross"]
channels = 4
[[layer]]
kind = "product"
name = "Reduced"
in = "2x0..4"
mixing = "reduced"
self_products = true
[[layer]]
kind = "product"
name = "Two"
in = "4x0 + 2x1"
second = "2x1 + 2x2"
channels = 2
mixing = "all"
[[layer]]
kind = "linear"
name = "Dense"
in = "Two"
out = "2x0 + 1x1"
[[layer]]
kind = "zonal"
name = "Filter"
in = "2x0..7"
out = "3x0..5"
anchors = 4
[[layer]]
kind = "transform"
name = "Grid"
in = "2x0..3"
grid = "mw"
function = "leaky_relu"
spectrum = 2
max_error = 0.1
[[layer]]
kind = "sphere_conv"
name = "OnSphere"
in = "2x0..3"
out = "3x0..3r"
grid = "near_identity"
[[layer]]
kind = "rotation_conv"
name = "OnRotations"
in = "OnSphere"
out = "2x0..2r2"
grid = "equatorial"
[[layer]]
kind = "transform"
name = "Rotations"
in = "OnSphere"
grid = "driscoll_healy"
space = "rotations"
[[layer]]
kind = "transform"
name = "FewOrders"
in = "OnRotations"
grid = "mw"
space = "rotations"
"""


def _compiled(text: str, parent: Path) -> Path:
    spec = parse_package(text)
    write_package(compile_package(spec), parent / spec.name)
    return parent / spec.name


@pytest.fixture(scope="session")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return _compiled(PLAIN, tmp_path_factory.mktemp("plain"))


@pytest.fixture(scope="session")
def hard(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return _compiled(HARD, tmp_path_factory.mktemp("hard"))


@pytest.fixture(scope="session")
def fields(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return _compiled(FIELDS, tmp_path_factory.mktemp("fields"))
