"""Whole networks of a package that was compiled from a table [network].

    classifier   encoder -> mean over all voxels -> linear map of the invariants    volumes -> scores (batch, class)
    encoder      stem -> level 1 -> low-pass, stride -> level 2 -> ..               volumes -> coarser volumes of fields
    unet         down the same ladder and up again, each level bridged to its own   volumes -> volumes of fields

    stem         blur of the input -> convolution with the stride of level 1 -> norm -> activation
    convolution  convolution -> norm -> activation, so that `freeze` folds the norm into the kernel

The blur is of the input, of one channel or few, and the stem's stride takes seven voxels of eight away, so that no
layer works on all of them. The package's module `network` says which convolutions stand where; the norm, the activation
and the dropout it names can be given here instead.
"""

import math
from collections.abc import Callable, Sequence
from functools import partial
from itertools import pairwise
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..activation import Gate, NormActivation
from ..dropout import FieldDropout
from ..fields import FieldType, as_field_type, channel_count
from ..layer import FieldLayer, check_equal_types, field_types_of
from ..normalization import BatchNorm, InstanceNorm
from ..spheres.activation import SphereActivation
from .blocks import LayerFactory, ResidualBlock, strided_low_pass
from .resampling import GlobalMean, LowPass, Upsample, with_sizes
from .sizes import fit_volume

Triple = tuple[int, int, int]
Level = Sequence[type[nn.Module]]
Outputs = Tensor | list[Tensor]

NORMS: dict[str, LayerFactory | None] = {"batch": BatchNorm, "instance": InstanceNorm, "none": None}
ACTIVATIONS: dict[str, LayerFactory] = {
    "gate": Gate,
    "smooth": partial(Gate, activation=F.silu),  # no kink, which makes frequencies that the grid cannot hold
    "norm": NormActivation,
}


def network(package: ModuleType, **changes: Any) -> FieldLayer:
    """The network of a compiled package: `runtime.network(generated.shapes)`.

    changes: `norm`, `activation` (a name that the spec may have, or a function from a field type to a layer) and
    `dropout`, where they are not to be as the spec says; they change no convolution, and so no compiled file.

    Raises TypeError for a package without a network, or for another keyword; ValueError for another name.
    """
    order: Any = getattr(package, "network", None)
    if getattr(order, "kind", None) not in _BUILDERS:
        raise TypeError(
            "network() takes a package compiled from a spec with a table [network], and "
            f"{getattr(package, '__name__', package)!r} has none. Add the table and compile again, or put the layers "
            "together yourself."
        )
    unknown = sorted(changes.keys() - {"norm", "activation", "dropout"})
    if unknown:
        raise TypeError(
            f"network() takes norm, activation and dropout, not {', '.join(unknown)}: everything else is part of "
            "the spec. Change it under [network], and compile again."
        )
    settings = {"norm": order.norm, "activation": order.activation, "dropout": order.dropout, **changes}
    on_sphere = {"sphere": partial(_on_sphere, order.sphere)} if hasattr(order, "sphere") else {}
    for key, known in (("norm", NORMS), ("activation", {**ACTIVATIONS, **on_sphere})):
        if isinstance(settings[key], str):
            if settings[key] not in known:
                cure = ' Compile with activation = "sphere".' if settings[key] == "sphere" else ""
                raise ValueError(f"{key} = {settings[key]!r} is not one of {', '.join(known)}.{cure}")
            settings[key] = known[settings[key]]
    return _BUILDERS[order.kind](order, **settings)


def _on_sphere(transform: type[nn.Module], fields: FieldType) -> FieldLayer:
    """ReLU of functions on the sphere at every voxel, on samples, exact under turns of the cube; `Gate` for scalars."""
    if not any(term.degree for term in fields):
        return Gate(fields)
    return SphereActivation(transform(), limit=len(fields), cube=True, signals=fields[0].multiplicity)


