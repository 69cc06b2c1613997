"""manifest.json, as far as `verify` needs it: the digests, and what each layer is said to be. Untrusted.

Canonical JSON, keys in this order: format, basisgen, name, command, spec, tuned (if it is), sections of the kinds of
layers, layers, sha256. Names, spec and tuning decide every other value; `verify` compares them, it does not read them.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from basisgen.verify.canonical import read_json
from basisgen.verify.statement import Certificate, CertificateError, Irrep, read_grid, read_irrep

FORMAT = 2
CONVOLUTION = "conv"  # the kind whose layers are read here
MAX_TYPE = 20_000  # characters
MAX_PAIRS = 1 << 19  # of terms, of all layers together

_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,99}", re.ASCII)
_VERSION = re.compile(r"\d{1,6}(\.\d{1,6}){0,3}([a-z.+]{1,5}\d{0,6}){0,3}", re.ASCII)
_FILE = re.compile(r"[a-z_][a-z0-9_.]{0,79}", re.ASCII)
_DIGEST = re.compile(r"[0-9a-f]{64}", re.ASCII)
_TERM = re.compile(r"([1-9]\d{0,5})x(\d{1,2}[eo]?)", re.ASCII)


class ManifestError(ValueError):
    """manifest.json does not say what a manifest says."""


@dataclass(frozen=True)
class Term:
    """Copies of one irrep among the channels."""

    multiplicity: int
    irrep: Irrep

    @property
    def dimension(self) -> int:
        """The number of components, 2l + 1."""
        return 2 * self.irrep.degree + 1


@dataclass(frozen=True)
class Layer:
    """One convolution as the manifest states it."""

    name: str
    into: tuple[Term, ...]
    asked: tuple[Term, ...]  # what the spec says goes out
    out: tuple[Term, ...]  # what the module returns: with `gated`, also one scalar per non-scalar field copy
    size: tuple[int, int, int]
    spacing: tuple[Fraction, Fraction, Fraction]
    dilation: tuple[int, int, int]
    filter_tensor: str
    separable: bool = False  # whether it can run as passes


@dataclass(frozen=True)
class Manifest:
    """A package as its manifest states it."""

    name: str
    version: str
    layers: tuple[Layer, ...]  # the convolutions
    others: dict[str, tuple[str, dict[str, Any]]]  # layers of other kinds: name -> kind, its entry in the spec
    digests: dict[str, str]
    text: dict[str, Any]


def read_manifest(text: bytes) -> Manifest:
    """Raises ManifestError that says what is wrong."""
    try:
        table = read_json(text)
        version = _version(table["basisgen"])
        if not isinstance(table["format"], int) or table["format"] != FORMAT:
            raise ValueError(f"its format is not {FORMAT}. It was made by basisgen {version}: {cure(version)}")
        convolutions = [entry for entry in table["spec"] if entry["kind"] == CONVOLUTION]
        layers = tuple(_layer(entry, table["layers"][entry["name"]]) for entry in convolutions)
        others = {_name(e["name"]): (_name(e["kind"]), e) for e in table["spec"] if e["kind"] != CONVOLUTION}
        digests = {_file(name): _digest(digest) for name, digest in table["sha256"].items()}
        if [entry["name"] for entry in table["spec"]] != list(table["layers"]) or not table["layers"]:
            raise ValueError("its spec and its layers differ")
        if (pairs := sum(len(layer.into) * len(layer.out) for layer in layers)) > MAX_PAIRS:
            raise ValueError(f"its layers have {pairs} pairs of terms, at most {MAX_PAIRS} can be checked")
        return Manifest(_name(table["name"]), version, layers, others, digests, table)
    except (AttributeError, CertificateError, KeyError, RecursionError, TypeError, ValueError) as error:
        message = " ".join(str(error).split())[:300]
        raise ManifestError(
            f"manifest.json is not in the documented form ({type(error).__name__}: {message})"
        ) from None


def cure(version: str) -> str:
    """What to do about a package of another version."""
    return f"compile it again, or install basisgen=={version} and verify with that"


def check_layers(manifest: Manifest, certificate: Certificate) -> list[str]:
    """Whether the certificate speaks of this package: exactly the pairs and filters its layers need."""
    complaints = []
    needed = {
        (out.irrep, into.irrep): layer.name for layer in manifest.layers for out in layer.out for into in layer.into
    }
    stated = {(pair.out, pair.into) for pair in certificate.pairs}
    for (out, into), name in needed.items():
        if (out, into) not in stated:
            complaints.append(f"certificate.json: pair {out} <- {into}, which layer {name} needs, is missing")
    complaints += [
        f"certificate.json: no layer needs pair {out} <- {into}" for out, into in stated if (out, into) not in needed
    ]
    for layer in manifest.layers:
        filters = certificate.filters.get(layer.filter_tensor)
        if filters is None:
            complaints.append(f"certificate.json: {layer.filter_tensor}, the filters of {layer.name}, are missing")
        elif (filters.size, filters.spacing, filters.dilation) != (layer.size, layer.spacing, layer.dilation):
            complaints.append(f"certificate.json: the grid of {layer.filter_tensor} is not that of layer {layer.name}")
    used = {layer.filter_tensor for layer in manifest.layers}
    return complaints + [f"certificate.json: no layer uses {name}" for name in certificate.filters if name not in used]


def _layer(entry: dict[str, Any], facts: dict[str, Any]) -> Layer:
    grid = read_grid(entry["kernel_size"], entry["voxel_spacing"], entry["dilation"])
    into, asked = _field_type(entry["in"]), _field_type(entry["out"])
    out = _with_gates(asked) if entry["gated"] else asked
    separable = facts["execution"] == "separable"
    return Layer(_name(entry["name"]), into, asked, out, *grid, _name(facts["filter_tensor"]), separable)


def _with_gates(terms: tuple[Term, ...]) -> tuple[Term, ...]:
    gates = sum(term.multiplicity for term in terms if term.irrep.degree)
    gate = Irrep(0, None if terms[0].irrep.parity is None else 1)
    return (*terms, Term(gates, gate)) if gates else terms


def _field_type(text: str) -> tuple[Term, ...]:
    if not isinstance(text, str) or len(text) > MAX_TYPE:
        raise ManifestError(f"{text!r:.100} is not a field type")
    terms = []
    for part in text.split(" + "):
        match = _TERM.fullmatch(part)
        if match is None:
            raise ManifestError(f"{text!r:.100} is not a field type")
        terms.append(Term(int(match[1]), read_irrep(match[2])))
    return tuple(terms)


def _name(text: Any) -> str:
    if not isinstance(text, str) or not _NAME.fullmatch(text):
        raise ManifestError(f"{text!r:.100} is not a name")
    return text


def _version(text: Any) -> str:
    if not isinstance(text, str) or not _VERSION.fullmatch(text):
        raise ManifestError(f"{text!r:.100} is not a version")
    return text


def _file(text: str) -> str:
    if not _FILE.fullmatch(text):
        raise ManifestError(f"{text!r:.100} is not a name of a package's file")
    return text


def _digest(text: Any) -> str:
    if not isinstance(text, str) or not _DIGEST.fullmatch(text):
        raise ManifestError(f"{text!r:.100} is not a digest")
    return text
