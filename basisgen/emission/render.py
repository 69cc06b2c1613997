"""From a package plan to the bytes of its files. Pure: same plan, same bytes; templates hold no logic."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from safetensors.numpy import save

import basisgen
from basisgen.emission.certificate import certificate, to_json
from basisgen.emission.manifest import MANIFEST, manifest
from basisgen.emission.package import PackagePlan
from basisgen.layer import LayerPlan
from basisgen.spec import KINDS
from basisgen.text import counted, source_text, template
from basisgen.volumes.network import NetworkSpec, expand

NETWORK = "network"  # the module of a package that is a whole network


def render(plan: PackagePlan) -> dict[str, bytes]:
    """Every file of the package, by name; manifest.json holds the digests of the others."""
    made_by = f"# Made by basisgen {basisgen.__version__} with `{plan.spec.command}`; do not edit."
    tensors = save({name: tensor + 0 for name, tensor in plan.tensors.items()})  # no -0.0
    basis = hashlib.sha256(tensors).hexdigest()
    text = {"__init__.py": _init(plan, made_by), "certificate.json": to_json(certificate(plan))}
    text |= {name: _headed(name, body, made_by) for name, body in _shared(plan).items()}
    if plan.spec.network is not None:
        text[f"{NETWORK}.py"] = _network(plan.spec.network, plan.spec.name, made_by)
    text |= {f"{module_name(layer)}.py": KINDS[layer.spec.kind].source(layer, made_by, basis) for layer in plan.layers}
    content = {name: body.encode() for name, body in text.items()} | {"basis.safetensors": tensors}
    return content | {MANIFEST: to_json(manifest(plan, content)).encode()}


def module_name(layer: LayerPlan) -> str:
    """The module of a layer: its class name in lower case."""
    return layer.spec.name.lower()


def _shared(plan: PackagePlan) -> dict[str, str]:
    """The modules below the layers: those of every package, and those of its kinds of layers."""
    own = {f"_{name}.py": source_text("basisgen.emission", "sources", f"{name}.py") for name in ("constants", "layer")}
    return own | {name: body for part in plan.contributions for name, body in part.sources.items()}


def _headed(name: str, body: str, made_by: str) -> str:
    """A source file below the line that every generated file begins with, in the comments of its language."""
    return f"{made_by if name.endswith('.py') else made_by.replace('#', '//', 1)}\n{body}"


def _init(plan: PackagePlan, made_by: str) -> str:
    layers = [{"module": module_name(layer), "name": layer.spec.name} for layer in plan.layers]
    return template("basisgen.emission", "templates", "init.py.jinja").render(
        made_by=made_by,
        name=plan.spec.name,
        summary=_summary(plan),
        group=plan.spec.layers[0].out.group,
        imports=sorted(layers, key=lambda layer: layer["module"]),
        exports=[layer["name"] for layer in layers],
        network=plan.spec.network is not None,
    )


def _network(network: NetworkSpec, name: str, made_by: str) -> str:
    """The module that says how the convolutions follow one another."""
    order = expand(network)
    used = dict.fromkeys(name for names in (*order.down, *order.up, order.heads) for name in names)
    if order.sphere is not None:
        used[order.sphere] = None
    return template("basisgen.emission", "templates", "network.py.jinja").render(
        made_by=made_by,
        name=name,
        network=network,
        order=order,
        tuple=_tuple,
        levels=lambda levels: _tuple([_tuple(names) for names in levels], long=True),
        imports=sorted(({"module": name.lower(), "name": name} for name in used), key=lambda layer: layer["module"]),
    )


def _tuple(entries: Sequence[str], *, long: bool = False) -> str:
    """A tuple as source text; a `long` one of several entries has a line for each."""
    if len(entries) == 1:
        return f"({entries[0]},)"
    return "".join(["(\n", *(f"    {entry},\n" for entry in entries), ")"]) if long else f"({', '.join(entries)})"


def _summary(plan: PackagePlan) -> str:
    """`a convolution`, `4 convolutions`, `2 convolutions and 1 product`."""
    kinds = [KINDS[layer.kind].noun for layer in plan.spec.layers]
    if len(kinds) == 1:
        return f"a {kinds[0]}"
    counts = [counted(kinds.count(noun), noun) for noun in dict.fromkeys(kinds)]
    return " and ".join([", ".join(counts[:-1]), counts[-1]] if counts[1:] else counts)
