"""Dropout of whole fields."""

from torch import Tensor

from .fields import FieldTypeLike, copies_to_channels, copy_count
from .layer import FieldLayer


class FieldDropout(FieldLayer):
    """Dropout of whole fields: all voxels and components of a field copy together, one draw per sample.

    Kept fields are scaled by 1 / (1 - p). Nothing happens in evaluation.

    Raises ValueError unless 0 <= p < 1.
    Source: Weiler et al., "3D Steerable CNNs", 2018 ("capsule-wide" dropout).
    """

    def __init__(self, in_type: FieldTypeLike, p: float = 0.1) -> None:
        super().__init__(in_type)
        if not 0 <= p < 1:
            raise ValueError(f"FieldDropout takes a probability 0 <= p < 1 of dropping a field, got {p}.")
        self.p = p

    def forward(self, fields: Tensor) -> Tensor:
        """(batch, channel, *space) -> the same shape."""
        self.check(fields)
        if not self.training or self.p == 0:
            return fields
        kept = fields.new_empty(fields.shape[0], copy_count(self.in_type)).bernoulli_(1 - self.p) / (1 - self.p)
        channels = copies_to_channels(kept, self.in_type)
        return fields * channels.reshape(*channels.shape, *[1] * (fields.ndim - 2))  # (batch, channel, 1, ..)
