"""The spec: from TOML text or command-line options to frozen, validated layer specs. Everything in it is untrusted.

    text -> PackageSpec(name, layers in the order of the network)

[[layer]] with a `kind` lists layers of any kind in order; [[conv]] is the short form for packages of convolutions
alone. [defaults.KIND] holds defaults per kind; [defaults] alone, where all layers are of one kind. `in` may name an
earlier layer: then it is what that layer's `out` says. Names become files and classes, so they are plain ASCII
identifiers. Numbers are exact: 0.6 is 3/5. [network] in place of layers is a whole network, written
out as convolutions by `basisgen.volumes.network`.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from basisgen.errors import SpecError
from basisgen.layer import Kind, LayerSpec
from basisgen.reading import check_keys, identifier, quoted, required, sub_table
from basisgen.spheres.group_conv import ROTATION_CONV, SPHERE_CONV
from basisgen.spheres.linear import LINEAR
from basisgen.spheres.product import PRODUCT
from basisgen.spheres.transform import TRANSFORM
from basisgen.spheres.zonal import ZONAL
from basisgen.tuning import Tuning
from basisgen.volumes.conv import CONV
from basisgen.volumes.network import Expansion, NetworkSpec, expand, parse_network

MAX_SPEC_BYTES = 1 << 20
MAX_LAYERS = 256
_ALL = (CONV, PRODUCT, LINEAR, SPHERE_CONV, ROTATION_CONV, TRANSFORM, ZONAL)
KINDS: Mapping[str, Kind] = {kind.name: kind for kind in _ALL}


@dataclass(frozen=True)
class PackageSpec:
    """A package: its name, its layers in order, what `basisgen tune` measured, and the network the layers make."""

    name: str
    layers: tuple[LayerSpec, ...]
    from_command_line: bool = False  # one layer, made without a spec file
    tuned: Tuning | None = None
    network: NetworkSpec | None = None

    @property
    def expansion(self) -> Expansion | None:
        """Where each layer stands in the network, if the package has one."""
        return None if self.network is None else expand(self.network)

    @property
    def command(self) -> str:
        """The command that makes it."""
        alone = self.layers[0].command_line() if self.from_command_line else None
        return f"basisgen compile {self.name}.toml" if alone is None else f"{alone} --name {self.name}"

    @property
    def kind_of(self) -> Mapping[str, str]:
        """Name of a layer -> that of its kind."""
        return {layer.name: layer.kind for layer in self.layers}

    @property
    def kinds(self) -> tuple[Kind, ...]:
        """The kinds of its layers, once each, in order of appearance."""
        return tuple(KINDS[name] for name in dict.fromkeys(layer.kind for layer in self.layers))


def parse_package(text: str) -> PackageSpec:
    """Reads a TOML spec.

    Raises SpecError with one line that quotes the value, names the rule and shows the cure.
    """
    table = _parse_toml(text)
    check_keys(table, ("name", "network", "defaults", "layer", *_short_forms()), "the spec")
    name = identifier(required(table, "name", "the spec"), "package name")
    if "network" in table:
        return network_package(name, table)
    entries = _entries(table)
    defaults = _defaults(sub_table(table.get("defaults", {}), "[defaults]"), entries)
    layers: list[LayerSpec] = []
    for entry in entries:
        layers.append(parse_layer({**defaults[str(entry["kind"])], **_resolved(entry, layers)}))
    check_distinct([layer.name for layer in layers])
    return PackageSpec(name, tuple(layers))


def network_package(name: str, table: Mapping[str, object]) -> PackageSpec:
    """The package of a network, whose layers its table [network] stands for.

    Raises SpecError; every message about the table begins with [network].
    """
    beside = [key for key in table if key not in ("name", "network")]
    if beside:
        raise SpecError(
            f"the spec has [network] and '{beside[0]}'. A network brings its own layers: write its settings under "
            "[network], or its layers by hand, one [[conv]] each."
        )
    try:
        network = parse_network(sub_table(table["network"], "[network]"))
        layers = tuple(parse_layer(layer) for layer in expand(network).layers)
    except SpecError as error:
        text = str(error)
        raise SpecError(text if text.startswith("[network]") else f"[network]: {text}") from None
    return PackageSpec(name, layers, network=network)


def parse_layer(table: Mapping[str, object]) -> LayerSpec:
    """One layer from its table, defaults already merged in; without a `kind` it is a convolution.

    Raises SpecError; every message begins with the layer's name.
    """
    kind = _kind(table.get("kind", CONV.name))
    name = identifier(required(table, "name", f"a layer of kind {kind.name!r}"), "layer name")
    if name in kind.reserved:
        raise SpecError(f"layer name '{name}' is the name of a generated base class. Choose another.")
    try:
        return kind.parse(name, table)
    except SpecError as error:
        raise SpecError(f"layer {name!r}: {error}") from None


def single_layer_package(name: object, layer: LayerSpec) -> PackageSpec:
    """The package of one layer that is made from the command line."""
    return PackageSpec(identifier(name, "package name"), (layer,), from_command_line=True)


def _short_forms() -> tuple[str, ...]:
    """Kinds with a short form: [[conv]] stands for [[layer]] with kind = "conv"."""
    return (CONV.name,)


def _entries(table: Mapping[str, object]) -> list[dict[str, object]]:
    """Every layer's table in order, its kind filled in."""
    forms = [form for form in ("layer", *_short_forms()) if form in table]
    if len(forms) > 1:
        raise SpecError(
            f"the spec has both [[{forms[0]}]] and [[{forms[1]}]], so the order of its layers is not known. "
            f'Write every layer as [[layer]], with kind = "{forms[1]}" where it was [[{forms[1]}]].'
        )
    form = forms[0] if forms else CONV.name
    layers = table.get(form, [])
    if isinstance(layers, Mapping):
        raise SpecError(f"the spec has a table [{form}]. Write [[{form}]], in double brackets, once per layer.")
    if not isinstance(layers, list) or not layers:
        raise SpecError(f"the spec has no layer. Add one: [[{form}]] with name, in and out.")
    if len(layers) > MAX_LAYERS:
        raise SpecError(f"the spec has {len(layers)} layers, the limit is {MAX_LAYERS}. Split it into packages.")
    entries = []
    for layer in layers:
        entry = dict(sub_table(layer, f"[[{form}]]"))
        if form == "layer":
            entry["kind"] = _kind(required(entry, "kind", "a [[layer]]")).name
        elif "kind" in entry:
            raise SpecError(f"[[{form}]] has a key 'kind'. Leave it out, or write [[layer]] for [[{form}]].")
        entries.append({"kind": form, **entry})
    return entries


