"""The field types of signals: K copies of every degree below a band limit on the sphere, `Kx0..L-1`.

On the rotation group K times 2l+1 copies, or 2N-1 at most for an azimuthal band limit N: `Kx0..L-1r`, `Kx0..L-1rN`.
"""

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
            f"'8x0..15'.{' This is a signal on the rotation group.' if field.orders else ''}"
        )
    if any(term.irrep.parity not in (None, (-1) ** term.irrep.degree) for term in field.terms):
        raise SpecError(
            f"{key} = '{field.brief()}': a signal on the sphere has natural parity. Write it as '8x0..15n'."
        )
    return field


def rotation_type(value: object, key: str) -> FieldType:
    """Signals on the rotation group from a spec, one term per degree 0, 1, .. L-1; raises SpecError."""
    field = field_type(value, key)
    if field.orders is None:
        raise SpecError(
            f"{key} = '{field.brief()}' is not a signal on the rotation group: write Kx0..L-1r, K signals of band "
            "limit L, 2l+1 fragments of each degree, without parity, as '8x0..15r', or '8x0..15r3'."
        )
    return field
