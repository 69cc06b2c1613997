"""Files are written whole or not at all; pipes, devices and paths of any length end in one line, and none hangs."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from basisgen import files
from basisgen.errors import OutputError
from basisgen.files import read_bounded, staged, write_file


@pytest.fixture(autouse=True)
def no_patience(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "PATIENCE", 0.05)


@pytest.mark.parametrize("length", [0, 5, 100])
def test_a_file_is_read_up_to_the_limit(tmp_path: Path, length: int) -> None:
    path = tmp_path / "file"
    path.write_bytes(bytes(length))
    assert read_bounded(path, length, "a file") == bytes(length)
    if length:
        with pytest.raises(OutputError, match=f"file is larger than {length - 1} bytes: not a file"):
            read_bounded(path, length - 1, "a file")


def test_a_pipe_that_nobody_writes_to_is_an_error(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(OutputError, match=r"pipe: it is a pipe or a terminal, and nothing comes out of it"):
        read_bounded(tmp_path / "pipe", 10, "a file")


def test_a_pipe_that_is_opened_and_never_written_to_is_an_error(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    writer = os.open(tmp_path / "pipe", os.O_RDWR)
    with pytest.raises(OutputError, match="nothing comes out of it"):
        read_bounded(tmp_path / "pipe", 10, "a file")
    os.close(writer)


def test_a_pipe_with_a_writer_is_read_to_its_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "PATIENCE", 60.0)
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    writer = threading.Thread(target=lambda: pipe.write_bytes(b"text" * 50_000))
    writer.start()
    assert read_bounded(pipe, 1 << 20, "a file") == b"text" * 50_000
    writer.join()


def test_a_page_for_a_pipe_that_nobody_reads_is_an_error(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(OutputError, match="cannot write"):
        write_file(tmp_path / "pipe", "text")


@pytest.mark.parametrize("place", ["a" * 4000, "a/" * 1990 + "b", "a/" * 2500 + "b"], ids=["name", "deep", "deeper"])
def test_a_path_that_is_too_long_is_one_error_and_makes_no_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(OutputError, match=r"File name too long|No such file"):
        write_file(Path(place), "text")
    assert list(tmp_path.iterdir()) == []


def test_a_staged_directory_is_gone_even_after_an_error(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt), staged(tmp_path / "place") as temporary:
        (temporary / "file").write_text("half")
        raise KeyboardInterrupt
    assert list(tmp_path.iterdir()) == []


def test_what_a_killed_writer_left_is_removed_and_what_a_running_one_works_on_stays(tmp_path: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", ""]) as ended:
        pass
    (tmp_path / f".place.{ended.pid}.abc").mkdir()
    (tmp_path / f".place.{os.getppid()}.abc").mkdir()
    with staged(tmp_path / "place"):
        pass
    assert [path.name for path in tmp_path.iterdir()] == [f".place.{os.getppid()}.abc"]
