"""Equivariant layers for volumes of fields, beside the convolutions that basisgen generates. Needs torch only."""

from runtime.activation import Gate, NormActivation, gated_type
from runtime.blocks import GatedBlock, ResidualBlock
from runtime.dropout import FieldDropout
from runtime.fields import FieldType, Term, as_field_type
from runtime.freeze import freeze
from runtime.layer import FieldLayer
from runtime.linear import Linear
from runtime.norm import Norm
from runtime.normalization import BatchNorm, GroupNorm, InstanceNorm
from runtime.resampling import AveragePool, GlobalMean, LowPass, NormMaxPool, Upsample
from runtime.tensor_product import TensorProductActivation
from runtime.unet import UNet
from runtime.volumes import RandomRotation, curl, gradient, rotate_field, turn_field, voxelize

__all__ = [
    "AveragePool",
    "BatchNorm",
    "FieldDropout",
    "FieldLayer",
    "FieldType",
    "Gate",
    "GatedBlock",
    "GlobalMean",
    "GroupNorm",
    "InstanceNorm",
    "Linear",
    "LowPass",
    "Norm",
    "NormActivation",
    "NormMaxPool",
    "RandomRotation",
    "ResidualBlock",
    "TensorProductActivation",
    "Term",
    "UNet",
    "Upsample",
    "as_field_type",
    "curl",
    "freeze",
    "gated_type",
    "gradient",
    "rotate_field",
    "turn_field",
    "voxelize",
]
