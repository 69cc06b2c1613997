"""The recipe of `basisgen verify`: read, check, run, report. Nothing of the compiler is imported.

files        every digest, and no other file
certificate  read strictly; the harmonics, the law, completeness, orthonormality: exactly
products     filters of separable layers are the stated sums of products: exactly
floats       basis.safetensors against the certificate, correctly rounded
rotations    the unsampled kernels under random rotations
symmetry     filters that have no formula, under the turns of their grid
defect       the manifest's figures, by quadrature over plane waves
code         the sources are what the compiler of the manifest's version writes   (if the caller can tell)
module       the package's own code, in a fresh process, only if its bytes passed `files` and `code`
"""

from __future__ import annotations

import hashlib
import json
import math
import secrets
import stat
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load

from basisgen.errors import BasisgenError, OutputError
from basisgen.verify import checker
from basisgen.verify.floats import MAX_ULPS, check_floats
from basisgen.verify.manifest import Manifest, ManifestError, check_layers, read_manifest
from basisgen.verify.report import Check, Report
from basisgen.verify.rotations import ROTATIONS, check_rotations, check_symmetry
from basisgen.verify.statement import Certificate, CertificateError, read_certificate
from basisgen.verify.volumes.defect import TOLERANCE, check_defect
from basisgen.verify.volumes.module import ProbeError, check_module
from basisgen.verify.volumes.products import check_products

MANIFEST = "manifest.json"
CERTIFICATE = "certificate.json"
TENSORS = "basis.safetensors"
MAX_FILE_BYTES = 1 << 30
_WHICH = "Name the directory that `basisgen compile` wrote, for example generated/tetris."

Recompile = Callable[[Mapping[str, Any]], Mapping[str, bytes] | None]  # a manifest -> its files; None: cannot tell


def verify_package(
    directory: Path, *, run: bool = True, recompile: Recompile | None = None, seed: int | None = None
) -> Report:
    """Re-checks the package in a directory. `recompile` compares its sources with what the compiler writes.

    The package's Python code is run only if `run` is true, every digest is right and `recompile` found no difference,
    and then in a process of its own. Raises OutputError if the directory cannot be read or holds no package.
    """
    seed = secrets.randbits(32) if seed is None else seed
    random = np.random.default_rng(seed)
    files, strangers = read_files(directory)
    manifest, files_check = _check_files(files, strangers)
    certificate, certificate_check = _read_certificate(files, manifest)
    tensors, tensors_complaints = _read_tensors(files)
    checks = [files_check, certificate_check]
    if certificate is not None:
        checks += [*_check_mathematics(certificate), *_check_products(certificate)]
        checks.append(_check_floats(certificate, tensors, tensors_complaints))
        if not any(check.complaints for check in checks[1:]):
            checks.append(_check_rotations(certificate, random))
            checks += _check_symmetry(certificate, tensors)
        if manifest is not None and not any(check.complaints for check in checks[1:]):
            checks.append(_check_defect(manifest, certificate, tensors))
    done = {check.name for check in checks}
    checks += [Check(name, "", "", not_done="what it needs failed") for name in _NEED_CERTIFICATE if name not in done]
    checks.append(_check_code(files, manifest, recompile))
    why_not = _reason_not_to_run(run, checks)
    if why_not is None and manifest is not None and certificate is not None:
        checks += _check_module(manifest, certificate, tensors, files, random)
    else:
        checks += [Check(name, how, "", not_done=why_not) for name, how in _MODULE_CHECKS.items()]
    return Report(str(directory), seed, tuple(checks))


def read_files(directory: Path) -> tuple[dict[str, bytes], list[str]]:
    """The regular files of a package by name, and complaints about everything else but the interpreter's caches.

    Raises OutputError if the directory cannot be read or is no package: has nothing of the name manifest.json.
    """
    files, complaints = {}, []
    try:
        paths = sorted(directory.iterdir())
        if MANIFEST not in (path.name for path in paths):
            raise OutputError(f"{directory} is not a package of basisgen's: it has no {MANIFEST}. {_WHICH}")
        for path in paths:
            mode = path.lstat()
            if stat.S_ISREG(mode.st_mode) and mode.st_size <= MAX_FILE_BYTES:
                files[path.name] = path.read_bytes()
            elif not (path.name == "__pycache__" and stat.S_ISDIR(mode.st_mode)):
                complaints.append(f"{path.name} is not a regular file of at most {MAX_FILE_BYTES} bytes")
    except OSError as error:
        raise OutputError(f"cannot read {directory}: {error.strerror or error}. {_WHICH}") from None
    return files, complaints


