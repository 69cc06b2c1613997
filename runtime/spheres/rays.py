"""Surfaces as signals: rays from all sides to the centre, to meshes and to voxels.

A ray starts at u on the unit sphere and runs through the centre, along -u. Where it first meets the surface, with n
the outward normal there, it gives three values: the distance from u to the hit; cos = n . u; sin = |n x u|. A ray that
meets nothing gives 0, 0, 0. Twice, for the surface and for its convex hull, they are the six channels of Cohen et al.
2018 for SHREC17. Scale and shift shapes into the unit ball before: `into_unit_ball`.
"""

import math
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from .signals import sphere_points

CHUNK = 1 << 22  # pairs of a ray and a triangle at a time


def into_unit_ball(vertices: Tensor, radius: float = 0.99) -> Tensor:
    """Vertices (vertex, 3) shifted to their mean and scaled so that the farthest lies at `radius`."""
    centred = vertices - vertices.mean(0)
    placed: Tensor = centred * (radius / centred.norm(dim=1).max().clamp_min(1e-12))
    return placed


def mesh_rays(vertices: Tensor, faces: Tensor, directions: Tensor) -> Tensor:
    """Distance, cos and sin where rays first meet a triangle mesh.

    vertices (vertex, 3), within the unit ball; faces (face, 3), integers, either orientation; directions: unit vectors
    (*shape, 3). Returns (3, *shape) in the dtype of the vertices. Normals of either orientation count as outward.

    Along the line h u the mesh is met at h = (a . n) / (u . n) of the plane of a triangle, if inside its edges; the ray
    meets the largest h first. Raises ValueError if shapes do not fit.
    """
    if vertices.ndim != 2 or vertices.shape[1] != 3 or faces.ndim != 2 or faces.shape[1] != 3:
        raise ValueError(
            f"a mesh takes vertices (vertex, 3) and faces (face, 3), got {tuple(vertices.shape)} and "
            f"{tuple(faces.shape)}. Triangulate polygons first."
        )
    u = directions.reshape(-1, 3).to(vertices)  # (ray, 3)
    triangles = vertices[faces.long()]  # (face, corner, 3)
    normals = torch.linalg.cross(triangles[:, 1] - triangles[:, 0], triangles[:, 2] - triangles[:, 0])
    keep = normals.norm(dim=1) > 0
    triangles, normals = triangles[keep], F.normalize(normals[keep], dim=1)
    step = max(1, CHUNK // max(1, len(triangles)))
    hits = [_first_hit(part, triangles, normals) for part in torch.split(u, step)]
    return torch.cat(hits, 1).reshape(3, *directions.shape[:-1])  # (3, ray) -> (3, *shape)


def shape_signal(mesh: Any, directions: Tensor, *, dtype: torch.dtype = torch.float32) -> Tensor:
    """The six channels of a `trimesh.Trimesh`: distance, cos, sin of the mesh, then of its convex hull.

    The mesh is moved into the unit ball first, centred at its vertices' mean. directions: unit vectors (*shape, 3).
    Returns (6, *shape). Needs trimesh, and scipy for the hull: `pip install basisgen[meshes]`.
    """
    vertices = torch.as_tensor(mesh.vertices.copy(), dtype=torch.float64)
    hull = mesh.convex_hull
    centre = vertices.mean(0)
    scale = 0.99 / (vertices - centre).norm(dim=1).max().clamp_min(1e-12)
    parts = []
    for surface in (mesh, hull):
        placed = (torch.as_tensor(surface.vertices.copy(), dtype=torch.float64) - centre) * scale
        parts.append(mesh_rays(placed, torch.as_tensor(surface.faces.copy()), directions))
    return torch.cat(parts).to(dtype)


def voxel_rays(volumes: Tensor, directions: Tensor, *, level: float = 0.5, steps: int = 128) -> Tensor:
    """Distance, cos and sin where rays first rise to `level` in a volume, then the same of the convex hull.

    volumes (batch, 1, x, y, z): occupancy or density; the unit sphere is the one about the volume's centre through its
    corners. directions: unit vectors (*shape, 3). A ray is marched in `steps` steps from u to -u, trilinear between
    voxels; the crossing is interpolated. Normals are the negative gradient. The hull is the intersection of half-spaces
    that touch the voxels, as cubes, from 512 directions, which is slightly larger than the hull itself.

    Returns (batch, 6, *shape). Raises ValueError unless the volumes have one channel.
    """
    if volumes.ndim != 5 or volumes.shape[1] != 1:
        raise ValueError(f"voxel_rays takes volumes (batch, 1, x, y, z), got {tuple(volumes.shape)}.")
    u = directions.reshape(-1, 3).to(volumes)  # (ray, 3)
    heights = torch.linspace(1, -1, steps + 1, dtype=volumes.dtype, device=volumes.device)
    # (batch, step, ray)
    values = _at(volumes, (heights[:, None, None] * u).reshape(1, -1, 3)).reshape(len(volumes), steps + 1, len(u))
    rises = (values[:, 1:] >= level) & (values[:, :-1] < level)  # (batch, step, ray)
    first = rises.to(torch.uint8).argmax(1, keepdim=True)
    before, after = values.gather(1, first), values.gather(1, first + 1)
    share = ((level - before) / (after - before).clamp_min(1e-12)).clamp(0, 1)
    height = (heights[first] - share * 2 / steps).squeeze(1)  # (batch, ray)
    normals = F.normalize(-_gradient(volumes, height.unsqueeze(-1) * u), dim=-1)
    surface = _three(height, normals, u, rises.any(1))
    hulls = [_hull(volume[0] >= level, u) for volume in volumes]
    hull = torch.stack(hulls) if hulls else torch.zeros_like(surface)
    # (batch, 6, ray) -> (batch, 6, *shape)
    return torch.cat([surface, hull], 1).reshape(len(volumes), 6, *directions.shape[:-1])


def _first_hit(u: Tensor, triangles: Tensor, normals: Tensor) -> Tensor:
    """(3, ray): distance, cos and sin at the hit of largest height."""
    corners = triangles.unbind(1)
    slope = u @ normals.mT  # (ray, face)
    height = (corners[0] * normals).sum(1) / torch.where(slope.abs() < 1e-12, math.inf, slope)
    inside = torch.ones_like(slope, dtype=torch.bool)
    for a, b in ((0, 1), (1, 2), (2, 0)):
        # the point h u lies left of edge a -> b: n . ((b - a) x (h u - a)) >= 0
        along = torch.linalg.cross(normals, corners[b] - corners[a])
        inside &= height * (u @ along.mT) >= (along * corners[a]).sum(1) - 1e-9  # (ray, 3) @ (3, face)
    height = torch.where(inside & (slope.abs() >= 1e-12), height, -math.inf)
    if height.shape[1] == 0:
        return u.new_zeros(3, len(u))
    best, face = height.max(1)
    normal = normals[face]
    outward = normal * torch.where((normal * u).sum(1, keepdim=True) < 0, -1, 1)
    return _three(best, outward, u, best >= -1)


def _three(height: Tensor, normals: Tensor, u: Tensor, hit: Tensor) -> Tensor:
    """(..., 3, ray) from heights (..., ray), normals (..., ray, 3) and hits (..., ray)."""
    cosine = (normals * u).sum(-1)
    sine = (1 - cosine.square()).clamp_min(0).sqrt()
    values = torch.stack([1 - height, cosine, sine], -2)
    return torch.where(hit.unsqueeze(-2), values, 0)


def _at(volumes: Tensor, places: Tensor) -> Tensor:
    """Values of volumes (batch, 1, x, y, z) at places (batch or 1, point, 3), zero outside: (batch, point).

    The unit of length is half the diagonal of the volume.
    """
    sizes = torch.tensor(volumes.shape[2:], dtype=volumes.dtype, device=volumes.device)
    grid = (places * sizes.norm() / sizes).flip(-1)  # grid_sample reads (z, y, x), from -1 to 1 over each size
    grid = grid[:, None, None].expand(len(volumes), -1, -1, -1, -1)  # (batch, 1, 1, point, 3)
    values = F.grid_sample(volumes, grid, mode="bilinear", padding_mode="zeros", align_corners=False)
    return values.flatten(1)  # (batch, 1, 1, 1, point) -> (batch, point)


def _gradient(volumes: Tensor, places: Tensor) -> Tensor:
    """Gradient of the volumes, blurred over 3^3 voxels, at places (batch, ray, 3): (batch, ray, 3)."""
    blurred = F.avg_pool3d(volumes, 3, 1, 1)
    step = 2 / torch.tensor(volumes.shape[2:], dtype=torch.float64).norm().item()  # a voxel
    shifts = step * torch.eye(3, dtype=places.dtype, device=places.device)
    return torch.stack([_at(blurred, places + shift) - _at(blurred, places - shift) for shift in shifts], -1)


def _hull(occupied: Tensor, u: Tensor) -> Tensor:
    """(3, ray) for the hull of the occupied voxels (x, y, z), cubes, by half-spaces n . x <= max of n . corner."""
    if not bool(occupied.any()):
        return u.new_zeros(3, len(u))
    sizes = torch.tensor(occupied.shape, dtype=u.dtype, device=u.device)
    n = sphere_points(512).to(u)
    centres = occupied.nonzero().to(u) + 0.5 - sizes / 2  # (voxel, 3), in voxels
    support = ((centres @ n.mT).amax(0) + n.abs().sum(1) / 2) * 2 / sizes.norm()  # (voxel, 3) @ (3, n) -> (n)
    slope = u @ n.mT  # (ray, n)
    bound = support / slope
    top, facet = torch.where(slope > 1e-9, bound, math.inf).min(1)
    bottom = torch.where(slope < -1e-9, bound, -math.inf).amax(1)
    return _three(top, n[facet], u, top >= bottom)
