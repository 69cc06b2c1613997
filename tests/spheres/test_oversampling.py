"""`max_error` in the spec of a transform: the choice, its prediction on the module that is emitted, hostile keys."""

from __future__ import annotations

import json
import math
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from safetensors.numpy import load, save

from basisgen.errors import SpecError
from basisgen.spec import KINDS, parse_layer, parse_package
from basisgen.spheres.activation_error import FUNCTIONS, RingAnalysis, activation_error
from basisgen.spheres.harmonic_tables import tables
from basisgen.spheres.sphere_grid import Sampling
from basisgen.verify.spheres import transforms
from basisgen.verify.spheres.statement import StatementError, read_statement
from runtime.so3 import random_rotations
from runtime.spheres.activation import SphereActivation
from runtime.spheres.signals import rotate_signal
from tests.spheres.forging import Files, forged_files, verdict_on

SPEC = """
name = "verified"
[defaults]
grid = "mw"
[[layer]]
kind = "transform"
name = "Chosen"
in = "4x0..5"
function = "relu"
max_error = 0.03
[[layer]]
kind = "transform"
name = "Given"
in = "2x0..3"
grid = "driscoll_healy"
oversampling = 1.5
function = "tanh"
spectrum = [1, 0.5, 0.25, 0.125]
"""


def test_samples_are_exact_and_the_error_is_the_predicted_one(package: ModuleType, files: Files) -> None:
    stated = json.loads(files["manifest.json"])["layers"]["Chosen"]["sampled"]
    assert stated["oversampling"] == 2 and stated["predicted_error"] <= 0.03
    transform = package.Chosen()
    assert (transform.rings, transform.points, transform.band_limit) == (12, 23, 6)
    signals = torch.randn(192, 4 * 36, dtype=torch.float64) * math.sqrt(4 * math.pi) / 6
    torch.testing.assert_close(transform.analysis(transform(signals)), signals)
    layer, rotations = SphereActivation(transform), random_rotations(len(signals))
    before = layer(rotate_signal(signals, rotations, layer.in_type))
    after = rotate_signal(layer(signals), rotations, layer.out_type)
    assert float((before - after).norm() / before.norm()) == pytest.approx(stated["predicted_error"], rel=0.1)


def test_module_and_note_state_the_predicted_error(files: Files) -> None:
    text = files["chosen.py"].decode()
    assert "mw: 12 rings of 23, 2 times oversampled" in text
    assert "of equivariance, predicted, for relu on white signals" in text
    spec = parse_package(SPEC).layers[0]
    plan = KINDS["transform"].plan(spec, {}, "t", KINDS["transform"].compute([spec], {}), None)
    (note,) = KINDS["transform"].notes(plan)
    assert "predicted equivariance error of 0.027" in note and "4,176 multiply-adds per signal" in note


def test_verify_accepts_its_own_and_rejects_other_numbers(files: Files, tmp_path: Path) -> None:
    assert verdict_on(files, tmp_path / "own").verified
    values = {name: value.copy() for name, value in load(files["basis.safetensors"]).items()}
    values["transform_mw_12_6_analysis"][3, 2] = np.nextafter(values["transform_mw_12_6_analysis"][3, 2], 9)
    forged = verdict_on(forged_files(files, tensors=save(values)), tmp_path / "forged")
    assert not forged.verified and any("transform_mw_12_6_analysis" in line for line in forged.complaints)


def test_the_verifier_reads_what_was_chosen(files: Files) -> None:
    entries = {entry["name"]: entry for entry in json.loads(files["manifest.json"])["spec"]}
    sections = json.loads(files["certificate.json"])
    assert [layer.of_grid for layer in read_statement(entries, sections).transforms] == [12, 6]
    sections["transforms"]["layers"]["Chosen"]["oversampling"] = 3
    with pytest.raises(StatementError, match="oversampling 3"):
        read_statement(entries, sections)
    del sections["transforms"]["layers"]
    with pytest.raises(StatementError):
        read_statement(entries, sections)


@pytest.mark.parametrize("grid", list(Sampling))
def test_tables_of_few_degrees_are_part_of_the_grids(grid: Sampling) -> None:
    whole, few = tables(grid, 9), transforms.expected("t", grid.value, 9, 5)
    l = np.triu_indices(9)[1]
    assert np.array_equal(whole.analysis[l < 5], few["t_analysis"])
    assert np.array_equal(whole.trigonometric[:, 4:-4], few["t_trig"])


