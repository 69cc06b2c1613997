"""Cases of an experiment, run one by one: what is finished is on disk at once and is not run again with `resume`.

<directory>/<case>/outcome.json     a finished case
<directory>/<case>/...              checkpoints and log of its training
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

OUTCOME = "outcome.json"


@dataclass(frozen=True)
class Case:
    """One network to train: which one, with which setting of the experiment (for example '1/4'), with which seed."""

    network: str
    setting: str
    seed: int

    @property
    def directory(self) -> str:
        """Its name as a directory."""
        return re.sub(r"[^A-Za-z0-9.]+", "-", f"{self.network} {self.setting} {self.seed}").strip("-")


@dataclass(frozen=True)
class Outcome:
    """One trained and tested network.

    scores      name -> value on the test set
    agreement   under random rotations of the test samples: the share of answers that stay, or another measure of it
                that the experiment names
    device, threads, torch   where this case ran
    kernels     of the code that made the network, see `measure.kernels`; None: it ran before they were recorded
    """

    case: Case
    parameters: int
    train_samples: int
    epochs: int
    train_loss: float
    train_seconds: float
    scores: dict[str, float]
    agreement: float
    device: str
    threads: int
    torch: str
    kernels: list[float] | None = None


Run = Callable[[Case, Path], Outcome]


def run_cases(cases: Iterable[Case], run: Run, directory: Path, *, resume: bool) -> Iterator[Outcome]:
    """Every case's outcome as it finishes; with `resume` read back if it is finished, else run again.

    `run` gets the case's own directory: empty, or with `resume` as an interrupted run left it.
    """
    for case in cases:
        place = directory / case.directory
        if not resume:
            shutil.rmtree(place, ignore_errors=True)
        if (place / OUTCOME).exists():
            yield read_outcome(place / OUTCOME)
            continue
        place.mkdir(parents=True, exist_ok=True)
        outcome = run(case, place)
        (place / OUTCOME).write_text(json.dumps(asdict(outcome), indent=1) + "\n")
        yield outcome


def read_outcome(path: Path) -> Outcome:
    """An outcome as `run_cases` wrote it."""
    table = json.loads(path.read_text("utf-8"))
    return Outcome(**{**table, "case": Case(**table["case"])})
