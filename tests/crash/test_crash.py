"""Whatever happens to a compile, the package is the old one or the new one: kills, full disks, two compiles at once."""

from __future__ import annotations

import errno
import itertools
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from basisgen import files
from basisgen.commands.recompile import recompile
from basisgen.emission import write
from basisgen.emission.write import read_package, write_package
from basisgen.errors import OutputError
from basisgen.files import write_file
from basisgen.pipeline import compile_package
from basisgen.spec import parse_package
from basisgen.verify.verify import verify_package

Files = dict[str, bytes]

REPOSITORY = Path(__file__).parent.parent.parent
SPEC = """
name = "small"
[[conv]]
name = "Conv1"
in = "0 + 1"
out = "{out}"
kernel_size = {size}
"""
# the two packages have files of different names, sizes and number
OLD = SPEC.format(out="0 + 1", size=3)
NEW = (
    SPEC.format(out="1 + 2", size=4).replace("Conv1", "Convolution")
    + '[[conv]]\nname = "Last"\nin = "1"\nout = "0"\nkernel_size = 5\n'
)


@pytest.fixture(scope="module")
def old() -> Files:
    return compile_package(parse_package(OLD))


@pytest.fixture(scope="module")
def new() -> Files:
    return compile_package(parse_package(NEW))


def _leftovers(place: Path) -> list[Path]:
    return [path for path in place.parent.iterdir() if path != place]


def _kill_writers(tmp_path: Path, old: Files, new: Files, count: int, seed: int) -> list[str]:
    for name, content in (("a", old), ("b", new)):
        write_package(content, tmp_path / "sources" / name)
    place = tmp_path / "generated" / "small"
    script = Path(__file__).with_name("writer.py")
    command = [sys.executable, script, place, str(count), str(seed), *(tmp_path / "sources" / n for n in "ab")]
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    assert verify_package(place, run=False, recompile=recompile).verified
    write_package(old, place)  # and the next compile tidies up
    assert read_package(place) == old and _leftovers(place) == []
    return done.stdout.split("\n")[:-1]


@pytest.mark.slow
def test_writers_killed_at_random_moments_leave_a_whole_package(tmp_path: Path, old: Files, new: Files) -> None:
    found = _kill_writers(tmp_path, old, new, count=40, seed=1)
    assert len(found) == 40 and set(found) == {"A", "B"}, found


@pytest.mark.slow
def test_hundreds_of_writers_killed(tmp_path: Path, old: Files, new: Files) -> None:
    found = _kill_writers(tmp_path, old, new, count=600, seed=2)
    assert len(found) == 600 and set(found) == {"A", "B"}, found


