"""The structure the README promises: imports point one way, and importing is light."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import basisgen

ROOT = Path(basisgen.__file__).parent
ORDER = ["errors", "algebra", "so3", "kernels", "sampling", "spec", "emission", "pipeline", "cli"]
# on the side: all but `verify` and `recompile` serve people; `verify` trusts nothing but the errors
AFTER = {
    "show": "emission",
    "compare": "emission",
    "verify": "errors",
    "report": "emission",
    "testing": "pipeline",
    "recompile": "pipeline",
    "tune": "pipeline",
    "plan_table": "emission",
    "columns": "errors",
    "new": "spec",
    "completion": "spec",
}


def _modules() -> dict[str, ast.Module]:
    paths = [path for path in ROOT.rglob("*.py") if "templates" not in path.parts]
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


def _stage(module: str) -> int | None:
    part = module.split(".")[1] if "." in module else ""
    if part in ORDER:
        return ORDER.index(part)
    return ORDER.index(AFTER[part]) if part in AFTER else None


def test_imports_point_one_way() -> None:
    for module, targets in _graph().items():
        for target in targets:
            if _stage(target) is not None and _stage(module) is not None:
                assert _stage(target) <= _stage(module), f"{module} imports {target}, against the order {ORDER}"


def test_every_module_has_its_place() -> None:
    for module in _graph():
        if module.count(".") and not module.endswith("__init__"):
            assert _stage(module) is not None, f"{module} is in no stage: add it to ORDER or AFTER"


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

    assert "basisgen.kernels.solver" not in reachable("basisgen.kernels.proof")
    assert "basisgen.kernels.proof" not in reachable("basisgen.kernels.solver")


def test_runtime_imports_neither_the_compiler_nor_what_it_made() -> None:
    for path in (ROOT.parent / "runtime").rglob("*.py"):
        roots = {name.split(".")[0] for name in _imports(ast.parse(path.read_text()))}
        assert not roots & {"basisgen", "generated"}, path


def test_generated_code_imports_torch_and_safetensors_alone() -> None:
    allowed = {"torch", "safetensors", "collections", "functools", "pathlib", "typing"}
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
