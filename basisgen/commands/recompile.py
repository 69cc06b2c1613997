"""What the compiler writes for the spec in a manifest, for `basisgen verify` to compare a package with.

Of a manifest only the spec is read, by the reader of TOML specs, and what `basisgen tune` measured, which nothing else
tells; everything else is derived. Kept outside `basisgen.verify`, which imports nothing of the compiler.
"""

from __future__ import annotations

import json
import re
import resource
import signal
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import basisgen
from basisgen.commands.effort import effort
from basisgen.errors import BasisgenError, EffortError, SpecError
from basisgen.pipeline import compile_package
from basisgen.reading import identifier, quoted
from basisgen.spec import MAX_LAYERS, PackageSpec, check_distinct, network_package, parse_layer
from basisgen.spheres.product_spec import ProductSpec
from basisgen.tuning import Tuning
from basisgen.volumes.conv_spec import ConvSpec
from basisgen.volumes.execution import Execution

BUDGET = 30  # seconds of an ordinary core, by estimate, that a check takes unasked
MAX_SECONDS = 2 * BUDGET  # of this processor, if the estimate was wrong
MAX_MEMORY = 4 << 30  # bytes

_SETTING = re.compile(
    r"[a-z]+(:\d{1,3})?(, [\d,]{1,9} threads?)?, [\d,]{1,9} volumes? of \d{1,4}x\d{1,4}x\d{1,4}, stride \d{1,4}, "
    r"float32, torch [0-9A-Za-z.+]{1,40}",
    re.ASCII,
)


_CURE = "Say `--long` to go on, however long it takes."


class _TookTooLong(BaseException):
    """The compiler's time is up; nothing on the way catches it."""


def recompile(manifest: Mapping[str, Any], *, long: bool = False) -> dict[str, bytes] | None:
    """Every file this compiler writes for the spec in a manifest; None if another version wrote the manifest.

    Unless it may take `long`, the time is estimated first. Raises EffortError where that is over the budget, before
    anything is computed, and SpecError where the manifest's spec is not one, or takes more memory than a check may.
    """
    try:
        with _limited(None if long else MAX_SECONDS):
            spec = spec_of(manifest)
            if spec is None:
                return None
            if not long:
                _check_effort(spec)
            return compile_package(spec)
    except _TookTooLong:
        raise EffortError(f"compiling it takes more than {MAX_SECONDS} seconds of CPU time. {_CURE}") from None
    except MemoryError:
        raise SpecError(f"compiling it takes more than {MAX_MEMORY >> 30} GiB of memory") from None
    except BasisgenError:
        raise
    except Exception as error:  # our bug; a package that cannot be compiled again is not verified
        raise SpecError(f"the compiler fails on it ({type(error).__name__}: {error})") from error


def _check_effort(spec: PackageSpec) -> None:
    seconds = effort(spec)
    total, longest = sum(seconds.values()), max(seconds, key=lambda name: seconds[name])
    if total > BUDGET:
        others = "" if total < 1.1 * seconds[longest] else f", and all {len(seconds)} layers about {total:.0f} seconds"
        raise EffortError(
            f"layer {longest!r} takes about {seconds[longest]:.0f} seconds to check{others}: that is more than the "
            f"{BUDGET} that a check takes unasked, so nothing was checked. {_CURE}"
        )


def spec_of(manifest: Mapping[str, Any]) -> PackageSpec | None:
    """The spec in a manifest; None if another version wrote it. Raises SpecError where it is not one."""
    if manifest.get("basisgen") != basisgen.__version__:
        return None
    try:
        return _spec(**{key: manifest.get(key) for key in ("name", "command", "network", "spec", "tuned")})
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise SpecError(f"{type(error).__name__}: {error}") from None


def free_layers(spec: PackageSpec, *, products: bool) -> tuple[ConvSpec | ProductSpec, ...]:
    """The layers whose way is open: `execution = "auto"`, and filters that are products; or `products` of fields."""
    return tuple(
        layer
        for layer in spec.layers
        if (isinstance(layer, ConvSpec) and layer.execution is Execution.AUTO and layer.radial.separable)
        or (isinstance(layer, ProductSpec) and products)
    )


def _spec(name: object, command: object, network: object, spec: object, tuned: object) -> PackageSpec:
    """The package; its command is one of the two that can have made it, never text from outside."""
    if not isinstance(spec, list) or not 0 < len(spec) <= MAX_LAYERS:
        raise SpecError(f"spec = {quoted(spec)} is not a list of 1 to {MAX_LAYERS} layers")
    layers = []
    for entry in spec:
        layers.append(parse_layer(entry))
        if json.dumps(layers[-1].describe()) != json.dumps(entry):
            raise SpecError(f"layer {layers[-1].name!r} is not as the compiler describes it")
    check_distinct([layer.name for layer in layers])
    package = PackageSpec(identifier(name, "package name"), tuple(layers))
    alone = replace(package, from_command_line=True)
    if len(layers) == 1 and command == alone.command:
        package = alone
    if network is not None:
        package = _network(package, network)
    return package if tuned is None else replace(package, tuned=_tuning(tuned, package))


def _network(package: PackageSpec, table: object) -> PackageSpec:
    """The package with the network that its layers make; raises SpecError where they make another."""
    whole = network_package(package.name, {"network": table})
    if whole.network is None or json.dumps(whole.network.describe()) != json.dumps(table):
        raise SpecError("network is not as the compiler describes it")
    if whole.layers != package.layers:
        raise SpecError("its layers are not those that its network stands for")
    return whole


def _tuning(table: Any, package: PackageSpec) -> Tuning:
    tuning = Tuning.parse(table, package.kind_of)
    possible = [{layer.name for layer in free_layers(package, products=products)} for products in (False, True)]
    if not tuning.on_gpu:
        possible.pop()  # a product is measured on a GPU alone, where Triton runs
    rounded = all(round(ratio, 3) == ratio for ratios in tuning.ratios.values() for ratio in ratios.values())
    if tuning.ratios.keys() not in possible or not rounded or not _SETTING.fullmatch(tuning.setting):
        raise SpecError(f"tuned = {quoted(table)} is not what `basisgen tune` writes. Compile with --force")
    return tuning


@contextmanager
def _limited(seconds: float | None) -> Iterator[None]:
    """Ends what takes too long, if that is bounded, or too much memory; only a main thread can be interrupted."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(*_: object) -> None:
        raise _TookTooLong

    soft, hard = resource.getrlimit(resource.RLIMIT_DATA)
    before = signal.signal(signal.SIGVTALRM, stop)
    try:
        most = MAX_MEMORY + 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # what the process has already
        resource.setrlimit(resource.RLIMIT_DATA, (_least(soft, _least(hard, most)), hard))
        signal.setitimer(signal.ITIMER_VIRTUAL, seconds or 0)
        yield
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        signal.signal(signal.SIGVTALRM, before)
        resource.setrlimit(resource.RLIMIT_DATA, (soft, hard))


def _least(a: int, b: int) -> int:
    return b if a == resource.RLIM_INFINITY else a if b == resource.RLIM_INFINITY else min(a, b)
