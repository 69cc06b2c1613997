"""What `basisgen show` prints instead of kernels: products of fields, zonal filters, D^l of rotations."""

from __future__ import annotations

from basisgen.commands import show_product, show_rotation, show_zonal
from basisgen.errors import SpecError


def text_of(
    style: str,
    alone: bool,
    product: tuple[int, int, int] | None,
    zonal: tuple[int, int] | None,
    rotation: int | None,
) -> str:
    """The one that is asked for; `alone`: no fields and degrees are given.

    Raises SpecError where several things are asked for.
    """
    if not alone or (product, zonal, rotation).count(None) < 2:
        raise SpecError(
            "--product takes three degrees, --zonal a band limit and anchors, --rotation a degree, and then nothing "
            "else."
        )
    if product is not None:
        return show_product.STYLES[style](*product)
    return show_zonal.STYLES[style](*zonal) if zonal is not None else show_rotation.STYLES[style](rotation or 0)
