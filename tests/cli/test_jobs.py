"""`basisgen compile --jobs`: workers end with the process that started them, and with the work that is given up."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from click.testing import CliRunner

from basisgen import pipeline
from basisgen.cli import main
from basisgen.errors import MachineError
from basisgen.parallel import each

FOREVER = 3600
TWO_GRIDS = 'name = "p"\n' + "".join(
    f'[[conv]]\nname = "C{size}"\nin = "1x0"\nout = "1x1"\nkernel_size = {size}\n' for size in (3, 4)
)
PARENT = """
import sys
from pathlib import Path
sys.path.insert(0, str(Path(__file__).parent))
from work import sleep
from basisgen.parallel import each
if __name__ == "__main__":
    each(sleep, ["a", "b"], 2)
"""
WORK = f"""
import os, time
from pathlib import Path
def sleep(name):
    part = Path(__file__).with_name(f"{{name}}.part")
    part.write_text(str(os.getpid()))
    part.rename(part.with_suffix(".pid"))
    time.sleep({FOREVER})
"""


def _is_running(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="reads the processes of Linux")
@pytest.mark.parametrize("end", [signal.SIGTERM, signal.SIGKILL, signal.SIGINT])
def test_workers_end_when_their_parent_is_killed(tmp_path: Path, end: signal.Signals) -> None:
    (tmp_path / "parent.py").write_text(PARENT)
    (tmp_path / "work.py").write_text(WORK)
    with subprocess.Popen([sys.executable, tmp_path / "parent.py"], stderr=subprocess.DEVNULL) as parent:
        while len(found := list(tmp_path.glob("*.pid"))) < 2:
            assert parent.poll() is None
            time.sleep(0.02)
        workers = [int(path.read_text()) for path in found]
        assert all(map(_is_running, workers))
        parent.send_signal(end)  # to the parent alone: a Ctrl-C of the terminal reaches all of them
    while any(map(_is_running, workers)):  # for an hour where this fails
        time.sleep(0.02)


def _die_or_sleep(dies: bool) -> None:
    if dies:
        os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(FOREVER)


def _fail_or_sleep(fails: bool) -> None:
    if fails:
        raise ValueError("told to fail")
    time.sleep(FOREVER)


def test_a_killed_worker_is_one_error_and_the_others_end() -> None:
    with pytest.raises(MachineError, match=r"one of 2 worker processes ended without an answer\. .* fewer --jobs"):
        each(_die_or_sleep, [True, False], 2)


def test_an_error_of_one_worker_is_raised_and_the_others_are_not_waited_for() -> None:
    with pytest.raises(ValueError, match="told to fail"):
        each(_fail_or_sleep, [True, False], 2)


def test_results_are_in_order() -> None:
    assert each(abs, [-3, -1, -2], 2) == [3, 1, 2]


def test_a_killed_worker_is_one_line_on_the_command_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(pipeline, "compute", _die)
    Path("p.toml").write_text(TWO_GRIDS)
    result = CliRunner().invoke(main, ["compile", "p.toml", "--jobs", "2"], catch_exceptions=False)
    assert result.exit_code == 2 and result.stderr.startswith("basisgen: one of 2 worker processes ended")
    assert result.stderr.count("\n") == 1 and not Path("generated").exists()


def _die(layers: object) -> None:
    os.kill(os.getpid(), signal.SIGKILL)
