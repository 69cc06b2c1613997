"""The kind of layer `linear`: every equivariant linear map of fields, or a product of three constrained ones.

    (f * psi)^l_t' = sum_t psi^l_t't f^l_t                         generalised convolution, one matrix per irrep

By Schur's lemma, D^l being irreducible and of real type, these are all equivariant linear maps: their dimension is the
sum over irreps of copies in times copies out. That count is the claim. With `maps` the matrix is a product of uniform
(over fragments, shared by channels), channel-wise, and cross-channel factors.
Source: Cobb et al. 2021, arXiv:2010.11661, section 3. Cross-channel factors of each fragment are our reading of it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from basisgen.errors import SpecError
from basisgen.layer import Contribution, Kind, PlanDefaults, SpecDefaults
from basisgen.reading import check_keys, quoted, required
from basisgen.so3.field_type import FieldType, Irrep
from basisgen.spheres import source
from basisgen.spheres.product_spec import field_type

KIND = "linear"
OPTIONS = ("maps", "channels", "out_channels")
LAYOUT = "linear 1"  # of the weights; part of their fingerprint
MAPS = ("uniform", "channel", "cross")  # in their order
MAX_WEIGHTS = 1 << 30

SOLUTION = "out[o, M] = sum_i W[o, i] in[i, M], one matrix W per irrep over its copies i and o"
PROVED = (
    "Schur's lemma: D^l is irreducible and of real type, so its copies are mixed by numbers, and no irrep meets another"
)


@dataclass(frozen=True)
class LinearSpec(SpecDefaults):
    """One linear map: class name, field types, and its factors, none for a dense matrix per irrep."""

    kind = KIND

    name: str
    into: FieldType
    out: FieldType
    maps: tuple[str, ...]
    channels: int  # of each fragment of the input
    out_channels: int

    def describe(self) -> dict[str, Any]:
        """See LayerSpec."""
        constrained = {"maps": list(self.maps), "channels": self.channels, "out_channels": self.out_channels}
        return {
            "kind": KIND,
            "name": self.name,
            "in": str(self.into),
            "out": str(self.out),
            **(constrained if self.maps else dict.fromkeys(constrained)),
        }


@dataclass(frozen=True, eq=False)
class LinearPlan(PlanDefaults):
    """One linear map, and the dimension of all."""

    spec: LinearSpec

    @property
    def weights(self) -> int:
        """The number of learned weights, biases not counted."""
        return sum(count for *_, count in factors(self.spec))

    @property
    def dimension(self) -> int:
        """The dimension of all equivariant linear maps between the types."""
        return sum(into * out for into, out in multiplicities(self.spec).values())

    @property
    def multiply_adds(self) -> tuple[int, int]:
        """The multiply-adds of one sample, and those of a dense matrix per irrep."""
        dense = sum(into * out * irrep.dimension for irrep, (into, out) in multiplicities(self.spec).items())
        shared = {"uniform": self.spec.channels}  # by all channels
        return sum(n * shared.get(name, 1) * irrep.dimension for irrep, name, n in factors(self.spec)), dense

    def facts(self) -> dict[str, Any]:
        """See LayerPlan."""
        own, dense = self.multiply_adds
        cost = {"multiply_adds_per_sample": own, "multiply_adds_of_dense_matrices": dense}
        return {"weights": self.weights, "dimension": self.dimension, "cost": cost}


def multiplicities(spec: LinearSpec) -> dict[Irrep, tuple[int, int]]:
    """Irrep of the output -> its copies in and out."""
    return {irrep: (count(spec.into, irrep), count(spec.out, irrep)) for irrep in irreps(spec.out)}


def factors(spec: LinearSpec) -> list[tuple[Irrep, str, int]]:
    """The factors of every irrep in the order of the weights: irrep, name and number of weights."""
    found = []
    for irrep, (into, out) in multiplicities(spec).items():
        if not spec.maps:
            found.append((irrep, "dense", into * out))
            continue
        fragments, after = into // spec.channels, out // spec.out_channels
        for name in spec.maps:
            if name == "uniform":
                found.append((irrep, name, fragments * after))
                fragments = after
            elif name == "channel":
                found.append((irrep, name, spec.channels * fragments**2))
            else:
                found.append((irrep, name, spec.channels * spec.out_channels * fragments))
    return found


def irreps(field: FieldType) -> list[Irrep]:
    """The irreps of a field type, once each, in order of appearance."""
    return list(dict.fromkeys(term.irrep for term in field.terms))


def count(field: FieldType, irrep: Irrep) -> int:
    """The copies of one irrep in all terms."""
    return sum(term.multiplicity for term in field.terms if term.irrep == irrep)


def parse_linear(name: str, table: Mapping[str, object]) -> LinearSpec:
    """A linear map from its table, defaults merged in; settings that are None count as absent.

    Raises SpecError.
    """
    table = {key: value for key, value in table.items() if value is not None}
    check_keys(table, ("kind", "name", "in", "out", *OPTIONS), "it")
    into, out = (field_type(required(table, key, "it"), key) for key in ("in", "out"))
    for irrep in irreps(out):
        if irrep not in irreps(into):
            raise SpecError(
                f"out = '{out}' has irrep {irrep}, which in = {quoted(str(into))} lacks: no linear map reaches it. "
                "Take it out, or let a product make it."
            )
    spec = LinearSpec(name, into, out, *_maps(table, into, out))
    if sum(weights for *_, weights in factors(spec)) > MAX_WEIGHTS:
        raise SpecError(
            f"the map would have more than {MAX_WEIGHTS} weights. Take fewer copies, or maps = {list(MAPS)}."
        )
    return spec


def _maps(table: Mapping[str, object], into: FieldType, out: FieldType) -> tuple[tuple[str, ...], int, int]:
    value = table.get("maps")
    if value is None:
        for key in ("channels", "out_channels"):
            if key in table:
                raise SpecError(
                    f"{key} is given without maps, which it is for. Leave it out, or say maps = {list(MAPS)}."
                )
        return (), 1, 1
    if not isinstance(value, list) or not value or [name for name in MAPS if name in value] != value:
        raise SpecError(f"maps = {quoted(value)} is not a list of some of {', '.join(MAPS)}, in this order.")
    channels = _divisor("channels", required(table, "channels", "it"), into, irreps(out))
    after = _divisor("out_channels", table.get("out_channels", channels), out, irreps(out))
    if "cross" not in value and after != channels:
        raise SpecError(
            f"out_channels = {after}, and channels = {channels}: only 'cross' changes their number. Add it."
        )
    for irrep in irreps(out):
        before, behind = count(into, irrep) // channels, count(out, irrep) // after
        if "uniform" not in value and before != behind:
            raise SpecError(
                f"irrep {irrep} has {before} fragments in, {behind} out: only 'uniform' changes their number. Add it."
            )
    return tuple(value), channels, after


def _divisor(key: str, value: object, field: FieldType, needed: Sequence[Irrep]) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise SpecError(f"{key} = {quoted(value)} is not a whole number of at least 1.")
    for irrep in needed:
        if count(field, irrep) % value:
            raise SpecError(
                f"{key} = {quoted(value)} does not divide the {count(field, irrep)} copies of irrep {irrep}."
            )
    return value


def gather(layers: Sequence[LinearPlan], proven: Mapping[Any, Any]) -> Contribution:
    """What is claimed, and the module that the classes inherit from."""
    claimed = {
        layer.spec.name: {
            "irreps": {str(irrep): list(pair) for irrep, pair in multiplicities(layer.spec).items()},
            "maps": list(layer.spec.maps),
            "weights": layer.weights,
            "dimension": layer.dimension,
        }
        for layer in layers
    }
    section = {"solution": SOLUTION, "proved": PROVED, "layers": claimed}
    return Contribution({}, {"linear": section}, {}, source.shared("linear.py"))


LINEAR = Kind(
    name=KIND,
    noun="linear map",
    options=OPTIONS,
    reserved=frozenset({"EquivariantLinear"}),
    parse=parse_linear,
    claims=lambda spec: (),
    solve=lambda claim: claim,
    prove=lambda claim: claim,
    shares=lambda spec: ("linear", spec.name),
    compute=lambda specs, proven: None,
    plan=lambda spec, proven, name, numbers, tuned: LinearPlan(spec),
    gather=gather,
    source=lambda plan, made_by, basis_sha256: _module(plan, made_by, basis_sha256),
)


def _fingerprint(spec: LinearSpec) -> str:
    """16 hexadecimal digits, equal for layers whose weights are interchangeable: of types and maps, no names."""
    facts = (LAYOUT, str(spec.into), str(spec.out), spec.maps, spec.channels, spec.out_channels)
    return hashlib.sha256(repr(facts).encode()).hexdigest()[:16]


def _module(layer: LinearPlan, made_by: str, basis_sha256: str) -> str:
    """The text of one linear map."""
    spec = layer.spec
    rows: list[tuple[str, ...]] = [("irrep", "in", "out")]
    rows += [(str(irrep), str(into), str(out)) for irrep, (into, out) in multiplicities(spec).items()]
    return source.render(
        "linear.py.jinja",
        made_by=made_by,
        name=spec.name,
        group=spec.into.group,
        into=str(spec.into),
        out=str(spec.out),
        maps=", ".join(spec.maps),
        weights=source.grouped(layer.weights),
        dimension=source.grouped(layer.dimension),
        table="\n".join(source.aligned(rows, 1)),
        in_channels=spec.into.dimension,
        out_channels=spec.out.dimension,
        in_type=source.terms(spec.into, "    in_type = "),
        out_type=source.terms(spec.out, "    out_type = "),
        maps_literal=source.literal(spec.maps, "    maps = ").replace("'", '"'),
        channels=spec.channels,
        channels_out=spec.out_channels,
        fingerprint=_fingerprint(spec),
        basis_sha256=basis_sha256,
    )
