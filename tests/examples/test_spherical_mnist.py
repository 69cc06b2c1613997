"""Spherical MNIST: the files are read, the projection keeps areas, our grid is the compiled one, a tiny run works."""

from __future__ import annotations

import gzip
import importlib
import json
import math
import struct
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from torch import Tensor, nn

from basisgen.emission.write import write_package
from basisgen.pipeline import compile_package
from basisgen.spec import parse_package
from examples.common.files import DataError
from examples.common.measure import parameter_count
from examples.common.one_cycle import OneCycle
from examples.common.presets import load_preset
from examples.spherical_mnist.__main__ import main
from examples.spherical_mnist.data import Digits, Projection, load
from examples.spherical_mnist.experiment import HERE, Preset, build
from examples.spherical_mnist.figure import seen
from examples.spherical_mnist.network import Norm, Ours, OursConfig, RotationGrid
from runtime.so3 import random_rotations, wigner_d
from runtime.spheres import evaluate, rotate_signal, signal_type

PRESETS = ("quick", "full", "tiny")
SMALL = OursConfig((6, 4, 3, 2), (3, 4, 5), (3, 2, 2), (8, 6, 5), gammas=8, hidden=8)


def make(place: Path, train: int = 50, test: int = 20) -> None:
    """Made images in the format of MNIST: a bar in one of ten directions through the centre."""
    generator = np.random.default_rng(0)
    row, column = np.mgrid[:28, :28] - 13.5
    for kind, count in (("train", train), ("t10k", test)):
        labels = generator.integers(0, 10, count)
        angles = (labels * math.pi / 10)[:, None, None]
        off = np.abs(row * np.cos(angles) + column * np.sin(angles))
        images = np.where((off < 2) & (np.hypot(row, column) < 10), 250, 0).astype(np.uint8)
        _write(place / f"{kind}-images-idx3-ubyte.gz", 2051, images)
        _write(place / f"{kind}-labels-idx1-ubyte.gz", 2049, labels.astype(np.uint8))


def _write(path: Path, magic: int, values: np.ndarray) -> None:
    path.write_bytes(gzip.compress(struct.pack(f">{1 + values.ndim}I", magic, *values.shape) + values.tobytes()))


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("mnist")
    make(place)
    return place


@pytest.fixture(scope="module")
def digits(made: Path) -> Digits:
    return load(made, Projection(20, 14.0)).train


def test_the_public_format_is_read(made: Path) -> None:
    splits = load(made, Projection(4, 14.0))
    assert (len(splits.train), len(splits.test), splits.train.limit) == (50, 20, 4)
    content = gzip.decompress((made / "t10k-labels-idx1-ubyte.gz").read_bytes())
    assert splits.test.labels.tolist() == list(content[8:])


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("train-labels-idx1-ubyte.gz", None, "cannot read"),
        ("train-labels-idx1-ubyte.gz", b"no gzip", "cannot read"),
        ("train-labels-idx1-ubyte.gz", gzip.compress(b"1234"), "cannot read"),
        ("train-images-idx3-ubyte.gz", gzip.compress(struct.pack(">4I", 2051, 2, 28, 28) + bytes(5)), "5 bytes"),
        ("train-images-idx3-ubyte.gz", gzip.compress(struct.pack(">4I", 2049, 0, 28, 28)), "begins with 2049"),
        ("train-labels-idx1-ubyte.gz", gzip.compress(struct.pack(">2I", 2049, 3) + bytes(3)), "with 3 labels"),
        ("train-labels-idx1-ubyte.gz", gzip.compress(struct.pack(">2I", 2049, 2) + b"\x0a\x01"), "label of 0 to 9"),
    ],
    ids=["missing", "no gzip", "short", "too few bytes", "other magic", "other count", "no digit"],
)
def test_other_files_are_refused(tmp_path: Path, name: str, content: bytes | None, message: str) -> None:
    make(tmp_path, train=2, test=1)
    (tmp_path / name).unlink()
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=message):
        load(tmp_path, Projection(2, 14.0))


