"""Whole networks at equal training time: ours, and what a user would take instead.

    python benchmarks/networks.py [--tasks shapes textures modelnet10] [--modelnet10 FILE] [--shares 1 0.125]
                                  [--seconds 20] [--seeds 2] [--contestants NAME ..] [--costs-only] [--out DIR]

    basisgen            the ready network of a table [network], with the defaults: see SPECS
    usual CNN           3^3 convolutions, batch norm, ReLU, 16 to 64 channels; for textures a U-Net of them
    .., augmented       the same; every volume in a new random orientation at every draw
    MONAI, augmented    its ResNet (of one block a stage) or UNet
    escnn, e3nn         the ready network again, with their convolutions, norms and gates: see common/peers.py

Libraries that are not installed are left out, and said to be (`pip install monai escnn e3nn`; escnn needs numpy < 2).

All learn by Adam with a cosine schedule for the same processor time, forward, backward and update, one thread, in turns
of two seconds each; making and turning data is not counted, and interpolates nothing where the task is made in code.
Every network is tested upright, as trained, and turned: each test volume in a random orientation of its own.

    step, inference     processor time of a step of training and of a forward pass without gradients (ours after
                        `freeze`, escnn's and e3nn's in evaluation, which keeps their kernels), in turns, medians, over
                        the usual CNN's
    kept                what a step keeps for its backward pass, over the usual CNN's
    time to equal       when the turned accuracy reaches what the augmented CNN has at the end, as a share of the time

Written to networks.json and networks.md, in benchmarks/results unless told otherwise.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import math
import platform
import statistics
import sys
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

REPOSITORY = Path(__file__).parent.parent
sys.path[:0] = [str(REPOSITORY), str(REPOSITORY / "benchmarks")]

import network_tasks as tasks  # noqa: E402
from common.peers import swapped  # noqa: E402

import runtime  # noqa: E402
from basisgen.emission.imported import imported  # noqa: E402
from basisgen.pipeline import compile_package  # noqa: E402
from basisgen.spec import parse_package  # noqa: E402

RESULTS = REPOSITORY / "benchmarks" / "results"
SAMPLES = {"shapes": 400, "textures": 64, "modelnet10": 3984}
BATCH = {"shapes": 16, "textures": 4, "modelnet10": 16}
SLICE = 2.0  # seconds of each turn
POINTS = 6  # of the curve of turned accuracy
Row = dict[str, Any]

SPECS = {  # [network], but for its out
    "classifier": 'kind = "classifier"\nin = "1x0"\nfields = "8x0 + 4x1 + 1x2"',
    "unet": 'kind = "unet"\nin = "1x0"\nfields = "8x0 + 4x1 + 1x2"',
}


@dataclass(frozen=True)
class Contestant:
    """A network to train: how it is made for a task, its learning rate, whether its volumes are turned."""

    make: Callable[[tasks.Task, ExitStack], nn.Module]
    learning_rates: Mapping[str, float]  # for each task
    augmented: bool
    needs: str | None = None  # a library that may not be installed


def ours(task: tasks.Task, stack: ExitStack) -> nn.Module:
    """The ready network of the task's kind."""
    return runtime.network(_package(task, stack))


def of_peer(library: str, task: tasks.Task, stack: ExitStack) -> nn.Module:
    """The ready network in the layers of escnn or e3nn."""
    return swapped(_package(task, stack), library)


def _package(task: tasks.Task, stack: ExitStack) -> Any:
    kind = "unet" if task.voxelwise else "classifier"
    lines = [SPECS[kind], f'out = "{task.classes}x0"', f"even = {str(task.size % 2 == 0).lower()}"]
    name = f"benchmark_{sum(module.startswith('benchmark_') for module in sys.modules)}"
    spec = parse_package("\n".join([f'name = "{name}"', "[network]", *lines]))
    return stack.enter_context(imported(compile_package(spec), name))


