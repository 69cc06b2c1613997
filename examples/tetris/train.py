"""Train one network of the experiment in one process or in several; the losses are the same up to rounding.

The losses of one process and of two agree to 1e-5 at first. Later Adam, whose first steps are as long for a gradient of
1e-6 as for one of 1, magnifies the rounding of float32; with `--precision float64` they agree to 1e-10.

    python examples/tetris/train.py
    torchrun --nproc-per-node 2 examples/tetris/train.py

A step sees all eight shapes; the processes share them, add up their gradients, and take the means of batch norms over
all of them. Stopped by SIGTERM or Ctrl-C, it saves first; `--resume` goes on, with any number of processes. Only the
process of rank 0 writes and tests.
"""

from __future__ import annotations

import os
import sys
import time
from dataclasses import replace
from pathlib import Path

import click
import torch

sys.path[0] = str(Path(__file__).parent.parent.parent)  # torchrun starts a file: its directory, not the package's root

from examples.common.progress import counting  # noqa: E402
from examples.tetris.experiment import OneOrientation, build, evaluate  # noqa: E402
from examples.tetris.preset import load_preset  # noqa: E402
from runtime.train import Precision, TrainingError, log_to_stderr, train  # noqa: E402

GO_ON = "run the same command with --resume"


@click.command()
@click.option("--preset", "name", type=click.Choice(["quick", "paper"]), default="quick", show_default=True)
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True)
@click.option("--network", default="steerable", show_default=True, metavar="NAME")
@click.option("--epochs", type=click.IntRange(1), help="Number of epochs, instead of the preset's.")
@click.option("--precision", type=click.Choice([*map(str, Precision)]), default="float32", show_default=True)
@click.option("--rotations", type=click.IntRange(1), help="Number of rotations in the test, instead of the preset's.")
@click.option("--resume", is_flag=True, help="Continue an earlier run in the same directory.")
@click.option(
    "--out", type=click.Path(file_okay=False, path_type=Path), default=Path("runs/tetris_train"), show_default=True
)
def main(
    name: str,
    seed: int,
    network: str,
    epochs: int | None,
    precision: str,
    rotations: int | None,
    resume: bool,
    out: Path,
) -> None:
    """Train one network on the Tetris shapes, alone or under torchrun, and test it.

    \b
    Example:
      torchrun --nproc-per-node 2 examples/tetris/train.py --network conventional
    """
    preset = load_preset(name)
    if network not in preset.networks:
        raise click.UsageError(f"--network {network}: there is no such name. Choose from {', '.join(preset.networks)}.")
    training = replace(
        preset.training, seed=seed, epochs=epochs or preset.training.epochs, precision=Precision(precision)
    )
    preset = replace(preset, training=training, test_rotations=rotations or preset.test_rotations)
    directory = out / name / f"{network}-{seed}"
    log_to_stderr()
    torch.manual_seed(seed)
    model = build(network, preset, sync=True)
    start = time.perf_counter()
    try:
        result = train(model, OneOrientation(preset), training, directory, resume=resume, go_on=GO_ON)
    except TrainingError as error:
        raise click.ClickException(str(error)) from error
    if os.environ.get("RANK", "0") == "0":
        seconds = time.perf_counter() - start
        with counting(f"{network} on {preset.test_rotations} rotations"):
            scores, _, agreement = evaluate(model.float(), preset)
        click.echo(
            f"{network}, seed {seed}: {scores['accuracy']:.1%} of rotated shapes recognised, {agreement:.1%} of the "
            f"answers unmoved, loss {result.history[-1]['train_loss']:.4f}, {seconds:.0f} s of training"
        )
        click.echo(result.log_path)


if __name__ == "__main__":
    main()
