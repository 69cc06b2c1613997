"""certificate.json: what was proved of a package, and of what exact objects, in a format anyone can re-check.

Its sections come from the kinds of layers in it; docs/certificate.md says them in full.
"""

from __future__ import annotations

import json
from typing import Any

from basisgen.emission.package import PackagePlan

FORMAT = 1


def certificate(plan: PackagePlan) -> dict[str, Any]:
    """The certificate as plain JSON values."""
    return {"format": FORMAT, **{name: claim for part in plan.contributions for name, claim in part.claims.items()}}


def to_json(value: Any) -> str:
    """JSON with one line per innermost list or scalar: readable, and small differences stay small."""
    return _render(value, "") + "\n"


def _render(value: Any, indent: str) -> str:
    inner = indent + " "
    if isinstance(value, dict) and value:
        lines = (f"{inner}{json.dumps(key)}: {_render(entry, inner)}" for key, entry in value.items())
        return "{\n" + ",\n".join(lines) + f"\n{indent}}}"
    if isinstance(value, list) and any(isinstance(entry, list | dict) for entry in value):
        return "[\n" + ",\n".join(inner + _render(entry, inner) for entry in value) + f"\n{indent}]"
    return json.dumps(value)
