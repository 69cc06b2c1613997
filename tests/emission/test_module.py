"""Generated modules: equivariant, well scaled, and at home in everything torch does to a module."""

from __future__ import annotations

import copy
import io
import pickle
import subprocess
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation
from torch import nn

from basisgen.so3.field_type import FieldType, parse_field_type
from basisgen.so3.wigner import field_matrix
from basisgen.volumes.sampling.grid import VoxelGrid

Compile = Callable[[str], ModuleType]
REPOSITORY = Path(__file__).parent.parent.parent
MIXED = ("2x0 + 2x1 + 1x2 + 1x3", "1x0 + 2x1 + 1x2")
MIXED_PARITY = ("2x0e + 1x0o + 1x1o + 1x1e + 1x2e", "1x0e + 1x0o + 2x1o + 1x2e + 1x2o")


def _spec(into: str, out: str, name: str = "package", **options: object) -> str:
    lines = [f"{key} = {value}" for key, value in {"kernel_size": 5, **options}.items()]
    return "\n".join([f'name = "{name}"', "[[conv]]", 'name = "Conv"', f'in = "{into}"', f'out = "{out}"', *lines])


def _turn(volume: torch.Tensor, field_type: FieldType, turn: np.ndarray) -> torch.Tensor:
    """(g f)(x) = D(g) f(g^-1 x) for a signed permutation g of the axes; volumes (batch, channel, x, y, z)."""
    axes = [int(np.flatnonzero(turn[row])[0]) for row in range(3)]
    turned = volume.permute(0, 1, *(2 + axis for axis in axes))
    turned = turned.flip([2 + row for row in range(3) if turn[row].sum() < 0])
    matrix = torch.tensor(field_matrix(field_type, turn.astype(float)))
    return torch.einsum("ij,bjxyz->bixyz", matrix, turned)


def _worst_turn(conv: nn.Module, into: FieldType, out: FieldType, size: tuple[int, int, int], turns: list) -> float:
    torch.manual_seed(0)
    volume = torch.randn(1, into.dimension, *size, dtype=torch.float64)
    with torch.no_grad():
        expected = conv(volume)
        errors = [(conv(_turn(volume, into, turn)) - _turn(expected, out, turn)).abs().max() for turn in turns]
    return float(max(errors) / expected.abs().max())


@pytest.mark.parametrize("kernel_size", [4, 5])
@pytest.mark.parametrize("types", [MIXED, MIXED_PARITY])
def test_modules_commute_with_the_turns_of_the_cube(
    types: tuple[str, str], kernel_size: int, compile_and_import: Compile
) -> None:
    into, out = map(parse_field_type, types)
    conv = compile_and_import(_spec(*types, kernel_size=kernel_size)).Conv().double()
    nn.init.normal_(conv.bias)
    group = VoxelGrid((kernel_size,) * 3).turns
    turns = [turn for turn in group if out.has_parity or np.linalg.det(turn) > 0]
    assert len(turns) == (48 if out.has_parity else 24)
    assert _worst_turn(conv, into, out, (7, 7, 7), turns) < 1e-12


