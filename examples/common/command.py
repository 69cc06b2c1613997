"""The command every experiment has: `python -m examples.<name> --preset quick`, or `paper`, or what else it has."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from itertools import product
from pathlib import Path

import click

from examples.common.cases import OUTCOME, Case, Outcome, read_outcome, run_cases
from examples.common.files import DataError
from examples.common.measure import kernels, parameter_count
from examples.common.results import RESULTS, markdown, text, write_results
from examples.common.study import Study, differences
from examples.common.training import GO_ON
from runtime.train import TrainingError, log_to_stderr
from runtime.train.stop_signals import StopNow, StopSignals


def experiment(
    name: str,
    summary: str,
    prepare: Callable[[str, Path | None], Study],
    presets: Sequence[str] = ("quick", "paper"),
) -> click.Command:
    """The command of an experiment. prepare: preset, path of the data -> the study; may raise DataError."""
    usual_out = Path("runs") / name

    def main(
        preset: str,
        data: Path | None,
        seeds: int,
        networks: tuple[str, ...],
        settings: tuple[str, ...],
        resume: bool,
        plan: bool,
        out: Path,
    ) -> None:
        try:
            study = prepare(preset, data)
        except DataError as error:
            raise click.UsageError(str(error)) from error
        _check_names("--network", networks, study.networks)
        _check_names("--setting", settings, study.settings)
        everything = _cases(study.networks, study.settings, seeds)
        chosen = _cases(networks or study.networks, settings or study.settings, seeds)
        command = f"python -m examples.{name} --preset {preset}"
        if data is not None:
            command += f" --data {data.name}"
        if out != usual_out:
            command += f" --out {out}"
        if plan:
            facts = {**study.facts, **{n: f"{parameter_count(study.build(n)):,} parameters" for n in study.networks}}
            click.echo(markdown(replace(study, facts=facts), everything, (), command))
        else:
            _run(study, everything, chosen, out / preset, resume, command)

    main.__doc__ = f"{summary}\n\n\b\nExample:\n  python -m examples.{name} --preset quick"
    for option in reversed(_options(presets, usual_out)):
        main = option(main)
    return click.command(main)


def _run(
    study: Study, everything: Sequence[Case], chosen: Sequence[Case], directory: Path, resume: bool, command: str
) -> None:
    """Runs the chosen cases; after each, writes the results of all that are done."""
    made_by = {network: kernels(study.build(network)) for network in {case.network for case in everything}}

    def run(case: Case, place: Path) -> Outcome:
        return replace(study.run(case, place), kernels=made_by[case.network])

    _check_place(directory, study)
    log_to_stderr()
    outcomes: list[Outcome] = []
    with _stoppable():
        for outcome in run_cases(chosen, run, directory, resume=resume):
            click.echo(_line(outcome))
            paths = [directory / case.directory / OUTCOME for case in everything]
            outcomes = [read_outcome(path) for path in paths if path.exists()]
            write_results(directory, study, everything, outcomes, command)
    pictures = [directory / "results.png", *([study.picture(directory)] if study.picture is not None else [])]
    click.echo(f"\n{text(study, everything, outcomes)}\n")
    click.echo(f"page:     {directory / 'results.md'}\npictures: {', '.join(map(str, reversed(pictures)))}")


@contextmanager
def _stoppable() -> Iterator[None]:
    """Says how to continue after a stop while cases run; training says so itself."""
    stop = StopSignals(GO_ON)
    try:
        with stop, stop.acting():
            yield
    except StopNow:
        stop.leave("while it made data or tested; what was finished is kept")
    except TrainingError as error:
        raise click.ClickException(f"{error} Without --resume the case starts again.") from error


def _options(presets: Sequence[str], usual_out: Path) -> list[Callable[..., Callable[..., None]]]:
    directory = click.Path(file_okay=False, path_type=Path)
    many = {"multiple": True, "metavar": "NAME"}
    return [
        click.option("--preset", type=click.Choice(presets), default=presets[0], show_default=True),
        click.option("--data", type=click.Path(path_type=Path), help="Path of the data; else from the environment."),
        click.option("--seeds", type=click.IntRange(1, 1000), default=1, show_default=True, help="Seeds 0, 1, ..."),
        click.option("--network", "networks", **many, help="Only this network; may be repeated."),
        click.option("--setting", "settings", **many, help="Only this setting; may be repeated."),
        click.option("--resume", is_flag=True, help="Keep finished cases; continue an interrupted one."),
        click.option("--plan", is_flag=True, help="Build the networks and show the cases; run nothing."),
        click.option("--out", type=directory, default=usual_out, show_default=True),
    ]


def _cases(networks: Sequence[str], settings: Sequence[str], seeds: int) -> list[Case]:
    """Seed by seed, so that a run cut short has compared all networks."""
    return [Case(n, s, seed) for seed, s, n in product(range(seeds), settings, networks)]


def _check_names(option: str, given: Sequence[str], known: Sequence[str]) -> None:
    for name in given:
        if name not in known:
            raise click.UsageError(f"{option} {name}: there is no such name. Choose from {', '.join(known)}.")


def _check_place(directory: Path, study: Study) -> None:
    """Refuses to mix results of two studies: those of an earlier run in the same directory are kept in its table."""
    path = directory / RESULTS
    if path.exists() and (found := differences(json.loads(path.read_text("utf-8")), study.record())):
        raise click.UsageError(
            f"{directory} holds results of another study: {'; '.join(found[:3])}. Give --out another directory, "
            "or delete this one."
        )


def _line(outcome: Outcome) -> str:
    scores = ", ".join(f"{name} {value:.3f}" for name, value in outcome.scores.items())
    case = outcome.case
    return (
        f"{case.network}, {case.setting}, seed {case.seed}: {scores}, turned {outcome.agreement:.3f}, "
        f"loss {outcome.train_loss:.4f}, {outcome.parameters:,} parameters, {outcome.train_seconds:.0f} s"
    )
