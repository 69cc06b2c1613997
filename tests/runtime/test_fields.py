import pytest
from e3nn import o3
from hypothesis import example, given, settings
from hypothesis import strategies as st

from basisgen.errors import SpecError
from basisgen.so3.field_type import parse_field_type
from runtime import Norm
from runtime.fields import Term, as_field_type, channel_count, copy_count, describe, has_parity
from runtime.strategies import field_types


def test_reads_both_notations():
    assert as_field_type("4x0e + 2x1o") == ((4, 0, 1), (2, 1, -1))
    assert as_field_type("4x0+1") == ((4, 0, None), (1, 1, None))
    assert as_field_type(((4, 0, None),)) == as_field_type([Term(4, 0, None)]) == ((4, 0, None),)


@given(field_types())
def test_text_and_triples_agree(field_type):
    assert as_field_type(describe(field_type)) == field_type
    assert as_field_type(tuple(tuple(term) for term in field_type)) == field_type


def test_counts_of_channels_and_copies_and_parity():
    field_type = as_field_type("4x0e + 2x1o + 3x2e")
    assert (channel_count(field_type), copy_count(field_type), has_parity(field_type)) == (25, 9, True)
    assert not has_parity(as_field_type("1x0"))


@pytest.mark.parametrize("text", ["", "4x0+x2", "2y1", "1x1u", "-1x0", "0x1", "4x0e+2x1", "1x0 1x1", "1.5x0"])
def test_refuses_text_and_quotes_it(text):
    with pytest.raises(ValueError, match="field type") as error:
        as_field_type(text)
    assert repr(text) in str(error.value)


@pytest.mark.parametrize("terms", [(), ((0, 1, None),), ((1, -1, None),), ((1, 0, 2),), ((1, 0, None), (1, 0, 1))])
def test_refuses_terms(terms):
    with pytest.raises(ValueError, match="field type"):
        as_field_type(terms)


TOKENS = st.sampled_from(
    ["1", "2", "10", "0", "x", " ", "+", "e", "o", "1x0", "3x2e", "16 x 1o", "-", "1.5", "\t", "²", "٣", ""]
)


def compiler_s(text):
    try:
        return [(term.multiplicity, term.irrep.degree, term.irrep.parity) for term in parse_field_type(text).terms]
    except SpecError:
        return None


def runtime_s(text):
    try:
        return list(map(tuple, as_field_type(text)))
    except ValueError:
        return None


@settings(deadline=None, max_examples=400)
@given(st.lists(TOKENS, max_size=9).map("".join))
@example("16x1e + 32 x 2o")
@example("123456789012345678901234x1")
@example(" 1x0 +2 x1 ")
def test_the_compiler_reads_the_same_grammar(text):
    assert runtime_s(text) == compiler_s(text)


@settings(deadline=None)
@given(field_types(), st.data())
def test_the_compiler_reads_what_the_runtime_writes_with_blanks_anywhere_allowed(field_type, data):
    text = describe(field_type)
    for blank in ("x", "+"):
        space = data.draw(st.sampled_from(["", " ", "  "]))
        text = text.replace(blank, space + blank + space)
    assert runtime_s(text) == compiler_s(text) == list(map(tuple, field_type))


def test_irreps_of_e3nn_are_read():
    assert as_field_type(o3.Irreps("4x0e + 2x1o")) == as_field_type("4x0e + 2x1o")
    assert Norm(o3.Irreps("1x1o")).out_channels == 1


@pytest.mark.parametrize(
    "value", [None, 3, 1.5, (1, 0, None), [("a", 0, None)], [(1, 0)], [(1.5, 0, None)], [None], {}]
)
def test_a_value_that_is_not_a_field_type_is_one_clear_error(value):
    with pytest.raises(ValueError, match="field type"):
        as_field_type(value)
