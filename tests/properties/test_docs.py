"""The example of docs/property-testing.md runs as it stands, and can fail."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import torch

from basisgen.spec import parse_layer

PAGE = Path(__file__).parent.parent.parent / "docs" / "property-testing.md"


def _example() -> dict[str, Any]:
    (code,) = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
    namespace: dict[str, Any] = {}
    exec(compile(code, str(PAGE), "exec"), namespace)  # the page is ours
    return namespace


@pytest.mark.slow
def test_the_example_passes() -> None:
    _example()["test_my_block"]()


def test_the_example_fails_for_a_block_that_is_not_equivariant() -> None:
    example = _example()
    layer = parse_layer({"name": "Conv", "in": "0e + 1o", "out": "0e + 1o", "kernel_size": 3, "gated": True})

    def lopsided(conv: torch.nn.Module) -> torch.nn.Module:
        block = example_block(conv)
        block.register_forward_hook(lambda module, inputs, output: output * torch.linspace(1, 2, output.shape[-1]))
        return block

    example_block, example["GatedBlock"] = example["GatedBlock"], lopsided
    with pytest.raises(AssertionError, match="not equivariant"):
        example["test_my_block"].hypothesis.inner_test(layer)
