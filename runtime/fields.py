"""Field types: which representation of the rotation group each channel of a volume belongs to.

A volume is ``(batch, channel, x, y, z)``. Its channels are fields in the order of the terms of the field type, then
copy, then component, ``[multiplicity][2 degree + 1]`` flattened. The grammar is the compiler's, e3nn's irreps:
``4x0e + 2x1o`` with parity (group O(3)), ``4x0 + 2x1`` without (group SO(3)), ``1o`` for ``1x1o``; blanks may stand
around ``x`` and ``+``. A test feeds both readers the same texts.
"""

import operator
import re
from collections.abc import Iterable
from typing import Any, NamedTuple, TypeAlias

import torch
from torch import Tensor

_TERM = re.compile(r"(?:(?P<multiplicity>[0-9]+)\s*x\s*)?(?P<degree>[0-9]+)(?P<parity>[eo]?)", re.ASCII)
_LONGEST_TERM = 24  # characters
_PARITY = {"e": 1, "o": -1, "": None}
_LETTER = {1: "e", -1: "o", None: ""}


class Term(NamedTuple):
    """`multiplicity` copies of the irreducible representation of one degree; it equals the plain triple."""

    multiplicity: int
    degree: int
    parity: int | None

    @property
    def dimension(self) -> int:
        """The number of components of one copy, 2 degree + 1."""
        return 2 * self.degree + 1

    @property
    def channels(self) -> int:
        """The number of channels of all copies."""
        return self.multiplicity * self.dimension

    @property
    def is_even_scalar(self) -> bool:
        """Whether rotations and reflections leave the field's value alone (degree 0, parity not odd)."""
        return self.degree == 0 and self.parity != -1

    @property
    def is_odd_scalar(self) -> bool:
        """Whether reflections, and only they, flip the sign (0o)."""
        return self.degree == 0 and self.parity == -1

    def __str__(self) -> str:
        return f"{self.multiplicity}x{self.degree}{_LETTER[self.parity]}"


FieldType: TypeAlias = tuple[Term, ...]
FieldTypeLike: TypeAlias = str | Iterable[Any]  # a text, or triples (multiplicity, degree, parity)


def as_field_type(value: FieldTypeLike) -> FieldType:
    """The field type written as text ``'4x0e + 2x1o'``, as triples ``((4, 0, 1), (2, 1, -1))``, or an e3nn
    ``o3.Irreps``.

    Raises ValueError if a term cannot be read, has no copy, a negative degree or a parity other than +1, -1 and None,
    if there is no term, or if some terms have a parity and others have none.
    """
    terms = _parse(value) if isinstance(value, str) else _of_terms(value)
    if not terms:
        raise ValueError(f"field type {_quoted(value)} has no term. Write at least one, for example '1x0'.")
    for term in terms:
        if term.multiplicity < 1 or term.degree < 0 or term.parity not in _LETTER:
            raise ValueError(
                f"field type {_quoted(value)}: {tuple(term)} is not (multiplicity >= 1, degree >= 0, parity +1, -1 or "
                "None)."
            )
    if len({term.parity is None for term in terms}) > 1:
        raise ValueError(
            f"field type {_quoted(value)} mixes terms with and without parity. "
            "Give every term a parity letter (group O(3)) or none (group SO(3))."
        )
    return terms


def _parse(text: str) -> FieldType:
    terms = []
    for word in text.split("+"):
        match = _TERM.fullmatch(word.strip())
        if match is None or len(word.strip()) > _LONGEST_TERM:
            raise ValueError(
                f"cannot read field type {_quoted(text)}: term {_quoted(word.strip())} is not <multiplicity>x<degree>"
                "<parity>. Write for example '4x0e + 2x1o', or '4x0 + 2x1' without parity."
            )
        terms.append(Term(int(match["multiplicity"] or 1), int(match["degree"]), _PARITY[match["parity"]]))
    return tuple(terms)


def _of_terms(value: Iterable[Any]) -> FieldType:
    """Terms from triples, or from e3nn's terms with `mul` and `ir`."""
    try:
        triples = [(term.mul, term.ir.l, term.ir.p) if hasattr(term, "ir") else term for term in value]
        return tuple(
            Term(
                operator.index(multiplicity), operator.index(degree), None if parity is None else operator.index(parity)
            )
            for multiplicity, degree, parity in triples
        )
    except (TypeError, ValueError):
        raise ValueError(
            f"cannot read field type {_quoted(value)}: write a text such as '4x0 + 2x1', or triples of whole numbers "
            "(multiplicity, degree, parity), for example ((4, 0, None), (2, 1, None))."
        ) from None


def _quoted(value: object) -> str:
    """The value as an error shows it, shortened."""
    text = repr(value)
    return text if len(text) <= 200 else f"{text[:60]}... ({len(text)} characters)"


def channel_count(field_type: FieldType) -> int:
    """The number of channels of a volume of this field type."""
    return sum(term.channels for term in field_type)


def copy_count(field_type: FieldType) -> int:
    """The number of fields of this field type: the sum of the multiplicities."""
    return sum(term.multiplicity for term in field_type)


def has_parity(field_type: FieldType) -> bool:
    """Whether the fields know reflections (group O(3)) or rotations only (group SO(3))."""
    return field_type[0].parity is not None


def describe(field_type: FieldType) -> str:
    """The field type as text; `as_field_type` reads it back."""
    return " + ".join(str(term) for term in field_type)


def split_terms(fields: Tensor, field_type: FieldType, axis: int = 1) -> tuple[Tensor, ...]:
    """Views of the channels of each term; `axis` is that of the channels."""
    return torch.split(fields, [term.channels for term in field_type], axis)


def copies_to_channels(copies: Tensor, field_type: FieldType) -> Tensor:
    """One value per field copy, (..., copy), repeated at each of its components: (..., channel)."""
    pieces = zip(field_type, torch.split(copies, [term.multiplicity for term in field_type], -1), strict=True)
    repeated = [p.unsqueeze(-1).expand(*p.shape, t.dimension).reshape(*p.shape[:-1], t.channels) for t, p in pieces]
    return torch.cat(repeated, -1)  # of (..., copy, component) flattened


def voxels_last(fields: Tensor) -> Tensor:
    """(batch, channel, *space) -> (batch, channel, voxel); one voxel if there is no space."""
    return fields.flatten(2) if fields.ndim > 2 else fields.unsqueeze(2)
