"""The stated defects, verified: quadrature against the compiler's closed form, and forged taps and figures."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load

from basisgen.pipeline import compile_package
from basisgen.spec import parse_package
from basisgen.verify.canonical import to_json
from basisgen.verify.manifest import read_manifest
from basisgen.verify.polynomials import standard_harmonic
from basisgen.verify.statement import Filters, Harmonic, read_certificate
from basisgen.verify.verdict import Verdict
from basisgen.verify.volumes.defect import check_defect, half_sphere, harmonic_values, measure
from basisgen.volumes.sampling.defect import energies
from basisgen.volumes.sampling.families import FilterGroup
from basisgen.volumes.sampling.grid import VoxelGrid
from tests.verify.conftest import Files, failed, with_tensors

Verify = Callable[..., Verdict]

LAYER = """
name = "package"
[[conv]]
name = "Conv1"
in = "0 + 1"
out = "2x0 + 1 + 2"
"""
OPTIMAL = 'kernel_size = 5\nradial = { family = "optimal" }'
TAPS = "filters_5x5x5"


@pytest.fixture(scope="session")
def optimal() -> Files:
    return compile_package(parse_package(LAYER + OPTIMAL))


def test_a_package_of_optimal_filters_passes(optimal: Files, verify: Verify) -> None:
    verdict = verify(optimal, run=True)
    assert verdict.verified and all(check.passed for check in verdict.checks), verdict.complaints
    assert {"symmetry", "defect"} < {check.name for check in verdict.checks}


# ----------------------------------------------------------------------------------------------------- the quadrature


@pytest.mark.parametrize(
    "options",
    [
        OPTIMAL,
        'kernel_size = 3\nradial = { family = "shells", cutoff = "sfcnn" }',
        'kernel_size = 7\nradial = { family = "hermite" }',
        'kernel_size = [4, 5, 6]\nvoxel_spacing = [1.5, 1, 0.7]\ndilation = 2\nradial = { family = "optimal" }',
        'kernel_size = [5, 5, 3]\nvoxel_spacing = [1, 1, 3]\nradial = { family = "optimal", bandwidth = 0.3 }',
        "kernel_size = 1",
    ],
)
def test_quadrature_and_closed_form_agree_to_many_digits(options: str) -> None:
    files = compile_package(parse_package(LAYER + options))
    certificate, tensors = read_certificate(files["certificate.json"]), load(files["basis.safetensors"])
    ((name, filters),) = certificate.filters.items()
    measured = measure(filters, certificate.harmonics, tensors[name])
    groups, stop = [], 0
    for J, profile in filters.groups:
        start, stop = stop, stop + 2 * J + 1
        groups.append(FilterGroup(J, profile, tensors[name][start:stop]))
    grid = VoxelGrid(filters.size, filters.spacing, filters.dilation)
    for J, forms in measured.items():
        closed, figures = energies([group for group in groups if group.J == J], grid), forms.figures()
        np.testing.assert_allclose(figures["each"], closed.each, atol=1e-6, rtol=1e-9)
        np.testing.assert_allclose(figures["random"], closed.random, atol=1e-6, rtol=1e-9)
        np.testing.assert_allclose(figures["worst"], closed.worst, atol=1e-6, rtol=1e-7)
        scale = closed.total[0, 0] / forms.total[0, 0]  # the normalisation of W
        np.testing.assert_allclose(forms.total * scale, closed.total, atol=1e-12 * closed.total.max())


def test_two_taps_have_the_defect_found_by_hand() -> None:
    """F = (1, -1, 0, 0) at x = +-1/2 for M = x only: F^ = -+2i sin(w_x/2) (1, 0, 0), so |F^ . Y| and |F^| integrate."""
    harmonics = {1: {m: Harmonic(*standard_harmonic(1, m)) for m in (-1, 0, 1)}}
    taps = np.zeros((3, 2, 1, 1))
    taps[0, :, 0, 0] = 1, -1
    unit = (Fraction(1), Fraction(1), Fraction(1))
    (forms,) = measure(Filters((2, 1, 1), unit, (1, 1, 1), ((1, "taps"),), None), harmonics, taps).values()
    w = np.linspace(0, 20, 20001)
    spectrum = w**2 * np.exp(-((w / (np.pi / 2)) ** 2))
    # means over directions of 4 sin(w u/2)^2 and of 2 sin(w u/2) sqrt(3) u, u = cos of the angle to x
    total = spectrum @ (2 - 2 * np.sinc(w / np.pi))
    with np.errstate(invalid="ignore", divide="ignore"):
        projected = np.nan_to_num(np.sqrt(3) * 4 * (2 * np.sin(w / 2) / w**2 - np.cos(w / 2) / w))
    typed = spectrum @ (projected**2 / 3)
    assert forms.figures()["each"][0] == pytest.approx(math.sqrt(1 - typed / total), rel=1e-6)


@pytest.mark.parametrize("degree", [0, 1, 4, 7])
def test_the_sphere_is_averaged_exactly_up_to_the_stated_degree(degree: int) -> None:
    def gram(nodes: int) -> Any:
        directions, weights = half_sphere(nodes)
        both = np.stack([directions, -directions])
        Y = {m: Harmonic(*standard_harmonic(degree, m)) for m in range(-degree, degree + 1)}
        values = harmonic_values(Y, both)
        return np.einsum("tp,stpm,stpn->mn", weights / 2, values, values)

    np.testing.assert_allclose(gram(degree), np.eye(2 * degree + 1), atol=1e-12)
    if degree > 1:
        assert abs(gram(degree - 2) - np.eye(2 * degree + 1)).max() > 1e-3  # the nodes are not more than needed


# ------------------------------------------------------------------------------------------------------------ forgeries


def _corners(tensors: dict[str, Any]) -> None:
    """Exactly symmetric, and no filter anyone wants."""
    tensors[TAPS][0] = 0
    tensors[TAPS][0][np.ix_([0, -1], [0, -1], [0, -1])] = 8**-0.5


def _exchange(tensors: dict[str, Any]) -> None:
    tensors[TAPS][[0, 1]] = tensors[TAPS][[1, 0]]


def _twice(tensors: dict[str, Any]) -> None:
    tensors[TAPS][1] = tensors[TAPS][0]


@pytest.mark.parametrize("change", [_corners, _exchange, _twice])
def test_other_taps_as_symmetric_are_found(optimal: Files, verify: Verify, change: Any) -> None:
    forged = with_tensors(optimal, change)
    assert failed(verify(forged, run=True)) == {"taps"}
    verdict = verify(forged, compiler=False)
    assert failed(verdict) == {"defect"}
    assert "/filters/filters_5x5x5/defect/0/each/" in verdict.complaints[0]


@pytest.mark.parametrize("value", [0, 1e-200, 1e200, math.nan, math.inf])
def test_taps_that_are_zero_or_out_of_range_are_found(optimal: Files, verify: Verify, value: float) -> None:
    forged = with_tensors(optimal, lambda tensors: tensors[TAPS][0].fill(value))
    assert failed(verify(forged)) == {"taps"}
    verdict = verify(forged, compiler=False)
    assert failed(verdict) == {"symmetry"} and "J = 0, rows 0 to 0: is zero or out of range" in verdict.complaints[0]


def _with_manifest(files: Files, change: Callable[[Any], object]) -> Files:
    manifest = json.loads(files["manifest.json"])
    change(manifest)
    return {**files, "manifest.json": to_json(manifest)}


def _table(manifest: Any) -> Any:
    ((_, entry),) = manifest["filters"].items()
    return entry["defect"]


BETTER: dict[str, Callable[[Any], object]] = {
    "/defect/1/each/0": lambda m: _table(m)["1"]["each"].__setitem__(0, _table(m)["1"]["each"][0] - 0.001),
    "/defect/2/random": lambda m: _table(m)["2"].update(random=0.01),
    "/defect/0/worst": lambda m: _table(m)["0"].update(worst=_table(m)["0"]["worst"] * 0.99),
    "/layers/Conv1/defect_of_random_weights": lambda m: m["layers"]["Conv1"].update(defect_of_random_weights=0.0),
}


@pytest.mark.parametrize("place", BETTER)
@pytest.mark.parametrize("family", ["optimal", "small"])
def test_a_better_figure_is_found_in_any_family(
    place: str, family: str, verify: Verify, request: pytest.FixtureRequest
) -> None:
    verdict = verify(_with_manifest(request.getfixturevalue(family), BETTER[place]), compiler=False)
    assert failed(verdict) == {"defect"} and len(verdict.complaints) == 1
    assert place in verdict.complaints[0] and ", measured 0." in verdict.complaints[0]


@pytest.mark.parametrize(
    "change",
    [
        lambda m: m.pop("filters"),
        lambda m: m.update(filters=[]),
        lambda m: m["filters"].update(more={}),
        lambda m: _table(m).pop("1"),
        lambda m: _table(m).update({"9": _table(m)["1"]}),
        lambda m: _table(m).update({"1": 7}),
        lambda m: _table(m)["1"].update(profiles=[]),
        lambda m: _table(m)["1"]["profiles"].__setitem__(0, "optimal 9"),
        lambda m: _table(m)["1"]["each"].append(0.1),
        lambda m: _table(m)["1"].update(each=0.1),
        lambda m: _table(m)["1"]["each"].__setitem__(0, None),
        lambda m: _table(m)["1"]["each"].__setitem__(0, "0.03"),
        lambda m: _table(m)["1"].update(random=True),
        lambda m: _table(m)["1"].update(random=-0.1),
        lambda m: _table(m)["1"].update(worst=10**400),
        lambda m: _table(m)["1"].update(worst=[[0.1]]),
        lambda m: m["layers"]["Conv1"].pop("defect_of_random_weights"),
    ],
)
def test_malformed_figures_are_one_complaint(optimal: Files, verify: Verify, change: Any) -> None:
    forged = _with_manifest(optimal, change)
    assert failed(verify(forged)) >= {"code"}
    verdict = verify(forged, compiler=False)
    assert failed(verdict) == {"defect"} and len(verdict.complaints) == 1, verdict.complaints
    assert "is not as documented" in verdict.complaints[0]


@pytest.mark.parametrize("number", [b"Infinity", b"NaN", b"1e999", b"0.0270", b"-0.0", b"27e-3"])
def test_figures_that_are_not_canonical_numbers_are_not_read(optimal: Files, verify: Verify, number: bytes) -> None:
    manifest = optimal["manifest.json"]
    start = manifest.index(b'"random": ') + len(b'"random": ')
    forged = manifest[:start] + number + manifest[manifest.index(b",", start) :]
    assert failed(verify({**optimal, "manifest.json": forged}, compiler=False)) <= {"files", "defect"}
    assert failed(verify({**optimal, "manifest.json": forged}))


@pytest.mark.slow
def test_figures_of_degrees_up_to_6_on_7_taps_are_confirmed() -> None:
    files = compile_package(parse_package(LAYER.replace("2x0 + 1 + 2", "3 + 4 + 5") + OPTIMAL.replace("5", "7")))
    certificate, tensors = read_certificate(files["certificate.json"]), load(files["basis.safetensors"])
    assert max(J for J, _ in certificate.filters["filters_7x7x7"].groups) == 6
    _, worst, complaints = check_defect(read_manifest(files["manifest.json"]), certificate, tensors)
    assert not complaints and worst <= 6e-5  # half a unit of the fourth decimal
