"""Zonal convolutions: the interpolation, the count, the definition, specs, tampering, and what torch does to them."""

from __future__ import annotations

import copy
import json
import math
import pickle
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from safetensors.numpy import load, save

from basisgen.cli import main
from basisgen.errors import ProofError, SpecError
from basisgen.so3.field_type import parse_field_type
from basisgen.so3.wigner import field_matrix
from basisgen.spec import parse_layer
from basisgen.spheres.zonal import Interpolation, interpolation, prove, tabulate
from basisgen.verify.spheres import zonal as verifier
from basisgen.verify.spheres.statement import StatementError, Term, Zonal
from runtime.spheres.signals import as_packed, evaluate, sphere_points
from tests.spheres.forging import Files, forged_files, verdict_on

SPEC = """
name = "verified"
[defaults]
anchors = 3
[[layer]]
kind = "zonal"
name = "Falling"
in = "3x0..7n"
out = "2x0..4n"
[[layer]]
kind = "zonal"
name = "Whole"
in = "2x0..4n"
out = "3x0..4n"
anchors = 5
"""


@pytest.mark.parametrize(("L", "anchors"), [(1, 1), (2, 1), (2, 2), (16, 8), (13, 5), (32, 8), (128, 128)])
def test_the_table_is_numpys_interpolation_and_the_verifiers(L: int, anchors: int) -> None:
    table = tabulate(prove(interpolation((L, anchors))))
    assert np.array_equal(table, verifier.expected(L, anchors))  # to the bit, by another way
    spectra = np.random.default_rng(0).normal(size=anchors)
    degrees = np.arange(L)
    source = np.interp(np.linspace(0, 1, L), np.linspace(0, 1, anchors), spectra) if anchors > 1 else spectra[0]
    np.testing.assert_allclose(table @ spectra, 2 * np.pi * np.sqrt(4 * np.pi / (2 * degrees + 1)) * source, rtol=1e-13)


def test_the_proof_refuses_tables_that_do_not_interpolate() -> None:
    """Negative controls: a shifted hat, three anchors at once, a wrong sum, columns that are not independent."""
    hats = [list(row) for row in interpolation((7, 4)).hats]
    for row, change in (
        (1, [Fraction(0), Fraction(1, 2), Fraction(1, 2), Fraction(0)]),
        (3, [Fraction(1, 4), Fraction(0), Fraction(3, 4), Fraction(0)]),
        (2, [Fraction(0), Fraction(1, 2), Fraction(0), Fraction(0)]),
    ):
        wrong = [*hats[:row], change, *hats[row + 1 :]]
        with pytest.raises(ProofError, match="is not interpolated"):
            prove(Interpolation(tuple(map(tuple, wrong))))
    with pytest.raises(ProofError, match="are not independent"):
        prove(interpolation((3, 5)))


@pytest.mark.parametrize("name", ["Falling", "Whole"])
def test_equivariant_and_as_many_as_said(package: ModuleType, files: Files, name: str) -> None:
    """The map commutes with rotations and inversion; its derivatives by the weights are as many maps as are claimed."""
    from scipy.spatial.transform import Rotation

    module = getattr(package, name)(bias=False, dtype=torch.float64)
    letters = {1: "e", -1: "o"}
    into, out = (
        parse_field_type(" + ".join(f"{n}x{l}{letters[p]}" for n, l, p in field))
        for field in (module.in_type, module.out_type)
    )
    rotation = -Rotation.random(random_state=1).as_matrix()
    left, right = (torch.tensor(field_matrix(field, rotation)) for field in (out, into))
    unit = torch.eye(into.dimension).double()
    matrix = module(unit).t()
    assert (left @ matrix - matrix @ right).abs().max() < 1e-12
    jacobian = torch.autograd.functional.jacobian(
        lambda weight: torch.func.functional_call(module, {"weight": weight}, unit), module.weight
    )
    claim = json.loads(files["certificate.json"])["zonal"]["layers"][name]
    maps = jacobian.flatten(2).flatten(0, 1)
    assert torch.linalg.matrix_rank(maps) == module.weight.numel() == claim["weights"]
    assert claim["dimension"] == len(module.out_type) * 6 and (name == "Falling") == (
        claim["weights"] < claim["dimension"]
    )


