"""The envelope of a spec: kinds of layers, defaults per kind, inputs by name; describe() and parse are inverse."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from click.testing import CliRunner
from hypothesis import given

from basisgen.cli import main
from basisgen.errors import SpecError
from basisgen.pipeline import compile_package
from basisgen.spec import parse_layer, parse_package, single_layer_package
from basisgen.testing import layer_specs
from basisgen.volumes.conv_spec import ConvSpec

SHORT = """name = "small"
[defaults]
kernel_size = 3
[[conv]]
name = "First"
in = "1x0"
out = "2x0 + 1x1"
gated = true
[[conv]]
name = "Second"
in = "2x0 + 1x1"
out = "3x0"
"""
LONG = (
    SHORT.replace("[defaults]", "[defaults.conv]")
    .replace("[[conv]]", '[[layer]]\nkind = "conv"')
    .replace('in = "2x0 + 1x1"', 'in = "First"')
)


@given(layer_specs())
def test_describe_and_parse_are_inverse(layer: ConvSpec) -> None:
    assert parse_layer(json.loads(json.dumps(layer.describe()))) == layer


def test_the_long_form_with_inputs_by_name_compiles_to_the_same_bytes() -> None:
    assert compile_package(parse_package(LONG)) == compile_package(parse_package(SHORT))


@pytest.mark.parametrize(
    ("into", "out", "gives"),
    [("1x0", "4x0", "4x0"), ("1x0", "4x0 + 2x0", "4x0 + 2x0"), ("1x0e", "4x0o + 2x1e", "4x0o + 2x1e + 2x0e")],
)
def test_gates_are_added_to_what_the_module_gives_not_to_out(into: str, out: str, gives: str) -> None:
    layer = parse_layer({"name": "Conv", "in": into, "out": out, "kernel_size": 3, "gated": True})
    assert (str(layer.out), str(layer.gives)) == (out, gives)
    package = single_layer_package("small", layer)
    assert f'"{out}" --gated' in package.command
    module = compile_package(package)["conv.py"].decode()
    assert ("the last term for gates" in module) == (out != gives)


def test_scalars_alone_may_be_asked_to_be_gated_on_the_command_line(tmp_path) -> None:  # type: ignore[no-untyped-def]
    command = ["conv", "1x0", "4x0", "--kernel-size", "3", "--gated", "--out", str(tmp_path)]
    result = CliRunner().invoke(main, command)
    assert result.exit_code == 0, result.output


def test_a_command_is_derived_from_the_layer() -> None:
    table = {"name": "Conv", "in": "1x0", "out": "2x0", "kernel_size": 3, "execution": "dense", "radial": "shells"}
    layer = parse_layer(table)
    command = single_layer_package("small", layer).command
    assert command == (
        'basisgen conv "1x0" "2x0" --kernel-size 3,3,3 --execution dense --family shells --radial cutoff=compromise '
        "--name small"
    )
    assert (
        replace(single_layer_package("small", layer), from_command_line=False).command == "basisgen compile small.toml"
    )


BAD = {
    "two forms": (SHORT + '[[layer]]\nkind = "conv"\nname = "Third"', "both [[layer]] and [[conv]]"),
    "no kind": (LONG.replace('kind = "conv"\n', "", 1), "a [[layer]] has no key 'kind'"),
    "unknown kind": (
        LONG.replace('"conv"', '"convolve"', 1),
        "kind = 'convolve' is not a kind of layer. Known kinds: conv",
    ),
    "kind in the short form": (SHORT.replace("[[conv]]", '[[conv]]\nkind = "conv"', 1), "[[conv]] has a key 'kind'"),
    "kind is a list": (LONG.replace('"conv"', "[1]", 1), "kind = [1] is not a kind of layer"),
    "unknown default": (LONG.replace("kernel_size = 3", "colour = 3"), "[defaults.conv] has an unknown key 'colour'"),
    "defaults of a kind are no table": (
        SHORT.replace("kernel_size = 3", "conv = 3"),
        "[defaults.conv] = 3 is not a table",
    ),
    "input from below": (
        LONG.replace('in = "First"', 'in = "Second"'),
        "in = 'Second' is not an earlier layer. Earlier: First",
    ),
    "input from nowhere": (LONG.replace('in = "1x0"', 'in = "x"'), "'x' is not an earlier layer. It is the first."),
    "keyword in lower case": (SHORT.replace('"First"', '"In"'), "layer name 'In' is reserved in Python"),
    "a device": (SHORT.replace('"First"', '"Nul"'), "layer name 'Nul' is a device on Windows"),
}


@pytest.mark.parametrize("case", BAD)
def test_a_bad_envelope_gives_one_clear_line(case: str) -> None:
    text, complaint = BAD[case]
    with pytest.raises(SpecError) as caught:
        parse_package(text)
    assert complaint in str(caught.value) and "\n" not in str(caught.value)
