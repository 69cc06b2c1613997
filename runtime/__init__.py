"""Equivariant layers for volumes of fields, beside the convolutions that basisgen generates. Needs torch only."""

from runtime.activation import Gate, gated_type
from runtime.blocks import GatedBlock
from runtime.fields import FieldType, Term, as_field_type
from runtime.normalization import BatchNorm
from runtime.resampling import GlobalMean, LowPass

__all__ = [
    "BatchNorm",
    "FieldType",
    "Gate",
    "GatedBlock",
    "GlobalMean",
    "LowPass",
    "Term",
    "as_field_type",
    "gated_type",
]