GOOD = {"kind": "transform", "name": "T", "in": "2x0..7", "grid": "mw"}


@pytest.mark.parametrize(
    ("most", "spectrum", "factor"),
    [(1, 0, 1), (0.1, 0, 1.5), (0.03, 0, 2), (0.005, 0, 4), (0.003, 2, 4), (0.003, 4, 2), (0.01, 4, 1.5)],
)
def test_the_least_oversampling_within_max_error_is_chosen(most: float, spectrum: float, factor: float) -> None:
    """Powers (1+l)^-2 need four times oversampling for 0.003, amplitudes that fall so, power (1+l)^-4, twice."""
    spec = parse_layer({**GOOD, "function": "relu", "max_error": most, "spectrum": spectrum})
    assert spec.oversampling.factor == factor  # type: ignore[attr-defined]
    variances = 1 / (1.0 + np.arange(8)) ** spectrum
    of_grid = RingAnalysis.of(Sampling.MW, math.ceil(8 * factor)).cut(8)
    error = activation_error(FUNCTIONS["relu"], variances, of_grid)[0]
    assert spec.error == pytest.approx(error, rel=5e-3) and error <= most  # type: ignore[attr-defined]
    assert parse_layer(spec.describe()) == spec


@pytest.mark.parametrize(
    "more",
    [
        {},
        {"oversampling": 1},
        {"oversampling": 1.5},
        {"oversampling": 4, "function": "gelu"},
        {"function": "abs", "spectrum": [1, 2, 3, 4, 5, 6, 7, 8]},
        {"function": "abs", "spectrum": 2.5, "max_error": "1/2"},
    ],
)
def test_a_description_is_read_back(more: dict[str, object]) -> None:
    spec = parse_layer({**GOOD, **more})
    assert parse_layer(spec.describe()) == spec and json.loads(json.dumps(spec.describe())) == spec.describe()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"oversampling": 3}, "is not one of 1, 1.5, 2, 4"),
        ({"oversampling": True}, "is not one of"),
        ({"oversampling": "fine"}, "is not one of"),
        ({"oversampling": 10**30}, "is not one of"),
        ({"in": "1x0..63", "oversampling": 4}, "a grid of 256, the limit is 128"),
        ({"max_error": 0.1}, "without the function"),
        ({"spectrum": 2}, "without the function"),
        ({"function": "eval"}, "is not one of abs, elu"),
        ({"function": ["relu"]}, "is not one of abs, elu"),
        ({"function": "relu", "max_error": 0}, "is not a number above 0"),
        ({"function": "relu", "max_error": -1}, "is not a number above 0"),
        ({"function": "relu", "max_error": 2}, "is not a number above 0"),
        ({"function": "relu", "max_error": "nan"}, "is not a number above 0"),
        ({"function": "relu", "max_error": float("inf")}, "is not a number above 0"),
        ({"function": "relu", "max_error": True}, "is not a number above 0"),
        ({"function": "relu", "max_error": 0.1, "oversampling": 2}, "Leave one of them out"),
        ({"function": "relu", "spectrum": -1}, "is neither a number p from 0 to 16"),
        ({"function": "relu", "spectrum": 10**9}, "is neither"),
        ({"function": "relu", "spectrum": "white"}, "is neither"),
        ({"function": "relu", "spectrum": [1, 2]}, "nor a list of 8 variances"),
        ({"function": "relu", "spectrum": [0] * 8}, "nor a list of 8 variances"),
        ({"function": "relu", "spectrum": [1] * 7 + [-1]}, "nor a list of 8 variances"),
        ({"function": "relu", "spectrum": [1] * 7 + ["x"]}, "nor a list of 8 variances"),
        ({"function": "relu", "spectrum": [1] * 10**6}, "nor a list of 8 variances"),
        ({"function": "relu", "max_error": 0.001}, "is out of reach: relu on white signals has an equivariance error"),
    ],
)
def test_wrong_keys_are_one_line(change: dict[str, object], message: str) -> None:
    with pytest.raises(SpecError, match=message) as error:
        parse_layer({**GOOD, **change})
    assert "\n" not in str(error.value) and len(str(error.value)) < 400
