from __future__ import annotations

import pytest
import torch
from torch import nn

import runtime
from generated.tetris import Conv1, Conv2
from runtime.train.calibration import calibrate


def _square_lengths(fields: torch.Tensor, field_type: tuple) -> torch.Tensor:
    """Mean of |f|^2 over batch and voxels, per field copy."""
    lengths, channel = [], 0
    for multiplicity, degree, _ in field_type:
        channels = fields[:, channel : channel + multiplicity * (2 * degree + 1)]
        lengths.append(channels.unflatten(1, (multiplicity, -1)).square().sum(dim=2).mean(dim=(0, 2, 3, 4)))
        channel += multiplicity * (2 * degree + 1)
    return torch.cat(lengths)


def test_every_field_starts_with_the_length_asked_for() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(Conv1(), runtime.Gate(Conv1.out_type), Conv2())
    volumes = nn.functional.avg_pool3d(torch.randn(2, 1, 16, 16, 16), 5, 1)
    before = _square_lengths(model[0](volumes), Conv1.out_type)
    calibrate(model, volumes, length=0.5, eps=0.0)
    for conv, fields in ((model[0], volumes), (model[2], model[:2](volumes))):
        after = _square_lengths(conv(fields), conv.out_type)
        torch.testing.assert_close(after, torch.full_like(after, 0.25))
    assert (before - 0.25).abs().max() > 0.05  # it was not so before


def test_fields_that_are_nearly_zero_are_not_blown_up() -> None:
    torch.manual_seed(0)
    conv = Conv1(bias=False)
    calibrate(conv, 1e-6 * torch.randn(1, 1, 9, 9, 9), eps=1e-5)
    assert conv.weight.abs().max() < 5 / 1e-5**0.5


def test_a_bias_is_part_of_the_field_and_is_rescaled_with_it() -> None:
    torch.manual_seed(0)
    conv = Conv1()
    with torch.no_grad():
        conv.bias.normal_(std=3.0)
    volumes = torch.randn(2, 1, 9, 9, 9)
    assert _square_lengths(conv(volumes), conv.out_type)[0] > 2
    calibrate(conv, volumes, eps=0.0)
    after = _square_lengths(conv(volumes), conv.out_type)
    torch.testing.assert_close(after, torch.ones_like(after))


def test_a_convolution_that_runs_twice_has_the_length_where_it_runs_first() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(conv := Conv1(bias=False), _FirstChannel(), conv)
    volumes = torch.randn(1, 1, 9, 9, 9)
    calibrate(model, volumes, eps=0.0)
    after = _square_lengths(model[0](volumes), Conv1.out_type)
    torch.testing.assert_close(after, torch.ones_like(after))


class _FirstChannel(nn.Module):
    """Fields -> their first scalar, shrunk: an input that the convolution can take again."""

    def forward(self, fields: torch.Tensor) -> torch.Tensor:
        return 0.1 * fields[:, :1]


@pytest.mark.parametrize(
    ("volumes", "message"),
    [
        (torch.randn(2, 1, 9, 9, 9).index_fill(2, torch.tensor([3]), float("nan")), r"it is nan at \(0, 0, 3, 0, 0\)"),
        (torch.full((1, 1, 9, 9, 9), float("inf")), "it is inf at"),
        (torch.zeros(0, 1, 9, 9, 9), r"\(0, 1, 9, 9, 9\) is empty"),
        (torch.full((1, 1, 9, 9, 9), 1e38), "the fields that leave Conv1 are not finite"),
    ],
)
def test_a_batch_that_cannot_calibrate_changes_nothing(volumes: torch.Tensor, message: str) -> None:
    model = nn.Sequential(Conv1(), runtime.Gate(Conv1.out_type), Conv2())
    before = {name: value.clone() for name, value in model.state_dict().items()}
    with pytest.raises(ValueError, match=message):
        calibrate(model, volumes)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert not model[0]._forward_hooks


def test_a_model_that_fails_halfway_is_as_it_was() -> None:
    class Fails(nn.Module):
        def forward(self, _fields: torch.Tensor) -> torch.Tensor:
            raise RuntimeError("no")

    model = nn.Sequential(Conv1(), runtime.BatchNorm(Conv1.out_type), Fails())
    before = {name: value.clone() for name, value in model.state_dict().items()}
    with pytest.raises(RuntimeError, match="no"):
        calibrate(model, torch.randn(2, 1, 9, 9, 9))
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.bfloat16, 0.05), (torch.float64, 1e-12)])
def test_other_precisions_calibrate_too(dtype: torch.dtype, tolerance: float) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(Conv1(), runtime.Gate(Conv1.out_type), Conv2()).to(dtype)
    volumes = torch.randn(2, 1, 9, 9, 9, dtype=dtype)
    calibrate(model, volumes, eps=0.0)
    for conv, fields in ((model[0], volumes), (model[2], model[:2](volumes))):
        after = _square_lengths(conv(fields).double(), conv.out_type)
        torch.testing.assert_close(after, torch.ones_like(after), rtol=tolerance, atol=tolerance)
    assert model[0].weight.dtype == dtype