def usual(task: tasks.Task, stack: ExitStack) -> nn.Module:
    """The CNN of 3^3 kernels, or the U-Net of them."""
    if task.voxelwise:
        return UsualUNet((16, 32, 64), task.classes)
    layers: list[nn.Module] = []
    channels = 1
    for width, stride in ((16, 1), (32, 2), (32, 1), (64, 2), (64, 1)):
        layers += _block(channels, width, stride)
        channels = width
    return nn.Sequential(*layers, nn.AdaptiveAvgPool3d(1), nn.Flatten(), nn.Linear(channels, task.classes))


class UsualUNet(nn.Module):
    """Two convolutions at each level, max pooling down, nearest voxels up."""

    def __init__(self, widths: Sequence[int], classes: int) -> None:
        super().__init__()
        pairs = zip([1, *widths], widths, strict=False)
        self.down = nn.ModuleList(nn.Sequential(*_block(a, b), *_block(b, b)) for a, b in pairs)
        pairs = pairwise(widths)
        self.up = nn.ModuleList(nn.Sequential(*_block(a + b, a), *_block(a, a)) for a, b in pairs)
        self.head = nn.Conv3d(widths[0], classes, 1)

    def forward(self, volumes: Tensor) -> Tensor:
        """(batch, 1, x, y, z) -> (batch, class, x, y, z)."""
        bridges = []
        for level in self.down[:-1]:
            bridges.append(level(volumes))
            volumes = nn.functional.max_pool3d(bridges[-1], 2)
        volumes = self.down[-1](volumes)
        for level in reversed(self.up):
            larger = nn.functional.interpolate(volumes, scale_factor=2, mode="nearest")
            volumes = level(torch.cat([larger, bridges.pop()], 1))
        scores: Tensor = self.head(volumes)
        return scores


def _block(channels: int, width: int, stride: int = 1) -> list[nn.Module]:
    return [nn.Conv3d(channels, width, 3, stride, 1, bias=False), nn.BatchNorm3d(width), nn.ReLU(inplace=True)]


def of_monai(task: tasks.Task, stack: ExitStack) -> nn.Module:
    """MONAI's, at the widths its documentation begins with."""
    from monai.networks import nets

    if task.voxelwise:
        return nets.UNet(3, 1, task.classes, (16, 32, 64), (2, 2), num_res_units=1, norm="batch")
    return nets.ResNet("basic", [1, 1, 1, 1], [16, 32, 64, 128], 3, 1, conv1_t_size=3, num_classes=task.classes)


# Of two or three that were tried for each: on the made tasks 0.003 and 0.01 for CNNs, 0.03, 0.05 and 0.1 for ours,
# 0.01, 0.03 and 0.1 for escnn's and e3nn's.
CNN_RATES = {"shapes": 1e-2, "textures": 1e-2, "modelnet10": 1e-2}
OUR_RATES = {"shapes": 5e-2, "textures": 1e-1, "modelnet10": 3e-2}
ESCNN_RATES = {"shapes": 3e-2, "textures": 3e-2, "modelnet10": 3e-2}
E3NN_RATES = {"shapes": 1e-1, "textures": 1e-1, "modelnet10": 3e-2}

CONTESTANTS = {
    "usual CNN": Contestant(usual, CNN_RATES, False),
    "usual CNN, augmented": Contestant(usual, CNN_RATES, True),
    "basisgen": Contestant(ours, OUR_RATES, False),
    "basisgen, augmented": Contestant(ours, OUR_RATES, True),
    "MONAI, augmented": Contestant(of_monai, CNN_RATES, True, "monai"),
    "escnn": Contestant(partial(of_peer, "escnn"), ESCNN_RATES, False, "escnn"),
    "escnn, augmented": Contestant(partial(of_peer, "escnn"), ESCNN_RATES, True, "escnn"),
    "e3nn": Contestant(partial(of_peer, "e3nn"), E3NN_RATES, False, "e3nn"),
    "e3nn, augmented": Contestant(partial(of_peer, "e3nn"), E3NN_RATES, True, "e3nn"),
}
REFERENCE = "usual CNN, augmented"


