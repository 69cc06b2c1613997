"""`__pycache__`: what the interpreter makes of the modules is left alone, everything else there is refused."""

from __future__ import annotations

import importlib.util
import marshal
import os
import py_compile
import subprocess
import sys
from pathlib import Path

import pytest

from basisgen.verify.verdict import Verdict
from basisgen.verify.verify import verify_package
from tests.verify.conftest import Files, failed, recompile_once, write

TAG = sys.implementation.cache_tag
HEADER = 16


@pytest.fixture
def place(tiny: Files, tmp_path: Path) -> Path:
    write(tiny, tmp_path / "tiny")
    return tmp_path / "tiny"


def verify(place: Path) -> Verdict:
    return verify_package(place, run=False, recompile=recompile_once)


@pytest.mark.parametrize("options", [[], ["-O"], ["-OO"], ["--check-hash-based-pycs", "always"]])
def test_what_python_caches_is_left_alone(place: Path, options: list[str]) -> None:
    """By the import system's own loader, in a process that knows other names, from a relative path."""
    code = (
        "import json, sys\n"
        "from importlib.machinery import SourceFileLoader\n"
        "for name in sys.argv[1:]: SourceFileLoader('x', f'tiny/{name}.py').get_code('x')"
    )
    environment = {key: value for key, value in os.environ.items() if not key.startswith("PYTHON")}
    command = [sys.executable, *options, "-c", code, "__init__", "conv1", "_steerable"]
    subprocess.run(command, cwd=place.parent, env=environment, check=True)
    assert len(list((place / "__pycache__").iterdir())) == 3
    verdict = verify(place)
    assert verdict.verified, verdict.complaints
    assert "bytecode" in {check.name for check in verdict.checks}


@pytest.mark.parametrize("before", ["", "sys.intern('?'); "])
def test_what_a_process_interned_before_does_not_matter(place: Path, before: str) -> None:
    """`pip install` and compileall have other strings of one letter interned than we."""
    code = f"import sys; {before}import py_compile; py_compile.compile('tiny/_layer.py', doraise=True)"
    assert b"?" in (place / "_layer.py").read_bytes()
    subprocess.run([sys.executable, "-I", "-S", "-c", code], cwd=place.parent, check=True)
    verdict = verify(place)
    assert verdict.verified, verdict.complaints


@pytest.mark.slow
def test_what_an_import_caches_is_left_alone(place: Path) -> None:
    environment = {key: value for key, value in os.environ.items() if not key.startswith("PYTHON")}
    subprocess.run([sys.executable, "-c", "import tiny; tiny.Conv1()"], cwd=place.parent, env=environment, check=True)
    modules = list(place.glob("*.py"))
    assert len(list((place / "__pycache__").iterdir())) == len(modules) and verify(place).verified


@pytest.mark.parametrize("path", ["conv1.py", "/conv1.py", "x" * 300 + "/conv1.py", "./é/conv1.py", "\udcff/conv1.py"])
def test_the_path_in_the_code_may_be_any(place: Path, path: str) -> None:
    py_compile.compile(str(place / "conv1.py"), dfile=path)
    assert verify(place).verified


def _planted(place: Path, flags: int, source: bytes, name: str = f"conv1.{TAG}.pyc") -> None:
    """Code of another source, in a file that pretends to be of the one that is there."""
    (place / "__pycache__").mkdir(exist_ok=True)
    module = place / "conv1.py"
    path = str(module)
    held = [compile(source, path, "exec", dont_inherit=True)]  # a reference beside the call's, as the import system has
    facts = module.stat()
    key = importlib.util.source_hash(module.read_bytes())
    by_time = int(facts.st_mtime).to_bytes(4, "little") + facts.st_size.to_bytes(4, "little")
    head = importlib.util.MAGIC_NUMBER + flags.to_bytes(4, "little") + (key if flags else by_time)
    (place / "__pycache__" / name).write_bytes(head + marshal.dumps(held[0]))


@pytest.mark.parametrize("flags", [0, 1, 3])
@pytest.mark.parametrize("own", [True, False])
def test_planted_code_is_refused(place: Path, flags: int, own: bool) -> None:
    """Also the right code where Python would never look whether it still is."""
    source = (place / "conv1.py").read_bytes()
    _planted(place, flags, source if own else source.replace(b"0, 1, 0", b"0, 0, 0", 1) + b"\nraise SystemExit(7)")
    verdict = verify(place)
    assert verdict.verified == (own and flags != 1)
    assert (own and flags != 1) or (failed(verdict) == {"bytecode"} and "Remove __pycache__" in verdict.complaints[0])


