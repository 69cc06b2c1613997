"""A package's code in a separate process. The packages here are hostile; `verify` would never run them."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from basisgen.verify import isolation
from basisgen.verify.floats import tensor_forms
from basisgen.verify.isolation import IsolationError, run_apart
from basisgen.verify.manifest import read_manifest
from basisgen.verify.statement import read_certificate
from basisgen.verify.tensors import read_tensors
from basisgen.verify.volumes.module import ProbeError, check_module
from tests.verify.conftest import Files, run_module

ANSWER = "os.write(pipe, (4).to_bytes(8, 'little') + b'good')\n"
START = "import os, signal, sys, time\npipe = int(sys.argv[1])\n"


def apart(tmp_path: Path, code: str, most: int = 100, seconds: float = 60) -> bytes:
    script = tmp_path / "script.py"
    script.write_text(START + code)
    return run_apart(script, [], tmp_path, most, seconds)


def test_an_answer_comes_back(tmp_path: Path) -> None:
    assert apart(tmp_path, ANSWER) == b"good"


@pytest.mark.parametrize(
    ("code", "complaint"),
    [
        ("", "ended without an answer: exit status 0"),
        ("os.write(pipe, (9).to_bytes(8, 'little') + b'short')", "ended without an answer"),
        ("os.close(pipe); time.sleep(60)", "ended without an answer$"),
        ("os.write(pipe, (1 << 40).to_bytes(8, 'little')); time.sleep(60)", "answers with 1099511627776 bytes"),
        ("os.write(pipe, b'\\xff' * 8)", "100 are the most expected"),
        ("os.kill(os.getpid(), signal.SIGKILL)", "exit status -9"),
        ("os.killpg(0, signal.SIGTERM)", "exit status -15"),
        ("raise SystemExit(3)", "exit status 3"),
    ],
)
def test_no_answer_is_an_error(tmp_path: Path, code: str, complaint: str) -> None:
    with pytest.raises(IsolationError, match=complaint):
        apart(tmp_path, code)


def test_a_process_that_does_not_end_is_ended(tmp_path: Path) -> None:
    with pytest.raises(IsolationError, match="did not end in time"):
        apart(tmp_path, "time.sleep(600)", seconds=0.5)


def test_children_of_the_process_delay_nothing_and_end_with_it(tmp_path: Path) -> None:
    """A child that keeps pipe and streams open for ten minutes: the answer is taken, and the group is killed."""
    child = f"{START}open('child', 'w').write(str(os.getpid())); time.sleep(600)"
    (tmp_path / "child.py").write_text(child)
    code = (
        "if not os.fork():\n    open('child', 'w').write(str(os.getpid()))\n    time.sleep(600)\n"
        "while not os.path.exists('child') or not open('child').read(): time.sleep(0.01)\n"
    )
    assert apart(tmp_path, code + ANSWER) == b"good"
    process = int((tmp_path / "child").read_text())
    for _ in range(1000):
        if not _runs(process):
            return
        time.sleep(0.01)
    os.kill(process, signal.SIGKILL)
    pytest.fail("the child lives on")


def _runs(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_a_child_that_leaves_its_group_delays_nothing_either(tmp_path: Path) -> None:
    code = "if not os.fork():\n    os.setsid()\n    time.sleep(15)\n    os._exit(0)\n"
    assert apart(tmp_path, code + ANSWER) == b"good"
    with pytest.raises(IsolationError, match="ended without an answer: exit status 0"):
        apart(tmp_path, code)


def test_the_process_has_no_terminal_no_handles_and_no_group_of_ours(tmp_path: Path) -> None:
    """Handles that are inherited otherwise: one of ours that may be, opened on purpose."""
    (tmp_path / "secret").write_text("secret")
    ours = os.open(tmp_path / "secret", os.O_RDONLY)
    os.set_inheritable(ours, True)
    code = f"""
assert os.getpgid(0) == os.getsid(0) == os.getpid()
assert os.getpgid(0) != {os.getpgid(0)} and os.getsid(0) != {os.getsid(0)}
try: os.open('/dev/tty', os.O_RDWR)
except OSError: pass
else: raise SystemExit(8)
for stream in (0, 1, 2): assert os.path.samestat(os.fstat(stream), os.stat('/dev/null'))
for handle in range(3, 200):
    if handle != pipe:
        try: os.fstat(handle)
        except OSError: continue
        raise SystemExit(9)