def train(
    contestant: Contestant, model: nn.Module, task: tasks.Task, seed: int, seconds: float
) -> Iterator[Row | None]:
    """Trains in turns: gives None after each, at last the row of the result."""
    parameters = [p for p in model.parameters() if p.requires_grad]
    rate = contestant.learning_rates[task.name]
    optimizer = torch.optim.Adam(parameters, lr=rate)
    shuffle = torch.Generator().manual_seed(seed)
    used, epochs, turn, curve = 0.0, 0, 0.0, []
    of_epoch: list[float] = []
    tested = task.test(tasks.turned(task.tested, 99))
    while used < seconds:
        rotations = tasks.turned(task.samples, 1000 * seed + epochs) if contestant.augmented else None
        if rotations is not None or epochs == 0:
            volumes, labels = task.train(tasks.upright(task.samples) if rotations is None else rotations)
        epochs, begun = epochs + 1, used
        for batch in torch.randperm(len(volumes), generator=shuffle).split(BATCH[task.name]):
            if len(batch) > 1 and used < seconds:
                started = time.process_time()
                _set_rate(optimizer, rate, used / seconds)
                step(model, optimizer, volumes[batch], labels[batch])
                spent = time.process_time() - started
                used, turn = used + spent, turn + spent
                if used >= seconds * (len(curve) + 1) / POINTS:
                    curve.append((round(used / seconds, 3), round(accuracy(model, *tested), 4)))
                    model.train()
            if turn > SLICE:
                turn = 0.0
                yield None
        of_epoch.append(used - begun)
    yield {
        "upright": round(accuracy(model, *task.test(tasks.upright(task.tested))), 4),
        "turned": curve[-1][1],
        "curve": curve,
        "epochs": epochs,
        "epoch_s": round(statistics.median(of_epoch[:-1] or of_epoch), 2),
    }


def step(model: nn.Module, optimizer: torch.optim.Optimizer, volumes: Tensor, labels: Tensor) -> None:
    """One step of training."""
    optimizer.zero_grad()
    nn.functional.cross_entropy(model(volumes), labels).backward()
    optimizer.step()


def _set_rate(optimizer: torch.optim.Optimizer, rate: float, share: float) -> None:
    """Up within the first tenth, then down by a cosine."""
    for group in optimizer.param_groups:
        group["lr"] = rate * min(1.0, 0.1 + 9 * share) * 0.5 * (1 + math.cos(math.pi * min(share, 1)))


@torch.no_grad()
def accuracy(model: nn.Module, volumes: Tensor, labels: Tensor) -> float:
    """The share of right classes, of samples or of voxels."""
    model.eval()
    answers = torch.cat([model(part).argmax(1) for part in volumes.split(16)])
    return (answers == labels).double().mean().item()


def contest(task: tasks.Task, names: Sequence[str], seed: int, seconds: float) -> dict[str, Row]:
    """The results of all contestants on a task, trained in turns."""
    with ExitStack() as stack:
        running: dict[str, Iterator[Row | None]] = {}
        for name in names:
            torch.manual_seed(seed)
            model = CONTESTANTS[name].make(task, stack)
            running[name] = train(CONTESTANTS[name], model, task, seed, seconds)
        rows: dict[str, Row] = {}
        while running:
            for name, training in list(running.items()):
                row = next(training)
                if row is not None:
                    rows[name] = row
                    del running[name]
                    print(f"{task.name} {task.samples} seed {seed} {name}: {row}", flush=True)
    return {name: rows[name] for name in names}


