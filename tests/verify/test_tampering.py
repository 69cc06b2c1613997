"""An adversary who keeps all digests consistent: a package with any change is not verified and never run."""

from __future__ import annotations

import contextlib
import copy
import json
import os
import socket
import string
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.numpy import load, save

from basisgen.pipeline import compile_package
from basisgen.spec import parse_package
from basisgen.verify.canonical import to_json
from basisgen.verify.files import MAX_BYTES, MAX_ENTRIES
from basisgen.verify.verdict import Verdict
from basisgen.verify.verify import verify_package
from tests.verify.conftest import TINY, Files, failed, recompile_once, redigest, with_tensors, write

Verify = Callable[..., Verdict]
Place = tuple[Any, ...]

CODE = "\nraise SystemExit(7)\n#"
HOSTILE: tuple[Any, ...] = (
    *(None, True, -1, 2**70, 0.5, [], {}, "", "x" + CODE, "a\u2028b\x1b[2J", "../../x", ["class", {"torch": 1}]),
)


def places(value: Any, above: Place = ()) -> Iterator[Place]:
    """Every entry of a JSON value, by the keys that lead to it."""
    entries = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, entry in entries:
        yield (*above, key)
        yield from places(entry, (*above, key))


def changed(value: Any, place: Place, to: Any) -> Any:
    """A JSON value with another entry at one place."""
    value = copy.deepcopy(value)
    inner = value
    for key in place[:-1]:
        inner = inner[key]
    inner[place[-1]] = to
    return value


def accepted(files: Files, verify: Verify) -> bool:
    """Whether a package is verified as it is, or with digests that match."""
    attempts = [files]
    with contextlib.suppress(AttributeError, KeyError, TypeError, ValueError):
        attempts += [again] if (again := redigest(files)) != files else []
    return any(verify(attempt).verified for attempt in attempts)


# ------------------------------------------------------------------------------------------------------------- the JSON


def _no_key_can_have_another_value(files: Files, verify: Verify, values_each: int) -> int:
    count = 0
    for name in ("manifest.json", "certificate.json"):
        genuine = json.loads(files[name])
        for number, place in enumerate(places(genuine)):
            for value in [HOSTILE[(number + k) % len(HOSTILE)] for k in range(values_each)]:
                forged = {**files, name: to_json(changed(genuine, place, value))}
                if forged[name] != files[name]:
                    count += 1
                    attempt = verify(forged).verified if place[0] == "sha256" else accepted(forged, verify)
                    assert not attempt, (name, place, value)
    return count


def test_no_key_can_have_another_value(tiny: Files, verify: Verify) -> None:
    assert _no_key_can_have_another_value(tiny, verify, 2) > 150


@pytest.mark.slow
def test_no_key_can_have_any_other_value(mirrored: Files, verify: Verify) -> None:
    assert _no_key_can_have_another_value(mirrored, verify, len(HOSTILE)) > 2000


def test_no_key_can_be_missing_more_or_elsewhere(tiny: Files, verify: Verify) -> None:
    for name in ("manifest.json", "certificate.json"):
        genuine = json.loads(tiny[name])
        for place in [(), *places(genuine)]:
            inner = genuine
            for key in place:
                inner = inner[key]
            if not isinstance(inner, dict) or not inner:
                continue
            first, *others = inner
            for other in (
                {key: inner[key] for key in others},
                {**inner, "more": 1},
                {key: inner[key] for key in reversed(inner)} if others else {},
                {first.upper() + " ": inner[first], **{key: inner[key] for key in others}},
            ):
                value = changed([genuine], (0, *place), other)[0]
                forged = {**tiny, name: to_json(value)}
                attempt = verify(forged).verified if place[:1] == ("sha256",) else accepted(forged, verify)
                assert not attempt, (name, place, other)


