"""What is proved of a product as a whole, exactly, by code that does not know how its paths were chosen.

    (0) coupled       every path is a proven coupling (couplings.prove); of one fragment with itself l is even, so that
                      its symmetric part, all that is left, is all of it
    (1) independent   no two paths to one irrep multiply the same fragments: their products x_m y_n are then different
                      monomials, and different couplings of the same fragments go to different irreps
    (2) complete      for `all`: their number is the multiplicity of D^l in V x W, or in Sym^2 V of one field, counted
                      from weights. With n_V(m) the dimension of the weight space m of V,

        N(m) = sum_a n_V(a) n_W(m-a),      of Sym^2 V  (N(m) + [m even] n_V(m/2)) / 2,      multiplicity N(l) - N(l+1)

    (3) tree          spanning: L - 1 edges that connect all degrees; minimal by the cut property: no edge across the
                      cut that an edge of the tree leaves behind costs less
Source of (3): Tarjan, Data Structures and Network Algorithms (1983), chapter 6.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

from basisgen.errors import ProofError
from basisgen.so3.field_type import FieldType, Irrep
from basisgen.spheres.mixing import Mixing, Pair, cost
from basisgen.spheres.product_spec import ProductSpec


def prove_product(spec: ProductSpec) -> dict[Irrep, int]:
    """Proves (1) to (3) of a layer whose paths are proven couplings; the dimension of all products per irrep.

    Raises ProofError.
    """
    dimensions = multiplicities(spec)
    for irrep in {path.out for path in spec.paths}:
        pairs = fragment_pairs(spec, irrep)
        if len(dict(pairs)) != len(pairs):
            raise ProofError(f"product {spec.name}: two paths to {irrep} multiply the same fragments")
        number = sum(count for _, count in pairs)
        if number > dimensions[irrep] or (_is_whole(spec) and number != dimensions[irrep]):
            raise ProofError(
                f"product {spec.name} is not complete: {number} paths to {irrep}, and there are {dimensions[irrep]}"
            )
    if spec.mixing is Mixing.TREE:
        degrees = sorted({term.irrep.degree for field in spec.factors for term in field.terms})
        for l in spec.degrees:
            if l:
                check_tree(degrees, [pair for pair in spec.pairs(l) if pair[0] != pair[1]], l)
    return dimensions


def multiplicities(spec: ProductSpec) -> dict[Irrep, int]:
    """Of every irrep in the product of the factors, how often: all bilinear maps to it there are, from weights."""
    first, second = spec.factors
    symmetric = spec.second is None
    counts: dict[Irrep, int] = {}
    for parity in (None,) if not first.has_parity else (1, -1):
        weights: Counter[int] = Counter()
        for p in (None,) if parity is None else (1, -1):
            q = None if parity is None or p is None else p * parity
            left, right = _weights(first, p, spec.channels), _weights(second, q, spec.channels)
            for a, m in left.items():
                for b, n in right.items():
                    weights[a + b] += m * n
        if symmetric:
            # pairs of weights that meet in both orders once, and those of one weight vector with itself
            diagonal: Counter[int] = Counter()
            for p in (None,) if parity is None else ((1, -1) if parity == 1 else ()):
                diagonal.update({2 * a: m for a, m in _weights(first, p, spec.channels).items()})
            weights = Counter({w: (weights[w] + diagonal[w]) // 2 for w in weights})
        for l in range(max(weights, default=-1) + 1):
            if number := weights[l] - weights[l + 1]:
                counts[Irrep(l, parity)] = number
    return counts


def fragment_pairs(spec: ProductSpec, irrep: Irrep) -> list[tuple[Pair, int]]:
    """Of every path to an irrep the two terms, of one field the smaller first, and how many pairs of their fragments.

    Paths of other terms multiply other fragments, and paths of the same terms the same.
    """
    first, second = spec.factors
    found = []
    for path in spec.paths:
        if path.out != irrep:
            continue
        m, n = (term.multiplicity // spec.channels for term in (first.terms[path.first], second.terms[path.second]))
        if spec.second is None and path.first == path.second:
            number = sum(n - t - irrep.degree % 2 for t in range(m))  # t < u, and t = u for even degrees
        else:
            number = m * n
        if number != path.fragments:
            raise ProofError(f"product {spec.name}: {path} counts {path.fragments} pairs of fragments, not {number}")
        pair = (path.first, path.second)
        found.append(((min(pair), max(pair)) if spec.second is None else pair, number))
    return found


def check_tree(degrees: Sequence[int], tree: Iterable[Pair], l: int) -> None:
    """(3) for one degree; raises ProofError."""
    tree = list(tree)
    if len(tree) != len(degrees) - 1 or _reached(degrees[0], tree) != set(degrees):
        raise ProofError(f"the products {tree} of degree {l} are not a spanning tree of the degrees {list(degrees)}")
    costs = {(a, b): cost(a, b, l) for i, a in enumerate(degrees) for b in degrees[i + 1 :] if b - a <= l <= a + b}
    for edge in tree:
        if edge not in costs:
            raise ProofError(f"{edge} has no product of degree {l}")
        side = _reached(edge[0], [other for other in tree if other != edge])
        cheapest = min(weight for (a, b), weight in costs.items() if (a in side) != (b in side))
        if costs[edge] != cheapest:
            raise ProofError(
                f"the tree of degree {l} is not minimal: {edge} costs {costs[edge]}, its cut has {cheapest}"
            )


def _is_whole(spec: ProductSpec) -> bool:
    return spec.mixing is Mixing.ALL and spec.self_products is not False


def _weights(field: FieldType, parity: int | None, channels: int) -> Counter[int]:
    """n_V: the dimension of each weight space of the part of that parity, per channel."""
    weights: Counter[int] = Counter()
    for term in field.terms:
        if term.irrep.parity == parity:
            for m in range(-term.irrep.degree, term.irrep.degree + 1):
                weights[m] += term.multiplicity // channels
    return weights


def _reached(start: int, edges: Sequence[Pair]) -> set[int]:
    neighbours: dict[int, list[int]] = {}
    for a, b in edges:
        neighbours.setdefault(a, []).append(b)
        neighbours.setdefault(b, []).append(a)
    reached, queue = {start}, [start]
    while queue:
        for node in neighbours.get(queue.pop(), []):
            if node not in reached:
                reached.add(node)
                queue.append(node)
    return reached
