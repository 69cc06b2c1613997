"""Packages read while others take their place, and names that would write to a terminal."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from basisgen.cli import main
from basisgen.emission.write import read_package, write_package
from basisgen.errors import BasisgenError, OutputError, SpecError, printable
from basisgen.pipeline import compile_package
from basisgen.spec import parse_package
from basisgen.verify.canonical import to_json
from basisgen.verify.files import read_contents
from tests.verify.conftest import TINY, Files, redigest, write

READERS: dict[str, Callable[[Path], Files]] = {"compiler": read_package, "verifier": lambda p: read_contents(p).files}


@pytest.fixture
def place(tiny: Files, tmp_path: Path) -> Path:
    write(tiny, tmp_path / "tiny")
    return tmp_path / "tiny"


@pytest.mark.parametrize("reader", READERS)
def test_a_package_that_is_replaced_is_read_whole(tiny: Files, small: Files, tmp_path: Path, reader: str) -> None:
    """Two packages take each other's place without end; no read is a mixture, and both are seen."""
    place = tmp_path / "package"
    write_package(tiny, place)
    done = threading.Event()

    def replace() -> None:
        while not done.is_set():
            write_package(small, place)
            write_package(tiny, place)

    writer = threading.Thread(target=replace)
    writer.start()
    try:
        found = [READERS[reader](place) for _ in range(150)]
    finally:
        done.set()
        writer.join()
    assert all(files in (tiny, small) for files in found)


@pytest.mark.parametrize("reader", READERS)
def test_a_replacement_between_two_files_is_noticed(
    tiny: Files, small: Files, place: Path, reader: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At every single opening of a file."""
    for moment in range(1, len(tiny) + 1):
        write_package(tiny, place)
        calls, plain = 0, os.open

        def opening(path: object, *arguments: object, moment: int = moment, plain: object = plain, **o: object) -> int:
            nonlocal calls
            if o.get("dir_fd") is not None:
                calls += 1
                if calls == moment:
                    monkeypatch.undo()
                    write_package(small, place)
            return plain(path, *arguments, **o)  # type: ignore[operator]

        monkeypatch.setattr(os, "open", opening)
        found = READERS[reader](place)
        monkeypatch.undo()
        assert found == small and calls == moment


def test_links_and_pipes_are_not_read(place: Path, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("secret")
    for make in (lambda path: path.symlink_to(tmp_path / "secret"), os.mkfifo):
        (place / "conv1.py").unlink()
        make(place / "conv1.py")
        with pytest.raises(OutputError, match=r"conv1\.py is not a regular file"):
            read_package(place)


# --------------------------------------------------------------------------------------------------------- the terminal

ESCAPES = "\x1b]0;title\x07\x1b[2J\x9b31m\u202e\r\n\x7f"


def test_what_is_not_printable_is_escaped() -> None:
    assert printable("a é 中") == "a é 中"
    assert printable(f"a{ESCAPES}\ud800").isprintable() and printable("a\nb\x1b", keep="\n") == "a\nb\\x1b"
    assert str(SpecError(f"x{ESCAPES}")).isprintable() and str(BasisgenError()) == ""


def _run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def test_names_and_manifests_never_reach_a_terminal_raw(tiny: Files, place: Path) -> None:
    (place / f"x{ESCAPES}").touch()
    manifest = json.loads(tiny["manifest.json"])
    for key in ("command", "basisgen", "name"):
        (place / "manifest.json").write_bytes(to_json({**manifest, key: f"{manifest[key]}{ESCAPES}"}))
        (place / "conv1.py").write_bytes(tiny["conv1.py"] + ESCAPES.encode())
        elsewhere = place.rename(place.parent / f"tiny{ESCAPES}")
        for command in (["verify"], ["report"], ["tune"], ["tune", "--undo"], ["compile", "--check"]):
            arguments = [*command, elsewhere]
            if command[0] == "compile":
                elsewhere.rename(place)
                spec = place.parent / "tiny.toml"
                spec.write_text(TINY)
                arguments = [*command, spec, "--out", place.parent]
            result = _run(*arguments)
            if command[0] == "compile":
                place.rename(elsewhere)
            assert result.exit_code in (1, 2)
            assert printable(result.output, keep="\n\t") == result.output, (command, key)
        elsewhere.rename(place)


# --------------------------------------------------------------------------------------------------------- tune --undo


def test_undo_writes_nothing_that_a_manifest_says(tmp_path: Path) -> None:
    """Name and command of a hostile manifest, with code in them, go into no module."""
    files = compile_package(parse_package(TINY.replace("shells", "hermite")))
    code = "x\nopen('was_run', 'w')\n#"
    place = tmp_path / "tiny"
    for key, value in (("command", code), ("name", code), ("name", "class"), ("name", "torch"), ("command", 7)):
        write(redigest({**files, "manifest.json": to_json({**json.loads(files["manifest.json"]), key: value})}), place)
        before = read_package(place)
        result = _run("tune", place, "--undo")
        if key == "command":
            assert result.exit_code == 0 and read_package(place) == files
        else:
            assert result.exit_code == 2 and read_package(place) == before
        assert b"was_run" not in b"".join(body for name, body in read_package(place).items() if name.endswith(".py"))


def test_a_file_that_a_manifest_only_claims_is_not_lost(place: Path, tiny: Files) -> None:
    """Listed with its digest in a forged manifest, and still the user's."""
    write(redigest({**tiny, "thesis.txt": b"years of work"}), place)
    (place.parent / "tiny.toml").write_text(TINY)
    result = _run("compile", place.parent / "tiny.toml", "--out", place.parent, "--force")
    assert result.exit_code == 2 and (place / "thesis.txt").read_bytes() == b"years of work"