def test_an_equivariance_test_can_fail(compile_and_import: Compile) -> None:
    """The control: one coefficient's sign flipped, and the turns no longer commute."""
    into, out = map(parse_field_type, MIXED)
    conv = compile_and_import(_spec(*MIXED)).Conv().double()
    coefficient = conv._constants("_make_constants", conv.weight).coefficient  # of this test's package alone
    coefficient[len(coefficient) // 2] *= -1
    turns = [turn for turn in VoxelGrid((5, 5, 5)).turns if np.linalg.det(turn) > 0]
    assert _worst_turn(conv, into, out, (7, 7, 7), turns) > 1e-4


def test_improper_turns_break_modules_without_parity(compile_and_import: Compile) -> None:
    """1 x 1 -> 1 has J = 1, the cross product, which a mirror turns around."""
    vector = parse_field_type("1x1o")
    conv = compile_and_import(_spec("1x1", "1x1")).Conv(bias=False).double()
    assert _worst_turn(conv, vector, vector, (7, 7, 7), [-np.eye(3, dtype=int)]) > 1e-3


def test_the_error_under_any_rotation_falls_as_the_input_gets_smoother(compile_and_import: Compile) -> None:
    """Plane waves through the centre voxel, rotated analytically: no interpolation anywhere."""
    into, out = map(parse_field_type, MIXED)
    conv = compile_and_import(_spec(*MIXED)).Conv(bias=False).double()
    centre = tuple(np.stack(np.meshgrid(*[np.arange(-2, 3)] * 3, indexing="ij")))
    random = np.random.default_rng(1)
    rotations = Rotation.random(8, rng=2).as_matrix()
    errors = []
    for wavelength in (4.0, 8.0, 16.0):
        directions = random.normal(size=(20, 3))
        waves = 2 * np.pi / wavelength * directions / np.linalg.norm(directions, axis=1, keepdims=True)
        amplitudes, phases = random.normal(size=(20, into.dimension)), random.uniform(0, 2 * np.pi, 20)

        def response(rotation: np.ndarray, fields: tuple[np.ndarray, ...] = (waves, amplitudes, phases)) -> np.ndarray:
            """conv of D f(r^-1 x) at the centre voxel."""
            waves, amplitudes, phases = fields
            angle = np.tensordot(waves @ rotation.T, np.stack(centre), 1) + phases.reshape(-1, 1, 1, 1)
            field = np.einsum("wc,wxyz->cxyz", amplitudes @ field_matrix(into, rotation).T, np.cos(angle))
            with torch.no_grad():
                return conv(torch.tensor(field)[None])[0, :, 2, 2, 2].numpy()

        straight = response(np.eye(3))
        difference = [response(r) - field_matrix(out, r) @ straight for r in rotations]
        errors.append(np.sqrt(np.mean(np.square(difference))) / np.sqrt(np.mean(straight**2)))
    assert errors[2] < errors[1] < errors[0] and errors[2] < 0.05


@pytest.mark.parametrize(
    "spec",
    [
        _spec("4x0 + 2x1 + 1x2", "3x0 + 3x1 + 2x2"),
        _spec("4x0e + 2x1o", "3x0e + 3x1o + 2x2e", kernel_size=3),
        _spec("1x0", "2x0 + 2x1 + 2x2 + 2x3", kernel_size=7),
        _spec("2x1 + 2x2", "3x1 + 1x3", kernel_size=4),
    ],
)
def test_white_noise_of_unit_variance_gives_unit_variance(spec: str, compile_and_import: Compile) -> None:
    """Over many draws of the weights, each output field component has unit variance (mean over the 2j+1 of a field)."""
    conv = compile_and_import(spec).Conv(bias=False, padding=0).double()
    torch.manual_seed(0)
    total = torch.zeros(conv.out_channels)
    draws = 400
    for _ in range(draws):
        conv.reset_parameters()
        total += conv.kernel().detach().square().sum(dim=(1, 2, 3, 4)) / draws  # the exact variance for white noise
    channel = 0
    for multiplicity, degree, _ in conv.out_type:
        fields = total[channel : channel + multiplicity * (2 * degree + 1)].view(multiplicity, -1).mean()
        channel += multiplicity * (2 * degree + 1)
        assert fields == pytest.approx(1, abs=0.12)
    noise = torch.randn(4, conv.in_channels, 12, 12, 12, dtype=torch.float64)
    measured, exact = conv(noise).var(), conv.kernel().square().sum() / conv.out_channels
    assert measured.item() == pytest.approx(exact.item(), rel=0.1)


@pytest.fixture
def conv() -> nn.Module:
    from generated.tetris import Conv1

    torch.manual_seed(0)
    return Conv1()


@pytest.fixture
def volume() -> torch.Tensor:
    torch.manual_seed(1)
    return torch.randn(2, 1, 9, 9, 9)


def test_state_is_the_weights_and_what_they_were_made_for_in_training_and_evaluation(conv: nn.Module) -> None:
    assert list(conv.state_dict()) == ["weight", "bias", "_extra_state"]
    assert list(conv.eval().state_dict()) == ["weight", "bias", "_extra_state"]
    assert not list(conv.buffers())
    other = type(conv)()
    other.load_state_dict(conv.state_dict())
    assert torch.equal(other.kernel(), conv.kernel())


def test_copies_are_equal_and_independent(conv: nn.Module, volume: torch.Tensor) -> None:
    expected = conv(volume)
    for copied in (copy.deepcopy(conv), pickle.loads(pickle.dumps(conv))):
        assert torch.equal(copied(volume), expected)
        copied.double()
        copied.weight.data.zero_()
        assert conv.weight.dtype == torch.float32 and torch.equal(conv(volume), expected)
    buffer = io.BytesIO()
    torch.save(conv.state_dict(), buffer)
    buffer.seek(0)
    assert torch.load(buffer, weights_only=True).keys() == conv.state_dict().keys()


def test_a_cast_to_half_and_back_loses_nothing_of_the_basis(conv: nn.Module) -> None:
    exact = type(conv)().double()
    nn.init.ones_(exact.weight)  # which bfloat16 holds
    back = copy.deepcopy(exact).to(torch.bfloat16).double()
    assert torch.equal(back.kernel(), exact.kernel())
    half = copy.deepcopy(conv).to(torch.bfloat16)
    assert half.kernel().dtype == torch.bfloat16
    assert half._constants("_make_constants", half.weight).filters.dtype == torch.float32
    assert half(torch.randn(1, 1, 6, 6, 6, dtype=torch.bfloat16)).isfinite().all()


def test_the_meta_device_and_to_empty(conv: nn.Module) -> None:
    with torch.device("meta"):
        empty = type(conv)()
    assert empty.kernel().shape == conv.kernel().shape
    filled = empty.to_empty(device="cpu")
    filled.load_state_dict(conv.state_dict())
    assert torch.equal(filled.kernel(), conv.kernel())


def test_compiled_training_equals_eager_training(conv: nn.Module, volume: torch.Tensor) -> None:
    other = copy.deepcopy(conv)
    conv(volume).square().mean().backward()
    compiled = torch.compile(other, fullgraph=True, backend="aot_eager")
    compiled(volume).square().mean().backward()
    torch.testing.assert_close(other.weight.grad, conv.weight.grad)
    torch.testing.assert_close(other.bias.grad, conv.bias.grad)


def test_autocast_assembles_the_kernel_in_float32(conv: nn.Module, volume: torch.Tensor) -> None:
    exact = conv.kernel()
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(conv.kernel(), exact)
        output = conv(volume)
    assert output.dtype == torch.bfloat16
    torch.testing.assert_close(output.float(), conv(volume), atol=0.1, rtol=0.05)


def test_export_with_any_batch_and_volume(conv: nn.Module, volume: torch.Tensor) -> None:
    batch, x, y, z = (torch.export.Dim(name, min=3) for name in ("batch", "x", "y", "z"))
    exported = torch.export.export(
        conv.eval(), (volume.repeat(2, 1, 1, 1, 1),), dynamic_shapes=({0: batch, 2: x, 3: y, 4: z},)
    )
    other = torch.randn(3, 1, 8, 7, 6)
    torch.testing.assert_close(exported.module()(other), conv(other))


@pytest.mark.parametrize("dynamo", [True, False])
def test_onnx_export_runs_in_onnxruntime(conv: nn.Module, volume: torch.Tensor, dynamo: bool, tmp_path: Path) -> None:
    import onnxruntime

    path = tmp_path / "conv.onnx"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporters' own deprecations
        torch.onnx.export(conv.eval(), (volume,), str(path), dynamo=dynamo)
    session = onnxruntime.InferenceSession(str(path))
    (output,) = session.run(None, {session.get_inputs()[0].name: volume.numpy()})
    np.testing.assert_allclose(output, conv(volume).detach().numpy(), atol=1e-5)


@pytest.mark.parametrize("options", [{}, {"stride": 2, "padding": 1}, {"bias": False, "padding": (0, 1, 2)}])
def test_to_conv3d_is_the_same_map(options: dict, volume: torch.Tensor) -> None:
    from generated.tetris import Conv1

    conv = Conv1(**options)
    plain = conv.to_conv3d()
    assert type(plain) is nn.Conv3d
    torch.testing.assert_close(plain(volume), conv(volume))


def test_same_padding_keeps_odd_kernels_and_shrinks_even_ones(compile_and_import: Compile) -> None:
    volume = torch.randn(1, 1, 8, 8, 8)
    odd = compile_and_import(_spec("1x0", "1x1", name="odd", kernel_size="[3, 5, 7]")).Conv()
    even = compile_and_import(_spec("1x0", "1x1", name="even", kernel_size=4)).Conv()
    dilated = compile_and_import(_spec("1x0", "1x1", name="dilated", kernel_size=3, dilation=2)).Conv()
    assert odd(volume).shape[2:] == (8, 8, 8) and even(volume).shape[2:] == (7, 7, 7)
    assert dilated(volume).shape[2:] == (8, 8, 8) and dilated.dilation == (2, 2, 2)


def test_a_wrong_channel_count_is_one_clear_error(conv: nn.Module) -> None:
    with pytest.raises(ValueError, match=r"Conv1 takes \(batch, 1, x, y, z\), got \(2, 3, 9, 9, 9\)"):
        conv(torch.randn(2, 3, 9, 9, 9))


def test_generated_code_runs_in_a_fresh_process_without_basisgen(tmp_path: Path) -> None:
    code = (
        "import sys; sys.modules['basisgen'] = sys.modules['sympy_is_not_needed'] = None\n"
        f"sys.path.insert(0, {str(REPOSITORY / 'generated')!r})\n"
        "import torch, tetris\n"
        "print(*tetris.Conv1()(torch.zeros(1, 1, 6, 6, 6)).shape)\n"
        "assert 'runtime' not in sys.modules\n"
        "assert 'torch._dynamo' not in sys.modules, 'it takes a second to import'\n"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path, check=False)
    assert result.stdout.split() == ["1", "44", "6", "6", "6"], result.stderr
