"""The runtime needs torch alone, and importing it is light."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import runtime

FOLDER = Path(runtime.__file__).parent
# the training loop has the libraries of the `train` extra, the strategies those of `test`, e3nn is for who has it
TRAINING = {"train", "train_config", "checkpoint", "batches"}
LAYERS = sorted(path for path in FOLDER.glob("*.py") if path.stem not in TRAINING | {"strategies", "interop"})


def imported_packages(path):
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0:  # others stay inside the runtime
            names.add(node.module)
    return {name.split(".")[0] for name in names}


@pytest.mark.parametrize("path", LAYERS, ids=lambda path: path.stem)
def test_layers_import_torch_only(path):
    assert imported_packages(path) <= {"torch"} | set(sys.stdlib_module_names)


def test_importing_the_runtime_is_light():
    code = "import runtime, sys; print(*sys.modules)"
    modules = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=FOLDER.parent
    )
    assert not {"torch._dynamo", "torch._inductor"} & set(modules.stdout.split())  # a second each
    loaded = {name.split(".")[0] for name in modules.stdout.split()}
    assert not loaded & {"basisgen", "generated", "e3nn", "lightning", "matplotlib", "hypothesis", "scipy", "onnx"}
    assert "torch" in loaded


def test_every_public_name_exists():
    assert all(hasattr(runtime, name) for name in runtime.__all__)
