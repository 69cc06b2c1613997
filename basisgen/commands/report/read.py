"""A package on disk as the report needs it. Only what passes the independent checks of `basisgen.verify` is shown."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load

from basisgen.commands.recompile import recompile
from basisgen.errors import OutputError
from basisgen.layer import LayerSpec
from basisgen.spec import parse_layer
from basisgen.verify import manifest as stated
from basisgen.verify.files import CERTIFICATE, MANIFEST, TENSORS, read_contents
from basisgen.verify.statement import Certificate, read_certificate, read_sections
from basisgen.verify.verdict import Verdict
from basisgen.verify.verify import verify_contents
from basisgen.verify.volumes.expected import TermPath, channels, paths, weight_count
from basisgen.volumes.sampling.families import FilterGroup
from basisgen.volumes.sampling.grid import VoxelGrid
from basisgen.volumes.sampling.sample import SampledFilters

_SEED = 0  # of the random checks: same package, same page


@dataclass(frozen=True, eq=False)
class Layer:
    """One convolution of a package."""

    stated: stated.Layer
    gated: bool
    radial: Mapping[str, Any]
    execution: str  # as it runs: dense or separable
    multiply_adds: int  # per voxel
    time: float  # of a training step, over a plain convolution's
    timed: str  # predicted, or measured by `basisgen tune`, and where
    filters: SampledFilters
    paths: tuple[TermPath, ...]
    weights: int

    @property
    def name(self) -> str:
        """Its class."""
        return self.stated.name

    @property
    def in_channels(self) -> int:
        """The number of channels of its input."""
        return channels(self.stated.into)

    @property
    def out_channels(self) -> int:
        """The number of channels of its output."""
        return channels(self.stated.out)

    @property
    def dense_weights(self) -> int:
        """The number of weights of a plain convolution of the same shape."""
        return self.in_channels * self.out_channels * int(np.prod(self.stated.size))

    @property
    def degrees(self) -> tuple[int, ...]:
        """The degrees J of its filters."""
        return tuple(sorted({path.J for path in self.paths}))

    @property
    def silent_terms(self) -> tuple[str, ...]:
        """The terms of the output that no path reaches: their channels are zero, apart from a bias."""
        reached = {path.out_term for path in self.paths}
        return tuple(f"{term.multiplicity}x{term.irrep}" for o, term in enumerate(self.stated.out) if o not in reached)

    @property
    def variance(self) -> dict[int, float]:
        """Degree J -> expected kernel energy per radial profile, at initialisation: sum of (weight * scale)^2."""
        fan_in = [0] * len(self.stated.out)
        for path in self.paths:
            fan_in[path.out_term] += len(path.profiles) * self.stated.into[path.in_term].multiplicity
        variance = dict.fromkeys(self.degrees, 0.0)
        for path in self.paths:
            out, into = self.stated.out[path.out_term], self.stated.into[path.in_term]
            variance[path.J] += out.multiplicity * into.multiplicity * out.dimension / fan_in[path.out_term]
        return variance


@dataclass(frozen=True)
class FieldLayer:
    """A layer that is no convolution, as the package states it."""

    spec: LayerSpec
    facts: Mapping[str, Any]

    @property
    def weights(self) -> int:
        """The number of learned weights, biases not counted."""
        return int(self.facts.get("weights", 0))


@dataclass(frozen=True, eq=False)
class Package:
    """A package whose files, exact mathematics and float64 numbers have passed their checks."""

    name: str
    version: str
    command: str
    layers: tuple[Layer, ...]
    filters: Mapping[str, SampledFilters]
    tensors: Mapping[str, NDArray[np.float64]]
    certificate: Certificate | None  # what it says of convolutions, where there are any
    fields: tuple[FieldLayer, ...]  # the other layers, in order
    proved: Mapping[str, Mapping[str, str]]  # section of the certificate -> what is proved of them: name -> statement
    checks: Verdict

    @property
    def has_parity(self) -> bool:
        """Whether inversion is part of the symmetry: O(3) instead of SO(3)."""
        if self.certificate is None:
            return self.fields[0].spec.into.has_parity
        return self.certificate.pairs[0].out.parity is not None


def read_package(directory: Path, *, long: bool = False) -> Package:
    """Reads and checks the package in a directory; none of its code is run.

    Raises OutputError where the directory holds no package, or one that fails a check: no page is made of it; and
    EffortError where checking takes long, unless it may.
    """
    contents = read_contents(directory)
    checks = verify_contents(contents, str(directory), run=False, recompile=partial(recompile, long=long), seed=_SEED)
    if not checks.verified:
        raise OutputError(
            f"{directory} is not what its manifest says: {(*checks.complaints, checks.summary())[0]}. "
            "`basisgen verify` lists all complaints; compile the package again."
        )
    try:
        return _package(contents.files, checks)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise OutputError(
            f"{directory / MANIFEST} is not in the documented form ({type(error).__name__}: {error})."
        ) from None


def _package(files: Mapping[str, bytes], checks: Verdict) -> Package:
    manifest = stated.read_manifest(files[MANIFEST])
    others, tensors = bool(manifest.others), load(files[TENSORS])
    certificate = read_certificate(files[CERTIFICATE], others=others) if manifest.layers else None
    sections = read_sections(files[CERTIFICATE]) if others else {}
    specs = {entry["name"]: entry for entry in manifest.text["spec"]}
    fields = tuple(FieldLayer(parse_layer(specs[name]), manifest.text["layers"][name]) for name in manifest.others)
    proved = {name: _statements(section) for name, section in sections.items() if _is_of_a_kind(section)}
    if certificate is None:
        return _of_fields(manifest, fields, proved, checks)
    filters = {name: _filters(name, certificate, tensors[name]) for name in certificate.filters}
    return Package(
        name=manifest.name,
        version=manifest.version,
        command=str(manifest.text["command"]),
        layers=tuple(
            Layer(
                stated=layer,
                gated=bool(specs[layer.name]["gated"]),
                radial=dict(specs[layer.name]["radial"]),
                **_execution(manifest.text, layer.name),
                filters=filters[layer.filter_tensor],
                paths=tuple(paths(layer, certificate)),
                weights=weight_count(layer, certificate),
            )
            for layer in manifest.layers
        ),
        filters=filters,
        tensors=tensors,
        certificate=certificate,
        fields=fields,
        proved=proved,
        checks=checks,
    )


def _of_fields(
    manifest: stated.Manifest, fields: tuple[FieldLayer, ...], proved: Mapping[str, Mapping[str, str]], checks: Verdict
) -> Package:
    """A package without convolutions."""
    command = str(manifest.text["command"])
    return Package(manifest.name, manifest.version, command, (), {}, {}, None, fields, proved, checks)


def _is_of_a_kind(section: object) -> bool:
    """Whether it is a separate section: claims about convolutions are at the top of the certificate."""
    return isinstance(section, Mapping) and {"solution", "proved"} <= section.keys()


def _statements(section: Mapping[str, Any]) -> dict[str, str]:
    """What a section of the certificate says is proved: one statement, or several by name."""
    proved = section["proved"]
    return dict(proved) if isinstance(proved, Mapping) else {"": str(proved)}


def _execution(manifest: Mapping[str, Any], name: str) -> dict[str, Any]:
    """How a layer runs, and what that costs."""
    facts, tuned = manifest["layers"][name], manifest.get("tuned", {"ratios": {}})
    cost, way, ratios = facts["cost"], str(facts["execution"]), tuned["ratios"].get(name)
    return {
        "execution": way,
        "multiply_adds": int(cost["multiply_adds_per_voxel"]),
        "time": float(ratios[way] if ratios else cost["predicted_ratio_to_conv3d"]),
        "timed": f"measured: {tuned['setting']}" if ratios else "predicted",
    }


def _filters(name: str, certificate: Certificate, values: NDArray[np.float64]) -> SampledFilters:
    filters = certificate.filters[name]
    grid = VoxelGrid(filters.size, filters.spacing, filters.dilation)
    groups, start = [], 0
    for J, formula in filters.groups:
        groups.append(FilterGroup(J, formula, values[start : start + 2 * J + 1]))
        start += 2 * J + 1
    return SampledFilters(grid, tuple(groups))
