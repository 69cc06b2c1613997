"""Products of fields by a Triton kernel, on a GPU where `basisgen tune` measured it to be faster than stock torch.

    product    out[o] = sum of c x[a] y[b]                             entries sorted by o
    gradients  gx[a]  = sum of c g[o] y[b],   gy[b] = sum of c g[o] x[a]         by a, by b

All three are one sum over products of two rows, with the table's columns exchanged: one kernel, `_triton`. Of one field
with itself both gradients are one table, sorted by the row of the field. Entries of the same three rows are added.
Triton comes with torch on CUDA; where it is not there, or does not run, stock torch does the work.
"""

import functools
from collections.abc import Callable

import torch
from torch import Tensor

from ._product import Table, Way

OUT, FIRST, SECOND = range(3)
# (row + 1): where a row starts; then of each entry its left row, its right row, its value
Entries = tuple[Tensor, Tensor, Tensor, Tensor]


class TritonProducts(Way):
    """The table sorted by each of its rows."""

    def __init__(self, table: Table, dtype: torch.dtype, device: str) -> None:
        super().__init__(table, dtype, device)
        self.widest = 2 * (table.first.rows + table.second.rows + table.out.rows)
        self._dtype, self._device = dtype, device

    @classmethod
    @functools.cache
    def runs_on(cls, device: str) -> bool:
        """Whether Triton is there, and right about 5 * 2 * 3 + 7 * 3 * 3."""
        field = torch.tensor([[2.0], [3.0]], device=device)
        rows, value = torch.tensor([[0, 0], [0, 1], [1, 1]]), torch.tensor([5.0, 7.0])
        try:
            return _sums(field, field, _sorted(rows, [1, 2, 2], value, field.dtype, device)).item() == 93
        except Exception:  # no Triton, no driver, no compiler, no place for what it compiles: there is stock torch
            return False

    def products(self, a: Tensor, b: Tensor | None) -> Tensor:
        """See Way."""
        return _sums(a, a if b is None else b, self._by_out)

    def gradients(self, gradient: Tensor, a: Tensor, b: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """See Way."""
        if b is None:
            return _sums(gradient, a, self._by_either), None
        return _sums(gradient, b, self._by_first), _sums(gradient, a, self._by_second)

    @functools.cached_property
    def _by_out(self) -> Entries:
        return self._entries((OUT, FIRST, SECOND))

    @functools.cached_property
    def _by_first(self) -> Entries:
        return self._entries((FIRST, OUT, SECOND))

    @functools.cached_property
    def _by_second(self) -> Entries:
        return self._entries((SECOND, OUT, FIRST))

    @functools.cached_property
    def _by_either(self) -> Entries:
        return self._entries((FIRST, OUT, SECOND), (SECOND, OUT, FIRST))

    def _entries(self, *turns: tuple[int, int, int]) -> Entries:
        """The table, its rows exchanged; of several exchanges all entries together."""
        table = self.table
        rows = torch.stack([table.out_row, table.first_row, table.second_row])
        sizes = [field.rows for field in (table.out, table.first, table.second)]
        turned = torch.cat([rows[list(turn)] for turn in turns], 1)
        value = table.value.repeat(len(turns))
        return _sorted(turned, [sizes[of] for of in turns[0]], value, self._dtype, self._device)


def _sorted(rows: Tensor, sizes: list[int], value: Tensor, dtype: torch.dtype, device: str) -> Entries:
    """Entries of (to, left, right) rows, sorted by these; those of the same three are one."""
    to, left, right = sizes
    number, which = torch.unique((rows[0] * left + rows[1]) * right + rows[2], return_inverse=True)
    values = value.new_zeros(len(number)).index_add_(0, which, value)
    start = torch.searchsorted(number, torch.arange(to + 1) * (left * right))
    start, first, second = (part.int().to(device) for part in (start, number // right % left, number % right))
    return start, first, second, values.to(device, dtype)


def _sums(first: Tensor, second: Tensor, entries: Entries) -> Tensor:
    return _kernel()(first, second, *entries)


@functools.cache
def _kernel() -> Callable[..., Tensor]:
    """Imports Triton, which takes half a second, where it is first needed; raises ImportError where it is not there."""
    from ._triton import sums

    return sums
