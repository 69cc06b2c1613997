"""The commands of the pages that do not run with their page: how each is typed into a copy of the repository.

The copy (`tests.docs.checkout`) has presets of a few steps and made data under the names the pages use. Commands are
typed as they are printed, with at most something before, something in place of what a page leaves to the reader, and
options behind them: the last of two equal options counts.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Typed:
    """How some commands are typed, and what shows that they worked; `{out}` is an empty directory.

    pattern   of the whole command
    before    lines typed before it
    put       what stands for parts of the command, which it must have
    add       typed behind it
    says      a regular expression: what it prints
    leaves    files it writes
    changes   committed files among them
    """

    pattern: str
    before: str = ""
    put: Mapping[str, str] = field(default_factory=dict)
    add: str = ""
    says: str = ""
    leaves: tuple[str, ...] = ()
    changes: tuple[str, ...] = ()

    def line(self, command: str) -> str:
        """What is typed for a command."""
        for part, other in self.put.items():
            assert part in command, f"`{command}` has no {part!r} any more: correct its entry in tests/docs/commands.py"
            command = command.replace(part, other)
        return f"{self.before}{command}{self.add}"


def _benchmark(name: str, options: str, says: str, *, kinds: tuple[str, ...] = ("json",)) -> Typed:
    results = tuple(f"{{out}}/{name}.{kind}" for kind in kinds)
    return Typed(rf"python benchmarks/{name}\.py", add=f" {options} --out {{out}}", says=says, leaves=results)


PRESET = "(quick|fine|fixed|medium|long|sphere|separable)"  # any but the paper's
MOLECULES = "(quick|full|published)"  # presets of QM7
DIGITS = "(quick|full)"  # presets of spherical MNIST


def _experiment(pattern: str, options: str = "", preset: str = PRESET) -> Typed:
    says = rf"seed 0: (.*\n)+.*, preset {preset}\n(.*\n)+network +setting +parameters(.*\n)+pictures: .*png"
    return Typed(rf"python -m examples\.{pattern}", add=f" --seeds 1{options}", says=says)


ALL = ("json", "md", "png")
PROJECT = "cd {out}; basisgen new shapes --preset tetris; cd shapes; basisgen compile shapes.toml\n"
SCANS = """cd {out}; basisgen new scans --preset volumes; cd scans; basisgen compile scans.toml; mkdir folder
python - <<'END'
import numpy as np
rows = [f"{n}.npz,{('usual', 'rare')[n % 2]}" for n in range(12)]
open("folder/labels.csv", "w").write("\\n".join(["file,class", *rows]))
for n in range(12):
    np.savez(f"folder/{n}.npz", volume=np.random.default_rng(n).standard_normal((24, 24, 24)))
