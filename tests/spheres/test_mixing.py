"""Mixing sets against the tables of the specification, exactly, and against code that does not know Kruskal."""

from __future__ import annotations

from itertools import combinations

import pytest

from basisgen.errors import SpecError
from basisgen.spheres.mixing import Mixing, Pair, cost, mixing_set, subsampled

SETS_4 = {
    Mixing.ALL: ["00 11 22 33", "01 12 23", "02 11 12 13 22 23 33", "03 12 13 23"],
    Mixing.TREE: ["00 11 22 33", "01 12 23", "02 12 13", "03 12 13"],
    Mixing.REDUCED: ["00 11 22", "01 12 23", "02 12 13", "03 12 13"],
}
SETS_8 = {
    Mixing.TREE: [
        "00 11 22 33 44 55 66 77",
        "01 12 23 34 45 56 67",
        "02 12 13 24 35 46 57",
        "03 12 13 14 25 36 47",
        "04 13 14 15 23 26 37",
        "05 14 15 16 23 24 27",
        "06 15 16 17 24 25 34",
        "07 16 17 25 26 34 35",
    ],
    Mixing.REDUCED: [
        "00 11 22 44",
        "01 12 23 45",
        "02 12 13 35",
        "03 12 13 25",
        "04 13 14 23",
        "05 14 15 23",
        "06 15 16 24",
        "07 16 17 34",
    ],
}
COUNTS = {  # L -> paths and non-zeros of ordered, all, tree, reduced
    4: ((34, 18, 13, 12), (478, 226, 117, 110)),
    8: ((260, 132, 57, 32), (14_876, 7_332, 1_705, 696)),
    16: ((2_056, 1_032, 241, 80), (472_888, 235_592, 24_913, 4_526)),
    32: ((16_400, 8_208, 993, 192), (15_107_696, 7_547_024, 375_457, 30_454)),
    64: ((131_104, 65_568, 4_033, 448), (483_249_376, 241_570_080, 5_805_377, 212_370)),
    128: ((1_048_640, 524_352, 16_257, 1_024), (15_462_406_592, 7_730_766_400, 91_204_225, 1_543_766)),
}


def _distinct(mixing: Mixing, L: int, l: int) -> list[Pair]:
    """Without the antisymmetric squares, which vanish for one fragment per degree."""
    return [(a, b) for a, b in mixing_set(mixing, range(L), l) if a != b or l % 2 == 0]


def _pairs(text: str) -> list[Pair]:
    return [(int(a), int(b)) for a, b in text.split()]


@pytest.mark.parametrize("mixing", Mixing)
def test_sets_of_band_limit_4(mixing: Mixing) -> None:
    assert [_distinct(mixing, 4, l) for l in range(4)] == [_pairs(text) for text in SETS_4[mixing]]


@pytest.mark.parametrize("mixing", SETS_8)
def test_sets_of_band_limit_8(mixing: Mixing) -> None:
    assert [_distinct(mixing, 8, l) for l in range(8)] == [_pairs(text) for text in SETS_8[mixing]]
    assert [len(_distinct(Mixing.ALL, 8, l)) for l in range(8)] == [8, 7, 19, 16, 24, 19, 23, 16]


def _count(mixing: Mixing, L: int) -> tuple[int, int]:
    paths = [(a, b, l) for l in range(L) for a, b in _distinct(mixing, L, l)]
    return len(paths), sum(cost(*path) for path in paths)


@pytest.mark.parametrize("L", [4, 8, 16, 32, 64, pytest.param(128, marks=pytest.mark.slow)])
def test_counts_of_paths_and_coefficients_of_every_mixing_set(L: int) -> None:
    paths, nonzeros = COUNTS[L]
    both = [(l1, l2, l) for l1 in range(L) for l2 in range(L) for l in range(abs(l1 - l2), min(L, l1 + l2 + 1))]
    assert (len(both), sum(cost(*path) for path in both)) == (paths[0], nonzeros[0])
    found = [_count(mixing, L) for mixing in Mixing]
    assert found == list(zip(paths[1:], nonzeros[1:], strict=True))


def test_cost_counts_orders() -> None:
    for l1, l2 in [(0, 0), (1, 2), (3, 3), (5, 2), (4, 7)]:
        for l in range(abs(l1 - l2), l1 + l2 + 1):
            orders = [(m, n) for m in range(-l1, l1 + 1) for n in range(-l2, l2 + 1)]
            assert cost(l1, l2, l) == sum(abs(m + n) <= l for m, n in orders)


@pytest.mark.parametrize("weigh", [cost, lambda l1, l2, l: (2 * l + 1) * (2 * l1 + 1) * (2 * l2 + 1)])
def test_tree_is_the_lightest_spanning_tree(weigh) -> None:  # type: ignore[no-untyped-def]
    """Among all spanning trees of L = 5, tried one by one, none is lighter; by either of two costs."""
    for l in range(1, 5):
        edges = [(a, b) for a in range(5) for b in range(a + 1, 5) if b - a <= l <= a + b]
        trees = [tree for tree in combinations(edges, 4) if _connects(tree, 5)]
        ours = mixing_set(Mixing.TREE, range(5), l)
        assert ours in trees
        assert sum(weigh(*edge, l) for edge in ours) == min(sum(weigh(*edge, l) for edge in tree) for tree in trees)


def _connects(edges: tuple[Pair, ...], nodes: int) -> bool:
    reached = {0}
    for _ in edges:
        reached |= {node for edge in edges if reached & set(edge) for node in edge}
    return len(reached) == nodes


def test_self_products_are_an_option() -> None:
    assert mixing_set(Mixing.TREE, range(4), 2, True) == ((0, 2), (1, 1), (1, 2), (1, 3), (2, 2), (3, 3))
    assert mixing_set(Mixing.ALL, range(4), 2, False) == ((0, 2), (1, 2), (1, 3), (2, 3))
    loops = ((1, 1), (2, 2), (3, 3), (5, 5))  # of (1, 1) .. (7, 7) by cost, at 0, 1, 2, 4
    assert mixing_set(Mixing.REDUCED, range(8), 2, True) == tuple(sorted((*loops, (0, 2), (1, 2), (1, 3), (3, 5))))
    assert mixing_set(Mixing.TREE, range(4), 0, False) == mixing_set(Mixing.TREE, range(4), 0, True)


def test_reduced_keeps_positions_0_1_2_4_8() -> None:
    pairs = [(0, n) for n in range(20)]
    assert [n for _, n in subsampled(pairs)] == [0, 1, 2, 4, 8, 16]
    assert subsampled([]) == [] and subsampled(pairs[:1]) == pairs[:1] and len(subsampled(pairs[:2])) == 2


@pytest.mark.parametrize(("degrees", "l"), [((0, 1, 2), 5), ((0, 2, 3), 1), ((1, 5), 1), ((0, 7), 3)])
def test_degrees_that_no_tree_connects_are_refused(degrees: tuple[int, ...], l: int) -> None:
    with pytest.raises(SpecError, match=f"no spanning tree for degree {l}"):
        mixing_set(Mixing.TREE, degrees, l)


def test_holes_that_a_tree_can_bridge() -> None:
    assert mixing_set(Mixing.TREE, (0, 2, 4), 2) == ((0, 2), (2, 4))
    assert mixing_set(Mixing.TREE, (3,), 2) == ()
