"""Runs a package's own code and writes down what it computed: `python -I -S -B probe.py DIRECTORY SITE...`.

DIRECTORY holds generated/PACKAGE, task.json and inputs.safetensors, and receives outputs.safetensors and facts.json.
SITE are the directories of installed packages. Nothing here judges.
"""

import importlib
import json
import sys
from pathlib import Path


def main(directory: Path) -> None:
    """Builds every convolution in float64 with the given weights and applies it to the given volumes."""
    import torch
    from safetensors.torch import load_file, save_file

    task = json.loads((directory / "task.json").read_text())
    inputs = load_file(directory / "inputs.safetensors")
    package = importlib.import_module(f"generated.{task['package']}")
    outputs, facts = {}, {}
    for name, runs in task["layers"].items():
        state = {key: inputs[f"{name}.{key}"] for key in ("weight", "bias") if f"{name}.{key}" in inputs}
        for k, run in enumerate(runs):
            module = getattr(package, name)(**run, dtype=torch.float64)
            module.load_state_dict(state)
            with torch.no_grad():
                volume = inputs[f"{name}.volume.{k}"][None]
                outputs[f"{name}.output.{k}"] = module(volume)[0].contiguous()
        with torch.no_grad():
            outputs[f"{name}.kernel"] = module.kernel().contiguous()
            outputs[f"{name}.conv3d"] = module.to_conv3d()(volume)[0].contiguous()
        facts[name] = {key: getattr(module, key) for key in ("in_type", "out_type", "kernel_size", "dilation")}
        facts[name]["state"] = {key: list(value.shape) for key, value in module.state_dict().items()}
    save_file(outputs, directory / "outputs.safetensors")
    (directory / "facts.json").write_text(json.dumps(facts))


if __name__ == "__main__":
    sys.path[:0] = sys.argv[1:]
    sys.modules["basisgen"] = sys.modules["runtime"] = None  # type: ignore[assignment]  # importing them is an error
    main(Path(sys.argv[1]))