def _check_files(files: Mapping[str, bytes], complaints: list[str]) -> tuple[Manifest | None, Check]:
    how = f"SHA-256 of {len(files)} files, and no other file"
    try:
        if MANIFEST not in files:
            raise ManifestError(f"{MANIFEST} is missing")
        manifest = read_manifest(files[MANIFEST])
    except ManifestError as error:
        return None, Check("files", how, "", (*complaints, str(error)))
    for name in sorted(files.keys() | manifest.digests.keys()):
        if name == MANIFEST:
            continue
        if name not in files:
            complaints.append(f"{name} is missing")
        elif name not in manifest.digests:
            complaints.append(f"{name} is not in {MANIFEST}")
        elif hashlib.sha256(files[name]).hexdigest() != manifest.digests[name]:
            complaints.append(f"{name} has changed: its digest is not the one in {MANIFEST}")
    return manifest, Check("files", how, "", tuple(complaints))


def _read_certificate(files: Mapping[str, bytes], manifest: Manifest | None) -> tuple[Certificate | None, Check]:
    how = "in its documented form, about the pairs and filters of the layers, no other"
    try:
        certificate = read_certificate(files.get(CERTIFICATE, b""))
    except CertificateError as error:
        return None, Check("certificate", how, "", (f"{CERTIFICATE}: {error}",))
    complaints = check_layers(manifest, certificate) if manifest else []
    return certificate, Check("certificate", how, "", tuple(complaints))


def _read_tensors(files: Mapping[str, bytes]) -> tuple[dict[str, Any], list[str]]:
    try:
        return load(files.get(TENSORS, b"")), []
    except (SafetensorError, ValueError, KeyError, TypeError) as error:
        return {}, [f"{TENSORS} cannot be read: {error}"]


def _check_mathematics(certificate: Certificate) -> list[Check]:
    harmonics = sum(map(len, certificate.harmonics.values()))
    elements = sum(map(len, certificate.clebsch_gordan.values()))
    steps = (
        ("harmonics", f"{harmonics} polynomials: harmonic, orthonormal, the standard ones", checker.check_harmonics),
        ("law", f"{elements} kernels: kappa(g x) = D(g) kappa(x) D(g)^-1, as polynomials", checker.check_law),
        ("complete", "independent, and as many as the stabiliser of a point allows", checker.check_complete),
        ("orthonormal", "the Clebsch-Gordan coefficients", checker.check_orthonormal),
    )
    return [Check(name, how, "0, exactly", tuple(check(certificate))) for name, how, check in steps]


def _check_products(certificate: Certificate) -> list[Check]:
    """One line if there are separable layers."""
    rows = sum(len(filters.products.rows) for filters in certificate.filters.values() if filters.products)
    if not rows:
        return []
    how = f"{rows} filters = sums of functions of x times of y times of z, as polynomials"
    try:
        return [Check("products", how, "0, exactly", tuple(check_products(certificate)))]
    except ValueError as error:  # a profile that is no formula
        return [Check("products", how, "", (f"{CERTIFICATE}: {error}",))]


def _check_floats(certificate: Certificate, tensors: Mapping[str, Any], complaints: list[str]) -> Check:
    count, worst, found = check_floats(certificate, tensors)
    how = f"{count} float64 against the exact values to 60 digits, at most {MAX_ULPS} ulp"
    return Check("floats", how, f"{worst:.4f} ulp", tuple(complaints or found))


def _check_rotations(certificate: Certificate, random: np.random.Generator) -> Check:
    worst, complaints = check_rotations(certificate, random)
    how = f"the unsampled kernels under {ROTATIONS} random rotations"
    return Check("rotations", how, f"{worst:.1e}", tuple(complaints))


