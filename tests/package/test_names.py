"""`runtime` in a checkout, `basisgen_runtime` once installed: the same modules, and never two copies in a process."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import REPOSITORY

# as in an environment with an installed copy and the checkout behind it on the path
INSTALLED = f"""
import sys
from importlib.util import module_from_spec, spec_from_file_location
def installed(name):
    spec = spec_from_file_location(name, {str(REPOSITORY / "runtime" / "__init__.py")!r})
    sys.modules[name] = module_from_spec(spec)
    spec.loader.exec_module(sys.modules[name])
"""


def _run(directory: Path, code: str) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"PYTHONPATH": str(REPOSITORY), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-W", "error::ImportWarning", "-W", "error::DeprecationWarning", "-c", code]
    return subprocess.run(command, cwd=directory, env=environment, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("first", ["runtime", "basisgen_runtime"])
def test_both_names_of_a_checkout_are_the_same_modules(first: str, tmp_path: Path) -> None:
    code = f"""
import {first}.volumes.nifti
import basisgen_runtime, basisgen_runtime.train.config, basisgen_runtime.volumes.nifti, runtime.train.config, sys
from basisgen_runtime import Gate
from basisgen_runtime.so3 import random_rotations
import runtime
assert basisgen_runtime is runtime and Gate is runtime.Gate
assert random_rotations is sys.modules["runtime.so3"].random_rotations
for name in [name for name in sys.modules if name.partition(".")[0] == "basisgen_runtime"]:
    plain = name.removeprefix("basisgen_")
    assert sys.modules[name] is sys.modules[plain], name
    assert sys.modules[name].__name__ == sys.modules[name].__spec__.name == plain, name
import pickle
assert type(pickle.loads(pickle.dumps(Gate("2x0 + 1x1 + 1x0")))) is Gate
from_elsewhere = pickle.dumps(Gate, 0).replace(b"cruntime", b"cbasisgen_runtime")  # pickled where it is installed
assert pickle.loads(from_elsewhere) is Gate
try:
    import basisgen_runtime.nothing
except ModuleNotFoundError as error:
    print(error)
"""
    result = _run(tmp_path, code)
    assert (result.returncode, result.stdout) == (0, "No module named 'runtime.nothing'\n"), result.stderr


@pytest.mark.parametrize(("first", "second"), [("runtime", "basisgen_runtime"), ("basisgen_runtime", "runtime")])
def test_a_second_copy_is_refused_in_one_line(first: str, second: str, tmp_path: Path) -> None:
    result = _run(tmp_path, f"{INSTALLED}\ninstalled({first!r})\ninstalled({second!r})")
    place = REPOSITORY / "runtime"
    assert result.returncode == 1 and result.stderr.splitlines()[-1] == (
        f"ImportError: cannot import {second} from {place}: {first} is imported already, from {place}, and a second "
        "copy would have every class twice. Use one of the two names in a process; with the checkout first on the "
        "path, both give the same modules."
    )


def test_a_copy_under_either_name_alone_is_welcome_beside_a_users_own(tmp_path: Path) -> None:
    (tmp_path / "runtime.py").write_text("ours = False\n")
    code = f"import sys; sys.path.insert(0, '')\n{INSTALLED}\ninstalled('basisgen_runtime')\nimport runtime"
    result = _run(tmp_path, f"{code}\nassert not runtime.ours and sys.modules['basisgen_runtime'].Gate")
    assert result.returncode == 0, result.stderr
