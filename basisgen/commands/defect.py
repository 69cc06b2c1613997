"""Radial families and kernel sizes side by side: what a layer would cost and how equivariant it would be. No training.

For every kernel size and radial family: the filters the grid holds, the weights they give the layer, and its defect
(`sampling.defect`) for random weights and for the worst ones. docs/defect.md says how to read and choose.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from math import prod, sqrt
from typing import Any

from rich.console import JustifyMethod
from rich.table import Table

from basisgen.errors import SamplingError, SpecError
from basisgen.reading import exact_number, quoted
from basisgen.text import aligned, counted
from basisgen.volumes.conv_plan import ConvPlan, Numbers, Pair, pairs, plan_layer
from basisgen.volumes.conv_spec import ConvSpec, parse_conv
from basisgen.volumes.kernels.proof import ProvenBasis, prove
from basisgen.volumes.kernels.solver import solve
from basisgen.volumes.sampling.defect import Gaussian, measure
from basisgen.volumes.sampling.registry import parse_radial
from basisgen.volumes.sampling.sample import sample

RADIALS: tuple[Mapping[str, object], ...] = (
    {"family": "separable", "max_defect": "0.1"},
    {"family": "separable"},
    {"family": "optimal", "max_defect": "0.1"},
    {"family": "optimal"},
    {"family": "hermite"},
    {"family": "shells", "cutoff": "conservative"},
    {"family": "shells", "cutoff": "compromise"},
    {"family": "shells", "cutoff": "sfcnn"},
)
COLUMNS = ("taps", "radial family", "profiles", "filters", "weights", "per pair", "random", "worst")
MISSING = "-"
GOOD_RANDOM, GOOD_WORST = 0.13, 0.3
BANDWIDTHS = (Fraction(1, 20), Fraction(2))


@dataclass(frozen=True)
class Candidate:
    """A layer with one of the radial families; `radial` holds the family and settings as the user would write them."""

    radial: Mapping[str, object]
    layer: ConvSpec


@dataclass(frozen=True)
class Figures:
    """What a candidate's filters are and do."""

    profiles: Mapping[int, int]  # degree J -> number of radial profiles; 0 where the grid or the family has none
    filters: int
    weights: int
    dense_weights: int
    weights_of_pair: Mapping[str, int]  # "j<-l" -> weights between one field copy and one
    silent_terms: tuple[str, ...]  # of the output: no kernel reaches them
    left_out: int  # profiles that are combinations of the others on these taps
    random: float  # the defect of the layer, weights as initialised
    worst: float  # the largest defect any weights can have

    @property
    def weights_per_pair(self) -> float:
        """The mean number of weights between two field copies, pairs of terms counted once."""
        return sum(self.weights_of_pair.values()) / len(self.weights_of_pair)


@dataclass(frozen=True)
class Comparison:
    """One line of the comparison: figures, or why the grid cannot hold the candidate's filters."""

    candidate: Candidate
    figures: Figures | None
    problem: str = ""

    @property
    def notes(self) -> tuple[str, ...]:
        """What a user should know beyond the figures."""
        if self.figures is None:
            return (self.problem,)
        silent, left_out = ", ".join(self.figures.silent_terms), self.figures.left_out
        notes = [f"no filter reaches {silent} of the output: always zero"] if silent else []
        notes += [f"{counted(left_out, 'profile')} left out: combinations of the others here"] if left_out else []
        return tuple(notes)

    @property
    def label(self) -> str:
        """`shells cutoff=compromise`: the family, and its settings as `--radial` takes them."""
        radial = dict(self.candidate.radial)
        return " ".join([str(radial.pop("family")), *(f"{key}={_text(value)}" for key, value in radial.items())])

    @property
    def cells(self) -> tuple[str, ...]:
        """The figures as text, one entry per column."""
        head = (str(self.candidate.layer.grid), self.label)
        if self.figures is None:
            return (*head, *[MISSING] * (len(COLUMNS) - len(head)))
        figures = self.figures
        profiles = " ".join(map(str, figures.profiles.values()))
        counts = (profiles, str(figures.filters), str(figures.weights), f"{figures.weights_per_pair:.1f}")
        return (*head, *counts, f"{figures.random:.3f}", f"{figures.worst:.3f}")

    def describe(self) -> dict[str, Any]:
        """The figures as plain JSON values."""
        layer, figures = self.candidate.layer, self.figures
        facts = {key: layer.describe()[key] for key in ("kernel_size", "voxel_spacing", "dilation", "radial")}
        if figures is None:
            return {**facts, "problem": self.problem}
        return {
            **facts,
            "profiles": {str(J): number for J, number in figures.profiles.items()},
            "filters": figures.filters,
            "weights": figures.weights,
            "dense_weights": figures.dense_weights,
            "weights_of_pair": dict(figures.weights_of_pair),
            "silent_terms": list(figures.silent_terms),
            "defect": {"random": round(figures.random, 4), "worst": round(figures.worst, 4)},
            "predicted_error": round(sqrt(2) * figures.random, 4),
        }


