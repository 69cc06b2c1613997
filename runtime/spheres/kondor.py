"""The Clebsch-Gordan net of Kondor, Lin and Trivedi 2018, whole: products, norms, complex linear maps, read-out.

Complex functions on the sphere are pairs of real signals z = x + i y, and C is bilinear and real:

    C(z, z) = P(x) - P(y) + i (P(x + y) - P(x) - P(y)),      P(x): all products of x with itself

so that a product compiled for real signals serves. Products of odd l1 + l2 + l, imaginary in the complex basis, lack a
factor i here, which the complex weights absorb. As in the authors' code fragments of one degree meet in both orders,
and products that vanish count: with `ordered` off each is there once, the same functions with fewer weights.

Source: arXiv:1806.09231; public code zlin7/CGNet. Widths and counts of parameters are the code's; of the last layer the
scalars alone are read, as there.
"""

import math
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn

from ..constants import constant
from ..fields import FieldType, as_field_type, split_terms
from ..layer import FieldLayer
from ..linear import Linear
from .blocks import head
from .normalization import FragmentNorm
from .signals import signal_type
from .specs import spec_text

Pairs = tuple[tuple[tuple[int, int], ...], ...]  # of each degree of the output the (first term, second term)


@dataclass(frozen=True)
class KondorConfig:
    """Sizes of a Clebsch-Gordan net; the defaults are the authors' for spherical MNIST.

    limit: degrees 0 .. limit - 1. width: fragments of degree l are ceil(width / sqrt(2 l + 1)), in every layer.
    """

    limit: int = 11
    layers: int = 5
    width: float = 12.0
    inputs: int = 1
    classes: int = 10
    hidden: int = 256
    dropout: float = 0.5
    ordered: bool = True

    @property
    def fragments(self) -> list[int]:
        """The number of fragments of each degree, in every layer after the first."""
        return [math.ceil(self.width / math.sqrt(2 * degree + 1)) for degree in range(self.limit)]

    @property
    def types(self) -> list[FieldType]:
        """Field type of the (real or imaginary) signal before each layer, and after the last."""
        hidden = as_field_type([(count, degree, None) for degree, count in enumerate(self.fragments)])
        return [signal_type(self.inputs, self.limit), *[hidden] * self.layers]

    def spec(self, name: str = "kondor") -> str:
        """The spec of the package to compile: `Product1` for the first layer, `Product2` for all others."""
        common = {"mixing": "all", "degrees": f"0..{self.limit - 1}", "channels": 1}
        products = [
            {"kind": "product", "name": f"Product{i}", "in": field_type, **common}
            for i, field_type in enumerate(self.types[:2], 1)
        ]
        return spec_text(name, products)


class Kondor(nn.Module):
    """A Clebsch-Gordan net: signals (batch, channel) of `inputs` real functions -> (batch, classes).

    package: the module compiled from `config.spec()`.
    """

    def __init__(self, package: ModuleType, config: KondorConfig | None = None) -> None:
        super().__init__()
        config = config or KondorConfig()
        types = config.types
        self.layers = nn.ModuleList(
            ComplexProductLayer(_product(package, min(i, 1)), types[i + 1], ordered=config.ordered)
            for i in range(config.layers)
        )
        self.scalars = [field_type[0].multiplicity for field_type in types]
        self.head = head(2 * sum(self.scalars), config.classes, config.hidden, config.dropout)

    def forward(self, signals: Tensor) -> Tensor:
        """(batch, channel) -> (batch, classes)."""
        real, imaginary = signals, torch.zeros_like(signals)
        invariants = [real[:, : self.scalars[0]], imaginary[:, : self.scalars[0]]]
        for layer, scalars in zip(self.layers, self.scalars[1:], strict=True):
            real, imaginary = layer(real, imaginary)
            invariants += [real[:, :scalars], imaginary[:, :scalars]]
        output: Tensor = self.head(torch.cat(invariants, 1))
        return output


