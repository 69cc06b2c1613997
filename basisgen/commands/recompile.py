"""What the compiler writes for the spec in a manifest, for `basisgen verify` to compare a package's sources with.

Apart from `basisgen.verify`, which imports nothing of the compiler: the comparison is evidence about the code only.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import basisgen
from basisgen.errors import SpecError
from basisgen.pipeline import compile_package
from basisgen.spec import PackageSpec, parse_layer
from basisgen.volumes.execution import Tuning


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
        layers = tuple(parse_layer(description) for description in manifest["spec"])
        tuned = Tuning.parse(manifest["tuned"]) if "tuned" in manifest else None
        specs = [PackageSpec(manifest["name"], layers, alone, tuned) for alone in (False, True)[: len(layers)]]
        return next((spec for spec in specs if spec.command == manifest["command"]), specs[0])
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise SpecError(f"{type(error).__name__}: {error}") from None
