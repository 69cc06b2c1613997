from __future__ import annotations

import pytest
from e3nn import o3
from hypothesis import given
from hypothesis import strategies as st

from basisgen.errors import SpecError
from basisgen.so3.field_type import parse_field_type

_TERMS = st.tuples(st.integers(1, 9), st.integers(0, 6), st.sampled_from("eo"))


@given(st.lists(_TERMS, min_size=1, max_size=5))
def test_grammar_and_channels_are_those_of_e3nn(terms: list[tuple[int, int, str]]) -> None:
    text = " + ".join(f"{multiplicity}x{degree}{parity}" for multiplicity, degree, parity in terms)
    ours, theirs = parse_field_type(text), o3.Irreps(text)
    assert ours.dimension == theirs.dim
    assert list(ours.slices) == theirs.slices()
    assert str(ours).replace(" ", "") == str(theirs).replace(" ", "")
    assert parse_field_type(str(ours)) == ours


@pytest.mark.parametrize(
    "text",
    ["4x0..15", "4x0..3", "2x1..4e", "2x0..3n + 1x2..9o", "4x0 + 4x1 + 4x2", "8x0..5 + 4x6", "1x0e + 1x0..3n + 1x0e"],
)
def test_successive_degrees_are_briefly_a_range(text: str) -> None:
    assert parse_field_type(text).brief() == text


@given(st.lists(st.tuples(st.integers(1, 2), st.integers(0, 2), st.integers(0, 5), st.sampled_from("eon")), min_size=1))
def test_the_brief_text_reads_as_the_same_type(ranges: list[tuple[int, int, int, str]]) -> None:
    text = " + ".join(f"{multiplicity}x{first}..{first + more}{letter}" for multiplicity, first, more, letter in ranges)
    assert parse_field_type(parse_field_type(text).brief()) == parse_field_type(text)


def test_signals_on_rotations_are_copies_of_the_regular_representation() -> None:
    assert str(parse_field_type("2x0..2r")) == "2x0 + 6x1 + 10x2"
    assert str(parse_field_type("0..3r2 + 1x0")) == "1x0 + 3x1 + 3x2 + 3x3 + 1x0"
    for text, orders in (("2x0..4r", 5), ("2x0..4r3", 3), ("2x0..4", 1), ("2x0..4 + 2x4", None), ("2x1..4r", None)):
        assert parse_field_type(text).orders == orders
    assert parse_field_type("1x0e + 3x1e").orders is None and parse_field_type("2x0 + 5x1").orders is None
    assert parse_field_type("7x0..5r").brief() == "7x0..5r" and parse_field_type("7x0..5r2").brief() == "7x0..5r2"


def test_a_term_without_multiplicity_is_one_copy() -> None:
    assert str(parse_field_type("0e+1o")) == "1x0e + 1x1o"
    assert str(parse_field_type(" 4 x 0 +2x1 ")) == "4x0 + 2x1"


def test_gates_are_one_even_scalar_per_non_scalar_copy() -> None:
    assert str(parse_field_type("4x0e + 2x1o + 3x2e").with_gates()) == "4x0e + 2x1o + 3x2e + 5x0e"
    assert str(parse_field_type("4x0 + 2x1").with_gates()) == "4x0 + 2x1 + 2x0"
    assert str(parse_field_type("4x0").with_gates()) == "4x0"


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("4x0+x2", "term 'x2' has no multiplicity"),
        ("", "empty term"),
        ("4x0+", "empty term"),
        ("0x1", "has no copies"),
        ("1x0e+1x1", "mixes degrees with a parity"),
        ("1y1", "term '1y1' is not a number of copies, the letter x and a degree. .*for example '4x0 \\+ 1x2'"),
        ("1x-1", "'1x-1' is not a number of copies"),
        ("1x1u", "'1x1u' is not a number of copies"),
        ("1x٣", "is not a number of copies"),
        ("9" * 40 + "x0", "is far too large"),
        ("2x0..3r5", "'5' are not an azimuthal band limit of degrees up to 3. Write 1 to 4"),
        ("2x0..3r0", "'0' are not an azimuthal band limit"),
        ("2x0..3r" + "9" * 30, "are not an azimuthal band limit"),
        ("9" * 30 + "x0..3r", "are not an azimuthal band limit|is far too large"),
        ("0x0..3r", "has no copies"),
        ("2x0..3er", "is not a number of copies"),
    ],
)
def test_errors_quote_the_text_and_show_the_cure(text: str, complaint: str) -> None:
    with pytest.raises(SpecError, match=complaint) as error:
        parse_field_type(text)
    assert repr(text) in str(error.value) and "\n" not in str(error.value)
