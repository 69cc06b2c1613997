"""The paths of products: coupled, independent, complete, and trees that are trees.

complete    the multiplicity of D^l in V x W, or Sym^2 V, from characters: with chi_V(z) = sum_m n(m) z^m,
            chi = chi_V chi_W, or (chi_V(z)^2 + chi_V(z^2)) / 2; the multiplicity is chi_l - chi_(l+1)
tree        by Prim's algorithm, grown from the largest degree; costs counted one pair of orders after another.
            (cost, l2, l1) orders all edges strictly, so that there is one minimal tree
reduced     of the tree in that order the positions 0, 1, 2, 4, 8, ...
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache

from basisgen.verify.spheres.statement import Output, Pair, Product, Term

Character = dict[int, int]  # weight -> dimension


def check_paths(product: Product) -> Iterator[str]:
    """Complaints about one product."""
    for output in product.outputs:
        where = f"certificate.json: products: {product.name}, irrep {output.degree}"
        fragments = _fragments(product, output)
        if fragments is None:
            yield f"{where}: a path couples degrees or parities that do not meet"
            continue
        if len({terms for terms, _ in fragments}) != len(fragments):
            yield f"{where}: two paths multiply the same fragments"
        number = sum(count for _, count in fragments)
        dimension = multiplicity(product, output)
        whole = product.mixing == "all" and product.self_products is not False
        if output.number != number or output.dimension != dimension or (whole and dimension != number):
            yield f"{where}: {number} maps of {dimension}, stated are {output.number} of {output.dimension}"
        if product.mixing in ("tree", "reduced"):
            yield from (f"{where}: {wrong}" for wrong in _check_tree(product, output))


def multiplicity(product: Product, output: Output) -> int:
    """How many bilinear maps to an irrep there are."""
    total: Character = {}
    for p in (1, -1) if output.parity is not None else (None,):
        q = None if output.parity is None or p is None else p * output.parity
        left, right = (
            _character(terms, parity, product.channels) for terms, parity in zip(product.factors, (p, q), strict=True)
        )
        for a, m in left.items():
            for b, n in right.items():
                total[a + b] = total.get(a + b, 0) + m * n
        if product.second is None and output.parity in (None, 1):
            for a, m in left.items():
                total[2 * a] = total.get(2 * a, 0) + m
    half = 2 if product.second is None else 1
    return (total.get(output.degree, 0) - total.get(output.degree + 1, 0)) // half


def prim(degrees: list[int], l: int) -> list[Pair] | None:
    """The minimal spanning tree for products of degree l, in order of cost; None where there is none."""
    outside, new = set(degrees[:-1]), degrees[-1]
    cheapest: dict[int, tuple[int, int, int]] = {}  # of a degree outside: cost, l2, l1 of the best edge to the tree
    tree = []
    while outside:
        for b in outside:
            if abs(new - b) <= l <= new + b:
                edge = cost(min(new, b), max(new, b), l), max(new, b), min(new, b)
                cheapest[b] = min(edge, cheapest.get(b, edge))
        if not cheapest:
            return None
        new = min(cheapest, key=lambda b: cheapest[b])
        tree.append(cheapest.pop(new))
        outside.remove(new)
    return [(a, b) for _, b, a in sorted(tree)]


@cache
def cost(l1: int, l2: int, l: int) -> int:
    """#{(m1, m2) : |m1 + m2| <= l}."""
    return sum(max(0, min(l2, l - m) - max(-l2, -l - m) + 1) for m in range(-l1, l1 + 1))


def _check_tree(product: Product, output: Output) -> Iterator[str]:
    pairs = {(min(a, b), max(a, b)) for a, b, _ in (product.degrees(output, pair) for pair in output.paths)}
    edges, loops = {pair for pair in pairs if pair[0] != pair[1]}, {pair for pair in pairs if pair[0] == pair[1]}
    degrees = sorted({term.degree for terms in product.factors for term in terms})
    if output.degree:
        tree = prim(degrees, output.degree)
        if tree is None:
            yield "there is no spanning tree"
            return
        wanted = set(_kept(tree) if product.mixing == "reduced" else tree)
        if product.second is None and output.parity is None and edges != wanted:
            yield f"its products are not the {product.mixing} set"
        if not edges <= wanted:
            yield f"a product is not in the {product.mixing} set"
    if loops and output.degree and not product.self_products:
        yield "it has self products, which the spec does not have"


def _kept(pairs: list[Pair]) -> list[Pair]:
    return [pair for position, pair in enumerate(pairs) if position & (position - 1) == 0]


def _fragments(product: Product, output: Output) -> list[tuple[Pair, int]] | None:
    """Of every path its terms, of one field the smaller first, and how many pairs of fragments it multiplies.

    Paths of other terms multiply other fragments, and those of the same terms the same.
    """
    found = []
    first, second = product.factors
    for i, j in output.paths:
        if i >= len(first) or j >= len(second):
            return None
        a, b = first[i], second[j]
        parity = None if a.parity is None or b.parity is None else a.parity * b.parity
        if not abs(a.degree - b.degree) <= output.degree <= a.degree + b.degree or parity != output.parity:
            return None
        t, u = a.multiplicity // product.channels, b.multiplicity // product.channels
        if product.second is not None:
            found.append(((i, j), t * u))
        elif i != j:
            found.append(((min(i, j), max(i, j)), t * u))
        else:  # one fragment with itself vanishes for odd degrees
            found.append(((i, j), t * (t - 1 if output.degree % 2 else t + 1) // 2))
    return found


def _character(terms: tuple[Term, ...], parity: int | None, channels: int) -> Character:
    weights: Character = {}
    for term in terms:
        if term.parity == parity:
            for m in range(-term.degree, term.degree + 1):
                weights[m] = weights.get(m, 0) + term.multiplicity // channels
    return weights
