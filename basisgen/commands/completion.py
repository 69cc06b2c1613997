"""What the shell completes after a Tab: packages, radial families, ways of execution.

Switched on by `eval "$(_BASISGEN_COMPLETE=bash_source basisgen)"`, or zsh_source, or fish_source.
"""

from __future__ import annotations

from pathlib import Path

from click import Context, Parameter
from click.shell_completion import CompletionItem


def packages(context: Context, parameter: Parameter, incomplete: str) -> list[CompletionItem]:
    """Directories that hold a package, under the one typed so far and under generated/; else any directory."""
    typed = Path(incomplete) if incomplete.endswith("/") else Path(incomplete).parent
    found = {str(path.parent) for place in (typed, Path("generated")) for path in place.glob("*/manifest.json")}
    fitting = sorted(name for name in found if name.startswith(incomplete))
    return [CompletionItem(name) for name in fitting] or [CompletionItem(incomplete, type="dir")]


def families(context: Context, parameter: Parameter, incomplete: str) -> list[str]:
    """The radial families."""
    from basisgen.volumes.sampling.registry import FAMILIES

    return [name for name in FAMILIES if name.startswith(incomplete)]


def executions(context: Context, parameter: Parameter, incomplete: str) -> list[str]:
    """The ways a generated convolution may run."""
    from basisgen.volumes.execution import Execution

    return [choice.value for choice in Execution if choice.value.startswith(incomplete)]
