"""Packages written where `verify` finds them, and packages with other files and fitting digests."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path

from basisgen.commands.recompile import recompile
from basisgen.verify.verify import Verdict, verify_package

Files = dict[str, bytes]


def verdict_on(files: Mapping[str, bytes], directory: Path, run: bool = True) -> Verdict:
    """The verdict on a package named `verified`."""
    place = directory / "verified"
    place.mkdir(parents=True)
    for name, body in files.items():
        (place / name).write_bytes(body)
    return verify_package(place, run=run, recompile=recompile, seed=1)


def forged_files(files: Files, **changed: bytes) -> Files:
    """Files with others in their place, and every digest made to fit."""
    names = {"tensors": "basis.safetensors", "certificate": "certificate.json"}
    result = dict(files)
    for key, body in changed.items():
        result[names.get(key, key.replace("__", "."))] = body
    old, new = (hashlib.sha256(of["basis.safetensors"]).hexdigest().encode() for of in (files, result))
    result = {name: body.replace(old, new) if name.endswith(".py") else body for name, body in result.items()}
    manifest = result["manifest.json"].decode()
    for name, body in files.items():
        if name != "manifest.json":
            manifest = manifest.replace(hashlib.sha256(body).hexdigest(), hashlib.sha256(result[name]).hexdigest())
    return {**result, "manifest.json": manifest.encode()}