class ComplexProductLayer(nn.Module):
    """Products of a complex signal with itself, normed, and mixed by complex weights W = U + i V.

    State: those of the norm (size, batches) and of both maps (weights).
    """

    def __init__(self, product: nn.Module, out_type: FieldType, *, ordered: bool) -> None:
        super().__init__()
        self.product = product
        self.expand = OrderedPairs(product) if ordered else None
        products = as_field_type(self.expand.out_type if self.expand else product.out_type)  # type: ignore[arg-type]
        self.norm = FragmentNorm(products)
        self.real = Linear(products, out_type, bias=False)
        self.imaginary = Linear(products, out_type, bias=False)
        for weight in (*self.real.weights, *self.imaginary.weights):
            nn.init.uniform_(weight, 0, 0.05)

    def forward(self, real: Tensor, imaginary: Tensor) -> tuple[Tensor, Tensor]:
        """Real and imaginary part, (batch, channel) each -> the same of the out type."""
        of_real, of_imaginary, of_sum = (self.product(x) for x in (real, imaginary, real + imaginary))
        # (batch, channel, part): real and imaginary part as two places
        pair = torch.stack([of_real - of_imaginary, of_sum - of_real - of_imaginary], 2)
        if self.expand is not None:
            pair = self.expand(pair)
        pair = self.norm(pair) * math.sqrt(0.5)  # the size of a complex number is sqrt(2) that of its parts
        u, v = self.real(pair), self.imaginary(pair)
        return u[..., 0] - v[..., 1], u[..., 1] + v[..., 0]


class OrderedPairs(FieldLayer):
    """Products of unordered pairs of fragments, repeated for ordered ones, with their signs; zero for what vanishes.

    C(g, f) = (-1)^(l1 + l2 - l) C(f, g). Takes what a generated product of a field with itself gives, of all pairs of
    degrees; gives for every degree l the pairs (l1, l2), l2 <= l1, and of one degree all (t, t').
    """

    def __init__(self, product: Any) -> None:
        terms = as_field_type(product.in_type)
        paths = dict(product.paths)
        degrees = [degree for _, degree, _ in product.out_type]
        counts = tuple(term.multiplicity for term in terms)
        self._terms = tuple((counts, tuple(paths[o]), degree) for o, degree in enumerate(degrees))
        fragments = [len(_ordered(*term)) for term in self._terms]
        out = [(count, degree, None) for count, degree in zip(fragments, degrees, strict=True)]
        super().__init__(product.out_type, out)

    def forward(self, fields: Tensor) -> Tensor:
        """(batch, channel, *space) -> (batch, channel out, *space)."""
        self.check(fields)
        parts = []
        for term, part, key in zip(self.in_type, split_terms(fields, self.in_type), self._terms, strict=True):
            table = constant(
                _ordered, *key, dtype=torch.float64, device=fields.device
            )  # (ordered pair, place and sign)
            copies = torch.unflatten(part, 1, (term.multiplicity, term.dimension))  # (batch, copy, component, *space)
            signs = table[:, 1:].to(fields.dtype)
            chosen = copies.index_select(1, table[:, 0].long())  # (batch, ordered pair, component, *space)
            # (batch, ordered pair and component, *space)
            parts.append((chosen * signs.reshape(-1, *[1] * (chosen.ndim - 2))).flatten(1, 2))
        return torch.cat(parts, 1)


def _ordered(counts: tuple[int, ...], paths: tuple[tuple[int, int], ...], degree: int) -> Tensor:
    """float64 (ordered pair, 2): its place among the unordered pairs of the paths, and its sign."""
    start, rows = {}, []
    place = 0
    for i, j in paths:
        start[i, j] = place
        m = counts[i]
        place += m * counts[j] if i != j else m * (m + 1) // 2 if degree % 2 == 0 else m * (m - 1) // 2
    for l1 in range(len(counts)):
        for l2 in range(l1 + 1):
            if not l1 - l2 <= degree <= l1 + l2:
                continue
            m, n = counts[l2], counts[l1]
            if l1 != l2:
                rows += [(start[l2, l1] + k, 1) for k in range(m * n)]
                continue
            least = degree % 2  # of an antisymmetric product the pairs t < t' alone are there
            places = {(t, u): k for k, (t, u) in enumerate((t, u) for t in range(m) for u in range(t + least, m))}
            for t in range(m):
                for u in range(m):
                    k = places.get((min(t, u), max(t, u)))
                    sign = 0 if k is None else -1 if degree % 2 and t > u else 1
                    rows.append((0 if k is None else start[l1, l1] + k, sign))
    return torch.tensor(rows, dtype=torch.float64)


def _product(package: ModuleType, index: int) -> nn.Module:
    product: nn.Module = getattr(package, f"Product{index + 1}")()
    return product
