"""In a checkout, the directory `runtime/` under the name that it has once installed: the same modules under both.

So a class is there once, whichever name it was imported by. No wheel holds this file: there `basisgen_runtime` is the
directory itself.
"""

import sys
from collections.abc import Sequence
from importlib import import_module
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType

import runtime


class _SameModule(MetaPathFinder, Loader):
    """Answers for `basisgen_runtime.NAME` with the module `runtime.NAME`, which stays as it is."""

    def find_spec(self, name: str, path: Sequence[str] | None, target: ModuleType | None = None) -> ModuleSpec | None:
        return ModuleSpec(name, self) if name.startswith(f"{__name__}.") else None

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        module = import_module(runtime.__name__ + spec.name.removeprefix(__name__))
        spec.loader_state = module.__spec__  # importing replaces it
        return module

    def exec_module(self, module: ModuleType) -> None:
        assert module.__spec__ is not None
        module.__spec__ = module.__spec__.loader_state


sys.meta_path.insert(0, _SameModule())
sys.modules[__name__] = runtime
