"""`python -m examples.tetris --preset quick`: train, test, and show the result as a table and a picture."""

from __future__ import annotations

from pathlib import Path

import click
from rich.console import Console
from rich.table import Table

from examples.tetris.experiment import Outcome, run
from examples.tetris.figure import draw
from examples.tetris.presets import load_preset


@click.command()
@click.option("--preset", type=click.Choice(["quick", "paper"]), default="quick", show_default=True)
@click.option("--seeds", type=click.IntRange(1, 1000), default=1, show_default=True, help="Runs with seeds 0, 1, ...")
@click.option("--network", "networks", multiple=True, type=click.Choice(["steerable", "conventional"]))
@click.option("--resume", is_flag=True, help="Go on with an earlier run in the same directory.")
@click.option("--out", type=click.Path(file_okay=False, path_type=Path), default=Path("runs/tetris"), show_default=True)
def main(preset: str, seeds: int, networks: tuple[str, ...], resume: bool, out: Path) -> None:
    """Recognise the Tetris shapes in any orientation after training on one.

    \b
    Example:
      python -m examples.tetris --preset quick
      python -m examples.tetris --preset quick --seeds 5 --network steerable
    """
    settings = load_preset(preset)
    directory = out / preset
    console = Console()
    chosen = networks or ("steerable", "conventional")
    outcomes = run(settings, range(seeds), directory, chosen, resume, lambda outcome: console.print(summary(outcome)))
    draw(settings, outcomes, directory / "tetris.png")
    console.print(_table(outcomes))
    console.print("accuracy: on rotated shapes; unmoved: answers that a rotation does not change; time: of training")
    console.print(f"{directory / 'results.json'}, {directory / 'tetris.png'}")


def summary(outcome: Outcome) -> str:
    """One line about one network."""
    return (
        f"{outcome.network}, seed {outcome.seed}: {outcome.accuracy:.1%} of rotated shapes recognised, "
        f"loss {outcome.train_loss:.4f}, {outcome.train_seconds:.0f} s of training"
    )


def _table(outcomes: list[Outcome]) -> Table:
    table = Table(title="Tetris: trained on one orientation, tested on random rotations")
    columns = ("network", "seed", "weights", "loss", "accuracy", "unmoved", "time")
    for column in columns:
        table.add_column(column, justify="left" if column == "network" else "right")
    for outcome in outcomes:
        table.add_row(
            outcome.network,
            str(outcome.seed),
            f"{outcome.parameters:,}",
            f"{outcome.train_loss:.4f}",
            f"{outcome.accuracy:.1%}",
            f"{outcome.agreement:.1%}",
            f"{outcome.train_seconds:.0f} s",
        )
    return table


if __name__ == "__main__":
    main()