@pytest.mark.parametrize("name", ["manifest.json", "certificate.json"])
def test_json_has_one_form(tiny: Files, verify: Verify, name: str) -> None:
    body = tiny[name].decode()
    first = body.split("\n")[1]
    forms = {
        "compact": json.dumps(json.loads(body), separators=(",", ":")),
        "twice, the first another": body.replace(first, f"{first.split(':')[0]}: 7,\n{first}", 1),
        "twice, the last another": body.replace(first, f"{first}\n{first.split(':')[0]}: 7,", 1),
        "blank": body.replace(": ", ":  ", 1),
        "no line feed": body[:-1],
        "two line feeds": body + "\n",
        "carriage return": body.replace("\n", "\r\n", 1),
        "escape": body.replace('"format"', '"\\u0066ormat"', 1),
        "number": body.replace('"format": ', '"format": 1e0 + ', 1).replace("1e0 + ", "0"),
        "float": body.replace('"format": 2', '"format": 2.0', 1).replace('"format": 1', '"format": 1.0', 1),
        "signature": "\ufeff" + body,
        "megabyte": body + " " * (1 << 20),
        "comment": body + "// verified",
        "zero byte": body + "\0",
    }
    for form, text in forms.items():
        assert text != body, form
        files = {**tiny, name: text.encode()}
        assert not verify(files).verified, form
        if name == "certificate.json":
            assert not verify(redigest(files)).verified, form


@pytest.mark.parametrize("separator", ["\n", "\r", "\r\n", "\u2028", "\u2029", "\x0b", "\x0c", "\x85", "\x1c"])
def test_a_command_that_puts_code_into_every_module_is_never_run(
    tiny: Files, verify: Verify, tmp_path: Path, separator: str
) -> None:
    """The modules are rendered with the hostile command, as the compiler would have done: all bytes agree."""
    marker = tmp_path / "was_run"
    honest = json.loads(tiny["manifest.json"])["command"]
    command = f"{honest}{separator}open({str(marker)!r}, 'w'){separator}#"
    files = {
        name: body.replace(honest.encode(), command.encode()) if name.endswith(".py") else body
        for name, body in tiny.items()
    }
    assert files["conv1.py"] != tiny["conv1.py"]
    files["manifest.json"] = to_json(changed(json.loads(tiny["manifest.json"]), ("command",), command))
    verdict = verify(redigest(files), run=True)
    assert not verdict.verified and not marker.exists()
    assert {"conv1.py", "__init__.py"} <= {complaint.split(" ")[0] for complaint in verdict.complaints}


@pytest.mark.parametrize(
    "name", ["class", "torch", "json", "os", "a b", "a.b", "../a", "", "__init__", "a" * 500, 3, None]
)
def test_a_package_is_named_as_a_spec_may_name_it(tiny: Files, verify: Verify, name: Any) -> None:
    manifest = json.loads(tiny["manifest.json"])
    text = json.dumps(manifest).replace("tiny", str(name))
    assert not verify({**tiny, "manifest.json": to_json(json.loads(text))}).verified


VERSIONS = (
    *(
        "0.0.9",
        "0.1.1",
        "0.1.00",
        "00.1.0",
        "0.1",
        "1",
        "0.1.0 ",
        " 0.1.0",
        "0.1.0\n",
        "0.1.0\n\x1b[2J",
        "v0.1.0",
        "latest",
    ),
    *(
        "0.1.0.post1",
        "0.1.0rc1",
        "0.1.0+local",
        "0.1.0-1",
        "",
        "x",
        "0.1.0'",
        "0.1.0; rm -rf ~",
        "9" * 400,
        "٠.١.٠",
        "NaN",
    ),
    *(0, 0.1, None, True, [], ["0.1.0"], {"0": 1}),
)


def test_no_version_excuses_other_code(tiny: Files, verify: Verify, tmp_path: Path) -> None:
    marker = tmp_path / "was_run"
    code = f"open({str(marker)!r}, 'w')\n".encode()
    for version in VERSIONS:
        manifest = changed(json.loads(tiny["manifest.json"]), ("basisgen",), version)
        for files in (tiny, {**tiny, "conv1.py": code + tiny["conv1.py"]}):
            verdict = verify(redigest({**files, "manifest.json": to_json(manifest)}), run=True)
            assert not verdict.verified and verdict.complaints and not marker.exists()
            assert all(line.isprintable() for line in (verdict.summary(), *verdict.complaints))


HERMITE = TINY.replace("shells", "hermite")
SETTING = "cpu, 1 thread, 2 volumes of 24x24x24, stride 1, float32, torch 2.6.0"