def test_the_convolution_is_the_integral(package: ModuleType) -> None:
    """2 pi times the sum over signals of the integral over v of h(angle of u and v) f(v), over many points."""
    layer = package.Whole(dtype=torch.float64)
    with torch.no_grad():
        layer.bias += 0.3
    fields = torch.randn(1, layer.in_channels, dtype=torch.float64)
    points, places = sphere_points(20_000), sphere_points(7)
    cosine = places @ points.T  # (place, point)
    legendre = [torch.ones_like(cosine), cosine]
    for l in range(2, 5):
        legendre.append(((2 * l - 1) * cosine * legendre[-1] - (l - 1) * legendre[-2]) / l)
    # h(angle) = sum over l of  h_l sqrt((2l+1) / 4 pi) P_l(cos angle); with an anchor at each degree h_l is the weight
    norms = [math.sqrt((2 * l + 1) / (4 * math.pi)) for l in range(5)]
    filters = torch.einsum(
        "ilo,l,lpv->oipv", layer.weight.detach(), torch.tensor(norms).double(), torch.stack(legendre)
    )
    signals = evaluate(as_packed(fields, layer.in_type)[0], points)  # (signal in, point)
    wanted = 2 * math.pi * torch.einsum("oipv,iv->op", filters, signals) * 4 * math.pi / len(points)
    found = evaluate(as_packed(layer(fields), layer.out_type)[0], places)  # (signal out, place)
    offset = 0.3 / math.sqrt(4 * math.pi)  # of the bias, a coefficient of degree 0
    torch.testing.assert_close(found, wanted + offset, atol=1e-3, rtol=1e-3)


def test_initial_weights_are_the_sources(package: ModuleType) -> None:
    weight = torch.cat([package.Falling().weight.detach().flatten() for _ in range(400)])
    deviation = 2 / (2 * math.pi * math.sqrt(5 * 3))
    assert weight.abs().max() <= 2 * deviation and weight.std() == pytest.approx(0.88 * deviation, rel=0.05)
    assert package.Falling().bias.abs().max() == 0


def test_a_layer_acts_at_every_place_and_its_state_is_its_weights(package: ModuleType) -> None:
    module = package.Falling()
    x = torch.randn(2, module.in_channels, 3, 4)
    out = module(x)
    assert out.shape == (2, module.out_channels, 3, 4)
    torch.testing.assert_close(out[..., 1, 2], module(x[..., 1, 2]))
    assert set(module.state_dict()) == {"weight", "bias", "_extra_state"}
    with pytest.raises(RuntimeError, match="were made for"):
        package.Whole().load_state_dict(package.Falling().state_dict())
    for other in (copy.deepcopy(module), pickle.loads(pickle.dumps(module))):
        assert torch.equal(other(x), out)
    torch.testing.assert_close(torch.export.export(module, (x,)).module()(x), out)
    with torch.autocast("cpu"):
        assert module(x).shape == out.shape
    assert module(x[:0]).shape == (0, module.out_channels, 3, 4)
    with pytest.raises(ValueError, match="takes a field"):
        module(x[:, 1:])
    with pytest.raises(ValueError, match="has weights of"):
        module(x.double())
    per_sample = torch.vmap(torch.func.grad(lambda one: module(one[None]).square().sum()))(x)
    assert per_sample.shape == x.shape


def test_packages_of_zonal_layers_are_verified(files: Files, tmp_path: Path) -> None:
    verdict = verdict_on(files, tmp_path)
    assert verdict.verified, verdict.as_text()
    assert {"zonal", "layers"} <= {check.name for check in verdict.checks if check.passed}


def _ulp(values: dict[str, Any]) -> None:
    values["zonal_5_3"][3, 1] = np.nextafter(values["zonal_5_3"][3, 1], 99)


def _sign(values: dict[str, Any]) -> None:
    values["zonal_5_3"][0, 0] *= -1


def _exchange(values: dict[str, Any]) -> None:
    values["zonal_5_3"] = values["zonal_5_3"][:, ::-1].copy()


def _more(values: dict[str, Any]) -> None:
    values["zonal_4_4"] = np.eye(4)