@pytest.mark.slow
def test_the_command_killed_at_random_moments_leaves_a_whole_package(tmp_path: Path, old: Files, new: Files) -> None:
    for name, text in (("old.toml", OLD), ("new.toml", NEW)):
        (tmp_path / name).write_text(text)
    place = tmp_path / "generated" / "small"
    write_package(old, place)
    command = [sys.executable, "-m", "basisgen.cli", "compile", "--force"]
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY), "OMP_NUM_THREADS": "1"}
    start = time.monotonic()
    subprocess.run([*command, "new.toml"], cwd=tmp_path, env=environment, check=True, capture_output=True)
    duration, random_ = time.monotonic() - start, random.Random(3)
    ended = 0
    for k in range(40):
        process = subprocess.Popen(
            [*command, ("old.toml", "new.toml")[k % 2]],
            cwd=tmp_path,
            env=environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        time.sleep(random_.uniform(0.5, 1.1) * duration)  # the writing comes last
        process.send_signal(signal.SIGKILL)
        ended += process.wait() == 0
        assert read_package(place) in (old, new), k
    assert ended < 40, "every compile ended before it was killed: this test proves nothing"


def _fail_at(call: int, monkeypatch: pytest.MonkeyPatch, number: int) -> Callable[[], int]:
    """Makes the call-th system call that changes the disk fail; returns how many there have been."""
    calls = 0

    def failing(function: Callable[..., Any]) -> Callable[..., Any]:
        def wrapped(*arguments: Any, **options: Any) -> Any:
            nonlocal calls
            calls += 1
            if calls == call:
                raise OSError(number, os.strerror(number))
            return function(*arguments, **options)

        return wrapped

    monkeypatch.setattr(files, "write_durably", failing(files.write_durably))
    monkeypatch.setattr(write, "_exchange", failing(write._exchange))
    monkeypatch.setattr(os, "fsync", failing(os.fsync))
    monkeypatch.setattr(tempfile, "mkdtemp", failing(tempfile.mkdtemp))
    for method in ("mkdir", "open", "rename", "chmod"):
        monkeypatch.setattr(Path, method, failing(getattr(Path, method)))
    return lambda: calls


@pytest.mark.parametrize("before", ["nothing", "a package"])
@pytest.mark.parametrize("number", [errno.ENOSPC])
def test_whichever_step_fails_the_old_package_stays(
    tmp_path: Path, old: Files, new: Files, before: str, number: int
) -> None:
    """Every step in turn: one clear error and the old package, or (at the last sync) the new one; nothing left over."""
    place = tmp_path / "generated" / "small"
    errors = 0
    for step in itertools.count(1):
        for path in (tmp_path / "generated").glob("*"):
            shutil.rmtree(path)
        if before == "a package":
            write_package(old, place)
        with pytest.MonkeyPatch.context() as monkeypatch:
            calls = _fail_at(step, monkeypatch, number)
            try:
                write_package(new, place)
                expected = new
            except OutputError as error:
                assert str(place) in str(error) and os.strerror(number) in str(error)
                expected, errors = (old if before == "a package" else {}), errors + 1
        assert read_package(place) == expected and (not place.parent.exists() or _leftovers(place) == [])
        if calls() < step:  # none was left to fail
            break
    assert errors >= 2 * len(new), "hardly any step has failed: this test proves nothing"


def test_without_an_exchange_in_the_system_two_renames_do(
    tmp_path: Path, old: Files, new: Files, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "platform", "other")
    place = tmp_path / "generated" / "small"
    for content in (old, new, old):
        write_package(content, place)
        assert read_package(place) == content and _leftovers(place) == []


def _with_limit(tmp_path: Path, limit: int, *arguments: str) -> subprocess.CompletedProcess[str]:
    """A command that can write files of so many bytes."""
    return subprocess.run(
        [sys.executable, "-B", "-m", "basisgen.cli", *arguments],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
        capture_output=True,
        text=True,
        check=False,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit)),
    )


def test_no_room_for_a_file_is_one_clear_error(tmp_path: Path, old: Files) -> None:
    place = tmp_path / "generated" / "small"
    write_package(old, place)
    (tmp_path / "new.toml").write_text(NEW)
    result = _with_limit(tmp_path, 4096, "compile", "new.toml")
    assert result.returncode == 2 and result.stderr.count("\n") == 1
    assert "cannot write generated/small: File too large" in result.stderr
    assert read_package(place) == old and _leftovers(place) == []


def test_no_room_for_a_report_leaves_the_earlier_one(tmp_path: Path, old: Files) -> None:
    place, page = tmp_path / "generated" / "small", tmp_path / "page.html"
    write_package(old, place)
    page.write_text("an earlier page")
    done = _with_limit(tmp_path, 4096, "report", str(place), "-o", str(page))
    assert done.returncode == 2 and done.stderr == f"basisgen: cannot write {page}: File too large.\n"
    assert page.read_text() == "an earlier page" and sorted(tmp_path.iterdir()) == [place.parent, page]
    assert _with_limit(tmp_path, 1 << 20, "report", str(place), "-o", str(page)).returncode == 0
    assert page.read_text().startswith("<!doctype html>") and sorted(tmp_path.iterdir()) == [place.parent, page]


def test_a_page_goes_where_a_link_leads_and_into_pipes(tmp_path: Path) -> None:
    page, link, pipe = (tmp_path / name for name in ("page.html", "link.html", "pipe"))
    link.symlink_to(page)
    write_file(link, "text")
    assert link.is_symlink() and page.read_text() == "text"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    write_file(pipe, "text")
    assert pipe.is_fifo() and os.read(reader, 9) == b"text"
    os.close(reader)


