"""The picture, and the page of the molecules that carry the error.

curves.png      error over the epochs on a part of the test molecules, and over the size of the training set, for those
                folds that were run with all sizes
molecules.md    of every network on the whole training set: the molecules with the largest errors of each fold
"""

from __future__ import annotations

import csv
import json
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor

from basisgen.files import write_file
from examples.common.cases import OUTCOME, Outcome, read_outcome
from examples.common.results import COLOURS
from examples.qm7.data import Molecules

ERRORS = "errors.json"
WORST = 8  # molecules of a fold on the page
Curve = list[tuple[float, float]]  # epoch, MAE


def draw(molecules: Molecules, directory: Path) -> Path:
    """Writes curves.png and molecules.md for the finished cases in a directory; returns the picture's path."""
    finished = [(path.parent, read_outcome(path)) for path in sorted(directory.glob(f"*/{OUTCOME}"))]
    write_file(directory / "molecules.md", page(molecules, finished))
    path = directory / "curves.png"
    _picture(finished, path)
    return path


def page(molecules: Molecules, finished: list[tuple[Path, Outcome]]) -> str:
    """The molecules with the largest errors, fold by fold."""
    lines = ["# QM7: where the errors are", ""]
    for place, outcome in finished:
        if outcome.case.setting != "1":
            continue
        indices, errors = errors_of(place)
        squares = errors.square()
        worst = squares.topk(min(WORST, len(squares))).indices
        share = squares[worst].sum() / squares.sum()
        lines += [
            f"## {outcome.case.network}, fold {outcome.case.seed % len(molecules.folds)}",
            "",
            f"RMSE {squares.mean().sqrt():.3f}, of all but these {len(worst)} molecules "
            f"{(squares.sum() - squares[worst].sum()).div(max(1, len(squares) - len(worst))).sqrt():.3f} kcal/mol; "
            f"they have {share:.0%} of the squared error. Median of the absolute errors {errors.abs().median():.3f}. "
            "Numbers count from 0.",
            "",
            "| molecule | formula | rings | error, kcal/mol |",
            "|--:|---|--:|--:|",
        ]
        for number in worst.tolist():
            index = int(indices[number])
            rings = molecules.rings(index)
            lines.append(f"| {index} | {molecules.formula(index)} | {rings} | {errors[number]:+.1f} |")
        lines.append("")
    return "\n".join(lines)


def errors_of(place: Path) -> tuple[Tensor, Tensor]:
    """Test molecules and their errors, as `train_and_test` wrote them."""
    table = json.loads((place / ERRORS).read_text("utf-8"))
    return torch.tensor(table["molecules"]), torch.tensor(table["errors"], dtype=torch.float64)


def _picture(finished: list[tuple[Path, Outcome]], path: Path) -> None:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot, ticker

    figure, (left, right) = pyplot.subplots(1, 2, figsize=(9, 3.6), layout="constrained")
    networks = list(dict.fromkeys(outcome.case.network for _, outcome in finished))
    for network, colour in zip(networks, COLOURS * len(networks), strict=False):
        own = [(place, outcome) for place, outcome in finished if outcome.case.network == network]
        for number, curve in enumerate(_curves(own)):
            left.plot(*zip(*curve, strict=True), color=colour, linewidth=0.9, label=None if number else network)
        seeds = defaultdict(set)  # of each size; the curve is of those that all sizes have
        for _, outcome in own:
            seeds[outcome.case.setting].add(outcome.case.seed)
        common, sizes = set.intersection(*seeds.values()), defaultdict(list)
        for _, outcome in own:
            if outcome.case.seed in common:
                sizes[outcome.train_samples].append(outcome.scores)
        for score, style in (("RMSE", "s--"), ("MAE", "o-")):
            means = [(n, sum(s[score] for s in found) / len(found)) for n, found in sorted(sizes.items())]
            right.plot(*zip(*means, strict=True), style, markersize=4, color=colour, label=f"{network}, {score}")
    left.set(yscale="log", xlabel="epoch", ylabel="MAE on a part of the test fold, kcal/mol")
    right.set(xscale="log", yscale="log", xlabel="training molecules", ylabel="test error, kcal/mol")
    for axes in (left, right):
        axes.spines[["top", "right"]].set_visible(False)
        axes.legend(frameon=False, fontsize=8)
        axes.yaxis.set_major_locator(ticker.LogLocator(subs=(1, 2, 5)))
        axes.yaxis.set_major_formatter(ticker.FormatStrFormatter("%g"))
        axes.yaxis.set_minor_locator(ticker.NullLocator())
    right.set_xticks(sorted({outcome.train_samples for _, outcome in finished}))
    right.xaxis.set_major_formatter(ticker.FormatStrFormatter("%d"))
    right.xaxis.set_minor_locator(ticker.NullLocator())
    figure.savefig(path, dpi=100, facecolor="white")
    pyplot.close(figure)


def _curves(finished: list[tuple[Path, Outcome]]) -> Iterator[Curve]:
    """MAE over the epochs, of every fold on the whole training set."""
    for place, outcome in finished:
        log = place / "training" / "history.csv"
        if outcome.case.setting == "1" and log.exists():
            with log.open(encoding="utf-8", newline="") as file:
                yield [(float(row["epoch"]) + 1, float(row["mae"])) for row in csv.DictReader(file)]
