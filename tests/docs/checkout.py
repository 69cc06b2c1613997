"""A copy of the repository, as a user has it after `make`, but with made data and presets of a few steps."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import sysconfig
from dataclasses import dataclass
from pathlib import Path

from tests.conftest import REPOSITORY
from tests.docs.commands import Typed

SMALL = {  # keys of the presets
    "epochs": 1,
    "longer": 1,
    "batch_size": 8,
    "size": 12,
    "draws": 8,
    "train_volumes": 2,
    "test_volumes": 1,
    "train_scenes": 8,
    "test_scenes": 2,
    "test_residues": 8,
    "agreement_samples": 2,
    "band_limits": "[2]",
    "error_limits": "[2]",
}
DATA = {
    "CATH_DATA": "cath_3class_ca.npz",
    "AMINO_ACID_DATA": "aa_env.npz",
    "MODELNET10_DATA": "modelnet10_30.npz",
    "QM7_DATA": "qm7.npz",
    "MNIST_DATA": "mnist",
}


class TypedError(AssertionError):
    """A command does not do what its page says."""


def copy_files(place: Path) -> None:
    """The files that git knows, or would add, as they are now."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=True)
    for name in listed.stdout.splitlines():
        if (REPOSITORY / name).is_file():
            (place / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(REPOSITORY / name, place / name)


def lend_packages(environment: Path) -> None:
    """Gives an empty virtual environment the packages of the present one, but not what .pth files there add to them."""
    (site,) = environment.glob("lib/python*/site-packages")
    (site / "lent.pth").write_text(sysconfig.get_paths()["purelib"] + "\n")


@dataclass(frozen=True)
class Checkout:
    """A place where commands can be typed, and the files committed there."""

    place: Path
    committed: dict[str, bytes]

    def type(self, typed: Typed, command: str, out: Path) -> str:
        """What a command prints, typed into bash; `out` is an empty directory for it.

        Raises TypedError if the command fails, does not print or write what it should, or changes other committed
        files. They are as before afterwards.
        """
        leaves = [self.place / path.replace("{out}", str(out)) for path in typed.leaves]
        for path in leaves:
            path.unlink(missing_ok=True)
        (self.place / ".venv" / ".ready").touch()  # newer than the lock, or make would install what it locks
        line = "set -e\n" + typed.line(command).replace("{out}", str(out))
        result = subprocess.run(
            ["bash", "-c", line],
            cwd=self.place,
            env=self._environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        changed = self._restore() - set(typed.changes)
        complaints = [
            *([f"exits with {result.returncode}"] if result.returncode else []),
            *([f"does not print {typed.says}"] if not re.search(typed.says, result.stdout) else []),
            *(f"does not write {path}" for path in leaves if not path.is_file()),
            *(f"changes {path}" for path in sorted(changed)),
        ]
        if complaints:
            raise TypedError(f"{command}\n{'; '.join(complaints)}. Typed was\n{line}\n{result.stdout[-6000:]}")
        return result.stdout

    def _environment(self) -> dict[str, str]:
        kept = {
            name: value for name, value in os.environ.items() if not re.match("PYTHON|PYTEST|COVERAGE|UPDATE_", name)
        }
        data = {name: str(self.place / path) for name, path in DATA.items()}
        path = f"{self.place / '.venv' / 'bin'}{os.pathsep}{os.environ['PATH']}"
        return kept | data | {"PATH": path, "PYTHONPATH": str(self.place), "OMP_NUM_THREADS": "1"}

    def _restore(self) -> set[str]:
        """Brings the committed files back; the names of those that were not as committed."""
        changed = set()
        for name, content in self.committed.items():
            path = self.place / name
            if not path.is_file() or path.read_bytes() != content:
                changed.add(name)
                path.write_bytes(content)
        return changed


def checkout(place: Path) -> Checkout:
    """A copy of the repository in an empty directory, ready for the commands of the pages."""
    copy_files(place)
    for preset in place.glob("examples/*/presets/*.toml"):
        preset.write_text(small(preset.read_text("utf-8")), "utf-8")
    committed = {str(path.relative_to(place)): path.read_bytes() for path in place.rglob("*") if path.is_file()}
    _make_environment(place)
    _make_data(place)
    return Checkout(place, committed)


def small(preset: str) -> str:
    """A preset with few steps on few small samples."""
    for key, value in SMALL.items():
        preset = re.sub(rf"(?m)^{key} = .*$", f"{key} = {value}", preset)
    return "test_rotations = 2\n" + re.sub(r"(?m)^test_rotations = .*\n", "", preset)  # most leave it to its default


def _make_environment(place: Path) -> None:
    """`.venv` with its own python; packages and commands are lent by the present environment."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", place / ".venv"], check=True)
    lend_packages(place / ".venv")
    for program in Path(sysconfig.get_path("scripts")).iterdir():
        link = place / ".venv" / "bin" / program.name
        if not link.exists():
            link.symlink_to(program)


def _make_data(place: Path) -> None:
    """Small data in the formats of the experiments, under the names the pages give them."""
    from tests.examples import test_amino_acids, test_cath, test_modelnet10, test_qm7, test_spherical_mnist

    test_cath.make(place / "cath_3class_ca.npz")
    for name in ("cath_10arch_ca.npz", "cath_sub_10arch_ca.npz", "cath_sub_10arch_ca_balanced.npz"):
        shutil.copy(place / "cath_3class_ca.npz", place / name)
    test_amino_acids.make(place / "aa_env.npz")
    test_modelnet10.make_grids(place / "modelnet10_30.npz")
    test_qm7.make(place / "qm7.npz")
    (place / "mnist").mkdir()
    test_spherical_mnist.make(place / "mnist")
    (place / "SHREC17").mkdir()
    test_modelnet10.make_shrec17(place / "SHREC17")
    (place / "FOLDER").mkdir()
    (place / "FOLDER" / "1abc.pdb").write_text(test_amino_acids.PDB)
    (place / "SPLITS.csv").write_text("entry,split\n1abc,0\n")