def _kind(value: object) -> Kind:
    if not isinstance(value, str) or value not in KINDS:
        raise SpecError(f"kind = {quoted(value)} is not a kind of layer. Known kinds: {', '.join(KINDS)}.")
    return KINDS[value]


def _defaults(table: Mapping[str, object], entries: Sequence[Mapping[str, object]]) -> dict[str, Mapping[str, object]]:
    """Kind -> its defaults: [defaults.KIND], or all of [defaults] where the layers are of one kind."""
    used = list(dict.fromkeys(str(entry["kind"]) for entry in entries))
    plain = {key: value for key, value in table.items() if key not in KINDS}
    if len(used) == 1:
        check_keys(plain, KINDS[used[0]].options, "[defaults]")
    elif plain:
        raise SpecError(
            f"[defaults] has the key {quoted(next(iter(plain)))}, and the layers are of {len(used)} kinds. "
            f"Write it under {' or '.join(f'[defaults.{kind}]' for kind in used)}."
        )
    defaults: dict[str, Mapping[str, object]] = dict.fromkeys(used, plain)
    for kind in KINDS.keys() & table.keys():
        of_kind = sub_table(table[kind], f"[defaults.{kind}]")
        check_keys(of_kind, KINDS[kind].options, f"[defaults.{kind}]")
        defaults[kind] = {**defaults.get(kind, {}), **of_kind}
    return defaults


def _resolved(entry: Mapping[str, object], before: Sequence[LayerSpec]) -> dict[str, object]:
    """The entry, its `in` (and `second`) written out where it names an earlier layer."""
    types = {layer.name: str(layer.out) for layer in before}
    written = dict(entry)
    for key in ("in", "second"):
        value = entry.get(key)
        if isinstance(value, str) and value[:1].isalpha():
            if value not in types:
                raise SpecError(
                    f"layer {quoted(entry.get('name'))}: {key} = {quoted(value)} is not an earlier layer. "
                    f"{f'Earlier: {chr(44).join(types)}.' if types else 'It is the first.'} "
                    "Write a field type, for example '4x0 + 2x1', or the name of a layer above."
                )
            written[key] = types[value]
    return written


def _parse_toml(text: str) -> dict[str, Any]:
    if len(text.encode("utf-8", "replace")) > MAX_SPEC_BYTES:
        raise SpecError(f"the spec is larger than {MAX_SPEC_BYTES} bytes.")
    try:
        return tomllib.loads(text, parse_float=Decimal)
    except RecursionError:
        raise SpecError("the spec is not TOML that can be read: its values are nested too deeply.") from None
    except ValueError as error:  # TOMLDecodeError is one
        place = re.search(r"at line (\d+)", str(error))
        line = text.split("\n")[int(place[1]) - 1].strip() if place else ""
        reads = f" The line reads {quoted(line)}." if line else ""
        raise SpecError(f"the spec is not TOML: {' '.join(str(error).split())[:200]}.{reads}") from None


def check_distinct(names: Sequence[str]) -> None:
    """Raises SpecError where two layers would become one file."""
    seen: dict[str, str] = {}
    for name in names:
        other = seen.setdefault(name.lower(), name)
        if list(names).count(name) > 1:
            raise SpecError(f"two layers are named '{name}'. Give each its own name.")
        if other != name:
            raise SpecError(f"layers '{other}' and '{name}' differ in case only, and become one file. Rename one.")