def costs(task: tasks.Task, names: Sequence[str], rounds: int = 9) -> dict[str, Row]:
    """Time of a step and of inference, what is kept for backward, weights; contestants in turns."""
    volumes, labels = task.train(tasks.upright(task.samples))
    volumes, labels = (part[: BATCH[task.name]].clone() for part in (volumes, labels))
    with ExitStack() as stack:
        models = {name: CONTESTANTS[name].make(task, stack) for name in names}
        kept = {name: _kept(model, volumes, labels) for name, model in models.items()}
        frozen = {name: _for_inference(name, model) for name, model in models.items()}
        optimizers = {name: torch.optim.Adam(model.parameters()) for name, model in models.items()}
        steps: dict[str, list[float]] = {name: [] for name in names}
        passes: dict[str, list[float]] = {name: [] for name in names}
        for _ in range(rounds + 1):
            for name, model in models.items():
                model.train()
                steps[name].append(_seconds(lambda m=model, o=optimizers[name]: step(m, o, volumes, labels)))
                ready = frozen[name].eval()
                with torch.no_grad():
                    passes[name].append(_seconds(lambda m=ready: m(volumes)))
    return {
        name: {
            "step_s": statistics.median(steps[name][1:]),
            "inference_s": statistics.median(passes[name][1:]),
            "kept_mb": kept[name] / 1e6,
            "weights": sum(p.numel() for p in models[name].parameters()),
        }
        for name in names
    }


def _for_inference(name: str, model: nn.Module) -> nn.Module:
    """As `freeze` gives it; escnn's and e3nn's as they are, which have nothing for it to freeze."""
    return model if CONTESTANTS[name].needs in ("escnn", "e3nn") else runtime.freeze(model)


def _seconds(work: Callable[[], object]) -> float:
    started = time.process_time()
    work()
    return time.process_time() - started


def _kept(model: nn.Module, volumes: Tensor, labels: Tensor) -> int:
    """Bytes of the tensors that a step saves for its backward pass, each storage once; weights not counted."""
    own = {p.untyped_storage().data_ptr() for p in model.parameters()}
    found: dict[int, int] = {}
    alive = []

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            found[storage.data_ptr()] = storage.nbytes()
            alive.append(storage)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        loss = nn.functional.cross_entropy(model(volumes), labels)
    del loss
    return sum(found.values())


