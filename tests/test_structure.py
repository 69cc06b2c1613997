"""The structure the README promises: imports point one way, and importing is light."""

from __future__ import annotations

import ast
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

import basisgen

ROOT = Path(basisgen.__file__).parent
SPINE = (
    *("errors", "text", "files", "parallel", "reading", "algebra", "so3", "couplings", "layer", "tuning"),
    *("volumes", "spheres", "spec", "emission", "pipeline", "testing", "commands", "cli", "__main__"),
)
STRANGERS = (("volumes", "spheres"),)  # neither imports the other
ALONE = {"verify": {"verify", "errors"}}  # a room that trusts nothing but these


@cache
def _modules() -> dict[str, ast.Module]:
    paths = [path for path in ROOT.rglob("*.py") if not {"templates", "sources"} & set(path.parts)]
    return {
        ".".join(path.relative_to(ROOT.parent).with_suffix("").parts): ast.parse(path.read_text()) for path in paths
    }


def _imports(tree: ast.Module) -> set[str]:
    names = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
        elif isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
    return names


def _graph() -> dict[str, set[str]]:
    modules = _modules()
    return {name: {target for target in _imports(tree) if target in modules} - {name} for name, tree in modules.items()}


def _room(module: str) -> str:
    return module.split(".")[1] if "." in module else ""


def _broken_rules(graph: dict[str, set[str]]) -> list[str]:
    """Every import against the order of the spine, between strangers, or out of a room that stands alone."""
    broken = []
    for module, targets in graph.items():
        here = _room(module)
        for there in {_room(target) for target in targets} - {""}:
            if here in ALONE:
                wrong = there not in ALONE[here]
            elif here in SPINE and there in SPINE:
                wrong = SPINE.index(there) > SPINE.index(here) or (here, there) in STRANGERS + _reversed(STRANGERS)
            else:
                wrong = there in ALONE and here not in ("commands", "cli", "testing")
            if wrong:
                broken.append(f"{module} imports from {there}")
    return broken


def _reversed(pairs: tuple[tuple[str, str], ...]) -> tuple[tuple[str, str], ...]:
    return tuple((b, a) for a, b in pairs)


def test_imports_point_one_way() -> None:
    assert _broken_rules(_graph()) == []


@pytest.mark.parametrize(
    ("module", "target"),
    [
        ("basisgen.so3.harmonics", "basisgen.spec"),
        ("basisgen.volumes.conv", "basisgen.spheres.product"),
        ("basisgen.spheres.product", "basisgen.volumes.conv"),
        ("basisgen.verify.checker", "basisgen.algebra.linear"),
        ("basisgen.emission.render", "basisgen.verify.checker"),
    ],
)
def test_a_planted_import_against_the_order_is_found(module: str, target: str) -> None:
    assert _broken_rules({**_graph(), module: {target}}) != []


def test_every_module_has_its_room() -> None:
    for module in _graph():
        if module.count(".") and not module.endswith("__init__"):
            assert _room(module) in {*SPINE, *ALONE}, f"{module} is in no room: add it to SPINE or ALONE"


def test_there_is_no_import_cycle() -> None:
    graph = {module: set(targets) for module, targets in _graph().items()}
    while free := [module for module, targets in graph.items() if not targets & graph.keys()]:
        for module in free:
            del graph[module]
    assert not graph, f"import cycle among {sorted(graph)}"


def test_solver_and_proof_are_strangers() -> None:
    graph = _graph()

    def reachable(module: str) -> set[str]:
        found, queue = set(), [module]
        while queue:
            for target in graph[queue.pop()] - found:
                found.add(target)
                queue.append(target)
        return found

    assert "basisgen.volumes.kernels.solver" not in reachable("basisgen.volumes.kernels.proof")
    assert "basisgen.volumes.kernels.proof" not in reachable("basisgen.volumes.kernels.solver")


def test_runtime_imports_neither_the_compiler_nor_what_it_made() -> None:
    for path in (ROOT.parent / "runtime").rglob("*.py"):
        roots = {name.split(".")[0] for name in _imports(ast.parse(path.read_text()))}
        assert not roots & {"basisgen", "generated"}, path


def test_runtime_imports_itself_by_relative_names_so_that_it_works_under_any() -> None:
    for path in (ROOT.parent / "runtime").rglob("*.py"):
        roots = {name.split(".")[0] for name in _imports(ast.parse(path.read_text()))}
        assert not roots & {"runtime", "basisgen_runtime"}, path


def test_generated_code_imports_torch_and_safetensors_alone() -> None:
    allowed = {"torch", "safetensors", *sys.stdlib_module_names}
    for path in (ROOT.parent / "generated").rglob("*.py"):
        assert {name.split(".")[0] for name in _imports(ast.parse(path.read_text()))} <= allowed, path


def test_importing_basisgen_and_its_help_load_neither_torch_nor_matplotlib() -> None:
    code = (
        "import sys, basisgen, basisgen.cli\n"
        "try: basisgen.cli.main(['--help'])\n"
        "except SystemExit: pass\n"
        "assert not {'torch', 'matplotlib', 'sympy', 'scipy'} & set(sys.modules), 'heavy import'\n"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    assert "Usage" in result.stdout
