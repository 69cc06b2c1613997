"""basisgen: exact, proved and sampled bases of rotation-equivariant convolution kernels, emitted as PyTorch.

The stages, one sub-package each, import in one direction only:

    errors < algebra < so3 < kernels < sampling < spec < emission < pipeline < cli

`basisgen.pipeline` is the recipe to read first.
"""

__version__ = "0.1.0"
