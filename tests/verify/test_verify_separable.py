"""Separable layers, verified: filters are the stated sums of products, and every forgery of that is found.

hermite     the functions have formulas: the sums are identities, checked exactly (`products`)
separable   they have none: the sums hold to rounding, and turn with the grid (`expansions`)
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from basisgen.pipeline import compile_package
from basisgen.spec import parse_package
from basisgen.verify.verdict import Verdict
from tests.verify.conftest import Files, failed, run_module, with_certificate, with_tensors

Verify = Callable[..., Verdict]

SPEC = """
name = "both_ways"
[[conv]]
name = "Conv1"
in = "0 + 1"
out = "2x0 + 1 + 2"
kernel_size = [5, 4, 5]
voxel_spacing = [1, 1.5, 1]
radial = {{ family = "{family}", {setting} = 3 }}
execution = "separable"
"""
NAME = "filters_5x4x5"


@pytest.fixture(scope="session")
def oscillator() -> Files:
    return compile_package(parse_package(SPEC.format(family="hermite", setting="n_max")))


@pytest.fixture(scope="session")
def separable() -> Files:
    return compile_package(parse_package(SPEC.format(family="separable", setting="levels")))


@pytest.mark.parametrize(("family", "check"), [("oscillator", "products"), ("separable", "expansions")])
def test_a_separable_package_passes(family: str, check: str, verify: Verify, request: pytest.FixtureRequest) -> None:
    verdict = verify(request.getfixturevalue(family), run=True)
    assert not verdict.complaints
    assert check in {check.name for check in verdict.checks}


# ------------------------------------------------------------------------------------------- a statement in certificate


def _products(certificate: dict[str, Any]) -> dict[str, Any]:
    (filters,) = certificate["filters"].values()
    return filters["products"]


def _flip(certificate: dict[str, Any], row: int) -> None:
    text = _products(certificate)["expansion"][row][4]
    _products(certificate)["expansion"][row][4] = text[1:] if text.startswith("-") else "-" + text


def test_any_sign_flipped_is_found(oscillator: Files, verify: Verify) -> None:
    for row in range(0, 30, 3):
        assert "products" in failed(verify(with_certificate(oscillator, lambda c, r=row: _flip(c, r)), compiler=False))


@pytest.mark.parametrize(
    ("family", "change", "check"),
    [
        ("oscillator", lambda p: p["expansion"].pop(3), "products"),
        ("oscillator", lambda p: p["expansion"][0].__setitem__(4, "sqrt(2)"), "products"),
        ("oscillator", lambda p: p["expansion"][3].__setitem__(1, 5), "certificate"),
        ("oscillator", lambda p: p.__setitem__("square_scale", "1"), "products"),
        ("oscillator", lambda p: p["orders"].__setitem__(1, 0), "certificate"),
        ("oscillator", lambda p: p["orders"].__setitem__(1, 60), "certificate"),
        ("oscillator", lambda p: p["orders"].pop(), "certificate"),
        ("oscillator", lambda p: p["expansion"].append(p["expansion"][0]), "certificate"),
        ("oscillator", lambda p: p["expansion"].append([999, 0, 0, 0, "sqrt(1)"]), "certificate"),
        ("oscillator", lambda p: p["expansion"].append([0, -1, 0, 0, "sqrt(1)"]), "certificate"),
        ("oscillator", lambda p: p["expansion"].append([0, 0, 0, 60, "sqrt(0)"]), "certificate"),
        ("oscillator", lambda p: p.__setitem__("square_scale", "0"), "certificate"),
        ("oscillator", lambda p: p.__setitem__("square_scale", 0.8), "certificate"),
        ("oscillator", lambda p: p.__setitem__("more", 1), "certificate"),
        ("oscillator", lambda p: p["expansion"].__delitem__(slice(None)), "certificate"),
        ("separable", lambda p: p.__setitem__("levels", 2), "floats"),
        ("separable", lambda p: p.__setitem__("levels", -1), "certificate"),
        ("separable", lambda p: p.__setitem__("levels", True), "certificate"),
        ("separable", lambda p: p.__setitem__("levels", 65), "certificate"),
        ("separable", lambda p: p.__setitem__("more", 1), "certificate"),
        ("separable", lambda p: p.clear(), "certificate"),
    ],
)
def test_another_statement_is_found(
    family: str,
    change: Callable[[dict[str, Any]], object],
    check: str,
    verify: Verify,
    request: pytest.FixtureRequest,
) -> None:
    forged = with_certificate(request.getfixturevalue(family), lambda certificate: change(_products(certificate)))
    assert check in failed(verify(forged, compiler=False))


@pytest.mark.parametrize("wrong", ["exp(0-2*", "2*exp(-", "(1+r/10^40)*exp(-"])
def test_another_profile_is_found(wrong: str, oscillator: Files, verify: Verify) -> None:
    def change(certificate: dict[str, Any]) -> None:
        (filters,) = certificate["filters"].values()
        filters["rows"][0][1] = filters["rows"][0][1].replace("exp(-", wrong)

    assert "products" in failed(verify(with_certificate(oscillator, change), compiler=False))


# ------------------------------------------------------------------------------------------------ a number of a tensor


@pytest.mark.parametrize("part", ["products", "x", "y", "z"])
def test_one_ulp_in_a_tensor_is_found(part: str, oscillator: Files, verify: Verify) -> None:
    def change(tensors: dict[str, Any]) -> None:
        values = tensors[f"{NAME}_{part}"].reshape(-1)
        index = abs(values).argmax()
        values[index] *= 1 + 2.0**-52

    assert failed(verify(with_tensors(oscillator, change), compiler=False)) == {"floats"}


def test_tensors_and_certificate_go_together(oscillator: Files, verify: Verify) -> None:
    forged = with_tensors(oscillator, lambda tensors: tensors.pop(f"{NAME}_y"))
    assert failed(verify(forged, compiler=False)) == {"floats"}

    def drop(certificate: dict[str, Any]) -> None:
        (filters,) = certificate["filters"].values()
        del filters["products"]

    assert failed(verify(with_certificate(oscillator, drop), compiler=False)) == {"floats"}


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
def test_a_forged_number_is_found(forge: Callable[[dict[str, Any]], None], separable: Files, verify: Verify) -> None:
    assert failed(verify(with_tensors(separable, forge), compiler=False)) == {"expansions"}


# ------------------------------------------------------------------------------------------------------------ the code


@pytest.mark.parametrize(
    ("file", "right", "wrong"),
    [
        ("_passes.py", "axis.stride + axis.padding", "axis.stride - axis.padding"),
        (
            "_on_cpu.py",
            "return torch.cat([fields[key] for key in sorted(fields)])",
            "return torch.cat([fields[key] for key in sorted(fields)]) / 2",
        ),
        ("_on_gpu.py", "return v.view(", "return -v.view("),
    ],
)
def test_a_wrong_separable_module_is_found(oscillator: Files, file: str, right: str, wrong: str) -> None:
    """The kernel is right, the passes are not: only running the module tells, in the order of a GPU too."""
    source = oscillator[file].decode()
    assert right in source
    found = run_module({**oscillator, file: source.replace(right, wrong).encode()})
    assert found["convolution"].complaints and not found["kernel"].complaints


def test_passes_are_run_whatever_the_threshold(oscillator: Files) -> None:
    """The volume of the check is smaller than that from which on a layer takes passes."""
    source = oscillator["_separable.py"].decode()
    never = source.replace(
        "    smallest: dict[str, dict[int, int]] | None = None", '    smallest = {"cpu": {}, "gpu": {}}'
    )
    assert never != source
    assert not run_module({**oscillator, "_separable.py": never.encode()})["convolution"].complaints
    wrong = oscillator["_passes.py"].decode().replace("axis.stride + axis.padding", "axis.stride - axis.padding")
    files = {**oscillator, "_separable.py": never.encode(), "_passes.py": wrong.encode()}
    assert run_module(files)["convolution"].complaints
