"""What a training step keeps: the CATH network's blocks against the plain residual blocks of equal channels.

Counted exactly, as the bytes of all storages autograd keeps for the backward pass (parameters apart): these are what
the peak of a training step is made of, and unlike the peak they do not depend on the allocator.
"""

import pytest
import torch
from torch import nn

from runtime import BatchNorm, Gate, ResidualBlock, gated_type
from runtime.fields import as_field_type, channel_count


class Conv(nn.Conv3d):
    """A plain convolution in the place of a generated one: it keeps the same, its input."""

    def __init__(self, in_type, out_type):
        self.in_type, self.out_type = as_field_type(in_type), as_field_type(out_type)
        super().__init__(channel_count(self.in_type), channel_count(self.out_type), 3, padding=1)


class PlainBlock(nn.Module):
    """The residual block of He et al. with the norm before each convolution, as ours."""

    def __init__(self, channels):
        super().__init__()
        self.norm1, self.norm2 = nn.BatchNorm3d(channels), nn.BatchNorm3d(channels)
        self.conv1 = nn.Conv3d(channels, channels, 3, padding=1)
        self.conv2 = nn.Conv3d(channels, channels, 3, padding=1)

    def forward(self, x):
        return torch.relu(x + self.conv2(self.norm2(torch.relu(self.conv1(self.norm1(x))))))


def kept_bytes(model, x):
    parameters = {p.untyped_storage().data_ptr() for p in model.parameters()}
    kept = {}

    def pack(tensor):
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in parameters:
            kept[storage.data_ptr()] = (storage.nbytes(), storage)  # held, so that no address is used twice
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        y = model(x)
    assert y.requires_grad
    return sum(size for size, _ in kept.values())


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_residual_blocks_keep_at_most_a_fifth_more_than_plain_ones(dtype):
    field_type = "2x0 + 2x1 + 2x2 + 2x3"  # the first stage of the CATH network, where the volumes are largest
    gated = gated_type(field_type)
    ours = nn.Sequential(
        *[ResidualBlock(Conv(field_type, gated), Conv(field_type, gated), norm=BatchNorm) for _ in range(3)]
    )
    plain = nn.Sequential(*[PlainBlock(32) for _ in range(3)])
    x = torch.randn(1, 32, 10, 10, 10, requires_grad=True)
    with torch.autocast("cpu", dtype, enabled=dtype != torch.float32):
        ratio = kept_bytes(ours, x) / kept_bytes(plain, x)
    assert ratio < 1.2, f"{ratio:.2f}"


def test_a_gate_that_keeps_its_input_is_over_the_limit():
    """The negative control: the same network whose gate keeps its input is over the limit."""

    class GateByHand(Gate):
        def forward(self, fields):
            scalars, *others, gates = fields.split([t.channels for t in self.in_type], 1)
            openings = torch.sigmoid(gates).split([t.multiplicity for t in self.out_type[1:]], 1)
            gated = [
                (part.unflatten(1, (t.multiplicity, t.dimension)) * opening.unsqueeze(2)).flatten(1, 2)
                for part, opening, t in zip(others, openings, self.out_type[1:], strict=True)
            ]
            return torch.cat([scalars.relu(), *gated], 1)

    field_type = "2x0 + 2x1 + 2x2 + 2x3"
    gated = gated_type(field_type)
    x = torch.randn(1, 32, 10, 10, 10, requires_grad=True)
    convs = [Conv(field_type, gated) for _ in range(2)]
    ours = kept_bytes(nn.Sequential(*[ResidualBlock(*convs, norm=BatchNorm, activation=Gate)] * 3), x)
    by_hand = kept_bytes(nn.Sequential(*[ResidualBlock(*convs, norm=BatchNorm, activation=GateByHand)] * 3), x)
    plain = kept_bytes(nn.Sequential(*[PlainBlock(32)] * 3), x)
    assert ours < 1.2 * plain < by_hand
