"""Equivariant layers for volumes of fields, beside the convolutions that basisgen generates. Needs only torch."""

from runtime.activation import Gate, NormActivation, gated_type
from runtime.dropout import FieldDropout
from runtime.fields import FieldType, Term, as_field_type
from runtime.layer import FieldLayer
from runtime.lengths import Norm
from runtime.linear import Linear
from runtime.normalization import BatchNorm, GroupNorm, InstanceNorm
from runtime.tensor_product import TensorProductActivation
from runtime.volumes.blocks import GatedBlock, ResidualBlock
from runtime.volumes.freeze import freeze
from runtime.volumes.networks import Classifier, Encoder, Segmenter, deep_supervision, network
from runtime.volumes.resampling import AveragePool, GlobalMean, LowPass, NormMaxPool, Upsample
from runtime.volumes.rotate import RandomRotation, curl, gradient, rotate_field, turn_field, voxelize
from runtime.volumes.sizes import OffCentreWarning, exact_sizes, fit_volume
from runtime.volumes.unet import UNet

__all__ = [
    "AveragePool",
    "BatchNorm",
    "Classifier",
    "Encoder",
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
    "OffCentreWarning",
    "RandomRotation",
    "ResidualBlock",
    "Segmenter",
    "TensorProductActivation",
    "Term",
    "UNet",
    "Upsample",
    "as_field_type",
    "curl",
    "deep_supervision",
    "exact_sizes",
    "fit_volume",
    "freeze",
    "gated_type",
    "gradient",
    "network",
    "rotate_field",
    "turn_field",
    "voxelize",
]
