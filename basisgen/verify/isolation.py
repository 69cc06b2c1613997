"""A package's code in a separate process: what it can reach, how long it may take, how much it may answer.

    session   a new one: no terminal, and a signal to its group reaches nothing else; killed as a whole at the end
    handles   standard streams are the null device; beside them one pipe, for the answer, up to a stated number of bytes
    files     a temporary directory of copies; nothing is read from there afterwards. What the code compiles, it keeps
              there: neither is a library taken from the user's cache, nor one put into it
    limits    seconds, of the clock and of the processor, memory, size of files, open files

It keeps accidents out and is not a sandbox: a process may do what its user may. So only code that equals, to the
byte, what the compiler writes is run at all.
"""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from time import monotonic

MAX_SECONDS = 600
MAX_MEMORY = 8 << 30  # bytes of address space that hold data

_TICK = 50  # milliseconds
_CHUNK = 1 << 20
_LENGTH = 8
_ENVIRONMENT = ("PATH", "HOME", "LANG", "LC_ALL", "TMPDIR", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH", "OMP_NUM_THREADS")


class IsolationError(Exception):
    """The process did not answer as it should."""


def run_apart(
    script: Path, arguments: Sequence[str], directory: Path, most: int, seconds: float = MAX_SECONDS
) -> bytes:
    """Runs a Python script with the number of a pipe and the arguments; returns the bytes it wrote to the pipe.

    Raises IsolationError if they are more than `most`, or not all there when the process or its time ends.
    """
    answer, pipe = os.pipe()
    command = [sys.executable, "-I", "-S", "-B", str(script), str(pipe), str(MAX_MEMORY), str(int(seconds)), *arguments]
    environment = {key: os.environ[key] for key in _ENVIRONMENT if key in os.environ}
    environment |= {"CUDA_VISIBLE_DEVICES": "", "XDG_CACHE_HOME": str(directory.absolute())}
    null = subprocess.DEVNULL
    try:
        process = subprocess.Popen(
            command,
            cwd=directory,
            env=environment,
            stdin=null,
            stdout=null,
            stderr=null,
            pass_fds=(pipe,),
            start_new_session=True,
        )
    except BaseException:
        os.close(answer)
        raise
    finally:
        os.close(pipe)
    try:
        return _receive(answer, process, most, monotonic() + seconds)
    finally:
        os.close(answer)
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def sites() -> list[str]:
    """The directories where torch and safetensors are installed, and other packages with them."""
    found = [spec.origin for spec in map(find_spec, ("torch", "safetensors")) if spec and spec.origin]
    places = {str(Path(origin).parent.parent) for origin in found}
    return sorted(places | {entry for entry in sys.path if Path(entry).name in ("site-packages", "dist-packages")})


def _receive(answer: int, process: subprocess.Popen[bytes], most: int, deadline: float) -> bytes:
    """Eight bytes of length, and as many bytes as they say.

    The end of the pipe is not waited for: a process that the process left behind may hold it open.
    """
    poll = select.poll()
    poll.register(answer, select.POLLIN)
    body, wanted = bytearray(), _LENGTH
    while len(body) < wanted:
        ended = process.poll() is not None  # asked before the pipe is: what was written before the end is in it
        if monotonic() > deadline:
            raise IsolationError("did not end in time")
        chunk = os.read(answer, min(_CHUNK, wanted - len(body))) if (ready := poll.poll(0 if ended else _TICK)) else b""
        if not chunk and (ready or ended):
            raise IsolationError(f"ended without an answer{_status(process)}")
        body += chunk
        if wanted == len(body) == _LENGTH:
            wanted += int.from_bytes(body, "little")
            if wanted - _LENGTH > most:
                raise IsolationError(f"answers with {wanted - _LENGTH} bytes, where {most} are the most expected")
    return bytes(body[_LENGTH:])


def _status(process: subprocess.Popen[bytes]) -> str:
    with suppress(subprocess.TimeoutExpired):
        return f": exit status {process.wait(1)}"
    return ""