def _check_symmetry(certificate: Certificate, tensors: Mapping[str, Any]) -> list[Check]:
    """One line if there are filters without a formula."""
    formulas = [formula for filters in certificate.filters.values() for _, formula in filters.groups]
    without = formulas.count(None)
    if not without:
        return []
    worst, complaints = check_symmetry(certificate, tensors)
    how = f"{without} filters without a formula: F(g x) = D(g) F(x) for the turns of the grid"
    return [Check("symmetry", how, f"{worst:.1e}", tuple(complaints))]


def _check_defect(manifest: Manifest, certificate: Certificate, tensors: Mapping[str, Any]) -> Check:
    count, worst, complaints = check_defect(manifest, certificate, tensors)
    how = f"{count} figures of {MANIFEST}, by quadrature over plane waves, to {TOLERANCE}"
    return Check("defect", how, f"{worst:.1e}", tuple(complaints))


def _check_code(files: Mapping[str, bytes], manifest: Manifest | None, recompile: Recompile | None) -> Check:
    how = "modules and certificate, to the byte, and manifest are what the compiler writes"
    if recompile is None or manifest is None:
        return Check("code", how, "", not_done="there is no compiler to ask" if manifest else "there is no manifest")
    try:
        written = recompile(manifest.text)
    except BasisgenError as error:
        return Check("code", how, "", (f"{MANIFEST}: its spec cannot be compiled: {error}",))
    if written is None:
        return Check("code", how, "", not_done=f"made by basisgen {manifest.version}, this is another version")
    text = sorted(name for name in files.keys() | written.keys() if name.endswith(".py") or name == CERTIFICATE)
    differ = [name for name in text if files.get(name) != written.get(name)]
    facts = {**json.loads(written[MANIFEST]), "sha256": manifest.text["sha256"]}
    if not _agree(manifest.text, facts):
        differ.append(MANIFEST)
    return Check("code", how, "", tuple(f"{name} is not what basisgen {manifest.version} writes" for name in differ))


def _agree(a: Any, b: Any) -> bool:
    """Whether two JSON values are equal, measured numbers (defects) to a hundredth: they depend on the platform."""
    if isinstance(a, float) and isinstance(b, float):
        return math.isclose(a, b, rel_tol=1e-2, abs_tol=1e-3)
    if isinstance(a, dict) and isinstance(b, dict):
        return a.keys() == b.keys() and all(_agree(a[key], b[key]) for key in a)
    if isinstance(a, list) and isinstance(b, list):
        return len(a) == len(b) and all(map(_agree, a, b))
    return type(a) is type(b) and bool(a == b)


_NEED_CERTIFICATE = ("harmonics", "law", "complete", "orthonormal", "floats", "rotations", "defect")
_MODULE_CHECKS = {
    "kernel": "kernel() = random weights times the certificate's basis, in a fresh process",
    "convolution": "forward and to_conv3d = correlation with that kernel, stride 1 and more",
    "turns": "kernel and forward commute with the turns of the cube that the grid allows",
}


def _reason_not_to_run(run: bool, checks: Iterable[Check]) -> str | None:
    wrong = [check.name for check in checks if check.complaints]
    if wrong:
        return f"{wrong[0]} failed, so no code is run"
    return None if run else "no code of the package is run"


def _check_module(
    manifest: Manifest,
    certificate: Certificate,
    tensors: Mapping[str, Any],
    files: Mapping[str, bytes],
    random: np.random.Generator,
) -> list[Check]:
    try:
        found = check_module(manifest, certificate, tensors, files, random)
    except ProbeError as error:
        reasons = dict.fromkeys(_MODULE_CHECKS, "the code did not get that far")
        return [
            Check(name, how, "", (str(error),)) if k == 0 else Check(name, how, "", not_done=reasons[name])
            for k, (name, how) in enumerate(_MODULE_CHECKS.items())
        ]
    return [
        Check(name, how, f"{found[name].residual:.1e}", found[name].complaints) for name, how in _MODULE_CHECKS.items()
    ]
