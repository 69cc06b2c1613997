"""Rays to meshes and voxels: known shapes, rotations, hostile input."""

import math

import pytest
import torch

from runtime.so3 import random_rotations
from runtime.spheres.rays import into_unit_ball, mesh_rays, shape_signal, voxel_rays
from runtime.spheres.signals import sphere_points

F64 = torch.float64
CUBE = 0.5 * torch.tensor([[x, y, z] for x in (-1, 1) for y in (-1, 1) for z in (-1, 1)], dtype=F64)
QUADS = [(0, 1, 3, 2), (4, 6, 7, 5), (0, 4, 5, 1), (2, 3, 7, 6), (0, 2, 6, 4), (1, 5, 7, 3)]
FACES = torch.tensor([(a, b, c) for q in QUADS for a, b, c in ((q[0], q[1], q[2]), (q[0], q[2], q[3]))])


def cube(points):
    """Distance, cos, sin of the cube of side 1, from the face that the ray meets."""
    largest = points.abs().amax(-1)
    return torch.stack([1 - 0.5 / largest, largest, (1 - largest**2).sqrt()])


@pytest.mark.parametrize("flipped", [False, True])
def test_rays_to_a_cube(flipped):
    u = sphere_points(200)
    faces = FACES.flip(1) if flipped else FACES
    torch.testing.assert_close(mesh_rays(CUBE, faces, u), cube(u), atol=1e-12, rtol=0)
    grid = u.reshape(10, 20, 3)
    assert mesh_rays(CUBE, FACES, grid).shape == (3, 10, 20)


def test_turning_the_mesh_turns_the_signal():
    u, r = sphere_points(100), random_rotations(1)[0]
    torch.testing.assert_close(mesh_rays(CUBE @ r.mT, FACES, u @ r.mT), mesh_rays(CUBE, FACES, u), atol=1e-10, rtol=0)


def test_rays_that_meet_nothing_and_hits_beyond_the_centre():
    """One triangle beyond the centre: rays from the other side go on and meet it there."""
    triangle = torch.tensor([[-1.0, -0.5, -1], [3, -0.5, -1], [-1, -0.5, 3]], dtype=F64) * 0.3
    u = torch.tensor([[0.0, 1, 0], [0, -1, 0], [1, 0, 0]], dtype=F64)
    values = mesh_rays(triangle, torch.tensor([[0, 1, 2]]), u)
    torch.testing.assert_close(values[0], torch.tensor([1.15, 0.85, 0], dtype=F64))
    assert not values[:, 2].any()
    empty = mesh_rays(CUBE, torch.zeros(0, 3, dtype=torch.long), u)
    assert empty.shape == (3, 3) and not empty.any()
    flat = mesh_rays(CUBE, torch.zeros(1, 3, dtype=torch.long), u)  # a triangle without area
    assert not flat.any()


def test_wrong_shapes():
    with pytest.raises(ValueError, match=r"got \(8, 3\) and \(6, 4\). Triangulate"):
        mesh_rays(CUBE, torch.zeros(6, 4, dtype=torch.long), sphere_points(3))
    with pytest.raises(ValueError, match=r"volumes \(batch, 1, x, y, z\), got \(2, 3, 4, 4, 4\)"):
        voxel_rays(torch.zeros(2, 3, 4, 4, 4), sphere_points(3))


def test_into_unit_ball_centres_and_scales():
    placed = into_unit_ball(7 * CUBE + 3)
    assert placed.mean(0).abs().max() < 1e-12 and float(placed.norm(dim=1).max()) == pytest.approx(0.99)


def test_rays_to_voxels_of_a_ball():
    size = 41
    axis = torch.arange(size) - (size - 1) / 2
    distance = torch.stack(torch.meshgrid(axis, axis, axis, indexing="ij")).norm(dim=0)
    volume = ((12.5 - distance).clamp(0, 1))[None, None].double()  # level 1/2 at radius 12
    radius = 12 * 2 / (size * math.sqrt(3))
    values = voxel_rays(torch.cat([volume, 0 * volume]), sphere_points(50).reshape(5, 10, 3))
    assert values.shape == (2, 6, 5, 10) and not values[1].any()
    assert (values[0, 0] - (1 - radius)).abs().max() < 0.01
    assert values[0, 1].min() > 0.99 and values[0, 2].max() < 0.12
    assert (values[0, 3] - values[0, 0]).abs().max() < 0.04  # it is its own hull


def test_the_hull_of_a_notched_block_fills_the_notch():
    volume = torch.zeros(1, 1, 21, 21, 21, dtype=F64)
    volume[..., 5:16, 5:16, 5:16] = 1
    solid = voxel_rays(volume, sphere_points(300))
    volume[..., 9:12, 10:16, 9:12] = 0
    notched = voxel_rays(volume, sphere_points(300))
    up = sphere_points(300)[:, 1].argmax()
    assert notched[0, 0, up] > solid[0, 0, up] + 0.2
    torch.testing.assert_close(notched[0, 3:], solid[0, 3:])
    side = 11 / (21 * math.sqrt(3))
    assert (solid[0, 3] - (1 - side / sphere_points(300).abs().amax(1))).abs().max() < 0.05


def test_trimesh_gives_six_channels():
    trimesh = pytest.importorskip("trimesh")
    mesh = trimesh.Trimesh(CUBE.numpy(), FACES.numpy(), process=False)
    u = sphere_points(64)
    values = shape_signal(mesh, u, dtype=F64)
    assert values.shape == (6, 64)
    torch.testing.assert_close(values[:3], values[3:], atol=1e-9, rtol=0)  # convex: its own hull
    largest = u.abs().amax(1)
    torch.testing.assert_close(values[0], 1 - 0.99 / math.sqrt(3) / largest, atol=1e-9, rtol=0)
