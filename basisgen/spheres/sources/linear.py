"""Linear maps between fields: what every equivariant linear layer of this package shares.

    out[o, M] = sum over i of  W[o, i] * input[i, M]      one matrix per irrep, i and o its copies: by Schur's lemma
                                                          every equivariant linear map

or, where `maps` says so, the matrix of an irrep as a product of factors over fragments t and channels k, in this order
(Cobb et al. 2021):

    uniform   h[t', k] = sum over t of   U[t', t] f[t, k]            the same for all channels
    channel   h[t', k] = sum over t of   V[k, t', t] f[t, k]         of each channel its own
    cross     h[t, k'] = sum over k of   W[t, k', k] f[t, k]         of each fragment its own

Weights have unit variance; the scale 1/sqrt(fan in) gives unit variance out for unit variance in.
"""

from math import prod

import torch
from torch import Tensor, nn

from ._layer import GeneratedLayer

FieldType = tuple[tuple[int, int, int | None], ...]  # (multiplicity, degree, parity) of each term
Irrep = tuple[int, int | None]  # degree, parity
TERMS = 64  # added in a row

Shapes = dict[Irrep, list[tuple[str, tuple[int, ...]]]]


class EquivariantLinear(GeneratedLayer):
    """A linear map of fields, (batch, channel in, *space) -> (batch, channel out, *space); any axes may follow.

    Only the invariant scalar channels have a bias.
    """

    basisgen_kind = "linear"

    in_type: FieldType
    out_type: FieldType
    maps: tuple[str, ...] = ()  # none: one matrix per irrep
    channels: int = 1
    channels_out: int = 1  # of each fragment of the output

    def __init__(
        self, bias: bool = True, *, device: torch.device | str | None = None, dtype: torch.dtype | None = None
    ) -> None:
        super().__init__()
        self.in_channels, self.out_channels = _size(self.in_type), _size(self.out_type)
        self.weight = nn.Parameter(torch.empty(self._weight_shape(), device=device, dtype=dtype))
        invariant = sum(multiplicity for multiplicity, degree, parity in self.out_type if degree == 0 and parity != -1)
        self.bias = nn.Parameter(self.weight.new_empty(invariant)) if bias and invariant else None
        self.reset_parameters()

    @classmethod
    def words(cls) -> str:
        """See GeneratedLayer."""
        maps = f"; {', '.join(cls.maps)}, channels {cls.channels} to {cls.channels_out}" if cls.maps else ""
        return f"{_text(cls.in_type)} -> {_text(cls.out_type)}{maps}"

    def reset_parameters(self) -> None:
        """Draws weights of unit variance and sets the bias to zero."""
        nn.init.normal_(self.weight)
        if self.bias is not None:
            nn.init.zeros_(self.bias)

    def forward(self, input: Tensor) -> Tensor:
        """The map of (batch, channel in, *space)."""
        self._check(input)
        batch, space = input.shape[0], input.shape[2:]
        fields = self._by_irrep(input)
        results: dict[Irrep, Tensor] = {}
        for irrep, factors in self._factors().items():
            field = fields[irrep]
            for name, matrix in factors:
                field = _APPLY[name](matrix, field, self.channels if name != "cross" else matrix.shape[-1])
            results[irrep] = field
        # (batch, channel out, site) -> (batch, channel out, *space)
        return self._with_bias(self._in_terms(results, input)).reshape(batch, self.out_channels, *space)

    def matrix(self) -> Tensor:
        """The map without its bias as one matrix, (channel out, channel in)."""
        unit = torch.eye(self.in_channels, device=self.weight.device, dtype=self.weight.dtype)
        bias, self.bias = self.bias, None
        try:
            return self.forward(unit).t()
        finally:
            self.bias = bias

    def extra_repr(self) -> str:
        """The line `print(module)` shows."""
        maps = f", maps={', '.join(self.maps)}" if self.maps else ""
        return f"{_text(self.in_type)} -> {_text(self.out_type)}{maps}, bias={self.bias is not None}"

    def _weight_shape(self) -> tuple[int, ...]:
        self._shapes = _shapes(self)
        return (sum(prod(shape) for factors in self._shapes.values() for _, shape in factors),)

    def _factors(self) -> dict[Irrep, list[tuple[str, Tensor]]]:
        """For every irrep of the output, the name and the matrix of each factor, in order."""
        found: dict[Irrep, list[tuple[str, Tensor]]] = {}
        place = 0
        for irrep, factors in self._shapes.items():
            found[irrep] = []
            for name, shape in factors:
                matrix = self.weight[place : place + prod(shape)].view(shape) * shape[-1] ** -0.5
                place += prod(shape)
                found[irrep].append((name, matrix))
        return found

    def _by_irrep(self, input: Tensor) -> dict[Irrep, Tensor]:
        """(batch, copy, component and site) of every irrep, terms of one irrep side by side."""
        parts: dict[Irrep, list[Tensor]] = {}
        sizes = [multiplicity * (2 * degree + 1) for multiplicity, degree, _ in self.in_type]
        sites = prod(input.shape[2:])
        for (multiplicity, degree, parity), term in zip(self.in_type, input.split_with_sizes(sizes, 1), strict=True):
            # (batch, channel, *space) -> (batch, copy, component and site)
            part = term.reshape(input.shape[0], multiplicity, (2 * degree + 1) * sites)
            parts.setdefault((degree, parity), []).append(part)
        return {irrep: found[0] if len(found) == 1 else torch.cat(found, 1) for irrep, found in parts.items()}

    def _in_terms(self, results: dict[Irrep, Tensor], input: Tensor) -> Tensor:
        """(batch, channel out, site), the terms in their order."""
        parts = []
        taken = dict.fromkeys(results, 0)
        sites = prod(input.shape[2:])
        for multiplicity, degree, parity in self.out_type:
            first = taken[degree, parity]
            taken[degree, parity] += multiplicity
            part = results[degree, parity][:, first : first + multiplicity]
            # (batch, copy, component and site) -> (batch, channel, site)
            parts.append(part.reshape(input.shape[0], multiplicity * (2 * degree + 1), sites))
        return torch.cat(parts, 1)

    def _with_bias(self, output: Tensor) -> Tensor:
        if self.bias is None:
            return output
        parts, first = [], 0
        for multiplicity, degree, parity in self.out_type:
            if degree == 0 and parity != -1:
                parts.append(self.bias[first : first + multiplicity])
                first += multiplicity
            else:
                parts.append(self.bias.new_zeros(multiplicity * (2 * degree + 1)))
        return output + torch.cat(parts).to(output.dtype).unsqueeze(1)

    def _check(self, input: Tensor) -> None:
        if input.ndim < 2 or input.shape[1] != self.in_channels:
            raise ValueError(
                f"{type(self).__name__} takes a field (batch, {self.in_channels}, ...), got {tuple(input.shape)}"
            )
        if input.dtype != self.weight.dtype and not torch.is_autocast_enabled(self.weight.device.type):
            raise ValueError(
                f"{type(self).__name__} has weights of {self.weight.dtype}, got a field of {input.dtype}. "
                "Convert one of them with .to(dtype)."
            )


