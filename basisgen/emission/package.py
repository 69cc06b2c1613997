"""A package planned: its layers, and what the layers of each kind bring to it together."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from basisgen.layer import Array, Contribution, LayerPlan
from basisgen.spec import PackageSpec


@dataclass(frozen=True, eq=False)
class PackagePlan:
    """Everything a package holds, before it becomes text: layers in order, and one contribution per kind."""

    spec: PackageSpec
    layers: tuple[LayerPlan, ...]
    contributions: tuple[Contribution, ...]

    def __post_init__(self) -> None:
        assert [layer.spec for layer in self.layers] == list(self.spec.layers)
        names = [name for part in self.contributions for name in (*part.tensors, *part.claims)]
        assert len(names) == len(set(names)), "two kinds of layers bring something of one name"
        sources = {source for part in self.contributions for source in part.sources.items()}
        assert len(sources) == len({name for name, _ in sources}), "two kinds bring different modules of one name"

    @property
    def tensors(self) -> Mapping[str, Array]:
        """Every tensor of basis.safetensors by name, float64."""
        return {name: tensor for part in self.contributions for name, tensor in part.tensors.items()}