def test_the_projection_keeps_areas_and_puts_the_equator_at_half() -> None:
    table = Projection(3, 14.0).coefficients_of_pixels
    inside = torch.zeros(28, 28)
    row, column = torch.meshgrid(*[torch.arange(28) - 13.5] * 2, indexing="ij")
    inside[row.hypot(column) < 14] = 1
    signal = inside.flatten() @ table
    hemisphere = math.sqrt(math.pi)  # integral of Y_00 = 1 / sqrt(4 pi) over 2 pi
    assert signal[0].item() == pytest.approx(hemisphere, rel=1e-2)
    # degree 1, order 0: the integral of sqrt(3 / 4 pi) cos(theta) over the hemisphere
    assert signal[2].item() == pytest.approx(math.pi * math.sqrt(3 / (4 * math.pi)), rel=1e-2)
    assert signal[[1, 3]].abs().max() < 1e-5
    assert table[:, 0].max() == pytest.approx(
        2 / 14**2 / math.sqrt(4 * math.pi), rel=1e-6
    )  # a pixel's area on the sphere


def test_a_digit_is_seen_where_its_pixels_are(digits: Digits) -> None:
    """Bright to the right of the pole for a bar along the columns (label 0), dark below it."""
    bar = digits.signals[digits.labels == 0][:1].double()
    theta = 0.4
    right, below = torch.tensor([[math.sin(theta), math.cos(theta), 0], [0, math.cos(theta), math.sin(theta)]]).double()
    values = evaluate(bar, torch.stack([right, below]))[0]
    assert values[0] > 0.8 and values[1].abs() < 0.2
    picture = seen(bar)[0]
    assert picture.isnan().any() and picture.nan_to_num().max() > 0.8


def test_turns_are_exact_and_one_for_each_digit(digits: Digits) -> None:
    turns = random_rotations(len(digits))
    turned = digits.turned(turns)
    expected = evaluate(digits.signals[7].double(), turns[7][1:2])  # r^-1 of the pole
    assert turned.labels is digits.labels
    north = torch.tensor([[0.0, 1.0, 0.0]], dtype=torch.float64)
    torch.testing.assert_close(evaluate(turned.signals[7].double(), north), expected, atol=1e-5, rtol=1e-5)
    both = digits.turned(turns[0])
    torch.testing.assert_close(both.signals[3], rotate_signal(digits.signals[3:4], turns[0], signal_type(1, 20))[0])


def test_half_whitened_digits_have_unit_length_and_spectra_of_half_the_slope(digits: Digits) -> None:
    scaled = digits.scaled(digits.half_whitened())
    assert scaled.signals.square().sum(1).mean().item() == pytest.approx(1, rel=1e-5)
    before, after = (
        torch.stack([d.signals[:, l * l : (l + 1) ** 2].square().mean().sqrt() for l in range(20)])
        for d in (digits, scaled)
    )
    ratio = after / before.sqrt()
    torch.testing.assert_close(ratio, ratio[:1].expand(20), rtol=1e-4, atol=0)


def _random(limit: int, orders: int, channels: int, batch: int) -> Tensor:
    """Coefficients (degree, n, channel, m, batch), zero where none exist."""
    degree = torch.arange(limit)[:, None]
    n, m = torch.arange(1 - orders, orders).abs() <= degree, torch.arange(1 - limit, limit).abs() <= degree
    noise = torch.randn(limit, 2 * orders - 1, channels, 2 * limit - 1, batch, dtype=torch.float64)
    return noise * n[:, :, None, None, None] * m[:, None, None, :, None]


def test_samples_are_those_of_the_definition() -> None:
    """f(R) = sum sqrt(2l+1) F_mn D_mn(R), R = Y(alpha) X(beta) Y(gamma), by the Wigner matrices of whole rotations."""
    limit, orders, rings, alphas, gammas = 4, 3, 5, 8, 6
    grid = RotationGrid(limit, orders, rings, alphas, gammas).double()
    x = _random(limit, orders, 2, 1)
    samples = grid.synthesis(x, torch.zeros(2, dtype=torch.float64))
    heights = -np.polynomial.legendre.leggauss(rings)[0]
    for a, g, r in ((0, 0, 0), (3, 2, 1), (5, 5, 4)):
        turn = (
            _about(1, 2 * math.pi * a / alphas) @ _about(0, math.acos(heights[r])) @ _about(1, 2 * math.pi * g / gammas)
        )
        value = torch.zeros(2, dtype=torch.float64)
        for degree in range(limit):
            h = min(degree, orders - 1)
            part = x[degree, orders - 1 - h : orders + h, :, limit - 1 - degree : limit + degree, 0]
            d = wigner_d(degree, turn)[:, degree - h : degree + h + 1] * math.sqrt(2 * degree + 1)
            value += torch.einsum("ncm,mn->c", part, d)
        torch.testing.assert_close(samples[a, g, r, :, 0], value, atol=1e-5, rtol=1e-5)  # tables are float32