def _dense(weight: Tensor, field: Tensor, channels: int) -> Tensor:
    # (copy out, copy in) @ (batch, copy in, component and site)
    return _paired([w @ f for w, f in zip(torch.split(weight, TERMS, 1), torch.split(field, TERMS, 1), strict=True)])


def _uniform(weight: Tensor, field: Tensor, channels: int) -> Tensor:
    # (t', t) @ (batch, t, channel and component and site)
    batch, _, last = field.shape
    mixed = _dense(weight, field.reshape(batch, weight.shape[1], channels * last), channels)
    return mixed.reshape(batch, weight.shape[0] * channels, last)


def _channel(weight: Tensor, field: Tensor, channels: int) -> Tensor:
    # (channel, t', t) @ (batch, channel, t, component and site)
    batch, _, last = field.shape
    of_channel = field.reshape(batch, weight.shape[2], channels, last).transpose(1, 2)
    return (weight @ of_channel).transpose(1, 2).reshape(batch, weight.shape[1] * channels, last)


def _cross(weight: Tensor, field: Tensor, channels: int) -> Tensor:
    # (t, channel', channel) @ (batch, t, channel, component and site)
    batch, _, last = field.shape
    mixed = weight @ field.reshape(batch, weight.shape[0], channels, last)
    return mixed.reshape(batch, weight.shape[0] * weight.shape[1], last)


def _paired(sums: list[Tensor]) -> Tensor:
    """The sum of the terms, halves first: the rounding of float32 grows with the number of terms in a row."""
    if len(sums) == 1:
        return sums[0]
    middle = len(sums) // 2
    return _paired(sums[:middle]) + _paired(sums[middle:])


_APPLY = {"dense": _dense, "uniform": _uniform, "channel": _channel, "cross": _cross}


def _shapes(layer: EquivariantLinear) -> Shapes:
    """The factors of each irrep of the output, in order of appearance, in the order of the weights."""
    multiplicities_in, multiplicities_out = _multiplicities(layer.in_type), _multiplicities(layer.out_type)
    shapes: Shapes = {}
    for irrep, multiplicity in multiplicities_out.items():
        if not layer.maps:
            shapes[irrep] = [("dense", (multiplicity, multiplicities_in[irrep]))]
            continue
        fragments, channels = multiplicities_in[irrep] // layer.channels, layer.channels
        after = multiplicity // layer.channels_out
        shapes[irrep] = []
        for name in layer.maps:
            if name == "uniform":
                shapes[irrep].append((name, (after, fragments)))
                fragments = after
            elif name == "channel":
                shapes[irrep].append((name, (channels, fragments, fragments)))
            else:
                shapes[irrep].append((name, (fragments, layer.channels_out, channels)))
    return shapes


def _multiplicities(field_type: FieldType) -> dict[Irrep, int]:
    found: dict[Irrep, int] = {}
    for multiplicity, degree, parity in field_type:
        found[degree, parity] = found.get((degree, parity), 0) + multiplicity
    return found


def _size(field_type: FieldType) -> int:
    return sum(multiplicity * (2 * degree + 1) for multiplicity, degree, _ in field_type)


def _text(field_type: FieldType) -> str:
    letters = {1: "e", -1: "o", None: ""}
    return " + ".join(f"{multiplicity}x{degree}{letters[parity]}" for multiplicity, degree, parity in field_type)