class Encoder(FieldLayer):
    """Levels of convolutions, each behind a low-pass with a stride.

    down: the classes of generated convolutions of each level, from fine to coarse; the first is the stem. strides: into
    each level. residual: after the stem, the convolutions of a level are taken in pairs by residual blocks, which have
    their norm before each convolution. even: for volumes of even size. Volumes whose sizes are no multiples of all
    strides (odd ones: those plus 1) are padded with zeros; `padded` says to which.

    Raises ValueError if the fields of consecutive convolutions do not meet.
    """

    def __init__(
        self,
        down: Sequence[Level],
        strides: Sequence[Triple],
        *,
        even: bool = True,
        residual: bool = False,
        norm: LayerFactory | None = BatchNorm,
        activation: LayerFactory = Gate,
        dropout: float = 0.0,
    ) -> None:
        stages = _ladder(down, strides, even, _Blocks(norm, activation, dropout, residual))
        super().__init__(_in_type(stages[0]), _out_type(stages[-1]))
        self.strides, self.even = tuple(strides), even
        self.stages = nn.Sequential(*stages)

    def forward(self, volumes: Tensor) -> Tensor:
        """(batch, channel, x, y, z) -> (batch, channel out, x', y', z'), divided by all strides."""
        self.check_volume(volumes)
        fields: Tensor = self.stages(fit_volume(volumes, self.padded(volumes.shape[2:])))
        return fields

    def padded(self, sizes: Sequence[int]) -> Triple:
        """The smallest sizes, none below these, at which every grid is centred, and turns of the cube are exact."""
        return _padded(sizes, self.strides, self.even)


class Classifier(FieldLayer):
    """An encoder, the mean of its invariants over all voxels, and one linear map of these.

    `encoder` and `mean` are separate layers: another head takes their (batch, invariant).

    Raises ValueError if the encoder gives fields that a rotation or a reflection changes.
    """

    def __init__(self, encoder: Encoder, classes: int) -> None:
        if any(not term.is_even_scalar for term in encoder.out_type):
            raise ValueError(
                f"Classifier takes an encoder of invariant scalars, and this one gives {encoder.out_type}."
            )
        super().__init__(encoder.in_type, [(classes, 0, encoder.out_type[0].parity)])
        self.encoder, self.mean = encoder, GlobalMean(encoder.out_type)
        self.classify = nn.Linear(channel_count(encoder.out_type), classes)

    def forward(self, volumes: Tensor) -> Tensor:
        """(batch, channel, x, y, z) -> scores (batch, class)."""
        scores: Tensor = self.classify(self.mean(self.encoder(volumes)))
        return scores


class Segmenter(FieldLayer):
    """A U-Net for volumes of any size: padded on the way in, cropped on the way out.

    down, up: the classes of generated convolutions of each level, from fine to coarse; `up` has one level fewer, and
    the first convolution of each takes the coarser fields followed by the finer ones. heads: at level 1, and with deep
    supervision at the levels below. Other settings are as of Encoder. In training with several heads `forward` gives a
    list, the answer of every head at the size of the volume, for `deep_supervision`; else the answer at level 1 alone.

    Raises ValueError if the fields of consecutive convolutions do not meet.
    """

    def __init__(
        self,
        down: Sequence[Level],
        up: Sequence[Level],
        heads: Level,
        strides: Sequence[Triple],
        *,
        even: bool = True,
        norm: LayerFactory | None = BatchNorm,
        activation: LayerFactory = Gate,
        dropout: float = 0.0,
    ) -> None:
        blocks = _Blocks(norm, activation, dropout)
        stages = _ladder(down, strides, even, blocks)
        super().__init__(_in_type(stages[0]), field_types_of(last := heads[0]())[1])
        self.strides, self.even = tuple(strides), even
        self.down = nn.ModuleList(stages)
        self.up = nn.ModuleList(nn.Sequential(*blocks(level)) for level in up)
        coarser = [*self.up[1:], self.down[-1]]
        self.upsamples = nn.ModuleList(
            Upsample(_out_type(stage), stride, keep_corners=not even)
            for stage, stride in zip(coarser, strides[1:], strict=True)
        )
        for level, (finer, below) in enumerate(zip(self.down[:-1], coarser, strict=True), start=1):
            joined = _out_type(below) + _out_type(finer)
            check_equal_types(joined, _in_type(self.up[level - 1]), f"levels {level + 1} and {level}", "the way up")
        self.heads = nn.ModuleList([last, *[head() for head in heads[1:]]])
        factors = [tuple(map(math.prod, zip(*strides[: level + 1], strict=True))) for level in range(len(heads))]
        self.enlarge = nn.ModuleList(
            Upsample(self.out_type, factor, keep_corners=not even) if max(factor) > 1 else nn.Identity()
            for factor in factors
        )

    def forward(self, volumes: Tensor) -> Outputs:
        """(batch, channel, x, y, z) -> (batch, channel out, x, y, z), or a list of them."""
        self.check_volume(volumes)
        size = volumes.shape[2:]
        fields, bridges = fit_volume(volumes, _padded(size, self.strides, self.even)), []
        for stage in self.down:
            fields = stage(fields)
            bridges.append(fields)
        levels = [bridges.pop()]
        for stage, upsample in zip(reversed(self.up), reversed(self.upsamples), strict=True):
            bridge = bridges.pop()
            levels.append(stage(torch.cat([with_sizes(upsample(levels[-1]), bridge.shape[2:]), bridge], 1)))
        wanted = len(self.heads) if self.training else 1
        answers = [
            fit_volume(enlarge(head(level)), size)
            for head, enlarge, level in zip(
                self.heads[:wanted], self.enlarge[:wanted], levels[: -wanted - 1 : -1], strict=True
            )
        ]
        return answers if len(answers) > 1 else answers[0]


