"""A network of the efficient generalised spherical layers of Cobb et al. 2021.

    block i:  (K_i channels, degrees < L_i)  ->  products over a mixing set, degrees < L_(i+1)  ->  fragment norm
              ->  uniform, channel-wise and cross-channel maps  ->  (K_(i+1) channels, degrees < L_(i+1))

with min(2 l + 1, width) fragments of degree l, falling band limits, and the scalars of every stage read out.

A reconstruction: widths, band limits and settings of the paper's networks are not public. The rules of the layers are
those of arXiv:2010.11661; the rule of `reduced` is the compiler's.
"""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from types import ModuleType
from typing import Any

from torch import Tensor, nn

from ..fields import FieldType
from .blocks import InvariantHead, SphericalBlock
from .cohen import CohenConfig
from .normalization import FragmentNorm
from .signals import rotation_type, signal_type
from .specs import fragments_type, spec_text


@dataclass(frozen=True)
class CobbConfig:
    """Sizes of a network of efficient layers.

    inputs: signals on the sphere, or, with `on_rotations`, on the rotation group. limits: band limit of the input and
    after every block, falling. channels: after the first linear map and after every block, as many as limits. width:
    most fragments of a degree. mixing: `all`, `tree` or `reduced`; self_products: whether products (l, l) belong to it
    (None: as the compiler has it). fused: uniform maps are part of the products, which are then never stored: as many
    weights in less memory, and with large mixing sets in less time. The fragment norm is then behind the uniform maps.
    """

    inputs: int = 1
    limits: tuple[int, ...] = (10, 6, 3, 1)
    channels: tuple[int, ...] = (16, 16, 24, 32)
    width: int = 5
    classes: int = 10
    mixing: str = "tree"
    self_products: bool | None = None
    hidden: int = 128
    dropout: float = 0.5
    lengths: bool = False
    on_rotations: bool = False
    fused: bool = False

    def __post_init__(self) -> None:
        if len(self.limits) != len(self.channels) or len(self.limits) < 2:
            raise ValueError(
                f"limits {self.limits} and channels {self.channels} are of the input and of every block: give as "
                "many of both, two at least."
            )
        if any(after > before for before, after in pairwise(self.limits)):
            raise ValueError(f"limits {self.limits} rise: degrees that a mixing set lacks cannot come back.")

    @property
    def blocks(self) -> range:
        """The numbers of the blocks, from 1."""
        return range(1, len(self.limits))

    def type_of(self, stage: int) -> FieldType:
        """The field type before block stage + 1: fragments of `channels` channels each."""
        return fragments_type(self._fragments(stage), self.channels[stage])

    def _fragments(self, stage: int) -> list[int]:
        if stage == 0 and not self.on_rotations:
            return [1] * self.limits[0]
        return [min(2 * degree + 1, self.width) for degree in range(self.limits[stage])]

    @property
    def in_type(self) -> FieldType:
        """The field type of the input."""
        return (rotation_type if self.on_rotations else signal_type)(self.inputs, self.limits[0])

    def spec(self, name: str = "cobb") -> str:
        """The spec of the package to compile: `Lift`, `Product1`, `Mix1`, `Product2`, .."""
        return spec_text(name, self.spec_layers())

    def spec_layers(self) -> list[dict[str, Any]]:
        """The same as tables."""
        lift = {"kind": "linear", "name": "Lift", "in": self.in_type}
        layers: list[dict[str, Any]] = [{**lift, "out": self.type_of(0)}]
        for i in self.blocks:
            product = {"kind": "product", "name": f"Product{i}", "in": self.type_of(i - 1), "mixing": self.mixing}
            projected = {"out": fragments_type(self._fragments(i), self.channels[i - 1])}
            out = projected if self.fused else {"degrees": f"0..{self.limits[i] - 1}"}
            options = {**out, "channels": self.channels[i - 1]}
            mix = {"kind": "linear", "name": f"Mix{i}", "in": f"Product{i}", "out": self.type_of(i)}
            names = ["channel", "cross"] if self.fused else ["uniform", "channel", "cross"]
            maps = {"maps": names, "channels": self.channels[i - 1]}
            layers += [
                {**product, **options, "self_products": self.self_products},
                {**mix, **maps, "out_channels": self.channels[i]},
            ]
        return layers


class Cobb(nn.Module):
    """A network of efficient layers: signals (batch, channel) of `config.in_type` -> (batch, classes).

    package: the module compiled from `config.spec()`. norm: makes the normalisation behind the products, None for none.
    """

    def __init__(
        self,
        package: ModuleType,
        config: CobbConfig | None = None,
        *,
        norm: Callable[[Any], Any] | None = FragmentNorm,
    ) -> None:
        super().__init__()
        config = config or CobbConfig()
        self.lift: nn.Module = package.Lift()
        self.blocks = nn.ModuleList(
            SphericalBlock(getattr(package, f"Product{i}")(), after=getattr(package, f"Mix{i}")(), norm=norm)
            for i in config.blocks
        )
        types = [config.type_of(stage) for stage in (0, *config.blocks)]
        options = {"hidden": config.hidden, "dropout": config.dropout, "lengths": config.lengths}
        self.head = InvariantHead(types, config.classes, **options)  # type: ignore[arg-type]

    def forward(self, signals: Tensor) -> Tensor:
        """(batch, channel) -> (batch, classes)."""
        output: Tensor = self.head(self.stages(signals))
        return output

    def stages(self, signals: Tensor) -> list[Tensor]:
        """The signals before each block and after the last, (batch, channel) each."""
        stages: list[Tensor] = [self.lift(signals)]
        for block in self.blocks:
            stages.append(block(stages[-1]))
        return stages


class Hybrid(nn.Module):
    """Correlations and pointwise functions first, at high band limits, efficient layers behind them at low ones.

    front: sizes of the correlations; its classes and pool are not used. back: of the efficient layers, on the rotation
    group, with the front's last features and limit as input. package: the module compiled from `Hybrid.spec(..)`.

    A reconstruction, as Cobb. Raises ValueError if front and back do not fit.
    """

    def __init__(self, package: ModuleType, front: CohenConfig, back: CobbConfig) -> None:
        super().__init__()
        if not back.on_rotations or (back.inputs, back.limits[0]) != (front.features[-1], front.limits[-1]):
            raise ValueError(
                f"the front gives {front.features[-1]} signals of band limit {front.limits[-1]} on the rotation group, "
                f"the back takes {back.inputs} of {back.limits[0]}{'' if back.on_rotations else ' on the sphere'}: "
                "make them equal, and on_rotations=True."
            )
        self.front, self.back = front.layers(package), Cobb(package, back)

    @staticmethod
    def spec(front: CohenConfig, back: CobbConfig, name: str = "hybrid") -> str:
        """The spec of the package to compile: the layers of both."""
        return spec_text(name, [*front.spec_layers(), *back.spec_layers()])

    def forward(self, signals: Tensor) -> Tensor:
        """Signals on the sphere (batch, channel) -> (batch, classes)."""
        output: Tensor = self.back(self.front(signals))
        return output
