"""Pointwise functions of signals, on samples of the sphere or of the rotation group.

    f -> analysis(function(synthesis(f)))

Equivariant up to what the function puts above the grid's band limit, which is aliased: oversample, and the error falls
(`basisgen.spheres.activation_error` predicts it; ReLU on white signals: 0.3 on the smallest grid, 0.027 at twice the
band limit, 0.004 at four times). Source: Cohen et al. 2018, arXiv:1801.10130; Esteves et al. 2018, arXiv:1711.06721.
"""

from collections.abc import Callable

from torch import Tensor, nn
from torch.nn import functional as F

from runtime.layer import FieldLayer, field_types_of

Function = Callable[[Tensor], Tensor]


class SphereActivation(FieldLayer):
    """A pointwise function of signals on the sphere, computed on samples.

    synthesis, analysis: modules from coefficients to samples and back, with field types `in_type` and `out_type`, such
    as the two directions of a generated transform; the analysis may keep fewer degrees. function: any pointwise one, or
    a module with weights (PReLU).

    On the fields of a volume it acts at every voxel: `8x0 + 8x1 + 8x2 + 8x3` are 8 functions on the sphere there. Turns
    of the cube map voxels to voxels, yet commute with it only as well as other rotations do, unless the grid on the
    sphere has the cube's symmetries.

    Raises ValueError if the modules do not say their field types.
    """

    def __init__(self, synthesis: nn.Module, analysis: nn.Module, function: Function | nn.Module = F.relu) -> None:
        super().__init__(field_types_of(synthesis)[0], field_types_of(analysis)[1])
        self.synthesis, self.analysis, self.function = synthesis, analysis, function

    def forward(self, fields: Tensor) -> Tensor:
        """(batch, channel, *space) -> (batch, channel out, *space)."""
        self.check(fields)
        coefficients: Tensor = self.analysis(self.function(self.synthesis(fields)))
        return coefficients


class RotationActivation(SphereActivation):
    """A pointwise function of signals on the rotation group: 2 l + 1 fragments of each degree l for every signal.

    As `SphereActivation`, with the transforms of a grid of rotations.
    """
