from __future__ import annotations

import torch
from torch import nn

import runtime
from generated.tetris import Conv1, Conv2
from runtime.train.calibration import calibrate


def _square_lengths(fields: torch.Tensor, field_type: tuple) -> torch.Tensor:
    """Mean of |f|^2 over batch and voxels, per field copy."""
    lengths, channel = [], 0
    for copies, degree, _ in field_type:
        channels = fields[:, channel : channel + copies * (2 * degree + 1)]
        lengths.append(channels.unflatten(1, (copies, -1)).square().sum(dim=2).mean(dim=(0, 2, 3, 4)))
        channel += copies * (2 * degree + 1)
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
