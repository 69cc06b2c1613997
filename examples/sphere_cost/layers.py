"""The layers: products of the degrees of each channel, and behind them a linear map back to the signals' degrees.

    unconstrained   product, then one matrix per degree over products and channels (generalised convolution)
    constrained     product, then Cobb's three maps: uniform, channel-wise, cross-channel
    fused           the same numbers, the uniform map within the product: products are never stored
    e3nn            its TensorProduct of the same paths, then its Linear: the layer `unconstrained`

K signals of band limit L go in and K come out, one fragment per degree and channel (tau = 1).
Source: Cobb et al. 2021, arXiv:2010.11661, section 3.
"""

from __future__ import annotations

import warnings
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn

from examples.common.cost import e3nn_product

OURS = ("unconstrained", "constrained", "fused")
E3NN = "e3nn"
PARTS = {"unconstrained": ("Product", "Dense"), "constrained": ("Product", "Maps"), "fused": ("Fused", "Behind")}


def build(package: ModuleType, way: str) -> nn.Module:
    """A layer (batch, channel) -> (batch, channel); biases on scalars are left out."""
    if way == E3NN:
        return E3nnLayer(package.Product())
    product, linear = (getattr(package, name) for name in PARTS[way])
    return nn.Sequential(product(), linear(bias=False))


class E3nnLayer(nn.Module):
    """e3nn's TensorProduct of a compiled product's paths, and its Linear to the field type that goes in."""

    def __init__(self, product: Any) -> None:
        super().__init__()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            from e3nn import o3

            self.product = e3nn_product(product)
            self.linear = o3.Linear(self.product.irreps_out.simplify(), self.product.irreps_in1)

    def forward(self, field: Tensor) -> Tensor:
        """(batch, channel) -> (batch, channel)."""
        output: Tensor = self.linear(self.product(field, field))
        return output

    @torch.no_grad()
    def take_weights(self, dense: Any) -> None:
        """Those of a dense linear map, (copy out, copy in) of each degree: theirs are (in, out), scaled alike."""
        copies = [into * out for (into, *_), (out, *_) in zip(dense.in_type, dense.out_type, strict=True)]
        matrices = dense.weight.split(copies)
        parts = [m.view(out, -1).mT.flatten() for m, (out, *_) in zip(matrices, dense.out_type, strict=True)]
        self.linear.weight.copy_(torch.cat(parts))
