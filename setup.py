"""The packages of the wheel: `basisgen`, and `runtime/` under the name `basisgen_runtime`.

`runtime` is too general a name to install: it would shadow a user's own, or be shadowed by it. All else is in
pyproject.toml.
"""

from setuptools import find_packages, setup

runtime = [f"basisgen_{name}" for name in find_packages(include=["runtime", "runtime.*"])]
setup(
    packages=[*find_packages(include=["basisgen", "basisgen.*"]), *runtime], package_dir={"basisgen_runtime": "runtime"}
)
