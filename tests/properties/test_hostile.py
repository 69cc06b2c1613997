"""A spec is untrusted: for any content the compiler refuses it in one line or writes one package, and only that.

No traceback, no file outside the package, and in generated code nothing but the expected nodes.
"""

from __future__ import annotations

import ast
import tempfile
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from basisgen.cli import main
from basisgen.errors import SpecError
from basisgen.spec import PackageSpec, parse_package
from basisgen.text import source_text

SPEC = """name = "{name}"
[defaults]
kernel_size = {kernel_size}
radial = {{ family = "{family}", {radial} }}
[[conv]]
name = "{layer}"
in = "{into}"
out = "{out}"
execution = "{execution}"
gated = {gated}
voxel_spacing = {spacing}
dilation = 1
"""
GOOD = {
    "name": "good",
    "layer": "Conv1",
    "into": "1x0e + 1x1o",
    "out": "2x1o",
    "kernel_size": "3",
    "family": "shells",
    "radial": "sigma = 0.6",
    "execution": "auto",
    "gated": "true",
    "spacing": "[1, 1, 1.5]",
}
HOSTILE = (  # fragments that have meaning somewhere: to TOML, Python, Jinja, a shell, a file system, a terminal
    *('"', "'", '"""', "'''", "\\", "\n", "\r", "\t", "\0", "#", ";", ":", "=", "[", "]", "{", "}", "(", ")", "%", "$"),
    *("{{ 7*7 }}", "{% raw %}", "{# #}", "`id`", "$(id)", "../", "/", "..", "~", "/etc/passwd", "C:\\", "\x1b[31m"),
    *("__import__('os').system('id')", "import os", "class", "None", "True", "print", "__init__", "__class__", "self"),
    *("Сonv", "Ｃonv", "ｃlass", "ﬁ", "٣", "\u202e", "\ufeff", "e\u0301", "🙂", "1" * 50, "9" * 5000, "a" * 300),
    *("1e999999999", "-1", "0", "nan", "inf", "0x10", "1_0", "1979-05-27", "[]", "{}", "true", "[[1]]", "1x0 + ", "0e"),
    *("SteerableConv3d", "manifest", "torch", "functools", "Tensor", "_steerable", "con", "conv1.py", "\ud800"),
)
fragments = st.one_of(st.sampled_from(HOSTILE), st.text(max_size=8))
texts = st.lists(fragments, max_size=3).map("".join)
thorough = settings(deadline=None, max_examples=2000, suppress_health_check=list(HealthCheck))
quick = settings(deadline=None, max_examples=40, suppress_health_check=list(HealthCheck))


@st.composite
def edited_specs(draw: st.DrawFn) -> str:
    """A good spec with one to three places spoilt: a value replaced or extended, or anything put in or cut out."""
    values = dict(GOOD)
    for key in draw(st.lists(st.sampled_from(sorted(values)), max_size=2)):
        values[key] = draw(st.sampled_from((values[key] + draw(texts), draw(texts))))
    text = SPEC.format(**values)
    for _ in range(draw(st.integers(0, 2))):
        start = draw(st.integers(0, len(text)))
        text = text[:start] + draw(texts) + text[start + draw(st.integers(0, 12)) :]
    return text


def run(arguments: list[str], spec: bytes | None = None) -> tuple[Result, dict[str, bytes]]:
    """The command's result in an empty directory, and every file it left there."""
    with tempfile.TemporaryDirectory() as name:
        place = Path(name)
        (place / "work").mkdir()
        (place / "work" / "bystander").write_bytes(b"")
        if spec is not None:
            (place / "work" / "spec.toml").write_bytes(spec)
            arguments = [*arguments, str(place / "work" / "spec.toml")]
        result = CliRunner().invoke(main, [*arguments, "--out", str(place / "work" / "generated")])
        files = {str(p.relative_to(place)): p.read_bytes() for p in place.rglob("*") if not p.is_dir()}
    return result, {path: body for path, body in files.items() if path not in ("work/bystander", "work/spec.toml")}


def check_outcome(result: Result, files: dict[str, bytes]) -> None:
    """One package, all of it as expected; or one line and nothing."""
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    if result.exit_code == 0:
        (package,) = {tuple(Path(path).parts[:3]) for path in files}
        assert package[:2] == ("work", "generated") and package[2].isidentifier() and package[2].isascii()
        check_code({Path(path).name: body for path, body in files.items() if path.endswith(".py")})
        return
    assert result.exit_code == 2 and files == {} and result.stdout == ""
    lines = result.stderr.splitlines()
    assert result.stderr.startswith("Usage: ") or (len(lines) == 1 and lines[0].startswith("basisgen: ")), lines
    assert len(result.stderr) < 2000 and all(char.isprintable() or char == "\n" for char in result.stderr)


