"""manifest.json: what a package is made from and of: spec, version, costs, and the digest of every other file."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

import basisgen
from basisgen.emission.package import PackagePlan
from basisgen.spec import PackageSpec

MANIFEST = "manifest.json"
MANIFEST_FORMAT = 2


def made_from(spec: PackageSpec) -> dict[str, Any]:
    """What determines a package, as the head of its manifest says it: equal facts, equal bytes."""
    return {
        "format": MANIFEST_FORMAT,
        "basisgen": basisgen.__version__,
        "name": spec.name,
        "command": spec.command,
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
