"""Field types in words."""

from __future__ import annotations

from collections.abc import Sequence

from basisgen.verify.manifest import Term

_NAMES = {0: ("scalar", "scalars"), 1: ("vector", "vectors")}
_PSEUDO = {0: ("pseudoscalar", "pseudoscalars"), 1: ("pseudovector", "pseudovectors")}


def in_words(terms: Sequence[Term], *, gated: bool = False) -> str:
    """`4 scalars, 4 vectors and, as gates, 4 scalars`."""
    parts = [_term(term) for term in terms]
    if gated:
        parts[-1] = f"{parts[-1]} as gates"
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}"


def field_type(terms: Sequence[Term]) -> str:
    """`4x0 + 4x1`, as specs and the command line take it."""
    return " + ".join(f"{term.multiplicity}x{term.irrep}" for term in terms)


def _term(term: Term) -> str:
    degree, parity = term.irrep
    pseudo = parity is not None and parity != (-1) ** degree
    if degree < 2:
        one, many = (_PSEUDO if pseudo else _NAMES)[degree]
    else:
        kind = "symmetric traceless" if degree == 2 else f"degree-{degree}"
        one = f"{kind} {'pseudotensor' if pseudo else 'tensor'}"
        many = f"{one}s"
    return f"1 {one}" if term.multiplicity == 1 else f"{term.multiplicity:,} {many}"
