"""Signals on the sphere and the rotation group: data, activations, pooling, whole networks. Needs only torch."""

from .activation import RotationActivation, SphereActivation
from .blocks import InvariantHead, SphericalBlock
from .cobb import Cobb, CobbConfig, Hybrid
from .cohen import Cohen, CohenConfig
from .esteves import Esteves, EstevesConfig
from .healpix import from_healpix, healpix_directions, healpix_error, to_healpix
from .kondor import Kondor, KondorConfig
from .molecules import atom_potentials, neighbour_densities
from .normalization import FragmentNorm
from .pooling import Invariants, SpectralPool, SphereMean, WeightedAveragePool
from .rays import into_unit_ball, mesh_rays, shape_signal, voxel_rays
from .rings import (
    area_means,
    cell_areas,
    directions,
    interpolate,
    panorama_rings,
    randomly_rotated,
    rotate_samples,
)
from .signals import (
    RandomSignalRotation,
    as_channels,
    as_packed,
    band_limit,
    evaluate,
    fit,
    harmonics,
    point_density,
    power_spectrum,
    rotate_signal,
    rotation_type,
    signal_type,
    smooth,
    sphere_points,
)

__all__ = [
    "Cobb",
    "CobbConfig",
    "Cohen",
    "CohenConfig",
    "Esteves",
    "EstevesConfig",
    "FragmentNorm",
    "Hybrid",
    "InvariantHead",
    "Invariants",
    "Kondor",
    "KondorConfig",
    "RandomSignalRotation",
    "RotationActivation",
    "SpectralPool",
    "SphereActivation",
    "SphereMean",
    "SphericalBlock",
    "WeightedAveragePool",
    "area_means",
    "as_channels",
    "as_packed",
    "atom_potentials",
    "band_limit",
    "cell_areas",
    "directions",
    "evaluate",
    "fit",
    "from_healpix",
    "harmonics",
    "healpix_directions",
    "healpix_error",
    "interpolate",
    "into_unit_ball",
    "mesh_rays",
    "neighbour_densities",
    "panorama_rings",
    "point_density",
    "power_spectrum",
    "randomly_rotated",
    "rotate_samples",
    "rotate_signal",
    "rotation_type",
    "shape_signal",
    "signal_type",
    "smooth",
    "sphere_points",
    "to_healpix",
    "voxel_rays",
]
