"""Runs a package's own code and tells what it computed.

    python -I -S -B probe.py PIPE MEMORY SECONDS DIRECTORY SITE...

DIRECTORY holds generated/PACKAGE, task.json and inputs.safetensors. PIPE is the number of the handle that takes the
answer: the length of all that follows, the length of facts, facts as JSON, outputs as safetensors; lengths as uint64.
SITE are the directories of installed packages. Nothing here judges.
"""

import contextlib
import importlib
import json
import os
import resource
import sys
from pathlib import Path
from typing import Any

MAX_FILE_BYTES = 1 << 20
MAX_FILES = 256
ORDERS = ("cpu", "gpu")  # of the passes of a separable layer


def main(directory: Path) -> tuple[dict[str, Any], bytes]:
    """Builds every convolution in float64 with the given weights and applies it to the given volumes."""
    task = json.loads((directory / "task.json").read_text())
    package = importlib.import_module(f"generated.{task['package']}")
    import torch
    from safetensors.torch import load_file, save

    inputs = load_file(directory / "inputs.safetensors")
    outputs, facts = {}, {}
    for name, runs in task["layers"].items():
        state = {key: inputs[f"{name}.{key}"] for key in ("weight", "bias") if f"{name}.{key}" in inputs}
        for k, run in enumerate(runs):
            module = getattr(package, name)(**run, dtype=torch.float64)
            module.load_state_dict({**module.state_dict(), **state})
            with torch.no_grad():
                volume = inputs[f"{name}.volume.{k}"][None]
                outputs[f"{name}.output.{k}"] = module(volume)[0].contiguous()
        with torch.no_grad():
            outputs[f"{name}.kernel"] = module.kernel().contiguous()
            outputs[f"{name}.conv3d"] = module.to_conv3d()(volume)[0].contiguous()
            outputs |= {f"{name}.{order}": output[0].contiguous() for order, output in passes(module, volume).items()}
        facts[name] = {key: getattr(module, key) for key in ("in_type", "out_type", "kernel_size", "dilation")}
        facts[name]["state"] = {key: list(value.shape) for key, value in module.named_parameters()}
    return facts, save(outputs)


def passes(module: Any, volume: Any) -> dict[str, Any]:
    """The outputs by passes in the order of a CPU and of a GPU, whatever the volume; none of a dense layer."""
    layers = [kind for kind in type(module).__mro__ if kind.__name__ == "SeparableConv3d"]
    if not layers:
        return {}
    code: Any = sys.modules[layers[0].__module__]
    found = {}
    module.smallest, is_gpu = None, code._is_gpu
    for order in ORDERS:
        code._is_gpu = lambda tensor, order=order: order == "gpu"
        found[order] = module(volume)
    code._is_gpu = is_gpu
    return found


def limit(memory: int, seconds: int) -> None:
    """What the process may take from now on; limits that the system does not have are left out."""
    limits = {"CPU": seconds, "DATA": memory, "FSIZE": MAX_FILE_BYTES, "NOFILE": MAX_FILES, "CORE": 0}
    for name, most in limits.items():
        with contextlib.suppress(AttributeError, OSError, ValueError):
            resource.setrlimit(getattr(resource, f"RLIMIT_{name}"), (most, most))


def answer(pipe: int, facts: dict[str, Any], outputs: bytes) -> None:
    """Writes everything into the pipe."""
    text = json.dumps(facts).encode()
    body = len(text).to_bytes(8, "little") + text + outputs
    with open(pipe, "wb") as file:
        file.write(len(body).to_bytes(8, "little") + body)


if __name__ == "__main__":
    pipe, memory, seconds, place, *sites = sys.argv[1:]
    limit(int(memory), int(seconds))
    os.set_inheritable(int(pipe), False)
    sys.path[:0] = [place, *sites]
    for ours in ("basisgen", "basisgen_runtime", "runtime"):
        sys.modules[ours] = None  # type: ignore[assignment]  # importing them is an error
    try:
        found = main(Path(place))
    except BaseException as error:
        found = {"error": f"{type(error).__name__}: {error}"}, b""
    answer(int(pipe), *found)
