"""Layers of family `separable`, verified: sums of products to rounding, and every forgery of them is found."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from basisgen.pipeline import compile_package
from basisgen.spec import parse_package
from basisgen.verify.verdict import Verdict
from tests.verify.conftest import Files, failed, with_certificate, with_tensors

Verify = Callable[..., Verdict]

SEPARABLE = """
name = "expanded"
[[conv]]
name = "Conv1"
in = "0 + 1"
out = "2x0 + 1 + 2"
kernel_size = [5, 4, 5]
voxel_spacing = [1, 1.5, 1]
radial = { family = "separable", levels = 3 }
execution = "separable"
"""
NAME = "filters_5x4x5"


@pytest.fixture(scope="session")
def expanded() -> Files:
    return compile_package(parse_package(SEPARABLE))


def test_such_a_package_passes(expanded: Files, verify: Verify) -> None:
    verdict = verify(expanded, run=True)
    assert not verdict.complaints
    assert "expansions" in {check.name for check in verdict.checks}


def _one_number(tensors: dict[str, Any]) -> None:
    E = tensors[f"{NAME}_products"]
    E[0, abs(E[0]).argmax()] *= 1 + 1e-9


def _other_sign(tensors: dict[str, Any]) -> None:
    tensors[f"{NAME}_products"][1] *= -1


def _uneven(tensors: dict[str, Any]) -> None:
    tensors[f"{NAME}_y"][0, 0] *= 1 + 2.0**-52


def _axes_apart(tensors: dict[str, Any]) -> None:
    tensors[f"{NAME}_z"][0] *= 1 + 2.0**-52


def _crooked(tensors: dict[str, Any]) -> None:
    """The sums still are the filters, to rounding; but an even product is no part of an odd filter."""
    E = tensors[f"{NAME}_products"]
    odd = abs(E[:, 1:4]).max(axis=1).argmax()
    E[odd, 0] = 1e-16


def _not_finite(tensors: dict[str, Any]) -> None:
    tensors[f"{NAME}_x"][1, 0] = float("nan")


@pytest.mark.parametrize("forge", [_one_number, _other_sign, _uneven, _axes_apart, _crooked, _not_finite])
def test_a_forged_number_is_found(forge: Callable[[dict[str, Any]], None], expanded: Files, verify: Verify) -> None:
    assert failed(verify(with_tensors(expanded, forge), compiler=False)) == {"expansions"}


@pytest.mark.parametrize(
    ("change", "check"),
    [
        (lambda p: p.__setitem__("levels", 2), "floats"),
        (lambda p: p.__setitem__("levels", -1), "certificate"),
        (lambda p: p.__setitem__("levels", True), "certificate"),
        (lambda p: p.__setitem__("levels", 65), "certificate"),
        (lambda p: p.__setitem__("more", 1), "certificate"),
        (lambda p: p.clear(), "certificate"),
    ],
)
def test_another_statement_is_found(
    change: Callable[[dict[str, Any]], object], check: str, expanded: Files, verify: Verify
) -> None:
    def forge(certificate: dict[str, Any]) -> None:
        (filters,) = certificate["filters"].values()
        change(filters["products"])

    assert check in failed(verify(with_certificate(expanded, forge), compiler=False))