def candidates(
    table: Mapping[str, object], sizes: Sequence[object], own: Mapping[str, object], spectrum: Gaussian
) -> list[Candidate]:
    """Every radial family at every kernel size; `table` holds the other keys of a layer, `own` one more family.

    Filters that are made for a spectrum are made for the one they are measured by. Raises SpecError.
    """
    radials = [radial | _made_for(radial, spectrum) for radial in map(dict, RADIALS)]
    radials += [dict(own)] if own else []
    return [
        Candidate(radial, parse_conv("Conv", {**table, "kernel_size": size, "radial": radial}))
        for size in sizes
        for radial in radials
    ]


def parse_bandwidth(text: str) -> Gaussian:
    """The spectrum of inputs with a bandwidth in parts of the Nyquist frequency.

    Raises SpecError.
    """
    bandwidth = exact_number(text)
    least, most = BANDWIDTHS
    if bandwidth is None or not least <= bandwidth <= most:
        raise SpecError(f"bandwidth {quoted(text)} is not a number from {least} to {most}. Write for example 1/2.")
    return Gaussian(bandwidth)


def compare(candidates: Iterable[Candidate], spectrum: Gaussian) -> Iterator[Comparison]:
    """One comparison per candidate, in order; a pair is solved and proved once."""
    proven: dict[Pair, ProvenBasis] = {}
    for candidate in candidates:
        for pair in pairs(candidate.layer):
            if pair not in proven:
                proven[pair] = prove(solve(*pair))
        yield _comparison(candidate, proven, spectrum)


def as_table(comparisons: Sequence[Comparison]) -> Table:
    """The table for a terminal of 80 columns, with a blank line between kernel sizes."""
    table = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0))
    for column in COLUMNS:
        justify: JustifyMethod = "left" if column in COLUMNS[:2] else "right"
        table.add_column(column, justify=justify, no_wrap=True)
    for before, comparison in zip((None, *comparisons), comparisons, strict=False):
        if before is not None and before.candidate.layer.grid != comparison.candidate.layer.grid:
            table.add_row()
        table.add_row(*comparison.cells, style="dim" if comparison.figures is None else None)
    return table


def as_text(comparisons: Sequence[Comparison]) -> str:
    """The text for a file, a pipe or a narrow terminal: aligned columns, one line per comparison."""
    return "\n".join(aligned([COLUMNS, *(comparison.cells for comparison in comparisons)], left=2))


def words(comparisons: Sequence[Comparison]) -> str:
    """What is printed below the table: what it says, and what to take."""
    return f"{explanation(comparisons)}\n\n{recommendation(comparisons)}"