def test_an_interrupted_compile_is_one_line_and_the_old_package(tmp_path: Path, old: Files) -> None:
    place = tmp_path / "generated" / "small"
    write_package(old, place)
    (tmp_path / "new.toml").write_text(NEW)
    # the command itself, with a Ctrl-C at the moment it has planned the package
    code = (
        "import os, signal, basisgen.pipeline as pipeline, basisgen.emission.render as render\n"
        "def interrupted(plan): os.killpg(0, signal.SIGINT)\n"
        "render.render = interrupted\n"
        "from basisgen.cli import main\n"
        "if __name__ == '__main__': main()\n"
    )
    (tmp_path / "command.py").write_text(code)
    command = [sys.executable, "-B", "command.py", "compile", "new.toml", "--force"]
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        command, cwd=tmp_path, env=environment, capture_output=True, text=True, start_new_session=True, check=False
    )
    assert done.returncode == 128 + signal.SIGINT
    assert done.stderr == "\nbasisgen: interrupted. Nothing is half-written.\n"
    assert read_package(place) == old and _leftovers(place) == []


def test_a_full_disk_is_one_clear_error(tmp_path: Path, old: Files, new: Files) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", disk], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip("a small disk can be mounted by root only")
    try:
        place = disk / "generated" / "small"
        write_package(old, place)
        (disk / "ballast").write_bytes(bytes(max(0, _free(disk) - 16384)))
        with pytest.raises(OutputError, match="No space left on device"):
            write_package(new, place)
        assert read_package(place) == old and _leftovers(place) == []
        (disk / "ballast").unlink()
        write_package(new, place)
        assert read_package(place) == new
    finally:
        subprocess.run(["umount", disk], check=True)


def _free(disk: Path) -> int:
    facts = os.statvfs(disk)
    return facts.f_bavail * facts.f_frsize


@pytest.mark.slow
def test_two_compiles_at_once_end_with_one_good_package(tmp_path: Path, old: Files, new: Files) -> None:
    for name, text in (("old.toml", OLD), ("new.toml", NEW)):
        (tmp_path / name).write_text(text)
    command = [sys.executable, "-m", "basisgen.cli", "compile", "--force"]
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY), "OMP_NUM_THREADS": "1"}
    processes = [
        subprocess.Popen(
            [*command, spec], cwd=tmp_path, env=environment, stderr=subprocess.PIPE, stdout=subprocess.PIPE
        )
        for spec in ("old.toml", "new.toml")
    ]
    for process in processes:
        assert process.wait() == 0, process.communicate()[1]
        process.communicate()
    place = tmp_path / "generated" / "small"
    assert read_package(place) in (old, new) and _leftovers(place) == []
    assert verify_package(place, run=False, recompile=recompile).verified


@pytest.mark.slow
def test_writers_at_once_never_meet_a_mixture(tmp_path: Path, old: Files, new: Files) -> None:
    """Two writers of different packages, without pause."""
    place = tmp_path / "generated" / "small"
    write_package(old, place)
    code = (
        "import sys, pathlib\n"
        "from basisgen.emission.write import read_package, write_package\n"
        "content = read_package(pathlib.Path(sys.argv[1]))\n"
        "for _ in range(20): write_package(content, pathlib.Path(sys.argv[2]))\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    processes = []
    for name, content in (("a", old), ("b", new)):
        write_package(content, tmp_path / "sources" / name)
        command = [sys.executable, "-c", code, tmp_path / "sources" / name, place]
        processes.append(subprocess.Popen(command, env=environment, stderr=subprocess.PIPE))
    for process in processes:
        _, errors = process.communicate()
        assert process.returncode == 0, errors
    assert read_package(place) in (old, new) and _leftovers(place) == []


def test_a_link_in_the_way_is_refused(tmp_path: Path, old: Files) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (tmp_path / "generated").symlink_to(elsewhere)
    with pytest.raises(OutputError, match="generated is a symbolic link"):
        write_package(old, tmp_path / "generated" / "small")
    (tmp_path / "real").mkdir()
    (tmp_path / "real" / "small").symlink_to(elsewhere)
    with pytest.raises(OutputError, match="small is a symbolic link"):
        write_package(old, tmp_path / "real" / "small")
    assert list(elsewhere.iterdir()) == []