def deep_supervision(loss: Callable[[Tensor, Tensor], Tensor]) -> Callable[[Outputs, Tensor], Tensor]:
    """The loss of a network with several heads: each level's half as heavy as the one above, of sum 1.

    Source: Isensee et al., "nnU-Net", 2021.
    """

    def of_all(outputs: Outputs, labels: Tensor) -> Tensor:
        if isinstance(outputs, Tensor):
            return loss(outputs, labels)
        weights = [0.5**level for level in range(len(outputs))]
        parts = [weight * loss(output, labels) for weight, output in zip(weights, outputs, strict=True)]
        return torch.stack(parts).sum() / sum(weights)

    return of_all


class _Blocks:
    """Makes the layers of a level, convolution by convolution."""

    def __init__(
        self, norm: LayerFactory | None, activation: LayerFactory, dropout: float, residual: bool = False
    ) -> None:
        self.norm, self.activation, self.dropout, self.residual = norm, activation, dropout, residual

    def __call__(self, convs: Level) -> list[nn.Module]:
        if not self.residual:
            return [layer for conv in convs for layer in self.block(conv)]
        pairs = zip(convs[::2], convs[1::2], strict=True)
        blocks = (ResidualBlock(a(), b(), norm=self.norm, activation=self.activation) for a, b in pairs)
        return [layer for block in blocks for layer in (block, *self._drop(block.out_type))]

    def block(self, conv: type[nn.Module], **options: Any) -> list[nn.Module]:
        """Convolution, norm, activation, dropout. A norm has its own bias."""
        made = conv(bias=self.norm is None, **options)
        raw = field_types_of(made)[1]
        active = self.activation(raw)
        return [made, *([self.norm(raw)] if self.norm else []), active, *self._drop(active.out_type)]

    def _drop(self, fields: FieldType) -> list[nn.Module]:
        return [FieldDropout(fields, self.dropout)] if self.dropout else []


def _ladder(down: Sequence[Level], strides: Sequence[Triple], even: bool, blocks: _Blocks) -> list[nn.Sequential]:
    """The levels from fine to coarse: each its low-pass with the stride, then its convolutions."""
    (stem, *first), *others = down
    layers = blocks.block(stem, stride=strides[0])
    scale = [float(step) for step in strides[0]]  # of the resolutions: blurred along the strided axes, as they will be
    blur = [LowPass(field_types_of(layers[0])[0], 1, scale=scale)] if max(strides[0]) > 1 else []
    stages = [nn.Sequential(*blur, *layers, *blocks(first))]
    for level, stride in zip(others, strides[1:], strict=True):
        low_pass = strided_low_pass(_out_type(stages[-1]), stride, 6 if even else 5)
        stages.append(nn.Sequential(low_pass, *blocks(level)))
    for left, right in pairwise(stages):
        check_equal_types(_out_type(left), field_types_of(right[1])[0], "a level", "the level below")
    return stages


def _padded(sizes: Sequence[int], strides: Sequence[Triple], even: bool) -> Triple:
    rest = 0 if even else 1
    steps = map(math.prod, zip(*strides, strict=True))
    # rounded up without a negative number, whose quotient ONNX would round towards zero
    x, y, z = ((n - rest + step - 1) // step * step + rest for n, step in zip(sizes, steps, strict=True))
    return x, y, z


def _in_type(stage: nn.Module) -> FieldType:
    return as_field_type(next(layer.in_type for layer in stage.children() if hasattr(layer, "in_type")))  # type: ignore[arg-type]


def _out_type(stage: nn.Module) -> FieldType:
    return as_field_type([layer.out_type for layer in stage.children() if hasattr(layer, "out_type")][-1])  # type: ignore[arg-type]


def _encoder(order: Any, **settings: Any) -> Encoder:
    return Encoder(order.down, order.strides, even=order.even, residual=order.residual, **settings)


def _classifier(order: Any, **settings: Any) -> Classifier:
    return Classifier(_encoder(order, **settings), as_field_type(order.out_type)[0].multiplicity)


def _unet(order: Any, **settings: Any) -> Segmenter:
    return Segmenter(order.down, order.up, order.heads, order.strides, even=order.even, **settings)


_BUILDERS: dict[str, Callable[..., FieldLayer]] = {"classifier": _classifier, "encoder": _encoder, "unet": _unet}
