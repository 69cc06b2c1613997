"""A product of fields as a spec states it: from one table to a frozen, validated `ProductSpec`. All of it is untrusted.

    kind = "product"
    in = "8x0..7"              the first factor
    second = "8x0..3"          the second; without it the product is of the first with itself
    mixing = "tree"            all | tree | reduced | [[l1, l2, l], ...]
    degrees = "0..7"           of the output; without it those of the first factor
    self_products = false      whether (l1, l1) is in the mixing set
    channels = 8               each term is (multiplicity / channels) fragments of that many channels
    out = "16x0..7"            a projection fused behind: the products of every channel are mapped to these fragments,
                               by weights that all channels share

`products` follows from these, and is what comes out unless `out` is given: for every degree, and every parity its
products have, one term that lists its paths in order.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from basisgen.errors import SpecError
from basisgen.layer import SpecDefaults
from basisgen.reading import check_keys, flag, quoted, required
from basisgen.so3.field_type import FieldType, Irrep, Term, parse_field_type
from basisgen.spheres.couplings import MAX_DEGREE
from basisgen.spheres.mixing import Degrees, Mixing, Pair, cost, mixing_set

KIND = "product"
OPTIONS = ("second", "mixing", "degrees", "self_products", "channels", "out")
MAX_CHANNELS = 1 << 22  # of a field
MAX_COEFFICIENTS = 1 << 24  # of a layer, all fragments counted
MAX_PAIRS = 1 << 18  # of terms
MAX_TEXT = 100_000
MAX_WEIGHTS = 1 << 30


@dataclass(frozen=True)
class TermPath:
    """One product: terms of the first and the second factor, and the irrep of their product."""

    first: int
    second: int
    out: Irrep
    fragments: int  # pairs of fragments


@dataclass(frozen=True)
class ProductSpec(SpecDefaults):
    """One product of fields: class name, factors, channels, and the mixing set as a name or a list."""

    kind = KIND

    name: str
    into: FieldType
    second: FieldType | None
    channels: int
    degrees: tuple[int, ...]
    mixing: Mixing | tuple[Degrees, ...]
    self_products: bool | None
    projected: FieldType | None = None  # one term per irrep

    @property
    def factors(self) -> tuple[FieldType, FieldType]:
        """Both factors; the same one twice where the product is of a field with itself."""
        return self.into, self.second or self.into

    def pairs(self, l: int) -> tuple[Pair, ...]:
        """The mixing set of one degree of the output, (l1, l2) with l1 <= l2; of two fields either may be the first."""
        if not isinstance(self.mixing, Mixing):
            return tuple((a, b) for a, b, degree in self.mixing if degree == l)
        degrees = {term.irrep.degree for field in self.factors for term in field.terms}
        return mixing_set(self.mixing, sorted(degrees), l, self.self_products)

    @cached_property
    def paths(self) -> tuple[TermPath, ...]:
        """Every product between terms, ordered by irrep of the output, then by degrees, then by terms."""
        found = [path for l in self.degrees for pair in self.pairs(l) for path in self._between_terms(*pair, l)]
        if self.projected is not None:
            wanted = {term.irrep for term in self.projected.terms}
            found = [path for path in found if path.out in wanted]
        irreps = sorted({path.out for path in found}, key=lambda irrep: (irrep.degree, -(irrep.parity or 0)))
        return tuple(path for irrep in irreps for path in found if path.out == irrep)

    @property
    def out(self) -> FieldType:
        """What the module returns: the projection, or all products."""
        return self.projected or self.products

    @property
    def products(self) -> FieldType:
        """One term per irrep; its copies are path, fragment of the first, of the second, channel."""
        counts: dict[Irrep, int] = {}
        for path in self.paths:
            counts[path.out] = counts.get(path.out, 0) + path.fragments
        return FieldType(tuple(Term(count * self.channels, irrep) for irrep, count in counts.items()))

    def degrees_of(self, path: TermPath) -> Degrees:
        """(l1, l2, l)."""
        first, second = self.factors
        return first.terms[path.first].irrep.degree, second.terms[path.second].irrep.degree, path.out.degree

    def describe(self) -> dict[str, Any]:
        """See LayerSpec."""
        named = isinstance(self.mixing, Mixing)
        return {
            "kind": KIND,
            "name": self.name,
            "in": str(self.into),
            "second": None if self.second is None else str(self.second),
            "mixing": self.mixing.value if isinstance(self.mixing, Mixing) else [list(path) for path in self.mixing],
            "degrees": list(self.degrees) if named and self.projected is None else None,
            "self_products": self.self_products,
            "channels": self.channels,
            **({"out": str(self.projected)} if self.projected else {}),
        }

    def _between_terms(self, l1: int, l2: int, l: int) -> list[TermPath]:
        first, second = self.factors
        if self.second is None:
            pairs = [
                (i, j)
                for i, j in _terms_of(first, l1, second, l2)
                if l1 != l2 or i <= j  # two terms of one degree meet once
            ]
        else:
            pairs = _terms_of(first, l1, second, l2) + (_terms_of(first, l2, second, l1) if l1 != l2 else [])
        found = []
        for i, j in pairs:
            a, b = first.terms[i], second.terms[j]
            parity = None if a.irrep.parity is None or b.irrep.parity is None else a.irrep.parity * b.irrep.parity
            fragments = self._fragments(a, b, l, same=self.second is None and i == j)
            if fragments:
                found.append(TermPath(i, j, Irrep(l, parity), fragments))
        return found

    def _fragments(self, a: Term, b: Term, l: int, *, same: bool) -> int:
        """Pairs of fragments; within one term unordered, and one fragment with itself for even l alone."""
        m, n = a.multiplicity // self.channels, b.multiplicity // self.channels
        if not same:
            return m * n
        return m * (m + 1) // 2 if l % 2 == 0 else m * (m - 1) // 2


def parse_product(name: str, table: Mapping[str, object]) -> ProductSpec:
    """A product from its table, defaults merged in; settings that are None count as absent.

    Raises SpecError.
    """
    table = {key: value for key, value in table.items() if value is not None}
    check_keys(table, ("kind", "name", "in", *OPTIONS), "it")
    into = field_type(required(table, "in", "it"), "in")
    second = field_type(table["second"], "second") if "second" in table else None
    if second is not None and second.has_parity != into.has_parity:
        raise SpecError(
            f"in = '{into}' and second = '{second}' are of different groups: with parity (O(3)) and without (SO(3)). "
            "Give all degrees a letter e or o, or none."
        )
    factors = [into] if second is None else [into, second]
    if (pairs := len(factors[0].terms) * len(factors[-1].terms)) > MAX_PAIRS:
        raise SpecError(f"the factors have {pairs} pairs of terms, the limit is {MAX_PAIRS}. Join terms of one irrep.")
    channels = _channels(table.get("channels"), factors)
    self_products = flag(table, "self_products", False) if table.get("self_products") is not None else None
    mixing = _mixing(required(table, "mixing", "it"), factors)
    projected = _projected(table["out"], channels) if "out" in table else None
    degrees = _degrees(table, mixing, factors, projected)
    spec = ProductSpec(name, into, second, channels, degrees, mixing, self_products, projected)
    _check_size(spec)
    return spec


def _degrees(
    table: Mapping[str, object],
    mixing: Mixing | tuple[Degrees, ...],
    factors: list[FieldType],
    projected: FieldType | None,
) -> tuple[int, ...]:
    """Of the products: those of `out`, of the list of products, of `degrees`, or of the first factor."""
    if projected is not None and "degrees" in table:
        raise SpecError("degrees is given with out, which says it already. Leave degrees out.")
    if not isinstance(mixing, Mixing):
        for key in ("degrees", "self_products"):
            if key in table:
                raise SpecError(f"{key} is given with a list of products, which says it already. Leave {key} out.")
        return tuple(sorted({l for _, _, l in mixing}))
    if projected is not None:
        return tuple(sorted({term.irrep.degree for term in projected.terms}))
    if "degrees" in table:
        available = {term.irrep.degree for field in factors for term in field.terms}
        return parse_degrees(table["degrees"], 2 * max(available))
    return tuple(sorted({term.irrep.degree for term in factors[0].terms}))


def _projected(value: object, channels: int) -> FieldType:
    """One term per irrep, fragments of that many channels."""
    out = field_type(value, "out")
    irreps = [term.irrep for term in out.terms]
    for term in out.terms:
        if irreps.count(term.irrep) > 1:
            raise SpecError(f"out = '{out.brief()}' has irrep {term.irrep} twice. Write one term for it.")
        if term.multiplicity % channels:
            raise SpecError(
                f"out = '{out.brief()}': channels = {channels} does not divide the {term.multiplicity} copies of irrep "
                f"{term.irrep}. Fragments of the output have as many channels as those of the input."
            )
    return out


def _check_projection(spec: ProductSpec) -> None:
    """Raises SpecError where no product reaches an irrep of the output, or a listed one none of it."""
    assert spec.projected is not None
    irreps, reached = [term.irrep for term in spec.projected.terms], {path.out for path in spec.paths}
    for irrep in irreps:
        if irrep not in reached:
            raise SpecError(f"out = '{spec.projected.brief()}': no product reaches irrep {irrep}. Take it out.")
    for l in spec.degrees:
        if l not in {irrep.degree for irrep in irreps}:
            raise SpecError(f"mixing lists products of degree {l}, which out = '{spec.projected.brief()}' has not.")
    products = {term.irrep: term.multiplicity // spec.channels for term in spec.products.terms}
    weights = sum(term.multiplicity // spec.channels * products[term.irrep] for term in spec.projected.terms)
    if weights > MAX_WEIGHTS:
        raise SpecError(f"the projection would have more than {MAX_WEIGHTS} weights. Take fewer copies in out.")


def field_type(value: object, key: str) -> FieldType:
    """A field type of moderate size from a spec; raises SpecError."""
    if not isinstance(value, str) or len(value) > MAX_TEXT:
        raise SpecError(f"{key} = {quoted(value)} is not a field type. Write text, for example '8x0..7'.")
    parsed = parse_field_type(value)
    for term in parsed.terms:
        if term.irrep.degree > MAX_DEGREE:
            raise SpecError(f"{key} = {quoted(value)}: degree {term.irrep.degree} is over the limit, {MAX_DEGREE}.")
    if parsed.dimension > MAX_CHANNELS:
        raise SpecError(f"{key} = {quoted(value)} has {parsed.dimension} channels, the limit is {MAX_CHANNELS}.")
    return parsed


def parse_degrees(value: object, largest: int) -> tuple[int, ...]:
    """`"0..7"`, `"0"`, or a list of whole numbers; raises SpecError."""
    rule = f'Write text, for example degrees = "0..{largest}", or a list of whole numbers from 0 to {largest}.'
    if isinstance(value, str):
        first, dots, last = value.partition("..")
        ends = (first, last if dots else first)
        if all(part.strip().isdecimal() and part.isascii() and len(part) < 10 for part in ends):
            low, high = map(int, ends)
            if low <= high <= largest:
                return tuple(range(low, high + 1))
    elif isinstance(value, list) and value and len(value) <= largest + 1:
        good = all(type(degree) is int and 0 <= degree <= largest for degree in value)
        if good and len(set(value)) == len(value):
            return tuple(sorted(value))
    raise SpecError(f"degrees = {quoted(value)} is not a range of degrees that the factors reach. {rule}")


def _channels(value: object, factors: Iterable[FieldType]) -> int:
    multiplicities = [term.multiplicity for field in factors for term in field.terms]
    if value is None:
        least, most = min(multiplicities), max(multiplicities)
        if least < most:
            raise SpecError(
                f"the terms have {least} to {most} copies, so the number of channels is not known: say channels = K; "
                f"every term is then multiplicity / K fragments. For example channels = {least}."
            )
        return multiplicities[0]
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise SpecError(f"channels = {quoted(value)} is not a whole number of at least 1.")
    for number in multiplicities:
        if number % value:
            raise SpecError(f"channels = {quoted(value)} does not divide the {number} copies of a term.")
    return value


def _mixing(value: object, factors: list[FieldType]) -> Mixing | tuple[Degrees, ...]:
    names = [mixing.value for mixing in Mixing]
    if isinstance(value, str) and value in names:
        return Mixing(value)
    if not isinstance(value, list) or not value:
        raise SpecError(
            f"mixing = {quoted(value)} is not one of {', '.join(names)}, nor a list of products, [[l1, l2, l], ...]."
        )
    paths = [_path(entry, factors) for entry in value[: 1 << 16]]
    if len(value) > 1 << 16 or len(set(paths)) < len(paths):
        raise SpecError("mixing lists a product twice, or more than 65536 of them. List each once.")
    return tuple(sorted(paths, key=lambda path: (path[2], path[0], path[1])))


def _path(entry: object, factors: list[FieldType]) -> Degrees:
    if not isinstance(entry, list) or len(entry) != 3 or not all(type(degree) is int for degree in entry):
        raise SpecError(
            f"mixing has an entry {quoted(entry)} that is not a product. Write [l1, l2, l], for example [1, 2, 3]."
        )
    l1, l2, l = sorted(entry[:2]) + entry[2:]
    first, second = ({term.irrep.degree for term in field.terms} for field in (factors[0], factors[-1]))
    if not ((l1 in first and l2 in second) or (l2 in first and l1 in second)):
        raise SpecError(f"mixing has a product {quoted(entry)} of degrees that the factors do not have.")
    if not l2 - l1 <= l <= l1 + l2:
        raise SpecError(
            f"mixing has {quoted(entry)}: a product of degrees {l1} and {l2} has degrees {l2 - l1}..{l1 + l2}."
        )
    return l1, l2, l


def _terms_of(first: FieldType, l1: int, second: FieldType, l2: int) -> list[Pair]:
    return [
        (i, j)
        for i, a in enumerate(first.terms)
        if a.irrep.degree == l1
        for j, b in enumerate(second.terms)
        if b.irrep.degree == l2
    ]


def _check_size(spec: ProductSpec) -> None:
    """Raises SpecError where the table would be too large, the output too wide, or a degree out of reach."""
    bound = 0
    for l in spec.degrees:
        reached = False
        for pair in spec.pairs(l):
            for path in spec._between_terms(*pair, l):
                reached = True
                bound += 2 * cost(*pair, l) * path.fragments  # real coefficients are fewer than twice the complex ones
        if not reached:
            raise SpecError(f"no product reaches degree {l}: take other degrees, another mixing, or more of the input.")
        if bound > 2 * MAX_COEFFICIENTS:
            raise SpecError(
                f'the products have more than {MAX_COEFFICIENTS} coefficients by degree {l}. Take mixing = "tree" or '
                '"reduced", fewer degrees, or fewer fragments.'
            )
    if spec.projected is not None:
        _check_projection(spec)
    elif spec.out.dimension > MAX_CHANNELS:
        raise SpecError(f"the output would have {spec.out.dimension} channels, the limit is {MAX_CHANNELS}.")
