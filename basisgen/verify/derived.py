"""A package against what the compiler writes for its spec: the same files, and the same bytes in each of them.

Two things depend on the processor, in their last digits: taps that solve an eigenproblem, and figures measured of taps.

    taps       without a formula: as the compiler's own, to TOLERANCE of the largest of their group. Every other number:
               the same bits. Processors that round differently can be further apart (`separable` by 1e-6, `optimal` by
               another choice of filters): then the package is verified where it was compiled, and here not
    figures    numbers of four decimals in manifest.json: the compiler's own, or the decimal next to it
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from basisgen.verify.canonical import read_json, to_json
from basisgen.verify.files import MANIFEST, TENSORS
from basisgen.verify.floats import differences, free_rows
from basisgen.verify.statement import PARTS, Filters, Levels
from basisgen.verify.tensors import Tensor, forms_of, read_tensors

TOLERANCE = 1e-8
FIGURES = ("each", "random", "worst", "defect_of_random_weights")

_UNIT = 1.0001e-4
_CURE = "They were changed, or compiled on a processor that rounds differently: compile the package again here"


def check_code(files: Mapping[str, bytes], written: Mapping[str, bytes], version: str) -> Iterator[str]:
    """Complaints about the set of files, and about every byte of all but the tensors."""
    written = _with_digest_of(files.get(TENSORS, b""), written)
    for name in sorted(files.keys() | written.keys()):
        if name not in written:
            yield f"{name} is not a file of this package"
        elif name not in files:
            yield f"{name} is missing"
        elif name not in (MANIFEST, TENSORS) and files[name] != written[name]:
            yield f"{name} is not what basisgen {version} writes"
    if TENSORS in files and (wrong := _manifest_differs(files, written)) is not None:
        yield f"{MANIFEST} is not what basisgen {version} writes{wrong}"


def _with_digest_of(tensors: bytes, written: Mapping[str, bytes]) -> dict[str, bytes]:
    """What the compiler writes beside these tensors: modules state their digest."""
    own, stated = (hashlib.sha256(body).hexdigest().encode() for body in (written[TENSORS], tensors))
    return {name: body.replace(own, stated) if name.endswith(".py") else body for name, body in written.items()}


def same_figures(files: Mapping[str, bytes], written: Mapping[str, bytes]) -> bool:
    """Whether every figure is the compiler's own, and none the decimal next to it."""
    stated, own = read_json(files[MANIFEST]), read_json(written[MANIFEST])
    return all(stated[key] == own[key] for key in own if key != "sha256")


def check_taps(
    filters: Mapping[str, Filters], tensors: Mapping[str, Tensor], written: Mapping[str, bytes]
) -> tuple[float, list[str]]:
    """The largest difference of taps without a formula, relative to the largest of their group, and the complaints."""
    own, complaints = read_tensors(written[TENSORS], forms_of(written[TENSORS]))
    worst = 0.0
    if own.keys() != tensors.keys():
        return worst, [*complaints, f"{TENSORS}: its tensors are not those that the compiler writes"]
    for name in own:
        free = free_rows(filters[name]) if name in filters else []
        stem, _, part = name.rpartition("_")
        if part in PARTS and stem in filters and isinstance(filters[stem].products, Levels):
            free = [slice(0, len(own[name]))]
        exactly = np.ones(len(own[name]), dtype=bool)
        for rows in free:
            exactly[rows] = False
            residual = _distance(tensors[name][rows], own[name][rows])
            worst = max(worst, residual)
            if not residual <= TOLERANCE:
                where = f"{TENSORS}: {name}, rows {rows.start} to {rows.stop - 1}"
                complaints.append(f"{where}: taps are off by {residual:.1e} of the largest. {_CURE}")
        complaints += [
            f"{TENSORS}: {name}: {wrong}" for wrong in differences(tensors[name][exactly], own[name][exactly])
        ]
    return worst, complaints


def _distance(taps: Tensor, own: Tensor) -> float:
    """Infinite where a zero is expected and another number, or sign, is found."""
    zeros = (taps == 0) | (own == 0)
    if next(differences(taps[zeros], own[zeros]), None) is not None:
        return np.inf
    return float(abs(taps - own).max() / abs(own).max())


def _manifest_differs(files: Mapping[str, bytes], written: Mapping[str, bytes]) -> str | None:
    """Which keys, if the manifest is not the one written, with the digest of the tensors and figures in doubt."""
    stated, own = read_json(files[MANIFEST]), read_json(written[MANIFEST])
    own = _with_figures(own, stated)
    beside = {**_with_digest_of(files[TENSORS], written), TENSORS: files[TENSORS]}
    own["sha256"] = {name: hashlib.sha256(beside[name]).hexdigest() for name in own["sha256"]}
    if to_json(own) == files[MANIFEST]:
        return None
    keys = [key for key in (*own, *stated) if key not in own or key not in stated or own[key] != stated[key]]
    return f": {', '.join(map(repr, dict.fromkeys(keys)))}" if keys else ": types, or the order of keys"


def _with_figures(own: Any, stated: Any, key: str = "") -> Any:
    """Our manifest, with the stated figure wherever that is a decimal next to ours."""
    if isinstance(own, dict) and isinstance(stated, dict):
        return {name: _with_figures(value, stated.get(name), name) for name, value in own.items()}
    if isinstance(own, list) and isinstance(stated, list) and len(own) == len(stated):
        return [_with_figures(a, b, key) for a, b in zip(own, stated, strict=True)]
    if key in FIGURES and type(own) is type(stated) is float:
        near = abs(own - stated) < _UNIT and round(stated, 4) == stated and not np.signbit(stated)
        return stated if near else own
    return own
