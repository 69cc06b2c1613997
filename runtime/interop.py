"""Fields, types and weights to e3nn and from it.

Components, phases and the order of channels are e3nn's, so features need no conversion but the place of the channel
axis: volumes here are (batch, channel, x, y, z), e3nn's modules take the channels last.

A field type with parities is an irreps string. One without (group SO(3)) has no e3nn spelling; it becomes all `e`: what
inversion leaves alone. e3nn then allows the same paths as SO(3) does, and the same weights mean the same map. (Write
`1o` for a vector that a mirror image reverses: then the type has parities here too.)

Exact, up to rounding: irreps, features, `Linear` both ways, and the kernel of e3nn's voxel convolution. Not exact in
general: that kernel as the weights of a generated convolution, whose radial profiles are others; `fit_kernel` gives the
closest weights and says how close they are.

Coefficients of signals on the sphere are e3nn's too; `to_complex` and the like convert to those of scipy, pyssht, s2fft
and torch-harmonics.

e3nn is imported only where one of its modules is made.
"""

import copy
from typing import Any

import torch
from torch import Tensor, nn

from .fields import FieldType, FieldTypeLike, as_field_type, channel_count
from .linear import Linear
from .spheres.conventions import (
    from_complex,
    from_s2fft,
    from_torch_harmonics,
    to_complex,
    to_s2fft,
    to_torch_harmonics,
)

__all__ = [
    "features_from_e3nn",
    "features_to_e3nn",
    "fit_kernel",
    "from_complex",
    "from_e3nn",
    "from_s2fft",
    "from_torch_harmonics",
    "kernel_from_e3nn",
    "linear_from_e3nn",
    "linear_to_e3nn",
    "to_complex",
    "to_e3nn",
    "to_s2fft",
    "to_torch_harmonics",
]


def to_e3nn(field_type: FieldTypeLike) -> str:
    """The irreps string of a field type; types without parity become all `e`.

    Raises ValueError if the field type cannot be read.
    """
    terms = as_field_type(field_type)
    return " + ".join(str(term) if term.parity else f"{term}e" for term in terms)


def from_e3nn(irreps: object, *, parity: bool = True) -> FieldType:
    """The field type of an irreps string or an `e3nn.o3.Irreps`; terms of multiplicity 0 are left out.

    parity: keep the letters; False gives the fields of SO(3), which is how rotations alone see the same features.

    Raises ValueError if the string cannot be read or nothing is left.
    """
    words = [word.strip() for word in str(irreps).split("+")]
    text = " + ".join(word for word in words if not word.startswith("0x"))
    terms = as_field_type(text)
    return terms if parity else tuple(term._replace(parity=None) for term in terms)


def features_to_e3nn(fields: Tensor) -> Tensor:
    """(batch, channel, *space) -> (batch, *space, channel), a view."""
    return fields.movedim(1, -1)


def features_from_e3nn(features: Tensor) -> Tensor:
    """(batch, *space, channel) -> (batch, channel, *space), a view."""
    return features.movedim(-1, 1)


def linear_to_e3nn(linear: Linear) -> Any:
    """The same map as an `e3nn.o3.Linear`: W_e3nn = W^T / sqrt(fan-in), path by path, exact up to rounding.

    Needs e3nn.
    """
    from e3nn import o3

    theirs = o3.Linear(to_e3nn(linear.in_type), to_e3nn(linear.out_type), biases=linear.bias is not None)
    theirs = theirs.to(linear.weights[0])
    with torch.no_grad():
        for ours, view, path_weight in _paired(linear, theirs):
            view.copy_(ours.mT / path_weight)
        if linear.bias is not None:
            theirs.bias.copy_(linear.bias)
    return theirs


def linear_from_e3nn(theirs: Any, *, parity: bool = True) -> Linear:
    """The same map as a `Linear`: W = sqrt(fan-in) W_e3nn^T, path by path; a missing path is zero.

    parity: as in `from_e3nn`. Its weights must be internal (`internal_weights`), without f_in and f_out.

    Raises ValueError if the weights are not internal or there are several sets of them (f_in, f_out), or if an output
    has no input of its irrep, which is always zero in e3nn: leave it out.
    """
    if tuple(theirs.weight.shape) != (theirs.weight_numel,):
        raise ValueError(
            f"linear_from_e3nn takes an o3.Linear with internal weights, without f_in and f_out; this one has "
            f"weights of shape {tuple(theirs.weight.shape)} where a map has {theirs.weight_numel}. "
            "Convert each of its maps as a layer without f_in."
        )
    in_type, out_type = (from_e3nn(irreps, parity=parity) for irreps in (theirs.irreps_in, theirs.irreps_out))
    linear = Linear(in_type, out_type, bias=theirs.bias_numel > 0).to(theirs.weight)
    with torch.no_grad():
        for weight in linear.weights:
            weight.zero_()
        for ours, view, path_weight in _paired(linear, theirs):
            ours.copy_(view.mT * path_weight)
        if linear.bias is not None:
            biased = {ins.i_out for ins in theirs.instructions if ins.i_in == -1}
            scalars = [(i, mul) for i, (mul, irrep) in enumerate(theirs.irreps_out) if irrep.is_scalar()]
            given = iter(torch.split(theirs.bias, [mul for i, mul in scalars if i in biased]))
            zero = theirs.bias.new_zeros
            linear.bias.copy_(torch.cat([next(given) if i in biased else zero(mul) for i, mul in scalars]))
    return linear


