"""`_product.cpp`, compiled once for a machine's kind of processor and kept by its digest; nothing where that fails.

The library lies in a directory that belongs to the user alone: $XDG_CACHE_HOME/basisgen, else ~/.cache/basisgen. The
compiler is $CXX, else c++, g++ or clang++, whichever is found first.
"""

import ctypes
import functools
import os
import shlex
import shutil
import stat
import subprocess
import tempfile
from collections.abc import Callable
from hashlib import sha256
from math import prod
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

MAX_ROWS = 1 << 16  # rows are counted in 16 bits
SECONDS = 60  # the longest a compiler may take
_FLAGS = ("-std=c++17", "-O3", "-shared", "-fPIC", "-ffp-contract=fast")
_BY_CAPABILITY = {
    "AVX512": ("-mavx512f", "-mavx512dq", "-mavx512bw", "-mavx512vl", "-mavx2", "-mfma"),
    "AVX2": ("-mavx2", "-mfma"),
}


class Kernel:
    """One product as the compiled functions take it: fields, and a table sorted by out row."""

    def __init__(
        self,
        fields: list[tuple[list[int], int]],  # (components of each fragment, channels) of first, second and out
        out_row: Tensor,
        first_row: Tensor,
        second_row: Tensor,
        value: Tensor,
    ) -> None:
        self._rows = [sum(dims) for dims, _ in fields]
        self._channels = fields[0][1]
        counts = torch.bincount(out_row, minlength=self._rows[2]).cumsum(0)
        pointer = torch.cat([counts.new_zeros(1), counts]).int()
        # int16 has the bits of the uint16 the kernel reads
        self._kept = [pointer, first_row.to(torch.int16), second_row.to(torch.int16), value.contiguous()]
        numbers = [tensor.data_ptr() for tensor in self._kept]
        sizes = [number for dims, _ in fields for number in self._sizes_of(dims)]
        # in the order of the struct of this name
        self._constants = torch.tensor([*sizes, *numbers, self._channels])
        self._type = str(value.dtype).removeprefix("torch.")
        self._functions: dict[str, Callable[..., None]] = {}

    def _sizes_of(self, dims: list[int]) -> list[int]:
        """A field as the library takes it: where the components of each fragment are, how many fragments and rows."""
        self._kept.append(torch.tensor(dims, dtype=torch.int32))
        return [self._kept[-1].data_ptr(), len(dims), sum(dims)]

    def forward(self, x: Tensor, y: Tensor | None) -> Tensor:
        """The products, of contiguous fields."""
        out = x.new_empty(x.shape[0], self._rows[2] * self._channels, *x.shape[2:])
        self._call("forward", x, x, x if y is None else y, out)
        return out

    def backward(self, g: Tensor, x: Tensor, y: Tensor | None) -> tuple[Tensor, Tensor]:
        """The gradients of both fields; of one field their sum, and nothing."""
        gx = torch.empty_like(x)
        gy = gx if y is None else torch.empty_like(y)
        self._call("backward", x, g, x, x if y is None else y, gx, gy)
        return gx, x.new_empty(0) if y is None else gy

    def _call(self, name: str, like: Tensor, *fields: Tensor) -> None:
        """A function of the library: `like` has the batch and the sites."""
        batch, _, *space = like.shape
        sites = prod(space)
        if batch * sites == 0:
            return
        if name not in self._functions:
            self._functions[name] = _function(f"{name}_{self._type}", len(fields))
        places = [field.data_ptr() for field in fields]
        self._functions[name](*places, self._constants.data_ptr(), batch, sites, torch.get_num_threads())


def is_available() -> bool:
    """Whether the compiled product can be had; the first call compiles it."""
    return _library() is not None


@functools.cache
def _library() -> ctypes.CDLL | None:
    source = Path(__file__).with_name("_product.cpp").read_bytes()
    capability = _BY_CAPABILITY.get(torch.backends.cpu.get_cpu_capability(), ())
    compiler = _compiler()
    try:
        directory = _directory()
        for parallel in (("-fopenmp",), ()):
            flags = (*_FLAGS, *capability, *parallel)
            digest = sha256(source + repr((flags, os.uname().machine)).encode()).hexdigest()
            path = directory / f"product-{digest}.so"
            if path.exists() or (compiler and _compile([*compiler, *flags], source, path)):
                return ctypes.CDLL(str(path))
    except (OSError, AttributeError):
        return None
    return None


def _function(name: str, fields: int) -> Any:
    """A function of the library, which takes the places of so many fields."""
    library = _library()
    assert library is not None, "is_available was not asked"
    function = getattr(library, name)
    function.argtypes = [ctypes.c_void_p] * (fields + 1) + [ctypes.c_int64, ctypes.c_int64, ctypes.c_int32]
    function.restype = None
    return function


def _compiler() -> list[str] | None:
    chosen = shlex.split(os.environ.get("CXX", ""))
    for command in [chosen] if chosen else [["c++"], ["g++"], ["clang++"]]:
        if shutil.which(command[0]):
            return command
    return None


def _directory() -> Path:
    """Raises OSError where it cannot be made, or others could write into it."""
    root = os.environ.get("XDG_CACHE_HOME", "")
    directory = (Path(root) if Path(root).is_absolute() else Path.home() / ".cache") / "basisgen"
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    status = directory.lstat()
    if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.getuid() or status.st_mode & 0o022:
        raise OSError(f"{directory} is not the user's own")
    return directory


def _compile(command: list[str], source: bytes, path: Path) -> bool:
    """Compiles beside the place and renames, so that nobody loads half a library."""
    with tempfile.TemporaryDirectory(dir=path.parent) as temporary:
        code, built = Path(temporary) / "product.cpp", Path(temporary) / "product.so"
        code.write_bytes(source)
        try:
            done = subprocess.run(
                [*command, "-o", str(built), str(code)], capture_output=True, timeout=SECONDS, check=False
            )
        except (OSError, subprocess.SubprocessError):
            return False
        if done.returncode or not built.exists():
            return False
        built.replace(path)
    return True
