"""A package is untrusted too: `verify` ends with a result in reasonable time, for any content of its files."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import mpmath
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from basisgen.verify.canonical import to_json
from basisgen.verify.floats import evaluate_profile
from basisgen.verify.statement import CertificateError, read_certificate, read_polynomial
from basisgen.verify.verify import verify_package
from tests.verify.conftest import Files, recompile_once, redigest, write

quick = settings(deadline=None, max_examples=60, suppress_health_check=list(HealthCheck))

junk: st.SearchStrategy[Any] = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(),
        st.floats(),
        st.sampled_from(("", "x", "sqrt(2)", "-sqrt(0)", "1/0", "9" * 5000, "x^99", "0*x", "65", "1o", "../x", "\0")),
        st.text(max_size=6),
    ),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=5,
)


@st.composite
def places(draw: st.DrawFn) -> tuple[int, ...]:
    """A path into a JSON value: at each level one of its entries, by number."""
    return tuple(draw(st.lists(st.integers(0, 40), min_size=1, max_size=6)))


def spoilt(value: Any, place: tuple[int, ...], change: Any, remove: bool) -> Any:
    """A JSON value with one entry replaced or removed."""
    value = copy.deepcopy(value)
    inner = value
    for k, step in enumerate(place):
        if not isinstance(inner, dict | list) or not inner:
            break
        key = list(inner)[step % len(inner)] if isinstance(inner, dict) else step % len(inner)
        if k == len(place) - 1 or not isinstance(inner[key], dict | list):
            if remove:
                del inner[key]
            else:
                inner[key] = change
            break
        inner = inner[key]
    return value


@quick
@given(st.sampled_from(("certificate.json", "manifest.json")), places(), junk, st.booleans())
@example("manifest.json", (0,), [], False)
@example("certificate.json", (4, 0, 0, 1), "0*x", False)
@example("certificate.json", (5, 4, 0), [], False)
def test_spoilt_json_ends_in_a_report(
    small: Files, tmp_path_factory: pytest.TempPathFactory, name: str, place: tuple[int, ...], change: Any, remove: bool
) -> None:
    body = to_json(spoilt(json.loads(small[name]), place, change, remove))
    files = {**small, name: body}
    if name == "certificate.json":
        files = redigest(files)
    verdict = _verdict(files, tmp_path_factory.mktemp("package"))
    assert verdict.verified == (files == small)


@quick
@given(
    st.sampled_from(("certificate.json", "manifest.json", "basis.safetensors")), st.integers(0), st.binary(max_size=9)
)
@example("basis.safetensors", 0, b"\xff\xff\xff\xff\xff\xff\xff\x7f")
@example("basis.safetensors", 8, b'{"a":[[[')
@example("certificate.json", 0, b"\xff")
def test_overwritten_bytes_are_always_found(
    small: Files, tmp_path_factory: pytest.TempPathFactory, name: str, start: int, change: bytes
) -> None:
    start %= len(small[name])
    body = small[name][:start] + change + small[name][start + len(change) :]
    verdict = _verdict({**small, name: body}, tmp_path_factory.mktemp("package"))
    assert verdict.verified == (body == small[name])
    if body != small[name] and name != "manifest.json":
        verdict = _verdict(redigest({**small, name: body}), tmp_path_factory.mktemp("package"))
        assert not verdict.verified


def _verdict(files: Files, place: Path) -> Any:
    write(files, place)
    return verify_package(place, run=False, recompile=recompile_once, seed=0)


@pytest.mark.parametrize(
    "text",
    [
        *(b"", b"[]", b"null", b'{"format": 1}', b"[" * 100_000, b'{"a": NaN}', b'{"a": 1e5}', b"\xff\xfe"),
        *(b'{"format": 1, "format": 1}', b'{"format": ' + b"9" * 6000 + b"}"),
    ],
    ids=lambda text: repr(text[:20]),
)
def test_no_certificate_at_all(text: bytes) -> None:
    with pytest.raises(CertificateError):
        read_certificate(text)


@pytest.mark.parametrize(
    "text",
    ["", " ", "x x", "x+y", "x - - y", "x^100", "2**x", "x*y*", "x + x", "0*x", "x^-1", "w", "1.5*x", "²", "1", "x*y"],
)
def test_what_is_no_polynomial(text: str) -> None:
    with pytest.raises(CertificateError):
        read_polynomial(text, 1)


def test_polynomials_are_read_as_written() -> None:
    assert read_polynomial("-3*x^2*y + 2*y^3 - z^3", 3) == {(2, 1, 0): -3, (0, 3, 0): 2, (0, 0, 3): -1}
    assert read_polynomial("7", 0) == {(0, 0, 0): 7}


def test_profiles_are_evaluated_as_written() -> None:
    with mpmath.workdps(40):
        r = mpmath.mpf(2) / 3
        assert evaluate_profile("exp(-(r - 1)^2/(2*(3/5)^2))", r) == mpmath.exp(
            -((r - 1) ** 2) / (2 * mpmath.mpf(9) / 25)
        )
        assert evaluate_profile("-r^2 + 2*r*(1/3)", r) == -(r**2) + 2 * r * (mpmath.mpf(1) / 3)


@pytest.mark.parametrize(
    "formula",
    [
        *(
            "",
            "r r",
            "R",
            "r**2",
            "r^r",
            "r^-1",
            "r^1000",
            "1/0",
            "r/(r - r)",
            "0.5*r",
            "1j",
            "'a'",
            "True",
            "r if r else 1",
        ),
        *(
            "exp",
            "exp(r, r)",
            "exp(x=r)",
            "sin(r)",
            "exp.__class__",
            "__import__('os')",
            "(lambda: r)()",
            "[r]",
            "r; r",
        ),
        *(
            "exp(" * 300 + "r" + ")" * 300,
            "-" * 5000 + "r",
            "exp(exp(exp(99999)))",
            "r@r",
            "r and r",
            "r < 1",
            "r\n+ 1",
        ),
    ],
    ids=lambda formula: formula[:20],
)
def test_what_is_no_profile_is_never_evaluated(formula: str) -> None:
    with mpmath.workdps(40), pytest.raises(ValueError, match="is not a formula"):
        evaluate_profile(formula, mpmath.mpf(1))
