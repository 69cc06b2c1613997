"""Fields and weights to e3nn and from it, against e3nn itself."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from runtime import Linear
from runtime.fields import as_field_type, channel_count, describe
from runtime.interop import (
    features_from_e3nn,
    features_to_e3nn,
    fit_kernel,
    from_e3nn,
    kernel_from_e3nn,
    linear_from_e3nn,
    linear_to_e3nn,
    to_e3nn,
)
from runtime.so3 import clebsch_gordan, random_rotations
from runtime.strategies import field_types
from runtime.volumes.rotate import mix_components

pytestmark = pytest.mark.filterwarnings("ignore")  # e3nn's own
o3 = pytest.importorskip("e3nn.o3")

PACKAGE = """
name = "interop{n}"
[[conv]]
name = "Conv"
in = "{into}"
out = "{out}"
kernel_size = {size}
radial = {radial}
"""
SHELLS = '{ family = "shells" }'


@given(field_types())
def test_irreps_strings_are_e3nns(field_type) -> None:
    irreps = o3.Irreps(to_e3nn(field_type))
    assert irreps.dim == channel_count(field_type)
    assert from_e3nn(irreps, parity=field_type[0].parity is not None) == field_type
    assert from_e3nn(to_e3nn(field_type), parity=field_type[0].parity is not None) == field_type


def test_fields_without_parity_become_even_and_come_back() -> None:
    assert to_e3nn("4x0 + 2x1") == "4x0e + 2x1e"
    assert describe(from_e3nn("4x0e+2x1e", parity=False)) == "4x0 + 2x1"
    assert describe(from_e3nn("0x0e + 3x1o + 2e")) == "3x1o + 1x2e"


@pytest.mark.parametrize("text", ["", "0x0e", "4y1o", "1o + 2"])
def test_values_that_are_not_field_types_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match="field type"):
        from_e3nn(text)


@settings(max_examples=20, deadline=None)
@given(field_types(max_degree=2), st.integers(0, 2**32 - 1))
def test_features_rotate_as_e3nns(field_type, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    rotation = random_rotations(1, generator=generator)[0]
    fields = torch.randn(2, channel_count(field_type), 3, 2, 2, dtype=torch.float64, generator=generator)
    matrix = o3.Irreps(to_e3nn(field_type)).D_from_matrix(rotation)
    theirs = features_from_e3nn(features_to_e3nn(fields) @ matrix.mT)
    assert torch.allclose(
        theirs, mix_components(fields, rotation, field_type), atol=1e-4
    )  # e3nn goes by angles, in float32 tables


@settings(max_examples=30, deadline=None)
@given(field_types(max_degree=2), st.booleans(), st.integers(0, 2**32 - 1))
def test_linear_maps_are_the_same_both_ways(field_type, bias: bool, seed: int) -> None:
    torch.manual_seed(seed)
    ours = Linear(field_type, tuple(reversed(field_type)), bias=bias).double()
    if ours.bias is not None:
        torch.nn.init.normal_(ours.bias)
    fields = torch.randn(3, channel_count(field_type), dtype=torch.float64)
    theirs = linear_to_e3nn(ours)
    assert torch.allclose(theirs(fields), ours(fields), atol=1e-12)
    back = linear_from_e3nn(theirs, parity=field_type[0].parity is not None)
    assert back.in_type == ours.in_type and back.out_type == ours.out_type
    assert torch.allclose(back(fields), ours(fields), atol=1e-12)


def test_linear_with_paths_and_biases_left_out() -> None:
    theirs = o3.Linear("2x0e+3x1o+1x0e", "2x0e+4x0e+2x1o", instructions=[(0, 0), (2, 1), (1, 2)], biases=[True, 0, 0])
    torch.nn.init.normal_(theirs.bias)
    fields = torch.randn(5, 12)
    assert torch.allclose(linear_from_e3nn(theirs)(fields), theirs(fields), atol=1e-6)


@pytest.mark.parametrize("degrees", [(1, 1, 1), (1, 2, 2), (2, 2, 3), (1, 1, 2)])
def test_clebsch_gordan_is_wigner_3j(degrees: tuple[int, int, int]) -> None:
    theirs = o3.wigner_3j(*degrees).double() * (2 * degrees[2] + 1) ** 0.5
    ours = clebsch_gordan(*degrees)
    assert (ours - theirs).abs().max() < 1e-6


def _voxel_convolution(into: str, out: str, diameter: int):
    voxels = pytest.importorskip("e3nn.nn.models.v2104.voxel_convolution")
    torch.manual_seed(0)
    return voxels.Convolution(into, out, o3.Irreps.spherical_harmonics(2), diameter, num_radial_basis=3)


def test_the_kernel_of_a_voxel_convolution_is_the_same_map() -> None:
    theirs = _voxel_convolution("1x0e + 1x1o", "2x0e + 1x1o", 5)
    conv = torch.nn.Conv3d(4, 5, 5, padding=2, bias=False)
    conv.weight = torch.nn.Parameter(kernel_from_e3nn(theirs))
    volumes = torch.randn(1, 4, 7, 8, 9)
    assert torch.allclose(conv(volumes), theirs(volumes), atol=1e-5)


@pytest.mark.parametrize(
    ("into", "out"), [("2x0 + 1x1", "1x0 + 2x1 + 1x2 + 2x0"), ("1x0e + 2x1o", "1x1e + 2x2e + 1x0e")]
)
def test_a_kernel_of_the_same_profiles_is_found_exactly(compile_and_import, into: str, out: str) -> None:
    package = compile_and_import(PACKAGE.format(n=1, into=into, out=out, size=3, radial=SHELLS))
    source, target = package.Conv(), package.Conv()
    assert fit_kernel(target, source.kernel()) < 1e-6
    assert torch.allclose(target.weight, source.weight, atol=1e-5)


def test_narrow_shells_at_the_distances_of_the_grid_take_a_voxel_convolution_exactly(compile_and_import) -> None:
    """e3nn's cutoff at 1.5 voxels leaves the distances 0, 1 and sqrt(2): three free values per J, three shells."""
    theirs = _voxel_convolution("1x0e + 1x1o", "2x0e + 1x1o", 3)
    radial = '{ family = "shells", sigma = 0.05, radii = [0, 1, 1.41421356], cutoff = [0, 2, 2] }'
    package = compile_and_import(PACKAGE.format(n=6, into="1x0e + 1x1o", out="2x0e + 1x1o", size=3, radial=radial))
    conv = package.Conv(bias=False)
    assert fit_kernel(conv, kernel_from_e3nn(theirs)) < 1e-6
    volumes = torch.randn(1, 4, 6, 7, 8)
    assert torch.allclose(conv(volumes), theirs(volumes), atol=1e-5)