@pytest.mark.parametrize("change", [_ulp, _sign, _exchange, _more])
def test_changed_numbers_are_refused(files: Files, change: Any, tmp_path: Path) -> None:
    values = {name: value.copy() for name, value in load(files["basis.safetensors"]).items()}
    change(values)
    verdict = verdict_on(forged_files(files, tensors=save(values)), tmp_path, run=False)
    found = {check.name: check for check in verdict.checks}
    assert not verdict.verified and (found["zonal"].complaints or change is _more), verdict.as_text()


@pytest.mark.parametrize("name", ["_zonal.py", "falling.py"])
def test_changed_code_is_refused(files: Files, name: str, tmp_path: Path) -> None:
    verdict = verdict_on(forged_files(files, **{name.replace(".", "__"): files[name] + b"\n"}), tmp_path, run=False)
    assert any(name in complaint for complaint in verdict.complaints)


def test_the_verifier_counts_by_itself() -> None:
    signals = tuple(Term(2, l, None) for l in range(5))
    layer = Zonal("Z", signals, signals, 3)
    assert verifier.counts(layer) == (12, 20)
    for wrong in (replace(layer, anchors=6), replace(layer, into=signals[1:]), replace(layer, into=signals[:4])):
        with pytest.raises(StatementError):
            verifier.counts(wrong)


GOOD = {"kind": "zonal", "name": "Z", "in": "6x0..7", "out": "3x0..7"}


def test_a_description_is_read_back() -> None:
    for more in ({}, {"anchors": 1}, {"anchors": 8}, {"in": "6x0..7n", "out": "2x0..3n"}):
        spec = parse_layer({**GOOD, **more})
        assert parse_layer(spec.describe()) == spec
    assert parse_layer({**GOOD, "out": "3x0..3"}).describe()["anchors"] == 4


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"out": None}, "has no key 'out'"),
        ({"out": "3x0..8"}, "has degree 8, which in"),
        ({"out": "3x0 + 2x1"}, "is not a signal on the sphere"),
        ({"in": "3x1..3"}, "is not a signal on the sphere"),
        ({"out": "3x0..7n"}, "are of different groups"),
        ({"out": "3x0..7e"}, "has natural parity"),
        ({"out": 3}, "is not a field type"),
        ({"anchors": 0}, "is not a whole number from 1 to 8"),
        ({"anchors": 9}, "is not a whole number from 1 to 8"),
        ({"anchors": 10**9}, "is not a whole number from 1 to 8"),
        ({"anchors": True}, "is not a whole number"),
        ({"anchors": "8"}, "is not a whole number"),
        ({"anchors": [3]}, "is not a whole number"),
        ({"in": "1000000000x0..7"}, "channels, the limit is"),
        ({"in": "8x0..1000000000"}, "is not a range"),
        ({"in": "60000x0..7", "out": "60000x0..7"}, "more than 1073741824 weights"),
        ({"kernel_size": 3}, "unknown key"),
        ({"mixing": "all"}, "unknown key"),
        ({"grid": "mw"}, "unknown key"),
        ({"name": "ZonalConvolution"}, "generated base class"),
    ],
)
def test_wrong_layers_are_one_line(change: dict[str, object], message: str) -> None:
    table = {key: value for key, value in {**GOOD, **change}.items() if value is not None}
    with pytest.raises(SpecError, match=message) as error:
        parse_layer(table)
    assert "\n" not in str(error.value)


def test_show_prints_the_filters() -> None:
    def show(*arguments: str) -> Any:
        return CliRunner().invoke(main, ["show", "--zonal", *arguments])

    assert "H[1] = 2 pi sqrt(4 pi/3) (3/5 w[0] + 2/5 w[1])" in show("6", "3").output
    assert r"H_{5} = 2\pi\sqrt{\frac{4\pi}{11}}\left(w_{2}\right)" in show("6", "3", "--format", "latex").output
    assert [1, 1, "2/5"] in json.loads(show("6", "3", "--format", "json").output)["interpolation"]
    for wrong in (
        ("6", "7"),
        ("0", "1"),
        ("1000000000", "2"),
        ("3", "1", "--product", "1", "1", "0"),
        ("3", "2", "1x0"),
    ):
        result = show(*wrong)
        assert result.exit_code == 2 and result.output.count("\n") == 1
