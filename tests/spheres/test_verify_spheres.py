"""`basisgen verify` on packages of layers on the sphere: accepts what is right, rejects what is not."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load, save

from basisgen.pipeline import compile_package
from basisgen.spec import parse_package
from basisgen.spheres.harmonic_tables import tables
from basisgen.spheres.mixing import Mixing, mixing_set
from basisgen.spheres.sphere_grid import Sampling
from basisgen.verify.spheres import rotations, transforms
from basisgen.verify.spheres.check import check_correlations, check_linear
from basisgen.verify.spheres.module import affordable
from basisgen.verify.spheres.paths import check_paths, prim
from basisgen.verify.spheres.statement import (
    Linear,
    Output,
    Product,
    StatementError,
    Term,
    Transform,
    read_statement,
)
from tests.spheres.forging import Files, forged_files, verdict_on

SPEC = """
name = "verified"
[[layer]]
kind = "product"
name = "Tree"
in = "2x0..5"
mixing = "tree"
[[layer]]
kind = "product"
name = "Reduced"
in = "2x0..5"
mixing = "reduced"
self_products = true
[[layer]]
kind = "product"
name = "Two"
in = "4x0e + 2x1o"
second = "2x1o + 2x1e"
channels = 2
mixing = "all"
[[layer]]
kind = "linear"
name = "Mix"
in = "Tree"
out = "4x0..5"
maps = ["uniform", "channel", "cross"]
channels = 2
[[layer]]
kind = "transform"
name = "Grid"
in = "2x0..5"
grid = "mw"
[[layer]]
kind = "sphere_conv"
name = "OnSphere"
in = "2x0..5"
out = "2x0..3r"
grid = "near_identity"
[[layer]]
kind = "rotation_conv"
name = "OnRotations"
in = "OnSphere"
out = "3x0..2r2"
grid = "equatorial"
gammas = 2
max_gamma = "1/3"
[[layer]]
kind = "transform"
name = "Rotations"
in = "OnSphere"
grid = "driscoll_healy"
space = "rotations"
"""
CONVOLUTION = """
[[layer]]
kind = "conv"
name = "Conv"
in = "1x0 + 1x1"
out = "1x0"
kernel_size = 3
radial = { family = "shells" }
"""


def test_packages_of_sphere_layers_are_verified(files: Files, tmp_path: Path) -> None:
    verdict = verdict_on(files, tmp_path)
    assert verdict.verified, verdict.as_text()
    assert {"paths", "couplings", "transforms", "linear", "sphere_conv", "rotation_conv", "layers"} <= {
        check.name for check in verdict.checks if check.passed
    }


def test_nothing_is_written_outside_of_a_temporary_directory(
    files: Files, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nor is a library that lies in the user's cache run in place of the package's code."""
    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("XDG_CACHE_HOME", str(home / "cache"))
    verdict = verdict_on(files, tmp_path)
    assert verdict.verified, verdict.as_text()
    assert not list(home.iterdir()) and sorted(path.name for path in tmp_path.iterdir()) == ["home", "verified"]


def test_what_is_run_is_bounded_for_all_layers_together() -> None:
    """One such layer is run; hundreds of them, in a package of some kilobytes, would take hours and many gigabytes."""
    square = Product("P", (Term(600, 0, None),), None, 1, "all", None, (Output(0, None, ((0, 0),), 180300, 180300),))
    grid = Transform("T", tuple(Term(1, l, None) for l in range(100)), "mw")
    wide = Linear("L", (Term(2000, 0, None),), (Term(2000, 0, None),), (), 1, 1)
    assert len(affordable([square] * 200)) == 2 and len(affordable([grid] * 200)) == 2
    assert len(affordable([wide] * 200)) == 2
    turns = Transform("R", tuple(Term(2 * l + 1, l, None) for l in range(14)), "mw", on_rotations=True)
    assert 0 < len(affordable([turns] * 200)) < 10
    assert affordable([replace(square, outputs=(replace(square.outputs[0], number=1 << 21),))]) == []


@pytest.mark.slow
def test_packages_with_convolutions_and_sphere_layers_are_verified(tmp_path: Path) -> None:
    verdict = verdict_on(compile_package(parse_package(SPEC + CONVOLUTION)), tmp_path)
    assert verdict.verified, verdict.as_text()
    assert {"law", "kernel", "paths", "layers"} <= {check.name for check in verdict.checks if check.passed}


def _negate(values: dict[str, Any]) -> None:
    values["coupling_values"][10] *= -1


def _ulp(values: dict[str, Any]) -> None:
    values["coupling_values"][7] = np.nextafter(values["coupling_values"][7], 2)


