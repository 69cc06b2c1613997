"""basisgen: a compiler from exact, proved bases of rotation-equivariant layers to PyTorch modules.

The stages, one sub-package each, import in one direction only:

    errors < reading < algebra < so3 < couplings < layer < volumes | spheres
           < spec < emission < pipeline < commands < cli

`basisgen.pipeline` is the recipe to read first.
"""

__version__ = "0.1.0"
