"""The kind of layer `zonal`: convolution of signals on the sphere with filters that are symmetric about the pole.

    (f * h)_o,lm = sum_i 2 pi sqrt(4 pi / (2l+1)) h_oi,l f_i,lm,        h_oi,l = sum_a hat_a(l) w_i,a,o
    hat_a(l)     = max(0, 1 - |l (A-1)/(L-1) - a|)                      linear between A anchors on degrees 0 .. L-1

The spectrum h of each filter is learned at its anchors alone, which makes it smooth, and the filter local. By Schur's
lemma convolutions with zonal filters are all equivariant linear maps between signals: one number per degree, signal in
and signal out. The anchors are a subspace of these, whose dimension is the claim.
Source: Esteves et al. 2018, arXiv:1711.06721, sections 4.2 and 4.3.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np

from basisgen.algebra.linear import rank
from basisgen.errors import ProofError, SpecError
from basisgen.layer import Array, Contribution, Kind, PlanDefaults, SpecDefaults
from basisgen.reading import check_keys, quoted, required
from basisgen.so3.field_type import FieldType
from basisgen.spheres import source
from basisgen.spheres.fixed_point import Floats, nearest, pi, root
from basisgen.spheres.signal_type import signal_type

KIND = "zonal"
OPTIONS = ("anchors",)
ANCHORS = 8  # where nothing is said, or as many as there are degrees: the source's
LAYOUT = "zonal 1"  # of the weights; part of their fingerprint
MAX_WEIGHTS = 1 << 30
BITS = 256

SOLUTION = (
    "out[o, l m] = sum_i 2 pi sqrt(4 pi / (2l+1)) h[o, i, l] in[i, l m], h linear in l between its values at anchors"
)
PROVED = {
    "complete": "Schur's lemma: D^l is irreducible and of real type, so convolutions with zonal filters are all "
    "equivariant linear maps of signals, of dimension L times signals in times signals out",
    "independent": "the interpolation has full column rank, so different weights are different maps; their dimension "
    "is anchors times signals in times signals out",
    "linear": "the interpolation reproduces 1 and l, from two neighbouring anchors at most",
}

Claim = tuple[int, int]  # degrees, anchors


@dataclass(frozen=True)
class Interpolation:
    """Linear interpolation in the degree: hat_a(l) as rationals, (degree, anchor). Not yet proved."""

    hats: tuple[tuple[Fraction, ...], ...]


@dataclass(frozen=True)
class ProvenInterpolation:
    """An interpolation that `prove` accepted."""

    hats: tuple[tuple[Fraction, ...], ...]


@dataclass(frozen=True)
class ZonalSpec(SpecDefaults):
    """One zonal convolution: class name, signals in and out, anchors on the degrees of the output."""

    kind = KIND

    name: str
    into: FieldType
    out: FieldType
    anchors: int

    @property
    def L(self) -> int:
        """The band limit of the output."""
        return len(self.out.terms)

    @property
    def filters(self) -> int:
        """The number of filters: one for each signal in and signal out."""
        return self.into.terms[0].multiplicity * self.out.terms[0].multiplicity

    def describe(self) -> dict[str, Any]:
        """See LayerSpec."""
        return {
            "kind": KIND,
            "name": self.name,
            "in": str(self.into),
            "out": str(self.out),
            "anchors": self.anchors,
        }


@dataclass(frozen=True, eq=False)
class ZonalPlan(PlanDefaults):
    """One zonal convolution, and the dimension of all."""

    spec: ZonalSpec
    table_name: str
    table: Floats

    @property
    def weights(self) -> int:
        """The number of learned weights, biases not counted: the dimension of the maps they give."""
        return self.spec.anchors * self.spec.filters

    @property
    def dimension(self) -> int:
        """The dimension of all equivariant linear maps between the signals."""
        return self.spec.L * self.spec.filters

    @property
    def multiply_adds(self) -> tuple[int, int]:
        """The multiply-adds of one sample, and those of the spectra, once per call."""
        return self.spec.L**2 * self.spec.filters, int(np.count_nonzero(self.table)) * self.spec.filters

    def facts(self) -> dict[str, Any]:
        """See LayerPlan."""
        sample, spectra = self.multiply_adds
        cost = {"multiply_adds_per_sample": sample, "multiply_adds_of_spectra": spectra}
        return {"table": self.table_name, "weights": self.weights, "dimension": self.dimension, "cost": cost}


def parse_zonal(name: str, table: Mapping[str, object]) -> ZonalSpec:
    """A zonal convolution from its table, defaults merged in; settings that are None count as absent.

    Raises SpecError.
    """
    table = {key: value for key, value in table.items() if value is not None}
    check_keys(table, ("kind", "name", "in", "out", *OPTIONS), "it")
    into, out = (signal_type(required(table, key, "it"), key) for key in ("in", "out"))
    L = len(out.terms)
    if len(into.terms) < L:
        raise SpecError(
            f"out = '{out.brief()}' has degree {L - 1}, which in = '{into.brief()}' lacks: no linear map reaches "
            "it. Give out at most the band limit of in."
        )
    if into.has_parity != out.has_parity:
        raise SpecError(
            f"in = '{into.brief()}' and out = '{out.brief()}' are of different groups: with parity (O(3)) and without "
            "(SO(3)). Give both the letter n, or neither."
        )
    anchors = table.get("anchors", min(ANCHORS, L))
    if not isinstance(anchors, int) or isinstance(anchors, bool) or not 1 <= anchors <= L:
        raise SpecError(
            f"anchors = {quoted(anchors)} is not a whole number from 1 to {L}, the number of degrees of out. "
            f"{L} anchors give every filter of this band limit."
        )
    spec = ZonalSpec(name, into, out, anchors)
    if anchors * spec.filters > MAX_WEIGHTS:
        raise SpecError(
            f"the filters would have more than {MAX_WEIGHTS} weights. Take fewer signals, or fewer anchors."
        )
    return spec


def interpolation(claim: Claim) -> Interpolation:
    """The hats of A anchors at equal distances on degrees 0 .. L-1; one anchor is a constant."""
    L, anchors = claim
    places = [Fraction(l * (anchors - 1), max(L - 1, 1)) for l in range(L)]
    hats = tuple(tuple(max(Fraction(0), 1 - abs(place - a)) for a in range(anchors)) for place in places)
    return Interpolation(hats)


def prove(found: Interpolation) -> ProvenInterpolation:
    """The hats are linear interpolation, and independent.

    At the place of every degree they reproduce the functions 1 and x, by two neighbouring anchors: these are two
    equations for two numbers. Raises ProofError.
    """
    hats, anchors = found.hats, len(found.hats[0])
    for l, row in enumerate(hats):
        used = [a for a, hat in enumerate(row) if hat]
        place = Fraction(l * (anchors - 1), max(len(hats) - 1, 1))
        moments = sum(row), sum(hat * a for a, hat in enumerate(row))
        if moments != (1, place) or used[-1] - used[0] > 1:
            raise ProofError(f"degree {l} of {len(hats)} is not interpolated between {anchors} anchors")
    if rank(hats) != anchors:
        raise ProofError(f"{anchors} anchors on {len(hats)} degrees are not independent")
    return ProvenInterpolation(hats)


def tabulate(proven: ProvenInterpolation) -> Floats:
    """2 pi sqrt(4 pi / (2l+1)) hat_a(l), (degree, anchor), each number correctly rounded."""
    cube = 16 * Fraction(pi(BITS), 1 << BITS) ** 3  # the square of the factor, times 2l+1
    scales = [root(cube / (2 * l + 1), BITS) for l in range(len(proven.hats))]
    values = [[int(hat * scale) for hat in row] for scale, row in zip(scales, proven.hats, strict=True)]
    return nearest(np.array(values, object), 16, BITS)  # 22.3 times 3/2 of the error of pi, over pi, and two units


def compute(specs: Sequence[ZonalSpec], proven: Mapping[Claim, ProvenInterpolation]) -> Floats:
    """The table that layers of as many degrees and anchors share."""
    return tabulate(proven[claim(specs[0])])


def claim(spec: ZonalSpec) -> Claim:
    """What a layer needs proved."""
    return spec.L, spec.anchors


def gather(layers: Sequence[ZonalPlan], proven: Mapping[Claim, ProvenInterpolation]) -> Contribution:
    """The tables, what is claimed, and the module that the classes inherit from."""
    tensors: dict[str, Array] = {layer.table_name: layer.table for layer in layers}
    claimed = {
        layer.spec.name: {
            "band_limit": layer.spec.L,
            "signals": [field.terms[0].multiplicity for field in (layer.spec.into, layer.spec.out)],
            "anchors": layer.spec.anchors,
            "weights": layer.weights,
            "dimension": layer.dimension,
        }
        for layer in layers
    }
    section = {"solution": SOLUTION, "proved": PROVED, "layers": claimed}
    return Contribution(tensors, {"zonal": section}, {}, source.shared("linear.py", "zonal.py"))


def _stem(spec: ZonalSpec) -> tuple[str, str]:
    stem = f"zonal_{spec.L}_{spec.anchors}"
    return stem, stem


def _fingerprint(spec: ZonalSpec) -> str:
    """16 hexadecimal digits, equal for layers whose weights are interchangeable: of types and anchors, no names."""
    facts = (LAYOUT, str(spec.into), str(spec.out), spec.anchors)
    return hashlib.sha256(repr(facts).encode()).hexdigest()[:16]


def _module(layer: ZonalPlan, made_by: str, basis_sha256: str) -> str:
    """The text of one zonal convolution."""
    spec, (sample, spectra) = layer.spec, layer.multiply_adds
    return source.render(
        "zonal.py.jinja",
        made_by=made_by,
        name=spec.name,
        group=spec.into.group,
        into=spec.into.brief(),
        out=spec.out.brief(),
        L=spec.L,
        anchors=spec.anchors,
        weights=source.grouped(layer.weights),
        dimension=source.grouped(layer.dimension),
        multiply_adds=source.grouped(sample),
        spectra=source.grouped(spectra),
        table="\n".join(source.aligned(_rows(layer), 1)),
        in_channels=spec.into.dimension,
        out_channels=spec.out.dimension,
        in_type=source.terms(spec.into, "    in_type = "),
        out_type=source.terms(spec.out, "    out_type = "),
        table_name=layer.table_name,
        fingerprint=_fingerprint(spec),
        basis_sha256=basis_sha256,
    )


def _rows(layer: ZonalPlan) -> list[tuple[str, ...]]:
    """One line per anchor: the degrees whose filters it is part of."""
    rows: list[tuple[str, ...]] = [("anchor", "degrees")]
    for a, column in enumerate(layer.table.T):
        used = np.nonzero(column)[0]
        rows.append((str(a), f"{used[0]}..{used[-1]}" if len(used) > 1 else str(used[0])))
    return rows


ZONAL = Kind(
    name=KIND,
    noun="zonal convolution",
    options=OPTIONS,
    reserved=frozenset({"ZonalConvolution"}),
    parse=parse_zonal,
    claims=lambda spec: (claim(spec),),
    solve=interpolation,
    prove=prove,
    shares=_stem,
    compute=compute,
    plan=lambda spec, proven, name, numbers, tuned: ZonalPlan(spec, name, numbers),
    gather=gather,
    source=_module,
)
