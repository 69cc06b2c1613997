"""Nonlinearities that commute with rotations: they act on scalars, and on the length of every other field."""

import copy
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from .constants import outside_modes
from .fields import FieldType, FieldTypeLike, Term, as_field_type, describe, has_parity, split_terms, voxels_last
from .layer import FieldLayer, apply_function

Activation = Callable[[Tensor], Tensor]
Shapes = Sequence[tuple[int, int] | None]


def gated_type(field_type: FieldTypeLike) -> FieldType:
    """The field type followed by one even scalar, its gate, for every non-scalar field: what `Gate` takes."""
    terms = as_field_type(field_type)
    gates = sum(term.multiplicity for term in terms if term.degree > 0)
    parity = 1 if has_parity(terms) else None
    return (*terms, Term(gates, 0, parity)) if gates else terms


class Gate(FieldLayer):
    """Gated nonlinearity: every non-scalar field times the sigmoid of its gate, a scalar.

        scalars:      s -> activation(s)       (0 or 0e; for 0o odd_activation(s))
        other fields: f -> f sigmoid(g)        g: one gate per field copy, in the order of the copies

    Takes the fields followed by their gates as one last term of even scalars, the out type of a generated convolution
    with `gated = true`; gives the fields. Biases of scalars and gates are the convolution's. Without non-scalar
    fields there are no gates.

    The gradient of the gates needs only the output y = f sigmoid(g), which the next layer keeps anyway:
    dL/dg = (1 - sigmoid(g)) sum_m y_m dL/dy_m. So the input is not kept.

    Raises ValueError if the last term is not the gates of the others, if `odd_activation` is not odd where there are
    odd scalars, f(-s) = -f(s), which a reflection demands, or if an activation changes its input in place.
    Source: Weiler et al., "3D Steerable CNNs", 2018, section 4.3.
    """

    def __init__(
        self,
        in_type: FieldTypeLike,
        *,
        activation: Activation = torch.relu,
        odd_activation: Activation = torch.tanh,
    ) -> None:
        in_type = as_field_type(in_type)
        fields = in_type[:-1] if any(term.degree > 0 for term in in_type) else in_type
        if not fields or gated_type(fields) != in_type:
            raise ValueError(
                f"Gate cannot take field type {describe(in_type)}: its last term must be one even scalar for every "
                "non-scalar field before it. Compile the convolution with `gated = true`, "
                "or build the type with gated_type()."
            )
        super().__init__(in_type, fields)
        _check_activation("Gate: activation", activation, [term for term in fields if term.is_even_scalar])
        _check_activation("Gate: odd_activation", odd_activation, [term for term in fields if term.is_odd_scalar])
        self.activation, self.odd_activation = activation, odd_activation
        self._gated = tuple((term.multiplicity, term.dimension) if term.degree else None for term in fields)

    def forward(self, fields: Tensor) -> Tensor:
        """(batch, channel of fields and gates, *space) -> (batch, channel of fields, *space)."""
        self.check(fields)
        parts = list(split_terms(fields, self.in_type))
        gates = parts.pop() if self.in_type != self.out_type else None
        for index, term in enumerate(self.out_type):
            if term.degree == 0:
                parts[index] = (
                    self.odd_activation(parts[index]) if term.is_odd_scalar else self.activation(parts[index])
                )
        if gates is None:
            return parts[0] if len(parts) == 1 else torch.cat(parts, 1)
        gated: Tensor = apply_function(_GateAndJoin, self._gated, gates, *parts)[0]
        return gated


class NormActivation(FieldLayer):
    """Norm nonlinearity: every field keeps its direction, its length goes through an activation with a learned bias.

        even scalars:     s -> scalar_activation(s)
        all other fields: f -> activation(|f| - beta) f / |f|        beta: learned, one per field copy

    activation: torch.relu for the norm-ReLU of the source, F.softplus for the norm-softplus. Below |f| = eps the
    factor is that of |f| = eps, so that values and gradients stay finite at f = 0.

    State: beta (copy of all fields but even scalars).
    Raises ValueError if `scalar_activation` changes its input in place.
    Source: Weiler et al., "3D Steerable CNNs", 2018, section 4.3; Worrall et al., "Harmonic Networks", 2017.
    """

    def __init__(
        self,
        in_type: FieldTypeLike,
        *,
        activation: Activation = torch.relu,
        scalar_activation: Activation = torch.relu,
        beta: float = 0.1,
        eps: float = 1e-3,
    ) -> None:
        super().__init__(in_type)
        scalars = [term for term in self.in_type if term.is_even_scalar]
        _check_activation("NormActivation: scalar_activation", scalar_activation, scalars)
        self.activation, self.scalar_activation, self.eps = activation, scalar_activation, eps
        self._copies = [term.multiplicity for term in self.in_type if not term.is_even_scalar]
        self.beta = nn.Parameter(torch.full((sum(self._copies),), beta)) if self._copies else None

    def forward(self, fields: Tensor) -> Tensor:
        """(batch, channel, *space) -> the same shape."""
        self.check(fields)
        betas = iter(() if self.beta is None else torch.split(self.beta, self._copies))
        parts = [
            self.scalar_activation(part) if term.is_even_scalar else self._shrink(part, next(betas), term)
            for term, part in zip(self.in_type, split_terms(fields, self.in_type), strict=True)
        ]
        return torch.cat(parts, 1)

    def _shrink(self, part: Tensor, beta: Tensor, term: Term) -> Tensor:
        flat = voxels_last(part)
        # (batch, copy, component, voxel)
        copies = flat.reshape(part.shape[0], term.multiplicity, term.dimension, flat.shape[2])
        wide = copies.to(torch.promote_types(part.dtype, torch.float32))
        length = wide.square().sum(2, keepdim=True).clamp_min(self.eps**2).sqrt()  # (batch, copy, 1, voxel)
        factor = self.activation(length - beta[:, None, None]) / length
        return (copies * factor.to(part.dtype)).reshape(part.shape)  # (batch, channel, *space)


