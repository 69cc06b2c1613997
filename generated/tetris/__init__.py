# Made by basisgen 0.1.0 with `basisgen compile tetris.toml`; do not edit.
"""tetris: 4 convolutions, equivariant to rotations, SO(3).

certificate.json holds the exact solution and what was proved of it, basis.safetensors the same in float64.
`basisgen verify` re-checks both, and every file against manifest.json.
"""

from .conv1 import Conv1
from .conv2 import Conv2
from .conv3 import Conv3
from .conv4 import Conv4

__all__ = [
    "Conv1",
    "Conv2",
    "Conv3",
    "Conv4",
]
