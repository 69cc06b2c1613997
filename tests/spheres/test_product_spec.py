"""Products in a spec: what is read, and one clear line for everything else."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from basisgen.errors import SpecError
from basisgen.so3.field_type import parse_field_type
from basisgen.spec import parse_layer, parse_package
from basisgen.spheres.product_spec import parse_product


def test_ranges_in_field_types() -> None:
    assert str(parse_field_type("8x0..3")) == "8x0 + 8x1 + 8x2 + 8x3"
    assert str(parse_field_type("8x0..3n + 0..1e")) == "8x0e + 8x1o + 8x2e + 8x3o + 1x0e + 1x1e"
    assert str(parse_field_type("2 x 5..5o")) == "2x5o"


@pytest.mark.parametrize("text", ["8x3..1", "8x0..99999", "8x0..", "8x..3", "8x0..3q", "8x0...3", "8x0..999999999999"])
def test_wrong_ranges(text: str) -> None:
    with pytest.raises(SpecError, match="cannot read field type"):
        parse_field_type(text)


GOOD = [
    {"in": "2x0..7", "mixing": "tree"},
    {"in": "2x0..7", "mixing": "reduced", "self_products": True},
    {"in": "2x0..3", "second": "2x0..2", "mixing": "all", "degrees": "0..5"},
    {"in": "4x0 + 2x1", "channels": 2, "mixing": [[1, 0, 1], [1, 1, 0]]},
    {"in": "2x0..3n", "mixing": "all", "degrees": [0, 2]},
]


@pytest.mark.parametrize("table", GOOD)
def test_a_description_is_read_back(table: dict[str, object]) -> None:
    spec = parse_product("P", table)
    assert parse_layer(spec.describe()) == spec
    assert spec.out.dimension > 0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"mixing": None}, "has no key 'mixing'"),
        ({"in": None}, "has no key 'in'"),
        ({"in": 3}, "is not a field type"),
        ({"in": "1x0..1000000000"}, "is not a range"),
        ({"in": "1x0 + 1x251"}, "over the limit"),
        ({"in": "1000000000x0..1"}, "channels, the limit is"),
        ({"second": "2x0e"}, "of different groups"),
        ({"second": 7}, "is not a field type"),
        ({"mixing": "trees"}, "is not one of all, tree, reduced"),
        ({"mixing": 1}, "is not one of"),
        ({"mixing": []}, "is not one of"),
        ({"mixing": [[0, 1]]}, "is not a product"),
        ({"mixing": [[0, 1, 1.5]]}, "is not a product"),
        ({"mixing": [[0, 1, True]]}, "is not a product"),
        ({"mixing": [[0, 9, 9]]}, "that the factors do not have"),
        ({"mixing": [[1, 2, 7]]}, "has degrees 1..3"),
        ({"mixing": [[1, 2, 2], [2, 1, 2]]}, "lists a product twice"),
        ({"mixing": [[1, 1, 1]]}, "no product reaches degree 1"),
        ({"mixing": [[0, 1, 1]], "degrees": "0..2"}, "with a list of products"),
        ({"degrees": "0..1000000000"}, "is not a range of degrees"),
        ({"degrees": "3..1"}, "is not a range of degrees"),
        ({"degrees": "0.."}, "is not a range of degrees"),
        ({"degrees": "99"}, "is not a range of degrees"),
        ({"degrees": []}, "is not a range of degrees"),
        ({"degrees": [1, 1]}, "is not a range of degrees"),
        ({"degrees": [True]}, "is not a range of degrees"),
        ({"degrees": 3}, "is not a range of degrees"),
        ({"self_products": 1}, "is not true or false"),
        ({"channels": 0}, "is not a whole number"),
        ({"channels": 3}, "does not divide"),
        ({"channels": 10**9}, "does not divide"),
        ({"channels": "2"}, "is not a whole number"),
        ({"in": "2x0 + 4x1"}, "the number of channels is not known"),
        ({"in": "2x0 + 2x2 + 2x3", "degrees": "1..1"}, "no spanning tree for degree 1"),
        ({"in": "2x0..3", "degrees": "5..6"}, "no spanning tree for degree 5"),
        ({"in": "1x0..250", "mixing": "all"}, "coefficients by degree"),
        ({"in": "4096x0..3", "channels": 1, "mixing": "all"}, "coefficients by degree"),
        ({"kernel_size": 3}, "unknown key 'kernel_size'"),
        ({"radial": {}}, "unknown key 'radial'"),
    ],
)
def test_wrong_products_are_one_line(change: dict[str, object], message: str) -> None:
    table = {"kind": "product", "name": "P", "in": "2x0..3", "mixing": "tree", **change}
    with pytest.raises(SpecError, match=message) as error:
        parse_layer({key: value for key, value in table.items() if value is not None})
    assert "\n" not in str(error.value) and len(str(error.value)) < 400


def test_one_degree_may_stand_alone() -> None:
    one, listed = (parse_product("P", {"in": "2x0..3", "mixing": "all", "degrees": given}) for given in ("2", [2]))
    assert one == listed and one.degrees == (2,)


def test_pairs_of_terms_are_counted_before_they_are_listed() -> None:
    """100 kB of a spec would be 10^8 of them."""
    with pytest.raises(SpecError, match="160000000 pairs of terms, the limit is 262144"):
        parse_product(
            "P", {"in": " + ".join(["1x0"] * 16_000), "second": " + ".join(["1x0"] * 10_000), "mixing": "all"}
        )


def test_products_over_the_size_limit_are_refused() -> None:
    with pytest.raises(SpecError):
        parse_product("P", {"in": "8x0..250", "mixing": "all", "degrees": "0..500"})


_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8) | st.floats(allow_nan=True),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=2),
    max_leaves=6,
)


@settings(max_examples=60)
@given(st.dictionaries(st.sampled_from(["in", "second", "mixing", "degrees", "self_products", "channels"]), _VALUES))
def test_any_value_gives_one_line_or_a_product(change: dict[str, object]) -> None:
    try:
        parse_layer({"kind": "product", "name": "P", "in": "2x0..3", "mixing": "tree", **change})
    except SpecError as error:
        assert "\n" not in str(error)


def test_a_layer_takes_the_output_of_another() -> None:
    text = """
    name = "chain"
    [defaults.product]
    mixing = "tree"
    [[layer]]
    kind = "product"
    name = "First"
    in = "2x0..2"
    [[layer]]
    kind = "product"
    name = "Second"
    in = "First"
    second = "First"
    channels = 2
    degrees = "0..2"
    """
    first, second = parse_package(text).layers
    assert second.into == first.out