def kernel_from_e3nn(convolution: Any) -> Tensor:
    """The dense kernel of e3nn's voxel convolution (`e3nn.nn.models.v2104`), its self-connection at the centre tap.

    Returns (channel out, channel in, x, y, z): the weight of an `nn.Conv3d` without bias that is the same map.
    """
    with torch.no_grad():
        kernel: Tensor = convolution.kernel().clone()
        x, y, z = (size // 2 for size in kernel.shape[2:])
        kernel[:, :, x, y, z] += convolution.sc(torch.eye(kernel.shape[1]).to(kernel)).mT
    return kernel


def fit_kernel(conv: nn.Module, kernel: Tensor) -> float:
    """Give a generated convolution the weights whose kernel is closest to a given one; the bias is left alone.

    kernel: (channel out, channel in, x, y, z), from any library with the same components, e3nn's.

    Returns |kernel() - kernel| / |kernel|, over all entries: 0 up to rounding where the given kernel is a combination
    of the convolution's own (one made with the same radial profiles; any equivariant one of a single tap).
    Raises ValueError if the shapes differ.
    """
    exact: Any = copy.deepcopy(conv).double().requires_grad_(False)
    goal = kernel.detach().to(exact.weight)
    if exact.kernel().shape != goal.shape:
        raise ValueError(
            f"{type(conv).__name__} has a kernel {tuple(exact.kernel().shape)}, the given one is {tuple(goal.shape)}. "
            "Compile a convolution with the same field types, in the same order, and kernel size."
        )
    best = torch.zeros_like(exact.weight)
    for pair, columns in _columns(exact).items():
        basis = []  # of the kernels between one copy and another
        for column in columns:
            exact.weight.zero_()[column.start] = 1
            basis.append(_block(exact.kernel(), exact, pair)[0])
        fitted = torch.linalg.lstsq(torch.stack(basis, 1), _block(goal, exact, pair).mT).solution
        for column, weights in zip(columns, fitted, strict=True):
            best[column] = weights
    with torch.no_grad():
        exact.weight.copy_(best)
        conv.get_parameter("weight").copy_(best)
    return float((exact.kernel() - goal).norm() / goal.norm())


Pair = tuple[int, int]  # (term out, term in)


def _paired(linear: Linear, theirs: Any) -> list[tuple[Tensor, Tensor, float]]:
    """Views of the weights of every path: ours (copy out, copy in), theirs (copy in, copy out), and e3nn's factor."""
    paths, first = [], 0
    for instruction in theirs.instructions:
        if instruction.i_in < 0:  # a bias; these come last
            continue
        multiplicity_in, multiplicity_out = instruction.path_shape
        view = theirs.weight[first : first + multiplicity_in * multiplicity_out].view(multiplicity_in, multiplicity_out)
        first += view.numel()
        irrep = theirs.irreps_in[instruction.i_in].ir
        before = sum(mul for mul, other in theirs.irreps_in[: instruction.i_in] if other == irrep)
        ours = linear.weights[instruction.i_out][:, before : before + multiplicity_in]
        paths.append((ours, view, float(instruction.path_weight)))
    return paths


def _columns(conv: Any) -> dict[Pair, list[slice]]:
    """The weights of every pair of terms: one slice (copy out * copy in) for each J and profile."""
    columns: dict[Pair, list[slice]] = {}
    for block in conv.blocks():
        size = block.multiplicity_out * block.multiplicity_in
        for first in range(block.weights.start, block.weights.stop, size):
            columns.setdefault((block.out, block.into), []).append(slice(first, first + size))
    return columns


def _block(kernel: Tensor, conv: Any, pair: Pair) -> Tensor:
    """The part of a kernel between two terms: (copy out * copy in, entry), entries m, n and taps."""
    ends = zip(pair, (as_field_type(conv.out_type), as_field_type(conv.in_type)), strict=True)
    for axis, (index, terms) in enumerate(ends):
        kernel = kernel.narrow(2 * axis, channel_count(terms[:index]), terms[index].channels)
        kernel = torch.unflatten(kernel, 2 * axis, (terms[index].multiplicity, terms[index].dimension))
    return kernel.transpose(1, 2).flatten(2).flatten(0, 1)  # (copy out * copy in, entry)
