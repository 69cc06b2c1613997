"""Equivariant layers for volumes of fields, beside the convolutions that basisgen generates. Needs only torch."""

from . import _once  # noqa: F401
from .activation import Gate, NormActivation, gated_type
from .dropout import FieldDropout
from .fields import FieldType, Term, as_field_type
from .layer import FieldLayer
from .lengths import Norm
from .linear import Linear
from .normalization import BatchNorm, GroupNorm, InstanceNorm
from .tensor_product import TensorProductActivation
from .volumes.blocks import GatedBlock, ResidualBlock
from .volumes.freeze import freeze
from .volumes.networks import Classifier, Encoder, Segmenter, deep_supervision, network
from .volumes.resampling import AveragePool, GlobalMean, LowPass, NormMaxPool, Upsample
from .volumes.rotate import RandomRotation, curl, gradient, rotate_field, turn_field, voxelize
from .volumes.sizes import OffCentreWarning, exact_sizes, fit_volume
from .volumes.unet import UNet

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