def _order(values: dict[str, Any]) -> None:
    values["coupling_orders"][[3, 4]] = values["coupling_orders"][[4, 3]]


def _degrees(values: dict[str, Any]) -> None:
    values["coupling_degrees"][[1, 2]] = values["coupling_degrees"][[2, 1]]


def _weight_of_a_ring(values: dict[str, Any]) -> None:
    values["transform_mw_6_analysis"][:, 2] *= 1 + 2**-50


def _exchange(values: dict[str, Any]) -> None:
    a, b = "transform_mw_6_analysis", "transform_mw_6_synthesis"
    values[a], values[b] = values[b], values[a]


def _more(values: dict[str, Any]) -> None:
    values["transform_more"] = np.zeros(3)


def _less(values: dict[str, Any]) -> None:
    del values["transform_mw_6_cos"]


ROTATIONS = "transform_rotations_4_driscoll_healy_4"


def _weight_of_a_ring_of_rotations(values: dict[str, Any]) -> None:
    values[f"{ROTATIONS}_analysis"][:, 5] *= 1 + 2**-50


def _sign_of_an_order(values: dict[str, Any]) -> None:
    values[f"{ROTATIONS}_synthesis"][7] *= -1


def _exchange_of_rotations(values: dict[str, Any]) -> None:
    a, b = f"{ROTATIONS}_analysis", f"{ROTATIONS}_synthesis"
    values[a], values[b] = values[b], values[a]


def _exchange_of_angles(values: dict[str, Any]) -> None:
    values[f"{ROTATIONS}_around"] = values[f"{ROTATIONS}_around"][::-1].copy()


def _sign_at_a_point(values: dict[str, Any]) -> None:
    values["sphere_conv_near_identity_4_values"][3, 5] *= -1


def _ulp_at_a_point(values: dict[str, Any]) -> None:
    row = values["rotation_conv_equatorial_3_values"][3]
    row[2] = np.nextafter(row[2], 2)


def _points(values: dict[str, Any]) -> None:
    table = values["rotation_conv_equatorial_3_values"]
    table[:, [1, 2]] = table[:, [2, 1]]


def _types(values: dict[str, Any]) -> None:
    values["coupling_counts"] = values["coupling_counts"].astype(np.float64)


@pytest.mark.parametrize(
    ("change", "line"),
    [
        (_negate, "couplings"),
        (_ulp, "couplings"),
        (_order, "couplings"),
        (_degrees, "couplings"),
        (_weight_of_a_ring, "transforms"),
        (_exchange, "transforms"),
        (_weight_of_a_ring_of_rotations, "transforms"),
        (_sign_of_an_order, "transforms"),
        (_exchange_of_rotations, "transforms"),
        (_exchange_of_angles, "transforms"),
        (_sign_at_a_point, "sphere_conv"),
        (_ulp_at_a_point, "rotation_conv"),
        (_points, "rotation_conv"),
        (_more, "taps"),
        (_less, "taps"),
        (_types, "taps"),
    ],
)
def test_changed_numbers_are_refused(
    files: Files, change: Callable[[dict[str, Any]], None], line: str, tmp_path: Path
) -> None:
    values = {name: value.copy() for name, value in load(files["basis.safetensors"]).items()}
    change(values)
    verdict = verdict_on(forged_files(files, tensors=save(values)), tmp_path, run=False)
    assert not verdict.verified
    found = {check.name: check for check in verdict.checks}
    assert found[line].complaints and found["taps"].complaints, verdict.as_text()


def test_another_encoding_of_the_tensors_is_refused(files: Files, tmp_path: Path) -> None:
    body = files["basis.safetensors"]
    length = int.from_bytes(body[:8], "little")
    padded = (length + 8).to_bytes(8, "little") + body[8 : 8 + length] + b" " * 8 + body[8 + length :]
    verdict = verdict_on(forged_files(files, tensors=padded), tmp_path, run=False)
    assert not verdict.verified and "header" in " ".join(verdict.complaints)


@pytest.mark.parametrize(
    "name", ["_product.py", "_product.cpp", "_compiled.py", "_linear.py", "_group_conv.py", "tree.py", "grid.py"]
)
def test_changed_code_is_refused(files: Files, name: str, tmp_path: Path) -> None:
    forged = forged_files(files, **{name.replace(".", "__"): files[name] + b"\n"})
    verdict = verdict_on(forged, tmp_path, run=False)
    assert any(name in complaint for complaint in verdict.complaints)


def _claims(files: Files) -> Any:
    return json.loads(files["certificate.json"])


def _statement(files: Files, claims: Any) -> Any:
    return read_statement({entry["name"]: entry for entry in json.loads(files["manifest.json"])["spec"]}, claims)