assert 'SECRET' not in os.environ and not any(key.startswith('PYTHON') for key in os.environ)
"""
    try:
        os.environ["SECRET"] = "secret"
        assert apart(tmp_path, code + ANSWER) == b"good"
    finally:
        del os.environ["SECRET"]
        os.close(ours)


# ----------------------------------------------------------------------------------------------------- hostile packages


def _run(files: Files, code: str) -> Any:
    return run_module({**files, "__init__.py": code.encode() + b"\n" + files["__init__.py"]})


@pytest.mark.parametrize(
    ("code", "complaint"),
    [
        ("raise RuntimeError('\\x1b[2Jno')", "RuntimeError"),
        ("import os; os._exit(0)", "exit status 0"),
        ("import os, signal; os.killpg(0, signal.SIGTERM)", "exit status -15"),
        ("import basisgen", "ModuleNotFoundError|ImportError"),
        ("import runtime", "ModuleNotFoundError|ImportError"),
        ("open('large', 'wb').write(bytes(1 << 24))", "OSError: .*File too large"),
        ("import os\nwhile True: os.write(int(__import__('sys').argv[1]), b\"\\xff\" * (1 << 20))", "bytes, where"),
        ("import sys, os; os.write(int(sys.argv[1]), (40).to_bytes(8, 'little') + bytes(40)); os._exit(0)", "not JSON"),
        (
            "import sys, os; write = lambda n: os.write(int(sys.argv[1]), n.to_bytes(8, 'little'))\n"
            "write(16); write(8); os.write(int(sys.argv[1]), b'{}      '); os._exit(0)",
            "outputs",
        ),
        ("raise SystemExit(0)", "SystemExit"),
    ],
)
def test_a_hostile_package_is_one_complaint(tiny: Files, code: str, complaint: str) -> None:
    with pytest.raises(ProbeError, match=complaint):
        _run(tiny, code)


@pytest.mark.skipif(not Path("/proc").exists(), reason="the limit of memory is Linux's")
def test_memory_is_limited(tiny: Files, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(isolation, "MAX_MEMORY", 1 << 30)
    with pytest.raises(ProbeError, match="MemoryError"):
        _run(tiny, "bytes(1 << 31)")


def test_links_in_place_of_results_write_nowhere(tiny: Files, tmp_path: Path) -> None:
    """All names that ever were a result's, as links to a file of the user's, which stays as it is."""
    precious = tmp_path / "precious"
    precious.write_text("precious")
    code = f"""
import os
place = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
for name in ("facts.json", "outputs.safetensors", "task.json", "results.json"):
    path = os.path.join(place, name)
    if os.path.lexists(path) and name != "task.json": os.unlink(path)
    if name != "task.json": os.symlink({str(precious)!r}, path)
"""
    found = _run(tiny, code)
    assert precious.read_text() == "precious" and not any(of.complaints for of in found.values())


def test_the_temporary_directory_is_removed_and_links_in_it_are_not_followed(tiny: Files, tmp_path: Path) -> None:
    (tmp_path / "precious").mkdir()
    (tmp_path / "precious" / "file").touch()
    code = (
        f"import os; os.symlink({str(tmp_path / 'precious')!r}, 'link'); "
        f"open({str(tmp_path / 'where')!r}, 'w').write(os.getcwd()); os._exit(0)"
    )
    with pytest.raises(ProbeError):
        _run(tiny, code)
    assert (tmp_path / "precious" / "file").exists() and not Path((tmp_path / "where").read_text()).exists()


def test_wrong_shapes_are_one_complaint(tiny: Files, small: Files) -> None:
    """The code of one package, the manifest of another."""
    manifest, certificate = read_manifest(small["manifest.json"]), read_certificate(small["certificate.json"])
    tensors, _ = read_tensors(small["basis.safetensors"], tensor_forms(certificate))
    with pytest.raises(ProbeError):
        check_module("small", manifest.layers, certificate, tensors, tiny, np.random.default_rng(0))
