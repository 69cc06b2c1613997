"""The field type of signals on the sphere: K copies of every degree below a band limit, `Kx0..L-1`."""

from __future__ import annotations

from basisgen.errors import SpecError
from basisgen.so3.field_type import FieldType
from basisgen.spheres.product_spec import field_type


def signal_type(value: object, key: str) -> FieldType:
    """Signals on the sphere from a spec, one term per degree 0, 1, .. L-1; raises SpecError."""
    field = field_type(value, key)
    degrees = [term.irrep.degree for term in field.terms]
    multiplicities = {term.multiplicity for term in field.terms}
    if degrees != list(range(len(degrees))) or len(multiplicities) > 1:
        raise SpecError(
            f"{key} = '{field.brief()}' is not a signal on the sphere: write Kx0..L-1, K signals of band limit L, as "
            "'8x0..15'."
        )
    if any(term.irrep.parity not in (None, (-1) ** term.irrep.degree) for term in field.terms):
        raise SpecError(
            f"{key} = '{field.brief()}': a signal on the sphere has natural parity. Write it as '8x0..15n'."
        )
    return field
