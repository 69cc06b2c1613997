"""Mixing sets: which products (l1, l2 -> l) a tensor-product activation keeps.

    P^l = {(l1, l2) : |l1-l2| <= l <= l1+l2}                     all couplings of two degrees to degree l

As edges of a graph whose nodes are the degrees of the signal, P^l is connected for l > 0. Any spanning tree of it lets
every degree act on every other; the cheapest one has the least sum of costs w(l1, l2, l), the non-zero coefficients of
each coupling. For l = 0 there are products (l1, l1) alone, which are loops, not edges: all of them are kept.

    all      P^l                                                                O(L^2) products per degree, O(L^5) cost
    tree     a minimum spanning tree by Kruskal, ties broken by (w, l2, l1)     O(L)                        O(L^4)
    reduced  of the tree's products in that order those at 0, 1, 2, 4, 8, ..    O(log L)                    O(L^3 log L)

Both factors are one signal, so pairs are unordered, l1 <= l2.
Source: Cobb et al. 2021, arXiv:2010.11661, section 3; the rule of `reduced` is ours, their text does not state one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from enum import Enum
from functools import lru_cache

from basisgen.errors import SpecError

Pair = tuple[int, int]  # l1, l2
Degrees = tuple[int, int, int]  # l1, l2, l


class Mixing(Enum):
    """The mixing sets that have a name."""

    ALL = "all"
    TREE = "tree"
    REDUCED = "reduced"


def mixing_set(mixing: Mixing, degrees: Sequence[int], l: int, self_products: bool | None = None) -> tuple[Pair, ...]:
    """The pairs (l1, l2), l1 <= l2, that are multiplied into degree l, sorted.

    `self_products` says whether the products (l1, l1) belong to it: None is the usual, True for `all`, False for the
    others, which are trees. Degree 0 has no other products and keeps them always. An odd l from (l1, l1) vanishes
    unless two different fragments of degree l1 meet; those pairs are listed all the same.

    Raises SpecError where a tree is asked for and the degrees are not connected by products of degree l.
    """
    return _mixing_set(mixing, tuple(sorted(set(degrees))), l, self_products)


@lru_cache(1 << 12)
def _mixing_set(mixing: Mixing, degrees: tuple[int, ...], l: int, self_products: bool | None) -> tuple[Pair, ...]:
    loops = [(a, a) for a in degrees if l <= 2 * a]
    edges = [(a, b) for i, a in enumerate(degrees) for b in degrees[i + 1 :] if b - a <= l <= a + b]
    keep = _RULES[mixing]
    if l == 0:
        return tuple(sorted(keep([], loops, l)))
    if mixing is not Mixing.ALL:
        edges = spanning_tree(degrees, edges, l)
    wanted = mixing is Mixing.ALL if self_products is None else self_products
    return tuple(sorted(keep(edges, loops if wanted else [], l)))


def cost(l1: int, l2: int, l: int) -> int:
    """The non-zero coefficients of the complex coupling: #{(m1, m2) : |m1| <= l1, |m2| <= l2, |m1 + m2| <= l}."""
    a, b = sorted((l1, l2))
    assert b - a <= l <= a + b
    # orders |M| <= b - a are reached by all 2a+1 pairs of orders, larger ones by a + b + 1 - |M|
    beyond = l - (b - a)
    return (2 * (b - a) + 1) * (2 * a + 1) + 2 * (beyond * 2 * a - beyond * (beyond - 1) // 2)


def by_cost(pairs: Iterable[Pair], l: int) -> list[Pair]:
    """Pairs in the order of the trees: by (w, l2, l1)."""
    return sorted(pairs, key=lambda pair: (cost(pair[0], pair[1], l), pair[1], pair[0]))


def spanning_tree(degrees: Sequence[int], edges: Iterable[Pair], l: int) -> list[Pair]:
    """The minimum spanning tree of the degrees, by Kruskal: the cheapest edge that closes no circle, again and again.

    Raises SpecError where the edges do not connect the degrees.
    """
    component = {degree: degree for degree in degrees}

    def root(degree: int) -> int:
        while component[degree] != degree:
            component[degree] = component[component[degree]]
            degree = component[degree]
        return degree

    tree = []
    for a, b in by_cost(edges, l):
        if (top := root(a)) != (other := root(b)):
            component[top] = other
            tree.append((a, b))
            if len(tree) == len(component) - 1:
                return tree
    if len(component) == 1:
        return []
    apart = next(degree for degree in degrees if root(degree) != root(degrees[-1]))
    raise SpecError(
        f"mixing 'tree' has no spanning tree for degree {l}: products of degree {l} do not connect the input's degrees "
        f'{apart} and {degrees[-1]}. Give the input every degree 0..{max(*degrees, l)}, or write mixing = "all".'
    )


def subsampled(pairs: Sequence[Pair]) -> list[Pair]:
    """The rule of `reduced`, said here alone: of pairs in the order of cost those at positions 0, 1, 2, 4, 8, .."""
    positions = [0, *(1 << power for power in range(len(pairs).bit_length()))]
    return [pairs[position] for position in positions if position < len(pairs)]


def _whole(edges: list[Pair], loops: list[Pair], l: int) -> list[Pair]:
    return edges + loops


def _reduced(edges: list[Pair], loops: list[Pair], l: int) -> list[Pair]:
    return subsampled(by_cost(edges, l)) + subsampled(by_cost(loops, l))


_Rule = Callable[[list[Pair], list[Pair], int], list[Pair]]
_RULES: dict[Mixing, _Rule] = {Mixing.ALL: _whole, Mixing.TREE: _whole, Mixing.REDUCED: _reduced}
