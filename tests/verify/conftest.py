"""Packages to tamper with, and the hand that tampers."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load, save

from basisgen.commands.recompile import recompile
from basisgen.pipeline import compile_package
from basisgen.spec import parse_package
from basisgen.verify.canonical import to_json
from basisgen.verify.floats import tensor_forms
from basisgen.verify.manifest import read_manifest
from basisgen.verify.statement import read_certificate
from basisgen.verify.tensors import read_tensors
from basisgen.verify.verdict import Verdict
from basisgen.verify.verify import verify_package
from basisgen.verify.volumes.module import Property, check_module

Files = dict[str, bytes]

ROTATIONS_ONLY = """
name = "small"
[[conv]]
name = "Conv1"
in = "0 + 2x1"
out = "2x0 + 1 + 2"
kernel_size = 3
radial = { family = "shells" }
"""

WITH_PARITY = """
name = "mirrored"
[[conv]]
name = "Conv1"
in = "0e + 1o + 0o"
out = "2x1e + 1o + 2e"
kernel_size = [3, 4, 4]
voxel_spacing = [1.5, 1, 1]
radial = { family = "shells" }
"""


TINY = """
name = "tiny"
[[conv]]
name = "Conv1"
in = "0"
out = "0 + 1"
kernel_size = 2
radial = { family = "shells" }
"""


@pytest.fixture(scope="session")
def tiny() -> Files:
    return compile_package(parse_package(TINY))


@pytest.fixture(scope="session")
def small() -> Files:
    return compile_package(parse_package(ROTATIONS_ONLY))


@pytest.fixture(scope="session")
def mirrored() -> Files:
    return compile_package(parse_package(WITH_PARITY))


@pytest.fixture
def verify(tmp_path: Path) -> Callable[..., Verdict]:
    """Writes files, and nothing else, and verifies them; runs no code unless told, knows the compiler unless told."""

    def verify(files: Mapping[str, bytes], *, run: bool = False, compiler: bool = True) -> Verdict:
        place = tmp_path / "package"
        write(files, place)
        return verify_package(place, run=run, recompile=recompile_once if compiler else None, seed=1)

    return verify


def write(files: Mapping[str, bytes], place: Path) -> None:
    """Puts files into a directory, in place of other files."""
    place.mkdir(exist_ok=True)
    for path in place.iterdir():
        if path.is_file() and not path.is_symlink():
            path.unlink()
    for name, body in files.items():
        (place / name).write_bytes(body)


def recompile_once(manifest: Mapping[str, Any]) -> Mapping[str, bytes] | None:
    """`recompile`, which reads these keys of a manifest, remembering what it wrote."""
    keys = ("basisgen", "name", "command", "spec", "tuned")
    return _recompiled(json.dumps({key: manifest[key] for key in keys if key in manifest}))


@cache
def _recompiled(text: str) -> Mapping[str, bytes] | None:
    return recompile(json.loads(text))


def redigest(files: Mapping[str, bytes]) -> Files:
    """The same files, with a manifest whose digests match them: what a careful forger hands out."""
    manifest = json.loads(files["manifest.json"])
    manifest["sha256"] = {
        name: hashlib.sha256(files[name]).hexdigest() for name in sorted(files) if name != "manifest.json"
    }
    return {**files, "manifest.json": to_json(manifest)}


def with_certificate(files: Mapping[str, bytes], change: Callable[[dict[str, Any]], None]) -> Files:
    """The package with a changed certificate and matching digests."""
    certificate = json.loads(files["certificate.json"])
    change(certificate)
    return redigest({**files, "certificate.json": to_json(certificate)})


def with_tensors(files: Mapping[str, bytes], change: Callable[[dict[str, Any]], None]) -> Files:
    """The package with changed tensors and matching digests, those in the modules too."""
    tensors = {name: tensor.copy() for name, tensor in load(files["basis.safetensors"]).items()}
    change(tensors)
    body = save(tensors)
    old, new = (hashlib.sha256(content).hexdigest().encode() for content in (files["basis.safetensors"], body))
    modules = {name: text.replace(old, new) for name, text in files.items() if name.endswith(".py")}
    return redigest({**files, **modules, "basis.safetensors": body})


def run_module(files: Mapping[str, bytes]) -> Mapping[str, Property]:
    """What the check of the running code finds, without the other checks."""
    manifest, certificate = read_manifest(files["manifest.json"]), read_certificate(files["certificate.json"])
    tensors, complaints = read_tensors(files["basis.safetensors"], tensor_forms(certificate))
    assert not complaints
    return check_module(manifest.name, manifest.layers, certificate, tensors, files, np.random.default_rng(0))


def failed(verdict: Verdict) -> set[str]:
    """The names of the checks that complained."""
    return {check.name for check in verdict.checks if check.complaints}