def _check_activation(name: str, activation: Activation, terms: Sequence[Term]) -> None:
    """Raise ValueError if a function of scalars changes its input in place or, for odd scalars, is not odd.

    terms: what it acts on. A function that holds tensors is tried only where these can be read.
    """
    own = [*activation.parameters(), *activation.buffers()] if isinstance(activation, nn.Module) else []
    if not terms or any(type(tensor) not in (Tensor, nn.Parameter) or tensor.is_meta for tensor in own):
        return
    like = own[0] if own else None
    changed, oddity = outside_modes(lambda: _tried(copy.deepcopy(activation), terms[0].multiplicity, like))
    if changed:
        raise ValueError(f"{name} changes its input in place, which the layer before may need. Use one that does not.")
    if terms[0].is_odd_scalar and not oddity < 1e-4:
        raise ValueError(
            f"{name} acts on pseudoscalars, so it must be odd, f(-s) = -f(s), but differs from that by {oddity:.2g}. "
            "Use for example torch.tanh, or leave the odd scalars out of the field type."
        )


@torch.no_grad()
def _tried(activation: Activation, multiplicity: int, like: Tensor | None) -> tuple[bool, float]:
    """Whether a function changes its input, and how far f(-s) is from -f(s), relative to f, over |s| <= 4."""
    points = torch.linspace(-4, 4, 33, dtype=torch.float32, device="cpu").reshape(33, 1, 1, 1, 1)
    points = (points if like is None else points.to(like)).repeat(1, multiplicity, 1, 1, 1)
    given = points.clone()
    values = activation(given)
    changed = not torch.equal(given, points)
    difference = (values + values.flip(0)).double().abs().max()
    return changed, float(difference / values.double().abs().max().clamp_min(1e-6))


class _GateAndJoin(torch.autograd.Function):
    """Scalars as they are and other fields times the sigmoid of their gates, joined along the channels.

    shapes: for every part (multiplicity, 2 degree + 1) if it is gated, None if not.
    Returns (joined, sigmoid of the gates); what the gradient needs is in these two outputs alone.
    """

    @staticmethod
    def forward(shapes: Shapes, gates: Tensor, *parts: Tensor) -> tuple[Tensor, Tensor]:
        sigmoid = gates.sigmoid()
        return torch.cat(_gated(shapes, sigmoid, parts), 1), sigmoid

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
        ctx.shapes = inputs[0]
        ctx.sizes = [part.shape[1] for part in inputs[2:]]
        ctx.save_for_backward(*output)

    @staticmethod
    def backward(ctx: Any, grad: Tensor, grad_sigmoid: Tensor) -> tuple[Tensor | None, ...]:
        joined, sigmoid = ctx.saved_tensors
        parts, grads = torch.split(joined, ctx.sizes, 1), torch.split(grad, ctx.sizes, 1)
        products = [  # sum_m y_m dL/dy_m: (batch, copy, *space)
            (_copies(grad_part, shape) * _copies(part, shape)).sum(2)
            for shape, part, grad_part in zip(ctx.shapes, parts, grads, strict=True)
            if shape
        ]
        # grad_sigmoid is zero but in a second derivative
        grad_gates = (1 - sigmoid) * (torch.cat(products, 1) + sigmoid * grad_sigmoid)
        return None, grad_gates, *_gated(ctx.shapes, sigmoid, grads)


def _gated(shapes: Shapes, factors: Tensor, parts: Sequence[Tensor]) -> list[Tensor]:
    """Every gated part times the factor of its copy, (batch, copy of all gated parts, *space); the others as they
    are."""
    openings = iter(torch.split(factors, [shape[0] for shape in shapes if shape], 1))
    return [
        (_copies(part, shape) * next(openings).unsqueeze(2)).reshape(part.shape) if shape else part
        for shape, part in zip(shapes, parts, strict=True)
    ]


def _copies(part: Tensor, shape: tuple[int, int]) -> Tensor:
    """(batch, channel, *space) -> (batch, copy, component, *space)."""
    return part.reshape(part.shape[0], *shape, *part.shape[2:])