def test_what_tuning_measured_is_read_as_strictly(verify: Verify) -> None:
    files = compile_package(parse_package(HERMITE))
    manifest = json.loads(files["manifest.json"])

    def with_tuning(tuned: Any) -> Files:
        items = list(manifest.items())
        return {**files, "manifest.json": to_json(dict([*items[:5], ("tuned", tuned), *items[5:]]))}

    honest = {"setting": SETTING, "ratios": {"Conv1": {"dense": 1.25, "separable": 1.5}}}
    assert verify(with_tuning(honest)).verified  # nobody can tell what a machine measured: the modules are the same
    for place in places(honest):
        for value in (*HOSTILE, "cpu", SETTING + "\n", SETTING.replace("cpu", "cpu\x1b[2J"), 1, 1e9, 1.0000000001e-320):
            if (tuned := changed(honest, place, value)) != honest and place[-1] not in ("dense", "separable"):
                assert not verify(with_tuning(tuned)).verified, tuned
    longer = {"setting": SETTING, "ratios": {"Conv1": {"dense": 1.25, "separable": 1.5001}}}
    assert not verify(with_tuning(longer)).verified
    faster = {"setting": SETTING, "ratios": {"Conv1": {"dense": 1.25, "separable": 0.5}}}
    assert "code" in failed(verify(with_tuning(faster)))  # then the layer would be another
    for table in ({}, {"Conv1": {}}, {"Other": {"dense": 1.25, "separable": 1.5}}, {"Conv1": {"dense": 1.25}}):
        assert not verify(with_tuning({"setting": SETTING, "ratios": table})).verified


# ------------------------------------------------------------------------------------------------------------ the files

SHADOWS = (
    *("conv1.so", "conv1.abi3.so", "conv1.cpython-311-x86_64-linux-gnu.so", "torch.so", "_steerable.so", "__init__.so"),
    *("conv1.pyc", "__init__.pyc", "torch.py", "functools.py", "safetensors.py", "conv2.py", "CONV1.PY", "Conv1.py"),
    *(
        "__INIT__.py",
        "__main__.py",
        "conftest.py",
        "sitecustomize.py",
        "evil.pth",
        ".hidden",
        ".conv1.py",
        "..x",
        "conv1.py~",
    ),
    *("conv1.py ", " conv1.py", "conv1.py\n", "conv\n1.py", "conv1\x1b[31m.py", "c\u043env1.py", "conv1.pyw", "conv1"),
    *(
        "basis.safetensors.1",
        "manifest.json.bak",
        "MANIFEST.JSON",
        "Basis.safetensors",
        "README.md",
        "_compiled.so",
        "x.cpp",
    ),
)


def test_no_other_file_belongs_to_a_package(tiny: Files, verify: Verify) -> None:
    for name in SHADOWS:
        for body in (b"", tiny["conv1.py"]):
            verdict = verify(redigest({**tiny, name: body}), run=True)
            assert not verdict.verified and all(line.isprintable() for line in verdict.complaints), name


def test_every_file_is_needed_and_none_may_be_anothers(tiny: Files, verify: Verify) -> None:
    for name in tiny.keys() - {"manifest.json"}:
        assert not accepted({other: body for other, body in tiny.items() if other != name}, verify), name
        for other in tiny.keys() - {name, "manifest.json"}:
            assert not accepted({**tiny, name: tiny[other]}, verify), (name, other)
        for body in (b"", tiny[name] + b"\n", b"\n" + tiny[name], tiny[name][:-1], tiny[name] + b"\0"):
            assert not accepted({**tiny, name: body}, verify), name


@pytest.mark.parametrize("name", ["conv1.py", "stranger.py", "basis.safetensors", "manifest.json", "certificate.json"])
@pytest.mark.parametrize("kind", ["link", "link to nothing", "pipe", "socket", "directory"])
def test_only_regular_files_are_read(tiny: Files, tmp_path: Path, name: str, kind: str) -> None:
    """A link to the very bytes, too: it can become a link to others."""
    place, elsewhere = tmp_path / "p", tmp_path / "elsewhere"
    write(tiny, place)
    elsewhere.write_bytes(tiny.get(name, b""))
    (place / name).unlink(missing_ok=True)
    if kind == "pipe":
        os.mkfifo(place / name)
    elif kind == "directory":
        (place / name).mkdir()
    elif kind == "socket":
        with socket.socket(socket.AF_UNIX) as listening:
            os.chdir(place)
            listening.bind(name)
    else:
        (place / name).symlink_to(elsewhere if kind == "link" else tmp_path / "nothing")
    verdict = verify_package(place, run=False, recompile=recompile_once)
    assert not verdict.verified and any(f"{name} is not a regular file" in line for line in verdict.complaints)