def test_a_single_tap_is_a_linear_map_exactly(compile_and_import) -> None:
    """A voxel convolution of e3nn that sees one voxel, o3.Linear, and a generated one: one map."""
    package = compile_and_import(PACKAGE.format(n=2, into="2x0e + 3x1o", out="3x0e + 2x1o", size=1, radial=SHELLS))
    linear, conv = o3.Linear("2x0e + 3x1o", "3x0e + 2x1o"), package.Conv(bias=False)
    kernel = linear(torch.eye(11)).detach().mT[:, :, None, None, None]
    assert fit_kernel(conv, kernel) < 1e-6
    volumes = torch.randn(1, 11, 2, 3, 4)
    assert torch.allclose(conv(volumes), features_from_e3nn(linear(features_to_e3nn(volumes))), atol=1e-5)


def test_other_profiles_are_approximated_and_it_says_how_well(compile_and_import) -> None:
    theirs = kernel_from_e3nn(_voxel_convolution("1x0e + 1x1o", "2x0e + 1x1o", 5))
    package = compile_and_import(
        PACKAGE.format(
            n=3, into="1x0e + 1x1o", out="2x0e + 1x1o", size=5, radial='{ family = "shells", cutoff = [2, 2, 2] }'
        )
    )
    conv = package.Conv()
    distance = fit_kernel(conv, theirs)
    assert 0.01 < distance < 0.9
    assert ((conv.kernel() - theirs).norm() / theirs.norm()).item() == pytest.approx(distance, rel=1e-4)
    closest = conv.weight.detach().clone()
    for direction in torch.randn(5, len(closest)):  # no other weights are closer
        with torch.no_grad():
            conv.weight.copy_(closest + 0.01 * direction)
        assert (conv.kernel() - theirs).norm() / theirs.norm() > distance


def test_a_kernel_that_is_not_equivariant_is_far_away(compile_and_import) -> None:
    package = compile_and_import(PACKAGE.format(n=4, into="1x0 + 1x1", out="1x1", size=3, radial=SHELLS))
    conv = package.Conv()
    assert fit_kernel(conv, torch.randn_like(conv.kernel())) > 0.5


def test_another_shape_is_refused(compile_and_import) -> None:
    package = compile_and_import(PACKAGE.format(n=5, into="1x0", out="1x1", size=3, radial=SHELLS))
    with pytest.raises(ValueError, match=r"\(3, 1, 3, 3, 3\).*\(3, 1, 5, 5, 5\)"):
        fit_kernel(package.Conv(), torch.zeros(3, 1, 5, 5, 5))


def test_the_types_of_modules_carry_over() -> None:
    assert as_field_type("4x0e + 2x1o") == from_e3nn(o3.Linear("4x0e+2x1o", "1x0e").irreps_in)


@pytest.mark.parametrize(
    "options", [{"f_in": 4, "f_out": 2}, {"f_in": 1, "f_out": 1}, {"internal_weights": False, "shared_weights": False}]
)
def test_a_linear_layer_of_e3nn_without_one_set_of_weights_is_refused(options: dict[str, object]) -> None:
    theirs = o3.Linear("2x0e + 1x1o", "3x0e + 1x1o", **options)
    with pytest.raises(ValueError, match="without f_in and f_out"):
        linear_from_e3nn(theirs)