END
"""
SLURM = """export SLURM_NNODES=1 SLURM_JOB_ID=7 SLURM_JOB_NODELIST=localhost
scontrol() { test "$*" = "show hostnames localhost" && echo localhost; }
srun() { "$@"; }
job() {
"""
OPTIONS = r"( --(data|seeds|network|setting|out) [\w./-]+| --resume)*"

COMMANDS = {
    "make demo": Typed(
        r"make demo",
        says=r"verified(.*\n)+Tetris, preset quick(.*\n)+pictures: .*tetris\.png",
        leaves=("runs/tetris/quick/results.md", "runs/tetris/quick/tetris.png"),
    ),
    "make test": Typed(
        r"make test",
        before="export PYTEST_ADDOPTS=tests/so3/test_field_type.py\n",
        says=r"python -m pytest -n 2\n(.*\n)+.*passed",
    ),
    "make test-slow": Typed(
        r"make test-slow",
        before="export PYTEST_ADDOPTS='tests/docs/test_pages.py -k CONTRIBUTING'\n",
        says=r"pytest -m slow\n(.*\n)+.*passed",
    ),
    "make lint": Typed(r"make lint", says=r"All checks passed!\n(.*\n)+.*already formatted\n(.*\n)+Success: no issues"),
    "make format": Typed(
        r"make format",
        before='printf \'"""Untidy."""\\nimport os\\nx = ( 1)\\n\' > untidy.py; trap \'rm untidy.py\' EXIT\n',
        add="; cat untidy.py",
        says=r"1 file reformatted(.*\n)+x = 1\n",
    ),
    "make lock": Typed(
        r"make lock",
        add="; grep -v '^[A-Za-z0-9_.-]*==[0-9a-z.]*$' requirements.lock || echo nothing but versions",
        says="nothing but versions",
        leaves=("requirements.lock",),
        changes=("requirements.lock",),
    ),
    "make docs": Typed(r"make docs", says="mkdocs build --strict", leaves=("site/index.html", "site/start.html")),
    "activate": Typed(
        r"source \.venv/bin/activate",
        before="PATH=/usr/bin:/bin\n",
        add="; command -v basisgen",
        says=r"/\.venv/bin/basisgen\n",
    ),
    "pip": Typed(  # every requirement, extras too, must be met by what is installed here
        r'pip install (-e )?(\.|"\.\[\w+\]")',
        add=" --dry-run --no-index --no-build-isolation",
        says=r"(?s)\A(?!.*does not provide the extra).*Would install basisgen-",
    ),
    "the command as a module": Typed(r"python -m basisgen", add=" --version", says="basisgen, version "),
    "completion in bash": Typed(
        r'eval "\$\(_BASISGEN_COMPLETE=bash_source basisgen\)"',
        add="; complete -p basisgen",
        says="complete -.* basisgen",
    ),
    "completion in zsh": Typed(  # what is evaluated: there may be no zsh here
        r'eval "\$\(_BASISGEN_COMPLETE=zsh_source basisgen\)"', put={'eval "$(': "", ')"': ""}, says="#compdef basisgen"
    ),
    "completion in fish": Typed(
        r"_BASISGEN_COMPLETE=fish_source basisgen \| source",
        put={" | source": ""},
        says="complete .*--command basisgen",
    ),
    "table of layers": Typed(
        r"UPDATE_DOCS=1 pytest -m slow tests/runtime/test_compatibility\.py",
        add=" -k 'table or LowPass and export'; grep LowPass docs/layers.md",
        says=r"passed(.*\n)+\| `LowPass` (\| no )+\| yes \|",
        leaves=("docs/layers.md",),
        changes=("docs/layers.md",),
    ),
    "table of signals' layers": Typed(
        r"UPDATE_DOCS=1 pytest -m slow tests/runtime_spheres/test_signals_compatibility\.py",
        add=" -k 'table or FragmentNorm and vmap'; grep FragmentNorm docs/signals-layers.md",
        says=r"passed(.*\n)+\| `FragmentNorm` \| no \|.* yes \|",
        leaves=("docs/signals-layers.md",),
        changes=("docs/signals-layers.md",),
    ),
    "training of a new project on a folder of scans": Typed(
        r"python train\.py --data FOLDER",
        before=SCANS,
        put={"FOLDER": "folder"},
        add=" --epochs 1",
        says=r"loss .*\nheld-out volumes: AUC",
    ),
    "training of a new project": Typed(
        r"python train\.py",
        before=PROJECT,
        add=" --epochs 2 --rotations 1",
        says=r"loss .*\nright on 1 random rotations",
    ),
    "training of a new project in processes": Typed(
        r"torchrun --nproc-per-node 4 train\.py",
        before=PROJECT,
        add=" --epochs 1 --rotations 1",
        says=r"(?s)\A(?!(.*right on 1 random rotations){2}).*right on 1 random rotations",
    ),
    "tests of a new project": Typed(r"pytest", before=PROJECT, says=r"[1-9] passed"),
    "benchmark of compiling": _benchmark(
        "compile", "--runs 1 --degrees 2", r"j, l <= 2 +[\d.]+ s(.*\n)+construct escnn"
    ),
    "benchmark of equivariance": _benchmark("equivariance", "--kernels 3 --rotations 2", r"## 3\^3 taps", kinds=ALL),
    "benchmark on a GPU": _benchmark("gpu", "--dry-run", r"tetris: 2 rows", kinds=("json", "md")),
    "benchmark of layers": _benchmark("layers", "--threads 1 --rounds 1 --size 6", r"GlobalMean(.*\n)+.*loop by hand"),
    "benchmark of memory": _benchmark("memory", "--size 16", r"plain .*\nratio [\d.]+ of tensors"),
    "benchmark of a network": _benchmark(
        "network_equivariance", "--seeds 1 --rotations 2 --epochs 1", r"\| .*, trained 1 epochs \|", kinds=ALL
    ),
    "benchmark of whole networks": _benchmark(
        "networks",
        "--tasks shapes --shares 0.04 --seconds 0.2 --seeds 1",
        r"shapes 16 seed 0 basisgen: .*'turned'",
        kinds=("json", "md"),
    ),
    "benchmark of whole networks in other libraries": Typed(  # escnn is not among what tests have
        r'python benchmarks/networks\.py --seconds 12 --contestants "usual CNN, augmented" basisgen escnn e3nn '
        r"--out benchmarks/results/networks_peers",
        put={
            " escnn": "",
            "--seconds 12": "--tasks shapes --shares 0.04 --seconds 0.2 --seeds 1",
            "benchmarks/results/networks_peers": "{out}",
        },
        says=r"shapes 16 seed 0 e3nn: .*'turned'",
        leaves=("{out}/networks.json", "{out}/networks.md"),
    ),
    "benchmark of spheres": _benchmark(
        "spheres",
        "--limits 4 --transforms 4 --rotations 4",
        r"128 +524,352 +7,730,766,400 (.*\n)+L = 4, tree, 13 paths(.*\n)+transforms(.*\n)+rotations, L = 4",
        kinds=("json", "md"),
    ),
    "benchmark of speed": _benchmark(
        "speed",
        "--layers hidden --kernel-sizes 3 --networks --threads 1 --rounds 1",
        r"hidden, k = 3: .*'separable'",
        kinds=ALL,
    ),
    "experiment, data made": _experiment(rf"(tetris|fibres)( --preset (quick|sphere))?{OPTIONS}"),
    "experiment, data given": _experiment(rf"(cath|amino_acids|modelnet10) --preset {PRESET} --\w+ [\w./-]+{OPTIONS}"),
    "experiment, data in the environment": _experiment(
        rf"(cath|amino_acids|modelnet10)( --preset {PRESET})?", " --network conventional"
    ),
    "experiment on cost": Typed(
        r"python -m examples\.sphere_cost( --preset quick)?",
        says=r"L = 2, tree, 3 paths: unconstrained (.*\n)+L = 2, all, fused: error (.*\n)+pictures: .*png",
        leaves=("runs/sphere_cost/quick/results.md", "runs/sphere_cost/quick/results.png"),
    ),
    "experiment on digits": _experiment(rf"spherical_mnist( --preset {DIGITS})?{OPTIONS}", preset=DIGITS),
    "experiment on maps of the sphere": _experiment(rf"sphere_dense( --preset quick)?{OPTIONS}", preset="quick"),
    "experiment on molecules": _experiment(rf"qm7( --preset {MOLECULES})?{OPTIONS}", preset=MOLECULES),
    "experiment on signals of shapes": _experiment(rf"modelnet10_sphere( --preset quick)?{OPTIONS}", preset="quick"),
    "experiment of the paper, data made": _experiment(
        r"(tetris|fibres) --preset paper( --seeds \d+)?", " --network steerable", preset="paper"
    ),
    "experiment of the paper, data given": _experiment(
        r"(amino_acids|modelnet10) --preset paper --data [\w./]+", " --network steerable-paper-filters", preset="paper"
    ),
    "experiment of the paper, proteins": _experiment(
        rf"cath --preset paper --data [\w./]+{OPTIONS}",
        " --network steerable-paper-filters --setting 1",
        preset="paper",
    ),
    "experiment, any": Typed(
        r"python -m examples\.<name> --preset quick\|paper",
        put={"<name>": "fibres", "quick|paper": "paper"},
        add=" --plan",
        says=r"(?s)# Fibres, preset paper.*steerable: [\d,]+ parameters",
    ),
    "gathering of proteins": Typed(
        r"python -m examples\.amino_acids\.gather SPLITS\.csv FOLDER aa_env\.npz",
        put={"aa_env": "{out}/aa_env"},
        leaves=("{out}/aa_env.npz",),
    ),
    "torchrun": Typed(
        r"torchrun --nproc-per-node 2 examples/tetris/train\.py",
        says="steerable, seed 0: .* of rotated shapes recognised",
        leaves=("runs/tetris_train/quick/steerable-0/history.csv",),
    ),
    "torchrun on several nodes": Typed(  # on two nodes: tests/examples/test_tetris_processes.py
        r"torchrun --nnodes N --nproc-per-node G .* HOST:PORT examples/tetris/train\.py --out /shared/runs",
        put={" N ": " 1 ", " G ": " 2 ", "HOST:PORT": "localhost:0", "/shared/runs": "{out}"},
        says="steerable, seed 0: .* of rotated shapes recognised",
        leaves=("{out}/quick/steerable-0/history.csv",),
    ),
    "Slurm": Typed(  # one node; started, then again as Slurm does after a requeue
        r"(?s)#!/bin/bash\n#SBATCH .*srun torchrun .*",
        before=SLURM,
        put={"--nproc-per-node 4": "--nproc-per-node 2", ":29500": ":0", "/shared/runs": "{out}"},
        add="\n}\njob; SLURM_RESTART_COUNT=1 job",
        says=r"(steerable, seed 0: .* of rotated shapes recognised(.*\n)+){2}",
        leaves=("{out}/quick/steerable-0/history.csv",),
    ),
}
UNSHOWN = {  # scripts for which no page has a command
    "benchmark of degrees": _benchmark("degrees", "--degrees 1 2", r"\n +2 +111 "),
}


def claims(command: str, table: Mapping[str, Typed] = COMMANDS) -> list[str]:
    """The entries of the table that say how a command is typed: one, or none if it runs with its page."""
    return [name for name, typed in table.items() if re.fullmatch(typed.pattern, command)]