def test_paths_are_checked_without_the_compiler(files: Files) -> None:
    statement = _statement(files, _claims(files))
    assert [list(check_paths(product)) for product in statement.products] == [[], [], []]


@pytest.mark.parametrize(("name", "output"), [("Tree", 3), ("Tree", 1), ("Reduced", 2), ("Two", 1)])
def test_a_missing_an_added_and_an_exchanged_path_are_found(files: Files, name: str, output: int) -> None:
    for change in ("less", "double", "heavier", "number", "dimension", "triangle"):
        claims = _claims(files)
        of = claims["products"]["layers"][name]["of"][output]
        if change == "less":
            of["paths"], of["number"] = of["paths"][1:], of["number"] - 1
        elif change == "double":
            of["paths"], of["number"] = [*of["paths"], of["paths"][0]], of["number"] + 1
        elif change == "heavier" and name != "Two":
            of["paths"] = [*of["paths"][:-1], [4, 5] if [4, 5] not in of["paths"] else [3, 5]]
        elif change == "triangle":
            of["paths"] = [[0, 0], *of["paths"][1:]]
        elif change in ("number", "dimension"):
            of[change] += 1
        else:
            continue
        product = next(product for product in _statement(files, claims).products if product.name == name)
        if name == "Reduced" and change == "less" and list(check_paths(product)) == []:
            continue  # a self product, which only the set `all` must have
        assert list(check_paths(product)), change


@pytest.mark.parametrize("key", ["weights", "dimension", "multiplicities"])
@pytest.mark.parametrize(
    ("kind", "name"), [("linear", "Mix"), ("sphere_conv", "OnSphere"), ("rotation_conv", "OnRotations")]
)
def test_a_wrong_count_is_found(files: Files, kind: str, name: str, key: str) -> None:
    entries = {entry["name"]: entry for entry in json.loads(files["manifest.json"])["spec"] if entry["kind"] == kind}
    claims, tensors = _claims(files), load(files["basis.safetensors"])
    check = {"linear": check_linear}.get(kind, check_correlations)
    assert check(entries, claims, tensors)[0].passed
    claim = claims[kind]["layers"][name]
    if key == "multiplicities" and kind == "linear":
        return  # a linear map's are in its spec alone
    claim[key] = claim[key][1:] if key == "multiplicities" else claim[key] + 1
    (found,) = check(entries, claims, tensors)
    assert len(found.complaints) == 1 and name in found.complaints[0]


def test_hostile_claims_are_one_error(files: Files) -> None:
    for claims in (
        {}, [], {"products": 3}, {"products": {"layers": {}}},
        {"products": {"layers": {"Tree": {"mixing": "all", "of": []}, "Reduced": {}, "Two": {}}}},
    ):  # fmt: skip
        with pytest.raises(StatementError):
            _statement(files, claims)


@pytest.mark.parametrize("L", [2, 5, 9, 16])
def test_prim_and_kruskal_agree(L: int) -> None:
    for l in range(1, L):
        assert sorted(prim(list(range(L)), l) or []) == list(mixing_set(Mixing.TREE, range(L), l))
    assert prim([0, 2, 3], 1) is None


@pytest.mark.parametrize("grid", list(Sampling))
def test_two_ways_to_every_number_of_a_transform(grid: Sampling) -> None:
    for L in (1, 2, 6, 11):
        ours, theirs = tables(grid, L), transforms.expected("t", grid.value, L)
        assert np.array_equal(ours.analysis, theirs["t_analysis"])
        assert np.array_equal(ours.synthesis, theirs["t_synthesis"])
        assert np.array_equal(ours.trigonometric, theirs["t_trig"])
        assert np.array_equal(ours.cos_theta, theirs["t_cos"])


@pytest.mark.parametrize("grid", list(Sampling))
def test_two_ways_to_every_number_of_a_transform_on_rotations(grid: Sampling) -> None:
    """At L = 5 some d^l_mn vanish on a ring of `equiangular` by algebraic coincidence: zeros are zeros."""
    for L, N in ((1, 1), (2, 2), (5, 5), (8, 2)):
        field = tuple(Term(min(2 * l + 1, 2 * N - 1), l, None) for l in range(L))
        ours, theirs = (
            tables(grid, L, N),
            rotations.expected_transform("t", Transform("T", field, grid.value, on_rotations=True)),
        )
        assert np.array_equal(ours.analysis, theirs["t_analysis"])
        assert np.array_equal(ours.synthesis, theirs["t_synthesis"])
        assert np.array_equal(ours.trigonometric, theirs["t_trig"])
        assert np.array_equal(ours.around, theirs["t_around"])
        assert np.array_equal(ours.cos_theta, theirs["t_cos"])