def check_code(modules: dict[str, bytes]) -> None:
    """Base classes are the templates; every other module is a docstring, imports beside it, and literals in a class."""
    for name, body in modules.items():
        volumes = ("_steerable.py", "_separable.py", "_passes.py", "_on_cpu.py", "_on_gpu.py")
        if name in ("_constants.py", "_layer.py", *volumes):
            package = "basisgen.emission" if name in ("_constants.py", "_layer.py") else "basisgen.volumes"
            made_by, _, source = body.decode().partition("\n")
            assert made_by.startswith("# Made by basisgen ") and made_by.isprintable()
            assert source == source_text(package, "sources", name.removeprefix("_"))
            continue
        docstring, *statements = ast.parse(body).body
        assert _is_text(docstring)
        for statement in statements:
            match statement:
                case ast.ImportFrom(level=1, module=str(), names=names) if all(alias.asname is None for alias in names):
                    pass
                case ast.ClassDef(bases=[ast.Name(id="SteerableConv3d")], keywords=[], decorator_list=[], body=members):
                    assert _is_text(members[0]) and all(map(_is_literal_assignment, members[1:]))
                case _:
                    assert name == "__init__.py" and _is_literal_assignment(statement), ast.dump(statement)


def _is_text(node: ast.stmt) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)


def _is_literal_assignment(node: ast.stmt) -> bool:
    if not isinstance(node, ast.Assign) or not isinstance(node.targets[0], ast.Name):
        return False
    ast.literal_eval(_Unnamed().visit(node.value))  # ValueError for anything but a literal
    return True


class _Unnamed(ast.NodeTransformer):
    """TermPath(out=0, into=1, J=2) and the like as the tuple they are."""

    def visit_Call(self, node: ast.Call) -> ast.expr:
        match node:
            case ast.Call(func=ast.Name(id="TermPath" | "Filters"), args=[], keywords=entries):
                return ast.Tuple([entry.value for entry in entries], ast.Load())
        return node


def check_spec(text: str | bytes) -> None:
    body = text.encode("utf-8", "surrogatepass") if isinstance(text, str) else text
    check_outcome(*run(["compile"], body))


def test_the_good_spec_is_good_and_a_stranger_in_the_code_would_be_seen() -> None:
    result, files = run(["compile"], SPEC.format(**GOOD).encode())
    assert result.exit_code == 0 and "work/generated/good/conv1.py" in files
    check_outcome(result, files)
    module = files["work/generated/good/conv1.py"]
    for stranger in (b"\nimport os\n", b"\nprint(1)\n", b"\n    x = print(1)\n", b"\n\ndef f(): pass\n"):
        with pytest.raises((AssertionError, ValueError)):
            check_code({"conv1.py": module + stranger})


@quick
@given(edited_specs())
@example(SPEC.format(**{**GOOD, "layer": 'A(SteerableConv3d): pass\\nimport os\\nclass B"'}))
@example(SPEC.format(**{**GOOD, "radial": '"a\\nb" = 1'}))
@example(SPEC.format(**{**GOOD, "radial": "cutoff = [0, 1, 2, 3, 4, 5, 6, 7]"}))
def test_edited_specs_are_compiled_or_refused(text: str) -> None:
    check_spec(text)


@quick
@given(st.binary(max_size=200))
def test_any_bytes_are_refused(body: bytes) -> None:
    check_spec(body)


@pytest.mark.parametrize("fragment", HOSTILE, ids=lambda fragment: ascii(fragment)[:30])
@pytest.mark.parametrize("key", ["name", "layer", "into"])
def test_hostile_fragments_in_names_and_types(key: str, fragment: str) -> None:
    for text in (fragment, GOOD[key] + fragment, fragment + GOOD[key]):
        quoted = "".join(f"\\u{ord(c):04x}" if ord(c) < 0x10000 and not c.isalnum() else c for c in text)
        try:  # a TOML string cannot hold half a surrogate pair: such a spec is refused as text
            spec = parse_package(SPEC.format(**{**GOOD, key: quoted}))
        except SpecError as error:
            assert "\n" not in str(error) and len(str(error)) < 1000
        else:
            assert isinstance(spec, PackageSpec) and spec.name.isidentifier() and spec.layers[0].name.isidentifier()


options = st.sampled_from(("--kernel-size", "--voxel-spacing", "--dilation", "--family", "--radial", "--execution"))


@quick
@given(texts, texts, st.lists(st.tuples(options, texts), max_size=3), texts)
@example("1x0", "1x0", [("--radial", "a\nb=1")], "x")
@example("1x0", "1x0", [("--kernel-size", "[3")], "x")
@example("1x0", "1x1", [("--kernel-size", "3")], "..")
def test_options_of_conv_are_compiled_or_refused(into: str, out: str, extra: list[tuple[str, str]], name: str) -> None:
    arguments = ["conv", into, out, "--kernel-size", "3", "--name", name]
    check_outcome(*run([*arguments, *(word for option in extra for word in option)]))


@quick
@given(st.sampled_from(("1x0", "1x1e", "0+1")), st.lists(st.tuples(options, texts), max_size=2))
def test_odd_options_of_a_good_layer_are_compiled_or_refused(types: str, extra: list[tuple[str, str]]) -> None:
    arguments = ["conv", types, types, "--kernel-size", "2", "--name", "x"]
    check_outcome(*run([*arguments, *(word for option in extra for word in option)]))


@pytest.mark.slow
@thorough
@given(edited_specs())
def test_thousands_of_edited_specs(text: str) -> None:
    check_spec(text)