def test_sizes_are_bounded_before_anything_is_read(tiny: Files, tmp_path: Path) -> None:
    place = tmp_path / "p"
    for name in ("manifest.json", "basis.safetensors", "conv1.py"):
        write(tiny, place)
        with (place / name).open("ab") as file:
            file.truncate(MAX_BYTES.get(name, 1 << 26) * 64)  # a hole: it takes no room on the disk
        verdict = verify_package(place, run=False, recompile=recompile_once)
        assert not verdict.verified and any(f"{name} is not a regular file of at most" in c for c in verdict.complaints)
    write(tiny, place)
    for number in range(MAX_ENTRIES):
        (place / f"x{number}").touch()
    assert "more than" in verify_package(place, run=False, recompile=recompile_once).complaints[0]


# ---------------------------------------------------------------------------------------------------------- the tensors


def test_no_number_can_be_another(tiny: Files, verify: Verify) -> None:
    """Every entry of every tensor one ulp up and down, and negated, -0.0 for 0.0; every axis reversed."""
    count = 0
    for name, tensor in load(tiny["basis.safetensors"]).items():
        for index in np.ndindex(tensor.shape):
            value = tensor[index]
            for other in (np.nextafter(value, np.inf), np.nextafter(value, -np.inf), -value):
                forged = tensor.copy()
                forged[index] = other
                verdict = verify(with_tensors(tiny, lambda tensors, n=name, t=forged: tensors.update({n: t})))
                assert not verdict.verified, (name, index, other)
                count += 1
        for axis in range(tensor.ndim):
            if (forged := np.flip(tensor, axis).copy()).tobytes() != tensor.tobytes():
                assert not verify(with_tensors(tiny, lambda t, n=name, f=forged: t.update({n: f}))).verified
                count += 1
    assert count > 100


def test_tensors_have_one_encoding(tiny: Files, verify: Verify) -> None:
    body = tiny["basis.safetensors"]
    length = int.from_bytes(body[:8], "little")
    text, numbers = body[8 : 8 + length].rstrip(b" "), body[8 + length :]
    first = next(iter(json.loads(text)))

    def encoded(header: bytes, tail: bytes = numbers) -> bytes:
        return len(header).to_bytes(8, "little") + header + tail

    half = len(numbers) // 2
    forms = {
        "blanks": encoded(text + b" " * (1 << 20)),
        "more padding": encoded(body[8 : 8 + length] + b" " * 8),
        "blank inside": encoded(text.replace(b":", b": ", 1)),
        "metadata": encoded(b'{"__metadata__":{"x":"y"},' + text[1:]),
        "twice": encoded(
            text[:-1] + b"," + json.dumps(first).encode() + b":" + json.dumps(json.loads(text)[first]).encode() + b"}"
        ),
        "reversed": encoded(json.dumps(dict(reversed(json.loads(text).items())), separators=(",", ":")).encode()),
        "trailing": body + b"\0" * 8,
        "cut": body[:-8],
        "other types": encoded(text.replace(b'"F64"', b'"I64"')),
        "no names": encoded(b"{}"),
        "halves exchanged": encoded(body[8 : 8 + length], numbers[half:] + numbers[:half]),
        "long": (1 << 62).to_bytes(8, "little") + body[8:],
        "deep": encoded(b"[" * 100_000),
        "empty": b"",
        "pickle": b"\x80\x04" + body,
        "more": save({**load(body), "more": np.zeros(1)}),
    }
    for form, forged in forms.items():
        assert forged != body, form
        verdict = verify(redigest({**tiny, "basis.safetensors": forged}))
        assert "floats" in failed(verdict) and not verdict.verified, form


OPTIMAL = TINY.replace("kernel_size = 2", "kernel_size = 5").replace("shells", "optimal")
TAPS = "filters_5x5x5"


@pytest.fixture(scope="module")
def optimal() -> Files:
    return compile_package(parse_package(OPTIMAL))


