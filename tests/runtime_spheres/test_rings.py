"""Samples on rings and HEALPix maps: interpolation, areas, rotations, quadrature."""

import math
import sys

import pytest
import torch

from runtime.so3 import random_rotations
from runtime.spheres.healpix import from_healpix, healpix_directions, healpix_error, to_healpix
from runtime.spheres.rings import (
    area_means,
    cell_areas,
    directions,
    interpolate,
    panorama_rings,
    randomly_rotated,
    rotate_samples,
)
from runtime.spheres.signals import as_channels, as_packed, evaluate, rotate_signal, signal_type

F64 = torch.float64


def smooth_values(points):
    x, y, z = points.unbind(-1)
    return 1 + 0.5 * x + y * z - 0.3 * x * y


def test_directions_are_those_of_the_harmonics():
    grid = directions(torch.tensor([0.3, 1.2], dtype=F64), 4)
    assert grid.shape == (2, 4, 3)
    torch.testing.assert_close(grid.norm(dim=-1), torch.ones(2, 4, dtype=F64))
    torch.testing.assert_close(grid[0, 0], torch.tensor([0, math.cos(0.3), math.sin(0.3)], dtype=F64))
    torch.testing.assert_close(grid[0, 1], torch.tensor([math.sin(0.3), math.cos(0.3), 0], dtype=F64))


@pytest.mark.parametrize("poles", [False, True])
@pytest.mark.parametrize("samples", [64, 63])
def test_interpolation_of_a_panorama_is_of_second_order_everywhere(poles, samples):
    """Poles and the seam included; twice as fine, four times less error."""
    points = torch.cat(
        [
            torch.nn.functional.normalize(torch.randn(200, 3, dtype=F64), dim=-1),
            torch.tensor([[0, 1, 0], [0, -1, 0], [0.01, 0.99995, -0.001], [-1e-9, 0, -1]], dtype=F64),
        ]
    )
    errors = []
    for factor in (1, 2):
        rings = panorama_rings(32 * factor + poles, poles=poles)
        values = smooth_values(directions(rings, samples * factor, 0.3))
        error = interpolate(values, rings, points, 0.3) - smooth_values(points)
        errors.append(error.abs().max().item())
    assert errors[0] < 5e-3 and errors[1] < 0.35 * errors[0]


def test_interpolation_meets_the_samples():
    rings = panorama_rings(9)
    values = torch.randn(2, 3, 9, 16, dtype=F64)
    torch.testing.assert_close(interpolate(values, rings, directions(rings, 16)), values, atol=1e-9, rtol=0)


@pytest.mark.parametrize("first", [0.0, 0.7, -0.2])
def test_area_means_keep_the_integral_and_constants(first):
    fine, coarse = panorama_rings(30), panorama_rings(7)
    image = torch.rand(3, 30, 41, dtype=F64)
    means = area_means(image, fine, coarse, 9, first)
    assert means.shape == (3, 7, 9)
    before, after = ((x.sum(-1) * cell_areas(t, x.shape[-1])).sum(-1) for x, t in ((image, fine), (means, coarse)))
    torch.testing.assert_close(before, after)
    torch.testing.assert_close(area_means(torch.ones_like(image), fine, coarse, 9, first), torch.ones_like(means))
    assert float(cell_areas(coarse, 9).sum() * 9) == pytest.approx(4 * math.pi)


def test_area_means_find_the_place():
    """One bright pixel at longitude pi / 2 lands in the cell there."""
    fine, coarse = panorama_rings(32), panorama_rings(4)
    image = torch.zeros(32, 64, dtype=F64)
    image[5, 16] = 1.0
    means = area_means(image, fine, coarse, 8)
    assert means[0, 2] > 0 and means.count_nonzero() == 1


def test_rotated_samples_are_those_of_the_rotated_signal():
    f, r = torch.randn(2, 1, 16, dtype=F64), random_rotations(2)
    rings = panorama_rings(64)
    grid = directions(rings, 128)
    samples = evaluate(f, grid.reshape(-1, 3)).reshape(2, 1, 64, 128)
    turned = as_packed(rotate_signal(as_channels(f), r, signal_type(1, 4)), signal_type(1, 4))
    expected = evaluate(turned, grid.reshape(-1, 3)).reshape(2, 1, 64, 128)
    assert (rotate_samples(samples, rings, r) - expected).abs().max() < 5e-3 * expected.abs().max()
    one = rotate_samples(samples, rings, r[0])
    torch.testing.assert_close(one[0], rotate_samples(samples, rings, r)[0])
    assert randomly_rotated(samples, rings).shape == samples.shape


def test_healpix_centres_have_equal_weight_and_known_places():
    for nside in (1, 2, 3, 8):
        points = healpix_directions(nside)
        assert points.shape == (12 * nside**2, 3)
        torch.testing.assert_close(points.norm(dim=1), torch.ones(12 * nside**2, dtype=F64))
        assert points.mean(0).abs().max() < 1e-14
    # nside 1: four at height 2/3 from longitude 45 degrees, four on the equator from 0
    assert points[0][1] > 0
    first = healpix_directions(1)
    torch.testing.assert_close(first[[0, 4], 1], torch.tensor([2 / 3, 0], dtype=F64))
    torch.testing.assert_close(first[4], torch.tensor([0.0, 0, 1], dtype=F64))


@pytest.mark.parametrize("corrections", [0, 3])
def test_healpix_error_is_what_it_states(corrections):
    """No signal does worse, and the worst comes near: the bound is attained by an eigenvector."""
    limit, nside = 8, 4
    stated = healpix_error(nside, limit, corrections=corrections)
    f = torch.randn(50, limit**2, dtype=F64)
    for _ in range(40):  # power iteration towards the worst signal
        error = from_healpix(to_healpix(f, nside), limit, corrections=corrections) - f
        found = error.norm(dim=-1) / f.norm(dim=-1)
        assert found.max() <= stated * (1 + 1e-9)
        f = error / error.norm(dim=-1, keepdim=True)
    assert found.max() > 0.9 * stated


def test_healpix_corrections_help():
    errors = [healpix_error(8, 16, corrections=k) for k in (0, 1, 3)]
    assert errors[0] > errors[1] > errors[2] and errors[2] < 1e-3


def test_pixel_counts_of_no_healpix_map_are_refused():
    with pytest.raises(ValueError, match="13 pixels are not a HEALPix map"):
        from_healpix(torch.zeros(13), 2)
    with pytest.raises(ValueError, match="nside >= 1, got 0"):
        healpix_directions(0)


def test_healpix_order_is_healpys():
    healpy = pytest.importorskip("healpy")
    for nside in (1, 2, 4, 8):
        theirs = torch.tensor(healpy.pix2vec(nside, range(12 * nside**2))).T  # standard x, y, z
        torch.testing.assert_close(healpix_directions(nside), theirs[:, [1, 2, 0]], atol=1e-14, rtol=0)
    assert "healpy" in sys.modules
