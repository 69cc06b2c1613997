"""The recipe of `basisgen verify`: read, derive, check, run. Nothing of the compiler is imported.

files        regular files of a package's names, read at one moment; every digest, and no other file
code         the files, and every byte of them but the tensors, are what the compiler writes for the stated spec
bytecode     what the interpreter has cached is what it makes of these modules
certificate  read strictly; the harmonics, the law, completeness, orthonormality: exactly
products     filters of separable layers are the stated sums of products: exactly
floats       basis.safetensors against the certificate, correctly rounded, in the one encoding
taps         basis.safetensors against the compiler's own, which decides where there is no formula
rotations    the unsampled kernels under random rotations
symmetry     filters that have no formula, under the turns of their grid
expansions   those of separable layers are the stated sums of products, to rounding
defect       the manifest's figures, by quadrature over plane waves
module       the package's own code, in a separate process, only if everything else passed
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from basisgen.errors import BasisgenError, EffortError
from basisgen.verify import checker
from basisgen.verify.bytecode import check_bytecode
from basisgen.verify.derived import TOLERANCE, check_code, check_taps, same_figures
from basisgen.verify.files import CERTIFICATE, MANIFEST, TENSORS, Contents, read_contents
from basisgen.verify.floats import check_floats, tensor_forms
from basisgen.verify.manifest import Manifest, ManifestError, check_layers, cure, read_manifest
from basisgen.verify.rotations import ROTATIONS, check_rotations, check_symmetry
from basisgen.verify.spheres import check as spheres
from basisgen.verify.statement import Certificate, CertificateError, Products, read_certificate, read_sections
from basisgen.verify.tensors import Tensor, forms_of, read_tensors
from basisgen.verify.verdict import Check, Verdict
from basisgen.verify.volumes import defect
from basisgen.verify.volumes.expansions import check_expansions
from basisgen.verify.volumes.module import ProbeError, affordable, check_module
from basisgen.verify.volumes.products import check_products

Recompile = Callable[[Mapping[str, Any]], Mapping[str, bytes] | None]  # a manifest -> its files; None: cannot tell
Written = Mapping[str, bytes]
OfKind = Callable[[Mapping[str, Mapping[str, Any]], Mapping[str, Any], Mapping[str, Tensor]], list[Check]]

# kind -> the check of its layers by name, of what the certificate says in sections, and of tensors: verify/<space>/
OTHER_KINDS: Mapping[str, OfKind] = {
    "product": spheres.check_products,
    "linear": spheres.check_linear,
    "transform": spheres.check_transforms,
    "zonal": spheres.check_zonal,
    "sphere_conv": spheres.check_correlations,
    "rotation_conv": spheres.check_correlations,
}


def verify_package(
    directory: Path, *, run: bool = True, recompile: Recompile | None = None, seed: int | None = None
) -> Verdict:
    """Re-checks the package in a directory. `recompile` tells what the compiler writes; without it nothing is verified.

    The package's Python code is run only if `run` is true and every other check passed, and then in a separate process.
    Raises OutputError if the directory cannot be read or holds no package.
    """
    return verify_contents(read_contents(directory), str(directory), run=run, recompile=recompile, seed=seed)


def verify_contents(
    contents: Contents, name: str, *, run: bool = True, recompile: Recompile | None = None, seed: int | None = None
) -> Verdict:
    """Re-checks a package that has been read; `name` is what the result calls it."""
    seed = secrets.randbits(32) if seed is None else seed
    random = np.random.default_rng(seed)
    files = contents.files
    manifest, files_check = _check_files(contents)
    written, code_check = _check_code(contents, manifest, recompile)
    checks = [files_check, code_check, *_check_bytecode(contents, code_check)]
    if manifest is not None:
        certificate, certificate_check = _read_certificate(files, manifest, written)
        checks.append(certificate_check)
        if not certificate_check.complaints:
            checks += _check_content(manifest, certificate, files, written, random)
    if manifest is None or manifest.layers:
        done = {check.name for check in checks}
        checks += [
            Check(name, "", "", not_done="what it needs failed") for name in _OF_CONVOLUTIONS if name not in done
        ]
        why_not = _reason_not_to_run(run, checks)
        if why_not is None and manifest is not None and certificate is not None:
            checks += _check_module(manifest, certificate, files, random)
        else:
            checks += [Check(name, how, "", not_done=why_not, optional=True) for name, how in _MODULE_CHECKS.items()]
    if manifest is not None and manifest.others:
        checks.append(_check_layers(manifest, files, random, _reason_not_to_run(run, checks)))
    return Verdict(name, seed, tuple(checks))


def _check_content(
    manifest: Manifest,
    certificate: Certificate | None,
    files: Mapping[str, bytes],
    written: Written | None,
    random: np.random.Generator,
) -> list[Check]:
    """The lines about what the package claims and computes with; checks that need what failed are left out."""
    checks = [] if certificate is None else _check_mathematics(certificate)
    if any(check.complaints for check in checks):
        return checks
    tensors, numbers = _check_numbers(manifest, certificate, files, written)
    checks += numbers
    if certificate is not None and not any(check.complaints for check in numbers):
        checks += (filters := _check_filters(certificate, tensors, random))
        if not any(check.complaints for check in filters):
            checks += _check_defect(manifest, certificate, tensors, files, written)
    return checks


def _check_files(contents: Contents) -> tuple[Manifest | None, Check]:
    files, complaints = contents.files, list(contents.complaints)
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


def _check_code(
    contents: Contents, manifest: Manifest | None, recompile: Recompile | None
) -> tuple[Written | None, Check]:
    """What the compiler writes, if it can tell."""
    how = "every file is there, and to the byte what the compiler writes for the stated spec, tensors apart"
    if recompile is None or manifest is None:
        reason = "there is no compiler to ask" if manifest else "there is no manifest"
        return None, Check("code", how, "", not_done=reason)
    try:
        written = recompile(manifest.text)
    except EffortError:
        raise
    except BasisgenError as error:
        return None, Check("code", how, "", (f"{MANIFEST}: its spec cannot be compiled: {error}",))
    if written is None:
        other = (
            f"{MANIFEST}: made by basisgen {manifest.version}, and this is another version: {cure(manifest.version)}"
        )
        return None, Check("code", how, "", (other,))
    return written, Check("code", how, "", tuple(check_code(contents.files, written, manifest.version)))


def _check_bytecode(contents: Contents, code: Check) -> list[Check]:
    """One line if there is a cache."""
    if not contents.bytecode:
        return []
    how = f"{len(contents.bytecode)} cached modules are what this interpreter makes of these"
    if not code.passed:  # sources of somebody else's are not even compiled
        return [Check("bytecode", how, "", not_done="the modules are not the compiler's")]
    sources = {name: body for name, body in contents.files.items() if name.endswith(".py")}
    return [Check("bytecode", how, "", tuple(check_bytecode(contents.bytecode, sources, contents.times)))]


def _read_certificate(
    files: Mapping[str, bytes], manifest: Manifest, written: Written | None
) -> tuple[Certificate | None, Check]:
    """What it says of convolutions, if there are any. One that the compiler does not write is not even read."""
    how = "in its documented form, about the pairs and filters of the layers, no other"
    body = files.get(CERTIFICATE, b"")
    if written is not None and written[CERTIFICATE] != body:
        return None, Check("certificate", how, "", (f"{CERTIFICATE}: it is not what the compiler claims",))
    try:
        if not manifest.layers:
            read_sections(body)
            return None, Check("certificate", how, "")
        certificate = read_certificate(body, others=bool(manifest.others))
    except CertificateError as error:
        return None, Check("certificate", how, "", (f"{CERTIFICATE}: {error}",))
    return certificate, Check("certificate", how, "", tuple(check_layers(manifest, certificate)))


def _check_mathematics(certificate: Certificate) -> list[Check]:
    harmonics = sum(map(len, certificate.harmonics.values()))
    elements = sum(map(len, certificate.clebsch_gordan.values()))
    how = f"{harmonics} polynomials: harmonic, orthonormal, the standard ones"
    checks = [Check("harmonics", how, "0, exactly", tuple(checker.check_harmonics(certificate)))]
    if checks[0].complaints:
        return checks
    integers = checker.rescaled(certificate)
    steps = (
        ("law", f"{elements} kernels: kappa(g x) = D(g) kappa(x) D(g)^-1, as polynomials", checker.check_law),
        ("complete", "independent, and as many as the stabiliser of a point allows", checker.check_complete),
        ("orthonormal", "the Clebsch-Gordan coefficients", checker.check_orthonormal),
    )
    found = [Check(name, how, "0, exactly", tuple(check(certificate, integers))) for name, how, check in steps]
    return checks + found


def _check_products(certificate: Certificate) -> list[Check]:
    """One line if there are separable layers."""
    of_filters = [filters.products for filters in certificate.filters.values()]
    number = sum(len(products.expansions) for products in of_filters if isinstance(products, Products))
    if not number:
        return []
    how = f"{number} filters = sums of functions of x times of y times of z, as polynomials"
    try:
        return [Check("products", how, "0, exactly", tuple(check_products(certificate)))]
    except ValueError as error:  # a profile that is not a formula
        return [Check("products", how, "", (f"{CERTIFICATE}: {error}",))]


def _check_numbers(
    manifest: Manifest, certificate: Certificate | None, files: Mapping[str, bytes], written: Written | None
) -> tuple[dict[str, Tensor], list[Check]]:
    """The tensors, and the lines about products, floats, taps, and other kinds of layers."""
    forms = {} if certificate is None else tensor_forms(certificate)
    forms = {**(forms_of(written[TENSORS]) if written and manifest.others else {}), **forms}
    tensors, wrong = read_tensors(files.get(TENSORS, b""), forms)
    complaints = [f"{TENSORS}: {complaint}" for complaint in wrong]
    checks = []
    if certificate is not None:
        count, found = check_floats(certificate, tensors)
        how = f"{count} float64 are the exact values, correctly rounded; the file is in its one encoding"
        checks += [*_check_products(certificate), Check("floats", how, "", tuple(complaints + found))]
    how = f"every number is the compiler's own, taps without a formula to {TOLERANCE} of the largest"
    if written is None:
        checks.append(Check("taps", how, "", not_done="there is no file of the compiler's to compare with"))
    elif wrong:
        checks.append(Check("taps", how, "", () if certificate else tuple(complaints), not_done="they cannot be read"))
    else:
        filters = {} if certificate is None else certificate.filters
        worst, found = check_taps(filters, tensors, written)
        checks.append(Check("taps", how, f"{worst:.1e}" if worst else "0, exactly", tuple(found)))
    return tensors, checks + _check_other_kinds(manifest, files, tensors, written is not None and not wrong)


def _check_other_kinds(
    manifest: Manifest, files: Mapping[str, bytes], tensors: Mapping[str, Tensor], readable: bool
) -> list[Check]:
    """What is known of layers that are not convolutions; a kind without a check is not verified."""
    checks = []
    for kind in sorted({kind for kind, _ in manifest.others.values()}):
        entries = {name: entry for name, (of, entry) in manifest.others.items() if of == kind}
        if kind in OTHER_KINDS and readable:
            checks += OTHER_KINDS[kind](entries, read_sections(files[CERTIFICATE]), tensors)
        else:
            how = f"{len(entries)} layers, by mathematics of the verifier's own"
            checks.append(Check(kind, how, "", not_done="this version compares them with the compiler's only"))
    return checks


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


def _check_filters(certificate: Certificate, tensors: Mapping[str, Tensor], random: np.random.Generator) -> list[Check]:
    """The lines about rotations, symmetry and expansions."""
    return [
        _check_rotations(certificate, random),
        *_check_symmetry(certificate, tensors),
        *_check_expansions(certificate, tensors),
    ]


def _check_expansions(certificate: Certificate, tensors: Mapping[str, Any]) -> list[Check]:
    """One line if there are layers of products that have no formula."""
    number, worst, complaints = check_expansions(certificate, tensors)
    how = f"{number} filters = sums of functions of x times of y times of z; both turn with the grid"
    return [Check("expansions", how, f"{worst:.1e}", tuple(complaints))] if number or complaints else []


def _check_defect(
    manifest: Manifest,
    certificate: Certificate,
    tensors: Mapping[str, Tensor],
    files: Mapping[str, bytes],
    written: Written | None,
) -> list[Check]:
    """By quadrature where that takes seconds; filters beyond have the figures that the compiler finds, to the digit."""
    how = f"figures of {MANIFEST}, by quadrature over plane waves: each the nearest of four decimals"
    if sum(map(defect.work, certificate.filters.values())) > defect.MAX_WORK:
        if written is not None and same_figures(files, written):
            return [Check("defect", how, "", not_done="the filters are too large", optional=True)]
        return [Check("defect", how, "", (f"{MANIFEST}: its figures are not those that the compiler finds",))]
    count, worst, complaints = defect.check_defect(manifest, certificate, tensors)
    return [Check("defect", f"{count} {how}", f"{worst:.1e}", tuple(complaints))]


_OF_CONVOLUTIONS = ("harmonics", "law", "complete", "orthonormal", "floats", "taps", "rotations", "defect")
_MODULE_CHECKS = {
    "kernel": "kernel() = random weights times the certificate's basis, in a separate process",
    "convolution": "forward and to_conv3d = correlation with that kernel, stride 1 and more",
    "turns": "kernel and forward commute with the turns of the cube that the grid allows",
}


def _reason_not_to_run(run: bool, checks: Iterable[Check]) -> str | None:
    for check in checks:
        if not check.passed and not check.optional:
            return f"{check.name} {'failed' if check.complaints else 'was not done'}, so no code is run"
    return None if run else "no code of the package is run"


def _check_layers(
    manifest: Manifest, files: Mapping[str, bytes], random: np.random.Generator, why_not: str | None
) -> Check:
    """The code of layers that are not convolutions."""
    entries = {name: entry for name, (kind, entry) in manifest.others.items() if kind in spheres.KINDS}
    sections, tensors = ({}, {}) if why_not else (read_sections(files[CERTIFICATE]), _all_tensors(files))  # they passed
    return spheres.check_layers(manifest.name, entries, sections, tensors, files, random, why_not)


def _all_tensors(files: Mapping[str, bytes]) -> dict[str, Tensor]:
    return read_tensors(files[TENSORS], forms_of(files[TENSORS]))[0]


def _check_module(
    manifest: Manifest, certificate: Certificate, files: Mapping[str, bytes], random: np.random.Generator
) -> list[Check]:
    forms = tensor_forms(certificate) | (forms_of(files[TENSORS]) if manifest.others else {})  # they passed
    tensors, _ = read_tensors(files[TENSORS], forms)
    layers = affordable(manifest.layers)
    too_large = [layer.name for layer in manifest.layers if layer not in layers]
    apart = f"; not {', '.join(too_large)}: too large to run" if too_large else ""
    lines = [(name, how + apart) for name, how in _MODULE_CHECKS.items()]
    if not layers:
        return [Check(name, how, "", not_done="its layers are too large to run", optional=True) for name, how in lines]
    try:
        found = check_module(manifest.name, layers, certificate, tensors, files, random)
    except ProbeError as error:
        (name, how), *others = lines
        reason = "the code did not get that far"
        return [
            Check(name, how, "", (str(error),)),
            *(Check(name, how, "", not_done=reason, optional=True) for name, how in others),
        ]
    return [Check(name, how, f"{found[name].residual:.1e}", found[name].complaints) for name, how in lines]