def test_an_impossible_path_is_one_complaint(place: Path) -> None:
    """No compiler takes a path with a zero byte; bytes that look like one are no reason to end in a traceback."""
    source = (place / "conv1.py").read_bytes()
    head = importlib.util.MAGIC_NUMBER + (3).to_bytes(4, "little") + importlib.util.source_hash(source)
    for path in (b"\0conv1.py", b"a\0/conv1.py", b"\xed\xa0\x80conv1.py", b"\xffconv1.py"):
        name = f"conv1.{sys.implementation.cache_tag}.pyc"
        (place / "__pycache__").mkdir(exist_ok=True)
        (place / "__pycache__" / name).write_bytes(head + b"xxxx" + len(path).to_bytes(4, "little") + path)
        verdict = verify(place)
        assert failed(verdict) == {"bytecode"} and "Remove __pycache__" in verdict.complaints[0]


def test_one_byte_of_cached_code_is_found(place: Path) -> None:
    cached = Path(py_compile.compile(str(place / "conv1.py")))
    body = cached.read_bytes()
    path = str(place / "conv1.py").encode()  # it may be any
    for index in set(range(0, len(body), 61)) - set(range(body.index(path), body.index(path) + len(path))):
        bit = 0x20 if index % 2 else 1  # the first is the interned mark of strings
        cached.write_bytes(body[:index] + bytes([body[index] ^ bit]) + body[index + 1 :])
        assert not verify(place).verified, index


def test_stale_code_is_refused(place: Path) -> None:
    py_compile.compile(str(place / "conv1.py"))
    os.utime(place / "conv1.py", (1, 1))
    assert "not of the present conv1.py" in verify(place).complaints[0]


@pytest.mark.parametrize(
    "name",
    [
        *("conv1.cpython-999.pyc", "conv1.pyc", "torch.{tag}.pyc", "conv1.{tag}.opt-3.pyc", "conv1.{tag}.pyo", "x.so"),
        *(
            "conv1.{tag}.so",
            "CONV1.{tag}.pyc",
            "conv1.{tag}.pyc.1234",
            "conv1.{tag}.pyc\n",
            "\x1b[2J.pyc",
            ".hidden",
            "conv1.py",
        ),
        *("conv1.{tag}-pytest-8.4.pyc", "conv1.pypy39.pyc", "_product.{tag}.pyc"),
    ],
)
def test_no_other_file_belongs_into_the_cache(place: Path, name: str) -> None:
    cached = Path(py_compile.compile(str(place / "conv1.py")))
    cached.rename(cached.with_name(name.format(tag=TAG)))
    verdict = verify(place)
    assert not verdict.verified and all(line.isprintable() for line in verdict.complaints)


@pytest.mark.parametrize("kind", ["link", "pipe", "directory"])
def test_only_regular_files_are_read_there(place: Path, kind: str) -> None:
    cached = Path(py_compile.compile(str(place / "conv1.py")))
    body = cached.read_bytes()
    cached.unlink()
    if kind == "pipe":
        os.mkfifo(cached)
    elif kind == "directory":
        cached.mkdir()
    else:
        (place.parent / "elsewhere").write_bytes(body)
        cached.symlink_to(place.parent / "elsewhere")
    assert failed(verify(place)) == {"files"}


@pytest.mark.parametrize("kind", ["link", "file"])
def test_the_cache_is_a_directory(place: Path, kind: str) -> None:
    if kind == "file":
        (place / "__pycache__").touch()
    else:
        (place.parent / "elsewhere").mkdir()
        (place / "__pycache__").symlink_to(place.parent / "elsewhere")
    assert failed(verify(place)) == {"files"}


def test_modules_that_are_not_the_compilers_are_not_even_compiled(place: Path) -> None:
    (place / "conv1.py").write_text("(" * 100_000)
    (place / "__pycache__").mkdir()
    (place / "__pycache__" / f"conv1.{TAG}.pyc").write_bytes(bytes(100))
    verdict = verify(place)
    assert {check.name: check.not_done for check in verdict.checks}["bytecode"] == "the modules are not the compiler's"