def main() -> None:
    """See above."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tasks", nargs="+", default=["shapes", "textures"], choices=list(SAMPLES))
    parser.add_argument("--modelnet10", type=Path, help="modelnet10_30.npz, as examples/modelnet10 reads it")
    parser.add_argument("--shares", nargs="+", type=float, default=[1.0, 0.125], help="of the training data")
    parser.add_argument("--seconds", type=float, default=20.0, help="of training, for each network")
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--costs-only", action="store_true", help="train nothing: times, memory and weights alone")
    parser.add_argument("--contestants", nargs="+", default=_installed(), choices=list(CONTESTANTS))
    parser.add_argument("--out", type=Path, default=RESULTS)
    given = parser.parse_args()
    warnings.filterwarnings("ignore")
    torch.set_num_threads(1)
    for name in given.tasks:
        if name == "modelnet10" and given.modelnet10 is None:
            parser.error("modelnet10 needs --modelnet10 FILE")
        for share in given.shares:
            task = _task(name, max(16, round(share * SAMPLES[name])), given.modelnet10)
            seeds = range(0 if given.costs_only else given.seeds)
            of_seeds = [contest(task, given.contestants, seed, given.seconds) for seed in seeds]
            price = costs(task, given.contestants) if share == max(given.shares) else {}
            _keep(given, task, share, of_seeds, price)


def _installed() -> list[str]:
    """The contestants whose libraries are there; names the libraries that are not."""
    needed = {contestant.needs for contestant in CONTESTANTS.values() if contestant.needs}
    missing = sorted(library for library in needed if importlib.util.find_spec(library) is None)
    if missing:
        print(f"left out, not installed: {', '.join(missing)}", file=sys.stderr)
    return [name for name, contestant in CONTESTANTS.items() if contestant.needs not in missing]


def _task(name: str, samples: int, modelnet10: Path | None) -> tasks.Task:
    if name == "modelnet10":
        assert modelnet10 is not None
        return tasks.modelnet10(modelnet10, samples)
    return tasks.shapes(samples) if name == "shapes" else tasks.textures(samples)


def _keep(
    given: argparse.Namespace, task: tasks.Task, share: float, seeds: list[dict[str, Row]], price: dict[str, Row]
) -> None:
    path = given.out / "networks.json"
    given.out.mkdir(parents=True, exist_ok=True)
    record = json.loads(path.read_text()) if path.exists() else {}
    record["setting"] = {
        "machine": _machine(),
        "torch": torch.__version__,
        "threads": 1,
        "specs": SPECS,
    }
    entry = record.setdefault(task.name, {})
    if seeds:
        facts = {"samples": task.samples, "tested": task.tested, "size": task.size, "seconds": given.seconds}
        entry[f"{share:g}"] = {**facts, "seeds": seeds}
    entry["costs"] = {**entry.get("costs", {}), **price}
    path.write_text(json.dumps(record, indent=1) + "\n")
    (given.out / "networks.md").write_text(page(record))


def page(record: Row) -> str:
    """The results as tables."""
    setting = record["setting"]
    shown = {name for task in record.keys() & SAMPLES.keys() for name in record[task].get("costs", {})}
    peers = " and ".join(name for name in ("escnn", "e3nn") if name in shown)
    lines = [
        "# Whole networks at equal training time" + (f", with {peers}" if peers else ""),
        "",
        f"Written by `python benchmarks/networks.py`, whose head says what is measured. {setting['machine']}, torch "
        f"{setting['torch']}, one thread.",
    ]
    for task in (name for name in SAMPLES if name in record):
        shares = sorted((share for share in record[task] if share != "costs"), key=float, reverse=True)
        for entry in (record[task][share] for share in shares):
            lines += [
                "",
                f"## {task}, {entry['samples']} volumes to train on",
                "",
                f"{entry['size']}^3 voxels; {entry['seconds']:g} s of training each; {_seeds(len(entry['seeds']))}; "
                f"{entry['tested']} volumes tested.",
                "",
                "| network | weights | step | inference | kept | an epoch, s | upright | turned | time to equal |",
                "|---|--:|--:|--:|--:|--:|--:|--:|--:|",
            ]
            lines += [_line(name, entry["seeds"], record[task].get("costs", {})) for name in entry["seeds"][0]]
    specs = (f"\n```toml\n[network]\n{text}\n```" for text in setting["specs"].values())
    return "\n".join([*lines, "", "The networks of ours, but for `out` and `even`:", *specs]) + "\n"


def _seeds(number: int) -> str:
    return "one seed" if number == 1 else f"mean of {number} seeds"


def _line(name: str, seeds: list[dict[str, Row]], price: dict[str, Row]) -> str:
    rows = [rows[name] for rows in seeds]
    cells = ["", "", "", ""]
    if name in price:
        cells = [f"{price[name]['weights']:,}"]
        base = price["usual CNN" if "usual CNN" in price else REFERENCE]  # they are one network
        for key in ("step_s", "inference_s", "kept_mb"):
            cells.append(f"{price[name][key] / base[key]:.2f}")
    for key, digits in (("epoch_s", 2), ("upright", 3), ("turned", 3)):
        cells.append(f"{statistics.mean(row[key] for row in rows):.{digits}f}")
    return f"| {name} | {' | '.join([*cells, _time_to_equal(name, seeds)])} |"


def _time_to_equal(name: str, seeds: list[dict[str, Row]]) -> str:
    """The first share of the time at which the mean curve reaches the end of the reference's."""
    if REFERENCE not in seeds[0]:
        return ""
    goal = statistics.mean(rows[REFERENCE]["turned"] for rows in seeds)
    points = zip(*(rows[name]["curve"] for rows in seeds), strict=False)
    for point in points:
        if statistics.mean(value for _, value in point) >= goal:
            return f"{statistics.mean(share for share, _ in point):.2f}"
    return "not reached"


def _machine() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


if __name__ == "__main__":
    main()
