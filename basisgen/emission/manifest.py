"""manifest.json: what a package is made from and of: spec, version, costs, and the digest of every other file."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import basisgen
from basisgen.emission.package import PackagePlan
from basisgen.errors import BasisgenError
from basisgen.files import read_bounded
from basisgen.spec import PackageSpec

MANIFEST = "manifest.json"
MANIFEST_FORMAT = 2
MAX_MANIFEST_BYTES = 1 << 26


class ManifestError(BasisgenError):
    """A manifest is not the JSON object that this compiler writes."""

    exit_code = 2


def read_manifest(directory: Path) -> dict[str, Any]:
    """The manifest of a package on disk: a table, of which nothing else is known.

    Raises OutputError where it cannot be read, ManifestError where it is not a manifest.
    """
    return parse_manifest(read_bounded(directory / MANIFEST, MAX_MANIFEST_BYTES, "a manifest"))


def parse_manifest(body: bytes) -> dict[str, Any]:
    """The table that a manifest holds; raises ManifestError."""
    try:
        manifest = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise ManifestError(f"it is no JSON: {error}") from None
    if not isinstance(manifest, dict):
        raise ManifestError("it is no JSON object")
    return manifest


def made_from(spec: PackageSpec) -> dict[str, Any]:
    """What determines a package, as the head of its manifest says it: equal facts, equal bytes."""
    return {
        "format": MANIFEST_FORMAT,
        "basisgen": basisgen.__version__,
        "name": spec.name,
        "command": spec.command,
        **({} if spec.network is None else {"network": spec.network.describe()}),
        "spec": [layer.describe() for layer in spec.layers],
    }


def manifest(plan: PackagePlan, content: Mapping[str, bytes]) -> dict[str, Any]:
    """The manifest as plain JSON values; `content` holds every other file."""
    return {
        **made_from(plan.spec),
        **({"tuned": plan.spec.tuned.describe()} if plan.spec.tuned else {}),
        **{name: facts for part in plan.contributions for name, facts in part.facts.items()},
        "layers": {layer.spec.name: layer.facts() for layer in plan.layers},
        "sha256": {name: hashlib.sha256(content[name]).hexdigest() for name in sorted(content)},
    }
