"""Field types: which irreducible representations the channels of a volume carry, in e3nn's grammar and channel order.

    4x0e + 2x1o + 1x2e      O(3): with a parity, even or odd under inversion
    4x0 + 2x1               SO(3): degrees alone
    8x0..15                 8x0 + 8x1 + ... + 8x15: a band-limited signal on the sphere or the rotations, eight times
    8x0..3e, 8x0..3n        every degree even under inversion; each with its natural parity (-1)^l, 8x0e + 8x1o + ...
    8x0..15r                8x0 + 24x1 + 40x2 + ...: the regular representation, signals on the rotation group
    8x0..15r3               of azimuthal band limit 3: 2l+1 copies, at most 2*3-1 = 5, eight times

Channels: terms in order, then copy, then component m = -l..l.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from basisgen.errors import SpecError

_RANGE = re.compile(
    r"(?P<multiplicity>(?:[0-9]+\s*x\s*)?)(?P<first>[0-9]+)\.\.(?P<last>[0-9]+)(?P<suffix>[eon]?|r[0-9]*)", re.ASCII
)
_MOST_DEGREES = 1024  # in a range
_TERM = re.compile(r"(?:(?P<multiplicity>[0-9]+)\s*x\s*)?(?P<degree>[0-9]+)(?P<parity>[eo]?)", re.ASCII)
_LETTER = {1: "e", -1: "o", None: ""}


@dataclass(frozen=True, slots=True)
class Irrep:
    """An irreducible representation: D^degree, with parity +1 or -1 under inversion for O(3), None for SO(3)."""

    degree: int
    parity: int | None = None

    def __post_init__(self) -> None:
        assert self.degree >= 0 and self.parity in (None, 1, -1)

    @property
    def dimension(self) -> int:
        """2 degree + 1, the number of components of one field copy."""
        return 2 * self.degree + 1

    def __str__(self) -> str:
        return f"{self.degree}{_LETTER[self.parity]}"


@dataclass(frozen=True, slots=True)
class Term:
    """`multiplicity` field copies of one irrep, adjacent in the channels."""

    multiplicity: int
    irrep: Irrep

    @property
    def dimension(self) -> int:
        """The number of channels of the term."""
        return self.multiplicity * self.irrep.dimension

    def __str__(self) -> str:
        return f"{self.multiplicity}x{self.irrep}"


@dataclass(frozen=True, slots=True)
class FieldType:
    """The representation of all channels of a volume: a sum of terms, all with parity or all without."""

    terms: tuple[Term, ...]

    def __post_init__(self) -> None:
        assert self.terms and len({term.irrep.parity is None for term in self.terms}) == 1

    @property
    def dimension(self) -> int:
        """The number of channels."""
        return sum(term.dimension for term in self.terms)

    @property
    def has_parity(self) -> bool:
        """Whether inversion is part of the symmetry: O(3) instead of SO(3)."""
        return self.terms[0].irrep.parity is not None

    @property
    def group(self) -> str:
        """The group in words: `rotations, SO(3)`, or with parity `rotations and inversion, O(3)`."""
        return "rotations and inversion, O(3)" if self.has_parity else "rotations, SO(3)"

    @property
    def orders(self) -> int | None:
        """The azimuthal band limit N where the fields are signals on the rotation group; None where they are not.

        Degrees 0 .. L-1 in order, without parity, min(2l+1, 2N-1) fragments of degree l, each of so many signals.
        """
        signals, degrees = self.terms[0].multiplicity, range(len(self.terms))
        limit = (self.terms[-1].multiplicity // signals + 1) // 2
        wanted = [Term(signals * min(2 * degree + 1, 2 * limit - 1), Irrep(degree)) for degree in degrees]
        return limit if list(self.terms) == wanted else None

    @property
    def slices(self) -> tuple[slice, ...]:
        """The channels of each term."""
        stops = [sum(term.dimension for term in self.terms[: i + 1]) for i in range(len(self.terms))]
        return tuple(slice(stop - term.dimension, stop) for term, stop in zip(self.terms, stops, strict=True))

    def with_gates(self) -> FieldType:
        """The type with one more even scalar per non-scalar copy, as its last term; itself where there is none."""
        gated = sum(term.multiplicity for term in self.terms if term.irrep.degree > 0)
        gate = Irrep(0, 1 if self.has_parity else None)
        return FieldType((*self.terms, Term(gated, gate))) if gated else self

    def brief(self) -> str:
        """The text for people: four or more successive degrees with equally many copies are a range, `4x0..15`.

        A signal on the rotation group of band limit four or more is one too, `4x0..15r`.
        """
        if len(self.terms) >= 4 and (orders := self.orders) is not None and orders > 1:
            last = len(self.terms) - 1
            return f"{self.terms[0].multiplicity}x0..{last}r{orders if orders <= last else ''}"
        runs: list[tuple[list[Term], set[str]]] = []  # terms, and the letters of a range that could hold them
        for term in self.terms:
            letters = _letters(term.irrep)
            if runs and _successive(runs[-1][0][-1], term) and letters & runs[-1][1]:
                run, common = runs.pop()
                runs.append(([*run, term], common & letters))
            else:
                runs.append(([term], letters))
        return " + ".join(_run_as_text(run, letters) for run, letters in runs)

    def __str__(self) -> str:
        return " + ".join(map(str, self.terms))


def parse_field_type(text: str) -> FieldType:
    """Reads `4x0e + 2x1o`; a term without `MULx` means one copy, `8x0..3` four terms.

    Raises SpecError that quotes the text and the term for bad grammar, a zero multiplicity, or a mixture of groups.
    """
    terms = tuple(_parse_term(term, text) for part in text.split("+") for term in _written_out(part.strip(), text))
    if len({term.irrep.parity is None for term in terms}) > 1:
        raise SpecError(
            f"cannot read field type {_quoted(text)}: it mixes degrees with a parity (O(3)) and without (SO(3)). "
            "Give every term a letter e or o, or none."
        )
    return FieldType(terms)


def _written_out(term: str, text: str) -> list[str]:
    """`8x0..2n` as `8x0e`, `8x1o`, `8x2e`, `8x0..2r` as `8x0`, `24x1`, `40x2`; any other term alone."""
    match = _RANGE.fullmatch(term)
    if match is None:
        return [term]
    first, last = (int(match[key][:10]) for key in ("first", "last"))
    if len(match["first"] + match["last"]) > 10 or not first <= last < first + _MOST_DEGREES:
        raise SpecError(
            f"cannot read field type {_quoted(text)}: {_quoted(term)} is not a range of 1 to {_MOST_DEGREES} degrees. "
            "Write <multiplicity>x<first>..<last>, for example '8x0..15'."
        )
    if match["suffix"].startswith("r"):
        return _regular(match["multiplicity"], match["suffix"][1:], range(first, last + 1), text)
    letters = "eo" if match["suffix"] == "n" else match["suffix"] * 2 or ("", "")
    return [f"{match['multiplicity']}{degree}{letters[degree % 2]}" for degree in range(first, last + 1)]


def _regular(multiplicity: str, orders: str, degrees: range, text: str) -> list[str]:
    """Every degree l min(2l+1, 2 orders - 1) times `multiplicity`: fragments of orders |n| < `orders`."""
    number, limit = "".join(filter(str.isdecimal, multiplicity)) or "1", orders or str(degrees.stop)
    if len(number) > 20 or not 1 <= int(limit[:10]) <= degrees.stop or len(limit) > 10:
        raise SpecError(
            f"cannot read field type {_quoted(text)}: orders below {_quoted(limit)} are not an azimuthal band limit of "
            f"degrees up to {degrees.stop - 1}. Write 1 to {degrees.stop} behind the r, or nothing, as in '8x0..15r3'."
        )
    return [f"{int(number) * min(2 * degree + 1, 2 * int(limit) - 1)}x{degree}" for degree in degrees]


def _letters(irrep: Irrep) -> set[str]:
    natural = irrep.parity == (-1) ** irrep.degree
    return {_LETTER[irrep.parity], *(["n"] if natural else [])}


def _successive(last: Term, term: Term) -> bool:
    return term.multiplicity == last.multiplicity and term.irrep.degree == last.irrep.degree + 1


def _run_as_text(run: list[Term], letters: set[str]) -> str:
    if len(run) < 4:
        return " + ".join(map(str, run))
    (letter,) = letters  # two successive degrees have one in common
    return f"{run[0].multiplicity}x{run[0].irrep.degree}..{run[-1].irrep.degree}{letter}"


def _parse_term(term: str, text: str) -> Term:
    match = _TERM.fullmatch(term)
    if match is None:
        raise SpecError(
            f"cannot read field type {_quoted(text)}: {_complaint(term)}. "
            "Write <multiplicity>x<degree>, for example '4x0 + 1x2', or with parity '4x0e + 1x1o'."
        )
    if len(term) > 24:
        raise SpecError(
            f"cannot read field type {_quoted(text)}: a number of term {_quoted(term)} is far too large, "
            "the limit is 24 characters."
        )
    multiplicity = int(match["multiplicity"] or 1)
    if multiplicity == 0:
        raise SpecError(
            f"cannot read field type {_quoted(text)}: term {_quoted(term)} has no copies. Leave the term out."
        )
    parity = {"e": 1, "o": -1, "": None}[match["parity"]]
    return Term(multiplicity, Irrep(int(match["degree"]), parity))


def _complaint(term: str) -> str:
    if not term:
        return "it has an empty term"
    if re.fullmatch(r"\s*x\s*\d+[eo]?", term):
        return f"term {_quoted(term)} has no multiplicity"
    return f"term {_quoted(term)} is not a number of copies, the letter x and a degree"


def _quoted(text: str) -> str:
    """The text as an error shows it, shortened."""
    return repr(text) if len(text) <= 200 else f"{text[:60]!r}... ({len(text)} characters)"