def _one_tap(taps: Any) -> None:
    taps[0, 2, 2, 2] *= 1 + 1e-4


def _constant(taps: Any) -> None:
    taps[0] += 1e-5


def _rotated(taps: Any) -> None:
    """Two filters of degree 0, still symmetric and orthonormal, and of the same span."""
    a, b = taps[0].copy(), taps[1].copy()
    taps[0], taps[1] = 0.8 * a + 0.6 * b, 0.8 * b - 0.6 * a


def _negated(taps: Any) -> None:
    taps[0] *= -1


def _tiny_rotation(taps: Any) -> None:
    a, b = taps[0].copy(), taps[1].copy()
    taps[0], taps[1] = a + 1e-7 * b, b - 1e-7 * a


def _zero_with_a_sign(taps: Any) -> None:
    zero = tuple(np.argwhere(taps == 0)[0])
    taps[zero] = -taps[zero]


@pytest.mark.parametrize("change", [_one_tap, _constant, _rotated, _negated, _tiny_rotation, _zero_with_a_sign])
def test_taps_without_a_formula_are_the_compilers_own(optimal: Files, verify: Verify, change: Any) -> None:
    assert "taps" in failed(verify(with_tensors(optimal, lambda tensors: change(tensors[TAPS]))))


def test_one_ulp_of_a_tap_without_a_formula_breaks_its_symmetry(optimal: Files, verify: Verify) -> None:
    def move(tensors: dict[str, Any]) -> None:
        tensors[TAPS][0, 0, 1, 2] = np.nextafter(tensors[TAPS][0, 0, 1, 2], 1)

    assert failed(verify(with_tensors(optimal, move))) == {"symmetry"}


def test_taps_of_another_processor_are_within_the_tolerance(optimal: Files, verify: Verify) -> None:
    """As another processor's: the last digits differ, equally where the taps are equal."""

    def scale(tensors: dict[str, Any]) -> None:
        tensors[TAPS] *= 1 + 2.0**-48

    verdict = verify(with_tensors(optimal, scale))
    assert verdict.verified and {check.name: check.residual for check in verdict.checks}["taps"] == "3.6e-15"


# ---------------------------------------------------------------------------------------------------- any change at all

fuzz = settings(deadline=None, max_examples=80, suppress_health_check=list(HealthCheck))
thorough = settings(fuzz, max_examples=2000)

leaves = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-3, 9),
    st.floats(),
    st.sampled_from(HOSTILE),
    st.text(string.printable, max_size=5),
)


@st.composite
def forgeries(draw: st.DrawFn, files: Files) -> Files:
    """A package with bytes or JSON entries changed in one to three files, and digests that match."""
    forged = dict(files)
    for name in draw(st.lists(st.sampled_from(sorted(files)), min_size=1, max_size=3)):
        body = forged[name]
        if name.endswith(".json") and draw(st.booleans()):
            table = json.loads(files[name])
            place = draw(st.sampled_from(list(places(table))))
            forged[name] = to_json(changed(table, place, draw(leaves)))
        else:
            start, stop = sorted(draw(st.tuples(*[st.integers(0, len(body))] * 2)))
            stop = min(stop, start + draw(st.integers(0, 12)))
            forged[name] = body[:start] + draw(st.binary(max_size=9)) + body[stop:]
    if draw(st.booleans()):
        with contextlib.suppress(AttributeError, KeyError, TypeError, ValueError):
            forged = redigest(forged)
    return forged


def _check_forgery(files: Files, forged: Files, place: Path) -> None:
    write(forged, place)
    verdict = verify_package(place, run=False, recompile=recompile_once, seed=0)
    assert verdict.verified == (forged == files)
    assert all(line.isprintable() for line in (verdict.summary(), *verdict.complaints))


@fuzz
@given(st.data())
def test_only_the_genuine_bytes_are_verified(
    tiny: Files, tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    _check_forgery(tiny, data.draw(forgeries(tiny)), tmp_path_factory.mktemp("package"))


@pytest.mark.slow
@thorough
@given(st.data())
def test_only_the_genuine_bytes_are_verified_often(
    mirrored: Files, tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    _check_forgery(mirrored, data.draw(forgeries(mirrored)), tmp_path_factory.mktemp("package"))
