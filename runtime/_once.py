"""One copy of the runtime in a process, whatever its name: `basisgen_runtime` installed, `runtime` in a checkout.

Two copies would have every class twice, and no `isinstance` would know the classes of the other.
"""

import sys
from pathlib import Path

_OTHER = {"runtime": "basisgen_runtime", "basisgen_runtime": "runtime"}.get(str(__package__))
_first = sys.modules.get(f"{_OTHER}._once")
if _first is not None:
    raise ImportError(
        f"cannot import {__package__} from {Path(__file__).parent}: {_OTHER} is imported already, from "
        f"{Path(str(_first.__file__)).parent}, and a second copy would have every class twice. Use one of the two "
        "names in a process; with the checkout first on the path, both give the same modules."
    )
