"""What is proved of a product as a whole, and that each proof rejects what is wrong."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import pytest

from basisgen.errors import ProofError
from basisgen.so3.field_type import Irrep
from basisgen.spheres.mixing import Mixing, mixing_set
from basisgen.spheres.product_proof import check_tree, multiplicities, prove_product
from basisgen.spheres.product_spec import ProductSpec, parse_product


def _spec(into: str, **settings: object) -> ProductSpec:
    return parse_product("P", {"in": into, "mixing": "all", **settings})


@pytest.mark.parametrize("L", [4, 8, 16])
def test_all_paths_are_all_maps(L: int) -> None:
    spec = _spec(f"3x0..{L - 1}")
    dimensions = prove_product(spec)
    counted = [sum(path.fragments for path in spec.paths if path.out.degree == l) for l in range(L)]
    assert [dimensions[Irrep(l)] for l in range(L)] == counted
    assert sum(counted) == {4: 18, 8: 132, 16: 1032}[L]


def test_dimensions_add_up_to_the_product() -> None:
    """The dimension of V x W, and of Sym^2 V, of types with fragments and parity."""
    two = _spec("4x0e + 6x1o + 2x2o", second="2x1o + 2x1e", channels=2, degrees="0..3")
    total = sum(count * irrep.dimension for irrep, count in multiplicities(two).items())
    assert total == (two.into.dimension // 2) * (12 // 2)
    one = _spec("4x0e + 6x1o + 2x2o", channels=2)
    n = one.into.dimension // 2
    assert sum(count * irrep.dimension for irrep, count in multiplicities(one).items()) == n * (n + 1) // 2


@pytest.mark.parametrize("into", ["2x0..5n", "2x0 + 4x3 + 2x1 + 2x1"])
@pytest.mark.parametrize("second", [None, "2x0..2n", "4x1 + 2x4"])
def test_all_is_complete_for_other_types(into: str, second: str | None) -> None:
    if second is not None and ("n" in into) != ("n" in second):
        pytest.skip("of different groups")
    prove_product(_spec(into, second=second, channels=2, degrees="0..4"))


def test_a_missing_and_a_doubled_path_are_found() -> None:
    spec = _spec("1x0..4")
    for paths in (spec.paths[1:], spec.paths[:-1]):
        wrong = replace(spec)
        wrong.__dict__["paths"] = paths
        with pytest.raises(ProofError, match="is not complete"):
            prove_product(wrong)
    wrong = replace(spec)
    wrong.__dict__["paths"] = (*spec.paths[:5], spec.paths[4], *spec.paths[5:])
    with pytest.raises(ProofError, match="multiply the same fragments"):
        prove_product(wrong)


@pytest.mark.parametrize("L", [2, 4, 8, 16])
def test_trees_pass(L: int) -> None:
    prove_product(_spec(f"1x0..{L - 1}", mixing="tree"))


def test_heavier_and_broken_trees_are_found() -> None:
    degrees = range(8)
    for l in range(1, 8):
        tree = list(mixing_set(Mixing.TREE, degrees, l))
        check_tree(degrees, tree, l)
        with pytest.raises(ProofError, match="not a spanning tree"):
            check_tree(degrees, tree[1:], l)
        with pytest.raises(ProofError, match="not a spanning tree"):
            check_tree(degrees, [*tree[1:], tree[1]], l)
        others = [pair for pair in mixing_set(Mixing.ALL, degrees, l, False) if pair not in tree]
        for other in others:
            for k in range(len(tree)):
                with pytest.raises(ProofError):
                    check_tree(degrees, [*tree[:k], other, *tree[k + 1 :]], l)


def test_a_chain_is_not_the_tree() -> None:
    with pytest.raises(ProofError, match=r"not minimal|has no product"):
        check_tree(range(6), list(pairwise(range(6))), 2)