def recommendation(comparisons: Sequence[Comparison]) -> str:
    """The lines to paste into a spec: the fewest taps, and with them the most weights, that are equivariant enough.

    Enough: every field is reached, the defect of random weights is at most GOOD_RANDOM, the worst at most GOOD_WORST.
    Of equals the first line, which is the fastest.
    """
    good = [
        (one.candidate.layer.grid.size, one.figures.weights, one)
        for one in comparisons
        if one.figures is not None
        and not one.figures.silent_terms
        and one.figures.random <= GOOD_RANDOM
        and one.figures.worst <= GOOD_WORST
    ]
    rule = f"every field reached, random at most {GOOD_RANDOM}, worst at most {GOOD_WORST}"
    if not good:
        return f"recommended: none of these ({rule}). Try a larger --kernel-size, or leave out the highest degree."
    size, _, best = min(good, key=lambda entry: (prod(entry[0]), -entry[1]))
    radial = ", ".join(f"{key} = {_as_toml(value)}" for key, value in best.candidate.radial.items())
    return "\n".join(
        [
            "recommended: the fewest taps, and with them the most weights",
            f"  # {rule}",
            f"  kernel_size = {size[0] if len(set(size)) == 1 else list(size)}",
            f"  radial = {{ {radial} }}",
        ]
    )


def explanation(comparisons: Sequence[Comparison]) -> str:
    """What the columns say, and what some candidates cannot do."""
    degrees = next(comparison.figures.profiles for comparison in comparisons if comparison.figures)
    lines = [
        f"profiles   radial profiles of J = {', '.join(map(str, degrees))}; each is 2J+1 filters",
        "weights    of the layer; per pair: between one field copy and another, on average",
        "random     the defect with weights as initialised; equivariance error on such fields is 1.41 times it",
        "worst      the largest defect any weights can have",
    ]
    return "\n".join(
        [*lines, *(f"{of.candidate.layer.grid} {of.label}: {note}" for of in comparisons for note in of.notes)]
    )


def _comparison(candidate: Candidate, proven: Mapping[Pair, ProvenBasis], spectrum: Gaussian) -> Comparison:
    layer = candidate.layer
    bases = [proven[pair] for pair in pairs(layer)]
    try:
        filters = sample(bases, layer.radial, layer.grid)
        numbers = Numbers(filters, measure(filters, spectrum))
        plan = plan_layer(layer, proven, "filters", numbers)
    except (SamplingError, SpecError) as error:
        return Comparison(candidate, None, str(error))
    degrees = sorted({J for basis in bases for J in basis.degrees})
    return Comparison(
        candidate,
        Figures(
            profiles={J: sum(group.J == J for group in filters.groups) for J in degrees},
            filters=sum(stop - start for start, stop in plan.ranges.values()),
            weights=plan.weights,
            dense_weights=plan.dense_weights,
            weights_of_pair=_weights_of_pair(plan),
            silent_terms=plan.silent_terms,
            left_out=len(filters.left_out),
            random=numbers.defects.layer(plan.variance),
            worst=max(numbers.defects.by_degree[J].worst for J in plan.ranges),
        ),
    )


def _made_for(radial: Mapping[str, object], spectrum: Gaussian) -> dict[str, object]:
    """What filters that are made for a spectrum need where it is not the default one."""
    if spectrum == Gaussian() or "bandwidth" not in parse_radial(radial).describe():
        return {}
    return {"bandwidth": str(spectrum.bandwidth)}


def _weights_of_pair(plan: ConvPlan) -> dict[str, int]:
    """Terms of one irrep share their filters: each pair counts once."""
    weights = {f"{out}<-{into}": {0: 0} for out, into in pairs(plan.spec)}
    for path in plan.paths:
        out, into = plan.spec.gives.terms[path.out_term].irrep, plan.spec.into.terms[path.in_term].irrep
        weights[f"{out}<-{into}"][path.J] = path.profiles
    return {pair: sum(profiles.values()) for pair, profiles in weights.items()}


def _as_toml(value: object) -> str:
    """A setting of a radial family as a spec has it."""
    if isinstance(value, list):
        return f"[{', '.join(map(_as_toml, value))}]"
    return str(value) if not isinstance(value, str) or value.replace(".", "", 1).isdigit() else f'"{value}"'


def _text(value: object) -> str:
    return ",".join(map(str, value)) if isinstance(value, list) else str(value)
