"""What the compiler writes for the spec in a manifest, for `basisgen verify` to compare a package's sources with.

Apart from `basisgen.verify`, which imports nothing of the compiler: the comparison is evidence about the code only.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from fractions import Fraction
from typing import Any

import basisgen
from basisgen.errors import SpecError
from basisgen.pipeline import compile_package
from basisgen.spec import LayerSpec, PackageSpec, Tuning, parse_layer


def recompile(manifest: Mapping[str, Any]) -> dict[str, bytes] | None:
    """Every file this compiler writes for the spec in a manifest; None if another version wrote the manifest.

    Raises SpecError where the manifest's spec is not one.
    """
    spec = spec_of(manifest)
    try:
        return None if spec is None else compile_package(spec)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise SpecError(f"{type(error).__name__}: {error}") from None


def spec_of(manifest: Mapping[str, Any]) -> PackageSpec | None:
    """The spec in a manifest; None if another version wrote it. Raises SpecError where it is not one."""
    if manifest.get("basisgen") != basisgen.__version__:
        return None
    try:
        layers = tuple(_layer(description) for description in manifest["spec"])
        tuned = Tuning.parse(manifest["tuned"]) if "tuned" in manifest else None
        return PackageSpec(manifest["name"], layers, manifest["command"], tuned)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise SpecError(f"{type(error).__name__}: {error}") from None


def _layer(description: Mapping[str, Any]) -> LayerSpec:
    """The inverse of LayerSpec.describe, by the same parser that reads specs."""
    radial = {key: value for key, value in description["radial"].items() if value is not None}
    spacing = [Fraction(length) for length in description["voxel_spacing"]]
    layer = parse_layer({**description, "radial": radial, "voxel_spacing": spacing, "gated": False})
    return replace(layer, gated=bool(description["gated"]))
