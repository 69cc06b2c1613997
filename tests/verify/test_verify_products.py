"""Separable layers, verified: the identity is re-checked exactly, and every forgery of it is found."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from basisgen.pipeline import compile_package
from basisgen.spec import parse_package
from basisgen.verify.verdict import Verdict
from tests.verify.conftest import Files, failed, run_module, with_certificate, with_tensors

Verify = Callable[..., Verdict]

SEPARABLE = """
name = "separable"
[[conv]]
name = "Conv1"
in = "0 + 1"
out = "2x0 + 1 + 2"
kernel_size = [5, 4, 5]
voxel_spacing = [1, 1.5, 1]
radial = { family = "hermite", n_max = 3 }
execution = "separable"
"""


@pytest.fixture(scope="session")
def separable() -> Files:
    return compile_package(parse_package(SEPARABLE))


def test_a_separable_package_passes(separable: Files, verify: Verify) -> None:
    verdict = verify(separable, run=True)
    assert not verdict.complaints
    assert "products" in {check.name for check in verdict.checks}


def _products(certificate: dict[str, Any]) -> dict[str, Any]:
    (filters,) = certificate["filters"].values()
    return filters["products"]


def _flip(certificate: dict[str, Any], row: int) -> None:
    text = _products(certificate)["expansion"][row][4]
    _products(certificate)["expansion"][row][4] = text[1:] if text.startswith("-") else "-" + text


def test_any_sign_flipped_is_found(separable: Files, verify: Verify) -> None:
    for row in range(0, 30, 3):
        assert "products" in failed(verify(with_certificate(separable, lambda c, r=row: _flip(c, r)), compiler=False))


@pytest.mark.parametrize(
    ("change", "check"),
    [
        (lambda p: p["expansion"].pop(3), "products"),
        (lambda p: p["expansion"][0].__setitem__(4, "sqrt(2)"), "products"),
        (lambda p: p["expansion"][3].__setitem__(1, 5), "certificate"),
        (lambda p: p.__setitem__("square_scale", "1"), "products"),
        (lambda p: p["orders"].__setitem__(1, 0), "certificate"),
        (lambda p: p["orders"].__setitem__(1, 60), "certificate"),
        (lambda p: p["orders"].pop(), "certificate"),
        (lambda p: p["expansion"].append(p["expansion"][0]), "certificate"),
        (lambda p: p["expansion"].append([999, 0, 0, 0, "sqrt(1)"]), "certificate"),
        (lambda p: p["expansion"].append([0, -1, 0, 0, "sqrt(1)"]), "certificate"),
        (lambda p: p["expansion"].append([0, 0, 0, 60, "sqrt(0)"]), "certificate"),
        (lambda p: p.__setitem__("square_scale", "0"), "certificate"),
        (lambda p: p.__setitem__("square_scale", 0.8), "certificate"),
        (lambda p: p.__setitem__("more", 1), "certificate"),
        (lambda p: p["expansion"].__delitem__(slice(None)), "certificate"),
    ],
)
def test_a_wrong_expansion_is_found(
    change: Callable[[dict[str, Any]], object], check: str, separable: Files, verify: Verify
) -> None:
    forged = with_certificate(separable, lambda certificate: change(_products(certificate)))
    assert check in failed(verify(forged, compiler=False))


@pytest.mark.parametrize("wrong", ["exp(0-2*", "2*exp(-", "(1+r/10^40)*exp(-"])
def test_another_profile_is_found(wrong: str, separable: Files, verify: Verify) -> None:
    def change(certificate: dict[str, Any]) -> None:
        (filters,) = certificate["filters"].values()
        filters["rows"][0][1] = filters["rows"][0][1].replace("exp(-", wrong)

    assert "products" in failed(verify(with_certificate(separable, change), compiler=False))


@pytest.mark.parametrize("part", ["products", "x", "y", "z"])
def test_one_ulp_in_a_tensor_is_found(part: str, separable: Files, verify: Verify) -> None:
    def change(tensors: dict[str, Any]) -> None:
        values = tensors[f"filters_5x4x5_{part}"].reshape(-1)
        index = abs(values).argmax()
        values[index] *= 1 + 2.0**-52

    assert failed(verify(with_tensors(separable, change), compiler=False)) == {"floats"}


def test_tensors_and_certificate_go_together(separable: Files, verify: Verify) -> None:
    forged = with_tensors(separable, lambda tensors: tensors.pop("filters_5x4x5_y"))
    assert failed(verify(forged, compiler=False)) == {"floats"}

    def drop(certificate: dict[str, Any]) -> None:
        (filters,) = certificate["filters"].values()
        del filters["products"]

    assert failed(verify(with_certificate(separable, drop), compiler=False)) == {"floats"}


def test_a_wrong_separable_module_is_found(separable: Files) -> None:
    """The kernel is right, the passes are not: only running the module tells."""
    source = separable["_separable.py"].decode()
    wrong = source.replace(
        "out.unsqueeze(1) * self.stride + self.padding", "out.unsqueeze(1) * self.stride - self.padding"
    )
    assert wrong != source
    found = run_module({**separable, "_separable.py": wrong.encode()})
    assert found["convolution"].complaints and not found["kernel"].complaints
