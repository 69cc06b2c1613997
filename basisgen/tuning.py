"""What `basisgen tune` measured: of each layer that may run one way or another, the times of both, and where.

kind       ways                  times are over that of
conv       dense, separable      torch.nn.Conv3d of the same shape
product    stock, triton         stock torch; on a GPU alone
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from basisgen.errors import SpecError
from basisgen.reading import quoted

WAYS: Mapping[str, tuple[str, str]] = {"conv": ("dense", "separable"), "product": ("stock", "triton")}


@dataclass(frozen=True)
class Tuning:
    """The ratios of a package's layers, and the setting in words: device, threads, volume, precision, torch."""

    setting: str
    ratios: Mapping[str, Mapping[str, float]]  # layer -> way -> ratio

    @property
    def on_gpu(self) -> bool:
        """Whether it was measured elsewhere than on a CPU: the setting begins with the device."""
        return not self.setting.startswith("cpu")

    def choice(self, layer: str) -> str | None:
        """The faster way of a layer; None where it was not measured."""
        ratios = self.ratios.get(layer)
        return None if ratios is None else min(ratios, key=lambda way: ratios[way])

    def describe(self) -> dict[str, Any]:
        """Plain JSON values, which `parse` reads."""
        return {"setting": self.setting, "ratios": {name: dict(ratios) for name, ratios in self.ratios.items()}}

    @classmethod
    def parse(cls, table: Mapping[str, Any], kinds: Mapping[str, str]) -> Tuning:
        """Reads what `describe` wrote of layers of these kinds, by name; raises SpecError."""
        try:
            setting, ratios = table["setting"], {name: dict(entry) for name, entry in table["ratios"].items()}
            good = isinstance(setting, str) and setting.isprintable() and len(setting) < 1000
            good = good and bool(ratios)
            good = good and all(
                entry.keys() == set(WAYS[kinds[name]])
                and all(isinstance(ratio, float) and 0 < ratio < 1e6 for ratio in entry.values())
                for name, entry in ratios.items()
            )
        except (AttributeError, KeyError, TypeError, ValueError):
            good = False
        if not good:
            raise SpecError(f"tuned = {quoted(table)} is not what basisgen tune writes. Compile with --force.")
        return cls(setting, ratios)
