"""Hypothesis strategies for fields: random field types, rotations and smooth fields."""

import torch
from hypothesis import strategies as st
from torch import Tensor

from .fields import FieldType, FieldTypeLike, Term
from .so3 import random_rotations
from .testing import SmoothField


@st.composite
def field_types(
    draw: st.DrawFn,
    *,
    parity: bool | None = None,
    max_degree: int = 3,
    max_multiplicity: int = 3,
    max_terms: int = 4,
) -> FieldType:
    """Field types with parity, without, or (None) either; terms in any order, a degree possibly twice."""
    with_parity = draw(st.booleans()) if parity is None else parity
    letters = st.sampled_from((1, -1)) if with_parity else st.none()
    term = st.builds(Term, st.integers(1, max_multiplicity), st.integers(0, max_degree), letters)
    return tuple(draw(st.lists(term, min_size=1, max_size=max_terms)))


def rotations() -> st.SearchStrategy[Tensor]:
    """Uniform random rotations, float64 (3, 3)."""
    return st.builds(
        lambda seed: random_rotations(1, generator=torch.Generator().manual_seed(seed))[0], st.integers(0, 2**32 - 1)
    )


def smooth_fields(
    field_type: FieldTypeLike, *, min_wavelength: float = 6.0, max_wavelength: float = 24.0, width: float = 3.0
) -> st.SearchStrategy[SmoothField]:
    """Smooth fields of one type: wavelengths and width of the envelope in voxels."""
    return st.builds(
        lambda wavelength, seed: SmoothField.random(field_type, wavelength, width, seed=seed),
        st.floats(min_wavelength, max_wavelength),
        st.integers(0, 2**32 - 1),
    )