def test_samples_are_those_of_the_compiled_transform(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the same angles; another implementation, in another layout, of the same definition."""
    spec = """name = "same_samples"
[[layer]]
kind = "transform"
name = "Grid"
in = "2x0..4r3"
grid = "gauss"
space = "rotations"
"""
    write_package(compile_package(parse_package(spec)), tmp_path / "same_samples")
    monkeypatch.syspath_prepend(tmp_path)
    compiled = importlib.import_module("same_samples").Grid()
    x = _random(5, 3, 2, 3)
    parts = []
    for degree in range(5):
        h = min(degree, 2)
        own = x[degree, 2 - h : 3 + h, :, 4 - degree : 5 + degree]  # (n, channel, m, batch)
        parts.append(own.flatten(0, 2).T)
    samples = RotationGrid(5, 3, 5, 9, 5).double().synthesis(x, torch.zeros(2, dtype=torch.float64))
    expected = compiled.synthesis(torch.cat(parts, 1))  # (batch, signal, beta, alpha, gamma)
    torch.testing.assert_close(samples.permute(4, 3, 2, 0, 1), expected, atol=1e-5, rtol=1e-5)


def _about(axis: int, angle: float) -> Tensor:
    c, s = math.cos(angle), math.sin(angle)
    turn = torch.eye(3, dtype=torch.float64)
    i, j = (axis + 1) % 3, (axis + 2) % 3
    turn[i, i] = turn[j, j] = c
    turn[i, j], turn[j, i] = -s, s
    return turn


def test_analysis_recovers_signals_and_gradients_are_right() -> None:
    grid = RotationGrid(4, 3, 5, 9, 6).double()
    x, constant = _random(4, 3, 2, 1).requires_grad_(), torch.randn(2, dtype=torch.float64, requires_grad=True)
    zero = torch.zeros(2, dtype=torch.float64)
    torch.testing.assert_close(grid.analysis(grid.synthesis(x, zero), 4), x, atol=1e-5, rtol=1e-5)
    exists = (x != 0).double()
    assert torch.autograd.gradcheck(
        lambda x, c: grid.analysis(torch.tanh(grid.synthesis(x * exists, c)), 3), (x, constant)
    )


def test_the_norm_is_that_of_samples() -> None:
    """Mean 0 and variance 1 of the samples over all rotations and digits, for scale 1 and bias 0."""
    grid, norm = RotationGrid(4, 3, 6, 12, 8).double(), Norm(3).double()
    x = _random(4, 3, 3, 5)
    samples = grid.synthesis(*norm(x))
    weights = torch.from_numpy(np.polynomial.legendre.leggauss(6)[1]) / 2
    over = lambda f: torch.einsum("agrcb,r->c", f, weights) / (12 * 8 * 5)  # noqa: E731
    torch.testing.assert_close(over(samples), torch.zeros(3).double(), atol=1e-5, rtol=0)
    torch.testing.assert_close(over(samples.square()), torch.ones(3).double(), atol=1e-4, rtol=0)


def test_our_network_is_nearly_invariant_and_better_on_a_finer_grid() -> None:
    """Its only error is what ReLU puts above the grid; a map of longitude and latitude is no match."""
    signals = torch.randn(16, 36) / (1 + torch.arange(6).repeat_interleave(2 * torch.arange(6) + 1))
    turned = rotate_signal(signals, random_rotations(16), signal_type(1, 6))
    errors = []
    for config in (SMALL, replace(SMALL, rings=(16, 12, 10), gammas=16)):
        torch.manual_seed(0)
        network = Ours(config).train()
        network(signals)
        network.eval()
        with torch.no_grad():
            before, after = network(signals), network(turned)
        errors.append(((after - before).norm() / (before - before.mean(0)).norm()).item())
    assert errors[0] < 0.2
    assert errors[1] < errors[0] / 3


def test_one_cycle_is_that_of_torch_and_continues() -> None:
    """The same weights as AdamW under OneCycleLR, also when its state is loaded half-way."""
    weights = [nn.Parameter(torch.ones(3)) for _ in range(2)]
    ours = OneCycle([weights[0]], lr=0.1, steps=20, warm_up=0.25, weight_decay=0.01)
    theirs = torch.optim.AdamW([weights[1]], lr=0.1, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(theirs, 0.1, total_steps=21, pct_start=6 / 21, cycle_momentum=False)
    for step in range(20):
        for weight in weights:
            weight.grad = torch.tensor([1.0, -2.0, 0.5]) * math.cos(step)
        ours.step()
        theirs.step()
        schedule.step()
        if step == 9:
            again = OneCycle([weights[0]], lr=0.1, steps=20, warm_up=0.25, weight_decay=0.01)
            again.load_state_dict(ours.state_dict())
            ours = again
        assert ours.param_groups[0]["lr"] == 0.1
    torch.testing.assert_close(weights[0], weights[1])


@pytest.mark.parametrize("name", PRESETS)
def test_presets_have_networks_of_the_stated_sizes(name: str) -> None:
    preset = load_preset(Preset, HERE / "presets" / f"{name}.toml")
    assert set(preset.networks) == {"ours", "cobb-tree", "cobb-reduced", "planar", "cohen", "kondor", "esteves"}
    assert preset.training.burn_in == preset.training.epochs  # the cycle alone changes the rate
    choice = next(option for option in main.params if option.name == "preset")
    assert name in choice.type.choices


def test_specs_are_those_of_the_configs() -> None:
    preset = load_preset(Preset, HERE / "presets" / "full.toml")
    for name, network in preset.networks.items():
        if network.spec:
            config = getattr(preset, network.kind)[name]
            expected = config.spec("spherical_mnist_" + name.replace("-", "_"))
            assert (HERE / "specs" / network.spec).read_text("utf-8") == expected, name


@pytest.mark.parametrize(("name", "most"), [("ours", 60_000), ("planar", 60_000)])
def test_networks_have_at_most_so_many_weights(name: str, most: int) -> None:
    preset = load_preset(Preset, HERE / "presets" / "full.toml")
    assert 0 < parameter_count(build(name, preset)) <= most


@pytest.mark.slow
def test_the_command_runs_on_made_data_and_draws(made: Path, tmp_path: Path) -> None:
    options = [
        "--preset",
        "tiny",
        "--data",
        str(made),
        "--out",
        str(tmp_path),
        "--network",
        "ours",
        "--network",
        "planar",
    ]
    result = CliRunner().invoke(main, options)
    assert result.exit_code == 0, result.output
    found = json.loads((tmp_path / "tiny" / "results.json").read_text())
    scores = [set(outcome["scores"]) for outcome in found["outcomes"]]
    assert scores == [{"NR/NR", "NR/R"}] * 2 + [{"R/NR", "R/R"}] * 2
    assert "band limit L = 20" in found["facts"]["data"]
    assert (tmp_path / "tiny" / "digits.png").stat().st_size > 10_000


@pytest.mark.slow
@pytest.mark.parametrize("network", ["cobb-tree", "cobb-reduced", "cohen", "kondor", "esteves"])
def test_the_other_networks_run(made: Path, tmp_path: Path, network: str) -> None:
    options = ["--preset", "tiny", "--data", str(made), "--out", str(tmp_path), "--network", network, "--setting", "R"]
    result = CliRunner().invoke(main, options)
    assert result.exit_code == 0, result.output


def test_the_command_without_data_says_where_they_come_from(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MNIST_DATA", raising=False)
    result = CliRunner().invoke(main, ["--preset", "quick"])
    assert result.exit_code == 2
    assert "Use --data PATH or set MNIST_DATA" in result.output
