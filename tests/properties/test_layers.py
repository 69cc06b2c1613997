"""Whatever layer one draws: its package is verified, can be made again, and commutes with the turns of its grid."""

from __future__ import annotations

import json
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, example, given, reject, settings
from hypothesis import strategies as st

from basisgen.commands.recompile import recompile
from basisgen.emission.write import write_package
from basisgen.errors import SamplingError, SpecError
from basisgen.pipeline import compile_package
from basisgen.so3.field_type import FieldType
from basisgen.spec import PackageSpec, parse_layer
from basisgen.testing import field_types, grids, imported, layer_specs, radial_families, rotations, turns
from basisgen.verify.verify import verify_package
from basisgen.volumes.conv_spec import ConvSpec
from basisgen.volumes.sampling.families import RadialFamily
from basisgen.volumes.sampling.grid import VoxelGrid
from basisgen.volumes.sampling.registry import FAMILIES
from runtime.testing import assert_equivariant

SLOW_DRAWS = (HealthCheck.too_slow, HealthCheck.filter_too_much)
few = settings(deadline=None, max_examples=12, suppress_health_check=SLOW_DRAWS)
many = settings(deadline=None, max_examples=150, suppress_health_check=SLOW_DRAWS)


def check_verified(*layers: ConvSpec) -> None:
    """Compiles the layers as one package, has it verified, and remakes it from its manifest."""
    try:
        files = compile_package(PackageSpec("drawn", layers))
    except (SpecError, SamplingError):
        reject()
    with tempfile.TemporaryDirectory() as directory:
        write_package(files, Path(directory) / "drawn")
        verdict = verify_package(Path(directory) / "drawn", run=False, recompile=recompile)
    assert verdict.verified, verdict.complaints
    assert recompile(json.loads(files["manifest.json"])) == files


def check_equivariant(layer: ConvSpec) -> None:
    """The generated module commutes with every turn that its grid allows."""
    with imported(layer) as package:
        module = package.Conv()
        size = max((n - 1) * d for n, d in zip(layer.grid.size, layer.grid.dilation, strict=True)) + 2
        if not module.double().kernel().abs().max() > 0:
            reject()
        report = assert_equivariant(module, size=size, turns=torch.tensor(turns(layer)), wavelengths=())
        assert report.turns >= (8 if layer.out.has_parity else 4)


@few
@given(layer_specs())
@example(parse_layer({"name": "Conv", "in": "0+1", "out": "1", "kernel_size": 1, "radial": {"family": "optimal"}}))
def test_random_layers_are_verified(layer: ConvSpec) -> None:
    check_verified(layer)


@few
@given(layer_specs(max_degree=3, max_size=4))
def test_random_layers_commute_with_the_turns_of_their_grid(layer: ConvSpec) -> None:
    check_equivariant(layer)


@pytest.mark.slow
@many
@given(layer_specs(max_degree=4, max_size=6))
def test_many_random_layers_are_verified(layer: ConvSpec) -> None:
    check_verified(layer)


@pytest.mark.slow
@many
@given(layer_specs(max_degree=4, max_size=6))
def test_many_random_layers_commute_with_the_turns_of_their_grid(layer: ConvSpec) -> None:
    check_equivariant(layer)


@pytest.mark.slow
@many
@given(st.lists(layer_specs(), min_size=2, max_size=4))
def test_many_random_packages_are_verified(layers: list[ConvSpec]) -> None:
    check_verified(*(replace(layer, name=f"Conv{k}") for k, layer in enumerate(layers)))


def test_a_layer_with_a_kernel_axis_reversed_fails() -> None:
    """The negative control of the test above."""
    layer = parse_layer({"name": "Conv", "in": "0 + 1", "out": "1 + 2", "kernel_size": 3})
    with imported(layer) as package:

        class Wrong(package.Conv):  # type: ignore[name-defined, misc]
            def kernel(self) -> torch.Tensor:
                return super().kernel().flip(2)  # type: ignore[no-any-return]

        with pytest.raises(AssertionError, match="not equivariant"):
            assert_equivariant(Wrong(), turns=torch.tensor(turns(layer)), wavelengths=())


@few
@given(grids())
def test_drawn_grids_have_taps_and_lengths(grid: VoxelGrid) -> None:
    assert min(grid.size) >= 1 and min(grid.spacing) > 0


@few
@given(rotations(improper=True))
def test_rotations_are_orthogonal(rotation: np.ndarray) -> None:
    assert np.allclose(rotation @ rotation.T, np.eye(3), atol=1e-14)


def test_strategies_draw_both_groups_every_family_and_shapes_of_all_kinds() -> None:
    """What a strategy never draws, a property test never tests."""
    seen: set[tuple[str, object]] = set()

    @settings(max_examples=200, database=None, deadline=None, derandomize=True)
    @given(field_types(), grids(), radial_families())
    def draw(field_type: FieldType, grid: VoxelGrid, radial: RadialFamily) -> None:
        seen.update((("parity", field_type.has_parity), ("family", radial.name), ("odd size", grid.size[0] % 2 == 1)))
        seen.update((("cubic", len(set(grid.size)) == 1), ("anisotropic", len(set(grid.spacing)) > 1)))
        seen.add(("dilated", max(grid.dilation) > 1))

    draw()
    assert {value for key, value in seen if key == "family"} == set(FAMILIES)
    for key in ("parity", "odd size", "cubic", "anisotropic", "dilated"):
        assert {(key, True), (key, False)} <= seen
