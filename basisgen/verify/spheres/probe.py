"""Runs the code of a package's layers between fields on the sphere and tells what it computed.

    python -I -S -B probe.py PIPE MEMORY SECONDS DIRECTORY SITE...

As volumes/probe.py, whose limits and form of the answer it takes. Nothing here judges.
"""

import importlib
import importlib.util
import json
import os
import sys
from pathlib import Path
from typing import Any


def main(directory: Path) -> tuple[dict[str, Any], bytes]:
    """Applies every layer in float64 to the given fields, with the given weights."""
    task = json.loads((directory / "task.json").read_text())
    package = importlib.import_module(f"generated.{task['package']}")
    import torch
    from safetensors.torch import load_file, save

    inputs = load_file(directory / "inputs.safetensors")
    outputs: dict[str, Any] = {}
    for name, kind in task["layers"].items():
        fields = [inputs[f"{name}.{k}"] for k in range(2) if f"{name}.{k}" in inputs]
        with torch.no_grad():
            if kind in ("linear", "zonal", "sphere_conv", "rotation_conv"):
                module = getattr(package, name)(dtype=torch.float64)
                for key, parameter in module.named_parameters():
                    parameter.copy_(inputs[f"{name}.{key}"])
                outputs[name] = module(*fields)
            elif kind == "transform":
                module = getattr(package, name)()
                outputs[name], outputs[f"{name}.analysis"] = module(fields[0]), module.analysis(fields[1])
            else:
                module = getattr(package, name)().double()
                for key, parameter in module.named_parameters():  # of a projection
                    parameter.copy_(inputs[f"{name}.{key}"])
                outputs[name] = module(*fields)
    return {}, save({name: value.contiguous() for name, value in outputs.items()})


if __name__ == "__main__":
    beside = Path(__file__).parents[1] / "volumes" / "probe.py"
    spec = importlib.util.spec_from_file_location("probe_of_volumes", beside)
    assert spec is not None and spec.loader is not None
    common = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(common)
    pipe, memory, seconds, place, *sites = sys.argv[1:]
    common.limit(int(memory), int(seconds))
    os.set_inheritable(int(pipe), False)
    sys.path[:0] = [place, *sites]
    for ours in ("basisgen", "basisgen_runtime", "runtime"):
        sys.modules[ours] = None  # type: ignore[assignment]  # importing them is an error
    try:
        found = main(Path(place))
    except BaseException as error:
        found = {"error": f"{type(error).__name__}: {error}"}, b""
    common.answer(int(pipe), *found)
