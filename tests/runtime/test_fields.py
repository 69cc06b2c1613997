import pytest
from hypothesis import given

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


def test_counts():
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
