"""The files of a run, results.json, results.md and results.png, written whenever a case finishes."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from basisgen.files import write_file
from basisgen.text import aligned
from examples.common.cases import Case, Outcome
from examples.common.measure import kernels, same_kernels
from examples.common.study import Study

RESULTS = "results.json"
OLDER = "* older than the code: "
COLOURS = ("#2a7f62", "#b35c44", "#35506b", "#8a6fb0")
PANELS = 4  # in a row of the picture


def write_results(
    directory: Path, study: Study, cases: Sequence[Case], outcomes: Sequence[Outcome], command: str
) -> None:
    """The three files. A case without an outcome is 'not run', with the command that would run it.

    The command has as many seeds as there are outcomes.
    """
    seeds = max((outcome.case.seed + 1 for outcome in outcomes), default=1)
    command += f" --seeds {seeds}" if seeds > 1 else ""
    directory.mkdir(parents=True, exist_ok=True)
    content = {"command": command, **study.record(), "outcomes": [asdict(outcome) for outcome in outcomes]}
    write_file(directory / RESULTS, json.dumps(content, indent=1) + "\n")
    write_file(directory / "results.md", markdown(study, cases, outcomes, command))
    if outcomes:
        draw(outcomes, study.title, directory / "results.png")


def markdown(study: Study, cases: Sequence[Case], outcomes: Sequence[Outcome], command: str) -> str:
    """The results as a page: the facts, and a row for every network and setting."""
    rows = [_head(study, outcomes)]
    for network, setting in dict.fromkeys((case.network, case.setting) for case in cases):
        how = f"not run: `{command} --network {network} --setting {setting}`"
        rows.append(_row(network, setting, outcomes, how, len(rows[0])))
    places = sorted({f"{outcome.device}, {outcome.threads} threads, torch {outcome.torch}" for outcome in outcomes})
    lines = [f"# {study.title}", "", f"    {command}", ""]
    lines += [f"* {name}: {value}" for name, value in {**study.facts, "device": "; ".join(places) or "-"}.items()]
    older = older_than_the_code(study, outcomes)
    lines += [f"{OLDER}{', '.join(older)}; made with other filters, or before filters were recorded"] if older else []
    lines += ["", f"Mean over the {study.repeats}; +- is the standard deviation over them.", "", *table(rows)]
    return "\n".join(lines) + "\n"


def older_than_the_code(study: Study, outcomes: Sequence[Outcome]) -> list[str]:
    """The networks with an outcome of other filters than those that they have now."""
    ran = {outcome.case.network: [] for outcome in outcomes}
    for outcome in outcomes:
        ran[outcome.case.network].append(outcome.kernels)
    now = {network: kernels(study.build(network)) for network in study.networks if network in ran}
    return [name for name in now if not all(same_kernels(before, now[name]) for before in ran[name])]


def text(study: Study, cases: Sequence[Case], outcomes: Sequence[Outcome]) -> str:
    """The results for a terminal: one row for every network and setting that was run, in columns."""
    rows = [_head(study, outcomes)]
    keys = dict.fromkeys((case.network, case.setting) for case in cases)
    rows += [_row(network, setting, outcomes, "", len(rows[0])) for network, setting in keys]
    rows = [row for row in rows if row[2]]
    head, *lines = aligned(rows, left=2)
    rule = "  ".join("-" * max(map(len, column)) for column in zip(*rows, strict=True))
    unfinished = len(keys) + 1 - len(rows)
    note = f"\n{unfinished} more can be run; results.md has the commands." if unfinished else ""
    return "\n".join([study.title, "", head.rstrip(), rule, *map(str.rstrip, lines)]) + note


def _head(study: Study, outcomes: Sequence[Outcome]) -> list[str]:
    measured = [*_scores(outcomes), study.agreement, "training"]
    return ["network", "setting", "parameters", "samples", *measured, study.repeats]


def _scores(outcomes: Sequence[Outcome]) -> list[str]:
    return list(dict.fromkeys(name for outcome in outcomes for name in outcome.scores))


def _row(network: str, setting: str, outcomes: Sequence[Outcome], not_run: str, width: int) -> list[str]:
    """The means over the seeds of a network and a setting; `not_run` in their place if there is no outcome."""
    own = [outcome for outcome in outcomes if (outcome.case.network, outcome.case.setting) == (network, setting)]
    if not own:
        return [network, setting, not_run, *[""] * (width - 3)]
    measured = [spread([o.scores[name] for o in own if name in o.scores]) for name in _scores(outcomes)]
    time = sum(outcome.train_seconds for outcome in own) / len(own)
    measured += [spread([outcome.agreement for outcome in own]), f"{time:.0f} s"]
    seeds = ", ".join(str(outcome.case.seed) for outcome in own)
    return [network, setting, f"{own[0].parameters:,}", f"{own[0].train_samples:,}", *measured, seeds]


def spread(values: Sequence[float]) -> str:
    """Mean and, of several values, sample standard deviation."""
    if not values:
        return ""
    mean = sum(values) / len(values)
    if len(values) == 1:
        return f"{mean:.3f}"
    deviation = math.sqrt(sum((value - mean) ** 2 for value in values) / (len(values) - 1))
    return f"{mean:.3f} +- {deviation:.3f}"


def draw(outcomes: Sequence[Outcome], title: str, path: Path) -> None:
    """A PNG: for every score one panel, over the settings one line per network through the means, a dot per seed.

    The networks stand side by side, a hair apart or, where there is one setting only, well apart.
    """
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    scores = list(dict.fromkeys(name for outcome in outcomes for name in outcome.scores))
    settings = list(dict.fromkeys(outcome.case.setting for outcome in outcomes))
    networks = list(dict.fromkeys(outcome.case.network for outcome in outcomes))
    across = min(len(scores), PANELS)
    down = math.ceil(len(scores) / across)
    size = (1.5 + 3.2 * across, 1.0 + 2.9 * down)
    apart = (0.6 if len(settings) == 1 else 0.12) / len(networks)
    figure, panels = pyplot.subplots(down, across, figsize=size, squeeze=False, layout="constrained")
    for axes in panels.flat[len(scores) :]:
        axes.set_axis_off()
    for axes, score in zip(panels.flat, scores, strict=False):
        for number, (network, colour) in enumerate(zip(networks, COLOURS * len(networks), strict=False)):
            shift = apart * (number - (len(networks) - 1) / 2)
            own = [outcome for outcome in outcomes if outcome.case.network == network and score in outcome.scores]
            places = [settings.index(outcome.case.setting) + shift for outcome in own]
            values = [outcome.scores[score] for outcome in own]
            axes.plot(places, values, "o", color=colour, markersize=4, alpha=0.6)
            here = sorted(set(places))
            means = [sum(v for p, v in zip(places, values, strict=True) if p == at) / places.count(at) for at in here]
            label = f"{network}, {own[0].parameters:,} weights" if own else network
            axes.plot(here, means, marker="_", markersize=14, color=colour, label=label)
        axes.set(xticks=range(len(settings)), xticklabels=settings, xlim=(-0.4, len(settings) - 0.6))
        axes.set_title(score, fontsize=10)
        axes.spines[["top", "right"]].set_visible(False)
    handles, labels = panels[0][0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=2, frameon=False, fontsize=8)
    figure.suptitle(title, fontsize=10)
    figure.savefig(path, dpi=100, facecolor="white")
    pyplot.close(figure)


def table(rows: Sequence[Sequence[str]]) -> list[str]:
    """Lines of Markdown: the head, and the rows below it; all columns but the first two are numbers."""
    head, *body = ["| " + " | ".join(row) + " |" for row in rows]
    return [head, "|---|---|" + "--:|" * (len(rows[0]) - 2), *body]
